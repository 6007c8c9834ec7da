//! A frame and the constants of the 12.5 Hz format. Knows nothing else.

/// Codes in a frame: group 0 from the talker, groups 1 to 15 from the predictor.
pub const GROUPS: usize = 16;
/// Samples per second of the sound that comes out.
pub const SAMPLE_RATE: u32 = 24_000;
/// Samples that a frame decodes to: 80 ms.
pub const SAMPLES_PER_FRAME: usize = 1920;

/// One frame: a code for each group.
pub type Frame = [u16; GROUPS];
