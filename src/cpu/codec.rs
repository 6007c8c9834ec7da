//! The codec decoder: frames to samples, streamed exactly (MODEL.md 7). All that lives between calls is one zeroed
//! block and a frame counter, so any cutting of the same frames into calls gives the same bits, reset is a fill
//! and a snapshot is a copy.

use super::along_time::{self, Signal};
use super::ops;
use super::simd::Threads;
use super::stack::{self, Kv, LayerKv};
use crate::config::CodecConfig;
use crate::frame::{Frame, SAMPLES_PER_FRAME};
use crate::state::{CodecState, Row};
use crate::weights::{CodecWeights, ConvNext, ResidualUnit};

/// Frames decoded together at most. Bounds the scratch memory of a long call; the result is the same for any.
pub(super) const FRAMES_TOGETHER: usize = 8;

/// Positions that one attends to besides itself.
pub(super) fn past_positions(config: &CodecConfig) -> usize {
    config.sliding_window - 1
}

/// What one stream's codec remembers: tails are `[channels][columns]`, the oldest column first; keys and values are
/// `[positions][kv_heads * head_dim]`, the newest position last.
#[derive(Clone)]
pub struct CodecSlot {
    block: Vec<f32>,
    /// Frames decoded so far.
    position: usize,
}

pub struct Codec<'a> {
    pub config: &'a CodecConfig,
    pub weights: &'a CodecWeights,
    pub threads: &'a Threads,
    pub state: &'a CodecState,
}

impl CodecSlot {
    pub(super) fn new(state: &CodecState) -> CodecSlot {
        CodecSlot { block: vec![0.0; state.floats], position: 0 }
    }

    pub(super) fn fits(&self, state: &CodecState) -> bool {
        self.block.len() == state.floats
    }

    fn row(&mut self, row: &Row) -> &mut [f32] {
        &mut self.block[row.range()]
    }
}

impl Codec<'_> {
    /// The next frames' samples, SAMPLES_PER_FRAME each, within [-1, 1]. Codes must be under codebook_size.
    pub fn decode(&self, slot: &mut CodecSlot, frames: &[Frame]) -> Vec<f32> {
        let mut samples = Vec::with_capacity(frames.len() * SAMPLES_PER_FRAME);
        for frames in frames.chunks(FRAMES_TOGETHER) {
            samples.extend(self.threads.install(|| self.decode_together(slot, frames)));
        }
        samples
    }

    /// Frames that `reach_frames` others or more will follow before any sample is wanted: what they leave is the
    /// transformer's alone, a fiftieth of the work.
    pub fn skim(&self, slot: &mut CodecSlot, frames: &[Frame]) {
        for frames in frames.chunks(FRAMES_TOGETHER) {
            self.threads.install(|| {
                let latent = self.latent(frames);
                self.transformer(slot, &latent, frames.len());
            });
        }
    }

    fn decode_together(&self, slot: &mut CodecSlot, frames: &[Frame]) -> Vec<f32> {
        let w = self.weights;
        let latent = self.latent(frames); // [t][codebook_dim]
        let x = self.transformer(slot, &latent, frames.len()); // [t][latent_dim]

        let mut len = frames.len();
        let mut signal = Signal::new(self.config.latent_dim, len, None);
        signal.fill_transposed(&x);
        let mut x = Vec::new(); // from here on [channel][len]
        for (i, (up, &ratio)) in w.upsamples.iter().zip(&self.config.upsampling_ratios).enumerate() {
            x = vec![0.0; self.config.latent_dim * len * ratio];
            along_time::conv_transposed(self.threads, &up.upsample, ratio, &signal, &mut x);
            len *= ratio;
            x = self.conv_next(slot, i, up, x, len);
            signal = Signal::new(self.config.latent_dim, len, None);
            signal.fill(&x);
        }

        let past = slot.row(&self.state.decoder_in);
        let mut signal = Signal::new(self.config.latent_dim, len, Some(past));
        signal.fill(&x);
        signal.keep(past);
        let mut channels = self.config.decoder_dim;
        let mut x = vec![0.0; channels * len];
        along_time::conv(self.threads, &w.decoder_in, 1, &signal, &mut x);

        for (block, state) in w.blocks.iter().zip(&self.state.blocks) {
            let past = slot.row(&state.upsample);
            let mut signal = Signal::new(channels, len, Some(past));
            signal.fill_snake(self.threads, &block.snake, &x);
            signal.keep(past);
            channels /= 2;
            x = vec![0.0; channels * len * block.rate];
            along_time::conv_transposed(self.threads, &block.upsample, block.rate, &signal, &mut x);
            len *= block.rate;
            for (unit, row) in block.units.iter().zip(&state.units) {
                self.residual_unit(slot.row(row), unit, &mut x, channels, len);
            }
        }

        let past = slot.row(&self.state.decoder_out);
        let mut signal = Signal::new(channels, len, Some(past));
        signal.fill_snake(self.threads, &w.last_snake, &x);
        signal.keep(past);
        let mut samples = vec![0.0; len];
        along_time::conv(self.threads, &w.decoder_out, 1, &signal, &mut samples);
        samples.iter_mut().for_each(|s| *s = s.clamp(-1.0, 1.0)); // NaN stays NaN, so that it is found
        samples
    }

    /// Codes to vectors: group 0's row through its projection, plus the sum of the other rows through theirs.
    fn latent(&self, frames: &[Frame]) -> Vec<f32> {
        let (w, half) = (self.weights, self.config.codebook_dim / 2);
        let mut first = vec![0.0; frames.len() * half];
        let mut rest = vec![0.0; frames.len() * half];
        let mut row = vec![0.0; half];
        for (t, frame) in frames.iter().enumerate() {
            for (group, (book, &code)) in w.codebooks.iter().zip(frame).enumerate() {
                book.read_row(code.into(), &mut row);
                let sum = if group == 0 { &mut first } else { &mut rest };
                ops::add(&mut sum[t * half..][..half], None, &row);
            }
        }
        let mut x = vec![0.0; frames.len() * self.config.codebook_dim];
        let mut y = x.clone();
        ops::linear(self.threads, &w.first_projection, None, &first, &mut x);
        ops::linear(self.threads, &w.rest_projection, None, &rest, &mut y);
        ops::add(&mut x, None, &y);
        x
    }

    /// pre_conv, input projection, windowed transformer, output projection: [t][codebook_dim] to [t][latent_dim].
    fn transformer(&self, slot: &mut CodecSlot, latent: &[f32], len: usize) -> Vec<f32> {
        let (w, config) = (self.weights, &self.config.transformer);
        let past = slot.row(&self.state.pre_conv);
        let mut signal = Signal::new(self.config.codebook_dim, len, Some(past));
        signal.fill_transposed(latent);
        signal.keep(past);
        let mut by_channel = vec![0.0; self.config.latent_dim * len];
        along_time::conv(self.threads, &w.pre_conv, 1, &signal, &mut by_channel);
        let mut x = vec![0.0; by_channel.len()];
        ops::transpose(&by_channel, len, &mut x);

        let mut h = vec![0.0; len * config.hidden];
        ops::linear(self.threads, &w.input_projection.weight, w.input_projection.bias.as_deref(), &x, &mut h);

        // Of the kept positions, those before the first frame are not there: zero is fresh, not a key.
        let window = self.config.sliding_window;
        let kv_width = config.kv_heads * config.head_dim;
        let there = slot.position.min(window - 1) * kv_width;
        let newest = |rows: &[f32]| rows[rows.len() - there..].to_vec();
        let layers = self.state.keys.iter().zip(&self.state.values);
        let layers = layers.map(|(k, v)| LayerKv { keys: newest(slot.row(k)), values: newest(slot.row(v)) }).collect();
        let mut kv = Kv { layers, position: slot.position };
        stack::forward(self.threads, config, &w.stack, Some(window), &mut kv, &mut h);
        for ((layer, k), v) in kv.layers.iter().zip(&self.state.keys).zip(&self.state.values) {
            for (kept, all) in [(k, &layer.keys), (v, &layer.values)] {
                let kept = slot.row(kept);
                let n = kept.len().min(all.len());
                let end = kept.len();
                kept[end - n..].copy_from_slice(&all[all.len() - n..]);
            }
        }
        slot.position = kv.position;

        ops::linear(self.threads, &w.output_projection.weight, w.output_projection.bias.as_deref(), &h, &mut x);
        x
    }

    /// x + gamma * pointwise2(gelu(pointwise1(norm(depthwise(x))))), x [channel][len].
    fn conv_next(&self, slot: &mut CodecSlot, i: usize, w: &ConvNext, mut x: Vec<f32>, len: usize) -> Vec<f32> {
        let channels = self.config.latent_dim;
        let past = slot.row(&self.state.depthwise[i]);
        let mut signal = Signal::new(channels, len, Some(past));
        signal.fill(&x);
        signal.keep(past);
        let mut by_channel = vec![0.0; x.len()];
        along_time::conv_depthwise(self.threads, &w.depthwise, &w.depthwise_bias, &signal, &mut by_channel);
        let mut h = vec![0.0; x.len()];
        ops::transpose(&by_channel, len, &mut h);
        ops::layer_norm(self.threads, &mut h, &w.norm, &w.norm_bias, 1e-6);
        let mut wide = vec![0.0; 4 * h.len()];
        ops::linear(self.threads, &w.pointwise1.weight, w.pointwise1.bias.as_deref(), &h, &mut wide);
        ops::gelu(&mut wide);
        ops::linear(self.threads, &w.pointwise2.weight, w.pointwise2.bias.as_deref(), &wide, &mut h);
        for (t, h) in h.chunks_exact(channels).enumerate() {
            for (c, (h, gamma)) in h.iter().zip(&w.gamma).enumerate() {
                x[c * len + t] += gamma * h;
            }
        }
        x
    }

    /// x += conv2(snake2(conv1(snake1(x)))), x [channel][len].
    fn residual_unit(&self, past: &mut [f32], unit: &ResidualUnit, x: &mut [f32], channels: usize, len: usize) {
        let mut signal = Signal::new(channels, len, Some(past));
        signal.fill_snake(self.threads, &unit.snake1, x);
        signal.keep(past);
        let mut h = vec![0.0; x.len()];
        along_time::conv(self.threads, &unit.conv1, unit.dilation, &signal, &mut h);
        let mut signal = Signal::new(channels, len, None);
        signal.fill_snake(self.threads, &unit.snake2, &h);
        along_time::conv(self.threads, &unit.conv2, 1, &signal, &mut h);
        ops::add(x, None, &h);
    }
}
