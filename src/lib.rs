//! Text to speech with the Qwen3-TTS 12 Hz models.
#![deny(unsafe_code)]
pub mod error;
pub mod frame;
pub mod request;
pub mod source;
pub mod config;
pub mod weights;
pub mod state;
pub mod prompt;
pub mod model;
pub mod cpu;
pub mod speech;
pub mod trace;
