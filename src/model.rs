//! An open checkpoint: its facts, its tokenizer and its mapped weights. Immutable; share it by `Arc`.

use crate::config::{Config, EncoderConfig};
use crate::error::{Error, Result};
use crate::prompt::tokenizer::Tokenizer;
use crate::source::ModelSource;
pub use crate::weights::TensorInfo;
use crate::weights::{EncoderWeights, SpeakerWeights, Weights};
use std::sync::{Arc, OnceLock};

/// A checkpoint, open for speaking.
pub struct Model {
    /// Where it came from.
    pub source: ModelSource,
    /// Its facts.
    pub config: Config,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) weights: Weights,
    fingerprint: OnceLock<String>,
}

impl Model {
    /// The embedded model, for tests: from the tree, whatever the build's features.
    #[cfg(test)]
    pub(crate) fn demo() -> Arc<Model> {
        Model::open(&ModelSource::Folder(concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo").into())).unwrap()
    }

    /// Opens and checks every part; weights stay in their files. Errors name the file and what it should hold.
    pub fn open(source: &ModelSource) -> Result<Arc<Model>> {
        let config = Config::open(source)?;
        let [vocab, merges, settings] = ["vocab.json", "merges.txt", "tokenizer_config.json"].map(|f| source.read(f));
        let tokenizer = Tokenizer::new(&vocab?, &merges?, &settings?, &config.text_controls, config.text_vocab)
            .map_err(|e| match e {
                Error::Checkpoint { file, what } => Error::checkpoint(source.describe(&file), what),
                other => other,
            })?;
        let weights = Weights::open(source, &config)?;
        Ok(Arc::new(Model {
            source: source.clone(),
            config,
            tokenizer: Arc::new(tokenizer),
            weights,
            fingerprint: OnceLock::new(),
        }))
    }

    /// Which model this is: SHA-256, in hex, over name, type, shape and the first 4096 bytes of every tensor, in order of
    /// name, the model file's before the codec's. The same from shards or one file; another for a fine-tuned copy. Reads a
    /// few megabytes, once.
    pub fn fingerprint(&self) -> Result<&str> {
        use sha2::Digest;
        if self.fingerprint.get().is_none() {
            let mut sum = sha2::Sha256::new();
            for file in Weights::files(&self.source)? {
                file.identify(&mut sum);
            }
            let hex = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            let _ = self.fingerprint.set(hex); // another thread's is the same
        }
        Ok(self.fingerprint.get().map_or("", String::as_str))
    }

    /// Names of the preset voices, sorted; empty for Base and VoiceDesign.
    pub fn voices(&self) -> impl Iterator<Item = &str> {
        self.config.speakers.keys().map(String::as_str)
    }

    /// What makes a speaker vector of a recording.
    pub(crate) fn speaker_encoder(&self) -> Result<&SpeakerWeights> {
        self.weights.speaker.as_ref().ok_or_else(|| {
            let what = "holds no speaker encoder (tensors speaker_encoder.*), which a Base model has";
            Error::checkpoint(self.source.describe("model.safetensors"), what)
        })
    }

    /// What makes frames of a recording.
    pub(crate) fn codec_encoder(&self) -> Result<(&EncoderConfig, &EncoderWeights)> {
        self.config.encoder.as_ref().zip(self.weights.encoder.as_ref()).ok_or_else(|| {
            let what = "holds no codec encoder (tensors encoder.*)";
            Error::checkpoint(self.source.describe("speech_tokenizer"), what)
        })
    }

    /// Every tensor of the checkpoint, those that are not used among them.
    pub fn tensors(&self) -> Result<Vec<TensorInfo>> {
        let files = Weights::files(&self.source)?;
        Ok(Weights::STEMS.into_iter().zip(&files).flat_map(|(stem, file)| file.list(stem)).collect())
    }

    /// The first tensor that holds NaN or infinity. Reads every weight: only asked once something is wrong.
    pub(crate) fn blame(&self, call: &'static str, what: &str) -> Error {
        let culprit = Weights::files(&self.source).ok().and_then(|files| {
            files.iter().find_map(|file| file.first_not_finite().map(|name| format!("{}: tensor {name}", file.path())))
        });
        match culprit {
            Some(tensor) => Error::compute(call, format!("{what}: {tensor} holds NaN or infinity")),
            None => Error::compute(call, format!("{what}, though every weight is finite")),
        }
    }
}
