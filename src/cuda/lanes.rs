//! A GPU as the engine sees it: frames in one stream of the device, samples in another, each in the order given, so that the
//! codec's work runs beside the next steps. What is done is found by asking; what waits for the device, for a
//! moment, is a prompt's beginning (new memory, given draws).

use super::codec::Decoded;
use super::frames::{Report, STEPS_AHEAD, Ticket};
use super::{Loaded, Options, load};
use crate::backend::{Backend, Did, Done, SlotId, Took, Waker, Work};
use crate::device::{Loading, Memory};
use crate::driver::Event;
use crate::error::{Error, Result};
use crate::frame::End;
use crate::model::Model;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks at work that is under way.
const NAP: Duration = Duration::from_micros(20);

/// The CUDA backend.
pub(crate) struct Lanes {
    loaded: Loaded,
    slots: Vec<Slot>,
    /// In order; a failure to begin a piece stands behind what was begun before it.
    stepping: VecDeque<UnderWay<Ticket>>,
    decoding: VecDeque<UnderWay<Decoded>>,
    /// Answers that need no device.
    answered: Vec<(u64, Done)>,
    wake: Arc<Wake>,
    memory: Arc<Mutex<Memory>>,
}

/// Which utterance a slot is at, counted by its releases, and whether that has ended or failed.
#[derive(Clone, Copy, Default)]
struct Slot {
    turn: u64,
    end: Option<End>,
    /// A step could not begin; a step before it may still be the end, and then that is no failure.
    failed: bool,
    /// Nor could a decode: nothing more can come of it.
    mute: bool,
}

/// A piece of work of a slot's utterance.
struct UnderWay<W> {
    slot: SlotId,
    turn: u64,
    /// Nobody waits for it.
    behind_the_end: bool,
    work: Result<W>,
}

#[derive(Default)]
struct Wake {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    /// Waits at most this long; whether it was woken since it last was.
    fn wait(&self, most: Duration) -> bool {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(woken, most, |woken| !*woken);
        let (mut woken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *woken)
    }
}

impl Lanes {
    pub fn open(model: &Arc<Model>, options: &Options, progress: &mut dyn FnMut(Loading)) -> Result<Lanes> {
        let loaded = load(model, options, progress)?;
        let memory = Arc::new(Mutex::new(loaded.memory()));
        Ok(Lanes {
            loaded,
            slots: vec![Slot::default(); options.slots],
            stepping: VecDeque::new(),
            decoding: VecDeque::new(),
            answered: Vec::new(),
            wake: Arc::default(),
            memory,
        })
    }

    /// What it holds of the device's memory, as it grows.
    pub fn memory(&self) -> Arc<Mutex<Memory>> {
        self.memory.clone()
    }

    fn begin(&mut self, slot: SlotId, work: Work) {
        let Slot { turn, end, failed, mute } = self.slots[slot];
        if mute || failed && !matches!(work, Work::Decode { .. }) {
            return; // its failure is the answer to all that was asked of it since
        }
        let behind_the_end = false;
        match work {
            Work::Step { .. } if end.is_some() => self.answer_end(slot),
            Work::Decode { frames } => {
                let work = self.loaded.codec.decode(slot, &frames);
                self.slots[slot].mute = work.is_err();
                self.decoding.push_back(UnderWay { slot, turn, behind_the_end, work });
            }
            step => {
                let work = self.step(slot, step);
                self.slots[slot].failed = work.is_err();
                self.stepping.push_back(UnderWay { slot, turn, behind_the_end, work });
            }
        }
    }

    /// Begins a prompt's or a frame's choices.
    fn step(&mut self, slot: SlotId, work: Work) -> Result<Ticket> {
        let Loaded { frames, codec, .. } = &mut self.loaded;
        let start = frames.mark()?;
        match work {
            Work::Prefill { positions, fixed, reference, sampling, randomness } => {
                frames.begin(slot, sampling, &randomness)?;
                frames.prefill(slot, &positions, fixed, None)?;
                // Beside the prompt, which the device has by now: no sound is due before it is done.
                codec.begin_behind(slot, &reference)?;
                frames.step(slot, start, None, None, None, true)
            }
            Work::Step { text, may_end } => frames.step(slot, start, Some(text), None, None, may_end),
            Work::Decode { .. } => Err(Error::compute("step", "decoding is no step")),
        }
    }

    fn answer_end(&mut self, slot: SlotId) {
        if let Slot { turn, end: Some(end), .. } = self.slots[slot] {
            self.answered.push((turn, Done { slot, what: Did::Ended(end) }));
        }
    }

    /// What a step that is done came to.
    fn taken(&self, ticket: &Ticket) -> Result<Did> {
        let frames = &self.loaded.frames;
        let Report { chosen, end, .. } = frames.report(ticket)?;
        if let Some(end) = end {
            return Ok(Did::Ended(end));
        }
        let between = |from: &Event, to: &Event| Ok(Duration::from_secs_f32(to.ms_since(from)? / 1e3));
        let took = Took {
            talker: between(&ticket.start, &ticket.chosen)?,
            predictor: between(&ticket.chosen, &ticket.end)?,
            prefix_positions: frames.prefix_positions(ticket.slot),
        };
        Ok(Did::Frame { frame: chosen, took })
    }

    /// Takes what is done off both queues.
    fn collect(&mut self, done: &mut Vec<Done>) -> Result<()> {
        while let Some(first) = self.stepping.front()
            && first.work.as_ref().map_or(Ok(true), |ticket| ticket.end.is_done())?
            && let Some(UnderWay { slot, turn, behind_the_end, work }) = self.stepping.pop_front()
        {
            let wanted = turn == self.slots[slot].turn && !behind_the_end;
            let what = match work {
                Ok(ticket) => {
                    let what = wanted.then(|| self.taken(&ticket).unwrap_or_else(Did::Failed));
                    self.loaded.frames.take_back(ticket);
                    what
                }
                Err(error) => wanted.then_some(Did::Failed(error)),
            };
            if let Some(Did::Ended(end)) = what {
                let behind = self.stepping.iter_mut().filter(|w| (w.slot, w.turn) == (slot, turn));
                let behind = behind.map(|w| w.behind_the_end = true).count();
                (self.slots[slot].end, self.slots[slot].failed) = (Some(end), false);
                (0..behind).for_each(|_| self.answer_end(slot));
            }
            done.extend(what.map(|what| Done { slot, what }));
        }
        while let Some(first) = self.decoding.front()
            && first.work.as_ref().map_or(Ok(true), |decoded| decoded.end.is_done())?
            && let Some(UnderWay { slot, turn, work, .. }) = self.decoding.pop_front()
        {
            let what = work.and_then(|decoded| {
                let took = Duration::from_secs_f32(decoded.end.ms_since(&decoded.start)? / 1e3);
                Ok(Did::Samples { samples: self.loaded.codec.take(decoded)?, took })
            });
            if turn == self.slots[slot].turn {
                done.push(Done { slot, what: what.unwrap_or_else(Did::Failed) });
            }
        }
        Ok(())
    }
}

impl Backend for Lanes {
    fn most_positions(&self) -> usize {
        self.loaded.frames.most_positions()
    }

    fn frames_ahead(&self) -> usize {
        STEPS_AHEAD
    }

    /// A frame's blocks are on every multiprocessor for as long as it takes.
    fn hasty(&self) -> bool {
        true
    }

    fn submit(&mut self, slot: SlotId, work: Work) -> Result<()> {
        self.begin(slot, work);
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = self.loaded.memory();
        Ok(())
    }

    fn poll(&mut self, wait: Duration, done: &mut Vec<Done>) -> Result<()> {
        let (until, before) = (Instant::now() + wait, done.len());
        loop {
            self.collect(done)?;
            let slots = &self.slots;
            done.extend(self.answered.drain(..).filter(|(turn, d)| *turn == slots[d.slot].turn).map(|(_, d)| d));
            let left = until.saturating_duration_since(Instant::now());
            if done.len() > before || left.is_zero() {
                return Ok(());
            }
            let idle = self.stepping.is_empty() && self.decoding.is_empty();
            if self.wake.wait(if idle { left } else { left.min(NAP) }) {
                return Ok(());
            }
        }
    }

    fn waker(&self) -> Waker {
        let wake = self.wake.clone();
        Arc::new(move || wake.wake())
    }

    fn release(&mut self, slot: SlotId) -> Result<()> {
        self.loaded.frames.release(slot);
        self.slots[slot] = Slot { turn: self.slots[slot].turn + 1, ..Slot::default() };
        Ok(())
    }
}
