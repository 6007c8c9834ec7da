//! One transformer stack over new positions: talker, predictor and codec run the same recipe (MODEL.md 4, 7).

use super::ops::{self, Attention};
use super::simd::Threads;
use crate::config::StackConfig;
use crate::weights::Stack;

/// Keys (roped) and values of one stack, a layer each, [positions][kv_heads * head_dim].
#[derive(Clone)]
pub struct Kv {
    pub layers: Vec<LayerKv>,
    /// Positions seen so far; the next one's number.
    pub position: usize,
}

#[derive(Clone, Default)]
pub struct LayerKv {
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
}

impl Kv {
    pub fn new(config: &StackConfig) -> Kv {
        Kv { layers: vec![LayerKv::default(); config.layers], position: 0 }
    }

    /// Forgets all positions and keeps the memory.
    pub fn clear(&mut self) {
        self.position = 0;
        for layer in &mut self.layers {
            layer.keys.clear();
            layer.values.clear();
        }
    }
}

/// Runs x [t][hidden] through the stack, each position attending to itself and what `kv` holds; appends to `kv`.
/// x leaves after the last norm.
pub fn forward(
    threads: &Threads,
    config: &StackConfig,
    stack: &Stack,
    window: Option<usize>,
    kv: &mut Kv,
    x: &mut [f32],
) {
    let t = x.len() / config.hidden;
    let (q_width, kv_width) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let shape = Attention { heads: config.heads, kv_heads: config.kv_heads, head_dim: config.head_dim, window };
    let mut h = vec![0.0; x.len()];
    let mut q = vec![0.0; t * q_width];
    let mut k = vec![0.0; t * kv_width];
    let mut v = vec![0.0; t * kv_width];
    let mut attended = vec![0.0; t * q_width];
    let mut gate = vec![0.0; t * config.intermediate];
    let mut up = vec![0.0; t * config.intermediate];
    let turns = ops::turns(config.head_dim, config.rope_theta, kv.position..kv.position + t);
    for (layer, kv_layer) in stack.layers.iter().zip(&mut kv.layers) {
        ops::rms_norm(threads, x, &layer.input_norm, config.rms_eps, &mut h);
        ops::linear(threads, &layer.q, None, &h, &mut q);
        ops::linear(threads, &layer.k, None, &h, &mut k);
        ops::linear(threads, &layer.v, None, &h, &mut v);
        if let Some(norm) = &layer.qk_norm {
            ops::rms_norm_in_place(threads, &mut q, &norm.q, config.rms_eps);
            ops::rms_norm_in_place(threads, &mut k, &norm.k, config.rms_eps);
        }
        ops::rope(&mut q, q_width, config.head_dim, &turns);
        ops::rope(&mut k, kv_width, config.head_dim, &turns);
        kv_layer.keys.extend_from_slice(&k);
        kv_layer.values.extend_from_slice(&v);
        ops::attention(threads, &shape, &q, &kv_layer.keys, &kv_layer.values, &mut attended);
        ops::linear(threads, &layer.o, None, &attended, &mut h);
        ops::add(x, layer.scales.as_ref().map(|s| &s.attention[..]), &h);

        ops::rms_norm(threads, x, &layer.post_norm, config.rms_eps, &mut h);
        ops::linear(threads, &layer.gate, None, &h, &mut gate);
        ops::linear(threads, &layer.up, None, &h, &mut up);
        ops::silu_mul(&mut gate, &up);
        ops::linear(threads, &layer.down, None, &gate, &mut h);
        ops::add(x, layer.scales.as_ref().map(|s| &s.mlp[..]), &h);
    }
    kv.position += t;
    ops::rms_norm_in_place(threads, x, &stack.norm, config.rms_eps);
}
