//! The conformance run: a request as JSON, everything that an utterance chose as JSON, and the comparison of two
//! such outputs. Documented by `qwentts help trace`; stable.

use crate::audio;
use crate::backend::Recording;
use crate::error::{Error, Result};
use crate::frame::End;
use crate::frame::{Frame, GROUPS, SAMPLES_PER_FRAME};
use crate::model::Model;
use crate::request::{Randomness, ReferenceSpeech, Regex, Request, SamplingOptions, Voice, VoicePrompt};
use crate::speech::{Bare, PromptIds, Speech, Text};
use crate::voice::{Cloning, SavedVoice};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// R.json, field by field. `FIELDS` lists the names for the error on an unknown one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // `qwentts help trace` says what each means
pub struct TraceRequest {
    pub text: Option<String>,
    pub pieces: Option<Vec<String>>,
    pub text_ids: Option<Vec<u32>>,
    pub language: Option<String>,
    pub layout: Option<String>,
    pub speaker: Option<String>,
    pub instruct: Option<String>,
    pub speaker_vector: Option<Vec<f32>>,
    pub ref_codes: Option<Vec<Frame>>,
    pub ref_text: Option<String>,
    pub ref_audio: Option<std::path::PathBuf>,
    pub xvec_only: bool,
    pub append_silence: bool,
    #[serde(flatten)]
    pub sampling: SamplingOptions,
    pub greedy: bool,
    pub seed: Option<u64>,
    pub uniforms: Option<Vec<f64>>,
    pub forced_frames: Option<Vec<Frame>>,
    pub regex: Option<String>,
    pub special_tokens: bool,
}

/// Every field of a request.
pub const FIELDS: [&str; 29] = [
    "text",
    "pieces",
    "text_ids",
    "language",
    "layout",
    "speaker",
    "instruct",
    "speaker_vector",
    "ref_codes",
    "ref_text",
    "ref_audio",
    "xvec_only",
    "append_silence",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "repetition_penalty",
    "subtalker_dosample",
    "subtalker_temperature",
    "subtalker_top_k",
    "subtalker_top_p",
    "greedy",
    "seed",
    "uniforms",
    "max_new_tokens",
    "forced_frames",
    "regex",
    "special_tokens",
];

/// What `trace` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trace {
    /// Ids of the templated strings.
    pub ids: PromptIds,
    /// The prompt's vectors, in three numbers.
    pub prefill: Prefill,
    /// What the engine chose.
    pub frames: Vec<Frame>,
    /// "eos", "length" or "forced".
    pub end: String,
    /// How near each choice was to another.
    pub margins: Vec<[f32; GROUPS]>,
    /// Samples that the frames decode to.
    pub samples: usize,
    /// Where it ran.
    pub device: String,
}

/// The prompt's vectors, in three numbers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Prefill {
    /// How many.
    pub positions: usize,
    /// The sum of all numbers.
    pub sum: f64,
    /// The sum of their squares.
    pub sumsq: f64,
}

/// A finished run with what it kept.
pub struct Run {
    /// What is printed.
    pub trace: Trace,
    /// Frames that were fed back: the chosen ones, or the forced ones.
    pub fed: Vec<Frame>,
    /// The utterance, with its recording and a codec that has heard nothing of `fed` yet.
    pub speech: Speech,
}

impl TraceRequest {
    /// Reads R.json. An unknown field is an error that lists the known ones.
    pub fn parse(json: &[u8]) -> Result<TraceRequest> {
        let refuse = |e: serde_json::Error| Error::request("request", e.to_string());
        let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(json).map_err(refuse)?;
        if let Some(unknown) = fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
            return Err(Error::request(
                "request",
                format!("unknown field {unknown:?}; known are {}", FIELDS.join(", ")),
            ));
        }
        serde_json::from_slice(json).map_err(|e| {
            // The parser does not say which field; every one is optional, so the culprit fails alone, too.
            let alone = |name: &str| {
                let one: serde_json::Map<_, _> =
                    fields.get_key_value(name).map(|(k, v)| (k.clone(), v.clone())).into_iter().collect();
                serde_json::from_value::<TraceRequest>(one.into()).err()
            };
            let culprit = FIELDS.into_iter().find_map(|name| alone(name).map(|e| Error::request(name, e.to_string())));
            culprit.unwrap_or_else(|| refuse(e))
        })
    }

    /// The voice of `ref_audio`; `None` where there is none.
    fn heard(&self, model: &Arc<Model>) -> Result<Option<Voice>> {
        let Some(path) = &self.ref_audio else { return Ok(None) };
        let given = [self.speaker.is_some(), self.speaker_vector.is_some(), self.ref_codes.is_some()];
        if given.contains(&true) {
            return Err(Error::request("ref_audio", "stands in place of speaker, speaker_vector and ref_codes"));
        }
        if !self.xvec_only && self.ref_text.is_none() {
            return Err(Error::request("ref_text", "is missing; without the words of ref_audio set xvec_only"));
        }
        let cloning = Cloning {
            transcript: self.ref_text.clone().filter(|_| !self.xvec_only),
            append_silence: self.append_silence,
            ..Default::default()
        };
        let voice = SavedVoice::create(model, &audio::read(path, audio::LONGEST_S)?, &cloning)?;
        Ok(Some(Voice::Cloned(voice.prompt)))
    }

    /// The text and the request that these fields say, but for the voice of `ref_audio`, which takes a model to hear.
    pub fn settle(&self) -> Result<(Text, Request)> {
        let text = match (&self.text, &self.pieces, &self.text_ids) {
            (Some(text), None, None) => Text::Whole(text.clone()),
            (None, Some(pieces), None) => Text::Pieces(pieces.clone()),
            (None, None, Some(ids)) => Text::Ids(ids.clone()),
            _ => return Err(Error::request("text", "give exactly one of text, pieces and text_ids")),
        };
        if self.ref_audio.is_none() && (self.xvec_only || self.append_silence) {
            return Err(Error::request("ref_audio", "is missing; xvec_only and append_silence are of it"));
        }
        let reference = match (&self.ref_codes, &self.ref_text) {
            (None, None) => None,
            (None, Some(_)) if self.ref_audio.is_some() => None,
            (Some(frames), Some(transcript)) => {
                Some(ReferenceSpeech { frames: frames.clone(), transcript: transcript.clone() })
            }
            _ => return Err(Error::request("ref_codes", "ref_codes and ref_text go together")),
        };
        let voice = match (&self.speaker, &self.speaker_vector) {
            (None, None) if reference.is_some() => {
                return Err(Error::request("speaker_vector", "is missing; ref_codes need it"));
            }
            (None, None) => Voice::Unset,
            (Some(name), None) => Voice::Preset(name.clone()),
            (None, Some(vector)) => Voice::Cloned(VoicePrompt { speaker_vector: vector.clone(), reference }),
            (Some(_), Some(_)) => return Err(Error::request("speaker", "give speaker or speaker_vector, not both")),
        };
        let mut sampling = self.sampling.clone();
        if self.greedy {
            sampling.draws(false);
        }
        let request = Request {
            voice,
            language: self.language.clone(),
            layout: self.layout.as_deref().map(str::parse).transpose()?,
            instruct: self.instruct.clone(),
            sampling,
            randomness: match (self.seed, &self.uniforms) {
                (Some(_), Some(_)) => return Err(Error::request("seed", "give seed or uniforms, not both")),
                (_, Some(uniforms)) => Randomness::Uniforms(uniforms.clone()),
                (seed, None) => Randomness::Seed(seed.unwrap_or(0)),
            },
            regex: match self.regex.as_deref() {
                None | Some("qwen") => Regex::Qwen,
                Some("mistral") => Regex::Mistral,
                Some(other) => return Err(Error::request("regex", format!("is {other:?}; known are qwen, mistral"))),
            },
            special_tokens: self.special_tokens,
            ..Default::default()
        };
        Ok((text, request))
    }
}

/// Runs a request to its end. With `onto`, every frame is fed back as that earlier output has it, so that each
/// choice is made from the same past and one difference does not hide the next.
pub fn run(bare: impl Into<Bare>, request: &TraceRequest, onto: Option<&Trace>) -> Result<Run> {
    let bare = bare.into();
    let (text, mut settled) = request.settle()?;
    if let Some(voice) = request.heard(bare.model())? {
        settled.voice = voice;
    }
    let mut speech = Speech::new(bare, text, &settled)?;
    speech.record();
    let forced = request.forced_frames.as_ref().or(onto.map(|o| &o.frames));
    if let Some(frames) = forced {
        speech.force(frames.clone())?;
    }
    let (mut frames, mut margins) = (Vec::new(), Vec::new());
    while let Some(chosen) = speech.next_frame()? {
        frames.push(chosen.frame);
        margins.push(chosen.margins);
    }
    if request.forced_frames.is_none() && onto.is_some() {
        // The reference's frames are used up: now its end must come of itself.
        speech.release();
        if let Some(chosen) = speech.next_frame()? {
            frames.push(chosen.frame);
            margins.push(chosen.margins);
        }
    }
    let ids = speech.ids()?;
    let embeds = speech.recording().map_or(&[][..], |r: &Recording| &r.prefill_embeds);
    let trace = Trace {
        ids,
        prefill: Prefill {
            positions: speech.prefill_positions(),
            sum: embeds.iter().map(|&x| f64::from(x)).sum(),
            sumsq: embeds.iter().map(|&x| f64::from(x) * f64::from(x)).sum(),
        },
        end: speech.end().map_or("not ended", End::name).to_owned(),
        margins,
        samples: frames.len() * SAMPLES_PER_FRAME,
        device: speech.device(),
        frames,
    };
    let fed = forced.unwrap_or(&trace.frames).clone();
    Ok(Run { trace, fed, speech })
}

/// A choice that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Counted from 0.
    pub frame: usize,
    /// 0 to 15.
    pub group: usize,
    /// The reference's code.
    pub reference: u16,
    /// This run's code.
    pub ours: u16,
    /// The reference's margin.
    pub margin: f32,
    /// The margin says near-tie: other arithmetic may choose either.
    pub forgiven: bool,
}

/// What comparing found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Choices compared.
    pub choices: usize,
    /// Those that differ.
    pub differences: Vec<Difference>,
    /// Differences of other kinds, in words: ids, prefill, end, number of frames.
    pub other: Vec<String>,
}

/// A margin under this is a near-tie between two runs in f32, whose scores differ by some 1e-6.
pub const NEAR_TIE: f32 = 1e-4;

impl Comparison {
    /// Differences that are near-ties.
    pub fn forgiven(&self) -> usize {
        self.differences.iter().filter(|d| d.forgiven).count()
    }

    /// Everything equal but for near-ties.
    pub fn agrees(&self) -> bool {
        self.other.is_empty() && self.forgiven() == self.differences.len()
    }
}

/// Compares a run that was fed the reference's frames with that reference.
pub fn compare(reference: &Trace, ours: &Trace) -> Comparison {
    let mut found = Comparison::default();
    let mut differs = |what: &str, a: String, b: String| {
        if a != b {
            found.other.push(format!("{what}: reference {a}, ours {b}"));
        }
    };
    differs("text ids", format!("{:?}", reference.ids.text), format!("{:?}", ours.ids.text));
    differs("instruct ids", format!("{:?}", reference.ids.instruct), format!("{:?}", ours.ids.instruct));
    differs("ref ids", format!("{:?}", reference.ids.reference), format!("{:?}", ours.ids.reference));
    differs("prefill positions", reference.prefill.positions.to_string(), ours.prefill.positions.to_string());
    differs("end", reference.end.clone(), ours.end.clone());
    differs("frames", reference.frames.len().to_string(), ours.frames.len().to_string());
    let scale = reference.prefill.sumsq.sqrt().max(1.0);
    if (reference.prefill.sum - ours.prefill.sum).abs() > 1e-4 * scale
        || (reference.prefill.sumsq - ours.prefill.sumsq).abs() > 1e-5 * scale * scale
    {
        found.other.push(format!("prefill: reference {:?}, ours {:?}", reference.prefill, ours.prefill));
    }
    for (frame, (a, b)) in reference.frames.iter().zip(&ours.frames).enumerate() {
        for group in 0..GROUPS {
            found.choices += 1;
            if a[group] != b[group] {
                let margin = reference.margins.get(frame).map_or(f32::INFINITY, |m| m[group]);
                let forgiven = margin < NEAR_TIE;
                found.differences.push(Difference {
                    frame,
                    group,
                    reference: a[group],
                    ours: b[group],
                    margin,
                    forgiven,
                });
            }
        }
    }
    found
}
