/* Would catch a wrong call that crashes, waits for ever, or is answered with the wrong status, no words or a written output. */
#include "common.h"

static void without_an_engine(void) {
    qwentts_engine_options options;
    qwentts_stream_options stream_of;
    qwentts_event event;
    qwentts_engine *engine = (qwentts_engine *)&options, *as_it_was = engine;
    qwentts_stream *stream = NULL;
    const char *place = qwentts_last_error();
    float samples[4];
    size_t n = 77;
    int64_t handle = 77;
    char json[8] = "as was";

    CHECK(strcmp(place, "") == 0);
    CHECK(qwentts_abi_version() == (QWENTTS_ABI_MAJOR << 16 | QWENTTS_ABI_MINOR));
    CHECK(strcmp(qwentts_version(), "0.1.0") == 0);
    CHECK(strstr(qwentts_build_info(), "\"abi\":\"0.1\"") != NULL);
    CHECK(strcmp(qwentts_status_name(QWENTTS_BUSY), "QWENTTS_BUSY") == 0);
    CHECK(strcmp(qwentts_status_name(-99), "unknown") == 0);

    REFUSED(qwentts_engine_options_init(NULL, sizeof options), QWENTTS_INVALID_ARGUMENT, "options: is NULL");
    CHECK(qwentts_last_error() == place);
    REFUSED(qwentts_engine_options_init(&options, 4), QWENTTS_INVALID_ARGUMENT, "options: struct_size is 4; expected at least 48");
    REFUSED(qwentts_stream_options_init(&stream_of, 0), QWENTTS_INVALID_ARGUMENT, "options: struct_size is 0");
    REFUSED(qwentts_event_init(NULL, sizeof event), QWENTTS_INVALID_ARGUMENT, "event: is NULL");

    CHECK(qwentts_engine_options_init(&options, sizeof options) == QWENTTS_OK);
    REFUSED(qwentts_engine_open(&options, NULL), QWENTTS_INVALID_ARGUMENT, "engine: is NULL");
    options.struct_size = 0;
    REFUSED(qwentts_engine_open(&options, &engine), QWENTTS_INVALID_ARGUMENT, "options: struct_size is 0");
    CHECK(qwentts_engine_options_init(&options, sizeof options) == QWENTTS_OK);
    options.device = "tpu";
    REFUSED(qwentts_engine_open(&options, &engine), QWENTTS_UNSUPPORTED, "device: is \"tpu\"; expected cpu or cuda:N");
    options.device = "cpu";
    options.model = "/no/such/folder";
    REFUSED(qwentts_engine_open(&options, &engine), QWENTTS_NOT_FOUND, "/no/such/folder: is no folder");
    options.model = "/dev/null";
    REFUSED(qwentts_engine_open(&options, &engine), QWENTTS_BAD_MODEL, "/dev/null: is no folder");
    options.model = "/tmp";
    REFUSED(qwentts_engine_open(&options, &engine), QWENTTS_NOT_FOUND, "/tmp/config.json: ");
    options.model = "\xff";
    REFUSED(qwentts_engine_open(&options, &engine), QWENTTS_INVALID_ARGUMENT, "model: is not UTF-8");
    options.model = NULL;
    options.kv = "f8";
    REFUSED(qwentts_engine_open(&options, &engine), QWENTTS_INVALID_ARGUMENT, "kv: is \"f8\"");
    options.kv = NULL;
    options.slots = 0;
    REFUSED(qwentts_engine_open(&options, &engine), QWENTTS_INVALID_ARGUMENT, "slots: is 0; expected 1 to 1024");
    CHECK(engine == as_it_was);

    /* NULL for a handle, everywhere. */
    qwentts_engine_close(NULL);
    qwentts_stream_close(NULL);
    REFUSED(qwentts_engine_warmup(NULL), QWENTTS_INVALID_ARGUMENT, "engine: is NULL");
    REFUSED(qwentts_engine_health(NULL), QWENTTS_INVALID_ARGUMENT, "engine: is NULL");
    REFUSED(qwentts_engine_info(NULL, json, sizeof json, &n), QWENTTS_INVALID_ARGUMENT, "engine: is NULL");
    REFUSED(qwentts_engine_stats(NULL, json, sizeof json, &n), QWENTTS_INVALID_ARGUMENT, "engine: is NULL");
    CHECK(qwentts_voice_count(NULL) == 0);
    CHECK(qwentts_voice_name(NULL, 0) == NULL);
    REFUSED(qwentts_stream_open(NULL, NULL, &stream), QWENTTS_INVALID_ARGUMENT, "engine: is NULL");
    REFUSED(qwentts_speak(NULL, TEXT, 3, NULL, &stream), QWENTTS_INVALID_ARGUMENT, "engine: is NULL");
    REFUSED(qwentts_stream_push_text(NULL, TEXT, 3), QWENTTS_INVALID_ARGUMENT, "stream: is NULL");
    REFUSED(qwentts_stream_flush(NULL), QWENTTS_INVALID_ARGUMENT, "stream: is NULL");
    REFUSED(qwentts_stream_end_text(NULL), QWENTTS_INVALID_ARGUMENT, "stream: is NULL");
    REFUSED(qwentts_stream_read(NULL, samples, 4, &n, 0), QWENTTS_INVALID_ARGUMENT, "stream: is NULL");
    REFUSED(qwentts_stream_read_frames(NULL, NULL, 4, &n, 0), QWENTTS_INVALID_ARGUMENT, "stream: is NULL");
    REFUSED(qwentts_stream_set_callback(NULL, NULL, NULL), QWENTTS_INVALID_ARGUMENT, "stream: is NULL");
    REFUSED(qwentts_stream_event_handle(NULL, &handle), QWENTTS_INVALID_ARGUMENT, "stream: is NULL");
    REFUSED(qwentts_stream_next_event(NULL, &event), QWENTTS_INVALID_ARGUMENT, "stream: is NULL");
    REFUSED(qwentts_stream_stats(NULL, json, sizeof json, &n), QWENTTS_INVALID_ARGUMENT, "stream: is NULL");
    REFUSED(qwentts_stream_cancel(NULL), QWENTTS_INVALID_ARGUMENT, "stream: is NULL");
    REFUSED(qwentts_log_set(NULL, NULL, 9), QWENTTS_INVALID_ARGUMENT, "level: is 9");
    CHECK(n == 77 && handle == 77 && stream == NULL && strcmp(json, "as was") == 0);
}

static void options_and_texts(qwentts_engine *engine) {
    struct {
        qwentts_stream_options known;
        uint64_t later;
    } grown;
    qwentts_stream_options options = stream_options(1);
    qwentts_stream *stream = NULL;
    char json[1024];
    size_t needed = 0, i;

#define REFUSED_FIELD(field, value, status, words)                                        \
    do {                                                                                  \
        options = stream_options(1);                                                      \
        options.field = value;                                                            \
        REFUSED(qwentts_speak(engine, TEXT, strlen(TEXT), &options, &stream), status, words); \
        REFUSED(qwentts_stream_open(engine, &options, &stream), status, words);           \
    } while (0)
    REFUSED_FIELD(struct_size, 3, QWENTTS_INVALID_ARGUMENT, "options: struct_size is 3");
    REFUSED_FIELD(format, 2, QWENTTS_INVALID_ARGUMENT, "format: is 2");
    REFUSED_FIELD(output, -1, QWENTTS_INVALID_ARGUMENT, "output: is -1");
    REFUSED_FIELD(layout, 2, QWENTTS_INVALID_ARGUMENT, "layout: is 2");
    REFUSED_FIELD(sample_rate_hz, 11025, QWENTTS_INVALID_ARGUMENT, "sample_rate_hz: is 11025");
    REFUSED_FIELD(voice, "bob", QWENTTS_INVALID_ARGUMENT, "voice: \"bob\" is unknown");
    REFUSED_FIELD(voice, "\xc3\x28", QWENTTS_INVALID_ARGUMENT, "voice: is not UTF-8");
    REFUSED_FIELD(language, "klingon", QWENTTS_INVALID_ARGUMENT, "language: ");
    REFUSED_FIELD(max_frames, 0, QWENTTS_INVALID_ARGUMENT, "max_frames: is 0");
    REFUSED_FIELD(do_sample, 2, QWENTTS_INVALID_ARGUMENT, "do_sample: is 2");
    REFUSED_FIELD(top_k, -2, QWENTTS_INVALID_ARGUMENT, "top_k: is -2");
    REFUSED_FIELD(temperature, 0, QWENTTS_INVALID_ARGUMENT, "temperature: is 0");
    REFUSED_FIELD(top_p, 1.5f, QWENTTS_INVALID_ARGUMENT, "top_p: is 1.5");
    REFUSED_FIELD(chunk_frames[0], 0, QWENTTS_INVALID_ARGUMENT, "chunk_frames: is []");
    REFUSED_FIELD(chunk_frames[2], 33, QWENTTS_INVALID_ARGUMENT, "chunk_frames: is [1, 2, 33, 8]");
    REFUSED_FIELD(lead_ms, 79, QWENTTS_INVALID_ARGUMENT, "lead: is 79ms");
    REFUSED_FIELD(pad_after_ms, -2, QWENTTS_INVALID_ARGUMENT, "pad_after_ms: is -2");
    options = stream_options(1);
    options.layout = QWENTTS_WHOLE;
    REFUSED(qwentts_stream_open(engine, &options, &stream), QWENTTS_INVALID_ARGUMENT, "layout: live text needs");

    /* A caller of a later version: what we do not know must be zero. */
    CHECK(qwentts_stream_options_init(&grown.known, sizeof grown) == QWENTTS_OK);
    CHECK(grown.known.struct_size == sizeof grown && grown.later == 0);
    grown.later = 1;
    REFUSED(qwentts_stream_open(engine, &grown.known, &stream), QWENTTS_UNSUPPORTED, "options: uses fields");
    REFUSED(qwentts_speak(engine, "\xff", 1, NULL, &stream), QWENTTS_INVALID_ARGUMENT, "text: is not UTF-8 from byte 0 on");
    REFUSED(qwentts_speak(engine, " ", 1, NULL, &stream), QWENTTS_INVALID_ARGUMENT, "text: is empty");
    REFUSED(qwentts_speak(engine, NULL, 1, NULL, &stream), QWENTTS_INVALID_ARGUMENT, "text: is NULL");
    REFUSED(qwentts_speak(engine, TEXT, 3, NULL, NULL), QWENTTS_INVALID_ARGUMENT, "stream: is NULL");
    CHECK(stream == NULL);
    grown.later = 0;
    CHECK(qwentts_stream_open(engine, &grown.known, &stream) == QWENTTS_OK);
    qwentts_stream_close(stream);

    /* JSON: how long it is, too little room, room enough. */
    CHECK(qwentts_engine_info(engine, NULL, 0, &needed) == QWENTTS_OK && needed > 100);
    REFUSED(qwentts_engine_info(engine, json, needed - 1, NULL), QWENTTS_INVALID_ARGUMENT, "capacity_bytes: is ");
    REFUSED(qwentts_engine_info(engine, NULL, 0, NULL), QWENTTS_INVALID_ARGUMENT, "json: is NULL");
    CHECK(qwentts_engine_info(engine, json, needed, NULL) == QWENTTS_OK && strlen(json) == needed - 1);
    CHECK(strstr(json, "\"device\":\"cpu\"") && strstr(json, "\"kind\":\"CustomVoice\""));
    CHECK(qwentts_voice_count(engine) == 2);
    for (i = 0; i < 2; i++) CHECK(strstr(json, qwentts_voice_name(engine, i)));
    REFUSED(qwentts_voice_name(engine, 2), NULL, "index: is 2; there are 2 voices");
    CHECK(qwentts_engine_stats(engine, json, sizeof json, NULL) == QWENTTS_OK);
    CHECK(strcmp(json, "{\"memory\":null,\"open\":0,\"speaking\":0}") == 0);
    CHECK(qwentts_engine_health(engine) == QWENTTS_OK);
    CHECK(qwentts_engine_warmup(engine) == QWENTTS_OK);
}

static int32_t ignore(void *user, const void *samples, size_t n, qwentts_status status) {
    (void)samples;
    (void)status;
    if (n == 0) *(volatile int *)user = 1;
    return QWENTTS_CONTINUE;
}

static void reads(qwentts_engine *engine) {
    qwentts_stream_options options = stream_options(1);
    qwentts_stream *stream = NULL, *other = NULL;
    float samples[8];
    uint16_t codes[QWENTTS_CODES_PER_FRAME];
    size_t n = 77;
    qwentts_event event;
    volatile int ended = 0;

    CHECK(qwentts_stream_open(engine, &options, &stream) == QWENTTS_OK);
    CHECK(qwentts_stream_read(stream, samples, 8, &n, 0) == QWENTTS_AGAIN && n == 0);
    n = 77;
    REFUSED(qwentts_stream_read(stream, NULL, 8, &n, 0), QWENTTS_INVALID_ARGUMENT, "samples: is NULL");
    REFUSED(qwentts_stream_read(stream, (char *)samples + 1, 4, &n, 0), QWENTTS_INVALID_ARGUMENT, "samples: is not aligned");
    REFUSED(qwentts_stream_read(stream, samples, 0, &n, 0), QWENTTS_INVALID_ARGUMENT, "into: is empty");
    REFUSED(qwentts_stream_read(stream, samples, (size_t)-1, &n, 0), QWENTTS_INVALID_ARGUMENT, "capacity: is ");
    REFUSED(qwentts_stream_read(stream, samples, 8, NULL, 0), QWENTTS_INVALID_ARGUMENT, "n_samples: is NULL");
    REFUSED(qwentts_stream_read(stream, samples, 8, &n, -2), QWENTTS_INVALID_ARGUMENT, "timeout_ms: is -2");
    REFUSED(qwentts_stream_read_frames(stream, codes, 1, &n, 0), QWENTTS_INVALID_ARGUMENT, "output: is Samples");
    REFUSED(qwentts_stream_set_callback(stream, ignore, NULL), QWENTTS_INVALID_ARGUMENT, "stream: is read already");
    REFUSED(qwentts_stream_push_text(stream, NULL, 1), QWENTTS_INVALID_ARGUMENT, "text: is NULL");
    CHECK(qwentts_stream_push_text(stream, NULL, 0) == QWENTTS_OK);
    REFUSED(qwentts_stream_push_text(stream, "a\xff", 2), QWENTTS_INVALID_ARGUMENT, "text: is not UTF-8 from byte 1");
    event.struct_size = 1;
    REFUSED(qwentts_stream_next_event(stream, &event), QWENTTS_INVALID_ARGUMENT, "event: struct_size is 1");
    REFUSED(qwentts_stream_next_event(stream, NULL), QWENTTS_INVALID_ARGUMENT, "event: is NULL");
    CHECK(n == 77);
    CHECK(qwentts_stream_push_text(stream, "caf\xc3", 4) == QWENTTS_OK);
    REFUSED(qwentts_stream_end_text(stream), QWENTTS_INVALID_ARGUMENT, "text: stops inside a UTF-8 character");
    CHECK(qwentts_stream_end_text(stream) == QWENTTS_OK);
    REFUSED(qwentts_stream_push_text(stream, "a", 1), QWENTTS_INVALID_ARGUMENT, "text: has ended");

    /* The engine has one slot and no queue. */
    REFUSED(qwentts_stream_open(engine, &options, &other), QWENTTS_BUSY, "engine: all 1 streams");
    CHECK(qwentts_stream_cancel(stream) == QWENTTS_OK && qwentts_stream_cancel(stream) == QWENTTS_OK);
    REFUSED(qwentts_stream_read(stream, samples, 8, &n, -1), QWENTTS_CANCELLED, "stream: was cancelled");
    CHECK(n == 77);
    qwentts_stream_close(stream);

    CHECK(qwentts_stream_open(engine, &options, &stream) == QWENTTS_OK);
    REFUSED(qwentts_stream_set_callback(stream, NULL, NULL), QWENTTS_INVALID_ARGUMENT, "callback: is NULL");
    CHECK(qwentts_stream_set_callback(stream, ignore, (void *)&ended) == QWENTTS_OK);
    REFUSED(qwentts_stream_set_callback(stream, ignore, NULL), QWENTTS_INVALID_ARGUMENT, "stream: is read already, or has a callback");
    REFUSED(qwentts_stream_read(stream, samples, 8, &n, 0), QWENTTS_INVALID_ARGUMENT, "stream: has a callback");
    CHECK(qwentts_stream_cancel(stream) == QWENTTS_OK);
    REFUSED(qwentts_stream_push_text(stream, "a", 1), QWENTTS_CANCELLED, "text: comes too late");
    qwentts_stream_close(stream);
    while (!ended) sleep_ms(1);

    options.output = QWENTTS_FRAMES;
    CHECK(qwentts_stream_open(engine, &options, &stream) == QWENTTS_OK);
    REFUSED(qwentts_stream_set_callback(stream, ignore, NULL), QWENTTS_INVALID_ARGUMENT, "output: has frames");
    qwentts_stream_close(stream);
}

int main(void) {
    qwentts_engine *engine;
    without_an_engine();
    engine = open_engine(1, 0);
    options_and_texts(engine);
    reads(engine);
    qwentts_engine_close(engine);
    return 0;
}
