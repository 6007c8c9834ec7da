/* Would catch a sanitizer that does not watch: each fault, named by the argument, is to be reported, one on either side. */
#include "common.h"

int main(int argc, char **argv) {
    qwentts_engine *engine = open_engine(1, 1);
    const char *fault = argc > 1 ? argv[1] : "";
    qwentts_stream_options options = stream_options(1);
    qwentts_stream *stream = speak(engine, TEXT, &options);
    size_t n = 0;
    if (strcmp(fault, "library") == 0) {
        /* The library writes where it was told that there is room. */
        float *samples = malloc(100 * sizeof *samples);
        CHECK(qwentts_stream_read(stream, samples, 101, &n, PATIENCE_MS) == QWENTTS_OK);
        printf("%f", (double)samples[0]);
        free(samples);
    } else if (strcmp(fault, "leak") == 0) {
        stream = NULL;
    } else if (strcmp(fault, "caller") == 0) {
        float *samples = malloc(100 * sizeof *samples);
        volatile size_t behind = 100;
        CHECK(qwentts_stream_read(stream, samples, 100, &n, PATIENCE_MS) == QWENTTS_OK);
        printf("%f", (double)samples[behind]);
        free(samples);
    }
    qwentts_stream_close(stream);
    qwentts_engine_close(engine);
    return 0;
}
