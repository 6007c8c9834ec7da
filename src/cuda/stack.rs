//! One transformer stack over new positions, as [`crate::cpu`]'s: talker, predictor and codec run the same launches.

use super::args;
use super::kernels::{Attention, Finish, Kernels, Place, QkNorm, Store};
use super::program::List;
use super::upload::{Matrix, Uploader};
use crate::config::StackConfig;
use crate::cpu::ops;
use crate::device::KvNumbers;
use crate::driver::{Buffer, Context, Span, Stream};
use crate::error::Result;
use crate::weights;
use std::sync::Arc;

/// Blocks that share a query's positions where it may see thousands.
const SPANS: usize = 16;
/// Rows whose attention leaves its parts at a time.
const ATTENTION_ROWS: usize = 32;
/// Positions of a page of keys and values.
pub(crate) const PAGE_POSITIONS: usize = args::PAGE_POSITIONS as usize;

struct Layer {
    input_norm: Span<f32>,
    qkv: Matrix, // [heads + 2 kv_heads][head_dim] rows
    qk_norm: Option<(Span<f32>, Span<f32>)>,
    o: Matrix,
    post_norm: Span<f32>,
    gate_up: Matrix, // gate, up in turns
    down: Matrix,
    scales: Option<(Span<f32>, Span<f32>)>,
}

/// A stack's weights on the device.
pub(crate) struct Stack {
    layers: Vec<Layer>,
    /// The last norm, which is for the caller to apply.
    pub norm: Span<f32>,
    turns: Span<f32>, // [positions][head_dim / 2] of (sin, cos)
    pub config: StackConfig,
}

/// Scratch for a stack's rows.
pub(crate) struct Room {
    h: Span<f32>,
    qkv: Span<f32>,
    attended: Span<f32>,
    gate: Span<f32>,
    parts: Span<f32>,
    shape: Attention,
}

/// Keys and values of all layers.
pub(crate) enum Kv {
    /// A run each: of `capacity` positions, the later in place of the earlier.
    Runs { layers: Vec<(Span<u8>, Span<u8>)>, capacity: usize },
    /// In a speaker's pages, each with all layers.
    Pages { list: Span<u64>, numbers: KvNumbers },
}

/// How a stack's rows are multiplied. Bits differ between the two, and within one they do not depend on the rows.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Rows {
    /// A packet's of the codec.
    Few,
    /// A prompt's.
    Many,
}

impl Stack {
    /// `positions`: how many it may see.
    pub fn upload(
        uploader: &mut Uploader,
        weights: &weights::Stack,
        config: &StackConfig,
        positions: usize,
    ) -> Result<Stack> {
        let mut layers = Vec::with_capacity(weights.layers.len());
        for layer in &weights.layers {
            let mut pair = |a: &[f32], b: &[f32]| Ok((uploader.floats(a)?, uploader.floats(b)?));
            layers.push(Layer {
                qk_norm: layer.qk_norm.as_ref().map(|norm| pair(&norm.q, &norm.k)).transpose()?,
                scales: layer.scales.as_ref().map(|scales| pair(&scales.attention, &scales.mlp)).transpose()?,
                input_norm: uploader.floats(&layer.input_norm)?,
                qkv: uploader.stacked(&[&layer.q, &layer.k, &layer.v])?,
                o: uploader.matrix(&layer.o)?,
                post_norm: uploader.floats(&layer.post_norm)?,
                gate_up: uploader.in_turns(&layer.gate, &layer.up)?,
                down: uploader.matrix(&layer.down)?,
            });
        }
        let turns = || ops::turns(config.head_dim, config.rope_theta, 0..positions);
        let turns = uploader.made(positions * config.head_dim, || turns().iter().flat_map(|t| [t.0, t.1]).collect())?;
        Ok(Stack { layers, norm: uploader.floats(&weights.norm)?, turns, config: config.clone() })
    }

    /// Runs x [rows][hidden] through the layers, in place; its rows stand from `position` on, behind what `kv` holds. What
    /// leaves has yet to pass the last norm.
    #[allow(clippy::too_many_arguments)] // each is another owner's
    pub fn forward(
        &self,
        kernels: &Kernels,
        stream: &Stream,
        room: &Room,
        rows: Rows,
        kv: &Kv,
        position: &Span<u32>,
        x: &Span<f32>,
    ) -> Result<()> {
        let (config, shape) = (&self.config, &room.shape);
        let count = x.len() / config.hidden;
        let qkv = room.qkv.part(0..count * shape.qkv_width());
        let q_width = config.heads * config.head_dim;
        let attended = room.attended.part(0..count * q_width);
        let gate = room.gate.part(0..count * config.intermediate);
        let h = room.h.part(0..count * config.hidden);
        // With many rows the norm is worth a launch of its own.
        let normed = |weight: &Matrix, norm, finish, to: &Span<f32>| match rows {
            Rows::Few => kernels.linear(stream, weight, None, Some((norm, config.rms_eps)), finish, x, to),
            Rows::Many => {
                kernels.rms_norm(stream, x, norm, config.rms_eps, &h)?;
                kernels.gemm(stream, weight, None, finish, &h, to)
            }
        };
        let plain = |weight: &Matrix, finish, from: &Span<f32>| match rows {
            Rows::Few => kernels.linear(stream, weight, None, None, finish, from, x),
            Rows::Many => kernels.gemm(stream, weight, None, finish, from, x),
        };
        for (i, layer) in self.layers.iter().enumerate() {
            let store = kv.layer(i, config);
            normed(&layer.qkv, &layer.input_norm, Finish::Store, &qkv)?;
            let norm = layer.qk_norm.as_ref().map(|(q, k)| QkNorm { q, k, eps: config.rms_eps });
            kernels.append(stream, shape, norm, &self.turns, position, &qkv, &store)?;
            // The parts of many rows would be larger than all else.
            for (piece, first) in (0..count).step_by(ATTENTION_ROWS).enumerate() {
                let rows = first..(first + ATTENTION_ROWS).min(count);
                let qkv = qkv.part(rows.start * shape.qkv_width()..rows.end * shape.qkv_width());
                let attended = attended.part(rows.start * q_width..rows.end * q_width);
                let behind = piece * ATTENTION_ROWS;
                kernels.attention(stream, shape, position, behind, &qkv, &store, &room.parts, &attended)?;
            }
            let (attention_scale, mlp_scale) = layer.scales.as_ref().map(|(a, m)| (a, m)).unzip();
            plain(&layer.o, Finish::Add(attention_scale), &attended)?;
            normed(&layer.gate_up, &layer.post_norm, Finish::Gate, &gate)?;
            plain(&layer.down, Finish::Add(mlp_scale), &gate)?;
        }
        Ok(())
    }
}

impl Stack {
    /// As `forward` with few rows, as a part of a program.
    pub fn list(&self, list: &mut List, room: &Room, kv: &Kv, position: &Span<u32>, x: &Span<f32>) {
        let (config, shape) = (&self.config, &room.shape);
        let count = x.len() / config.hidden;
        let qkv = room.qkv.part(0..count * shape.qkv_width());
        let attended = room.attended.part(0..count * config.heads * config.head_dim);
        let gate = room.gate.part(0..count * config.intermediate);
        for (i, layer) in self.layers.iter().enumerate() {
            let eps = config.rms_eps;
            let qk_norm = layer.qk_norm.as_ref().map(|(q, k)| QkNorm { q, k, eps });
            let (attention_scale, mlp_scale) = layer.scales.as_ref().map(|(a, m)| (a, m)).unzip();
            list.linear(&layer.qkv, None, Some((&layer.input_norm, eps)), Finish::Store, x, &qkv);
            list.attend(shape, qk_norm, &self.turns, position, &qkv, &kv.layer(i, config), &room.parts, &attended);
            list.linear(&layer.o, None, None, Finish::Add(attention_scale), &attended, x);
            list.linear(&layer.gate_up, None, Some((&layer.post_norm, eps)), Finish::Gate, x, &gate);
            list.linear(&layer.down, None, None, Finish::Add(mlp_scale), &gate, x);
        }
    }
}

impl Room {
    /// For so many rows. `window`: positions that a row sees, where it does not see all; `far`: it may see thousands.
    pub fn new(
        context: &Arc<Context>,
        config: &StackConfig,
        window: Option<usize>,
        far: bool,
        rows: usize,
    ) -> Result<Room> {
        let (heads, kv_heads, head_dim) = (config.heads, config.kv_heads, config.head_dim);
        let shape = Attention { heads, kv_heads, head_dim, window, spans: if far { SPANS } else { 1 } };
        Ok(Room {
            h: Span::new(context, rows * config.hidden)?,
            qkv: Span::new(context, rows * shape.qkv_width())?,
            attended: Span::new(context, rows * heads * head_dim)?,
            gate: Span::new(context, rows * config.intermediate)?,
            parts: Span::new(context, shape.parts_len(rows.min(ATTENTION_ROWS)))?,
            shape,
        })
    }

    /// For a recording's list.
    pub fn buffers(&self) -> Vec<Buffer> {
        [&self.h, &self.qkv, &self.attended, &self.gate, &self.parts].map(|span| span.buffer().clone()).to_vec()
    }
}

impl Kv {
    /// Runs of `capacity` positions in f32.
    pub fn runs(context: &Arc<Context>, config: &StackConfig, capacity: usize) -> Result<Kv> {
        let bytes = capacity * position_bytes(config, KvNumbers::F32);
        let block = Buffer::new(context, config.layers * 2 * bytes)?;
        let run = |i| block.span(i * bytes, bytes);
        Ok(Kv::Runs { layers: (0..config.layers).map(|i| (run(2 * i), run(2 * i + 1))).collect(), capacity })
    }

    fn layer(&self, i: usize, config: &StackConfig) -> Store {
        match self {
            Kv::Runs { layers, capacity } => {
                let (keys, values) = layers[i].clone();
                Store { numbers: KvNumbers::F32, capacity: *capacity, place: Place::Run { keys, values } }
            }
            Kv::Pages { list, numbers } => {
                let bytes = (PAGE_POSITIONS * position_bytes(config, *numbers)) as u64;
                let (keys_at, values_at) = (2 * i as u64 * bytes, (2 * i as u64 + 1) * bytes);
                let place = Place::Pages { list: list.clone(), keys_at, values_at };
                Store { numbers: *numbers, capacity: PAGE_POSITIONS, place }
            }
        }
    }
}

/// Of one position's keys in one layer.
fn position_bytes(config: &StackConfig, numbers: KvNumbers) -> usize {
    config.kv_heads * config.head_dim * numbers.bytes()
}

/// Of a page: all layers' keys and values.
pub(crate) fn page_bytes(config: &StackConfig, numbers: KvNumbers) -> usize {
    config.layers * 2 * PAGE_POSITIONS * position_bytes(config, numbers)
}
