//! safetensors files against the config beside them: they open only if every tensor is what the config says, and what
//! opens speaks, or says why not.
#![no_main]

use libfuzzer_sys::arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use qwentts::config::Config;
use qwentts::fuzzing::{Stack, Tensor, Weights};
use qwentts::request::{Randomness, SamplingOptions, VoicePrompt};
use qwentts::{Model, Reference, Request, SAMPLES_PER_FRAME, Speech, Text, Voice};
use qwentts_fuzz::Folder;
use qwentts_fuzz::edit::Splice;
use qwentts_fuzz::tiny::{self, Dims, Shapes};
use serde_json::{Map, Value, json};
use std::sync::{Arc, LazyLock};

const MAIN: &str = "model.safetensors";
const CODEC: &str = "speech_tokenizer/model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const SHARDS: [&str; 2] = ["one.safetensors", "two.safetensors"];
const DTYPES: [(&str, usize); 8] =
    [("F32", 32), ("BF16", 16), ("F16", 16), ("F64", 64), ("I64", 64), ("U8", 8), ("F4", 4), ("F8_E4M3", 8)];

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    dims: Dims,
    /// Of both files, unless edited.
    dtype: u8,
    fill: [u8; 2],
    edits: Vec<(bool, u16, Edit)>,
    /// Main's tensors in two shards; whether the index is edited.
    shards: Option<Vec<(u16, Index)>>,
    raw: Option<(u8, Raw<'a>)>,
    speak: Option<Say>,
}

/// What becomes of one tensor, or its entry.
#[derive(Arbitrary, Debug)]
enum Edit {
    // The file stays whole; the layout follows.
    Dim { axis: u8, to: u8 },
    Turn,
    Push(u8),
    Pop,
    Dtype(u8),
    Remove,
    Rename(u16),
    Other { part: u8 },
    // The entry no longer fits the file.
    Begin(i8),
    End(i8),
    Far { begin: u8, end: u8 },
    Huge { axis: u8, exponent: u8 },
    Extra,
}

#[derive(Arbitrary, Debug)]
enum Index {
    Swap,
    Remove,
    Nobody,
    To(u8),
}

/// What becomes of a whole file.
#[derive(Arbitrary, Debug)]
enum Raw<'a> {
    Splice(Splice<'a>),
    HeaderLength(i8),
    HeaderPower(u8),
    Truncate(u16),
    Append(u8),
}

#[derive(Arbitrary, Debug)]
struct Say {
    sample: bool,
    seed: u64,
    pieces: bool,
}

#[derive(Debug)]
struct Entry {
    name: String,
    dtype: (&'static str, usize),
    shape: Vec<u64>,
    begin: i64,
    end: i64,
    extra: bool,
}

fn bytes(entry: &Entry) -> u64 {
    let bits = entry.shape.iter().fold(entry.dtype.1 as u64, |n, &d| n.saturating_mul(d));
    bits / 8
}

fn apply(entries: &mut Vec<Entry>, edits: &[&(bool, u16, Edit)]) {
    // First what the layout follows, then the layout, then what contradicts it.
    for (_, at, edit) in edits {
        if entries.is_empty() {
            return;
        }
        let at = usize::from(*at) % entries.len();
        let other = |n: u16| entries[usize::from(n) % entries.len()].name.clone();
        match edit {
            Edit::Rename(n) => entries[at].name = other(*n),
            Edit::Remove => drop(entries.remove(at)),
            Edit::Other { part } => {
                let prefixes = ["speaker_encoder.x", "encoder.x", "decoder.quantizer.x.input_proj.weight", "x", ""];
                entries[at].name = prefixes[usize::from(*part) % prefixes.len()].into();
            }
            Edit::Dim { axis, to } => {
                let axes = entries[at].shape.len().max(1);
                if let Some(dim) = entries[at].shape.get_mut(usize::from(*axis) % axes) {
                    *dim = (*to % 32).into();
                }
            }
            Edit::Turn => entries[at].shape.reverse(),
            Edit::Push(to) => entries[at].shape.push((*to % 4).into()),
            Edit::Pop => drop(entries[at].shape.pop()),
            Edit::Dtype(d) => entries[at].dtype = DTYPES[usize::from(*d) % DTYPES.len()],
            _ => {}
        }
    }
    let mut end = 0;
    for entry in entries.iter_mut() {
        entry.begin = end;
        end += bytes(entry).min(1 << 20) as i64;
        entry.end = end;
    }
    for (_, at, edit) in edits {
        if entries.is_empty() {
            return;
        }
        let at = usize::from(*at) % entries.len();
        let entry = &mut entries[at];
        match edit {
            Edit::Begin(more) => entry.begin += i64::from(*more),
            Edit::End(more) => entry.end += i64::from(*more),
            Edit::Far { begin, end } => {
                (entry.begin, entry.end) = ((1i64 << (begin % 63)) - 1, (1i64 << (end % 63)) - 1);
            }
            Edit::Huge { axis, exponent } => {
                let axes = entry.shape.len().max(1);
                if let Some(dim) = entry.shape.get_mut(usize::from(*axis) % axes) {
                    *dim = 1 << (exponent % 64);
                }
            }
            Edit::Extra => entry.extra = true,
            _ => {}
        }
    }
}

/// The safetensors file. Written as text: two entries may have one name.
fn file(entries: &[Entry], fill: u8) -> Vec<u8> {
    let mut header = String::from("{");
    for entry in entries {
        let Entry { name, dtype: (dtype, _), shape, begin, end, extra } = entry;
        let comma = if header.len() > 1 { "," } else { "" };
        let more = if *extra { ",\"more\":1" } else { "" };
        let line =
            format!(r#"{comma}"{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{begin},{end}]{more}}}"#);
        header += &line;
    }
    header += "}";
    let data = entries.iter().map(|e| e.end).max().unwrap_or(0).clamp(0, 1 << 20) as usize;
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![fill; data]].concat()
}

impl Raw<'_> {
    fn apply(&self, file: &mut Vec<u8>) {
        let length = |file: &[u8]| u64::from_le_bytes(*file.first_chunk().unwrap());
        match self {
            Raw::Splice(splice) => splice.apply(file),
            Raw::HeaderLength(more) => {
                let to = length(file).wrapping_add_signed((*more).into());
                file[..8].copy_from_slice(&to.to_le_bytes());
            }
            Raw::HeaderPower(exponent) => file[..8].copy_from_slice(&(1u64 << (exponent % 64)).to_le_bytes()),
            Raw::Truncate(by) => file.truncate(file.len().saturating_sub((*by).into())),
            Raw::Append(more) => file.resize(file.len() + usize::from(*more), 0),
        }
    }
}

fn entries(tensors: &Shapes, dtype: (&'static str, usize)) -> Vec<Entry> {
    let entry = |(name, shape): &(String, Vec<usize>)| Entry {
        name: name.clone(),
        dtype,
        shape: shape.iter().map(|&d| d as u64).collect(),
        begin: 0,
        end: 0,
        extra: false,
    };
    tensors.0.iter().map(entry).collect()
}

fn folder() -> &'static Folder {
    static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
        let folder = Folder::new("weights");
        let [vocab, merges, settings] = tiny::tokenizer(&tiny::vocabulary());
        folder.write("vocab.json", vocab);
        folder.write("merges.txt", merges);
        folder.write("tokenizer_config.json", settings);
        folder
    });
    &FOLDER
}

fuzz_target!(|input: Input| {
    let folder = folder();
    let dims = &input.dims;
    let (main, codec) = (dims.main_tensors(), dims.codec_tensors());
    folder.write("config.json", dims.config().to_string());
    folder.write("speech_tokenizer/config.json", dims.codec_config().to_string());
    let config = Config::open(&folder.source()).expect("the tiny config is a valid one");

    let dtype = DTYPES[usize::from(input.dtype) % 3];
    let mut files: Vec<(&str, Vec<u8>)> = Vec::new();
    let edits = |of: bool| input.edits.iter().filter(|(file, ..)| *file == of).collect::<Vec<_>>();
    let mut list = entries(&codec, dtype);
    apply(&mut list, &edits(true));
    files.push((CODEC, file(&list, input.fill[1])));
    let mut lists = vec![list];
    let mut list = entries(&main, dtype);
    match &input.shards {
        None => {
            apply(&mut list, &edits(false));
            files.push((MAIN, file(&list, input.fill[0])));
            lists.push(list);
        }
        Some(index_edits) => {
            let half = list.len() / 2;
            let mut map: Vec<(String, &str)> =
                list.iter().enumerate().map(|(i, e)| (e.name.clone(), SHARDS[usize::from(i >= half)])).collect();
            for (at, edit) in index_edits {
                if map.is_empty() {
                    break;
                }
                let at = usize::from(*at) % map.len();
                match edit {
                    Index::Swap => map[at].1 = SHARDS[usize::from(map[at].1 == SHARDS[0])],
                    Index::Remove => drop(map.remove(at)),
                    Index::Nobody => map[at].0 = "nobody".into(),
                    Index::To(to) => {
                        map[at].1 =
                            ["../one.safetensors", "", ".", "three", "a\\b", INDEX, CODEC][usize::from(*to) % 7];
                    }
                }
            }
            let map: Map<String, Value> = map.into_iter().map(|(name, shard)| (name, shard.into())).collect();
            folder.write(INDEX, json!({"weight_map": map}).to_string());
            let mut second = list.split_off(half);
            apply(&mut list, &edits(false));
            apply(&mut second, &edits(false));
            files.push((SHARDS[0], file(&list, input.fill[0])));
            files.push((SHARDS[1], file(&second, input.fill[0])));
            lists.extend([list, second]);
        }
    }
    if let Some((which, raw)) = &input.raw {
        let which = usize::from(*which) % files.len();
        raw.apply(&mut files[which].1);
    }
    for name in [MAIN, INDEX, SHARDS[0], SHARDS[1]] {
        let there = files.iter().any(|(file, _)| *file == name) || name == INDEX && input.shards.is_some();
        if !there {
            folder.remove(name);
        }
    }
    for (name, bytes) in &files {
        folder.write(name, bytes);
    }

    match Weights::open(&folder.source(), &config) {
        Err(error) => {
            let shard = ["", ".", "three"];
            let names = [CODEC, MAIN, INDEX, SHARDS[0], SHARDS[1]];
            folder.check_error(&error, &[&names[..], &shard].concat());
            let changed =
                !input.edits.is_empty() || input.raw.is_some() || input.shards.as_ref().is_some_and(|s| !s.is_empty());
            assert!(changed, "what the config says is refused: {error}");
        }
        Ok(weights) => {
            match &input.raw {
                None => {
                    let found =
                        |name: &String| lists.iter().find_map(|list| list.iter().rev().find(|e| e.name == *name));
                    for (name, shape) in main.0.iter().chain(&codec.0) {
                        let entry = found(name).unwrap_or_else(|| panic!("{name} is in no file"));
                        assert!(entry.shape.iter().map(|&d| d as usize).eq(shape.iter().copied()), "{name}: {entry:?}");
                        assert!(DTYPES[..3].contains(&entry.dtype), "{name}: {entry:?}");
                    }
                }
                Some(_) => {
                    let headers: Vec<Value> = files.iter().map(|(_, bytes)| header(bytes)).collect();
                    for (name, shape) in main.0.iter().chain(&codec.0) {
                        let entry = headers.iter().find_map(|h| h.get(name));
                        let entry = entry.unwrap_or_else(|| panic!("{name} is in no file"));
                        assert_eq!(entry["shape"], json!(shape), "{name}");
                        assert!(DTYPES[..3].iter().any(|(d, _)| entry["dtype"] == *d), "{name}: {entry}");
                    }
                }
            }
            check(&weights, dims, &config);
            if let Some(say) = &input.speak {
                speak(say, dims);
            }
        }
    }
});

fn header(file: &[u8]) -> Value {
    let length = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
    serde_json::from_slice(&file[8..8 + length]).unwrap()
}

/// The bound tensors have the config's shapes, and as many bytes.
fn check(weights: &Weights, dims: &Dims, config: &Config) {
    let is = |tensor: &Tensor, shape: &[usize]| {
        assert_eq!(tensor.shape, shape);
        assert_eq!(tensor.bytes().len(), shape.iter().product::<usize>() * tensor.dtype.bytes());
    };
    let stack = |stack: &Stack, s: &tiny::Stack| {
        let (q, kv) = (s.kv_heads * s.group * s.head_dim, s.kv_heads * s.head_dim);
        assert_eq!(stack.layers.len(), s.layers);
        for layer in &stack.layers {
            is(&layer.q, &[q, s.hidden]);
            is(&layer.k, &[kv, s.hidden]);
            is(&layer.v, &[kv, s.hidden]);
            is(&layer.o, &[s.hidden, q]);
            is(&layer.gate, &[s.intermediate, s.hidden]);
            is(&layer.up, &[s.intermediate, s.hidden]);
            is(&layer.down, &[s.hidden, s.intermediate]);
            assert!(layer.input_norm.len() == s.hidden && layer.post_norm.len() == s.hidden);
        }
    };
    let (talker, predictor, codec) = (&weights.talker, &weights.predictor, &weights.codec);
    is(&talker.text_embedding, &[config.text_vocab, config.text_hidden]);
    is(&talker.codec_embedding, &[config.talker_vocab, dims.talker.hidden]);
    is(&talker.codec_head, &[config.talker_vocab, dims.talker.hidden]);
    stack(&talker.stack, &dims.talker);
    stack(&predictor.stack, &dims.predictor);
    stack(&codec.stack, &dims.codec);
    assert!(predictor.heads.len() == 15 && predictor.embeddings.len() == 15 && codec.codebooks.len() == 16);
    predictor.heads.iter().for_each(|t| is(t, &[dims.codes, dims.predictor.hidden]));
    predictor.embeddings.iter().for_each(|t| is(t, &[dims.codes, dims.talker.hidden]));
    for book in &codec.codebooks {
        is(&book.embedding_sum, &[dims.codes, dims.codebook_dim / 2]);
        assert_eq!(book.cluster_usage.len(), dims.codes);
    }
}

/// Two frames and their samples, from weights that mean nothing.
fn speak(say: &Say, dims: &Dims) {
    let model = Model::open(&folder().source()).expect("what binds opens");
    let reference = Arc::new(Reference::new(model, Some(1)).unwrap());
    let sampling = SamplingOptions {
        do_sample: Some(say.sample),
        subtalker_dosample: Some(say.sample),
        max_new_tokens: Some(3),
        ..Default::default()
    };
    let voice = match dims.kind {
        "base" => Voice::Cloned(VoicePrompt { speaker_vector: vec![0.5; dims.talker.hidden], reference: None }),
        "custom_voice" => Voice::Preset("eric".into()),
        _ => Voice::Unset,
    };
    let request = Request { voice, sampling, randomness: Randomness::Seed(say.seed), ..Default::default() };
    let text = match say.pieces && dims.kind == "base" {
        true => Text::Pieces(vec!["a".into(), " b".into()]),
        false => Text::Whole("a b".into()),
    };
    let run = || -> qwentts::Result<()> {
        let mut speech = Speech::new(reference, text, &request)?;
        while let Some(chosen) = speech.next_frame()? {
            let samples = speech.decode(&[chosen.frame])?;
            assert!(samples.len() == SAMPLES_PER_FRAME && samples.iter().all(|s| (-1.0..=1.0).contains(s)));
        }
        Ok(())
    };
    if let Err(error) = run() {
        let text = error.to_string();
        assert!(text.split_once(": ").is_some_and(|(place, what)| !place.is_empty() && !what.is_empty()), "{text}");
    }
}
