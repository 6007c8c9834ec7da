//! An open checkpoint: its facts, its tokenizer and its mapped weights. Immutable; share it by `Arc`.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::prompt::tokenizer::Tokenizer;
use crate::source::ModelSource;
pub use crate::weights::TensorInfo;
use crate::weights::Weights;
use std::sync::Arc;

/// A checkpoint, open for speaking.
pub struct Model {
    /// Where it came from.
    pub source: ModelSource,
    /// Its facts.
    pub config: Config,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) weights: Weights,
}

impl Model {
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
        Ok(Arc::new(Model { source: source.clone(), config, tokenizer: Arc::new(tokenizer), weights }))
    }

    /// Names of the preset voices, sorted; empty for Base and VoiceDesign.
    pub fn voices(&self) -> impl Iterator<Item = &str> {
        self.config.speakers.keys().map(String::as_str)
    }

    /// Every tensor of the checkpoint, those of parts that are not used yet among them.
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
