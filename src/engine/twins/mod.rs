//! Would catch a kernel that does not compute what the reference's function of the same name does, at any size, whatever is
//! computed beside it. Inputs are fresh numbers, outputs are poisoned before. This file has what the families' tests share.
//!
//! How near is near: sums have another order than the reference's, and that is all. A sum's chain in a lane is at most some
//! hundred long and errs by about the root of that in units of 2^-24, 1e-6 of what it adds up; TOLERANCE is ten times that, of
//! the largest output. What has no sum in another order must have the same bits.

mod attention;
mod choices;
mod codec;
mod encoders;
mod matrices;
mod programs;
mod prompts;
#[cfg(not(qwentts_loom))]
mod trouble;

use crate::cuda::kernels::Kernels;
use crate::cuda::upload::{Matrix, Uploader};
use crate::driver::{Context, Event, Graph, Number, Span, Stream};
use crate::error::Result;
use crate::weights::{Dtype, Tensor};
use std::sync::{Arc, OnceLock};

const TOLERANCE: f32 = 1e-5;
const DTYPES: [Dtype; 3] = [Dtype::Bf16, Dtype::F16, Dtype::F32];

/// The device, and how numbers go there and back.
struct Gpu {
    context: Arc<Context>,
    stream: Stream,
    kernels: Arc<Kernels>,
}

impl Gpu {
    fn open() -> Gpu {
        let context = Context::open(0).expect("an NVIDIA GPU");
        let stream = Stream::new(&context).unwrap();
        // One test after another has the same.
        static KERNELS: OnceLock<Arc<Kernels>> = OnceLock::new();
        let kernels = KERNELS.get_or_init(|| Kernels::of(&context, 0).expect("a build with kernels")).clone();
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

    fn get<T: Number + Default>(&self, span: &Span<T>) -> Vec<T> {
        let mut numbers = vec![T::default(); span.len()];
        span.read(&self.stream, &mut numbers).unwrap();
        numbers
    }

    /// What a walk over weights places.
    fn upload<R>(&self, walk: impl Fn(&mut Uploader) -> Result<R>) -> R {
        Uploader::run(&self.stream, &mut |_| {}, walk).unwrap()
    }

    fn matrix(&self, tensor: &Tensor) -> Matrix {
        self.upload(|up| up.matrix(tensor))
    }

    /// As many copies of a matrix as no second-level cache holds.
    fn copies(&self, tensor: &Tensor) -> Vec<Matrix> {
        const BYTES: usize = 600 << 20;
        let count = BYTES / tensor.bytes().len();
        self.upload(|up| (0..count).map(|_| up.matrix(tensor)).collect())
    }

    /// Microseconds of the device that a recording takes: the median of some runs.
    fn median_us(&self, graph: &Graph) -> f64 {
        let [start, end] = [Event::new(&self.context).unwrap(), Event::new(&self.context).unwrap()];
        let mut took: Vec<f32> = (0..12)
            .map(|_| {
                self.stream.record(&start).unwrap();
                graph.launch(&self.stream).unwrap();
                self.stream.record(&end).unwrap();
                end.synchronize().unwrap();
                end.ms_since(&start).unwrap()
            })
            .collect();
        took.sort_by(f32::total_cmp);
        f64::from(took[took.len() / 2]) * 1e3
    }
}

/// The largest of them, without its sign.
fn largest(numbers: &[f32]) -> f32 {
    numbers.iter().fold(0.0, |m, x| m.max(x.abs()))
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f32], what: &str) {
    assert_near_of(1.0, found, expected, what);
}

/// As `assert_near`, for the product of so many sums, each of which may be as far off.
#[track_caller]
fn assert_near_of(sums: f32, found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let (largest, off) = (largest(expected), sums * TOLERANCE);
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= off * largest, "{what}: output {i} is {a}, expected {b}, of {largest} at most");
    }
}

#[track_caller]
fn assert_same(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert_eq!(a.to_bits(), b.to_bits(), "{what}: output {i} is {a:e}, expected {b:e}");
    }
}
