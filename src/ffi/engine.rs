//! The engine's handle: opened, asked, closed.

use super::qwentts_status::*;
use super::{
    Fault, Handle, from_handle, give_json, guard, guard_value, log, out, own_process, qwentts_engine_options,
    qwentts_log_level, qwentts_status, take, take_handle, to_handle,
};
use crate::engine::{Engine, RATES_HZ};
use crate::error::Error;
use crate::frame::{FRAME_TIME, GROUPS};
use std::ffi::{CString, c_char};
use std::time::Instant;

/// A model on one device. Threads may share it.
pub struct qwentts_engine {
    pub(super) engine: Engine,
    process: u32,
    voices: Vec<CString>,
}

impl qwentts_engine {
    pub(super) fn of(engine: Engine) -> qwentts_engine {
        let voices = engine.voices().map(|name| CString::new(name).unwrap_or_default()).collect();
        qwentts_engine { engine, process: std::process::id(), voices }
    }
}

impl Handle for qwentts_engine {
    const NAME: &'static str = "engine";
    fn process(&self) -> u32 {
        self.process
    }
}

/// Opens a model and starts its thread. `options`: NULL is the embedded model with every default; its strings are copied.
/// Writes the handle to *engine. Waits until the weights are where they are to be, which for a large model on a GPU is
/// seconds. Any thread. An engine does not survive a fork: in the child its handle, and those of its streams, answer
/// QWENTTS_UNSUPPORTED, and closing them does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_engine_open(
    options: *const qwentts_engine_options,
    engine: *mut *mut qwentts_engine,
) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises: NULL, or what they say they are.
        let (to, (source, options)) = unsafe { (out(engine, "engine")?, take(options, "options")?.read()?) };
        let began = Instant::now();
        let opened = Engine::open(&source, &options)?;
        log(qwentts_log_level::QWENTTS_LOG_INFO, || {
            format!("engine: open on {} after {} ms", opened.device(), began.elapsed().as_millis())
        });
        *to = to_handle(qwentts_engine::of(opened));
        Ok(QWENTTS_OK)
    })
}

/// Ends the engine and frees its handle, which must not be used again. What still speaks is cancelled: streams that outlive
/// it answer QWENTTS_CANCELLED, and are still to be closed. Waits for the work under way, a frame at most. NULL is nothing.
/// Any thread, also in a callback; calls of other threads that are under way on it are ended, none may begin.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_engine_close(engine: *mut qwentts_engine) {
    guard(|| {
        // SAFETY: as the caller promises, NULL or a handle that is used no more.
        if let Some(engine) = unsafe { take_handle(engine) }? {
            engine.engine.close();
            log(qwentts_log_level::QWENTTS_LOG_INFO, || "engine: closed".to_owned());
        }
        Ok(QWENTTS_OK)
    });
}

/// Speaks a few frames that nobody hears, so that the first stream finds everything ready. Waits for them. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_engine_warmup(engine: *const qwentts_engine) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises.
        unsafe { from_handle(engine) }?.engine.warm_up()?;
        Ok(QWENTTS_OK)
    })
}

/// QWENTTS_OK while streams can be opened; QWENTTS_DEVICE_LOST, with the reason in qwentts_last_error, once the device or
/// the engine's thread has failed: close it and open another. Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_engine_health(engine: *const qwentts_engine) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises.
        unsafe { from_handle(engine) }?.engine.health().map_err(lost)?;
        Ok(QWENTTS_OK)
    })
}

/// Why an engine takes no more streams.
pub(super) fn lost(error: Error) -> Fault {
    match error {
        Error::Closed => Fault::from(error),
        other => Fault::new(QWENTTS_DEVICE_LOST, other.to_string()),
    }
}

/// What the engine is, as a JSON object: model, kind, device, voices, languages, takes_instruct, sample_rates_hz, frame_ms,
/// codes_per_frame. Written to `json` with a zero behind it, if `capacity_bytes` is enough; else QWENTTS_INVALID_ARGUMENT.
/// What it needs, the zero included, goes to *needed_bytes either way (it may be NULL); with json NULL and capacity_bytes 0
/// that is all. Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_engine_info(
    engine: *const qwentts_engine,
    json: *mut c_char,
    capacity_bytes: usize,
    needed_bytes: *mut usize,
) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let engine = &unsafe { from_handle(engine) }?.engine;
        let config = &engine.model().config;
        let info = serde_json::json!({
            "model": engine.model().source.describe(""),
            "kind": format!("{:?}", config.kind),
            "device": engine.device(),
            "voices": engine.voices().collect::<Vec<_>>(),
            "languages": config.language_names().collect::<Vec<_>>(),
            "takes_instruct": config.takes_instruct(),
            "sample_rates_hz": RATES_HZ,
            "frame_ms": FRAME_TIME.as_millis() as u64,
            "codes_per_frame": GROUPS,
        });
        // SAFETY: as the caller promises.
        unsafe { give_json(&info, json, capacity_bytes, needed_bytes) }
    })
}

/// How the engine is doing, as a JSON object: open (streams that have not ended), speaking (those that hold a slot), memory
/// (bytes of a GPU, by part; null on the CPU). Written as qwentts_engine_info does; what it needs may grow between two
/// calls, 1024 bytes are enough for all. Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_engine_stats(
    engine: *const qwentts_engine,
    json: *mut c_char,
    capacity_bytes: usize,
    needed_bytes: *mut usize,
) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises.
        let engine = &unsafe { from_handle(engine) }?.engine;
        let counts = engine.counts();
        let stats = serde_json::json!({ "open": counts.open, "speaking": counts.speaking, "memory": engine.memory() });
        // SAFETY: as the caller promises.
        unsafe { give_json(&stats, json, capacity_bytes, needed_bytes) }
    })
}

/// How many preset voices the model has; 0 where it has none, or for NULL. Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_voice_count(engine: *const qwentts_engine) -> usize {
    // SAFETY: as the caller promises.
    guard_value(0, || Ok(unsafe { from_handle(engine) }?.voices.len()))
}

/// The name of a preset voice, in order of the alphabet; NULL where there is none of that index. Lives as long as the
/// engine's handle. Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_voice_name(engine: *const qwentts_engine, index: usize) -> *const c_char {
    guard_value(std::ptr::null(), || {
        if engine.is_null() {
            return Err(Fault::null("engine"));
        }
        // SAFETY: as the caller promises; the name lives as long as what it is borrowed from.
        let engine = unsafe { &*engine };
        own_process(engine)?;
        let none = || Fault::argument(format!("index: is {index}; there are {} voices", engine.voices.len()));
        engine.voices.get(index).map(|name| name.as_ptr()).ok_or_else(none)
    })
}
