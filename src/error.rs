//! The one error type. It names the file, tensor, field or call that is wrong, what was found and
//! what was expected; nothing below prints, exits or panics.

use crate::frame::End;
use std::path::PathBuf;
use std::sync::Arc;

/// The library's result.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, in words for the one who can mend it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, read, mapped or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// A checkpoint file is there but does not hold what the model needs.
    #[error("{file}: {what}")]
    Checkpoint {
        /// The file.
        file: String,
        /// The tensor or field, what was found and what was expected.
        what: String,
    },
    /// A model's file could not be had from the hub or its cache (feature `hub`).
    #[error("{file}: {what}")]
    Hub {
        /// The model and the file.
        file: String,
        /// What the hub or the connection said, and what can be done.
        what: String,
    },
    /// A request asks for what is not to be had (text, voice, language, sampling, codes).
    #[error("{field}: {what}")]
    Request {
        /// The field of the request.
        field: &'static str,
        /// What was found and what is possible.
        what: String,
    },
    /// The engine has all the streams that it takes; try again once one has ended.
    #[error("engine: {what}")]
    Busy {
        /// How many streams it takes.
        what: String,
    },
    /// The stream has ended: text comes too late.
    #[error("text: comes too late; this stream has ended: {}", end.name())]
    Ended {
        /// How.
        end: End,
    },
    /// The engine was closed.
    #[error("engine: is closed")]
    Closed,
    /// Arithmetic left the finite numbers, or the machine refused a resource.
    #[error("{call}: {what}")]
    Compute {
        /// The step.
        call: &'static str,
        /// What happened, and where it is known the tensor that caused it.
        what: String,
    },
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

    /// A file's name with what the system said of it.
    pub fn file(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::File { path: path.into(), source: Arc::new(source) }
    }
}
