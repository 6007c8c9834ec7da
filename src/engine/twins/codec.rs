//! Twins of what the codec launches besides the stacks' kernels: codebooks, convolutions with their tails and snakes, the norm
//! behind a depthwise one, the last. The reference's signals are [channel][time], the device's [time][channel].

use super::*;
use crate::cpu::along_time::{self, Signal};
use crate::cpu::ops;
use crate::cpu::simd::tests::{Numbers, threads};
use crate::cuda::codec::Depthwise;
use crate::cuda::kernels::{Finish, Put};
use crate::cuda::upload::{Conv, Snake};
use crate::weights::{self, SnakeBeta, TAPS};

/// [rows][columns] as [columns][rows].
pub(super) fn turned(x: &[f32], columns: usize) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len()];
    ops::transpose(x, columns, &mut y);
    y
}

/// A signal of the reference, from tail and x as the device has them.
pub(super) fn signal(channels: usize, tail: &[f32], x: &[f32]) -> Signal {
    let past = turned(tail, channels);
    let mut signal = Signal::new(channels, x.len() / channels, (!past.is_empty()).then_some(&past[..]));
    signal.fill_transposed(x);
    signal
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
        let there: Vec<(Matrix, Span<f32>)> = books.iter().map(|(s, u)| (gpu.matrix(s), gpu.put(u))).collect();
        let y = gpu.poisoned(frames * 2 * width);
        gpu.kernels.rvq(&gpu.stream, &there, &gpu.put(&codes), &y).unwrap();
        let mut expected = vec![0.0; frames * 2 * width];
        let mut row = vec![0.0; width];
        for (both, codes) in expected.chunks_exact_mut(2 * width).zip(codes.chunks_exact(16)) {
            let (first, rest) = both.split_at_mut(width);
            for (group, ((sums, usage), &code)) in books.iter().zip(codes).enumerate() {
                sums.read_row(code as usize, &mut row);
                row.iter_mut().for_each(|x| *x /= usage[code as usize].max(1e-5));
                ops::add(if group == 0 { &mut *first } else { &mut *rest }, None, &row);
            }
        }
        assert_same(&gpu.get(&y), &expected, "rows");
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn conv() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(30));
    for (inputs, outputs, taps, dilation, rows) in [
        (1, 1, 1, 1, 1),
        (3, 7, 3, 1, 5),
        (5, 13, 7, 3, 33),
        (16, 6, 7, 9, 300),
        (12, 70, 1, 1, 129),
        (300, 33, 7, 1, 8),
        (96, 96, 7, 9, 200),
        (768, 40, 7, 9, 32),
        (1024, 65, 7, 1, 4),
    ] {
        let what = format!("{inputs} to {outputs}, {taps} taps {dilation} apart, {rows} rows");
        let weight = numbers.some(outputs * inputs * taps);
        let weight = Tensor::made(&[outputs, inputs, taps], DTYPES[taps % 3], &weight);
        let conv = weights::Conv { weight, bias: numbers.some(outputs) };
        let past = (taps - 1) * dilation;
        let (tail, x) = (numbers.some(past * inputs), numbers.some(rows * inputs));
        let mut expected = vec![f32::NAN; outputs * rows];
        along_time::conv(&threads(2), &conv, dilation, &signal(inputs, &tail, &x), &mut expected);
        let expected = turned(&expected, rows);

        let snake = SnakeBeta { alpha: numbers.some(outputs), inv_beta: numbers.some(outputs) };
        let there = gpu.upload(|up| Ok((Conv::upload(up, &conv)?, Snake::upload(up, &snake, 1)?)));
        let (conv_there, snake_there) = (&there.0, &there.1);
        let run = |widths: &[usize], base: Option<&[f32]>| {
            let (kept, position) = (gpu.put(&tail), gpu.put(&[7_u32]));
            let (mut first, mut all, mut all_activated) = (0, Vec::new(), Vec::new());
            for &width in widths {
                let piece = gpu.put(&x[first * inputs..(first + width) * inputs]);
                let base = base.map(|base| gpu.put(&base[first * outputs..(first + width) * outputs]));
                let [y, activated] = [gpu.poisoned(width * outputs), gpu.poisoned(width * outputs)];
                let tail = (past > 0).then_some(&kept);
                let put = Put { base: base.as_ref(), y: Some(&y), ..Put::activated(snake_there, &activated) };
                gpu.kernels.conv(&gpu.stream, conv_there, dilation, tail, &piece, &put).unwrap();
                let tails = tail.map(|tail| (tail.clone(), piece.clone(), inputs));
                gpu.kernels.keep(&gpu.stream, tails.as_slice(), &position, width).unwrap();
                all.extend(gpu.get(&y));
                all_activated.extend(gpu.get(&activated));
                first += width;
            }
            assert_eq!(gpu.get(&position), [7 + rows as u32], "frames are counted");
            (all, all_activated, gpu.get(&kept))
        };
        let (found, activated, kept) = run(&[rows], None);
        assert_near(&found, &expected, &what);
        assert_same(&kept, &[tail.clone(), x.clone()].concat()[rows * inputs..], "what is kept");
        let mut through = Signal::new(outputs, rows, None);
        through.fill_snake(&threads(1), &snake, &turned(&found, outputs));
        let expected: Vec<f32> = through.rows_mut().flat_map(|row| row.to_vec()).collect();
        assert_same(&activated, &turned(&expected, rows), "the snake of what was found");

        let base = numbers.some(rows * outputs);
        let mut expected = base.clone();
        ops::add(&mut expected, None, &found);
        assert_same(&run(&[rows], Some(&base)).0, &expected, "onto a base");
        if rows > 2 {
            let again = run(&[1, rows - 2, 1], None);
            assert_same(&again.0, &found, &format!("{what}, cut"));
            assert_same(&again.1, &activated, &format!("{what}, cut, through the snake"));
            assert_same(&again.2, &kept, "what is kept, cut");
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn conv_transposed() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(31));
    for (inputs, outputs, rate, overlap, rows) in
        [(1, 1, 2, 1, 1), (3, 5, 2, 1, 7), (4, 3, 8, 2, 19), (2, 9, 5, 2, 4), (1536, 24, 8, 2, 4), (200, 30, 3, 2, 70)]
    {
        let what = format!("{inputs} to {outputs}, rate {rate}, overlap {overlap}, {rows} rows");
        let weight = numbers.some(inputs * outputs * rate * overlap);
        let weight = Tensor::made(&[inputs, outputs, rate * overlap], Dtype::F32, &weight);
        let conv = weights::Conv { weight, bias: numbers.some(outputs) };
        let (tail, x) = (numbers.some((overlap - 1) * inputs), numbers.some(rows * inputs));
        let mut expected = vec![f32::NAN; outputs * rows * rate];
        along_time::conv_transposed(&threads(2), &conv, rate, &signal(inputs, &tail, &x), &mut expected);
        let there = gpu.upload(|up| Conv::upload_transposed(up, &conv, rate));
        let run = |tail: &[f32], x: &[f32]| {
            let y = gpu.poisoned(x.len() / inputs * rate * outputs);
            let tail = (!tail.is_empty()).then(|| gpu.put(tail));
            gpu.kernels.conv(&gpu.stream, &there, 1, tail.as_ref(), &gpu.put(x), &Put::rows(&y)).unwrap();
            gpu.get(&y)
        };
        let found = run(&tail, &x);
        assert_near(&found, &turned(&expected, rows * rate), &what);
        // The last row alone, behind the one before it.
        if rows > 1 {
            let row = |t: usize| &x[t * inputs..(t + 1) * inputs];
            let tail = if overlap == 2 { row(rows - 2) } else { &[] };
            let last = &found[(rows - 1) * rate * outputs..];
            assert_same(&run(tail, row(rows - 1)), last, &format!("{what}, cut"));
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn depthwise() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(32));
    for (channels, rows) in [(1, 1), (3, 5), (65, 33), (1024, 8)] {
        let (x, tail) = (numbers.some(rows * channels), numbers.some((TAPS - 1) * channels));
        let weight = numbers.some(channels * TAPS);
        let [bias, norm, norm_bias] = [(); 3].map(|()| numbers.some(channels));
        let mut expected = vec![f32::NAN; x.len()];
        along_time::conv_depthwise(&threads(1), &weight, &bias, &signal(channels, &tail, &x), &mut expected);
        let mut expected = turned(&expected, rows);
        ops::layer_norm(&threads(1), &mut expected, &norm, &norm_bias, 1e-6);
        let there = gpu.upload(|up| Depthwise::upload(up, &weight, [&bias, &norm, &norm_bias]));
        let run = |tail: &[f32], x: &[f32]| {
            let y = gpu.poisoned(x.len());
            gpu.kernels.depthwise(&gpu.stream, &there, &gpu.put(tail), &gpu.put(x), 1e-6, &y).unwrap();
            gpu.get(&y)
        };
        let found = run(&tail, &x);
        assert_near(&found, &expected, &format!("{rows} rows of {channels}"));
        let before = [tail, x.clone()].concat();
        let (last, before) = (&x[(rows - 1) * channels..], &before[(rows - 1) * channels..][..(TAPS - 1) * channels]);
        assert_same(&run(before, last), &found[(rows - 1) * channels..], "the last row alone");
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn last() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(35));
    for (channels, rows) in [(1, 1), (3, 65), (96, 1920), (128, 63)] {
        let (mut x, tail) = (numbers.some(rows * channels), numbers.some((TAPS - 1) * channels));
        let conv = weights::Conv {
            weight: Tensor::made(&[1, channels, TAPS], Dtype::F32, &numbers.some(channels * TAPS)),
            bias: numbers.some(1),
        };
        let mut expected = vec![f32::NAN; rows];
        along_time::conv(&threads(1), &conv, 1, &signal(channels, &tail, &x), &mut expected);
        expected.iter_mut().for_each(|s| *s = s.clamp(-1.0, 1.0));
        let weight = gpu.upload(|up| up.turned(&conv.weight.to_f32(), TAPS));
        let bias = gpu.put(&conv.bias);
        let run = |tail: &[f32], x: &[f32]| {
            let y = gpu.poisoned(x.len() / channels);
            gpu.kernels.last(&gpu.stream, &weight, &bias, &gpu.put(tail), &gpu.put(x), &y).unwrap();
            gpu.get(&y)
        };
        let found = run(&tail, &x);
        assert_near(&found, &expected, &format!("{rows} rows of {channels}"));
        let all = [tail.clone(), x.clone()].concat();
        let (left, right) = all.split_at((rows / 2 + TAPS - 1) * channels);
        if !right.is_empty() && rows / 2 > 0 {
            let again = [run(&tail, &left[(TAPS - 1) * channels..]), run(&left[rows / 2 * channels..], right)].concat();
            assert_same(&again, &found, "cut");
        }
        x[0] = f32::NAN;
        assert!(run(&tail, &x)[0].is_nan());
    }
}

/// What one launch costs, of the published decoder's convolutions, in a recording over weights that no cache holds.
#[test]
#[ignore = "measures an NVIDIA GPU"]
fn speed_of_conv() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(36));
    println!("{}", gpu.context.gpu.name);
    println!("{:44} {:>9} {:>9} {:>9}", "inputs, outputs, taps, rows of a frame x frames", "us", "GB/s", "TFLOP/s");
    for (inputs, outputs, taps, rows) in [
        (1024, 1536, 7, 4),
        (1536, 6144, 2, 4),
        (768, 768, 7, 32),
        (768, 768, 1, 32),
        (768, 1920, 2, 32),
        (384, 384, 7, 160),
        (384, 768, 2, 160),
        (192, 192, 7, 640),
        (192, 288, 2, 640),
        (96, 96, 7, 1920),
        (96, 96, 1, 1920),
    ] {
        let weight = Tensor::made(&[outputs, inputs, taps], Dtype::F32, &numbers.some(outputs * inputs * taps));
        let (bytes, conv) = (weight.bytes().len(), weights::Conv { weight, bias: numbers.some(outputs) });
        let count = (200 << 20) / bytes.max(10 << 20);
        let there: Vec<Conv> = gpu.upload(|up| (0..count).map(|_| Conv::upload(up, &conv)).collect());
        let snake = SnakeBeta { alpha: numbers.some(outputs), inv_beta: numbers.some(outputs) };
        let snake = gpu.upload(|up| Snake::upload(up, &snake, 1));
        for frames in [1, 2, 4, 8] {
            let rows = rows * frames;
            let tail = gpu.put(&numbers.some((taps - 1) * inputs));
            let x = gpu.put(&numbers.some(rows * inputs));
            let [y, activated] = [gpu.poisoned(rows * outputs), gpu.poisoned(rows * outputs)];
            let touched = [&tail, &x, &y, &activated].map(|span| span.buffer().clone()).to_vec();
            let put = Put { y: Some(&y), ..Put::activated(&snake, &activated) };
            let tail = (taps > 1).then_some(&tail);
            let graph = Graph::record(&gpu.stream, touched, || {
                there.iter().try_for_each(|conv| gpu.kernels.conv(&gpu.stream, conv, 1, tail, &x, &put))
            });
            let us = gpu.median_us(&graph.unwrap()) / count as f64;
            let (name, flop) =
                (format!("{inputs}, {outputs}, {taps}, {} x {frames}", rows / frames), 2.0 * (bytes / 4 * rows) as f64);
            println!("{name:44} {us:9.2} {:9.0} {:9.1}", bytes as f64 / us / 1e3, flop / us / 1e6);
        }
    }
}

/// The other way of a base: scaled, behind an ordinary matrix.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn gemm_onto_a_base() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(37));
    for (inputs, outputs, rows) in [(33, 7, 3), (256, 64, 20)] {
        let weight = Tensor::made(&[outputs, inputs], Dtype::F32, &numbers.some(outputs * inputs));
        let [x, base, scale] = [rows * inputs, rows * outputs, outputs].map(|len| numbers.some(len));
        let [mut sums, mut expected] = [vec![f32::NAN; base.len()], base.clone()];
        ops::linear(&threads(1), &weight, None, &x, &mut sums);
        ops::add(&mut expected, Some(&scale), &sums);
        let (y, base, scale) = (gpu.poisoned(base.len()), gpu.put(&base), gpu.put(&scale));
        let finish = Finish::Onto { base: &base, scale: &scale };
        gpu.kernels.gemm(&gpu.stream, &gpu.matrix(&weight), None, finish, &gpu.put(&x), &y).unwrap();
        assert_near(&gpu.get(&y), &expected, "sums");
    }
}
