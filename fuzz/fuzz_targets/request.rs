//! R.json: it is refused in words that name a field, or settles; what settles becomes an utterance or is refused in the
//! same way, without a frame computed.
#![no_main]

use libfuzzer_sys::arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use qwentts::trace::{FIELDS, TraceRequest};
use qwentts::{Error, Model, ModelSource, Reference, Speech};
use qwentts_fuzz::Folder;
use qwentts_fuzz::edit::{Edit, Splice, edit};
use qwentts_fuzz::tiny::{self, Dims, NASTY};
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};

/// The demo, and one small model of each kind and size.
static MODELS: LazyLock<Vec<Arc<Reference>>> = LazyLock::new(|| {
    let open = |source| Arc::new(Reference::new(Model::open(&source).unwrap(), Some(1)).unwrap());
    let tiny = |(kind, size)| {
        let (folder, dims) = (Folder::new(&format!("request-{kind}-{size}")), Dims::golden(kind, size));
        let [vocab, merges, settings] = tiny::tokenizer(&tiny::vocabulary());
        folder.write("vocab.json", vocab);
        folder.write("merges.txt", merges);
        folder.write("tokenizer_config.json", settings);
        folder.write("config.json", dims.config().to_string());
        folder.write("speech_tokenizer/config.json", dims.codec_config().to_string());
        folder.write("model.safetensors", tiny::safetensors(&dims.main_tensors(), 0));
        folder.write("speech_tokenizer/model.safetensors", tiny::safetensors(&dims.codec_tensors(), 0));
        open(folder.source())
    };
    let kinds = [("base", "0b6"), ("custom_voice", "0b6"), ("custom_voice", "1b7"), ("voice_design", "1b7")];
    [open(ModelSource::Demo)].into_iter().chain(kinds.map(tiny)).collect()
});

/// Requests of the goldens, and the model (by place in `MODELS`) that they are for; then one with every field.
static BASES: LazyLock<Vec<(usize, Value)>> = LazyLock::new(|| {
    let golden = [
        (1, include_str!("../../tests/golden/cases/base-short-reference-0b6-1.json")),
        (1, include_str!("../../tests/golden/cases/base-reference-whole-0b6-1.json")),
        (1, include_str!("../../tests/golden/cases/base-vector-streaming-0b6-1.json")),
        (2, include_str!("../../tests/golden/cases/controls-in-text.json")),
        (2, include_str!("../../tests/golden/cases/forced-greedy.json")),
        (2, include_str!("../../tests/golden/cases/talker-sampled-alone.json")),
        (3, include_str!("../../tests/golden/cases/custom-instruct-1b7-1.json")),
        (3, include_str!("../../tests/golden/cases/text-ids.json")),
        (4, include_str!("../../tests/golden/cases/design-streaming-1b7-1.json")),
    ];
    let mut bases: Vec<(usize, Value)> = golden
        .into_iter()
        .map(|(model, case)| (model, serde_json::from_str::<Value>(case).unwrap()["request"].clone()))
        .collect();
    bases.push((0, json!({"text": "Hello.", "speaker": "slt", "greedy": true})));
    bases.push((
        0,
        json!({
            "pieces": ["Hel", "lo ", "e", "\u{301}", "<|im_", "end|>"], "layout": "streaming", "language": "English",
            "speaker": "SLT", "instruct": "Slowly.", "do_sample": true, "temperature": 0.9, "top_k": 50, "top_p": 0.9,
            "repetition_penalty": 1.05, "subtalker_dosample": false, "subtalker_temperature": 0.9, "subtalker_top_k": 0,
            "subtalker_top_p": 1.0, "greedy": false, "seed": 18446744073709551615u64, "max_new_tokens": 3,
            "regex": "mistral", "special_tokens": true,
        }),
    ));
    bases
});

static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let values =
        ["streaming", "whole", "qwen", "mistral", "auto", "english", "chinese", "sichuan_dialect", "slt", "eric"];
    FIELDS.into_iter().chain(values).chain(NASTY).collect()
});

#[derive(Arbitrary, Debug)]
struct Edits<'a> {
    base: u8,
    edits: Vec<Edit<'a>>,
    splice: Option<Splice<'a>>,
}

fuzz_target!(|data: &[u8]| {
    let [choice, rest @ ..] = data else { return };
    let mut model = usize::from(*choice >> 1);
    let json = match choice & 1 {
        // The bytes as they are, for the dictionary.
        0 => rest.to_vec(),
        _ => {
            let Ok(edits) = Edits::arbitrary_take_rest(Unstructured::new(rest)) else { return };
            let (its, base) = &BASES[usize::from(edits.base) % BASES.len()];
            if model.is_multiple_of(2) {
                model = *its;
            }
            let mut json = base.clone();
            edit(&mut json, &edits.edits, &WORDS);
            let mut json = json.to_string().into_bytes();
            if let Some(splice) = edits.splice {
                splice.apply(&mut json);
            }
            json
        }
    };
    let reference = &MODELS[model % MODELS.len()];
    if let Err(error) = say(reference, &json) {
        let Error::Request { field, what } = &error else { panic!("{error} is not about a field") };
        assert!(FIELDS.contains(field) || ["request", "voice"].contains(field), "{error}");
        assert!(!what.trim().is_empty(), "{error}");
    }
});

fn say(reference: &Arc<Reference>, json: &[u8]) -> qwentts::Result<()> {
    let request = TraceRequest::parse(json)?;
    let (text, settled) = request.settle()?;
    let mut speech = Speech::new(reference.clone(), text, &settled)?;
    assert!(speech.end().is_none() && speech.prefill_positions() == 0);
    if let Some(frames) = request.forced_frames {
        speech.force(frames)?;
    }
    // Lets live text arrive.
    let ids = speech.ids()?;
    let vocab = reference.model.config.text_vocab;
    let all = ids.text.iter().chain(ids.instruct.iter().flatten()).chain(ids.reference.iter().flatten());
    assert!({ all }.all(|&id| (id as usize) < vocab), "{ids:?}");
    if let Some(pieces) = request.pieces {
        let whole = TraceRequest {
            text: Some(pieces.concat()),
            pieces: None,
            forced_frames: None,
            ..TraceRequest::parse(json)?
        };
        let (text, settled) = whole.settle()?;
        assert_eq!(Speech::new(reference.clone(), text, &settled)?.ids()?.text, ids.text);
    }
    Ok(())
}
