//! The code predictor's tensors (MODEL.md 5). Entry g - 1 of the lists belongs to group g.

use super::{Linear, Stack, Tensor, TensorFile};
use crate::config::Config;
use crate::error::Result;
use crate::frame::GROUPS;

pub struct PredictorWeights {
    /// Talker width to predictor width; absent where the two are equal (0.6B).
    pub projection: Option<Linear>, // [hidden, talker hidden]
    pub embeddings: Vec<Tensor>, // groups 1..16, each [codes, talker hidden]
    pub stack: Stack,
    pub heads: Vec<Tensor>, // groups 1..16, each [codes, hidden]
}

impl PredictorWeights {
    pub(super) fn bind(file: &mut TensorFile, config: &Config) -> Result<PredictorWeights> {
        let (width, hidden) = (config.talker.hidden, config.predictor.hidden);
        let prefix = "talker.code_predictor";
        // The official class is an identity exactly where the widths agree.
        let projection = match width == hidden {
            true => None,
            false => Some(file.linear(&format!("{prefix}.small_to_mtp_projection"), hidden, width)?),
        };
        let mut embeddings = Vec::with_capacity(GROUPS - 1);
        let mut heads = Vec::with_capacity(GROUPS - 1);
        for i in 0..GROUPS - 1 {
            let embedding = format!("{prefix}.model.codec_embedding.{i}.weight");
            embeddings.push(file.bind(&embedding, &[config.codes, width])?);
            heads.push(file.bind(&format!("{prefix}.lm_head.{i}.weight"), &[config.codes, hidden])?);
        }
        let stack = Stack::bind(file, &format!("{prefix}.model"), &config.predictor, false)?;
        Ok(PredictorWeights { projection, embeddings, stack, heads })
    }
}
