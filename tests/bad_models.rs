//! Would catch a broken or foreign model folder that is taken in silence, ends in a panic, or is refused without the
//! words that mend it.

#[path = "support/folder.rs"]
mod folder;
#[path = "support/run.rs"]
mod run;

use folder::{FILES, Folder, Stored, fails, hello, reference, say, speak};
use qwentts::cpu::Reference;
use qwentts::model::Model;
use qwentts::request::SamplingOptions;
use qwentts::source::ModelSource;
use run::demo;
use safetensors::Dtype;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

// ---- files ---------------------------------------------------------------------------------------------------

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
fn a_speaker_encoder_config_counts_in_a_base_model_alone() {
    let odd = json!({ "enc_dim": "wide" });
    Folder::new().set("config.json", "/speaker_encoder_config", odd).open();
}

#[test]
fn a_codec_without_its_encoder_speaks_and_hears_nothing() {
    let folder = Folder::new().set("speech_tokenizer/config.json", "/encoder_config", Value::Null);
    assert_eq!(speak(folder.reference(), 2), speak(reference(), 2));
    let error = folder.reference().encode(&[0.1; 4000]).unwrap_err().to_string();
    let file = folder.path("speech_tokenizer");
    assert_eq!(error, format!("{}: holds no codec encoder (tensors encoder.*)", file.display()));
}

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
        (predictor("vocab_size"), json!(64513), "code_predictor_config.vocab_size is 64513; expected 1 to 64512"),
        (
            talker("spk_id"),
            json!({"slt": 456, "Slt": 457}),
            "talker_config.spk_id: slt stands there twice, but for its case",
        ),
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
        (
            talker("codec_language_id"),
            json!({"English": 258, "english": 259}),
            "talker_config.codec_language_id: english stands there twice, but for its case",
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
        (
            decoder("upsampling_ratios"),
            json!([]),
            "decoder_config: upsampling_ratios or upsample_rates is empty; expected one at least",
        ),
        (decoder("sliding_window"), json!(1048575), "decoder_config.sliding_window is 1048575; expected 1 to 4096"),
        (decoder("codebook_dim"), json!(127), "decoder_config.codebook_dim is 127; expected an even number"),
        (decoder("decoder_dim"), json!(250), "decoder_config.decoder_dim is 250; expected a multiple of 16"),
        (decoder("sliding_window"), json!(0), "decoder_config.sliding_window is 0; expected 1 to 4096"),
        (
            decoder("num_hidden_layers"),
            json!(1000000),
            "decoder_config: num_hidden_layers 1000000, sliding_window 24, num_key_value_heads 2 and head_dim 64 make \
             5888000000 numbers that each stream keeps; expected 67108864 at most",
        ),
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
        (
            "/encoder_config/pad_mode".into(),
            json!("replicate"),
            r#"encoder_config.pad_mode is "replicate"; only "constant" is known"#,
        ),
        (
            "/encoder_config/upsampling_ratios".into(),
            json!([8, 6, 5, 2]),
            "encoder_config: twice the product of upsampling_ratios is 960; only 1920 is known",
        ),
        (
            "/encoder_config/num_quantizers".into(),
            json!(15),
            "encoder_config.num_quantizers is 15; expected 16 or more",
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
        ("temperature", json!(0), "temperature: is 0; expected 0.00001 to 100000"),
        ("temperature", json!(-1), "temperature: is -1; expected 0.00001 to 100000"),
        ("subtalker_temperature", json!(-0.5), "subtalker_temperature: is -0.5; expected 0.00001 to 100000"),
        ("top_p", json!(2), "top_p: is 2; expected 0 to 1"),
        ("subtalker_top_p", json!(-1), "subtalker_top_p: is -1; expected 0 to 1"),
        ("repetition_penalty", json!(0), "repetition_penalty: is 0; expected 0.00001 to 100000"),
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
