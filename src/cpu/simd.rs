//! How the reference uses the machine: threads over outputs, 16 lanes in a sum.
//! Knows no operation.

use crate::error::{Error, Result};
use rayon::prelude::*;

/// Lanes of a sum (`linear`) or positions computed together (convolutions). Part of the recipe: changing it
/// changes the last bit of every result.
pub const LANES: usize = 16;

/// More than any machine has cores; a wrong number is an error and not so many threads.
const MOST_THREADS: usize = 1024;

/// Threads for one reference, and the widest vectors that this machine has.
pub struct Threads {
    pool: rayon::ThreadPool,
    simd: pulp::Arch,
}

impl Threads {
    /// `count` threads; `None` takes one per core.
    pub fn new(count: Option<usize>) -> Result<Threads> {
        if count.is_some_and(|count| !(1..=MOST_THREADS).contains(&count)) {
            let what = format!("is {}; expected 1 to {MOST_THREADS}", count.unwrap_or(0));
            return Err(Error::request("threads", what));
        }
        // Said outright: rayon's own default would read an environment variable.
        let count = count.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|i| format!("qwentts-{i}"))
            .build()
            .map_err(|e| Error::compute("threads", e.to_string()))?;
        Ok(Threads { pool, simd: pulp::Arch::new() })
    }

    pub fn count(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` on the pool, so that the splits inside it cost no hand-over from the caller's thread.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }

    /// Runs small work on this thread.
    pub fn here(&self, piece: &mut [f32], work: impl Fn(usize, &mut [f32])) {
        self.simd.dispatch(Task { work: &work, first: 0, piece });
    }

    /// Cuts `out` into pieces of whole `unit`s and runs `work(first unit, piece)` on each. `cost` is the
    /// multiply-adds of one unit: small work stays on this thread.
    pub fn split(&self, out: &mut [f32], unit: usize, cost: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
        // Some ten microseconds of work, about what handing it over costs.
        const WORTH_A_TASK: usize = 1 << 16;
        let units = out.len() / unit.max(1);
        // A few for each thread, so that one which is held up does not hold up all.
        let tasks = (units * cost / WORTH_A_TASK).clamp(1, 4 * self.count());
        if tasks == 1 {
            return self.here(out, work);
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

/// How wide the vectors are that this machine computes with; 32 where it has none.
pub fn vector_bits() -> usize {
    struct Bits;
    impl pulp::WithSimd for Bits {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _: S) -> usize {
            S::F32_LANES * 32
        }
    }
    pulp::Arch::new().dispatch(Bits)
}

/// sum += a * b, lane by lane, each with one rounding. Written so that it compiles to one vector instruction: the
/// sums live in arrays of fixed length, and nothing between loads and stores depends on a run-time length.
#[inline(always)]
pub fn fma(sum: &mut [f32; LANES], a: &[f32; LANES], b: &[f32; LANES]) {
    for l in 0..LANES {
        sum[l] = a[l].mul_add(b[l], sum[l]);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    //! What the tests of the operations share.
    use super::*;
    use crate::cpu::philox_uniform;

    /// Numbers in -1 .. 1, the same every run.
    pub struct Numbers(u64, usize);

    impl Numbers {
        pub fn new(seed: u64) -> Numbers {
            Numbers(seed, 0)
        }

        pub fn some(&mut self, count: usize) -> Vec<f32> {
            self.1 += 1;
            (0..count).map(|i| (2.0 * philox_uniform(self.0, i, self.1) - 1.0) as f32).collect()
        }
    }

    pub fn threads(count: usize) -> Threads {
        Threads::new(Some(count)).unwrap()
    }
}
