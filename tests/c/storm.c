/* Would catch what only many threads and much time bring about: a call that races another, a stream that another one disturbs, a
   callback behind its end, memory, a thread or a descriptor that is not given back. `storm SECONDS MODEL`: 64 streams of 16 threads,
   read, polled or called back, some of them slowly, and cancelled or closed at any moment, also while a read waits; engine after
   engine, every second one closed under its streams. `make soak-c` runs it under AddressSanitizer and under valgrind. */
#include "common.h"
#include <dirent.h>
#include <poll.h>

enum { THREADS = 16, EACH = 4, LIVES = THREADS * EACH, SLOTS = 16, CASES = 6, ROUND_MS = 15000 };

/* How a stream is read. */
enum { BY_READ, BY_POLL, BY_CALLBACK, BY_FRAMES, BY_WAITING, WAYS };

/* What is said, and how it sounds alone. */
typedef struct {
    qwentts_stream_options options;
    const char *text;
    size_t sample_bytes;
    unsigned char *sound;
    size_t bytes, frames;
} speech;

/* A stream in one thread's hands. */
typedef struct {
    pthread_mutex_t lock; /* over all that others than the owner see; the callback is another */
    qwentts_stream *stream; /* closed by the owner, or in its callback */
    const speech *of;
    int way;
    int cancelled; /* somebody was about to */
    size_t heard;  /* bytes, or frames */
    size_t pushed; /* bytes of text; all of it, and the end, behind them: strlen + 1 */
    int slow;
    unsigned steps;      /* it is given up after so many */
    unsigned stop_after; /* calls of its callback, which then stops, cancels or closes */
    int stops_by, ends;
    qwentts_status end;
} life;

static speech speeches[CASES];
static life lives[LIVES];
static const char *model;
static char voice[64];
static qwentts_engine *engine;
/* Held by who calls an entry of the engine; closing it takes it whole, and nobody begins such a call behind that. */
static pthread_rwlock_t gate = PTHREAD_RWLOCK_INITIALIZER;
static int closed, over;

static pthread_mutex_t sums_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    unsigned long opened, refused, whole, cancelled, given_up, closed_in_a_read, callbacks, frames;
} sums;
#define COUNT(what, n)                    \
    do {                                  \
        pthread_mutex_lock(&sums_lock);   \
        sums.what += (n);                 \
        pthread_mutex_unlock(&sums_lock); \
    } while (0)

static unsigned below(uint64_t *state, unsigned most) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*state >> 33) % most;
}

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int is_closed(void) {
    int is;
    pthread_rwlock_rdlock(&gate);
    is = closed;
    pthread_rwlock_unlock(&gate);
    return is;
}

/* What has come is what the speech alone has at that place. Under the lock, or by who alone reads. */
static void hear(life *own, const void *samples, size_t n) {
    size_t bytes = n * own->of->sample_bytes;
    CHECK(own->heard + bytes <= own->of->bytes);
    CHECK(memcmp(own->of->sound + own->heard, samples, bytes) == 0);
    own->heard += bytes;
}

static int32_t called(void *user, const void *samples, size_t n, qwentts_status status) {
    life *own = user;
    int32_t answer = QWENTTS_CONTINUE;
    CHECK(pthread_mutex_lock(&own->lock) == 0);
    CHECK(own->ends == 0);
    if (n == 0) {
        CHECK(samples == NULL);
        own->end = status;
        own->ends = 1;
    } else {
        CHECK(status == QWENTTS_OK);
        hear(own, samples, n);
        if (own->slow) sleep_ms(5);
        if (own->stop_after > 0 && --own->stop_after == 0) {
            own->cancelled = 1;
            if (own->stops_by == 0) answer = QWENTTS_STOP;
            if (own->stops_by == 1 && own->stream != NULL) CHECK(qwentts_stream_cancel(own->stream) == QWENTTS_OK);
            if (own->stops_by == 2) {
                qwentts_stream_close(own->stream);
                own->stream = NULL;
            }
        }
    }
    CHECK(pthread_mutex_unlock(&own->lock) == 0);
    if (n > 0) COUNT(callbacks, 1);
    return answer;
}

/* Whether it was opened; the engine may be full. */
static int begin(life *own, uint64_t *state) {
    qwentts_stream *stream = NULL;
    qwentts_stream_options options;
    qwentts_status status = QWENTTS_CANCELLED;
    int live = below(state, 3) > 0;
    own->of = &speeches[below(state, CASES)];
    own->way = (int)below(state, WAYS);
    own->slow = below(state, 6) == 0;
    own->steps = below(state, 4) == 0 ? below(state, 60) : ~0u;
    own->stop_after = below(state, 3) == 0 ? 1 + below(state, 4) : 0;
    own->stops_by = (int)below(state, 3);
    own->heard = 0;
    own->ends = 0;
    own->cancelled = 0;
    if (own->way == BY_WAITING) live = 1;
    /* Who waits is to have nothing to read: no text either. */
    own->pushed = live && own->way != BY_WAITING ? 0 : strlen(own->of->text) + 1;
    options = own->of->options;
    if (own->way == BY_FRAMES) options.output = QWENTTS_FRAMES;
    pthread_rwlock_rdlock(&gate);
    if (!closed)
        status = live ? qwentts_stream_open(engine, &options, &stream)
                      : qwentts_speak(engine, own->of->text, strlen(own->of->text), &options, &stream);
    pthread_rwlock_unlock(&gate);
    if (status == QWENTTS_BUSY) COUNT(refused, 1);
    if (status != QWENTTS_OK) {
        CHECK((status == QWENTTS_BUSY || status == QWENTTS_CANCELLED) && stream == NULL);
        return 0;
    }
    pthread_mutex_lock(&own->lock);
    if (own->way == BY_CALLBACK) CHECK(qwentts_stream_set_callback(stream, called, own) == QWENTTS_OK);
    own->stream = stream;
    pthread_mutex_unlock(&own->lock);
    COUNT(opened, 1);
    return 1;
}

static void push(life *own, uint64_t *state) {
    size_t all = strlen(own->of->text), n = 1 + below(state, 9);
    pthread_mutex_lock(&own->lock);
    if (own->stream != NULL && own->pushed <= all) {
        qwentts_status status;
        if (own->pushed + n > all) n = all - own->pushed;
        status = n > 0 ? qwentts_stream_push_text(own->stream, own->of->text + own->pushed, n)
                       : qwentts_stream_end_text(own->stream);
        CHECK(status == QWENTTS_OK || own->cancelled || is_closed() || status == QWENTTS_END);
        own->pushed += n > 0 ? n : 1;
    }
    pthread_mutex_unlock(&own->lock);
}

static void let_go(life *own) {
    pthread_mutex_lock(&own->lock);
    qwentts_stream_close(own->stream);
    own->stream = NULL;
    pthread_mutex_unlock(&own->lock);
}

static int was_cancelled(life *own) {
    int was;
    pthread_mutex_lock(&own->lock);
    was = own->cancelled;
    pthread_mutex_unlock(&own->lock);
    return was || is_closed();
}

/* How it ended, to one who has heard it. */
static void ended(life *own, qwentts_status status) {
    if (status == QWENTTS_END) {
        CHECK(own->heard == (own->way == BY_FRAMES ? own->of->frames : own->of->bytes));
        COUNT(whole, 1);
    } else {
        CHECK(status == QWENTTS_CANCELLED && was_cancelled(own));
        COUNT(cancelled, 1);
    }
    COUNT(frames, own->way == BY_FRAMES ? own->heard : own->heard / own->of->sample_bytes / 1920);
}

static void *wait_inside(void *stream) {
    float samples[8];
    size_t n = 0;
    qwentts_status status;
    /* The owner looks in, now and then, whether this one is inside. */
    while ((status = qwentts_stream_read(stream, samples, 8, &n, -1)) == QWENTTS_BUSY) {}
    CHECK(status == QWENTTS_CANCELLED && n == 0);
    return NULL;
}

/* Without text a read waits; it is inside, and may be closed under, once a second one is refused. */
static void close_under_a_read(life *own) {
    float samples[8];
    size_t n = 0;
    qwentts_status status;
    qwentts_stream *stream = own->stream;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wait_inside, stream) == 0);
    while ((status = qwentts_stream_read(stream, samples, 8, &n, 0)) == QWENTTS_AGAIN) sleep_ms(1);
    CHECK(status == QWENTTS_BUSY || (status == QWENTTS_CANCELLED && was_cancelled(own)));
    /* Where another has cancelled it, who waits may not have begun. */
    if (status == QWENTTS_CANCELLED) CHECK(pthread_join(thread, NULL) == 0);
    let_go(own);
    if (status == QWENTTS_BUSY) CHECK(pthread_join(thread, NULL) == 0);
    COUNT(closed_in_a_read, 1);
}

/* Reads once. Whether it goes on. */
static int read_once(life *own, uint64_t *state) {
    static const int waits_ms[] = {0, 1, 10};
    unsigned char samples[4 * 9000];
    uint16_t codes[8 * QWENTTS_CODES_PER_FRAME];
    size_t n = 0, room = 1 + below(state, 9000);
    int wait_ms = waits_ms[below(state, 3)];
    qwentts_status status;
    if (own->way == BY_POLL) {
        struct pollfd waits = {-1, POLLIN, 0};
        int64_t handle = -1;
        int ready;
        CHECK(qwentts_stream_event_handle(own->stream, &handle) == QWENTTS_OK);
        waits.fd = (int)handle;
        ready = poll(&waits, 1, wait_ms);
        wait_ms = 0;
        status = qwentts_stream_read(own->stream, samples, room, &n, 0);
        CHECK(!ready || status != QWENTTS_AGAIN);
    } else if (own->way == BY_FRAMES) {
        status = qwentts_stream_read_frames(own->stream, codes, 1 + room % 8, &n, wait_ms);
        own->heard += n;
    } else {
        status = qwentts_stream_read(own->stream, samples, room, &n, wait_ms);
    }
    if (n > 0 && own->way != BY_FRAMES) hear(own, samples, n);
    if (status == QWENTTS_OK || status == QWENTTS_AGAIN) {
        CHECK((n > 0) == (status == QWENTTS_OK));
        return 1;
    }
    CHECK(n == 0);
    ended(own, status);
    return 0;
}

/* Whether it goes on. */
static int step(life *own, uint64_t *state) {
    push(own, state);
    if (own->way == BY_WAITING) {
        close_under_a_read(own);
        return 0;
    }
    if (own->steps-- == 0) {
        /* Half of them are cancelled first, and then have nothing more to say. */
        if (own->way != BY_CALLBACK && own->way != BY_FRAMES && below(state, 2)) {
            unsigned char samples[64];
            size_t n = 0;
            qwentts_status status;
            CHECK(qwentts_stream_cancel(own->stream) == QWENTTS_OK);
            status = qwentts_stream_read(own->stream, samples, 8, &n, -1);
            CHECK(n == 0 && (status == QWENTTS_CANCELLED || status == QWENTTS_END));
        }
        pthread_mutex_lock(&own->lock);
        own->cancelled = 1;
        pthread_mutex_unlock(&own->lock);
        let_go(own);
        COUNT(given_up, 1);
        if (own->way != BY_CALLBACK) return 0;
    }
    if (own->way == BY_CALLBACK) {
        int ends, closed_here;
        /* One that is closed has no more steps but those to its end, which still comes. */
        do {
            sleep_ms(2);
            pthread_mutex_lock(&own->lock);
            ends = own->ends;
            closed_here = own->stream == NULL;
            pthread_mutex_unlock(&own->lock);
        } while (closed_here && ends == 0);
        if (ends == 0) return 1;
        ended(own, own->end);
        let_go(own);
        return 0;
    }
    if (own->slow && below(state, 8) > 0) {
        sleep_ms(1);
        return 1;
    }
    if (read_once(own, state)) return 1;
    let_go(own);
    return 0;
}

static void *rage(void *given) {
    life *own = given;
    uint64_t state = (uint64_t)(own - lives) * 7919 + (uint64_t)now_ms();
    int alive[EACH] = {0}, open = 1, left = 0;
    while (open || left > 0) {
        int i = (int)below(&state, EACH);
        pthread_rwlock_rdlock(&gate);
        open = !over && !closed;
        pthread_rwlock_unlock(&gate);
        if (alive[i]) {
            /* What is left has not long to live. */
            if (!open && own[i].steps > 20) own[i].steps = below(&state, 20);
            alive[i] = step(&own[i], &state);
            left -= !alive[i];
        } else if (open) {
            alive[i] = begin(&own[i], &state);
            left += alive[i];
            if (!alive[i]) sleep_ms(2);
        }
    }
    return NULL;
}

/* Any thread may ask a stream, and cancel it. */
static void *meddle(void *given) {
    uint64_t state = *(uint64_t *)given;
    qwentts_event event;
    char json[1024];
    int64_t handle;
    CHECK(qwentts_event_init(&event, sizeof event) == QWENTTS_OK);
    for (;;) {
        life *at = &lives[below(&state, LIVES)];
        int end;
        pthread_rwlock_rdlock(&gate);
        end = over || closed;
        if (!end) {
            CHECK(qwentts_engine_health(engine) == QWENTTS_OK);
            CHECK(qwentts_engine_stats(engine, json, sizeof json, NULL) == QWENTTS_OK);
        }
        pthread_rwlock_unlock(&gate);
        if (end) return NULL;
        pthread_mutex_lock(&at->lock);
        if (at->stream != NULL) {
            qwentts_status status = QWENTTS_OK;
            switch (below(&state, 40)) {
            case 0:
                at->cancelled = 1;
                CHECK(qwentts_stream_cancel(at->stream) == QWENTTS_OK);
                break;
            case 1:
            case 2:
            case 3: CHECK(qwentts_stream_stats(at->stream, json, sizeof json, NULL) == QWENTTS_OK); break;
            case 4:
            case 5: status = qwentts_stream_event_handle(at->stream, &handle); break;
            default: CHECK(qwentts_stream_next_event(at->stream, &event) >= 0); break;
            }
            CHECK(status == QWENTTS_OK || status == QWENTTS_INVALID_ARGUMENT); /* a callback has none */
        }
        pthread_mutex_unlock(&at->lock);
        sleep_ms(1 + (long)below(&state, 6));
    }
}

static qwentts_engine *open_model(unsigned slots, unsigned queue) {
    qwentts_engine_options options;
    qwentts_engine *opened = NULL;
    CHECK(qwentts_engine_options_init(&options, sizeof options) == QWENTTS_OK);
    options.model = model;
    options.device = "cpu";
    options.slots = slots;
    options.queue = queue;
    CHECK(qwentts_engine_open(&options, &opened) == QWENTTS_OK);
    return opened;
}

static void speak_alone(void) {
    static const char *const texts[] = {TEXT, "Yes.", "Stra\xc3\x9f" "e, \xc3\x84pfel und \xc3\x96l. Fine!"};
    int i;
    engine = open_model(1, 0);
    CHECK(strlen(qwentts_voice_name(engine, 0)) < sizeof voice);
    strcpy(voice, qwentts_voice_name(engine, 0));
    for (i = 0; i < CASES; i++) {
        speech *of = &speeches[i];
        qwentts_stream *stream;
        size_t n, room;
        of->text = texts[i % 3];
        of->options = stream_options((uint64_t)i);
        of->options.voice = voice;
        of->options.layout = QWENTTS_STREAMING;
        of->options.max_frames = 4 + 3 * i;
        of->options.format = i % 2 ? QWENTTS_I16 : QWENTTS_F32;
        of->options.lead_ms = i % 3 ? 400 : 10000;
        of->sample_bytes = i % 2 ? 2 : 4;
        room = 1920 * (size_t)of->options.max_frames;
        of->sound = malloc((room + 1) * of->sample_bytes);
        CHECK(of->sound != NULL);
        stream = speak(engine, of->text, &of->options);
        while (qwentts_stream_read(stream, of->sound + of->bytes, room, &n, PATIENCE_MS) == QWENTTS_OK && n > 0) {
            of->bytes += n * of->sample_bytes;
            room -= n;
            if (room == 0) room = 1; /* the end comes now, and a read needs room */
        }
        of->frames = of->bytes / of->sample_bytes / 1920;
        CHECK(of->frames > 0);
        qwentts_stream_close(stream);
    }
    qwentts_engine_close(engine);
}

/* An engine's life. */
static void one_round(int number, long length_ms) {
    pthread_t threads[THREADS], meddlers[2];
    uint64_t seeds[2];
    long until = now_ms() + length_ms;
    int i;
    /* Fewer places than there are streams, so that some are refused. */
    engine = open_model(SLOTS, LIVES - SLOTS - 4);
    closed = over = 0;
    for (i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, rage, &lives[i * EACH]) == 0);
    for (i = 0; i < 2; i++) {
        seeds[i] = (uint64_t)(2 * number + i);
        CHECK(pthread_create(&meddlers[i], NULL, meddle, &seeds[i]) == 0);
    }
    while (now_ms() < until) sleep_ms(20);
    pthread_rwlock_wrlock(&gate);
    over = 1;
    closed = number % 2;
    pthread_rwlock_unlock(&gate);
    if (number % 2) qwentts_engine_close(engine);
    for (i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    for (i = 0; i < 2; i++) CHECK(pthread_join(meddlers[i], NULL) == 0);
    if (number % 2 == 0) {
        char json[1024];
        long since = now_ms();
        do {
            CHECK(qwentts_engine_stats(engine, json, sizeof json, NULL) == QWENTTS_OK && now_ms() - since < PATIENCE_MS);
        } while (strstr(json, "\"open\":0") == NULL || strstr(json, "\"speaking\":0") == NULL);
        qwentts_engine_close(engine);
    }
}

/* Threads, or open descriptors, of this process. */
static int held(const char *of) {
    DIR *folder = opendir(of);
    int count = 0;
    CHECK(folder != NULL);
    while (readdir(folder) != NULL) count++;
    closedir(folder);
    return count;
}

int main(int argc, char **argv) {
    long length_ms = argc > 1 ? 1000 * atol(argv[1]) : 0, began, since;
    int rounds, i, threads = held("/proc/self/task"), descriptors = held("/proc/self/fd");
    CHECK(length_ms > 0 && argc > 2);
    model = argv[2];
    for (i = 0; i < LIVES; i++) CHECK(pthread_mutex_init(&lives[i].lock, NULL) == 0);
    speak_alone();
    began = now_ms();
    /* Two at least, since each ends in its own way. */
    for (rounds = 0; rounds < 2 || now_ms() - began < length_ms; rounds++)
        one_round(rounds, length_ms / 2 < ROUND_MS ? length_ms / 2 : ROUND_MS);
    since = now_ms();
    while (held("/proc/self/task") != threads || held("/proc/self/fd") != descriptors) {
        CHECK(now_ms() - since < PATIENCE_MS);
        sleep_ms(10);
    }
    for (i = 0; i < CASES; i++) free(speeches[i].sound);
    printf("%ld s, %d engines: %lu opened, %lu refused, %lu whole, %lu cancelled, %lu given up, %lu closed in a read, "
           "%lu callbacks, %lu frames heard\n",
           (now_ms() - began) / 1000, rounds, sums.opened, sums.refused, sums.whole, sums.cancelled, sums.given_up,
           sums.closed_in_a_read, sums.callbacks, sums.frames);
    CHECK(sums.whole > 0 && sums.cancelled > 0 && sums.given_up > 0 && sums.closed_in_a_read > 0 && sums.callbacks > 0);
    return 0;
}
