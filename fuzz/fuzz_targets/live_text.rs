//! Text cut anywhere: the ids of the pieces are those of the whole, none comes out that later text changes, and a flush
//! begins anew.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qwentts::config::TextControls;
use qwentts::fuzzing::{LiveTokenizer, Tokenizer};
use qwentts::request::Regex;
use qwentts_fuzz::tiny::{self, ASSISTANT, NASTY};
use std::sync::{Arc, LazyLock};

/// A vocabulary that merges every pair of bytes, so that ids tell where pieces end, and the demo's.
static TOKENIZERS: LazyLock<[Arc<Tokenizer>; 2]> = LazyLock::new(|| {
    let build = |files: [Vec<u8>; 3], first: [u32; 2], assistant, size| {
        let [im, tts] = first;
        let controls =
            TextControls { im_start: im, im_end: im + 1, tts_pad: tts, tts_bos: tts + 1, tts_eos: tts + 2, assistant };
        Arc::new(Tokenizer::new(&files[0], &files[1], &files[2], &controls, size).unwrap())
    };
    let pairs = tiny::vocabulary_of_pairs();
    let first = pairs.0.len() as u32;
    let demo: [&[u8]; 3] = [
        include_bytes!("../../models/demo/vocab.json"),
        include_bytes!("../../models/demo/merges.txt"),
        include_bytes!("../../models/demo/tokenizer_config.json"),
    ];
    [
        build(tiny::tokenizer(&pairs), [first, first + 2], ASSISTANT, 1 << 17),
        build(demo.map(<[u8]>::to_vec), [1557, 1584], 460, 1600),
    ]
});

#[derive(Debug)]
struct Input {
    demo: bool,
    mistral: bool,
    special_tokens: bool,
    prefix: bool,
    /// Pieces, and whether each is flushed.
    pieces: Vec<(String, bool)>,
}

impl Input {
    /// Flags, which pieces are flushed, eight cuts; then the text, or a nasty fragment for each byte.
    fn of(data: &[u8]) -> Option<Input> {
        let ([flags, flushed], data) = data.split_first_chunk()?;
        let (cuts, text) = data.split_first_chunk::<16>()?;
        let [demo, mistral, special_tokens, prefix, words, flush] = [0, 1, 2, 3, 4, 5].map(|bit| flags >> bit & 1 == 1);
        let text: String = match words {
            false => String::from_utf8_lossy(text).into_owned(),
            true => text.iter().take(256).map(|b| NASTY[usize::from(*b) % NASTY.len()]).collect(),
        };
        let mut cuts: Vec<usize> = cuts.as_chunks().0.iter().map(|c| u16::from_le_bytes(*c).into()).collect();
        cuts.iter_mut().for_each(|cut| *cut %= text.len() + 1);
        cuts.sort_unstable();
        let (mut pieces, mut from) = (Vec::new(), 0);
        for (i, cut) in cuts.into_iter().chain([text.len()]).enumerate() {
            let cut = text.floor_char_boundary(cut);
            pieces.push((text[from..cut].to_owned(), flush && flushed >> (i % 8) & 1 == 1));
            from = cut;
        }
        Some(Input { demo, mistral, special_tokens, prefix, pieces })
    }
}

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::of(data) else { return };
    let tokenizer = &TOKENIZERS[usize::from(input.demo)];
    let regex = if input.mistral { Regex::Mistral } else { Regex::Qwen };
    let prefix = if input.prefix { "assistant\n" } else { "" };
    let whole = |text: &str| tokenizer.encode(text, regex, input.special_tokens).unwrap();
    let mut live = LiveTokenizer::new(tokenizer.clone(), prefix, regex, input.special_tokens);
    let (mut stretch, mut ids) = (prefix.to_owned(), Vec::new());
    for (piece, flush) in &input.pieces {
        ids.extend(live.push(piece).unwrap());
        stretch += piece;
        if *flush {
            ids.extend(live.flush().unwrap());
            assert_eq!(ids, whole(&stretch), "{stretch:?} before a flush");
            (stretch, ids) = (String::new(), Vec::new());
        }
    }
    ids.extend(live.end().unwrap());
    assert_eq!(ids, whole(&stretch), "{stretch:?}");
});
