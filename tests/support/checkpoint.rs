//! Seeded checkpoints: small or full-size folders in the published layout, made from a hash of each tensor's name.
//! The recipe stands in tests/golden/README.md; tests/golden/seeded.py makes the same bytes.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::bf16;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};

const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;
/// Values that one thread makes at a time, and how many such runs are held before they are written.
const RUN: usize = 1 << 17;
const RUNS_HELD: usize = 32;

/// A checkpoint of tests/golden/checkpoints, made under target/ at its first use. Tests in several processes may ask at once.
pub fn checkpoint(kind: &str, seed: u64) -> PathBuf {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("checkpoints");
    let folder = all.join(format!("{kind}-{seed}"));
    let described = fs::read(super::goldens().join(format!("checkpoints/{kind}.json"))).unwrap();
    // A changed description or tokenizer must not meet the folder of the old one.
    let merges = fs::read(super::goldens().join("tokenizer/merges.txt")).unwrap();
    let made_from = [described.as_slice(), &merges].concat();
    let is_current = || fs::read(folder.join("made-from")).is_ok_and(|found| found == made_from);
    if is_current() {
        return folder;
    }
    fs::create_dir_all(&all).unwrap();
    let unfinished = tempfile::tempdir_in(&all).unwrap();
    make(&described, seed, unfinished.path());
    fs::write(unfinished.path().join("made-from"), &made_from).unwrap();
    if folder.exists() && !is_current() {
        fs::remove_dir_all(&folder).unwrap();
    }
    // Whoever comes first wins; the others' folders are the same and go away.
    if let Err(error) = fs::rename(unfinished.path(), &folder) {
        assert!(is_current(), "{}: {error}", folder.display());
    }
    folder
}

#[derive(Deserialize)]
struct Description {
    files: Map<String, Value>,
    base_entries: u64,
    tensors: Map<String, Value>,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    fill: Fill,
    scale: f64,
    offset: f64,
    /// The tensor of cluster usages that a `sum` is multiplied by.
    usage: Option<String>,
    /// A row with a scale of its own.
    row: Option<usize>,
    row_scale: Option<f64>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Fill {
    Normal,
    Usage,
    Sum,
}

fn make(described: &[u8], seed: u64, folder: &Path) {
    let description: Description = serde_json::from_slice(described).unwrap();
    fs::create_dir_all(folder.join("speech_tokenizer")).unwrap();
    for (file, content) in &description.files {
        fs::write(folder.join(file), serde_json::to_vec_pretty(content).unwrap()).unwrap();
    }
    let assistant = description.files["config.json"]["assistant_token_id"].as_u64().unwrap();
    write_tokenizer(folder, description.base_entries, assistant);
    for (file, tensors) in description.tensors {
        write_safetensors(&folder.join(file), &serde_json::from_value::<Vec<Tensor>>(tensors).unwrap(), seed);
    }
}

/// The shared small tokenizer. Where the vocabulary must be larger, unused entries fill it up and `assistant` moves.
fn write_tokenizer(folder: &Path, base_entries: u64, assistant: u64) {
    let shared = super::goldens().join("tokenizer");
    let read = |file: &str| -> Value { serde_json::from_slice(&fs::read(shared.join(file)).unwrap()).unwrap() };
    let mut vocabulary = read("vocab.json");
    let vocabulary = vocabulary.as_object_mut().unwrap();
    vocabulary["assistant"] = assistant.into();
    let taken: HashSet<u64> = vocabulary.values().map(|id| id.as_u64().unwrap()).collect();
    for id in (0..base_entries).filter(|id| !taken.contains(id)) {
        vocabulary.insert(format!("unused {id}"), id.into());
    }
    fs::write(folder.join("vocab.json"), serde_json::to_vec(vocabulary).unwrap()).unwrap();

    let mut settings = read("tokenizer_config.json");
    let mut added: Vec<(u64, Value)> = settings["added_tokens_decoder"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(id, token)| (id.parse().unwrap(), token.clone()))
        .collect();
    added.sort_by_key(|(id, _)| *id);
    let added = added.into_iter().zip(base_entries..).map(|((_, token), id)| (id.to_string(), token));
    settings["added_tokens_decoder"] = Value::Object(added.collect());
    fs::write(folder.join("tokenizer_config.json"), serde_json::to_vec(&settings).unwrap()).unwrap();
    fs::copy(shared.join("merges.txt"), folder.join("merges.txt")).unwrap();
}

fn write_safetensors(path: &Path, tensors: &[Tensor], seed: u64) {
    let mut header = r#"{"__metadata__":{"format":"pt"}"#.to_string();
    let mut offset = 0;
    for tensor in tensors {
        let end = offset + tensor.shape.iter().product::<usize>() * if tensor.dtype == "BF16" { 2 } else { 4 };
        let entry = json!([tensor.dtype, tensor.shape, [offset, end]]);
        header +=
            &format!(r#","{}":{{"dtype":{},"shape":{},"data_offsets":{}}}"#, tensor.name, entry[0], entry[1], entry[2]);
        offset = end;
    }
    header.push('}');
    header += &" ".repeat(header.len().wrapping_neg() % 8);

    let mut file = BufWriter::new(File::create(path).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    for tensor in tensors {
        let count = tensor.shape.iter().product::<usize>();
        let runs: Vec<Range<usize>> = (0..count).step_by(RUN).map(|begin| begin..count.min(begin + RUN)).collect();
        for held in runs.chunks(RUNS_HELD) {
            for bytes in held.par_iter().map(|run| values(tensor, seed, run.clone())).collect::<Vec<_>>() {
                file.write_all(&bytes).unwrap();
            }
        }
    }
    file.flush().unwrap();
}

/// The little-endian bytes of a run of elements.
fn values(tensor: &Tensor, seed: u64, run: Range<usize>) -> Vec<u8> {
    let start = start(&tensor.name, seed);
    let row_length = tensor.shape[1..].iter().product::<usize>();
    let usages = tensor.usage.as_ref().map(|name| self::start(name, seed));
    let value = |i: usize| -> f32 {
        let (x, row) = (splitmix64(start.wrapping_add(i as u64)), i / row_length);
        match tensor.fill {
            Fill::Usage => usage(x),
            Fill::Sum => {
                let usage = usage(splitmix64(usages.unwrap().wrapping_add(row as u64)));
                (tensor.scale * unit_normal(x) * f64::from(usage)) as f32
            }
            Fill::Normal => {
                let scale = if tensor.row == Some(row) { tensor.row_scale.unwrap() } else { tensor.scale };
                (tensor.offset + scale * unit_normal(x)) as f32
            }
        }
    };
    if tensor.dtype == "BF16" {
        run.flat_map(|i| bf16::from_f32(value(i)).to_le_bytes()).collect()
    } else {
        run.flat_map(|i| value(i).to_le_bytes()).collect()
    }
}

/// Where a tensor's sequence of hashes begins: FNV-1a of its name, moved by the seed.
fn start(name: &str, seed: u64) -> u64 {
    let fnv =
        name.bytes().fold(0xCBF2_9CE4_8422_2325, |h: u64, byte| (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    fnv ^ seed.wrapping_mul(GOLDEN_RATIO)
}

fn splitmix64(x: u64) -> u64 {
    let x = x.wrapping_add(GOLDEN_RATIO);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn unit_normal(x: u64) -> f64 {
    let lanes = (x & 0xFFFF) + ((x >> 16) & 0xFFFF) + ((x >> 32) & 0xFFFF) + (x >> 48);
    (lanes as f64 - 131_070.0) / 37_837.2
}

/// In 0..1, and now and then so small that the codec's clamp acts.
fn usage(x: u64) -> f32 {
    if x & 63 == 0 { 1e-7 } else { ((x >> 11) as f64 * (-53f64).exp2()) as f32 }
}
