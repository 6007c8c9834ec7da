/* Speaks standard input while it is still coming; sound goes to standard output, from a thread of the library.
 *   cc live.c $(pkg-config --cflags --libs qwentts) -pthread -o live
 *   my-llm | ./live [MODEL_FOLDER] | aplay -f S16_LE -r 24000 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <qwentts.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int ended;
    qwentts_status status;
    char error[256];
} speech;

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

/* The last call has no samples and says how it ended; nothing of ours is used behind it. */
static int32_t on_sound(void *user, const void *samples, size_t n, qwentts_status status) {
    speech *own = user;
    if (n > 0) {
        int heard = fwrite(samples, sizeof(int16_t), n, stdout) == n && fflush(stdout) == 0;
        return heard ? QWENTTS_CONTINUE : QWENTTS_STOP;
    }
    pthread_mutex_lock(&own->lock);
    own->status = status;
    snprintf(own->error, sizeof own->error, "%s", status < 0 ? qwentts_last_error() : "");
    own->ended = 1;
    pthread_cond_signal(&own->changed);
    pthread_mutex_unlock(&own->lock);
    return QWENTTS_CONTINUE;
}

int main(int argc, char **argv) {
    speech own = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, QWENTTS_OK, ""};
    qwentts_engine_options engine_options;
    qwentts_stream_options options;
    qwentts_engine *engine;
    qwentts_stream *stream;
    char text[512];
    ssize_t n;

    qwentts_engine_options_init(&engine_options, sizeof engine_options);
    engine_options.model = argc > 1 ? argv[1] : NULL;
    if (qwentts_engine_open(&engine_options, &engine) != QWENTTS_OK) fail("open", qwentts_last_error());
    qwentts_stream_options_init(&options, sizeof options);
    options.format = QWENTTS_I16;
    if (qwentts_stream_open(engine, &options, &stream) != QWENTTS_OK) fail("stream", qwentts_last_error());
    if (qwentts_stream_set_callback(stream, on_sound, &own) != QWENTTS_OK) fail("callback", qwentts_last_error());

    /* What there is, as soon as it is there; it may be cut inside a character. */
    while ((n = read(STDIN_FILENO, text, sizeof text)) > 0) {
        qwentts_status status = qwentts_stream_push_text(stream, text, (size_t)n);
        if (status == QWENTTS_END || status == QWENTTS_CANCELLED) break; /* the speech ended before its text */
        if (status != QWENTTS_OK) fail("text", qwentts_last_error());
    }
    if (qwentts_stream_end_text(stream) != QWENTTS_OK) fail("text", qwentts_last_error());

    pthread_mutex_lock(&own.lock);
    while (!own.ended) pthread_cond_wait(&own.changed, &own.lock);
    pthread_mutex_unlock(&own.lock);
    qwentts_stream_close(stream);
    qwentts_engine_close(engine);
    if (own.status != QWENTTS_END) fail("speech", own.error);
    return 0;
}
