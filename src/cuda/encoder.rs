//! The codec encoder on the device: samples to frames (MODEL.md 8). Owns its weights and where its signals lie. Its twin is
//! [`crate::cpu`]'s encoder.
//!
//! All signals are [time][channel]: a strided convolution is then a plain one with two taps, over rows that are `stride` inputs
//! side by side, and every product is `gemm`'s, with three terms. As the reference does, it convolves the sound piece by piece
//! with the tails carried, so that memory does not grow with it, and lets the transformer see all of it at once.
//!
//! 10 s of sound are 26 G multiply-adds: 14 of the stages, which the shortening convolutions have most of, 6.3 of the
//! transformer, 1 of the codebooks. Times six products of terms that is 0.5 ms of an H200's tensor cores at their best; bytes
//! are fewer than that: 190 MB of weights, and some 0.6 GB of signals at the first stage's width, most of them in the cache.

use super::args::NO_CODE;
use super::kernels::{Attention, Finish, Kernels, Place, Put, Store};
use super::upload::{Conv, Matrix, Uploader};
use crate::config::EncoderConfig;
use crate::cpu::ops;
use crate::device::KvNumbers;
use crate::driver::{Context, Span, Stream};
use crate::error::Result;
use crate::frame::{Frame, GROUPS, SAMPLES_PER_FRAME};
use crate::weights::{self, EncoderWeights};
use std::ops::Range;
use std::sync::Arc;

/// Samples whose convolutions run together: whole strides. Enough rows for every multiprocessor at the last stage, and 60 MB of
/// signals at the first.
const SAMPLES_TOGETHER: usize = 32 * SAMPLES_PER_FRAME;
/// Samples to one of the transformer's positions, of which the last step makes half as many frames.
const SAMPLES_PER_POSITION: usize = SAMPLES_PER_FRAME / 2;
/// Positions that a block of the attention sees.
const SPAN: usize = super::args::ATTENTION_SPAN_MAX as usize;
/// Rows whose attention leaves its parts at a time, where blocks share what a row sees.
const ATTENTION_ROWS: usize = 32;

/// The encoder with all that it needs but the sound.
pub(super) struct Encoder {
    config: EncoderConfig,
    net: Net,
    desk: Desk,
    /// For the longest sound so far.
    room: Option<Room>,
}

struct Net {
    first: Conv,
    stages: Vec<Stage>,
    last: Conv,
    layers: Vec<Layer>,
    halve: Conv,
    /// Group 0's, then the others'.
    projections: Matrix, // [2 codebook_dim][hidden]
    tables: Span<f32>, // [16][codes][codebook_dim]
}

struct Stage {
    conv1: Conv,
    conv2: Conv,
    shorten: Conv,
    stride: usize,
}

struct Layer {
    input_norm: [Span<f32>; 2], // weight, bias
    qkv: Matrix,
    o: Matrix,
    post_norm: [Span<f32>; 2],
    fc1: Matrix,
    fc2: Matrix,
    attention_scale: Span<f32>,
    mlp_scale: Span<f32>,
}

impl Net {
    fn upload(up: &mut Uploader, w: &EncoderWeights) -> Result<Net> {
        let stage = |up: &mut Uploader, stage: &weights::Stage| {
            Ok(Stage {
                conv1: Conv::upload(up, &stage.conv1)?,
                conv2: Conv::upload(up, &stage.conv2)?,
                shorten: Conv::upload_strided(up, &stage.shorten, stage.stride)?,
                stride: stage.stride,
            })
        };
        let layer = |up: &mut Uploader, layer: &weights::EncoderLayer| {
            Ok(Layer {
                input_norm: [up.floats(&layer.input_norm)?, up.floats(&layer.input_norm_bias)?],
                qkv: up.stacked(&[&layer.q, &layer.k, &layer.v])?,
                o: up.matrix(&layer.o)?,
                post_norm: [up.floats(&layer.post_norm)?, up.floats(&layer.post_norm_bias)?],
                fc1: up.matrix(&layer.fc1)?,
                fc2: up.matrix(&layer.fc2)?,
                attention_scale: up.floats(&layer.scales.attention)?,
                mlp_scale: up.floats(&layer.scales.mlp)?,
            })
        };
        let numbers = w.codebooks.iter().map(|book| book.embedding_sum.elements()).sum();
        let tables = || w.codebooks.iter().flat_map(weights::Codebook::table).collect();
        Ok(Net {
            first: Conv::upload(up, &w.first)?,
            stages: w.stages.iter().map(|s| stage(up, s)).collect::<Result<_>>()?,
            last: Conv::upload(up, &w.last)?,
            layers: w.layers.iter().map(|l| layer(up, l)).collect::<Result<_>>()?,
            halve: Conv::upload_strided(up, &w.halve, 2)?,
            projections: up.stacked(&[&w.semantic_projection, &w.acoustic_projection])?,
            tables: up.made(numbers, tables)?,
        })
    }
}

/// Where a piece's signals lie between launches, and the tails of the pieces before: of the first convolution, of each stage's
/// two, and of the last.
struct Desk {
    x: Span<f32>,
    between: Span<f32>,
    /// Through ELU; a stage's input in one, its output in the other.
    activated: [Span<f32>; 2],
    tails: Vec<Span<f32>>,
}

impl Desk {
    fn new(context: &Arc<Context>, net: &Net) -> Result<Desk> {
        let (mut len, mut most, mut between, mut activated) = (SAMPLES_TOGETHER, 0, 0, [0; 2]);
        let mut tails = vec![&net.first];
        for (i, stage) in net.stages.iter().enumerate() {
            let [inside, channels] = [&stage.conv1, &stage.conv2].map(|conv| conv.weight.rows);
            most = most.max(len * channels);
            between = between.max(len * inside);
            activated[i % 2] = activated[i % 2].max(len * channels);
            len /= stage.stride;
            tails.extend([&stage.conv1, &stage.shorten]);
        }
        activated[net.stages.len() % 2] = activated[net.stages.len() % 2].max(len * net.last.inputs);
        tails.push(&net.last);
        let floats = |len: usize| Span::new(context, len);
        let [one, other] = activated.map(floats);
        let tails = tails.into_iter().map(|conv| floats(conv.past(1) * conv.inputs));
        Ok(Desk {
            x: floats(most)?,
            between: floats(between)?,
            activated: [one?, other?],
            tails: tails.collect::<Result<_>>()?,
        })
    }
}

/// For all of a sound at once.
struct Room {
    /// Of the transformer, an even number.
    positions: usize,
    samples: Span<f32>,
    /// Two rows in front, for what the last step sees there.
    x: Span<f32>, // [2 + positions][hidden]
    h: Span<f32>, // [positions][hidden]
    qkv: Span<f32>,
    attended: Span<f32>,
    wide: Span<f32>,
    keys: Span<u8>,
    values: Span<u8>,
    turns: Span<f32>,
    parts: Span<f32>,
    position: Span<u32>, // 0
    halved: Span<f32>,   // [frames][hidden]
    latent: Span<f32>,   // [frames][2][codebook_dim]
    codes: Span<u32>,    // [frames][16]
}

impl Room {
    fn new(stream: &Stream, config: &EncoderConfig, net: &Net, positions: usize) -> Result<Room> {
        let (context, shape) = (stream.context(), shape(config, positions));
        let (floats, width) = (|len: usize| Span::new(context, len), config.heads * config.head_dim);
        let bytes = |len: usize| Span::new(context, len * KvNumbers::F32.bytes());
        let turns: Vec<f32> =
            ops::turns(config.head_dim, config.rope_theta, 0..positions).iter().flat_map(|t| [t.0, t.1]).collect();
        let frames = positions / 2;
        Ok(Room {
            positions,
            samples: floats(positions * SAMPLES_PER_POSITION)?,
            x: floats((2 + positions) * config.hidden)?,
            h: floats(positions * config.hidden)?,
            qkv: floats(positions * shape.qkv_width())?,
            attended: floats(positions * width)?,
            wide: floats(positions * config.intermediate)?,
            keys: bytes(positions * width)?,
            values: bytes(positions * width)?,
            turns: Span::from(stream, &turns)?,
            parts: floats(shape.parts_len(positions.min(ATTENTION_ROWS)))?,
            position: Span::from(stream, &[0])?,
            halved: floats(frames * config.hidden)?,
            latent: floats(frames * net.projections.rows)?,
            codes: Span::new(context, frames * GROUPS)?,
        })
    }
}

/// The attention over so many positions at most.
fn shape(config: &EncoderConfig, positions: usize) -> Attention {
    let EncoderConfig { heads, head_dim, .. } = *config;
    Attention { heads, kv_heads: heads, head_dim, window: None, spans: positions.div_ceil(SPAN) }
}

/// Frames on their way.
pub(super) struct Encoding(Span<u32>);

impl Encoder {
    /// Uploads the weights.
    pub fn open(stream: &Stream, config: &EncoderConfig, weights: &EncoderWeights) -> Result<Encoder> {
        let net = Uploader::run(stream, &mut |_| {}, |up| Net::upload(up, weights))?;
        let desk = Desk::new(stream.context(), &net)?;
        Ok(Encoder { config: config.clone(), net, desk, room: None })
    }

    /// Begins to make frames of the samples, one at least; one encoding is under way at a time.
    pub fn begin(&mut self, kernels: &Kernels, stream: &Stream, samples: &[f32]) -> Result<Encoding> {
        let positions = samples.len().div_ceil(SAMPLES_PER_POSITION);
        let room = match self.room.take_if(|room| room.positions >= positions) {
            Some(room) => room,
            None => {
                self.room = None; // its memory may be what the longer one needs
                Room::new(stream, &self.config, &self.net, positions.next_multiple_of(256))?
            }
        };
        let Encoder { config, net, desk, room: kept } = self;
        let room = kept.insert(room);
        let launches = Launches { config, net, desk, room, kernels, stream };
        let x = launches.convolve(samples, positions)?;
        launches.transform(&x)?;
        launches.quantise(positions).map(Encoding)
    }

    /// Waits for them. `None` where arithmetic left the finite numbers.
    pub fn finish(&self, stream: &Stream, encoding: &Encoding) -> Result<Option<Vec<Frame>>> {
        let mut codes = vec![0; encoding.0.len()];
        encoding.0.read(stream, &mut codes)?;
        let frames = codes.as_chunks::<GROUPS>().0.iter().map(|frame| frame.map(|code| code as u16)).collect();
        Ok((!codes.contains(&NO_CODE)).then_some(frames))
    }
}

/// What the launches of one sound are made with.
struct Launches<'a> {
    config: &'a EncoderConfig,
    net: &'a Net,
    desk: &'a Desk,
    room: &'a Room,
    kernels: &'a Kernels,
    stream: &'a Stream,
}

impl Launches<'_> {
    /// The samples to the transformer's input, [positions][hidden].
    fn convolve(&self, samples: &[f32], positions: usize) -> Result<Span<f32>> {
        let &Launches { config, desk, room, stream, .. } = self;
        let there = room.samples.part(0..samples.len());
        there.write(stream, samples)?;
        desk.tails.iter().try_for_each(|tail| tail.fill(stream, 0))?;
        let x = room.x.part(2 * config.hidden..(2 + positions) * config.hidden);
        for first in (0..samples.len()).step_by(SAMPLES_TOGETHER) {
            let end = (first + SAMPLES_TOGETHER).min(samples.len());
            let rows = first / SAMPLES_PER_POSITION..end.div_ceil(SAMPLES_PER_POSITION);
            let to = x.part(rows.start * config.hidden..rows.end * config.hidden);
            self.convolve_piece(&there.part(first..end), &to, end < samples.len())?;
        }
        Ok(x)
    }

    /// The next samples through the convolutions. Only behind the last piece comes no `more`, and only that may be no multiple
    /// of every stride.
    fn convolve_piece(&self, samples: &Span<f32>, to: &Span<f32>, more: bool) -> Result<()> {
        let &Launches { net, desk, kernels, stream, .. } = self;
        let mut tails = desk.tails.iter();
        let mut conv = |conv: &Conv, from: &Span<f32>, put: &Put| -> Result<()> {
            let tail = tails.next().filter(|tail| tail.len() > 0);
            kernels.conv(stream, conv, 1, tail, from, put)?;
            match tail {
                // At once: what comes next may be written over it.
                Some(tail) if more => tail.copy_from(stream, &from.part(from.len() - tail.len()..from.len())),
                _ => Ok(()),
            }
        };
        let mut len = samples.len();
        let part = |span: &Span<f32>, len: usize, channels: usize| span.part(0..len * channels);
        let channels = net.first.weight.rows;
        let [x, h] = [&desk.x, &desk.activated[0]].map(|span| part(span, len, channels));
        conv(&net.first, samples, &Put { y: Some(&x), ..Put::elu(&h) })?;
        for (i, stage) in net.stages.iter().enumerate() {
            let [inside, channels] = [&stage.conv1, &stage.conv2].map(|conv| conv.weight.rows);
            let [x, h] = [&desk.x, &desk.activated[i % 2]].map(|span| part(span, len, channels));
            let between = part(&desk.between, len, inside);
            conv(&stage.conv1, &h, &Put::elu(&between))?;
            kernels.conv(stream, &stage.conv2, 1, None, &between, &Put { base: Some(&x), ..Put::elu(&h) })?;
            // Zeros behind the end, up to a whole stride.
            let columns = len.div_ceil(stage.stride);
            let whole = part(&desk.activated[i % 2], columns * stage.stride, channels);
            whole.part(h.len()..whole.len()).fill(stream, 0)?;
            let outputs = stage.shorten.weight.rows;
            let [x, h] = [&desk.x, &desk.activated[(i + 1) % 2]].map(|span| part(span, columns, outputs));
            let last = i + 1 == net.stages.len();
            conv(&stage.shorten, &whole, &Put { y: (!last).then_some(&x), ..Put::elu(&h) })?;
            len = columns;
        }
        conv(&net.last, &part(&desk.activated[net.stages.len() % 2], len, net.last.inputs), &Put::rows(to))
    }

    /// x [positions][hidden] through the transformer, in place, each position seeing itself and all before it.
    fn transform(&self, x: &Span<f32>) -> Result<()> {
        let &Launches { config, net, room, kernels, stream, .. } = self;
        let (count, width) = (x.len() / config.hidden, config.heads * config.head_dim);
        let shape = shape(config, count);
        let [h, qkv] = [(&room.h, config.hidden), (&room.qkv, shape.qkv_width())].map(|(s, w)| s.part(0..count * w));
        let [attended, wide] =
            [(&room.attended, width), (&room.wide, config.intermediate)].map(|(s, w)| s.part(0..count * w));
        let place = Place::Run { keys: room.keys.clone(), values: room.values.clone() };
        let store = Store { numbers: KvNumbers::F32, capacity: room.positions, place };
        let norm = |[weight, bias]: &[Span<f32>; 2]| kernels.layer_norm(stream, x, [weight, bias], config.norm_eps, &h);
        let together = if shape.spans == 1 { count } else { ATTENTION_ROWS };
        for layer in &net.layers {
            norm(&layer.input_norm)?;
            kernels.gemm(stream, &layer.qkv, None, Finish::Store, &h, &qkv)?;
            kernels.append(stream, &shape, None, &room.turns, &room.position, &qkv, &store)?;
            for first in (0..count).step_by(together) {
                let end = (first + together).min(count);
                let qkv = qkv.part(first * shape.qkv_width()..end * shape.qkv_width());
                let attended = attended.part(first * width..end * width);
                kernels.attention(stream, &shape, &room.position, first, &qkv, &store, &room.parts, &attended)?;
            }
            kernels.gemm(stream, &layer.o, None, Finish::Add(Some(&layer.attention_scale)), &attended, x)?;
            norm(&layer.post_norm)?;
            kernels.gemm(stream, &layer.fc1, None, Finish::Gelu, &h, &wide)?;
            kernels.gemm(stream, &layer.fc2, None, Finish::Add(Some(&layer.mlp_scale)), &wide, x)?;
        }
        Ok(())
    }

    /// What the transformer left to codes. Before its first row and behind its last stands the same again, where the other
    /// convolutions have zeros.
    fn quantise(&self, positions: usize) -> Result<Span<u32>> {
        let &Launches { config, net, room, kernels, stream, .. } = self;
        let frames = positions.div_ceil(2);
        let row = |row: usize| room.x.part(row * config.hidden..(row + 1) * config.hidden);
        row(0).copy_from(stream, &row(2))?;
        row(1).copy_from(stream, &row(2))?;
        if positions % 2 == 1 {
            row(2 + positions).copy_from(stream, &row(1 + positions))?;
        }
        let [tail, x] = [0..2, 2..2 + 2 * frames].map(|rows| {
            let Range { start, end } = rows;
            room.x.part(start * config.hidden..end * config.hidden)
        });
        let halved = room.halved.part(0..frames * config.hidden);
        kernels.conv(stream, &net.halve, 1, Some(&tail), &x, &Put::rows(&halved))?;
        let latent = room.latent.part(0..frames * net.projections.rows);
        kernels.gemm(stream, &net.projections, None, Finish::Store, &halved, &latent)?;
        let codes = room.codes.part(0..frames * GROUPS);
        kernels.nearest(stream, &latent, &net.tables, config.codebook_dim, &codes)?;
        Ok(codes)
    }
}
