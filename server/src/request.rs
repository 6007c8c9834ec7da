//! A request's JSON to what the library takes. Owns the fields' names, which are OpenAI's and, for what only this model has,
//! those of vLLM-Omni and of the official package; every error names its field and what was expected.

use crate::App;
use crate::config::Config;
use crate::error::{ApiError, ApiResult};
use crate::models::{self, Served};
use crate::sound::Format;
use crate::voices::clone_voice;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qwentts::config::ModelKind;
use qwentts::frame::MAX_CHUNK_FRAMES;
use qwentts::request::{Layout, Output, SamplingOptions, VoicePrompt};
use qwentts::{Cloning, Randomness, Request, Voice};
use serde_json::{Map, Value};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// How an answer over HTTP is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Sound as it is made.
    Streamed,
    /// Sound once all of it is made, with its length.
    Whole,
    /// Events with sound inside.
    Sse,
}

/// What a request says, before any model has seen it.
pub struct Ask {
    pub input: Option<String>,
    pub format: Format,
    pub transport: Transport,
    pub words: bool,
    model: Option<String>,
    task_type: Option<String>,
    voice: Option<String>,
    reference: Option<Reference>,
    seed: Option<u64>,
    request: Request,
}

/// A voice that comes with the request.
enum Reference {
    Recording { bytes: Vec<u8>, transcript: Option<String> },
    Vector(Vec<f32>),
}

/// A request that its model has seen.
#[derive(Clone)]
pub struct Prepared {
    pub served: Arc<Served>,
    pub format: Format,
    pub words: bool,
    pub request: Request,
    seed: Option<u64>,
}

impl Prepared {
    /// The request of one utterance, and its seed: a new one where none was given.
    pub fn seeded(&self) -> (Request, u64) {
        // JSON's numbers are exact up to 2^53.
        let seed = self.seed.unwrap_or_else(|| RandomState::new().hash_one(0u8) >> 11);
        (Request { randomness: Randomness::Seed(seed), ..self.request.clone() }, seed)
    }

    pub fn rate_hz(&self) -> u32 {
        self.request.delivery.sample_rate_hz
    }
}

/// JSON outside of its strings at most, in bytes: a list of numbers takes sixteen times as much memory as room on the wire. The
/// longest that is asked for, a speaker vector, has some 40 000.
const MOST_STRUCTURE: usize = 1 << 18;

/// The fields of a JSON object; `what` it is stands in errors.
pub fn object(what: &str, text: &[u8]) -> ApiResult<Map<String, Value>> {
    let wrong = |words: String| ApiError::request(StatusCode::BAD_REQUEST, format!("the {what} {words}"));
    if outside_strings(text) > MOST_STRUCTURE {
        return Err(wrong(format!("has more than {MOST_STRUCTURE} bytes outside of its strings")));
    }
    match serde_json::from_slice(text).map_err(|e| wrong(format!("is no JSON: {e}")))? {
        Value::Object(fields) => Ok(fields),
        _ => Err(wrong("is no JSON object".to_owned())),
    }
}

/// Bytes of JSON that belong to no string.
fn outside_strings(text: &[u8]) -> usize {
    let (mut within, mut escaped, mut outside) = (false, false, 0);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if within => escaped = true,
            b'"' => {
                within = !within;
                outside += 1;
            }
            _ => outside += usize::from(!within),
        }
    }
    outside
}

/// Fields by name; null is as good as missing, and what nobody asks for is not looked at.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn get<T>(&self, name: &str, expected: &str, take: impl Fn(&'a Value) -> Option<T>) -> ApiResult<Option<T>> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => take(value).map(Some).ok_or_else(|| {
                let mut found = value.to_string();
                if let Some((at, _)) = found.char_indices().nth(60) {
                    found.truncate(at);
                    found.push('…');
                }
                ApiError::field(name, format!("is {found}; expected {expected}"))
            }),
        }
    }

    fn text(&self, name: &str) -> ApiResult<Option<&'a str>> {
        self.get(name, "a string", Value::as_str)
    }

    fn flag(&self, name: &str) -> ApiResult<Option<bool>> {
        self.get(name, "true or false", Value::as_bool)
    }

    fn number(&self, name: &str) -> ApiResult<Option<f32>> {
        self.get(name, "a number", |value| value.as_f64().map(|x| x as f32))
    }

    fn count(&self, name: &str) -> ApiResult<Option<usize>> {
        let whole = |value: &Value| value.as_u64().and_then(|n| n.try_into().ok());
        self.get(name, "a whole number, 0 or more", whole)
    }
}

impl Ask {
    /// Reads the fields of a request (`input` may be missing) or of a session's configuration.
    pub fn read(fields: &Map<String, Value>, config: &Config) -> ApiResult<Ask> {
        let fields = Fields(fields);
        let input = fields.text("input")?.map(str::to_owned);
        if let Some(text) = &input
            && text.len() > config.text_bytes
        {
            let what = format!("has {} bytes; this server takes {} at most", text.len(), config.text_bytes);
            return Err(ApiError::field("input", what));
        }
        let format = fields.text("response_format")?.unwrap_or("wav");
        let format = format.parse::<Format>().map_err(|what| ApiError::field("response_format", what))?;
        let words = fields.flag("word_timestamps")?.unwrap_or(false);
        let transport = transport(&fields, format, words)?;
        if let Some(speed) = fields.number("speed")?
            && speed != 1.0
        {
            return Err(ApiError::field("speed", format!("is {speed}; this server speaks at 1.0 alone")));
        }
        let mut request = Request {
            language: fields.text("language")?.map(str::to_owned),
            instruct: fields.text("instructions")?.filter(|words| !words.trim().is_empty()).map(str::to_owned),
            sampling: sampling(&fields)?,
            layout: fields
                .flag("non_streaming_mode")?
                .map(|whole| if whole { Layout::Whole } else { Layout::Streaming }),
            ..Request::default()
        };
        if let Some(rate) = fields.count("sample_rate")? {
            request.delivery.sample_rate_hz = rate.try_into().unwrap_or(u32::MAX);
            if let Some(what) = format.refuses(request.delivery.sample_rate_hz) {
                return Err(ApiError::field("sample_rate", what));
            }
        }
        if let Some(first) = fields.count("initial_codec_chunk_frames")? {
            if !(1..=MAX_CHUNK_FRAMES).contains(&first) {
                let what = format!("is {first}; expected 1 to {MAX_CHUNK_FRAMES}");
                return Err(ApiError::field("initial_codec_chunk_frames", what));
            }
            request.delivery.chunk_frames.retain(|&width| width > first);
            request.delivery.chunk_frames.insert(0, first);
        }
        if format == Format::Codes {
            request.delivery.output = Output::Frames;
        }
        let voice = fields.get("voice", "a name, or an object with an id", |value| {
            value.as_str().or_else(|| value.get("id")?.as_str())
        })?;
        let reference = reference(&fields)?;
        // OpenAI's clients must name a voice whatever they give.
        let of_openai = |name: &str| models::OPENAI_VOICES.contains(&&*name.to_lowercase());
        if reference.is_some() && voice.is_some_and(|name| !name.is_empty() && !of_openai(name)) {
            return Err(ApiError::field("voice", "is named, and a reference is given too; expected one of them"));
        }
        Ok(Ask {
            input,
            format,
            transport,
            words,
            model: fields.text("model")?.filter(|name| !name.is_empty()).map(str::to_owned),
            task_type: fields.text("task_type")?.map(str::to_owned),
            voice: voice.filter(|name| !name.is_empty()).map(str::to_owned),
            reference,
            seed: fields.get("seed", "a whole number, 0 or more", Value::as_u64)?,
            request,
        })
    }

    /// Has the model look at it: voice, instruction, language.
    pub async fn prepare(self, app: &Arc<App>) -> ApiResult<Prepared> {
        let turn = match self.reference {
            Some(Reference::Recording { .. }) => Some(app.turn_to_clone().await?),
            _ => None,
        };
        app.off_thread(move |app| {
            let _turn = turn;
            self.settle(app)
        })
        .await
    }

    fn settle(self, app: &App) -> ApiResult<Prepared> {
        let served = models::find(app.models()?, self.model.as_deref())?.clone();
        let config = &served.engine.model().config;
        let mut request = self.request;
        if let Some(task) = self.task_type.filter(|task| task != served.kind()) {
            let what = format!("is {task:?}; model {:?} does {} alone", served.name, served.kind());
            return Err(ApiError::field("task_type", what));
        }
        match (config.kind, &request.instruct) {
            (ModelKind::VoiceDesign, None) => {
                return Err(ApiError::field(
                    "instructions",
                    "is missing; this model speaks in the voice that it describes",
                ));
            }
            (ModelKind::Base, Some(_)) => return Err(ApiError::field("instructions", "a Base model takes none")),
            (ModelKind::CustomVoice, Some(_)) if !config.takes_instruct() => {
                return Err(ApiError::field("instructions", "this model takes none"));
            }
            _ => {}
        }
        match (self.reference, self.voice) {
            (Some(Reference::Vector(speaker_vector)), _) => {
                request.voice = Voice::Cloned(VoicePrompt { speaker_vector, reference: None });
            }
            (Some(Reference::Recording { bytes, transcript }), _) => {
                let cloning = Cloning { transcript, language: request.language.clone(), ..Cloning::default() };
                let voice = clone_voice("ref_audio", &bytes, &served, &cloning)?;
                request.voice = voice.voice("ref_audio", served.engine.model())?;
            }
            // VoiceDesign has no other voice than the one that is described; OpenAI's clients must name one all the same.
            (None, Some(_)) if config.kind == ModelKind::VoiceDesign => {}
            (None, Some(name)) => served.name_voice(&name, &app.voices, &mut request)?,
            (None, None) => {
                let first = served.engine.voices().next();
                request.voice = first.map_or(Voice::Unset, |name| Voice::Preset(name.to_owned()));
            }
        }
        Ok(Prepared { served, format: self.format, words: self.words, request, seed: self.seed })
    }
}

fn transport(fields: &Fields, format: Format, words: bool) -> ApiResult<Transport> {
    let sse = match fields.text("stream_format")? {
        None | Some("audio") => false,
        Some("sse") => true,
        Some(other) => {
            return Err(ApiError::field("stream_format", format!("is {other:?}; expected audio or sse")));
        }
    };
    let transport = match fields.flag("stream")? {
        // Asked for in both ways, raw sound wins, as with vLLM-Omni.
        Some(true) => Transport::Streamed,
        _ if sse => Transport::Sse,
        Some(false) => Transport::Whole,
        None => Transport::Streamed,
    };
    if transport == Transport::Sse && format == Format::Codes {
        let what = format!("is \"codes\"; events carry one of {}", Format::sounds());
        return Err(ApiError::field("response_format", what));
    }
    if words && transport != Transport::Sse {
        return Err(ApiError::field("word_timestamps", "is true; words have a place in stream_format \"sse\" alone"));
    }
    Ok(transport)
}

fn sampling(fields: &Fields) -> ApiResult<SamplingOptions> {
    let options = SamplingOptions {
        do_sample: fields.flag("do_sample")?,
        temperature: fields.number("temperature")?,
        top_k: fields.count("top_k")?,
        top_p: fields.number("top_p")?,
        repetition_penalty: fields.number("repetition_penalty")?,
        subtalker_dosample: fields.flag("subtalker_dosample")?,
        subtalker_temperature: fields.number("subtalker_temperature")?,
        subtalker_top_k: fields.count("subtalker_top_k")?,
        subtalker_top_p: fields.number("subtalker_top_p")?,
        max_new_tokens: fields.count("max_new_tokens")?,
    };
    options.check()?;
    Ok(options)
}

fn reference(fields: &Fields) -> ApiResult<Option<Reference>> {
    let recording = fields.text("ref_audio")?;
    let transcript = fields.text("ref_text")?.filter(|words| !words.trim().is_empty());
    let vector_only = fields.flag("x_vector_only_mode")?.unwrap_or(false);
    let numbers = |value: &Value| -> Option<Vec<f32>> {
        value.as_array()?.iter().map(|x| x.as_f64().map(|x| x as f32)).collect()
    };
    let vector = fields.get("speaker_embedding", "a list of numbers", numbers)?;
    match (recording, vector) {
        (Some(_), Some(_)) => {
            Err(ApiError::field("speaker_embedding", "is given, and ref_audio too; expected one of them"))
        }
        (None, Some(vector)) => Ok(Some(Reference::Vector(vector))),
        (None, None) if transcript.is_some() => {
            Err(ApiError::field("ref_text", "is given without ref_audio, whose words it is"))
        }
        (None, None) => Ok(None),
        (Some(recording), None) => {
            if transcript.is_none() && !vector_only {
                let what = "is missing; expected the recording's words, or x_vector_only_mode true";
                return Err(ApiError::field("ref_text", what));
            }
            let transcript = transcript.filter(|_| !vector_only).map(str::to_owned);
            Ok(Some(Reference::Recording { bytes: inline(recording)?, transcript }))
        }
    }
}

/// A recording inside the request. Addresses are not followed: nobody makes this server read a file or call another.
fn inline(said: &str) -> ApiResult<Vec<u8>> {
    let expected = "expected a sound file in base64, or as a data: URL";
    let text = match said.split_once(':') {
        Some(("data", rest)) => rest.split_once(";base64,").map(|(_, text)| text),
        Some((scheme, _)) if scheme.len() <= 10 => {
            let what = format!("is an address ({scheme}:), which this server does not follow; {expected}");
            return Err(ApiError::field("ref_audio", what));
        }
        _ => Some(said),
    };
    let bytes = text.and_then(|text| STANDARD.decode(text.trim()).ok());
    bytes.ok_or_else(|| ApiError::field("ref_audio", format!("is no base64; {expected}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value) -> ApiResult<Ask> {
        Ask::read(body.as_object().unwrap(), &Config::default())
    }

    #[test]
    fn an_error_names_the_field_and_what_was_expected() {
        let cases = [
            (json!({"input": 3}), "input", "input: is 3; expected a string"),
            (
                json!({"response_format": "mp3"}),
                "response_format",
                match cfg!(feature = "opus") {
                    true => "response_format: is \"mp3\"; supported are wav, pcm, flac, opus and codes",
                    false => "response_format: is \"mp3\"; supported are wav, pcm, flac and codes",
                },
            ),
            (json!({"speed": 1.5}), "speed", "speed: is 1.5; this server speaks at 1.0 alone"),
            (json!({"temperature": "hot"}), "temperature", "temperature: is \"hot\"; expected a number"),
            (json!({"temperature": -1.0}), "temperature", "temperature: is -1; expected 0.00001 to 100000"),
            (json!({"seed": -1}), "seed", "seed: is -1; expected a whole number, 0 or more"),
            (json!({"voice": 1}), "voice", "voice: is 1; expected a name, or an object with an id"),
            (json!({"stream_format": "x"}), "stream_format", "stream_format: is \"x\"; expected audio or sse"),
            (
                json!({"initial_codec_chunk_frames": 0}),
                "initial_codec_chunk_frames",
                "initial_codec_chunk_frames: is 0; expected 1 to 32",
            ),
            (
                json!({"word_timestamps": true}),
                "word_timestamps",
                "word_timestamps: is true; words have a place in stream_format \"sse\" alone",
            ),
            (
                json!({"ref_audio": "AAAA"}),
                "ref_text",
                "ref_text: is missing; expected the recording's words, or x_vector_only_mode true",
            ),
            (
                json!({"ref_audio": "!", "x_vector_only_mode": true}),
                "ref_audio",
                "ref_audio: is no base64; expected a sound file in base64, or as a data: URL",
            ),
            (
                json!({"ref_audio": "file:///etc/passwd", "x_vector_only_mode": true}),
                "ref_audio",
                "ref_audio: is an address (file:), which this server does not follow; expected a sound file in base64, or as a data: URL",
            ),
            (
                json!({"speaker_embedding": [1, "x"]}),
                "speaker_embedding",
                "speaker_embedding: is [1,\"x\"]; expected a list of numbers",
            ),
        ];
        for (body, param, message) in cases {
            let error = read(body).err().unwrap();
            assert_eq!(
                (error.status.as_u16(), error.param.as_deref(), error.message.as_str()),
                (400, Some(param), message)
            );
        }
    }

    #[test]
    fn long_values_are_cut_and_long_texts_refused() {
        let error = read(json!({"voice": {"name": "ä".repeat(200)}})).err().unwrap();
        assert!(error.message.len() < 200, "{}", error.message);
        let error = read(json!({"input": "a".repeat(20_001)})).err().unwrap();
        assert_eq!(error.message, "input: has 20001 bytes; this server takes 20000 at most");
    }

    #[test]
    fn a_voice_is_a_name_or_a_reference() {
        let vector = |voice: &str| read(json!({"speaker_embedding": [0.5], "voice": voice}));
        // What OpenAI's clients cannot leave out.
        assert!(["alloy", "Nova", ""].map(|voice| vector(voice).is_ok()) == [true; 3]);
        assert_eq!(vector("ann").err().unwrap().param.as_deref(), Some("voice"));
    }

    #[test]
    fn what_stands_in_strings_is_no_structure() {
        assert_eq!(outside_strings(br#"{"a\\": "b\"[1, 2]", "c": [3]}"#), 17);
        let most = |n: usize| object("body", format!("{{\"x\": {}1}}", " ".repeat(n)).as_bytes());
        assert!(most(MOST_STRUCTURE - 7).is_ok());
        let error = most(MOST_STRUCTURE - 6).unwrap_err();
        assert_eq!(error.message, "the body has more than 262144 bytes outside of its strings");
        let long = format!("{{\"x\": \"{}\"}}", "[1,".repeat(MOST_STRUCTURE));
        assert!(object("body", long.as_bytes()).is_ok());
    }

    #[test]
    fn how_it_is_sent_follows_both_fields() {
        let cases = [
            (json!({}), Transport::Streamed),
            (json!({"stream": false}), Transport::Whole),
            (json!({"stream_format": "sse"}), Transport::Sse),
            (json!({"stream_format": "sse", "stream": false}), Transport::Sse),
            (json!({"stream_format": "sse", "stream": true}), Transport::Streamed),
            (json!({"stream_format": "audio", "stream": null}), Transport::Streamed),
        ];
        for (body, expected) in cases {
            assert_eq!(read(body).ok().unwrap().transport, expected);
        }
    }

    #[test]
    fn the_first_chunk_is_as_wide_as_asked_for() {
        for (first, widths) in [(1, vec![1, 2, 4, 8]), (3, vec![3, 4, 8]), (32, vec![32])] {
            let ask = read(json!({"initial_codec_chunk_frames": first})).ok().unwrap();
            assert_eq!(ask.request.delivery.chunk_frames, widths);
        }
    }
}
