// qwentts for C++17: handles that close themselves, errors as exceptions, a range of chunks. One header over qwentts.h.
#pragma once
#include <qwentts.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace qwentts {

// A call that failed; what() is the library's own text.
struct Error : std::runtime_error {
    qwentts_status status;
    explicit Error(qwentts_status status) : std::runtime_error(qwentts_last_error()), status(status) {}
};

// Failures are thrown; END and AGAIN are states.
inline qwentts_status checked(qwentts_status status) {
    if (status < 0) throw Error(status);
    return status;
}

struct EngineOptions : qwentts_engine_options {
    EngineOptions() { checked(qwentts_engine_options_init(this, sizeof(qwentts_engine_options))); }
};
// The samples are float here: leave `format` as it is.
struct StreamOptions : qwentts_stream_options {
    StreamOptions() { checked(qwentts_stream_options_init(this, sizeof(qwentts_stream_options))); }
};

template <class T, void (*close)(T*)>
struct Closer {
    void operator()(T* handle) const { close(handle); }
};
using Samples = std::vector<float>;

// One utterance. Closing it cancels it.
class Stream {
  public:
    explicit Stream(qwentts_stream* handle) : handle_(handle) {}
    qwentts_stream* get() const { return handle_.get(); }
    void push(std::string_view text) { checked(qwentts_stream_push_text(get(), text.data(), text.size())); }
    void flush() { checked(qwentts_stream_flush(get())); }
    void end_text() { checked(qwentts_stream_end_text(get())); }
    void cancel() { checked(qwentts_stream_cancel(get())); }
    // Up to `most` samples, at least one; none once it has ended, or where none came within the time (-1: waits).
    Samples read(std::size_t most = 15360, int timeout_ms = -1) {
        Samples samples(most);
        std::size_t n = 0;
        checked(qwentts_stream_read(get(), samples.data(), most, &n, timeout_ms));
        samples.resize(n);
        return samples;
    }

    // for (const qwentts::Samples& chunk : stream) ...
    class iterator {
      public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Samples;
        using difference_type = std::ptrdiff_t;
        using pointer = const Samples*;
        using reference = const Samples&;
        iterator() = default;
        explicit iterator(Stream* stream) : stream_(stream) { ++*this; }
        reference operator*() const { return chunk_; }
        pointer operator->() const { return &chunk_; }
        iterator& operator++() {
            chunk_ = stream_->read();
            if (chunk_.empty()) stream_ = nullptr;
            return *this;
        }
        void operator++(int) { ++*this; }
        bool operator==(const iterator& other) const { return stream_ == other.stream_; }
        bool operator!=(const iterator& other) const { return !(*this == other); }

      private:
        Stream* stream_ = nullptr;
        Samples chunk_;
    };
    iterator begin() { return iterator(this); }
    iterator end() const { return {}; }

  private:
    std::unique_ptr<qwentts_stream, Closer<qwentts_stream, qwentts_stream_close>> handle_;
};

// A voice of a recording: options.cloned = voice.get(). Threads and streams may share it; streams that speak with it go on
// without it.
class Voice {
  public:
    explicit Voice(qwentts_voice* handle) : handle_(handle) {}
    const qwentts_voice* get() const { return handle_.get(); }
    void save(const char* path) const { checked(qwentts_voice_save(get(), path)); }

  private:
    std::unique_ptr<qwentts_voice, Closer<qwentts_voice, qwentts_voice_release>> handle_;
};

// A model on one device. Threads may share it.
class Engine {
  public:
    explicit Engine(const qwentts_engine_options& options = EngineOptions()) {
        qwentts_engine* handle = nullptr;
        checked(qwentts_engine_open(&options, &handle));
        handle_.reset(handle);
    }
    qwentts_engine* get() const { return handle_.get(); }
    void warm_up() { checked(qwentts_engine_warmup(get())); }
    // Speech whose text comes by push.
    Stream stream(const qwentts_stream_options& options = StreamOptions()) {
        qwentts_stream* stream = nullptr;
        checked(qwentts_stream_open(get(), &options, &stream));
        return Stream(stream);
    }
    Stream speak(std::string_view text, const qwentts_stream_options& options = StreamOptions()) {
        qwentts_stream* stream = nullptr;
        checked(qwentts_speak(get(), text.data(), text.size(), &options, &stream));
        return Stream(stream);
    }
    // A voice of mono samples; without a transcript of their words it has the speaker's sound alone.
    Voice clone(const Samples& samples, std::uint32_t rate_hz, const char* transcript = nullptr, const char* language = nullptr) {
        qwentts_voice* voice = nullptr;
        checked(qwentts_voice_from_pcm(get(), samples.data(), samples.size(), rate_hz, transcript, language, &voice));
        return Voice(voice);
    }
    Voice load_voice(const char* path) {
        qwentts_voice* voice = nullptr;
        checked(qwentts_voice_load(get(), path, &voice));
        return Voice(voice);
    }

  private:
    std::unique_ptr<qwentts_engine, Closer<qwentts_engine, qwentts_engine_close>> handle_;
};

}  // namespace qwentts
