//! Voices made of recordings, and their files: a voice is made once and speaks everywhere the same model does. Owns the
//! file's format; what a voice is to a prompt is `request::VoicePrompt`.
//!
//! ```no_run
//! use qwentts::{Cloning, Engine, EngineOptions, ModelSource, Request, SavedVoice, audio};
//! # fn main() -> qwentts::Result<()> {
//! let engine = Engine::open(&ModelSource::Folder("Qwen3-TTS-12Hz-0.6B-Base".into()), &EngineOptions::default())?;
//! let samples = audio::read("ref.wav".as_ref(), audio::LONGEST_S)?;
//! let cloning = Cloning { transcript: Some("What is said in it.".into()), ..Cloning::default() };
//! let ann = SavedVoice::create(engine.listener(), &samples, &cloning)?;
//! ann.save("ann.qvoice".as_ref())?;
//! let request = Request { voice: ann.voice("ann", engine.model())?, ..Request::default() };
//! engine.speak("Good morning.", &request)?;
//! # Ok(())
//! # }
//! ```

use crate::audio;
use crate::backend::Heard;
use crate::error::{Error, Result};
use crate::frame::{Frame, GROUPS, SAMPLE_RATE};
use crate::listener::Listener;
use crate::model::Model;
use crate::prompt;
use crate::request::{ReferenceSpeech, Regex, Voice, VoicePrompt};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;

/// What a voice file calls itself, and the version of its layout that this library reads and writes.
const FORMAT: &str = "qwentts voice";
const VERSION: &str = "1";
/// Stands before the names of notes in a file's metadata.
const NOTE: &str = "note ";
/// A minute of codes is 24 kB.
const MOST_BYTES: u64 = 1 << 20;
/// Words of a minute are some hundred bytes, or a few thousand; so many, with an id for each, still fit in a file.
const MOST_TRANSCRIPT_BYTES: usize = 1 << 16;
/// Silence behind the reference's words, in samples: speech that follows does not run on from the middle of a sound.
const PAUSE_SAMPLES: usize = SAMPLE_RATE as usize / 2;

/// How a voice is made of a recording.
#[derive(Clone, Debug)]
pub struct Cloning {
    /// The words that are said in it, for an in-context clone; without them the speaker vector alone speaks.
    pub transcript: Option<String>,
    /// The language that the voice speaks where a request names none.
    pub language: Option<String>,
    /// Appends half a second of silence to what the codec's encoder hears. The official package does not; without it a
    /// clone tends to begin with the recording's last sound.
    pub append_silence: bool,
}

impl Default for Cloning {
    fn default() -> Self {
        Cloning { transcript: None, language: None, append_silence: true }
    }
}

/// A cloned voice, and the model that it was made with.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedVoice {
    /// What speaks: `Voice::Cloned` takes it. [`SavedVoice::voice`] gives it out to the right model.
    pub prompt: VoicePrompt,
    /// The transcript in its template, as the model's tokenizer cuts it; empty where there is none.
    pub transcript_ids: Vec<u32>,
    /// The language that it speaks where a request names none.
    pub language: Option<String>,
    /// `Model::fingerprint` of that model.
    pub model: String,
    /// What whoever made it wants kept with it, such as a speaker's consent, by names of theirs. Means nothing to speech.
    pub notes: BTreeMap<String, String>,
}

impl SavedVoice {
    /// Hears a recording: 24 kHz, mono, as `audio::read` gives it. Computes where the listener does; call it from any thread:
    /// streams that speak meanwhile are not held up.
    ///
    /// Errors: the model is no Base model or lacks an encoder, the recording is too short, too long, silent, far too
    /// loud or not finite (`audio::check_voice`), the transcript is empty or far too long, the language is unknown.
    pub fn create(listener: &Listener, samples: &[f32], cloning: &Cloning) -> Result<SavedVoice> {
        let model = listener.model();
        if model.speaker_encoder().is_err() {
            let what = "only a Base model with its speaker encoder makes a voice of a recording";
            return Err(Error::request("voice", what));
        }
        audio::check_voice(samples)?;
        if let Some(language) = &cloning.language {
            prompt::template::language_of(&model.config, Some(language), None)?;
        }
        let transcript_ids = match cloning.transcript.as_deref() {
            None => Vec::new(),
            Some(text) if text.len() > MOST_TRANSCRIPT_BYTES => {
                let what = format!("has {} bytes; expected {MOST_TRANSCRIPT_BYTES} at most", text.len());
                return Err(Error::request("ref_text", what));
            }
            Some(text) => prompt::reference_ids(&model.config, &model.tokenizer, text, Regex::default(), false)?,
        };
        let pause = if cloning.append_silence { PAUSE_SAMPLES } else { 0 };
        let words = cloning.transcript.as_ref().map(|_| [samples, &vec![0.0; pause]].concat());
        let Heard { vector, frames } = listener.hear(Some(samples), words.as_deref())?;
        let reference =
            cloning.transcript.as_ref().map(|transcript| ReferenceSpeech { frames, transcript: transcript.clone() });
        Ok(SavedVoice {
            prompt: VoicePrompt { speaker_vector: vector, reference },
            transcript_ids,
            language: cloning.language.clone(),
            model: model.fingerprint()?.to_owned(),
            notes: BTreeMap::new(),
        })
    }

    /// The voice for a request to `model`; refused where it was made with another, whose vector and codes would mean
    /// something else here. `name` (a path) stands in the error.
    pub fn voice(&self, name: &str, model: &Model) -> Result<Voice> {
        let ours = model.fingerprint()?;
        if self.model != ours {
            let short = |hash: &str| hash.chars().take(12).collect::<String>();
            let what = format!(
                "was made with another model ({}; this one is {}); make it again from its recording",
                short(&self.model),
                short(ours)
            );
            return Err(Error::checkpoint(name, what));
        }
        if let Some(reference) = &self.prompt.reference {
            let text = &reference.transcript;
            let ids = prompt::reference_ids(&model.config, &model.tokenizer, text, Regex::default(), false)?;
            if ids != self.transcript_ids {
                return Err(Error::checkpoint(
                    name,
                    "was made with another tokenizer; make it again from its recording",
                ));
            }
        }
        Ok(Voice::Cloned(self.prompt.clone()))
    }

    /// The file's bytes: safetensors with `speaker_vector` F32 `[width]` and, of an in-context clone, `reference_codes`
    /// U16 `[frames, 16]` and `transcript_ids` U32 `[ids]`; in its metadata format, version, model, language, transcript, and
    /// notes, each behind the word `note`.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let wrong = |e: safetensors::SafeTensorError| Error::compute("voice file", e.to_string());
        let vector: Vec<u8> = self.prompt.speaker_vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        let ids: Vec<u8> = self.transcript_ids.iter().flat_map(|x| x.to_le_bytes()).collect();
        let frames = self.prompt.reference.as_ref().map_or(&[][..], |r| &r.frames);
        let codes: Vec<u8> = frames.as_flattened().iter().flat_map(|x| x.to_le_bytes()).collect();
        let width = self.prompt.speaker_vector.len();
        let mut tensors = vec![("speaker_vector", TensorView::new(Dtype::F32, vec![width], &vector).map_err(wrong)?)];
        let mut metadata: HashMap<String, String> = [("format", FORMAT), ("version", VERSION), ("model", &self.model)]
            .map(|(k, v)| (k.into(), v.into()))
            .into();
        if let Some(reference) = &self.prompt.reference {
            let view = TensorView::new(Dtype::U16, vec![frames.len(), GROUPS], &codes).map_err(wrong)?;
            tensors.push(("reference_codes", view));
            let view = TensorView::new(Dtype::U32, vec![self.transcript_ids.len()], &ids).map_err(wrong)?;
            tensors.push(("transcript_ids", view));
            metadata.insert("transcript".into(), reference.transcript.clone());
        }
        if let Some(language) = &self.language {
            metadata.insert("language".into(), language.clone());
        }
        metadata.extend(self.notes.iter().map(|(name, words)| (format!("{NOTE}{name}"), words.clone())));
        safetensors::serialize(tensors, Some(metadata)).map_err(wrong)
    }

    /// Writes the file.
    pub fn save(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.to_bytes()?).map_err(|e| Error::file(path, e))
    }

    /// Reads a file that `save` wrote. Errors name it: it cannot be read, is cut off, is no voice file, has another
    /// version, or holds what no voice is made of.
    pub fn load(path: &Path) -> Result<SavedVoice> {
        let file = std::fs::File::open(path).map_err(|e| Error::file(path, e))?;
        let mut bytes = Vec::new();
        // Not by the length that the file system says: a pipe or a device has none.
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|e| Error::file(path, e))?;
        if bytes.len() as u64 > MOST_BYTES {
            let what = format!("has more than {MOST_BYTES} bytes; a voice file has no more");
            return Err(Error::checkpoint(path.display().to_string(), what));
        }
        SavedVoice::from_bytes(&path.display().to_string(), &bytes)
    }

    /// As [`SavedVoice::load`], of a file's bytes; `name` stands in errors.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<SavedVoice> {
        let refuse = |what: String| Error::checkpoint(name, what);
        let whole = |e| refuse(format!("is no whole voice file ({} bytes): {e}", bytes.len()));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(whole)?;
        let file = SafeTensors::deserialize(bytes).map_err(whole)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let word = |field: &str| metadata.get(field).cloned();
        if word("format").as_deref() != Some(FORMAT) {
            return Err(refuse(format!("is no voice file; its metadata would say format {FORMAT:?}")));
        }
        if word("version").as_deref() != Some(VERSION) {
            let found = word("version").unwrap_or_default();
            return Err(refuse(format!("has version {found:?} of the format; this build reads {VERSION:?}")));
        }
        let model = word("model").filter(|m| m.len() == 64 && m.bytes().all(|b| b.is_ascii_hexdigit()));
        let model = model.ok_or_else(|| refuse("does not say its model in 64 hex digits".into()))?;
        let known = ["speaker_vector", "reference_codes", "transcript_ids"];
        if let Some(other) = file.names().into_iter().find(|tensor| !known.contains(tensor)) {
            return Err(refuse(format!("holds tensor {other:?}; known are {}", known.join(", "))));
        }
        let tensor = |tensor: &str, dtype: Dtype, tail: &[usize]| -> Result<Option<&[u8]>> {
            let Ok(view) = file.tensor(tensor) else { return Ok(None) };
            let (found, shape) = (view.dtype(), view.shape());
            if found != dtype || shape.len() != 1 + tail.len() || shape[1..] != *tail || shape[0] == 0 {
                let expected = [&["n".to_owned()][..], &tail.iter().map(usize::to_string).collect::<Vec<_>>()].concat();
                let expected = expected.join(", ");
                return Err(refuse(format!("tensor {tensor} is {found:?} {shape:?}; expected {dtype:?} [{expected}]")));
            }
            Ok(Some(view.data()))
        };
        let vector = tensor("speaker_vector", Dtype::F32, &[])?;
        let vector = vector.ok_or_else(|| refuse("lacks tensor speaker_vector".into()))?;
        let speaker_vector: Vec<f32> = vector.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        if let Some(at) = speaker_vector.iter().position(|x| !x.is_finite()) {
            return Err(refuse(format!("tensor speaker_vector holds {} at {at}", speaker_vector[at])));
        }
        let codes = tensor("reference_codes", Dtype::U16, &[GROUPS])?;
        let ids = tensor("transcript_ids", Dtype::U32, &[])?;
        let (reference, transcript_ids) = match (codes, ids, word("transcript")) {
            (None, None, None) => (None, Vec::new()),
            (Some(codes), Some(ids), Some(transcript)) if !transcript.is_empty() => {
                let codes: Vec<u16> = codes.as_chunks().0.iter().map(|&b| u16::from_le_bytes(b)).collect();
                let frames: Vec<Frame> = codes.as_chunks().0.to_vec();
                let ids = ids.as_chunks().0.iter().map(|&b| u32::from_le_bytes(b)).collect();
                (Some(ReferenceSpeech { frames, transcript }), ids)
            }
            _ => {
                let what =
                    "holds a part of a reference: reference_codes, transcript_ids and the transcript go together";
                return Err(refuse(what.into()));
            }
        };
        let prompt = VoicePrompt { speaker_vector, reference };
        let noted = |(name, words): (&String, &String)| Some((name.strip_prefix(NOTE)?.to_owned(), words.clone()));
        let notes = metadata.iter().filter_map(noted).collect();
        Ok(SavedVoice { prompt, transcript_ids, language: word("language"), model, notes })
    }
}
