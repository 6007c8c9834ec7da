//! Owns text to ids for text that arrives bit by bit: an id comes out as soon as no later text, nor its end, can change it.
//! Text waits in three places, one behind the other, and each lets go of what is certain there:
//!   raw        may be the beginning of a control's string (only if controls are wanted)
//!   unsettled  may yet compose with, or be reordered by, a combining mark or a Hangul vowel or final (NFC)
//!   open       is composed, but later text could move the end of the regex's piece; no merge crosses a piece
//! Inside an open piece no id is certain, since a merge of later bytes can come before those of the first ones.

use std::sync::{Arc, LazyLock};

use unicode_normalization::char::{canonical_combining_class, compose, decompose_canonical, is_combining_mark};
use unicode_normalization::{IsNormalized, is_nfc_quick};

use super::tokenizer::{Control, MAX_PIECE_BYTES, Tokenizer, nfc, too_long};
use crate::error::Result;
use crate::request::Regex;

/// Pieces of text in, certain ids out. Feeding pieces and then the end gives exactly what `Tokenizer::encode` gives for
/// the prefix and the pieces joined.
pub struct LiveTokenizer {
    tokenizer: Arc<Tokenizer>,
    regex: Regex,
    special_tokens: bool,
    raw: String,
    unsettled: String,
    open: String,
    /// How long `open` must be before it is worth another look.
    look_at: usize,
}

impl LiveTokenizer {
    /// `prefix` stands before the text in the same stretch, so its ids come out with the text's: the template's
    /// `assistant\n` merges with line breaks that follow.
    pub fn new(tokenizer: Arc<Tokenizer>, prefix: &str, regex: Regex, special_tokens: bool) -> Self {
        let [unsettled, open] = [String::new(), String::new()];
        LiveTokenizer { tokenizer, regex, special_tokens, raw: prefix.to_owned(), unsettled, open, look_at: 0 }
    }

    /// The ids that have become certain with this piece.
    pub fn push(&mut self, piece: &str) -> Result<Vec<u32>> {
        self.raw.push_str(piece);
        let mut ids = Vec::new();
        self.take_raw(false, &mut ids)?;
        Ok(ids)
    }

    /// The ids of all that waits, as if the text ended here; what follows begins a new stretch.
    pub fn flush(&mut self) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.take_raw(true, &mut ids)?;
        self.close(&mut ids)?;
        Ok(ids)
    }

    pub fn end(mut self) -> Result<Vec<u32>> {
        self.flush()
    }

    fn take_raw(&mut self, ended: bool, ids: &mut Vec<u32>) -> Result<()> {
        let raw = std::mem::take(&mut self.raw);
        let mut rest = raw.as_str();
        while self.special_tokens
            && let Some(control) = self.tokenizer.control_in(rest, ended)
        {
            match control {
                Control::Whole { start, end, id } => {
                    self.settle(&rest[..start], ids)?;
                    self.close(ids)?;
                    ids.push(id);
                    rest = &rest[end..];
                }
                Control::Begun { start } => {
                    rest[start..].clone_into(&mut self.raw);
                    rest = &rest[..start];
                    break;
                }
            }
        }
        self.settle(rest, ids)
    }

    /// Text that is no control: what can no longer compose goes on.
    fn settle(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let before = self.unsettled.len();
        self.unsettled.push_str(text);
        let Some((at, last)) = text.char_indices().rev().find(|&(_, c)| begins(c)) else { return Ok(()) };
        let settled = before + at + if at + last.len_utf8() == text.len() && stays(last) { last.len_utf8() } else { 0 };
        let settled: String = self.unsettled.drain(..settled).collect();
        self.cut(&nfc(&settled)?, ids)
    }

    /// Composed text: the pieces at the front that have closed become ids.
    fn cut(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        self.open.push_str(text);
        if text.is_empty() || self.open.len() < self.look_at {
            return Ok(());
        }
        let pieces = self.tokenizer.pieces(&self.open, self.regex)?;
        let mut closed = 0;
        for &(start, end) in closed_pieces(&self.open, &pieces, self.regex) {
            self.tokenizer.piece(&self.open[start..end], ids)?;
            closed = end;
        }
        self.open.drain(..closed);
        // What is open is one piece, or with the Mistral regex a run of them.
        if self.open.len() > 2 * MAX_PIECE_BYTES {
            return Err(too_long(self.open.len()));
        }
        // A piece longer than any word is not looked at with every character, which keeps an endless run near linear.
        // Growing by a 256th before the next look keeps the looks' sum linear in the end; short pieces are looked at each time.
        self.look_at = self.open.len() + self.open.len() / 256;
        Ok(())
    }

    /// All that waits behind `raw`, as it stands.
    fn close(&mut self, ids: &mut Vec<u32>) -> Result<()> {
        self.look_at = 0;
        let text = std::mem::take(&mut self.open) + &nfc(&std::mem::take(&mut self.unsettled))?;
        self.tokenizer.segment(&text, self.regex, ids)
    }
}

/// Whether NFC can be cut before `c` whatever stands there. The tables here are newer than the tokenizer's, which is on
/// the safe side: an assigned character never changes, and to older tables the others are inert.
fn begins(c: char) -> bool {
    canonical_combining_class(c) == 0 && is_nfc_quick(std::iter::once(c)) == IsNormalized::Yes
}

/// Whether a `c` that `begins` stays itself whatever follows, like a space or most ideographs.
fn stays(c: char) -> bool {
    /// The characters that can be the second of a composition (all of them below U+20000; a test looks).
    static SECONDS: LazyLock<Vec<char>> = LazyLock::new(|| {
        ('\0'..'\u{20000}').filter(|&c| is_nfc_quick(std::iter::once(c)) == IsNormalized::Maybe).collect()
    });
    let mut parts = 0;
    decompose_canonical(c, |_| parts += 1);
    parts == 1 && SECONDS.iter().all(|&second| compose(c, second).is_none())
}

/// At least all that the regex engine's tables know as a letter or a mark.
fn is_letter(c: char) -> bool {
    is_combining_mark(c) || c.is_alphabetic() && !c.is_numeric()
}

/// The pieces of `open` that stay what they are, whatever follows: those that the regex decided on before it came to the
/// end of the text.
fn closed_pieces<'a>(open: &str, pieces: &'a [(usize, usize)], regex: Regex) -> &'a [(usize, usize)] {
    // `\s*[\r\n]+` and `\s+(?!\S)` look through the whole run of white space.
    let blank = open.trim_end().len();
    // `[Lu Lt Lm Lo M]*[Ll Lm Lo M]+` takes the run of capitals and what has no case, then gives back: in "AあB" a later "b"
    // takes all. A piece that ends where the last run begins has no letter, and has seen its next character.
    let run = match regex {
        Regex::Qwen => open.len(),
        Regex::Mistral => open.trim_end_matches(is_letter).len(),
    };
    // A digit is a piece by itself; all else ends where it does because of the character that follows.
    let decided = |end| end < open.len() || open.ends_with(|c: char| c.is_ascii_digit());
    let closed = pieces.iter().take_while(|&&(start, end)| start < blank && end <= run && decided(end)).count();
    &pieces[..closed]
}

/// Would catch an id that came out too soon (later text changed it), or needlessly late.
#[cfg(test)]
mod tests {
    use super::super::tokenizer::tests::{Lcg, demo, nasty};
    use super::*;

    const REGEXES: [Regex; 2] = [Regex::Qwen, Regex::Mistral];

    #[test]
    fn any_cutting_gives_the_ids_of_the_whole_and_takes_none_back() {
        let tokenizer = nasty();
        let mut random = Lcg(2);
        for round in 0..6000 {
            let (regex, special_tokens) = (REGEXES[round % 2], round / 2 % 2 == 1);
            let prefix = ["", "assistant\n"][round / 4 % 2];
            let mut live = LiveTokenizer::new(tokenizer.clone(), prefix, regex, special_tokens);
            let (mut text, mut ids) = (prefix.to_owned(), Vec::new());
            for _ in 0..random.below(8) {
                let piece = random.text(3);
                text += &piece;
                ids.extend(live.push(&piece).unwrap());
                for most in [0, 1, 1, 2, 2, 3, 6] {
                    let later = text.clone() + &random.text(most);
                    let whole = tokenizer.encode(&later, regex, special_tokens).unwrap();
                    assert!(whole.starts_with(&ids), "{text:?} gave {ids:?}, but {later:?} is {whole:?}; {regex:?}");
                }
            }
            ids.extend(live.end().unwrap());
            assert_eq!(
                ids,
                tokenizer.encode(&text, regex, special_tokens).unwrap(),
                "{text:?} {regex:?} {special_tokens}"
            );
        }
    }

    #[test]
    fn flush_begins_a_new_stretch() {
        let tokenizer = nasty();
        let mut random = Lcg(3);
        for round in 0..1000 {
            let (regex, special_tokens) = (REGEXES[round % 2], round / 2 % 2 == 1);
            let mut live = LiveTokenizer::new(tokenizer.clone(), "", regex, special_tokens);
            let stretches = [random.text(6), random.text(6)];
            for stretch in stretches {
                let mut ids = live.push(&stretch).unwrap();
                ids.extend(live.flush().unwrap());
                assert_eq!(ids, tokenizer.encode(&stretch, regex, special_tokens).unwrap(), "{stretch:?}");
            }
            assert!(live.end().unwrap().is_empty());
        }
    }

    /// After each piece of text, the beginning of it that the ids so far stand for.
    fn out(prefix: &str, pieces: &[&str], regex: Regex, special_tokens: bool) -> Vec<String> {
        let tokenizer = demo();
        let mut live = LiveTokenizer::new(tokenizer.clone(), prefix, regex, special_tokens);
        let (mut text, mut ids) = (prefix.to_owned(), Vec::new());
        let step = |piece: &&str| {
            text += piece;
            ids.extend(live.push(piece).unwrap());
            let is_out =
                |&end: &usize| tokenizer.encode(&text[..end], regex, special_tokens).is_ok_and(|whole| whole == ids);
            let end = (0..=text.len()).filter(|&end| text.is_char_boundary(end)).find(is_out).unwrap();
            text[..end].to_owned()
        };
        pieces.iter().map(step).collect()
    }

    #[test]
    fn a_word_is_out_when_the_next_begins() {
        for regex in REGEXES {
            assert_eq!(out("", &["Hel", "lo", " ", "wor"], regex, false), ["", "", "Hello", "Hello"]);
            assert_eq!(
                out("", &["Hello wor", "ld, it", "'s", " 42"], regex, true).last().unwrap(),
                "Hello world, it's 42"
            );
            assert_eq!(out("", &["Yes", ".", " No"], regex, false), ["", "Yes", "Yes."]);
            // A sign right before a letter is of the letter's piece.
            assert_eq!(out("", &["你好", "，", "世界", "。"], regex, false), ["", "你好", "你好", "你好，世界"]);
            assert_eq!(out("", &["Müller", " ", "é", "t"], regex, false), ["", "Müller", "Müller", "Müller"]);
            assert_eq!(
                out("", &["say <", "b> now <|im_", "end|>"], regex, true),
                ["say", "say <b> now", "say <b> now <|im_end|>"]
            );
        }
    }

    #[test]
    fn a_prefix_is_one_stretch_with_the_text() {
        for regex in REGEXES {
            assert_eq!(
                out("assistant\n", &["", "\n", "Hi", " "], regex, true),
                ["assistant", "assistant", "assistant\n\n", "assistant\n\nHi"]
            );
        }
    }

    #[test]
    fn what_stays_open_waits() {
        let never = |text: &str, regex| {
            let pieces: Vec<String> = text.chars().map(String::from).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            assert_eq!(*out("", &pieces, regex, false).last().unwrap(), "", "{text:?}");
        };
        for regex in REGEXES {
            for text in
                [" \t \n \r\n ", "...\n\n\n", "'l", "'r", "e\u{301}\u{323}", "\u{1112}\u{1161}\u{11ab}", "ſ", ".a"]
            {
                never(text, regex);
            }
        }
        never("AあB", Regex::Mistral);
        never("./\n/\n", Regex::Mistral);
    }

    /// The sets of characters here come from newer tables than the regex engine's and the normaliser's; they may be wider.
    #[test]
    fn characters_are_what_the_engines_take_them_for() {
        let is = |pattern: &str| {
            let regex = tokenizers::utils::SysRegex::new(pattern).unwrap();
            move |c: char| regex.find_iter(c.encode_utf8(&mut [0; 4])).next().is_some()
        };
        let (space, letter) = (is(r"\s"), is(r"[\p{L}\p{M}]"));
        for c in '\0'..=char::MAX {
            assert_eq!(space(c), c.is_whitespace(), "{c:?}");
            assert!(!letter(c) || is_letter(c), "{c:?}");
            assert!(c < '\u{20000}' || is_nfc_quick(std::iter::once(c)) != IsNormalized::Maybe, "{c:?}");
            if begins(c) {
                for before in ["e", "\u{1112}\u{1161}", "か"] {
                    assert_eq!(
                        nfc(&format!("{before}{c}")).unwrap(),
                        format!("{}{}", nfc(before).unwrap(), nfc(&c.to_string()).unwrap())
                    );
                }
            }
        }
    }
}
