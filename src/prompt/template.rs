//! The prompt layouts (MODEL.md 3): which text and codec ids stand at which position, what is prefilled and
//! what trails. Works on ids that may still be arriving; checks that the model can do what is asked.

use super::{CodecInput, Position};
use crate::config::{CodecControls, Config, ModelKind, TextControls};
use crate::error::{Error, Result};
use crate::frame::{Frame, check_codes};
use crate::request::{Layout, ReferenceSpeech, Request, Voice};

/// Ids before the body of a templated text: `<|im_start|>`, `assistant`, newline.
pub const ROLE_IDS: usize = 3;
/// Ids after the body of a reference transcript: `<|im_end|>`, newline.
pub const REFERENCE_TAIL_IDS: usize = 2;

/// A request settled against a model: everything of the prompt but the text.
pub struct Template {
    layout: Layout,
    max_positions: usize,
    text_controls: TextControls,
    codec_controls: CodecControls,
    instruct: Vec<u32>,
    /// The codec row: tags, speaker, pad.
    row: Vec<CodecInput>,
    reference: Option<ReferenceIds>,
}

struct ReferenceIds {
    body: Vec<u32>,
    frames: Vec<Frame>,
}

/// What of the target text is known: its templated ids without the tail, so far.
#[derive(Clone, Copy)]
pub struct TextSoFar<'a> {
    /// Role and body.
    pub ids: &'a [u32],
    /// No more will come.
    pub ended: bool,
}

/// A prompt ready to prefill.
pub struct Prefill {
    pub positions: Vec<Position>,
    /// Text tokens behind the role that the positions used up; the next frame takes the one after them.
    pub body_used: usize,
    /// Whether the end of the text was among them.
    pub eos_used: bool,
}

impl Template {
    /// Settles `request` on a model. `instruct` and `reference` are the templated ids of the instruction and of
    /// the reference's transcript.
    pub fn new(config: &Config, request: &Request, instruct: Vec<u32>, reference: Vec<u32>) -> Result<Template> {
        let codec = &config.codec_controls;
        let (speaker, dialect) = speaker_of(config, &request.voice)?;
        let language = language_of(config, request.language.as_deref(), dialect)?;
        let tags = match language {
            None => vec![codec.nothink, codec.think_bos, codec.think_eos],
            Some(language) => vec![codec.think, codec.think_bos, language, codec.think_eos],
        };
        let mut row: Vec<CodecInput> = tags.into_iter().map(CodecInput::Id).collect();
        row.extend(speaker);
        row.push(CodecInput::Id(codec.pad));
        let reference = match &request.voice {
            Voice::Cloned(voice) => {
                voice.reference.as_ref().map(|r| check_reference(config, r, reference)).transpose()?
            }
            _ => None,
        };
        Ok(Template {
            layout: layout_of(config, request),
            max_positions: config.max_positions,
            text_controls: config.text_controls,
            codec_controls: config.codec_controls,
            instruct,
            row,
            reference,
        })
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The prompt, or `None` while its layout needs text that has not arrived. A prompt that leaves no position for a
    /// frame is an error.
    pub fn prefill(&self, text: TextSoFar) -> Result<Option<Prefill>> {
        let Some(prefill) = self.lay_out(text) else { return Ok(None) };
        let (positions, max) = (prefill.positions.len(), self.max_positions);
        if positions < max {
            return Ok(Some(prefill));
        }
        let mend = match self.layout {
            Layout::Whole => "Speak it in parts, or in the streaming layout",
            Layout::Streaming => "Shorten the instruction or the reference",
        };
        let what = format!("makes a prompt of {positions} positions; this model has {max} in all. {mend}");
        Err(Error::request("text", what))
    }

    /// How many positions stand before the first that has to do with the text: instruction, role, codec row, and of an
    /// in-context clone those where the reference's transcript stands.
    pub fn fixed_positions(&self) -> usize {
        let reference = match (&self.reference, self.layout) {
            (None, _) => 0,
            (Some(r), Layout::Whole) => r.body.len(),
            (Some(r), Layout::Streaming) => r.body.len().min(r.frames.len() + 1),
        };
        self.instruct.len() + ROLE_IDS + self.row.len() + reference
    }

    /// How many more ids of the text the prompt waits for; `None` where it waits for the end.
    pub fn missing_tokens(&self, text: TextSoFar) -> Option<usize> {
        if text.ended {
            return Some(0);
        }
        let body = match (&self.reference, self.layout) {
            (_, Layout::Whole) => return None,
            (None, Layout::Streaming) => 1,
            (Some(r), Layout::Streaming) => (r.frames.len() + 1).saturating_sub(r.body.len()),
        };
        // The role is no text, but comes out with its first character.
        let tokens = text.ids.len().saturating_sub(ROLE_IDS);
        Some(body.saturating_sub(tokens).max(usize::from(text.ids.len() < ROLE_IDS)))
    }

    fn lay_out(&self, text: TextSoFar) -> Option<Prefill> {
        if self.missing_tokens(text) != Some(0) {
            return None;
        }
        let (role, body) = text.ids.split_at(ROLE_IDS.min(text.ids.len()));
        let (c, codec) = (&self.text_controls, &self.codec_controls);
        let at = |text: u32, codec: u32| Position { text, codec: CodecInput::Id(codec) };
        let mut positions: Vec<Position> = Vec::new();
        positions.extend(self.instruct.iter().chain(role).map(|&text| Position { text, codec: CodecInput::None }));
        for (i, input) in self.row.iter().enumerate() {
            let text = if i + 1 < self.row.len() { c.tts_pad } else { c.tts_bos };
            positions.push(Position { text, codec: input.clone() });
        }
        match (&self.reference, self.layout) {
            (None, Layout::Whole) => {
                positions.extend(body.iter().chain([&c.tts_eos]).map(|&text| at(text, codec.pad)));
                positions.push(at(c.tts_pad, codec.bos));
                Some(Prefill { positions, body_used: body.len(), eos_used: true })
            }
            (None, Layout::Streaming) => {
                // Upstream takes id 3 whatever it is: with no text, that is the tail's first.
                let first = body.first().copied().unwrap_or(c.im_end);
                positions.push(at(first, codec.bos));
                Some(Prefill { positions, body_used: body.len().min(1), eos_used: false })
            }
            (Some(reference), layout) => {
                let text_row = reference.body.iter().chain(body).copied();
                let frames = reference.frames.iter().map(|f| CodecInput::Frame(*f));
                let codec_row = std::iter::once(CodecInput::Id(codec.bos)).chain(frames);
                if layout == Layout::Whole {
                    positions.extend(text_row.chain([c.tts_eos]).map(|text| at(text, codec.pad)));
                    positions.extend(codec_row.map(|codec| Position { text: c.tts_pad, codec }));
                    return Some(Prefill { positions, body_used: body.len(), eos_used: true });
                }
                let n = reference.frames.len() + 1;
                let there = reference.body.len() + body.len();
                let text_row = text_row.chain([c.tts_eos]).chain(std::iter::repeat(c.tts_pad));
                positions.extend(text_row.zip(codec_row).map(|(text, codec)| Position { text, codec }));
                let body_used = n.saturating_sub(reference.body.len()).min(body.len());
                Some(Prefill { positions, body_used, eos_used: there < n })
            }
        }
    }

    /// Tokens of the reference's transcript that its frames left over: they trail before the target's.
    pub fn trailing_reference(&self) -> &[u32] {
        match (&self.reference, self.layout) {
            (Some(r), Layout::Streaming) => r.body.get(r.frames.len() + 1..).unwrap_or(&[]),
            _ => &[],
        }
    }

    /// The reference's frames, with which the codec is primed.
    pub fn reference_frames(&self) -> &[Frame] {
        self.reference.as_ref().map_or(&[], |r| &r.frames)
    }
}

/// The layout that a request gets: its own word, else upstream's default for the model.
fn layout_of(config: &Config, request: &Request) -> Layout {
    request.layout.unwrap_or(match config.kind {
        ModelKind::Base => Layout::Streaming,
        ModelKind::CustomVoice | ModelKind::VoiceDesign => Layout::Whole,
    })
}

fn speaker_of<'a>(config: &'a Config, voice: &Voice) -> Result<(Option<CodecInput>, Option<&'a str>)> {
    let refuse = |what: String| Err(Error::request("voice", what));
    match (voice, config.kind) {
        (Voice::Unset, ModelKind::Base) => {
            refuse("a Base model speaks in a cloned voice; a speaker vector is missing".into())
        }
        (Voice::Unset, _) => Ok((None, None)),
        (Voice::Preset(name), _) => match config.speakers.get(&name.to_lowercase()) {
            Some(speaker) => Ok((Some(CodecInput::Id(speaker.id)), speaker.dialect.as_deref())),
            None if config.speakers.is_empty() => refuse(format!("{name:?}: this model has no preset voices")),
            None => {
                let known: Vec<&str> = config.speakers.keys().map(String::as_str).collect();
                refuse(format!("{name:?} is unknown; this model has {}", known.join(", ")))
            }
        },
        (Voice::Cloned(_), ModelKind::CustomVoice | ModelKind::VoiceDesign) => {
            refuse("only a Base model speaks in a cloned voice".into())
        }
        (Voice::Cloned(prompt), ModelKind::Base) => {
            let (found, expected) = (prompt.speaker_vector.len(), config.talker.hidden);
            if found != expected {
                return Err(Error::request(
                    "speaker_vector",
                    format!("has {found} numbers; this model takes {expected}"),
                ));
            }
            if prompt.speaker_vector.iter().any(|x| !x.is_finite()) {
                return Err(Error::request("speaker_vector", "holds a number that is not finite"));
            }
            Ok((Some(CodecInput::Vector(prompt.speaker_vector.clone())), None))
        }
    }
}

/// The id of a language by name, or what a dialect's speaker makes of it; `None` lets the model tell.
pub fn language_of(config: &Config, language: Option<&str>, dialect: Option<&str>) -> Result<Option<u32>> {
    let language = language.unwrap_or("auto").to_lowercase();
    let id = if language == "auto" {
        None
    } else if let (false, Some(&id)) = (language.contains("dialect"), config.languages.get(&language)) {
        Some(id)
    } else {
        let known: Vec<&str> = config.language_names().collect();
        return Err(Error::request(
            "language",
            format!("{language:?} is unknown; this model has auto, {}", known.join(", ")),
        ));
    };
    match dialect {
        // A speaker of a dialect speaks it unless another language than Chinese is asked for.
        Some(dialect) if language == "auto" || language == "chinese" => Ok(config.languages.get(dialect).copied()),
        _ => Ok(id),
    }
}

fn check_reference(config: &Config, reference: &ReferenceSpeech, ids: Vec<u32>) -> Result<ReferenceIds> {
    if reference.frames.is_empty() {
        return Err(Error::request("ref_codes", "is empty; an in-context clone needs at least one frame"));
    }
    check_codes("ref_codes", &reference.frames, config.codes)?;
    let body = ids.get(ROLE_IDS..ids.len().saturating_sub(REFERENCE_TAIL_IDS)).unwrap_or(&[]).to_vec();
    Ok(ReferenceIds { body, frames: reference.frames.clone() })
}
