//! Text to speech with the Qwen3-TTS 12 Hz models: exact to the official package, streaming, with no Python.
//!
//! text → prompt → ([talker → code predictor](cpu)) → [`Frame`] → [codec](cpu::Reference::decode) → samples
//!
//! ```
//! use qwentts::{Model, ModelSource, Reference, Request, Speech, Text, Voice};
//! # #[cfg(feature = "demo")] fn main() -> qwentts::Result<()> {
//! // The small model inside this library; `ModelSource::Folder(path)` opens any published checkpoint.
//! let model = Model::open(&ModelSource::Demo)?;
//! let reference = std::sync::Arc::new(Reference::new(model, None)?);
//! let request = Request { voice: Voice::Preset("slt".into()), ..Request::default() };
//! let mut speech = Speech::new(reference, Text::Whole("Hello.".into()), &request)?;
//! let mut samples = Vec::new(); // 24 kHz, mono, f32
//! while let Some(chosen) = speech.next_frame()? {
//!     samples.extend(speech.decode(&[chosen.frame])?); // 80 ms, ready to be played
//! }
//! assert!(samples.len() > 24_000 / 4);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "demo"))] fn main() {}
//! ```
//!
//! The modules, from the ground up: [`error`], [`frame`]; [`source`], [`request`], [`config`], `weights`; `prompt`, `state`,
//! [`model`], `hub`; [`cpu`]; [`speech`], [`trace`]. Imports go downwards only. [`check`] stands aside: it measures finished sound.
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(fuzzing, allow(missing_docs))] // `fuzzing` shows more

pub mod check;
pub mod config;
pub mod cpu;
pub mod error;
pub mod frame;
#[cfg(feature = "hub")]
pub mod hub;
pub mod model;
pub(crate) mod prompt;
pub mod request;
pub mod source;
pub mod speech;
pub(crate) mod state;
pub mod trace;
pub(crate) mod weights;

/// What the fuzz targets (`fuzz/`) reach behind the public face. Only cargo-fuzz sets this cfg.
#[cfg(fuzzing)]
pub mod fuzzing {
    pub use crate::prompt::{live::LiveTokenizer, tokenizer::Tokenizer};
    pub use crate::weights::{Dtype, Stack, Tensor, Weights};
}

pub use cpu::{CodecSlot, Reference};
pub use error::{Error, Result};
pub use frame::{Frame, GROUPS, SAMPLE_RATE, SAMPLES_PER_FRAME};
pub use model::Model;
pub use request::{Request, SamplingOptions, Voice};
pub use source::ModelSource;
pub use speech::{Speech, Text};
