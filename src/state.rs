//! The table of all that the codec keeps between frames, for one slot: (name, offset, floats) over one zeroed
//! block, and one counter. Only arithmetic: a backend lays it over its memory. Zero means fresh, reset is one
//! fill, a snapshot is one copy. The talker's KV is kept apart: it grows and never needs zeroing.

use crate::config::CodecConfig;
use crate::weights::{DILATIONS, PRE_TAPS, TAPS};

/// A row block of the state: `columns` past values of each of `channels` channels, newest last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub name: String,
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

/// What a codec slot keeps. Tails are [channels, columns] (oldest column first); keys and values are
/// [positions, kv_heads * head_dim], the newest position last.
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
}

pub struct BlockState {
    pub upsample: Row,
    pub units: Vec<Row>,
}

impl CodecState {
    pub fn new(config: &CodecConfig) -> CodecState {
        let mut floats = 0;
        let mut row = |name: String, channels: usize, columns: usize| {
            let row = Row { name, offset: floats, channels, columns };
            floats += channels * columns;
            row
        };
        let transformer = &config.transformer;
        // A position attends to itself and to this many before it.
        let past = config.sliding_window - 1;
        let kv_width = transformer.kv_heads * transformer.head_dim;
        let pre_conv = row("pre_conv".into(), config.codebook_dim, PRE_TAPS - 1);
        let keys = (0..transformer.layers).map(|i| row(format!("layers.{i}.keys"), kv_width, past)).collect();
        let values = (0..transformer.layers).map(|i| row(format!("layers.{i}.values"), kv_width, past)).collect();
        let depthwise = (0..config.upsampling_ratios.len())
            .map(|i| row(format!("upsample.{i}.depthwise"), config.latent_dim, TAPS - 1))
            .collect();
        let decoder_in = row("decoder_in".into(), config.latent_dim, TAPS - 1);
        let mut channels = config.decoder_dim;
        let mut blocks = Vec::new();
        for i in 0..config.upsample_rates.len() {
            let upsample = row(format!("blocks.{i}.upsample"), channels, 1);
            channels /= 2;
            let unit = |(j, d): (usize, usize)| row(format!("blocks.{i}.units.{j}"), channels, (TAPS - 1) * d);
            blocks.push(BlockState { upsample, units: DILATIONS.into_iter().enumerate().map(unit).collect() });
        }
        let decoder_out = row("decoder_out".into(), channels, TAPS - 1);
        CodecState { pre_conv, keys, values, depthwise, decoder_in, blocks, decoder_out, floats }
    }
}
