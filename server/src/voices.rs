//! Voices made of recordings, as files of one folder, and the three routes that list, make and delete them. Owns their
//! names, so that no name leaves the folder.

use crate::App;
use crate::error::{ApiError, ApiResult};
use crate::models;
use axum::Json;
use axum::extract::multipart::{Multipart, MultipartError, MultipartRejection};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use qwentts::{Cloning, SavedVoice, audio};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

const LONGEST_NAME: usize = 64;
/// What is kept with a voice and told again, as vLLM-Omni's clients expect it: who agreed to it, who speaks, what file it was
/// made of.
const NOTES: [&str; 3] = ["consent", "speaker_description", MIME_TYPE];
const MIME_TYPE: &str = "mime_type";
const LONGEST_NOTE_BYTES: usize = 1024;

/// Where voices are kept; `None` where none can be.
#[derive(Clone)]
pub struct Folder(pub Option<PathBuf>);

impl Folder {
    /// The file of a voice, if it is a name that one can have.
    fn path(&self, name: &str) -> Option<PathBuf> {
        // No separator, no leading dot: the file is in the folder, whatever the system.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        let fits = (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(plain);
        self.0.as_ref().filter(|_| fits).map(|folder| folder.join(format!("{name}.qvoice")))
    }

    /// The voice of this name, if there is one.
    pub fn load(&self, name: &str) -> ApiResult<Option<SavedVoice>> {
        // A link could lead out of the folder.
        let Some(path) = self.path(name).filter(|path| path.symlink_metadata().is_ok_and(|of| of.is_file())) else {
            return Ok(None);
        };
        SavedVoice::load(&path).map(Some).map_err(|e| {
            eprintln!("qwentts-server: {e}");
            ApiError::field("voice", format!("is {name:?}, whose file cannot be read; the server's log says why"))
        })
    }

    /// Names in order.
    fn names(&self) -> Vec<String> {
        let files = self.0.iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
        let names = files.filter_map(|file| file.file_name().to_str()?.strip_suffix(".qvoice").map(str::to_owned));
        let mut names: Vec<String> = names.filter(|name| self.path(name).is_some()).collect();
        names.sort();
        names
    }

    fn there(&self) -> ApiResult<()> {
        match &self.0 {
            Some(_) => Ok(()),
            None => Err(ApiError::request(
                StatusCode::BAD_REQUEST,
                "this server keeps no voices: it was started without voices_dir",
            )),
        }
    }
}

/// What is said of a voice that was made here.
fn described(name: &str, voice: &SavedVoice, folder: &Folder) -> Value {
    let file = folder.path(name).and_then(|path| path.metadata().ok());
    let created = file.as_ref().and_then(|of| of.modified().ok()?.duration_since(UNIX_EPOCH).ok());
    let mut said = json!({
        "name": name,
        "created_at": created.map_or(0, |time| time.as_secs()),
        "file_size": file.map_or(0, |of| of.len()),
    });
    let reference = voice.prompt.reference.as_ref().map(|reference| &reference.transcript);
    if let Some(text) = reference {
        said["ref_text"] = json!(text);
    }
    if let Some(language) = &voice.language {
        said["language"] = json!(language);
    }
    for (name, words) in voice.notes.iter().filter(|(name, _)| NOTES.contains(&name.as_str())) {
        said[name] = json!(words);
    }
    said
}

/// GET /v1/audio/voices
pub async fn list(
    State(app): State<Arc<App>>,
    query: Result<Query<HashMap<String, String>>, QueryRejection>,
) -> ApiResult<Json<Value>> {
    let Query(query) = query.map_err(|e| ApiError::request(e.status(), e.body_text()))?;
    app.off_thread(move |app| {
        let model = models::find(app.models()?, query.get("model").map(String::as_str))?;
        let ours = model.engine.model().fingerprint()?;
        let mut uploaded = Vec::new();
        for name in app.voices.names() {
            // One that cannot be read is nobody's voice; the log has it.
            if let Ok(Some(voice)) = app.voices.load(&name)
                && voice.model == ours
            {
                uploaded.push(described(&name, &voice, &app.voices));
            }
        }
        let presets = model.engine.voices().map(|name| json!(name));
        let names: Vec<Value> = presets.chain(uploaded.iter().map(|voice| voice["name"].clone())).collect();
        Ok(Json(json!({"voices": names, "uploaded_voices": uploaded, "aliases": model.aliases})))
    })
    .await
}

/// What a form held.
#[derive(Default)]
struct Form {
    words: HashMap<String, String>,
    sample: Option<Vec<u8>>,
}

async fn form(app: &App, mut parts: Multipart) -> ApiResult<Form> {
    let wrong = |e: MultipartError| ApiError::request(e.status(), e.body_text());
    let mut form = Form::default();
    let all = async {
        while let Some(part) = parts.next_field().await.map_err(wrong)? {
            let name = part.name().unwrap_or_default().to_owned();
            let kind = part.content_type().map(str::to_owned);
            let bytes = part.bytes().await.map_err(wrong)?;
            match name.as_str() {
                "audio_sample" => {
                    form.sample = Some(bytes.to_vec());
                    form.words.extend(kind.map(|kind| (MIME_TYPE.to_owned(), kind)));
                }
                _ => {
                    let word = String::from_utf8(bytes.to_vec()).map_err(|_| ApiError::field(&name, "is not UTF-8"))?;
                    form.words.insert(name, word);
                }
            }
        }
        Ok(())
    };
    app.in_time(all).await?;
    Ok(form)
}

/// POST /v1/audio/voices
pub async fn make(
    State(app): State<Arc<App>>,
    parts: Result<Multipart, MultipartRejection>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let parts = parts.map_err(|e| ApiError::request(e.status(), e.body_text()))?;
    app.voices.there()?;
    let Form { mut words, sample } = form(&app, parts).await?;
    let name = words.remove("name").ok_or_else(|| ApiError::field("name", "is missing"))?;
    let path = app.voices.path(&name).ok_or_else(|| {
        ApiError::field("name", format!("is {name:?}; expected up to {LONGEST_NAME} letters, digits, - and _"))
    })?;
    let sample = sample.ok_or_else(|| ApiError::field("audio_sample", "is missing; expected a sound file"))?;
    let filled = |name: &str| words.get(name).filter(|word| !word.trim().is_empty()).cloned();
    let cloning = Cloning { transcript: filled("ref_text"), language: filled("language"), ..Cloning::default() };
    let notes: BTreeMap<_, _> = NOTES.iter().filter_map(|name| Some(((*name).to_owned(), filled(name)?))).collect();
    if let Some((name, words)) = notes.iter().find(|(_, words)| words.len() > LONGEST_NOTE_BYTES) {
        let what = format!("has {} bytes; expected {LONGEST_NOTE_BYTES} at most", words.len());
        return Err(ApiError::field(name, what));
    }
    let turn = app.turn_to_clone().await?;
    app.off_thread(move |app| {
        let _turn = turn; // until it is done, whoever still waits for it
        let model = models::find(app.models()?, words.get("model").map(String::as_str))?;
        let reserved = model.engine.voices().any(|preset| preset.eq_ignore_ascii_case(&name))
            || model.aliases.contains_key(&name.to_lowercase());
        if reserved || path.symlink_metadata().is_ok() {
            let error = ApiError::field("name", format!("is {name:?}; there is a voice of that name"));
            return Err(ApiError { status: StatusCode::CONFLICT, ..error });
        }
        let most = app.config.voices_most;
        if app.voices.names().len() >= most {
            let message = format!("there are {most} voices, as many as this server keeps; delete one first");
            return Err(ApiError { status: StatusCode::CONFLICT, ..ApiError::field("name", message) });
        }
        let voice = SavedVoice { notes, ..clone_voice("audio_sample", &sample, model, &cloning)? };
        // Whole or not at all: another name first.
        let unfinished = path.with_extension("unfinished");
        let written = voice
            .save(&unfinished)
            .and_then(|()| std::fs::rename(&unfinished, &path).map_err(|e| qwentts::Error::file(&path, e)));
        written.inspect_err(|_| drop(std::fs::remove_file(&unfinished)))?;
        let said = described(&name, &voice, &app.voices);
        Ok((StatusCode::OK, Json(json!({"success": true, "voice": said}))))
    })
    .await
}

/// A voice of a recording's bytes, for this model; `field` is what held them.
pub fn clone_voice(field: &str, bytes: &[u8], model: &models::Served, cloning: &Cloning) -> ApiResult<SavedVoice> {
    let samples = audio::read_bytes(field, bytes, audio::LONGEST_S).map_err(|e| match e {
        qwentts::Error::Checkpoint { what, .. } => ApiError::field(field, what),
        other => ApiError::field(field, other),
    })?;
    SavedVoice::create(model.engine.listener(), &samples, cloning).map_err(|e| match e {
        qwentts::Error::Request { field: "ref_audio", what } => ApiError::field(field, what),
        other => other.into(),
    })
}

/// DELETE /v1/audio/voices/{name}
pub async fn delete(State(app): State<Arc<App>>, name: Result<Path<String>, PathRejection>) -> ApiResult<Json<Value>> {
    let Path(name) = name.map_err(|e| ApiError::request(e.status(), e.body_text()))?;
    app.voices.there()?;
    app.off_thread(move |app| {
        let missing = || ApiError::not_found("name", "voice_not_found", format!("name: there is no voice {name:?}"));
        let path = app.voices.path(&name).ok_or_else(missing)?;
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(Json(json!({"success": true, "message": format!("voice {name:?} was deleted")}))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(missing()),
            Err(e) => Err(qwentts::Error::file(&path, e).into()),
        }
    })
    .await
}
