/* Would catch streams that disturb one another, live text that is heard otherwise, and a handle or event that tells what is not so. */
#include "common.h"
#include <poll.h>

enum { STREAMS = 8, THREADS = 4 };

static qwentts_engine *engine;
static sound *alone[STREAMS];

static qwentts_stream_options options_of(int i) {
    qwentts_stream_options options = stream_options((uint64_t)i);
    options.layout = QWENTTS_STREAMING;
    options.max_frames = 30;
    return options;
}

/* Each thread has two streams, and reads them in turns of odd sizes. */
static void *speak_two(void *given) {
    int first = *(int *)given, i, open = 2;
    qwentts_stream *streams[2];
    sound *said[2];
    int ended[2] = {0, 0};
    for (i = 0; i < 2; i++) {
        qwentts_stream_options options = options_of(first + i);
        said[i] = new_sound();
        said[i]->count = 0;
        streams[i] = speak(engine, TEXT, &options);
    }
    for (i = 0; open > 0; i = !i) {
        size_t n = 0;
        qwentts_status status;
        if (ended[i]) continue;
        status = qwentts_stream_read(streams[i], said[i]->samples + said[i]->count, 700 + 601 * (size_t)i, &n, 20);
        said[i]->count += n;
        CHECK(status >= 0);
        if (status == QWENTTS_END) {
            ended[i] = 1;
            open--;
        }
    }
    for (i = 0; i < 2; i++) {
        CHECK(same_sound(said[i], alone[first + i]));
        qwentts_stream_close(streams[i]);
        free(said[i]);
    }
    return NULL;
}

static void many_streams_are_each_as_if_alone(void) {
    pthread_t threads[THREADS];
    int first[THREADS], i;
    for (i = 0; i < STREAMS; i++) {
        qwentts_stream_options options = options_of(i);
        qwentts_stream *stream = speak(engine, TEXT, &options);
        alone[i] = new_sound();
        CHECK(read_all(stream, alone[i], 1920) == QWENTTS_END);
        CHECK(alone[i]->count > 10 * 1920);
        qwentts_stream_close(stream);
    }
    CHECK(!same_sound(alone[0], alone[1]));
    for (i = 0; i < THREADS; i++) {
        first[i] = 2 * i;
        CHECK(pthread_create(&threads[i], NULL, speak_two, &first[i]) == 0);
    }
    for (i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

static void *push_bytes(void *stream) {
    size_t i;
    for (i = 0; i < strlen(TEXT); i++) {
        CHECK(qwentts_stream_push_text(stream, TEXT + i, 1) == QWENTTS_OK);
        sleep_ms(2);
    }
    CHECK(qwentts_stream_end_text(stream) == QWENTTS_OK);
    return NULL;
}

/* One thread pushes, this one waits in poll and reads only what is there. */
static void live_text_is_the_same_and_the_handle_says_when(void) {
    qwentts_stream_options options = options_of(0);
    qwentts_stream *stream = NULL;
    qwentts_status status = QWENTTS_OK;
    pthread_t thread;
    struct pollfd waits = {-1, POLLIN, 0};
    sound *said = new_sound();
    int64_t handle = -1, again = -1;
    said->count = 0;
    CHECK(qwentts_stream_open(engine, &options, &stream) == QWENTTS_OK);
    CHECK(qwentts_stream_event_handle(stream, &handle) == QWENTTS_OK && handle >= 0);
    CHECK(qwentts_stream_event_handle(stream, &again) == QWENTTS_OK && again == handle);
    waits.fd = (int)handle;
    CHECK(poll(&waits, 1, 0) == 0);
    CHECK(pthread_create(&thread, NULL, push_bytes, stream) == 0);
    while (status == QWENTTS_OK) {
        size_t n = 0;
        CHECK(poll(&waits, 1, PATIENCE_MS) == 1 && (waits.revents & POLLIN));
        CHECK(poll(&waits, 1, 0) == 1); /* until it is read */
        while ((status = qwentts_stream_read(stream, said->samples + said->count, 999, &n, 0)) == QWENTTS_OK)
            said->count += n;
        /* Sound may have come between the two. */
        if (status == QWENTTS_AGAIN) {
            int ready = poll(&waits, 1, 0);
            CHECK(ready == 0 || qwentts_stream_read(stream, said->samples + said->count, 1, &n, 0) != QWENTTS_AGAIN);
            if (ready) said->count += n;
            status = QWENTTS_OK;
        }
    }
    CHECK(status == QWENTTS_END && poll(&waits, 1, 0) == 1);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(same_sound(said, alone[0]));
    qwentts_stream_close(stream);
    free(said);

    /* A cancel is news, too. */
    CHECK(qwentts_stream_open(engine, &options, &stream) == QWENTTS_OK);
    CHECK(qwentts_stream_event_handle(stream, &handle) == QWENTTS_OK);
    waits.fd = (int)handle;
    CHECK(poll(&waits, 1, 0) == 0);
    CHECK(qwentts_stream_cancel(stream) == QWENTTS_OK);
    CHECK(poll(&waits, 1, 0) == 1);
    qwentts_stream_close(stream);
}

static void events_tell_the_first_sound_the_words_and_the_end(void) {
    static const char *words[] = {"The", "engine", "says", "what", "the", "loop", "says"};
    qwentts_stream_options options = stream_options(3);
    qwentts_stream *stream = speak(engine, TEXT, &options);
    qwentts_event event;
    qwentts_status status;
    uint64_t last = 0, read = 0;
    size_t n, word = 0;
    float samples[480];
    char json[1024];
    int first = 0;
    CHECK(qwentts_event_init(&event, sizeof event) == QWENTTS_OK);
    CHECK(qwentts_stream_next_event(stream, &event) != QWENTTS_END);
    first = event.kind == QWENTTS_EVENT_FIRST_SOUND;
    do {
        status = qwentts_stream_read(stream, samples, 480, &n, PATIENCE_MS);
        CHECK(status >= 0);
        read += n;
        while (qwentts_stream_next_event(stream, &event) == QWENTTS_OK) {
            if (event.kind == QWENTTS_EVENT_FIRST_SOUND) {
                CHECK(!first && word == 0 && event.after_ms > 0);
                first = 1;
            } else if (event.kind == QWENTTS_EVENT_WORD) {
                CHECK(first && word < 7 && strcmp(event.word, words[word]) == 0);
                CHECK(event.word_bytes == strlen(words[word]));
                CHECK(memcmp(TEXT + event.text_byte, words[word], event.word_bytes) == 0);
                CHECK(event.sample >= last && event.sample < read);
                last = event.sample;
                word++;
            } else {
                CHECK(event.kind == QWENTTS_EVENT_END && event.end == QWENTTS_END_EOS);
                CHECK(event.frames * 1920 == read);
            }
        }
    } while (status == QWENTTS_OK);
    CHECK(word == 7 && last > read / 2);
    CHECK(qwentts_stream_next_event(stream, &event) == QWENTTS_END);
    CHECK(qwentts_stream_stats(stream, json, sizeof json, NULL) == QWENTTS_OK);
    CHECK(strstr(json, "\"end\":\"eos\"") && strstr(json, "\"conformant\":true"));
    qwentts_stream_close(stream);
}

static void codes_come_with_sound_or_without(void) {
    uint16_t codes[2][64][QWENTTS_CODES_PER_FRAME];
    size_t frames[2] = {0, 0}, n = 0;
    int both;
    for (both = 0; both < 2; both++) {
        qwentts_stream_options options = options_of(0);
        qwentts_stream *stream;
        qwentts_status status;
        options.output = both ? QWENTTS_SAMPLES_AND_FRAMES : QWENTTS_FRAMES;
        stream = speak(engine, TEXT, &options);
        if (both) {
            sound *said = new_sound();
            CHECK(read_all(stream, said, 1920) == QWENTTS_END);
            CHECK(same_sound(said, alone[0]));
            free(said);
        }
        while ((status = qwentts_stream_read_frames(stream, codes[both][frames[both]], 7, &n, PATIENCE_MS)) == QWENTTS_OK)
            frames[both] += n;
        CHECK(status == QWENTTS_END);
        qwentts_stream_close(stream);
    }
    CHECK(frames[0] == alone[0]->count / 1920 && frames[0] == frames[1]);
    CHECK(memcmp(codes[0], codes[1], frames[0] * sizeof codes[0][0]) == 0);
}

static void whole_numbers_are_the_rounded_floats(void) {
    qwentts_stream_options options = options_of(0);
    qwentts_stream *stream;
    int16_t samples[1920];
    size_t total = 0, n, i;
    options.format = QWENTTS_I16;
    stream = speak(engine, TEXT, &options);
    while (qwentts_stream_read(stream, samples, 1920, &n, PATIENCE_MS) == QWENTTS_OK) {
        for (i = 0; i < n; i++) {
            float off = alone[0]->samples[total + i] * 32767 - samples[i];
            CHECK(off <= 0.51f && off >= -0.51f);
        }
        total += n;
    }
    CHECK(total == alone[0]->count);
    qwentts_stream_close(stream);
}

int main(void) {
    int i;
    engine = open_engine(STREAMS, 4);
    many_streams_are_each_as_if_alone();
    live_text_is_the_same_and_the_handle_says_when();
    events_tell_the_first_sound_the_words_and_the_end();
    codes_come_with_sound_or_without();
    whole_numbers_are_the_rounded_floats();
    for (i = 0; i < STREAMS; i++) free(alone[i]);
    qwentts_engine_close(engine);
    return 0;
}
