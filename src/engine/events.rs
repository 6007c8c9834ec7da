//! What happens to an utterance beside its sound: the first of it, roughly when each word is said, the end.
//!
//! Where a word is said is an estimate: the model tells nobody. Text is given a length by its characters, at the pace of
//! ordinary speech; a word that came live begins no earlier than what had been made when it came; and once the speech has
//! ended by itself, the words that were not marked yet are spread over what is left of it. Marks are therefore the better
//! the later they are taken, which is why a word is marked only when the reader has come to it.

use super::ring::{Ended, Read, Ring};
#[cfg(target_os = "linux")]
use crate::error::Result;
use crate::frame::{End, FRAME_TIME};
use std::sync::Arc;

/// Something that happened to an utterance.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The first sound (or frame, where only frames are made) can be read.
    FirstSound {
        /// Since the first text.
        after_ms: f64,
    },
    /// The reader has come to a word.
    Word(WordMark),
}

/// Roughly where a word begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordMark {
    /// The word, without what stands around it.
    pub word: String,
    /// Where it begins in the stream's text, all pieces together.
    pub text_byte: usize,
    /// An estimate of the sample, at the stream's rate, that it begins with. Never less than that of the word before.
    pub sample: usize,
}

/// Hears of a stream's events, in order, whoever reads its sound. Two of them hear the same.
pub struct Events {
    ring: Arc<Ring>,
    cursor: Cursor,
}

/// How far an `Events` has come.
#[derive(Default)]
pub struct Cursor {
    first_sound: bool,
    /// Its own copy: words are looked for where nobody waits, and a long one takes a millisecond.
    text: SpokenText,
    words: Words,
}

impl Events {
    pub(super) fn new(ring: Arc<Ring>) -> Events {
        Events { ring, cursor: Cursor::default() }
    }

    /// The next event, where there is one; never waits. The end comes when the reader has read all there is.
    pub fn next_event(&mut self) -> Read<Event> {
        self.ring.next_event(&mut self.cursor)
    }

    /// As `AudioReader::event_handle`, for who has not the reader.
    #[cfg(target_os = "linux")]
    pub fn event_handle(&self) -> Result<Arc<std::os::fd::OwnedFd>> {
        self.ring.readiness()
    }
}

/// What a ring knows that events come from.
pub struct Progress {
    pub first_sound_ms: Option<f64>,
    pub samples_per_frame: usize,
    pub read_samples: usize,
    pub made_samples: usize,
    /// Once there is nothing more to read.
    pub over: Option<Ended>,
    /// The end, though some may be unread.
    pub ended: Option<Ended>,
}

impl Cursor {
    /// Takes over the text that has come. The ring's part, under its lock: no more than a copy of what is new.
    pub fn hear(&mut self, spoken: &SpokenText) {
        self.text.catch_up(spoken);
    }

    /// The next event of the text that was heard. The caller's part, without the lock.
    pub fn next(&mut self, progress: &Progress) -> Read<Event> {
        if let (false, Some(after_ms)) = (self.first_sound, progress.first_sound_ms) {
            self.first_sound = true;
            return Read::Got(Event::FirstSound { after_ms });
        }
        // Who stops for another reason than the end of his text has not said all of it.
        let whole = progress.ended.filter(|ended| ended.end == End::Eos).map(|_| progress.made_samples);
        match self.words.next(&self.text, progress.samples_per_frame, progress.read_samples, whole) {
            Some(mark) => Read::Got(Event::Word(mark)),
            None => progress.over.map_or(Read::NotYet, Read::Ended),
        }
    }
}

/// The text that was given to a stream, and when.
#[derive(Default)]
pub struct SpokenText {
    text: String,
    /// From which byte on the text came when so many frames had been made; the first of each number of frames.
    arrivals: Vec<(usize, usize)>,
    /// Words before this byte are whole, whatever may follow.
    settled: usize,
}

impl SpokenText {
    pub fn push(&mut self, piece: &str, frames: usize) {
        if self.arrivals.last().is_none_or(|&(_, made)| made != frames) {
            self.arrivals.push((self.text.len(), frames));
        }
        self.text.push_str(piece);
    }

    /// Becomes what `of` is, of which it was an earlier state.
    fn catch_up(&mut self, of: &SpokenText) {
        self.text.push_str(&of.text[self.text.len()..]);
        self.arrivals.extend_from_slice(&of.arrivals[self.arrivals.len()..]);
        self.settled = of.settled;
    }

    /// Nothing that comes belongs to the last word.
    pub fn settle(&mut self) {
        self.settled = self.text.len();
    }

    /// Frames that had been made when this byte came.
    fn frames_before(&self, byte: usize) -> usize {
        let after = self.arrivals.partition_point(|&(from, _)| from <= byte);
        after.checked_sub(1).map_or(0, |i| self.arrivals[i].1)
    }

    /// The first word from `byte` on, if it is whole.
    fn word_from(&self, byte: usize) -> Option<(usize, usize)> {
        let rest = &self.text[byte..];
        let start = rest.find(char::is_alphanumeric)?;
        let first = rest[start..].chars().next()?;
        let first_bytes = first.len_utf8();
        // Scripts without spaces: a character is what can be told apart.
        let length = match is_ideograph(first) {
            true => Some(first_bytes),
            false => rest[start..].find(|c: char| c.is_whitespace() || is_ideograph(c)),
        };
        let open = rest.len() - start;
        let length = length.or((byte + rest.len() <= self.settled).then_some(open))?;
        let word = rest[start..start + length].trim_end_matches(|c: char| !c.is_alphanumeric());
        Some((byte + start, byte + start + word.len()))
    }
}

/// The pace of ordinary speech in units of `weight`; over eight sentences the embedded voice `slt` has 15.0, each of them
/// 13 to 17.
const UNITS_PER_SECOND: f64 = 15.0;

/// How long a character sounds, as a multiple of a letter.
fn weight(c: char) -> f64 {
    match c {
        '.' | '!' | '?' | ';' | ':' | '\n' | '。' | '！' | '？' | '；' | '：' => 5.0,
        ',' | '，' | '、' => 3.0,
        c if is_ideograph(c) => 3.0,
        c if c.is_numeric() => 4.0,
        c if c.is_alphabetic() || c == ' ' => 1.0,
        _ => 0.5,
    }
}

/// Of a script that sets no spaces between words: Han, kana.
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

fn weights(text: &str) -> f64 {
    text.chars().map(weight).sum()
}

/// How far the marks of a text have come.
#[derive(Default)]
struct Words {
    byte: usize,
    /// Where that byte is said.
    sample: f64,
    /// Samples of a unit, once it is known.
    samples_per_unit: Option<f64>,
}

impl Words {
    /// The next word that begins before the sample `read`. `whole`: all there is, and the text has been said.
    fn next(
        &mut self,
        text: &SpokenText,
        samples_per_frame: usize,
        read: usize,
        whole: Option<usize>,
    ) -> Option<WordMark> {
        let (from, to) = text.word_from(self.byte)?;
        let usual = samples_per_frame as f64 / FRAME_TIME.as_secs_f64() / UNITS_PER_SECOND;
        let unit = match whole {
            None => usual,
            Some(made) => *self.samples_per_unit.get_or_insert_with(|| {
                let units = weights(text.text[self.byte..].trim_end_matches(|c: char| !c.is_alphanumeric()));
                (made as f64 - self.sample).max(0.0) / units.max(1.0)
            }),
        };
        let came = (text.frames_before(from) * samples_per_frame) as f64;
        let mut begins = (self.sample + weights(&text.text[self.byte..from]) * unit).max(came);
        if let Some(made) = whole {
            begins = begins.min(made.saturating_sub(1) as f64);
        }
        let sample = begins as usize;
        if sample >= read {
            return None;
        }
        self.byte = to;
        self.sample = begins + weights(&text.text[from..to]) * unit;
        Some(WordMark { word: text.text[from..to].to_owned(), text_byte: from, sample })
    }
}

#[cfg(all(test, not(qwentts_loom)))]
mod tests {
    use super::*;

    const SPF: usize = 1920;

    fn spoken(pieces: &[(&str, usize)]) -> SpokenText {
        let mut text = SpokenText::default();
        pieces.iter().for_each(|(piece, frames)| text.push(piece, *frames));
        text
    }

    fn all(words: &mut Words, text: &SpokenText, read: usize, whole: Option<usize>) -> Vec<(String, usize)> {
        std::iter::from_fn(|| words.next(text, SPF, read, whole)).map(|mark| (mark.word, mark.sample)).collect()
    }

    #[test]
    fn words_are_spread_over_the_speech_once_its_length_is_known() {
        let mut text = spoken(&[("one two, three.", 0)]);
        text.settle();
        // Three letters and a space are 4 units; so are the two characters behind "two", and "three" has 5: 3+1+3+4+5.
        let marks = all(&mut Words::default(), &text, 16_000, Some(16_000));
        assert_eq!(marks, [("one".into(), 0), ("two".into(), 4000), ("three".into(), 11_000)]);
    }

    #[test]
    fn a_word_is_marked_when_it_is_whole_and_the_reader_has_come_to_it() {
        let mut text = spoken(&[("one tw", 0)]);
        let mut words = Words::default();
        assert_eq!(all(&mut words, &text, 0, None), []);
        assert_eq!(all(&mut words, &text, 1, None), [("one".into(), 0)]);
        assert_eq!(all(&mut words, &text, 1 << 20, None), []);
        text.push("o", 0);
        text.settle();
        assert_eq!(all(&mut words, &text, 6400, None), []);
        assert_eq!(all(&mut words, &text, 6401, None), [("two".into(), 6400)]);
        assert_eq!(all(&mut words, &text, 1 << 20, None), []);
    }

    #[test]
    fn who_follows_a_text_marks_what_is_in_it() {
        let (mut text, mut follows) = (SpokenText::default(), SpokenText::default());
        let (mut words, mut followed) = (Words::default(), Words::default());
        for (n, piece) in ["o", "ne tw", "", "o! thr", "ee 你好", " ", "four"].into_iter().enumerate() {
            text.push(piece, n / 2);
            if n % 3 == 2 {
                text.settle();
            }
            follows.catch_up(&text);
            let marks = all(&mut words, &text, 6000 * n, None);
            assert_eq!(all(&mut followed, &follows, 6000 * n, None), marks);
        }
        text.settle();
        follows.catch_up(&text);
        let marks = all(&mut words, &text, 1 << 20, Some(1 << 20));
        assert_eq!(marks.last().unwrap().0, "four");
        assert_eq!(all(&mut followed, &follows, 1 << 20, Some(1 << 20)), marks);
    }

    #[test]
    fn no_word_is_said_before_it_came_nor_behind_the_end() {
        let mut text = spoken(&[("one ", 0), ("two ", 50), ("\"three\" ", 50), ("four", 99)]);
        let mut words = Words::default();
        assert_eq!(all(&mut words, &text, 49 * SPF, None), [("one".into(), 0)]);
        assert_eq!(all(&mut words, &text, 51 * SPF, None), [("two".into(), 50 * SPF)]);
        text.settle();
        let marks = all(&mut words, &text, 60 * SPF, Some(60 * SPF));
        assert_eq!(marks.iter().map(|(word, _)| &**word).collect::<Vec<_>>(), ["three", "four"]);
        assert!(marks[0].1 > 50 * SPF && marks[1].1 == 60 * SPF - 1, "{marks:?}");
    }

    #[test]
    fn what_is_no_word_is_not_marked_and_ideographs_stand_alone() {
        let mut text = spoken(&[(" - (don't) 你好a b! …", 0)]);
        text.settle();
        let mut words = Words::default();
        let marks: Vec<_> = std::iter::from_fn(|| words.next(&text, SPF, 1 << 20, None)).collect();
        assert_eq!(marks.iter().map(|m| &*m.word).collect::<Vec<_>>(), ["don't", "你", "好", "a", "b"]);
        assert!(marks.iter().all(|m| text.text[m.text_byte..].starts_with(&m.word)));
        assert!(marks.is_sorted_by_key(|m| m.sample));
    }
}
