/* Would catch a voice of a recording that is not kept, is not heard, is taken by another model, or is freed under a stream. */
#include "common.h"

enum { COUNT = 30000, MOST_FRAMES = 12 };

static qwentts_engine *open_model(const char *folder) {
    qwentts_engine_options options;
    qwentts_engine *engine = NULL;
    CHECK(qwentts_engine_options_init(&options, sizeof options) == QWENTTS_OK);
    options.device = "cpu";
    options.model = folder;
    CHECK(qwentts_engine_open(&options, &engine) == QWENTTS_OK);
    return engine;
}

/* The codes that a voice says; how many frames. */
static size_t codes_of(qwentts_engine *engine, qwentts_voice *voice, uint16_t *codes, int then_release) {
    qwentts_stream_options options;
    qwentts_stream *stream = NULL;
    size_t frames = 0, n;
    CHECK(qwentts_stream_options_init(&options, sizeof options) == QWENTTS_OK);
    options.output = QWENTTS_FRAMES;
    options.max_frames = MOST_FRAMES;
    options.cloned = voice;
    stream = speak(engine, TEXT, &options);
    if (then_release) {
        qwentts_voice_release(voice);
    }
    while (qwentts_stream_read_frames(stream, codes + 16 * frames, MOST_FRAMES - frames, &n, PATIENCE_MS) == QWENTTS_OK && n > 0) {
        frames += n;
    }
    qwentts_stream_close(stream);
    return frames;
}

int main(int argc, char **argv) {
    static float sound[COUNT];
    static uint16_t first[16 * (MOST_FRAMES + 1)], second[16 * (MOST_FRAMES + 1)];
    qwentts_engine *engine, *other;
    qwentts_voice *made = NULL, *loaded = NULL, *as_it_was;
    qwentts_stream_options options;
    qwentts_stream *stream = NULL;
    size_t frames, i;

    CHECK(argc == 4);
    for (i = 0; i < COUNT; i++) {
        sound[i] = (float)(i % 240) / 240.0f - 0.5f;
    }
    engine = open_model(argv[1]);
    other = open_model(argv[2]);

    CHECK(qwentts_voice_from_pcm(engine, sound, COUNT, 24000, "A few words.", NULL, &made) == QWENTTS_OK);
    CHECK(qwentts_voice_save(made, argv[3]) == QWENTTS_OK);
    CHECK(qwentts_voice_load(engine, argv[3], &loaded) == QWENTTS_OK);
    frames = codes_of(engine, made, first, 0);
    CHECK(frames > 1 && frames <= MOST_FRAMES);
    /* One more hold; the stream goes on though all are given up. */
    qwentts_voice_retain(loaded);
    qwentts_voice_release(loaded);
    CHECK(codes_of(engine, loaded, second, 1) == frames);
    CHECK(memcmp(first, second, 32 * frames) == 0);
    /* The speaker alone is another voice. */
    CHECK(qwentts_voice_from_pcm(engine, sound, COUNT, 48000, NULL, NULL, &loaded) == QWENTTS_OK);
    frames = codes_of(engine, loaded, second, 1);
    CHECK(frames > 1 && memcmp(first, second, 32 * frames) != 0);

    as_it_was = loaded = made;
    REFUSED(qwentts_voice_load(other, argv[3], &loaded), QWENTTS_BAD_MODEL, argv[3]);
    REFUSED(qwentts_voice_load(engine, "/no/such.qvoice", &loaded), QWENTTS_NOT_FOUND, "/no/such.qvoice");
    REFUSED(qwentts_voice_load(engine, "/dev/null", &loaded), QWENTTS_BAD_MODEL, "/dev/null");
    REFUSED(qwentts_voice_load(engine, NULL, &loaded), QWENTTS_INVALID_ARGUMENT, "path: is NULL");
    REFUSED(qwentts_voice_load(NULL, argv[3], &loaded), QWENTTS_INVALID_ARGUMENT, "engine: is NULL");
    REFUSED(qwentts_voice_load(engine, argv[3], NULL), QWENTTS_INVALID_ARGUMENT, "voice: is NULL");
    REFUSED(qwentts_voice_save(NULL, argv[3]), QWENTTS_INVALID_ARGUMENT, "voice: is NULL");
    REFUSED(qwentts_voice_save(made, NULL), QWENTTS_INVALID_ARGUMENT, "path: is NULL");
    REFUSED(qwentts_voice_from_pcm(engine, NULL, COUNT, 24000, NULL, NULL, &loaded), QWENTTS_INVALID_ARGUMENT, "samples: is NULL");
    REFUSED(qwentts_voice_from_pcm(engine, sound, 0, 24000, NULL, NULL, &loaded), QWENTTS_INVALID_ARGUMENT, "");
    REFUSED(qwentts_voice_from_pcm(engine, sound, COUNT, 7, NULL, NULL, &loaded), QWENTTS_INVALID_ARGUMENT, "samples: ");
    REFUSED(qwentts_voice_from_pcm(engine, sound, COUNT, 24000, NULL, "klingon", &loaded), QWENTTS_INVALID_ARGUMENT, "language: ");
    sound[5] = sound[0] / 0.0f;
    REFUSED(qwentts_voice_from_pcm(engine, sound, COUNT, 24000, NULL, NULL, &loaded), QWENTTS_INVALID_ARGUMENT, "samples: sample 5");
    CHECK(loaded == as_it_was);
    qwentts_voice_release(NULL);
    qwentts_voice_retain(NULL);

    CHECK(qwentts_stream_options_init(&options, sizeof options) == QWENTTS_OK);
    options.cloned = made;
    REFUSED(qwentts_stream_open(other, &options, &stream), QWENTTS_BAD_MODEL, "cloned: was made with another model");
    options.voice = "slt";
    REFUSED(qwentts_stream_open(engine, &options, &stream), QWENTTS_INVALID_ARGUMENT, "cloned: is a voice, and so is `voice`");
    CHECK(stream == NULL);

    qwentts_voice_release(made);
    qwentts_engine_close(engine);
    qwentts_engine_close(other);
    return 0;
}
