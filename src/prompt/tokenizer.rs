//! Owns text to ids for a whole string: vocab.json, merges.txt and tokenizer_config.json, read once and checked against each
//! other and against config.json. The order is that of the official tokenizer: controls are cut out of the raw text, each
//! stretch between them is brought to NFC, cut into pieces by a regex, and each piece's bytes are merged. NFC, regex engine
//! and merging are the `tokenizers` crate's, so what they do with odd text is what the official package does. Text that
//! arrives bit by bit is `live.rs`, over the same steps.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pattern::Pattern;
use tokenizers::utils::SysRegex;
use tokenizers::{Model, NormalizedString, Normalizer};

use crate::config::TextControls;
use crate::error::{Error, Result};
use crate::request::Regex;

const VOCAB: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const CONFIG: &str = "tokenizer_config.json";

const QWEN: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const MISTRAL: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// The most text between two controls. The regex engine panics at ten million steps back within one match, which a run of
/// as many spaces or capitals reaches.
const MAX_SEGMENT_BYTES: usize = 1 << 20;

/// The most text without a break (a word, a run of spaces). Its merges take time with its length, some tenths of a second
/// here, and other streams wait for them.
pub(super) const MAX_PIECE_BYTES: usize = 1 << 17;

/// Text to ids and nothing else.
pub struct Tokenizer {
    bpe: BPE,
    qwen: SysRegex,
    mistral: SysRegex,
    /// The character that stands for each byte in vocab.json.
    bytes: [char; 256],
    /// Added tokens, the longest first: the longest one that stands at a place wins.
    added: Vec<(String, u32)>,
    /// The characters with which added tokens begin.
    starts: Vec<char>,
    newline: u32,
}

/// Where the first control of a text stands.
pub(super) enum Control {
    Whole {
        start: usize,
        end: usize,
        id: u32,
    },
    /// The text ends here in what may be the beginning of one.
    Begun {
        start: usize,
    },
}

/// Of a piece of so many bytes.
pub(super) fn too_long(bytes: usize) -> Error {
    Error::request("text", format!("{bytes} bytes without a break; at most {MAX_PIECE_BYTES} can be tokenised"))
}

impl Tokenizer {
    /// From the bytes of vocab.json, merges.txt and tokenizer_config.json; no id may reach `text_vocab_size`.
    pub fn new(
        vocab: &[u8],
        merges: &[u8],
        tokenizer_config: &[u8],
        controls: &TextControls,
        text_vocab_size: usize,
    ) -> Result<Tokenizer> {
        let bytes = byte_chars();
        let vocab = read_vocab(vocab, &bytes)?;
        let merges = read_merges(merges, &vocab)?;
        let mut added = read_added(tokenizer_config)?;
        check_controls(&added, controls)?;
        check_ids(&added, &vocab, text_vocab_size)?;
        added.sort_by_key(|(content, _)| std::cmp::Reverse(content.len()));
        let mut starts: Vec<char> = added.iter().filter_map(|(content, _)| content.chars().next()).collect();
        starts.sort_unstable();
        starts.dedup();
        let regex = |pattern| SysRegex::new(pattern).map_err(|e| Error::compute("Tokenizer::new", e.to_string()));
        // No cache: the crate keeps it per thread and never frees it, and merging is quick enough without.
        let bpe = BPE::builder().vocab_and_merges(vocab, merges).cache_capacity(0).build();
        let mut tokenizer = Tokenizer {
            bpe: bpe.map_err(|e| Error::checkpoint(MERGES, e.to_string()))?,
            qwen: regex(QWEN)?,
            mistral: regex(MISTRAL)?,
            bytes,
            added,
            starts,
            newline: 0,
        };
        tokenizer.newline = tokenizer.single("\n")?;
        let assistant = tokenizer.single("assistant")?;
        if assistant != controls.assistant {
            let what = format!(
                "\"assistant\" is id {assistant}, but config.json's assistant_token_id is {}",
                controls.assistant
            );
            return Err(Error::checkpoint(VOCAB, what));
        }
        Ok(tokenizer)
    }

    /// The ids of one string. With `special_tokens`, the strings of added tokens in it are those tokens, as in the official
    /// package; without, they are text like any other.
    pub fn encode(&self, text: &str, regex: Regex, special_tokens: bool) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        let mut rest = text;
        while special_tokens && let Some(Control::Whole { start, end, id }) = self.control_in(rest, true) {
            self.segment(&nfc(&rest[..start])?, regex, &mut ids)?;
            ids.push(id);
            rest = &rest[end..];
        }
        self.segment(&nfc(rest)?, regex, &mut ids)?;
        Ok(ids)
    }

    /// The id of a line break alone, which ends the role line of the template.
    pub fn newline(&self) -> u32 {
        self.newline
    }

    /// The first control in `text`; unless the text has `ended`, one that more text could complete counts too.
    pub(super) fn control_in(&self, text: &str, ended: bool) -> Option<Control> {
        for (start, _) in text.char_indices().filter(|(_, c)| self.starts.contains(c)) {
            let rest = &text[start..];
            if !ended && self.added.iter().any(|(content, _)| content.len() > rest.len() && content.starts_with(rest)) {
                return Some(Control::Begun { start });
            }
            if let Some((content, id)) = self.added.iter().find(|(content, _)| rest.starts_with(content)) {
                return Some(Control::Whole { start, end: start + content.len(), id: *id });
            }
        }
        None
    }

    /// The ids of a stretch without controls, in NFC.
    pub(super) fn segment(&self, text: &str, regex: Regex, ids: &mut Vec<u32>) -> Result<()> {
        self.pieces(text, regex)?.into_iter().try_for_each(|(start, end)| self.piece(&text[start..end], ids))
    }

    /// Where the regex cuts a stretch in NFC: start and end of each piece, without gaps. No piece depends on what stands
    /// before it.
    pub(super) fn pieces(&self, text: &str, regex: Regex) -> Result<Vec<(usize, usize)>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        if text.len() > MAX_SEGMENT_BYTES {
            let what =
                format!("{} bytes of text in one stretch; at most {MAX_SEGMENT_BYTES} can be tokenised", text.len());
            return Err(Error::request("text", what));
        }
        let regex = match regex {
            Regex::Qwen => &self.qwen,
            Regex::Mistral => &self.mistral,
        };
        let found = regex.find_matches(text).map_err(|e| Error::compute("Tokenizer::encode", e.to_string()))?;
        Ok(found.into_iter().map(|(place, _)| place).collect())
    }

    /// The ids of one piece.
    pub(super) fn piece(&self, piece: &str, ids: &mut Vec<u32>) -> Result<()> {
        if piece.len() > MAX_PIECE_BYTES {
            return Err(too_long(piece.len()));
        }
        let letters: String = piece.bytes().map(|byte| self.bytes[usize::from(byte)]).collect();
        let tokens = self.bpe.tokenize(&letters).map_err(|e| Error::compute("Tokenizer::encode", e.to_string()))?;
        ids.extend(tokens.into_iter().map(|token| token.id));
        Ok(())
    }

    /// The id of a word that the template needs to be one token.
    fn single(&self, word: &str) -> Result<u32> {
        match self.encode(word, Regex::Qwen, false)?[..] {
            [id] => Ok(id),
            ref ids => Err(Error::checkpoint(VOCAB, format!("{word:?} must be one token, but is {ids:?}"))),
        }
    }
}

/// Canonical composition as the official tokenizer does it: with the crate's own tables, which are of Unicode 9.
pub(super) fn nfc(text: &str) -> Result<String> {
    if text.is_ascii() {
        return Ok(text.to_owned());
    }
    let mut normalized = NormalizedString::from(text);
    NFC.normalize(&mut normalized).map_err(|e| Error::compute("Tokenizer::encode", e.to_string()))?;
    Ok(normalized.get().to_owned())
}

/// GPT-2's alphabet: printable bytes are themselves, the others follow from U+0100 on.
fn byte_chars() -> [char; 256] {
    let mut others = '\u{100}'..;
    std::array::from_fn(|byte| match byte as u8 {
        byte @ (b'!'..=b'~' | 0xA1..=0xAC | 0xAE..) => char::from(byte),
        _ => others.next().unwrap_or_default(),
    })
}

/// The entries of vocab.json as they stand, so that one that stands twice is seen.
struct Entries(Vec<(String, u32)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entries;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object of tokens and their ids")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<Entries, M::Error> {
                let mut entries = Vec::with_capacity(map.size_hint().unwrap_or(0));
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

fn read_vocab(json: &[u8], bytes: &[char; 256]) -> Result<Vocab> {
    let wrong = |what: String| Error::checkpoint(VOCAB, what);
    let Entries(entries) = serde_json::from_slice(json).map_err(|e| wrong(e.to_string()))?;
    let len = entries.len();
    let mut by_id = vec![None; len];
    for (token, id) in &entries {
        match by_id.get_mut(*id as usize) {
            None => {
                return Err(wrong(format!("{token:?} is id {id}, but {len} entries must have the ids below {len}")));
            }
            Some(Some(other)) => return Err(wrong(format!("{other:?} and {token:?} both have id {id}"))),
            Some(free) => *free = Some(token),
        }
    }
    let vocab: Vocab = entries.iter().cloned().collect();
    if vocab.len() != len
        && let Some((token, _)) = entries.iter().find(|(token, id)| vocab.get(token) != Some(id))
    {
        return Err(wrong(format!("{token:?} stands twice, with two ids")));
    }
    // The library drops what has no token without a word.
    if let Some(byte) = (0..256).find(|&byte| !vocab.contains_key(bytes[byte].encode_utf8(&mut [0; 4]) as &str)) {
        return Err(wrong(format!("no entry {:?} for byte 0x{byte:02x}; all 256 bytes must have one", bytes[byte])));
    }
    Ok(vocab)
}

fn read_merges(text: &[u8], vocab: &Vocab) -> Result<Vec<(String, String)>> {
    let text = std::str::from_utf8(text).map_err(|e| Error::checkpoint(MERGES, format!("not UTF-8: {e}")))?;
    let mut merges = Vec::new();
    for (at, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || (at == 0 && line.starts_with("#version:")) {
            continue;
        }
        let wrong = |what: String| Error::checkpoint(MERGES, format!("line {}: {what}", at + 1));
        let parts: Vec<&str> = line.split_whitespace().collect();
        let [left, right] = parts[..] else {
            return Err(wrong(format!("expected two tokens and a space between them, found {line:?}")));
        };
        if let Some(token) =
            [left, right, &[left, right].concat()].into_iter().find(|&token| !vocab.contains_key(token))
        {
            return Err(wrong(format!(
                "{left:?} and {right:?} need the token {token:?}, which vocab.json lacks; merges.txt belongs to another \
                 model's vocabulary"
            )));
        }
        merges.push((left.to_owned(), right.to_owned()));
    }
    Ok(merges)
}

#[derive(Deserialize)]
struct TokenizerConfig {
    added_tokens_decoder: Option<BTreeMap<u32, AddedToken>>,
    add_prefix_space: Option<bool>,
}

#[derive(Deserialize)]
struct AddedToken {
    content: String,
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    single_word: bool,
}

/// The added tokens by id. Only the one kind that these models have is taken: matched in the raw text, wherever it stands.
fn read_added(json: &[u8]) -> Result<Vec<(String, u32)>> {
    let wrong = |what: String| Error::checkpoint(CONFIG, what);
    let config: TokenizerConfig = serde_json::from_slice(json).map_err(|e| wrong(e.to_string()))?;
    if config.add_prefix_space == Some(true) {
        return Err(wrong("add_prefix_space is true; expected false".into()));
    }
    let added = config.added_tokens_decoder.ok_or_else(|| wrong("added_tokens_decoder is missing".into()))?;
    for (id, token) in &added {
        let flags = [
            ("normalized", token.normalized.unwrap_or(!token.special)), // the library's default
            ("lstrip", token.lstrip),
            ("rstrip", token.rstrip),
            ("single_word", token.single_word),
        ];
        if let Some((flag, _)) = flags.iter().find(|(_, set)| *set) {
            return Err(wrong(format!("added token {id}, {:?}, is {flag}; expected it not to be", token.content)));
        }
        if token.content.is_empty() {
            return Err(wrong(format!("added token {id} has no content")));
        }
    }
    Ok(added.into_iter().map(|(id, token)| (token.content, id)).collect())
}

fn check_controls(added: &[(String, u32)], controls: &TextControls) -> Result<()> {
    let named = [
        ("<|im_start|>", "im_start_token_id", controls.im_start),
        ("<|im_end|>", "im_end_token_id", controls.im_end),
        ("<tts_pad>", "tts_pad_token_id", controls.tts_pad),
        ("<tts_text_bos>", "tts_bos_token_id", controls.tts_bos),
        ("<tts_text_eod>", "tts_eos_token_id", controls.tts_eos),
    ];
    for (name, field, expected) in named {
        let what = match added.iter().find(|(content, _)| content == name) {
            Some((_, id)) if *id == expected => continue,
            Some((_, id)) => format!("{name} is id {id}, but config.json's {field} is {expected}"),
            None => format!("{name} is missing from added_tokens_decoder; config.json's {field} is {expected}"),
        };
        return Err(Error::checkpoint(CONFIG, what));
    }
    Ok(())
}

/// The library numbers added tokens itself, on from the vocabulary; what the file says must be what it would say.
fn check_ids(added: &[(String, u32)], vocab: &Vocab, text_vocab_size: usize) -> Result<()> {
    let fits = |file: &str, len: usize| match len <= text_vocab_size {
        true => Ok(()),
        false => Err(Error::checkpoint(
            file,
            format!("ids go up to {}, but config.json's text_vocab_size is {text_vocab_size}", len - 1),
        )),
    };
    fits(VOCAB, vocab.len())?;
    let mut len = vocab.len();
    for (at, (content, id)) in added.iter().enumerate() {
        let known =
            vocab.get(content).or_else(|| added[..at].iter().find(|(other, _)| other == content).map(|(_, id)| id));
        let expected = known.map_or(len, |&id| id as usize);
        if *id as usize != expected {
            let what = format!(
                "added token {content:?} is id {id}; expected {expected}, on from the {} of vocab.json",
                vocab.len()
            );
            return Err(Error::checkpoint(CONFIG, what));
        }
        len += usize::from(known.is_none());
    }
    fits(CONFIG, len)
}

/// Would catch ids other than the official tokenizer's, and folders that do not fit together being loaded.
#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::Arc;

    const DEMO: TextControls =
        TextControls { im_start: 1557, im_end: 1558, tts_pad: 1584, tts_bos: 1585, tts_eos: 1586, assistant: 460 };

    /// Characters and fragments that pieces, NFC and controls turn on.
    pub const NASTY: [&str; 41] = [
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
    ];

    /// Knuth's generator: the same strings on every run.
    pub struct Lcg(pub u64);

    impl Lcg {
        pub fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) as usize % n
        }

        pub fn text(&mut self, most: usize) -> String {
            (0..self.below(most + 1)).map(|_| NASTY[self.below(NASTY.len())]).collect()
        }
    }

    fn demo_file(name: &str) -> Vec<u8> {
        std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo").join(name)).unwrap()
    }

    fn demo_files() -> [Vec<u8>; 3] {
        [VOCAB, MERGES, CONFIG].map(demo_file)
    }

    pub fn demo() -> Arc<Tokenizer> {
        let [vocab, merges, config] = demo_files();
        Arc::new(Tokenizer::new(&vocab, &merges, &config, &DEMO, 1600).unwrap())
    }

    /// A vocabulary that merges each nasty character with each, so that ids tell wherever a piece ends.
    fn nasty_files() -> ([Vec<u8>; 3], TextControls) {
        let bytes = byte_chars();
        let spell = |text: &str| text.bytes().map(|byte| bytes[usize::from(byte)]).collect::<String>();
        let mut vocab: Vec<String> = bytes.iter().map(char::to_string).collect();
        let mut merges = vec!["#version: 0.2".to_owned()];
        let mut merge = |left: &str, right: &str| {
            if !vocab.contains(&(left.to_owned() + right)) {
                vocab.push(left.to_owned() + right);
                merges.push(format!("{left} {right}"));
            }
        };
        let all: String = NASTY.concat() + "ệ\u{1eb}한がſ";
        let mut chars: Vec<String> = all.chars().map(|c| spell(&c.to_string())).collect();
        chars.sort_unstable();
        chars.dedup();
        for word in chars.iter().map(String::as_str).chain(["assistant"]) {
            for (at, _) in word.char_indices().skip(1) {
                let next = word[at..].chars().next().unwrap().len_utf8();
                merge(&word[..at], &word[at..at + next]);
            }
        }
        // Not in order, so that what follows can take a character from what stands before.
        let mut pairs: Vec<(&str, &str)> =
            chars.iter().flat_map(|a| chars.iter().map(move |b| (a.as_str(), b.as_str()))).collect();
        let mut random = Lcg(5);
        for at in (1..pairs.len()).rev() {
            pairs.swap(at, random.below(at + 1));
        }
        pairs.into_iter().for_each(|(left, right)| merge(left, right));

        let first = vocab.len() as u32;
        let names =
            ["<|im_start|>", "<|im_end|>", "<tts_pad>", "<tts_text_bos>", "<tts_text_eod>", "<|im_end|>.", "<|im_<|"];
        let added = names.iter().zip(first..).map(|(name, id)| {
            (id.to_string(), serde_json::json!({"content": name, "normalized": false, "special": id % 2 == 0}))
        });
        let config = serde_json::json!({"added_tokens_decoder": added.collect::<serde_json::Map<_, _>>()});
        let controls = TextControls {
            im_start: first,
            im_end: first + 1,
            tts_pad: first + 2,
            tts_bos: first + 3,
            tts_eos: first + 4,
            assistant: vocab.iter().position(|token| token == "assistant").unwrap() as u32,
        };
        let vocab: serde_json::Map<_, _> = vocab.into_iter().zip((0..).map(serde_json::Value::from)).collect();
        let vocab = serde_json::to_vec(&vocab).unwrap();
        ([vocab, merges.join("\n").into_bytes(), serde_json::to_vec(&config).unwrap()], controls)
    }

    pub fn nasty() -> Arc<Tokenizer> {
        let ([vocab, merges, config], controls) = nasty_files();
        Arc::new(Tokenizer::new(&vocab, &merges, &config, &controls, 1 << 20).unwrap())
    }

    /// The tokenizer that transformers 4.57.3 makes of the same files, all of it the library's.
    fn official([vocab, merges, config]: &[Vec<u8>; 3], pattern: &str, special_tokens: bool) -> tokenizers::Tokenizer {
        use tokenizers::pre_tokenizers::{
            byte_level::ByteLevel, sequence::Sequence, split::Split, split::SplitPattern,
        };
        let vocab = read_vocab(vocab, &byte_chars()).unwrap();
        let merges = read_merges(merges, &vocab).unwrap();
        let bpe = BPE::builder().vocab_and_merges(vocab, merges).build().unwrap();
        let mut tokenizer = tokenizers::Tokenizer::new(bpe);
        let pattern = SplitPattern::Regex(pattern.into());
        let split = Split::new(pattern, tokenizers::SplitDelimiterBehavior::Isolated, false).unwrap();
        let pieces = Sequence::new(vec![split.into(), ByteLevel::new(false, true, false).into()]);
        tokenizer.with_normalizer(Some(NFC)).unwrap().with_pre_tokenizer(Some(pieces));
        if special_tokens {
            let added = read_added(config).unwrap();
            tokenizer.add_tokens(added.iter().map(|(content, _)| tokenizers::AddedToken::from(content, true))).unwrap();
        }
        tokenizer
    }

    #[test]
    fn ids_are_those_of_the_library_s_own_pipeline() {
        for (files, controls) in [nasty_files(), (demo_files(), DEMO)] {
            let [vocab, merges, config] = &files;
            let tokenizer = Tokenizer::new(vocab, merges, config, &controls, 1 << 20).unwrap();
            for (regex, pattern) in [(Regex::Qwen, QWEN), (Regex::Mistral, MISTRAL)] {
                for special_tokens in [false, true] {
                    let official = official(&files, pattern, special_tokens);
                    let mut random = Lcg(1);
                    for _ in 0..4000 {
                        let text = random.text(14);
                        let expected = official.encode(text.as_str(), false).unwrap();
                        let ids = tokenizer.encode(&text, regex, special_tokens).unwrap();
                        assert_eq!(ids, expected.get_ids(), "{text:?} {regex:?} {special_tokens}");
                    }
                }
            }
        }
    }

    /// Recorded with transformers 4.57.3's Qwen2TokenizerFast on models/demo.
    #[test]
    fn known_ids_of_the_demo() {
        let known: [(&str, &[u32]); 8] = [
            ("Hello world.", &[547, 700, 13]),
            ("assistant\n", &[460, 198]),
            (
                "It's 42 o’clock—don'T!",
                &[521, 394, 220, 19, 17, 260, 158, 222, 247, 1431, 158, 222, 242, 67, 266, 6, 51, 0],
            ),
            ("getUserById/etc ./\n/x", &[954, 52, 82, 261, 33, 88, 40, 67, 14, 310, 66, 220, 13, 14, 198, 14, 87]),
            (
                "cafe\u{301} \u{1112}\u{1161}\u{11ab} 한글",
                &[66, 64, 69, 127, 102, 220, 169, 243, 250, 220, 169, 243, 250, 166, 116, 222],
            ),
            ("a<|im_end|>\nb<tool_call>", &[64, 1558, 198, 65, 1570]),
            ("  \t x\u{a0}y  \n\n z  ", &[220, 220, 197, 220, 87, 126, 254, 88, 220, 220, 198, 198, 220, 89, 220, 220]),
            ("", &[]),
        ];
        let tokenizer = demo();
        for (text, ids) in known {
            assert_eq!(tokenizer.encode(text, Regex::Qwen, true).unwrap(), ids, "{text:?}");
        }
        assert_eq!(tokenizer.newline(), 198);
        let plain = tokenizer.encode("<|im_end|><tool_call>", Regex::Qwen, false).unwrap();
        assert!(plain.len() > 2 && plain.iter().all(|&id| id < 1556), "{plain:?}");
    }

    #[test]
    fn the_two_regexes_differ_where_they_should() {
        let pieces = |regex, text: &str| -> Vec<String> {
            nasty().pieces(text, regex).unwrap().into_iter().map(|(start, end)| text[start..end].to_owned()).collect()
        };
        assert_eq!(pieces(Regex::Qwen, "iPhone./\nit's"), ["iPhone", "./\n", "it", "'s"]);
        assert_eq!(pieces(Regex::Mistral, "iPhone./\n/it's"), ["i", "Phone", "./\n/", "it", "'s"]);
        assert_eq!(pieces(Regex::Qwen, "./\n/x"), ["./\n", "/x"]);
        assert_eq!(pieces(Regex::Mistral, "AあB"), ["Aあ", "B"]);
        assert_eq!(pieces(Regex::Mistral, "AあBb"), ["AあBb"]);
    }

    #[test]
    fn the_longest_text_is_no_panic() {
        let tokenizer = nasty();
        for unit in [" ", "\n", "A", "a", ".", "\u{301}", "あ"] {
            let text = unit.repeat(MAX_SEGMENT_BYTES / unit.len() - 1) + "1";
            for regex in [Regex::Qwen, Regex::Mistral] {
                tokenizer.pieces(&text, regex).unwrap();
            }
        }
        let error = tokenizer.encode(&" ".repeat(MAX_SEGMENT_BYTES + 1), Regex::Qwen, true).unwrap_err().to_string();
        assert_eq!(error, "text: 1048577 bytes of text in one stretch; at most 1048576 can be tokenised");
    }

    #[derive(Clone, PartialEq)]
    struct Folder {
        files: [String; 3],
        controls: TextControls,
        size: usize,
    }

    /// What loading says after `change` was made to the demo.
    fn refusal(change: impl FnOnce(&mut Folder)) -> String {
        let files = demo_files().map(|file| String::from_utf8(file).unwrap());
        let whole = Folder { files, controls: DEMO, size: 1600 };
        let mut broken = whole.clone();
        change(&mut broken);
        assert!(broken != whole, "nothing changed");
        let [vocab, merges, config] = broken.files.map(String::into_bytes);
        Tokenizer::new(&vocab, &merges, &config, &broken.controls, broken.size).err().unwrap().to_string()
    }

    fn refusal_of(file: usize, from: &str, to: &str) -> String {
        refusal(|Folder { files, .. }| files[file] = files[file].replacen(from, to, 1))
    }

    #[track_caller]
    fn assert_says(error: &str, words: &[&str]) {
        assert!(words.iter().all(|word| error.contains(word)), "{error:?} lacks one of {words:?}");
    }

    #[test]
    fn malformed_files_are_refused() {
        assert_says(&refusal(|Folder { files, .. }| files[0].truncate(100)), &["vocab.json: EOF", "line 1"]);
        assert_says(
            &refusal(|Folder { files, .. }| files[0] = "[1]".into()),
            &["vocab.json: ", "expected an object of tokens and their ids"],
        );
        assert_says(&refusal_of(0, "\"A\": 32", "\"A\": -1"), &["vocab.json: ", "`-1`, expected u32"]);
        assert_says(&refusal(|Folder { files, .. }| files[2].truncate(100)), &["tokenizer_config.json: EOF"]);
        assert_says(&refusal_of(1, "h e\n", "he\n"), &["merges.txt: line 3: expected two tokens", "found \"he\""]);
        let [vocab, _, config] = demo_files();
        let error = Tokenizer::new(&vocab, b"\xff", &config, &DEMO, 1600).err().unwrap().to_string();
        assert_says(&error, &["merges.txt: not UTF-8"]);
    }

    #[test]
    fn a_vocabulary_with_holes_is_refused() {
        assert_says(&refusal_of(0, "\"A\": 32", "\"A\": 31"), &["vocab.json: ", "\"@\" and \"A\" both have id 31"]);
        let gap = "vocab.json: \"A\" is id 5000, but 1556 entries must have the ids below 1556";
        assert_eq!(refusal_of(0, "\"A\": 32", "\"A\": 5000"), gap);
        assert_says(&refusal_of(0, "\"A\": 32", "\"B\": 32"), &["vocab.json: \"B\" stands twice"]);
        assert_says(&refusal_of(0, "\"A\": 32", "\"AAA\": 32"), &["vocab.json: no entry 'A' for byte 0x41"]);
    }

    #[test]
    fn merges_of_another_model_are_refused() {
        let words =
            ["merges.txt: line 3: \"h\" and \"Z\" need the token \"hZ\"", "belongs to another model's vocabulary"];
        assert_says(&refusal_of(1, "h e\n", "h Z\n"), &words);
        assert_says(
            &refusal_of(1, "h e\n", "中 e\n"),
            &["line 3", "need the token \"中\"", "another model's vocabulary"],
        );
    }

    #[test]
    fn controls_that_disagree_are_refused() {
        let error = refusal(|Folder { files, .. }| files[2] = files[2].replacen("\"1557\"", "\"5\"", 1));
        assert_eq!(error, "tokenizer_config.json: <|im_start|> is id 5, but config.json's im_start_token_id is 1557");
        let error = refusal(|folder| folder.controls.tts_eos = 7);
        assert_eq!(error, "tokenizer_config.json: <tts_text_eod> is id 1586, but config.json's tts_eos_token_id is 7");
        let error = refusal_of(2, "<tts_pad>", "<pad>");
        let words = "<tts_pad> is missing from added_tokens_decoder; config.json's tts_pad_token_id is 1584";
        assert_says(&error, &["tokenizer_config.json: ", words]);
        assert_says(
            &refusal_of(2, "added_tokens_decoder", "other"),
            &["tokenizer_config.json: added_tokens_decoder is missing"],
        );
        let words = "added token \"<tool_response>\" is id 1578; expected 1570, on from the 1556 of vocab.json";
        let error = refusal(|Folder { files, .. }| {
            let mut config: serde_json::Value = serde_json::from_str(&files[2]).unwrap();
            (1570..1578)
                .for_each(|id| drop(config["added_tokens_decoder"].as_object_mut().unwrap().remove(&id.to_string())));
            files[2] = config.to_string();
        });
        assert_says(&error, &["tokenizer_config.json: ", words]);
    }

    #[test]
    fn added_tokens_of_another_kind_are_refused() {
        let error = refusal_of(2, "\"lstrip\": false", "\"lstrip\": true");
        assert_says(
            &error,
            &["tokenizer_config.json: added token 1556, \"<|endoftext|>\", is lstrip; expected it not to be"],
        );
        assert_says(&refusal_of(2, "\"normalized\": false", "\"normalized\": true"), &["is normalized"]);
        assert_says(&refusal_of(2, "\"<|endoftext|>\"", "\"\""), &["added token 1556 has no content"]);
        assert_says(
            &refusal_of(2, "\"add_prefix_space\": false", "\"add_prefix_space\": true"),
            &["add_prefix_space is true"],
        );
    }

    #[test]
    fn words_of_the_template_that_are_not_one_token_are_refused() {
        let error = refusal(|folder| folder.controls.assistant = 5);
        assert_eq!(error, "vocab.json: \"assistant\" is id 460, but config.json's assistant_token_id is 5");
        let error = refusal(|Folder { files, .. }| files[1] = "#version: 0.2\n".into());
        assert_says(
            &error,
            &["vocab.json: \"assistant\" must be one token, but is [64, 82, 82, 72, 82, 83, 64, 77, 83]"],
        );
    }

    #[test]
    fn ids_beyond_the_model_s_table_are_refused() {
        let error = refusal(|folder| folder.size = 1588);
        assert_eq!(error, "tokenizer_config.json: ids go up to 1588, but config.json's text_vocab_size is 1588");
        let error = refusal(|folder| folder.size = 1000);
        assert_eq!(error, "vocab.json: ids go up to 1555, but config.json's text_vocab_size is 1000");
    }
}
