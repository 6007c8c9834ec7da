//! What callers fill in: structs that begin with their size and grow at their tail alone.

use super::{Fault, from_handle, guard, out, qwentts_status, qwentts_voice, string};
use crate::device::{Device, KvNumbers};
use crate::engine::{Engine, EngineOptions};
use crate::request::{Delivery, Layout, LengthCap, OnDry, Output, Randomness, Regex, Request, SamplingOptions, Voice};
use crate::source::ModelSource;
use std::ffi::c_char;
use std::mem::offset_of;
use std::time::Duration;

/// In a number of `qwentts_stream_options`: as the model's own settings have it.
pub const QWENTTS_DEFAULT: i32 = -1;

/// Widths that `qwentts_stream_options` takes.
pub const QWENTTS_CHUNK_WIDTHS: usize = 8;

/// How samples are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum qwentts_format {
    /// float, -1 to 1.
    QWENTTS_F32 = 0,
    /// int16_t, -32767 to 32767.
    QWENTTS_I16 = 1,
}

/// What a stream delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum qwentts_output {
    /// Sound.
    QWENTTS_SAMPLES = 0,
    /// Codes as soon as they are chosen; no sound is made.
    QWENTTS_FRAMES = 1,
    /// Each by its own read.
    QWENTTS_SAMPLES_AND_FRAMES = 2,
}

/// How the text reaches the model. QWENTTS_DEFAULT is the model's own for `qwentts_speak`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum qwentts_layout {
    /// Bit by bit; the only one for text that comes live.
    QWENTTS_STREAMING = 0,
    /// All at once.
    QWENTTS_WHOLE = 1,
}

/// What an engine is opened with. Fill it with `qwentts_engine_options_init`, then change what is to be other.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qwentts_engine_options {
    /// sizeof this struct, set by init.
    pub struct_size: u32,
    /// Streams that speak at the same time, 1 to 1024. 16.
    pub slots: u32,
    /// Streams besides that may wait for a slot; beyond it opening one is QWENTTS_BUSY. 64.
    pub queue: u32,
    /// Threads of the CPU; 0: one per core. Results do not depend on it. 0.
    pub threads: u32,
    /// Positions, of all streams together, that a GPU keeps keys and values for at most; 0: what its memory holds. 0.
    pub kv_positions: u64,
    /// The model's folder, as downloaded; NULL: the small one inside the library. NULL.
    pub model: *const c_char,
    /// "cpu", "cuda" or "cuda:N"; NULL: a GPU that this build has code for, else the CPU. NULL.
    pub device: *const c_char,
    /// How a GPU stores keys and values: "f32", or "bf16" for half the memory; NULL: "f32". NULL.
    pub kv: *const c_char,
    /// Of those positions, how many may hold what prompts begin with: an instruction, or the words and codes of a voice's
    /// recording, which the next stream that begins the same then finds. 16 voices of 10 s take 1024. 0: none. 0. Since ABI 0.3.
    pub prefix_positions: u64,
}

/// What a stream is opened with. Fill it with `qwentts_stream_options_init`, then change what is to be other.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qwentts_stream_options {
    /// sizeof this struct, set by init.
    pub struct_size: u32,
    /// Samples a second: 8000, 16000, 22050, 24000, 44100 or 48000. 24000.
    pub sample_rate_hz: u32,
    /// One of qwentts_format. QWENTTS_F32.
    pub format: i32,
    /// One of qwentts_output. QWENTTS_SAMPLES.
    pub output: i32,
    /// The same seed and request give the same speech. 0.
    pub seed: u64,
    /// A preset voice, in any case; NULL: the model's first, where it has some. NULL.
    pub voice: *const c_char,
    /// A language, in any case; NULL: the model tells. NULL.
    pub language: *const c_char,
    /// How to speak (CustomVoice 1.7B) or who speaks (VoiceDesign), in words. NULL.
    pub instruct: *const c_char,
    /// One of qwentts_layout. QWENTTS_DEFAULT.
    pub layout: i32,
    /// Frames of 80 ms at most. QWENTTS_DEFAULT.
    pub max_frames: i32,
    /// 0: the best score wins; 1: codes are drawn. Like all that follow up to subtalker_top_p QWENTTS_DEFAULT, the
    /// checkpoint's setting.
    pub do_sample: i32,
    /// Only the k best scores; 0: all.
    pub top_k: i32,
    /// Scores are divided by it.
    pub temperature: f32,
    /// Below 1, the least likely go.
    pub top_p: f32,
    /// Against codes that were said.
    pub repetition_penalty: f32,
    /// As do_sample, for the groups behind the first.
    pub subtalker_do_sample: i32,
    /// As top_k, for the groups behind the first.
    pub subtalker_top_k: i32,
    /// As temperature, for the groups behind the first.
    pub subtalker_temperature: f32,
    /// As top_p, for the groups behind the first.
    pub subtalker_top_p: f32,
    /// How much sound may wait for its reader before the speech waits for him; at least 80. 10000.
    pub lead_ms: u32,
    /// What to do when live text has run dry: QWENTTS_DEFAULT waits, which is exact; else after so long the speech goes on
    /// with padding, which the stats count. QWENTTS_DEFAULT.
    pub pad_after_ms: i32,
    /// Speech ends at so many frames, and those of the next field for each token of its text. 75.
    pub cap_frames: u32,
    /// See cap_frames. 16.
    pub cap_frames_per_token: u32,
    /// Not 0: control strings in the text are controls. 0.
    pub special_tokens: u32,
    /// Frames that are delivered together, each 1 to 32; the last before a 0 repeats. 1, 2, 4, 8.
    pub chunk_frames: [u32; QWENTTS_CHUNK_WIDTHS],
    /// A voice of a recording, held by the caller until the stream is open; `voice` is NULL then. NULL. Since ABI 0.2.
    pub cloned: *const qwentts_voice,
}

/// A struct that begins with its size, of which any bytes are a value.
///
/// # Safety
/// `repr(C)` without padding, its first field is the `u32` size, and it is of plain numbers and pointers.
pub(super) unsafe trait Sized32: Copy {
    /// Bytes of the first version that was released: no caller can have a smaller one.
    const FIRST_BYTES: usize;
    fn fresh() -> Self;
}

// SAFETY: it is.
unsafe impl Sized32 for qwentts_engine_options {
    const FIRST_BYTES: usize = offset_of!(Self, kv) + size_of::<*const c_char>();
    fn fresh() -> Self {
        let EngineOptions { slots, queue, prefix_positions, .. } = EngineOptions::default();
        let null = std::ptr::null();
        Self {
            struct_size: size_of::<Self>() as u32,
            slots: slots as u32,
            queue: queue as u32,
            threads: 0,
            kv_positions: 0,
            model: null,
            device: null,
            kv: null,
            prefix_positions: prefix_positions as u64,
        }
    }
}

// SAFETY: it is.
unsafe impl Sized32 for qwentts_stream_options {
    const FIRST_BYTES: usize = offset_of!(Self, chunk_frames) + 4 * QWENTTS_CHUNK_WIDTHS;
    fn fresh() -> Self {
        let delivery = Delivery::default();
        let mut chunk_frames = [0; QWENTTS_CHUNK_WIDTHS];
        chunk_frames.iter_mut().zip(&delivery.chunk_frames).for_each(|(to, from)| *to = *from as u32);
        let null = std::ptr::null();
        Self {
            struct_size: size_of::<Self>() as u32,
            sample_rate_hz: delivery.sample_rate_hz,
            format: qwentts_format::QWENTTS_F32 as i32,
            output: qwentts_output::QWENTTS_SAMPLES as i32,
            seed: 0,
            voice: null,
            language: null,
            instruct: null,
            layout: QWENTTS_DEFAULT,
            max_frames: QWENTTS_DEFAULT,
            do_sample: QWENTTS_DEFAULT,
            top_k: QWENTTS_DEFAULT,
            temperature: QWENTTS_DEFAULT as f32,
            top_p: QWENTTS_DEFAULT as f32,
            repetition_penalty: QWENTTS_DEFAULT as f32,
            subtalker_do_sample: QWENTTS_DEFAULT,
            subtalker_top_k: QWENTTS_DEFAULT,
            subtalker_temperature: QWENTTS_DEFAULT as f32,
            subtalker_top_p: QWENTTS_DEFAULT as f32,
            lead_ms: delivery.lead.as_millis() as u32,
            pad_after_ms: QWENTTS_DEFAULT,
            cap_frames: delivery.length_cap.frames as u32,
            cap_frames_per_token: delivery.length_cap.frames_per_token as u32,
            special_tokens: 0,
            chunk_frames,
            cloned: std::ptr::null(),
        }
    }
}

/// Fills the options with their defaults. `struct_size` is sizeof *options as the caller was built; what a later library
/// knows besides is not touched. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_engine_options_init(
    options: *mut qwentts_engine_options,
    struct_size: u32,
) -> qwentts_status {
    // SAFETY: as the caller promises, it has so many bytes.
    guard(|| unsafe { init(options, struct_size, "options") })
}

/// Fills the options with their defaults. `struct_size` is sizeof *options as the caller was built; what a later library
/// knows besides is not touched. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_stream_options_init(
    options: *mut qwentts_stream_options,
    struct_size: u32,
) -> qwentts_status {
    // SAFETY: as the caller promises, it has so many bytes.
    guard(|| unsafe { init(options, struct_size, "options") })
}

/// # Safety
/// `to` is NULL or has `struct_size` bytes.
pub(super) unsafe fn init<T: Sized32>(to: *mut T, struct_size: u32, what: &str) -> Result<qwentts_status, Fault> {
    // A caller of a later version has room that is zeroed here: what we do not know is then as good as not there.
    let bytes = checked_size::<T>(struct_size, what)?;
    // SAFETY: as the caller promises; it is written as bytes, so that it need not be whole.
    unsafe { out(to.cast::<u8>(), what) }?;
    // SAFETY: as above.
    unsafe { std::ptr::write_bytes(to.cast::<u8>(), 0, bytes) };
    // SAFETY: as above.
    unsafe { give(&T::fresh(), to, struct_size) };
    Ok(qwentts_status::QWENTTS_OK)
}

/// Writes so much of `from` as the caller has room for, under his own size.
///
/// # Safety
/// `to` has `struct_size` bytes, 4 at least.
pub(super) unsafe fn give<T: Sized32>(from: &T, to: *mut T, struct_size: u32) {
    let bytes = size_of::<T>().min(struct_size as usize);
    // SAFETY: both have so many bytes, and the first four are the size.
    unsafe {
        std::ptr::copy_nonoverlapping(std::ptr::from_ref(from).cast::<u8>(), to.cast::<u8>(), bytes);
        std::ptr::copy_nonoverlapping(std::ptr::from_ref(&struct_size).cast::<u8>(), to.cast::<u8>(), 4);
    }
}

pub(super) fn checked_size<T: Sized32>(struct_size: u32, what: &str) -> Result<usize, Fault> {
    let (size, least) = (struct_size as usize, T::FIRST_BYTES);
    match (least..=1 << 16).contains(&size) {
        true => Ok(size),
        false => Err(Fault::argument(format!(
            "{what}: struct_size is {size}; expected at least {least}, which init sets from sizeof"
        ))),
    }
}

/// The caller's options: what he does not have is at its default, and what we do not have must be zero.
///
/// # Safety
/// `from` is NULL or has as many bytes as its first field says.
pub(super) unsafe fn take<T: Sized32>(from: *const T, what: &str) -> Result<T, Fault> {
    let mut options = T::fresh();
    if from.is_null() {
        return Ok(options);
    }
    let from = from.cast::<u8>();
    // SAFETY: the size is there, at whatever address.
    let size = checked_size::<T>(unsafe { from.cast::<u32>().read_unaligned() }, what)?;
    let known = size.min(size_of::<T>());
    // SAFETY: both have so many bytes, and any bytes are a value.
    unsafe { std::ptr::copy_nonoverlapping(from, std::ptr::from_mut(&mut options).cast::<u8>(), known) };
    // SAFETY: so many bytes are there.
    let unknown = unsafe { std::slice::from_raw_parts(from.add(known), size - known) };
    match unknown.iter().all(|&byte| byte == 0) {
        true => Ok(options),
        false => Err(Fault::new(
            qwentts_status::QWENTTS_UNSUPPORTED,
            format!("{what}: uses fields that this library, {}, does not have", env!("CARGO_PKG_VERSION")),
        )),
    }
}

impl qwentts_engine_options {
    /// # Safety
    /// Its pointers are NULL or strings.
    pub(super) unsafe fn read(&self) -> Result<(ModelSource, EngineOptions), Fault> {
        // SAFETY: as the caller promises.
        let (model, device, kv) =
            unsafe { (string(self.model, "model")?, string(self.device, "device")?, string(self.kv, "kv")?) };
        let source = match model {
            Some(folder) => ModelSource::Folder(folder.into()),
            #[cfg(feature = "demo")]
            None => ModelSource::Demo,
            #[cfg(not(feature = "demo"))]
            None => {
                let what = "model: is NULL, and this library was built without the embedded one; name a folder";
                return Err(Fault::new(qwentts_status::QWENTTS_UNSUPPORTED, what));
            }
        };
        let options = EngineOptions {
            device: device.map(str::parse::<Device>).transpose()?,
            threads: (self.threads > 0).then_some(self.threads as usize),
            kv: kv.map(str::parse::<KvNumbers>).transpose()?.unwrap_or_default(),
            kv_positions: (self.kv_positions > 0).then_some(self.kv_positions as usize),
            prefix_positions: self.prefix_positions as usize,
            slots: self.slots as usize,
            queue: self.queue as usize,
        };
        Ok((source, options))
    }
}

impl qwentts_stream_options {
    /// As a request to this engine.
    ///
    /// # Safety
    /// Its pointers are NULL, strings, or a voice's handle.
    pub(super) unsafe fn read(&self, engine: &Engine) -> Result<Request, Fault> {
        // SAFETY: as the caller promises.
        let (voice, language, instruct) = unsafe {
            (string(self.voice, "voice")?, string(self.language, "language")?, string(self.instruct, "instruct")?)
        };
        let bad = |field: &str, value: i32, known: &str| {
            Err(Fault::argument(format!("{field}: is {value}; expected {known}")))
        };
        let yes_or_no = |field: &str, value: i32| match value {
            QWENTTS_DEFAULT => Ok(None),
            0 | 1 => Ok(Some(value == 1)),
            _ => bad(field, value, "0, 1 or QWENTTS_DEFAULT").map(|()| None),
        };
        let count = |field: &str, value: i32| match value {
            QWENTTS_DEFAULT => Ok(None),
            0.. => Ok(Some(value as usize)),
            _ => bad(field, value, "0 or more, or QWENTTS_DEFAULT").map(|()| None),
        };
        // Whatever else is out of its range is refused by the request's own check.
        let number = |value: f32| (value != QWENTTS_DEFAULT as f32).then_some(value);
        let sampling = SamplingOptions {
            do_sample: yes_or_no("do_sample", self.do_sample)?,
            temperature: number(self.temperature),
            top_k: count("top_k", self.top_k)?,
            top_p: number(self.top_p),
            repetition_penalty: number(self.repetition_penalty),
            subtalker_dosample: yes_or_no("subtalker_do_sample", self.subtalker_do_sample)?,
            subtalker_temperature: number(self.subtalker_temperature),
            subtalker_top_k: count("subtalker_top_k", self.subtalker_top_k)?,
            subtalker_top_p: number(self.subtalker_top_p),
            max_new_tokens: match self.max_frames {
                0 => return bad("max_frames", 0, "1 or more, or QWENTTS_DEFAULT").map(|()| Request::default()),
                frames => count("max_frames", frames)?.map(|frames| frames + 1),
            },
        };
        let widths = self.chunk_frames.iter().take_while(|&&width| width > 0);
        let delivery = Delivery {
            output: match self.output {
                0 => Output::Samples,
                1 => Output::Frames,
                2 => Output::Both,
                other => bad("output", other, "one of qwentts_output").map(|()| Output::Samples)?,
            },
            sample_rate_hz: self.sample_rate_hz,
            chunk_frames: widths.map(|&width| width as usize).collect(),
            lead: Duration::from_millis(self.lead_ms.into()),
            on_dry: match count("pad_after_ms", self.pad_after_ms)? {
                None => OnDry::Wait,
                Some(ms) => OnDry::PadAfter(Duration::from_millis(ms as u64)),
            },
            length_cap: LengthCap {
                frames: self.cap_frames as usize,
                frames_per_token: self.cap_frames_per_token as usize,
            },
        };
        let (voice, its_language) = match (voice, self.cloned.is_null()) {
            // SAFETY: as the caller promises.
            (None, false) => unsafe { from_handle(self.cloned) }?.of(engine.model())?,
            (Some(_), false) => {
                return Err(Fault::argument("cloned: is a voice, and so is `voice`; expected one of them"));
            }
            (named, true) => {
                let named = named.or_else(|| engine.voices().next());
                (named.map_or(Voice::Unset, |name| Voice::Preset(name.to_owned())), None)
            }
        };
        Ok(Request {
            voice,
            language: language.map(str::to_owned).or(its_language),
            layout: match self.layout {
                QWENTTS_DEFAULT => None,
                0 => Some(Layout::Streaming),
                1 => Some(Layout::Whole),
                other => bad("layout", other, "one of qwentts_layout, or QWENTTS_DEFAULT").map(|()| None)?,
            },
            instruct: instruct.map(str::to_owned),
            sampling,
            randomness: Randomness::Seed(self.seed),
            regex: Regex::default(),
            special_tokens: self.special_tokens != 0,
            delivery,
        })
    }

    /// One of `qwentts_format`.
    pub(super) fn checked_format(&self) -> Result<qwentts_format, Fault> {
        match self.format {
            0 => Ok(qwentts_format::QWENTTS_F32),
            1 => Ok(qwentts_format::QWENTTS_I16),
            other => Err(Fault::argument(format!("format: is {other}; expected one of qwentts_format"))),
        }
    }
}

#[cfg(all(test, not(qwentts_loom)))]
mod tests {
    use super::*;

    /// Options as they may be one day.
    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Grown {
        struct_size: u32,
        old: u32,
        new: u64,
    }

    // SAFETY: it is.
    unsafe impl Sized32 for Grown {
        const FIRST_BYTES: usize = 8;
        fn fresh() -> Self {
            Grown { struct_size: size_of::<Self>() as u32, old: 1, new: 2 }
        }
    }

    #[test]
    fn what_an_engine_is_opened_with_is_what_was_said() {
        let mut said = qwentts_engine_options::fresh();
        (said.slots, said.queue, said.threads, said.kv_positions, said.prefix_positions) = (3, 5, 7, 11, 13);
        (said.device, said.kv) = (c"cpu".as_ptr(), c"bf16".as_ptr());
        said.model = c"folder".as_ptr();
        // SAFETY: these are strings.
        let Ok((source, options)) = (unsafe { said.read() }) else { panic!("refused") };
        assert_eq!(source.describe("").trim_end_matches('/'), "folder");
        assert_eq!((options.slots, options.queue, options.threads), (3, 5, Some(7)));
        assert_eq!((options.kv_positions, options.prefix_positions), (Some(11), 13));
        assert_eq!((options.device, options.kv), (Some(Device::Cpu), KvNumbers::Bf16));
    }

    #[test]
    fn callers_of_other_versions_are_understood() {
        // An older one: [size, old, and what is behind his struct].
        let mut older = [0u32, 0, 77, 77];
        // SAFETY: it has the 8 bytes.
        unsafe { init(older.as_mut_ptr().cast::<Grown>(), 8, "options") }.unwrap();
        assert_eq!(older, [8, 1, 77, 77]);
        older[1] = 5;
        // SAFETY: as above.
        let options = unsafe { take(older.as_ptr().cast::<Grown>(), "options") }.unwrap();
        assert_eq!((options.old, options.new), (5, 2));

        // A later one, who has a field more.
        let mut later = [9u64; 4];
        // SAFETY: it has the 24 bytes.
        unsafe { init(later.as_mut_ptr().cast::<Grown>(), 24, "options") }.unwrap();
        assert_eq!(later, [1 << 32 | 24, 2, 0, 9]);
        // SAFETY: as above.
        assert_eq!(unsafe { take(later.as_ptr().cast::<Grown>(), "options") }.unwrap().new, 2);
        later[2] = 1 << 63;
        // SAFETY: as above.
        let fault = unsafe { take(later.as_ptr().cast::<Grown>(), "options") }.err().unwrap();
        assert_eq!(fault.status, qwentts_status::QWENTTS_UNSUPPORTED);
        for size in [0, 4, 7, 1 << 17] {
            later[0] = size;
            // SAFETY: only the size is read.
            let fault = unsafe { take(later.as_ptr().cast::<Grown>(), "options") }.err().unwrap();
            assert_eq!(fault.status, qwentts_status::QWENTTS_INVALID_ARGUMENT);
        }
    }
}
