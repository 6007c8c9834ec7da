//! What a caller asks for: voice, language, layout, instruction, sampling, randomness, and how the engine hands the
//! speech out. Owns the defaults and the limits of each; knows no model.

use crate::error::{Error, Result};
use crate::frame::{FRAME_TIME, Frame, MAX_CHUNK_FRAMES, SAMPLE_RATE};
use std::time::Duration;

/// How the text reaches the talker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One text token in the prompt, then one with each frame: the layout for text that arrives live.
    Streaming,
    /// The whole text in the prompt.
    Whole,
}

impl Layout {
    /// "streaming" or "whole".
    pub fn name(self) -> &'static str {
        match self {
            Layout::Streaming => "streaming",
            Layout::Whole => "whole",
        }
    }
}

impl std::str::FromStr for Layout {
    type Err = Error;
    /// "streaming" or "whole".
    fn from_str(name: &str) -> Result<Layout> {
        let known = [Layout::Streaming, Layout::Whole].into_iter().find(|layout| layout.name() == name);
        known.ok_or_else(|| Error::request("layout", format!("is {name:?}; known are streaming, whole")))
    }
}

/// Who speaks.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Voice {
    /// Nobody named: VoiceDesign speaks as the instruction says.
    #[default]
    Unset,
    /// A preset of a CustomVoice model, by name in any case.
    Preset(String),
    /// A voice taken from a recording, for Base models.
    Cloned(VoicePrompt),
}

/// What a Base model needs of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct VoicePrompt {
    /// The speaker encoder's vector, as long as the talker is wide.
    pub speaker_vector: Vec<f32>,
    /// The recording's frames and its words, for an in-context clone; without them the vector alone speaks.
    pub reference: Option<ReferenceSpeech>,
}

/// A recording as frames, with what is said in it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceSpeech {
    /// The recording through the codec's encoder, 80 ms a frame.
    pub frames: Vec<Frame>,
    /// The words that are said in it.
    pub transcript: String,
}

/// Which of the two pre-tokeniser regexes cuts the text (MODEL.md 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Regex {
    /// What the official package uses for a hub id.
    #[default]
    Qwen,
    /// What it uses for the same files in a local folder.
    Mistral,
}

/// The official sampling controls, by their official names; `None` is "not said".
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs)] // the official names; `Sampler` and `Sampling` say what they do
pub struct SamplingOptions {
    pub do_sample: Option<bool>,
    pub temperature: Option<f32>,
    pub top_k: Option<usize>,
    pub top_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub subtalker_dosample: Option<bool>,
    pub subtalker_temperature: Option<f32>,
    pub subtalker_top_k: Option<usize>,
    pub subtalker_top_p: Option<f32>,
    /// Talker tokens at most, so one frame fewer.
    pub max_new_tokens: Option<usize>,
}

/// How one token is drawn from its scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Off: the best score wins.
    pub do_sample: bool,
    /// Scores are divided by this.
    pub temperature: f32,
    /// Only the k best scores stay, with what ties the last of them. 0: no limit.
    pub top_k: usize,
    /// Below 1: the least likely go, as many as together have at most 1 - top_p.
    pub top_p: f32,
}

/// Every control settled: the caller's word, else the checkpoint's, else upstream's hard default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Draws group 0.
    pub talker: Sampler,
    /// Group-0 scores of codes already said: divided by this where positive, else multiplied.
    pub repetition_penalty: f32,
    /// Draws groups 1 to 15.
    pub predictor: Sampler,
    /// Talker tokens at most, so one frame fewer.
    pub max_new_tokens: usize,
}

impl SamplingOptions {
    /// Whether talker and predictor draw, or take the best score: greedy, the conformance mode.
    pub fn draws(&mut self, draws: bool) {
        (self.do_sample, self.subtalker_dosample) = (Some(draws), Some(draws));
    }

    /// Checks what is said here; the error names the field.
    pub fn check(&self) -> Result<()> {
        let within = |field: &'static str, value: Option<f32>, least: f32, most: f32| match value {
            Some(v) if !(v >= least && v <= most) => {
                Err(Error::request(field, format!("is {v}; expected {least} to {most}")))
            }
            _ => Ok(()),
        };
        // Scores are divided by a temperature and must stay finite; they are in the hundreds at most.
        within("temperature", self.temperature, 1e-5, 1e5)?;
        within("subtalker_temperature", self.subtalker_temperature, 1e-5, 1e5)?;
        within("repetition_penalty", self.repetition_penalty, 1e-5, 1e5)?;
        within("top_p", self.top_p, 0.0, 1.0)?;
        within("subtalker_top_p", self.subtalker_top_p, 0.0, 1.0)?;
        match self.max_new_tokens {
            Some(n) if n < 2 => Err(Error::request("max_new_tokens", format!("is {n}; expected at least 2 (a frame)"))),
            _ => Ok(()),
        }
    }

    /// These options where they speak, else the `checkpoint`'s, else upstream's hard defaults.
    pub fn settle(&self, checkpoint: &SamplingOptions) -> Result<Sampling> {
        self.check()?;
        macro_rules! pick {
            ($field:ident, $default:expr) => {
                self.$field.or(checkpoint.$field).unwrap_or($default)
            };
        }
        Ok(Sampling {
            talker: Sampler {
                do_sample: pick!(do_sample, true),
                temperature: pick!(temperature, 0.9),
                top_k: pick!(top_k, 50),
                top_p: pick!(top_p, 1.0),
            },
            repetition_penalty: pick!(repetition_penalty, 1.05),
            predictor: Sampler {
                do_sample: pick!(subtalker_dosample, true),
                temperature: pick!(subtalker_temperature, 0.9),
                top_k: pick!(subtalker_top_k, 50),
                top_p: pick!(subtalker_top_p, 1.0),
            },
            max_new_tokens: pick!(max_new_tokens, 2048),
        })
    }
}

/// Where a draw's u comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Randomness {
    /// Philox keyed by seed, frame and group alone.
    Seed(u64),
    /// The u of each sampled draw, in order; running out is an error.
    Uniforms(Vec<f64>),
}

impl Randomness {
    /// Refuses a u that no draw can have, naming its place.
    pub fn check(&self) -> Result<()> {
        let Randomness::Uniforms(list) = self else { return Ok(()) };
        match list.iter().enumerate().find(|(_, u)| !(0.0..1.0).contains(*u)) {
            Some((i, u)) => Err(Error::request("uniforms", format!("number {i} is {u}; expected 0 to under 1"))),
            None => Ok(()),
        }
    }
}

/// What the engine hands out of an utterance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Sound.
    #[default]
    Samples,
    /// Codes, as soon as they are chosen; no codec runs.
    Frames,
    /// Each by its own read.
    Both,
}

/// What the engine does when live text has run dry and has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDry {
    /// Waits: exact, as if the text had come at once.
    #[default]
    Wait,
    /// After this long goes on with the model's padding in place of text, a frame each 80 ms, so that sound flows on. The
    /// speech does not end meanwhile. No longer what the same text at once would have given; `Stats::pads` says so.
    PadAfter(Duration),
}

/// The most frames that a text can need: `frames + frames_per_token * text tokens`. Speech that goes on beyond it has
/// lost its text, and ends with `End::Length`. Grows while text arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthCap {
    /// For the shortest text.
    pub frames: usize,
    /// For each text token.
    pub frames_per_token: usize,
}

impl Default for LengthCap {
    /// 6 s, and 1.28 s for each token: English needs some .3 s a token, spelled digits .5 s.
    fn default() -> Self {
        LengthCap { frames: 75, frames_per_token: 16 }
    }
}

impl LengthCap {
    /// Frames at most for a text of so many tokens.
    pub fn of(&self, text_tokens: usize) -> usize {
        self.frames.saturating_add(self.frames_per_token.saturating_mul(text_tokens))
    }
}

/// How the engine hands an utterance out.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Sound, codes or both.
    pub output: Output,
    /// One of `engine::RATES_HZ`.
    pub sample_rate_hz: u32,
    /// Widths of the chunks, in frames; the last repeats. A chunk is narrower where the speech pauses or ends.
    pub chunk_frames: Vec<usize>,
    /// How much sound may wait for its reader before the speech waits for him.
    pub lead: Duration,
    /// When live text has run dry.
    pub on_dry: OnDry,
    /// When to stop speech that does not end.
    pub length_cap: LengthCap,
}

impl Default for Delivery {
    fn default() -> Self {
        Delivery {
            output: Output::default(),
            sample_rate_hz: SAMPLE_RATE,
            chunk_frames: vec![1, 2, 4, 8],
            lead: Duration::from_secs(10),
            on_dry: OnDry::default(),
            length_cap: LengthCap::default(),
        }
    }
}

impl Delivery {
    /// Checks what does not depend on the engine; the error names the field.
    pub fn check(&self) -> Result<()> {
        match self.chunk_frames.iter().all(|w| (1..=MAX_CHUNK_FRAMES).contains(w)) && !self.chunk_frames.is_empty() {
            true => {}
            false => {
                let what = format!("is {:?}; expected widths of 1 to {MAX_CHUNK_FRAMES}", self.chunk_frames);
                return Err(Error::request("chunk_frames", what));
            }
        }
        match self.lead < FRAME_TIME {
            true => {
                Err(Error::request("lead", format!("is {:?}; expected at least a frame, {FRAME_TIME:?}", self.lead)))
            }
            false => Ok(()),
        }
    }
}

/// One utterance, but for its text.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who speaks.
    pub voice: Voice,
    /// A name in any case; `None` or "auto" lets the model tell.
    pub language: Option<String>,
    /// `None`: streaming for Base, whole for the others, as upstream.
    pub layout: Option<Layout>,
    /// How to speak, in words (CustomVoice 1.7B) or who speaks (VoiceDesign).
    pub instruct: Option<String>,
    /// Controls that the caller sets; the others are the checkpoint's.
    pub sampling: SamplingOptions,
    /// Where draws come from.
    pub randomness: Randomness,
    /// The pre-tokeniser.
    pub regex: Regex,
    /// Whether control strings such as `<|im_end|>` inside text are controls, as upstream has it. Off, they
    /// are text, so that no caller's text can steer the prompt.
    pub special_tokens: bool,
    /// How the engine hands the speech out; the bare loop (`Speech`) knows nothing of it.
    pub delivery: Delivery,
}

impl Default for Request {
    fn default() -> Self {
        Request {
            voice: Voice::Unset,
            language: None,
            layout: None,
            instruct: None,
            sampling: SamplingOptions::default(),
            randomness: Randomness::Seed(0),
            regex: Regex::default(),
            special_tokens: false,
            delivery: Delivery::default(),
        }
    }
}
