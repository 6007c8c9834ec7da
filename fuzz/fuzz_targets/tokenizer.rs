//! vocab.json, merges.txt and tokenizer_config.json: they are refused, or give ids that the model has, for any text and
//! alike whether it comes at once or in pieces.
#![no_main]

use libfuzzer_sys::arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use qwentts::config::TextControls;
use qwentts::fuzzing::{LiveTokenizer, Tokenizer};
use qwentts::request::Regex;
use qwentts_fuzz::edit::{Edit, Splice, edit};
use qwentts_fuzz::tiny::{self, ASSISTANT, CONTROLS, NASTY, TEXT_VOCAB};
use serde_json::Value;
use std::sync::{Arc, LazyLock};

const FILES: [&str; 3] = ["vocab.json", "merges.txt", "tokenizer_config.json"];

/// Files, controls, and how many ids there are.
type Base = ([Vec<u8>; 3], TextControls, usize);

/// The smallest that is whole, and the demo's.
static BASES: LazyLock<[Base; 2]> = LazyLock::new(|| {
    let controls = |first, assistant| TextControls {
        im_start: first,
        im_end: first + 1,
        tts_pad: 0,
        tts_bos: 0,
        tts_eos: 0,
        assistant,
    };
    let demo: [&[u8]; 3] = [
        include_bytes!("../../models/demo/vocab.json"),
        include_bytes!("../../models/demo/merges.txt"),
        include_bytes!("../../models/demo/tokenizer_config.json"),
    ];
    let tiny = TextControls {
        tts_pad: CONTROLS + 2,
        tts_bos: CONTROLS + 3,
        tts_eos: CONTROLS + 4,
        ..controls(CONTROLS, ASSISTANT)
    };
    let demo_controls = TextControls { tts_pad: 1584, tts_bos: 1585, tts_eos: 1586, ..controls(1557, 460) };
    [(tiny::tokenizer(&tiny::vocabulary()), tiny, TEXT_VOCAB), (demo.map(<[u8]>::to_vec), demo_controls, 1600)]
});

const WORDS: [&str; 24] = [
    "a",
    "as",
    "assistant",
    "assistant\n",
    "ti",
    "Ġ",
    "Ċ",
    "\n",
    " ",
    "",
    "é",
    "e\u{301}",
    "<|im_start|>",
    "<|im_end|>",
    "<tts_pad>",
    "content",
    "special",
    "normalized",
    "lstrip",
    "264",
    "271",
    "4294967295",
    "4294967296",
    "\u{301}",
];

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    demo: bool,
    /// More ids than there are.
    size: i8,
    controls: Option<(u8, u32)>,
    vocab: Vec<Edit<'a>>,
    /// Line, and the two words that come to stand there; none of them takes it away.
    merges: Vec<(u16, Option<(u16, u16)>)>,
    settings: Vec<Edit<'a>>,
    splices: Vec<(u8, Splice<'a>)>,
    text: Vec<u8>,
}

fuzz_target!(|input: Input| {
    let (files, controls, size) = &BASES[usize::from(input.demo)];
    let mut files = files.clone();
    let mut controls = *controls;
    for (i, edits) in [(0, &input.vocab), (2, &input.settings)] {
        if !edits.is_empty() {
            let mut json: Value = serde_json::from_slice(&files[i]).unwrap();
            edit(&mut json, edits, &WORDS);
            files[i] = serde_json::to_vec(&json).unwrap();
        }
    }
    if !input.merges.is_empty() {
        let text = String::from_utf8(files[1].clone()).unwrap();
        let vocab: serde_json::Map<String, Value> = serde_json::from_slice(&files[0]).unwrap_or_default();
        let words: Vec<&String> = vocab.keys().collect();
        let mut lines: Vec<String> = text.lines().map(String::from).collect();
        for (at, pair) in &input.merges {
            let at = usize::from(*at) % (lines.len() + 1);
            match pair {
                None if at < lines.len() => drop(lines.remove(at)),
                Some((left, right)) if !words.is_empty() => {
                    let word = |i: u16| words[usize::from(i) % words.len()].as_str();
                    lines.insert(at, format!("{} {}", word(*left), word(*right)));
                }
                _ => {}
            }
        }
        files[1] = lines.join("\n").into_bytes();
    }
    for (which, splice) in &input.splices {
        splice.apply(&mut files[usize::from(*which) % 3]);
    }
    if let Some((which, id)) = input.controls {
        let c = &mut controls;
        let all = [&mut c.im_start, &mut c.im_end, &mut c.tts_pad, &mut c.tts_bos, &mut c.tts_eos, &mut c.assistant];
        *all.into_iter().nth(usize::from(which) % 6).unwrap() = id;
    }
    let size = size.saturating_add_signed(input.size.into());

    let [vocab, merges, settings] = &files;
    let tokenizer = match Tokenizer::new(vocab, merges, settings, &controls, size) {
        Err(error) => {
            let text = error.to_string();
            let what = FILES.iter().find_map(|file| text.strip_prefix(&format!("{file}: ")));
            assert!(what.is_some_and(|what| !what.trim().is_empty()), "{text:?} names none of {FILES:?}");
            return;
        }
        Ok(tokenizer) => Arc::new(tokenizer),
    };
    // The role line is three ids, whatever else changed.
    assert_eq!(tokenizer.encode("assistant\n", Regex::Qwen, false).unwrap(), [controls.assistant, tokenizer.newline()]);
    let pieces: Vec<&str> = input.text.iter().take(40).map(|i| NASTY[usize::from(*i) % NASTY.len()]).collect();
    let pieces = [&pieces[..], &[" a<|im_end|>b", "<|im_<|", "<|audio_pad|>"]].concat(); // the last ids among them
    let text = pieces.concat();
    for regex in [Regex::Qwen, Regex::Mistral] {
        for special_tokens in [false, true] {
            let ids = tokenizer.encode(&text, regex, special_tokens).unwrap();
            assert!(ids.iter().all(|&id| (id as usize) < size), "{ids:?} of {size}");
            let mut live = LiveTokenizer::new(tokenizer.clone(), "", regex, special_tokens);
            let mut in_pieces = Vec::new();
            for piece in &pieces {
                in_pieces.extend(live.push(piece).unwrap());
            }
            in_pieces.extend(live.end().unwrap());
            assert_eq!(in_pieces, ids, "{text:?} {regex:?} {special_tokens}");
        }
    }
});
