//! config.json, speech_tokenizer/config.json and generation_config.json as facts. Refuses values that this
//! engine does not know, by field and file; keys that have no effect upstream are left alone.

use crate::error::{Error, Result};
use crate::frame::{GROUPS, SAMPLE_RATE, SAMPLES_PER_FRAME};
use crate::request::SamplingOptions;
use crate::source::ModelSource;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What a checkpoint was trained for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// Speaks in the voice of a reference.
    Base,
    /// Speaks in preset voices.
    CustomVoice,
    /// Speaks in a voice described in words.
    VoiceDesign,
}

/// One transformer stack: talker, predictor, or the codec's.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside the feed-forward part.
    pub intermediate: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves heads / kv_heads consecutive query heads.
    pub kv_heads: usize,
    /// Width of a head; heads * head_dim need not be `hidden`.
    pub head_dim: usize,
    /// Added to the mean square in each norm.
    pub rms_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
}

/// Codec-vocabulary ids that steer the talker.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // the names are the published ones
pub struct CodecControls {
    pub pad: u32,
    pub bos: u32,
    pub eos: u32,
    pub think: u32,
    pub nothink: u32,
    pub think_bos: u32,
    pub think_eos: u32,
}

/// Text-vocabulary ids that steer the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the published ones
pub struct TextControls {
    pub im_start: u32,
    pub im_end: u32,
    pub tts_pad: u32,
    pub tts_bos: u32,
    pub tts_eos: u32,
    pub assistant: u32,
}

/// A preset voice: its row in the codec embedding, and the dialect that it speaks by nature.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// Row of the codec embedding.
    pub id: u32,
    /// The language that it speaks when none or Chinese is asked for.
    pub dialect: Option<String>,
}

/// The codec decoder's facts.
#[derive(Clone, Debug)]
pub struct CodecConfig {
    /// Channels between the pre-conv and the decoder.
    pub latent_dim: usize,
    /// Channels of the dequantised latent; a codebook row is half as wide.
    pub codebook_dim: usize,
    /// Rows of a codebook.
    pub codebook_size: usize,
    /// The windowed transformer.
    pub transformer: StackConfig,
    /// Frames that a frame attends to, itself included.
    pub sliding_window: usize,
    /// Channels at the decoder's entry; each block halves them.
    pub decoder_dim: usize,
    /// Of the decoder's blocks.
    pub upsample_rates: Vec<usize>,
    /// Of the stages before them.
    pub upsampling_ratios: Vec<usize>,
}

/// The codec encoder's facts: samples to codes (MODEL.md 8).
#[derive(Clone, Debug)]
pub struct EncoderConfig {
    /// Channels behind the first convolution; each stage doubles them.
    pub filters: usize,
    /// Strides of the stages, in the order of the signal; their product is 960 samples.
    pub strides: Vec<usize>,
    /// Taps of the first convolution, of a residual unit's first, and of the last.
    pub kernels: [usize; 3],
    /// Width of the transformer.
    pub hidden: usize,
    /// Width inside its feed-forward part.
    pub intermediate: usize,
    /// Its layers.
    pub layers: usize,
    /// Its heads, of queries and of keys and values.
    pub heads: usize,
    /// Width of a head; heads * head_dim need not be `hidden`.
    pub head_dim: usize,
    /// Added to the variance in each norm.
    pub norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Width of a codebook's row.
    pub codebook_dim: usize,
}

/// The speaker encoder's facts: an ECAPA-TDNN (MODEL.md 9).
#[derive(Clone, Debug)]
pub struct SpeakerConfig {
    /// Of the first block, of each block behind it, and of what joins those: their sum.
    pub channels: Vec<usize>,
    /// Taps of each, odd.
    pub kernels: Vec<usize>,
    /// Columns between the taps of each.
    pub dilations: Vec<usize>,
    /// Pieces that a block's channels are cut into.
    pub scale: usize,
    /// Channels inside a block's squeeze-and-excitation.
    pub squeeze: usize,
    /// Channels inside the attention that pools over time.
    pub attention: usize,
}

/// Every fact of a checkpoint that the engine uses.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the checkpoint was trained for.
    pub kind: ModelKind,
    /// "0b6" or "1b7" upstream; only says whether a preset voice takes an instruction.
    pub size: String,
    /// Ids that steer the prompt's text side.
    pub text_controls: TextControls,
    /// Ids that steer its codec side.
    pub codec_controls: CodecControls,
    /// The large LM.
    pub talker: StackConfig,
    /// Width of a text embedding before its projection.
    pub text_hidden: usize,
    /// Rows of the text embedding.
    pub text_vocab: usize,
    /// Rows of the codec embedding and of the talker's head: codes, then 1024 controls.
    pub talker_vocab: usize,
    /// Positions that the talker was made for.
    pub max_positions: usize,
    /// The code predictor.
    pub predictor: StackConfig,
    /// Code values in a group.
    pub codes: usize,
    /// Language names, lower case, dialects among them, and their ids.
    pub languages: BTreeMap<String, u32>,
    /// Preset voices by lower-case name.
    pub speakers: BTreeMap<String, Speaker>,
    /// The codec decoder.
    pub codec: CodecConfig,
    /// The codec encoder, where the files speak of one.
    pub encoder: Option<EncoderConfig>,
    /// The speaker encoder of a Base model, where config.json speaks of one.
    pub speaker_encoder: Option<SpeakerConfig>,
    /// generation_config.json; a field it leaves out is upstream's hard default.
    pub sampling: SamplingOptions,
}

/// Bands of the speaker encoder's mel front end.
pub const MELS: usize = 128;

const MAIN: &str = "config.json";
const CODEC: &str = "speech_tokenizer/config.json";
const GENERATION: &str = "generation_config.json";

impl Config {
    /// Reads and checks the three files. Errors name file, field, the value found and the values known.
    pub fn open(source: &ModelSource) -> Result<Config> {
        let main: MainJson = source.json(MAIN)?;
        let TalkerStack { talker_config: talker } = source.json(MAIN)?;
        let PredictorStack { talker_config: PredictorPart { code_predictor_config: predictor } } = source.json(MAIN)?;
        let codec: CodecJson = source.json(CODEC)?;
        let EncoderPart { encoder_config: encoder } = source.json(CODEC)?;
        let DecoderStack { decoder_config: decoder } = source.json(CODEC)?;
        let sampling = match source.read_if_there(GENERATION)? {
            None => SamplingOptions::default(),
            Some(_) => source.json(GENERATION)?,
        };
        sampling.check().map_err(|e| Error::checkpoint(source.describe(GENERATION), e.to_string()))?;
        let in_file = |file: &str| {
            let file = source.describe(file);
            move |what: String| Error::checkpoint(file.clone(), what)
        };
        let main_error = in_file(MAIN);
        let codec = codec.check(&decoder).map_err(in_file(CODEC))?;
        let mut config = main.check(&talker, &predictor, sampling, codec).map_err(&main_error)?;
        if config.codec.codebook_size != config.codes {
            return Err(main_error(format!(
                "code_predictor_config.vocab_size is {}, but the codec's codebook_size is {}",
                config.codes, config.codec.codebook_size
            )));
        }
        if let Some(encoder) = encoder {
            config.encoder = Some(encoder.check(&config.codec).map_err(in_file(CODEC))?);
        }
        // As upstream: the other kinds have none, whatever their file says.
        if config.kind == ModelKind::Base {
            let SpeakerPart { speaker_encoder_config: speaker } = source.json(MAIN)?;
            let speaker = speaker.map(|speaker| speaker.check(config.talker.hidden)).transpose();
            config.speaker_encoder = speaker.map_err(&main_error)?;
        }
        Ok(config)
    }

    /// Whether an instruction reaches the model: upstream drops it for presets of the 0.6B, whose size string it
    /// tests for being part of "0b6".
    pub fn takes_instruct(&self) -> bool {
        !(self.kind == ModelKind::CustomVoice && "0b6".contains(&self.size))
    }

    /// Names a caller may ask for: dialects belong to speakers and are not on the list.
    pub fn language_names(&self) -> impl Iterator<Item = &str> {
        self.languages.keys().map(String::as_str).filter(|name| !name.contains("dialect"))
    }
}

type Checked<T> = std::result::Result<T, String>;

fn known<T: PartialEq + std::fmt::Debug>(field: &str, found: &T, expected: &T) -> Checked<()> {
    if found == expected { Ok(()) } else { Err(format!("{field} is {found:?}; only {expected:?} is known")) }
}

fn positive(field: &str, value: usize) -> Checked<usize> {
    // No published dimension comes near 2^20; a corrupt one must not become an allocation.
    at_most(field, value, (1 << 20) - 1)
}

fn at_most(field: &str, value: usize, most: usize) -> Checked<usize> {
    if (1..=most).contains(&value) { Ok(value) } else { Err(format!("{field} is {value}; expected 1 to {most}")) }
}

#[derive(Deserialize)]
struct MainJson {
    model_type: String,
    tokenizer_type: String,
    tts_model_size: String,
    tts_model_type: String,
    im_start_token_id: u32,
    im_end_token_id: u32,
    assistant_token_id: u32,
    tts_pad_token_id: u32,
    tts_bos_token_id: u32,
    tts_eos_token_id: u32,
    talker_config: TalkerJson,
}

#[derive(Deserialize)]
struct StackJson {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
    rms_norm_eps: f32,
    rope_theta: f64,
    hidden_act: String,
    #[serde(default)]
    attention_bias: bool,
}

// The stacks are read by themselves, beside the fields that stand around theirs: of a flattened struct, the parser
// would no longer know in which line a wrong value stands.
#[derive(Deserialize)]
struct TalkerStack {
    talker_config: StackJson,
}

#[derive(Deserialize)]
struct PredictorStack {
    talker_config: PredictorPart,
}

#[derive(Deserialize)]
struct PredictorPart {
    code_predictor_config: StackJson,
}

#[derive(Deserialize)]
struct DecoderStack {
    decoder_config: StackJson,
}

impl StackJson {
    fn check(&self, part: &str) -> Checked<StackConfig> {
        let field = |name: &str| format!("{part}.{name}");
        known(&field("hidden_act"), &self.hidden_act.as_str(), &"silu")?;
        known(&field("attention_bias"), &self.attention_bias, &false)?;
        if self.num_key_value_heads == 0 || !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let (heads, kv) = (self.num_attention_heads, self.num_key_value_heads);
            return Err(format!(
                "{}: {heads} is no multiple of num_key_value_heads {kv}",
                field("num_attention_heads")
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!("{} is {}; expected an even number", field("head_dim"), self.head_dim));
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return Err(format!("{} is {}; expected above 0, under 1", field("rms_norm_eps"), self.rms_norm_eps));
        }
        if !(self.rope_theta > 1.0 && self.rope_theta.is_finite()) {
            return Err(format!("{} is {}; expected a number above 1", field("rope_theta"), self.rope_theta));
        }
        Ok(StackConfig {
            hidden: positive(&field("hidden_size"), self.hidden_size)?,
            intermediate: positive(&field("intermediate_size"), self.intermediate_size)?,
            layers: positive(&field("num_hidden_layers"), self.num_hidden_layers)?,
            heads: positive(&field("num_attention_heads"), self.num_attention_heads)?,
            kv_heads: self.num_key_value_heads,
            head_dim: positive(&field("head_dim"), self.head_dim)?,
            rms_eps: self.rms_norm_eps,
            rope_theta: self.rope_theta,
        })
    }
}

#[derive(Deserialize)]
struct TalkerJson {
    code_predictor_config: PredictorJson,
    vocab_size: usize,
    text_vocab_size: usize,
    text_hidden_size: usize,
    num_code_groups: usize,
    max_position_embeddings: usize,
    #[serde(default)]
    use_sliding_window: bool,
    rope_scaling: Option<RopeJson>,
    codec_pad_id: u32,
    codec_bos_id: u32,
    codec_eos_token_id: u32,
    codec_think_id: u32,
    codec_nothink_id: u32,
    codec_think_bos_id: u32,
    codec_think_eos_id: u32,
    #[serde(default)]
    codec_language_id: BTreeMap<String, u32>,
    #[serde(default)]
    spk_id: BTreeMap<String, u32>,
    #[serde(default)]
    spk_is_dialect: BTreeMap<String, Dialect>,
}

/// false, or the dialect's name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Dialect {
    No(bool),
    Name(String),
}

#[derive(Deserialize)]
struct RopeJson {
    rope_type: Option<String>,
    r#type: Option<String>,
}

#[derive(Deserialize)]
struct PredictorJson {
    vocab_size: usize,
    num_code_groups: usize,
    #[serde(default)]
    use_sliding_window: bool,
    rope_scaling: Option<serde_json::Value>,
}

impl MainJson {
    fn check(
        self,
        talker_stack: &StackJson,
        predictor_stack: &StackJson,
        sampling: SamplingOptions,
        codec: CodecConfig,
    ) -> Checked<Config> {
        let talker = &self.talker_config;
        let predictor = &talker.code_predictor_config;
        known("model_type", &self.model_type.as_str(), &"qwen3_tts")?;
        known("tokenizer_type", &self.tokenizer_type.as_str(), &"qwen3_tts_tokenizer_12hz")?;
        known("talker_config.num_code_groups", &talker.num_code_groups, &GROUPS)?;
        known("talker_config.use_sliding_window", &talker.use_sliding_window, &false)?;
        known("code_predictor_config.num_code_groups", &predictor.num_code_groups, &GROUPS)?;
        known("code_predictor_config.use_sliding_window", &predictor.use_sliding_window, &false)?;
        if let Some(scaling) = &predictor.rope_scaling {
            return Err(format!("code_predictor_config.rope_scaling is {scaling}; only null is known"));
        }
        // M-RoPE's sections do nothing here: its three position rows are always equal (MODEL.md 4).
        if let Some(kind) = talker.rope_scaling.as_ref().and_then(|r| r.rope_type.as_ref().or(r.r#type.as_ref())) {
            known("talker_config.rope_scaling.rope_type", &kind.as_str(), &"default")?;
        }
        // A code, and a control among the talker's tokens, is held in 16 bits.
        let codes = at_most("code_predictor_config.vocab_size", predictor.vocab_size, (1 << 16) - 1024)?;
        let vocab = positive("talker_config.vocab_size", talker.vocab_size)?;
        // Upstream suppresses the last 1024 ids, which are the controls, whatever the size.
        if vocab != codes + 1024 {
            return Err(format!("talker_config.vocab_size is {vocab}; expected {codes} codes + 1024 controls"));
        }
        let control = |field: &str, id: u32| match (codes..vocab).contains(&(id as usize)) {
            true => Ok(id),
            false => Err(format!("talker_config.{field} is {id}; expected {codes} to {}", vocab - 1)),
        };
        let text_vocab = positive("talker_config.text_vocab_size", talker.text_vocab_size)?;
        let text = |field: &str, id: u32| match (id as usize) < text_vocab {
            true => Ok(id),
            false => Err(format!("{field} is {id}; expected under text_vocab_size {text_vocab}")),
        };
        let mut languages = BTreeMap::new();
        for (name, &id) in &talker.codec_language_id {
            if languages.insert(name.to_lowercase(), control(&format!("codec_language_id.{name}"), id)?).is_some() {
                return Err(format!("talker_config.codec_language_id: {name} stands there twice, but for its case"));
            }
        }
        let mut speakers = BTreeMap::new();
        for (name, &id) in &talker.spk_id {
            if id as usize >= vocab {
                return Err(format!("talker_config.spk_id.{name} is {id}; expected under vocab_size {vocab}"));
            }
            let dialect = match talker.spk_is_dialect.get(name) {
                None | Some(Dialect::No(false)) => None,
                Some(Dialect::Name(dialect)) if languages.contains_key(&dialect.to_lowercase()) => {
                    Some(dialect.to_lowercase())
                }
                Some(Dialect::Name(dialect)) => {
                    return Err(format!("talker_config.spk_is_dialect.{name}: no codec_language_id for {dialect:?}"));
                }
                Some(Dialect::No(true)) => {
                    return Err(format!("talker_config.spk_is_dialect.{name} is true; expected false or a name"));
                }
            };
            if speakers.insert(name.to_lowercase(), Speaker { id, dialect }).is_some() {
                return Err(format!("talker_config.spk_id: {name} stands there twice, but for its case"));
            }
        }
        Ok(Config {
            kind: match self.tts_model_type.as_str() {
                "base" => ModelKind::Base,
                "custom_voice" => ModelKind::CustomVoice,
                "voice_design" => ModelKind::VoiceDesign,
                other => {
                    return Err(format!("tts_model_type is {other:?}; known are base, custom_voice, voice_design"));
                }
            },
            size: self.tts_model_size,
            text_controls: TextControls {
                im_start: text("im_start_token_id", self.im_start_token_id)?,
                im_end: text("im_end_token_id", self.im_end_token_id)?,
                tts_pad: text("tts_pad_token_id", self.tts_pad_token_id)?,
                tts_bos: text("tts_bos_token_id", self.tts_bos_token_id)?,
                tts_eos: text("tts_eos_token_id", self.tts_eos_token_id)?,
                assistant: text("assistant_token_id", self.assistant_token_id)?,
            },
            codec_controls: CodecControls {
                pad: control("codec_pad_id", talker.codec_pad_id)?,
                bos: control("codec_bos_id", talker.codec_bos_id)?,
                eos: control("codec_eos_token_id", talker.codec_eos_token_id)?,
                think: control("codec_think_id", talker.codec_think_id)?,
                nothink: control("codec_nothink_id", talker.codec_nothink_id)?,
                think_bos: control("codec_think_bos_id", talker.codec_think_bos_id)?,
                think_eos: control("codec_think_eos_id", talker.codec_think_eos_id)?,
            },
            talker: talker_stack.check("talker_config")?,
            text_hidden: positive("talker_config.text_hidden_size", talker.text_hidden_size)?,
            text_vocab,
            talker_vocab: vocab,
            max_positions: positive("talker_config.max_position_embeddings", talker.max_position_embeddings)?,
            predictor: predictor_stack.check("code_predictor_config")?,
            codes,
            languages,
            speakers,
            codec,
            encoder: None,
            speaker_encoder: None,
            sampling,
        })
    }
}

#[derive(Deserialize)]
struct SpeakerPart {
    speaker_encoder_config: Option<SpeakerJson>,
}

/// The published files leave all but the first two to the official class, whose defaults these are.
#[derive(Deserialize)]
struct SpeakerJson {
    enc_dim: usize,
    sample_rate: u32,
    #[serde(default = "SpeakerJson::mel_dim")]
    mel_dim: usize,
    #[serde(default = "SpeakerJson::channels")]
    enc_channels: Vec<usize>,
    #[serde(default = "SpeakerJson::kernels")]
    enc_kernel_sizes: Vec<usize>,
    #[serde(default = "SpeakerJson::dilations")]
    enc_dilations: Vec<usize>,
    #[serde(default = "SpeakerJson::attention")]
    enc_attention_channels: usize,
    #[serde(default = "SpeakerJson::scale")]
    enc_res2net_scale: usize,
    #[serde(default = "SpeakerJson::squeeze")]
    enc_se_channels: usize,
}

impl SpeakerJson {
    fn mel_dim() -> usize {
        MELS
    }
    fn channels() -> Vec<usize> {
        vec![512, 512, 512, 512, 1536]
    }
    fn kernels() -> Vec<usize> {
        vec![5, 3, 3, 3, 1]
    }
    fn dilations() -> Vec<usize> {
        vec![1, 2, 3, 4, 1]
    }
    fn attention() -> usize {
        128
    }
    fn scale() -> usize {
        8
    }
    fn squeeze() -> usize {
        128
    }

    fn check(self, width: usize) -> Checked<SpeakerConfig> {
        let field = |name: &str| format!("speaker_encoder_config.{name}");
        known(&field("sample_rate"), &self.sample_rate, &SAMPLE_RATE)?;
        known(&field("mel_dim"), &self.mel_dim, &MELS)?;
        known(&field("enc_dim"), &self.enc_dim, &width)?; // the vector stands among the talker's inputs as it is
        let count = self.enc_channels.len();
        if !(3..=16).contains(&count) {
            return Err(format!("{} has {count} entries; expected 3 to 16", field("enc_channels")));
        }
        for (name, list) in [("enc_kernel_sizes", &self.enc_kernel_sizes), ("enc_dilations", &self.enc_dilations)] {
            known(&format!("number of {}", field(name)), &list.len(), &count)?;
        }
        for &channels in &self.enc_channels {
            positive(&field("enc_channels"), channels)?;
        }
        for &taps in &self.enc_kernel_sizes {
            if at_most(&field("enc_kernel_sizes"), taps, 31)?.is_multiple_of(2) {
                return Err(format!("{} holds {taps}; expected odd numbers", field("enc_kernel_sizes")));
            }
        }
        for &dilation in &self.enc_dilations {
            at_most(&field("enc_dilations"), dilation, 32)?;
        }
        let (first, blocks, joined) =
            (self.enc_channels[0], &self.enc_channels[1..count - 1], self.enc_channels[count - 1]);
        // A block adds its input to what it makes.
        if let Some(other) = blocks.iter().find(|&&c| c != first) {
            return Err(format!("{} holds {first} and {other}; expected blocks alike", field("enc_channels")));
        }
        known(&format!("last of {}", field("enc_channels")), &joined, &(first * blocks.len()))?;
        let scale = at_most(&field("enc_res2net_scale"), self.enc_res2net_scale, 64)?;
        if scale < 2 || !first.is_multiple_of(scale) {
            return Err(format!("{} is {scale}; expected 2 or more that divide {first}", field("enc_res2net_scale")));
        }
        Ok(SpeakerConfig {
            scale,
            squeeze: positive(&field("enc_se_channels"), self.enc_se_channels)?,
            attention: positive(&field("enc_attention_channels"), self.enc_attention_channels)?,
            channels: self.enc_channels,
            kernels: self.enc_kernel_sizes,
            dilations: self.enc_dilations,
        })
    }
}

#[derive(Deserialize)]
struct EncoderPart {
    encoder_config: Option<EncoderJson>,
}

/// A Mimi encoder, as `transformers` has it.
#[derive(Deserialize)]
struct EncoderJson {
    hidden_size: usize,
    intermediate_size: usize,
    num_filters: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: Option<usize>,
    norm_eps: f32,
    rope_theta: f64,
    hidden_act: String,
    #[serde(default)]
    attention_bias: bool,
    audio_channels: usize,
    kernel_size: usize,
    residual_kernel_size: usize,
    last_kernel_size: usize,
    num_residual_layers: usize,
    compress: usize,
    upsampling_ratios: Vec<usize>,
    use_causal_conv: bool,
    use_conv_shortcut: bool,
    pad_mode: String,
    #[serde(rename = "_frame_rate")]
    frame_rate: f64,
    sampling_rate: u32,
    codebook_dim: usize,
    codebook_size: usize,
    vector_quantization_hidden_dimension: usize,
    num_quantizers: usize,
    num_semantic_quantizers: usize,
}

impl EncoderJson {
    fn check(self, codec: &CodecConfig) -> Checked<EncoderConfig> {
        let field = |name: &str| format!("encoder_config.{name}");
        known(&field("hidden_act"), &self.hidden_act.as_str(), &"gelu")?;
        known(&field("attention_bias"), &self.attention_bias, &false)?;
        known(&field("audio_channels"), &self.audio_channels, &1)?;
        known(&field("num_residual_layers"), &self.num_residual_layers, &1)?;
        known(&field("compress"), &self.compress, &2)?;
        known(&field("use_causal_conv"), &self.use_causal_conv, &true)?;
        known(&field("use_conv_shortcut"), &self.use_conv_shortcut, &false)?;
        known(&field("pad_mode"), &self.pad_mode.as_str(), &"constant")?;
        known(&field("_frame_rate"), &self.frame_rate, &12.5)?;
        known(&field("sampling_rate"), &self.sampling_rate, &SAMPLE_RATE)?;
        known(&field("num_key_value_heads"), &self.num_key_value_heads, &self.num_attention_heads)?;
        known(&field("codebook_size"), &self.codebook_size, &codec.codebook_size)?;
        known(
            &field("vector_quantization_hidden_dimension"),
            &self.vector_quantization_hidden_dimension,
            &self.codebook_dim,
        )?;
        known(&field("num_semantic_quantizers"), &self.num_semantic_quantizers, &1)?;
        if self.num_quantizers < GROUPS {
            return Err(format!("{} is {}; expected {GROUPS} or more", field("num_quantizers"), self.num_quantizers));
        }
        // The last halving, to 12.5 Hz, is a convolution of its own.
        let product = self.upsampling_ratios.iter().fold(2, |product: usize, &rate| product.saturating_mul(rate));
        known("encoder_config: twice the product of upsampling_ratios", &product, &SAMPLES_PER_FRAME)?;
        if self.upsampling_ratios.len() > 10 || !self.num_filters.is_multiple_of(2) {
            let (stages, filters) = (self.upsampling_ratios.len(), self.num_filters);
            return Err(format!(
                "encoder_config has {stages} upsampling_ratios and num_filters {filters}; expected 10 at most, and an even number"
            ));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return Err(format!("{} is {}; expected above 0, under 1", field("norm_eps"), self.norm_eps));
        }
        if !(self.rope_theta > 1.0 && self.rope_theta.is_finite()) {
            return Err(format!("{} is {}; expected a number above 1", field("rope_theta"), self.rope_theta));
        }
        let heads = positive(&field("num_attention_heads"), self.num_attention_heads)?;
        let hidden = positive(&field("hidden_size"), self.hidden_size)?;
        let head_dim = positive(&field("head_dim"), self.head_dim.unwrap_or(hidden / heads))?;
        if !head_dim.is_multiple_of(2) {
            return Err(format!("{} is {head_dim}; expected an even number", field("head_dim")));
        }
        Ok(EncoderConfig {
            filters: positive(&field("num_filters"), self.num_filters)?,
            strides: self.upsampling_ratios.iter().rev().copied().collect(),
            kernels: [
                at_most(&field("kernel_size"), self.kernel_size, 64)?,
                at_most(&field("residual_kernel_size"), self.residual_kernel_size, 64)?,
                at_most(&field("last_kernel_size"), self.last_kernel_size, 64)?,
            ],
            hidden,
            intermediate: positive(&field("intermediate_size"), self.intermediate_size)?,
            layers: positive(&field("num_hidden_layers"), self.num_hidden_layers)?,
            heads,
            head_dim,
            norm_eps: self.norm_eps,
            rope_theta: self.rope_theta,
            codebook_dim: positive(&field("codebook_dim"), self.codebook_dim)?,
        })
    }
}

#[derive(Deserialize)]
struct CodecJson {
    model_type: String,
    encoder_valid_num_quantizers: usize,
    output_sample_rate: u32,
    decode_upsample_rate: usize,
    decoder_config: DecoderJson,
}

#[derive(Deserialize)]
struct DecoderJson {
    latent_dim: usize,
    codebook_dim: usize,
    codebook_size: usize,
    num_quantizers: usize,
    sliding_window: usize,
    decoder_dim: usize,
    upsample_rates: Vec<usize>,
    upsampling_ratios: Vec<usize>,
}

impl CodecJson {
    fn check(self, stack: &StackJson) -> Checked<CodecConfig> {
        let decoder = &self.decoder_config;
        known("model_type", &self.model_type.as_str(), &"qwen3_tts_tokenizer_12hz")?;
        known("encoder_valid_num_quantizers", &self.encoder_valid_num_quantizers, &GROUPS)?;
        known("output_sample_rate", &self.output_sample_rate, &SAMPLE_RATE)?;
        known("decode_upsample_rate", &self.decode_upsample_rate, &SAMPLES_PER_FRAME)?;
        known("decoder_config.num_quantizers", &decoder.num_quantizers, &GROUPS)?;
        if decoder.upsampling_ratios.is_empty() || decoder.upsample_rates.is_empty() {
            return Err("decoder_config: upsampling_ratios or upsample_rates is empty; expected one at least".into());
        }
        let rates = decoder.upsampling_ratios.iter().chain(&decoder.upsample_rates);
        let product = rates.fold(1, |product: usize, &rate| product.saturating_mul(rate));
        known("decoder_config: product of upsampling_ratios and upsample_rates", &product, &SAMPLES_PER_FRAME)?;
        let halvings = decoder.upsample_rates.len();
        if halvings > 16 {
            return Err(format!("decoder_config.upsample_rates has {halvings} entries; expected 16 at most"));
        }
        if !decoder.decoder_dim.is_multiple_of(1 << halvings) {
            return Err(format!(
                "decoder_config.decoder_dim is {}; expected a multiple of {}",
                decoder.decoder_dim,
                1 << halvings
            ));
        }
        if !decoder.codebook_dim.is_multiple_of(2) {
            return Err(format!("decoder_config.codebook_dim is {}; expected an even number", decoder.codebook_dim));
        }
        let transformer = stack.check("decoder_config")?;
        // Every stream keeps this many positions; published is 72.
        let sliding_window = at_most("decoder_config.sliding_window", decoder.sliding_window, 4096)?;
        // In one block, of any size that these ask for: a small file can ask for terabytes. Published is 1.2 million.
        let sizes = [2, transformer.layers, sliding_window - 1, transformer.kv_heads, transformer.head_dim];
        let kept = sizes.into_iter().fold(1, usize::saturating_mul);
        if kept > 1 << 26 {
            return Err(format!(
                "decoder_config: num_hidden_layers {}, sliding_window {sliding_window}, num_key_value_heads {} and head_dim \
                 {} make {kept} numbers that each stream keeps; expected {} at most",
                transformer.layers,
                transformer.kv_heads,
                transformer.head_dim,
                1 << 26
            ));
        }
        Ok(CodecConfig {
            latent_dim: positive("decoder_config.latent_dim", decoder.latent_dim)?,
            codebook_dim: positive("decoder_config.codebook_dim", decoder.codebook_dim)?,
            codebook_size: positive("decoder_config.codebook_size", decoder.codebook_size)?,
            transformer,
            sliding_window,
            decoder_dim: positive("decoder_config.decoder_dim", decoder.decoder_dim)?,
            upsample_rates: decoder.upsample_rates.clone(),
            upsampling_ratios: decoder.upsampling_ratios.clone(),
        })
    }
}
