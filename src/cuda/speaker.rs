//! The speaker encoder on the device: a log-mel spectrogram to one vector (MODEL.md 9). Owns its weights and where its signals
//! lie. Its twin is [`crate::cpu`]'s, whose spectrogram it takes: that is f64, which the vector needs where a voice is loud and
//! a band is empty.
//!
//! All signals are [time][channel]. 10 s of sound are 938 rows: 6.2 G multiply-adds, nothing to a GPU; what takes time is that
//! some 80 launches wait for one another, each for microseconds.

use super::kernels::{Finish, Kernels, Put};
use super::upload::{Conv, Matrix, Uploader};
use crate::config::MELS;
use crate::driver::{Context, Span, Stream};
use crate::error::Result;
use crate::weights::{self, SpeakerWeights};
use std::sync::Arc;

/// The encoder with all that it needs but the sound.
pub(super) struct Speaker {
    net: Net,
    /// For the longest sound so far.
    room: Option<Room>,
}

struct Net {
    /// Rows that the taps of a convolution reach on either side, at most.
    farthest: usize,
    first: Conv,
    first_dilation: usize,
    blocks: Vec<Block>,
    join: Conv,
    join_dilation: usize,
    /// Of the signal, and of its mean and deviation, which are the same for every row.
    attention_in: Matrix,
    attention_of_all: Matrix,
    attention_bias: Span<f32>,
    attention_out: Conv,
    out: Conv,
}

struct Block {
    conv1: Conv,
    pieces: Vec<Conv>,
    dilation: usize,
    conv2: Conv,
    squeeze: Conv,
    excite: Conv,
}

impl Net {
    fn upload(up: &mut Uploader, w: &SpeakerWeights) -> Result<Net> {
        let block = |up: &mut Uploader, block: &weights::SpeakerBlock| {
            Ok(Block {
                conv1: Conv::upload(up, &block.conv1)?,
                pieces: block.pieces.iter().map(|piece| Conv::upload(up, piece)).collect::<Result<_>>()?,
                dilation: block.dilation,
                conv2: Conv::upload_pieces(up, &block.conv2, block.pieces.len() + 1)?,
                squeeze: Conv::upload(up, &block.squeeze)?,
                excite: Conv::upload(up, &block.excite)?,
            })
        };
        let joined = w.join.bias.len();
        Ok(Net {
            farthest: w.fewest_rows() - 1,
            first: Conv::upload(up, &w.first)?,
            first_dilation: w.first_dilation,
            blocks: w.blocks.iter().map(|b| block(up, b)).collect::<Result<_>>()?,
            join: Conv::upload(up, &w.join)?,
            join_dilation: w.join_dilation,
            attention_in: up.columns(&w.attention_in.weight, 0..joined)?,
            attention_of_all: up.columns(&w.attention_in.weight, joined..3 * joined)?,
            attention_bias: up.floats(&w.attention_in.bias)?,
            attention_out: Conv::upload(up, &w.attention_out)?,
            out: Conv::upload(up, &w.out)?,
        })
    }
}

/// For a sound's rows, and what is one row of all.
struct Room {
    rows: usize,
    mels: Span<f32>,
    /// With mirrored edges: what a convolution around its output takes.
    mirrored: Span<f32>,
    x: Span<f32>,
    h: Span<f32>,
    pieces: Span<f32>, // [pieces][rows][channels of each]
    joined: Span<f32>, // [rows][joined]
    attention: Span<f32>,
    scores: Span<f32>, // [rows][joined]
    moments: Span<f32>,
    squeezed: Span<f32>,
    gates: Span<f32>,
    vector: Span<f32>,
}

impl Room {
    fn new(context: &Arc<Context>, net: &Net, rows: usize) -> Result<Room> {
        let floats = |len: usize| Span::new(context, len);
        let (channels, joined) = (net.first.weight.rows, net.join.weight.rows);
        let squeeze = net.blocks.iter().map(|block| block.squeeze.weight.rows).max().unwrap_or(1);
        Ok(Room {
            rows,
            mels: floats(rows * MELS)?,
            mirrored: floats((rows + 2 * net.farthest) * MELS.max(channels).max(joined))?,
            x: floats(rows * channels)?,
            h: floats(rows * channels)?,
            pieces: floats(rows * channels)?,
            joined: floats(rows * joined)?,
            attention: floats(rows * net.attention_in.rows)?,
            scores: floats(rows * joined)?,
            moments: floats(2 * joined)?,
            squeezed: floats(squeeze.max(net.attention_in.rows))?,
            gates: floats(channels)?,
            vector: floats(net.out.weight.rows)?,
        })
    }
}

impl Speaker {
    /// Uploads the weights.
    pub fn open(stream: &Stream, weights: &SpeakerWeights) -> Result<Speaker> {
        let net = Uploader::run(stream, &mut |_| {}, |up| Net::upload(up, weights))?;
        Ok(Speaker { net, room: None })
    }

    /// mels [rows][MELS], as many rows at least as the mirrored edges need, to the speaker vector [talker hidden]. Waits for it.
    pub fn run(&mut self, kernels: &Kernels, stream: &Stream, mels: &[f32]) -> Result<Vec<f32>> {
        let rows = mels.len() / MELS;
        let room = match self.room.take_if(|room| room.rows >= rows) {
            Some(room) => room,
            None => {
                self.room = None; // its memory may be what the longer one needs
                Room::new(stream.context(), &self.net, rows.next_multiple_of(256))?
            }
        };
        let Speaker { net, room: kept } = self;
        let launches = Launches { net, room: kept.insert(room), kernels, stream, rows };
        launches.all(mels)?;
        let mut vector = vec![0.0; launches.room.vector.len()];
        launches.room.vector.read(stream, &mut vector)?;
        Ok(vector)
    }
}

/// What the launches of one sound are made with.
struct Launches<'a> {
    net: &'a Net,
    room: &'a Room,
    kernels: &'a Kernels,
    stream: &'a Stream,
    rows: usize,
}

impl Launches<'_> {
    fn of(&self, span: &Span<f32>, width: usize) -> Span<f32> {
        span.part(0..self.rows * width)
    }

    /// A convolution around its output, and max(, 0) behind it: of the columns of `from` from `at` on, with `add` added to them.
    fn around(
        &self,
        conv: &Conv,
        dilation: usize,
        (from, at, add): (&Span<f32>, usize, Option<&Span<f32>>),
        to: &Span<f32>,
    ) -> Result<()> {
        let &Launches { room, kernels, stream, rows, .. } = self;
        let (edge, width) = (conv.past(dilation) / 2, conv.inputs);
        let mirrored = room.mirrored.part(0..(rows + 2 * edge) * width);
        kernels.mirror(stream, rows, edge, from, at..at + width, add, &mirrored, 0)?;
        // The rows before the last `rows` are the tail of those.
        let [tail, x] = [0..2 * edge * width, 2 * edge * width..mirrored.len()].map(|range| mirrored.part(range));
        kernels.conv(stream, conv, dilation, (edge > 0).then_some(&tail), &x, &Put::rectified(to))
    }

    fn all(&self, mels: &[f32]) -> Result<()> {
        let &Launches { net, room, kernels, stream, rows } = self;
        let (channels, joined) = (net.first.weight.rows, net.join.weight.rows);
        let from = self.of(&room.mels, MELS);
        from.write(stream, mels)?;
        let x = self.of(&room.x, channels);
        self.around(&net.first, net.first_dilation, (&from, 0, None), &x)?;
        let side_by_side = self.of(&room.scores, net.join.inputs);
        for (i, block) in net.blocks.iter().enumerate() {
            self.block(block, &x)?;
            kernels.mirror(stream, rows, 0, &x, 0..channels, None, &side_by_side, i * channels)?;
        }
        let x = self.of(&room.joined, joined);
        self.around(&net.join, net.join_dilation, (&side_by_side, 0, None), &x)?;

        // Mean and deviation over time, weighted by an attention over time of its own.
        kernels.pool(stream, &x, None, &room.moments)?;
        let bias = room.squeezed.part(0..net.attention_in.rows);
        let of_all = &net.attention_of_all;
        kernels.gemm(stream, of_all, Some(&net.attention_bias), Finish::Store, &room.moments, &bias)?;
        let h = self.of(&room.attention, net.attention_in.rows);
        kernels.gemm(stream, &net.attention_in, Some(&bias), Finish::Tanh, &x, &h)?;
        let scores = self.of(&room.scores, joined);
        kernels.conv(stream, &net.attention_out, 1, None, &h, &Put::rows(&scores))?;
        kernels.pool(stream, &x, Some(&scores), &room.moments)?;
        kernels.conv(stream, &net.out, 1, None, &room.moments, &Put::rows(&room.vector))
    }

    /// x + gate * conv2(res2net(conv1(x))), x [rows][channels], in place.
    fn block(&self, block: &Block, x: &Span<f32>) -> Result<()> {
        let &Launches { room, kernels, stream, rows, .. } = self;
        let channels = x.len() / rows;
        let (h, pieces) = (self.of(&room.h, channels), self.of(&room.pieces, channels));
        kernels.conv(stream, &block.conv1, 1, None, x, &Put::rectified(&h))?;
        // The first piece of the channels passes; each other is convolved, from the third on with the one before it added.
        let width = channels / (block.pieces.len() + 1);
        let piece = |i: usize| pieces.part(i * rows * width..(i + 1) * rows * width);
        kernels.mirror(stream, rows, 0, &h, 0..width, None, &piece(0), 0)?;
        for (i, conv) in (1..).zip(&block.pieces) {
            let before = piece(i - 1);
            self.around(conv, block.dilation, (&h, i * width, (i > 1).then_some(&before)), &piece(i))?;
        }
        // Each piece is a tap, and all but the last are the tail of that.
        let [before, last] =
            [0..(channels - width) * rows, (channels - width) * rows..channels * rows].map(|range| pieces.part(range));
        let tail = (!block.pieces.is_empty()).then_some(&before);
        kernels.conv(stream, &block.conv2, rows, tail, &last, &Put::rectified(&h))?;
        let moments = room.moments.part(0..2 * channels);
        kernels.pool(stream, &h, None, &moments)?;
        let squeezed = room.squeezed.part(0..block.squeeze.weight.rows);
        let means = moments.part(0..channels);
        kernels.conv(stream, &block.squeeze, 1, None, &means, &Put::rectified(&squeezed))?;
        kernels.conv(stream, &block.excite, 1, None, &squeezed, &Put::rows(&room.gates))?;
        kernels.gate(stream, &h, &room.gates, x, x)
    }
}
