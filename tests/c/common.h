/* What the C tests have in common: a check that says where it failed, and the calls that every one needs. */
#ifndef COMMON_H
#define COMMON_H
#include <pthread.h>
#include <qwentts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                                                                      \
    do {                                                                                                      \
        if (!(condition)) {                                                                                   \
            fprintf(stderr, "%s:%d: %s; last error: %s\n", __FILE__, __LINE__, #condition, qwentts_last_error()); \
            exit(1);                                                                                          \
        }                                                                                                     \
    } while (0)

/* The answer, and a last error that begins so. */
#define REFUSED(call, status, words)                                          \
    do {                                                                      \
        CHECK((call) == (status));                                            \
        CHECK(strncmp(qwentts_last_error(), words, strlen(words)) == 0);      \
    } while (0)

#define TEXT "The engine says what the loop says."
enum { PATIENCE_MS = 60000 };

static inline qwentts_engine *open_engine(unsigned slots, unsigned queue) {
    qwentts_engine_options options;
    qwentts_engine *engine = NULL;
    CHECK(qwentts_engine_options_init(&options, sizeof options) == QWENTTS_OK);
    options.device = "cpu";
    options.slots = slots;
    options.queue = queue;
    CHECK(qwentts_engine_open(&options, &engine) == QWENTTS_OK);
    return engine;
}

static inline qwentts_stream_options stream_options(uint64_t seed) {
    qwentts_stream_options options;
    CHECK(qwentts_stream_options_init(&options, sizeof options) == QWENTTS_OK);
    options.voice = "slt";
    options.do_sample = 1;
    options.seed = seed;
    return options;
}

static inline qwentts_stream *speak(qwentts_engine *engine, const char *text, const qwentts_stream_options *options) {
    qwentts_stream *stream = NULL;
    CHECK(qwentts_speak(engine, text, strlen(text), options, &stream) == QWENTTS_OK);
    return stream;
}

typedef struct {
    float samples[24000 * 30];
    size_t count;
} sound;

/* Everything that a stream has still to say, read `at_once` samples at a time. */
static inline qwentts_status read_all(qwentts_stream *stream, sound *to, size_t at_once) {
    qwentts_status status;
    size_t n = 0;
    to->count = 0;
    while ((status = qwentts_stream_read(stream, to->samples + to->count, at_once, &n, PATIENCE_MS)) == QWENTTS_OK) {
        CHECK(n > 0 && n <= at_once);
        to->count += n;
        CHECK(to->count + at_once < sizeof to->samples / sizeof *to->samples);
    }
    CHECK(n == 0 || status < 0);
    return status;
}

static inline sound *new_sound(void) {
    sound *new = malloc(sizeof *new);
    CHECK(new != NULL);
    return new;
}

static inline int same_sound(const sound *a, const sound *b) {
    return a->count == b->count && memcmp(a->samples, b->samples, a->count * sizeof *a->samples) == 0;
}

static inline void sleep_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}
#endif
