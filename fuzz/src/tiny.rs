//! A checkpoint of a few kilobytes in any shape: its configs, its tokenizer's files, and what tensors it must have. Written
//! from MODEL.md and not from `weights/`, so that the two check each other.

use arbitrary::{Arbitrary, Unstructured};
use serde_json::{Value, json};

/// One transformer's sizes.
#[derive(Clone, Debug)]
pub struct Stack {
    pub hidden: usize,
    pub intermediate: usize,
    pub layers: usize,
    pub kv_heads: usize,
    /// Query heads for each of those.
    pub group: usize,
    pub head_dim: usize,
}

/// All that a checkpoint's shape depends on.
#[derive(Clone, Debug)]
pub struct Dims {
    pub kind: &'static str,
    pub size: &'static str,
    pub text_vocab: usize,
    pub text_hidden: usize,
    pub codes: usize,
    pub max_positions: usize,
    pub talker: Stack,
    pub predictor: Stack,
    pub codec: Stack,
    pub latent: usize,
    pub codebook_dim: usize,
    pub window: usize,
    pub ratios: &'static [usize],
    pub rates: &'static [usize],
    /// Channels behind the last block.
    pub last: usize,
}

impl Stack {
    fn small(u: &mut Unstructured) -> arbitrary::Result<Stack> {
        Ok(Stack {
            hidden: u.int_in_range(1..=5)?,
            intermediate: u.int_in_range(1..=4)?,
            layers: u.int_in_range(1..=2)?,
            kv_heads: u.int_in_range(1..=2)?,
            group: u.int_in_range(1..=3)?,
            head_dim: 2 * u.int_in_range(1..=3)?,
        })
    }

    fn json(&self) -> Value {
        json!({
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.kv_heads * self.group,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "hidden_act": "silu",
        })
    }

    fn tensors(&self, prefix: &str, codec: bool, into: &mut Shapes) {
        let (h, m) = (self.hidden, self.intermediate);
        let (q, kv) = (self.kv_heads * self.group * self.head_dim, self.kv_heads * self.head_dim);
        for i in 0..self.layers {
            let mut add = |part: &str, shape: &[usize]| into.add(format!("{prefix}.layers.{i}.{part}"), shape);
            add("input_layernorm.weight", &[h]);
            add("self_attn.q_proj.weight", &[q, h]);
            add("self_attn.k_proj.weight", &[kv, h]);
            add("self_attn.v_proj.weight", &[kv, h]);
            add("self_attn.o_proj.weight", &[h, q]);
            add("post_attention_layernorm.weight", &[h]);
            add("mlp.gate_proj.weight", &[m, h]);
            add("mlp.up_proj.weight", &[m, h]);
            add("mlp.down_proj.weight", &[h, m]);
            if codec {
                add("self_attn_layer_scale.scale", &[h]);
                add("mlp_layer_scale.scale", &[h]);
            } else {
                add("self_attn.q_norm.weight", &[self.head_dim]);
                add("self_attn.k_norm.weight", &[self.head_dim]);
            }
        }
        into.add(format!("{prefix}.norm.weight"), &[h]);
    }
}

impl<'a> Arbitrary<'a> for Dims {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Dims> {
        let (ratios, rates) = *u.choose(&RATES)?;
        Ok(Dims {
            kind: u.choose(&["custom_voice", "base", "voice_design"])?,
            size: u.choose(&["0b6", "1b7"])?,
            text_vocab: TEXT_VOCAB + u.int_in_range(0..=2)?,
            text_hidden: u.int_in_range(1..=3)?,
            codes: u.int_in_range(1..=3)?,
            max_positions: u.int_in_range(1..=40)?,
            talker: Stack::small(u)?,
            predictor: Stack::small(u)?,
            codec: Stack::small(u)?,
            latent: u.int_in_range(1..=3)?,
            codebook_dim: 2 * u.int_in_range(1..=3)?,
            window: u.int_in_range(1..=4)?,
            ratios,
            rates,
            last: u.int_in_range(1..=2)?,
        })
    }
}

type Rates = (&'static [usize], &'static [usize]);
const RATES: [Rates; 4] = [(&[2, 2], &[8, 5, 4, 3]), (&[2, 2], &[480]), (&[1920], &[1]), (&[1, 4], &[1, 480])];

/// Tensors by name, with their shapes.
#[derive(Default)]
pub struct Shapes(pub Vec<(String, Vec<usize>)>);

impl Shapes {
    fn add(&mut self, name: String, shape: &[usize]) {
        self.0.push((name, shape.to_vec()));
    }

    /// With its bias, which is as long as the weight's axis `out`.
    fn with_bias(&mut self, prefix: &str, shape: &[usize], out: usize) {
        self.add(format!("{prefix}.weight"), shape);
        self.add(format!("{prefix}.bias"), &shape[out..=out]);
    }
}

impl Dims {
    /// The shape of the golden 0.6B checkpoints, where requests from the goldens fit.
    pub fn golden(kind: &'static str, size: &'static str) -> Dims {
        let stack = |hidden| Stack { hidden, intermediate: 2, layers: 1, kv_heads: 1, group: 1, head_dim: 2 };
        Dims {
            kind,
            size,
            text_vocab: 2304,
            text_hidden: 1,
            codes: 64,
            max_positions: 64,
            talker: stack(48),
            predictor: stack(2),
            codec: stack(2),
            latent: 1,
            codebook_dim: 2,
            window: 2,
            ratios: RATES[1].0,
            rates: RATES[1].1,
            last: 1,
        }
    }

    pub fn config(&self) -> Value {
        let mut talker = self.talker.json();
        let mut predictor = self.predictor.json();
        let codes = self.codes;
        set(&mut predictor, json!({"vocab_size": codes, "num_code_groups": 16}));
        set(
            &mut talker,
            json!({
                "code_predictor_config": predictor,
                "vocab_size": codes + 1024,
                "text_vocab_size": self.text_vocab,
                "text_hidden_size": self.text_hidden,
                "num_code_groups": 16,
                "max_position_embeddings": self.max_positions,
                "codec_pad_id": codes + 4,
                "codec_bos_id": codes + 5,
                "codec_eos_token_id": codes + 6,
                "codec_think_id": codes + 7,
                "codec_nothink_id": codes + 8,
                "codec_think_bos_id": codes + 9,
                "codec_think_eos_id": codes + 10,
                "codec_language_id": {"english": codes + 2, "chinese": codes + 3, "sichuan_dialect": codes + 11},
                "spk_id": if self.kind == "custom_voice" { json!({"slt": codes + 20, "eric": codes + 21}) } else { json!({}) },
                "spk_is_dialect": {"slt": false, "eric": "sichuan_dialect"},
            }),
        );
        json!({
            "model_type": "qwen3_tts",
            "tokenizer_type": "qwen3_tts_tokenizer_12hz",
            "tts_model_size": self.size,
            "tts_model_type": self.kind,
            "im_start_token_id": CONTROLS,
            "im_end_token_id": CONTROLS + 1,
            "tts_pad_token_id": CONTROLS + 2,
            "tts_bos_token_id": CONTROLS + 3,
            "tts_eos_token_id": CONTROLS + 4,
            "assistant_token_id": ASSISTANT,
            "talker_config": talker,
        })
    }

    pub fn codec_config(&self) -> Value {
        let mut decoder = self.codec.json();
        set(
            &mut decoder,
            json!({
                "latent_dim": self.latent,
                "codebook_dim": self.codebook_dim,
                "codebook_size": self.codes,
                "num_quantizers": 16,
                "sliding_window": self.window,
                "decoder_dim": self.last << self.rates.len(),
                "upsample_rates": self.rates,
                "upsampling_ratios": self.ratios,
            }),
        );
        json!({
            "model_type": "qwen3_tts_tokenizer_12hz",
            "encoder_valid_num_quantizers": 16,
            "output_sample_rate": 24000,
            "decode_upsample_rate": 1920,
            "decoder_config": decoder,
        })
    }

    /// What model.safetensors must hold.
    pub fn main_tensors(&self) -> Shapes {
        let mut s = Shapes::default();
        let (hidden, text_hidden, vocab) = (self.talker.hidden, self.text_hidden, self.codes + 1024);
        s.add("talker.model.text_embedding.weight".into(), &[self.text_vocab, text_hidden]);
        s.with_bias("talker.text_projection.linear_fc1", &[text_hidden, text_hidden], 0);
        s.with_bias("talker.text_projection.linear_fc2", &[hidden, text_hidden], 0);
        s.add("talker.model.codec_embedding.weight".into(), &[vocab, hidden]);
        self.talker.tensors("talker.model", false, &mut s);
        s.add("talker.codec_head.weight".into(), &[vocab, hidden]);
        let inner = self.predictor.hidden;
        if inner != hidden {
            s.with_bias("talker.code_predictor.small_to_mtp_projection", &[inner, hidden], 0);
        }
        for i in 0..15 {
            s.add(format!("talker.code_predictor.model.codec_embedding.{i}.weight"), &[self.codes, hidden]);
            s.add(format!("talker.code_predictor.lm_head.{i}.weight"), &[self.codes, inner]);
        }
        self.predictor.tensors("talker.code_predictor.model", false, &mut s);
        s
    }

    /// What speech_tokenizer/model.safetensors must hold.
    pub fn codec_tensors(&self) -> Shapes {
        let mut s = Shapes::default();
        let (latent, book, hidden) = (self.latent, self.codebook_dim, self.codec.hidden);
        for (part, layers) in [("rvq_first", 1), ("rvq_rest", 15)] {
            for i in 0..layers {
                let prefix = format!("decoder.quantizer.{part}.vq.layers.{i}._codebook");
                s.add(format!("{prefix}.embedding_sum"), &[self.codes, book / 2]);
                s.add(format!("{prefix}.cluster_usage"), &[self.codes]);
            }
            s.add(format!("decoder.quantizer.{part}.output_proj.weight"), &[book, book / 2, 1]);
        }
        s.with_bias("decoder.pre_conv.conv", &[latent, book, 3], 0);
        s.with_bias("decoder.pre_transformer.input_proj", &[hidden, latent], 0);
        self.codec.tensors("decoder.pre_transformer", true, &mut s);
        s.with_bias("decoder.pre_transformer.output_proj", &[latent, hidden], 0);
        for (i, &ratio) in self.ratios.iter().enumerate() {
            let name = |part: &str| format!("decoder.upsample.{i}.{part}");
            s.with_bias(&name("0.conv"), &[latent, latent, ratio], 1);
            s.with_bias(&name("1.dwconv.conv"), &[latent, 1, 7], 0);
            s.with_bias(&name("1.norm"), &[latent], 0);
            s.with_bias(&name("1.pwconv1"), &[4 * latent, latent], 0);
            s.with_bias(&name("1.pwconv2"), &[latent, 4 * latent], 0);
            s.add(name("1.gamma"), &[latent]);
        }
        let mut channels = self.last << self.rates.len();
        s.with_bias("decoder.decoder.0.conv", &[channels, latent, 7], 0);
        for (i, &rate) in self.rates.iter().enumerate() {
            let name = |part: &str| format!("decoder.decoder.{}.block.{part}", i + 1);
            s.add(name("0.alpha"), &[channels]);
            s.add(name("0.beta"), &[channels]);
            s.with_bias(&name("1.conv"), &[channels, channels / 2, 2 * rate], 1);
            channels /= 2;
            for unit in 2..5 {
                for (part, taps) in [("1", 7), ("2", 1)] {
                    s.add(name(&format!("{unit}.act{part}.alpha")), &[channels]);
                    s.add(name(&format!("{unit}.act{part}.beta")), &[channels]);
                    s.with_bias(&name(&format!("{unit}.conv{part}.conv")), &[channels, channels, taps], 0);
                }
            }
        }
        let end = self.rates.len() + 1;
        s.add(format!("decoder.decoder.{end}.alpha"), &[channels]);
        s.add(format!("decoder.decoder.{end}.beta"), &[channels]);
        s.with_bias(&format!("decoder.decoder.{}.conv", end + 1), &[1, channels, 7], 0);
        s
    }
}

fn set(json: &mut Value, more: Value) {
    if let (Value::Object(fields), Value::Object(more)) = (json, more) {
        fields.extend(more);
    }
}

/// A safetensors file of these tensors, in f32, every byte of them `fill`.
pub fn safetensors(tensors: &Shapes, fill: u8) -> Vec<u8> {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in &tensors.0 {
        let begin = end;
        end += 4 * shape.iter().product::<usize>();
        header.insert(name.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}));
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![fill; end]].concat()
}

// ---- the tokenizer -------------------------------------------------------------------------------------------

/// Ids of `<|im_start|>` and the four that follow it in `ADDED`.
pub const CONTROLS: u32 = 256 + 8;
pub const ASSISTANT: u32 = CONTROLS - 1;
pub const TEXT_VOCAB: usize = CONTROLS as usize + ADDED.len();
pub const ADDED: [&str; 7] =
    ["<|im_start|>", "<|im_end|>", "<tts_pad>", "<tts_text_bos>", "<tts_text_eod>", "<|im_end|>.", "<|im_<|"];

/// GPT-2's alphabet for bytes.
fn letters() -> Vec<char> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..);
    let mut others = '\u{100}'..;
    (0..=u8::MAX).map(|b| if printable(&b) { char::from(b) } else { others.next().unwrap() }).collect()
}

/// Tokens in order of id, and the merges: every byte, and "assistant".
pub fn vocabulary() -> (Vec<String>, Vec<String>) {
    let mut vocab: Vec<String> = letters().iter().map(char::to_string).collect();
    let mut merges = Vec::new();
    for end in 2.."assistant".len() + 1 {
        let (left, right) = "assistant"[..end].split_at(end - 1);
        vocab.push(format!("{left}{right}"));
        merges.push(format!("{left} {right}"));
    }
    (vocab, merges)
}

/// As `vocabulary`, and every pair of bytes merges, in no order, so that ids tell where each piece of text ends.
pub fn vocabulary_of_pairs() -> (Vec<String>, Vec<String>) {
    let (mut vocab, mut merges) = vocabulary();
    let letters = letters();
    let mut pairs: Vec<usize> = (0..1 << 16).collect();
    let mut random = 1u64; // Knuth's generator
    for at in (1..pairs.len()).rev() {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        pairs.swap(at, (random >> 33) as usize % (at + 1));
    }
    for pair in pairs {
        let (left, right) = (letters[pair >> 8], letters[pair & 255]);
        if (left, right) != ('a', 's') {
            vocab.push(format!("{left}{right}"));
            merges.push(format!("{left} {right}"));
        }
    }
    (vocab, merges)
}

/// vocab.json, merges.txt and tokenizer_config.json.
pub fn tokenizer((vocab, merges): &(Vec<String>, Vec<String>)) -> [Vec<u8>; 3] {
    let first = vocab.len();
    let vocab: serde_json::Map<_, _> = vocab.iter().cloned().zip((0u32..).map(Value::from)).collect();
    let added = |(i, content): (usize, &&str)| {
        ((first + i).to_string(), json!({"content": content, "normalized": false, "special": i < 5}))
    };
    let added: serde_json::Map<_, _> = ADDED.iter().enumerate().map(added).collect();
    let config = json!({"add_prefix_space": false, "added_tokens_decoder": added});
    let merges = format!("#version: 0.2\n{}\n", merges.join("\n"));
    [Value::Object(vocab).to_string(), merges, config.to_string()].map(String::into_bytes)
}

/// Characters and fragments that pieces, NFC and controls turn on.
pub const NASTY: [&str; 64] = [
    "a",
    "B",
    "e",
    "s",
    "t",
    "S",
    "re",
    "ü",
    "é",
    "e\u{301}",
    "\u{301}",
    "\u{323}",
    "\u{338}",
    "あ",
    "か",
    "\u{3099}",
    "\u{1112}",
    "\u{1161}",
    "\u{11ab}",
    "하",
    "'",
    "'s",
    "ſ",
    "1",
    "٣",
    " ",
    "\t",
    "\n",
    "\r",
    "\u{a0}",
    "/",
    ".",
    "👩",
    "\u{200d}",
    "ʰ",
    "ǅ",
    "<",
    "<|im_",
    "end|>",
    "<|im_end|>",
    "=",
    "\u{85}",
    "\u{2028}",
    "\u{958}",
    "\u{1d160}",
    "\u{0}",
    "\u{200b}",
    "\u{feff}",
    "ﬁ",
    "Å",
    "\u{345}",
    "\u{e38}",
    "\u{94d}",
    "ক",
    "\u{9be}",
    "\u{9c7}",
    "½",
    "Ⅷ",
    "𝔸",
    "\u{1f3fd}",
    "\u{fe0f}",
    "\u{10ffff}",
    "<tts_pad>",
    "<|im_end|>.",
];
