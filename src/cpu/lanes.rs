//! The reference as a backend: two lanes, each a thread with a pool of its own, so that the codec's work on finished
//! frames runs beside the next step. What waits in a lane for different slots is done together.

use super::{CodecSlot, Reference, Slot, Step};
use crate::backend::{Backend, Did, Done, SlotId, Took, Work};
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::model::Model;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The CPU backend.
pub struct Lanes {
    frames: Lane<Work>,
    samples: Lane<CodecWork>,
    done: Receiver<(Turn, Done)>,
    turns: Turns,
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

enum CodecWork {
    Prime(Vec<Frame>),
    Decode(Vec<Frame>),
}

/// A slot's talker and predictor, with the frame to be fed back.
struct Speaker {
    slot: Slot,
    last: Frame,
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
        let frames = Lane::start("qwentts-frames", sender.clone(), turns.clone(), reference()?, speak)?;
        let samples = Lane::start("qwentts-samples", sender, turns.clone(), reference()?, decode)?;
        Ok(Lanes { frames, samples, done, turns })
    }

    fn order<W>(&self, slot: SlotId, work: Option<W>) -> Order<W> {
        Order { slot, turn: self.turns[slot].load(Relaxed), work }
    }
}

impl Backend for Lanes {
    fn submit(&mut self, slot: SlotId, mut work: Work) -> Result<()> {
        if let Work::Decode { frames } = work {
            return self.samples.send(self.order(slot, Some(CodecWork::Decode(frames))));
        }
        if let Work::Prefill { reference, .. } = &mut work
            && !reference.is_empty()
        {
            let prime = CodecWork::Prime(std::mem::take(reference));
            self.samples.send(self.order(slot, Some(prime)))?;
        }
        self.frames.send(self.order(slot, Some(work)))
    }

    fn poll(&mut self, wait: Duration, done: &mut Vec<Done>) -> Result<()> {
        let first = match self.done.recv_timeout(wait) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => return Err(lane_is_gone()),
        };
        let came = std::iter::once(first).chain(self.done.try_iter());
        done.extend(came.filter(|(turn, done)| *turn == self.turns[done.slot].load(Relaxed)).map(|(_, done)| done));
        Ok(())
    }

    fn release(&mut self, slot: SlotId) -> Result<()> {
        self.turns[slot].fetch_add(1, Relaxed);
        self.frames.send(self.order(slot, None))?;
        self.samples.send(self.order(slot, None))
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
        done: Sender<(Turn, Done)>,
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
    done: &Sender<(Turn, Done)>,
    turns: &Turns,
    reference: &Reference,
    run: fn(&Reference, &mut Option<S>, W) -> Option<Result<Did>>,
) {
    let mut states: BTreeMap<SlotId, Option<S>> = BTreeMap::new();
    let mut over = None;
    while let Some(first) = over.take().or_else(|| orders.recv().ok()) {
        let mut together: Vec<(Order<W>, Option<S>)> = Vec::new();
        let mut next = Some(first);
        while let Some(order) = next.take() {
            // A slot's own work is done in order.
            if together.iter().any(|(busy, _)| busy.slot == order.slot) {
                over = Some(order);
                break;
            }
            let state = states.remove(&order.slot).flatten();
            // Work of an utterance that has been released since is not begun.
            if order.work.is_some() && order.turn == turns[order.slot].load(Relaxed) {
                together.push((order, state));
            }
            next = orders.try_recv().ok();
        }
        reference.threads.install(|| {
            together.par_iter_mut().for_each(|(Order { slot, turn, work }, state)| {
                let Some(work) = work.take() else { return };
                let did = catch_unwind(AssertUnwindSafe(|| run(reference, state, work)));
                let did = did.unwrap_or_else(|panic| Some(Err(Error::compute("cpu", words(&*panic)))));
                if let Some(did) = did {
                    let what = did.unwrap_or_else(Did::Failed);
                    let _ = done.send((*turn, Done { slot: *slot, what })); // nobody listens once the engine is dropped
                }
            });
        });
        states.extend(together.into_iter().map(|(order, state)| (order.slot, state)));
    }
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("internal error: {}", said.unwrap_or("a panic without words"))
}

fn speak(reference: &Reference, state: &mut Option<Speaker>, work: Work) -> Option<Result<Did>> {
    let started = Instant::now();
    let speaker = match (work, state) {
        (Work::Prefill { positions, sampling, randomness, .. }, state) => {
            let speaker = state.insert(Speaker { slot: reference.slot(sampling, randomness), last: Frame::default() });
            reference.prefill(&mut speaker.slot, &positions);
            speaker
        }
        (Work::Step { text }, Some(speaker)) => {
            reference.feed(&mut speaker.slot, &speaker.last, text);
            speaker
        }
        _ => return Some(Err(Error::compute("step", "no prompt was run in this slot"))),
    };
    let talker = started.elapsed();
    Some(reference.step(&mut speaker.slot, None).map(|step| match step {
        Step::Ended(end) => Did::Ended(end),
        Step::Frame { chosen, .. } => {
            speaker.last = chosen;
            Did::Frame { frame: chosen, took: Took { talker, predictor: started.elapsed() - talker } }
        }
    }))
}

fn decode(reference: &Reference, state: &mut Option<Sounder>, work: CodecWork) -> Option<Result<Did>> {
    let started = Instant::now();
    let sounder = state.get_or_insert_with(|| Sounder { slot: reference.codec_slot(), failed: None });
    match (work, &sounder.failed) {
        // Only what was asked for is answered: the next decode says it.
        (CodecWork::Prime(frames), _) => {
            sounder.failed = reference.decode(&mut sounder.slot, &frames).err();
            None
        }
        (CodecWork::Decode(_), Some(error)) => Some(Err(error.clone())),
        (CodecWork::Decode(frames), None) => {
            let samples = reference.decode(&mut sounder.slot, &frames);
            Some(samples.map(|samples| Did::Samples { samples, took: started.elapsed() }))
        }
    }
}
