//! The code predictor on the device: groups 1 to 15 of a frame from the talker's hidden and group 0, in the launches' order.
//! Its twin is `crate::cpu`'s predictor.

use super::kernels::{Finish, Kernels, SpeakerMemory};
use super::program::List;
use super::stack::{Kv, Room, Stack};
use super::upload::{Linear, Matrix, Uploader};
use crate::config::Config;
use crate::driver::{Buffer, Context, Span, Stream};
use crate::error::Result;
use crate::frame::GROUPS;
use crate::weights::Weights;
use std::sync::Arc;

/// The predictor's weights on the device.
pub(crate) struct Predictor {
    /// Tables of groups 1 to 15, as wide as the talker: what is fed back to it.
    pub embeddings: Vec<Matrix>,
    projection: Option<Projected>,
    stack: Stack,
    heads: Vec<Matrix>,
}

/// Where the talker is wider: the way from its width to the predictor's, and the tables of groups 0 to 14 that have gone it
/// already, in f32. A row is what `linear` makes of it, to the bit, so nothing is lost by doing it once.
struct Projected {
    linear: Linear,
    tables: Vec<(Matrix, Span<f32>)>,
}

/// Scratch of a frame.
pub(crate) struct Desk {
    x: Span<f32>, // [2][hidden]
    /// Scores of groups 1 to 15, [15][codes].
    pub scores: Span<f32>,
    positions: Span<u32>, // [GROUPS]: 0, 1, 2, …
    kv: Kv,
    room: Room,
}

impl Desk {
    pub fn new(context: &Arc<Context>, stream: &Stream, config: &Config) -> Result<Desk> {
        let positions: [u32; GROUPS] = std::array::from_fn(|i| i as u32);
        Ok(Desk {
            x: Span::new(context, 2 * config.predictor.hidden)?,
            scores: Span::new(context, (GROUPS - 1) * config.codes)?,
            positions: Span::from(stream, &positions)?,
            kv: Kv::runs(context, &config.predictor, GROUPS)?,
            room: Room::new(context, &config.predictor, None, false, 2)?,
        })
    }

    pub fn buffers(&self) -> Vec<Buffer> {
        let mut buffers = self.room.buffers();
        buffers.extend([self.x.buffer(), self.scores.buffer()].map(Buffer::clone));
        buffers.push(self.positions.buffer().clone());
        buffers
    }
}

impl Predictor {
    pub fn upload(uploader: &mut Uploader, weights: &Weights, config: &Config) -> Result<Predictor> {
        let w = &weights.predictor;
        let projection = match &w.projection {
            None => None,
            Some(linear) => {
                let linear = Linear::upload(uploader, linear)?;
                let rows = |group| if group == 0 { config.talker_vocab } else { config.codes };
                let table = |group| Matrix::of_floats(uploader, rows(group), config.predictor.hidden);
                Some(Projected { linear, tables: (0..GROUPS - 1).map(table).collect() })
            }
        };
        let embeddings = w.embeddings.iter().map(|table| uploader.matrix(table)).collect::<Result<_>>()?;
        let heads = w.heads.iter().map(|head| uploader.matrix(head)).collect::<Result<_>>()?;
        let stack = Stack::upload(uploader, &w.stack, &config.predictor, GROUPS)?;
        Ok(Predictor { embeddings, projection, stack, heads })
    }

    /// Fills the projected tables, once, after the upload.
    pub fn project(&self, kernels: &Kernels, stream: &Stream, codec_embedding: &Matrix) -> Result<()> {
        const TOGETHER: usize = 256;
        let Some(Projected { linear, tables }) = &self.projection else { return Ok(()) };
        let context = stream.context();
        let wide: Span<f32> = Span::new(context, TOGETHER * linear.weight.width)?;
        let most = tables.iter().map(|(table, _)| table.rows).max().unwrap_or(0);
        let all: Vec<u32> = (0..most as u32).collect();
        let codes = Span::from(stream, &all)?;
        for ((table, floats), from) in tables.iter().zip(std::iter::once(codec_embedding).chain(&self.embeddings)) {
            for first in (0..table.rows).step_by(TOGETHER) {
                let rows = first..(first + TOGETHER).min(table.rows);
                let wide = wide.part(0..rows.len() * linear.weight.width);
                kernels.embed(stream, &[from], &codes.part(rows.clone()), None, &wide)?;
                let to = floats.part(rows.start * table.width..rows.end * table.width);
                kernels.linear(stream, &linear.weight, linear.bias.as_ref(), None, Finish::Store, &wide, &to)?;
            }
        }
        stream.synchronize()
    }

    /// As a program: chooses groups 1 to 15 behind group 0, whose choice is the newest.
    pub fn list(
        &self,
        list: &mut List,
        codec_embedding: &Matrix,
        desk: &Desk,
        speaker: &SpeakerMemory,
        hidden: &Span<f32>,
    ) {
        let (width, eps) = (self.stack.config.hidden, self.stack.config.rms_eps);
        let (first, second) = (desk.x.part(0..width), desk.x.part(width..2 * width));
        if let Some(Projected { linear, .. }) = &self.projection {
            list.linear(&linear.weight, linear.bias.as_ref(), None, Finish::Store, hidden, &first);
        }
        let codes_each = desk.scores.len() / self.heads.len();
        for (group, head) in (1..).zip(&self.heads) {
            let table = match &self.projection {
                Some(projected) => &projected.tables[group - 1].0,
                None if group == 1 => codec_embedding,
                None => &self.embeddings[group - 2],
            };
            // The first pass has two positions, the talker's hidden and group 0; each other one, the group before.
            let (x, last, position) = match group {
                1 => (&desk.x, &second, 0),
                _ => (&first, &first, group),
            };
            if group == 1 {
                let row = if self.projection.is_some() { &first } else { hidden };
                list.embed(&[], None, Some(row), &first, 0);
            }
            list.embed(&[table], None, None, last, (group == 1).into());
            let position = desk.positions.part(position..position + 1);
            self.stack.list(list, &desk.room, &desk.kv, &position, x);
            let scores = desk.scores.part((group - 1) * codes_each..group * codes_each);
            list.linear(head, None, Some((&self.stack.norm, eps)), Finish::Store, last, &scores);
            list.sample(speaker, group, None, &scores);
        }
    }
}
