//! The speaker encoder's front end: samples to a log-mel spectrogram (MODEL.md 9), in f64 but for the filters, which are
//! rounded to f32 as the official ones are. Knows sound and no model.

use crate::config::MELS;
use crate::frame::SAMPLE_RATE;
use std::f64::consts::{PI, TAU};

/// Samples under one window, and points of its Fourier transform.
const WINDOW: usize = 1024;
/// Samples from one window to the next.
pub const HOP: usize = 256;
/// Samples that are mirrored on either side of the sound.
const EDGE: usize = (WINDOW - HOP) / 2;
/// Frequencies from 0 to the highest, 12 kHz.
const BINS: usize = WINDOW / 2 + 1;

/// How many windows `log_mel` gives of so many samples, 385 at least: one for each 256.
pub fn mel_frames(samples: usize) -> usize {
    samples / HOP
}

/// The sound must be longer than what is mirrored of it.
pub const FEWEST_SAMPLES: usize = EDGE + 1;

/// Samples at 24 kHz to `[mel_frames][128]` natural logarithms of magnitudes.
///
/// Each window of 1024 samples under a periodic Hann window, 256 apart over the sound mirrored by 384 on either side, gives
/// magnitudes sqrt(re² + im² + 1e-9) at 513 frequencies; 128 triangles from 0 to 12 kHz on Slaney's mel scale, each of
/// unit area, gather them; what is under 1e-5 counts as 1e-5. The formulas are those of `librosa.filters.mel` and
/// `torch.stft`, with which the official package computes in f32. Fewer than 385 samples give nothing.
pub fn log_mel(samples: &[f32]) -> Vec<f32> {
    if samples.len() < FEWEST_SAMPLES {
        return Vec::new();
    }
    let window: Vec<f64> = (0..WINDOW).map(|i| 0.5 - 0.5 * (TAU * i as f64 / WINDOW as f64).cos()).collect();
    let (filters, transform) = (filters(), Transform::new());
    let last = samples.len() - 1;
    let at = |place: usize| {
        // Mirrored without repeating the first and the last sample.
        let place = place.abs_diff(EDGE);
        f64::from(samples[if place > last { 2 * last - place } else { place }])
    };
    let mut mels = Vec::with_capacity(mel_frames(samples.len()) * MELS);
    let mut magnitudes = [0.0; BINS];
    let (mut re, mut im) = (vec![0.0; WINDOW], vec![0.0; WINDOW]);
    for frame in 0..mel_frames(samples.len()) {
        for (i, (re, w)) in re.iter_mut().zip(&window).enumerate() {
            *re = w * at(frame * HOP + i);
        }
        im.fill(0.0);
        transform.run(&mut re, &mut im);
        for (m, (re, im)) in magnitudes.iter_mut().zip(re.iter().zip(&im)) {
            *m = (re * re + im * im + 1e-9).sqrt();
        }
        mels.extend(filters.iter().map(|filter| {
            let sum: f64 = filter.weights.iter().zip(&magnitudes[filter.first..]).map(|(w, m)| w * m).sum();
            let sum = if sum < 1e-5 { 1e-5 } else { sum }; // not `max`: NaN must stay NaN, so that it is found
            sum.ln() as f32
        }));
    }
    mels
}

/// One band: its weights on the bins from `first` on.
struct Filter {
    first: usize,
    weights: Vec<f64>,
}

/// Slaney's mel scale: linear under 1 kHz, 200/3 Hz a mel, and logarithmic above, 27 mels for a factor of 6.4.
fn mel_to_hz(mel: f64) -> f64 {
    if mel < 15.0 { mel * 200.0 / 3.0 } else { 1000.0 * ((mel - 15.0) * 6.4f64.ln() / 27.0).exp() }
}

fn hz_to_mel(hz: f64) -> f64 {
    if hz < 1000.0 { hz * 3.0 / 200.0 } else { 15.0 + (hz / 1000.0).ln() * 27.0 / 6.4f64.ln() }
}

fn filters() -> Vec<Filter> {
    let top = f64::from(SAMPLE_RATE) / 2.0;
    let corner = |i: usize| mel_to_hz(hz_to_mel(top) * i as f64 / (MELS + 1) as f64);
    let bin_hz = |bin: usize| bin as f64 * top / (BINS - 1) as f64;
    let filter = |band: usize| {
        let [low, middle, high] = [corner(band), corner(band + 1), corner(band + 2)];
        let rise = |hz: f64| ((hz - low) / (middle - low)).min((high - hz) / (high - middle)).max(0.0) as f32;
        let area = 2.0 / (high - low);
        let weights: Vec<f64> = (0..BINS).map(|bin| f64::from((f64::from(rise(bin_hz(bin))) * area) as f32)).collect();
        let first = weights.iter().position(|&w| w > 0.0).unwrap_or(0);
        let end = weights.iter().rposition(|&w| w > 0.0).map_or(first, |last| last + 1);
        Filter { first, weights: weights[first..end].to_vec() }
    };
    (0..MELS).map(filter).collect()
}

/// The discrete Fourier transform of WINDOW points, radix 2, in place.
struct Transform {
    /// exp(-2 pi i k / WINDOW) for the first half of the circle.
    turns: Vec<(f64, f64)>,
}

impl Transform {
    fn new() -> Transform {
        let turn = |k: usize| {
            let (sin, cos) = (2.0 * PI * k as f64 / WINDOW as f64).sin_cos();
            (cos, -sin)
        };
        Transform { turns: (0..WINDOW / 2).map(turn).collect() }
    }

    fn run(&self, re: &mut [f64], im: &mut [f64]) {
        let bits = WINDOW.trailing_zeros();
        for i in 0..WINDOW {
            let j = i.reverse_bits() >> (usize::BITS - bits);
            if i < j {
                re.swap(i, j);
                im.swap(i, j);
            }
        }
        let mut half = 1;
        while half < WINDOW {
            let step = WINDOW / (2 * half);
            for start in (0..WINDOW).step_by(2 * half) {
                for k in 0..half {
                    let ((cos, sin), low, high) = (self.turns[k * step], start + k, start + k + half);
                    let (r, i) = (re[high] * cos - im[high] * sin, re[high] * sin + im[high] * cos);
                    (re[high], im[high]) = (re[low] - r, im[low] - i);
                    (re[low], im[low]) = (re[low] + r, im[low] + i);
                }
            }
            half *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    //! Would catch: a transform that is none, a scale or filter out of place, an edge that is not mirrored.
    use super::*;

    #[test]
    fn the_transform_is_the_sum_that_defines_it() {
        let x: Vec<f64> = (0..WINDOW).map(|i| ((i * i * 7 + 3 * i) % 101) as f64 / 50.0 - 1.0).collect();
        let y: Vec<f64> = (0..WINDOW).map(|i| ((i * 31 + 5) % 67) as f64 / 33.0 - 1.0).collect();
        let (mut re, mut im) = (x.clone(), y.clone());
        Transform::new().run(&mut re, &mut im);
        for k in [0, 1, 2, 3, 100, 511, 512, 513, 1023] {
            let (mut r, mut i) = (0.0, 0.0);
            for n in 0..WINDOW {
                let (sin, cos) = (-TAU * ((n * k) % WINDOW) as f64 / WINDOW as f64).sin_cos();
                r += x[n] * cos - y[n] * sin;
                i += x[n] * sin + y[n] * cos;
            }
            assert!((re[k] - r).abs() < 1e-9 && (im[k] - i).abs() < 1e-9, "{k}: {} {}, expected {r} {i}", re[k], im[k]);
        }
    }

    #[test]
    fn each_band_has_unit_area_and_its_tone() {
        assert!((hz_to_mel(mel_to_hz(31.7)) - 31.7).abs() < 1e-12 && (mel_to_hz(15.0) - 1000.0).abs() < 1e-9);
        for hz in [300.0, 1000.0, 5000.0] {
            let tone: Vec<f32> = (0..8000).map(|i| (TAU * hz * i as f64 / 24000.0).sin() as f32 * 0.5).collect();
            let mels = log_mel(&tone);
            assert_eq!(mels.len(), 31 * MELS);
            let frame = &mels[15 * MELS..][..MELS];
            let loudest = (0..MELS).max_by(|&a, &b| frame[a].total_cmp(&frame[b])).unwrap();
            let centre = mel_to_hz(hz_to_mel(12000.0) * (loudest + 1) as f64 / 129.0);
            assert!((centre / hz - 1.0).abs() < 0.05, "{hz} Hz is loudest at {centre} Hz");
        }
        let bin_hz = 12000.0 / 512.0;
        for filter in filters().iter().skip(64) {
            // Wide ones are sampled finely enough for their area to be seen.
            let area = filter.weights.iter().sum::<f64>() * bin_hz;
            assert!((area - 1.0).abs() < 0.05, "{area}");
        }
    }

    #[test]
    fn the_edges_are_mirrored() {
        // A sound that is its own mirror image at both ends continues there, so its windows there are as those inside.
        let samples: Vec<f32> = (0..4097).map(|i| (PI * i as f64 / 32.0).cos() as f32).collect();
        let mels = log_mel(&samples);
        let (first, inside) = (&mels[..MELS], &mels[8 * MELS..][..MELS]);
        for (a, b) in first.iter().zip(inside) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
        assert!(log_mel(&[0.1; FEWEST_SAMPLES - 1]).is_empty() && log_mel(&[0.1; FEWEST_SAMPLES]).len() == MELS);
    }
}
