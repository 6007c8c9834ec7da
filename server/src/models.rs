//! The models that are served: opened in the background, each with its engine, its names of voices and what is counted of
//! it. Owns what a request's `model` and `voice` mean.

use crate::config::{Config, ModelConfig};
use crate::error::{ApiError, ApiResult};
use crate::metrics;
use crate::voices::Folder;
use qwentts::config::ModelKind;
use qwentts::device::KvNumbers;
#[cfg(feature = "hub")]
use qwentts::hub::{self, HubId, HubOptions};
use qwentts::{Engine, EngineOptions, ModelSource, Request, Voice};
use std::collections::BTreeMap;
#[cfg(feature = "hub")]
use std::path::Path;
use std::sync::Arc;

/// The voices that OpenAI has, which many clients send, and Pipecat alone allows.
pub const OPENAI_VOICES: [&str; 13] =
    ["alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse"];
/// The models that OpenAI's clients ask for where nobody says otherwise: the first one here.
const OPENAI_MODELS: [&str; 3] = ["tts-1", "tts-1-hd", "gpt-4o-mini-tts"];

/// One model.
pub struct Served {
    pub name: String,
    pub engine: Engine,
    pub speech: metrics::Speech,
    /// Other names of its voices.
    pub aliases: BTreeMap<String, String>,
}

impl Served {
    /// Opens it and has it speak once. Takes seconds; errors name the model.
    fn open(name: String, model: &ModelConfig, config: &Config) -> Result<Served, String> {
        let wrong = |e: qwentts::Error| format!("model {name}: {e}");
        let options = EngineOptions {
            device: model.device.as_deref().map(str::parse).transpose().map_err(wrong)?,
            kv: config.kv.parse::<KvNumbers>().map_err(wrong)?,
            threads: config.threads,
            slots: config.slots,
            queue: config.queue,
            ..EngineOptions::default()
        };
        let engine = Engine::open(&source(&model.source).map_err(wrong)?, &options).map_err(wrong)?;
        engine.warm_up().map_err(wrong)?;
        let presets: Vec<&str> = engine.voices().collect();
        let in_order = OPENAI_VOICES.iter().zip(presets.iter().cycle());
        let mut aliases: BTreeMap<_, _> =
            in_order.map(|(&alias, &voice)| (alias.to_owned(), voice.to_owned())).collect();
        aliases.extend(config.voice_aliases.clone());
        aliases.retain(|alias, _| !presets.contains(&alias.as_str()));
        Ok(Served { name, engine, speech: metrics::Speech::default(), aliases })
    }

    pub fn kind(&self) -> &'static str {
        match self.engine.model().config.kind {
            ModelKind::Base => "Base",
            ModelKind::CustomVoice => "CustomVoice",
            ModelKind::VoiceDesign => "VoiceDesign",
        }
    }

    /// Has the request speak in the voice of this name: an alias, a preset, or one of the folder. Reads a file, so not for
    /// the threads that serve.
    pub fn name_voice(&self, named: &str, folder: &Folder, request: &mut Request) -> ApiResult<()> {
        let name = self.aliases.get(&named.to_lowercase()).map_or(named, String::as_str);
        if self.engine.voices().any(|preset| preset.eq_ignore_ascii_case(name)) {
            request.voice = Voice::Preset(name.to_owned());
            return Ok(());
        }
        if let Some(saved) = folder.load(name)? {
            let voice = saved.voice(name, self.engine.model()).map_err(|e| ApiError::field("voice", e))?;
            request.voice = voice;
            request.language = request.language.take().or(saved.language);
            return Ok(());
        }
        let known: Vec<&str> = self.engine.voices().chain(self.aliases.keys().map(String::as_str)).collect();
        let what = match known.is_empty() {
            true => format!("is {named:?}; this model has no presets, and no such voice was made"),
            false => format!("is {named:?}; known are {} and those of GET /v1/audio/voices", known.join(", ")),
        };
        Err(ApiError::field("voice", what))
    }
}

/// A model on the hub, where that is what is said. A path that exists wins.
#[cfg(feature = "hub")]
pub fn hub_id(said: &str) -> Option<HubId> {
    HubId::parse(said).filter(|_| !Path::new(said).exists())
}

/// Where a model's files are. What the cache lacks of one on the hub is downloaded, which takes minutes.
fn source(said: &str) -> qwentts::Result<ModelSource> {
    if said == "demo" {
        return Ok(ModelSource::Demo);
    }
    #[cfg(feature = "hub")]
    if let Some(id) = hub_id(said) {
        let options = HubOptions::of_variables(|name| std::env::var_os(name), std::env::home_dir())?;
        let mut told = String::new();
        let folder = hub::fetch(&id, &options, &mut |progress| {
            let (file, words) = match progress {
                hub::Progress::Came { file, total_bytes, .. } => (file, format!("downloading {total_bytes} bytes of")),
                hub::Progress::Waits { file } => (file, "waiting for another process to download".to_owned()),
                _ => return,
            };
            // Once a file: a log is no terminal.
            let now = format!("{words} {file} of {id}");
            if told != now {
                eprintln!("qwentts-server: {now}");
                told = now;
            }
        })?;
        return Ok(ModelSource::Folder(folder));
    }
    Ok(ModelSource::Folder(said.into()))
}

/// Opens every model of the configuration, one after another.
pub fn open_all(config: &Config) -> Result<Vec<Arc<Served>>, String> {
    config.all_models().into_iter().map(|(name, model)| Served::open(name, &model, config).map(Arc::new)).collect()
}

/// The model that a request names; the first where it names none, or one of OpenAI's.
pub fn find<'a>(models: &'a [Arc<Served>], name: Option<&str>) -> ApiResult<&'a Arc<Served>> {
    let first = models.first().ok_or_else(|| ApiError::unavailable("no model is open"))?;
    match name {
        None => Ok(first),
        Some(name) => {
            let found = models.iter().find(|model| model.name == name);
            found.or_else(|| OPENAI_MODELS.contains(&name).then_some(first)).ok_or_else(|| {
                let known: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
                let message = format!("model: is {name:?}; this server has {}", known.join(", "));
                ApiError::not_found("model", "model_not_found", message)
            })
        }
    }
}
