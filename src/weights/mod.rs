//! Every weight of a checkpoint as a field, bound by name, shape and dtype when it is opened, still lying
//! in the mapped file. Small vectors (norms, biases, scales) are widened to f32 here, once.

mod codec;
mod encoder;
mod file;
mod predictor;
mod speaker;
mod talker;
mod tensor;

#[cfg(feature = "cuda")]
pub use codec::Block;
pub use codec::{Codebook, CodecWeights, Conv, ConvNext, DILATIONS, PRE_TAPS, ResidualUnit, SnakeBeta, TAPS};
pub use encoder::{EncoderLayer, EncoderWeights};
#[cfg(feature = "hub")]
pub use file::Index;
pub use file::{TensorFile, TensorInfo};
pub use predictor::PredictorWeights;
pub use speaker::{SpeakerBlock, SpeakerWeights};
pub use talker::TalkerWeights;
pub(crate) use tensor::for_dtype;
pub use tensor::{Bf16, Dtype, F16, F32, Stored, Tensor};

use crate::config::{Config, StackConfig};
use crate::error::Result;
use crate::source::ModelSource;

/// A matrix `[out, in]` with its bias.
pub struct Linear {
    pub weight: Tensor,
    pub bias: Option<Vec<f32>>,
}

/// One transformer layer: talker, predictor and codec share the recipe (MODEL.md 4, 7).
pub struct Layer {
    pub input_norm: Vec<f32>,        // [hidden]
    pub q: Tensor,                   // [heads * head_dim, hidden]
    pub k: Tensor,                   // [kv_heads * head_dim, hidden]
    pub v: Tensor,                   // [kv_heads * head_dim, hidden]
    pub o: Tensor,                   // [hidden, heads * head_dim]
    pub qk_norm: Option<QkNorm>,     // talker and predictor
    pub post_norm: Vec<f32>,         // [hidden]
    pub gate: Tensor,                // [intermediate, hidden]
    pub up: Tensor,                  // [intermediate, hidden]
    pub down: Tensor,                // [hidden, intermediate]
    pub scales: Option<LayerScales>, // codec
}

pub struct QkNorm {
    pub q: Vec<f32>, // [head_dim]
    pub k: Vec<f32>, // [head_dim]
}

pub struct LayerScales {
    pub attention: Vec<f32>, // [hidden]
    pub mlp: Vec<f32>,       // [hidden]
}

/// The layers of one transformer and its last norm.
pub struct Stack {
    pub layers: Vec<Layer>,
    pub norm: Vec<f32>, // [hidden]
}

impl Stack {
    fn bind(file: &mut TensorFile, prefix: &str, config: &StackConfig, codec: bool) -> Result<Stack> {
        let (hidden, head_dim) = (config.hidden, config.head_dim);
        let (q_width, kv_width) = (config.heads * head_dim, config.kv_heads * head_dim);
        let mut layers = Vec::new(); // not by the config's word: it may be corrupt
        for i in 0..config.layers {
            let name = |part: &str| format!("{prefix}.layers.{i}.{part}");
            let qk_norm = match codec {
                true => None,
                false => Some(QkNorm {
                    q: file.vector(&name("self_attn.q_norm.weight"), head_dim)?,
                    k: file.vector(&name("self_attn.k_norm.weight"), head_dim)?,
                }),
            };
            let scales = match codec {
                false => None,
                true => Some(LayerScales {
                    attention: file.vector(&name("self_attn_layer_scale.scale"), hidden)?,
                    mlp: file.vector(&name("mlp_layer_scale.scale"), hidden)?,
                }),
            };
            layers.push(Layer {
                input_norm: file.vector(&name("input_layernorm.weight"), hidden)?,
                q: file.bind(&name("self_attn.q_proj.weight"), &[q_width, hidden])?,
                k: file.bind(&name("self_attn.k_proj.weight"), &[kv_width, hidden])?,
                v: file.bind(&name("self_attn.v_proj.weight"), &[kv_width, hidden])?,
                o: file.bind(&name("self_attn.o_proj.weight"), &[hidden, q_width])?,
                qk_norm,
                post_norm: file.vector(&name("post_attention_layernorm.weight"), hidden)?,
                gate: file.bind(&name("mlp.gate_proj.weight"), &[config.intermediate, hidden])?,
                up: file.bind(&name("mlp.up_proj.weight"), &[config.intermediate, hidden])?,
                down: file.bind(&name("mlp.down_proj.weight"), &[hidden, config.intermediate])?,
                scales,
            });
        }
        Ok(Stack { layers, norm: file.vector(&format!("{prefix}.norm.weight"), hidden)? })
    }
}

impl TensorFile {
    /// A vector of `len` numbers, widened.
    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        Ok(self.bind(name, &[len])?.to_f32())
    }

    /// `{prefix}.weight` `[out, in]` with `{prefix}.bias`.
    fn linear(&mut self, prefix: &str, out: usize, input: usize) -> Result<Linear> {
        let weight = self.bind(&format!("{prefix}.weight"), &[out, input])?;
        Ok(Linear { weight, bias: Some(self.vector(&format!("{prefix}.bias"), out)?) })
    }
}

/// All that speaking needs, and what makes a voice of a recording where the checkpoint has it.
pub struct Weights {
    pub talker: TalkerWeights,
    pub predictor: PredictorWeights,
    pub codec: CodecWeights,
    pub encoder: Option<EncoderWeights>,
    pub speaker: Option<SpeakerWeights>,
}

impl Weights {
    /// The two files, without their ending.
    pub const STEMS: [&str; 2] = ["model", "speech_tokenizer/model"];

    /// Maps and binds `model.safetensors` and `speech_tokenizer/model.safetensors` (or their shards).
    pub fn open(source: &ModelSource, config: &Config) -> Result<Weights> {
        let mut model = TensorFile::open(source, Self::STEMS[0])?;
        let talker = TalkerWeights::bind(&mut model, config)?;
        let predictor = PredictorWeights::bind(&mut model, config)?;
        let speaker = match &config.speaker_encoder {
            Some(speaker) => SpeakerWeights::bind(&mut model, speaker, config.talker.hidden)?,
            None => None,
        };
        let no_speaker = speaker.is_none(); // of a kind that has none, a leftover of the Base model it was tuned from
        model.finish(|name| no_speaker && name.starts_with(speaker::PREFIX))?;
        let mut file = TensorFile::open(source, Self::STEMS[1])?;
        let codec = CodecWeights::bind(&mut file, &config.codec)?;
        let encoder = match &config.encoder {
            Some(encoder) => EncoderWeights::bind(&mut file, encoder, &config.codec)?,
            None => None,
        };
        let unused = |name: &str| match encoder {
            Some(_) => encoder::is_unused(name),
            None => name.starts_with(encoder::PREFIX),
        };
        file.finish(|name| unused(name) || codec::is_unused(name))?;
        Ok(Weights { talker, predictor, codec, encoder, speaker })
    }

    /// The two tensor files, unbound: to list them.
    pub fn files(source: &ModelSource) -> Result<[TensorFile; 2]> {
        Ok([TensorFile::open(source, Self::STEMS[0])?, TensorFile::open(source, Self::STEMS[1])?])
    }
}
