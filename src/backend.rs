//! The seams to what computes: the engine's, where work goes in and what was done comes out, slot by slot; and the bare
//! loop's, a step at a time; and what hears recordings. Knows prompts, sampling and frames; no tensor, no thread, no device.

use crate::device::Memory;
use crate::error::{Error, Result};
use crate::frame::{End, Frame, GROUPS};
use crate::model::Model;
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
    /// How many frames of a slot may be under way (`Prefill` and `Step`): the next may be begun before the last was seen.
    fn frames_ahead(&self) -> usize;
    /// Whether frames that are made beside a chunk's decode hold it up, so that the first sound is better waited for.
    fn hasty(&self) -> bool {
        false
    }
    /// Positions that one utterance may have; the model may allow fewer.
    fn most_positions(&self) -> usize {
        usize::MAX
    }
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
    /// Begins an utterance: runs the prompt and chooses the first frame. The codec hears the reference's frames. The first
    /// `fixed` positions are the same for another text: what they come to may be kept for a prompt that begins with the same,
    /// as long as that changes no bit. The CPU backend keeps nothing.
    Prefill {
        positions: Vec<Position>,
        #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "of a GPU"))]
        fixed: usize,
        reference: Vec<Frame>,
        sampling: Sampling,
        randomness: Randomness,
    },
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
    /// Of `Prefill` or `Step`: there is no further frame, and each step behind it says so again. Eos or Length.
    Ended(End),
    /// Of `Decode`.
    Samples { samples: Vec<f32>, took: Duration },
    /// Of any work: the slot is of no use until it is released.
    Failed(Error),
}

/// The same arithmetic a step at a time, for who looks into it: each call does its work before it returns.
pub trait Stepwise: Send + Sync {
    fn model(&self) -> &Arc<Model>;
    /// Where it runs, in words.
    fn device(&self) -> String;
    /// What it holds of a device's memory.
    fn memory(&self) -> Option<Memory> {
        None
    }
    fn utterance(&self, sampling: Sampling, randomness: Randomness) -> Result<Box<dyn Utterance>>;
    /// A codec that has heard these frames and no more: a voice's reference, or nothing. What it remembers of them is kept for
    /// the next that is to have heard the same.
    fn decoder(&self, behind: &[Frame]) -> Result<Box<dyn Decoder>>;
}

/// One utterance: the talker's and predictor's memory, the draws, and what the last talker step gave.
pub trait Utterance: Send {
    /// Runs the prompt, or its next part; after the last it is ready for its first step.
    fn prefill(&mut self, prompt: &[Position]) -> Result<()>;
    /// After a talker step with `last`, a finished frame and the next text token (without it: after the prompt): chooses the
    /// next token and, unless it ends the utterance, the frame's other groups. With `forced`, that frame's codes are taken as
    /// chosen: each group sees them before it, whatever it would choose itself, and nothing ends. Without `may_end` the talker
    /// cannot choose to stop.
    fn step(&mut self, last: Option<(&Frame, u32)>, forced: Option<&Frame>, may_end: bool) -> Result<Step>;
    /// Keeps embeddings, hiddens and scores of every step from now on.
    fn record(&mut self);
    /// What was kept since `record`.
    fn recording(&self) -> Option<&Recording>;
}

/// One codec's memory of the frames that it has heard.
pub trait Decoder: Send {
    /// The next frames' samples, SAMPLES_PER_FRAME each, in [-1, 1]. Any cutting of the same frames gives the same samples. A
    /// code that no codebook has, and weights that are not finite, are errors.
    fn decode(&mut self, frames: &[Frame]) -> Result<Vec<f32>>;
}

/// What hears recordings. A call does its work before it returns; calls may come from any thread.
pub trait Listen: Send + Sync {
    /// The speaker vector of `speaker`, and the frames of `words`, one for each 1920 samples begun; what is not asked for is
    /// empty. 24 kHz, mono. A model without what it takes, samples that are too few or not finite, and weights that are not
    /// finite, are errors.
    fn hear(&self, speaker: Option<&[f32]>, words: Option<&[f32]>) -> Result<Heard>;
    /// What it holds of a device's memory.
    fn memory_bytes(&self) -> usize {
        0
    }
}

/// What a recording came to.
#[derive(Default)]
pub struct Heard {
    /// Of the talker's width.
    pub vector: Vec<f32>,
    pub frames: Vec<Frame>,
}

/// What a conformance run keeps of the arithmetic, each `[steps][width]` in order.
#[derive(Default)]
pub struct Recording {
    /// The prompt's vectors, `[positions][talker hidden]`.
    pub prefill_embeds: Vec<f32>,
    /// The talker's last position after its norm, `[tokens][talker hidden]`.
    pub talker_hidden: Vec<f32>,
    /// Its raw scores, `[tokens][talker_vocab]`.
    pub talker_logits: Vec<f32>,
    /// The predictor's raw scores, `[frames][15][codes]`.
    pub predictor_logits: Vec<f32>,
}

/// One step of an utterance.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// The choices of a frame, and how near each was to another.
    Frame { chosen: Frame, margins: [f32; GROUPS] },
    /// There is no frame: the talker chose to stop (Eos), or max_new_tokens are used up (Length), the last of which
    /// makes no frame, as upstream.
    Ended(End),
}

/// Where a frame's time went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Took {
    /// The talker's step with its head, or the prompt's prefill.
    pub talker: Duration,
    /// The choice of group 0, and groups 1 to 15 with theirs.
    pub predictor: Duration,
    /// Positions that the utterance's prompt found kept, and that took none.
    pub prefix_positions: usize,
}
