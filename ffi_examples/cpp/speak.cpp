// Speaks a text to standard output, chunk by chunk: float samples, 24 kHz, mono.
//   c++ -std=c++17 speak.cpp $(pkg-config --cflags --libs qwentts) -o speak
//   ./speak "Good morning." [MODEL_FOLDER] | aplay -f FLOAT_LE -r 24000
#include <cstdio>
#include <qwentts.hpp>

int main(int argc, char** argv) try {
    if (argc < 2) {
        std::fprintf(stderr, "usage: speak TEXT [MODEL_FOLDER]\n");
        return 2;
    }
    qwentts::EngineOptions options;
    if (argc > 2) options.model = argv[2];
    qwentts::Engine engine(options);

    std::size_t total = 0;
    qwentts::Stream stream = engine.speak(argv[1]);
    for (const qwentts::Samples& chunk : stream) {
        if (std::fwrite(chunk.data(), sizeof(float), chunk.size(), stdout) != chunk.size()) return 1;
        total += chunk.size();
    }
    std::fprintf(stderr, "%.2f s\n", static_cast<double>(total) / 24000);
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
