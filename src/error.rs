//! The one error type. It names the file, tensor, field or call that is wrong, what was found and
//! what was expected; nothing below prints, exits or panics.

use std::path::PathBuf;

pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, in words for the one who can mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, read, mapped or written.
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    /// A checkpoint file is there but does not hold what the model needs.
    #[error("{file}: {what}")]
    Checkpoint { file: String, what: String },
    /// A request asks for what is not to be had (text, voice, language, sampling, codes).
    #[error("{field}: {what}")]
    Request { field: &'static str, what: String },
    /// Arithmetic left the finite numbers, or the machine refused a resource.
    #[error("{call}: {what}")]
    Compute { call: &'static str, what: String },
}

impl Error {
    pub(crate) fn checkpoint(file: impl Into<String>, what: impl Into<String>) -> Self {
        Error::Checkpoint { file: file.into(), what: what.into() }
    }

    pub(crate) fn request(field: &'static str, what: impl Into<String>) -> Self {
        Error::Request { field, what: what.into() }
    }

    pub(crate) fn compute(call: &'static str, what: impl Into<String>) -> Self {
        Error::Compute { call, what: what.into() }
    }

    pub(crate) fn file(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::File { path: path.into(), source }
    }
}
