//! The arithmetic of the reference, in f32: plain loops that say what each operation is.
//!
//! One rule makes results independent of chunk width, batch and threads: an output is one chain of fused
//! multiply-adds in one fixed order, whatever is computed beside it. `linear` runs 16 lanes along the inputs and
//! adds the lanes pairwise; convolutions give each output a lane of its own and walk (input channel, tap) in
//! order. Work is split over outputs only, never inside a sum. `mul_add` is exact everywhere, so the instruction
//! set does not matter either, but for its speed.
//!
//! Layouts: time-major `[t][channel]` for what looks at one position, channel-first `[channel][t]` for what
//! looks along time.

use crate::weights::{Conv, Dtype, SnakeBeta, Tensor};
use rayon::prelude::*;

/// Lanes of a sum (`linear`) or positions computed together (convolutions). Part of the recipe: changing it
/// changes the last bit of every result.
const LANES: usize = 16;

/// Threads for one reference, and the widest vectors that this machine has.
pub struct Threads {
    pool: rayon::ThreadPool,
    simd: pulp::Arch,
}

impl Threads {
    /// `count` threads; `None` takes one per core.
    pub fn new(count: Option<usize>) -> crate::error::Result<Threads> {
        if count == Some(0) {
            return Err(crate::error::Error::request("threads", "is 0; expected at least 1"));
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count.unwrap_or(0))
            .thread_name(|i| format!("qwentts-{i}"))
            .build()
            .map_err(|e| crate::error::Error::compute("threads", e.to_string()))?;
        Ok(Threads { pool, simd: pulp::Arch::new() })
    }

    /// Runs `work` on the pool, so that the splits inside it cost no hand-over from the caller's thread.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }

    /// Runs small work on this thread.
    fn here(&self, piece: &mut [f32], work: impl Fn(usize, &mut [f32])) {
        self.simd.dispatch(Task { work: &work, first: 0, piece });
    }

    /// Cuts `out` into pieces of whole `unit`s and runs `work(first unit, piece)` on each. `cost` is the
    /// multiply-adds of one unit: small work stays on this thread.
    fn split(&self, out: &mut [f32], unit: usize, cost: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
        const WORTH_A_TASK: usize = 1 << 16;
        let units = out.len() / unit.max(1);
        let tasks = (units * cost / WORTH_A_TASK).clamp(1, 4 * self.pool.current_num_threads());
        if tasks == 1 {
            return self.simd.dispatch(Task { work: &work, first: 0, piece: out });
        }
        let per_task = units.div_ceil(tasks);
        out.par_chunks_mut(per_task * unit)
            .enumerate()
            .for_each(|(i, piece)| self.simd.dispatch(Task { work: &work, first: i * per_task, piece }));
    }
}

/// A piece of work as pulp wants it. A closure would not do: its by-value call is a function of its own, which
/// is compiled for the least machine; `work` is called by reference and must be `#[inline(always)]`.
struct Task<'a, F> {
    work: &'a F,
    first: usize,
    piece: &'a mut [f32],
}

impl<F: Fn(usize, &mut [f32])> pulp::WithSimd for Task<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        (self.work)(self.first, self.piece);
    }
}

// ---- stored numbers ------------------------------------------------------------------------------------------

/// A storage type whose numbers widen to f32 in blocks of `LANES`.
trait Stored {
    type One: Copy;
    /// All numbers of a byte slice, one by one.
    fn numbers(bytes: &[u8]) -> &[Self::One];
    fn widen(one: Self::One) -> f32;
}

struct Bf16;
struct F16;
struct F32;

impl Stored for Bf16 {
    type One = [u8; 2];
    #[inline(always)]
    fn numbers(bytes: &[u8]) -> &[[u8; 2]] {
        bytes.as_chunks().0
    }
    #[inline(always)]
    fn widen(one: [u8; 2]) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes(one)) << 16)
    }
}

impl Stored for F16 {
    type One = [u8; 2];
    #[inline(always)]
    fn numbers(bytes: &[u8]) -> &[[u8; 2]] {
        bytes.as_chunks().0
    }
    #[inline(always)]
    fn widen(one: [u8; 2]) -> f32 {
        half::f16::from_le_bytes(one).to_f32()
    }
}

impl Stored for F32 {
    type One = [u8; 4];
    #[inline(always)]
    fn numbers(bytes: &[u8]) -> &[[u8; 4]] {
        bytes.as_chunks().0
    }
    #[inline(always)]
    fn widen(one: [u8; 4]) -> f32 {
        f32::from_le_bytes(one)
    }
}

/// Runs `$body` with `$W` naming the storage type of `$tensor`.
macro_rules! for_dtype {
    ($tensor:expr, $W:ident, $body:expr) => {
        match $tensor.dtype {
            Dtype::Bf16 => {
                type $W = Bf16;
                $body
            }
            Dtype::F16 => {
                type $W = F16;
                $body
            }
            Dtype::F32 => {
                type $W = F32;
                $body
            }
        }
    };
}

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
    for_dtype!(weight, W, {
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

/// sum += a * b, lane by lane, each with one rounding. Written so that it compiles to one vector instruction: the
/// sums live in arrays of fixed length, and nothing between loads and stores depends on a run-time length.
#[inline(always)]
fn fma(sum: &mut [f32; LANES], a: &[f32; LANES], b: &[f32; LANES]) {
    for l in 0..LANES {
        sum[l] = a[l].mul_add(b[l], sum[l]);
    }
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

/// Rotates each head of x [t][heads * head_dim] by its position, half-split (spec 3.2): element j pairs with
/// j + head_dim / 2, at the angle position * theta^(-2j / head_dim). Row t stands at `first_position + t`.
pub fn rope(x: &mut [f32], width: usize, head_dim: usize, theta: f64, first_position: usize) {
    let half = head_dim / 2;
    // Rounded to f32 where the official code rounds: the frequency, then the angle.
    let frequency: Vec<f32> = (0..half).map(|j| theta.powf(-2.0 * j as f64 / head_dim as f64) as f32).collect();
    for (t, row) in x.chunks_exact_mut(width).enumerate() {
        let turns: Vec<(f32, f32)> = frequency.iter().map(|f| ((first_position + t) as f32 * f).sin_cos()).collect();
        for head in row.chunks_exact_mut(head_dim) {
            let (low, high) = head.split_at_mut(half);
            for ((l, h), (sin, cos)) in low.iter_mut().zip(high).zip(&turns) {
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

// ---- along time ----------------------------------------------------------------------------------------------

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

    /// The new columns, a channel at a time.
    fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
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
            16 * len,
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

/// sin(x)^2 for |x| < 1e5, within 2 units in the last place of sin: x less the nearest multiple of pi (pi in three
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
    let &[_, input, taps] = &conv.weight.shape[..] else { return };
    debug_assert_eq!(x.past, (taps - 1) * dilation);
    for_dtype!(conv.weight, W, {
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
                            conv_tiles::<W, 6>(rows, &conv.bias[r..], taps, dilation, x, start..end, out);
                            c += 6;
                        } else {
                            conv_tiles::<W, 1>([row(r)], &conv.bias[r..], taps, dilation, x, start..end, out);
                            c += 1;
                        }
                    }
                }
            },
        );
    })
}

/// R output channels over some columns, 16 at a time.
#[inline(always)]
fn conv_tiles<W: Stored, const R: usize>(
    rows: [&[W::One]; R],
    bias: &[f32],
    taps: usize,
    dilation: usize,
    x: &Signal,
    columns: std::ops::Range<usize>,
    out: &mut [f32],
) {
    let end = columns.end;
    for t in columns.step_by(LANES) {
        let sums = conv_tile::<W, R>(rows, taps, dilation, x, t);
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
    taps: usize,
    dilation: usize,
    x: &Signal,
    t: usize,
) -> [[f32; LANES]; R] {
    let mut sums = [[0.0f32; LANES]; R];
    for (i, x) in x.data.chunks_exact(x.stride).enumerate() {
        let weights: [&[W::One]; R] = std::array::from_fn(|r| &rows[r][i * taps..][..taps]);
        for k in 0..taps {
            let Some(x) = x[t + k * dilation..].first_chunk::<LANES>() else { return sums };
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
    for_dtype!(conv.weight, W, {
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
