//! Text, voice, language and instruction as ids: a part to prefill, and trailing text fed one token a frame.
//! `template` lays them out, `tokenizer` and `live` turn text into ids. Knows no arithmetic.

pub mod live;
pub mod template;
pub mod tokenizer;

use crate::frame::Frame;

/// One input position of the talker: a text token's vector plus what the codec side adds (MODEL.md 3).
#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    /// Text id, embedded and projected; every position has one.
    pub text: u32,
    pub codec: CodecInput,
}

/// The codec side of a position.
#[derive(Clone, Debug, PartialEq)]
pub enum CodecInput {
    None,
    /// A row of the codec embedding: controls, language, preset speaker.
    Id(u32),
    /// A speaker vector, as it is.
    Vector(Vec<f32>),
    /// A reference frame: the sum of its 16 group embeddings.
    Frame(Frame),
}
