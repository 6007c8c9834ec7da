//! The codec encoder: samples to frames (MODEL.md 8). The convolutions run in pieces of a second, whose tails are carried,
//! so that memory does not grow with the recording; its transformer sees all of it at once.

use super::along_time::{self, Signal};
use super::ops::{self, Attention};
use super::simd::Threads;
use crate::config::{CodecConfig, EncoderConfig};
use crate::frame::{Frame, GROUPS, SAMPLES_PER_FRAME};
use crate::weights::{Conv, EncoderLayer, EncoderWeights, Tensor};

/// Samples whose convolutions are computed together: whole strides, and the result is the same for any.
const SAMPLES_TOGETHER: usize = 12 * SAMPLES_PER_FRAME;

pub struct Encoder<'a> {
    pub config: &'a EncoderConfig,
    pub codec: &'a CodecConfig,
    pub weights: &'a EncoderWeights,
    pub threads: &'a Threads,
}

/// The last inputs of each convolution that meets more than one, in the order of the signal; zeros before the sound.
struct Tails(Vec<Vec<f32>>);

impl Encoder<'_> {
    /// Frames of the samples, one for each 1920 begun; `None` where arithmetic left the finite numbers.
    pub fn encode(&self, samples: &[f32]) -> Option<Vec<Frame>> {
        let mut tails = Tails(self.tails());
        let mut x = Vec::new(); // [t][hidden], 25 a second
        for piece in samples.chunks(SAMPLES_TOGETHER) {
            x.extend(self.convolve(&mut tails, piece));
        }
        for layer in &self.weights.layers {
            self.layer(layer, &mut x);
        }
        let x = self.halve(&x);
        self.quantise(&x)
    }

    fn tails(&self) -> Vec<Vec<f32>> {
        let w = self.weights;
        let tail = |conv: &Conv, stride: usize| vec![0.0; conv.weight.shape[1] * (conv.weight.shape[2] - stride)];
        let stages = w.stages.iter().flat_map(|s| [tail(&s.conv1, 1), tail(&s.shorten, s.stride)]);
        std::iter::once(tail(&w.first, 1)).chain(stages).chain([tail(&w.last, 1)]).collect()
    }

    /// The next samples through the convolutions: [len / 960, rounded up][hidden]. Only the last piece may be no multiple.
    fn convolve(&self, tails: &mut Tails, samples: &[f32]) -> Vec<f32> {
        let w = self.weights;
        let mut tails = tails.0.iter_mut();
        let mut next = || tails.next().map_or(&mut [][..], |tail| &mut tail[..]);
        let mut x = self.conv(&w.first, next(), samples);
        for stage in &w.stages {
            let mut h = x.clone();
            ops::elu(self.threads, &mut h);
            let mut h = self.conv(&stage.conv1, next(), &h);
            ops::elu(self.threads, &mut h);
            ops::add(&mut x, None, &self.conv(&stage.conv2, &mut [], &h));
            ops::elu(self.threads, &mut x);
            x = self.shorten(&stage.shorten, stage.stride, next(), &x);
        }
        ops::elu(self.threads, &mut x);
        let by_channel = self.conv(&w.last, next(), &x);
        let mut x = vec![0.0; by_channel.len()];
        ops::transpose(&by_channel, by_channel.len() / self.config.hidden, &mut x);
        x
    }

    /// x [in][len] behind the tail, which then holds the newest columns.
    fn conv(&self, conv: &Conv, tail: &mut [f32], x: &[f32]) -> Vec<f32> {
        let &[out, input, _] = &conv.weight.shape[..] else { return Vec::new() };
        let len = x.len() / input;
        let mut signal = Signal::new(input, len, (!tail.is_empty()).then_some(&*tail));
        signal.fill(x);
        if !tail.is_empty() {
            signal.keep(tail);
        }
        let mut y = vec![0.0; out * len];
        along_time::conv(self.threads, conv, 1, &signal, &mut y);
        y
    }

    /// One column of `stride`: x [in][len] to [out][len / stride, rounded up].
    fn shorten(&self, conv: &Conv, stride: usize, tail: &mut [f32], x: &[f32]) -> Vec<f32> {
        let &[out, input, _] = &conv.weight.shape[..] else { return Vec::new() };
        let len = x.len() / input;
        let signal = Signal::strided(input, stride, tail, x);
        for (tail, x) in tail.chunks_exact_mut(stride).zip(x.chunks_exact(len)) {
            // What is shorter than a stride is the sound's end.
            if let Some(newest) = len.checked_sub(stride) {
                tail.copy_from_slice(&x[newest..]);
            }
        }
        let mut y = vec![0.0; out * len.div_ceil(stride)];
        along_time::conv_strided(self.threads, conv, stride, &signal, &mut y);
        y
    }

    /// x [t][hidden] through one layer, each position seeing itself and all before it.
    fn layer(&self, w: &EncoderLayer, x: &mut [f32]) {
        let c = self.config;
        let (t, width) = (x.len() / c.hidden, c.heads * c.head_dim);
        let linear = |weight: &Tensor, x: &[f32]| {
            let mut y = vec![0.0; t * weight.shape[0]];
            ops::linear(self.threads, weight, None, x, &mut y);
            y
        };
        let mut h = x.to_vec();
        ops::layer_norm(self.threads, &mut h, &w.input_norm, &w.input_norm_bias, c.norm_eps);
        let (mut q, mut k, v) = (linear(&w.q, &h), linear(&w.k, &h), linear(&w.v, &h));
        let turns = ops::turns(c.head_dim, c.rope_theta, 0..t);
        ops::rope(&mut q, width, c.head_dim, &turns);
        ops::rope(&mut k, width, c.head_dim, &turns);
        let shape = Attention { heads: c.heads, kv_heads: c.heads, head_dim: c.head_dim, window: None };
        let mut attended = vec![0.0; q.len()];
        ops::attention(self.threads, &shape, &q, &k, &v, &mut attended);
        ops::add(x, Some(&w.scales.attention), &linear(&w.o, &attended));

        let mut h = x.to_vec();
        ops::layer_norm(self.threads, &mut h, &w.post_norm, &w.post_norm_bias, c.norm_eps);
        let mut h = linear(&w.fc1, &h);
        ops::gelu(&mut h);
        ops::add(x, Some(&w.scales.mlp), &linear(&w.fc2, &h));
    }

    /// From 25 a second to 12.5, x [t][hidden] to [t / 2, rounded up][hidden]. Before the first and behind the last stands
    /// the same again, where the other convolutions have zeros.
    fn halve(&self, x: &[f32]) -> Vec<f32> {
        let hidden = self.config.hidden;
        let mut columns = x.to_vec();
        if (x.len() / hidden) % 2 == 1 {
            columns.extend_from_slice(&x[x.len() - hidden..]);
        }
        let len = columns.len() / hidden;
        let mut by_channel = vec![0.0; columns.len()];
        ops::transpose(&columns, hidden, &mut by_channel);
        let mut tail: Vec<f32> = x[..hidden].iter().flat_map(|&first| [first; 2]).collect();
        let halved = self.shorten(&self.weights.halve, 2, &mut tail, &by_channel);
        let mut y = vec![0.0; halved.len()];
        ops::transpose(&halved, len / 2, &mut y);
        y
    }

    /// The nearest rows: of group 0's table to its projection of x [t][hidden]; of the other groups' tables, one behind
    /// another, to what the rows before have left of theirs. The first of equals counts. `None` where that is not finite.
    fn quantise(&self, x: &[f32]) -> Option<Vec<Frame>> {
        let (w, width) = (self.weights, self.config.codebook_dim);
        let t = x.len() / self.config.hidden;
        let mut frames = vec![[0; GROUPS]; t];
        let mut left = vec![0.0; t * width];
        let mut table = vec![0.0; self.codec.codebook_size * width];
        let mut apart = vec![0.0; t * self.codec.codebook_size];
        for (group, book) in w.codebooks.iter().enumerate() {
            if group <= 1 {
                let projection = [&w.semantic_projection, &w.acoustic_projection][group];
                ops::linear(self.threads, projection, None, x, &mut left);
            }
            for (row, to) in table.chunks_exact_mut(width).enumerate() {
                book.read_row(row, to);
            }
            ops::distances(self.threads, &table, width, &left, &mut apart);
            let rows = apart.chunks_exact(self.codec.codebook_size);
            for ((frame, rows), left) in frames.iter_mut().zip(rows).zip(left.chunks_exact_mut(width)) {
                let mut nearest = 0;
                for (row, distance) in rows.iter().enumerate() {
                    if *distance < rows[nearest] {
                        nearest = row;
                    }
                }
                frame[group] = nearest as u16;
                left.iter_mut().zip(&table[nearest * width..]).for_each(|(x, row)| *x -= row);
            }
            if !left.iter().all(|x| x.is_finite()) {
                return None;
            }
        }
        Some(frames)
    }
}
