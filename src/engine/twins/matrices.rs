//! Norms, sums, embeddings, and what multiplies by a matrix.

use super::{DTYPES, Gpu, assert_near, assert_near_of, assert_same, largest};
use crate::cpu::ops;
use crate::cpu::simd::tests::{Numbers, threads};
use crate::cuda::args::NO_CODE;
use crate::cuda::kernels::Finish;
use crate::cuda::upload::Matrix;
use crate::driver::{Graph, Span};
use crate::weights::{Dtype, Tensor};

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn rms_norm() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(21));
    for (rows, width) in [(1, 1), (5, 3), (2, 33), (16, 128), (7, 100), (3, 1024), (1, 2048), (2, 3001)] {
        let what = format!("{rows} rows of {width}");
        let (x, weight) = (numbers.some(rows * width), numbers.some(width));
        let there_weight = gpu.put(&weight);
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
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn add() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(22));
    for (rows, width) in [(1, 1), (3, 5), (2, 256), (7, 1024), (5, 777)] {
        let (x, y, scale) = (numbers.some(rows * width), numbers.some(rows * width), numbers.some(width));
        let (there_y, there_scale) = (gpu.put(&y), gpu.put(&scale));
        for scaled in [false, true] {
            let there = gpu.put(&x);
            gpu.kernels.add(&gpu.stream, &there, scaled.then_some(&there_scale), &there_y).unwrap();
            let mut expected = x.clone();
            ops::add(&mut expected, scaled.then_some(&scale[..]), &y);
            assert_same(&gpu.get(&there), &expected, &format!("{rows} rows of {width}, scaled {scaled}"));
        }
    }
}

// ---- a matrix times rows -------------------------------------------------------------------------------------

/// What becomes of the sums, and the reference of it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Store,
    Add,
    AddScaled,
    Gate,
    Silu,
    Gelu,
}

impl Kind {
    const ALL: [Kind; 6] = [Kind::Store, Kind::Add, Kind::AddScaled, Kind::Gate, Kind::Silu, Kind::Gelu];

    fn finish(self, scale: &Span<f32>) -> Finish<'_> {
        match self {
            Kind::Store => Finish::Store,
            Kind::Add => Finish::Add(None),
            Kind::AddScaled => Finish::Add(Some(scale)),
            Kind::Gate => Finish::Gate,
            Kind::Silu => Finish::Silu,
            Kind::Gelu => Finish::Gelu,
        }
    }

    /// Numbers of a row of y.
    fn width(self, outputs: usize) -> usize {
        if self == Kind::Gate { outputs / 2 } else { outputs }
    }

    /// What y holds before: what counts is added to, all else is poison.
    fn before(self, before: &[f32], outputs: usize) -> Vec<f32> {
        match self {
            Kind::Add | Kind::AddScaled => before.to_vec(),
            _ => vec![f32::NAN; before.len() / outputs * self.width(outputs)],
        }
    }

    fn of(self, sums: &[f32], scale: &[f32], before: &[f32]) -> Vec<f32> {
        let mut y = match self {
            Kind::Add | Kind::AddScaled => before.to_vec(),
            _ => sums.to_vec(),
        };
        match self {
            Kind::Store => {}
            Kind::Add => ops::add(&mut y, None, sums),
            Kind::AddScaled => ops::add(&mut y, Some(scale), sums),
            Kind::Silu => ops::silu(&mut y),
            Kind::Gelu => ops::gelu(&mut y),
            Kind::Gate => {
                let up: Vec<f32>;
                (y, up) = sums.chunks_exact(2).map(|pair| (pair[0], pair[1])).unzip();
                ops::silu_mul(&mut y, &up);
            }
        }
        y
    }
}

/// y, of which nothing behind may change, after `kernel`.
fn written(gpu: &Gpu, y: &[f32], kernel: impl FnOnce(&Span<f32>)) -> Vec<f32> {
    let whole = gpu.put(&[y, &[f32::NAN; 1000]].concat());
    kernel(&whole.part(0..y.len()));
    let mut found = gpu.get(&whole);
    assert!(found.split_off(y.len()).iter().all(|x| x.is_nan()), "behind the outputs");
    found
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn linear() {
    const ROWS: usize = 11;
    const EPS: f32 = 1e-6;
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(23));
    for (inputs, outputs) in
        [(1, 1), (15, 3), (8, 10), (17, 9), (70, 34), (256, 5), (264, 31), (1024, 2048), (1032, 8), (3072, 1024)]
    {
        for (dtype, normed) in DTYPES.into_iter().flat_map(|dtype| [(dtype, false), (dtype, true)]) {
            let what = format!("{outputs} of {inputs} in {dtype:?}, normed {normed}");
            let weight = Tensor::made(&[outputs, inputs], dtype, &numbers.some(outputs * inputs));
            let (x, norm) = (numbers.some(ROWS * inputs), numbers.some(inputs));
            let [bias, scale] = [numbers.some(outputs), numbers.some(outputs)];
            let before = numbers.some(ROWS * outputs);
            let there = gpu.matrix(&weight);
            let [there_norm, there_bias, there_scale] = [&norm, &bias, &scale].map(|numbers| gpu.put(numbers));
            // The last so many rows.
            let run = |kind: Kind, bias: Option<&Span<f32>>, rows: std::ops::Range<usize>| {
                let x = gpu.put(&x[rows.start * inputs..rows.end * inputs]);
                let y = kind.before(&before[rows.start * outputs..rows.end * outputs], outputs);
                let norm = normed.then_some((&there_norm, EPS));
                written(&gpu, &y, |y| {
                    gpu.kernels.linear(&gpu.stream, &there, bias, norm, kind.finish(&there_scale), &x, y).unwrap();
                })
            };
            let mut input = x.clone();
            if normed {
                ops::rms_norm(&threads(1), &x, &norm, EPS, &mut input);
            }
            let mut sums = vec![f32::NAN; ROWS * outputs];
            ops::linear(&threads(2), &weight, None, &input, &mut sums);
            assert_near(&run(Kind::Store, None, 0..ROWS), &sums, &format!("{what}, no bias"));
            ops::linear(&threads(2), &weight, Some(&bias), &input, &mut sums);
            for kind in Kind::ALL {
                if kind == Kind::Gate && !outputs.is_multiple_of(2) {
                    continue;
                }
                let (what, width) = (format!("{what}, {kind:?}"), kind.width(outputs));
                let alone: Vec<f32> = (0..ROWS).flat_map(|row| run(kind, Some(&there_bias), row..row + 1)).collect();
                assert_near(&alone, &kind.of(&sums, &scale, &before), &what);
                for rows in 2..=ROWS {
                    let found = run(kind, Some(&there_bias), ROWS - rows..ROWS);
                    assert_same(&found, &alone[(ROWS - rows) * width..], &format!("{what}, {rows} rows"));
                }
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
            let there = gpu.matrix(&weight);
            let [there_bias, there_scale] = [gpu.put(&bias), gpu.put(&scale)];
            // The last so many rows.
            let run = |kind: Kind, bias: Option<&Span<f32>>, count: usize| {
                let x = gpu.put(&x[(rows - count) * inputs..]);
                written(&gpu, &kind.before(&before[(rows - count) * outputs..], outputs), |y| {
                    gpu.kernels.gemm(&gpu.stream, &there, bias, kind.finish(&there_scale), &x, y).unwrap();
                })
            };
            let mut near = |found: &[f32], expected: &[f32], finish: &str| {
                let sums = if finish == "Gate" { 2.0 } else { 1.0 };
                assert_near_of(sums, found, expected, &format!("{what}, {finish}"));
                let largest = largest(expected);
                for (a, b) in found.iter().zip(expected) {
                    worst[which] = worst[which].max((a - b).abs() / largest);
                }
            };

            let mut sums = vec![f32::NAN; rows * outputs];
            ops::linear(&threads(2), &weight, None, &x, &mut sums);
            near(&run(Kind::Store, None, rows), &sums, "no bias");
            ops::linear(&threads(2), &weight, Some(&bias), &x, &mut sums);
            for kind in Kind::ALL {
                if kind == Kind::Gate && !outputs.is_multiple_of(2) {
                    continue;
                }
                let found = run(kind, Some(&there_bias), rows);
                near(&found, &kind.of(&sums, &scale, &before), &format!("{kind:?}"));
                assert_same(&run(kind, Some(&there_bias), rows), &found, &format!("{what}, {kind:?}, again"));
                for count in [1, 5, 16, 31, 64, 67].into_iter().filter(|&count| count < rows) {
                    let some = run(kind, Some(&there_bias), count);
                    let expected = &found[(rows - count) * kind.width(outputs)..];
                    assert_same(&some, expected, &format!("{what}, {kind:?}, the last {count} alone"));
                }
            }
        }
    }
    let [bf16, f16, f32] = worst;
    println!("of the largest output at most: bf16 {bf16:.1e}, f16 {f16:.1e}, f32 {f32:.1e}");
}

// ---- embeddings ----------------------------------------------------------------------------------------------

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn embed() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(26));
    for (groups, width, frames) in [(1, 1, 1), (1, 2048, 3), (16, 1024, 1), (16, 77, 40), (3, 300, 7)] {
        let rows = 50;
        let tables: Vec<Tensor> = (0..groups)
            .map(|g| Tensor::made(&[rows, width], DTYPES[(g + width) % 3], &numbers.some(rows * width)))
            .collect();
        let there = gpu.upload(|up| tables.iter().map(|table| up.matrix(table)).collect::<crate::Result<Vec<_>>>());
        let there: Vec<&Matrix> = there.iter().collect();
        let vector = numbers.some(frames * width);
        let there_vector = gpu.put(&vector);
        // How many codes are there: all; some, in the first frame none; group 0's alone.
        for sparse in 0..3 {
            let mut codes: Vec<u32> = numbers.some(frames * groups).iter().map(|x| ((x + 1.0) * 24.9) as u32).collect();
            for (i, (code, x)) in codes.iter_mut().zip(numbers.some(frames * groups)).enumerate() {
                let missing = match sparse {
                    0 => false,
                    1 => i < groups || x < 0.2,
                    _ => !i.is_multiple_of(groups),
                };
                if missing {
                    *code = NO_CODE;
                }
            }
            let there_codes = gpu.put(&codes);
            for with in [false, true] {
                let y = gpu.poisoned(frames * width);
                let vector_there = with.then_some(&there_vector);
                gpu.kernels.embed(&gpu.stream, &there, &there_codes, vector_there, &y).unwrap();
                let mut expected = Vec::new();
                for (codes, vector) in codes.chunks_exact(groups).zip(vector.chunks_exact(width)) {
                    let mut addends: Vec<Vec<f32>> = Vec::new();
                    for (table, &code) in tables.iter().zip(codes).filter(|(_, code)| **code != NO_CODE) {
                        let mut row = vec![f32::NAN; width];
                        table.read_row(code as usize, &mut row);
                        addends.push(row);
                    }
                    addends.extend(with.then(|| vector.to_vec()));
                    let sum = addends.into_iter().reduce(|mut sum, row| {
                        ops::add(&mut sum, None, &row);
                        sum
                    });
                    expected.extend(sum.unwrap_or(vec![0.0; width]));
                }
                let what = format!("{groups} rows of {width}, sparse {sparse}, with a vector {with}");
                assert_same(&gpu.get(&y), &expected, &what);
            }
        }
    }
}

// ---- speed ---------------------------------------------------------------------------------------------------

/// What one launch of `linear` costs over weights that do not fit the second-level cache, in a graph.
#[test]
#[ignore = "measures an NVIDIA GPU"]
fn speed_of_linear() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(28));
    println!("{}", gpu.context.gpu.name);
    println!("{:28} {:>9} {:>9} {:>9}", "bf16 weight, rows", "MB", "us", "GB/s");
    // The talker's q, k and v, o, gate and up, down; its head. Of the 0.6B, then of the 1.7B.
    for (outputs, inputs, finish, normed) in [
        (4096, 1024, Kind::Store, true),
        (1024, 2048, Kind::Add, false),
        (6144, 1024, Kind::Gate, true),
        (1024, 3072, Kind::Add, false),
        (3072, 1024, Kind::Store, false),
        (4096, 2048, Kind::Store, true),
        (2048, 2048, Kind::Add, false),
        (12288, 2048, Kind::Gate, true),
        (2048, 6144, Kind::Add, false),
    ] {
        let weight = Tensor::made(&[outputs, inputs], Dtype::Bf16, &numbers.some(outputs * inputs));
        let bytes = weight.bytes().len();
        let copies = gpu.copies(&weight);
        let norm = gpu.put(&numbers.some(inputs));
        for rows in [1, 2, 4, 8] {
            let x = gpu.put(&numbers.some(rows * inputs));
            let y = gpu.poisoned(rows * finish.width(outputs));
            let touched = vec![x.buffer().clone(), y.buffer().clone()];
            let graph = Graph::record(&gpu.stream, touched, || {
                copies.iter().try_for_each(|weight| {
                    let (finish, norm) = (finish.finish(&norm), normed.then_some((&norm, 1e-6)));
                    gpu.kernels.linear(&gpu.stream, weight, None, norm, finish, &x, &y)
                })
            })
            .unwrap();
            let us = gpu.median_us(&graph) / copies.len() as f64;
            let name = format!("[{outputs}, {inputs}] x {rows}");
            println!("{name:28} {:9.2} {us:9.2} {:9.0}", bytes as f64 / 1e6, bytes as f64 / us / 1e3);
        }
    }
}

/// What one launch of `gemm` costs, as `speed_of_linear`.
#[test]
#[ignore = "measures an NVIDIA GPU"]
fn speed_of_gemm() {
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
        let copies = gpu.copies(&weight);
        for rows in [16, 32, 64, 256, 2048] {
            let (x, y) = (gpu.put(&numbers.some(rows * inputs)), gpu.poisoned(rows * outputs));
            let touched = vec![x.buffer().clone(), y.buffer().clone()];
            let graph = Graph::record(&gpu.stream, touched, || {
                copies.iter().try_for_each(|w| gpu.kernels.gemm(&gpu.stream, w, None, Finish::Store, &x, &y))
            })
            .unwrap();
            let us = gpu.median_us(&graph) / copies.len() as f64;
            let (name, flop) = (format!("[{outputs}, {inputs}] x {rows}"), 2.0 * (outputs * inputs * rows) as f64);
            let (gb_s, tflop_s) = (bytes as f64 / us / 1e3, flop / us / 1e6);
            println!("{name:28} {:9.2} {us:9.2} {gb_s:9.0} {tflop_s:9.1}", bytes as f64 / 1e6);
        }
    }
}
