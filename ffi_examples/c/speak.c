/* Speaks a text into a WAV file: reads sound as it is made.
 *   cc speak.c $(pkg-config --cflags --libs qwentts) -o speak
 *   ./speak "Good morning." hello.wav [MODEL_FOLDER] */
#include <qwentts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RATE_HZ = 24000 };

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, qwentts_last_error());
    exit(1);
}

static void little_endian(unsigned char *to, unsigned long value, int bytes) {
    while (bytes-- > 0) {
        *to++ = (unsigned char)value;
        value >>= 8;
    }
}

/* The header of a WAV file, mono, 16 bit. */
static void write_header(FILE *file, unsigned long samples) {
    unsigned char header[44] = "RIFF....WAVEfmt ";
    little_endian(header + 4, 36 + 2 * samples, 4);
    little_endian(header + 16, 16, 4);
    little_endian(header + 20, 1, 2);
    little_endian(header + 22, 1, 2);
    little_endian(header + 24, RATE_HZ, 4);
    little_endian(header + 28, 2 * RATE_HZ, 4);
    little_endian(header + 32, 2, 2);
    little_endian(header + 34, 16, 2);
    memcpy(header + 36, "data", 4);
    little_endian(header + 40, 2 * samples, 4);
    rewind(file);
    fwrite(header, sizeof header, 1, file);
}

int main(int argc, char **argv) {
    qwentts_engine_options engine_options;
    qwentts_stream_options options;
    qwentts_engine *engine;
    qwentts_stream *stream;
    qwentts_status status;
    int16_t samples[1920];
    unsigned long total = 0;
    size_t n, i;
    FILE *file;

    if (argc < 3) {
        fprintf(stderr, "usage: speak TEXT OUT.wav [MODEL_FOLDER]\n");
        return 2;
    }
    qwentts_engine_options_init(&engine_options, sizeof engine_options);
    engine_options.model = argc > 3 ? argv[3] : NULL; /* NULL: the small model inside the library */
    if (qwentts_engine_open(&engine_options, &engine) != QWENTTS_OK) fail("open");

    qwentts_stream_options_init(&options, sizeof options);
    options.format = QWENTTS_I16;
    options.sample_rate_hz = RATE_HZ;
    if (qwentts_speak(engine, argv[1], strlen(argv[1]), &options, &stream) != QWENTTS_OK) fail("speak");

    file = fopen(argv[2], "wb");
    if (!file) {
        perror(argv[2]);
        return 1;
    }
    write_header(file, 0);
    while ((status = qwentts_stream_read(stream, samples, 1920, &n, -1)) == QWENTTS_OK) {
        unsigned char bytes[2 * 1920];
        for (i = 0; i < n; i++) little_endian(bytes + 2 * i, (unsigned long)(uint16_t)samples[i], 2);
        fwrite(bytes, 2, n, file);
        total += (unsigned long)n;
    }
    if (status != QWENTTS_END) fail("read");
    write_header(file, total);
    if (fclose(file) != 0) {
        perror(argv[2]);
        return 1;
    }
    printf("%s: %.2f s\n", argv[2], (double)total / RATE_HZ);

    qwentts_stream_close(stream);
    qwentts_engine_close(engine);
    return 0;
}
