//! The stream's handle: text in, sound and codes out, by reads or by a callback from a thread of ours.

use super::engine::{lost, qwentts_engine};
use super::options::{Sized32, checked_size, give, init};
use super::qwentts_status::*;
use super::{
    Fault, Handle, User, behind_boundary, from_handle, give_json, guard, locked, log, note, out, qwentts_format,
    qwentts_log_level, qwentts_status, qwentts_stream_options, take, take_handle, to_handle,
};
use crate::engine::{AudioReader, Canceller, Ended, Engine, Event, Events, Read, Stream, TextWriter, Wait};
use crate::error::{Error, Result};
use crate::frame::{End, FRAME_TIME, Frame, GROUPS};
use crate::request::{Output, Request};
use std::ffi::{c_char, c_void};
use std::mem::offset_of;
#[cfg(target_os = "linux")]
use std::sync::{Arc, OnceLock};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

/// Codes in a frame.
pub const QWENTTS_CODES_PER_FRAME: usize = 16;
const _: () = assert!(QWENTTS_CODES_PER_FRAME == GROUPS);

/// Room for a word in qwentts_event, the zero included.
pub const QWENTTS_WORD_BYTES: usize = 64;

/// What a callback answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum qwentts_answer {
    /// Go on.
    QWENTTS_CONTINUE = 0x51_00,
    /// Cancel the stream. So does every other value.
    QWENTTS_STOP = 0x51_01,
}

/// What an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum qwentts_event_kind {
    /// The first sound (or frame, where only frames are made) can be read: after_ms.
    QWENTTS_EVENT_FIRST_SOUND = 1,
    /// The reader has come to a word: word, word_bytes, text_byte, and sample, which is an estimate.
    QWENTTS_EVENT_WORD = 2,
    /// All has been read: end, frames.
    QWENTTS_EVENT_END = 3,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum qwentts_end {
    /// It has not.
    QWENTTS_END_NONE = 0,
    /// The model had no more to say.
    QWENTTS_END_EOS = 1,
    /// It reached max_frames, the model's positions, or what its text can need (cap_frames).
    QWENTTS_END_LENGTH = 2,
    /// It was cancelled, or its engine closed.
    QWENTTS_END_CANCELLED = 3,
    /// It had ceased to be speech: the same sound for 3.2 s.
    QWENTTS_END_DEGENERATE = 4,
    /// An error ended it.
    QWENTTS_END_FAILED = 5,
}

/// Something that happened to a stream. Set its size by qwentts_event_init; a field that is not of the kind is 0.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qwentts_event {
    /// sizeof this struct, set by init.
    pub struct_size: u32,
    /// One of qwentts_event_kind.
    pub kind: i32,
    /// Of a word: about the sample that it begins with, counted at the stream's rate from the beginning. An estimate, spread
    /// over the text by its characters; no less than that of the word before.
    pub sample: u64,
    /// Of a word: the byte of the stream's text, all pushes together, that it begins with.
    pub text_byte: u64,
    /// Of the first sound: milliseconds since the first text.
    pub after_ms: f64,
    /// Of the end: frames that had been made.
    pub frames: u64,
    /// Of the end: one of qwentts_end.
    pub end: i32,
    /// Of a word: its length in the text, though `word` may have no room for all.
    pub word_bytes: u32,
    /// Of a word: UTF-8, cut at a whole character to what fits, a zero behind it.
    pub word: [c_char; QWENTTS_WORD_BYTES],
}

// SAFETY: it is.
unsafe impl Sized32 for qwentts_event {
    const FIRST_BYTES: usize = offset_of!(Self, word) + QWENTTS_WORD_BYTES;
    fn fresh() -> Self {
        Self {
            struct_size: size_of::<Self>() as u32,
            kind: 0,
            sample: 0,
            text_byte: 0,
            after_ms: 0.0,
            frames: 0,
            end: 0,
            word_bytes: 0,
            word: [0; QWENTTS_WORD_BYTES],
        }
    }
}

/// Takes a stream's sound: the `user` that was given, samples in the stream's format and how many, QWENTTS_OK. The samples are
/// the callback's until it returns. Answers one of qwentts_answer. The last call has no samples, n = 0, and how the stream
/// ended: QWENTTS_END, QWENTTS_CANCELLED or an error, whose text qwentts_last_error has on this thread; its answer is
/// ignored, and `user` is not used behind it. Must not throw, longjmp or end its thread.
pub type qwentts_callback = Option<
    unsafe extern "C" fn(user: *mut c_void, samples: *const c_void, n_samples: usize, status: qwentts_status) -> i32,
>;

/// One utterance. One thread may give it text while another reads and any other cancels.
pub struct qwentts_stream {
    process: u32,
    /// Knows why a stream failed: by itself, or with its engine.
    engine: Engine,
    writer: Mutex<TextWriter>,
    reader: Mutex<Reader>,
    events: Mutex<(Events, bool)>,
    canceller: Canceller,
    format: qwentts_format,
    output: Output,
    /// Frames of 80 ms in samples.
    samples_per_frame: usize,
    /// Whether it has a callback. Held by who gives it one or an event handle, which exclude each other; apart from the reader,
    /// since who asks for a handle is no reader.
    called_back: Mutex<bool>,
    #[cfg(target_os = "linux")]
    event_handle: OnceLock<Arc<std::os::fd::OwnedFd>>,
}

/// By whom a stream is read; decided once.
enum Reader {
    /// By nobody yet.
    Fresh(AudioReader),
    /// By reads.
    Pull(AudioReader),
    /// By a delivery thread, which has it.
    Callback,
}

impl Reader {
    /// The reader of a stream that nobody has read yet.
    fn take_fresh(&mut self) -> Option<AudioReader> {
        match std::mem::replace(self, Reader::Callback) {
            Reader::Fresh(reader) => Some(reader),
            decided => {
                *self = decided;
                None
            }
        }
    }
}

impl Handle for qwentts_stream {
    const NAME: &'static str = "stream";
    fn process(&self) -> u32 {
        self.process
    }
}

/// Opens a stream whose text comes by qwentts_stream_push_text. `options`: NULL is every default; its strings are copied.
/// Writes the handle to *stream. QWENTTS_BUSY where the engine has all that it takes. Any thread; never waits for the device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_stream_open(
    engine: *const qwentts_engine,
    options: *const qwentts_stream_options,
    stream: *mut *mut qwentts_stream,
) -> qwentts_status {
    // SAFETY: as the caller promises.
    guard(|| unsafe { open(engine, options, stream, |engine, request| engine.stream(request)) })
}

/// Opens a stream that has all its text: `text_bytes` bytes of UTF-8, which are copied. Unlike qwentts_stream_open it takes
/// either layout; all else is the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_speak(
    engine: *const qwentts_engine,
    text: *const c_char,
    text_bytes: usize,
    options: *const qwentts_stream_options,
    stream: *mut *mut qwentts_stream,
) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let text = std::str::from_utf8(unsafe { bytes(text, text_bytes) }?)
            .map_err(|e| Fault::argument(format!("text: is not UTF-8 from byte {} on", e.valid_up_to())))?;
        // SAFETY: as above.
        unsafe { open(engine, options, stream, |engine, request| engine.speak(text, request)) }
    })
}

/// # Safety
/// What the caller of an entry that opens promises.
unsafe fn open(
    engine: *const qwentts_engine,
    options: *const qwentts_stream_options,
    stream: *mut *mut qwentts_stream,
    begin: impl FnOnce(&Engine, &Request) -> Result<Stream>,
) -> std::result::Result<qwentts_status, Fault> {
    // SAFETY: as the caller promises: NULL, or what they say they are.
    let (engine, to, options) = unsafe { (from_handle(engine)?, out(stream, "stream")?, take(options, "options")?) };
    let format = options.checked_format()?;
    // SAFETY: as above.
    let request = unsafe { options.read(&engine.engine) }?;
    let engine = &engine.engine;
    let opened = begin(engine, &request).map_err(|error| match engine.health() {
        Err(why) => lost(why),
        Ok(()) => error.into(),
    })?;
    log(qwentts_log_level::QWENTTS_LOG_DEBUG, || format!("stream: open, {:?}", request.voice));
    let (writer, reader) = opened.split();
    *to = to_handle(qwentts_stream {
        process: std::process::id(),
        engine: engine.clone(),
        events: Mutex::new((reader.events(), false)),
        canceller: reader.canceller(),
        writer: Mutex::new(writer),
        reader: Mutex::new(Reader::Fresh(reader)),
        format,
        output: request.delivery.output,
        samples_per_frame: request.delivery.sample_rate_hz as usize * FRAME_TIME.as_millis() as usize / 1000,
        called_back: Mutex::new(false),
        #[cfg(target_os = "linux")]
        event_handle: OnceLock::new(),
    });
    Ok(QWENTTS_OK)
}

/// Why a stream's call failed: with its engine, where that is lost.
fn of_stream(engine: &Engine, error: Error) -> Fault {
    match (&error, engine.health()) {
        (Error::Compute { .. } | Error::Ended { end: End::Failed }, Err(why)) if !matches!(why, Error::Closed) => {
            lost(why)
        }
        _ => error.into(),
    }
}

/// # Safety
/// `text` is NULL or has so many bytes, for `'a`.
unsafe fn bytes<'a>(text: *const c_char, count: usize) -> std::result::Result<&'a [u8], Fault> {
    match text.is_null() {
        true if count > 0 => Err(Fault::null("text")),
        true => Ok(&[]),
        false if count > isize::MAX as usize => {
            Err(Fault::argument(format!("text_bytes: is {count}; is it a failure's -1?")))
        }
        // SAFETY: as the caller promises.
        false => Ok(unsafe { std::slice::from_raw_parts(text.cast(), count) }),
    }
}

/// The next piece of the text: `text_bytes` bytes of UTF-8, cut anywhere, also inside a character; they are copied. A failure
/// takes nothing of the piece. QWENTTS_END, or QWENTTS_CANCELLED: the speech has ended, nobody will say this. One thread at
/// a time is what makes sense, more are safe; another may read. Never waits for the device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_stream_push_text(
    stream: *mut qwentts_stream,
    text: *const c_char,
    text_bytes: usize,
) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let (stream, text) = unsafe { (from_handle(stream)?, bytes(text, text_bytes)?) };
        locked(&stream.writer).push(text).map_err(|error| of_stream(&stream.engine, error))?;
        Ok(QWENTTS_OK)
    })
}

/// Has all the text so far spoken, as if it ended here: without it a word waits for the character behind it. Threads as
/// qwentts_stream_push_text; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_stream_flush(stream: *mut qwentts_stream) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let stream = unsafe { from_handle(stream) }?;
        locked(&stream.writer).flush()?;
        Ok(QWENTTS_OK)
    })
}

/// No more text will come; what is left is spoken to its end. Again is nothing. QWENTTS_INVALID_ARGUMENT where the text stops
/// inside a character; it has ended all the same, without that character. Threads as qwentts_stream_push_text; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_stream_end_text(stream: *mut qwentts_stream) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let stream = unsafe { from_handle(stream) }?;
        locked(&stream.writer).end()?;
        Ok(QWENTTS_OK)
    })
}

/// Samples from where the last read stopped, mono, in the stream's format and rate: as many as are there and fit, one at
/// least. `samples` is the caller's, with room for `capacity` samples. Waits up to `timeout_ms`: 0 not at all, -1 until there
/// is something. QWENTTS_OK with *n_samples; QWENTTS_AGAIN, QWENTTS_END with 0; QWENTTS_CANCELLED. What was made before an
/// error is read first, then every read gives the error, QWENTTS_DEVICE_LOST where it is the engine's. One thread at a time: a
/// second one gets QWENTTS_BUSY at once. A cancel, and a close, end a read that waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_stream_read(
    stream: *mut qwentts_stream,
    samples: *mut c_void,
    capacity: usize,
    n_samples: *mut usize,
    timeout_ms: i32,
) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let (stream, n) = unsafe { (from_handle(stream)?, out(n_samples, "n_samples")?) };
        let wait = wait(timeout_ms)?;
        stream.read(n, |reader| match stream.format {
            // SAFETY: as the caller promises, there is room for so many samples of the format.
            qwentts_format::QWENTTS_F32 => Ok(reader.read(unsafe { room::<f32>(samples, capacity, "samples") }?, wait)),
            // SAFETY: as above.
            qwentts_format::QWENTTS_I16 => Ok(reader.read(unsafe { room::<i16>(samples, capacity, "samples") }?, wait)),
        })
    })
}

/// Frames from where the last read of frames stopped, of a stream whose output has them: QWENTTS_CODES_PER_FRAME codes each.
/// `codes` is the caller's, with room for `capacity_frames` frames. All else as qwentts_stream_read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_stream_read_frames(
    stream: *mut qwentts_stream,
    codes: *mut u16,
    capacity_frames: usize,
    n_frames: *mut usize,
    timeout_ms: i32,
) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let (stream, n) = unsafe { (from_handle(stream)?, out(n_frames, "n_frames")?) };
        let wait = wait(timeout_ms)?;
        // SAFETY: as the caller promises, there is room for so many frames.
        let codes = unsafe { room::<Frame>(codes.cast(), capacity_frames, "codes") }?;
        stream.read(n, |reader| Ok(reader.read_frames(codes, wait)))
    })
}

/// # Safety
/// `to` is NULL or has room for `count` of `T`, any bytes of which are a value, and nobody else has it for `'a`.
unsafe fn room<'a, T>(to: *mut c_void, count: usize, what: &str) -> std::result::Result<&'a mut [T], Fault> {
    // SAFETY: as the caller promises.
    unsafe { out(to.cast::<T>(), what) }?;
    match count.checked_mul(size_of::<T>()).is_some_and(|bytes| isize::try_from(bytes).is_ok()) {
        // SAFETY: as above, and it is no more than there can be.
        true => Ok(unsafe { std::slice::from_raw_parts_mut(to.cast(), count) }),
        false => Err(Fault::argument(format!("capacity: is {count}, more than there can be"))),
    }
}

fn wait(timeout_ms: i32) -> std::result::Result<Wait, Fault> {
    match timeout_ms {
        -1 => Ok(Wait::Forever),
        0 => Ok(Wait::No),
        1.. => Ok(Wait::AtMost(Duration::from_millis(timeout_ms as u64))),
        _ => Err(Fault::argument(format!("timeout_ms: is {timeout_ms}; expected -1, 0 or more"))),
    }
}

impl qwentts_stream {
    /// The reader, unless somebody else has it. What a panic left is whole.
    fn reader(&self) -> std::result::Result<MutexGuard<'_, Reader>, Fault> {
        match self.reader.try_lock() {
            Ok(reader) => Ok(reader),
            Err(TryLockError::Poisoned(reader)) => Ok(reader.into_inner()),
            Err(TryLockError::WouldBlock) => Err(second_reader()),
        }
    }

    /// A read, unless somebody else reads.
    fn read(
        &self,
        n: &mut usize,
        read: impl FnOnce(&mut AudioReader) -> std::result::Result<Result<Read<usize>>, Fault>,
    ) -> std::result::Result<qwentts_status, Fault> {
        let mut by = self.reader()?;
        if let Some(reader) = by.take_fresh() {
            *by = Reader::Pull(reader);
        }
        let Reader::Pull(reader) = &mut *by else {
            return Err(Fault::argument("stream: has a callback, which takes what there is"));
        };
        let (count, status) = match read(reader)?.map_err(|error| of_stream(&self.engine, error))? {
            Read::Got(count) => (count, QWENTTS_OK),
            Read::NotYet => (0, QWENTTS_AGAIN),
            Read::Ended(ended) => (0, ended_as(ended)?),
        };
        *n = count;
        Ok(status)
    }
}

fn second_reader() -> Fault {
    Fault::new(QWENTTS_BUSY, "stream: another thread is in a read of it")
}

/// What a reader hears at the end.
fn ended_as(ended: Ended) -> std::result::Result<qwentts_status, Fault> {
    match ended.end {
        End::Cancelled => Err(Fault::new(QWENTTS_CANCELLED, "stream: was cancelled")),
        _ => Ok(QWENTTS_END),
    }
}

/// Has the stream's sound delivered to `callback` by a thread of the library, one for the stream and never the one that
/// computes, so that it may take its time and call any entry. `user` is passed to it. One of callback or reads: fixed by the first
/// of them, QWENTTS_INVALID_ARGUMENT behind it, and for a stream that delivers frames. The text may have come before. The last
/// call (see qwentts_callback) comes for every stream, also one that is cancelled or closed, and then maybe after that call
/// has returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_stream_set_callback(
    stream: *mut qwentts_stream,
    callback: qwentts_callback,
    user: *mut c_void,
) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let stream = unsafe { from_handle(stream) }?;
        let call = callback.ok_or_else(|| Fault::null("callback"))?;
        if stream.output != Output::Samples {
            return Err(Fault::argument("output: has frames; a callback takes samples alone"));
        }
        let mut by = stream.reader()?;
        let mut called_back = locked(&stream.called_back);
        #[cfg(target_os = "linux")]
        if stream.event_handle.get().is_some() {
            return Err(Fault::argument("stream: has an event handle, which is for reads"));
        }
        let Some(reader) = by.take_fresh() else {
            return Err(Fault::argument("stream: is read already, or has a callback"));
        };
        *called_back = true;
        let delivery = Delivery { engine: stream.engine.clone(), reader, call, user: User(user) };
        // The longest chunk of the usual ramp in one call.
        let (format, room) = (stream.format, stream.samples_per_frame * 8);
        let thread = std::thread::Builder::new().name("qwentts-deliver".to_owned());
        let spawned = thread.spawn(move || match format {
            qwentts_format::QWENTTS_F32 => delivery.run::<f32>(room),
            qwentts_format::QWENTTS_I16 => delivery.run::<i16>(room),
        });
        spawned.map_err(|e| Fault::new(QWENTTS_INTERNAL, format!("threads: {e}; the stream is cancelled")))?;
        Ok(QWENTTS_OK)
    })
}

/// What a delivery thread has: the pull API, and whom to give to.
struct Delivery {
    engine: Engine,
    reader: AudioReader,
    call: unsafe extern "C" fn(*mut c_void, *const c_void, usize, qwentts_status) -> i32,
    user: User,
}

impl Delivery {
    /// Delivers until the end, and says it.
    fn run<S: crate::frame::Sample>(mut self, room: usize) {
        let canceller = self.reader.canceller();
        let loop_over_pull = || {
            let mut samples = vec![S::default(); room];
            loop {
                match self.reader.read(&mut samples, Wait::Forever).map_err(|error| of_stream(&self.engine, error))? {
                    // A cancel since the read is heard, but for one that comes right now.
                    Read::Got(_) if canceller.is_cancelled() => {}
                    Read::Got(n) => {
                        let samples = samples.as_ptr().cast();
                        // SAFETY: the caller's function, his pointer, and samples that live until it returns.
                        let answer = unsafe { (self.call)(self.user.0, samples, n, QWENTTS_OK) };
                        if answer != qwentts_answer::QWENTTS_CONTINUE as i32 {
                            canceller.cancel();
                        }
                    }
                    Read::NotYet => {}
                    Read::Ended(ended) => return ended_as(ended),
                }
            }
        };
        let status = match behind_boundary(loop_over_pull) {
            Ok(Ok(status)) => status,
            Ok(Err(fault)) => {
                note(&fault);
                fault.status
            }
            Err(panic) => {
                let fault = Fault::of_panic(&*panic);
                note(&fault);
                fault.status
            }
        };
        // SAFETY: as above, without samples.
        unsafe { (self.call)(self.user.0, std::ptr::null(), 0, status) };
    }
}

/// Writes a handle for poll, epoll and their like to *handle (Linux: a file descriptor, an eventfd; elsewhere
/// QWENTTS_UNSUPPORTED): readable while qwentts_stream_read would not say QWENTTS_AGAIN (of a stream that delivers frames
/// alone, qwentts_stream_read_frames). Only to be waited on, neither read, written nor closed; it lives until
/// qwentts_stream_close. The same one every time. Any thread, also while another reads; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_stream_event_handle(stream: *mut qwentts_stream, handle: *mut i64) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let (stream, to) = unsafe { (from_handle(stream)?, out(handle, "handle")?) };
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd;
            if stream.event_handle.get().is_none() {
                let called_back = locked(&stream.called_back);
                if *called_back {
                    return Err(Fault::argument("stream: has a callback, which takes what there is"));
                }
                let _ = stream.event_handle.set(locked(&stream.events).0.event_handle()?);
            }
            let none = || Fault::new(QWENTTS_INTERNAL, "event handle: is not there");
            *to = stream.event_handle.get().ok_or_else(none)?.as_raw_fd().into();
            Ok(QWENTTS_OK)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (stream, to);
            Err(Fault::new(QWENTTS_UNSUPPORTED, "event handle: only on Linux so far; read with a time-out"))
        }
    })
}

/// Prepares an event to be filled: `struct_size` is sizeof *event. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_event_init(event: *mut qwentts_event, struct_size: u32) -> qwentts_status {
    // SAFETY: as the caller promises, it has so many bytes.
    guard(|| unsafe { init(event, struct_size, "event") })
}

/// The next event of the stream: the first sound, then words as the reader comes to them, then the end. QWENTTS_OK with
/// *event; QWENTTS_AGAIN: none now, ask again after a read; QWENTTS_END: the end was told. Of a stream with a callback, the callback
/// is the reader. Any thread, also while another reads; each event is told once. Never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_stream_next_event(
    stream: *mut qwentts_stream,
    event: *mut qwentts_event,
) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises; its size is read and nothing else, since it may be of another version.
        let (stream, struct_size) = unsafe { (from_handle(stream)?, out(event.cast::<u32>(), "event")?) };
        let struct_size = *struct_size;
        checked_size::<qwentts_event>(struct_size, "event")?;
        let (events, ended) = &mut *locked(&stream.events);
        let mut told = qwentts_event::fresh();
        match events.next_event() {
            Read::NotYet => return Ok(QWENTTS_AGAIN),
            Read::Ended(_) if *ended => return Ok(QWENTTS_END),
            Read::Ended(Ended { end, frame }) => {
                *ended = true;
                told.kind = qwentts_event_kind::QWENTTS_EVENT_END as i32;
                told.frames = frame as u64;
                told.end = match end {
                    End::Eos | End::Forced => qwentts_end::QWENTTS_END_EOS,
                    End::Length => qwentts_end::QWENTTS_END_LENGTH,
                    End::Cancelled => qwentts_end::QWENTTS_END_CANCELLED,
                    End::Degenerate => qwentts_end::QWENTTS_END_DEGENERATE,
                    End::Failed => qwentts_end::QWENTTS_END_FAILED,
                } as i32;
            }
            Read::Got(Event::FirstSound { after_ms }) => {
                told.kind = qwentts_event_kind::QWENTTS_EVENT_FIRST_SOUND as i32;
                told.after_ms = after_ms;
            }
            Read::Got(Event::Word(mark)) => {
                told.kind = qwentts_event_kind::QWENTTS_EVENT_WORD as i32;
                (told.sample, told.text_byte) = (mark.sample as u64, mark.text_byte as u64);
                told.word_bytes = mark.word.len() as u32;
                let fits = mark.word.floor_char_boundary(QWENTTS_WORD_BYTES - 1);
                told.word.iter_mut().zip(mark.word[..fits].bytes()).for_each(|(to, byte)| *to = byte as c_char);
            }
        }
        // SAFETY: as the caller promises, it has as many bytes as it says.
        unsafe { give(&told, event, struct_size) };
        Ok(QWENTTS_OK)
    })
}

/// How the stream went so far, as a JSON object: layout, text_tokens, missing_tokens, frames, pads, conformant, dry_ms,
/// queued_ms, prefill_ms, first_sound_ms, talker_ms, predictor_ms, codec_ms, cancel_ms, end, and null for what is not known
/// yet. Written as qwentts_engine_info does; 1024 bytes are enough. Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_stream_stats(
    stream: *const qwentts_stream,
    json: *mut c_char,
    capacity_bytes: usize,
    needed_bytes: *mut usize,
) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let stats = locked(&unsafe { from_handle(stream) }?.writer).stats();
        let stats = serde_json::json!({
            "layout": stats.layout.name(),
            "text_tokens": stats.text_tokens,
            "missing_tokens": stats.missing_tokens,
            "frames": stats.frames,
            "pads": stats.pads,
            "conformant": stats.conformant(),
            "dry_ms": stats.dry_ms,
            "queued_ms": stats.queued_ms,
            "prefill_ms": stats.prefill_ms,
            "first_sound_ms": stats.first_sound_ms,
            "talker_ms": stats.talker_ms,
            "predictor_ms": stats.predictor_ms,
            "codec_ms": stats.codec_ms,
            "cancel_ms": stats.cancel_ms,
            "end": stats.ended.map(|ended| ended.end.name()),
        });
        // SAFETY: as the caller promises.
        unsafe { give_json(&stats, json, capacity_bytes, needed_bytes) }
    })
}

/// Ends the stream: no read that begins once this has returned gives samples or frames, a read that waits returns, and no
/// callback begins, but maybe one that has its samples already; it is not waited for, and the last one, with n = 0, still
/// comes: `user` must live until then. A stream that was
/// read to its end stays as it was. Any thread, also in the callback; again is nothing; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_stream_cancel(stream: *mut qwentts_stream) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises.
        unsafe { from_handle(stream) }?.canceller.cancel();
        Ok(QWENTTS_OK)
    })
}

/// Cancels the stream and frees its handle, which must not be used again: where another thread, or a callback, uses the handle,
/// cancel, let it hear the end, then close. A call that is already under way ends well, a read with QWENTTS_CANCELLED. Remove
/// an event handle from an epoll first. Never waits for the device nor for a callback, so that any thread may call it, an
/// event loop's or the callback itself. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_stream_close(stream: *mut qwentts_stream) {
    guard(|| {
        // SAFETY: as the caller promises, NULL or a handle that is used no more.
        if let Some(stream) = unsafe { take_handle(stream) }? {
            stream.canceller.cancel();
        }
        Ok(QWENTTS_OK)
    });
}
