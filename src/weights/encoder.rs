//! The codec encoder's tensors (MODEL.md 8), in the order of the signal.

use super::{Codebook, Conv, LayerScales, Tensor, TensorFile};
use crate::config::{CodecConfig, EncoderConfig};
use crate::error::Result;
use crate::frame::GROUPS;

/// What every tensor of the codec encoder begins with.
pub(super) const PREFIX: &str = "encoder.";

/// x + conv2(elu(conv1(elu(x)))), then an elu and a convolution that shortens the signal.
pub struct Stage {
    pub conv1: Conv,   // [c / 2, c, residual kernel]
    pub conv2: Conv,   // [c, c / 2, 1]
    pub shorten: Conv, // [2 c, c, 2 stride]
    pub stride: usize,
}

/// One transformer layer: LayerNorm where the decoder has RMS norm, and a plain feed-forward part.
pub struct EncoderLayer {
    pub input_norm: Vec<f32>, // [hidden]
    pub input_norm_bias: Vec<f32>,
    pub q: Tensor, // [heads * head_dim, hidden]
    pub k: Tensor,
    pub v: Tensor,
    pub o: Tensor,           // [hidden, heads * head_dim]
    pub post_norm: Vec<f32>, // [hidden]
    pub post_norm_bias: Vec<f32>,
    pub fc1: Tensor, // [intermediate, hidden]
    pub fc2: Tensor, // [hidden, intermediate]
    pub scales: LayerScales,
}

pub struct EncoderWeights {
    pub first: Conv, // [filters, 1, kernel]
    pub stages: Vec<Stage>,
    pub last: Conv, // [hidden, filters * 2^stages, last kernel]
    pub layers: Vec<EncoderLayer>,
    pub halve: Conv,                 // [hidden, hidden, 4], no bias
    pub semantic_projection: Tensor, // group 0: [codebook_dim, hidden, 1]
    pub acoustic_projection: Tensor, // groups 1..16
    pub codebooks: Vec<Codebook>,    // a group each, rows [codebook_dim]
}

/// Tensors of the encoder that encoding does not use: the way back, flags of training, and codebooks behind the 16th.
pub(super) fn is_unused(name: &str) -> bool {
    let Some(name) = name.strip_prefix("encoder.quantizer.") else { return false };
    name.ends_with(".output_proj.weight") || name.ends_with(".codebook.initialized") || late_layer(name)
}

fn late_layer(name: &str) -> bool {
    let layer = name.strip_prefix("acoustic_residual_vector_quantizer.layers.").and_then(|n| n.split_once('.'));
    layer.and_then(|(number, _)| number.parse().ok()).is_some_and(|number: usize| number >= GROUPS - 1)
}

impl EncoderWeights {
    /// `None` where the file holds none of it: then it can speak, and not listen.
    pub(super) fn bind(
        file: &mut TensorFile,
        config: &EncoderConfig,
        codec: &CodecConfig,
    ) -> Result<Option<EncoderWeights>> {
        if !file.holds(PREFIX) {
            return Ok(None);
        }
        let [kernel, residual_kernel, last_kernel] = config.kernels;
        let (hidden, width) = (config.hidden, config.heads * config.head_dim);
        let layer_name = |layer: usize, part: &str| format!("encoder.encoder.layers.{layer}.{part}");
        let first = file.conv(&layer_name(0, "conv"), [config.filters, 1, kernel], false)?;
        let mut channels = config.filters;
        let mut stages = Vec::new();
        for (i, &stride) in config.strides.iter().enumerate() {
            // Elus count as layers upstream: a residual unit, an elu, a convolution.
            let unit = |part: &str| layer_name(3 * i + 1, part);
            stages.push(Stage {
                conv1: file.conv(&unit("block.1.conv"), [channels / 2, channels, residual_kernel], false)?,
                conv2: file.conv(&unit("block.3.conv"), [channels, channels / 2, 1], false)?,
                shorten: file.conv(&layer_name(3 * i + 3, "conv"), [2 * channels, channels, 2 * stride], false)?,
                stride,
            });
            channels *= 2;
        }
        let end = 3 * config.strides.len() + 2;
        let last = file.conv(&layer_name(end, "conv"), [hidden, channels, last_kernel], false)?;

        let mut layers = Vec::new();
        for i in 0..config.layers {
            let name = |part: &str| format!("encoder.encoder_transformer.layers.{i}.{part}");
            layers.push(EncoderLayer {
                input_norm: file.vector(&name("input_layernorm.weight"), hidden)?,
                input_norm_bias: file.vector(&name("input_layernorm.bias"), hidden)?,
                q: file.bind(&name("self_attn.q_proj.weight"), &[width, hidden])?,
                k: file.bind(&name("self_attn.k_proj.weight"), &[width, hidden])?,
                v: file.bind(&name("self_attn.v_proj.weight"), &[width, hidden])?,
                o: file.bind(&name("self_attn.o_proj.weight"), &[hidden, width])?,
                post_norm: file.vector(&name("post_attention_layernorm.weight"), hidden)?,
                post_norm_bias: file.vector(&name("post_attention_layernorm.bias"), hidden)?,
                fc1: file.bind(&name("mlp.fc1.weight"), &[config.intermediate, hidden])?,
                fc2: file.bind(&name("mlp.fc2.weight"), &[hidden, config.intermediate])?,
                scales: LayerScales {
                    attention: file.vector(&name("self_attn_layer_scale.scale"), hidden)?,
                    mlp: file.vector(&name("mlp_layer_scale.scale"), hidden)?,
                },
            });
        }

        let quantizer = |part: &str, rest: &str| format!("encoder.quantizer.{part}_residual_vector_quantizer.{rest}");
        let projection = [config.codebook_dim, hidden, 1];
        let mut codebooks = Vec::with_capacity(GROUPS);
        for group in 0..GROUPS {
            let (part, layer) = if group == 0 { ("semantic", 0) } else { ("acoustic", group - 1) };
            let prefix = quantizer(part, &format!("layers.{layer}.codebook"));
            let rows = [codec.codebook_size, config.codebook_dim];
            codebooks.push(Codebook {
                embedding_sum: file.bind(&format!("{prefix}.embed_sum"), &rows)?,
                cluster_usage: file.vector(&format!("{prefix}.cluster_usage"), codec.codebook_size)?,
            });
        }
        Ok(Some(EncoderWeights {
            first,
            stages,
            last,
            layers,
            halve: Conv {
                weight: file.bind("encoder.downsample.conv.weight", &[hidden, hidden, 4])?,
                bias: vec![0.0; hidden],
            },
            semantic_projection: file.bind(&quantizer("semantic", "input_proj.weight"), &projection)?,
            acoustic_projection: file.bind(&quantizer("acoustic", "input_proj.weight"), &projection)?,
            codebooks,
        }))
    }
}

#[cfg(test)]
mod tests {
    //! Would catch a codebook or projection that counts and is taken for one that does not.
    use super::is_unused;

    #[test]
    fn what_encoding_leaves_alone() {
        let acoustic = |rest: &str| is_unused(&format!("encoder.quantizer.acoustic_residual_vector_quantizer.{rest}"));
        assert!(acoustic("layers.15.codebook.embed_sum") && acoustic("layers.30.codebook.cluster_usage"));
        assert!(acoustic("output_proj.weight") && acoustic("layers.0.codebook.initialized"));
        assert!(!acoustic("layers.14.codebook.embed_sum") && !acoustic("input_proj.weight"));
        assert!(!is_unused("encoder.encoder.layers.15.conv.weight") && !is_unused("encoder.downsample.conv.weight"));
    }
}
