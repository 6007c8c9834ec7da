//! Text to speech with the Qwen3-TTS 12 Hz models.
#![deny(unsafe_code)]
pub mod config;
pub mod cpu;
pub mod error;
pub mod frame;
pub mod model;
pub mod prompt;
pub mod request;
pub mod source;
pub mod speech;
pub mod state;
pub mod trace;
pub mod weights;
