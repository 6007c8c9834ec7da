/* Would catch a voice of a recording that is not kept, is not heard, is taken by another model, is freed under a stream or with
 * its engine, or is not for threads to share. VOICES BASE_MODEL ANOTHER FILE_TO_WRITE */
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

typedef struct {
    qwentts_engine *engine;
    qwentts_voice *voice;
    const float *sound;
    const char *path;
    const uint16_t *codes;
    size_t frames;
} shared;

/* Holds the voice and speaks with it, while others do and while it is given up. */
static void *speaks(void *with) {
    shared *own = with;
    uint16_t codes[16 * (MOST_FRAMES + 1)];
    size_t i;
    for (i = 0; i < 3; i++) {
        qwentts_voice_retain(own->voice);
        CHECK(codes_of(own->engine, own->voice, codes, 1) == own->frames);
        CHECK(memcmp(codes, own->codes, 32 * own->frames) == 0);
    }
    qwentts_voice_release(own->voice);
    return NULL;
}

/* Makes, saves and loads voices, while others speak. */
static void *makes(void *with) {
    shared *own = with;
    qwentts_voice *made = NULL, *loaded = NULL;
    CHECK(qwentts_voice_from_pcm(own->engine, own->sound, COUNT, 16000, "Others.", NULL, &made) == QWENTTS_OK);
    CHECK(qwentts_voice_load(own->engine, own->path, &loaded) == QWENTTS_OK);
    qwentts_voice_release(made);
    qwentts_voice_release(loaded);
    qwentts_voice_release(own->voice);
    return NULL;
}

int main(int argc, char **argv) {
    static float sound[COUNT];
    static uint16_t first[16 * (MOST_FRAMES + 1)], second[16 * (MOST_FRAMES + 1)];
    qwentts_engine *engine, *other, *demo;
    qwentts_voice *made = NULL, *loaded = NULL, *as_it_was;
    qwentts_stream_options options;
    qwentts_stream *stream = NULL;
    pthread_t threads[4];
    shared with;
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
    REFUSED(qwentts_voice_from_pcm(engine, sound, 0, 24000, NULL, NULL, &loaded), QWENTTS_INVALID_ARGUMENT, "samples: lasts 0.00 s");
    /* More than there are, of which none is looked at; and what is no size at all. */
    REFUSED(qwentts_voice_from_pcm(engine, sound, SIZE_MAX / 16, 24000, NULL, NULL, &loaded), QWENTTS_INVALID_ARGUMENT, "samples: lasts");
    REFUSED(qwentts_voice_from_pcm(engine, sound, (size_t)-1, 24000, NULL, NULL, &loaded), QWENTTS_INVALID_ARGUMENT, "samples: ");
    REFUSED(qwentts_voice_from_pcm(engine, (float *)((char *)sound + 1), 100, 24000, NULL, NULL, &loaded), QWENTTS_INVALID_ARGUMENT, "samples: are not aligned");
    REFUSED(qwentts_voice_from_pcm(engine, sound, COUNT, 24000, "", NULL, &loaded), QWENTTS_INVALID_ARGUMENT, "transcript: is empty");
    REFUSED(qwentts_voice_from_pcm(engine, sound, COUNT, 24000, "\xff", NULL, &loaded), QWENTTS_INVALID_ARGUMENT, "transcript: is not UTF-8");
    REFUSED(qwentts_voice_from_pcm(NULL, sound, COUNT, 24000, NULL, NULL, &loaded), QWENTTS_INVALID_ARGUMENT, "engine: is NULL");
    REFUSED(qwentts_voice_from_pcm(engine, sound, COUNT, 24000, NULL, NULL, NULL), QWENTTS_INVALID_ARGUMENT, "voice: is NULL");
    REFUSED(qwentts_voice_from_pcm(engine, sound, COUNT, 7, NULL, NULL, &loaded), QWENTTS_INVALID_ARGUMENT, "samples: ");
    REFUSED(qwentts_voice_from_pcm(engine, sound, COUNT, 24000, NULL, "klingon", &loaded), QWENTTS_INVALID_ARGUMENT, "language: ");
    sound[5] = sound[0] / 0.0f;
    REFUSED(qwentts_voice_from_pcm(engine, sound, COUNT, 24000, NULL, NULL, &loaded), QWENTTS_INVALID_ARGUMENT, "samples: sample 5");
    sound[5] = 3e38f;
    REFUSED(qwentts_voice_from_pcm(engine, sound, COUNT, 24000, NULL, NULL, &loaded), QWENTTS_INVALID_ARGUMENT, "samples: has a sample of");
    sound[5] = sound[4];
    demo = open_engine(1, 1);
    REFUSED(qwentts_voice_from_pcm(demo, sound, COUNT, 24000, NULL, NULL, &loaded), QWENTTS_UNSUPPORTED, "engine: only a Base model");
    qwentts_engine_close(demo);
    REFUSED(qwentts_voice_save(made, "/no/such/folder/ann.qvoice"), QWENTTS_NOT_FOUND, "/no/such/folder");
    REFUSED(qwentts_voice_save(made, "/"), QWENTTS_BAD_MODEL, "/: ");
    CHECK(loaded == as_it_was);
    qwentts_voice_release(NULL);
    qwentts_voice_retain(NULL);

    CHECK(qwentts_stream_options_init(&options, sizeof options) == QWENTTS_OK);
    options.cloned = made;
    REFUSED(qwentts_stream_open(other, &options, &stream), QWENTTS_BAD_MODEL, "cloned: was made with another model");
    options.voice = "slt";
    REFUSED(qwentts_stream_open(engine, &options, &stream), QWENTTS_INVALID_ARGUMENT, "cloned: is a voice, and so is `voice`");
    CHECK(stream == NULL);

    with.engine = engine, with.voice = made, with.sound = sound, with.path = argv[3];
    with.codes = first, with.frames = codes_of(engine, made, first, 0);
    for (i = 0; i < 4; i++) {
        qwentts_voice_retain(made);
        CHECK(pthread_create(&threads[i], NULL, i < 3 ? speaks : makes, &with) == 0);
    }
    /* Each thread holds it by itself. */
    qwentts_voice_release(made);
    for (i = 0; i < 4; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }

    /* It does not need the engine that it came from, and serves another with the same model. */
    CHECK(qwentts_voice_load(engine, argv[3], &loaded) == QWENTTS_OK);
    qwentts_engine_close(engine);
    CHECK(qwentts_voice_save(loaded, argv[3]) == QWENTTS_OK);
    engine = open_model(argv[1]);
    CHECK(codes_of(engine, loaded, second, 1) == with.frames && memcmp(first, second, 32 * with.frames) == 0);
    qwentts_engine_close(engine);
    qwentts_engine_close(other);
    return 0;
}
