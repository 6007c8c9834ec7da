//! `qwentts inspect`: what a model folder holds.

use crate::{Outcome, files};
use clap::Args;
use qwentts::config::{Config, StackConfig};
use qwentts::error::Result;
use qwentts::model::Model;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Args)]
pub struct Inspect {
    /// Model folder or hub id; the embedded demo model where the build carries it and none is given
    #[arg(value_name = "DIR|OWNER/NAME[@REVISION]")]
    folder: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// (file, beginning of a tensor's name, part); the first that fits counts.
const PARTS: [(&str, &str, &str); 6] = [
    ("model", "talker.model.text_embedding.", "text embedding"),
    ("model", "talker.code_predictor.", "predictor"),
    ("model", "talker.", "talker"),
    ("model", "speaker_encoder.", "speaker encoder"),
    ("speech_tokenizer/model", "decoder.", "codec decoder"),
    ("speech_tokenizer/model", "encoder.", "codec encoder"),
];

#[derive(Default, serde::Serialize)]
struct Part {
    tensors: usize,
    parameters: usize,
    bytes: usize,
    dtypes: std::collections::BTreeSet<String>,
}

impl Inspect {
    pub fn run(self) -> Result<Outcome> {
        let source = crate::ModelArgs { model: self.folder }.source()?;
        // Opening checks every name, shape and dtype; a folder that cannot speak is an error here too.
        let model = Model::open(&source)?;
        let parts = parts(&model)?;
        let config = &model.config;
        if self.json {
            files::print_json(&serde_json::json!({
                "kind": format!("{:?}", config.kind), "size": config.size, "parts": parts,
                "voices": config.speakers.keys().collect::<Vec<_>>(),
                "languages": config.language_names().collect::<Vec<_>>(),
                "talker": stack_json(&config.talker), "predictor": stack_json(&config.predictor),
                "codec_transformer": stack_json(&config.codec.transformer),
                "codes": config.codes, "max_positions": config.max_positions,
                "codec_window_frames": config.codec.sliding_window, "sampling": sampling(config),
            }))?;
        } else {
            files::print(&table(config, &parts))?;
        }
        Ok(Outcome::Done)
    }
}

fn parts(model: &Model) -> Result<BTreeMap<&'static str, Part>> {
    let mut parts: BTreeMap<&str, Part> = BTreeMap::new();
    for tensor in model.tensors()? {
        let fits = |(file, prefix, _): &&(&str, &str, &str)| *file == tensor.file && tensor.name.starts_with(prefix);
        let Some((_, _, part)) = PARTS.iter().find(fits) else { continue };
        let part = parts.entry(part).or_default();
        part.tensors += 1;
        part.parameters += tensor.shape.iter().product::<usize>();
        part.bytes += tensor.bytes;
        part.dtypes.insert(tensor.dtype);
    }
    Ok(parts)
}

fn stack_json(s: &StackConfig) -> serde_json::Value {
    serde_json::json!({"layers": s.layers, "hidden": s.hidden, "intermediate": s.intermediate, "heads": s.heads,
        "kv_heads": s.kv_heads, "head_dim": s.head_dim})
}

/// The settings that the checkpoint states, by their official names. Through text, so that 0.6 stays 0.6.
fn sampling(config: &Config) -> BTreeMap<String, serde_json::Value> {
    let json = serde_json::to_string(&config.sampling).unwrap_or_default();
    let mut said: BTreeMap<String, serde_json::Value> = serde_json::from_str(&json).unwrap_or_default();
    said.retain(|_, value| !value.is_null());
    said
}

fn table(config: &Config, parts: &BTreeMap<&str, Part>) -> String {
    let stack = |s: &StackConfig| {
        format!(
            "{} layers, hidden {}, {} heads ({} kv) of {}, intermediate {}",
            s.layers, s.hidden, s.heads, s.kv_heads, s.head_dim, s.intermediate
        )
    };
    let mut out = format!("{:?} {}\n", config.kind, config.size);
    out += &format!("talker     {}\n", stack(&config.talker));
    out += &format!("predictor  {}\n", stack(&config.predictor));
    out += &format!("codec      {}, window {} frames\n", stack(&config.codec.transformer), config.codec.sliding_window);
    out += &format!("codes      {} values in each of 16 groups; {} positions\n", config.codes, config.max_positions);
    let list = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    out += &format!("voices     {}\n", list(config.speakers.keys().map(String::as_str).collect()));
    out += &format!("languages  auto, {}\n", list(config.language_names().collect()));
    let said: Vec<String> = sampling(config).iter().map(|(name, value)| format!("{name} {value}")).collect();
    out += &format!("sampling   {}\n\n", said.join(", "));
    out += &format!("{:32} {:>8} {:>14} {:>15}  stored as\n", "part", "tensors", "parameters", "bytes");
    for (name, part) in parts {
        let dtypes: Vec<&str> = part.dtypes.iter().map(String::as_str).collect();
        out +=
            &format!("{name:32} {:8} {:14} {:15}  {}\n", part.tensors, part.parameters, part.bytes, dtypes.join(", "));
    }
    out
}
