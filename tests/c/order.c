/* Would catch a close, a cancel or a fork in a bad moment that crashes, hangs, or has no answer; and a second reader that waits. */
#include "common.h"
#include <sys/wait.h>

typedef struct {
    qwentts_stream *stream;
    qwentts_status status;
    volatile int begun;
    volatile int calls, ends;
    volatile qwentts_status end;
    int close, n_ended;
} work;

static void *wait_for_sound(void *given) {
    work *own = given;
    float samples[8];
    size_t n = 77;
    own->begun = 1;
    own->status = qwentts_stream_read(own->stream, samples, 8, &n, -1);
    return NULL;
}

static pthread_t reader_of(work *own) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wait_for_sound, own) == 0);
    while (!own->begun) sleep_ms(1);
    sleep_ms(50);
    return thread;
}

static void close_and_cancel_while_a_read_waits(qwentts_engine *engine) {
    work own = {0};
    float samples[8];
    size_t n = 0;
    int64_t handle;
    int way;
    for (way = 0; way < 2; way++) {
        pthread_t thread;
        own.begun = 0;
        CHECK(qwentts_stream_open(engine, NULL, &own.stream) == QWENTTS_OK);
        thread = reader_of(&own);
        REFUSED(qwentts_stream_read(own.stream, samples, 8, &n, -1), QWENTTS_BUSY, "stream: another thread is in a read");
        /* Who asks for a handle is no reader. */
        CHECK(qwentts_stream_event_handle(own.stream, &handle) == QWENTTS_OK && handle >= 0);
        if (way == 0) {
            qwentts_stream_close(own.stream);
            CHECK(pthread_join(thread, NULL) == 0);
        } else {
            CHECK(qwentts_stream_cancel(own.stream) == QWENTTS_OK);
            CHECK(pthread_join(thread, NULL) == 0);
            qwentts_stream_close(own.stream);
        }
        CHECK(own.status == QWENTTS_CANCELLED);
    }
}

static int32_t stop_at_the_third(void *given, const void *samples, size_t n, qwentts_status status) {
    work *own = given;
    if (n == 0) {
        CHECK(samples == NULL && own->ends == 0);
        own->end = status;
        own->ends++;
        return QWENTTS_CONTINUE;
    }
    CHECK(status == QWENTTS_OK && samples != NULL && own->ends == 0);
    if (++own->calls < 3) return QWENTTS_CONTINUE;
    switch (own->close) {
    case 0: return QWENTTS_STOP;
    case 1: CHECK(qwentts_stream_cancel(own->stream) == QWENTTS_OK); return QWENTTS_CONTINUE;
    default: qwentts_stream_close(own->stream); return QWENTTS_CONTINUE;
    }
}

/* By its answer, by cancel, by close. */
static void a_callback_that_cancels(qwentts_engine *engine) {
    int way;
    for (way = 0; way < 3; way++) {
        work own = {0};
        own.close = way;
        own.stream = NULL;
        CHECK(qwentts_stream_open(engine, NULL, &own.stream) == QWENTTS_OK);
        CHECK(qwentts_stream_set_callback(own.stream, stop_at_the_third, &own) == QWENTTS_OK);
        CHECK(qwentts_stream_push_text(own.stream, TEXT " " TEXT, 2 * strlen(TEXT) + 1) == QWENTTS_OK);
        if (way < 2) CHECK(qwentts_stream_flush(own.stream) == QWENTTS_OK);
        while (own.ends == 0) sleep_ms(1);
        CHECK(own.calls == 3 && own.end == QWENTTS_CANCELLED);
        if (way < 2) qwentts_stream_close(own.stream);
        sleep_ms(50);
        CHECK(own.calls == 3 && own.ends == 1);
    }
}

static void the_engine_closed_first(void) {
    qwentts_engine *engine = open_engine(4, 0);
    work waits = {0}, calls = {0};
    qwentts_stream *idle = NULL;
    pthread_t thread;
    float samples[8];
    size_t n;
    qwentts_event event;
    qwentts_stream_options options = stream_options(1);
    CHECK(qwentts_event_init(&event, sizeof event) == QWENTTS_OK);
    CHECK(qwentts_stream_open(engine, NULL, &waits.stream) == QWENTTS_OK);
    CHECK(qwentts_stream_open(engine, NULL, &calls.stream) == QWENTTS_OK);
    CHECK(qwentts_stream_set_callback(calls.stream, stop_at_the_third, &calls) == QWENTTS_OK);
    idle = speak(engine, TEXT " " TEXT " " TEXT " " TEXT, &options); /* seconds: it is not over when the engine closes */
    thread = reader_of(&waits);
    qwentts_engine_close(engine);
    CHECK(pthread_join(thread, NULL) == 0 && waits.status == QWENTTS_CANCELLED);
    while (calls.ends == 0) sleep_ms(1);
    CHECK(calls.end == QWENTTS_CANCELLED && calls.calls == 0);
    CHECK(qwentts_stream_read(idle, samples, 8, &n, -1) == QWENTTS_CANCELLED);
    CHECK(qwentts_stream_push_text(waits.stream, "a", 1) == QWENTTS_CANCELLED);
    CHECK(qwentts_stream_next_event(waits.stream, &event) == QWENTTS_OK);
    CHECK(event.kind == QWENTTS_EVENT_END && event.end == QWENTTS_END_CANCELLED);
    CHECK(qwentts_stream_next_event(waits.stream, &event) == QWENTTS_END);
    qwentts_stream_close(idle);
    qwentts_stream_close(calls.stream);
    qwentts_stream_close(waits.stream);
}

static void a_fork(qwentts_engine *engine) {
    qwentts_stream *stream = NULL, *other = NULL;
    int status;
    pid_t child;
    CHECK(qwentts_stream_open(engine, NULL, &stream) == QWENTTS_OK);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        float samples[8];
        size_t n;
        REFUSED(qwentts_stream_open(engine, NULL, &other), QWENTTS_UNSUPPORTED, "engine: was opened before a fork");
        REFUSED(qwentts_stream_read(stream, samples, 8, &n, -1), QWENTTS_UNSUPPORTED, "stream: was opened before a fork");
        REFUSED(qwentts_stream_cancel(stream), QWENTTS_UNSUPPORTED, "stream: was opened before a fork");
        CHECK(qwentts_voice_name(engine, 0) == NULL);
        qwentts_stream_close(stream);
        qwentts_engine_close(engine);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    qwentts_stream_close(stream);
}

static void hear(void *user, int32_t level, const char *line) {
    CHECK(level >= QWENTTS_LOG_ERROR && level <= QWENTTS_LOG_INFO);
    strncat(user, line, 900);
}

int main(void) {
    static char heard[8192];
    qwentts_engine *engine;
    CHECK(qwentts_log_set(hear, heard, QWENTTS_LOG_INFO) == QWENTTS_OK);
    engine = open_engine(4, 4);
    CHECK(strncmp(heard, "engine: open on cpu after ", 26) == 0);
    CHECK(qwentts_log_set(NULL, NULL, QWENTTS_LOG_OFF) == QWENTTS_OK);
    close_and_cancel_while_a_read_waits(engine);
    a_callback_that_cancels(engine);
    a_fork(engine);
    qwentts_engine_close(engine);
    the_engine_closed_first();
    return 0;
}
