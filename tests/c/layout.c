/* Would catch a struct that changed in its released part, and a header that C++ does not take: sizes and offsets on 64 bits. */
#include <qwentts.h>

#ifdef __cplusplus
#define SAME(name, value, expected) static_assert((value) == (expected), #name)
#else
#define SAME(name, value, expected) typedef char name##_changed[(value) == (expected) ? 1 : -1]
#endif
#define AT(type, field, expected) SAME(type##_##field, offsetof(type, field), expected)
#define SIZE(type, expected) SAME(type, sizeof(type), expected)

/* A line that is new or other here is of a new minor, which stands behind it: 0.1 where nothing does. */
SAME(abi_minor, QWENTTS_ABI_MINOR, 3);
SIZE(qwentts_status, 4);
SIZE(qwentts_engine_options, 56); /* 0.3 */
AT(qwentts_engine_options, struct_size, 0);
AT(qwentts_engine_options, slots, 4);
AT(qwentts_engine_options, queue, 8);
AT(qwentts_engine_options, threads, 12);
AT(qwentts_engine_options, kv_positions, 16);
AT(qwentts_engine_options, model, 24);
AT(qwentts_engine_options, device, 32);
AT(qwentts_engine_options, kv, 40);
AT(qwentts_engine_options, prefix_positions, 48); /* 0.3 */
SIZE(qwentts_stream_options, 152); /* 0.2 */
AT(qwentts_stream_options, struct_size, 0);
AT(qwentts_stream_options, sample_rate_hz, 4);
AT(qwentts_stream_options, format, 8);
AT(qwentts_stream_options, output, 12);
AT(qwentts_stream_options, seed, 16);
AT(qwentts_stream_options, voice, 24);
AT(qwentts_stream_options, language, 32);
AT(qwentts_stream_options, instruct, 40);
AT(qwentts_stream_options, layout, 48);
AT(qwentts_stream_options, max_frames, 52);
AT(qwentts_stream_options, do_sample, 56);
AT(qwentts_stream_options, top_k, 60);
AT(qwentts_stream_options, temperature, 64);
AT(qwentts_stream_options, top_p, 68);
AT(qwentts_stream_options, repetition_penalty, 72);
AT(qwentts_stream_options, subtalker_do_sample, 76);
AT(qwentts_stream_options, subtalker_top_k, 80);
AT(qwentts_stream_options, subtalker_temperature, 84);
AT(qwentts_stream_options, subtalker_top_p, 88);
AT(qwentts_stream_options, lead_ms, 92);
AT(qwentts_stream_options, pad_after_ms, 96);
AT(qwentts_stream_options, cap_frames, 100);
AT(qwentts_stream_options, cap_frames_per_token, 104);
AT(qwentts_stream_options, special_tokens, 108);
AT(qwentts_stream_options, chunk_frames, 112);
AT(qwentts_stream_options, cloned, 144); /* 0.2 */
SIZE(qwentts_event, 112);
AT(qwentts_event, struct_size, 0);
AT(qwentts_event, kind, 4);
AT(qwentts_event, sample, 8);
AT(qwentts_event, text_byte, 16);
AT(qwentts_event, after_ms, 24);
AT(qwentts_event, frames, 32);
AT(qwentts_event, end, 40);
AT(qwentts_event, word_bytes, 44);
AT(qwentts_event, word, 48);

int main(void) {
    return 0;
}
