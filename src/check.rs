//! Is this sound fit to be heard? Measures of finished speech, each with its bound, from the samples alone: no model,
//! no reference, no ear. Knows the frame and nothing else; the bounds stand beside the reason for them.
//!
//! "Demo" below is the embedded model speaking its 198 held-out sentences, greedy, in both voices: what was found
//! there is what the bounds were set around, with room for the voices of published models.
//!
//! What this cannot tell: words, other than that they are far too few or too many; a cut in a pause (demo cut at each
//! frame's border: none of 510 passes in the first half, 53 of 559 in the second); a step that the voice itself covers
//! (where each chunk is decoded cold, all utterances are found; where one is, 2 of 3); a step inside a chunk; a step at
//! the beginning, which demo itself has: its codec starts from nothing with a sample of 0.1.

use crate::frame::{SAMPLE_RATE, SAMPLES_PER_FRAME};
use serde::Serialize;

/// Windows in which levels are taken: 20 ms hold a period of the deepest voice and are shorter than a sound of speech.
const WINDOW_SAMPLES: usize = 480;
/// The level of speech is the RMS of the windows this near to the loudest: pauses and fades say nothing of loudness.
const SPEECH_RANGE_DB: f64 = 30.0;
/// Below any level that is found, so that silence has a figure.
const SILENCE_DBFS: f64 = -120.0;

/// A whisper through good headphones. Demo: -19.8 at the quietest; published voices may be some dB below.
pub const LEAST_LOUDNESS_DBFS: f64 = -32.0;
/// Speech as loud as this has no room left for its peaks. Demo: -11.1 at the loudest.
pub const MOST_LOUDNESS_DBFS: f64 = -8.0;
/// A sample from here on stands at the end of the scale, in 16 bits as in f32. Demo: peaks of 0.96.
pub const CLIPPED_AT: f32 = 0.999;
/// A player has to cut each of them.
pub const MOST_CLIPPED_SAMPLES: f64 = 0.0;

/// Quieter than speech by this much is dead: under the quietest consonant, over the noise of a codec (demo: -53).
const DEAD_BELOW_SPEECH_DB: f64 = 35.0;
/// Dead whatever else the file holds.
const DEAD_DBFS: f64 = -60.0;
/// From here on a listener asks whether it goes on. Demo: 0.26 s, before a stop.
pub const MOST_DEAD_AIR_S: f64 = 1.0;

/// A window is noise where its second difference outweighs it: most of its energy is above 4 kHz ...
const NOISE_RATIO: f64 = 1.0;
/// ... and it is about as loud as the vowels: fricatives are noise too, but quieter or short.
const NOISE_BELOW_SPEECH_DB: f64 = 6.0;
/// Demo: 0.16 s, an "s" of the voice `rms`.
pub const MOST_NOISE_S: f64 = 0.25;

/// How far to both sides the second difference at a border is compared: a period of a voice of 65 Hz, so that the next
/// pulse of the voice is always in sight, and the burst of a consonant that begins here too.
const NEIGHBOURHOOD_SAMPLES: usize = 360;
/// Bends this far under the level of speech are not heard as clicks ...
const CLICK_BELOW_SPEECH_DB: f64 = 60.0;
/// ... nor are these, which rounding to 16 bits can make.
const UNHEARD_DBFS: f64 = -80.0;
/// The border's largest second difference over the largest near it. Demo: 1.26 at the worst of all frames' borders;
/// decoded without the state of the chunk before, each utterance has one over 3.
pub const MOST_CLICK_RATIO: f64 = 2.0;

/// How far apart the same frame may come twice: chunks are narrower than 4 s.
const REPEAT_FRAMES: usize = 50;
/// Frames this far under the level of speech may be alike: they are silence.
const REPEAT_BELOW_SPEECH_DB: f64 = 25.0;
/// The difference of the two most alike frames, against their energy. A chunk delivered twice gives the same samples
/// and no difference at all; the steadiest vowel of demo differs by -24 dB.
pub const LEAST_REPEAT_DIFFERENCE_DB: f64 = -40.0;

/// The last window against the level of speech: a voice fades, a cut does not. Demo: -45 at the loudest.
pub const MOST_ENDING_DB: f64 = -30.0;

/// The time that a text takes is this, the pauses around it ...
const EXPECTED_AROUND_S: f64 = 0.38;
/// ... and this for each letter, blanks and stops with them: both fitted to demo by least squares.
const EXPECTED_LETTER_S: f64 = 0.058;
/// A digit is read as a word: "seven ".
const LETTERS_PER_DIGIT: f64 = 5.0;
/// A syllable is about three letters' time. By published speaking rates; demo speaks only English.
const LETTERS_PER_CJK: f64 = 3.0;
/// Demo: 0.77 of the expected time at the fastest.
pub const LEAST_LENGTH_RATIO: f64 = 0.65;
/// Demo: 1.44 at the slowest.
pub const MOST_LENGTH_RATIO: f64 = 1.75;

/// One measure of one sound.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measure {
    /// Which: "finite", "loudness", "clipping", "dead air", "noise", "click", "repeat", "ending", "length".
    pub name: &'static str,
    /// What was found.
    pub figure: f64,
    /// The unit of the figure and the bounds.
    pub unit: &'static str,
    /// The figure must not be under this.
    pub least: Option<f64>,
    /// The figure must not be over this.
    pub most: Option<f64>,
    /// Where the figure was found, where it has a place: seconds from the beginning.
    pub at_s: Option<f64>,
    /// Whether the figure is within its bounds.
    pub passes: bool,
}

/// What was found in one sound.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// How long the sound is.
    pub sound_s: f64,
    /// Each measure, in the order of this file. "length" is there where the text is known.
    pub measures: Vec<Measure>,
}

impl Report {
    /// Whether every measure is within its bounds.
    pub fn passes(&self) -> bool {
        self.failed().next().is_none()
    }

    /// The measures that are not.
    pub fn failed(&self) -> impl Iterator<Item = &Measure> {
        self.measures.iter().filter(|m| !m.passes)
    }
}

/// Measures 24 kHz mono samples in -1..1. `text` is what they should say. `chunk_frames` are the widths of the chunks in
/// which they were decoded, in order, the last repeating; without widths every frame's border is tried for clicks.
pub fn check(samples: &[f32], text: Option<&str>, chunk_frames: &[usize]) -> Report {
    let sound_s = seconds(samples.len());
    // What is no number is counted once, by its own measure, and is silence to the others.
    let unreal = samples.iter().filter(|s| !s.is_finite()).count();
    let first_unreal = samples.iter().position(|s| !s.is_finite());
    let real: Vec<f32> = samples.iter().map(|s| if s.is_finite() { *s } else { 0.0 }).collect();
    let sound = Sound::new(&real);
    let mut measures = vec![
        measure("finite", unreal as f64, "samples not", None, Some(0.0), first_unreal.map(seconds)),
        sound.loudness(),
        sound.clipping(),
        sound.dead_air(),
        sound.noise(),
        sound.click(chunk_frames),
        sound.repeat(),
        sound.ending(),
    ];
    if let Some(text) = text {
        let ratio = sound_s / expected_s(text);
        let bounds = (Some(LEAST_LENGTH_RATIO), Some(MOST_LENGTH_RATIO));
        measures.push(measure("length", ratio, "of expected", bounds.0, bounds.1, None));
    }
    Report { sound_s, measures }
}

fn measure(
    name: &'static str,
    figure: f64,
    unit: &'static str,
    least: Option<f64>,
    most: Option<f64>,
    at_s: Option<f64>,
) -> Measure {
    let passes = least.is_none_or(|least| figure >= least) && most.is_none_or(|most| figure <= most);
    Measure { name, figure, unit, least, most, at_s, passes }
}

/// Samples with what several measures need of them.
struct Sound<'a> {
    samples: &'a [f32],
    /// RMS of each window; the last may be short.
    windows: Vec<f64>,
    /// |second difference| around each sample; none at the two ends.
    bends: Vec<f64>,
    /// RMS of speech.
    speech: f64,
}

impl Sound<'_> {
    fn new(samples: &[f32]) -> Sound<'_> {
        let windows: Vec<f64> = samples.chunks(WINDOW_SAMPLES).map(|w| rms(w.iter().map(|&s| f64::from(s)))).collect();
        let gate = windows.iter().copied().fold(0.0, f64::max) * ratio_of_db(-SPEECH_RANGE_DB);
        let speech = rms(windows.iter().copied().filter(|&w| w >= gate));
        let mut bends = vec![0.0; samples.len()];
        for (i, w) in samples.windows(3).enumerate() {
            bends[i + 1] = (f64::from(w[0]) - 2.0 * f64::from(w[1]) + f64::from(w[2])).abs();
        }
        Sound { samples, windows, bends, speech }
    }

    /// The amplitude this far below speech.
    fn below_speech(&self, db: f64) -> f64 {
        self.speech * ratio_of_db(-db)
    }

    fn loudness(&self) -> Measure {
        let (least, most) = (Some(LEAST_LOUDNESS_DBFS), Some(MOST_LOUDNESS_DBFS));
        measure("loudness", db_of_ratio(self.speech), "dBFS", least, most, None)
    }

    fn clipping(&self) -> Measure {
        let is_clipped = |s: &f32| s.abs() >= CLIPPED_AT;
        let count = self.samples.iter().filter(|s| is_clipped(s)).count();
        let first_s = self.samples.iter().position(is_clipped).map(seconds);
        measure("clipping", count as f64, "samples", None, Some(MOST_CLIPPED_SAMPLES), first_s)
    }

    /// The longest run of dead windows, those before and after the speech too.
    fn dead_air(&self) -> Measure {
        let dead = self.below_speech(DEAD_BELOW_SPEECH_DB).max(ratio_of_db(DEAD_DBFS));
        let (run_s, at_s) = longest_run(self.windows.iter().map(|&w| w < dead));
        measure("dead air", run_s, "s", None, Some(MOST_DEAD_AIR_S), at_s)
    }

    /// The longest run of windows that are loud and mostly high.
    fn noise(&self) -> Measure {
        let loud = self.below_speech(NOISE_BELOW_SPEECH_DB).max(ratio_of_db(DEAD_DBFS));
        let bends = self.bends.chunks(WINDOW_SAMPLES).map(|w| rms(w.iter().copied()));
        let is_noise = self.windows.iter().zip(bends).map(|(&w, bend)| w > loud && bend > NOISE_RATIO * w);
        let (run_s, at_s) = longest_run(is_noise);
        measure("noise", run_s, "s", None, Some(MOST_NOISE_S), at_s)
    }

    /// A border falls between two samples; a step there bends the sound at both.
    fn click(&self, chunk_frames: &[usize]) -> Measure {
        let unheard = self.below_speech(CLICK_BELOW_SPEECH_DB).max(ratio_of_db(UNHEARD_DBFS));
        let largest = |bends: &[f64]| bends.iter().copied().fold(0.0, f64::max);
        let mut worst = (0.0, None);
        for border in borders(self.samples.len(), chunk_frames) {
            let before = &self.bends[border.saturating_sub(NEIGHBOURHOOD_SAMPLES)..border - 1];
            let after = &self.bends[border + 1..self.bends.len().min(border + NEIGHBOURHOOD_SAMPLES)];
            let near = largest(before).max(largest(after)).max(unheard);
            let ratio = largest(&self.bends[border - 1..=border]) / near;
            if ratio > worst.0 {
                worst = (ratio, Some(seconds(border)));
            }
        }
        measure("click", worst.0, "of near", None, Some(MOST_CLICK_RATIO), worst.1)
    }

    /// The difference of the two frames of speech that are most alike.
    fn repeat(&self) -> Measure {
        let frames = self.samples.as_chunks::<SAMPLES_PER_FRAME>().0;
        let energy = |frame: &[f32; SAMPLES_PER_FRAME]| frame.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>();
        let energies: Vec<f64> = frames.iter().map(energy).collect();
        let speech = self.below_speech(REPEAT_BELOW_SPEECH_DB).max(ratio_of_db(DEAD_DBFS));
        let is_speech = |f: usize| energies[f] > speech.powi(2) * SAMPLES_PER_FRAME as f64;
        // Two frames that have nothing in common differ by their whole energy.
        let mut least = (1.0, None);
        for second in (0..frames.len()).filter(|&f| is_speech(f)) {
            for first in (second.saturating_sub(REPEAT_FRAMES)..second).filter(|&f| is_speech(f)) {
                let pairs = frames[first].iter().zip(&frames[second]);
                let difference: f64 = pairs.map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
                let share = difference / (energies[first] + energies[second]);
                if share < least.0 {
                    least = (share, Some(seconds(second * SAMPLES_PER_FRAME)));
                }
            }
        }
        let figure = db_of_ratio(least.0.sqrt());
        measure("repeat", figure, "dB apart", Some(LEAST_REPEAT_DIFFERENCE_DB), None, least.1)
    }

    fn ending(&self) -> Measure {
        let last = &self.samples[self.samples.len().saturating_sub(WINDOW_SAMPLES)..];
        let last = rms(last.iter().map(|&s| f64::from(s)));
        // Silence ends as it was.
        let figure = if self.speech > 0.0 { db_of_ratio(last / self.speech) } else { SILENCE_DBFS };
        measure("ending", figure, "dB to speech", None, Some(MOST_ENDING_DB), None)
    }
}

/// The borders between chunks of these widths, in samples; between all frames without widths. One that has no sample
/// after it is the end.
fn borders(samples: usize, chunk_frames: &[usize]) -> impl Iterator<Item = usize> {
    let widths = if chunk_frames.is_empty() { &[1] } else { chunk_frames };
    let mut border = 0usize;
    let borders = widths.iter().chain(widths.last().into_iter().cycle()).map(move |&width| {
        // A width of none is no chunk: counted as the narrowest, so that the end is reached.
        border = border.saturating_add(width.max(1).saturating_mul(SAMPLES_PER_FRAME));
        border
    });
    borders.take_while(move |&border| border < samples)
}

/// The longest run of windows, in seconds, and where it begins.
fn longest_run(windows: impl Iterator<Item = bool>) -> (f64, Option<f64>) {
    let (mut longest, mut begin, mut run) = (0, None, 0);
    for (i, holds) in windows.enumerate() {
        run = if holds { run + 1 } else { 0 };
        if run > longest {
            (longest, begin) = (run, Some(seconds((i + 1 - run) * WINDOW_SAMPLES)));
        }
    }
    (seconds(longest * WINDOW_SAMPLES), begin)
}

/// How long this text takes to say, at the rate of the embedded model.
fn expected_s(text: &str) -> f64 {
    let letters = |c: char| match c {
        '$' | '%' | '&' => LETTERS_PER_DIGIT,
        _ if c.is_numeric() => LETTERS_PER_DIGIT,
        // From the radicals on: kana, hangul, Chinese characters.
        '\u{2E80}'.. => LETTERS_PER_CJK,
        _ => 1.0,
    };
    EXPECTED_AROUND_S + EXPECTED_LETTER_S * text.trim().chars().map(letters).sum::<f64>()
}

fn seconds(samples: usize) -> f64 {
    samples as f64 / f64::from(SAMPLE_RATE)
}

/// 0 of nothing.
fn rms(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), v| (sum + v * v, count + 1.0));
    if count > 0.0 { f64::sqrt(sum / count) } else { 0.0 }
}

fn ratio_of_db(db: f64) -> f64 {
    10f64.powf(db / 20.0)
}

fn db_of_ratio(ratio: f64) -> f64 {
    (20.0 * ratio.log10()).max(SILENCE_DBFS)
}

#[cfg(test)]
mod tests {
    //! Would catch: a border in the wrong place, a text weighed wrongly, a figure that JSON cannot hold.
    use super::*;

    #[test]
    fn borders_follow_the_widths() {
        let of = |frames: usize, widths: &[usize]| {
            borders(frames * SAMPLES_PER_FRAME, widths).map(|b| b / SAMPLES_PER_FRAME).collect::<Vec<_>>()
        };
        assert_eq!(of(20, &[1, 2, 4, 8]), [1, 3, 7, 15]);
        assert_eq!(of(24, &[1, 2, 4, 8]), [1, 3, 7, 15, 23]);
        assert_eq!(of(4, &[]), [1, 2, 3]);
        assert_eq!(of(3, &[3]), [0; 0]);
        assert_eq!(of(0, &[]), [0; 0]);
        assert_eq!(of(2, &[0]), [1]);
    }

    #[test]
    fn a_text_takes_its_time() {
        let letters = |text| (expected_s(text) - EXPECTED_AROUND_S) / EXPECTED_LETTER_S;
        for (text, expected) in [("Hello.", 6.0), (" no \n", 2.0), ("$37", 15.0), ("你好。", 9.0), ("", 0.0)] {
            assert!((letters(text) - expected).abs() < 1e-9, "{text:?}: {}", letters(text));
        }
    }

    #[test]
    fn figures_are_numbers_whatever_comes() {
        let odd = [f32::NAN, f32::INFINITY, f32::MIN_POSITIVE, f32::MAX];
        for length in [0, 1, 2, 3, 479, 480, 1919, 1920, 1921, 1922, 3840, 3841] {
            for value in odd.into_iter().chain([0.0, 1e-9, 1.0]) {
                let report = check(&vec![value; length], Some(""), &[]);
                assert!(report.measures.iter().all(|m| m.figure.is_finite()), "{length} of {value}: {report:?}");
                assert!(!report.passes(), "{length} of {value}");
            }
        }
    }
}
