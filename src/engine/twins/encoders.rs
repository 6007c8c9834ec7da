//! Twins of what the encoders launch besides the codec's kernels: strided convolutions, those around their output, ELU and the
//! rectifiers behind a product, layer norms, statistics over time, gates, and the search for the nearest rows. The encoders
//! whole are compared in tests/gpu.

use super::codec::{signal, turned};
use super::*;
use crate::cpu::along_time::{self, Signal};
use crate::cpu::ops;
use crate::cpu::simd::tests::{Numbers, threads};
use crate::cuda::args;
use crate::cuda::kernels::{Finish, Put};
use crate::cuda::upload::Conv;
use crate::weights;

/// A convolution of fresh numbers.
fn fresh(numbers: &mut Numbers, [outputs, inputs, taps]: [usize; 3]) -> weights::Conv {
    let weight = Tensor::made(&[outputs, inputs, taps], DTYPES[taps % 3], &numbers.some(outputs * inputs * taps));
    weights::Conv { weight, bias: numbers.some(outputs) }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn conv_strided() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(51));
    for (inputs, outputs, stride, len) in
        [(1, 1, 2, 1), (4, 7, 4, 13), (3, 5, 5, 20), (8, 66, 6, 131), (64, 30, 8, 4), (512, 70, 8, 41)]
    {
        let what = format!("{inputs} to {outputs}, one of {stride}, {len} rows");
        let conv = fresh(&mut numbers, [outputs, inputs, 2 * stride]);
        let (tail, x) = (numbers.some(stride * inputs), numbers.some(len * inputs));
        let columns = len.div_ceil(stride);
        let mut expected = vec![f32::NAN; outputs * columns];
        let signal = Signal::strided(inputs, stride, &turned(&tail, inputs), &turned(&x, inputs));
        along_time::conv_strided(&threads(2), &conv, stride, &signal, &mut expected);
        let expected = turned(&expected, columns);

        let there = gpu.upload(|up| Conv::upload_strided(up, &conv, stride));
        let run = |tail: &[f32], x: &[f32]| {
            let y = gpu.poisoned(x.len() / (stride * inputs) * outputs);
            gpu.kernels.conv(&gpu.stream, &there, 1, Some(&gpu.put(tail)), &gpu.put(x), &Put::rows(&y)).unwrap();
            gpu.get(&y)
        };
        // Zeros behind the end, up to a whole stride.
        let mut whole = x.clone();
        whole.resize(columns * stride * inputs, 0.0);
        let found = run(&tail, &whole);
        assert_near(&found, &expected, &what);
        if columns > 1 {
            let (before, last) = whole.split_at((columns - 1) * stride * inputs);
            let tail = &before[before.len() - stride * inputs..];
            assert_same(&run(tail, last), &found[(columns - 1) * outputs..], &format!("{what}, the last alone"));
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn conv_mirrored() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(52));
    for (channels, at, inputs, outputs, taps, dilation, rows) in [
        (4, 0, 4, 3, 1, 1, 1),
        (12, 4, 4, 7, 3, 2, 5),
        (128, 0, 128, 70, 5, 1, 3),
        (512, 448, 64, 64, 3, 4, 131),
        (40, 8, 32, 33, 7, 3, 70),
    ] {
        let what = format!("{inputs} of {channels} to {outputs}, {taps} taps {dilation} apart, {rows} rows");
        let conv = fresh(&mut numbers, [outputs, inputs, taps]);
        let (x, add) = (numbers.some(rows * channels), numbers.some(rows * inputs));
        let edge = (taps - 1) * dilation / 2;
        let mut columns: Vec<f32> = x.chunks_exact(channels).flat_map(|row| row[at..at + inputs].to_vec()).collect();
        for added in [false, true] {
            if added {
                ops::add(&mut columns, None, &add);
            }
            let mut expected = vec![f32::NAN; outputs * rows];
            let signal = Signal::mirrored(inputs, edge, &turned(&columns, inputs));
            along_time::conv(&threads(2), &conv, dilation, &signal, &mut expected);
            ops::relu(&mut expected);

            // A column more than it takes, which stays as it was.
            let all = rows + 2 * edge;
            let wide = gpu.poisoned(all * (inputs + 1));
            let (there, add) = (gpu.put(&x), gpu.put(&add));
            let add = added.then_some(&add);
            gpu.kernels.mirror(&gpu.stream, rows, edge, &there, at..at + inputs, add, &wide, 1).unwrap();
            let wide = gpu.get(&wide);
            let found: Vec<f32> = wide.chunks_exact(inputs + 1).flat_map(|row| row[1..].to_vec()).collect();
            assert!(wide.iter().step_by(inputs + 1).all(|x| x.is_nan()), "{what}: another column");
            let mirror = |row: usize| {
                let apart = row.abs_diff(edge);
                if apart >= rows { 2 * (rows - 1) - apart } else { apart }
            };
            let mirrored: Vec<f32> =
                (0..all).flat_map(|row| columns[mirror(row) * inputs..][..inputs].to_vec()).collect();
            assert_same(&found, &mirrored, &what);

            let [tail, x] = [&found[..2 * edge * inputs], &found[2 * edge * inputs..]].map(|x| gpu.put(x));
            let conv = gpu.upload(|up| Conv::upload(up, &conv));
            let y = gpu.poisoned(rows * outputs);
            let tail = (edge > 0).then_some(&tail);
            gpu.kernels.conv(&gpu.stream, &conv, dilation, tail, &x, &Put::rectified(&y)).unwrap();
            assert_near(&gpu.get(&y), &turned(&expected, rows), &what);
        }
    }
}

/// What lies piece by piece is multiplied as if it lay side by side.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn conv_pieces() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(53));
    for (pieces, width, outputs, rows) in [(1, 4, 3, 2), (3, 8, 5, 1), (8, 4, 32, 77), (8, 64, 70, 130)] {
        let what = format!("{pieces} of {width} to {outputs}, {rows} rows");
        let conv = fresh(&mut numbers, [outputs, pieces * width, 1]);
        let x = numbers.some(pieces * rows * width);
        let piece = |p: usize, row: usize| &x[(p * rows + row) * width..][..width];
        let beside: Vec<f32> =
            (0..rows).flat_map(|row| (0..pieces).flat_map(move |p| piece(p, row).to_vec())).collect();
        let mut expected = vec![f32::NAN; outputs * rows];
        along_time::conv(&threads(2), &conv, 1, &signal(pieces * width, &[], &beside), &mut expected);
        let there = gpu.upload(|up| Conv::upload_pieces(up, &conv, pieces));
        let (before, last) = x.split_at((pieces - 1) * rows * width);
        let (tail, y) = (gpu.put(before), gpu.poisoned(rows * outputs));
        let tail = (pieces > 1).then_some(&tail);
        gpu.kernels.conv(&gpu.stream, &there, rows, tail, &gpu.put(last), &Put::rows(&y)).unwrap();
        assert_near(&gpu.get(&y), &turned(&expected, rows), &what);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn conv_through_elu() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(54));
    for (inputs, outputs, rows) in [(1, 1, 1), (5, 7, 33), (64, 32, 200)] {
        let conv = fresh(&mut numbers, [outputs, inputs, 1]);
        let (x, base) = (numbers.some(rows * inputs), numbers.some(rows * outputs));
        let there = gpu.upload(|up| Conv::upload(up, &conv));
        let [y, activated, alone] = [(); 3].map(|()| gpu.poisoned(rows * outputs));
        let (x, base) = (gpu.put(&x), gpu.put(&base));
        let put = Put { base: Some(&base), y: Some(&y), ..Put::elu(&activated) };
        gpu.kernels.conv(&gpu.stream, &there, 1, None, &x, &put).unwrap();
        let mut expected = gpu.get(&y);
        assert!(expected.iter().all(|x| x.is_finite()));
        ops::elu(&threads(1), &mut expected);
        assert_near(&gpu.get(&activated), &expected, &format!("{rows} rows of {outputs}"));
        gpu.kernels.conv(&gpu.stream, &there, 1, None, &x, &Put { base: Some(&base), ..Put::elu(&alone) }).unwrap();
        assert_same(&gpu.get(&alone), &gpu.get(&activated), "without the sums themselves");
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn some_columns_of_a_matrix_through_tanh() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(55));
    for (rows, width, outputs, from) in [(1, 8, 1, 4), (33, 20, 7, 8), (130, 128, 70, 0)] {
        let weight = Tensor::made(&[outputs, width, 1], DTYPES[rows % 3], &numbers.some(outputs * width));
        let (x, bias) = (numbers.some(rows * (width - from)), numbers.some(outputs));
        // As if the columns that are left out had met zeros.
        let padded: Vec<f32> =
            x.chunks_exact(width - from).flat_map(|row| [&vec![0.0; from][..], row].concat()).collect();
        let mut expected = vec![f32::NAN; rows * outputs];
        ops::linear(&threads(1), &weight, Some(&bias), &padded, &mut expected);
        ops::relu(&mut expected);
        expected.iter_mut().for_each(|x| *x = x.tanh());
        let there = gpu.upload(|up| up.columns(&weight, from..width));
        let y = gpu.poisoned(rows * outputs);
        gpu.kernels.gemm(&gpu.stream, &there, Some(&gpu.put(&bias)), Finish::Tanh, &gpu.put(&x), &y).unwrap();
        assert_near(&gpu.get(&y), &expected, &format!("{rows} rows, columns from {from} of {width}"));
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn layer_norm() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(56));
    for (rows, width) in [(1, 1), (5, 3), (2, 33), (16, 128), (251, 512), (3, 3001)] {
        let what = format!("{rows} rows of {width}");
        let (x, weight, bias) = (numbers.some(rows * width), numbers.some(width), numbers.some(width));
        let mut expected = x.clone();
        ops::layer_norm(&threads(1), &mut expected, &weight, &bias, 1e-5);
        let norm = [gpu.put(&weight), gpu.put(&bias)];
        let (there, y) = (gpu.put(&x), gpu.poisoned(x.len()));
        gpu.kernels.layer_norm(&gpu.stream, &there, [&norm[0], &norm[1]], 1e-5, &y).unwrap();
        let found = gpu.get(&y);
        assert_near(&found, &expected, &what);
        gpu.kernels.layer_norm(&gpu.stream, &there, [&norm[0], &norm[1]], 1e-5, &there).unwrap();
        assert_same(&gpu.get(&there), &found, "in place");
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn pool() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(57));
    for (rows, channels) in [(1, 1), (5, 3), (31, 33), (33, 32), (938, 96), (70, 1536)] {
        // Far from zero, where squares that are not of what is left would cancel.
        let x: Vec<f32> = numbers.some(rows * channels).iter().map(|x| x + 30.0).collect();
        let scores: Vec<f32> = numbers.some(rows * channels).iter().map(|x| 20.0 * x).collect();
        for weighted in [false, true] {
            let mut expected = vec![f32::NAN; 2 * channels];
            for c in 0..channels {
                let column = |of: &[f32]| -> Vec<f32> { of.iter().skip(c).step_by(channels).copied().collect() };
                let mut weights = column(&scores);
                match weighted {
                    true => ops::softmax(&mut weights),
                    false => weights.fill(1.0 / rows as f32),
                }
                let pairs: Vec<(f64, f64)> =
                    column(&x).into_iter().zip(weights).map(|(x, w)| (x.into(), w.into())).collect();
                let all: f64 = pairs.iter().map(|(_, w)| w).sum();
                let mean = pairs.iter().map(|(x, w)| w * x).sum::<f64>() / all;
                let square = pairs.iter().map(|(x, w)| w * (x - mean).powi(2)).sum::<f64>() / all;
                (expected[c], expected[channels + c]) = (mean as f32, square.max(1e-12).sqrt() as f32);
            }
            let y = gpu.poisoned(2 * channels);
            let there = gpu.put(&scores);
            gpu.kernels.pool(&gpu.stream, &gpu.put(&x), weighted.then_some(&there), &y).unwrap();
            let (found, what) = (gpu.get(&y), format!("{rows} rows of {channels}, weighted {weighted}"));
            assert_near(&found[..channels], &expected[..channels], &format!("{what}: means"));
            // What is left of numbers around 30 has their last bit: 2e-6.
            for (a, b) in found[channels..].iter().zip(&expected[channels..]) {
                assert!((a - b).abs() <= 1e-5, "{what}: deviation {a}, expected {b}");
            }
        }
        let with_nan: Vec<f32> = x.iter().enumerate().map(|(i, x)| if i == 0 { f32::NAN } else { *x }).collect();
        let y = gpu.poisoned(2 * channels);
        gpu.kernels.pool(&gpu.stream, &gpu.put(&with_nan), None, &y).unwrap();
        let found = gpu.get(&y);
        assert!(found[0].is_nan() && found[channels].is_nan(), "what is not finite is found");
        assert_eq!(found.iter().filter(|x| x.is_nan()).count(), 2);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn gate() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(58));
    for (rows, width) in [(1, 1), (3, 7), (131, 512)] {
        let (x, base) = (numbers.some(rows * width), numbers.some(rows * width));
        let gates: Vec<f32> = numbers.some(width).iter().map(|g| 10.0 * g).collect();
        let share = |g: f32| 1.0 / (1.0 + (-g).exp());
        let pairs = x.iter().zip(gates.iter().cycle());
        let expected: Vec<f32> = pairs.zip(&base).map(|((x, g), base)| x * share(*g) + base).collect();
        let there = gpu.put(&base);
        gpu.kernels.gate(&gpu.stream, &gpu.put(&x), &gpu.put(&gates), &there, &there).unwrap();
        assert_near(&gpu.get(&there), &expected, &format!("{rows} rows of {width}"));
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn nearest() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(59));
    for (rows, width, frames) in [(1, 1, 1), (5, 3, 2), (64, 16, 37), (2048, 256, 5), (100, 33, 140)] {
        let what = format!("{frames} frames, {rows} rows of {width}");
        let mut tables = numbers.some(16 * rows * width);
        let x = numbers.some(frames * 2 * width);
        // The first of equals: the second half of the first group's table is the first half again.
        let half = rows / 2 * width;
        tables.copy_within(..half, half);
        let codes = gpu.poisoned(frames * 16);
        gpu.kernels.nearest(&gpu.stream, &gpu.put(&x), &gpu.put(&tables), width, &codes).unwrap();
        let found: Vec<u32> = gpu.get(&codes);
        for (x, codes) in x.chunks_exact(2 * width).zip(found.chunks_exact(16)) {
            let mut left = vec![0.0; width];
            for (group, &code) in codes.iter().enumerate() {
                if group <= 1 {
                    left.copy_from_slice(&x[group * width..][..width]);
                }
                let table = &tables[group * rows * width..][..rows * width];
                let mut apart = vec![f32::NAN; rows];
                ops::distances(&threads(1), table, width, &left, &mut apart);
                let least = apart.iter().copied().fold(f32::INFINITY, f32::min);
                let found = apart[code as usize];
                assert!(found - least <= 1e-5 * least, "{what}: group {group} has {found}, the nearest is {least}");
                let same = |row: &[f32]| row == &table[code as usize * width..][..width];
                let first = table.chunks_exact(width).position(same);
                assert_eq!(first, Some(code as usize), "{what}: group {group} has a later one of equals");
                left.iter_mut().zip(&table[code as usize * width..]).for_each(|(x, row)| *x -= row);
            }
        }
        // What is not finite is found, in its frame alone.
        let mut bad = x.clone();
        bad[(2 * frames - 1) * width] = f32::NAN;
        gpu.kernels.nearest(&gpu.stream, &gpu.put(&bad), &gpu.put(&tables), width, &codes).unwrap();
        let again: Vec<u32> = gpu.get(&codes);
        let (before, last) = again.split_at(16 * (frames - 1) + 1);
        assert_eq!(before, &found[..before.len()], "{what}");
        assert!(last.iter().all(|&code| code == args::NO_CODE), "{what}: {last:?}");
    }
}
