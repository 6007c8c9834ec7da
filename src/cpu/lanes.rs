//! The reference as a backend: two lanes, each a thread with a pool of its own, so that the codec's work on finished
//! frames runs beside the next step. What waits in a lane for different slots is done together; long work comes in
//! pieces, so that nobody waits for the whole of it and nobody finishes what nobody wants any more.

use super::codec::FRAMES_TOGETHER;
use super::{CodecSlot, PrimedSlots, Reference, Slot, Step};
use crate::backend::{Backend, Did, Done, SlotId, Took, Waker, Work};
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::model::Model;
use crate::prompt::Position;
use crate::request::{Randomness, Sampling};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Positions of a prompt that run together. Any cutting gives the same bits.
const POSITIONS_TOGETHER: usize = 32;

/// The CPU backend.
pub struct Lanes {
    frames: Lane<FrameWork>,
    samples: Lane<CodecWork>,
    done: Receiver<Option<(Turn, Done)>>,
    /// Also wakes: `None` says nothing but that.
    wake: Sender<Option<(Turn, Done)>>,
    /// One such is on its way: many in a row are no more than one, and nobody may take them for long.
    woken: Arc<AtomicBool>,
    turns: Turns,
    /// Those of the codec's lane.
    primed: PrimedSlots,
}

/// Which utterance a slot is at, counted by its releases: what belongs to an earlier one is of no interest any more.
type Turn = u64;
type Turns = Arc<[AtomicU64]>;

/// Work for a slot; without work, its release.
struct Order<W> {
    slot: SlotId,
    turn: Turn,
    work: Option<W>,
}

/// What the talker and the predictor are asked for. Only `First` and `Step` are answered, and failures.
enum FrameWork {
    Begin { sampling: Sampling, randomness: Randomness },
    Positions(Vec<Position>),
    First,
    Step { text: u32, may_end: bool },
}

/// What the codec is asked for. Only `Decode` is answered.
enum CodecWork {
    /// A part of a reference, and how many frames of it follow.
    Prime(Vec<Frame>, usize),
    /// Behind the last of a reference, which is all of this.
    Keep(Vec<Frame>),
    /// In place of those.
    StartFrom(Arc<CodecSlot>),
    Decode(Vec<Frame>),
}

/// A slot's talker and predictor, with the frame to be fed back and the time that its prompt took.
struct Speaker {
    slot: Slot,
    last: Frame,
    prefill: Duration,
}

/// A slot's codec, and what was wrong with its reference.
struct Sounder {
    slot: CodecSlot,
    failed: Option<Error>,
}

impl Lanes {
    /// `threads`: of each lane; `None` takes one per core.
    pub fn new(model: &Arc<Model>, threads: Option<usize>, slots: usize) -> Result<Lanes> {
        let (sender, done) = channel();
        let turns: Turns = (0..slots).map(|_| AtomicU64::new(0)).collect();
        let reference = || Reference::new(model.clone(), threads);
        let (speaks, sounds) = (reference()?, reference()?);
        let primed = sounds.primed.clone();
        let frames = Lane::start("qwentts-frames", sender.clone(), turns.clone(), speaks, speak)?;
        let samples = Lane::start("qwentts-samples", sender.clone(), turns.clone(), sounds, decode)?;
        Ok(Lanes { frames, samples, done, wake: sender, woken: Arc::default(), turns, primed })
    }

    fn order<W>(&self, slot: SlotId, work: Option<W>) -> Order<W> {
        Order { slot, turn: self.turns[slot].load(Relaxed), work }
    }

    fn frame(&self, slot: SlotId, work: FrameWork) -> Result<()> {
        self.frames.send(self.order(slot, Some(work)))
    }

    fn sample(&self, slot: SlotId, work: CodecWork) -> Result<()> {
        self.samples.send(self.order(slot, Some(work)))
    }

    /// A slot's codec behind a reference: heard, or as an earlier one with the same left it.
    fn prime(&self, slot: SlotId, reference: Vec<Frame>) -> Result<()> {
        if let Some(kept) = self.primed.find(&reference) {
            return self.sample(slot, CodecWork::StartFrom(kept));
        }
        let mut more = reference.len();
        for frames in reference.chunks(FRAMES_TOGETHER) {
            more -= frames.len();
            self.sample(slot, CodecWork::Prime(frames.to_vec(), more))?;
        }
        match reference.is_empty() {
            true => Ok(()),
            false => self.sample(slot, CodecWork::Keep(reference)),
        }
    }
}

impl Backend for Lanes {
    /// The next frame could not begin sooner: the lane is busy with the last.
    fn frames_ahead(&self) -> usize {
        1
    }

    fn submit(&mut self, slot: SlotId, work: Work) -> Result<()> {
        match work {
            Work::Prefill { positions, fixed: _, reference, sampling, randomness } => {
                self.frame(slot, FrameWork::Begin { sampling, randomness })?;
                for positions in positions.chunks(POSITIONS_TOGETHER) {
                    self.frame(slot, FrameWork::Positions(positions.to_vec()))?;
                }
                self.prime(slot, reference)?;
                self.frame(slot, FrameWork::First)
            }
            Work::Step { text, may_end } => self.frame(slot, FrameWork::Step { text, may_end }),
            Work::Decode { frames } => self.sample(slot, CodecWork::Decode(frames)),
        }
    }

    fn poll(&mut self, wait: Duration, done: &mut Vec<Done>) -> Result<()> {
        let first = match self.done.recv_timeout(wait) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => return Err(lane_is_gone()),
        };
        // Before the caller looks for what it was woken for: what comes from now on wakes again.
        let woken = |came: &Option<(Turn, Done)>| match came {
            Some(_) => {}
            None => self.woken.store(false, SeqCst),
        };
        let came = std::iter::once(first).chain(self.done.try_iter()).inspect(woken).flatten();
        done.extend(came.filter(|(turn, done)| *turn == self.turns[done.slot].load(Relaxed)).map(|(_, done)| done));
        Ok(())
    }

    fn waker(&self) -> Waker {
        let (wake, woken) = (self.wake.clone(), self.woken.clone());
        Arc::new(move || {
            if !woken.swap(true, SeqCst) {
                let _ = wake.send(None); // nobody waits once the engine is dropped
            }
        })
    }

    fn release(&mut self, slot: SlotId) -> Result<()> {
        self.turns[slot].fetch_add(1, Relaxed);
        self.frames.send(self.order(slot, None))?;
        self.samples.send(self.order(slot, None))
    }
}

impl Drop for Lanes {
    /// What waits in the lanes is not begun any more.
    fn drop(&mut self) {
        for turn in self.turns.iter() {
            turn.fetch_add(1, Relaxed);
        }
    }
}

/// A thread that works on slots, and what waits for it.
struct Lane<W> {
    /// `None` only while it is dropped.
    orders: Option<Sender<Order<W>>>,
    thread: Option<JoinHandle<()>>,
}

impl<W: Send + 'static> Lane<W> {
    fn start<S: Send + 'static>(
        name: &str,
        done: Sender<Option<(Turn, Done)>>,
        turns: Turns,
        reference: Reference,
        run: fn(&Reference, &mut Option<S>, W) -> Option<Result<Did>>,
    ) -> Result<Lane<W>> {
        let (sender, orders) = channel();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&orders, &done, &turns, &reference, run))
            .map_err(|e| Error::compute("threads", e.to_string()))?;
        Ok(Lane { orders: Some(sender), thread: Some(thread) })
    }

    fn send(&self, order: Order<W>) -> Result<()> {
        let sent = self.orders.as_ref().map(|orders| orders.send(order));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(lane_is_gone()),
        }
    }
}

impl<W> Drop for Lane<W> {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it catches what its work may panic with
        }
    }
}

fn lane_is_gone() -> Error {
    Error::compute("cpu", "a working thread has ended")
}

/// A lane's thread: until no more orders can come.
fn work<S: Send, W: Send>(
    orders: &Receiver<Order<W>>,
    done: &Sender<Option<(Turn, Done)>>,
    turns: &Turns,
    reference: &Reference,
    run: fn(&Reference, &mut Option<S>, W) -> Option<Result<Did>>,
) {
    let mut states: BTreeMap<SlotId, S> = BTreeMap::new();
    let mut waiting: Vec<Order<W>> = Vec::new();
    loop {
        if waiting.is_empty() {
            match orders.recv() {
                Ok(order) => waiting.push(order),
                Err(_) => return,
            }
        }
        waiting.extend(orders.try_iter());
        // A slot's own work is done in order; other slots' comes between.
        let mut together: Vec<(Order<W>, Option<S>)> = Vec::new();
        let mut later = Vec::new();
        for order in waiting.drain(..) {
            if together.iter().any(|(busy, _)| busy.slot == order.slot) {
                later.push(order);
                continue;
            }
            let state = states.remove(&order.slot);
            // Work of an utterance that has been released since is not begun.
            if order.work.is_some() && order.turn == turns[order.slot].load(Relaxed) {
                together.push((order, state));
            }
        }
        waiting = later;
        reference.threads.install(|| {
            together.par_iter_mut().for_each(|(Order { slot, turn, work }, state)| {
                let Some(work) = work.take() else { return };
                let did = catch_unwind(AssertUnwindSafe(|| run(reference, state, work)));
                let did = did.unwrap_or_else(|panic| Some(Err(Error::compute("cpu", words(&*panic)))));
                if let Some(did) = did {
                    let what = did.unwrap_or_else(Did::Failed);
                    let _ = done.send(Some((*turn, Done { slot: *slot, what }))); // nobody listens once the engine is dropped
                }
            });
        });
        states.extend(together.into_iter().filter_map(|(order, state)| Some((order.slot, state?))));
    }
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("internal error: {}", said.unwrap_or("a panic without words"))
}

fn speak(reference: &Reference, state: &mut Option<Speaker>, work: FrameWork) -> Option<Result<Did>> {
    let started = Instant::now();
    let (speaker, may_end) = match (work, state) {
        (FrameWork::Begin { sampling, randomness }, state) => {
            let (slot, last) = (reference.slot(sampling, randomness), Frame::default());
            *state = Some(Speaker { slot, last, prefill: Duration::ZERO });
            return None;
        }
        (FrameWork::Positions(positions), Some(speaker)) => {
            reference.prefill(&mut speaker.slot, &positions);
            speaker.prefill += started.elapsed();
            return None;
        }
        (FrameWork::First, Some(speaker)) => (speaker, true),
        (FrameWork::Step { text, may_end }, Some(speaker)) => {
            reference.feed(&mut speaker.slot, &speaker.last, text);
            (speaker, may_end)
        }
        (_, None) => return Some(Err(Error::compute("step", "no prompt was run in this slot"))),
    };
    let fed = started.elapsed();
    let talker = fed + std::mem::take(&mut speaker.prefill);
    Some(reference.step(&mut speaker.slot, None, may_end).map(|step| match step {
        Step::Ended(end) => Did::Ended(end),
        Step::Frame { chosen, .. } => {
            speaker.last = chosen;
            let predictor = started.elapsed() - fed;
            Did::Frame { frame: chosen, took: Took { talker, predictor, prefix_positions: 0 } }
        }
    }))
}

fn decode(reference: &Reference, state: &mut Option<Sounder>, work: CodecWork) -> Option<Result<Did>> {
    let started = Instant::now();
    let sounder = state.get_or_insert_with(|| Sounder { slot: reference.codec_slot(), failed: None });
    match (work, &sounder.failed) {
        // Only what was asked for is answered: the next decode says it.
        (CodecWork::Prime(frames, more), _) => {
            if sounder.failed.is_none() {
                sounder.failed = reference.prime(&mut sounder.slot, &frames, more).err();
            }
            None
        }
        (CodecWork::Keep(frames), failed) => {
            if failed.is_none() {
                reference.primed.keep(frames, &sounder.slot);
            }
            None
        }
        (CodecWork::StartFrom(kept), _) => {
            *sounder = Sounder { slot: (*kept).clone(), failed: None };
            None
        }
        (CodecWork::Decode(_), Some(error)) => Some(Err(error.clone())),
        (CodecWork::Decode(frames), None) => {
            let samples = reference.decode(&mut sounder.slot, &frames);
            Some(samples.map(|samples| Did::Samples { samples, took: started.elapsed() }))
        }
    }
}

#[cfg(test)]
mod tests {
    //! Would catch: a wake-up that is lost, or many that pile up while nobody waits.
    use super::*;

    #[test]
    fn a_waker_wakes_however_often_and_leaves_one_message() {
        let model = Model::demo();
        let mut lanes = Lanes::new(&model, Some(1), 1).unwrap();
        let wake = lanes.waker();
        let mut done = Vec::new();
        for _ in 0..3 {
            (0..1000).for_each(|_| wake());
            // Would wait for ever where it was not woken.
            lanes.poll(Duration::MAX, &mut done).unwrap();
            assert!(done.is_empty() && lanes.done.try_recv().is_err());
        }
        (0..1000).for_each(|_| wake());
        assert_eq!(lanes.done.try_iter().count(), 1);
    }
}
