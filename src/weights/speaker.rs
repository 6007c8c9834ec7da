//! The speaker encoder's tensors (MODEL.md 9), in the order of the signal. All are convolutions along time.

use super::{Conv, TensorFile};
use crate::config::{MELS, SpeakerConfig};
use crate::error::Result;

/// What every tensor of the speaker encoder begins with.
pub(super) const PREFIX: &str = "speaker_encoder.";

/// Res2Net between two pointwise convolutions, a gate for each channel, and the input added.
pub struct SpeakerBlock {
    pub conv1: Conv,       // [c, c, 1]
    pub pieces: Vec<Conv>, // scale - 1 of [c / scale, c / scale, k]
    pub dilation: usize,
    pub conv2: Conv,   // [c, c, 1]
    pub squeeze: Conv, // [squeeze, c, 1]
    pub excite: Conv,  // [c, squeeze, 1]
}

pub struct SpeakerWeights {
    pub first: Conv, // [c, MELS, k]
    pub first_dilation: usize,
    pub blocks: Vec<SpeakerBlock>,
    pub join: Conv, // [joined, joined, k] over the blocks' outputs side by side
    pub join_dilation: usize,
    pub attention_in: Conv,  // [attention, 3 joined, 1] over signal, mean, deviation
    pub attention_out: Conv, // [joined, attention, 1]
    pub out: Conv,           // [talker hidden, 2 joined, 1] over weighted mean, deviation
}

impl SpeakerWeights {
    /// `None` where the file holds none of it.
    pub(super) fn bind(file: &mut TensorFile, config: &SpeakerConfig, width: usize) -> Result<Option<SpeakerWeights>> {
        if !file.holds(PREFIX) {
            return Ok(None);
        }
        let mut conv = |name: &str, shape: [usize; 3]| file.conv(&format!("{PREFIX}{name}"), shape, false);
        let (c, joined) = (config.channels[0], config.channels[config.channels.len() - 1]);
        let last = config.channels.len() - 1;
        let piece = c / config.scale;
        let mut blocks = Vec::new();
        for b in 1..last {
            let name = |part: &str| format!("blocks.{b}.{part}");
            let mut pieces = Vec::new();
            for i in 0..config.scale - 1 {
                let shape = [piece, piece, config.kernels[b]];
                pieces.push(conv(&name(&format!("res2net_block.blocks.{i}.conv")), shape)?);
            }
            blocks.push(SpeakerBlock {
                conv1: conv(&name("tdnn1.conv"), [c, c, 1])?,
                pieces,
                dilation: config.dilations[b],
                conv2: conv(&name("tdnn2.conv"), [c, c, 1])?,
                squeeze: conv(&name("se_block.conv1"), [config.squeeze, c, 1])?,
                excite: conv(&name("se_block.conv2"), [c, config.squeeze, 1])?,
            });
        }
        Ok(Some(SpeakerWeights {
            first: conv("blocks.0.conv", [c, MELS, config.kernels[0]])?,
            first_dilation: config.dilations[0],
            blocks,
            join: conv("mfa.conv", [joined, joined, config.kernels[last]])?,
            join_dilation: config.dilations[last],
            attention_in: conv("asp.tdnn.conv", [config.attention, 3 * joined, 1])?,
            attention_out: conv("asp.conv", [joined, config.attention, 1])?,
            out: conv("fc", [width, 2 * joined, 1])?,
        }))
    }
}
