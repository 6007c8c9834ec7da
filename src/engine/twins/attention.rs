//! What is appended to the keys and values, and attention over them: in runs and in pages, in f32 and in bf16.

use super::{Gpu, assert_near, assert_same};
use crate::cpu::ops;
use crate::cpu::simd::tests::{Numbers, threads};
use crate::cuda::kernels::{Attention, Place, QkNorm, SpeakerMemory, Store};
use crate::device::KvNumbers;
use crate::driver::Span;
use std::ops::Range;

/// As the backend's pages.
const PAGE_POSITIONS: usize = 64;
/// Bytes of a page around the layer's keys and values, which belong to others.
const BEFORE: usize = 256;
const BETWEEN: usize = 512;
const BEHIND: usize = 128;

/// Keys and values on the device, poisoned where none were put.
struct Shelf<'a> {
    gpu: &'a Gpu,
    numbers: KvNumbers,
    kv_width: usize,
    kept: Kept,
}

enum Kept {
    Run { capacity: usize, keys: Span<u8>, values: Span<u8> },
    Pages { pages: Vec<Span<u8>>, speaker: SpeakerMemory },
}

impl Shelf<'_> {
    fn run(gpu: &Gpu, numbers: KvNumbers, kv_width: usize, capacity: usize) -> Shelf<'_> {
        let bytes = capacity * kv_width * size_of_one(numbers);
        let kept = Kept::Run { capacity, keys: gpu.poisoned(bytes), values: gpu.poisoned(bytes) };
        Shelf { gpu, numbers, kv_width, kept }
    }

    /// Pages in another order than that of their addresses, told to a speaker.
    fn pages(gpu: &Gpu, numbers: KvNumbers, kv_width: usize, positions: usize) -> Shelf<'_> {
        let speaker = SpeakerMemory::new(&gpu.context).unwrap();
        speaker.whole().bytes().fill(&gpu.stream, 0xff).unwrap();
        let mut shelf = Shelf { gpu, numbers, kv_width, kept: Kept::Pages { pages: Vec::new(), speaker } };
        let (count, bytes) = (positions.div_ceil(PAGE_POSITIONS), shelf.layer_bytes());
        let bytes = BEFORE + bytes + BETWEEN + bytes + BEHIND;
        let all: Span<u8> = gpu.poisoned(count * bytes);
        let Kept::Pages { pages, speaker } = &mut shelf.kept else { unreachable!() };
        for index in 0..count {
            let at = (count - 1 - index) * bytes;
            pages.push(all.part(at..at + bytes));
            gpu.kernels.put_page(&gpu.stream, speaker, index, &pages[index]).unwrap();
        }
        shelf
    }

    /// A page's keys, or values.
    fn layer_bytes(&self) -> usize {
        PAGE_POSITIONS * self.kv_width * size_of_one(self.numbers)
    }

    fn store(&self) -> Store {
        let numbers = self.numbers;
        match &self.kept {
            Kept::Run { capacity, keys, values } => {
                let place = Place::Run { keys: keys.clone(), values: values.clone() };
                Store { numbers, capacity: *capacity, place }
            }
            Kept::Pages { speaker, .. } => {
                let (keys_at, values_at) = (BEFORE as u64, (BEFORE + self.layer_bytes() + BETWEEN) as u64);
                let place = Place::Pages { list: speaker.pages(), keys_at, values_at };
                Store { numbers, capacity: PAGE_POSITIONS, place }
            }
        }
    }

    /// Keys and values place by place, widened; what else is in the pages is seen to be as it was.
    fn get(&self) -> [Vec<f32>; 2] {
        let get = |span: &Span<u8>| widened(self.numbers, &self.gpu.get(span));
        match &self.kept {
            Kept::Run { keys, values, .. } => [get(keys), get(values)],
            Kept::Pages { pages, .. } => {
                let bytes = self.layer_bytes();
                let (keys_at, values_at) = (BEFORE, BEFORE + bytes + BETWEEN);
                let mut all = [Vec::new(), Vec::new()];
                for page in pages {
                    let mut page = self.gpu.get(page);
                    for (to, at) in all.iter_mut().zip([keys_at, values_at]) {
                        to.extend(widened(self.numbers, &page[at..at + bytes]));
                        page[at..at + bytes].fill(0xff);
                    }
                    assert!(page.iter().all(|&byte| byte == 0xff), "what belongs to other layers");
                }
                all
            }
        }
    }

    /// Puts rows of positions from 0 on; in a run, the later in place of the earlier.
    fn put(&self, keys: &[f32], values: &[f32]) {
        let row_bytes = self.kv_width * size_of_one(self.numbers);
        for (which, rows) in [keys, values].into_iter().enumerate() {
            let bytes = narrowed(self.numbers, rows);
            match &self.kept {
                Kept::Run { capacity, keys, values } => {
                    let mut run = vec![0xff; capacity * row_bytes];
                    for (p, row) in bytes.chunks_exact(row_bytes).enumerate() {
                        run[p % capacity * row_bytes..][..row_bytes].copy_from_slice(row);
                    }
                    [keys, values][which].write(&self.gpu.stream, &run).unwrap();
                }
                Kept::Pages { pages, .. } => {
                    let at = [BEFORE, BEFORE + self.layer_bytes() + BETWEEN][which];
                    for (page, bytes) in pages.iter().zip(bytes.chunks(self.layer_bytes())) {
                        page.part(at..at + bytes.len()).write(&self.gpu.stream, bytes).unwrap();
                    }
                }
            }
        }
    }
}

fn size_of_one(numbers: KvNumbers) -> usize {
    narrowed(numbers, &[0.0]).len()
}

fn narrowed(numbers: KvNumbers, floats: &[f32]) -> Vec<u8> {
    match numbers {
        KvNumbers::F32 => floats.iter().flat_map(|x| x.to_le_bytes()).collect(),
        KvNumbers::Bf16 => floats.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect(),
    }
}

fn widened(numbers: KvNumbers, bytes: &[u8]) -> Vec<f32> {
    match numbers {
        KvNumbers::F32 => bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect(),
        KvNumbers::Bf16 => bytes.as_chunks().0.iter().map(|&x| half::bf16::from_le_bytes(x).to_f32()).collect(),
    }
}

/// As they are once stored.
fn stored(numbers: KvNumbers, floats: &[f32]) -> Vec<f32> {
    widened(numbers, &narrowed(numbers, floats))
}

/// Rows of q, k and v side by side, as a matrix leaves them.
fn side_by_side(shape: &Attention, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
    let (q_width, kv_width) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let kv = k.chunks_exact(kv_width).zip(v.chunks_exact(kv_width));
    q.chunks_exact(q_width).zip(kv).flat_map(|(q, (k, v))| [q, k, v].concat()).collect()
}

/// Their q.
fn queries(shape: &Attention, qkv: &[f32]) -> Vec<f32> {
    let q_width = shape.heads * shape.head_dim;
    qkv.chunks_exact(shape.qkv_width()).flat_map(|row| &row[..q_width]).copied().collect()
}

/// Fresh q, k and v.
struct Rows {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Rows {
    fn new(numbers: &mut Numbers, shape: &Attention, rows: usize) -> Rows {
        let mut some = |heads| numbers.some(rows * heads * shape.head_dim);
        Rows { q: some(shape.heads), k: some(shape.kv_heads), v: some(shape.kv_heads) }
    }

    fn qkv(&self, shape: &Attention, rows: Range<usize>) -> Vec<f32> {
        let part = |all: &[f32], heads| {
            let width = heads * shape.head_dim;
            all[rows.start * width..rows.end * width].to_vec()
        };
        let [k, v] = [&self.k, &self.v].map(|all| part(all, shape.kv_heads));
        side_by_side(shape, &part(&self.q, shape.heads), &k, &v)
    }
}

/// What `append` turns by, on the device.
fn turns(gpu: &Gpu, head_dim: usize, positions: usize) -> Span<f32> {
    let turns = ops::turns(head_dim, 1e6, 0..positions);
    gpu.put(&turns.iter().flat_map(|&(sin, cos)| [sin, cos]).collect::<Vec<_>>())
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
        (2, 1, 256, 60, 9, true),
        (4, 4, 32, 120, 140, true),
    ] {
        let what = format!("{heads}/{kv_heads} heads of {head_dim}, {rows} behind {past}, normed {normed}");
        let shape = Attention { heads, kv_heads, head_dim, window: None, spans: 1 };
        let (q_width, kv_width) = (heads * head_dim, kv_heads * head_dim);
        let fresh = Rows::new(&mut numbers, &shape, rows);
        let [q_norm, k_norm] = [numbers.some(head_dim), numbers.some(head_dim)];
        let norms = [gpu.put(&q_norm), gpu.put(&k_norm)];
        let there_turns = turns(&gpu, head_dim, past + rows);
        let run = |shelf: &Shelf, position: usize, qkv: &[f32]| {
            let (qkv, position) = (gpu.put(qkv), gpu.put(&[position as u32]));
            let norm = normed.then_some(QkNorm { q: &norms[0], k: &norms[1], eps: 1e-6 });
            gpu.kernels.append(&gpu.stream, &shape, norm, &there_turns, &position, &qkv, &shelf.store()).unwrap();
            queries(&shape, &gpu.get(&qkv))
        };

        let (mut expected_q, mut expected_k) = (fresh.q.clone(), fresh.k.clone());
        if normed {
            ops::rms_norm_in_place(&threads(1), &mut expected_q, &q_norm, 1e-6);
            ops::rms_norm_in_place(&threads(1), &mut expected_k, &k_norm, 1e-6);
        }
        let turned = ops::turns(head_dim, 1e6, past..past + rows);
        ops::rope(&mut expected_q, q_width, head_dim, &turned);
        ops::rope(&mut expected_k, kv_width, head_dim, &turned);

        // A run with room for all; the first places are not written.
        let shelf = Shelf::run(&gpu, KvNumbers::F32, kv_width, past + rows + 3);
        let found_q = run(&shelf, past, &fresh.qkv(&shape, 0..rows));
        let [found_k, found_v] = shelf.get();
        let new = past * kv_width..(past + rows) * kv_width;
        match normed {
            true => assert_near(&found_q, &expected_q, &format!("{what}: q")),
            false => assert_same(&found_q, &expected_q, &format!("{what}: q")),
        }
        assert_near(&found_k[new.clone()], &expected_k, &format!("{what}: k"));
        assert_same(&found_v[new.clone()], &fresh.v, &format!("{what}: v"));
        for found in [&found_k, &found_v] {
            let others = found[..new.start].iter().chain(&found[new.end..]);
            assert!(others.into_iter().all(|x| x.is_nan()), "{what}: other positions");
        }

        // Every other way to keep them has these bits, rounded as it stores them, whatever is appended at a time.
        let places = past + rows; // of which the last must be where the run has them
        for numbers in [KvNumbers::F32, KvNumbers::Bf16] {
            let expected = [&found_k, &found_v].map(|all| stored(numbers, &all[new.clone()]));
            let shelves = [
                (Shelf::pages(&gpu, numbers, kv_width, places), "pages"),
                (Shelf::run(&gpu, numbers, kv_width, places), "a run"),
            ];
            for (shelf, kind) in shelves {
                let (first, second) = (rows.div_ceil(3), rows);
                let mut q = run(&shelf, past, &fresh.qkv(&shape, 0..first));
                if second > first {
                    q.extend(run(&shelf, past + first, &fresh.qkv(&shape, first..second)));
                }
                assert_same(&q, &found_q, &format!("{what}: q, cut"));
                for (found, expected) in shelf.get().iter().zip(&expected) {
                    assert_same(&found[new.clone()], expected, &format!("{what}: {kind} in {numbers:?}"));
                    assert!(found[..new.start].iter().all(|x| x.is_nan()), "{what}: {kind}, other positions");
                }
            }
        }

        // A run that is too short: the later in place of the earlier.
        let capacity = (places / 2).max(rows);
        let shelf = Shelf::run(&gpu, KvNumbers::F32, kv_width, capacity);
        run(&shelf, past, &fresh.qkv(&shape, 0..rows));
        for (found, all) in shelf.get().iter().zip([&found_k, &found_v]) {
            for (place, found) in found.chunks_exact(kv_width).enumerate() {
                match (past..past + rows).rev().find(|p| p % capacity == place) {
                    Some(p) => assert_same(found, &all[p * kv_width..][..kv_width], &format!("{what}: in place")),
                    None => assert!(found.iter().all(|x| x.is_nan()), "{what}: no position's place"),
                }
            }
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn attention() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(25));
    for (heads, kv_heads, head_dim, past, rows, window, spans) in [
        (1, 1, 1, 0, 1, None, 1),
        (4, 2, 10, 5, 3, None, 1),
        (4, 2, 10, 7, 4, Some(3), 1),
        (2, 1, 33, 0, 9, Some(4), 2),
        (16, 8, 128, 0, 16, None, 16),
        (16, 8, 128, 15, 2, None, 1),
        (16, 8, 128, 62, 4, None, 16), // where a second span, and a second page, begin
        (16, 8, 128, 126, 4, None, 16),
        (16, 8, 128, 699, 1, None, 16),
        (16, 8, 128, 2000, 3, None, 16),
        (16, 8, 128, 2046, 2, None, 1),
        (16, 16, 64, 200, 8, Some(72), 1),
        (3, 1, 256, 300, 2, Some(290), 4),
        (4, 2, 16, 9000, 2, None, 16),
        (4, 2, 32, 1008, 32, None, 16), // rows whose spans differ: 64 each up to 1024 positions, then 128
    ] {
        let shape = Attention { heads, kv_heads, head_dim, window, spans };
        let (q_width, kv_width, n) = (heads * head_dim, kv_heads * head_dim, past + rows);
        let q = numbers.some(rows * q_width);
        let [keys, values] = [numbers.some(n * kv_width), numbers.some(n * kv_width)];
        // What stands beside q is not looked at: keys and values are those of the store.
        let poison = vec![f32::NAN; rows * kv_width];
        let qkv = side_by_side(&shape, &q, &poison, &poison);
        for kv_numbers in [KvNumbers::F32, KvNumbers::Bf16] {
            let what = format!(
                "{heads}/{kv_heads} heads of {head_dim}, {rows} behind {past}, window {window:?}, {spans} spans, {kv_numbers:?}"
            );
            // What lies beyond, or was overwritten, must not be seen.
            let capacity = window.map_or(n + 5, |window| window + rows - 1);
            let shelf = Shelf::run(&gpu, kv_numbers, kv_width, capacity);
            let pages = Shelf::pages(&gpu, kv_numbers, kv_width, n);
            [&shelf, &pages].iter().for_each(|shelf| shelf.put(&keys, &values));
            // Rows `which`, of which the first stands `behind` positions behind what the device is told.
            let run = |shelf: &Shelf, which: Range<usize>, behind: usize| {
                let position = gpu.put(&[(past + which.start - behind) as u32]);
                let y = gpu.poisoned(which.len() * q_width);
                let qkv = gpu.put(&qkv[which.start * shape.qkv_width()..which.end * shape.qkv_width()]);
                let parts = gpu.poisoned(shape.parts_len(which.len()));
                gpu.kernels
                    .attention(&gpu.stream, &shape, &position, behind, &qkv, &shelf.store(), &parts, &y)
                    .unwrap();
                gpu.get(&y)
            };
            let mut expected = vec![f32::NAN; q.len()];
            let reference = ops::Attention { heads, kv_heads, head_dim, window };
            let [keys, values] = [&keys, &values].map(|floats| stored(kv_numbers, floats));
            ops::attention(&threads(2), &reference, &q, &keys, &values, &mut expected);
            let found = run(&shelf, 0..rows, 0);
            assert_near(&found, &expected, &what);
            assert_same(&run(&pages, 0..rows, 0), &found, &format!("{what}: pages"));
            let alone: Vec<f32> = (0..rows).flat_map(|row| run(&shelf, row..row + 1, 0)).collect();
            assert_same(&alone, &found, &format!("{what}: a row alone"));
            let behind: Vec<f32> = (0..rows).flat_map(|row| run(&pages, row..row + 1, row)).collect();
            assert_same(&behind, &found, &format!("{what}: a row alone, behind the prompt's first"));
        }
    }
}

/// As the talker does it: some rows appended, then they look at all that is there; over pages as over one run.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn pages_are_as_one_run() {
    const PIECES: [usize; 12] = [1, 62, 1, 1, 63, 2, 100, 64, 1, 1, 1, 90];
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(35));
    let positions = PIECES.iter().sum();
    for (heads, kv_heads, head_dim, spans) in [(16, 8, 128, 16), (4, 2, 10, 1), (6, 3, 66, 3)] {
        let shape = Attention { heads, kv_heads, head_dim, window: None, spans };
        let (q_width, kv_width) = (heads * head_dim, kv_heads * head_dim);
        let fresh = Rows::new(&mut numbers, &shape, positions);
        let norms = [gpu.put(&numbers.some(head_dim)), gpu.put(&numbers.some(head_dim))];
        let there_turns = turns(&gpu, head_dim, positions);
        for numbers in [KvNumbers::F32, KvNumbers::Bf16] {
            let speak = |shelf: &Shelf| {
                let (mut q, mut attended) = (Vec::new(), Vec::new());
                let mut at = 0;
                for rows in PIECES {
                    let (qkv, position) = (gpu.put(&fresh.qkv(&shape, at..at + rows)), gpu.put(&[at as u32]));
                    let norm = Some(QkNorm { q: &norms[0], k: &norms[1], eps: 1e-6 });
                    let (store, y) = (shelf.store(), gpu.poisoned(rows * q_width));
                    let parts = gpu.poisoned(shape.parts_len(rows));
                    let (kernels, stream) = (&gpu.kernels, &gpu.stream);
                    kernels.append(stream, &shape, norm, &there_turns, &position, &qkv, &store).unwrap();
                    kernels.attention(stream, &shape, &position, 0, &qkv, &store, &parts, &y).unwrap();
                    q.extend(queries(&shape, &gpu.get(&qkv)));
                    attended.extend(gpu.get(&y));
                    at += rows;
                }
                (q, attended)
            };
            let what = format!("{heads}/{kv_heads} heads of {head_dim}, {spans} spans, {numbers:?}");
            let (run, pages) =
                (Shelf::run(&gpu, numbers, kv_width, positions), Shelf::pages(&gpu, numbers, kv_width, positions));
            let ((q, found), (_, paged)) = (speak(&run), speak(&pages));
            assert_same(&paged, &found, &what);
            // The reference looks at what was stored: that it was stored right is `append`'s to show.
            let [keys, values] = run.get();
            let mut expected = vec![f32::NAN; found.len()];
            let reference = ops::Attention { heads, kv_heads, head_dim, window: None };
            ops::attention(&threads(2), &reference, &q, &keys, &values, &mut expected);
            assert_near(&found, &expected, &what);
        }
    }
}
