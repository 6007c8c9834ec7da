//! A frame and the constants of the 12.5 Hz format. Knows nothing else.

use crate::error::{Error, Result};

/// Codes in a frame: group 0 from the talker, groups 1 to 15 from the predictor.
pub const GROUPS: usize = 16;
/// Samples per second of the sound that comes out.
pub const SAMPLE_RATE: u32 = 24_000;
/// Samples that a frame decodes to: 80 ms.
pub const SAMPLES_PER_FRAME: usize = 1920;

/// One frame: a code for each group.
pub type Frame = [u16; GROUPS];

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
