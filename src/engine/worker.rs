//! The one thread that owns the backend. It admits streams to slots, gives each live one its next frame, starts the codec
//! on runs of frames that are due, and hands what comes of it to the streams' rings.

use super::inbox::{Inbox, StreamId};
use super::resample::Resampler;
use super::ring::{Chunk, Ring, Text};
use crate::backend::{Backend, Did, Done, SlotId, Took, Work};
use crate::error::{Error, Result};
use crate::frame::{DEGENERATE_FRAMES, End, FRAME_TIME, Frame};
use crate::prompt::{Position, Prompt};
use crate::request::{Delivery, OnDry, Output, Randomness, Sampling};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A stream as its caller hands it over.
pub struct New {
    pub ring: Arc<Ring>,
    pub prompt: Prompt,
    pub sampling: Sampling,
    pub randomness: Randomness,
    pub delivery: Delivery,
    pub resampler: Resampler,
}

/// The worker's memory.
pub struct Worker {
    backend: Box<dyn Backend>,
    inbox: Arc<Inbox<New>>,
    max_positions: usize,
    streams: BTreeMap<StreamId, Live>,
    /// Who holds each slot.
    slots: Vec<Option<StreamId>>,
    /// Streams whose prompt is ready, in that order.
    queue: VecDeque<StreamId>,
    /// Pieces of work that the backend has.
    under_way: usize,
}

/// A stream from when it was opened to when its slot is free again.
struct Live {
    new: New,
    /// The prompt, from when its text was there until it is prefilled.
    ready: Option<Vec<Position>>,
    ready_at: Instant,
    slot: Option<SlotId>,
    positions: usize,
    frames: usize,
    /// Pieces of work that the backend has.
    under_way: usize,
    /// A prefill or step is among them.
    stepping: bool,
    /// Frames that wait to be decoded, and where they begin.
    pending: Vec<Frame>,
    decoded_frames: usize,
    chunks: usize,
    /// Widths of the chunks that the codec has.
    decoding: VecDeque<usize>,
    /// What frames there are is all; sound may be under way.
    end: Option<End>,
    /// Nothing of it is wanted any more: it was cancelled, or has failed.
    over: bool,
    dry_since: Option<Instant>,
    /// When padding is due, should no text come.
    pad_at: Option<Instant>,
    last_chunk: Option<Instant>,
    last_code: u16,
    same_codes: usize,
}

impl Worker {
    pub fn new(backend: Box<dyn Backend>, inbox: Arc<Inbox<New>>, max_positions: usize, slots: usize) -> Worker {
        let streams = BTreeMap::new();
        Worker {
            backend,
            inbox,
            max_positions,
            streams,
            slots: vec![None; slots],
            queue: VecDeque::new(),
            under_way: 0,
        }
    }

    /// Until the engine is closed.
    pub fn run(&mut self) {
        let mut done = Vec::new();
        loop {
            let news = match self.under_way {
                0 => self.inbox.wait(self.deadline()),
                _ => self.inbox.take(),
            };
            let opened: Vec<StreamId> = news.opened.iter().map(|(id, _)| *id).collect();
            self.streams.extend(news.opened.into_iter().map(|(id, new)| (id, Live::new(new))));
            if news.closed.is_some() {
                return; // dropping what lives ends it
            }
            for id in opened.into_iter().chain(news.rung) {
                self.hear(id);
            }
            let now = Instant::now();
            let due = |live: &Live| live.pad_at.is_some_and(|at| at <= now);
            let due: Vec<StreamId> = self.streams.iter().filter(|(_, live)| due(live)).map(|(id, _)| *id).collect();
            due.into_iter().for_each(|id| self.advance(id));
            self.admit();
            if self.under_way > 0 {
                let wait = self.deadline().map_or(LONGEST_POLL, |d| d.saturating_duration_since(now));
                if let Err(error) = self.backend.poll(wait.min(LONGEST_POLL), &mut done) {
                    return self.inbox.close(error);
                }
                done.drain(..).for_each(|done| self.take(done));
                self.admit();
            }
        }
    }

    /// When padding is due somewhere.
    fn deadline(&self) -> Option<Instant> {
        self.streams.values().filter_map(|live| live.pad_at).min()
    }

    /// Takes a stream's news: text, or that nobody wants it.
    fn hear(&mut self, id: StreamId) {
        let Some(live) = self.streams.get_mut(&id) else { return };
        match live.new.ring.take_text() {
            None => live.over = true,
            Some(text) if live.end.is_none() && !live.over => {
                if let Err(error) = text.into_iter().try_for_each(|text| live.hear(text)) {
                    live.fail(error);
                }
                let prompt = &live.new.prompt;
                let (tokens, missing) = (prompt.text_tokens(), prompt.missing_tokens());
                live.new.ring.note(|stats| (stats.text_tokens, stats.missing_tokens) = (tokens, missing));
            }
            Some(_) => {}
        }
        self.advance(id);
    }

    /// Starts whatever a stream can have next.
    fn advance(&mut self, id: StreamId) {
        let Some(live) = self.streams.get_mut(&id) else { return };
        // The news of a cancel may lie in the inbox behind the work that was just done: no frame is begun meanwhile.
        live.over |= live.new.ring.is_closed();
        if live.slot.is_none() && !live.over {
            match live.make_ready() {
                Ok(true) => self.queue.push_back(id),
                Ok(false) => {}
                Err(error) => live.fail(error),
            }
        }
        if let (Some(slot), false) = (live.slot, live.over) {
            for work in live.next_work(self.max_positions) {
                self.under_way += 1;
                live.under_way += 1;
                if let Err(error) = self.backend.submit(slot, work) {
                    return self.inbox.close(error);
                }
            }
        }
        if live.is_done() {
            self.retire(id);
        }
    }

    /// Gives free slots to the streams that have waited longest.
    fn admit(&mut self) {
        while let Some(slot) = self.slots.iter().position(Option::is_none)
            && let Some(id) = self.queue.pop_front()
        {
            let Some(live) = self.streams.get_mut(&id) else { continue };
            self.slots[slot] = Some(id);
            live.slot = Some(slot);
            self.count();
            self.advance(id);
        }
    }

    fn count(&self) {
        self.inbox.set_speaking(self.slots.iter().flatten().count());
    }

    /// Takes what the backend has done.
    fn take(&mut self, Done { slot, what }: Done) {
        // What came in one go with the failure that ended its stream is of no interest any more.
        let Some(id) = self.slots[slot] else { return };
        let Some(live) = self.streams.get_mut(&id) else { return };
        self.under_way -= 1;
        live.under_way -= 1;
        if let Err(error) = live.take(what) {
            live.fail(error);
        }
        self.advance(id);
    }

    /// Forgets a stream that has come to its end.
    fn retire(&mut self, id: StreamId) {
        let Some(live) = self.streams.remove(&id) else { return };
        self.queue.retain(|&waits| waits != id);
        if let Some(slot) = live.slot {
            self.under_way -= live.under_way;
            self.slots[slot] = None;
            if let Err(error) = self.backend.release(slot) {
                self.inbox.close(error);
            }
        }
        self.count();
        live.new.ring.released();
    }
}

/// So that the worker looks at its inbox now and then, should a backend lose a piece of work.
const LONGEST_POLL: Duration = Duration::from_secs(1);

impl Drop for Worker {
    /// Also where a panic ends the worker: no reader waits for ever.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.inbox.close(Error::compute("engine", "its working thread failed"));
        }
        let news = self.inbox.take();
        self.streams.extend(news.opened.into_iter().map(|(id, new)| (id, Live::new(new))));
        for live in self.streams.values() {
            match &news.closed {
                Some(Error::Closed) => live.new.ring.cancel(),
                why => live.new.ring.finish(End::Failed, why.clone()),
            }
        }
        self.inbox.set_speaking(0);
    }
}

impl Live {
    fn new(new: New) -> Live {
        Live {
            new,
            ready: None,
            ready_at: Instant::now(),
            slot: None,
            positions: 0,
            frames: 0,
            under_way: 0,
            stepping: false,
            pending: Vec::new(),
            decoded_frames: 0,
            chunks: 0,
            decoding: VecDeque::new(),
            end: None,
            over: false,
            dry_since: None,
            pad_at: None,
            last_chunk: None,
            last_code: 0,
            same_codes: 0,
        }
    }

    /// Text from the caller.
    fn hear(&mut self, text: Text) -> Result<()> {
        match text {
            Text::Piece(piece) => self.new.prompt.push(&piece),
            Text::Flush => self.new.prompt.flush(),
            Text::End => self.new.prompt.end(),
        }
    }

    /// Whether the prompt has just become ready. Text that ended without a word is an utterance without a frame.
    fn make_ready(&mut self) -> Result<bool> {
        let prompt = &mut self.new.prompt;
        if self.ready.is_some() || self.end.is_some() {
            return Ok(false);
        }
        if prompt.ended() && !prompt.has_words() {
            self.end = Some(End::Eos);
            return Ok(false);
        }
        // Not before a word has come: spaces may be all there will ever be.
        self.ready = if prompt.has_words() { prompt.prefill()? } else { None };
        self.ready_at = Instant::now();
        Ok(self.ready.is_some())
    }

    /// What the backend can have of this stream now.
    fn next_work(&mut self, max_positions: usize) -> Vec<Work> {
        let mut work = Vec::new();
        if let Some(positions) = self.ready.take() {
            self.positions = positions.len();
            self.stepping = true;
            let queued_ms = ms(self.ready_at.elapsed());
            self.new.ring.note(|stats| stats.queued_ms = queued_ms);
            work.push(Work::Prefill {
                positions,
                reference: match self.new.delivery.output {
                    Output::Frames => Vec::new(),
                    _ => self.new.prompt.reference_frames().to_vec(),
                },
                sampling: self.new.sampling,
                randomness: self.new.randomness.clone(),
            });
        }
        if !self.stepping
            && self.end.is_none()
            && self.frames > 0
            && let Some(text) = self.next_text(max_positions)
        {
            self.stepping = true;
            work.push(Work::Step { text });
        }
        // What no frame will come to join soon is not held back.
        let widths = &self.new.delivery.chunk_frames;
        let width = widths[self.chunks.min(widths.len() - 1)];
        if self.pending.len() >= width || !self.stepping && !self.pending.is_empty() {
            let frames = std::mem::take(&mut self.pending);
            self.decoding.push_back(frames.len());
            self.chunks += 1;
            work.push(Work::Decode { frames });
        }
        work
    }

    /// The text token for the next step; `None` where there is to be none now: the speech has reached its length, its
    /// reader is far behind, or its text has run dry.
    fn next_text(&mut self, max_positions: usize) -> Option<u32> {
        self.pad_at = None;
        let prompt = &mut self.new.prompt;
        let too_long = self.frames >= self.new.delivery.length_cap.of(prompt.text_tokens());
        // With text to come, the cap may grow: until then it only ends the padding.
        if too_long && prompt.ended() || self.positions + self.frames > max_positions {
            self.end = Some(End::Length);
            return None;
        }
        let lead_frames = self.new.delivery.lead.div_duration_f64(FRAME_TIME).ceil() as usize;
        if !self.new.ring.has_room(lead_frames) {
            self.last_chunk = None;
            return None;
        }
        if let Some(text) = prompt.next_text() {
            if let Some(since) = self.dry_since.take() {
                self.new.ring.note(|stats| stats.dry_ms += ms(since.elapsed()));
            }
            return Some(text);
        }
        let since = *self.dry_since.get_or_insert_with(Instant::now);
        if let OnDry::PadAfter(wait) = self.new.delivery.on_dry
            && !too_long
        {
            if since.elapsed() >= wait {
                self.new.ring.note(|stats| stats.pads += 1);
                return Some(self.new.prompt.pad());
            }
            self.pad_at = since.checked_add(wait);
        }
        self.last_chunk = None;
        None
    }

    /// Takes what the backend has done of it.
    fn take(&mut self, what: Did) -> Result<()> {
        match what {
            Did::Frame { frame, took } => self.take_frame(frame, took),
            Did::Ended(end) => {
                self.stepping = false;
                self.end = Some(end);
            }
            Did::Samples { samples, took } => self.take_samples(&samples, took)?,
            Did::Failed(error) => return Err(error),
        }
        Ok(())
    }

    fn take_frame(&mut self, frame: Frame, took: Took) {
        self.stepping = false;
        self.frames += 1;
        let first = self.frames == 1;
        self.new.ring.note(|stats| {
            let talker_ms = if first { &mut stats.prefill_ms } else { &mut stats.talker_ms };
            *talker_ms += ms(took.talker);
            stats.predictor_ms += ms(took.predictor);
            stats.frames += 1;
        });
        self.same_codes = if !first && frame[0] == self.last_code { self.same_codes + 1 } else { 1 };
        self.last_code = frame[0];
        if self.same_codes == DEGENERATE_FRAMES {
            self.end = Some(End::Degenerate);
        }
        if self.new.delivery.output != Output::Samples {
            self.new.ring.put_frame(frame);
        }
        if self.new.delivery.output != Output::Frames {
            self.pending.push(frame);
        }
    }

    fn take_samples(&mut self, at_24_khz: &[f32], took: Duration) -> Result<()> {
        let frames = self.decoding.pop_front().unwrap_or(0);
        let mut samples = Vec::with_capacity(2 * at_24_khz.len());
        self.new.resampler.push(at_24_khz, &mut samples)?;
        self.new.ring.put(Chunk { samples, first_frame: self.decoded_frames, frames });
        self.decoded_frames += frames;
        let gap_ms = self.last_chunk.replace(Instant::now()).map(|last| ms(last.elapsed()));
        self.new.ring.note(|stats| {
            stats.codec_ms += ms(took);
            stats.chunk_gaps_ms.extend(gap_ms);
        });
        Ok(())
    }

    /// Ends it with an error; what was made before can still be read.
    fn fail(&mut self, error: Error) {
        self.over = true;
        self.new.ring.finish(End::Failed, Some(error));
    }

    /// Whether nothing of it is left to do. Says its end to the reader.
    fn is_done(&mut self) -> bool {
        let Some(end) = self.end.filter(|_| !self.over) else { return self.over };
        if self.under_way > 0 || !self.pending.is_empty() {
            return false;
        }
        let mut samples = Vec::new();
        let tail = self.new.resampler.end(&mut samples);
        self.new.ring.put(Chunk { samples, first_frame: self.decoded_frames, frames: 0 });
        self.new.ring.finish(if tail.is_ok() { end } else { End::Failed }, tail.err());
        true
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
