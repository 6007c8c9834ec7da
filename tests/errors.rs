//! Would catch bad input that is taken in silence, ends in a panic, or is refused without the words that mend it.

#[path = "support/run.rs"]
mod run;

use qwentts::cpu::Reference;
use qwentts::frame::Frame;
use qwentts::model::Model;
use qwentts::request::{Layout, Randomness, Reference as Recording, Request, SamplingOptions, Voice, VoicePrompt};
use qwentts::source::ModelSource;
use qwentts::speech::{Speech, Text};
use qwentts::trace::{self, TraceRequest};
use run::{command, demo, done, refused, run};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use tempfile::TempDir;

const FILES: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors",
    "speech_tokenizer/config.json",
    "speech_tokenizer/model.safetensors",
    "tokenizer_config.json",
    "vocab.json",
];

/// One tensor of a file that a test rewrites.
struct Stored {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The demo model in a folder that a test may break. Files are links until they are replaced.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("speech_tokenizer")).unwrap();
        for name in FILES {
            std::os::unix::fs::symlink(demo().join(name), folder.path().join(name)).unwrap();
        }
        Folder(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn without(self, name: &str) -> Folder {
        fs::remove_file(self.path(name)).unwrap();
        self
    }

    fn with(self, name: &str, bytes: impl AsRef<[u8]>) -> Folder {
        let path = self.path(name);
        if path.exists() {
            fs::remove_file(&path).unwrap();
        }
        fs::write(path, bytes).unwrap();
        self
    }

    /// Sets the JSON value at `pointer` of file `name`.
    fn set(self, name: &str, pointer: &str, value: Value) -> Folder {
        let mut json: Value = serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value);
        self.with(name, serde_json::to_vec_pretty(&json).unwrap())
    }

    fn tensors(&self, name: &str) -> Vec<Stored> {
        let bytes = fs::read(self.path(name)).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let own = |(name, t): (String, TensorView)| Stored {
            name,
            dtype: t.dtype(),
            shape: t.shape().to_vec(),
            bytes: t.data().to_vec(),
        };
        let mut tensors: Vec<Stored> = tensors.tensors().into_iter().map(own).collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name)); // the crate's order changes from call to call
        tensors
    }

    fn with_tensors<'a>(self, name: &str, tensors: impl IntoIterator<Item = &'a Stored>) -> Folder {
        let view = |t: &'a Stored| (&t.name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap());
        let bytes = safetensors::serialize(tensors.into_iter().map(view), None).unwrap();
        self.with(name, bytes)
    }

    /// Rewrites file `name` with `change` made to its tensor `tensor`.
    fn change(self, name: &str, tensor: &str, change: impl FnOnce(&mut Stored)) -> Folder {
        let mut tensors = self.tensors(name);
        change(tensors.iter_mut().find(|t| t.name == tensor).unwrap());
        self.with_tensors(name, &tensors)
    }

    fn open(&self) -> Arc<Model> {
        Model::open(&ModelSource::Folder(self.0.path().to_owned())).unwrap()
    }

    fn reference(&self) -> Arc<Reference> {
        Arc::new(Reference::new(self.open(), Some(1)).unwrap())
    }

    /// The words with which opening fails.
    fn error(&self) -> String {
        match Model::open(&ModelSource::Folder(self.0.path().to_owned())) {
            Ok(_) => panic!("the folder opens"),
            Err(error) => error.to_string(),
        }
    }

    /// Opening fails with `words` about file `name`.
    #[track_caller]
    fn says(&self, name: &str, words: &str) {
        assert_eq!(self.error(), format!("{}: {words}", self.path(name).display()));
    }
}

fn reference() -> Arc<Reference> {
    let model = Model::open(&ModelSource::Folder(demo())).unwrap();
    Arc::new(Reference::new(model, Some(1)).unwrap())
}

fn base() -> Folder {
    Folder::new().set("config.json", "/tts_model_type", json!("base")).set(
        "config.json",
        "/talker_config/spk_id",
        json!({}),
    )
}

fn say(max_new_tokens: usize) -> Request {
    Request {
        voice: Voice::Preset("slt".into()),
        sampling: SamplingOptions { max_new_tokens: Some(max_new_tokens), ..SamplingOptions::greedy() },
        ..Default::default()
    }
}

fn hello() -> Text {
    Text::Whole("Hello there, how are you?".into())
}

/// The words with which an utterance is refused or fails.
fn fails(reference: Arc<Reference>, text: Text, request: &Request) -> String {
    let run = || -> qwentts::error::Result<()> {
        let mut speech = Speech::new(reference, text, request)?;
        while let Some(chosen) = speech.next_frame()? {
            speech.decode(&[chosen.frame])?;
        }
        Ok(())
    };
    run().expect_err("it speaks").to_string()
}

/// The words with which a trace request fails on this model.
fn request_fails(reference: &Arc<Reference>, request: &str) -> String {
    let run = || trace::run(reference, &TraceRequest::parse(request.as_bytes())?, None).map(|_| ());
    run().expect_err(request).to_string()
}

/// Frames of the first `frames`, and the bits of every talker score.
fn speak(reference: Arc<Reference>, frames: usize) -> (Vec<Frame>, Vec<u32>) {
    let mut speech = Speech::new(reference, hello(), &say(frames + 1)).unwrap();
    speech.record();
    let mut spoken = Vec::new();
    while let Some(chosen) = speech.next_frame().unwrap() {
        spoken.push(chosen.frame);
    }
    assert_eq!(spoken.len(), frames);
    (spoken, speech.recording().unwrap().talker_logits.iter().map(|x| x.to_bits()).collect())
}

// ---- files ---------------------------------------------------------------------------------------------------

#[cfg(feature = "demo")]
#[test]
fn an_untouched_copy_opens_and_speaks_as_the_embedded_model() {
    let embedded = Model::open(&ModelSource::Demo).unwrap();
    let embedded = Arc::new(Reference::new(embedded, Some(1)).unwrap());
    assert_eq!(speak(Folder::new().reference(), 4), speak(embedded, 4));
}

#[test]
fn a_folder_that_is_not_there() {
    let words = "is no folder; expected one that holds config.json, model.safetensors, speech_tokenizer/…";
    let file = demo().join("config.json");
    for path in [PathBuf::from("/nowhere/model"), file] {
        let error = Model::open(&ModelSource::Folder(path.clone())).err().unwrap().to_string();
        assert_eq!(error, format!("{}: {words}", path.display()));
    }
}

#[test]
fn each_file_missing() {
    for name in FILES.into_iter().filter(|name| *name != "generation_config.json") {
        Folder::new().without(name).says(name, "No such file or directory (os error 2)");
    }
    let folder = Folder::new().without("config.json");
    fs::create_dir(folder.path("config.json")).unwrap();
    folder.says("config.json", "is a directory");
}

#[test]
fn safetensors_that_are_not_whole() {
    for name in ["model.safetensors", "speech_tokenizer/model.safetensors"] {
        let whole = fs::read(demo().join(name)).unwrap();
        let says = |bytes: &[u8], words: &str| {
            let words = format!("not a whole safetensors file ({} bytes): {words}", bytes.len());
            Folder::new().with(name, bytes).says(name, &words);
        };
        says(b"", "header too small");
        says(&whole[..5], "header too small");
        says(&whole[..100], "invalid header length");
        says(&[b'{'; 100], "header too large");
        says(
            &[&5u64.to_le_bytes()[..], b"hello"].concat(),
            "invalid JSON in header: expected value at line 1 column 1",
        );
        says(
            &[&4u64.to_le_bytes()[..], b"{\"a "].concat(),
            "invalid JSON in header: EOF while parsing a string at line 1 column 4",
        );
        says(&whole[..whole.len() - 1], "incomplete metadata, file not fully covered");
        says(&[&whole[..], &[0]].concat(), "incomplete metadata, file not fully covered");
    }
}

#[test]
fn tensors_of_the_wrong_shape_or_kind() {
    let (main, codec) = ("model.safetensors", "speech_tokenizer/model.safetensors");
    for (file, tensor, shape) in [
        (main, "talker.model.layers.3.mlp.up_proj.weight", [512, 256]),
        (main, "talker.code_predictor.lm_head.14.weight", [256, 256]),
        (codec, "decoder.quantizer.rvq_rest.vq.layers.14._codebook.embedding_sum", [256, 64]),
    ] {
        let turned = [shape[0] / 2, shape[1] * 2];
        let words = format!("tensor {tensor} has shape {turned:?}; expected {shape:?}");
        Folder::new().change(file, tensor, |t| t.shape = turned.to_vec()).says(file, &words);

        let words = format!("tensor {tensor} has dtype I64; expected BF16, F16 or F32");
        let integers = |t: &mut Stored| (t.dtype, t.bytes) = (Dtype::I64, vec![0; shape[0] * shape[1] * 8]);
        Folder::new().change(file, tensor, integers).says(file, &words);

        let words = format!("tensor {tensor} is missing; expected shape {shape:?}");
        Folder::new().change(file, tensor, |t| t.name = "encoder.or.speaker_encoder.x".into()).says(file, &words);
    }
}

#[test]
fn a_tensor_of_another_architecture() {
    for file in ["model.safetensors", "speech_tokenizer/model.safetensors"] {
        let folder = Folder::new();
        let mut tensors = folder.tensors(file);
        let name = "talker.model.layers.99.mystery.weight".to_owned();
        tensors.push(Stored { name, dtype: Dtype::F32, shape: vec![2, 3], bytes: vec![0; 24] });
        let words = "tensor talker.model.layers.99.mystery.weight [2, 3] is not part of a Qwen3-TTS 12 Hz checkpoint";
        folder.with_tensors(file, &tensors).says(file, words);
    }
}

// ---- shards --------------------------------------------------------------------------------------------------

const INDEX: &str = "model.safetensors.index.json";
const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

/// The demo model with its tensors dealt to two shards, and the index as JSON.
fn sharded() -> (Folder, Value) {
    let folder = Folder::new();
    let tensors = folder.tensors("model.safetensors");
    let half = tensors.len() / 2;
    let map: serde_json::Map<String, Value> =
        tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), json!(SHARDS[usize::from(i >= half)]))).collect();
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    let folder = folder
        .without("model.safetensors")
        .with_tensors(SHARDS[0], &tensors[..half])
        .with_tensors(SHARDS[1], &tensors[half..])
        .with(INDEX, index.to_string());
    (folder, index)
}

#[test]
fn shards_speak_as_the_single_file() {
    assert_eq!(speak(sharded().0.reference(), 8), speak(reference(), 8));
}

#[test]
fn a_shard_that_is_missing_or_not_whole() {
    sharded().0.without(SHARDS[1]).says(SHARDS[1], "No such file or directory (os error 2)");
    sharded().0.with(SHARDS[1], b"").says(SHARDS[1], "not a whole safetensors file (0 bytes): header too small");
}

#[test]
fn an_index_that_disagrees_with_its_shards() {
    let tensor = "talker.codec_head.weight";
    let says = |change: &dyn Fn(&mut Value), words: &str| {
        let (folder, mut index) = sharded();
        change(&mut index["weight_map"]);
        folder.with(INDEX, index.to_string()).says(INDEX, words);
    };
    let (_, index) = sharded();
    let other = SHARDS[usize::from(index["weight_map"][tensor] == SHARDS[0])];
    let words = format!("says tensor {tensor} is in {other}, which does not hold it");
    says(&|map| map[tensor] = json!(other), &words);
    let words = format!("says tensor a.tensor.nobody.has is in {}, which does not hold it", SHARDS[0]);
    says(&|map| map["a.tensor.nobody.has"] = json!(SHARDS[0]), &words);
    for name in ["../model.safetensors", "/etc/passwd", "a\\b"] {
        says(&|map| map[tensor] = json!(name), &format!("shard name {name:?} leaves the folder"));
    }
    let (folder, _) = sharded();
    folder.with(INDEX, "{}").says(INDEX, "missing field `weight_map` at line 1 column 2");

    let (folder, _) = sharded();
    let mut both = folder.tensors(SHARDS[1]);
    both.extend(folder.tensors(SHARDS[0]).into_iter().take(1));
    let words = format!("tensor {} stands in two shards", both[both.len() - 1].name);
    folder.with_tensors(SHARDS[1], &both).says(SHARDS[1], &words);
}

// ---- config files --------------------------------------------------------------------------------------------

#[test]
fn config_values_that_nobody_knows() {
    let talker = |field: &str| format!("/talker_config/{field}");
    let predictor = |field: &str| format!("/talker_config/code_predictor_config/{field}");
    for (pointer, value, words) in [
        ("/model_type".into(), json!("qwen4_tts"), r#"model_type is "qwen4_tts"; only "qwen3_tts" is known"#),
        (
            "/tokenizer_type".into(),
            json!("qwen3_tts_tokenizer_25hz"),
            r#"tokenizer_type is "qwen3_tts_tokenizer_25hz"; only "qwen3_tts_tokenizer_12hz" is known"#,
        ),
        (
            "/tts_model_type".into(),
            json!("singer"),
            r#"tts_model_type is "singer"; known are base, custom_voice, voice_design"#,
        ),
        (
            talker("rope_scaling"),
            json!({"rope_type": "yarn"}),
            r#"talker_config.rope_scaling.rope_type is "yarn"; only "default" is known"#,
        ),
        (
            talker("rope_scaling"),
            json!({"type": "linear"}),
            r#"talker_config.rope_scaling.rope_type is "linear"; only "default" is known"#,
        ),
        (
            predictor("rope_scaling"),
            json!({"type": "default"}),
            r#"code_predictor_config.rope_scaling is {"type":"default"}; only null is known"#,
        ),
        (talker("hidden_act"), json!("gelu"), r#"talker_config.hidden_act is "gelu"; only "silu" is known"#),
        (talker("attention_bias"), json!(true), "talker_config.attention_bias is true; only false is known"),
        (predictor("attention_bias"), json!(true), "code_predictor_config.attention_bias is true; only false is known"),
        (talker("use_sliding_window"), json!(true), "talker_config.use_sliding_window is true; only false is known"),
        (talker("num_code_groups"), json!(32), "talker_config.num_code_groups is 32; only 16 is known"),
        (predictor("num_code_groups"), json!(8), "code_predictor_config.num_code_groups is 8; only 16 is known"),
        (talker("vocab_size"), json!(1281), "talker_config.vocab_size is 1281; expected 256 codes + 1024 controls"),
        (predictor("vocab_size"), json!(2048), "talker_config.vocab_size is 1280; expected 2048 codes + 1024 controls"),
        (
            talker("num_attention_heads"),
            json!(3),
            "talker_config.num_attention_heads: 3 is no multiple of num_key_value_heads 2",
        ),
        (
            talker("num_key_value_heads"),
            json!(0),
            "talker_config.num_attention_heads: 4 is no multiple of num_key_value_heads 0",
        ),
        (talker("num_attention_heads"), json!(0), "talker_config.num_attention_heads is 0; expected 1 to 1048575"),
        (talker("head_dim"), json!(63), "talker_config.head_dim is 63; expected an even number"),
        (talker("head_dim"), json!(0), "talker_config.head_dim is 0; expected 1 to 1048575"),
        (talker("num_hidden_layers"), json!(0), "talker_config.num_hidden_layers is 0; expected 1 to 1048575"),
        (
            predictor("num_hidden_layers"),
            json!(0),
            "code_predictor_config.num_hidden_layers is 0; expected 1 to 1048575",
        ),
        (talker("hidden_size"), json!(1u64 << 40), "talker_config.hidden_size is 1099511627776; expected 1 to 1048575"),
        (talker("rms_norm_eps"), json!(0), "talker_config.rms_norm_eps is 0; expected above 0, under 1"),
        (talker("rms_norm_eps"), json!(2), "talker_config.rms_norm_eps is 2; expected above 0, under 1"),
        (talker("rope_theta"), json!(0), "talker_config.rope_theta is 0; expected a number above 1"),
        (talker("codec_eos_token_id"), json!(255), "talker_config.codec_eos_token_id is 255; expected 256 to 1279"),
        (talker("codec_pad_id"), json!(1280), "talker_config.codec_pad_id is 1280; expected 256 to 1279"),
        (
            talker("codec_language_id"),
            json!({"english": 7}),
            "talker_config.codec_language_id.english is 7; expected 256 to 1279",
        ),
        (talker("spk_id"), json!({"slt": 1280}), "talker_config.spk_id.slt is 1280; expected under vocab_size 1280"),
        (
            talker("spk_is_dialect"),
            json!({"slt": "sichuan_dialect"}),
            r#"talker_config.spk_is_dialect.slt: no codec_language_id for "sichuan_dialect""#,
        ),
        (
            talker("spk_is_dialect"),
            json!({"slt": true}),
            "talker_config.spk_is_dialect.slt is true; expected false or a name",
        ),
        ("/tts_eos_token_id".into(), json!(1600), "tts_eos_token_id is 1600; expected under text_vocab_size 1600"),
    ] {
        Folder::new().set("config.json", &pointer, value).says("config.json", words);
    }
}

#[test]
fn codec_config_values_that_nobody_knows() {
    let decoder = |field: &str| format!("/decoder_config/{field}");
    for (pointer, value, words) in [
        (
            "/model_type".into(),
            json!("qwen3_tts_tokenizer_25hz"),
            r#"model_type is "qwen3_tts_tokenizer_25hz"; only "qwen3_tts_tokenizer_12hz" is known"#,
        ),
        ("/output_sample_rate".into(), json!(48000), "output_sample_rate is 48000; only 24000 is known"),
        ("/decode_upsample_rate".into(), json!(960), "decode_upsample_rate is 960; only 1920 is known"),
        (decoder("num_quantizers"), json!(32), "decoder_config.num_quantizers is 32; only 16 is known"),
        (decoder("hidden_act"), json!("relu"), r#"decoder_config.hidden_act is "relu"; only "silu" is known"#),
        (decoder("codebook_dim"), json!(127), "decoder_config.codebook_dim is 127; expected an even number"),
        (decoder("decoder_dim"), json!(250), "decoder_config.decoder_dim is 250; expected a multiple of 16"),
        (decoder("sliding_window"), json!(0), "decoder_config.sliding_window is 0; expected 1 to 1048575"),
        (
            decoder("upsample_rates"),
            json!([8, 5, 4, 2]),
            "decoder_config: product of upsampling_ratios and upsample_rates is 1280; only 1920 is known",
        ),
        (
            decoder("upsample_rates"),
            json!([&[8, 5, 4, 3][..], &[1; 66]].concat()),
            "decoder_config.upsample_rates has 70 entries; expected 16 at most",
        ),
    ] {
        let file = "speech_tokenizer/config.json";
        Folder::new().set(file, &pointer, value).says(file, words);
    }
    Folder::new()
        .set("speech_tokenizer/config.json", "/decoder_config/codebook_size", json!(128))
        .says("config.json", "code_predictor_config.vocab_size is 256, but the codec's codebook_size is 128");
}

#[test]
fn json_of_the_wrong_type_names_file_line_and_field() {
    let places = [
        ("config.json", "/talker_config/vocab_size"),
        ("config.json", "/talker_config/hidden_size"),
        ("config.json", "/talker_config/code_predictor_config/rope_theta"),
        ("speech_tokenizer/config.json", "/decoder_config/head_dim"),
        ("generation_config.json", "/top_k"),
        ("generation_config.json", "/temperature"),
    ];
    for (file, pointer) in places {
        let folder = Folder::new().set(file, pointer, json!("many"));
        let (error, field) = (folder.error(), pointer.rsplit('/').next().unwrap());
        let text = fs::read_to_string(folder.path(file)).unwrap();
        let line = 1 + text.lines().position(|line| line.contains("many")).unwrap();
        let start = format!("{}: invalid type: string \"many\", expected ", folder.path(file).display());
        assert!(error.starts_with(&start), "{error}");
        assert!(error.contains(&format!(" at line {line} column ")), "{error}");
        assert!(error.trim_end_matches(',').ends_with(&format!(": \"{field}\": \"many\"")), "{error}");
    }
    let folder = Folder::new().with("config.json", r#"{"model_type": "#);
    folder.says("config.json", r#"EOF while parsing a value at line 1 column 15: {"model_type":"#);
    Folder::new().with("config.json", "").says("config.json", "EOF while parsing a value at line 1 column 0");
    let config = fs::read_to_string(demo().join("config.json")).unwrap().replace("\"head_dim\": 64,", "");
    let error = Folder::new().with("config.json", config).error();
    assert!(error.contains("config.json: missing field `head_dim` at line"), "{error}");
}

#[test]
fn generation_config_may_be_absent_but_not_wrong() {
    let file = "generation_config.json";
    let sampling = Folder::new().without(file).open().config.sampling.clone();
    assert_eq!(sampling, SamplingOptions::default());
    for (field, value, words) in [
        ("temperature", json!(0), "temperature: is 0; expected a finite number above 0"),
        ("temperature", json!(-1), "temperature: is -1; expected a finite number above 0"),
        ("subtalker_temperature", json!(-0.5), "subtalker_temperature: is -0.5; expected a finite number above 0"),
        ("top_p", json!(2), "top_p: is 2; expected above 0, at most 1"),
        ("subtalker_top_p", json!(0), "subtalker_top_p: is 0; expected above 0, at most 1"),
        ("repetition_penalty", json!(0), "repetition_penalty: is 0; expected a finite number above 0"),
        ("max_new_tokens", json!(1), "max_new_tokens: is 1; expected at least 2 (a frame)"),
    ] {
        Folder::new().set(file, &format!("/{field}"), value).says(file, words);
    }
}

// ---- tokenizer files -----------------------------------------------------------------------------------------

#[test]
fn merges_and_vocabulary_that_do_not_fit() {
    let merges = "#version: 0.2\nĠ t\nxq zv\n";
    let words = "line 3: \"xq\" and \"zv\" need the token \"xq\", which vocab.json lacks; merges.txt belongs to \
                 another model's vocabulary";
    Folder::new().with("merges.txt", merges).says("merges.txt", words);
    Folder::new()
        .with("merges.txt", "#version: 0.2\na b c\n")
        .says("merges.txt", "line 2: expected two tokens and a space between them, found \"a b c\"");
    let words = "\"assistant\" is id 460, but config.json's assistant_token_id is 461";
    Folder::new().set("config.json", "/assistant_token_id", json!(461)).says("vocab.json", words);
    let words = "ids go up to 1588, but config.json's text_vocab_size is 1588";
    let small = Folder::new().set("config.json", "/talker_config/text_vocab_size", json!(1588));
    small.says("tokenizer_config.json", words);
}

#[test]
fn added_tokens_that_disagree_with_config() {
    let file = "tokenizer_config.json";
    for (token, field, id) in [
        ("<|im_start|>", "im_start_token_id", 1557),
        ("<|im_end|>", "im_end_token_id", 1558),
        ("<tts_pad>", "tts_pad_token_id", 1584),
        ("<tts_text_bos>", "tts_bos_token_id", 1585),
        ("<tts_text_eod>", "tts_eos_token_id", 1586),
    ] {
        let words = format!("{token} is id {id}, but config.json's {field} is 1500");
        Folder::new().set("config.json", &format!("/{field}"), json!(1500)).says(file, &words);
        let words = format!("{token} is missing from added_tokens_decoder; config.json's {field} is {id}");
        let renamed = format!("/added_tokens_decoder/{id}/content");
        Folder::new().set(file, &renamed, json!("<other>")).says(file, &words);
    }
    Folder::new().with(file, "{}").says(file, "added_tokens_decoder is missing");
}

// ---- requests ------------------------------------------------------------------------------------------------

#[test]
fn empty_text() {
    for text in ["", " ", "\n\t\n"] {
        assert_eq!(refused(&["say", text, "-o", "/nowhere/x.wav"]), "text: is empty; there is nothing to say");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    assert_eq!(refused(&["say", "--file", file, "-o", "/nowhere/x.wav"]), "text: is empty; there is nothing to say");
    // A trace goes where the official package goes: it speaks an empty text.
    let reference = reference();
    for request in [json!({"text": ""}), json!({"text_ids": []}), json!({"pieces": [], "layout": "streaming"})] {
        let mut request = request;
        request["max_new_tokens"] = json!(3);
        let request = TraceRequest::parse(request.to_string().as_bytes()).unwrap();
        let trace = trace::run(&reference, &request, None).unwrap().trace;
        assert_eq!(trace.ids.text, [1557, 460, 198, 1558, 198, 1557, 460, 198]);
        assert_eq!(trace.frames.len(), 2);
    }
}

#[test]
fn a_hundred_kilobytes_of_text() {
    let sentences = fs::read_to_string(demo().join("sentences.txt")).unwrap();
    let mut long = sentences.repeat(100_000 / sentences.len() + 1);
    long.truncate(100_000);
    let reference = reference();
    for text in [&long, &"a".repeat(100_000), &" ".repeat(100_000), &"é\u{301}".repeat(25_000)] {
        let streaming = Request { layout: Some(Layout::Streaming), ..say(5) };
        let speak = |text: Text| {
            let mut speech = Speech::new(reference.clone(), text, &streaming).unwrap();
            std::iter::from_fn(|| speech.next_frame().unwrap().map(|c| c.frame)).collect::<Vec<_>>()
        };
        let frames = speak(Text::Whole(text.clone()));
        assert_eq!(frames.len(), 4);
        let pieces = text.chars().collect::<Vec<_>>();
        let pieces = pieces.chunks(7).map(|piece| piece.iter().collect()).collect();
        assert_eq!(speak(Text::Pieces(pieces)), frames);
    }
    let request = Request { layout: Some(Layout::Whole), ..say(5) };
    let error = fails(reference.clone(), Text::Whole(long.clone()), &request);
    let streaming = Request { layout: Some(Layout::Streaming), ..say(5) };
    let ids = Speech::new(reference.clone(), Text::Whole(long), &streaming).unwrap().ids().unwrap().text.len();
    // The ids have five of the template's tail; the prompt has the codec row's five, eos, and where sound begins.
    let words = format!(
        "text: makes a prompt of {} positions; this model has 32768 in all. Speak it in parts, or in the streaming layout",
        ids - 5 + 7
    );
    assert_eq!(error, words);
    // Text that fits but for the last position, and text that just fits.
    let fits = |body: usize| Speech::new(reference.clone(), Text::Ids(vec![64; body]), &request);
    assert!(fits(32_768 - 11).is_ok());
    assert!(fits(32_768 - 10).err().unwrap().to_string().starts_with("text: makes a prompt of 32768 positions"));

    let huge = fails(reference, Text::Whole("a".repeat((1 << 20) + 1)), &request);
    assert_eq!(huge, "text: 1048587 bytes of text in one stretch; at most 1048576 can be tokenised");
}

#[test]
fn voices_and_languages_that_are_not_there() {
    let voice = |voice| Request { voice, ..say(3) };
    let cloned = || Voice::Cloned(VoicePrompt { speaker_vector: vec![0.0; 256], reference: None });
    let error = fails(reference(), hello(), &voice(Voice::Preset("Bob".into())));
    assert_eq!(error, "voice: \"Bob\" is unknown; this model has rms, slt");
    let error = fails(reference(), hello(), &voice(cloned()));
    assert_eq!(error, "voice: only a Base model speaks in a cloned voice");
    let error = fails(base().reference(), hello(), &voice(Voice::Preset("slt".into())));
    assert_eq!(error, "voice: \"slt\": this model has no preset voices");
    let error = fails(base().reference(), hello(), &voice(Voice::Unset));
    assert_eq!(error, "voice: a Base model speaks in a cloned voice; a speaker vector is missing");

    let language = |name: &str| Request { language: Some(name.into()), ..say(3) };
    let error = fails(reference(), hello(), &language("Klingon"));
    assert_eq!(error, "language: \"klingon\" is unknown; this model has auto, english");
    let dialect = || {
        Folder::new()
            .set("config.json", "/talker_config/codec_language_id/sichuan_dialect", json!(300))
            .set("config.json", "/talker_config/spk_is_dialect/slt", json!("sichuan_dialect"))
            .reference()
    };
    let error = fails(dialect(), hello(), &language("sichuan_dialect"));
    assert_eq!(error, "language: \"sichuan_dialect\" is unknown; this model has auto, english");
    assert!(Speech::new(dialect(), hello(), &language("ENGLISH")).is_ok());
}

#[test]
fn what_a_base_model_cannot_take() {
    let reference = base().reference();
    let clone = |speaker_vector: Vec<f32>, recording| Request {
        voice: Voice::Cloned(VoicePrompt { speaker_vector, reference: recording }),
        ..say(3)
    };
    let fails = |request: Request| fails(reference.clone(), hello(), &request);
    let right = vec![0.01; 256];
    assert!(Speech::new(reference.clone(), hello(), &clone(right.clone(), None)).is_ok());
    let error = fails(clone(vec![0.0; 255], None));
    assert_eq!(error, "speaker_vector: has 255 numbers; this model takes 256");
    for bad in [f32::NAN, f32::INFINITY] {
        let mut vector = right.clone();
        vector[200] = bad;
        assert_eq!(fails(clone(vector, None)), "speaker_vector: holds a number that is not finite");
    }
    let error = fails(Request { instruct: Some("Whisper.".into()), ..clone(right.clone(), None) });
    assert_eq!(error, "instruct: a Base model takes no instruction");

    let recording = |frames, transcript: &str| Some(Recording { frames, transcript: transcript.into() });
    let mut frame = [0; 16];
    frame[7] = 256;
    let error = fails(clone(right.clone(), recording(vec![[0; 16], frame], "Hi.")));
    assert_eq!(error, "ref_codes: frame 1 group 7 is 256; this model's codes are 0 to 255");
    let error = fails(clone(right.clone(), recording(vec![], "Hi.")));
    assert_eq!(error, "ref_codes: is empty; an in-context clone needs at least one frame");
    let error = fails(clone(right.clone(), recording(vec![[0; 16]], "")));
    assert_eq!(error, "ref_text: is empty; an in-context clone needs the recording's words");
    let error = fails(clone(right, recording(vec![[0; 16]; 40_000], "Hi.")));
    assert_eq!(
        error,
        "text: makes a prompt of 40009 positions; this model has 32768 in all. Shorten the instruction or the reference"
    );
}

#[test]
fn sampling_that_cannot_be() {
    let reference = reference();
    for (request, words) in [
        (r#"{"text":"a","max_new_tokens":1}"#, "max_new_tokens: is 1; expected at least 2 (a frame)"),
        (r#"{"text":"a","temperature":0}"#, "temperature: is 0; expected a finite number above 0"),
        (r#"{"text":"a","top_p":1.5}"#, "top_p: is 1.5; expected above 0, at most 1"),
        (r#"{"text":"a","repetition_penalty":-2}"#, "repetition_penalty: is -2; expected a finite number above 0"),
        (r#"{"text":"a","seed":1,"uniforms":[0.5]}"#, "seed: give seed or uniforms, not both"),
        (r#"{"text":"a","uniforms":[0.5, 1.0]}"#, "uniforms: number 1 is 1; expected 0 to under 1"),
        (r#"{"text":"a","uniforms":[-0.5]}"#, "uniforms: number 0 is -0.5; expected 0 to under 1"),
        (
            r#"{"text":"a","do_sample":true,"subtalker_dosample":true,"uniforms":[0.5, 0.5, 0.5]}"#,
            "uniforms: holds 3 draws; frame 0 group 3 needs one more",
        ),
        (
            r#"{"text":"a","do_sample":true,"uniforms":[0.5, 0.5]}"#,
            "uniforms: holds 2 draws; frame 2 group 0 needs one more",
        ),
    ] {
        assert_eq!(request_fails(&reference, request), words);
    }
    let nan = Request { randomness: Randomness::Uniforms(vec![f64::NAN]), ..say(3) };
    assert_eq!(fails(reference, hello(), &nan), "uniforms: number 0 is NaN; expected 0 to under 1");
}

#[test]
fn trace_requests_that_do_not_add_up() {
    let reference = reference();
    let unknown = format!("request: unknown field \"txet\"; known are {}", trace::FIELDS.join(", "));
    let codes = json!({"text": "a", "forced_frames": [vec![0; 16], vec![300; 16]]}).to_string();
    for (request, words) in [
        (r#"{"txet":"a"}"#, &*unknown),
        (r#"{"text":"a""#, "request: EOF while parsing an object at line 1 column 11"),
        ("[]", "request: invalid type: sequence, expected a map at line 1 column 0"),
        (r#"{"text":5}"#, "text: invalid type: integer `5`, expected a string"),
        (r#"{"text":"a","temperature":"x"}"#, "temperature: invalid type: string \"x\", expected f32"),
        (r#"{"text":"a","seed":-1}"#, "seed: invalid value: integer `-1`, expected u64"),
        (r#"{"text":"a","forced_frames":[[1,2]]}"#, "forced_frames: invalid length 2, expected an array of length 16"),
        (r#"{"text":"a","text":"b"}"#, "request: duplicate field `text` at line 1 column 18"),
        ("{}", "text: give exactly one of text, pieces and text_ids"),
        (r#"{"text":"a","pieces":["b"]}"#, "text: give exactly one of text, pieces and text_ids"),
        (r#"{"text":"a","text_ids":[1]}"#, "text: give exactly one of text, pieces and text_ids"),
        (r#"{"text_ids":[64, 1600]}"#, "text_ids: 1600 is not under the model's text_vocab_size 1600"),
        (
            r#"{"pieces":["a","b"]}"#,
            "pieces: live text needs the streaming layout; this request has the whole-text one",
        ),
        (
            r#"{"pieces":["a"],"layout":"whole"}"#,
            "pieces: live text needs the streaming layout; this request has the whole-text one",
        ),
        (r#"{"text":"a","layout":"both"}"#, "layout: is \"both\"; known are streaming, whole"),
        (r#"{"text":"a","regex":"llama"}"#, "regex: is \"llama\"; known are qwen, mistral"),
        (r#"{"text":"a","ref_text":"b"}"#, "ref_codes: ref_codes and ref_text go together"),
        (r#"{"text":"a","ref_text":"b","ref_codes":[]}"#, "speaker_vector: is missing; ref_codes need it"),
        (r#"{"text":"a","speaker":"slt","speaker_vector":[]}"#, "speaker: give speaker or speaker_vector, not both"),
        (&codes, "forced_frames: frame 1 group 0 is 300; this model's codes are 0 to 255"),
    ] {
        assert_eq!(request_fails(&reference, request), words);
    }
}

// ---- weights -------------------------------------------------------------------------------------------------

#[test]
fn weights_that_are_no_numbers_are_named() {
    let (main, codec) = ("model.safetensors", "speech_tokenizer/model.safetensors");
    for (file, tensor, begins) in [
        (main, "talker.model.layers.3.mlp.up_proj.weight", "step: scores of frame 0 group 0 are not finite"),
        (main, "talker.model.norm.weight", "step: scores of frame 0 group 0 are not finite"),
        (main, "talker.code_predictor.lm_head.4.weight", "step: scores of frame 0 group 5 are not finite"),
        (codec, "decoder.pre_conv.conv.weight", "codec decode: samples are not finite"),
        (
            codec,
            "decoder.quantizer.rvq_rest.vq.layers.2._codebook.cluster_usage",
            "codec decode: samples are not finite",
        ),
    ] {
        let not_a_number = |t: &mut Stored| match t.dtype {
            Dtype::BF16 => t.bytes.as_chunks_mut::<2>().0.fill(half::bf16::NAN.to_le_bytes()),
            Dtype::F32 => t.bytes.as_chunks_mut::<4>().0.fill(f32::NAN.to_le_bytes()),
            other => panic!("{other:?}"),
        };
        let folder = Folder::new().change(file, tensor, not_a_number);
        let words = format!("{begins}: {}: tensor {tensor} holds NaN or infinity", folder.path(file).display());
        assert_eq!(fails(folder.reference(), hello(), &say(3)), words);
    }
    // One number among 131072 is enough.
    let (tensor, at) = ("talker.model.layers.6.mlp.down_proj.weight", 70_001);
    let folder = Folder::new().change(main, tensor, |t| {
        t.bytes[2 * at..][..2].copy_from_slice(&half::bf16::INFINITY.to_le_bytes());
    });
    let words = format!("{}: tensor {tensor} holds NaN or infinity", folder.path(main).display());
    let error = fails(folder.reference(), hello(), &say(3));
    assert_eq!(error, format!("step: scores of frame 0 group 0 are not finite: {words}"));
}

#[test]
fn f32_and_f16_files_speak_too() {
    let main = "model.safetensors";
    let stored = Folder::new().tensors(main);
    let numbers = |t: &Stored| -> Vec<half::bf16> {
        assert_eq!(t.dtype, Dtype::BF16, "{}", t.name);
        t.bytes.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b)).collect()
    };
    let convert = |dtype: Dtype, convert: &dyn Fn(half::bf16) -> Vec<u8>| {
        let bytes = |t: &Stored| numbers(t).into_iter().flat_map(convert).collect();
        let one = |t: &Stored| Stored { name: t.name.clone(), dtype, shape: t.shape.clone(), bytes: bytes(t) };
        let tensors: Vec<Stored> = stored.iter().map(one).collect();
        speak(Folder::new().with_tensors(main, &tensors).reference(), 8)
    };
    // Every bf16 is an f32: the same numbers, so the same bits.
    assert_eq!(convert(Dtype::F32, &|x| x.to_f32().to_le_bytes().to_vec()), speak(reference(), 8));
    // Not every bf16 is an f16 (the tiny ones lose bits), so the f16 file is held against the same numbers in f32.
    let f16 = |x: half::bf16| half::f16::from_f32(x.to_f32());
    assert!(stored.iter().flat_map(numbers).any(|x| f16(x).to_f32() != x.to_f32()));
    assert_eq!(
        convert(Dtype::F16, &|x| f16(x).to_le_bytes().to_vec()),
        convert(Dtype::F32, &|x| f16(x).to_f32().to_le_bytes().to_vec())
    );
}

// ---- codes ---------------------------------------------------------------------------------------------------

#[test]
fn codes_that_no_codebook_has() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.wav");
    let refuse = |name: &str, bytes: &[u8], words: &str| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let words = words.replace("FILE", path.to_str().unwrap());
        assert_eq!(refused(&["codec", "decode", path.to_str().unwrap(), "-o", out.to_str().unwrap()]), words);
        assert!(!out.exists());
    };
    let frames = |codes: usize, code: u32| json!([vec![0; 16], vec![code; codes]]).to_string();
    refuse("a.json", frames(16, 256).as_bytes(), "codes: frame 1 group 0 is 256; this model's codes are 0 to 255");
    refuse(
        "b.json",
        frames(16, 65536).as_bytes(),
        "FILE: expected [[16 codes]...]: invalid value: integer `65536`, expected u16 at line 1 column 41",
    );
    refuse(
        "c.json",
        frames(15, 0).as_bytes(),
        "FILE: expected [[16 codes]...]: invalid length 15, expected an array of length 16 at line 1 column 66",
    );
    refuse("d.json", b"codes", "FILE: expected [[16 codes]...]: expected value at line 1 column 1");

    let npy = |descr: &str, order: &str, shape: &str, data: &[u8]| {
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
        header += &" ".repeat(127 - 10 - header.len());
        let header = header + "\n";
        let length = (header.len() as u16).to_le_bytes();
        [&b"\x93NUMPY\x01\x00"[..], &length, header.as_bytes(), data].concat()
    };
    let zeros = [0; 128];
    let cases = [
        (npy("<i2", "False", "(2, 8)", &zeros[..32]), "FILE: has shape [2, 8]; expected [frames, 16]"),
        (npy("<i2", "False", "(16,)", &zeros[..32]), "FILE: has shape [16]; expected [frames, 16]"),
        (npy("<i2", "True", "(2, 16)", &zeros[..64]), "FILE: stands columns first; expected rows first"),
        (npy("<f4", "False", "(2, 16)", &zeros), "FILE: holds f4; expected i8, i4, i2 or u2, little-endian"),
        (npy(">i8", "False", "(1, 16)", &zeros), "FILE: holds >i8; expected i8, i4, i2 or u2, little-endian"),
        (npy("<i2", "False", "(1, 16)", &[255; 32]), "FILE: holds code -1"),
        (
            npy("<i8", "False", "(2, 16)", &zeros),
            "FILE: has 128 bytes behind its header; shape [2, 16] of i8 says otherwise",
        ),
        (
            npy("<i8", "False", "(4611686018427387904, 16)", &zeros),
            "FILE: has shape (4611686018427387904, 16), which no file can hold",
        ),
        (
            npy("<i8", "False", "(576460752303423488, 16)", &zeros),
            "FILE: has 128 bytes behind its header; shape [576460752303423488, 16] of i8 says otherwise",
        ),
        (
            npy("<u2", "False", "(1, 16)", &zeros[..33]),
            "FILE: has 33 bytes behind its header; shape [1, 16] of u2 says otherwise",
        ),
        (
            npy("<i4", "False", "(1, 16)", &300i32.to_le_bytes().repeat(16)),
            "codes: frame 0 group 0 is 300; this model's codes are 0 to 255",
        ),
        (b"RIFF....WAVE".to_vec(), "FILE: not a .npy file: magic not found for NPY file"),
    ];
    for (bytes, words) in &cases {
        refuse("codes.npy", bytes, words);
    }
    let missing = folder.path().join("missing.npy");
    let error = refused(&["codec", "decode", missing.to_str().unwrap(), "-o", out.to_str().unwrap()]);
    assert_eq!(error, format!("{}: No such file or directory (os error 2)", missing.display()));
}

// ---- places to write -----------------------------------------------------------------------------------------

#[test]
fn outputs_that_cannot_be_written() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let here = folder.path().to_str().unwrap();
    let (request, codes, nowhere) = (at("r.json"), at("codes.json"), at("none/x.wav"));
    fs::write(&request, r#"{"text":"Hi.","max_new_tokens":3}"#).unwrap();
    fs::write(&codes, json!([vec![0; 16]]).to_string()).unwrap();
    let no_folder = format!("{nowhere}: No such file or directory (os error 2)");
    let a_folder = |path: &str| format!("{path}: Is a directory (os error 21)");

    assert_eq!(refused(&["say", "Hi.", "-o", &nowhere]), no_folder);
    assert_eq!(refused(&["say", "Hi.", "-o", here]), a_folder(here));
    assert_eq!(refused(&["codec", "decode", &codes, "-o", &nowhere]), no_folder);
    assert_eq!(refused(&["trace", "--request", &request, "--wav", &nowhere]), no_folder);
    fs::create_dir(at("folder.npy")).unwrap();
    assert_eq!(refused(&["trace", "--request", &request, "--wav", &at("folder.npy")]), a_folder(&at("folder.npy")));
    let error = refused(&["trace", "--request", &request, "--dump", &request]);
    assert_eq!(error, format!("{request}: File exists (os error 17)"));
    // A name that says no format is refused before the work, by the argument's name.
    for args in [["trace", "--request", &request, "--wav", "x.mp3"], ["codec", "decode", &codes, "--output", "x.mp3"]] {
        let ran = run(command(&args), b"");
        assert_eq!((ran.status, ran.out.len()), (Some(2), 0));
        let words = format!("invalid value 'x.mp3' for '{} <", args[3]);
        assert!(ran.err.contains(&words), "{}", ran.err);
        assert!(ran.err.contains("expected a name that ends in .wav or .npy"), "{}", ran.err);
    }
}

#[test]
fn a_standard_output_that_takes_nothing() {
    let folder = TempDir::new().unwrap();
    let request = folder.path().join("r.json").to_str().unwrap().to_owned();
    fs::write(&request, r#"{"text":"Hi.","max_new_tokens":3}"#).unwrap();
    let commands: [&[&str]; 4] =
        [&["say", "Hi.", "-o", "-"], &["trace", "--request", &request], &["voices"], &["inspect", "--json"]];
    for args in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut gone = command(args);
        gone.stdout(writer);
        let ran = run(gone, b"");
        assert_eq!(ran.status, Some(2), "{args:?}: {}", ran.err);
        assert!(ran.err.ends_with("qwentts: <stdout>: Broken pipe (os error 32)\n"), "{args:?}: {}", ran.err);

        let mut full = command(args);
        full.stdout(Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap()));
        let ran = run(full, b"");
        assert_eq!(ran.status, Some(2), "{args:?}: {}", ran.err);
        assert!(ran.err.ends_with("qwentts: <stdout>: No space left on device (os error 28)\n"), "{}", ran.err);

        // A descriptor that is closed is /dev/null by the time Rust's main runs: nothing is wrong to see.
        let mut closed = std::process::Command::new("sh");
        closed.args(["-c", "exec \"$0\" \"$@\" >&-", env!("CARGO_BIN_EXE_qwentts")]).args(args);
        closed.stdout(Stdio::piped()).stderr(Stdio::piped());
        let ran = run(closed, b"");
        assert_eq!((ran.status, ran.out.len()), (Some(0), 0), "{args:?}: {}", ran.err);
    }
}

// ---- the command line's own ----------------------------------------------------------------------------------

#[test]
fn arguments_that_cannot_be_used() {
    let error = refused(&["say", "Hi.", "--device", "cuda:0", "-o", "/nowhere/x.wav"]);
    assert_eq!(error, "--device: is \"cuda:0\"; this build computes on cpu");
    let error = refused(&["say", "Hi.", "--threads", "0", "-o", "/nowhere/x.wav"]);
    assert_eq!(error, "threads: is 0; expected at least 1");
    let error = refused(&["say", "Hi.", "--json", "-o", "-"]);
    assert_eq!(error, "--json: and -o - both want standard output");
    let error = refused(&["say", "Hi.", "--voice", "Bob", "-o", "/nowhere/x.wav"]);
    assert_eq!(error, "voice: \"Bob\" is unknown; this model has rms, slt");
    let error = refused(&["say", "Hi.", "--layout", "both", "-o", "/nowhere/x.wav"]);
    assert_eq!(error, "layout: is \"both\"; known are streaming, whole");
    let error = refused(&["say", "--file", "/nowhere/text", "-o", "/nowhere/x.wav"]);
    assert_eq!(error, "/nowhere/text: No such file or directory (os error 2)");
    let error = refused(&["voices", "-m", "/nowhere/model"]);
    assert!(error.starts_with("/nowhere/model: is no folder; expected one that holds config.json"), "{error}");
    assert_eq!(refused(&["inspect", "/nowhere/model"]), error);

    let folder = TempDir::new().unwrap();
    let text = folder.path().join("latin1.txt");
    fs::write(&text, b"caf\xe9").unwrap();
    let error = refused(&["say", "--file", text.to_str().unwrap(), "-o", "/nowhere/x.wav"]);
    assert_eq!(error, "text: is not UTF-8: incomplete utf-8 byte sequence from index 3");
    let request = folder.path().join("r.json");
    fs::write(&request, r#"{"text":"Hi.","max_new_tokens":3}"#).unwrap();
    let request = request.to_str().unwrap();
    let missing = refused(&["trace", "--request", "/nowhere/r.json"]);
    assert_eq!(missing, "/nowhere/r.json: No such file or directory (os error 2)");
    let no_trace = refused(&["trace", "--request", request, "--compare", request]);
    assert_eq!(no_trace, format!("{request}: missing field `ids` at line 1 column 33"));
    // The parser of arguments has its own words, which name the argument.
    let usage: [(&[&str], &str); 6] = [
        (&[], "Usage: qwentts <COMMAND>"),
        (&["sing"], "unrecognized subcommand 'sing'"),
        (&["say"], "required arguments were not provided"),
        (&["say", "Hi.", "--seed", "x"], "invalid value 'x' for '--seed <SEED>'"),
        (&["say", "Hi.", "--sample", "--greedy"], "'--sample' cannot be used with '--greedy'"),
        (&["trace", "--request", request, "--chunks", "1,0"], "\"1,0\": expected widths in frames, such as 1,2,4,8"),
    ];
    for (args, words) in usage {
        let ran = run(command(args), b"");
        assert_eq!((ran.status, ran.out.len()), (Some(2), 0), "{args:?}");
        assert!(ran.err.contains(words), "{args:?}: {}", ran.err);
    }
    done(&["trace", "--request", request]);
}
