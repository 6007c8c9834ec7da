//! Text to speech with the Qwen3-TTS 12 Hz models.
#![deny(unsafe_code)]
pub mod error;
pub mod frame;
pub mod prompt;
