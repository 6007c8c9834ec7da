//! The codec decoder's tensors (MODEL.md 7), in the order of the signal.

use super::{Linear, Stack, Tensor, TensorFile};
use crate::config::CodecConfig;
use crate::error::Result;
use crate::frame::GROUPS;

/// A table of rows stored as sums and usage counts: row = sum / max(usage, 1e-5).
pub struct Codebook {
    pub embedding_sum: Tensor,   // [codebook_size, width]: of the decoder codebook_dim / 2
    pub cluster_usage: Vec<f32>, // [codebook_size]
}

impl Codebook {
    /// A row, as wide as the table.
    pub fn read_row(&self, row: usize, to: &mut [f32]) {
        self.embedding_sum.read_row(row, to);
        let usage = self.cluster_usage[row];
        let usage = if usage < 1e-5 { 1e-5 } else { usage }; // not `max`: NaN must stay NaN, so that it is found
        to.iter_mut().for_each(|x| *x /= usage);
    }
}

/// A convolution. Plain: weight [out, in, k]; transposed: [in, out, k].
pub struct Conv {
    pub weight: Tensor,
    pub bias: Vec<f32>, // [out]
}

/// x + inv_beta * sin(alpha x)^2, the two already out of log scale.
pub struct SnakeBeta {
    pub alpha: Vec<f32>,    // exp(alpha), per channel
    pub inv_beta: Vec<f32>, // 1 / (exp(beta) + 1e-9), per channel
}

/// Upsampling with a ConvNeXt block behind it.
pub struct ConvNext {
    pub upsample: Conv,      // transposed [latent, latent, ratio]
    pub depthwise: Vec<f32>, // [latent, 7]
    pub depthwise_bias: Vec<f32>,
    pub norm: Vec<f32>, // LayerNorm over channels
    pub norm_bias: Vec<f32>,
    pub pointwise1: Linear, // [4 latent, latent]
    pub pointwise2: Linear, // [latent, 4 latent]
    pub gamma: Vec<f32>,
}

/// x + conv2(snake2(conv1(snake1(x)))).
pub struct ResidualUnit {
    pub snake1: SnakeBeta,
    pub conv1: Conv, // [c, c, 7]
    pub dilation: usize,
    pub snake2: SnakeBeta,
    pub conv2: Conv, // [c, c, 1]
}

/// One upsampling stage of the decoder.
pub struct Block {
    pub snake: SnakeBeta,
    pub upsample: Conv, // transposed [c_in, c_in / 2, 2 rate]
    pub rate: usize,
    pub units: Vec<ResidualUnit>,
}

pub struct CodecWeights {
    pub codebooks: Vec<Codebook>, // a group each
    pub first_projection: Tensor, // group 0: [codebook_dim, codebook_dim / 2, 1]
    pub rest_projection: Tensor,  // groups 1..16, summed
    pub pre_conv: Conv,           // [latent, codebook_dim, 3]
    pub input_projection: Linear, // [hidden, latent]
    pub stack: Stack,
    pub output_projection: Linear, // [latent, hidden]
    pub upsamples: Vec<ConvNext>,
    pub decoder_in: Conv, // [decoder_dim, latent, 7]
    pub blocks: Vec<Block>,
    pub last_snake: SnakeBeta,
    pub decoder_out: Conv, // [1, decoder_dim / 2^blocks, 7]
}

/// Taps of every convolution that is not the pre-conv, an upsampler or pointwise.
pub const TAPS: usize = 7;
/// Taps of the pre-conv.
pub const PRE_TAPS: usize = 3;
/// Dilations of a block's residual units.
pub const DILATIONS: [usize; 3] = [1, 3, 9];

/// Tensors of the decoder that decoding does not use.
pub(super) fn is_unused(name: &str) -> bool {
    name.starts_with("decoder.quantizer.") && name.ends_with(".input_proj.weight")
}

impl TensorFile {
    pub(super) fn conv(&mut self, prefix: &str, shape: [usize; 3], transposed: bool) -> Result<Conv> {
        let out = if transposed { shape[1] } else { shape[0] };
        let weight = self.bind(&format!("{prefix}.weight"), &shape)?;
        Ok(Conv { weight, bias: self.vector(&format!("{prefix}.bias"), out)? })
    }

    fn snake(&mut self, prefix: &str, channels: usize) -> Result<SnakeBeta> {
        let alpha = self.vector(&format!("{prefix}.alpha"), channels)?;
        let beta = self.vector(&format!("{prefix}.beta"), channels)?;
        Ok(SnakeBeta {
            alpha: alpha.iter().map(|a| a.exp()).collect(),
            inv_beta: beta.iter().map(|b| 1.0 / (b.exp() + 1e-9)).collect(),
        })
    }
}

impl CodecWeights {
    pub(super) fn bind(file: &mut TensorFile, config: &CodecConfig) -> Result<CodecWeights> {
        let (latent, book) = (config.latent_dim, config.codebook_dim);
        let hidden = config.transformer.hidden;

        let mut codebooks = Vec::with_capacity(GROUPS);
        for group in 0..GROUPS {
            let place = match group {
                0 => "rvq_first.vq.layers.0".to_owned(),
                _ => format!("rvq_rest.vq.layers.{}", group - 1),
            };
            let prefix = format!("decoder.quantizer.{place}._codebook");
            codebooks.push(Codebook {
                embedding_sum: file.bind(&format!("{prefix}.embedding_sum"), &[config.codebook_size, book / 2])?,
                cluster_usage: file.vector(&format!("{prefix}.cluster_usage"), config.codebook_size)?,
            });
        }
        let projection = |part: &str| format!("decoder.quantizer.{part}.output_proj.weight");
        let first_projection = file.bind(&projection("rvq_first"), &[book, book / 2, 1])?;
        let rest_projection = file.bind(&projection("rvq_rest"), &[book, book / 2, 1])?;

        let mut upsamples = Vec::new();
        for (i, &ratio) in config.upsampling_ratios.iter().enumerate() {
            let name = |part: &str| format!("decoder.upsample.{i}.{part}");
            upsamples.push(ConvNext {
                upsample: file.conv(&name("0.conv"), [latent, latent, ratio], true)?,
                depthwise: file.bind(&name("1.dwconv.conv.weight"), &[latent, 1, TAPS])?.to_f32(),
                depthwise_bias: file.vector(&name("1.dwconv.conv.bias"), latent)?,
                norm: file.vector(&name("1.norm.weight"), latent)?,
                norm_bias: file.vector(&name("1.norm.bias"), latent)?,
                pointwise1: file.linear(&name("1.pwconv1"), 4 * latent, latent)?,
                pointwise2: file.linear(&name("1.pwconv2"), latent, 4 * latent)?,
                gamma: file.vector(&name("1.gamma"), latent)?,
            });
        }

        let mut channels = config.decoder_dim;
        let decoder_in = file.conv("decoder.decoder.0.conv", [channels, latent, TAPS], false)?;
        let mut blocks = Vec::new();
        for (i, &rate) in config.upsample_rates.iter().enumerate() {
            let name = |part: &str| format!("decoder.decoder.{}.block.{part}", i + 1);
            let half = channels / 2;
            let snake = file.snake(&name("0"), channels)?;
            let upsample = file.conv(&name("1.conv"), [channels, half, 2 * rate], true)?;
            let mut units = Vec::new();
            for (j, dilation) in DILATIONS.into_iter().enumerate() {
                let unit = |part: &str| name(&format!("{}.{part}", j + 2));
                units.push(ResidualUnit {
                    snake1: file.snake(&unit("act1"), half)?,
                    conv1: file.conv(&unit("conv1.conv"), [half, half, TAPS], false)?,
                    dilation,
                    snake2: file.snake(&unit("act2"), half)?,
                    conv2: file.conv(&unit("conv2.conv"), [half, half, 1], false)?,
                });
            }
            blocks.push(Block { snake, upsample, rate, units });
            channels = half;
        }
        let end = config.upsample_rates.len() + 1;

        Ok(CodecWeights {
            codebooks,
            first_projection,
            rest_projection,
            pre_conv: file.conv("decoder.pre_conv.conv", [latent, book, PRE_TAPS], false)?,
            input_projection: file.linear("decoder.pre_transformer.input_proj", hidden, latent)?,
            stack: Stack::bind(file, "decoder.pre_transformer", &config.transformer, true)?,
            output_projection: file.linear("decoder.pre_transformer.output_proj", latent, hidden)?,
            upsamples,
            decoder_in,
            blocks,
            last_snake: file.snake(&format!("decoder.decoder.{end}"), channels)?,
            decoder_out: file.conv(&format!("decoder.decoder.{}.conv", end + 1), [1, channels, TAPS], false)?,
        })
    }
}
