//! The talker on the device: prompt positions and finished frames to group-0 scores and the hidden that the predictor starts
//! from, in the launches' order. Its twin is `crate::cpu`'s talker.

use super::kernels::{Finish, Kernels};
use super::program::List;
use super::stack::{Kv, Room, Rows, Stack};
use super::upload::{Linear, Matrix, Uploader};
use crate::config::Config;
use crate::driver::{Context, Span, Stream};
use crate::error::Result;
use crate::weights::Weights;
use std::sync::Arc;

/// Positions of a prompt that run together.
pub(crate) const PROMPT_ROWS: usize = 256;

/// The talker's weights on the device. The text table stays in its file: a row a frame is all that is read of it.
pub(crate) struct Talker {
    fc1: Linear,
    fc2: Linear,
    pub codec_embedding: Matrix,
    stack: Stack,
    head: Matrix,
}

/// Scratch of a step, or of a prompt's rows.
pub(crate) struct Desk {
    /// Rows of the text table, [rows][text_hidden].
    pub text: Span<f32>,
    inner: Span<f32>,  // [rows][text_hidden]
    vector: Span<f32>, // [rows][hidden]
    /// Codes of each row, [rows][GROUPS], or NO_CODE.
    pub codes: Span<u32>,
    /// The talker's inputs, then what its layers make of them, [rows][hidden].
    pub x: Span<f32>,
    room: Room,
}

impl Desk {
    /// `codes`: where the codes of the rows stand; `None` makes room for them.
    pub fn new(context: &Arc<Context>, config: &Config, rows: usize, codes: Option<Span<u32>>) -> Result<Desk> {
        let (hidden, text_hidden) = (config.talker.hidden, config.text_hidden);
        let new = |len| Span::new(context, len);
        Ok(Desk {
            text: new(rows * text_hidden)?,
            inner: new(rows * text_hidden)?,
            vector: new(rows * hidden)?,
            codes: match codes {
                Some(codes) => codes,
                None => Span::new(context, rows * crate::frame::GROUPS)?,
            },
            x: new(rows * hidden)?,
            room: Room::new(context, &config.talker, None, true, rows)?,
        })
    }

    pub fn buffers(&self) -> Vec<crate::driver::Buffer> {
        let floats = [&self.text, &self.inner, &self.vector, &self.x].map(|span| span.buffer().clone());
        [floats.to_vec(), vec![self.codes.buffer().clone()], self.room.buffers()].concat()
    }
}

impl Talker {
    /// `positions`: how many it may see.
    pub fn upload(uploader: &mut Uploader, weights: &Weights, config: &Config, positions: usize) -> Result<Talker> {
        let w = &weights.talker;
        Ok(Talker {
            fc1: Linear::upload(uploader, &w.text_fc1)?,
            fc2: Linear::upload(uploader, &w.text_fc2)?,
            codec_embedding: uploader.matrix(&w.codec_embedding)?,
            stack: Stack::upload(uploader, &w.stack, &config.talker, positions)?,
            head: uploader.matrix(&w.codec_head)?,
        })
    }

    /// The desk's text rows and codes to the talker's inputs: fc2(silu(fc1(text))) plus the rows' embeddings. `tables`: of each
    /// group.
    pub fn embed(
        &self,
        kernels: &Kernels,
        stream: &Stream,
        tables: &[&Matrix],
        desk: &Desk,
        count: usize,
    ) -> Result<()> {
        let part = |span: &Span<f32>| span.part(0..count * (span.len() / (desk.x.len() / self.stack.config.hidden)));
        let (text, inner, vector) = (part(&desk.text), part(&desk.inner), part(&desk.vector));
        for (fc, finish, from, to) in
            [(&self.fc1, Finish::Silu, &text, &inner), (&self.fc2, Finish::Store, &inner, &vector)]
        {
            kernels.gemm(stream, &fc.weight, fc.bias.as_ref(), finish, from, to)?;
        }
        let codes = desk.codes.part(0..count * tables.len());
        kernels.embed(stream, tables, &codes, Some(&vector), &part(&desk.x))
    }

    /// Runs the desk's inputs behind what `kv` holds.
    pub fn forward(
        &self,
        kernels: &Kernels,
        stream: &Stream,
        desk: &Desk,
        count: usize,
        kv: &Kv,
        position: &Span<u32>,
    ) -> Result<()> {
        let x = desk.x.part(0..count * self.stack.config.hidden);
        self.stack.forward(kernels, stream, &desk.room, Rows::Many, kv, position, &x)
    }

    /// A step as a program: `embed`, `forward` and `finish` of the desk's one row.
    #[allow(clippy::too_many_arguments)] // each is another owner's
    pub fn list(
        &self,
        list: &mut List,
        tables: &[&Matrix],
        desk: &Desk,
        kv: &Kv,
        position: &Span<u32>,
        hidden: &Span<f32>,
        scores: &Span<f32>,
    ) {
        for (fc, finish, from, to) in
            [(&self.fc1, Finish::Silu, &desk.text, &desk.inner), (&self.fc2, Finish::Store, &desk.inner, &desk.vector)]
        {
            list.linear(&fc.weight, fc.bias.as_ref(), None, finish, from, to);
        }
        list.embed(tables, Some(&desk.codes), Some(&desk.vector), &desk.x, 0);
        self.stack.list(list, &desk.room, kv, position, &desk.x);
        list.norm(&desk.x, &self.stack.norm, self.stack.config.rms_eps, hidden);
        list.linear(&self.head, None, None, Finish::Store, hidden, scores);
    }

    /// How its weights are stored.
    pub fn stored(&self) -> u32 {
        self.head.stored()
    }

    /// Row `row` of the desk to the hidden after the last norm and to group-0 scores.
    pub fn finish(
        &self,
        kernels: &Kernels,
        stream: &Stream,
        desk: &Desk,
        row: usize,
        hidden: &Span<f32>,
        scores: &Span<f32>,
    ) -> Result<()> {
        let (width, eps) = (self.stack.config.hidden, self.stack.config.rms_eps);
        kernels.rms_norm(stream, &desk.x.part(row * width..(row + 1) * width), &self.stack.norm, eps, hidden)?;
        kernels.linear(stream, &self.head, None, None, Finish::Store, hidden, scores)
    }
}
