//! Voices of recordings: made, loaded, saved, and shared by any streams of engines with the same model.

use super::qwentts_status::*;
use super::{Fault, Handle, from_handle, guard, out, qwentts_engine, qwentts_status, string, take_handle, to_handle};
use crate::audio;
use crate::model::Model;
use crate::request::Voice;
use crate::voice::{Cloning, SavedVoice};
use std::ffi::c_char;
use std::path::Path;

/// A voice that was made of a recording. It never changes; threads and streams may share it.
pub struct qwentts_voice {
    saved: SavedVoice,
    process: u32,
}

impl qwentts_voice {
    /// What a request to this model takes, and the language that it speaks where the request names none.
    pub(super) fn of(&self, model: &Model) -> Result<(Voice, Option<String>), Fault> {
        Ok((self.saved.voice("cloned", model)?, self.saved.language.clone()))
    }

    fn new(saved: SavedVoice) -> *mut qwentts_voice {
        to_handle(qwentts_voice { saved, process: std::process::id() })
    }
}

impl Handle for qwentts_voice {
    const NAME: &'static str = "voice";
    fn process(&self) -> u32 {
        self.process
    }
}

/// Makes a voice of a recording: mono samples of -1 to 1 at `sample_rate_hz`, 8000 to 192000, which are copied. `transcript`:
/// the words that are said in it, for a clone that speaks as the recording does; NULL: the sound of the speaker alone.
/// `language`: what it speaks where a stream names none; NULL: the model tells. Writes the handle to *voice. Computes on the
/// CPU, for seconds of a large model, with threads of its own: streams that speak are not held up. Only Base models have what
/// it takes. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_voice_from_pcm(
    engine: *const qwentts_engine,
    samples: *const f32,
    sample_count: usize,
    sample_rate_hz: u32,
    transcript: *const c_char,
    language: *const c_char,
    voice: *mut *mut qwentts_voice,
) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises: NULL, or what they say they are.
        let (engine, to) = unsafe { (from_handle(engine)?, out(voice, "voice")?) };
        // SAFETY: as above.
        let (transcript, language) = unsafe { (string(transcript, "transcript")?, string(language, "language")?) };
        if samples.is_null() {
            return Err(Fault::null("samples"));
        }
        if !samples.is_aligned() || sample_count > isize::MAX as usize / size_of::<f32>() {
            return Err(Fault::argument("samples: are not aligned, or more than memory can hold"));
        }
        // SAFETY: not NULL, aligned, and as many as the caller says.
        let samples = unsafe { std::slice::from_raw_parts(samples, sample_count) };
        let cloning = Cloning {
            transcript: transcript.map(str::to_owned),
            language: language.map(str::to_owned),
            ..Cloning::default()
        };
        let samples = audio::resample("samples", samples, sample_rate_hz)?;
        *to = qwentts_voice::new(SavedVoice::create(engine.engine.model(), &samples, &cloning)?);
        Ok(QWENTTS_OK)
    })
}

/// Loads a voice that qwentts_voice_save or `qwentts voice create` wrote; QWENTTS_BAD_MODEL where it was made with another
/// model than the engine's, or is no voice. Writes the handle to *voice. Any thread; never waits for the device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_voice_load(
    engine: *const qwentts_engine,
    path: *const c_char,
    voice: *mut *mut qwentts_voice,
) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises: NULL, or what they say they are.
        let (engine, to, path) = unsafe { (from_handle(engine)?, out(voice, "voice")?, string(path, "path")?) };
        let path = path.ok_or_else(|| Fault::null("path"))?;
        let saved = SavedVoice::load(Path::new(path))?;
        saved.voice(path, engine.engine.model())?;
        *to = qwentts_voice::new(saved);
        Ok(QWENTTS_OK)
    })
}

/// Writes a voice to a file, which any engine with the same model can load. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_voice_save(voice: *const qwentts_voice, path: *const c_char) -> qwentts_status {
    guard(|| {
        // SAFETY: as the caller promises: NULL, or what they say they are.
        let (voice, path) = unsafe { (from_handle(voice)?, string(path, "path")?) };
        voice.saved.save(Path::new(path.ok_or_else(|| Fault::null("path"))?))?;
        Ok(QWENTTS_OK)
    })
}

/// Holds a voice once more: each needs a release of its own. NULL is nothing. Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_voice_retain(voice: *const qwentts_voice) {
    guard(|| {
        if !voice.is_null() {
            // SAFETY: as the caller promises, a handle that is held; the count is given up by a release.
            std::mem::forget(unsafe { from_handle(voice) }?);
        }
        Ok(QWENTTS_OK)
    });
}

/// Gives a voice up, which must not be used again by whoever held it. Streams that speak with it go on. NULL is nothing. Any
/// thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qwentts_voice_release(voice: *mut qwentts_voice) {
    guard(|| {
        // SAFETY: as the caller promises, NULL or a handle that he uses no more.
        unsafe { take_handle(voice) }?;
        Ok(QWENTTS_OK)
    });
}
