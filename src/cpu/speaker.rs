//! The speaker encoder: a log-mel spectrogram to one vector (MODEL.md 9). Channel-first throughout.

use super::along_time::{self, Signal};
use super::ops;
use super::simd::Threads;
use crate::config::MELS;
use crate::weights::{Conv, SpeakerBlock, SpeakerWeights};

pub struct SpeakerEncoder<'a> {
    pub weights: &'a SpeakerWeights,
    pub threads: &'a Threads,
}

/// How many windows the mirrored edges of its convolutions need.
pub fn fewest_frames(weights: &SpeakerWeights) -> usize {
    let reach = |conv: &Conv, dilation: usize| (conv.weight.shape[2] - 1) * dilation / 2;
    let blocks = weights.blocks.iter().flat_map(|b| b.pieces.iter().map(|piece| reach(piece, b.dilation)));
    let ends = [reach(&weights.first, weights.first_dilation), reach(&weights.join, weights.join_dilation)];
    blocks.chain(ends).max().unwrap_or(0) + 1
}

impl SpeakerEncoder<'_> {
    /// mels [frames][MELS] to the speaker vector [talker hidden]; `fewest_frames` at least.
    pub fn run(&self, mels: &[f32]) -> Vec<f32> {
        let w = self.weights;
        let len = mels.len() / MELS;
        let mut x = vec![0.0; mels.len()];
        ops::transpose(mels, MELS, &mut x);
        let mut x = self.rectified(&w.first, w.first_dilation, &x, len);
        let mut joined = Vec::new();
        for block in &w.blocks {
            x = self.block(block, x, len);
            joined.extend_from_slice(&x);
        }
        let x = self.rectified(&w.join, w.join_dilation, &joined, len);
        self.conv(&w.out, 1, &self.pool(&x, len))
    }

    /// A convolution around its output, x [in][len].
    fn conv(&self, conv: &Conv, dilation: usize, x: &[f32]) -> Vec<f32> {
        let &[out, input, taps] = &conv.weight.shape[..] else { return Vec::new() };
        let signal = Signal::mirrored(input, (taps - 1) * dilation / 2, x);
        let mut y = vec![0.0; out * (x.len() / input)];
        along_time::conv(self.threads, conv, dilation, &signal, &mut y);
        y
    }

    /// max(conv(x), 0), x [in][len].
    fn rectified(&self, conv: &Conv, dilation: usize, x: &[f32], len: usize) -> Vec<f32> {
        debug_assert_eq!(x.len(), conv.weight.shape[1] * len);
        let mut y = self.conv(conv, dilation, x);
        ops::relu(&mut y);
        y
    }

    /// x + gate * conv2(res2net(conv1(x))), x [c][len].
    fn block(&self, w: &SpeakerBlock, x: Vec<f32>, len: usize) -> Vec<f32> {
        let mut h = self.rectified(&w.conv1, 1, &x, len);
        // The first piece of the channels passes; each other is convolved, from the third on with the one before it added.
        let piece = h.len() / (w.pieces.len() + 1);
        for (i, conv) in w.pieces.iter().enumerate() {
            let (before, rest) = h.split_at_mut((i + 1) * piece);
            let mut input = rest[..piece].to_vec();
            if i > 0 {
                ops::add(&mut input, None, &before[i * piece..]);
            }
            rest[..piece].copy_from_slice(&self.rectified(conv, w.dilation, &input, len));
        }
        let mut h = self.rectified(&w.conv2, 1, &h, len);
        let means: Vec<f32> = h.chunks_exact(len).map(|row| mean(row) as f32).collect();
        let mut gates = self.conv(&w.excite, 1, &self.rectified(&w.squeeze, 1, &means, 1));
        gates.iter_mut().for_each(|g| *g = 1.0 / (1.0 + (-*g).exp()));
        for ((h, x), gate) in h.chunks_exact_mut(len).zip(x.chunks_exact(len)).zip(gates) {
            h.iter_mut().zip(x).for_each(|(h, x)| *h = *h * gate + x);
        }
        h
    }

    /// Mean and deviation of each channel over time, weighted by an attention over time of its own: x [joined][len] to
    /// [2 joined].
    fn pool(&self, x: &[f32], len: usize) -> Vec<f32> {
        let w = self.weights;
        let even = vec![1.0 / len as f32; len];
        let rows = || x.chunks_exact(len);
        let (means, deviations): (Vec<f32>, Vec<f32>) = rows().map(|row| moments(row, &even)).unzip();
        let mut wide = x.to_vec();
        for statistic in means.iter().chain(&deviations) {
            wide.extend(std::iter::repeat_n(*statistic, len));
        }
        let mut h = self.rectified(&w.attention_in, 1, &wide, len);
        h.iter_mut().for_each(|h| *h = h.tanh());
        let mut weights = self.conv(&w.attention_out, 1, &h);
        weights.chunks_exact_mut(len).for_each(ops::softmax);
        let (means, deviations): (Vec<f32>, Vec<f32>) =
            rows().zip(weights.chunks_exact(len)).map(|(row, weights)| moments(row, weights)).unzip();
        [means, deviations].concat()
    }
}

fn mean(row: &[f32]) -> f64 {
    row.iter().map(|&x| f64::from(x)).sum::<f64>() / row.len() as f64
}

/// Weighted mean, and the root of the weighted mean square of what is left, which is 1e-12 at least.
fn moments(row: &[f32], weights: &[f32]) -> (f32, f32) {
    let sum =
        |of: &dyn Fn(f64) -> f64| -> f64 { row.iter().zip(weights).map(|(&x, &w)| f64::from(w) * of(x.into())).sum() };
    let mean = sum(&|x| x);
    let square = sum(&|x| (x - mean) * (x - mean));
    let square = if square < 1e-12 { 1e-12 } else { square }; // not `max`: NaN must stay NaN, so that it is found
    (mean as f32, square.sqrt() as f32)
}
