//! The table of all that the codec keeps between frames, for one slot: each an offset and a size in one zeroed
//! block, and one counter. Only arithmetic: a backend lays it over its memory. Zero means fresh, reset is one
//! fill, a snapshot is one copy. The talker's KV is kept apart: it grows and never needs zeroing.

use crate::config::CodecConfig;
use crate::weights::{DILATIONS, PRE_TAPS, TAPS};

/// A row block of the state: `columns` past values of each of `channels` channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// In floats, from the block's start.
    pub offset: usize,
    pub channels: usize,
    pub columns: usize,
}

impl Row {
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.channels * self.columns
    }
}

/// What a codec slot keeps. Which way round a tail lies, and where in its row a key is, is the backend's.
pub struct CodecState {
    pub pre_conv: Row,
    pub keys: Vec<Row>,   // a layer each, roped
    pub values: Vec<Row>, // a layer each
    pub depthwise: Vec<Row>,
    pub decoder_in: Row,
    /// A block each: the transposed convolution's last input column, then a tail for each residual unit.
    pub blocks: Vec<BlockState>,
    pub decoder_out: Row,
    /// Floats in all.
    pub floats: usize,
    /// So many of the last frames are all that the convolutions behind the transformer remember: what comes before them leaves
    /// `pre_conv`, `keys` and `values`, and nothing in any other row.
    pub reach_frames: usize,
}

pub struct BlockState {
    pub upsample: Row,
    pub units: Vec<Row>,
}

impl CodecState {
    /// `positions`: whose keys and values are kept, at least those that a position attends to besides itself.
    pub fn new(config: &CodecConfig, positions: usize) -> CodecState {
        let mut floats = 0usize;
        let mut row = |channels: usize, columns: usize| {
            let row = Row { offset: floats, channels, columns };
            floats = (floats + channels * columns).next_multiple_of(4); // 16 bytes, which vector loads ask for
            row
        };
        let transformer = &config.transformer;
        let kv_width = transformer.kv_heads * transformer.head_dim;
        let pre_conv = row(config.codebook_dim, PRE_TAPS - 1);
        let keys = (0..transformer.layers).map(|_| row(kv_width, positions)).collect();
        let values = (0..transformer.layers).map(|_| row(kv_width, positions)).collect();
        let depthwise = (0..config.upsampling_ratios.len()).map(|_| row(config.latent_dim, TAPS - 1)).collect();
        let decoder_in = row(config.latent_dim, TAPS - 1);
        let mut channels = config.decoder_dim;
        let mut blocks = Vec::new();
        for _ in &config.upsample_rates {
            let upsample = row(channels, 1);
            channels /= 2;
            let unit = |d| row(channels, (TAPS - 1) * d);
            blocks.push(BlockState { upsample, units: DILATIONS.into_iter().map(unit).collect() });
        }
        let decoder_out = row(channels, TAPS - 1);
        let reach_frames = reach_frames(config);
        CodecState { pre_conv, keys, values, depthwise, decoder_in, blocks, decoder_out, floats, reach_frames }
    }

    /// Of so many frames that are heard without a sample being wanted, and `more` to follow them: those that only the transformer
    /// need hear.
    pub fn early(&self, frames: usize, more: usize) -> usize {
        (frames + more).saturating_sub(self.reach_frames).min(frames)
    }
}

/// How far back the newest columns of every tail come from.
fn reach_frames(config: &CodecConfig) -> usize {
    // At the rate of the signal so far: the columns whose past is in the newest one, with it.
    let (mut rate, mut reach) = (1, 0);
    for ratio in &config.upsampling_ratios {
        (rate, reach) = (rate * ratio, reach * ratio + TAPS - 1);
    }
    reach += TAPS - 1;
    for up in &config.upsample_rates {
        let units: usize = DILATIONS.iter().map(|d| (TAPS - 1) * d).sum();
        (rate, reach) = (rate * up, (reach + 1) * up + units);
    }
    (reach + TAPS - 1).div_ceil(rate)
}

#[cfg(test)]
mod tests {
    //! Would catch: a row that is missing, twice, too short or over another.
    use super::*;
    use crate::config::StackConfig;

    #[test]
    fn published_sizes_are_those_of_the_table_in_model_md() {
        let transformer = StackConfig {
            hidden: 512,
            intermediate: 1024,
            layers: 8,
            heads: 16,
            kv_heads: 16,
            head_dim: 64,
            rms_eps: 1e-5,
            rope_theta: 1e4,
        };
        let config = CodecConfig {
            latent_dim: 1024,
            codebook_dim: 512,
            codebook_size: 2048,
            transformer,
            sliding_window: 72,
            decoder_dim: 1536,
            upsample_rates: vec![8, 5, 4, 3],
            upsampling_ratios: vec![2, 2],
        };
        let state = CodecState::new(&config, 71);
        let floats = |rows: &[&Row]| rows.iter().map(|r| r.range().len()).sum::<usize>();
        let all = |rows: &[Row]| floats(&rows.iter().collect::<Vec<_>>());
        let upsamples: Vec<&Row> = state.blocks.iter().map(|b| &b.upsample).collect();
        let units: usize = state.blocks.iter().map(|b| all(&b.units)).sum();
        assert_eq!(floats(&[&state.pre_conv]), 1_024);
        assert_eq!(all(&state.keys) + all(&state.values), 1_163_264);
        assert_eq!(all(&state.depthwise), 12_288);
        assert_eq!(floats(&[&state.decoder_in]), 6_144);
        assert_eq!(floats(&upsamples), 2_880);
        assert_eq!(units, 112_320);
        assert_eq!(floats(&[&state.decoder_out]), 576);
        assert_eq!(state.floats, 1_298_496, "nothing besides, nothing over another");
        // 18,009 samples.
        assert_eq!(state.reach_frames, 10);
    }
}
