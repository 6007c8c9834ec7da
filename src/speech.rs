//! One utterance from text to samples, on the caller's thread: the bare loop around a backend. Text may be given
//! at once, in pieces, or as ids; frames and samples are pulled.

use crate::backend::{self, Recording, Step, Stepwise, Utterance};
use crate::cpu::Reference;
use crate::device::{Device, KvNumbers, Memory};
use crate::error::{Error, Result};
use crate::frame::{End, Frame, GROUPS};
use crate::listener::Listener;
use crate::model::Model;
pub use crate::prompt::PromptIds;
use crate::prompt::{Position, Prompt};
use crate::request::{Layout, Request};
use std::collections::VecDeque;
use std::sync::Arc;

/// What is to be said.
#[derive(Clone, Debug)]
pub enum Text {
    /// All of it, at once.
    Whole(String),
    /// The same text arriving live, piece by piece; streaming layout only.
    Pieces(Vec<String>),
    /// Ids of the body, without the template.
    Ids(Vec<u32>),
}

/// A frame with how near each of its choices was to another.
#[derive(Clone, Copy, Debug)]
pub struct Chosen {
    /// The codes, all that the codec needs.
    pub frame: Frame,
    /// A gap in scores where the best was taken, else relative distances to the edges of the draw.
    pub margins: [f32; GROUPS],
}

/// A model on a device, without an engine: each call computes before it returns. Cheap to clone.
#[derive(Clone)]
pub struct Bare {
    stepwise: Arc<dyn Stepwise>,
    listener: Listener,
}

impl Bare {
    /// `threads`: of the CPU; `None` takes one per core. `kv`: of a GPU.
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "`kv` is of a GPU"))]
    pub fn open(model: Arc<Model>, device: Device, threads: Option<usize>, kv: KvNumbers) -> Result<Bare> {
        device.describe()?;
        #[cfg(feature = "cuda")]
        if let Device::Cuda(index) = device {
            let stepwise = Arc::new(crate::cuda::stepwise::Gpu::open(&model, index, kv)?);
            return Ok(Bare { stepwise, listener: Listener::new(model, device, threads) });
        }
        Ok(Arc::new(Reference::new(model, threads)?).into())
    }

    /// The model that computes.
    pub fn model(&self) -> &Arc<Model> {
        self.stepwise.model()
    }

    /// Where it computes, in words.
    pub fn device(&self) -> String {
        self.stepwise.device()
    }

    /// What it holds of its GPU's memory now; `None` on the CPU.
    pub fn memory(&self) -> Option<Memory> {
        self.stepwise.memory().map(|memory| memory.with_encoders(self.listener.memory_bytes()))
    }

    /// What makes voices of recordings, on the same device.
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    /// A codec that has heard nothing yet.
    pub fn decoder(&self) -> Result<Decoder> {
        Ok(Decoder(self.stepwise.decoder(&[])?))
    }
}

impl From<Arc<Reference>> for Bare {
    fn from(reference: Arc<Reference>) -> Bare {
        Bare { stepwise: Arc::new(reference.clone()), listener: reference.into() }
    }
}

impl From<&Arc<Reference>> for Bare {
    fn from(reference: &Arc<Reference>) -> Bare {
        reference.clone().into()
    }
}

impl From<&Bare> for Bare {
    fn from(bare: &Bare) -> Bare {
        bare.clone()
    }
}

/// A codec that remembers the frames that it has heard.
pub struct Decoder(Box<dyn backend::Decoder>);

impl Decoder {
    /// The next frames' samples: SAMPLES_PER_FRAME each, in [-1, 1]. Any cutting of the same frames gives the same
    /// samples. A code that no codebook has, and weights that are not finite, are errors.
    pub fn decode(&mut self, frames: &[Frame]) -> Result<Vec<f32>> {
        self.0.decode(frames)
    }
}

/// One utterance's timeline.
pub struct Speech {
    bare: Bare,
    prompt: Prompt,
    /// Text that has yet to arrive, when the prompt runs dry.
    pieces: VecDeque<String>,
    /// The prompt's positions, from when its text is there until they are prefilled.
    ready: Option<Vec<Position>>,
    utterance: Box<dyn Utterance>,
    decoder: Option<Decoder>,
    forced: Option<VecDeque<Frame>>,
    /// The frame to feed back before the next step.
    last: Option<Frame>,
    end: Option<End>,
    failed: bool,
    positions: usize,
}

impl Speech {
    /// Checks the request against the model and takes the text. No arithmetic yet.
    pub fn new(bare: impl Into<Bare>, text: Text, request: &Request) -> Result<Speech> {
        let bare = bare.into();
        let model = bare.model().clone();
        let mut prompt = Prompt::new(&model.config, &model.tokenizer, request)?;
        let mut pieces = VecDeque::new();
        match text {
            Text::Whole(text) => {
                prompt.push(&text)?;
                prompt.end()?;
            }
            Text::Ids(body) => prompt.give_ids(&body)?,
            Text::Pieces(_) if prompt.layout() != Layout::Streaming => {
                let what = "live text needs the streaming layout; this request has the whole-text one";
                return Err(Error::request("pieces", what));
            }
            Text::Pieces(given) => pieces = given.into(),
        }
        let ready = prompt.prefill()?;
        let sampling = request.sampling.settle(&model.config.sampling)?;
        request.randomness.check()?;
        let utterance = bare.stepwise.utterance(sampling, request.randomness.clone())?;
        Ok(Speech {
            bare,
            prompt,
            pieces,
            ready,
            utterance,
            decoder: None,
            forced: None,
            last: None,
            end: None,
            failed: false,
            positions: 0,
        })
    }

    /// Lets the next piece of the text arrive, or the end.
    fn arrive(&mut self) -> Result<()> {
        match self.pieces.pop_front() {
            Some(piece) => self.prompt.push(&piece),
            None => self.prompt.end(),
        }
    }

    /// Feeds these frames back instead of the chosen ones, and ends with them: for conformance runs.
    pub fn force(&mut self, frames: Vec<Frame>) -> Result<()> {
        crate::frame::check_codes("forced_frames", &frames, self.model().config.codes)?;
        self.forced = Some(frames.into());
        Ok(())
    }

    /// Ends forcing: from here on the engine's own choices count.
    pub fn release(&mut self) {
        self.forced = None;
        if self.end == Some(End::Forced) {
            self.end = None;
        }
    }

    /// Keeps embeddings, hiddens and scores of every step from now on.
    pub fn record(&mut self) {
        self.utterance.record();
    }

    /// What was kept since `record`.
    pub fn recording(&self) -> Option<&Recording> {
        self.utterance.recording()
    }

    /// The next frame's choices; `None` once the utterance has ended. The first call prefills the prompt. After an
    /// error the utterance is over: every later call is an error, too.
    pub fn next_frame(&mut self) -> Result<Option<Chosen>> {
        self.check_failed()?;
        let result = self.advance();
        self.failed = result.is_err();
        result
    }

    fn check_failed(&self) -> Result<()> {
        match self.failed {
            true => Err(Error::compute("next_frame", "this utterance failed before; begin another")),
            false => Ok(()),
        }
    }

    fn advance(&mut self) -> Result<Option<Chosen>> {
        if self.end.is_some() {
            return Ok(None);
        }
        if self.positions == 0 {
            self.prefill()?;
        }
        let forced = match &mut self.forced {
            None => None,
            Some(frames) => match frames.pop_front() {
                Some(frame) => Some(frame),
                None => {
                    self.end = Some(End::Forced);
                    return Ok(None);
                }
            },
        };
        let last = match self.last.take() {
            Some(frame) => Some((frame, self.next_text()?)),
            None => None,
        };
        match self.utterance.step(last.as_ref().map(|(frame, text)| (frame, *text)), forced.as_ref(), true)? {
            Step::Frame { chosen, margins } => {
                self.last = Some(forced.unwrap_or(chosen));
                return Ok(Some(Chosen { frame: chosen, margins }));
            }
            Step::Ended(end) => self.end = Some(end),
        }
        Ok(None)
    }

    fn prefill(&mut self) -> Result<()> {
        let positions = loop {
            match self.ready.take() {
                Some(positions) => break positions,
                None => {
                    self.arrive()?;
                    self.ready = self.prompt.prefill()?;
                }
            }
        };
        self.positions = positions.len();
        self.utterance.prefill(&positions)
    }

    fn next_text(&mut self) -> Result<u32> {
        loop {
            match self.prompt.next_text() {
                Some(id) => return Ok(id),
                None => self.arrive()?,
            }
        }
    }

    /// The samples of these frames, which follow those of the last call. An in-context clone's codec has heard its
    /// reference first, here or in an earlier utterance of the same voice, so that the first sample is right and none of the
    /// reference is given out.
    pub fn decode(&mut self, frames: &[Frame]) -> Result<Vec<f32>> {
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            None => {
                let behind = self.prompt.reference_frames();
                self.decoder.insert(Decoder(self.bare.stepwise.decoder(behind)?))
            }
        };
        decoder.decode(frames)
    }

    /// How the utterance ended; `None` while it goes on.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// Positions that were prefilled; 0 before the first frame.
    pub fn prefill_positions(&self) -> usize {
        self.positions
    }

    /// The model that speaks.
    pub fn model(&self) -> &Model {
        self.bare.model()
    }

    /// Where it is computed, in words.
    pub fn device(&self) -> String {
        self.bare.device()
    }

    /// The layout in force.
    pub fn layout(&self) -> Layout {
        self.prompt.layout()
    }

    /// The ids of the templated strings. Lets text that has not arrived arrive.
    pub fn ids(&mut self) -> Result<PromptIds> {
        self.check_failed()?;
        while !self.prompt.ended() {
            self.arrive()?;
        }
        Ok(self.prompt.ids())
    }
}

#[cfg(test)]
mod tests {
    //! Would catch: live text that is taken before it is needed, or that gets lost; an utterance that goes on after an
    //! error as if nothing had been.
    use super::*;
    use crate::model::Model;
    use crate::request::{Randomness, SamplingOptions, Voice};

    fn speech(text: Text, request: Request) -> Speech {
        let model = Model::demo();
        let reference = Arc::new(Reference::new(model, Some(1)).unwrap());
        let voice = Voice::Preset("slt".into());
        Speech::new(reference, text, &Request { voice, layout: Some(Layout::Streaming), ..request }).unwrap()
    }

    #[test]
    fn a_piece_waits_until_it_is_needed() {
        let pieces =
            "one two three four five six seven eight nine ten".split_inclusive(' ').map(String::from).collect();
        let mut speech = speech(Text::Pieces(pieces), Request::default());
        assert!(speech.next_frame().unwrap().is_some());
        assert!(speech.pieces.len() >= 7, "{} pieces wait", speech.pieces.len());
    }

    #[test]
    fn text_that_fails_to_arrive_ends_the_utterance() {
        // More in one stretch than the tokenizer takes.
        let pieces = vec!["Hello there. ".into(), "a".repeat((1 << 20) + 10), " and more words.".into()];
        let mut speech = speech(Text::Pieces(pieces), Request::default());
        let error = loop {
            match speech.next_frame() {
                Ok(chosen) => assert!(chosen.is_some(), "it ended as if all had been said"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.starts_with("text: "), "{error}");
        for _ in 0..2 {
            let again = speech.next_frame().unwrap_err().to_string();
            assert_eq!(again, "next_frame: this utterance failed before; begin another");
        }
        assert!(speech.ids().is_err());
    }

    #[test]
    fn draws_that_run_out_end_the_utterance() {
        let sampling = SamplingOptions { do_sample: Some(true), subtalker_dosample: Some(true), ..Default::default() };
        let randomness = Randomness::Uniforms(vec![0.5; 3]);
        let mut speech = speech(Text::Whole("Hello.".into()), Request { sampling, randomness, ..Default::default() });
        speech.record();
        assert!(speech.next_frame().unwrap_err().to_string().starts_with("uniforms: "));
        let steps = |speech: &Speech| speech.recording().unwrap().talker_hidden.len();
        let before = steps(&speech);
        assert!(speech.next_frame().is_err());
        assert_eq!(steps(&speech), before, "the talker went on");
    }
}
