//! Sound at another rate: 24 kHz mono in, piece by piece; the same sound at the rate a player or a telephone wants out.
//! Owns the filter and its state for one stream; knows the frame's rate and nothing else.
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

/// One stream's way from 24 kHz to another rate.
pub(crate) struct Resampler {
    rate_hz: u32,
    /// None at 24 kHz, where sound is passed on bit for bit.
    filter: Option<Filter>,
}

struct Filter {
    sinc: Async<f32>,
    waiting: [f32; CHUNK_SAMPLES],
    waiting_samples: usize,
    /// What the filter made of the last chunk.
    made: Vec<f32>,
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
        let filter = if rate_hz == SAMPLE_RATE { None } else { Some(Filter::new(rate_hz)?) };
        Ok(Resampler { rate_hz, filter })
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
        let due = (filter.taken_samples * u64::from(self.rate_hz)).div_ceil(u64::from(SAMPLE_RATE));
        while filter.given_samples < due {
            filter.feed(&[0.0; CHUNK_SAMPLES], out)?;
        }
        out.truncate(out.len() - (filter.given_samples - due) as usize);
        filter.given_samples = due;
        Ok(())
    }
}

impl Filter {
    fn new(rate_hz: u32) -> Result<Filter> {
        let (rate, from) = (rate_hz as usize, SAMPLE_RATE as usize);
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
        out.extend(self.made[early..samples].iter().map(|s| s.clamp(-1.0, 1.0)));
        Ok(())
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
