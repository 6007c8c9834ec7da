//! The operations that look along time, over channel-first signals: convolutions, plain, transposed and depthwise,
//! and SnakeBeta on the way into them. `ops` states the rule that makes any cutting of time give the same bits.

use super::simd::{LANES, Threads, fma};
use crate::weights::{Conv, SnakeBeta, Stored, for_dtype};

/// A channel-first signal `[channel][past + len]` whose first `past` columns are what came before. Rows are
/// longer than they seem, so that a convolution may read whole lanes at the end.
pub struct Signal {
    data: Vec<f32>,
    channels: usize,
    past: usize,
    len: usize,
    stride: usize,
}

impl Signal {
    /// `past` (if any) is [channels][columns], as the state keeps it; the rest is zero.
    pub fn new(channels: usize, len: usize, past: Option<&[f32]>) -> Signal {
        let columns = past.map_or(0, |p| p.len() / channels);
        let stride = columns + len + LANES;
        let mut data = vec![0.0; channels * stride];
        if let Some(past) = past {
            for (row, past) in data.chunks_exact_mut(stride).zip(past.chunks_exact(columns)) {
                row[..columns].copy_from_slice(past);
            }
        }
        Signal { data, channels, past: columns, len, stride }
    }

    /// x [channels][len] with `edge` columns on either side that mirror it without repeating its first and last; len must
    /// be over `edge`. A causal convolution over it is one whose taps stand around their output.
    pub fn mirrored(channels: usize, edge: usize, x: &[f32]) -> Signal {
        let len = x.len() / channels;
        let stride = 2 * edge + len + LANES;
        let mut signal = Signal { data: vec![0.0; channels * stride], channels, past: 2 * edge, len, stride };
        for (row, x) in signal.data.chunks_exact_mut(stride).zip(x.chunks_exact(len)) {
            row[edge..edge + len].copy_from_slice(x);
            for i in 0..edge {
                row[i] = x[edge - i];
                row[edge + len + i] = x[len - 2 - i];
            }
        }
        signal
    }

    /// For `conv_strided`: `past` [channels][stride] and behind it x [channels][len], zeros up to whole strides. Each
    /// channel lies as `stride` rows, row j with every stride-th column from j on.
    pub fn strided(channels: usize, stride: usize, past: &[f32], x: &[f32]) -> Signal {
        let len = x.len() / channels;
        let columns = len.div_ceil(stride);
        let row = 1 + columns + LANES;
        let mut data = vec![0.0; channels * stride * row];
        let rows = data.chunks_exact_mut(stride * row);
        for ((rows, past), x) in rows.zip(past.chunks_exact(stride)).zip(x.chunks_exact(len)) {
            for (t, x) in past.iter().chain(x).enumerate() {
                rows[t % stride * row + t / stride] = *x;
            }
        }
        Signal { data, channels: channels * stride, past: 1, len: columns, stride: row }
    }

    /// The new columns, a channel at a time.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let (past, len) = (self.past, self.len);
        self.data.chunks_exact_mut(self.stride).map(move |row| &mut row[past..past + len])
    }

    /// Fills the new columns from x [channels][len].
    pub fn fill(&mut self, x: &[f32]) {
        let len = self.len;
        self.rows_mut().zip(x.chunks_exact(len)).for_each(|(row, x)| row.copy_from_slice(x));
    }

    /// Fills the new columns from x [len][channels].
    pub fn fill_transposed(&mut self, x: &[f32]) {
        let channels = self.channels;
        for (c, row) in self.rows_mut().enumerate() {
            row.iter_mut().zip(x.chunks_exact(channels)).for_each(|(y, x)| *y = x[c]);
        }
    }

    /// Fills the new columns with x [channels][len] through x + inv_beta * sin(alpha x)^2.
    pub fn fill_snake(&mut self, threads: &Threads, snake: &SnakeBeta, x: &[f32]) {
        let (past, len, stride) = (self.past, self.len, self.stride);
        threads.split(
            &mut self.data,
            stride,
            16 * len, // a sine is some 16 multiply-adds
            #[inline(always)]
            |first, piece| {
                for (i, row) in piece.chunks_exact_mut(stride).enumerate() {
                    let c = first + i;
                    let (alpha, inv_beta) = (snake.alpha[c], snake.inv_beta[c]);
                    for (y, x) in row[past..past + len].iter_mut().zip(&x[c * len..][..len]) {
                        *y = inv_beta.mul_add(sin_squared(alpha * x), *x);
                    }
                }
            },
        );
    }

    /// Keeps the newest columns for the next call: the other half of `new`.
    pub fn keep(&self, past: &mut [f32]) {
        for (row, past) in self.data.chunks_exact(self.stride).zip(past.chunks_exact_mut(self.past)) {
            past.copy_from_slice(&row[self.len..][..self.past]);
        }
    }
}

/// sin(x)^2 for |x| < 1e5, within 2.4e-7 (two units in the last place of 1): x less the nearest multiple of pi (pi in three
/// parts, the Cody-Waite reduction), then the Taylor series, whose next term is under 7e-10 at pi / 2.
#[inline(always)]
fn sin_squared(x: f32) -> f32 {
    const PI_1: f32 = 3.140_625; // 9 bits of pi, so that k * PI_1 is exact
    const PI_2: f32 = f32::from_bits(0x3a7d_a000); // the next 12, 9.67502594e-4
    const PI_3: f32 = 1.509_958e-7; // and the rest
    let k = (x * std::f32::consts::FRAC_1_PI).round_ties_even();
    let r = k.mul_add(-PI_3, k.mul_add(-PI_2, k.mul_add(-PI_1, x)));
    let s = r * r;
    let mut p = 1.0 / 6_227_020_800.0; // 1 / 13!
    p = s.mul_add(p, -1.0 / 39_916_800.0);
    p = s.mul_add(p, 1.0 / 362_880.0);
    p = s.mul_add(p, -1.0 / 5_040.0);
    p = s.mul_add(p, 1.0 / 120.0);
    p = s.mul_add(p, -1.0 / 6.0);
    let sin = (s * r).mul_add(p, r);
    sin * sin
}

/// Positions whose inputs, all channels of them, should fit the second-level cache.
const COLUMNS_TOGETHER: usize = 256;

/// Causal convolution along time: weight [out, in, k], y [out][len]; x must hold (k - 1) * dilation past columns.
pub fn conv(threads: &Threads, conv: &Conv, dilation: usize, x: &Signal, y: &mut [f32]) {
    let &[_, _, taps] = &conv.weight.shape[..] else { return };
    debug_assert_eq!(x.past, (taps - 1) * dilation);
    let offsets: Vec<usize> = (0..taps).map(|k| k * dilation).collect();
    conv_at(threads, conv, &offsets, 1, x, y);
}

/// Causal convolution that keeps one output of `stride`: weight [out, in, 2 stride], y [out][columns of x]; x is laid by
/// `Signal::strided`. Output t meets inputs (t - 1) * stride to (t + 1) * stride - 1.
pub fn conv_strided(threads: &Threads, conv: &Conv, stride: usize, x: &Signal, y: &mut [f32]) {
    let &[_, _, taps] = &conv.weight.shape[..] else { return };
    debug_assert_eq!((x.past, taps), (1, 2 * stride));
    let offsets: Vec<usize> = (0..taps).map(|k| k % stride * x.stride + k / stride).collect();
    conv_at(threads, conv, &offsets, stride, x, y);
}

/// A convolution whose tap k meets, for output t, place `offsets[k]` + t of an input channel's `rows` rows.
fn conv_at(threads: &Threads, conv: &Conv, offsets: &[usize], rows: usize, x: &Signal, y: &mut [f32]) {
    let &[_, input, taps] = &conv.weight.shape[..] else { return };
    let reach = Reach { offsets, channel: rows * x.stride };
    for_dtype!(conv.weight.dtype, W, {
        let numbers = W::numbers(conv.weight.bytes());
        let row = |r: usize| &numbers[r * input * taps..][..input * taps];
        threads.split(
            y,
            x.len,
            input * taps * x.len,
            #[inline(always)]
            |first, piece| {
                let channels = piece.len() / x.len;
                for start in (0..x.len).step_by(COLUMNS_TOGETHER) {
                    let end = (start + COLUMNS_TOGETHER).min(x.len);
                    let mut c = 0;
                    while c < channels {
                        let out = &mut piece[c * x.len..];
                        let r = first + c;
                        if c + 6 <= channels {
                            let rows = [row(r), row(r + 1), row(r + 2), row(r + 3), row(r + 4), row(r + 5)];
                            conv_tiles::<W, 6>(rows, &conv.bias[r..], &reach, x, start..end, out);
                            c += 6;
                        } else {
                            conv_tiles::<W, 1>([row(r)], &conv.bias[r..], &reach, x, start..end, out);
                            c += 1;
                        }
                    }
                }
            },
        );
    })
}

/// Where a convolution's taps lie: places within an input channel's numbers, and how many those are.
struct Reach<'a> {
    offsets: &'a [usize],
    channel: usize,
}

/// R output channels over some columns, 16 at a time.
#[inline(always)]
fn conv_tiles<W: Stored, const R: usize>(
    rows: [&[W::One]; R],
    bias: &[f32],
    reach: &Reach,
    x: &Signal,
    columns: std::ops::Range<usize>,
    out: &mut [f32],
) {
    let end = columns.end;
    for t in columns.step_by(LANES) {
        let sums = conv_tile::<W, R>(rows, reach, x, t);
        let width = LANES.min(end - t);
        for r in 0..R {
            for (y, s) in out[r * x.len + t..][..width].iter_mut().zip(&sums[r]) {
                *y = s + bias[r];
            }
        }
    }
}

/// R output channels over the 16 columns from t on.
#[inline(always)]
fn conv_tile<W: Stored, const R: usize>(
    rows: [&[W::One]; R],
    reach: &Reach,
    x: &Signal,
    t: usize,
) -> [[f32; LANES]; R] {
    let mut sums = [[0.0f32; LANES]; R];
    let taps = reach.offsets.len();
    for (i, x) in x.data.chunks_exact(reach.channel).enumerate() {
        let weights: [&[W::One]; R] = std::array::from_fn(|r| &rows[r][i * taps..][..taps]);
        for (k, offset) in reach.offsets.iter().enumerate() {
            let Some(x) = x[t + offset..].first_chunk::<LANES>() else { return sums };
            for r in 0..R {
                fma(&mut sums[r], &[W::widen(weights[r][k]); LANES], x);
            }
        }
    }
    sums
}

/// Transposed causal convolution, stride `rate`, k = rate or 2 rate: weight [in, out, k], y [out][len * rate].
/// With k = 2 rate, output t * rate + j sums tap j of input t and tap j + rate of input t - 1, so x must hold one
/// past column.
pub fn conv_transposed(threads: &Threads, conv: &Conv, rate: usize, x: &Signal, y: &mut [f32]) {
    let &[input, out, k] = &conv.weight.shape[..] else { return };
    debug_assert_eq!(x.past, k / rate - 1);
    for_dtype!(conv.weight.dtype, W, {
        let numbers = W::numbers(conv.weight.bytes());
        let taps = |i: usize, c: usize| &numbers[(i * out + c) * k..][..k];
        threads.split(
            y,
            x.len * rate,
            input * k * x.len,
            #[inline(always)]
            |first, piece| {
                for (i, y) in piece.chunks_exact_mut(x.len * rate).enumerate() {
                    let c = first + i;
                    for t in (0..x.len).step_by(LANES) {
                        let mut j = 0;
                        while j < rate {
                            if j + 4 <= rate {
                                spread(&phases::<W, 4>(|i| taps(i, c), rate, j, x, t), conv.bias[c], rate, j, t, y);
                                j += 4;
                            } else {
                                spread(&phases::<W, 1>(|i| taps(i, c), rate, j, x, t), conv.bias[c], rate, j, t, y);
                                j += 1;
                            }
                        }
                    }
                }
            },
        );
    })
}

/// Phases j .. j + P of the 16 input columns from t on, for one output channel.
#[inline(always)]
fn phases<'w, W: Stored, const P: usize>(
    taps: impl Fn(usize) -> &'w [W::One],
    rate: usize,
    j: usize,
    x: &Signal,
    t: usize,
) -> [[f32; LANES]; P]
where
    W::One: 'w,
{
    let mut sums = [[0.0f32; LANES]; P];
    for (i, row) in x.data.chunks_exact(x.stride).enumerate() {
        let weights = taps(i);
        // The newest input meets the first `rate` taps; the one before it, where there is one, the rest.
        for (past, weights) in (0..=x.past).rev().zip(weights.chunks_exact(rate)) {
            let Some(x) = row[t + past..].first_chunk::<LANES>() else { return sums };
            let Some(weights) = weights[j..].first_chunk::<P>() else { return sums };
            for p in 0..P {
                fma(&mut sums[p], &[W::widen(weights[p]); LANES], x);
            }
        }
    }
    sums
}

/// Puts phases j .. of the 16 input columns from t on where they belong in y [len * rate].
fn spread(phases: &[[f32; LANES]], bias: f32, rate: usize, j: usize, t: usize, y: &mut [f32]) {
    for (l, y) in y.chunks_exact_mut(rate).skip(t).take(LANES).enumerate() {
        for (y, phase) in y[j..].iter_mut().zip(phases) {
            *y = phase[l] + bias;
        }
    }
}

/// Causal convolution of each channel with its own taps: weight [channels, k], y [channels][len].
pub fn conv_depthwise(threads: &Threads, weight: &[f32], bias: &[f32], x: &Signal, y: &mut [f32]) {
    let taps = x.past + 1;
    threads.split(
        y,
        x.len,
        taps * x.len,
        #[inline(always)]
        |first, piece| {
            for (i, y) in piece.chunks_exact_mut(x.len).enumerate() {
                let c = first + i;
                let row = &x.data[c * x.stride..][..x.stride];
                for (t, y) in y.iter_mut().enumerate() {
                    let mut sum = 0.0f32;
                    for (w, x) in weight[c * taps..][..taps].iter().zip(&row[t..]) {
                        sum = w.mul_add(*x, sum);
                    }
                    *y = sum + bias[c];
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    //! Would catch: a tap, phase or tail out of place at any size, sums that depend on the cutting or on threads, and a
    //! sine that is not one.
    use super::super::simd::tests::{Numbers, threads};
    use super::*;
    use crate::weights::{Dtype, Tensor};

    fn random_conv(numbers: &mut Numbers, shape: [usize; 3], out: usize) -> (Conv, Vec<f32>) {
        let weight = numbers.some(shape.iter().product());
        let conv = Conv { weight: Tensor::made(&shape, Dtype::F32, &weight), bias: numbers.some(out) };
        (conv, weight)
    }

    fn assert_near(ours: &[f32], reference: &[f64], what: &str) {
        let largest = reference.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        for (i, (a, b)) in ours.iter().zip(reference).enumerate() {
            assert!((f64::from(*a) - b).abs() <= 2e-6 * largest, "{what}: output {i} is {a}, expected {b}");
        }
    }

    #[test]
    fn conv_is_the_sum_over_inputs_and_taps() {
        let mut numbers = Numbers::new(1);
        for (input, out, taps, dilation, len) in
            [(1, 1, 1, 1, 1), (3, 7, 3, 1, 5), (5, 13, 7, 3, 33), (16, 6, 7, 9, 300), (2, 12, 1, 1, 17)]
        {
            let (conv_w, w) = random_conv(&mut numbers, [out, input, taps], out);
            let past_columns = (taps - 1) * dilation;
            let (past, x) = (numbers.some(input * past_columns), numbers.some(input * len));
            let at = |i: usize, t: isize| match t < 0 {
                true => past[i * past_columns + (t + past_columns as isize) as usize],
                false => x[i * len + t as usize],
            };
            let mut expected = Vec::new();
            for c in 0..out {
                for t in 0..len {
                    let mut sum = f64::from(conv_w.bias[c]);
                    for (i, k) in (0..input).flat_map(|i| (0..taps).map(move |k| (i, k))) {
                        let column = (t + k * dilation) as isize - past_columns as isize;
                        sum += f64::from(w[(c * input + i) * taps + k]) * f64::from(at(i, column));
                    }
                    expected.push(sum);
                }
            }
            let run = |count: usize, widths: &[usize]| {
                let mut state = past.clone();
                let mut y = vec![f32::NAN; out * len];
                let mut start = 0;
                for &width in widths {
                    let piece: Vec<f32> = x.chunks_exact(len).flat_map(|r| &r[start..start + width]).copied().collect();
                    let mut signal = Signal::new(input, width, (past_columns > 0).then_some(&state[..]));
                    signal.fill(&piece);
                    if past_columns > 0 {
                        signal.keep(&mut state);
                    }
                    let mut part = vec![f32::NAN; out * width];
                    conv(&threads(count), &conv_w, dilation, &signal, &mut part);
                    for (y, part) in y.chunks_exact_mut(len).zip(part.chunks_exact(width)) {
                        y[start..start + width].copy_from_slice(part);
                    }
                    start += width;
                }
                y
            };
            let whole = run(1, &[len]);
            assert_near(&whole, &expected, "conv");
            assert_eq!(run(3, &[len]), whole, "threads");
            if len > 2 {
                assert_eq!(run(1, &[1, len - 2, 1]), whole, "cutting");
            }
        }
    }

    #[test]
    fn strided_conv_takes_one_output_of_each_stride() {
        let mut numbers = Numbers::new(6);
        for (input, out, stride, len) in
            [(1, 1, 2, 1), (1, 3, 4, 4), (3, 7, 5, 13), (4, 8, 8, 100), (2, 13, 6, 1), (5, 6, 2, 67)]
        {
            let (conv_w, w) = random_conv(&mut numbers, [out, input, 2 * stride], out);
            let (past, x) = (numbers.some(input * stride), numbers.some(input * len));
            let at = |i: usize, t: usize| match t.checked_sub(stride) {
                None => past[i * stride + t],
                Some(t) => {
                    if t < len {
                        x[i * len + t]
                    } else {
                        0.0
                    }
                }
            };
            let columns = len.div_ceil(stride);
            let mut expected = Vec::new();
            for (c, t) in (0..out).flat_map(|c| (0..columns).map(move |t| (c, t))) {
                let taps = (0..input).flat_map(|i| (0..2 * stride).map(move |k| (i, k)));
                let products = taps
                    .map(|(i, k)| f64::from(w[(c * input + i) * 2 * stride + k]) * f64::from(at(i, t * stride + k)));
                expected.push(f64::from(conv_w.bias[c]) + products.sum::<f64>());
            }
            let run = |count| {
                let mut y = vec![f32::NAN; out * columns];
                let signal = Signal::strided(input, stride, &past, &x);
                conv_strided(&threads(count), &conv_w, stride, &signal, &mut y);
                y
            };
            assert_near(&run(1), &expected, "strided conv");
            assert_eq!(run(3), run(1), "threads");
        }
    }

    #[test]
    fn conv_over_a_mirrored_signal_stands_around_its_output() {
        let mut numbers = Numbers::new(7);
        for (input, out, taps, dilation, len) in [(1, 1, 3, 1, 2), (3, 5, 5, 1, 9), (2, 7, 3, 4, 40), (4, 3, 1, 1, 6)] {
            let (conv_w, w) = random_conv(&mut numbers, [out, input, taps], out);
            let x = numbers.some(input * len);
            let edge = (taps - 1) * dilation / 2;
            let mirror = |t: isize| {
                let t = t.unsigned_abs();
                if t < len { t } else { 2 * (len - 1) - t }
            };
            let mut expected = Vec::new();
            for (c, t) in (0..out).flat_map(|c| (0..len).map(move |t| (c, t))) {
                let taps_of = (0..input).flat_map(|i| (0..taps).map(move |k| (i, k)));
                let products = taps_of.map(|(i, k)| {
                    let t = mirror((t + k * dilation) as isize - edge as isize);
                    f64::from(w[(c * input + i) * taps + k]) * f64::from(x[i * len + t])
                });
                expected.push(f64::from(conv_w.bias[c]) + products.sum::<f64>());
            }
            let mut y = vec![f32::NAN; out * len];
            conv(&threads(1), &conv_w, dilation, &Signal::mirrored(input, edge, &x), &mut y);
            assert_near(&y, &expected, "mirrored conv");
        }
    }

    #[test]
    fn transposed_conv_spreads_each_input_over_its_taps() {
        let mut numbers = Numbers::new(2);
        for (input, out, rate, overlap, len) in
            [(1, 1, 2, 1, 1), (3, 5, 2, 1, 7), (4, 3, 8, 2, 19), (2, 9, 5, 2, 4), (3, 4, 3, 2, 40), (5, 2, 4, 2, 16)]
        {
            let k = rate * overlap;
            let (conv_w, w) = random_conv(&mut numbers, [input, out, k], out);
            let x = numbers.some(input * len);
            let past = vec![0.0; input];
            let mut expected = vec![0.0f64; out * len * rate];
            for (c, row) in expected.chunks_exact_mut(len * rate).enumerate() {
                row.fill(f64::from(conv_w.bias[c]));
                for (i, t, j) in (0..input).flat_map(|i| (0..len).flat_map(move |t| (0..k).map(move |j| (i, t, j)))) {
                    if let Some(y) = row.get_mut(t * rate + j) {
                        *y += f64::from(w[(i * out + c) * k + j]) * f64::from(x[i * len + t]);
                    }
                }
            }
            let run = |count| {
                let mut signal = Signal::new(input, len, (overlap == 2).then_some(&past[..]));
                signal.fill(&x);
                let mut y = vec![f32::NAN; out * len * rate];
                conv_transposed(&threads(count), &conv_w, rate, &signal, &mut y);
                y
            };
            assert_near(&run(1), &expected, "transposed conv");
            assert_eq!(run(3), run(1), "threads");
        }
    }

    #[test]
    fn sine_is_good_to_the_last_places() {
        let mut worst = 0.0f64;
        for i in -200_000..=200_000 {
            let x = i as f32 * 0.000_731;
            worst = worst.max((f64::from(sin_squared(x)) - f64::from(x).sin().powi(2)).abs());
        }
        for x in [1e3f32, -7.5e3, 4.321e4, 9.9e4] {
            worst = worst.max((f64::from(sin_squared(x)) - f64::from(x).sin().powi(2)).abs());
        }
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "{worst:e}");
        assert!(sin_squared(f32::NAN).is_nan() && sin_squared(f32::INFINITY).is_nan());
    }
}
