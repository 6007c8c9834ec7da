//! Programs: every operation says what the launch of its name says, to the bit, in any order and beside any others.

use super::{DTYPES, Gpu, assert_same};
use crate::cpu::ops;
use crate::cpu::simd::tests::Numbers;
use crate::cuda::args;
use crate::cuda::kernels::{Attention, Finish, Place, QkNorm, SpeakerMemory, Store};
use crate::cuda::program::{From, List, Meeting, Program};
use crate::cuda::upload::Matrix;
use crate::device::KvNumbers;
use crate::driver::Span;
use crate::weights::{Dtype, Tensor};
use std::mem::offset_of;

const EPS: f32 = 1e-6;

/// What programs meet at, near the end of its count, and a speaker.
struct Stage<'a> {
    gpu: &'a Gpu,
    speaker: SpeakerMemory,
    meeting: Meeting,
}

impl Stage<'_> {
    fn new(gpu: &Gpu) -> Stage<'_> {
        let (speaker, meeting) = (SpeakerMemory::new(&gpu.context).unwrap(), Meeting::new(&gpu.context).unwrap());
        speaker.whole().bytes().fill(&gpu.stream, 0).unwrap();
        meeting.clear(&gpu.stream, u32::MAX - 1000).unwrap();
        Stage { gpu, speaker, meeting }
    }

    fn program(&self, list: List) -> Program {
        // What it touches is held by the tests.
        Program::new(&self.gpu.stream, list, &self.speaker, &self.meeting, Vec::new()).unwrap()
    }

    fn run(&self, list: List) {
        let program = self.program(list);
        program.launch(&self.gpu.kernels, &self.gpu.stream).unwrap();
        self.gpu.stream.synchronize().unwrap();
        assert_eq!(self.fault(), 0);
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
            (8, 10),
            (3072, 1024),
            (17, 9),
            (2048, 1024),
            (264, 31),
            (1024, 6144),
            (1032, 8),
            (70, 34),
            (1, 1),
            (1024, 3072),
            (2056, 2500),
        ] {
            for (rows, normed) in [(1, true), (2, true), (1, false), (2, false)] {
                if rows * inputs * (1 + usize::from(normed)) > args::PROGRAM_WORK as usize {
                    continue;
                }
                let weight = gpu.matrix(&Tensor::made(&[outputs, inputs], dtype, &numbers.some(outputs * inputs)));
                let [x, norm] = [gpu.put(&numbers.some(rows * inputs)), gpu.put(&numbers.some(inputs))];
                let [bias, scale] = [numbers.some(outputs), numbers.some(outputs)].map(|n| gpu.put(&n));
                for kind in 0..4 {
                    let gates = kind == 2 && outputs % 2 == 0;
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
        let mut list = List::new(&gpu.context, stored, KvNumbers::F32);
        for (i, (weight, x, norm, bias, scale, [ours, theirs], normed, kind, gates)) in cases.iter().enumerate() {
            let norm = normed.then_some((norm, EPS));
            let finish = || match kind {
                1 => Finish::Add(Some(scale)),
                2 if *gates => Finish::Gate,
                3 => Finish::Silu,
                _ => Finish::Store,
            };
            let bias = (kind % 2 == 1).then_some(bias);
            gpu.kernels.linear(&gpu.stream, weight, bias, norm, finish(), x, theirs).unwrap();
            if i % 5 == 3 {
                list.wait();
            }
            list.linear(weight, bias, norm, finish(), From::Rows, x, ours);
        }
        list.wait();
        stage.run(list);
        for (i, (_, x, .., [ours, theirs], normed, kind, _)) in cases.iter().enumerate() {
            let what = format!("{i}: {dtype:?}, {} numbers of x, normed {normed}, {kind}", x.len());
            assert_same(&gpu.get(ours), &gpu.get(theirs), &what);
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
        (16, 8, 128, 63, 1, 16, true),
        (16, 8, 128, 64, 1, 16, true),
        (16, 8, 128, 126, 1, 16, true),
        (16, 8, 128, 400, 1, 16, true),
        (16, 8, 128, 3000, 1, 16, true),
        (4, 2, 10, 5, 2, 1, false),
        (6, 3, 66, 300, 1, 3, true),
        (2, 1, 256, 1000, 1, 16, true),
    ] {
        for kv in [KvNumbers::F32, KvNumbers::Bf16] {
            let what = format!("{heads}/{kv_heads} heads of {head_dim}, {rows} behind {past}, {spans} spans, {kv:?}");
            let shape = Attention { heads, kv_heads, head_dim, window: None, spans };
            let (q_width, kv_width, capacity) = (heads * head_dim, kv_heads * head_dim, past + rows);
            let q_norm = gpu.put(&numbers.some(head_dim));
            let k_norm = gpu.put(&numbers.some(head_dim));
            let norm = || normed.then_some(QkNorm { q: &q_norm, k: &k_norm, eps: EPS });
            let turns = ops::turns(head_dim, 1e6, 0..capacity);
            let turns = gpu.put(&turns.iter().flat_map(|&(sin, cos)| [sin, cos]).collect::<Vec<_>>());
            let position = gpu.put(&[past as u32]);
            let given = numbers.some(rows * shape.qkv_width());
            let kept = numbers.some(2 * capacity * kv_width);
            let weight = Tensor::made(&[24, q_width], Dtype::Bf16, &numbers.some(24 * q_width));
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

            let mut list = List::new(&gpu.context, weight.stored(), kv);
            list.attend(&shape, norm(), &turns, &position, &qkv, &store(&ours), &parts, &attended);
            list.wait();
            let from = if spans > 1 { From::Parts } else { From::Rows };
            list.linear(&weight, None, None, Finish::Store, from, &attended, &y);
            list.wait();
            stage.run(list);
            assert_same(&gpu.get(&y), &gpu.get(&their_y), &what);
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert!(gpu.get(ours) == gpu.get(theirs), "{what}: other keys or values");
            }
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn staged_rows_say_what_launches_say() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(43));
    let stage = Stage::new(&gpu);
    for width in [1024, 2048, 72] {
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
        list.linear(&weight, None, normed, Finish::Store, From::Staged, &x, &y);
        list.wait();
        list.norm(&second, &norm, EPS, &hidden);
        list.linear(&weight, None, None, Finish::Store, From::Staged, &hidden, &scores);
        list.wait();
        stage.run(list);
        for (what, ours, theirs) in [
            ("x", &x, &their_x),
            ("y", &y, &their_y),
            ("hidden", &hidden, &their_hidden),
            ("scores", &scores, &their_scores),
        ] {
            assert_same(&gpu.get(ours), &gpu.get(theirs), &format!("{what}, {width} wide"));
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn who_waits_too_long_says_so_and_the_next_runs() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(44));
    let stage = Stage::new(&gpu);
    let weight = gpu.matrix(&Tensor::made(&[512, 512], Dtype::Bf16, &numbers.some(512 * 512)));
    let (x, expected) = (gpu.put(&numbers.some(512)), gpu.poisoned(512));
    gpu.kernels.linear(&gpu.stream, &weight, None, None, Finish::Store, &x, &expected).unwrap();
    let list = |y: &Span<f32>| {
        let mut list = List::new(&gpu.context, weight.stored(), KvNumbers::F32);
        for _ in 0..50 {
            list.linear(&weight, None, None, Finish::Store, From::Rows, &x, y);
            list.wait();
        }
        list.linear(&weight, None, None, Finish::Store, From::Rows, &x, y);
        list
    };
    let y = gpu.poisoned(512);
    let mut hasty = stage.program(list(&y));
    hasty.give_up_after(0);
    for _ in 0..2 {
        hasty.launch(&gpu.kernels, &gpu.stream).unwrap();
        gpu.stream.synchronize().unwrap();
        assert_eq!(stage.fault(), args::FAULT_STUCK);
    }
    stage.speaker.whole().bytes().fill(&gpu.stream, 0).unwrap();
    stage.meeting.clear(&gpu.stream, 0).unwrap();
    for _ in 0..3 {
        y.fill(&gpu.stream, 0xff).unwrap();
        stage.run(list(&y));
        assert_same(&gpu.get(&y), &gpu.get(&expected), "after it got stuck");
    }
}
