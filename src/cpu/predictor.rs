//! The code predictor: groups 1 to 15 of a frame from the talker's hidden and group 0 (MODEL.md 5).

use super::ops;
use super::simd::Threads;
use super::stack::{self, Kv};
use crate::config::Config;
use crate::error::Result;
use crate::frame::Frame;
use crate::weights::{Linear, Weights};

pub struct Predictor<'a> {
    pub config: &'a Config,
    pub weights: &'a Weights,
    pub threads: &'a Threads,
}

impl Predictor<'_> {
    /// Fills groups 1 to 15 of `frame`, whose group 0 is set. `choose(group, logits)` picks each code; the codes
    /// it returns are what the next group sees.
    pub fn frame(
        &self,
        kv: &mut Kv,
        hidden: &[f32],
        frame: &mut Frame,
        mut choose: impl FnMut(usize, &[f32]) -> Result<u16>,
    ) -> Result<()> {
        let w = &self.weights.predictor;
        let config = &self.config.predictor;
        kv.clear();
        // The first pass holds two positions: the talker's hidden and group 0.
        let mut input = hidden.to_vec();
        let mut row = vec![0.0; hidden.len()];
        self.weights.talker.codec_embedding.read_row(frame[0].into(), &mut row);
        input.extend_from_slice(&row);
        for (group, (head, embedding)) in (1..).zip(w.heads.iter().zip(&w.embeddings)) {
            let mut x = match &w.projection {
                None => input.clone(),
                Some(Linear { weight, bias }) => {
                    let mut x = vec![0.0; input.len() / hidden.len() * config.hidden];
                    ops::linear(self.threads, weight, bias.as_deref(), &input, &mut x);
                    x
                }
            };
            stack::forward(self.threads, config, &w.stack, None, kv, &mut x);
            let mut logits = vec![0.0; self.config.codes];
            let last = &x[x.len() - config.hidden..];
            ops::linear(self.threads, head, None, last, &mut logits);
            frame[group] = choose(group, &logits)?;
            embedding.read_row(frame[group].into(), &mut row);
            input.clone_from(&row);
        }
        Ok(())
    }
}
