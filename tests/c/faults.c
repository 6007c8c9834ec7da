/* Would catch a sanitizer that does not watch: each fault, named by the argument, is to be reported, on either side. */
#include "common.h"

/* Counts without a lock, as its stream's opener does. */
static int32_t count(void *user, const void *samples, size_t n, qwentts_status status) {
    int *calls = user;
    (void)samples, (void)n, (void)status;
    ++*calls;
    return QWENTTS_STOP;
}

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
    } else if (strcmp(fault, "race") == 0) {
        static int calls;
        CHECK(qwentts_stream_set_callback(stream, count, &calls) == QWENTTS_OK);
        sleep_ms(3000);
        ++calls;
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
