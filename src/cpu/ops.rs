//! The arithmetic of the reference, in f32: plain loops that say what each operation is.
//!
//! One rule makes results independent of chunk width, batch and threads: an output is one chain of fused
//! multiply-adds in one fixed order, whatever is computed beside it. `linear` runs 16 lanes along the inputs and
//! adds the lanes pairwise; convolutions give each output a lane of its own and walk (input channel, tap) in
//! order. Work is split over outputs only, never inside a sum. `mul_add` is exact everywhere, so the instruction
//! set does not matter for the sums, but for their speed; exp, sin and cos are the platform's.
//!
//! Layouts: time-major `[t][channel]` for what looks at one position, channel-first `[channel][t]` for what
//! looks along time.

use super::simd::{LANES, Threads, fma};
use crate::weights::{Stored, Tensor, for_dtype};

// ---- linear --------------------------------------------------------------------------------------------------

/// y[t] = weight x[t] (+ bias): weight [out, in], x [t][in], y [t][out].
pub fn linear(threads: &Threads, weight: &Tensor, bias: Option<&[f32]>, x: &[f32], y: &mut [f32]) {
    let (out, input) = (weight.shape[0], weight.shape[1]);
    let columns: Vec<&[f32]> = x.chunks_exact(input).collect();
    if columns.len() == 1 {
        linear_rows(threads, weight, &columns, y);
    } else {
        let mut by_row = vec![0.0; y.len()];
        linear_rows(threads, weight, &columns, &mut by_row);
        transpose(&by_row, columns.len(), y);
    }
    if let Some(bias) = bias {
        for row in y.chunks_exact_mut(out) {
            for (y, b) in row.iter_mut().zip(bias) {
                *y += b;
            }
        }
    }
}

/// As `linear`, but y is [out][t]: a task owns whole rows of the weight, so each is read once.
fn linear_rows(threads: &Threads, weight: &Tensor, columns: &[&[f32]], y: &mut [f32]) {
    let input = columns[0].len();
    for_dtype!(weight.dtype, W, {
        let numbers = W::numbers(weight.bytes());
        let row = |r: usize| &numbers[r * input..][..input];
        threads.split(
            y,
            columns.len(),
            input * columns.len(),
            #[inline(always)]
            |first, piece| {
                if let [column] = columns {
                    // One column: four rows at a time hide the latency of each row's chain.
                    let (fours, rest) = piece.as_chunks_mut::<4>();
                    for (i, four) in fours.iter_mut().enumerate() {
                        let r = first + 4 * i;
                        let sums = dots::<W, 4, 1>([row(r), row(r + 1), row(r + 2), row(r + 3)], [column]);
                        *four = sums.map(|[s]| s);
                    }
                    let done = first + 4 * fours.len();
                    for (i, y) in rest.iter_mut().enumerate() {
                        [[*y]] = dots::<W, 1, 1>([row(done + i)], [column]);
                    }
                    return;
                }
                for (i, ys) in piece.chunks_exact_mut(columns.len()).enumerate() {
                    let row = row(first + i);
                    let (fours, rest) = ys.as_chunks_mut::<4>();
                    let (four_columns, rest_columns) = columns.as_chunks::<4>();
                    for (y, &x) in fours.iter_mut().zip(four_columns) {
                        [*y] = dots::<W, 1, 4>([row], x);
                    }
                    for (y, x) in rest.iter_mut().zip(rest_columns) {
                        [[*y]] = dots::<W, 1, 1>([row], [x]);
                    }
                }
            },
        );
    })
}

/// R rows times C columns, each the same 16-lane sum.
#[inline(always)]
fn dots<W: Stored, const R: usize, const C: usize>(rows: [&[W::One]; R], columns: [&[f32]; C]) -> [[f32; C]; R] {
    let mut sums = [[[0.0f32; LANES]; C]; R];
    let whole = columns[0].len() / LANES;
    for i in 0..whole {
        for r in 0..R {
            let Some(stored) = rows[r][i * LANES..].first_chunk::<LANES>() else { break };
            let mut w = [0.0f32; LANES];
            for l in 0..LANES {
                w[l] = W::widen(stored[l]);
            }
            for c in 0..C {
                let Some(x) = columns[c][i * LANES..].first_chunk::<LANES>() else { break };
                fma(&mut sums[r][c], &w, x);
            }
        }
    }
    // What is left over goes to the first lanes.
    for r in 0..R {
        for c in 0..C {
            let rest = rows[r][whole * LANES..].iter().zip(&columns[c][whole * LANES..]);
            for (sum, (&w, x)) in sums[r][c].iter_mut().zip(rest) {
                *sum = W::widen(w).mul_add(*x, *sum);
            }
        }
    }
    sums.map(|row| row.map(add_lanes))
}

/// The lanes, added pairwise.
#[inline(always)]
fn add_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            lanes[l] += lanes[l + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The 16-lane sum of two f32 vectors.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sum = [0.0f32; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        fma(&mut sum, a, b);
    }
    for (l, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        sum[l] = a.mul_add(*b, sum[l]);
    }
    add_lanes(sum)
}

/// y[t][r] = the squared distance of x[t] and table row r: x [t][width], table [rows][width], y [t][rows].
pub fn distances(threads: &Threads, table: &[f32], width: usize, x: &[f32], y: &mut [f32]) {
    let rows = table.len() / width;
    threads.split(
        y,
        rows,
        table.len(),
        #[inline(always)]
        |first, piece| {
            let mut apart = vec![0.0; width];
            for (y, x) in piece.chunks_exact_mut(rows).zip(x[first * width..].chunks_exact(width)) {
                for (y, row) in y.iter_mut().zip(table.chunks_exact(width)) {
                    for ((a, x), r) in apart.iter_mut().zip(x).zip(row) {
                        *a = x - r;
                    }
                    *y = dot(&apart, &apart);
                }
            }
        },
    );
}

/// x [rows][columns] to y [columns][rows].
pub fn transpose(x: &[f32], columns: usize, y: &mut [f32]) {
    let rows = x.len() / columns;
    for (r, x) in x.chunks_exact(columns).enumerate() {
        for (c, x) in x.iter().enumerate() {
            y[c * rows + r] = *x;
        }
    }
}

// ---- norms and element-wise ----------------------------------------------------------------------------------

/// Each row of x over the root of its mean square, times weight. x and y [rows][weight.len()].
pub fn rms_norm(threads: &Threads, x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    y.copy_from_slice(x);
    rms_norm_in_place(threads, y, weight, eps);
}

/// As `rms_norm`, in place: q and k with a head a row.
pub fn rms_norm_in_place(threads: &Threads, x: &mut [f32], weight: &[f32], eps: f32) {
    threads.here(
        x,
        #[inline(always)]
        |_, x| {
            for x in x.chunks_exact_mut(weight.len()) {
                let scale = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
                for (x, w) in x.iter_mut().zip(weight) {
                    *x = *x * scale * w;
                }
            }
        },
    );
}

/// Each row of x to mean 0 and variance 1, times weight, plus bias; in place.
pub fn layer_norm(threads: &Threads, x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    let n = weight.len() as f32;
    threads.here(
        x,
        #[inline(always)]
        |_, x| {
            for x in x.chunks_exact_mut(weight.len()) {
                let mean = x.iter().sum::<f32>() / n;
                x.iter_mut().for_each(|x| *x -= mean);
                let scale = 1.0 / (dot(x, x) / n + eps).sqrt();
                for ((x, w), b) in x.iter_mut().zip(weight).zip(bias) {
                    *x = *x * scale * w + b;
                }
            }
        },
    );
}

/// gate = silu(gate) * up.
pub fn silu_mul(gate: &mut [f32], up: &[f32]) {
    for (g, u) in gate.iter_mut().zip(up) {
        *g = *g / (1.0 + (-*g).exp()) * u;
    }
}

/// x = silu(x).
pub fn silu(x: &mut [f32]) {
    for x in x {
        *x /= 1.0 + (-*x).exp();
    }
}

/// x = GELU(x), exact (erf).
pub fn gelu(x: &mut [f32]) {
    for x in x {
        *x *= 0.5 * (1.0 + libm::erff(*x * std::f32::consts::FRAC_1_SQRT_2));
    }
}

/// x = ELU(x): x, and under 0 exp(x) - 1.
pub fn elu(threads: &Threads, x: &mut [f32]) {
    // An exponential is some 32 multiply-adds.
    threads.split(x, 1, 32, |_, x| x.iter_mut().filter(|x| **x < 0.0).for_each(|x| *x = x.exp_m1()));
}

/// x = max(x, 0); NaN stays NaN, so that it is found.
pub fn relu(x: &mut [f32]) {
    x.iter_mut().filter(|x| **x < 0.0).for_each(|x| *x = 0.0);
}

/// x += scale * y, scale per column; without scale, x += y.
pub fn add(x: &mut [f32], scale: Option<&[f32]>, y: &[f32]) {
    match scale {
        None => x.iter_mut().zip(y).for_each(|(x, y)| *x += y),
        Some(scale) => {
            for (x, y) in x.chunks_exact_mut(scale.len()).zip(y.chunks_exact(scale.len())) {
                for ((x, y), s) in x.iter_mut().zip(y).zip(scale) {
                    *x += s * y;
                }
            }
        }
    }
}

// ---- attention -----------------------------------------------------------------------------------------------

/// (sin, cos) of the angles position * theta^(-2j / head_dim) for j under head_dim / 2, `positions` rows.
pub fn turns(head_dim: usize, theta: f64, positions: std::ops::Range<usize>) -> Vec<(f32, f32)> {
    // Rounded to f32 where the official code rounds: the frequency, then the angle.
    let frequency = |j: usize| theta.powf(-2.0 * j as f64 / head_dim as f64) as f32;
    let frequencies: Vec<f32> = (0..head_dim / 2).map(frequency).collect();
    positions.flat_map(|p| frequencies.iter().map(move |f| (p as f32 * f).sin_cos())).collect()
}

/// Rotates each head of x [t][width] by its position's `turns`, half-split (MODEL.md 4): element j pairs with
/// j + head_dim / 2.
pub fn rope(x: &mut [f32], width: usize, head_dim: usize, turns: &[(f32, f32)]) {
    let half = head_dim / 2;
    for (row, turns) in x.chunks_exact_mut(width).zip(turns.chunks_exact(half)) {
        for head in row.chunks_exact_mut(head_dim) {
            let (low, high) = head.split_at_mut(half);
            for ((l, h), (sin, cos)) in low.iter_mut().zip(high).zip(turns) {
                (*l, *h) = (*l * cos - *h * sin, *h * cos + *l * sin);
            }
        }
    }
}

/// Shape of an attention: `heads` query heads share `kv_heads` key heads, `window` keys at most.
pub struct Attention {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Positions that a query sees, itself included; `None` sees all.
    pub window: Option<usize>,
}

/// Causal attention: q and y [t][heads * head_dim]; keys and values [n][kv_heads * head_dim], whose last t
/// rows stand at the queries' positions. Sums run in order of position.
pub fn attention(threads: &Threads, shape: &Attention, q: &[f32], keys: &[f32], values: &[f32], y: &mut [f32]) {
    let d = shape.head_dim;
    let kv_width = shape.kv_heads * d;
    let n = keys.len() / kv_width;
    let t = q.len() / (shape.heads * d);
    let scale = (d as f32).powf(-0.5);
    threads.split(
        y,
        d,
        2 * n * d,
        #[inline(always)]
        |first, piece| {
            let mut scores = Vec::with_capacity(n);
            for (i, y) in piece.chunks_exact_mut(d).enumerate() {
                let (position, head) = ((first + i) / shape.heads, (first + i) % shape.heads);
                let q = &q[(first + i) * d..][..d];
                let column = head / (shape.heads / shape.kv_heads) * d;
                let end = n - t + position + 1;
                let start = shape.window.map_or(0, |w| end.saturating_sub(w));
                scores.clear();
                scores.extend((start..end).map(|p| dot(q, &keys[p * kv_width + column..][..d]) * scale));
                softmax(&mut scores);
                y.fill(0.0);
                for (p, &weight) in (start..end).zip(&scores) {
                    for (y, v) in y.iter_mut().zip(&values[p * kv_width + column..][..d]) {
                        *y = weight.mul_add(*v, *y);
                    }
                }
            }
        },
    );
}

/// Scores to probabilities, in place.
pub fn softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for s in scores.iter_mut() {
        *s = (*s - max).exp();
        total += *s;
    }
    scores.iter_mut().for_each(|s| *s /= total);
}

#[cfg(test)]
mod tests {
    //! Would catch: a row, lane or left-over out of place at any size, in any storage type, a sum that depends on the
    //! columns beside it or on threads, a mask off by one.
    use super::super::simd::tests::{Numbers, threads};
    use super::*;
    use crate::weights::Dtype;

    #[test]
    fn linear_is_the_sum_of_products_in_every_storage_type() {
        let mut numbers = Numbers::new(3);
        for (input, out, columns) in [(1, 1, 1), (15, 3, 2), (16, 4, 1), (17, 9, 5), (70, 33, 4), (512, 401, 7)] {
            for dtype in [Dtype::Bf16, Dtype::F16, Dtype::F32] {
                let weight = Tensor::made(&[out, input], dtype, &numbers.some(out * input));
                let w = weight.to_f32(); // what was stored, after rounding
                let (x, bias) = (numbers.some(columns * input), numbers.some(out));
                let run = |count: usize, x: &[f32]| {
                    let mut y = vec![f32::NAN; x.len() / input * out];
                    linear(&threads(count), &weight, Some(&bias), x, &mut y);
                    y
                };
                let y = run(1, &x);
                for (t, c) in (0..columns).flat_map(|t| (0..out).map(move |c| (t, c))) {
                    let products = (0..input).map(|i| f64::from(w[c * input + i]) * f64::from(x[t * input + i]));
                    let expected = f64::from(bias[c]) + products.sum::<f64>();
                    let found = f64::from(y[t * out + c]);
                    assert!((found - expected).abs() < 1e-6 * (input as f64).sqrt() + 1e-6, "{found} {expected}");
                }
                assert_eq!(run(3, &x), y, "threads");
                let alone: Vec<f32> = x.chunks_exact(input).flat_map(|x| run(1, x)).collect();
                assert_eq!(alone, y, "a column alone");
            }
        }
    }

    #[test]
    fn attention_sees_its_window_and_no_future() {
        let mut numbers = Numbers::new(4);
        let (heads, kv_heads, d) = (4, 2, 10);
        for (past, t, window) in
            [(0, 1, None), (0, 6, None), (5, 3, None), (7, 4, Some(3)), (0, 9, Some(4)), (2, 1, Some(1))]
        {
            let n = past + t;
            let q = numbers.some(t * heads * d);
            let (keys, values) = (numbers.some(n * kv_heads * d), numbers.some(n * kv_heads * d));
            let mut y = vec![f32::NAN; q.len()];
            attention(&threads(1), &Attention { heads, kv_heads, head_dim: d, window }, &q, &keys, &values, &mut y);
            for (i, h) in (0..t).flat_map(|i| (0..heads).map(move |h| (i, h))) {
                let at = |rows: &[f32], p: usize, j: usize| f64::from(rows[(p * kv_heads + h / 2) * d + j]);
                let seen: Vec<usize> =
                    (0..n).filter(|&p| p <= past + i && window.is_none_or(|w| p + w > past + i)).collect();
                let score = |&p: &usize| {
                    let product: f64 = (0..d).map(|j| f64::from(q[(i * heads + h) * d + j]) * at(&keys, p, j)).sum();
                    (product / (d as f64).sqrt()).exp()
                };
                let weights: Vec<f64> = seen.iter().map(score).collect();
                for j in 0..d {
                    let sum: f64 = seen.iter().zip(&weights).map(|(&p, w)| w * at(&values, p, j)).sum();
                    let expected = sum / weights.iter().sum::<f64>();
                    let found = f64::from(y[(i * heads + h) * d + j]);
                    assert!((found - expected).abs() < 1e-6, "query {i} head {h}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn distances_and_rectifiers_do_as_they_are_called() {
        let mut numbers = Numbers::new(6);
        for (width, rows, t) in [(1, 1, 1), (3, 5, 2), (16, 4, 3), (37, 300, 40)] {
            let (table, x) = (numbers.some(rows * width), numbers.some(t * width));
            let run = |count| {
                let mut y = vec![f32::NAN; t * rows];
                distances(&threads(count), &table, width, &x, &mut y);
                y
            };
            let y = run(1);
            for (i, r) in (0..t).flat_map(|i| (0..rows).map(move |r| (i, r))) {
                let square = |j: usize| (f64::from(x[i * width + j]) - f64::from(table[r * width + j])).powi(2);
                let expected: f64 = (0..width).map(square).sum();
                assert!((f64::from(y[i * rows + r]) - expected).abs() < 1e-5 * expected + 1e-6);
            }
            assert_eq!(run(3), y, "threads");
        }
        let mut x: Vec<f32> = numbers.some(100_000).iter().map(|x| 8.0 * x).chain([f32::NAN]).collect();
        let expected: Vec<f64> = x.iter().map(|&x| if x < 0.0 { f64::from(x).exp_m1() } else { x.into() }).collect();
        let mut rectified = x.clone();
        relu(&mut rectified);
        assert!(rectified.iter().zip(&x).all(|(y, x)| y.to_bits() == if *x < 0.0 { 0 } else { x.to_bits() }));
        elu(&threads(3), &mut x);
        assert!(x.pop().is_some_and(f32::is_nan));
        assert!(x.iter().zip(expected).all(|(x, e)| (f64::from(*x) - e).abs() < 1e-6 * e.abs().max(0.1)));
    }

    #[test]
    fn norms_do_as_they_are_called() {
        let mut numbers = Numbers::new(5);
        for n in [1, 3, 16, 100] {
            let (x, w, b) = (numbers.some(2 * n), numbers.some(n), numbers.some(n));
            let mut rms = vec![f32::NAN; x.len()];
            rms_norm(&threads(1), &x, &w, 1e-6, &mut rms);
            let mut layer = x.clone();
            layer_norm(&threads(1), &mut layer, &w, &b, 1e-6);
            for (r, row) in x.chunks_exact(n).enumerate() {
                let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
                let square = |offset: f64| row.iter().map(|&x| (f64::from(x) - offset).powi(2)).sum::<f64>() / n as f64;
                for c in 0..n {
                    let (x, w, b) = (f64::from(row[c]), f64::from(w[c]), f64::from(b[c]));
                    let expected =
                        [x / (square(0.0) + 1e-6).sqrt() * w, (x - mean) / (square(mean) + 1e-6).sqrt() * w + b];
                    for (found, expected) in [rms[r * n + c], layer[r * n + c]].into_iter().zip(expected) {
                        assert!((f64::from(found) - expected).abs() < 2e-6, "{found} {expected}");
                    }
                }
            }
        }
    }
}
