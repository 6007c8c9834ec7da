//! The model on an NVIDIA GPU: the same speech as [`crate::cpu`]'s, which every kernel is checked against. Read `frames` and
//! `codec` first (what lies on the device and in which order it is launched), then `talker`, `predictor` and `stack`; `kernels`
//! has every launch, `pages` who holds which keys and values, `upload` every repacking of a weight, `lanes` and `stepwise` are the two seams of
//! `crate::backend`; `encoder` and `speaker` hear recordings, through `listener`, its third.
//!
//! It knows of the reference its rope table, its spectrogram, and its choice, for margins; nothing else.

pub(crate) mod args;
pub(crate) mod codec;
mod encoder;
mod frames;
pub(crate) mod kernels;
pub(crate) mod lanes;
pub(crate) mod listener;
mod pages;
mod predictor;
pub(crate) mod program;
mod speaker;
pub(crate) mod stack;
pub(crate) mod stepwise;
mod talker;
pub(crate) mod upload;

use crate::device::{KvNumbers, Loading, Memory};
use crate::driver::{Context, Gpu, Stream};
use crate::error::Result;
use crate::model::Model;
use codec::Codec;
use frames::{Frames, FramesOptions};
use kernels::Kernels;
use std::sync::Arc;

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// What the kernels inside this build were compiled for: machine code (`sm_90`), and PTX for what is newer (`compute_80`). Empty
/// where no CUDA compiler was found when it was built.
pub fn built_for() -> &'static [&'static str] {
    BUILT_FOR
}

/// Whether a kernel of this build runs on it: machine code of its generation, or PTX of an older one.
pub fn runs_on(gpu: &Gpu) -> bool {
    fits(built_for(), gpu.compute_capability)
}

fn fits(built_for: &[&str], (major, minor): (u32, u32)) -> bool {
    built_for.iter().any(|code| {
        let (kind, number) = code.split_once('_').unwrap_or_default();
        let number: u32 = number.parse().unwrap_or(u32::MAX);
        10 * major + minor >= number && (kind == "compute" || number / 10 == major)
    })
}

/// The oldest CUDA that a driver must run: that of nvcc 12.4, which first compressed kernels as these are.
pub const OLDEST_CUDA: (u32, u32) = (12, 4);

/// A model on a GPU.
struct Loaded {
    frames: Frames,
    codec: Codec,
    context: Arc<Context>,
    frames_weights_bytes: usize,
    codec_weights_bytes: usize,
}

/// How it is loaded.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub index: usize,
    pub slots: usize,
    pub kv: KvNumbers,
    /// Positions of all slots together that keys and values are kept for, at most; `None`: what the memory holds.
    pub positions: Option<usize>,
    /// Of these, how many may hold what prompts begin with.
    pub prefix_positions: usize,
}

/// Uploads everything, and records every launch that is replayed.
fn load(model: &Arc<Model>, options: &Options, progress: &mut dyn FnMut(Loading)) -> Result<Loaded> {
    let context = Context::open(options.index)?;
    let kernels = Kernels::of(&context, options.index)?;
    let stream = Stream::new(&context)?;
    let frames_weights_bytes = Frames::weight_bytes(&stream, model)?;
    let codec_weights_bytes = Codec::weight_bytes(&stream, model)?;
    let mut loading = Loading { done_bytes: 0, total_bytes: frames_weights_bytes + codec_weights_bytes };
    let mut hear = |bytes| {
        loading.done_bytes += bytes;
        progress(loading);
    };
    let Options { slots, kv, positions, prefix_positions, .. } = *options;
    let positions = positions.unwrap_or(usize::MAX);
    let frames =
        Frames::open(&context, &kernels, model, &FramesOptions { slots, kv, positions, prefix_positions }, &mut hear)?;
    let codec = Codec::open(&context, &kernels, model, slots, &mut hear)?;
    Ok(Loaded { frames, codec, context, frames_weights_bytes, codec_weights_bytes })
}

impl Loaded {
    fn memory(&self) -> Memory {
        let Loaded { frames_weights_bytes, codec_weights_bytes, .. } = *self;
        let ((kv_bytes, prefix_bytes), total_bytes) = (self.frames.kv_bytes(), self.context.allocated_bytes());
        let voices_bytes = self.codec.voices_bytes();
        let named = frames_weights_bytes + codec_weights_bytes + kv_bytes + voices_bytes;
        let working_bytes = total_bytes.saturating_sub(named);
        Memory {
            frames_weights_bytes,
            codec_weights_bytes,
            kv_bytes,
            prefix_bytes,
            voices_bytes,
            encoders_bytes: 0, // the listener's, which is another owner's
            working_bytes,
            total_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    //! Would catch: a GPU that is offered code which it cannot run, or is refused although it could. Needs no GPU.
    use super::fits;

    #[test]
    fn code_fits_its_generation_and_ptx_what_is_newer() {
        let promised = ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120", "compute_80", "compute_120"];
        let developers = ["sm_90", "compute_80"];
        let machine_code_alone = ["sm_86", "sm_90"];
        for (capability, expected) in [
            ((7, 5), [false, false, false]),
            ((8, 0), [true, true, false]),
            ((8, 6), [true, true, true]),
            ((8, 9), [true, true, true]),
            ((9, 0), [true, true, true]),
            ((10, 3), [true, true, false]),
            ((11, 0), [true, true, false]),
            ((12, 1), [true, true, false]),
        ] {
            let found = [&promised[..], &developers, &machine_code_alone].map(|code| fits(code, capability));
            assert_eq!(found, expected, "{capability:?}");
        }
        assert!(!fits(&[], (9, 0)) && !fits(&["sm_x", "nonsense"], (9, 0)));
    }
}
