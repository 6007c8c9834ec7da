//! One utterance from text to samples, on the caller's thread: the bare loop around a backend. Text may be given
//! at once, in pieces, or as ids; frames and samples are pulled.

use crate::cpu::{CodecSlot, Recording, Reference, Slot, Step};
use crate::error::{Error, Result};
use crate::frame::{Frame, GROUPS};
use crate::model::Model;
use crate::prompt::live::LiveTokenizer;
use crate::prompt::template::{Prefill, ROLE_IDS, Template, TextSoFar};
use crate::request::{Layout, Request, Voice};
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

/// How an utterance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The model chose to stop.
    Eos,
    /// max_new_tokens were used up.
    Length,
    /// The forced frames were used up (conformance runs).
    Forced,
}

impl End {
    /// "eos", "length" or "forced".
    pub fn name(self) -> &'static str {
        match self {
            End::Eos => "eos",
            End::Length => "length",
            End::Forced => "forced",
        }
    }
}

/// A frame with how near each of its choices was to another.
#[derive(Clone, Copy, Debug)]
pub struct Chosen {
    /// The codes, all that the codec needs.
    pub frame: Frame,
    /// A gap in scores where the best was taken, else relative distances to the edges of the draw.
    pub margins: [f32; GROUPS],
}

/// One utterance's timeline.
pub struct Speech {
    reference: Arc<Reference>,
    template: Template,
    slot: Slot,
    codec: Option<CodecSlot>,
    text: TextFeed,
    /// The prompt, from when its text is there until it is prefilled.
    ready: Option<Prefill>,
    /// Ids that trail the prompt: `None` until it is prefilled.
    trailing: Option<Trailing>,
    forced: Option<VecDeque<Frame>>,
    /// The frame to feed back before the next step.
    last: Option<Frame>,
    end: Option<End>,
    failed: bool,
    /// All but the target text's, which `text` holds.
    ids: PromptIds,
    positions: usize,
}

/// Ids of the templated strings, as the official processor gives them.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct PromptIds {
    /// The target text.
    pub text: Vec<u32>,
    /// The instruction, where it reaches the model.
    pub instruct: Option<Vec<u32>>,
    /// The reference's transcript.
    #[serde(rename = "ref")]
    pub reference: Option<Vec<u32>>,
}

/// Ids of the target text, role and body, as they become certain.
struct TextFeed {
    ids: Vec<u32>,
    pieces: VecDeque<String>,
    live: Option<LiveTokenizer>,
}

/// Where the trailing text stands.
struct Trailing {
    /// The reference transcript's rest, before the target's.
    reference: VecDeque<u32>,
    /// The next body id, counted with the role.
    next: usize,
    eos_used: bool,
}

impl TextFeed {
    fn ended(&self) -> bool {
        self.live.is_none()
    }

    fn so_far(&self) -> TextSoFar<'_> {
        TextSoFar { ids: &self.ids, ended: self.ended() }
    }

    /// Lets the next piece arrive, or the end.
    fn arrive(&mut self) -> Result<()> {
        if let Some(mut live) = self.live.take() {
            match self.pieces.pop_front() {
                Some(piece) => {
                    self.ids.extend(live.push(&piece)?);
                    self.live = Some(live);
                }
                None => self.ids.extend(live.end()?),
            }
        }
        Ok(())
    }
}

impl Speech {
    /// Checks the request against the model and takes the text. No arithmetic yet.
    pub fn new(reference: Arc<Reference>, text: Text, request: &Request) -> Result<Speech> {
        let model = reference.model.clone();
        let config = &model.config;
        let controls = &config.text_controls;
        let newline = model.tokenizer.newline();
        let encode = |role: &str, body: &str| -> Result<Vec<u32>> {
            let segment = format!("{role}\n{body}");
            let mut ids = vec![controls.im_start];
            ids.extend(model.tokenizer.encode(&segment, request.regex, request.special_tokens)?);
            ids.extend([controls.im_end, newline]);
            Ok(ids)
        };
        let mut ids = PromptIds::default();
        if let Some(instruct) = request.instruct.as_deref().filter(|i| !i.is_empty()) {
            if config.kind == crate::config::ModelKind::Base {
                return Err(Error::request("instruct", "a Base model takes no instruction"));
            }
            if model.takes_instruct() {
                ids.instruct = Some(encode("user", instruct)?);
            }
        }
        if let Voice::Cloned(voice) = &request.voice
            && let Some(r) = &voice.reference
        {
            if r.transcript.is_empty() {
                return Err(Error::request("ref_text", "is empty; an in-context clone needs the recording's words"));
            }
            ids.reference = Some(encode("assistant", &r.transcript)?);
        }
        let template = Template::new(
            config,
            request,
            ids.instruct.clone().unwrap_or_default(),
            ids.reference.clone().unwrap_or_default(),
        )?;
        let mut feed = TextFeed { ids: vec![controls.im_start], pieces: VecDeque::new(), live: None };
        match text {
            Text::Whole(text) => {
                feed.ids = encode("assistant", &text)?;
                feed.ids.truncate(feed.ids.len() - 2);
            }
            Text::Ids(body) => {
                if let Some(&id) = body.iter().find(|&&id| id as usize >= config.text_vocab) {
                    let what = format!("{id} is not under the model's text_vocab_size {}", config.text_vocab);
                    return Err(Error::request("text_ids", what));
                }
                feed.ids.extend([controls.assistant, newline]);
                feed.ids.extend(body);
            }
            Text::Pieces(pieces) => {
                if template.layout() != Layout::Streaming {
                    return Err(Error::request(
                        "pieces",
                        "live text needs the streaming layout; this request has the whole-text one",
                    ));
                }
                feed.pieces = pieces.into();
                let tokenizer = model.tokenizer.clone();
                feed.live = Some(LiveTokenizer::new(tokenizer, "assistant\n", request.regex, request.special_tokens));
            }
        }
        let ready = template.prefill(feed.so_far())?;
        let sampling = request.sampling.settle(&config.sampling)?;
        request.randomness.check()?;
        let slot = reference.slot(sampling, request.randomness.clone());
        Ok(Speech {
            reference,
            template,
            slot,
            codec: None,
            text: feed,
            ready,
            trailing: None,
            forced: None,
            last: None,
            end: None,
            failed: false,
            ids,
            positions: 0,
        })
    }

    /// Feeds these frames back instead of the chosen ones, and ends with them: for conformance runs.
    pub fn force(&mut self, frames: Vec<Frame>) -> Result<()> {
        crate::frame::check_codes("forced_frames", &frames, self.reference.model.config.codes)?;
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
        self.slot.recording = Some(Recording::default());
    }

    /// What was kept since `record`.
    pub fn recording(&self) -> Option<&Recording> {
        self.slot.recording.as_ref()
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
        if self.trailing.is_none() {
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
        if let Some(frame) = self.last.take() {
            let text = self.next_text()?;
            self.reference.feed(&mut self.slot, &frame, text);
        }
        match self.reference.step(&mut self.slot, forced.as_ref())? {
            Step::Frame { chosen, margins } => {
                self.last = Some(forced.unwrap_or(chosen));
                return Ok(Some(Chosen { frame: chosen, margins }));
            }
            Step::Eos => self.end = Some(End::Eos),
            Step::Length => self.end = Some(End::Length),
        }
        Ok(None)
    }

    fn prefill(&mut self) -> Result<()> {
        let prefill = loop {
            match self.ready.take() {
                Some(prefill) => break prefill,
                None => {
                    self.text.arrive()?;
                    self.ready = self.template.prefill(self.text.so_far())?;
                }
            }
        };
        self.positions = prefill.positions.len();
        self.reference.prefill(&mut self.slot, &prefill.positions);
        self.trailing = Some(Trailing {
            reference: self.template.trailing_reference().iter().copied().collect(),
            next: ROLE_IDS + prefill.body_used,
            eos_used: prefill.eos_used,
        });
        Ok(())
    }

    /// The text token that goes with the next step: what trails, then eos once, then pad.
    fn next_text(&mut self) -> Result<u32> {
        let controls = &self.reference.model.config.text_controls;
        let Some(trailing) = &mut self.trailing else { return Ok(controls.tts_pad) };
        if let Some(id) = trailing.reference.pop_front() {
            return Ok(id);
        }
        while self.text.ids.len() <= trailing.next && !self.text.ended() {
            self.text.arrive()?;
        }
        if let Some(&id) = self.text.ids.get(trailing.next) {
            trailing.next += 1;
            return Ok(id);
        }
        let eos_used = std::mem::replace(&mut trailing.eos_used, true);
        Ok(if eos_used { controls.tts_pad } else { controls.tts_eos })
    }

    /// The samples of these frames, which follow those of the last call. An in-context clone's codec has heard its
    /// reference first, so that the first sample is right and none of the reference is given out.
    pub fn decode(&mut self, frames: &[Frame]) -> Result<Vec<f32>> {
        let slot = match &mut self.codec {
            Some(slot) => slot,
            None => {
                let mut slot = self.reference.codec_slot();
                self.reference.decode(&mut slot, self.template.reference_frames())?;
                self.codec.insert(slot)
            }
        };
        self.reference.decode(slot, frames)
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
        &self.reference.model
    }

    /// The layout in force.
    pub fn layout(&self) -> Layout {
        self.template.layout()
    }

    /// The ids of the templated strings. Lets text that has not arrived arrive.
    pub fn ids(&mut self) -> Result<PromptIds> {
        self.check_failed()?;
        while !self.text.ended() {
            self.text.arrive()?;
        }
        let model = &self.reference.model;
        let (controls, newline) = (&model.config.text_controls, model.tokenizer.newline());
        let mut ids = self.ids.clone();
        ids.text.clone_from(&self.text.ids);
        ids.text.extend([controls.im_end, newline, controls.im_start, controls.assistant, newline]);
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    //! Would catch: live text that is taken before it is needed, or that gets lost; an utterance that goes on after an
    //! error as if nothing had been.
    use super::*;
    use crate::model::Model;
    use crate::request::{Randomness, SamplingOptions};
    use crate::source::ModelSource;

    fn speech(text: Text, request: Request) -> Speech {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo");
        let model = Model::open(&ModelSource::Folder(folder.into())).unwrap();
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
        assert!(speech.text.pieces.len() >= 7, "{} pieces wait", speech.text.pieces.len());
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
        assert!(speech.next_frame().unwrap_err().to_string().starts_with("uniforms: "));
        let positions = speech.slot.positions();
        assert!(speech.next_frame().is_err());
        assert_eq!(speech.slot.positions(), positions, "the talker went on");
    }
}
