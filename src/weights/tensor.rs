//! A shaped, typed view into a mapped checkpoint file. Knows bytes, no model.

use crate::source::FileBytes;
use std::ops::Range;

/// How a tensor's numbers are stored. Arithmetic is f32 whatever this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    Bf16,
    F16,
    F32,
}

impl Dtype {
    pub fn bytes(self) -> usize {
        match self {
            Dtype::Bf16 | Dtype::F16 => 2,
            Dtype::F32 => 4,
        }
    }
}

/// A storage type whose numbers widen to f32.
pub trait Stored {
    type One: Copy;
    /// All numbers of a byte slice, one by one.
    fn numbers(bytes: &[u8]) -> &[Self::One];
    fn widen(one: Self::One) -> f32;
}

pub struct Bf16;
pub struct F16;
pub struct F32;

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

/// Runs `$body` with `$W` naming the storage type of `$dtype`.
macro_rules! for_dtype {
    ($dtype:expr, $W:ident, $body:expr) => {
        match $dtype {
            $crate::weights::Dtype::Bf16 => {
                type $W = $crate::weights::Bf16;
                $body
            }
            $crate::weights::Dtype::F16 => {
                type $W = $crate::weights::F16;
                $body
            }
            $crate::weights::Dtype::F32 => {
                type $W = $crate::weights::F32;
                $body
            }
        }
    };
}
pub(crate) use for_dtype;

/// A view; cheap to clone. Numbers are little-endian and row-major, at any alignment.
#[derive(Clone)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub dtype: Dtype,
    pub(super) file: FileBytes,
    pub(super) range: Range<usize>,
}

impl Tensor {
    pub fn bytes(&self) -> &[u8] {
        &self.file[self.range.clone()]
    }

    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// All numbers as f32: for the small tensors (norms, biases, scales).
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.elements()];
        widen(self.dtype, self.bytes(), &mut out);
        out
    }

    /// Row `row` (along the first axis) as f32 into `out`, whose length must be the row's.
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        let width = out.len() * self.dtype.bytes();
        widen(self.dtype, &self.bytes()[row * width..][..width], out);
    }
}

#[cfg(test)]
impl Tensor {
    /// A tensor that no file holds, its numbers rounded to `dtype`.
    pub fn made(shape: &[usize], dtype: Dtype, numbers: &[f32]) -> Tensor {
        let bytes: Vec<u8> = match dtype {
            Dtype::F32 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Dtype::Bf16 => numbers.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect(),
            Dtype::F16 => numbers.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect(),
        };
        let range = 0..bytes.len();
        Tensor { shape: shape.to_vec(), dtype, file: FileBytes::owned(bytes), range }
    }
}

fn widen(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    for_dtype!(dtype, W, {
        for (o, &number) in out.iter_mut().zip(W::numbers(bytes)) {
            *o = W::widen(number);
        }
    })
}
