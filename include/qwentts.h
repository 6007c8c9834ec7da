// qwentts: text to speech with the Qwen3-TTS 12 Hz models. Made by cbindgen from src/ffi; do not edit.
//
//     qwentts_engine *engine;
//     qwentts_stream *stream;
//     float samples[1920];
//     size_t n;
//
//     if (qwentts_engine_open(NULL, &engine) != QWENTTS_OK)           // the model inside the library; options name another
//         return fail(qwentts_last_error());
//     qwentts_stream_open(engine, NULL, &stream);
//     qwentts_stream_push_text(stream, "Hello there.", 12);           // as it comes, cut anywhere
//     qwentts_stream_end_text(stream);
//     while (qwentts_stream_read(stream, samples, 1920, &n, -1) == QWENTTS_OK)
//         play(samples, n);                                           // 24 kHz, mono; the first 80 ms come at once
//     qwentts_stream_close(stream);
//     qwentts_engine_close(engine);
//
// Options:   qwentts_stream_options o; qwentts_stream_options_init(&o, sizeof o); o.voice = "slt";
// Clones:    qwentts_voice_from_pcm(engine, sound, count, 24000, "What is said in it.", NULL, &voice); o.cloned = voice;
// Threads:   an engine is shared; of a stream, one thread may push text while another reads and any other cancels.
// Memory:    strings and texts are copied on entry; buffers are the caller's; what a function returns as a string is never freed.
//            Handles are ended by their close, after which they must not be used; every other misuse has an answer.
// Failures:  negative statuses, with a text in qwentts_last_error() of the same thread. Nothing is written but on success.
//            Nothing throws, prints, ends the process or handles signals.
// Waiting:   only qwentts_engine_open, _close and _warmup, qwentts_voice_from_pcm, for files qwentts_voice_load and _save, and
//            qwentts_stream_read and _read_frames as long as they are told.


#ifndef QWENTTS_H
#define QWENTTS_H

#include <stddef.h>
#include <stdint.h>

// Grows when something that was promised changes; the library's soname has it.
#define QWENTTS_ABI_MAJOR 0

// Grows when something comes that was not there: tests/c/symbols.txt and tests/c/layout.c have what came with which.
#define QWENTTS_ABI_MINOR 3

// In a number of `qwentts_stream_options`: as the model's own settings have it.
#define QWENTTS_DEFAULT -1

// Widths that `qwentts_stream_options` takes.
#define QWENTTS_CHUNK_WIDTHS 8

// Codes in a frame.
#define QWENTTS_CODES_PER_FRAME 16

// Room for a word in qwentts_event, the zero included.
#define QWENTTS_WORD_BYTES 64

// What a call came to. Zero is done, positive is a state, negative a failure whose text `qwentts_last_error` has. Where a
// call fails, what it would have written is left as it was, unless its comment says otherwise.
enum qwentts_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Done.
  QWENTTS_OK = 0,
  // The stream has ended by itself and all of it has been read.
  QWENTTS_END = 1,
  // Nothing within the time; ask again.
  QWENTTS_AGAIN = 2,
  // The stream was cancelled, or its engine closed.
  QWENTTS_CANCELLED = -1,
  // A NULL, a value or a text that cannot be; the error names it and says what can.
  QWENTTS_INVALID_ARGUMENT = -2,
  // This build, this machine or this process cannot do it.
  QWENTTS_UNSUPPORTED = -3,
  // There is no such file or folder.
  QWENTTS_NOT_FOUND = -4,
  // The files of the model, or of a voice, do not hold what they must, or cannot be read or written.
  QWENTTS_BAD_MODEL = -5,
  // The device's memory is used up.
  QWENTTS_OUT_OF_MEMORY = -6,
  // The device's driver refused a call.
  QWENTTS_DEVICE = -7,
  // The engine's device has failed: no stream of it will speak again.
  QWENTTS_DEVICE_LOST = -8,
  // The engine has all the streams that it takes, or another thread is in a read of this stream.
  QWENTTS_BUSY = -9,
  // A fault of the library.
  QWENTTS_INTERNAL = -10,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum qwentts_status qwentts_status;
#else
typedef int32_t qwentts_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How much the log hook hears.
enum qwentts_log_level
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Nothing.
  QWENTTS_LOG_OFF = 0,
  // Faults of the library.
  QWENTTS_LOG_ERROR = 1,
  // Engines that open and close.
  QWENTTS_LOG_INFO = 2,
  // Every call that fails, every stream that opens.
  QWENTTS_LOG_DEBUG = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum qwentts_log_level qwentts_log_level;
#else
typedef int32_t qwentts_log_level;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How samples are delivered.
enum qwentts_format
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // float, -1 to 1.
  QWENTTS_F32 = 0,
  // int16_t, -32767 to 32767.
  QWENTTS_I16 = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum qwentts_format qwentts_format;
#else
typedef int32_t qwentts_format;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What a stream delivers.
enum qwentts_output
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Sound.
  QWENTTS_SAMPLES = 0,
  // Codes as soon as they are chosen; no sound is made.
  QWENTTS_FRAMES = 1,
  // Each by its own read.
  QWENTTS_SAMPLES_AND_FRAMES = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum qwentts_output qwentts_output;
#else
typedef int32_t qwentts_output;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How the text reaches the model. QWENTTS_DEFAULT is the model's own for `qwentts_speak`.
enum qwentts_layout
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Bit by bit; the only one for text that comes live.
  QWENTTS_STREAMING = 0,
  // All at once.
  QWENTTS_WHOLE = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum qwentts_layout qwentts_layout;
#else
typedef int32_t qwentts_layout;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What a callback answers.
enum qwentts_answer
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Go on.
  QWENTTS_CONTINUE = 20736,
  // Cancel the stream. So does every other value.
  QWENTTS_STOP = 20737,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum qwentts_answer qwentts_answer;
#else
typedef int32_t qwentts_answer;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What an event tells of.
enum qwentts_event_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // The first sound (or frame, where only frames are made) can be read: after_ms.
  QWENTTS_EVENT_FIRST_SOUND = 1,
  // The reader has come to a word: word, word_bytes, text_byte, and sample, which is an estimate.
  QWENTTS_EVENT_WORD = 2,
  // All has been read: end, frames.
  QWENTTS_EVENT_END = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum qwentts_event_kind qwentts_event_kind;
#else
typedef int32_t qwentts_event_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How a stream ended.
enum qwentts_end
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // It has not.
  QWENTTS_END_NONE = 0,
  // The model had no more to say.
  QWENTTS_END_EOS = 1,
  // It reached max_frames, the model's positions, or what its text can need (cap_frames).
  QWENTTS_END_LENGTH = 2,
  // It was cancelled, or its engine closed.
  QWENTTS_END_CANCELLED = 3,
  // It had ceased to be speech: the same sound for 3.2 s.
  QWENTTS_END_DEGENERATE = 4,
  // An error ended it.
  QWENTTS_END_FAILED = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum qwentts_end qwentts_end;
#else
typedef int32_t qwentts_end;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A model on one device. Threads may share it.
typedef struct qwentts_engine qwentts_engine;

// One utterance. One thread may give it text while another reads and any other cancels.
typedef struct qwentts_stream qwentts_stream;

// A voice that was made of a recording. It never changes; threads and streams may share it.
typedef struct qwentts_voice qwentts_voice;

// Hears what the library has to say: the `user` of `qwentts_log_set`, one of `qwentts_log_level`, a line without a newline.
// The line is the hook's until it returns. It may be called by any thread, and by several at once.
typedef void (*qwentts_log_fn)(void *user, int32_t level, const char *line);

// What an engine is opened with. Fill it with `qwentts_engine_options_init`, then change what is to be other.
typedef struct {
  // sizeof this struct, set by init.
  uint32_t struct_size;
  // Streams that speak at the same time, 1 to 1024. 16.
  uint32_t slots;
  // Streams besides that may wait for a slot; beyond it opening one is QWENTTS_BUSY. 64.
  uint32_t queue;
  // Threads of the CPU; 0: one per core. Results do not depend on it. 0.
  uint32_t threads;
  // Positions, of all streams together, that a GPU keeps keys and values for at most; 0: what its memory holds. 0.
  uint64_t kv_positions;
  // The model's folder, as downloaded; NULL: the small one inside the library. NULL.
  const char *model;
  // "cpu", "cuda" or "cuda:N"; NULL: a GPU that this build has code for, else the CPU. NULL.
  const char *device;
  // How a GPU stores keys and values: "f32", or "bf16" for half the memory; NULL: "f32". NULL.
  const char *kv;
  // Of those positions, how many may hold what prompts begin with: an instruction, or the words and codes of a voice's
  // recording, which the next stream that begins the same then finds. 16 voices of 10 s take 1024. 0: none. 0. Since ABI 0.3.
  uint64_t prefix_positions;
} qwentts_engine_options;

// What a stream is opened with. Fill it with `qwentts_stream_options_init`, then change what is to be other.
typedef struct {
  // sizeof this struct, set by init.
  uint32_t struct_size;
  // Samples a second: 8000, 16000, 22050, 24000, 44100 or 48000. 24000.
  uint32_t sample_rate_hz;
  // One of qwentts_format. QWENTTS_F32.
  int32_t format;
  // One of qwentts_output. QWENTTS_SAMPLES.
  int32_t output;
  // The same seed and request give the same speech. 0.
  uint64_t seed;
  // A preset voice, in any case; NULL: the model's first, where it has some. NULL.
  const char *voice;
  // A language, in any case; NULL: the model tells. NULL.
  const char *language;
  // How to speak (CustomVoice 1.7B) or who speaks (VoiceDesign), in words. NULL.
  const char *instruct;
  // One of qwentts_layout. QWENTTS_DEFAULT.
  int32_t layout;
  // Frames of 80 ms at most. QWENTTS_DEFAULT.
  int32_t max_frames;
  // 0: the best score wins; 1: codes are drawn. Like all that follow up to subtalker_top_p QWENTTS_DEFAULT, the
  // checkpoint's setting.
  int32_t do_sample;
  // Only the k best scores; 0: all.
  int32_t top_k;
  // Scores are divided by it.
  float temperature;
  // Below 1, the least likely go.
  float top_p;
  // Against codes that were said.
  float repetition_penalty;
  // As do_sample, for the groups behind the first.
  int32_t subtalker_do_sample;
  // As top_k, for the groups behind the first.
  int32_t subtalker_top_k;
  // As temperature, for the groups behind the first.
  float subtalker_temperature;
  // As top_p, for the groups behind the first.
  float subtalker_top_p;
  // How much sound may wait for its reader before the speech waits for him; at least 80. 10000.
  uint32_t lead_ms;
  // What to do when live text has run dry: QWENTTS_DEFAULT waits, which is exact; else after so long the speech goes on
  // with padding, which the stats count. QWENTTS_DEFAULT.
  int32_t pad_after_ms;
  // Speech ends at so many frames, and those of the next field for each token of its text. 75.
  uint32_t cap_frames;
  // See cap_frames. 16.
  uint32_t cap_frames_per_token;
  // Not 0: control strings in the text are controls. 0.
  uint32_t special_tokens;
  // Frames that are delivered together, each 1 to 32; the last before a 0 repeats. 1, 2, 4, 8.
  uint32_t chunk_frames[QWENTTS_CHUNK_WIDTHS];
  // A voice of a recording, held by the caller until the stream is open; `voice` is NULL then. NULL. Since ABI 0.2.
  const qwentts_voice *cloned;
} qwentts_stream_options;

// Takes a stream's sound: the `user` that was given, samples in the stream's format and how many, QWENTTS_OK. The samples are
// the callback's until it returns. Answers one of qwentts_answer. The last call has no samples, n = 0, and how the stream
// ended: QWENTTS_END, QWENTTS_CANCELLED or an error, whose text qwentts_last_error has on this thread; its answer is
// ignored, and `user` is not used behind it. Must not throw, longjmp or end its thread.
typedef int32_t (*qwentts_callback)(void *user, const void *samples, size_t n_samples, qwentts_status status);

// Something that happened to a stream. Set its size by qwentts_event_init; a field that is not of the kind is 0.
typedef struct {
  // sizeof this struct, set by init.
  uint32_t struct_size;
  // One of qwentts_event_kind.
  int32_t kind;
  // Of a word: about the sample that it begins with, counted at the stream's rate from the beginning. An estimate, spread
  // over the text by its characters; no less than that of the word before.
  uint64_t sample;
  // Of a word: the byte of the stream's text, all pushes together, that it begins with.
  uint64_t text_byte;
  // Of the first sound: milliseconds since the first text.
  double after_ms;
  // Of the end: frames that had been made.
  uint64_t frames;
  // Of the end: one of qwentts_end.
  int32_t end;
  // Of a word: its length in the text, though `word` may have no room for all.
  uint32_t word_bytes;
  // Of a word: UTF-8, cut at a whole character to what fits, a zero behind it.
  char word[QWENTTS_WORD_BYTES];
} qwentts_event;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the ABI, major << 16 | minor. A program that was built with the header of another major must not go on.
// Any thread, before anything else; touches no device.
uint32_t qwentts_abi_version(void);

// The library's version, "major.minor.patch". Static; any thread; touches no device.
const char *qwentts_version(void);

// What this build can do, as a JSON object: version, abi, demo (whether the embedded model is in it), cuda (the kinds of GPU
// that it has code for). Static; any thread; touches no device.
const char *qwentts_build_info(void);

// A status by its name, "QWENTTS_OK"; "unknown" for a number that is none. Static; any thread.
const char *qwentts_status_name(int32_t status);

// The text of the last failure on the calling thread, UTF-8, "" before the first. A buffer of the thread, whose address
// stays; the next failure on this thread overwrites it, no success does.
const char *qwentts_last_error(void);

// Sets who hears the library, for the whole process; NULL or `QWENTTS_LOG_OFF`, and before the first call, nobody does.
// `level` is one of `qwentts_log_level`. Any thread. A hook that is running is not waited for, and one may still begin that
// was found before. A hook must call nothing of this library: what it would have to say is dropped.
qwentts_status qwentts_log_set(qwentts_log_fn hook,
                               void *user,
                               int32_t level);

// Opens a model and starts its thread. `options`: NULL is the embedded model with every default; its strings are copied.
// Writes the handle to *engine. Waits until the weights are where they are to be, which for a large model on a GPU is
// seconds. Any thread. An engine does not survive a fork: in the child its handle, and those of its streams, answer
// QWENTTS_UNSUPPORTED, and closing them does nothing.
qwentts_status qwentts_engine_open(const qwentts_engine_options *options,
                                   qwentts_engine **engine);

// Ends the engine and frees its handle, which must not be used again. What still speaks is cancelled: streams that outlive
// it answer QWENTTS_CANCELLED, and are still to be closed. Waits for the work under way, a frame at most. NULL is nothing.
// Any thread, also in a callback. Calls of other threads that are under way on it are ended, but for qwentts_voice_from_pcm,
// which makes its voice; none may begin.
void qwentts_engine_close(qwentts_engine *engine);

// Speaks a few frames that nobody hears, so that the first stream finds everything ready. Waits for them. Any thread.
qwentts_status qwentts_engine_warmup(const qwentts_engine *engine);

// QWENTTS_OK while streams can be opened; QWENTTS_DEVICE_LOST, with the reason in qwentts_last_error, once the device or
// the engine's thread has failed: close it and open another. Any thread; never waits.
qwentts_status qwentts_engine_health(const qwentts_engine *engine);

// What the engine is, as a JSON object: model, kind, device, voices, languages, takes_instruct, sample_rates_hz, frame_ms,
// codes_per_frame. Written to `json` with a zero behind it, if `capacity_bytes` is enough; else QWENTTS_INVALID_ARGUMENT.
// What it needs, the zero included, goes to *needed_bytes either way (it may be NULL); with json NULL and capacity_bytes 0
// that is all. Any thread; never waits.
qwentts_status qwentts_engine_info(const qwentts_engine *engine,
                                   char *json,
                                   size_t capacity_bytes,
                                   size_t *needed_bytes);

// How the engine is doing, as a JSON object: open (streams that have not ended), speaking (those that hold a slot), memory
// (bytes of a GPU, by part; null on the CPU). Written as qwentts_engine_info does; what it needs may grow between two
// calls, 1024 bytes are enough for all. Any thread; never waits.
qwentts_status qwentts_engine_stats(const qwentts_engine *engine,
                                    char *json,
                                    size_t capacity_bytes,
                                    size_t *needed_bytes);

// How many preset voices the model has; 0 where it has none, or for NULL. Any thread; never waits.
size_t qwentts_voice_count(const qwentts_engine *engine);

// The name of a preset voice, in order of the alphabet; NULL where there is none of that index. Lives as long as the
// engine's handle. Any thread; never waits.
const char *qwentts_voice_name(const qwentts_engine *engine, size_t index);

// Fills the options with their defaults. `struct_size` is sizeof *options as the caller was built; what a later library
// knows besides is not touched. Any thread.
qwentts_status qwentts_engine_options_init(qwentts_engine_options *options, uint32_t struct_size);

// Fills the options with their defaults. `struct_size` is sizeof *options as the caller was built; what a later library
// knows besides is not touched. Any thread.
qwentts_status qwentts_stream_options_init(qwentts_stream_options *options, uint32_t struct_size);

// Opens a stream whose text comes by qwentts_stream_push_text. `options`: NULL is every default; its strings are copied.
// Writes the handle to *stream. QWENTTS_BUSY where the engine has all that it takes. Any thread; never waits for the device.
qwentts_status qwentts_stream_open(const qwentts_engine *engine,
                                   const qwentts_stream_options *options,
                                   qwentts_stream **stream);

// Opens a stream that has all its text: `text_bytes` bytes of UTF-8, which are copied. Unlike qwentts_stream_open it takes
// either layout; all else is the same.
qwentts_status qwentts_speak(const qwentts_engine *engine,
                             const char *text,
                             size_t text_bytes,
                             const qwentts_stream_options *options,
                             qwentts_stream **stream);

// The next piece of the text: `text_bytes` bytes of UTF-8, cut anywhere, also inside a character; they are copied. A failure
// takes nothing of the piece. QWENTTS_END, or QWENTTS_CANCELLED: the speech has ended, nobody will say this. One thread at
// a time is what makes sense, more are safe; another may read. Never waits for the device.
qwentts_status qwentts_stream_push_text(qwentts_stream *stream,
                                        const char *text,
                                        size_t text_bytes);

// Has all the text so far spoken, as if it ended here: without it a word waits for the character behind it. Threads as
// qwentts_stream_push_text; never waits.
qwentts_status qwentts_stream_flush(qwentts_stream *stream);

// No more text will come; what is left is spoken to its end. Again is nothing. QWENTTS_INVALID_ARGUMENT where the text stops
// inside a character; it has ended all the same, without that character. Threads as qwentts_stream_push_text; never waits.
qwentts_status qwentts_stream_end_text(qwentts_stream *stream);

// Samples from where the last read stopped, mono, in the stream's format and rate: as many as are there and fit, one at
// least. `samples` is the caller's, with room for `capacity` samples. Waits up to `timeout_ms`: 0 not at all, -1 until there
// is something. QWENTTS_OK with *n_samples; QWENTTS_AGAIN, QWENTTS_END with 0; QWENTTS_CANCELLED. What was made before an
// error is read first, then every read gives the error, QWENTTS_DEVICE_LOST where it is the engine's. One thread at a time: a
// second one gets QWENTTS_BUSY at once. A cancel, and a close, end a read that waits.
qwentts_status qwentts_stream_read(qwentts_stream *stream,
                                   void *samples,
                                   size_t capacity,
                                   size_t *n_samples,
                                   int32_t timeout_ms);

// Frames from where the last read of frames stopped, of a stream whose output has them: QWENTTS_CODES_PER_FRAME codes each.
// `codes` is the caller's, with room for `capacity_frames` frames. All else as qwentts_stream_read.
qwentts_status qwentts_stream_read_frames(qwentts_stream *stream,
                                          uint16_t *codes,
                                          size_t capacity_frames,
                                          size_t *n_frames,
                                          int32_t timeout_ms);

// Has the stream's sound delivered to `callback` by a thread of the library, one for the stream and never the one that
// computes, so that it may take its time and call any entry. `user` is passed to it. One of callback or reads: fixed by the first
// of them, QWENTTS_INVALID_ARGUMENT behind it, and for a stream that delivers frames. The text may have come before. The last
// call (see qwentts_callback) comes for every stream, also one that is cancelled or closed, and then maybe after that call
// has returned.
qwentts_status qwentts_stream_set_callback(qwentts_stream *stream,
                                           qwentts_callback callback,
                                           void *user);

// Writes a handle for poll, epoll and their like to *handle (Linux: a file descriptor, an eventfd; elsewhere
// QWENTTS_UNSUPPORTED): readable while qwentts_stream_read would not say QWENTTS_AGAIN (of a stream that delivers frames
// alone, qwentts_stream_read_frames). Only to be waited on, neither read, written nor closed; it lives until
// qwentts_stream_close. The same one every time. Any thread, also while another reads; never waits.
qwentts_status qwentts_stream_event_handle(qwentts_stream *stream,
                                           int64_t *handle);

// Prepares an event to be filled: `struct_size` is sizeof *event. Any thread.
qwentts_status qwentts_event_init(qwentts_event *event, uint32_t struct_size);

// The next event of the stream: the first sound, then words as the reader comes to them, then the end. QWENTTS_OK with
// *event; QWENTTS_AGAIN: none now, ask again after a read; QWENTTS_END: the end was told. Of a stream with a callback, the callback
// is the reader. Any thread, also while another reads; each event is told once. Never waits.
qwentts_status qwentts_stream_next_event(qwentts_stream *stream,
                                         qwentts_event *event);

// How the stream went so far, as a JSON object: layout, text_tokens, missing_tokens, frames, pads, conformant, dry_ms,
// queued_ms, prefill_ms, first_sound_ms, talker_ms, predictor_ms, codec_ms, cancel_ms, end, and null for what is not known
// yet. Written as qwentts_engine_info does; 1024 bytes are enough. Any thread; never waits.
qwentts_status qwentts_stream_stats(const qwentts_stream *stream,
                                    char *json,
                                    size_t capacity_bytes,
                                    size_t *needed_bytes);

// Ends the stream: no read that begins once this has returned gives samples or frames, a read that waits returns, and no
// callback begins, but maybe one that has its samples already; it is not waited for, and the last one, with n = 0, still
// comes: `user` must live until then. A stream that was
// read to its end stays as it was. Any thread, also in the callback; again is nothing; never waits.
qwentts_status qwentts_stream_cancel(qwentts_stream *stream);

// Cancels the stream and frees its handle, which must not be used again: where another thread, or a callback, uses the handle,
// cancel, let it hear the end, then close. A call that is already under way ends well, a read with QWENTTS_CANCELLED. Remove
// an event handle from an epoll first. Never waits for the device nor for a callback, so that any thread may call it, an
// event loop's or the callback itself. NULL is nothing.
void qwentts_stream_close(qwentts_stream *stream);

// Makes a voice of a recording: mono samples of -1 to 1 at `sample_rate_hz`, 4000 to 192000, 0.25 to 60 s of them, which are
// the caller's and read until this returns. `transcript`: the words that are said in it, for a clone that speaks as the
// recording does; NULL: the sound of the speaker alone. `language`: what it speaks where a stream names none; NULL: the model
// tells. Writes the handle to *voice, which is to be released. Waits: computes where the engine does, some ms on a GPU,
// seconds on a CPU, and does not hold up streams that speak. QWENTTS_UNSUPPORTED where the model is no Base model, which
// alone have what it takes. Any thread. Since ABI 0.2.
qwentts_status qwentts_voice_from_pcm(const qwentts_engine *engine,
                                      const float *samples,
                                      size_t sample_count,
                                      uint32_t sample_rate_hz,
                                      const char *transcript,
                                      const char *language,
                                      qwentts_voice **voice);

// Loads a voice that qwentts_voice_save or `qwentts voice create` wrote; QWENTTS_BAD_MODEL where it was made with another
// model than the engine's, or is no voice. Writes the handle to *voice, which is to be released. Reads the file, and once for
// an engine a few megabytes of its model. Any thread; never waits for the device. Since ABI 0.2.
qwentts_status qwentts_voice_load(const qwentts_engine *engine,
                                  const char *path,
                                  qwentts_voice **voice);

// Writes a voice to a file, which any engine with the same model can load. Any thread. Since ABI 0.2.
qwentts_status qwentts_voice_save(const qwentts_voice *voice, const char *path);

// Holds a voice once more: each needs a release of its own. NULL is nothing. Any thread; never waits. Since ABI 0.2.
void qwentts_voice_retain(const qwentts_voice *voice);

// Gives a voice up, which must not be used again by whoever held it. Streams that speak with it go on, and it does not need the
// engine that it came from. NULL is nothing. Any thread; never waits. Since ABI 0.2.
void qwentts_voice_release(qwentts_voice *voice);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* QWENTTS_H */
