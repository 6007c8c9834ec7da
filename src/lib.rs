//! Text to speech with the Qwen3-TTS 12 Hz models: exact to the official package, streaming, with no Python.
//!
//! text → prompt → ([talker → code predictor](cpu)) → [`Frame`] → [codec](cpu::Reference::decode) → [`Chunk`](engine::Chunk)
//!
//! ```
//! use qwentts::{Engine, EngineOptions, ModelSource, Request, Voice};
//! # #[cfg(feature = "demo")] fn main() -> qwentts::Result<()> {
//! // The small model inside this library; `ModelSource::Folder(path)` opens any published checkpoint. It computes on a GPU
//! // that this build has kernels for, else on the CPU; `EngineOptions::device` says otherwise.
//! let engine = Engine::open(&ModelSource::Demo, &EngineOptions::default())?;
//! let request = Request { voice: Voice::Preset("slt".into()), ..Request::default() };
//! let mut stream = engine.stream(&request)?; // `engine.speak(text, &request)` where the text is all there
//! stream.push("Hello")?; // as it comes, cut anywhere
//! stream.push(" there.")?;
//! stream.end()?;
//! let mut samples = Vec::new(); // 24 kHz, mono, f32
//! for chunk in stream.chunks() {
//!     samples.extend(chunk?.samples); // the first one is 80 ms of sound
//! }
//! assert!(samples.len() > 24_000 / 4);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "demo"))] fn main() {}
//! ```
//!
//! The modules, from the ground up: [`error`], [`frame`]; [`source`], [`request`], [`device`], [`config`], `weights`; `prompt`, `state`,
//! [`model`], `hub`, `backend` (the seam); [`cpu`] and `cuda`; [`engine`], and beside it [`speech`], the bare loop, with [`trace`], and [`audio`] and [`voice`], which make voices of recordings;
//! on top `ffi`, the C ABI (`include/qwentts.h`).
//! Imports go downwards only. Two stand aside: [`driver`], which knows no word of speech, and [`check`], which measures
//! finished sound.
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(fuzzing, allow(missing_docs))] // `fuzzing` shows more

pub mod audio;
pub(crate) mod backend;
pub mod check;
pub mod config;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod device;
pub mod driver;
pub mod engine;
pub mod error;
mod ffi;
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
pub mod voice;
pub(crate) mod weights;

/// What the fuzz targets (`fuzz/`) reach behind the public face. Only cargo-fuzz sets this cfg.
#[cfg(fuzzing)]
pub mod fuzzing {
    pub use crate::prompt::{live::LiveTokenizer, tokenizer::Tokenizer};
    pub use crate::weights::{Dtype, Stack, Tensor, Weights};
}

pub use cpu::{CodecSlot, Reference};
pub use device::Device;
pub use engine::{Engine, EngineOptions, Stream};
pub use error::{Error, Result};
pub use frame::{Frame, GROUPS, SAMPLE_RATE, SAMPLES_PER_FRAME};
pub use model::Model;
pub use request::{Randomness, Request, SamplingOptions, Voice};
pub use source::ModelSource;
pub use speech::{Bare, Speech, Text};
pub use voice::{Cloning, SavedVoice};
