//! Text to ids.
pub mod live;
pub mod tokenizer;
