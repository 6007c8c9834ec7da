//! Sound at another rate: mono in, piece by piece, the same sound out; from 24 kHz to what a player or a telephone wants, and
//! from a recording's rate to 24 kHz. Owns the filter and its state for one stream; knows the frame's rate and nothing else.
//!
//! The output does not depend on how the input is cut: whatever comes is gathered into chunks of one size, and only those
//! reach the filter. Output sample k stands at time k / rate of the input: the filter's delay is dropped at the front and
//! made up with zeros at the end.
//!
//! The filter is rubato's sinc with a row of taps for each place an output can have between two inputs, so that nothing is
//! interpolated. rubato's FFT was measured beside it: no better ripple, rejection or delay (3 to 10 ms), and 0.03 % of a
//! core instead of 0.16 at the worst; but a megabyte of code, and 15 s of compiling instead of one.

use crate::error::{Error, Result};
use crate::frame::SAMPLE_RATE;
use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{
    Async, FixedAsync, Resampler as _, SincInterpolationParameters, SincInterpolationType, WindowFunction,
    calculate_cutoff,
};

/// Rates that sound can be had at.
pub const RATES_HZ: [u32; 6] = [8_000, 16_000, 22_050, 24_000, 44_100, 48_000];

/// Taps of the filter, in samples of the lower rate. Half of them are held back: 9 ms at 8 kHz, 3 ms at 48 kHz. At 0.9 of
/// the lower Nyquist frequency it is 0.005 dB down; with 128 taps it would be 0.09 dB, with 120 it would be 0.26.
const TAPS: usize = 144;
/// What the rate cannot hold is 109 dB down. The next sharper window, Blackman's, would leave 78.
const WINDOW: WindowFunction = WindowFunction::BlackmanHarris;
/// Samples that the filter takes at once. It divides a frame, and up to this many wait for the next push.
const CHUNK_SAMPLES: usize = 32;

/// One stream's way from one rate to another.
pub(crate) struct Resampler {
    from_hz: u32,
    rate_hz: u32,
    /// None at the same rate, where sound is passed on bit for bit.
    filter: Option<Filter>,
}

struct Filter {
    sinc: Async<f32>,
    waiting: [f32; CHUNK_SAMPLES],
    waiting_samples: usize,
    /// What the filter made of the last chunk.
    made: Vec<f32>,
    /// Nothing beyond it is given.
    full_scale: f32,
    /// Outputs still to be dropped: those before the sound.
    early_samples: usize,
    taken_samples: u64,
    given_samples: u64,
}

impl Resampler {
    /// Refuses a rate that is not in [`RATES_HZ`].
    pub fn new(rate_hz: u32) -> Result<Resampler> {
        if !RATES_HZ.contains(&rate_hz) {
            let rates = RATES_HZ.map(|rate| rate.to_string()).join(", ");
            return Err(Error::request("sample_rate_hz", format!("is {rate_hz}; expected one of {rates}")));
        }
        Self::between(SAMPLE_RATE, rate_hz)
    }

    /// From any rate to any other. Two that share no large divisor make a large filter: at most 24000 rows of taps towards
    /// 24 kHz, where the usual rates make 1 to 320.
    pub fn between(from_hz: u32, rate_hz: u32) -> Result<Resampler> {
        let filter = if rate_hz == from_hz { None } else { Some(Filter::new(from_hz, rate_hz)?) };
        Ok(Resampler { from_hz, rate_hz, filter })
    }

    /// Takes the next of the sound, and appends to `out` what is certain by now: all but the last 10 ms at most. A peak
    /// that lies between two samples can be over full scale once there is a sample on it: it is cut at 1 and -1.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<()> {
        let Some(filter) = &mut self.filter else {
            out.extend_from_slice(samples);
            return Ok(());
        };
        filter.taken_samples += samples.len() as u64;
        filter.feed(samples, out)
    }

    /// Appends the rest: then there are as many samples as the time of the sound holds, a part of one counted as one.
    /// Nothing may be pushed after it.
    pub fn end(&mut self, out: &mut Vec<f32>) -> Result<()> {
        let Some(filter) = &mut self.filter else { return Ok(()) };
        let due = (filter.taken_samples * u64::from(self.rate_hz)).div_ceil(u64::from(self.from_hz));
        while filter.given_samples < due {
            filter.feed(&[0.0; CHUNK_SAMPLES], out)?;
        }
        out.truncate(out.len() - (filter.given_samples - due) as usize);
        filter.given_samples = due;
        Ok(())
    }
}

impl Filter {
    fn new(from_hz: u32, rate_hz: u32) -> Result<Filter> {
        let (rate, from) = (rate_hz as usize, from_hz as usize);
        // For `step` inputs there are `rows` outputs, each at its own place between two inputs.
        let shared = greatest_common_divisor(rate, from);
        let (rows, step) = (rate / shared, from / shared);
        let lower = rate.min(from);
        // rubato wants eights. The length is counted in inputs, which are closer together where the output is slower.
        let taps = (TAPS * from / lower).next_multiple_of(8);
        let parameters = SincInterpolationParameters::new(taps, WINDOW)
            .f_cutoff(calculate_cutoff(taps * lower / from, WINDOW))
            .oversampling_factor(rows)
            .interpolation(SincInterpolationType::Nearest);
        let ratio = rate as f64 / from as f64;
        let sinc = Async::new_sinc(ratio, 1.0, &parameters, CHUNK_SAMPLES, 1, FixedAsync::Input);
        let sinc = sinc.map_err(|e| Error::compute("resample", e.to_string()))?;
        // Counted in 1 / rows of an input, output n of rubato's stands at (n + 1) * step + 1 - taps / 2 * rows (found with
        // an impulse; `output_delay` is a rounding of it). So many zeros before the sound put one of them at its first
        // sample, and those before that one are dropped. There is such a number: `rows` and `step` share no divisor.
        let stands_late = |zeros: usize| (taps / 2 + zeros) * rows - 1;
        let zeros = (0..step).find(|&zeros| stands_late(zeros).is_multiple_of(step)).unwrap_or(0);
        let mut filter = Filter {
            waiting: [0.0; CHUNK_SAMPLES],
            waiting_samples: 0,
            made: vec![0.0; sinc.output_frames_max()],
            // Speech goes to players, which know no more; a recording goes on as it is.
            full_scale: if from_hz == SAMPLE_RATE { 1.0 } else { f32::INFINITY },
            early_samples: stands_late(zeros) / step - 1,
            taken_samples: 0,
            given_samples: 0,
            sinc,
        };
        filter.feed(&vec![0.0; zeros], &mut Vec::new())?;
        Ok(filter)
    }

    fn feed(&mut self, mut samples: &[f32], out: &mut Vec<f32>) -> Result<()> {
        while !samples.is_empty() {
            let waiting = &mut self.waiting[self.waiting_samples..];
            let (next, later) = samples.split_at(samples.len().min(waiting.len()));
            waiting[..next.len()].copy_from_slice(next);
            self.waiting_samples += next.len();
            samples = later;
            if self.waiting_samples == CHUNK_SAMPLES {
                self.waiting_samples = 0;
                self.chunk(out)?;
            }
        }
        Ok(())
    }

    /// Passes what waits through the filter.
    fn chunk(&mut self, out: &mut Vec<f32>) -> Result<()> {
        let wrong = |what: &dyn std::fmt::Display| Error::compute("resample", what.to_string());
        let room = self.made.len();
        let chunk = SequentialSlice::new(&self.waiting[..], 1, CHUNK_SAMPLES).map_err(|e| wrong(&e))?;
        let mut made = SequentialSlice::new_mut(&mut self.made[..], 1, room).map_err(|e| wrong(&e))?;
        let (_, samples) = self.sinc.process_into_buffer(&chunk, &mut made, None).map_err(|e| wrong(&e))?;
        let early = samples.min(self.early_samples);
        self.early_samples -= early;
        self.given_samples += (samples - early) as u64;
        out.extend(self.made[early..samples].iter().map(|s| s.clamp(-self.full_scale, self.full_scale)));
        Ok(())
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    //! Would catch: a sample too many or too few, sound that comes early or late, a seam where the input was cut, what
    //! the filter should have kept or removed, and a first sound that waits.
    use super::*;
    use crate::frame::SAMPLES_PER_FRAME;
    use std::f64::consts::TAU;

    /// How long sound may be held back: half the taps, and what waits for a chunk.
    const MOST_HELD_S: f64 = 0.010;

    fn other_rates() -> impl Iterator<Item = u32> {
        RATES_HZ.into_iter().filter(|&rate| rate != SAMPLE_RATE)
    }

    fn lower_nyquist_hz(rate: u32) -> f64 {
        f64::from(rate.min(SAMPLE_RATE)) / 2.0
    }

    fn due(rate: u32, samples: usize) -> usize {
        (samples * rate as usize).div_ceil(SAMPLE_RATE as usize)
    }

    /// Cut into these lengths, the last repeating.
    fn resample(rate: u32, mut samples: &[f32], lengths: &[usize]) -> Vec<f32> {
        let mut resampler = Resampler::new(rate).unwrap();
        let mut out = Vec::new();
        for &length in lengths.iter().chain(std::iter::repeat(lengths.last().unwrap())) {
            if samples.is_empty() {
                break;
            }
            let (next, later) = samples.split_at(length.min(samples.len()));
            resampler.push(next, &mut out).unwrap();
            samples = later;
        }
        resampler.end(&mut out).unwrap();
        out
    }

    fn whole(rate: u32, samples: &[f32]) -> Vec<f32> {
        resample(rate, samples, &[samples.len()])
    }

    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) as usize % bound
        }

        fn noise(&mut self, samples: usize) -> Vec<f32> {
            (0..samples).map(|_| self.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0).collect()
        }
    }

    fn sine(rate: u32, hz: f64, samples: usize) -> Vec<f32> {
        (0..samples).map(|k| (0.9 * (TAU * hz * k as f64 / f64::from(rate)).sin()) as f32).collect()
    }

    /// The middle half, where the ends are not heard.
    fn middle<T>(samples: &[T]) -> &[T] {
        &samples[samples.len() / 4..samples.len() * 3 / 4]
    }

    fn largest(samples: impl Iterator<Item = f32>) -> f32 {
        samples.map(f32::abs).fold(0.0, f32::max)
    }

    fn apart(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        largest(a.iter().zip(b).map(|(a, b)| a - b))
    }

    #[test]
    fn other_rates_are_refused() {
        for rate in [0, 11_025, 24_001, 96_000, u32::MAX] {
            let error = Resampler::new(rate).err().unwrap().to_string();
            let expected = "expected one of 8000, 16000, 22050, 24000, 44100, 48000";
            assert_eq!(error, format!("sample_rate_hz: is {rate}; {expected}"));
        }
    }

    #[test]
    fn there_are_as_many_samples_as_the_time_holds() {
        for rate in RATES_HZ {
            for length in [0, 1, 2, 3, 31, 32, 33, 1919, 1920, 1921, 5000] {
                assert_eq!(whole(rate, &vec![0.5; length]).len(), due(rate, length), "{length} at {rate} Hz");
            }
            assert_eq!(due(rate, SAMPLES_PER_FRAME) * SAMPLE_RATE as usize, SAMPLES_PER_FRAME * rate as usize);
        }
    }

    #[test]
    fn recordings_come_to_24_khz_at_their_time_and_pitch() {
        for from in [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000] {
            let samples = sine(from, 700.0, from as usize / 2 + 7);
            let mut resampler = Resampler::between(from, SAMPLE_RATE).unwrap();
            let mut out = Vec::new();
            resampler.push(&samples, &mut out).unwrap();
            resampler.end(&mut out).unwrap();
            let due = (samples.len() * SAMPLE_RATE as usize).div_ceil(from as usize);
            assert_eq!(out.len(), due, "{from} Hz");
            let off = apart(middle(&out), middle(&sine(SAMPLE_RATE, 700.0, due)));
            assert!(off < 1e-4, "{from} Hz: {off:e} off");
        }
        // Nothing is cut at full scale.
        let mut resampler = Resampler::between(48_000, SAMPLE_RATE).unwrap();
        let mut out = Vec::new();
        resampler.push(&[1.5; 4800], &mut out).unwrap();
        assert!((out[out.len() / 2] - 1.5).abs() < 1e-3, "{}", out[out.len() / 2]);
    }

    #[test]
    fn an_end_is_one_end() {
        for rate in RATES_HZ {
            let (mut resampler, mut out) = (Resampler::new(rate).unwrap(), vec![7.0; 3]);
            resampler.push(&[0.5; 100], &mut out).unwrap();
            resampler.end(&mut out).unwrap();
            resampler.end(&mut out).unwrap();
            assert_eq!((out.len(), &out[..3]), (3 + due(rate, 100), &[7.0; 3][..]), "{rate} Hz");
        }
    }

    #[test]
    fn any_cutting_equals_the_whole() {
        let mut numbers = Numbers(1);
        let noise = numbers.noise(3 * SAMPLES_PER_FRAME + 77);
        for rate in RATES_HZ {
            let expected = whole(rate, &noise);
            assert!(largest(middle(&expected).iter().copied()) > 0.5, "{rate} Hz: nothing to compare");
            assert_eq!(resample(rate, &noise, &[1]), expected, "{rate} Hz, sample by sample");
            assert_eq!(resample(rate, &noise, &[SAMPLES_PER_FRAME]), expected, "{rate} Hz, frame by frame");
            for most in [5, 100, 4000] {
                let lengths: Vec<usize> = (0..50).map(|_| numbers.below(most)).chain([most]).collect();
                assert_eq!(resample(rate, &noise, &lengths), expected, "{rate} Hz, cut into {lengths:?}");
            }
        }
    }

    #[test]
    fn the_same_rate_changes_no_bit() {
        let mut samples = Numbers(2).noise(5000);
        // Neither cut at full scale nor put right.
        samples.extend([-0.0, 1.5, -3.0, f32::MIN_POSITIVE / 2.0, f32::INFINITY, f32::NAN]);
        let bits = |samples: &[f32]| samples.iter().map(|s| s.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&resample(SAMPLE_RATE, &samples, &[7, 0, 1920])), bits(&samples));
    }

    #[test]
    fn the_first_frame_is_heard_but_for_ten_ms() {
        for rate in other_rates() {
            let (mut resampler, mut out) = (Resampler::new(rate).unwrap(), Vec::new());
            for frames in 1..=20 {
                resampler.push(&[0.5; SAMPLES_PER_FRAME], &mut out).unwrap();
                let held = due(rate, frames * SAMPLES_PER_FRAME) - out.len();
                let held_s = held as f64 / f64::from(rate);
                assert!(held_s <= MOST_HELD_S, "{rate} Hz: {held_s} s after {frames} frames");
            }
        }
    }

    /// Each sample is where and what the sine is at its time: this measures gain, delay and images at once.
    #[test]
    fn a_sine_stays_that_sine() {
        for rate in other_rates() {
            for part in [0.01, 0.1, 0.25, 0.5, 0.75, 0.85, 0.9] {
                let hz = part * lower_nyquist_hz(rate);
                let out = whole(rate, &sine(SAMPLE_RATE, hz, 24_000));
                let error = apart(middle(&out), middle(&sine(rate, hz, due(rate, 24_000))));
                // 0.01 dB at the filter's edge, -80 dB before it.
                let most = if part < 0.88 { 1e-4 } else { 1e-3 };
                assert!(error <= most, "{hz} Hz at {rate} Hz: {error} off");
            }
        }
    }

    #[test]
    fn what_the_rate_cannot_hold_is_gone() {
        for (rate, hz) in [
            (8_000, 4_050.0),
            (8_000, 5_000.0),
            (8_000, 7_000.0),
            (8_000, 8_000.0),
            (8_000, 11_900.0),
            (16_000, 8_100.0),
        ]
        .into_iter()
        .chain([(16_000, 9_000.0), (16_000, 11_900.0), (22_050, 11_130.0), (22_050, 11_900.0)])
        {
            let out = whole(rate, &sine(SAMPLE_RATE, hz, 24_000));
            let left = largest(middle(&out).iter().copied());
            assert!(left < 1e-4, "{hz} Hz at {rate} Hz: {left} is left");
        }
    }

    /// A tone that swells from nothing and fades to nothing has no edge: neither may its other form, nor its ends be lost.
    #[test]
    fn the_ends_do_not_click() {
        let swell = |rate: u32, samples: usize| -> Vec<f32> {
            let seconds = 0.1;
            let at = |k: usize| k as f64 / f64::from(rate);
            let level = |t: f64| 0.5 - 0.5 * (TAU * t / seconds).cos();
            (0..samples).map(|k| (level(at(k)) * 0.9 * (TAU * 1000.0 * at(k)).sin()) as f32).collect()
        };
        for rate in other_rates() {
            let error = apart(&whole(rate, &swell(SAMPLE_RATE, 2400)), &swell(rate, due(rate, 2400)));
            assert!(error < 1e-4, "{rate} Hz: {error} off");
        }
    }

    /// Sound that begins and ends at once: it is there from its first sample to its last, and rings no more than a
    /// band-limited step of samples does (half way to the next sample it stands at 1/2 + 2/pi), for which full scale has
    /// no room.
    #[test]
    fn an_edge_rings_and_is_cut_at_full_scale() {
        let most = 0.5 * (0.5 + std::f32::consts::FRAC_2_PI);
        for rate in other_rates() {
            let half = whole(rate, &[0.5; 4800]);
            let (first, last) = (half[0], half[half.len() - 1]);
            assert!(first > 0.2 && last > 0.2, "{rate} Hz begins with {first} and ends with {last}");
            let peak = largest(half.iter().copied());
            assert!(peak > 0.51 && peak <= most, "{rate} Hz rings up to {peak}");
            assert!(largest(middle(&half).iter().map(|s| s - 0.5)) < 1e-4, "{rate} Hz");
            for sign in [-1.0, 1.0] {
                let full = whole(rate, &[sign; 4800]);
                assert_eq!(largest(full.iter().copied()), 1.0, "{rate} Hz");
            }
        }
    }
}
