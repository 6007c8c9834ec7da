//! The talker's tensors: text side, codec embedding, layers, head (MODEL.md 4).

use super::{Linear, Stack, Tensor, TensorFile};
use crate::config::Config;
use crate::error::Result;

pub struct TalkerWeights {
    pub text_embedding: Tensor,  // [text_vocab, text_hidden]
    pub text_fc1: Linear,        // [text_hidden, text_hidden]
    pub text_fc2: Linear,        // [hidden, text_hidden]
    pub codec_embedding: Tensor, // [talker_vocab, hidden]: group 0's codes, then controls, languages, speakers
    pub stack: Stack,
    pub codec_head: Tensor, // [talker_vocab, hidden]
}

impl TalkerWeights {
    pub(super) fn bind(file: &mut TensorFile, config: &Config) -> Result<TalkerWeights> {
        let (hidden, text_hidden) = (config.talker.hidden, config.text_hidden);
        let table = [config.talker_vocab, hidden];
        Ok(TalkerWeights {
            text_embedding: file.bind("talker.model.text_embedding.weight", &[config.text_vocab, text_hidden])?,
            text_fc1: file.linear("talker.text_projection.linear_fc1", text_hidden, text_hidden)?,
            text_fc2: file.linear("talker.text_projection.linear_fc2", hidden, text_hidden)?,
            codec_embedding: file.bind("talker.model.codec_embedding.weight", &table)?,
            stack: Stack::bind(file, "talker.model", &config.talker, false)?,
            codec_head: file.bind("talker.codec_head.weight", &table)?,
        })
    }
}
