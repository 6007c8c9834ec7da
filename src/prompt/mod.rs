//! Text, voice, language and instruction as ids: a part to prefill, and trailing text fed one token a frame.
//! `template` lays them out, `tokenizer` and `live` turn text into ids; `Prompt` joins them for one utterance, whose
//! text may still be arriving. Knows no arithmetic.

pub mod live;
pub mod template;
pub mod tokenizer;

use crate::config::{Config, ModelKind, TextControls};
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::request::{Layout, Regex, Request, Voice};
use live::LiveTokenizer;
use std::collections::VecDeque;
use std::sync::Arc;
use template::{ROLE_IDS, Template, TextSoFar};
use tokenizer::Tokenizer;

/// One input position of the talker: a text token's vector plus what the codec side adds (MODEL.md 3).
#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    /// Text id, embedded and projected; every position has one.
    pub text: u32,
    pub codec: CodecInput,
}

/// The codec side of a position.
#[derive(Clone, Debug, PartialEq)]
pub enum CodecInput {
    None,
    /// A row of the codec embedding: controls, language, preset speaker.
    Id(u32),
    /// A speaker vector, as it is.
    Vector(Vec<f32>),
    /// A reference frame: the sum of its 16 group embeddings.
    Frame(Frame),
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

/// One utterance's prompt. Its text comes whole, as ids, or live in pieces and then `end`.
pub struct Prompt {
    template: Template,
    controls: TextControls,
    text_vocab: usize,
    newline: u32,
    /// Turns text into ids until it has ended; `None` from then on.
    live: Option<LiveTokenizer>,
    /// Ids of the target text so far: role and body.
    ids: Vec<u32>,
    /// Something other than white space has come.
    has_words: bool,
    /// Ids of the instruction and of the reference's transcript.
    others: PromptIds,
    /// What trails the prompt, from when it was taken to be prefilled.
    trailing: Option<Trailing>,
}

/// Where the trailing text stands.
struct Trailing {
    /// The reference transcript's rest, before the target's.
    reference: VecDeque<u32>,
    /// The next body id, counted with the role.
    next: usize,
    eos_used: bool,
}

impl Prompt {
    /// Checks the request against the model. No text yet.
    pub fn new(config: &Config, tokenizer: &Arc<Tokenizer>, request: &Request) -> Result<Prompt> {
        let controls = config.text_controls;
        let newline = tokenizer.newline();
        let encode = |role, body: &str| templated(config, tokenizer, role, body, request.regex, request.special_tokens);
        let mut others = PromptIds::default();
        if let Some(instruct) = request.instruct.as_deref().filter(|i| !i.is_empty()) {
            if config.kind == ModelKind::Base {
                return Err(Error::request("instruct", "a Base model takes no instruction"));
            }
            if config.takes_instruct() {
                others.instruct = Some(encode("user", instruct)?);
            }
        }
        if let Voice::Cloned(voice) = &request.voice
            && let Some(r) = &voice.reference
        {
            let (regex, special) = (request.regex, request.special_tokens);
            others.reference = Some(reference_ids(config, tokenizer, &r.transcript, regex, special)?);
        }
        let template = Template::new(
            config,
            request,
            others.instruct.clone().unwrap_or_default(),
            others.reference.clone().unwrap_or_default(),
        )?;
        let live = LiveTokenizer::new(tokenizer.clone(), "assistant\n", request.regex, request.special_tokens);
        Ok(Prompt {
            template,
            controls,
            text_vocab: config.text_vocab,
            newline,
            live: Some(live),
            ids: vec![controls.im_start],
            has_words: false,
            others,
            trailing: None,
        })
    }

    /// The next piece of the text, any size.
    pub fn push(&mut self, piece: &str) -> Result<()> {
        let Some(live) = &mut self.live else { return Err(text_has_ended()) };
        self.ids.extend(live.push(piece)?);
        self.has_words |= piece.contains(|c: char| !c.is_whitespace());
        Ok(())
    }

    /// Makes ids of all the text so far, as if it ended here; what follows begins a new stretch. Behind the end there is
    /// nothing left to make ids of.
    pub fn flush(&mut self) -> Result<()> {
        if let Some(live) = &mut self.live {
            self.ids.extend(live.flush()?);
        }
        Ok(())
    }

    /// No more text will come.
    pub fn end(&mut self) -> Result<()> {
        if let Some(live) = self.live.take() {
            self.ids.extend(live.end()?);
        }
        Ok(())
    }

    /// All of the text, as ids of its body.
    pub fn give_ids(&mut self, body: &[u32]) -> Result<()> {
        if let Some(&id) = body.iter().find(|&&id| id as usize >= self.text_vocab) {
            let what = format!("{id} is not under the model's text_vocab_size {}", self.text_vocab);
            return Err(Error::request("text_ids", what));
        }
        if self.live.take().is_none() {
            return Err(text_has_ended());
        }
        self.ids.extend([self.controls.assistant, self.newline]);
        self.ids.extend(body);
        self.has_words = true;
        Ok(())
    }

    /// Whether no more text will come.
    pub fn ended(&self) -> bool {
        self.live.is_none()
    }

    /// Whether the text so far is more than white space.
    pub fn has_words(&self) -> bool {
        self.has_words
    }

    /// Text tokens so far, without the template's.
    pub fn text_tokens(&self) -> usize {
        self.ids.len().saturating_sub(ROLE_IDS)
    }

    /// How many more text tokens `prefill` waits for: 0 once it would give the prompt. `None`: it waits for the end.
    pub fn missing_tokens(&self) -> Option<usize> {
        match self.trailing.is_some() {
            true => Some(0),
            false => self.template.missing_tokens(self.so_far()),
        }
    }

    /// The positions to prefill, once; `None` while they need text that has not arrived.
    pub fn prefill(&mut self) -> Result<Option<Vec<Position>>> {
        let Some(prefill) = self.template.prefill(self.so_far())? else { return Ok(None) };
        self.trailing = Some(Trailing {
            reference: self.template.trailing_reference().iter().copied().collect(),
            next: ROLE_IDS + prefill.body_used,
            eos_used: prefill.eos_used,
        });
        Ok(Some(prefill.positions))
    }

    /// How many positions at the prompt's beginning no text changes; but one that begins with a line break has another role,
    /// the third id before it.
    pub fn fixed_positions(&self) -> usize {
        self.template.fixed_positions()
    }

    /// The text token that goes with the next step: what trails, then eos once, then pad. `None`: the text has run
    /// dry and may go on.
    pub fn next_text(&mut self) -> Option<u32> {
        let trailing = self.trailing.as_mut()?;
        if let Some(id) = trailing.reference.pop_front() {
            return Some(id);
        }
        if let Some(&id) = self.ids.get(trailing.next) {
            trailing.next += 1;
            return Some(id);
        }
        if self.live.is_some() {
            return None;
        }
        let eos_used = std::mem::replace(&mut trailing.eos_used, true);
        Some(if eos_used { self.controls.tts_pad } else { self.controls.tts_eos })
    }

    /// What `next_text` gives behind the end of the text.
    pub fn pad(&self) -> u32 {
        self.controls.tts_pad
    }

    /// The layout in force.
    pub fn layout(&self) -> Layout {
        self.template.layout()
    }

    /// The reference's frames, which the codec hears first.
    pub fn reference_frames(&self) -> &[Frame] {
        self.template.reference_frames()
    }

    /// The ids of the templated strings; the text's as if it ended with what has come.
    pub fn ids(&self) -> PromptIds {
        let c = &self.controls;
        let mut ids = self.others.clone();
        ids.text.clone_from(&self.ids);
        ids.text.extend([c.im_end, self.newline, c.im_start, c.assistant, self.newline]);
        ids
    }

    fn so_far(&self) -> TextSoFar<'_> {
        TextSoFar { ids: &self.ids, ended: self.ended() }
    }
}

/// `<|im_start|>`, role, newline, body, `<|im_end|>`, newline, as ids.
fn templated(
    config: &Config,
    tokenizer: &Tokenizer,
    role: &str,
    body: &str,
    regex: Regex,
    special_tokens: bool,
) -> Result<Vec<u32>> {
    let mut ids = vec![config.text_controls.im_start];
    ids.extend(tokenizer.encode(&format!("{role}\n{body}"), regex, special_tokens)?);
    ids.extend([config.text_controls.im_end, tokenizer.newline()]);
    Ok(ids)
}

/// The ids of a reference's transcript in its template.
pub fn reference_ids(
    config: &Config,
    tokenizer: &Tokenizer,
    transcript: &str,
    regex: Regex,
    special_tokens: bool,
) -> Result<Vec<u32>> {
    if transcript.is_empty() {
        return Err(Error::request("ref_text", "is empty; an in-context clone needs the recording's words"));
    }
    templated(config, tokenizer, "assistant", transcript, regex, special_tokens)
}

fn text_has_ended() -> Error {
    Error::request("text", "has ended; no more can be added")
}

#[cfg(test)]
mod tests {
    //! Would catch: positions taken for fixed that another text changes, so that none would be found again; or too few of them.
    use super::*;
    use crate::request::{ReferenceSpeech, VoicePrompt};
    use crate::source::ModelSource;

    fn positions(config: &Config, request: &Request, text: &str) -> (Vec<Position>, usize) {
        let mut prompt = Prompt::new(config, &tokenizer::tests::demo(), request).unwrap();
        prompt.push(text).unwrap();
        prompt.end().unwrap();
        (prompt.prefill().unwrap().unwrap(), prompt.fixed_positions())
    }

    #[test]
    fn fixed_positions_are_those_before_the_text() {
        let demo =
            Config::open(&ModelSource::Folder(concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo").into())).unwrap();
        let model = |kind| Config { kind, size: "1b7".into(), ..demo.clone() };
        let cloned = |frames: usize, transcript: &str| {
            let reference = ReferenceSpeech { frames: vec![[3; 16]; frames], transcript: transcript.into() };
            let speaker_vector = vec![0.25; demo.talker.hidden];
            Voice::Cloned(VoicePrompt { speaker_vector, reference: Some(reference).filter(|_| frames > 0) })
        };
        let preset = || Voice::Preset("slt".into());
        let words = "They walked along the bank of the river.";
        let cases = [
            (ModelKind::CustomVoice, preset(), None),
            (ModelKind::CustomVoice, preset(), Some("Slowly, please.")),
            (ModelKind::VoiceDesign, Voice::Unset, Some("An old man with a cold.")),
            (ModelKind::Base, cloned(0, ""), None),
            (ModelKind::Base, cloned(40, words), None),
            (ModelKind::Base, cloned(2, words), None), // in the streaming layout the text begins behind the prompt
        ];
        for (kind, voice, instruct) in cases {
            for layout in [Layout::Streaming, Layout::Whole] {
                for language in ["auto", "english"] {
                    let request = Request {
                        voice: voice.clone(),
                        instruct: instruct.map(String::from),
                        language: Some(language.into()),
                        layout: Some(layout),
                        ..Default::default()
                    };
                    let texts = ["A dog barked.", "It is late, and the others have gone home."];
                    let [(one, fixed), (other, fixed_too)] = texts.map(|text| positions(&model(kind), &request, text));
                    let what = format!("{kind:?}, {voice:?}, {instruct:?}, {layout:?}, {language}");
                    assert_eq!(fixed, fixed_too, "{what}");
                    let same = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
                    assert_eq!(same, fixed, "{what}");
                    if same == one.len() {
                        assert!(layout == Layout::Streaming && voice == cloned(2, words) && one == other, "{what}");
                    }
                }
            }
        }
    }
}
