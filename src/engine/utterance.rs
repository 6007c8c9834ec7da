//! One stream as the worker sees it: from its text, what it has under way and where its reader is to the work that it can
//! have next, and from what was done to its ring. Knows no other stream and no backend.

use super::resample::Resampler;
use super::ring::{Chunk, Ring, Text};
use super::stats::ms;
use crate::backend::{Did, SlotId, Took, Work};
use crate::error::{Error, Result};
use crate::frame::{DEGENERATE_FRAMES, End, FRAME_TIME, Frame};
use crate::prompt::{Position, Prompt};
use crate::request::{Delivery, OnDry, Output, Randomness, Sampling};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Text of one stream that is tokenised in one go: a few milliseconds.
const HEARD_TOGETHER_BYTES: usize = 1 << 14;
/// Gaps between chunks that are remembered: with chunks of 8 frames, 11 minutes of speech.
const MOST_GAPS: usize = 1024;

/// A stream as its caller hands it over.
pub struct New {
    pub ring: Arc<Ring>,
    pub prompt: Prompt,
    pub sampling: Sampling,
    pub randomness: Randomness,
    pub delivery: Delivery,
    pub resampler: Resampler,
}

/// A stream from when it was opened to when its slot is free again.
pub struct Utterance {
    pub new: New,
    /// Text that has come and was not tokenised yet.
    unheard: VecDeque<Text>,
    /// The prompt, from when its text was there until it is prefilled.
    ready: Option<Vec<Position>>,
    ready_at: Instant,
    pub slot: Option<SlotId>,
    positions: usize,
    frames: usize,
    /// Pieces of work that the backend has.
    pub under_way: usize,
    /// The prefill and steps among them, in order: whether each was fed padding.
    stepping: VecDeque<bool>,
    /// Frames that wait to be decoded, and where they begin.
    pending: Vec<Frame>,
    decoded_frames: usize,
    chunks: usize,
    /// Widths of the chunks that the codec has.
    decoding: VecDeque<usize>,
    /// What frames there are is all; sound may be under way.
    pub end: Option<End>,
    /// Nothing of it is wanted any more: it was cancelled, or has failed.
    pub over: bool,
    dry_since: Option<Instant>,
    /// Frames of padding since then.
    pads: u32,
    /// When padding is due, should no text come.
    pub pad_at: Option<Instant>,
    last_chunk: Option<Instant>,
    last_code: u16,
    same_codes: usize,
}

impl Utterance {
    pub fn new(new: New) -> Utterance {
        Utterance {
            new,
            unheard: VecDeque::new(),
            ready: None,
            ready_at: Instant::now(),
            slot: None,
            positions: 0,
            frames: 0,
            under_way: 0,
            stepping: VecDeque::new(),
            pending: Vec::new(),
            decoded_frames: 0,
            chunks: 0,
            decoding: VecDeque::new(),
            end: None,
            over: false,
            dry_since: None,
            pads: 0,
            pad_at: None,
            last_chunk: None,
            last_code: 0,
            same_codes: 0,
        }
    }

    /// Hears text from the caller, so much of it that no other stream waits for long. Whether that was all.
    pub fn hear(&mut self, text: Vec<Text>) -> Result<bool> {
        self.unheard.extend(text);
        let mut heard_bytes = 0;
        while heard_bytes < HEARD_TOGETHER_BYTES
            && let Some(text) = self.unheard.pop_front()
        {
            match text {
                Text::Piece(mut piece) => {
                    let rest = piece.split_off(piece.floor_char_boundary(HEARD_TOGETHER_BYTES));
                    heard_bytes += piece.len();
                    self.new.prompt.push(&piece)?;
                    if !rest.is_empty() {
                        self.unheard.push_front(Text::Piece(rest));
                    }
                }
                Text::Flush => self.new.prompt.flush()?,
                Text::End => self.new.prompt.end()?,
            }
        }
        Ok(self.unheard.is_empty())
    }

    /// Whether the prompt has just become ready. Text that ended without a word is an utterance without a frame.
    pub fn make_ready(&mut self) -> Result<bool> {
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

    /// What the backend, which takes so many frames ahead, can have of this stream now. Where it is `hasty`, none beside the
    /// first sound.
    pub fn next_work(&mut self, max_positions: usize, frames_ahead: usize, hasty: bool) -> Vec<Work> {
        let mut work = Vec::new();
        if let Some(positions) = self.ready.take() {
            self.positions = positions.len();
            self.stepping.push_back(false);
            let queued_ms = ms(self.ready_at.elapsed());
            self.new.ring.note(|stats| stats.queued_ms = queued_ms);
            work.push(Work::Prefill {
                positions,
                fixed: self.new.prompt.fixed_positions(),
                reference: match self.new.delivery.output {
                    Output::Frames => Vec::new(),
                    _ => self.new.prompt.reference_frames().to_vec(),
                },
                sampling: self.new.sampling,
                randomness: self.new.randomness.clone(),
            });
        }
        let first_width = self.new.delivery.chunk_frames[0];
        let hasty = hasty && self.new.delivery.output != Output::Frames;
        let frames_ahead = match self.chunks {
            0 if hasty => frames_ahead.min(first_width.saturating_sub(self.pending.len())),
            1 if hasty && !self.decoding.is_empty() => 0,
            _ => frames_ahead,
        };
        while self.stepping.len() < frames_ahead
            && self.end.is_none()
            && self.positions > 0
            && let Some((text, may_end)) = self.next_text(max_positions)
        {
            self.stepping.push_back(!may_end);
            work.push(Work::Step { text, may_end });
        }
        // What no frame will come to join soon is not held back.
        let widths = &self.new.delivery.chunk_frames;
        let width = widths[self.chunks.min(widths.len() - 1)];
        let comes = !self.stepping.is_empty() && self.end.is_none();
        if self.pending.len() >= width || !comes && !self.pending.is_empty() {
            let frames = std::mem::take(&mut self.pending);
            self.decoding.push_back(frames.len());
            self.chunks += 1;
            work.push(Work::Decode { frames });
        }
        work
    }

    /// The text token for the next step, and whether the speech may end with it; `None` where there is to be none now: the
    /// speech has reached its length, its reader is far behind, or its text has run dry. Frames under way count
    /// as made; but while there are any the speech neither ends here nor runs dry: one of them may be its end, and text may
    /// come before they are made.
    fn next_text(&mut self, max_positions: usize) -> Option<(u32, bool)> {
        self.pad_at = None;
        let prompt = &mut self.new.prompt;
        let (under_way, idle) = (self.stepping.len(), self.stepping.is_empty());
        let frames = self.frames + under_way;
        let too_long = frames >= self.new.delivery.length_cap.of(prompt.text_tokens());
        // With text to come, the cap may grow: until then it only ends the padding.
        if too_long && prompt.ended() || self.positions + frames > max_positions {
            self.end = idle.then_some(End::Length);
            return None;
        }
        let lead_frames = self.new.delivery.lead.div_duration_f64(FRAME_TIME).ceil() as usize;
        if lead_frames <= under_way || !self.new.ring.has_room(lead_frames - under_way) {
            self.last_chunk = self.last_chunk.filter(|_| !idle);
            return None;
        }
        if let Some(text) = prompt.next_text() {
            if let Some(since) = self.dry_since.take() {
                self.new.ring.note(|stats| stats.dry_ms += ms(since.elapsed()));
            }
            self.pads = 0;
            return Some((text, true));
        }
        if !idle {
            return None;
        }
        let since = *self.dry_since.get_or_insert_with(Instant::now);
        if let OnDry::PadAfter(wait) = self.new.delivery.on_dry
            && !too_long
        {
            // No faster than it is heard, so that the next word waits for none of it; and padding is no end.
            let at = since.checked_add(wait.saturating_add(FRAME_TIME.saturating_mul(self.pads)));
            if at.is_some_and(|at| at <= Instant::now()) {
                self.pads += 1;
                self.new.ring.note(|stats| stats.pads += 1);
                return Some((self.new.prompt.pad(), false));
            }
            self.pad_at = at;
        }
        self.last_chunk = None;
        None
    }

    /// Takes what the backend has done of it.
    pub fn take(&mut self, what: Did) -> Result<()> {
        match what {
            Did::Frame { frame, took } => self.take_frame(frame, took),
            Did::Ended(end) => {
                self.stepping.pop_front();
                self.end.get_or_insert(end);
            }
            Did::Samples { samples, took } => self.take_samples(&samples, took)?,
            Did::Failed(error) => return Err(error),
        }
        Ok(())
    }

    fn take_frame(&mut self, frame: Frame, took: Took) {
        let padding = self.stepping.pop_front().unwrap_or(false);
        if self.end.is_some() {
            return; // it was under way when the speech was found to be stuck
        }
        self.frames += 1;
        let first = self.frames == 1;
        self.new.ring.note(|stats| {
            let talker_ms = if first { &mut stats.prefill_ms } else { &mut stats.talker_ms };
            *talker_ms += ms(took.talker);
            stats.prefix_positions = took.prefix_positions;
            stats.predictor_ms += ms(took.predictor);
            stats.frames += 1;
        });
        // Padding may well be silence.
        let same = !first && frame[0] == self.last_code && !padding;
        self.same_codes = if same { self.same_codes + 1 } else { 1 };
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
        let mut samples = Vec::new();
        self.new.resampler.push(at_24_khz, &mut samples)?;
        self.new.ring.put(Chunk { samples, first_frame: self.decoded_frames, frames });
        self.decoded_frames += frames;
        let gap_ms = self.last_chunk.replace(Instant::now()).map(|last| ms(last.elapsed()));
        self.new.ring.note(|stats| {
            stats.codec_ms += ms(took);
            if stats.chunk_gaps_ms.len() == MOST_GAPS {
                stats.chunk_gaps_ms.remove(0);
            }
            stats.chunk_gaps_ms.extend(gap_ms);
        });
        Ok(())
    }

    /// Ends it with an error; what was made before can still be read.
    pub fn fail(&mut self, error: Error) {
        self.over = true;
        self.new.ring.finish(End::Failed, Some(error));
    }

    /// Whether nothing of it is left to do. Says its end to the reader.
    pub fn is_done(&mut self) -> bool {
        let Some(end) = self.end.filter(|_| !self.over) else { return self.over };
        // A step behind the end is waited for by nobody.
        if !self.decoding.is_empty() || !self.pending.is_empty() {
            return false;
        }
        let mut samples = Vec::new();
        let tail = self.new.resampler.end(&mut samples);
        self.new.ring.put(Chunk { samples, first_frame: self.decoded_frames, frames: 0 });
        self.new.ring.finish(if tail.is_ok() { end } else { End::Failed }, tail.err());
        true
    }
}
