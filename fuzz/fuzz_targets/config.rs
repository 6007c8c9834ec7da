//! The three config files: what is taken must satisfy all that the code behind takes for granted.
#![no_main]

use libfuzzer_sys::arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use qwentts::config::{Config, StackConfig};
use qwentts::{GROUPS, SAMPLES_PER_FRAME};
use qwentts_fuzz::Folder;
use qwentts_fuzz::edit::{Edit, Splice, edit};
use serde_json::Value;
use std::sync::LazyLock;

const FILES: [&str; 3] = ["config.json", "speech_tokenizer/config.json", "generation_config.json"];

/// The demo's files, and those of the goldens' checkpoints.
static BASES: LazyLock<Vec<[Value; 3]>> = LazyLock::new(|| {
    let demo = [
        include_str!("../../models/demo/config.json"),
        include_str!("../../models/demo/speech_tokenizer/config.json"),
        include_str!("../../models/demo/generation_config.json"),
    ];
    let golden = [
        include_str!("../../tests/golden/checkpoints/tiny-0b6-custom.json"),
        include_str!("../../tests/golden/checkpoints/tiny-1b7-base.json"),
        include_str!("../../tests/golden/checkpoints/tiny-1b7-design.json"),
    ];
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let mut bases = vec![demo.map(json)];
    bases.extend(golden.map(|recipe| FILES.map(|file| json(recipe)["files"][file].clone())));
    bases
});

const WORDS: [&str; 24] = [
    "base",
    "custom_voice",
    "voice_design",
    "0b6",
    "1b7",
    "",
    "qwen3_tts",
    "qwen3_tts_tokenizer_12hz",
    "silu",
    "default",
    "rope_type",
    "type",
    "English",
    "english",
    "chinese",
    "sichuan_dialect",
    "Sichuan_Dialect",
    "slt",
    "SLT",
    "rms",
    "auto",
    "İ",
    "codec_language_id",
    "spk_is_dialect",
];

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    base: u8,
    edits: [Vec<Edit<'a>>; 3],
    splice: Option<(u8, Splice<'a>)>,
    no_generation: bool,
    pretty: bool,
}

fuzz_target!(|input: Input| {
    static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::new("config"));
    let base = &BASES[usize::from(input.base) % BASES.len()];
    for (i, name) in FILES.into_iter().enumerate() {
        let mut json = base[i].clone();
        edit(&mut json, &input.edits[i], &WORDS);
        // Messages show the line, where it is short.
        let mut text = match input.pretty {
            true => serde_json::to_vec_pretty(&json).unwrap(),
            false => serde_json::to_vec(&json).unwrap(),
        };
        if let Some((which, splice)) = &input.splice
            && usize::from(*which) % 3 == i
        {
            splice.apply(&mut text);
        }
        match i == 2 && input.no_generation {
            true => FOLDER.remove(name),
            false => FOLDER.write(name, text),
        }
    }
    match Config::open(&FOLDER.source()) {
        Err(error) => FOLDER.check_error(&error, &FILES),
        Ok(config) => check(&config),
    }
});

fn check(config: &Config) {
    for stack in [&config.talker, &config.predictor, &config.codec.transformer] {
        check_stack(stack);
    }
    let most = 1 << 20;
    let codec = &config.codec;
    assert!((1..=65_536 - 1024).contains(&config.codes) && config.talker_vocab == config.codes + 1024);
    assert!(codec.codebook_size == config.codes && codec.codebook_dim.is_multiple_of(2));
    let dims = [
        config.text_vocab,
        config.text_hidden,
        config.max_positions,
        codec.latent_dim,
        codec.codebook_dim,
        codec.decoder_dim,
    ];
    assert!(dims.iter().all(|d| (1..most).contains(d)), "{dims:?}");
    let c = &config.codec_controls;
    let controls = config.codes as u32..config.talker_vocab as u32;
    for id in [c.pad, c.bos, c.eos, c.think, c.nothink, c.think_bos, c.think_eos] {
        assert!(controls.contains(&id), "{id}");
    }
    let t = &config.text_controls;
    for id in [t.im_start, t.im_end, t.tts_pad, t.tts_bos, t.tts_eos, t.assistant] {
        assert!((id as usize) < config.text_vocab, "{id}");
    }
    for (name, id) in &config.languages {
        assert!(controls.contains(id) && *name == name.to_lowercase(), "{name:?} {id}");
    }
    for (name, speaker) in &config.speakers {
        assert!((speaker.id as usize) < config.talker_vocab && *name == name.to_lowercase(), "{name:?}");
        assert!(speaker.dialect.as_ref().is_none_or(|d| config.languages.contains_key(d)), "{name:?}");
    }
    let product: usize = codec.upsampling_ratios.iter().chain(&codec.upsample_rates).product();
    assert_eq!(product, SAMPLES_PER_FRAME);
    assert!(!codec.upsample_rates.is_empty() && !codec.upsampling_ratios.is_empty());
    let blocks = codec.upsample_rates.len();
    assert!(codec.decoder_dim.is_multiple_of(1 << blocks) && codec.decoder_dim >> blocks > 0);
    assert!((1..=4096).contains(&codec.sliding_window));
    // What a stream's codec keeps between frames, in floats: it is one allocation, made whatever the weights are.
    let kept = 2
        * codec.transformer.layers as u128
        * (codec.sliding_window - 1) as u128
        * (codec.transformer.kv_heads * codec.transformer.head_dim) as u128;
    assert!(kept <= 1 << 26, "{kept} floats for each stream");
    config.sampling.check().unwrap();
    config.sampling.settle(&config.sampling).unwrap();
    assert_eq!(GROUPS, 16);
    assert!(config.language_names().all(|name| config.languages.contains_key(name)));
}

fn check_stack(stack: &StackConfig) {
    let sizes = [stack.hidden, stack.intermediate, stack.layers, stack.heads, stack.kv_heads, stack.head_dim];
    assert!(sizes.iter().all(|d| (1..1 << 20).contains(d)), "{sizes:?}");
    assert!(stack.heads.is_multiple_of(stack.kv_heads) && stack.head_dim.is_multiple_of(2));
    assert!(stack.rms_eps > 0.0 && stack.rms_eps < 1.0 && stack.rope_theta > 1.0 && stack.rope_theta.is_finite());
}
