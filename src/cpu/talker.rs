//! The talker: prompt positions and finished frames to group-0 scores and the hidden that the predictor starts
//! from (MODEL.md 3, 4).

use super::ops;
use super::simd::Threads;
use super::stack::{self, Kv};
use crate::config::Config;
use crate::frame::Frame;
use crate::prompt::{CodecInput, Position};
use crate::weights::Weights;

/// What a talker step gives.
pub struct TalkerOutput {
    /// The last position after the final norm, [hidden].
    pub hidden: Vec<f32>,
    /// Raw scores, [talker_vocab].
    pub logits: Vec<f32>,
}

pub struct Talker<'a> {
    pub config: &'a Config,
    pub weights: &'a Weights,
    pub threads: &'a Threads,
}

impl Talker<'_> {
    /// Vectors of a prompt's positions, [positions][hidden].
    pub fn embed(&self, positions: &[Position]) -> Vec<f32> {
        let ids: Vec<u32> = positions.iter().map(|p| p.text).collect();
        let mut x = self.embed_text(&ids);
        for (x, position) in x.chunks_exact_mut(self.config.talker.hidden).zip(positions) {
            match &position.codec {
                CodecInput::None => {}
                CodecInput::Id(id) => {
                    let mut row = vec![0.0; x.len()];
                    self.weights.talker.codec_embedding.read_row(*id as usize, &mut row);
                    ops::add(x, None, &row);
                }
                CodecInput::Vector(vector) => ops::add(x, None, vector),
                CodecInput::Frame(frame) => ops::add(x, None, &self.embed_frame(frame)),
            }
        }
        x
    }

    /// fc2(silu(fc1(embedding))) of each id, [ids][hidden].
    fn embed_text(&self, ids: &[u32]) -> Vec<f32> {
        let (w, text_hidden) = (&self.weights.talker, self.config.text_hidden);
        let mut rows = vec![0.0; ids.len() * text_hidden];
        for (row, &id) in rows.chunks_exact_mut(text_hidden).zip(ids) {
            w.text_embedding.read_row(id as usize, row);
        }
        let mut inner = vec![0.0; rows.len()];
        ops::linear(self.threads, &w.text_fc1.weight, w.text_fc1.bias.as_deref(), &rows, &mut inner);
        ops::silu(&mut inner);
        let mut x = vec![0.0; ids.len() * self.config.talker.hidden];
        ops::linear(self.threads, &w.text_fc2.weight, w.text_fc2.bias.as_deref(), &inner, &mut x);
        x
    }

    /// The sum of a frame's 16 group embeddings, in order of group, [hidden].
    fn embed_frame(&self, frame: &Frame) -> Vec<f32> {
        let mut sum = vec![0.0; self.config.talker.hidden];
        self.weights.talker.codec_embedding.read_row(frame[0].into(), &mut sum);
        let mut row = vec![0.0; sum.len()];
        for (table, &code) in self.weights.predictor.embeddings.iter().zip(&frame[1..]) {
            table.read_row(code.into(), &mut row);
            ops::add(&mut sum, None, &row);
        }
        sum
    }

    /// The next input after `frame`: its embedding plus the next text token's vector (MODEL.md 3).
    pub fn embed_step(&self, frame: &Frame, text: u32) -> Vec<f32> {
        let mut x = self.embed_frame(frame);
        ops::add(&mut x, None, &self.embed_text(&[text]));
        x
    }

    /// Runs x [t][hidden] behind what `kv` holds; the last position's output.
    pub fn forward(&self, kv: &mut Kv, mut x: Vec<f32>) -> TalkerOutput {
        let w = &self.weights.talker;
        stack::forward(self.threads, &self.config.talker, &w.stack, None, kv, &mut x);
        let hidden = x.split_off(x.len() - self.config.talker.hidden);
        let mut logits = vec![0.0; self.config.talker_vocab];
        ops::linear(self.threads, &w.codec_head, None, &hidden, &mut logits);
        TalkerOutput { hidden, logits }
    }
}
