//! A frame, a sample, the end of an utterance, and the constants of the 12.5 Hz format. Knows nothing else.

use crate::error::{Error, Result};
use std::time::Duration;

/// Codes in a frame: group 0 from the talker, groups 1 to 15 from the predictor.
pub const GROUPS: usize = 16;
/// Samples per second of the sound that comes out.
pub const SAMPLE_RATE: u32 = 24_000;
/// Samples that a frame decodes to: 80 ms.
pub const SAMPLES_PER_FRAME: usize = 1920;
/// How long a frame sounds.
pub const FRAME_TIME: Duration = Duration::from_millis(80);
/// Frames decoded and delivered together at most.
pub const MAX_CHUNK_FRAMES: usize = 32;

/// One frame: a code for each group.
pub type Frame = [u16; GROUPS];

/// How an utterance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The model chose to stop.
    Eos,
    /// max_new_tokens, the model's positions, or the most that the text can need (`LengthCap`) were used up.
    Length,
    /// It was cancelled, or what should have heard it was dropped.
    Cancelled,
    /// Speech that had ceased to be speech was stopped: `DEGENERATE_FRAMES` frames with the same group 0.
    Degenerate,
    /// An error ended it.
    Failed,
    /// The forced frames were used up (conformance runs).
    Forced,
}

/// So many frames in a row with the same group 0 (3.2 s) are no longer speech.
pub const DEGENERATE_FRAMES: usize = 40;

impl End {
    /// "eos", "length", "cancelled", "degenerate", "failed" or "forced".
    pub fn name(self) -> &'static str {
        match self {
            End::Eos => "eos",
            End::Length => "length",
            End::Cancelled => "cancelled",
            End::Degenerate => "degenerate",
            End::Failed => "failed",
            End::Forced => "forced",
        }
    }
}

/// What samples can be had as.
pub trait Sample: Copy + Default + Send {
    /// From -1..1.
    fn of(sample: f32) -> Self;
}

impl Sample for f32 {
    fn of(sample: f32) -> f32 {
        sample
    }
}

impl Sample for i16 {
    /// -1 and 1 become -32767 and 32767.
    fn of(sample: f32) -> i16 {
        (sample * 32767.0).round() as i16
    }
}

/// Refuses a sample that is not finite, naming its place: in words, for the caller's own error.
pub(crate) fn check_finite(samples: &[f32]) -> std::result::Result<(), String> {
    match samples.iter().position(|s| !s.is_finite()) {
        None => Ok(()),
        Some(at) => Err(format!("sample {at} is {}; expected finite ones", samples[at])),
    }
}

/// Refuses a code that is not under `codes`, naming its place; `field` is what holds the frames.
pub(crate) fn check_codes(field: &'static str, frames: &[Frame], codes: usize) -> Result<()> {
    for (f, frame) in frames.iter().enumerate() {
        for (g, &code) in frame.iter().enumerate() {
            if usize::from(code) >= codes {
                let what = format!("frame {f} group {g} is {code}; this model's codes are 0 to {}", codes - 1);
                return Err(Error::request(field, what));
            }
        }
    }
    Ok(())
}
