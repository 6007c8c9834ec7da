// Would catch a qwentts.hpp whose voices of recordings are not closed once, not moved, not heard, or hide why they failed.
// VOICES BASE_MODEL VOICE_FILE
#include <qwentts.hpp>

#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

static qwentts::Samples said(qwentts::Engine& engine, const qwentts::Voice& voice) {
    qwentts::StreamOptions options;
    options.max_frames = 4;
    options.cloned = voice.get();
    qwentts::Samples all;
    qwentts::Stream stream = engine.speak("Hello there.", options);
    for (const qwentts::Samples& chunk : stream) all.insert(all.end(), chunk.begin(), chunk.end());
    return all;
}

static void check(bool is_so, const char* what) {
    if (!is_so) throw std::runtime_error(what);
}

int main(int argc, char** argv) {
    check(argc == 3, "two arguments");
    qwentts::EngineOptions options;
    options.model = argv[1];
    options.device = "cpu";
    qwentts::Engine engine(options);
    qwentts::Samples sound(30000);
    for (std::size_t i = 0; i < sound.size(); i++) sound[i] = static_cast<float>(i % 240) / 240.0f - 0.5f;

    qwentts::Voice ann = engine.load_voice(argv[2]);
    const qwentts::Samples expected = said(engine, ann);
    check(!expected.empty(), "no sound");
    // The file holds what is made of the same sound and words.
    qwentts::Voice made = engine.clone(sound, 24000, "A few words.");
    check(said(engine, made) == expected, "another voice than the file's");
    made.save(argv[2]);
    ann = std::move(made);
    check(said(engine, ann) == expected, "another voice when moved");
    check(said(engine, engine.clone(sound, 24000)) != expected, "the speaker alone is another voice");
    try {
        engine.load_voice("/no/such.qvoice");
        check(false, "no exception");
    } catch (const qwentts::Error& error) {
        check(error.status == QWENTTS_NOT_FOUND && std::strstr(error.what(), "/no/such.qvoice"), error.what());
    }
    return 0;
}
