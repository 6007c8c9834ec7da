//! Would catch a kernel that does not compute what the reference's function of the same name does, at any size, whatever is
//! computed beside it. Inputs are fresh numbers, outputs are poisoned before.
//!
//! How near is near: sums have another order than the reference's, and that is all. A sum's chain in a lane is at most some
//! hundred long and errs by about the root of that in units of 2^-24, 1e-6 of what it adds up; TOLERANCE is ten times that, of
//! the largest output. What has no sum in another order must have the same bits.

use crate::cpu::along_time::{self, Signal};
use crate::cpu::ops;
use crate::cpu::sample::{TalkerRules, argmax, draw};
use crate::cpu::simd::tests::{Numbers, threads};
use crate::cuda::kernels::{Attention, Choosing, Finish, Kernels, QkNorm, Uniform};
use crate::cuda::upload::{Conv, Matrix};
use crate::driver::{Context, Event, Graph, Number, Span, Stream};
use crate::request::Sampler;
use crate::weights::{self, Dtype, SnakeBeta, Tensor};
use std::collections::BTreeSet;
use std::sync::Arc;

const TOLERANCE: f32 = 1e-5;
const DTYPES: [Dtype; 3] = [Dtype::Bf16, Dtype::F16, Dtype::F32];

/// The device, and how numbers go there and back.
struct Gpu {
    context: Arc<Context>,
    stream: Stream,
    kernels: Kernels,
}

impl Gpu {
    fn open() -> Gpu {
        let context = Context::open(0).expect("an NVIDIA GPU");
        let stream = Stream::new(&context).unwrap();
        let kernels = Kernels::load(&context).expect("a build with kernels");
        Gpu { context, stream, kernels }
    }

    fn put<T: Number>(&self, numbers: &[T]) -> Span<T> {
        Span::from(&self.stream, numbers).unwrap()
    }

    /// Bytes that no kernel would leave: NaN as a float.
    fn poisoned<T: Number>(&self, len: usize) -> Span<T> {
        let span = Span::new(&self.context, len).unwrap();
        span.fill(&self.stream, 0xff).unwrap();
        span
    }

    fn get(&self, span: &Span<f32>) -> Vec<f32> {
        let mut numbers = vec![0.0; span.len()];
        span.read(&self.stream, &mut numbers).unwrap();
        numbers
    }
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= TOLERANCE * largest, "{what}: output {i} is {a}, expected {b}, of {largest} at most");
    }
}

#[track_caller]
fn assert_same(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert_eq!(a.to_bits(), b.to_bits(), "{what}: output {i} is {a:e}, expected {b:e}");
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn norms() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(21));
    for (rows, width) in [(1, 1), (5, 3), (2, 33), (16, 128), (7, 100), (3, 1024), (1, 2048), (2, 3001)] {
        let what = format!("{rows} rows of {width}");
        let (x, weight, bias) = (numbers.some(rows * width), numbers.some(width), numbers.some(width));
        let (there_weight, there_bias) = (gpu.put(&weight), gpu.put(&bias));
        let mut expected = vec![f32::NAN; x.len()];
        ops::rms_norm(&threads(1), &x, &weight, 1e-6, &mut expected);
        let (there, y) = (gpu.put(&x), gpu.poisoned(x.len()));
        gpu.kernels.rms_norm(&gpu.stream, &there, &there_weight, 1e-6, &y).unwrap();
        let found = gpu.get(&y);
        assert_near(&found, &expected, &what);
        gpu.kernels.rms_norm(&gpu.stream, &there, &there_weight, 1e-6, &there).unwrap();
        assert_same(&gpu.get(&there), &found, "in place");
        let (last, alone) = (gpu.put(&x[x.len() - width..]), gpu.poisoned(width));
        gpu.kernels.rms_norm(&gpu.stream, &last, &there_weight, 1e-6, &alone).unwrap();
        assert_same(&gpu.get(&alone), &found[x.len() - width..], "a row alone");

        let mut expected = x.clone();
        ops::layer_norm(&threads(1), &mut expected, &weight, &bias, 1e-6);
        let there = gpu.put(&x);
        gpu.kernels.layer_norm(&gpu.stream, &there, &there_weight, &there_bias, 1e-6).unwrap();
        assert_near(&gpu.get(&there), &expected, &what);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn element_by_element() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(22));
    for (rows, width) in [(1, 1), (3, 5), (2, 256), (7, 1024), (5, 777)] {
        let x: Vec<f32> = numbers.some(rows * width).iter().map(|x| 9.0 * x).collect();
        let (y, scale) = (numbers.some(rows * width), numbers.some(width));
        let (there_y, there_scale) = (gpu.put(&y), gpu.put(&scale));
        let run = |what: &str, kernel: &dyn Fn(&Span<f32>), reference: &dyn Fn(&mut [f32]), same: bool| {
            let there = gpu.put(&x);
            kernel(&there);
            let mut expected = x.clone();
            reference(&mut expected);
            match same {
                true => assert_same(&gpu.get(&there), &expected, what),
                false => assert_near(&gpu.get(&there), &expected, what),
            }
        };
        let (k, s) = (&gpu.kernels, &gpu.stream);
        run("add", &|x| k.add(s, x, None, &there_y).unwrap(), &|x| ops::add(x, None, &y), true);
        run(
            "add, scaled",
            &|x| k.add(s, x, Some(&there_scale), &there_y).unwrap(),
            &|x| ops::add(x, Some(&scale), &y),
            true,
        );
        run("silu", &|x| k.silu(s, x).unwrap(), &ops::silu, false);
        run("silu_mul", &|x| k.silu_mul(s, x, &there_y).unwrap(), &|x| ops::silu_mul(x, &y), false);
        run("gelu", &|x| k.gelu(s, x).unwrap(), &ops::gelu, false);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn linear() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(23));
    for (inputs, outputs, rows) in [
        (1, 1, 1),
        (15, 3, 2),
        (8, 9, 3),
        (17, 9, 5),
        (70, 33, 4),
        (256, 5, 8),
        (264, 31, 7),
        (1024, 2048, 1),
        (1032, 7, 11),
        (3072, 1024, 8),
    ] {
        for dtype in DTYPES {
            let what = format!("{outputs} of {inputs} for {rows} rows in {dtype:?}");
            let weight = Tensor::made(&[outputs, inputs], dtype, &numbers.some(outputs * inputs));
            let (x, bias) = (numbers.some(rows * inputs), numbers.some(outputs));
            let (there, there_bias) = (Matrix::upload(&gpu.stream, &weight).unwrap(), gpu.put(&bias));
            let run = |x: &[f32], bias: Option<&Span<f32>>| {
                let (x, y) = (gpu.put(x), gpu.poisoned(x.len() / inputs * outputs));
                gpu.kernels.linear(&gpu.stream, &there, bias, &x, &y).unwrap();
                gpu.get(&y)
            };
            let mut expected = vec![f32::NAN; rows * outputs];
            ops::linear(&threads(2), &weight, Some(&bias), &x, &mut expected);
            let found = run(&x, Some(&there_bias));
            assert_near(&found, &expected, &what);
            ops::linear(&threads(2), &weight, None, &x, &mut expected);
            assert_near(&run(&x, None), &expected, &what);
            let alone: Vec<f32> = x.chunks_exact(inputs).flat_map(|x| run(x, Some(&there_bias))).collect();
            assert_same(&alone, &found, "a row alone");
            for beside in [2, 3] {
                let rows = beside.min(rows);
                assert_same(&run(&x[..rows * inputs], Some(&there_bias)), &found[..rows * outputs], "fewer rows");
            }
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn gemm() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(33));
    let mut worst = [0.0f32; 3];
    for (inputs, outputs, rows) in [
        (1, 1, 1),
        (15, 3, 17),
        (8, 10, 33),
        (17, 130, 9),
        (70, 34, 65),
        (264, 62, 20),
        (1032, 66, 100),
        (1023, 129, 66),
        (2048, 1024, 40),
        (3072, 1024, 64),
        (1024, 4096, 16),
        (1024, 6144, 70),
        (6144, 2048, 24),
    ] {
        // The large ones are a matter of bf16 alone.
        for (which, dtype) in DTYPES.into_iter().enumerate().take(if outputs < 1024 { 3 } else { 1 }) {
            let what = format!("{outputs} of {inputs} for {rows} rows in {dtype:?}");
            let weight = Tensor::made(&[outputs, inputs], dtype, &numbers.some(outputs * inputs));
            // Some numbers of x large, some small.
            let mut x = numbers.some(rows * inputs);
            x.iter_mut().enumerate().for_each(|(i, x)| match i % 7 {
                3 => *x *= 1e3,
                5 => *x *= 1e-3,
                _ => {}
            });
            let [bias, scale] = [numbers.some(outputs), numbers.some(outputs)];
            let before = numbers.some(rows * outputs);
            let there = Matrix::upload(&gpu.stream, &weight).unwrap();
            let [there_bias, there_scale] = [gpu.put(&bias), gpu.put(&scale)];
            // What lies behind the outputs stays as it is.
            let run = |finish: fn(&Span<f32>) -> Finish, bias: Option<&Span<f32>>, x: &[f32], y: &[f32]| {
                let behind = [f32::NAN; 1000];
                let whole = gpu.put(&[y, &behind].concat());
                let y = whole.part(0..y.len());
                gpu.kernels.gemm(&gpu.stream, &there, bias, finish(&there_scale), &gpu.put(x), &y).unwrap();
                let mut found = gpu.get(&whole);
                assert!(found.split_off(y.len()).iter().all(|x| x.is_nan()), "{what}: behind the outputs");
                found
            };
            let poison = vec![f32::NAN; rows * outputs];
            let mut near = |found: &[f32], expected: &[f32], finish: &str| {
                assert_near(found, expected, &format!("{what}, {finish}"));
                let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                for (a, b) in found.iter().zip(expected) {
                    worst[which] = worst[which].max((a - b).abs() / largest);
                }
            };

            let mut sums = vec![f32::NAN; rows * outputs];
            ops::linear(&threads(2), &weight, None, &x, &mut sums);
            near(&run(|_| Finish::Store, None, &x, &poison), &sums, "no bias");
            ops::linear(&threads(2), &weight, Some(&bias), &x, &mut sums);
            let found = run(|_| Finish::Store, Some(&there_bias), &x, &poison);
            near(&found, &sums, "stored");
            assert_same(&run(|_| Finish::Store, Some(&there_bias), &x, &poison), &found, "again");
            for count in [1, 5, 16, 31, 64, 67].into_iter().filter(|&count| count < rows) {
                let some = run(
                    |_| Finish::Store,
                    Some(&there_bias),
                    &x[(rows - count) * inputs..],
                    &poison[..count * outputs],
                );
                assert_same(&some, &found[(rows - count) * outputs..], &format!("{what}: the last {count} alone"));
            }

            let mut expected = before.clone();
            ops::add(&mut expected, None, &sums);
            near(&run(|_| Finish::Add(None), Some(&there_bias), &x, &before), &expected, "added");
            expected.copy_from_slice(&before);
            ops::add(&mut expected, Some(&scale), &sums);
            near(&run(|scale| Finish::Add(Some(scale)), Some(&there_bias), &x, &before), &expected, "scaled and added");
            expected.copy_from_slice(&sums);
            ops::silu(&mut expected);
            near(&run(|_| Finish::Silu, Some(&there_bias), &x, &poison), &expected, "silu");
            expected.copy_from_slice(&sums);
            ops::gelu(&mut expected);
            near(&run(|_| Finish::Gelu, Some(&there_bias), &x, &poison), &expected, "gelu");
            if outputs.is_multiple_of(2) {
                let (mut gate, up): (Vec<f32>, Vec<f32>) = sums.chunks_exact(2).map(|pair| (pair[0], pair[1])).unzip();
                ops::silu_mul(&mut gate, &up);
                let found = run(|_| Finish::Gate, Some(&there_bias), &x, &poison[..rows * outputs / 2]);
                near(&found, &gate, "gate");
            }
        }
    }
    println!("of the largest output at most, by what the weight is stored in: {worst:.1e?}");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn append() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(24));
    for (heads, kv_heads, head_dim, past, rows, normed) in [
        (1, 1, 2, 0, 1, false),
        (4, 2, 10, 3, 5, true),
        (16, 8, 128, 7, 1, true),
        (16, 16, 64, 0, 4, false),
        (6, 3, 66, 9, 3, true),
    ] {
        let capacity = (past + rows - rows / 2).max(rows); // the last rows take the place of the first
        let shape = Attention { heads, kv_heads, head_dim, window: None, capacity, span: 1 };
        let (q_width, kv_width) = (heads * head_dim, kv_heads * head_dim);
        let (q, k, v) = (numbers.some(rows * q_width), numbers.some(rows * kv_width), numbers.some(rows * kv_width));
        let [q_norm, k_norm] = [numbers.some(head_dim), numbers.some(head_dim)];
        let (there_q, there_k, there_v) = (gpu.put(&q), gpu.put(&k), gpu.put(&v));
        let [keys, values] = [gpu.poisoned(capacity * kv_width), gpu.poisoned(capacity * kv_width)];
        let turns = ops::turns(head_dim, 1e6, 0..past + rows);
        let flat: Vec<f32> = turns.iter().flat_map(|&(sin, cos)| [sin, cos]).collect();
        let norms = [gpu.put(&q_norm), gpu.put(&k_norm)];
        let norm = normed.then_some(QkNorm { q: &norms[0], k: &norms[1], eps: 1e-6 });
        let position = gpu.put(&[past as u32]);
        let (kv, store) = ((&there_k, &there_v), (&keys, &values));
        gpu.kernels.append(&gpu.stream, &shape, norm, &gpu.put(&flat), &position, &there_q, kv, store).unwrap();

        let (mut expected_q, mut expected_k) = (q, k);
        if normed {
            ops::rms_norm_in_place(&threads(1), &mut expected_q, &q_norm, 1e-6);
            ops::rms_norm_in_place(&threads(1), &mut expected_k, &k_norm, 1e-6);
        }
        let turns = &turns[past * head_dim / 2..];
        ops::rope(&mut expected_q, q_width, head_dim, turns);
        ops::rope(&mut expected_k, kv_width, head_dim, turns);
        let [found_q, found_k, found_v] = [&there_q, &keys, &values].map(|span| gpu.get(span));
        assert_near(&found_q, &expected_q, "q");
        if !normed {
            assert_same(&found_q, &expected_q, "q without a norm");
        }
        for place in 0..capacity {
            let at = |rows: &[f32], row: usize| rows[row * kv_width..][..kv_width].to_vec();
            // The newest of the new positions that lies at this place, if any does.
            match (past..past + rows).rev().find(|p| p % capacity == place) {
                Some(p) => {
                    assert_near(&at(&found_k, place), &at(&expected_k, p - past), "k");
                    assert_same(&at(&found_v, place), &at(&v, p - past), "v");
                }
                None => assert!(at(&found_k, place).iter().chain(&at(&found_v, place)).all(|x| x.is_nan())),
            }
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn attention() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(25));
    for (heads, kv_heads, head_dim, past, rows, window, span) in [
        (1, 1, 1, 0, 1, None, 1024),
        (4, 2, 10, 5, 3, None, 1024),
        (4, 2, 10, 7, 4, Some(3), 1024),
        (2, 1, 33, 0, 9, Some(4), 2),
        (16, 8, 128, 0, 16, None, 1024),
        (16, 8, 128, 699, 1, None, 1024),
        (16, 8, 128, 2000, 3, None, 256),
        (16, 16, 64, 200, 8, Some(72), 1024),
        (3, 1, 256, 300, 2, Some(290), 64),
    ] {
        let what =
            format!("{heads}/{kv_heads} heads of {head_dim}, {rows} behind {past}, window {window:?}, span {span}");
        let n = past + rows;
        let capacity = window.map_or(n + 5, |window| window + rows - 1);
        let shape = Attention { heads, kv_heads, head_dim, window, capacity, span };
        let (q_width, kv_width) = (heads * head_dim, kv_heads * head_dim);
        let q = numbers.some(rows * q_width);
        let [keys, values] = [numbers.some(n * kv_width), numbers.some(n * kv_width)];
        // What lies beyond, or was overwritten, must not be seen.
        let ring = |all: &[f32]| {
            let mut ring = vec![f32::NAN; capacity * kv_width];
            for (p, row) in all.chunks_exact(kv_width).enumerate() {
                ring[p % capacity * kv_width..][..kv_width].copy_from_slice(row);
            }
            gpu.put(&ring)
        };
        let there = [ring(&keys), ring(&values)];
        let run = |first: usize, q: &[f32]| {
            let rows = q.len() / q_width;
            let (position, y) = (gpu.put(&[first as u32]), gpu.poisoned(q.len()));
            let (q, parts) = (gpu.put(q), gpu.poisoned(shape.parts_len(rows)));
            let kv = (&there[0], &there[1]);
            gpu.kernels.attention(&gpu.stream, &shape, &position, &q, kv, &parts, &y).unwrap();
            gpu.get(&y)
        };
        let mut expected = vec![f32::NAN; q.len()];
        let reference = ops::Attention { heads, kv_heads, head_dim, window };
        ops::attention(&threads(2), &reference, &q, &keys, &values, &mut expected);
        let found = run(past, &q);
        assert_near(&found, &expected, &what);
        let alone: Vec<f32> = q.chunks_exact(q_width).enumerate().flat_map(|(i, q)| run(past + i, q)).collect();
        assert_same(&alone, &found, "a row alone");
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn embed() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(26));
    for (groups, width, frames) in [(1, 1, 1), (1, 2048, 3), (16, 1024, 1), (16, 77, 4), (3, 300, 2)] {
        let rows = 50;
        let tables: Vec<Tensor> = (0..groups)
            .map(|g| Tensor::made(&[rows, width], DTYPES[(g + width) % 3], &numbers.some(rows * width)))
            .collect();
        let codes: Vec<u32> = numbers.some(frames * groups).iter().map(|x| ((x + 1.0) * 24.9) as u32).collect();
        let vector = numbers.some(frames * width);
        let there: Vec<Matrix> = tables.iter().map(|t| Matrix::upload(&gpu.stream, t).unwrap()).collect();
        let (there_codes, there_vector) = (gpu.put(&codes), gpu.put(&vector));
        for with in [false, true] {
            let y = gpu.poisoned(frames * width);
            let tables_there: Vec<&Matrix> = there.iter().collect();
            let vector_there = with.then_some(&there_vector);
            gpu.kernels.embed(&gpu.stream, &tables_there, &there_codes, vector_there, &y).unwrap();
            let mut expected = vec![0.0; frames * width];
            let mut row = vec![0.0; width];
            for (sum, codes) in expected.chunks_exact_mut(width).zip(codes.chunks_exact(groups)) {
                tables[0].read_row(codes[0] as usize, sum);
                for (table, &code) in tables.iter().zip(codes).skip(1) {
                    table.read_row(code as usize, &mut row);
                    ops::add(sum, None, &row);
                }
            }
            if with {
                ops::add(&mut expected, None, &vector);
            }
            assert_same(&gpu.get(&y), &expected, &format!("{groups} rows of {width}"));
        }
    }
}

/// Choices are equal but where the reference says that another is as near; of those there may be few.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn sample() {
    const NEAR: f32 = 1e-5; // the reference's own f32 sum of 3072 probabilities is no better
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(27));
    let (mut choices, mut forgiven) = (0, 0);
    let sampled = |temperature, top_k, top_p| Sampler { do_sample: true, temperature, top_k, top_p };
    for (count, sampler, penalty, coarse) in [
        (1, sampled(1.0, 0, 1.0), 1.0, false),
        (5, sampled(0.9, 3, 1.0), 1.0, false),
        (64, sampled(0.9, 50, 0.8), 1.05, true),
        (2048, sampled(0.9, 50, 1.0), 1.0, false),
        (2048, sampled(1.0, 0, 0.9), 1.0, false),
        (3072, sampled(0.9, 50, 1.0), 1.05, false),
        (3072, sampled(1.3, 0, 0.5), 1.2, true),
        (3072, sampled(0.7, 400, 0.95), 1.05, true),
        (4096, sampled(1.0, 5000, 1e-6), 1.0, true),
        (3072, Sampler { do_sample: false, ..sampled(1.0, 0, 1.0) }, 1.05, false),
        (2000, Sampler { do_sample: false, ..sampled(1.0, 0, 1.0) }, 1.0, true),
    ] {
        // The talker's controls are the last 1024.
        let suppressed = (count == 3072).then_some((2048, 2150));
        let choosing = Choosing {
            do_sample: sampler.do_sample,
            temperature: sampler.temperature,
            top_k: sampler.top_k,
            top_p: sampler.top_p,
            repetition_penalty: penalty,
            suppressed,
        };
        let mut seen = BTreeSet::new();
        let there_seen = gpu.put(&vec![0_u8; count]);
        for frame in 0..150 {
            let mut scores: Vec<f32> = numbers.some(count).iter().map(|x| 6.0 * x).collect();
            if coarse {
                scores.iter_mut().for_each(|s| *s = (*s * 2.0).round() / 2.0); // many ties, -0 among them
            }
            let (there, chosen) = (gpu.put(&scores), gpu.poisoned(1));
            let u = crate::cpu::philox_uniform(99, frame, 4);
            let given = gpu.put(&[u]);
            let uniform = match frame % 2 {
                0 => Uniform::Seed { seed: 99, group: 4 },
                _ => Uniform::Given(&given),
            };
            let at = gpu.put(&[frame as u32]);
            gpu.kernels.sample(&gpu.stream, &choosing, &uniform, &at, &there, Some(&there_seen), &chosen).unwrap();
            let mut found = [0];
            chosen.read(&gpu.stream, &mut found).unwrap();

            match suppressed {
                Some((_, eos)) => {
                    TalkerRules { seen: &seen, repetition_penalty: penalty, eos, eos_allowed: frame >= 2 }
                        .apply(&mut scores)
                }
                // The rules are the talker's alone; without controls the penalty is what is left of them.
                None => seen.iter().for_each(|&i: &usize| {
                    scores[i] = if scores[i] < 0.0 { scores[i] * penalty } else { scores[i] / penalty };
                }),
            }
            let expected = match sampler.do_sample {
                true => draw(&mut scores, &sampler, u),
                false => argmax(&scores),
            };
            choices += 1;
            if found[0] as usize != expected.index {
                assert!(
                    expected.margin < NEAR && sampler.do_sample,
                    "{count} {sampler:?} frame {frame}: {} expected {expected:?}",
                    found[0]
                );
                forgiven += 1;
            }
            seen.insert(found[0] as usize);
            let mut marked = vec![0; count];
            there_seen.read(&gpu.stream, &mut marked).unwrap();
            assert_eq!((0..count).filter(|&i| marked[i] != 0).collect::<BTreeSet<_>>(), seen);
        }
    }
    println!("{choices} choices, {forgiven} forgiven");
    assert!(forgiven * 200 <= choices, "{forgiven} of {choices}");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn rvq() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(29));
    for (width, frames) in [(1, 1), (256, 3), (77, 5)] {
        let entries = 40;
        let books: Vec<(Tensor, Vec<f32>)> = (0..16)
            .map(|g| {
                let sums = Tensor::made(&[entries, width], DTYPES[g % 3], &numbers.some(entries * width));
                // Some under the least that counts.
                let usage = numbers.some(entries).iter().map(|u| if *u < -0.5 { 1e-7 } else { u + 0.6 }).collect();
                (sums, usage)
            })
            .collect();
        let codes: Vec<u32> = numbers.some(frames * 16).iter().map(|x| ((x + 1.0) * 19.9) as u32).collect();
        let there: Vec<(Matrix, Span<f32>)> =
            books.iter().map(|(s, u)| (Matrix::upload(&gpu.stream, s).unwrap(), gpu.put(u))).collect();
        let [first, rest] = [gpu.poisoned(frames * width), gpu.poisoned(frames * width)];
        gpu.kernels.rvq(&gpu.stream, &there, &gpu.put(&codes), &first, &rest).unwrap();
        let [mut expected_first, mut expected_rest] = [vec![0.0; frames * width], vec![0.0; frames * width]];
        let mut row = vec![0.0; width];
        for (t, codes) in codes.chunks_exact(16).enumerate() {
            for (group, ((sums, usage), &code)) in books.iter().zip(codes).enumerate() {
                sums.read_row(code as usize, &mut row);
                row.iter_mut().for_each(|x| *x /= usage[code as usize].max(1e-5));
                let sum = if group == 0 { &mut expected_first } else { &mut expected_rest };
                ops::add(&mut sum[t * width..][..width], None, &row);
            }
        }
        assert_same(&gpu.get(&first), &expected_first, "first");
        assert_same(&gpu.get(&rest), &expected_rest, "rest");
    }
}

/// One run of `widths` columns after another through `step(columns before, width, x of the piece)`, put together again.
fn cut(x: &[f32], channels: usize, widths: &[usize], mut step: impl FnMut(&[f32], usize) -> Vec<f32>) -> Vec<f32> {
    let len = x.len() / channels;
    let (mut rows, mut start) = (Vec::new(), 0);
    for &width in widths {
        let piece: Vec<f32> = x.chunks_exact(len).flat_map(|row| &row[start..start + width]).copied().collect();
        let y = step(&piece, width);
        let outputs = y.len() / width; // samples of all channels for a column
        rows.resize(outputs.max(rows.len()), Vec::new());
        rows.iter_mut().zip(y.chunks_exact(width)).for_each(|(row, y)| row.extend_from_slice(y));
        start += width;
    }
    rows.concat()
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn conv() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(30));
    for (inputs, outputs, taps, dilation, len) in [
        (1, 1, 1, 1, 1),
        (3, 7, 3, 1, 5),
        (5, 13, 7, 3, 33),
        (16, 6, 7, 9, 300),
        (9, 70, 1, 1, 129),
        (300, 33, 7, 1, 8),
        (768, 40, 7, 9, 32),
        (1024, 65, 7, 1, 4),
    ] {
        let what = format!("{inputs} to {outputs}, {taps} taps {dilation} apart, {len} columns");
        let weight = numbers.some(outputs * inputs * taps);
        let weight = Tensor::made(&[outputs, inputs, taps], DTYPES[taps % 3], &weight);
        let conv = weights::Conv { weight, bias: numbers.some(outputs) };
        let past = (taps - 1) * dilation;
        let (tail, x) = (numbers.some(inputs * past), numbers.some(inputs * len));
        let mut signal = Signal::new(inputs, len, (past > 0).then_some(&tail[..]));
        signal.fill(&x);
        let mut expected = vec![f32::NAN; outputs * len];
        along_time::conv(&threads(2), &conv, dilation, &signal, &mut expected);

        let there = Conv::upload(&gpu.stream, &conv).unwrap();
        let run = |widths: &[usize]| {
            let kept = gpu.put(&tail);
            let y = cut(&x, inputs, widths, |piece, width| {
                let (x, y) = (gpu.put(piece), gpu.poisoned(outputs * width));
                let parts = gpu.poisoned(there.parts_len(width));
                gpu.kernels.conv(&gpu.stream, &there, dilation, (&kept, &x), &parts, &y).unwrap();
                if past > 0 {
                    gpu.kernels.keep(&gpu.stream, inputs, &kept, &x).unwrap();
                }
                gpu.get(&y)
            });
            (y, gpu.get(&kept))
        };
        let (found, kept) = run(&[len]);
        assert_near(&found, &expected, &what);
        let mut expected_tail = tail.clone();
        if past > 0 {
            signal.keep(&mut expected_tail);
        }
        assert_same(&kept, &expected_tail, "what is kept");
        if len > 2 {
            let (again, kept_again) = run(&[1, len - 2, 1]);
            assert_same(&again, &found, &format!("{what}, cut"));
            assert_same(&kept_again, &kept, "what is kept, cut");
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn conv_transposed() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(31));
    for (inputs, outputs, rate, overlap, len) in
        [(1, 1, 2, 1, 1), (3, 5, 2, 1, 7), (4, 3, 8, 2, 19), (2, 9, 5, 2, 4), (1536, 24, 8, 2, 4), (200, 30, 3, 2, 70)]
    {
        let what = format!("{inputs} to {outputs}, rate {rate}, overlap {overlap}, {len} columns");
        let weight = numbers.some(inputs * outputs * rate * overlap);
        let weight = Tensor::made(&[inputs, outputs, rate * overlap], Dtype::F32, &weight);
        let conv = weights::Conv { weight, bias: numbers.some(outputs) };
        let (tail, x) = (numbers.some(inputs * (overlap - 1)), numbers.some(inputs * len));
        let mut signal = Signal::new(inputs, len, (overlap == 2).then_some(&tail[..]));
        signal.fill(&x);
        let mut expected = vec![f32::NAN; outputs * len * rate];
        along_time::conv_transposed(&threads(2), &conv, rate, &signal, &mut expected);
        let there = Conv::upload_transposed(&gpu.stream, &conv, rate).unwrap();
        let run = |tail: &[f32], x: &[f32]| {
            let len = x.len() / inputs;
            let (y, parts) = (gpu.poisoned(outputs * len * rate), gpu.poisoned(there.parts_len(len)));
            gpu.kernels.conv(&gpu.stream, &there, 1, (&gpu.put(tail), &gpu.put(x)), &parts, &y).unwrap();
            gpu.get(&y)
        };
        let found = run(&tail, &x);
        assert_near(&found, &expected, &what);
        // The last column alone, behind the one before it.
        if len > 1 {
            let column = |t: usize| x.chunks_exact(len).map(|row| row[t]).collect::<Vec<_>>();
            let tail = if overlap == 2 { column(len - 2) } else { Vec::new() };
            let last: Vec<f32> =
                found.chunks_exact(len * rate).flat_map(|row| &row[(len - 1) * rate..]).copied().collect();
            assert_same(&run(&tail, &column(len - 1)), &last, &format!("{what}, cut"));
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn round_the_convolutions() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(32));
    for (channels, len, taps) in [(1, 1, 1), (3, 5, 7), (65, 33, 7), (1024, 8, 7), (32, 1920, 3)] {
        let (x, tail) = (numbers.some(channels * len), numbers.some(channels * (taps - 1)));
        let (weight, bias) = (numbers.some(channels * taps), numbers.some(channels));
        let mut signal = Signal::new(channels, len, (taps > 1).then_some(&tail[..]));
        signal.fill(&x);
        let mut expected = vec![f32::NAN; x.len()];
        along_time::conv_depthwise(&threads(1), &weight, &bias, &signal, &mut expected);
        let (there, there_tail, y) = (gpu.put(&x), gpu.put(&tail), gpu.poisoned(x.len()));
        let (there_weight, there_bias) = (gpu.put(&weight), gpu.put(&bias));
        let both = (&there_tail, &there);
        gpu.kernels.conv_depthwise(&gpu.stream, &there_weight, &there_bias, both, &y).unwrap();
        assert_same(&gpu.get(&y), &expected, "depthwise");

        ops::transpose(&x, len, &mut expected);
        gpu.kernels.transpose(&gpu.stream, &there, len, &y).unwrap();
        assert_same(&gpu.get(&y), &expected, "transpose");

        let wide: Vec<f32> = x.iter().map(|x| x * 40.0).collect();
        let snake = SnakeBeta { alpha: numbers.some(channels), inv_beta: numbers.some(channels) };
        let mut signal = Signal::new(channels, len, None);
        signal.fill_snake(&threads(1), &snake, &wide);
        signal.rows_mut().zip(expected.chunks_exact_mut(len)).for_each(|(row, to)| to.copy_from_slice(row));
        let (there, alpha, inv_beta) = (gpu.put(&wide), gpu.put(&snake.alpha), gpu.put(&snake.inv_beta));
        gpu.kernels.snake(&gpu.stream, (&alpha, &inv_beta), &there, &y).unwrap();
        assert_same(&gpu.get(&y), &expected, "snake");

        let mut expected: Vec<f32> = wide.iter().map(|x| x.clamp(-1.0, 1.0)).collect();
        gpu.kernels.clamp(&gpu.stream, &there).unwrap();
        assert_same(&gpu.get(&there), &expected, "clamp");
        expected[0] = f32::NAN;
        let there = gpu.put(&expected);
        gpu.kernels.clamp(&gpu.stream, &there).unwrap();
        assert!(gpu.get(&there)[0].is_nan());
    }
}

/// What one launch of `linear` costs over weights that do not fit the second-level cache, in a graph.
#[test]
#[ignore = "measures an NVIDIA GPU"]
fn speed_of_linear() {
    const COPIES_BYTES: usize = 600 << 20;
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(28));
    println!("{}", gpu.context.gpu.name);
    println!("{:28} {:>9} {:>9} {:>9}", "bf16 weight, rows", "MB", "us", "GB/s");
    // The 0.6B talker's: q, k or v, o, gate or up, down; its head is as gate.
    for (outputs, inputs) in [(2048, 1024), (1024, 1024), (1024, 2048), (3072, 1024), (1024, 3072)] {
        let weight = Tensor::made(&[outputs, inputs], Dtype::Bf16, &numbers.some(outputs * inputs));
        let bytes = weight.bytes().len();
        let copies: Vec<Matrix> =
            (0..COPIES_BYTES / bytes).map(|_| Matrix::upload(&gpu.stream, &weight).unwrap()).collect();
        for rows in [1, 2, 4, 8] {
            let (x, y) = (gpu.put(&numbers.some(rows * inputs)), gpu.poisoned(rows * outputs));
            let touched = vec![x.buffer().clone(), y.buffer().clone()];
            let graph = Graph::record(&gpu.stream, touched, || {
                copies.iter().try_for_each(|weight| gpu.kernels.linear(&gpu.stream, weight, None, &x, &y))
            })
            .unwrap();
            let [start, end] = [Event::new(&gpu.context).unwrap(), Event::new(&gpu.context).unwrap()];
            let mut took: Vec<f32> = (0..12)
                .map(|_| {
                    gpu.stream.record(&start).unwrap();
                    graph.launch(&gpu.stream).unwrap();
                    gpu.stream.record(&end).unwrap();
                    end.synchronize().unwrap();
                    end.ms_since(&start).unwrap()
                })
                .collect();
            took.sort_by(f32::total_cmp);
            let us = f64::from(took[took.len() / 2]) * 1e3 / copies.len() as f64;
            let name = format!("[{outputs}, {inputs}] x {rows}");
            println!("{name:28} {:9.2} {us:9.2} {:9.0}", bytes as f64 / 1e6, bytes as f64 / us / 1e3);
        }
    }
}

/// What one launch of `gemm` costs, as `speed_of_linear`.
#[test]
#[ignore = "measures an NVIDIA GPU"]
fn speed_of_gemm() {
    const COPIES_BYTES: usize = 600 << 20;
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(34));
    println!("{}", gpu.context.gpu.name);
    println!("{:28} {:>9} {:>9} {:>9} {:>9}", "bf16 weight, rows", "MB", "us", "GB/s", "TFLOP/s");
    // q, k and v, o, gate and up, down of the 0.6B talker; both of its text projection; and of the 1.7B.
    for (outputs, inputs) in [
        (4096, 1024),
        (1024, 2048),
        (6144, 1024),
        (1024, 3072),
        (2048, 2048),
        (4096, 2048),
        (12288, 2048),
        (2048, 6144),
    ] {
        let weight = Tensor::made(&[outputs, inputs], Dtype::Bf16, &numbers.some(outputs * inputs));
        let bytes = weight.bytes().len();
        let copies: Vec<Matrix> =
            (0..COPIES_BYTES / bytes).map(|_| Matrix::upload(&gpu.stream, &weight).unwrap()).collect();
        for rows in [16, 32, 64, 256, 2048] {
            let (x, y) = (gpu.put(&numbers.some(rows * inputs)), gpu.poisoned(rows * outputs));
            let touched = vec![x.buffer().clone(), y.buffer().clone()];
            let graph = Graph::record(&gpu.stream, touched, || {
                copies.iter().try_for_each(|w| gpu.kernels.gemm(&gpu.stream, w, None, Finish::Store, &x, &y))
            })
            .unwrap();
            let [start, end] = [Event::new(&gpu.context).unwrap(), Event::new(&gpu.context).unwrap()];
            let mut took: Vec<f32> = (0..12)
                .map(|_| {
                    gpu.stream.record(&start).unwrap();
                    graph.launch(&gpu.stream).unwrap();
                    gpu.stream.record(&end).unwrap();
                    end.synchronize().unwrap();
                    end.ms_since(&start).unwrap()
                })
                .collect();
            took.sort_by(f32::total_cmp);
            let us = f64::from(took[took.len() / 2]) * 1e3 / copies.len() as f64;
            let (name, flop) = (format!("[{outputs}, {inputs}] x {rows}"), 2.0 * (outputs * inputs * rows) as f64);
            let (gb_s, tflop_s) = (bytes as f64 / us / 1e3, flop / us / 1e6);
            println!("{name:28} {:9.2} {us:9.2} {gb_s:9.0} {tflop_s:9.1}", bytes as f64 / 1e6);
        }
    }
}
