//! The C ABI (`include/qwentts.h`, which cbindgen makes of this folder): the only place that knows C. It uses the public
//! Rust face and nothing inside it, and its types wear their C names, so that one search finds both sides.
//!
//! Every entry stands behind one guard (`guard`), which turns an error into a status with its text in a buffer of the
//! thread, and a panic into `QWENTTS_INTERNAL`. Handles are counted, so that a close frees nothing under a call that is
//! under way, and know their process, so that a fork is answered and not undefined. What a caller must keep to (a handle is
//! a handle, a buffer is as long as he says) is written in the comment of each entry; it is what makes the `unsafe` here
//! sound.
#![allow(unsafe_code)] // foreign pointers
#![allow(non_camel_case_types)] // C names
#![allow(dead_code)] // values that C gives or takes, and Rust does not

mod engine;
mod options;
mod stream;
mod voice;

use crate::error::Error;
use crate::frame::End;
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError};

use engine::qwentts_engine;
use options::{qwentts_engine_options, qwentts_format, qwentts_stream_options, take};
use voice::qwentts_voice;

/// Grows when something that was promised changes; the library's soname has it.
pub const QWENTTS_ABI_MAJOR: u32 = 0;
/// Grows when something comes that was not there: tests/c/symbols.txt and tests/c/layout.c have what came with which.
pub const QWENTTS_ABI_MINOR: u32 = 3;

/// What a call came to. Zero is done, positive is a state, negative a failure whose text `qwentts_last_error` has. Where a
/// call fails, what it would have written is left as it was, unless its comment says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum qwentts_status {
    /// Done.
    QWENTTS_OK = 0,
    /// The stream has ended by itself and all of it has been read.
    QWENTTS_END = 1,
    /// Nothing within the time; ask again.
    QWENTTS_AGAIN = 2,
    /// The stream was cancelled, or its engine closed.
    QWENTTS_CANCELLED = -1,
    /// A NULL, a value or a text that cannot be; the error names it and says what can.
    QWENTTS_INVALID_ARGUMENT = -2,
    /// This build, this machine or this process cannot do it.
    QWENTTS_UNSUPPORTED = -3,
    /// There is no such file or folder.
    QWENTTS_NOT_FOUND = -4,
    /// The files of the model, or of a voice, do not hold what they must, or cannot be read or written.
    QWENTTS_BAD_MODEL = -5,
    /// The device's memory is used up.
    QWENTTS_OUT_OF_MEMORY = -6,
    /// The device's driver refused a call.
    QWENTTS_DEVICE = -7,
    /// The engine's device has failed: no stream of it will speak again.
    QWENTTS_DEVICE_LOST = -8,
    /// The engine has all the streams that it takes, or another thread is in a read of this stream.
    QWENTTS_BUSY = -9,
    /// A fault of the library.
    QWENTTS_INTERNAL = -10,
}
use qwentts_status::*;

/// How much the log hook hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum qwentts_log_level {
    /// Nothing.
    QWENTTS_LOG_OFF = 0,
    /// Faults of the library.
    QWENTTS_LOG_ERROR = 1,
    /// Engines that open and close.
    QWENTTS_LOG_INFO = 2,
    /// Every call that fails, every stream that opens.
    QWENTTS_LOG_DEBUG = 3,
}

/// Hears what the library has to say: the `user` of `qwentts_log_set`, one of `qwentts_log_level`, a line without a newline.
/// The line is the hook's until it returns. It may be called by any thread, and by several at once.
pub type qwentts_log_fn = Option<unsafe extern "C" fn(user: *mut c_void, level: i32, line: *const c_char)>;

/// The version of the ABI, major << 16 | minor. A program that was built with the header of another major must not go on.
/// Any thread, before anything else; touches no device.
#[unsafe(no_mangle)]
pub extern "C" fn qwentts_abi_version() -> u32 {
    QWENTTS_ABI_MAJOR << 16 | QWENTTS_ABI_MINOR
}

/// The library's version, "major.minor.patch". Static; any thread; touches no device.
#[unsafe(no_mangle)]
pub extern "C" fn qwentts_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// What this build can do, as a JSON object: version, abi, demo (whether the embedded model is in it), cuda (the kinds of GPU
/// that it has code for). Static; any thread; touches no device.
#[unsafe(no_mangle)]
pub extern "C" fn qwentts_build_info() -> *const c_char {
    static INFO: OnceLock<CString> = OnceLock::new();
    #[cfg(feature = "cuda")]
    let cuda = crate::cuda::built_for();
    #[cfg(not(feature = "cuda"))]
    let cuda: &[&str] = &[];
    let info = INFO.get_or_init(|| {
        let info = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "abi": format!("{QWENTTS_ABI_MAJOR}.{QWENTTS_ABI_MINOR}"),
            "demo": cfg!(feature = "demo"),
            "cuda": cuda,
        });
        CString::new(info.to_string()).unwrap_or_default()
    });
    info.as_ptr()
}

/// A status by its name, "QWENTTS_OK"; "unknown" for a number that is none. Static; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn qwentts_status_name(status: i32) -> *const c_char {
    let name = match status {
        0 => c"QWENTTS_OK",
        1 => c"QWENTTS_END",
        2 => c"QWENTTS_AGAIN",
        -1 => c"QWENTTS_CANCELLED",
        -2 => c"QWENTTS_INVALID_ARGUMENT",
        -3 => c"QWENTTS_UNSUPPORTED",
        -4 => c"QWENTTS_NOT_FOUND",
        -5 => c"QWENTTS_BAD_MODEL",
        -6 => c"QWENTTS_OUT_OF_MEMORY",
        -7 => c"QWENTTS_DEVICE",
        -8 => c"QWENTTS_DEVICE_LOST",
        -9 => c"QWENTTS_BUSY",
        -10 => c"QWENTTS_INTERNAL",
        _ => c"unknown",
    };
    name.as_ptr()
}

/// The text of the last failure on the calling thread, UTF-8, "" before the first. A buffer of the thread, whose address
/// stays; the next failure on this thread overwrites it, no success does.
#[unsafe(no_mangle)]
pub extern "C" fn qwentts_last_error() -> *const c_char {
    LAST_ERROR.with(|buffer| buffer.get().cast_const().cast())
}

/// Sets who hears the library, for the whole process; NULL or `QWENTTS_LOG_OFF`, and before the first call, nobody does.
/// `level` is one of `qwentts_log_level`. Any thread. A hook that is running is not waited for, and one may still begin that
/// was found before. A hook must call nothing of this library: what it would have to say is dropped.
#[unsafe(no_mangle)]
pub extern "C" fn qwentts_log_set(hook: qwentts_log_fn, user: *mut c_void, level: i32) -> qwentts_status {
    guard(|| {
        if !(0..=3).contains(&level) {
            return Err(Fault::argument(format!("level: is {level}; expected 0 to 3")));
        }
        let mut log = locked(&LOG);
        *log = hook.map(|hook| (hook, User(user)));
        LOG_LEVEL.store(if hook.is_some() { level } else { 0 }, SeqCst);
        Ok(QWENTTS_OK)
    })
}

// ---- what every entry stands behind -----------------------------------------------------------------------------

/// A failure on its way to the caller.
#[derive(Debug)]
struct Fault {
    status: qwentts_status,
    text: String,
}

impl Fault {
    fn new(status: qwentts_status, text: impl Into<String>) -> Fault {
        Fault { status, text: text.into() }
    }

    fn argument(text: impl Into<String>) -> Fault {
        Fault::new(QWENTTS_INVALID_ARGUMENT, text)
    }

    fn of_panic(panic: &(dyn Any + Send)) -> Fault {
        Fault::new(QWENTTS_INTERNAL, format!("a fault of the library: {}", words(panic)))
    }

    fn null(what: &str) -> Fault {
        Fault::argument(format!("{what}: is NULL"))
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let status = match &error {
            Error::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => QWENTTS_NOT_FOUND,
            Error::File { .. } | Error::Checkpoint { .. } | Error::Hub { .. } => QWENTTS_BAD_MODEL,
            Error::Request { field: "device", .. } => QWENTTS_UNSUPPORTED,
            Error::Request { .. } => QWENTTS_INVALID_ARGUMENT,
            Error::Busy { .. } => QWENTTS_BUSY,
            Error::Ended { end: End::Cancelled } | Error::Closed => QWENTTS_CANCELLED,
            Error::Ended { .. } => QWENTTS_END,
            // The driver's calls and constants are named in its errors, and the cache of keys and values is `kv`.
            Error::Compute { call, what } if *call == "kv" || what.contains("OUT_OF_MEMORY") => QWENTTS_OUT_OF_MEMORY,
            Error::Compute { call, .. } if call.starts_with("cu") || call.starts_with("libcuda") => QWENTTS_DEVICE,
            Error::Compute { .. } => QWENTTS_INTERNAL,
        };
        Fault::new(status, error.to_string())
    }
}

/// Runs an entry: its fault becomes its status, with the text for `qwentts_last_error`, and so does a panic.
fn guard(entry: impl FnOnce() -> Result<qwentts_status, Fault>) -> qwentts_status {
    let fault = match behind_boundary(entry) {
        Ok(Ok(status)) => return status,
        Ok(Err(fault)) => fault,
        Err(panic) => Fault::of_panic(&*panic),
    };
    note(&fault);
    fault.status
}

/// As `guard`, for an entry that gives something else.
fn guard_value<T>(otherwise: T, entry: impl FnOnce() -> Result<T, Fault>) -> T {
    let mut value = otherwise;
    guard(|| {
        value = entry()?;
        Ok(QWENTTS_OK)
    });
    value
}

/// Keeps a fault's text for the thread, cut to the buffer at a whole character.
fn note(fault: &Fault) {
    log(qwentts_log_level::QWENTTS_LOG_DEBUG, || fault.text.clone());
    LAST_ERROR.with(|buffer| {
        let text = &fault.text[..fault.text.floor_char_boundary(LAST_ERROR_BYTES - 1)];
        // SAFETY: the buffer is this thread's, and nothing else here holds a reference to it.
        let buffer = unsafe { &mut *buffer.get() };
        for (to, from) in buffer.iter_mut().zip(text.bytes().filter(|&b| b != 0).chain([0])) {
            *to = from;
        }
    });
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic")
}

/// Catches a panic, which on the threads of an entry and of the library goes to the log hook and not to standard error.
fn behind_boundary<T>(entry: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let name = std::thread::current().name().map(str::to_owned);
            match INSIDE.get() > 0 || name.is_some_and(|name| name.starts_with("qwentts")) {
                true => log(qwentts_log_level::QWENTTS_LOG_ERROR, || info.to_string()),
                false => before(info),
            }
        }));
    });
    INSIDE.set(INSIDE.get() + 1);
    let done = catch_unwind(AssertUnwindSafe(entry));
    INSIDE.set(INSIDE.get() - 1);
    done
}

const LAST_ERROR_BYTES: usize = 1024;

thread_local! {
    static LAST_ERROR: UnsafeCell<[u8; LAST_ERROR_BYTES]> = const { UnsafeCell::new([0; LAST_ERROR_BYTES]) };
    /// Entries under way on this thread.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
    /// The log hook is under way on this thread.
    static IN_HOOK: Cell<bool> = const { Cell::new(false) };
}

// ---- handles, strings, hooks ------------------------------------------------------------------------------------

/// What is behind a handle.
trait Handle {
    const NAME: &'static str;
    /// The process that opened it.
    fn process(&self) -> u32;
}

fn own_process<H: Handle>(handle: &H) -> Result<(), Fault> {
    match handle.process() == std::process::id() {
        true => Ok(()),
        // Its threads are in the other process, and its locks as they happened to be.
        false => Err(Fault::new(
            QWENTTS_UNSUPPORTED,
            format!("{}: was opened before a fork, and does not work in the child; open an engine there", H::NAME),
        )),
    }
}

/// The handle, kept alive for as long as the call is under way.
///
/// # Safety
/// `handle` is NULL or came from `to_handle` and was not closed.
unsafe fn from_handle<H: Handle>(handle: *const H) -> Result<Arc<H>, Fault> {
    if handle.is_null() {
        return Err(Fault::null(H::NAME));
    }
    // SAFETY: as the caller promises, it is one of ours, and holds a count.
    let handle = unsafe {
        Arc::increment_strong_count(handle);
        Arc::from_raw(handle)
    };
    own_process(&*handle)?;
    Ok(handle)
}

/// The handle's own count, to be given up. `None` of NULL, and in a child, where nothing can be ended.
///
/// # Safety
/// As `from_handle`, and the caller uses it no more.
unsafe fn take_handle<H: Handle>(handle: *mut H) -> Result<Option<Arc<H>>, Fault> {
    if handle.is_null() {
        return Ok(None);
    }
    // SAFETY: one of ours, with a count that nobody gives up but this call.
    own_process(unsafe { &*handle })?;
    // SAFETY: as above.
    Ok(Some(unsafe { Arc::from_raw(handle) }))
}

fn to_handle<H: Handle>(new: H) -> *mut H {
    Arc::into_raw(Arc::new(new)).cast_mut()
}

/// Where a result goes.
///
/// # Safety
/// `to` is NULL or can be written, and nobody else does so meanwhile.
unsafe fn out<'a, T>(to: *mut T, what: &str) -> Result<&'a mut T, Fault> {
    match to.is_null() {
        true => Err(Fault::null(what)),
        false if !to.is_aligned() => Err(Fault::argument(format!("{what}: is not aligned"))),
        // SAFETY: as the caller promises.
        false => Ok(unsafe { &mut *to }),
    }
}

/// A string of the caller's.
///
/// # Safety
/// `text` is NULL or ends with a zero, and stays as it is for `'a`.
unsafe fn string<'a>(text: *const c_char, what: &str) -> Result<Option<&'a str>, Fault> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map(Some).map_err(|_| Fault::argument(format!("{what}: is not UTF-8")))
}

/// Writes JSON for the caller: as `qwentts_engine_info` says.
///
/// # Safety
/// `to` has room for `capacity` bytes, `needed` is NULL or can be written.
unsafe fn give_json(
    json: &serde_json::Value,
    to: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> Result<qwentts_status, Fault> {
    let json = CString::new(json.to_string()).unwrap_or_default();
    let bytes = json.as_bytes_with_nul();
    if !needed.is_null() {
        // SAFETY: not NULL, so it can be written.
        *unsafe { out(needed, "needed_bytes") }? = bytes.len();
    }
    if to.is_null() && capacity == 0 && !needed.is_null() {
        return Ok(QWENTTS_OK);
    }
    if to.is_null() {
        return Err(Fault::null("json"));
    }
    if capacity < bytes.len() {
        return Err(Fault::argument(format!("capacity_bytes: is {capacity}; this needs {}", bytes.len())));
    }
    // SAFETY: there is room for it.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.cast(), bytes.len()) };
    Ok(QWENTTS_OK)
}

/// A caller's own pointer, which is passed back and never looked at.
#[derive(Clone, Copy)]
struct User(*mut c_void);
// SAFETY: it is a number to us; that it may go to another thread is said where it is given.
unsafe impl Send for User {}

type Hook = unsafe extern "C" fn(*mut c_void, i32, *const c_char);
static LOG: Mutex<Option<(Hook, User)>> = Mutex::new(None);
/// Apart, so that who logs nothing takes no lock, which in the child of a fork might be held for ever.
static LOG_LEVEL: AtomicI32 = AtomicI32::new(0);

/// Tells the log hook, where there is one that wants it.
fn log(level: qwentts_log_level, line: impl FnOnce() -> String) {
    if level as i32 > LOG_LEVEL.load(SeqCst) || IN_HOOK.get() {
        return;
    }
    let hook = *locked(&LOG);
    if let Some((hook, User(user))) = hook
        && let Ok(line) = CString::new(line())
    {
        // SAFETY: the caller's function with the caller's pointer; the line lives until it returns.
        IN_HOOK.set(true);
        unsafe { hook(user, level as i32, line.as_ptr()) };
        IN_HOOK.set(false);
    }
}

/// Locks; what is under our locks is whole at any time.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, not(qwentts_loom)))]
mod tests {
    use super::*;

    fn last_error() -> String {
        // SAFETY: the buffer is always a string.
        unsafe { CStr::from_ptr(qwentts_last_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_is_a_status_and_a_text() {
        let place = qwentts_last_error();
        assert_eq!(guard(|| panic!("of a test")), QWENTTS_INTERNAL);
        assert_eq!(last_error(), "a fault of the library: of a test");
        assert_eq!(guard(|| Ok(QWENTTS_AGAIN)), QWENTTS_AGAIN);
        assert_eq!(last_error(), "a fault of the library: of a test");
        assert_eq!(guard_value(7, || panic!("{}", "é".repeat(LAST_ERROR_BYTES))), 7);
        assert!(last_error().ends_with('é') && last_error().len() > LAST_ERROR_BYTES - 4);
        assert_eq!(qwentts_last_error(), place);
        assert_eq!(INSIDE.get(), 0);
    }

    #[test]
    fn a_lost_engine_is_named_by_each_call_of_a_stream() {
        use super::engine::{qwentts_engine_close, qwentts_engine_health};
        use super::stream::*;
        static ENDED_AS: AtomicI32 = AtomicI32::new(0);
        unsafe extern "C" fn note_end(_: *mut c_void, _: *const c_void, n: usize, status: qwentts_status) -> i32 {
            assert_eq!(n, 0);
            ENDED_AS.store(status as i32, SeqCst);
            qwentts_answer::QWENTTS_CONTINUE as i32
        }
        let (engine, lose) = crate::engine::scripted::engine_to_lose();
        let engine = to_handle(qwentts_engine::of(engine));
        let text = c"Hello.";
        let (mut reads, mut called, mut refused) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        let (mut samples, mut n, mut event) = ([0f32; 8], 0, <qwentts_event as options::Sized32>::fresh());
        // SAFETY: handles that are open, and memory that is there.
        unsafe {
            for stream in [&mut reads, &mut called] {
                assert_eq!(qwentts_speak(engine, text.as_ptr(), 6, std::ptr::null(), stream), QWENTTS_OK);
            }
            assert_eq!(qwentts_stream_set_callback(called, Some(note_end), std::ptr::null_mut()), QWENTTS_OK);
            assert_eq!(qwentts_engine_health(engine), QWENTTS_OK);
            lose();
            assert_eq!(qwentts_stream_read(reads, samples.as_mut_ptr().cast(), 8, &mut n, -1), QWENTTS_DEVICE_LOST);
            assert_eq!(last_error(), "cuStreamSynchronize: as the test wants it");
            while ENDED_AS.load(SeqCst) == 0 {
                std::thread::yield_now();
            }
            assert_eq!(ENDED_AS.load(SeqCst), QWENTTS_DEVICE_LOST as i32);
            assert_eq!(qwentts_engine_health(engine), QWENTTS_DEVICE_LOST);
            assert_eq!(qwentts_stream_open(engine, std::ptr::null(), &mut refused), QWENTTS_DEVICE_LOST);
            assert_eq!(qwentts_stream_next_event(reads, &mut event), QWENTTS_OK);
            assert_eq!(event.end, qwentts_end::QWENTTS_END_FAILED as i32);
            qwentts_engine_close(engine);
            // Closing it does not change what it was.
            assert_eq!(qwentts_stream_read(reads, samples.as_mut_ptr().cast(), 8, &mut n, 0), QWENTTS_DEVICE_LOST);
            qwentts_stream_close(reads);
            qwentts_stream_close(called);
        }
    }
}
