//! Frames on the device: prompts and steps of many slots through one talker and one predictor. Owns each slot's memory, its
//! pages of keys and values, and the programs. Nothing here waits for the device but where it says so.
//!
//! A prompt whose beginning is kept (`pages`) is run from there on. What comes out are the same bits: those of a row depend on
//! what it sees, not on the rows that run beside it (gemm.cu, attention.cu).
//!
//! A step is two programs between two small launches: `enter` tells the speaker's memory what the host knows, the talker runs,
//! the choices and the predictor run, `leave` counts and reports the frame into pinned memory. The programs know one speaker's
//! memory; whose utterance it holds is changed by copies, when another slot's turn comes.

use super::args;
use super::kernels::{Kernels, SpeakerMemory};
use super::pages::Pages;
use super::predictor::{self, Predictor};
use super::program::{List, Program};
use super::stack::{Kv, PAGE_POSITIONS, page_bytes};
use super::talker::{self, PROMPT_ROWS, Talker};
use super::upload::{Matrix, Uploader};
use crate::backend::SlotId;
use crate::config::Config;
use crate::device::KvNumbers;
use crate::driver::{Buffer, Context, Event, Pinned, Span, Stream};
use crate::error::{Error, Result};
use crate::frame::{End, Frame, GROUPS};
use crate::model::Model;
use crate::prompt::{CodecInput, Position};
use crate::request::{Randomness, Sampler, Sampling};
use crate::weights::DILATIONS;
use std::sync::Arc;

/// Steps of one slot that may be under way.
pub(crate) const STEPS_AHEAD: usize = 2;
/// Pieces of prompts that may be on their way to the device.
const STAGES: usize = 3;
/// What `leave` reports: the chosen codes and the fault.
const REPORT_WORDS: usize = GROUPS + 1;

/// Frames of many slots.
pub(crate) struct Frames {
    // Dropped in this order: a program goes before what it touches.
    step: Program,
    choices: Program,
    kernels: Arc<Kernels>,
    stream: Stream,
    model: Arc<Model>,
    talker: Talker,
    predictor: Predictor,
    desk: talker::Desk,
    prompt_desk: talker::Desk,
    predictor_desk: predictor::Desk,
    hidden: Span<f32>,
    /// Scores of group 0.
    scores: Span<f32>,
    /// Whose utterance the programs work on.
    speaker: SpeakerMemory,
    kv: Kv,
    resident: Option<SlotId>,
    slots: Vec<Slot>,
    pages: Pages<Span<u8>>,
    /// The oldest first.
    stages: Vec<Stage>,
    events: Vec<Event>,
    /// Of the text table, on its way.
    row: Vec<f32>,
}

/// One utterance's memory.
struct Slot {
    memory: SpeakerMemory,
    /// What its memory begins with.
    start: Pinned<args::Speaker>,
    /// Text rows and reports of the steps under way, in turns.
    text: Pinned<f32>,
    report: Pinned<u32>,
    pages: Vec<Arc<Span<u8>>>,
    sampling: Option<Sampling>,
    /// Draws that were given, and how many.
    uniforms: Option<Span<f64>>,
    draws: usize,
    /// Of the talker's next input.
    position: usize,
    /// Of the prompt, how many positions were kept from another.
    prefix_positions: usize,
    /// Steps so far, those under way among them.
    steps: usize,
}

/// Pinned memory through which a prompt's rows go to the device, and when they are there.
struct Stage {
    text: Pinned<f32>,
    codes: Pinned<u32>,
    vector: Pinned<f32>,
    free: Event,
}

/// A step under way: its report is there once `end` is done.
pub(crate) struct Ticket {
    pub slot: SlotId,
    step: usize,
    forced: bool,
    /// Its beginning, the talker's end, its own.
    pub start: Event,
    pub chosen: Event,
    pub end: Event,
}

/// What a step came to.
pub(crate) struct Report {
    pub chosen: Frame,
    /// The frame's number, from 0.
    pub frame: usize,
    /// The token makes no frame: the talker chose to stop, or max_new_tokens are used up. A forced one always makes one.
    pub end: Option<End>,
}

/// How frames are computed.
#[derive(Clone, Copy)]
pub(crate) struct FramesOptions {
    pub slots: usize,
    pub kv: KvNumbers,
    /// Positions of all slots together that keys and values are kept for, at most.
    pub positions: usize,
    /// Of these, how many may hold what prompts begin with.
    pub prefix_positions: usize,
}

impl Frames {
    /// Uploads talker and predictor and records the launches. `progress` hears of bytes placed.
    pub fn open(
        context: &Arc<Context>,
        kernels: &Arc<Kernels>,
        model: &Arc<Model>,
        options: &FramesOptions,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Frames> {
        let config = &model.config;
        check_sizes(config)?;
        let stream = Stream::new(context)?;
        let (talker, predictor) = Uploader::run(&stream, progress, |up| upload(up, model))?;
        predictor.project(kernels, &stream, &talker.codec_embedding)?;
        let speaker = SpeakerMemory::new(context)?;
        speaker.whole().bytes().fill(&stream, 0)?;
        let kv = Kv::Pages { list: speaker.pages(), numbers: options.kv };
        let desk = talker::Desk::new(context, config, 1, Some(speaker.codes()))?;
        let prompt_desk = talker::Desk::new(context, config, PROMPT_ROWS, None)?;
        let predictor_desk = predictor::Desk::new(context, &stream, config)?;
        let hidden = Span::new(context, config.talker.hidden)?;
        let scores = Span::new(context, config.talker_vocab)?;

        let touched = || -> Vec<Buffer> {
            let mut touched = [desk.buffers(), predictor_desk.buffers()].concat();
            touched.extend([hidden.buffer(), scores.buffer()].map(Buffer::clone));
            touched.push(talker.codec_embedding.numbers.buffer().clone()); // and with it all weights
            touched
        };
        let program = |list| Program::new(&stream, list, &speaker, touched());
        let mut step = List::new(context, talker.stored(), options.kv);
        let tables = tables(&talker, &predictor);
        talker.list(&mut step, &tables, &desk, &kv, &speaker.position(), &hidden, &scores);
        let mut choices = List::new(context, talker.stored(), KvNumbers::F32);
        let codes = config.talker_vocab - 1024;
        let controls = Some((codes, config.codec_controls.eos as usize));
        choices.sample(&speaker, 0, controls, &scores);
        predictor.list(&mut choices, &talker.codec_embedding, &predictor_desk, &speaker, &hidden);
        let (step, choices) = (program(step)?, program(choices)?);
        let slots = (0..options.slots).map(|_| Slot::new(context, config.text_hidden)).collect::<Result<_>>()?;
        let pages = Pages::new(page_bytes(&config.talker, options.kv), options.positions, options.prefix_positions);
        stream.synchronize()?;
        Ok(Frames {
            step,
            choices,
            kernels: kernels.clone(),
            stream,
            model: model.clone(),
            talker,
            predictor,
            desk,
            prompt_desk,
            predictor_desk,
            hidden,
            scores,
            speaker,
            kv,
            resident: None,
            slots,
            pages,
            stages: Vec::new(),
            events: Vec::new(),
            row: vec![0.0; config.text_hidden],
        })
    }

    /// Bytes of device memory that `open` uploads.
    pub fn weight_bytes(stream: &Stream, model: &Model) -> Result<usize> {
        Uploader::count(stream, |up| upload(up, model))
    }

    /// Bytes of the pages that exist, used or not; and of those that hold what prompts begin with.
    pub fn kv_bytes(&self) -> (usize, usize) {
        (self.pages.bytes(), self.pages.prefix_bytes())
    }

    /// Begins an utterance in a slot. Draws that are given are waited for, and those of the utterance before: they are used no
    /// longer then.
    pub fn begin(&mut self, slot: SlotId, sampling: Sampling, randomness: &Randomness) -> Result<()> {
        let (seed, list) = match randomness {
            Randomness::Seed(seed) => (*seed, None),
            Randomness::Uniforms(list) => (0, Some(&list[..])),
        };
        // An empty list has no address that could be told from none.
        let uniforms = list.map(|list| if list.is_empty() { &[0.0][..] } else { list });
        let uniforms = uniforms.map(|list| Span::from(&self.stream, list)).transpose()?;
        self.release(slot);
        let place = &mut self.slots[slot];
        // A step of the utterance before may still be under way and see the new start, or a later step's text: numbers all the
        // same, and nobody hears what it makes of them.
        (place.sampling, place.position, place.prefix_positions, place.steps) = (Some(sampling), 0, 0, 0);
        (place.draws, place.uniforms) = (list.map_or(0, <[f64]>::len), uniforms);
        place.start.write(
            0,
            &[args::Speaker {
                pages: [0; args::KV_PAGES_MAX as usize],
                seed,
                uniforms: place.uniforms.as_ref().map_or(0, |list| list.ptr() as u64),
                position: 0,
                frame: 0,
                may_end: 0,
                fault: 0,
                draws: place.uniforms.as_ref().map_or(0, Span::len) as u32,
                chosen: [0; GROUPS],
                codes: [0; GROUPS],
                forced: [args::NO_CODE; GROUPS],
                talker: choosing(&sampling.talker),
                predictor: choosing(&sampling.predictor),
                repetition_penalty: sampling.repetition_penalty,
                seen: [0; args::SAMPLE_SCORES_MAX as usize],
            }],
        );
        self.leave_to(slot)?;
        self.slots[slot].start.copy_to(&self.stream, 0, &self.speaker.whole())
    }

    /// Gives a slot's pages to others.
    pub fn release(&mut self, slot: SlotId) {
        let place = &mut self.slots[slot];
        // Work that still uses them is in the stream before whatever the next owner does.
        place.pages.drain(..).for_each(|page| self.pages.give(page));
        place.sampling = None;
        if self.resident == Some(slot) {
            self.resident = None;
        }
    }

    /// Makes the speaker's memory a slot's, without bringing what it held.
    fn leave_to(&mut self, slot: SlotId) -> Result<()> {
        if let Some(other) = self.resident.replace(slot).filter(|&other| other != slot) {
            self.slots[other].memory.whole().copy_from(&self.stream, &self.speaker.whole())?;
        }
        Ok(())
    }

    /// Makes the speaker's memory this slot's.
    fn turn_to(&mut self, slot: SlotId) -> Result<()> {
        if self.resident == Some(slot) {
            return Ok(());
        }
        self.leave_to(slot)?;
        self.speaker.whole().copy_from(&self.stream, &self.slots[slot].memory.whole())
    }

    /// Sees that so many more positions have a place.
    fn reserve(&mut self, slot: SlotId, positions: usize) -> Result<()> {
        let (end, most) = (self.slots[slot].position + positions, self.most_positions());
        if end > most {
            return Err(Error::compute("kv", format!("an utterance of {end} positions; there is room for {most}")));
        }
        let needed = end.div_ceil(PAGE_POSITIONS);
        while self.slots[slot].pages.len() < needed {
            let page = self.take_page()?;
            self.put_page(slot, page)?;
        }
        Ok(())
    }

    /// Of one utterance: what the model was made for and a slot's list of pages holds.
    pub fn most_positions(&self) -> usize {
        most_positions(&self.model.config)
    }

    fn take_page(&mut self) -> Result<Arc<Span<u8>>> {
        let (stream, bytes) = (&self.stream, self.pages.page_bytes());
        self.pages.take(|| {
            let page = Span::new(stream.context(), bytes)?;
            page.fill(stream, 0)?; // a copy of it takes with it what nobody wrote
            Ok(page)
        })
    }

    /// Puts a page behind a slot's others; the speaker's memory is the slot's.
    fn put_page(&mut self, slot: SlotId, page: Arc<Span<u8>>) -> Result<()> {
        let pages = &mut self.slots[slot].pages;
        pages.push(page.clone()); // before what may fail: its slot gives it back
        self.kernels.put_page(&self.stream, &self.speaker, pages.len() - 1, &page)
    }

    /// Runs the prompt, or its next part; after the last the slot is ready for its first choices. The first `fixed` positions
    /// are found where they are kept from another prompt, else kept for the next; for all of a prompt alone, 0 for a part. With
    /// `embeds`, waits and adds the talker's inputs to it, of those that are run.
    pub fn prefill(
        &mut self,
        slot: SlotId,
        prompt: &[Position],
        fixed: usize,
        mut embeds: Option<&mut Vec<f32>>,
    ) -> Result<()> {
        self.turn_to(slot)?;
        // The last position is run in any case: the first choices begin with its hidden, which no page has.
        let prefix = &prompt[..fixed.min(prompt.len().saturating_sub(1))];
        let is_kept = self.recall(slot, prefix)?;
        let rest = if is_kept { &prompt[prefix.len()..] } else { prompt };
        for positions in rest.chunks(PROMPT_ROWS) {
            self.reserve(slot, positions.len())?;
            self.embed_prompt(positions)?;
            if let Some(embeds) = &mut embeds {
                let mut numbers = vec![0.0; positions.len() * self.model.config.talker.hidden];
                self.prompt_desk.x.part(0..numbers.len()).read(&self.stream, &mut numbers)?;
                embeds.extend(numbers);
            }
            let desk = &self.prompt_desk;
            self.talker.forward(
                &self.kernels,
                &self.stream,
                desk,
                positions.len(),
                &self.kv,
                &self.speaker.position(),
            )?;
            self.kernels.leave(&self.stream, &self.speaker, positions.len(), 0, None)?;
            self.slots[slot].position += positions.len();
        }
        let last = rest.len().saturating_sub(1) % PROMPT_ROWS;
        self.talker.finish(&self.kernels, &self.stream, &self.prompt_desk, last, &self.hidden, &self.scores)?;
        if is_kept { Ok(()) } else { self.keep(slot, prefix) }
    }

    /// Gives a slot that has no positions yet those of a prefix, where it is kept; whether it is.
    fn recall(&mut self, slot: SlotId, prefix: &[Position]) -> Result<bool> {
        if self.pages.prefix(prefix).is_none() {
            return Ok(false);
        }
        let (whole, more) = (prefix.len() / PAGE_POSITIONS, prefix.len() % PAGE_POSITIONS);
        // The page that it ends in is copied. To find one for that, even this prefix may have given way.
        let own = if more > 0 { Some(self.take_page()?) } else { None };
        let Some(kept) = self.pages.prefix(prefix) else {
            own.into_iter().for_each(|page| self.pages.give(page));
            return Ok(false);
        };
        let mut pages = kept[..whole].to_vec();
        if let Some(own) = own {
            // With what stands behind the prefix there, which is written before it is read.
            own.copy_from(&self.stream, &kept[whole])?;
            pages.push(own);
        }
        for page in pages {
            self.put_page(slot, page)?;
        }
        self.kernels.leave(&self.stream, &self.speaker, prefix.len(), 0, None)?;
        let place = &mut self.slots[slot];
        (place.position, place.prefix_positions) = (prefix.len(), prefix.len());
        Ok(true)
    }

    /// Keeps what a slot's prompt begins with.
    fn keep(&mut self, slot: SlotId, prefix: &[Position]) -> Result<()> {
        if !self.pages.make_room(prefix.len()) {
            return Ok(());
        }
        let whole = prefix.len() / PAGE_POSITIONS;
        let mut pages = self.slots[slot].pages[..whole].to_vec();
        if !prefix.len().is_multiple_of(PAGE_POSITIONS) {
            // Where no page is left the next prompt is run as this was.
            let Ok(copy) = self.take_page() else { return Ok(()) };
            copy.copy_from(&self.stream, &self.slots[slot].pages[whole])?;
            pages.push(copy);
        }
        self.pages.keep(prefix, pages);
        Ok(())
    }

    /// Of a slot's prompt, how many positions were kept from another.
    pub fn prefix_positions(&self, slot: SlotId) -> usize {
        self.slots[slot].prefix_positions
    }

    /// A prompt's positions to the talker's inputs.
    fn embed_prompt(&mut self, positions: &[Position]) -> Result<()> {
        let at = self.free_stage()?;
        let (stage, desk) = (&mut self.stages[at], &self.prompt_desk);
        let text_hidden = self.model.config.text_hidden;
        let mut codes = vec![args::NO_CODE; positions.len() * GROUPS];
        for (i, (position, codes)) in positions.iter().zip(codes.chunks_exact_mut(GROUPS)).enumerate() {
            self.model.weights.talker.text_embedding.read_row(position.text as usize, &mut self.row);
            stage.text.write(i * text_hidden, &self.row);
            match &position.codec {
                CodecInput::None | CodecInput::Vector(_) => {}
                CodecInput::Id(id) => codes[0] = *id,
                CodecInput::Frame(frame) => codes.copy_from_slice(&frame.map(u32::from)),
            }
        }
        stage.codes.write(0, &codes);
        stage.text.copy_to(&self.stream, 0, &desk.text.part(0..positions.len() * text_hidden))?;
        stage.codes.copy_to(&self.stream, 0, &desk.codes.part(0..codes.len()))?;
        let tables = tables(&self.talker, &self.predictor);
        self.talker.embed(&self.kernels, &self.stream, &tables, desk, positions.len())?;
        let mut vectors = 0;
        for (i, position) in positions.iter().enumerate() {
            if let CodecInput::Vector(vector) = &position.codec {
                let place = i * vector.len()..(i + 1) * vector.len();
                // A prompt has one speaker; were there a second, the first would have to be read before it is written over.
                if vectors > 0 {
                    self.stream.synchronize()?;
                }
                vectors += 1;
                // Through a step's desk, which no step uses meanwhile: their launches are in this stream, too.
                stage.vector.write(0, vector);
                stage.vector.copy_to(&self.stream, 0, &self.desk.x)?;
                self.kernels.add(&self.stream, &desk.x.part(place), None, &self.desk.x)?;
            }
        }
        self.stream.record(&stage.free)
    }

    /// A stage whose rows have gone to the device. Where a long prompt has filled them all, waits for the oldest.
    fn free_stage(&mut self) -> Result<usize> {
        let is_free = self.stages.first().map_or(Ok(false), |oldest| oldest.free.is_done())?;
        if !is_free && self.stages.len() < STAGES {
            let (context, config) = (self.stream.context(), &self.model.config);
            self.stages.push(Stage {
                text: Pinned::new(context, PROMPT_ROWS * config.text_hidden)?,
                codes: Pinned::new(context, PROMPT_ROWS * GROUPS)?,
                vector: Pinned::new(context, config.talker.hidden)?,
                free: Event::new(context)?,
            });
        } else {
            self.stages[0].free.synchronize()?;
            self.stages.rotate_left(1);
        }
        Ok(self.stages.len() - 1)
    }

    /// Chooses the next frame: of the prompt, or, with `text`, after a talker step with the last frame and this text token.
    /// `last` takes the place of the last frame; the codes of `forced` are taken as chosen. Its time begins at `start`.
    pub fn step(
        &mut self,
        slot: SlotId,
        start: Event,
        text: Option<u32>,
        last: Option<&Frame>,
        forced: Option<&Frame>,
        may_end: bool,
    ) -> Result<Ticket> {
        if self.slots[slot].sampling.is_none() {
            return Err(Error::compute("step", "no prompt was run in this slot"));
        }
        self.turn_to(slot)?;
        let step = self.slots[slot].steps;
        let turn = step % STEPS_AHEAD;
        if let Some(text) = text {
            self.reserve(slot, 1)?;
            let (place, weights) = (&mut self.slots[slot], &self.model.weights.talker);
            weights.text_embedding.read_row(text as usize, &mut self.row);
            place.text.write(turn * self.row.len(), &self.row);
        }
        let width = self.model.config.text_hidden;
        let from = self.slots[slot].text.span().part(turn * width..(turn + 1) * width);
        let row = text.map(|_| (&from, &self.desk.text));
        self.kernels.enter(&self.stream, &self.speaker, row, may_end, last, forced)?;
        if text.is_some() {
            self.step.launch(&self.kernels, &self.stream)?;
        }
        let chosen = self.mark()?;
        self.choices.launch(&self.kernels, &self.stream)?;
        let place = &mut self.slots[slot];
        let report = place.report.span().part(turn * REPORT_WORDS..(turn + 1) * REPORT_WORDS);
        let positions = text.is_some().into();
        self.kernels.leave(&self.stream, &self.speaker, positions, 1, Some(&report))?;
        place.position += positions;
        place.steps += 1;
        let end = self.mark()?;
        Ok(Ticket { slot, step, forced: forced.is_some(), start, chosen, end })
    }

    /// The end of the work so far.
    pub fn mark(&mut self) -> Result<Event> {
        let event = self.events.pop().map_or_else(|| Event::new(self.stream.context()), Ok)?;
        self.stream.record(&event)?;
        Ok(event)
    }

    /// Takes a ticket back whose work is done, or of no interest.
    pub fn take_back(&mut self, ticket: Ticket) {
        self.events.extend([ticket.start, ticket.chosen, ticket.end]);
    }

    /// What a step that is done came to, before anyone released its slot.
    pub fn report(&self, ticket: &Ticket) -> Result<Report> {
        let place = &self.slots[ticket.slot];
        let mut words = [0; REPORT_WORDS];
        place.report.read(ticket.step % STEPS_AHEAD * REPORT_WORDS, &mut words);
        let (frame, fault) = (ticket.step, words[GROUPS]);
        let chosen: Frame = std::array::from_fn(|group| words[group] as u16);
        let sampling = place.sampling.as_ref().filter(|_| !ticket.forced);
        let end = match sampling {
            None => None,
            Some(_) if u32::from(chosen[0]) == self.model.config.codec_controls.eos => Some(End::Eos),
            Some(sampling) => (frame + 1 >= sampling.max_new_tokens).then_some(End::Length),
        };
        if fault == args::FAULT_STUCK {
            // Whatever was begun since ends at once, until this is done.
            self.step.clear(&self.stream, 0)?;
            self.choices.clear(&self.stream, 0)?;
            let what = "its blocks waited for one another for too long: is something else on the GPU that never ends?";
            return Err(Error::compute("program", what));
        }
        // A token that makes no frame has group 0 alone.
        if fault == 1 || fault > 1 && end.is_none() {
            let what = format!("scores of frame {frame} group {} are not finite", fault - 1);
            return Err(self.model.blame("step", &what));
        }
        if place.uniforms.is_some()
            && let Some(sampling) = &place.sampling
        {
            let (first, rest) = (sampling.talker.do_sample as usize, sampling.predictor.do_sample as usize);
            let used = frame * (first + (GROUPS - 1) * rest);
            let needed = used + first + if end.is_some() { 0 } else { (GROUPS - 1) * rest };
            if needed > place.draws {
                // The first draw that is missing is this group's.
                let group = place.draws.saturating_sub(used) + 1 - first;
                return Err(Error::request(
                    "uniforms",
                    format!("holds {} draws; frame {frame} group {group} needs one more", place.draws),
                ));
            }
        }
        Ok(Report { chosen, frame, end })
    }

    /// The hidden and the scores of group 0 that the last talker step left, and those of groups 1 to 15. Waits.
    pub fn arithmetic(&self) -> Result<[Vec<f32>; 3]> {
        let get = |span: &Span<f32>| -> Result<Vec<f32>> {
            let mut numbers = vec![0.0; span.len()];
            span.read(&self.stream, &mut numbers)?;
            Ok(numbers)
        };
        Ok([get(&self.hidden)?, get(&self.scores)?, get(&self.predictor_desk.scores)?])
    }
}

impl Slot {
    fn new(context: &Arc<Context>, text_hidden: usize) -> Result<Slot> {
        Ok(Slot {
            memory: SpeakerMemory::new(context)?,
            start: Pinned::new(context, 1)?,
            text: Pinned::new(context, STEPS_AHEAD * text_hidden)?,
            report: Pinned::new(context, STEPS_AHEAD * REPORT_WORDS)?,
            pages: Vec::new(),
            sampling: None,
            uniforms: None,
            draws: 0,
            position: 0,
            prefix_positions: 0,
            steps: 0,
        })
    }
}

/// What `open` uploads.
fn upload(uploader: &mut Uploader, model: &Model) -> Result<(Talker, Predictor)> {
    let (weights, config) = (&model.weights, &model.config);
    let talker = Talker::upload(uploader, weights, config, most_positions(config))?;
    Ok((talker, Predictor::upload(uploader, weights, config)?))
}

/// Positions of one utterance: what the model was made for, a slot's list of pages has places for, and the attention's blocks
/// can share.
fn most_positions(config: &Config) -> usize {
    config.max_positions.min(PAGE_POSITIONS * args::KV_PAGES_MAX as usize)
}

/// The tables of all groups, as wide as the talker.
fn tables<'a>(talker: &'a Talker, predictor: &'a Predictor) -> Vec<&'a Matrix> {
    std::iter::once(&talker.codec_embedding).chain(&predictor.embeddings).collect()
}

fn choosing(sampler: &Sampler) -> args::Choosing {
    args::Choosing {
        do_sample: sampler.do_sample.into(),
        top_k: sampler.top_k.min(u32::MAX as usize) as u32,
        temperature: sampler.temperature,
        top_p: sampler.top_p,
    }
}

/// What kernels take for granted of a model, and the reference does not.
fn check_sizes(config: &Config) -> Result<()> {
    let stacks = [&config.talker, &config.predictor, &config.codec.transformer];
    let last_channels = config.codec.decoder_dim >> config.codec.upsample_rates.len();
    // The pre-conv's, the decoder's first and last; of each upsampling one, and of each block.
    let tails = 3 + config.codec.upsampling_ratios.len() + config.codec.upsample_rates.len() * (1 + DILATIONS.len());
    for (what, found, most) in [
        ("scores of a talker's step", config.talker_vocab, args::SAMPLE_SCORES_MAX),
        ("numbers of a head", stacks.map(|stack| stack.head_dim).into_iter().max().unwrap_or(0), args::HEAD_DIM_MAX),
        ("frames that the codec attends to", config.codec.sliding_window, args::ATTENTION_SPAN_MAX),
        ("channels of the codec's last convolution", last_channels, args::LAST_CHANNELS_MAX),
        ("convolutions with a tail", tails, args::KEEP_TAILS_MAX),
    ] {
        if found > most as usize {
            return Err(Error::compute(
                "cuda",
                format!("this model has {found} {what}; the kernels take up to {most}"),
            ));
        }
    }
    if !config.predictor.hidden.is_multiple_of(4) {
        let what = format!("a predictor {} wide; the kernels take multiples of 4", config.predictor.hidden);
        return Err(Error::compute("cuda", what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Would catch: a model that the reference speaks and the kernels would read or write out of bounds for. Needs no GPU.
    use super::*;

    #[test]
    fn what_the_kernels_do_not_take_is_refused() {
        let model = Model::demo();
        check_sizes(&model.config).unwrap();
        let refused = |change: &dyn Fn(&mut Config), words: &str| {
            let mut config = model.config.clone();
            change(&mut config);
            let error = check_sizes(&config).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        refused(&|c| c.talker_vocab = 4097, "4097 scores");
        refused(&|c| c.talker.head_dim = 258, "258 numbers of a head");
        refused(&|c| c.codec.sliding_window = 2049, "2049 frames");
        refused(&|c| c.codec.decoder_dim = 129 << 4, "129 channels");
        refused(&|c| c.codec.upsample_rates = vec![1; 10], "convolutions with a tail");
        refused(&|c| c.predictor.hidden = 1022, "1022 wide");
    }
}
