//! The seam between the engine and what computes: work goes in, what was done comes out, slot by slot. Knows prompts,
//! sampling and frames; no tensor, no thread, no device.

use crate::error::{Error, Result};
use crate::frame::{End, Frame};
use crate::prompt::Position;
use crate::request::{Randomness, Sampling};
use std::sync::Arc;
use std::time::Duration;

/// One utterance's place in every memory of a backend; numbers from 0 to one under the backend's slots.
pub type SlotId = usize;

/// Wakes whom it was made for.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// What computes. One thread owns it.
pub trait Backend: Send {
    /// Starts this work on a slot; does not wait for it. Each piece of work gives one `Done`. Work on one slot is done in
    /// the order given, but for frames and samples, which may overlap.
    fn submit(&mut self, slot: SlotId, work: Work) -> Result<()>;
    /// Adds what has been done since, in each slot's order. Where there is nothing yet, waits at most this long for
    /// the first, or until it is woken. An error is the backend's own end: nothing more will be done.
    fn poll(&mut self, wait: Duration, done: &mut Vec<Done>) -> Result<()>;
    /// What ends a `poll` that waits, from any thread; one that begins later may be ended, too.
    fn waker(&self) -> Waker;
    /// Forgets the slot's utterance: of work that is still under way nothing is said any more. `Prefill` begins the next.
    fn release(&mut self, slot: SlotId) -> Result<()>;
}

/// Work on a slot.
pub enum Work {
    /// Begins an utterance: runs the prompt and chooses the first frame. The codec hears the reference's frames.
    Prefill { positions: Vec<Position>, reference: Vec<Frame>, sampling: Sampling, randomness: Randomness },
    /// Feeds the last frame and the next text token, and chooses the next frame. `may_end`: or eos.
    Step { text: u32, may_end: bool },
    /// Frames to samples, behind those of the last `Decode`.
    Decode { frames: Vec<Frame> },
}

/// What was done on a slot.
pub struct Done {
    pub slot: SlotId,
    pub what: Did,
}

pub enum Did {
    /// Of `Prefill` or `Step`.
    Frame { frame: Frame, took: Took },
    /// Of `Prefill` or `Step`: there is no further frame. Eos or Length.
    Ended(End),
    /// Of `Decode`.
    Samples { samples: Vec<f32>, took: Duration },
    /// Of any work: the slot is of no use until it is released.
    Failed(Error),
}

/// Where a frame's time went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Took {
    /// The talker's step with its head, or the prompt's prefill.
    pub talker: Duration,
    /// The choice of group 0, and groups 1 to 15 with theirs.
    pub predictor: Duration,
}
