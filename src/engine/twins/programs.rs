//! Programs: every operation says what the launch of its name says, but for the order of sums, in any order and beside any
//! others; and the same bits every time.

use super::{DTYPES, Gpu, assert_near, assert_same};
use crate::cpu::ops;
use crate::cpu::simd::tests::Numbers;
use crate::cuda::args;
use crate::cuda::kernels::{Attention, Finish, Kernels, Place, QkNorm, SpeakerMemory, Store};
use crate::cuda::program::{List, Program};
use crate::cuda::upload::Matrix;
use crate::device::KvNumbers;
use crate::driver::Span;
use crate::weights::{Dtype, Tensor};
use std::mem::offset_of;

const EPS: f32 = 1e-6;

/// A speaker, and what runs for it.
struct Stage<'a> {
    gpu: &'a Gpu,
    kernels: &'a Kernels,
    speaker: SpeakerMemory,
}

impl Stage<'_> {
    fn new(gpu: &Gpu) -> Stage<'_> {
        let speaker = SpeakerMemory::new(&gpu.context).unwrap();
        speaker.whole().bytes().fill(&gpu.stream, 0).unwrap();
        Stage { gpu, kernels: &gpu.kernels, speaker }
    }

    fn program(&self, list: List) -> Program {
        // What it touches is held by the tests.
        Program::new(&self.gpu.stream, list, &self.speaker, Vec::new()).unwrap()
    }

    fn launch(&self, program: &Program) {
        program.launch(self.kernels, &self.gpu.stream).unwrap();
        self.gpu.stream.synchronize().unwrap();
        assert_eq!(self.fault(), 0);
    }

    /// Once, as if it were near the end of its count.
    fn run(&self, list: List) -> Program {
        let program = self.program(list);
        program.clear(&self.gpu.stream, u32::MAX).unwrap();
        self.launch(&program);
        program
    }

    fn fault(&self) -> u32 {
        let bytes = self.gpu.get(&self.speaker.whole().bytes());
        let at = offset_of!(args::Speaker, fault);
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }
}

/// Before the outputs are written: what a sum is added to, or poison.
fn before(gpu: &Gpu, numbers: &mut Numbers, adds: bool, len: usize) -> [Span<f32>; 2] {
    let before = if adds { numbers.some(len) } else { vec![f32::NAN; len] };
    [gpu.put(&before), gpu.put(&before)]
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn matrices_say_what_launches_say() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(41));
    let stage = Stage::new(&gpu);
    for dtype in DTYPES {
        let mut cases = Vec::new();
        // Weights that fit few chunks and many, that every warp has some of or few have, in an order that mixes them.
        for (inputs, outputs) in [
            (1024, 4096),
            (8, 12),
            (3072, 1024),
            (2048, 1024),
            (264, 32),
            (1024, 6144),
            (1032, 8),
            (72, 36),
            (6144, 2048),
            (1024, 3072),
            (2056, 2500),
        ] {
            for (rows, normed) in [(1, true), (2, true), (1, false), (2, false)] {
                if rows * inputs > 6144 || rows * outputs > 6144 {
                    continue;
                }
                let weight = gpu.matrix(&Tensor::made(&[outputs, inputs], dtype, &numbers.some(outputs * inputs)));
                let [x, norm] = [gpu.put(&numbers.some(rows * inputs)), gpu.put(&numbers.some(inputs))];
                let [bias, scale] = [numbers.some(outputs), numbers.some(outputs)].map(|n| gpu.put(&n));
                for kind in 0..4 {
                    let gates = kind == 2 && outputs % 8 == 0;
                    let width = if gates { outputs / 2 } else { outputs };
                    let y = before(&gpu, &mut numbers, kind == 1, rows * width);
                    cases.push((
                        weight.clone(),
                        x.clone(),
                        norm.clone(),
                        bias.clone(),
                        scale.clone(),
                        y,
                        normed,
                        kind,
                        gates,
                    ));
                }
            }
        }
        let stored = cases[0].0.stored();
        // Keys and values are none of its matter.
        let mut list = List::new(&gpu.context, stored, KvNumbers::Bf16);
        for (weight, x, norm, bias, scale, [ours, theirs], normed, kind, gates) in &cases {
            let norm = normed.then_some((norm, EPS));
            let finish = || match kind {
                1 => Finish::Add(Some(scale)),
                2 if *gates => Finish::Gate,
                3 => Finish::Silu,
                _ => Finish::Store,
            };
            let bias = (kind % 2 == 1).then_some(bias);
            gpu.kernels.linear(&gpu.stream, weight, bias, norm, finish(), x, theirs).unwrap();
            list.linear(weight, bias, norm, finish(), x, ours);
        }
        stage.run(list);
        for (i, (_, x, .., [ours, theirs], normed, kind, _)) in cases.iter().enumerate() {
            let what = format!("{i}: {dtype:?}, {} numbers of x, normed {normed}, {kind}", x.len());
            assert_near(&gpu.get(ours), &gpu.get(theirs), &what);
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn attention_says_what_launches_say() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(42));
    let stage = Stage::new(&gpu);
    for (heads, kv_heads, head_dim, past, rows, spans, normed) in [
        (16, 8, 128, 0, 2, 1, true),
        (16, 8, 128, 15, 1, 1, true),
        (16, 8, 128, 0, 1, 16, true),
        (16, 8, 128, 15, 1, 16, true),
        (16, 8, 128, 63, 1, 16, true),
        (16, 8, 128, 64, 1, 16, true),
        (16, 8, 128, 126, 1, 16, true),
        (16, 8, 128, 400, 1, 16, true),
        (16, 8, 128, 3000, 1, 16, true),
        (4, 2, 16, 5, 2, 1, false),
        (6, 3, 64, 40, 2, 1, true),
        (6, 3, 72, 300, 1, 16, true),
        (3, 3, 128, 300, 1, 16, true),
        (24, 6, 128, 257, 1, 16, true),
    ] {
        for (dtype, kv) in DTYPES.into_iter().flat_map(|dtype| [(dtype, KvNumbers::F32), (dtype, KvNumbers::Bf16)]) {
            let heads_and = format!("{heads}/{kv_heads} heads of {head_dim}, {rows} behind {past}");
            let what = format!("{dtype:?}, {heads_and}, {spans} spans, {kv:?}");
            let shape = Attention { heads, kv_heads, head_dim, window: None, spans };
            let (q_width, kv_width, capacity) = (heads * head_dim, kv_heads * head_dim, past + rows);
            let q_norm = gpu.put(&numbers.some(head_dim));
            let k_norm = gpu.put(&numbers.some(head_dim));
            let norm = || normed.then_some(QkNorm { q: &q_norm, k: &k_norm, eps: EPS });
            let turns = ops::turns(head_dim, 1e6, 0..capacity);
            let turns = gpu.put(&turns.iter().flat_map(|&(sin, cos)| [sin, cos]).collect::<Vec<_>>());
            let position = gpu.put(&[past as u32]);
            let given: Vec<f32> =
                numbers.some(rows * shape.qkv_width()).iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect();
            let kept = numbers.some(2 * capacity * kv_width);
            let weight = Tensor::made(&[24, q_width], dtype, &numbers.some(24 * q_width));
            let weight = gpu.matrix(&weight);
            // What was kept, as bytes of either kind: any are numbers, and all are small.
            let kept: Vec<u8> = match kv {
                KvNumbers::F32 => kept.iter().flat_map(|x| x.to_le_bytes()).collect(),
                KvNumbers::Bf16 => kept.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect(),
            };
            let halves = || kept.chunks_exact(kept.len() / 2).map(|half| gpu.put(half)).collect::<Vec<Span<u8>>>();
            let store = |halves: &[Span<u8>]| {
                let place = Place::Run { keys: halves[0].clone(), values: halves[1].clone() };
                Store { numbers: kv, capacity, place }
            };
            let (ours, theirs) = (halves(), halves());
            let [qkv, their_qkv] = [gpu.put(&given), gpu.put(&given)];
            let [parts, their_parts] = [0; 2].map(|_| gpu.poisoned(shape.parts_len(rows)));
            let [attended, their_attended] = [0; 2].map(|_| gpu.poisoned(rows * q_width));
            let [y, their_y] = [0; 2].map(|_| gpu.poisoned(rows * 24));
            let (kernels, stream) = (&gpu.kernels, &gpu.stream);
            kernels.append(stream, &shape, norm(), &turns, &position, &their_qkv, &store(&theirs)).unwrap();
            kernels
                .attention(stream, &shape, &position, 0, &their_qkv, &store(&theirs), &their_parts, &their_attended)
                .unwrap();
            kernels.linear(stream, &weight, None, None, Finish::Store, &their_attended, &their_y).unwrap();

            // What the attention reads, an operation has made: rows of its weight's columns, so that they are as given.
            let width = shape.qkv_width();
            let mut columns = vec![0.0; width * 8];
            (0..rows * width).for_each(|i| columns[i % width * 8 + i / width] = given[i]);
            let columns = gpu.matrix(&Tensor::made(&[width, 8], dtype, &columns));
            let from = gpu.put(&(0..rows * 8).map(|i| f32::from(u8::from(i % 8 == i / 8))).collect::<Vec<_>>());
            let mut list = List::new(&gpu.context, weight.stored(), kv);
            list.linear(&columns, None, None, Finish::Store, &from, &qkv);
            list.attend(&shape, norm(), &turns, &position, &qkv, &store(&ours), &parts, &attended);
            list.linear(&weight, None, None, Finish::Store, &attended, &y);
            stage.run(list);
            assert_near(&gpu.get(&y), &gpu.get(&their_y), &what);
            for (ours, theirs) in ours.iter().zip(&theirs) {
                let numbers = |span: &Span<u8>| -> Vec<f32> {
                    let bytes = gpu.get(span);
                    match kv {
                        KvNumbers::F32 => {
                            bytes.chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect()
                        }
                        KvNumbers::Bf16 => bytes
                            .chunks_exact(2)
                            .map(|x| half::bf16::from_le_bytes(x.try_into().unwrap()).to_f32())
                            .collect(),
                    }
                };
                // A root's last bit may be another's last bit of a bf16.
                let most = if kv == KvNumbers::F32 { 1e-5 } else { 1.0 / 128.0 };
                for (x, y) in numbers(ours).iter().zip(numbers(theirs)) {
                    assert!((x - y).abs() <= most * y.abs().max(0.01), "{what}: kept {x}, not {y}");
                }
            }
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn staged_rows_say_what_launches_say() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(43));
    let stage = Stage::new(&gpu);
    for width in [1024, 520, 72] {
        let mut matrix =
            |rows: usize| gpu.matrix(&Tensor::made(&[rows, width], Dtype::Bf16, &numbers.some(rows * width)));
        let (tables, weight): (Vec<Matrix>, Matrix) = ((0..16).map(|_| matrix(20)).collect(), matrix(40));
        let tables: Vec<&Matrix> = tables.iter().collect();
        let codes = gpu.put(&std::array::from_fn::<u32, 16, _>(|i| (i as u32 * 7) % 20));
        let [vector, norm] = [0; 2].map(|_| gpu.put(&numbers.some(width)));
        let [x, their_x] = [0; 2].map(|_| gpu.poisoned::<f32>(2 * width));
        let [y, their_y] = [0; 2].map(|_| gpu.poisoned::<f32>(80));
        let [hidden, their_hidden] = [0; 2].map(|_| gpu.poisoned::<f32>(width));
        let [scores, their_scores] = [0; 2].map(|_| gpu.poisoned::<f32>(40));
        let rows = |x: &Span<f32>| [x.part(0..width), x.part(width..2 * width)];
        let (kernels, stream) = (&gpu.kernels, &gpu.stream);
        let normed = Some((&norm, EPS));
        // A sum of all with a vector, and a single row; the first choice is code 0.
        let zero = gpu.put(&[0_u32]);
        let [first, second] = rows(&their_x);
        kernels.embed(stream, &tables, &codes, Some(&vector), &first).unwrap();
        kernels.embed(stream, &tables[3..4], &zero, None, &second).unwrap();
        kernels.linear(stream, &weight, None, normed, Finish::Store, &their_x, &their_y).unwrap();
        kernels.rms_norm(stream, &second, &norm, EPS, &their_hidden).unwrap();
        kernels.linear(stream, &weight, None, None, Finish::Store, &their_hidden, &their_scores).unwrap();

        let [first, second] = rows(&x);
        let mut list = List::new(&gpu.context, weight.stored(), KvNumbers::F32);
        // Greedy, of scores that are all zero.
        let nothing = gpu.put(&[0.0_f32; 20]);
        list.sample(&stage.speaker, 2, None, &nothing);
        list.embed(&tables, Some(&codes), Some(&vector), &first, 0);
        list.embed(&tables[3..4], None, None, &second, 1);
        list.linear(&weight, None, normed, Finish::Store, &x, &y);
        // Of what lies in memory: what all blocks left there together is for later launches.
        let copy = gpu.put(&gpu.get(&their_x)[width..]);
        list.norm(&copy, &norm, EPS, &hidden);
        list.linear(&weight, None, None, Finish::Store, &hidden, &scores);
        stage.run(list);
        assert_same(&gpu.get(&x), &gpu.get(&their_x), &format!("x, {width} wide"));
        for (what, ours, theirs) in
            [("y", &y, &their_y), ("hidden", &hidden, &their_hidden), ("scores", &scores, &their_scores)]
        {
            assert_near(&gpu.get(ours), &gpu.get(theirs), &format!("{what}, {width} wide"));
        }
    }
}

/// A chain in which every operation needs all of the one before, and its launches: the widths of both models' layers.
fn chain(gpu: &Gpu, numbers: &mut Numbers, dtype: Dtype, rows: usize) -> (Vec<Matrix>, [Span<f32>; 4]) {
    let mut matrix = |outputs: usize, inputs: usize| {
        let some: Vec<f32> = numbers.some(outputs * inputs).iter().map(|x| x / (inputs as f32).sqrt()).collect();
        gpu.matrix(&Tensor::made(&[outputs, inputs], dtype, &some))
    };
    let weights = vec![matrix(2048, 1024), matrix(1024, 2048), matrix(6144, 1024), matrix(1024, 3072)];
    let (x, wide, gate) = (numbers.some(rows * 1024), gpu.poisoned(rows * 2048), gpu.poisoned(rows * 3072));
    (weights, [gpu.put(&x), wide, gate, gpu.put(&numbers.some(1024))])
}

/// Chains on so many blocks, of either shared memory.
fn chains_say_what_launches_say(gpu: &Gpu, kernels: &Kernels, blocks: u32, seed: u64) {
    let (stage, mut numbers) = (Stage { kernels, ..Stage::new(gpu) }, Numbers::new(seed));
    for (dtype, rows) in DTYPES.into_iter().flat_map(|dtype| [(dtype, 1), (dtype, 2)]) {
        let (weights, [x, wide, gate, norm]) = chain(gpu, &mut numbers, dtype, rows);
        let given = gpu.get(&x);
        let their_x = gpu.put(&given);
        let [last, their_last] = [0; 2].map(|_| gpu.poisoned::<f32>(2048));
        // As a head has it: of more rows, the last.
        let last_of = |x: &Span<f32>| x.part((rows - 1) * 1024..rows * 1024);
        let norm = || Some((&norm, EPS));
        let mut list = List::of_blocks(blocks, weights[0].stored(), KvNumbers::F32);
        let linear = |weight: &Matrix, norm, finish, x: &Span<f32>, y: &Span<f32>| {
            gpu.kernels.linear(&gpu.stream, weight, None, norm, finish, x, y).unwrap();
        };
        for _ in 0..3 {
            list.linear(&weights[0], None, norm(), Finish::Store, &x, &wide);
            list.linear(&weights[1], None, None, Finish::Add(None), &wide, &x);
            list.linear(&weights[2], None, norm(), Finish::Gate, &x, &gate);
            list.linear(&weights[3], None, None, Finish::Add(None), &gate, &x);
            linear(&weights[0], norm(), Finish::Store, &their_x, &wide);
            linear(&weights[1], None, Finish::Add(None), &wide, &their_x);
            linear(&weights[2], norm(), Finish::Gate, &their_x, &gate);
            linear(&weights[3], None, Finish::Add(None), &gate, &their_x);
        }
        list.linear(&weights[0], None, norm(), Finish::Store, &last_of(&x), &last);
        linear(&weights[0], norm(), Finish::Store, &last_of(&their_x), &their_last);
        let program = stage.program(list);
        program.clear(&gpu.stream, u32::MAX - 1).unwrap();
        let mut first = None;
        for turn in 0..10 {
            x.write(&gpu.stream, &given).unwrap();
            [&wide, &gate, &last].into_iter().for_each(|made| made.fill(&gpu.stream, 0xff).unwrap());
            stage.launch(&program);
            let (ours, what) = (gpu.get(&x), format!("{dtype:?}, {blocks} blocks, {rows} rows, launch {turn}"));
            assert_near(&ours, &gpu.get(&their_x), &what);
            assert_near(&gpu.get(&last), &gpu.get(&their_last), &format!("the last of {what}"));
            assert_same(&ours, first.get_or_insert(ours.clone()), &format!("{what} and the first"));
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_chain_says_what_launches_say_and_the_same_bits_every_time() {
    let gpu = Gpu::open();
    chains_say_what_launches_say(&gpu, &gpu.kernels, gpu.context.gpu.multiprocessors, 45);
}

/// Would catch: models that only GPUs as large as the one at hand speak.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn smaller_gpus_say_the_same() {
    let gpu = Gpu::open();
    let few = Kernels::with(&gpu.context, false).unwrap();
    for (blocks, kernels) in [(108, &*gpu.kernels), (82, &few), (58, &few), (24, &few)] {
        chains_say_what_launches_say(&gpu, kernels, blocks, 46 + u64::from(blocks));
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn who_waits_too_long_says_so_and_the_next_runs() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(44));
    let stage = Stage::new(&gpu);
    let (weights, [x, wide, _, _]) = chain(&gpu, &mut numbers, Dtype::Bf16, 1);
    let given = gpu.get(&x);
    let list = |times: usize| {
        let mut list = List::new(&gpu.context, weights[0].stored(), KvNumbers::F32);
        for _ in 0..times {
            list.linear(&weights[0], None, None, Finish::Store, &x, &wide);
            list.linear(&weights[1], None, None, Finish::Store, &wide, &x);
        }
        list
    };
    let mut program = stage.program(list(3));
    stage.launch(&program);
    let expected = gpu.get(&x);
    let again = || {
        x.write(&gpu.stream, &given).unwrap();
        program.launch(&gpu.kernels, &gpu.stream).unwrap();
        gpu.stream.synchronize().unwrap();
    };
    again();
    assert_same(&gpu.get(&x), &expected, "twice");
    program.give_up_after(0);
    for _ in 0..2 {
        x.write(&gpu.stream, &given).unwrap();
        program.launch(&gpu.kernels, &gpu.stream).unwrap();
        gpu.stream.synchronize().unwrap();
        assert_eq!(stage.fault(), args::FAULT_STUCK);
    }
    stage.speaker.whole().bytes().fill(&gpu.stream, 0).unwrap();
    program.give_up_after(20_000_000);
    program.clear(&gpu.stream, 0).unwrap();
    for _ in 0..3 {
        x.write(&gpu.stream, &given).unwrap();
        stage.launch(&program);
        assert_same(&gpu.get(&x), &expected, "after it got stuck");
    }
}
