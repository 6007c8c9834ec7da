//! The codec decoder on the device: frames to samples, streamed exactly. Owns its weights, the recordings, two for each width, and
//! each slot's memory. Its twin is `crate::cpu`'s codec. Nothing here waits for the device but where it says so.
//!
//! All signals are [time][channel], so that a convolution is a matrix over rows one behind the other, and its tail is a run of
//! rows. The recordings know one state; whose it is is changed by copies, when another slot's turn comes.

use super::kernels::{Finish, Kernels, Put};
use super::stack::{Kv, Room, Rows, Stack};
use super::upload::{Conv, Linear, Matrix, Snake, Uploader};
use crate::backend::SlotId;
use crate::config::CodecConfig;
use crate::driver::{Buffer, Context, Event, Graph, Pinned, Span, Stream};
use crate::error::{Error, Result};
use crate::frame::{Frame, GROUPS, SAMPLES_PER_FRAME};
use crate::model::Model;
use crate::primed::Primed;
use crate::state::{CodecState, Row};
use crate::weights::{self, CodecWeights, DILATIONS};
use std::collections::VecDeque;
use std::sync::Arc;

/// Frames that run together; the widest first, and one alone at the end.
const WIDTHS: [usize; 4] = [8, 4, 2, 1];
const WIDEST: usize = WIDTHS[0];

/// Frames to samples, for many slots.
pub(crate) struct Codec {
    // Dropped in this order: a recording goes before what it touches.
    recordings: Vec<Graph>, // by width
    /// For frames whose samples nobody wants, nor those of what follows soon: the transformer alone.
    skims: Vec<Graph>,
    _kernels: Arc<Kernels>,
    model: Arc<Model>,
    stream: Stream,
    rows: CodecState,
    codes: Span<u32>,
    samples: Span<f32>,
    /// That of the slot whose turn it is.
    state: Memory,
    resident: Option<SlotId>,
    slots: Vec<Slot>,
    /// After the references of voices.
    primed: Primed<Memory>,
    packets: Vec<Packet>,
    events: Vec<Event>,
    /// Whose samples nobody waits for.
    unheard: VecDeque<Decoded>,
    /// Frames that a slot may hear in all.
    most_frames: usize,
}

/// What a slot remembers, from its first use on.
#[derive(Default)]
struct Slot {
    memory: Option<Memory>,
    /// Frames heard so far.
    frames: usize,
}

/// A state and its count of frames, in one block; zero is fresh.
struct Memory {
    block: Buffer,
    floats: usize,
}

/// Pinned memory that a width's codes come from and its samples go to.
struct Packet {
    codes: Pinned<u32>,
    samples: Pinned<f32>,
}

/// Frames on their way: the samples are there once `end` is done.
pub(crate) struct Decoded {
    /// Each with its width.
    packets: Vec<(Packet, usize)>,
    pub start: Event,
    pub end: Event,
}

impl Memory {
    fn new(context: &Arc<Context>, floats: usize) -> Result<Memory> {
        Ok(Memory { block: Buffer::new(context, (floats + 1) * 4)?, floats })
    }

    fn whole(&self) -> Span<f32> {
        self.block.span(0, self.floats + 1)
    }

    fn row(&self, row: &Row) -> Span<f32> {
        self.whole().part(row.range())
    }

    /// Of the next frame.
    fn position(&self) -> Span<u32> {
        self.block.span(self.floats * 4, 1)
    }
}

impl Codec {
    /// Uploads the decoder, records each width, and runs each once. `progress` hears of bytes placed.
    pub fn open(
        context: &Arc<Context>,
        kernels: &Arc<Kernels>,
        model: &Arc<Model>,
        slots: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Codec> {
        let (config, most_frames) = (&model.config.codec, most_frames(model));
        let stream = Stream::new(context)?;
        let net = Uploader::run(&stream, progress, |up| Net::upload(up, model))?;
        // The oldest that the first of the widest run sees must not be written over by the last.
        let rows = CodecState::new(config, config.sliding_window - 1 + WIDEST);
        let state = Memory::new(context, rows.floats)?;
        state.whole().fill(&stream, 0)?;
        let kv = Kv::Runs {
            layers: rows
                .keys
                .iter()
                .zip(&rows.values)
                .map(|(k, v)| (state.row(k).bytes(), state.row(v).bytes()))
                .collect(),
            capacity: config.sliding_window - 1 + WIDEST,
        };
        let desk = Desk::new(context, config)?;
        let record =
            |frames: usize, sound: bool| {
                // With the one matrix all weights, which share its block.
                let touched =
                    [desk.buffers.clone(), vec![state.block.clone(), net.latent.numbers.buffer().clone()]].concat();
                let launches =
                    Launches { net: &net, kernels, stream: &stream, config, desk: &desk, rows: &rows, state: &state };
                Graph::record(&stream, touched, || {
                    if sound { launches.all(&kv, frames) } else { launches.skim(&kv, frames) }
                })
            };
        let record_all = |sound| WIDTHS.into_iter().map(|frames| record(frames, sound)).collect::<Result<Vec<_>>>();
        let (recordings, skims) = (record_all(true)?, record_all(false)?);
        desk.codes.fill(&stream, 0)?;
        recordings.iter().chain(&skims).try_for_each(|recording| recording.launch(&stream))?;
        stream.synchronize()?;
        Ok(Codec {
            recordings,
            skims,
            _kernels: kernels.clone(),
            model: model.clone(),
            stream,
            rows,
            codes: desk.codes,
            samples: desk.samples,
            state,
            resident: None,
            slots: (0..slots).map(|_| Slot::default()).collect(),
            primed: Primed::default(),
            packets: Vec::new(),
            events: Vec::new(),
            unheard: VecDeque::new(),
            most_frames,
        })
    }

    /// Bytes of device memory that `open` uploads.
    pub fn weight_bytes(stream: &Stream, model: &Model) -> Result<usize> {
        Uploader::count(stream, |up| Net::upload(up, model))
    }

    /// Bytes of device memory that the states after references hold.
    pub fn voices_bytes(&self) -> usize {
        self.primed.count() * (self.state.floats + 1) * 4
    }

    /// Begins an utterance in a slot.
    fn reset(&mut self, slot: SlotId) -> Result<()> {
        self.begin(slot)?.fill(&self.stream, 0)
    }

    /// Begins an utterance in a slot, behind a reference: heard here, or as an earlier one with the same left it.
    pub fn begin_behind(&mut self, slot: SlotId, reference: &[Frame]) -> Result<()> {
        if reference.is_empty() {
            return self.reset(slot);
        }
        if let Some(kept) = self.primed.find(reference).map(Memory::whole) {
            self.begin(slot)?.copy_from(&self.stream, &kept)?;
            self.slots[slot].frames = reference.len();
            return Ok(());
        }
        self.reset(slot)?;
        self.hear(slot, reference)?;
        // A state is kept where there is memory for it. One that is given up is used again: what waits to be read from it
        // stands in the same stream, before.
        let memory = self.primed.make_room();
        let memory = memory.or_else(|| Memory::new(self.stream.context(), self.state.floats).ok());
        if let Some(memory) = memory {
            memory.whole().copy_from(&self.stream, &self.state.whole())?;
            self.primed.keep(reference.to_vec(), memory);
        }
        Ok(())
    }

    /// The state of a slot whose utterance begins, which holds anything.
    fn begin(&mut self, slot: SlotId) -> Result<Span<f32>> {
        let place = &mut self.slots[slot];
        place.frames = 0;
        let memory = match (self.resident == Some(slot), &mut place.memory) {
            (true, _) => &self.state,
            (false, Some(memory)) => memory,
            (false, none) => none.insert(Memory::new(self.stream.context(), self.state.floats)?),
        };
        Ok(memory.whole())
    }

    /// Makes the state this slot's.
    fn turn_to(&mut self, slot: SlotId) -> Result<()> {
        if self.resident == Some(slot) {
            return Ok(());
        }
        let memory = |slot: SlotId| {
            let none = || Error::compute("codec", "no utterance was begun in this slot");
            self.slots[slot].memory.as_ref().map(Memory::whole).ok_or_else(none)
        };
        let coming = memory(slot)?;
        if let Some(other) = self.resident {
            memory(other)?.copy_from(&self.stream, &self.state.whole())?;
        }
        self.resident = Some(slot);
        self.state.whole().copy_from(&self.stream, &coming)
    }

    /// The next frames of a slot to samples. Codes must be under the codebook's size.
    pub fn decode(&mut self, slot: SlotId, frames: &[Frame]) -> Result<Decoded> {
        self.run(slot, frames, true)
    }

    /// The next frames of a slot, with their samples or without.
    fn run(&mut self, slot: SlotId, frames: &[Frame], sound: bool) -> Result<Decoded> {
        let most = self.most_frames;
        if frames.len() > most - self.slots[slot].frames {
            return Err(Error::compute("codec decode", format!("more than {most} frames in one utterance")));
        }
        self.turn_to(slot)?;
        let start = self.mark()?;
        let (mut packets, mut left) = (Vec::new(), frames);
        let recordings = if sound { &self.recordings } else { &self.skims };
        for (&width, recording) in WIDTHS.iter().zip(recordings) {
            while let Some((these, rest)) = left.split_at_checked(width) {
                left = rest;
                let mut packet = self.packets.pop().map_or_else(|| Packet::new(self.stream.context()), Ok)?;
                packet.codes.write(0, &these.as_flattened().iter().map(|&code| code.into()).collect::<Vec<u32>>());
                packet.codes.copy_to(&self.stream, 0, &self.codes.part(0..width * GROUPS))?;
                recording.launch(&self.stream)?;
                if sound {
                    packet.samples.copy_from(&self.stream, 0, &self.samples.part(0..width * SAMPLES_PER_FRAME))?;
                }
                packets.push((packet, width));
            }
        }
        self.slots[slot].frames += frames.len();
        Ok(Decoded { packets, start, end: self.mark()? })
    }

    /// Hears a reference, whose samples nobody wants: the slot is as if it had been decoded. Its state is then the one that
    /// recordings know.
    fn hear(&mut self, slot: SlotId, frames: &[Frame]) -> Result<()> {
        while let Some(decoded) = self.unheard.pop_front() {
            if !decoded.end.is_done()? {
                self.unheard.push_front(decoded);
                break;
            }
            self.take_back(decoded);
        }
        let (early, late) = frames.split_at(self.rows.early(frames.len(), 0));
        let early = early.chunks(WIDEST).map(|frames| (frames, false));
        for (frames, sound) in early.chain(late.chunks(WIDEST).map(|frames| (frames, true))) {
            let heard = self.run(slot, frames, sound)?;
            self.unheard.push_back(heard);
        }
        Ok(())
    }

    /// The samples of what is done. Weights that are not finite are an error.
    pub fn take(&mut self, decoded: Decoded) -> Result<Vec<f32>> {
        let mut samples = Vec::new();
        for (packet, width) in &decoded.packets {
            let before = samples.len();
            samples.resize(before + width * SAMPLES_PER_FRAME, 0.0);
            packet.samples.read(0, &mut samples[before..]);
        }
        self.take_back(decoded);
        match samples.iter().all(|sample| sample.is_finite()) {
            true => Ok(samples),
            false => Err(self.model.blame("codec decode", "samples are not finite")),
        }
    }

    /// Takes back what is done and of no interest any more.
    fn take_back(&mut self, decoded: Decoded) {
        self.packets.extend(decoded.packets.into_iter().map(|(packet, _)| packet));
        self.events.extend([decoded.start, decoded.end]);
    }

    /// The end of the work so far.
    fn mark(&mut self) -> Result<Event> {
        let event = self.events.pop().map_or_else(|| Event::new(self.stream.context()), Ok)?;
        self.stream.record(&event)?;
        Ok(event)
    }
}

impl Packet {
    fn new(context: &Arc<Context>) -> Result<Packet> {
        let (codes, samples) =
            (Pinned::new(context, WIDEST * GROUPS)?, Pinned::new(context, WIDEST * SAMPLES_PER_FRAME)?);
        Ok(Packet { codes, samples })
    }
}

/// An utterance's: its reference's are positions of its prompt, and each of its own is one.
fn most_frames(model: &Model) -> usize {
    model.config.max_positions
}

/// The decoder's weights on the device, in the order of the signal.
struct Net {
    books: Vec<(Matrix, Span<f32>)>, // sums, usage
    /// Both projections side by side: of the first group's row and of the sum of the rest's.
    latent: Matrix,
    pre_conv: Conv,
    input: Linear,
    stack: Stack,
    output: Linear,
    upsamples: Vec<Upsample>,
    decoder_in: Conv,
    blocks: Vec<Block>,
    last_snake: Snake,
    last: Span<f32>, // [taps][channels]
    last_bias: Span<f32>,
}

struct Upsample {
    conv: Conv,
    depthwise: Depthwise,
    pointwise1: Linear,
    pointwise2: Linear,
    gamma: Span<f32>,
}

/// A convolution of each channel by itself and the norm behind it.
pub(crate) struct Depthwise {
    pub(super) weight: Span<f32>, // [taps][channels]
    pub(super) bias: Span<f32>,
    pub(super) norm: Span<f32>,
    pub(super) norm_bias: Span<f32>,
}

struct Block {
    snake: Snake,
    upsample: Conv,
    units: Vec<Unit>,
}

struct Unit {
    snake1: Snake,
    conv1: Conv,
    dilation: usize,
    snake2: Snake,
    conv2: Conv,
}

impl Net {
    fn upload(up: &mut Uploader, model: &Model) -> Result<Net> {
        let (w, config): (&CodecWeights, _) = (&model.weights.codec, &model.config.codec);
        let books = w.codebooks.iter().map(|b| Ok((up.matrix(&b.embedding_sum)?, up.floats(&b.cluster_usage)?)));
        let books = books.collect::<Result<_>>()?;
        let latent = up.beside(&w.first_projection, &w.rest_projection)?;
        let pre_conv = Conv::upload(up, &w.pre_conv)?;
        let input = Linear::upload(up, &w.input_projection)?;
        let stack = Stack::upload(up, &w.stack, &config.transformer, most_frames(model))?;
        let output = Linear::upload(up, &w.output_projection)?;
        let ratios = config.upsampling_ratios.iter();
        let upsamples = w.upsamples.iter().zip(ratios).map(|(u, &ratio)| Upsample::upload(up, u, ratio));
        let upsamples = upsamples.collect::<Result<_>>()?;
        let decoder_in = Conv::upload(up, &w.decoder_in)?;
        let blocks = w.blocks.iter().map(|block| Block::upload(up, block)).collect::<Result<_>>()?;
        let last_snake = Snake::upload(up, &w.last_snake, 1)?;
        let last = up.turned(&w.decoder_out.weight.to_f32(), weights::TAPS)?;
        let last_bias = up.floats(&w.decoder_out.bias)?;
        Ok(Net {
            books,
            latent,
            pre_conv,
            input,
            stack,
            output,
            upsamples,
            decoder_in,
            blocks,
            last_snake,
            last,
            last_bias,
        })
    }
}

impl Upsample {
    fn upload(up: &mut Uploader, w: &weights::ConvNext, ratio: usize) -> Result<Upsample> {
        let conv = Conv::upload_transposed(up, &w.upsample, ratio)?;
        let depthwise = Depthwise::upload(up, &w.depthwise, [&w.depthwise_bias, &w.norm, &w.norm_bias])?;
        let [pointwise1, pointwise2] = [&w.pointwise1, &w.pointwise2].map(|linear| Linear::upload(up, linear));
        Ok(Upsample { conv, depthwise, pointwise1: pointwise1?, pointwise2: pointwise2?, gamma: up.floats(&w.gamma)? })
    }
}

impl Depthwise {
    /// `weight` [channels][taps]; bias, norm and norm_bias [channels].
    pub fn upload(up: &mut Uploader, weight: &[f32], by_channel: [&[f32]; 3]) -> Result<Depthwise> {
        let weight = up.turned(weight, weights::TAPS)?;
        let [bias, norm, norm_bias] = by_channel.map(|numbers| up.floats(numbers));
        Ok(Depthwise { weight, bias: bias?, norm: norm?, norm_bias: norm_bias? })
    }
}

impl Block {
    fn upload(up: &mut Uploader, w: &weights::Block) -> Result<Block> {
        let snake = Snake::upload(up, &w.snake, 1)?;
        let upsample = Conv::upload_transposed(up, &w.upsample, w.rate)?;
        let units = w.units.iter().enumerate().map(|(i, unit)| {
            Ok(Unit {
                // The first is that of the transposed convolution's rows, `rate` of them side by side.
                snake1: Snake::upload(up, &unit.snake1, if i == 0 { w.rate } else { 1 })?,
                conv1: Conv::upload(up, &unit.conv1)?,
                dilation: unit.dilation,
                snake2: Snake::upload(up, &unit.snake2, 1)?,
                conv2: Conv::upload(up, &unit.conv2)?,
            })
        });
        let units = units.collect::<Result<_>>()?;
        Ok(Block { snake, upsample, units })
    }
}

/// Where signals lie between launches, for the widest run. What a convolution with a tail reads has a place of its own: it is
/// still there when the tails are kept, at the end.
struct Desk {
    codes: Span<u32>,
    books: Span<f32>,  // [frames][2 halves of the codebook's width]
    latent: Span<f32>, // [frames][codebook_dim]
    x: Span<f32>,      // what the transformer is given and gives, [frames][latent_dim]
    h: Span<f32>,      // [frames][hidden]
    room: Room,
    /// Of each upsampling: its rows, and what its block makes of them, [len][latent_dim].
    upsampled: Vec<[Span<f32>; 2]>,
    normed: Span<f32>, // [len][latent_dim], of the last upsampling
    wide: Span<f32>,   // [len][4 latent_dim]
    /// Of each block: what its transposed convolution reads, then what each unit does.
    activated: Vec<[Span<f32>; 1 + DILATIONS.len()]>,
    residual: Span<f32>, // of the widest block's
    between: Span<f32>,
    last: Span<f32>,
    samples: Span<f32>,
    /// All of these.
    buffers: Vec<Buffer>,
}

impl Desk {
    fn new(context: &Arc<Context>, config: &CodecConfig) -> Result<Desk> {
        let room = Room::new(context, &config.transformer, Some(config.sliding_window), false, WIDEST)?;
        let mut buffers = room.buffers();
        let mut floats = |len: usize| -> Result<Span<f32>> {
            let span: Span<f32> = Span::new(context, len)?;
            buffers.push(span.buffer().clone());
            Ok(span)
        };
        let [books, latent] = [floats(WIDEST * config.codebook_dim)?, floats(WIDEST * config.codebook_dim)?];
        let [x, h] = [floats(WIDEST * config.latent_dim)?, floats(WIDEST * config.transformer.hidden)?];
        let mut len = WIDEST;
        let mut upsampled = Vec::new();
        for ratio in &config.upsampling_ratios {
            len *= ratio;
            upsampled.push([floats(len * config.latent_dim)?, floats(len * config.latent_dim)?]);
        }
        let [normed, wide] = [floats(len * config.latent_dim)?, floats(4 * len * config.latent_dim)?];
        let (mut channels, mut widest) = (config.decoder_dim, 0);
        let mut activated = Vec::new();
        for rate in &config.upsample_rates {
            let first = floats(len * channels)?;
            (len, channels) = (len * rate, channels / 2);
            widest = widest.max(len * channels);
            activated.push([first, floats(len * channels)?, floats(len * channels)?, floats(len * channels)?]);
        }
        let [residual, between] = [floats(widest)?, floats(widest)?];
        let [last, samples] = [floats(len * channels)?, floats(len)?];
        let codes: Span<u32> = Span::new(context, WIDEST * GROUPS)?;
        buffers.push(codes.buffer().clone());
        Ok(Desk {
            codes,
            books,
            latent,
            x,
            h,
            room,
            upsampled,
            normed,
            wide,
            activated,
            residual,
            between,
            last,
            samples,
            buffers,
        })
    }
}

/// What the launches of a run are made with.
struct Launches<'a> {
    net: &'a Net,
    kernels: &'a Kernels,
    stream: &'a Stream,
    config: &'a CodecConfig,
    desk: &'a Desk,
    rows: &'a CodecState,
    state: &'a Memory,
}

/// A tail, the signal behind it, and how many channels both have.
pub(crate) type Tail = (Span<f32>, Span<f32>, usize);

impl Launches<'_> {
    /// The desk's codes of so many frames, without samples: what they leave to frames that come much later.
    fn skim(&self, kv: &Kv, frames: usize) -> Result<()> {
        let mut tails = Vec::new();
        self.transform(kv, frames, &mut tails)?;
        self.kernels.keep(self.stream, &tails, &self.state.position(), frames)
    }

    /// A row's tail of a signal, noted to be kept at the end.
    fn kept(&self, tails: &mut Vec<Tail>, row: &Row, x: &Span<f32>) -> Span<f32> {
        let tail = self.state.row(row);
        tails.push((tail.clone(), x.clone(), row.channels));
        tail
    }

    /// The desk's codes of so many frames through the transformer, [frames][latent_dim].
    fn transform(&self, kv: &Kv, frames: usize, tails: &mut Vec<Tail>) -> Result<Span<f32>> {
        let &Launches { net, kernels, stream, config, desk, rows, state } = self;
        let of = |span: &Span<f32>, rows: usize, width: usize| span.part(0..rows * width);
        let [books, latent] = [&desk.books, &desk.latent].map(|span| of(span, frames, config.codebook_dim));
        kernels.rvq(stream, &net.books, &desk.codes.part(0..frames * GROUPS), &books)?;
        kernels.linear(stream, &net.latent, None, None, Finish::Store, &books, &latent)?;
        let x = of(&desk.x, frames, config.latent_dim);
        kernels.conv(
            stream,
            &net.pre_conv,
            1,
            Some(&self.kept(tails, &rows.pre_conv, &latent)),
            &latent,
            &Put::rows(&x),
        )?;
        let h = of(&desk.h, frames, config.transformer.hidden);
        let Linear { weight, bias } = &net.input;
        kernels.linear(stream, weight, bias.as_ref(), None, Finish::Store, &x, &h)?;
        net.stack.forward(kernels, stream, &desk.room, Rows::Few, kv, &state.position(), &h)?;
        let Linear { weight, bias } = &net.output;
        let norm = Some((&net.stack.norm, config.transformer.rms_eps));
        kernels.linear(stream, weight, bias.as_ref(), norm, Finish::Store, &h, &x)?;
        Ok(x)
    }

    /// The desk's codes of so many frames to its samples.
    fn all(&self, kv: &Kv, frames: usize) -> Result<()> {
        let &Launches { net, kernels, stream, config, desk, rows, state } = self;
        let mut tails = Vec::new();
        let x = self.transform(kv, frames, &mut tails)?;
        let mut kept = |row: &Row, x: &Span<f32>| self.kept(&mut tails, row, x);
        let of = |span: &Span<f32>, rows: usize, width: usize| span.part(0..rows * width);

        let (mut x, mut len, width) = (x, frames, config.latent_dim);
        for ((up, [rows_in, rows_out]), row) in net.upsamples.iter().zip(&desk.upsampled).zip(&rows.depthwise) {
            len *= up.conv.rate;
            let [upsampled, out] = [rows_in, rows_out].map(|span| of(span, len, width));
            let [normed, wide] = [of(&desk.normed, len, width), of(&desk.wide, len, 4 * width)];
            kernels.conv(stream, &up.conv, 1, None, &x, &Put::rows(&upsampled))?;
            kernels.depthwise(stream, &up.depthwise, &kept(row, &upsampled), &upsampled, 1e-6, &normed)?;
            let [Linear { weight: first, bias: bias1 }, Linear { weight: second, bias: bias2 }] =
                [&up.pointwise1, &up.pointwise2];
            kernels.gemm(stream, first, bias1.as_ref(), Finish::Gelu, &normed, &wide)?;
            let onto = Finish::Onto { base: &upsampled, scale: &up.gamma };
            kernels.gemm(stream, second, bias2.as_ref(), onto, &wide, &out)?;
            x = out;
        }

        let mut channels = config.decoder_dim;
        let first = of(&desk.activated[0][0], len, channels);
        let put = Put::activated(&net.blocks[0].snake, &first);
        kernels.conv(stream, &net.decoder_in, 1, Some(&kept(&rows.decoder_in, &x)), &x, &put)?;
        for (i, (block, row)) in net.blocks.iter().zip(&rows.blocks).enumerate() {
            let from = of(&desk.activated[i][0], len, channels);
            (len, channels) = (len * block.upsample.rate, channels / 2);
            let [residual, between] = [&desk.residual, &desk.between].map(|span| of(span, len, channels));
            let mut activated = of(&desk.activated[i][1], len, channels);
            let put = Put { y: Some(&residual), ..Put::activated(&block.units[0].snake1, &activated) };
            kernels.conv(stream, &block.upsample, 1, Some(&kept(&row.upsample, &from)), &from, &put)?;
            for (j, (unit, row)) in block.units.iter().zip(&row.units).enumerate() {
                let put = Put::activated(&unit.snake2, &between);
                let tail = kept(row, &activated);
                kernels.conv(stream, &unit.conv1, unit.dilation, Some(&tail), &activated, &put)?;
                // What comes next reads it through its own snake.
                let (snake, next) = match (block.units.get(j + 1), net.blocks.get(i + 1)) {
                    (Some(unit), _) => (&unit.snake1, &desk.activated[i][j + 2]),
                    (None, Some(block)) => (&block.snake, &desk.activated[i + 1][0]),
                    (None, None) => (&net.last_snake, &desk.last),
                };
                activated = of(next, len, channels);
                let put = Put { base: Some(&residual), y: Some(&residual), ..Put::activated(snake, &activated) };
                kernels.conv(stream, &unit.conv2, 1, None, &between, &put)?;
            }
        }

        let last = of(&desk.last, len, channels);
        let tail = kept(&rows.decoder_out, &last);
        kernels.last(stream, &net.last, &net.last_bias, &tail, &last, &desk.samples.part(0..len))?;
        kernels.keep(stream, &tails, &state.position(), frames)
    }
}
