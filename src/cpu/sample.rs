//! From scores to a code: penalty, minimum length, suppression, temperature, top-k, top-p, draw (MODEL.md 6), and
//! how near the choice was to another (margins: tests/golden/README.md).

use crate::error::{Error, Result};
use crate::request::{Randomness, Sampler};
use std::collections::BTreeSet;

/// A chosen index and its margin: for the best score the gap to the second; for a draw the least of the distance
/// of u to the edges of its interval and the relative gaps at the top-k and top-p cuts. Small means that other
/// arithmetic may choose otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    pub index: usize,
    pub margin: f32,
}

/// The talker's rules before a choice: scores in place.
pub struct TalkerRules<'a> {
    /// Group-0 tokens of this utterance so far, each once.
    pub seen: &'a BTreeSet<usize>,
    pub repetition_penalty: f32,
    pub eos: usize,
    /// Upstream's minimum: no eos among the first two tokens.
    pub eos_allowed: bool,
}

impl TalkerRules<'_> {
    pub fn apply(&self, scores: &mut [f32]) {
        for &token in self.seen {
            let s = &mut scores[token];
            *s = if *s < 0.0 { *s * self.repetition_penalty } else { *s / self.repetition_penalty };
        }
        let codes = scores.len() - 1024;
        for (token, s) in scores.iter_mut().enumerate().skip(codes) {
            if token != self.eos || !self.eos_allowed {
                *s = f32::NEG_INFINITY;
            }
        }
    }
}

/// The best score; the first of equals.
pub fn argmax(scores: &[f32]) -> Choice {
    let (mut best, mut second) = (0, f32::NEG_INFINITY);
    for (i, &s) in scores.iter().enumerate().skip(1) {
        if s > scores[best] {
            (best, second) = (i, scores[best]);
        } else {
            second = second.max(s);
        }
    }
    let gap = scores[best] - second;
    Choice { index: best, margin: if gap.is_finite() { gap } else { 1.0 } }
}

/// Draws with u in [0, 1): the first index whose cumulative probability, summed in f64 over f32 probabilities,
/// exceeds u * total. Changes `scores`.
pub fn draw(scores: &mut [f32], sampler: &Sampler, u: f64) -> Choice {
    let mut margin = 1.0f32;
    if sampler.temperature != 1.0 {
        scores.iter_mut().for_each(|s| *s /= sampler.temperature);
    }
    if sampler.top_k > 0 && sampler.top_k < scores.len() {
        let mut order = scores.to_vec();
        let (_, &mut cut, _) = order.select_nth_unstable_by(sampler.top_k - 1, |a, b| b.total_cmp(a));
        // Scores equal to the cut all stay.
        let dropped = scores.iter().copied().filter(|s| *s < cut).fold(f32::NEG_INFINITY, f32::max);
        if dropped.is_finite() {
            margin = margin.min((cut - dropped) / cut.abs().max(1e-30));
        }
        scores.iter_mut().filter(|s| **s < cut).for_each(|s| *s = f32::NEG_INFINITY);
    }
    if sampler.top_p < 1.0 {
        let mut probabilities = scores.to_vec();
        super::ops::softmax(&mut probabilities);
        let mut order: Vec<usize> = (0..scores.len()).collect();
        // Ascending, the later of equals last, as a stable sort has it.
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        let threshold = 1.0 - sampler.top_p;
        let mut cumulative = 0.0f32;
        for &i in &order[..order.len() - 1] {
            cumulative += probabilities[i];
            if probabilities[i] > 0.0 {
                margin = margin.min((cumulative - threshold).abs());
            }
            if cumulative <= threshold {
                scores[i] = f32::NEG_INFINITY;
            }
        }
    }
    super::ops::softmax(scores);
    let total: f64 = scores.iter().map(|&p| f64::from(p)).sum();
    let target = u * total;
    let mut lower = 0.0f64;
    let mut index = 0;
    for (i, &p) in scores.iter().enumerate().filter(|(_, p)| **p > 0.0) {
        index = i;
        let upper = lower + f64::from(p);
        if upper > target {
            if lower > 0.0 {
                margin = margin.min(((target - lower) / total) as f32);
            }
            if upper < total {
                margin = margin.min(((upper - target) / total) as f32);
            }
            break;
        }
        lower = upper;
    }
    Choice { index, margin }
}

/// Where the u of a draw comes from, for one utterance.
pub struct Source {
    randomness: Randomness,
    used: usize,
}

impl Source {
    pub fn new(randomness: Randomness) -> Source {
        Source { randomness, used: 0 }
    }

    /// The u of `group` in `frame`. A seed's depends on these two alone; a list is used up in order.
    pub fn uniform(&mut self, frame: usize, group: usize) -> Result<f64> {
        match &self.randomness {
            Randomness::Seed(seed) => Ok(philox_uniform(*seed, frame, group)),
            Randomness::Uniforms(list) => {
                let u = list.get(self.used).copied().ok_or_else(|| {
                    let what = format!("holds {} draws; frame {frame} group {group} needs one more", list.len());
                    Error::request("uniforms", what)
                })?;
                self.used += 1;
                Ok(u)
            }
        }
    }
}

/// A number in [0, 1) with 53 bits, from seed, frame and group alone.
pub fn philox_uniform(seed: u64, frame: usize, group: usize) -> f64 {
    let frame = frame as u64;
    let counter = [frame as u32, (frame >> 32) as u32, group as u32, 0];
    let [high, low, ..] = philox(counter, [seed as u32, (seed >> 32) as u32]);
    let bits = (u64::from(high) << 32 | u64::from(low)) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    let wide = |a: u32, b: u32| {
        let product = u64::from(a) * u64::from(b);
        ((product >> 32) as u32, product as u32)
    };
    for _ in 0..10 {
        let (high0, low0) = wide(0xD251_1F53, counter[0]);
        let (high1, low1) = wide(0xCD9E_8D57, counter[2]);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

/// The best of these scores, or a draw of them.
pub fn choose(
    scores: &mut [f32],
    sampler: &Sampler,
    source: &mut Source,
    frame: usize,
    group: usize,
) -> Result<Choice> {
    match sampler.do_sample {
        false => Ok(argmax(scores)),
        true => Ok(draw(scores, sampler, source.uniform(frame, group)?)),
    }
}

#[cfg(test)]
mod tests {
    //! Would catch: a generator that is not Philox, an edge of a cut moved by one, a margin that is no margin.
    use super::*;

    #[test]
    fn philox_is_the_published_one() {
        // Known answers of the authors' Random123 distribution (kat_vectors, philox4x32 10).
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let max = u32::MAX;
        assert_eq!(philox([max; 4], [max; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let key = [0xa409_3822, 0x299f_31d0];
        assert_eq!(philox(counter, key), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn best_score_and_its_gap() {
        assert_eq!(argmax(&[1.0, 3.0, 2.5]), Choice { index: 1, margin: 0.5 });
        assert_eq!(argmax(&[2.0, 2.0]), Choice { index: 0, margin: 0.0 });
        assert_eq!(argmax(&[f32::NEG_INFINITY, 2.0]).margin, 1.0);
    }

    #[test]
    fn draws_follow_the_cumulative_edges() {
        let sampler = Sampler { do_sample: true, temperature: 1.0, top_k: 0, top_p: 1.0 };
        let scores = [0.1f32, 0.2, 0.3, 0.4].map(f32::ln);
        for (u, index) in [(0.0, 0), (0.0999, 0), (0.1001, 1), (0.2999, 1), (0.6001, 3), (0.9999, 3)] {
            assert_eq!(draw(&mut scores.clone(), &sampler, u).index, index, "u {u}");
        }
        let near = draw(&mut scores.clone(), &sampler, 0.1001).margin;
        assert!((near - 0.0001).abs() < 1e-6, "{near}");
    }

    #[test]
    fn cuts_keep_ties_and_the_best() {
        let top = |k, p| Sampler { do_sample: true, temperature: 1.0, top_k: k, top_p: p };
        // Three tie at the second place: all stay, so u near 1 reaches the last of them.
        assert_eq!(draw(&mut [1.0, 2.0, 1.0, 1.0, 0.5], &top(2, 1.0), 0.999).index, 3);
        assert_eq!(draw(&mut [1.0, 2.0, 1.0], &top(1, 1.0), 0.999).index, 1);
        // Probabilities .1 .2 .3 .4: p = .65 drops .1 and .2, whose sum .3 is under .35.
        let scores = [0.1f32, 0.2, 0.3, 0.4].map(f32::ln);
        assert_eq!(draw(&mut scores.clone(), &top(0, 0.65), 0.0).index, 2);
        assert_eq!(draw(&mut scores.clone(), &top(0, 1e-6), 0.0).index, 3);
    }
}
