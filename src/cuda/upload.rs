//! Weights to the device, once, all in one block. Owns every repacking of them.

use super::args;
use crate::driver::{Buffer, Number, Span, Stream};
use crate::error::Result;
use crate::weights::{self, Dtype, Tensor};
use std::borrow::Cow;

/// Where spans begin: more than any kernel's loads ask for.
const ALIGNMENT: usize = 256;

/// Places weights one behind the other in one block. The same walk runs twice: first to count, then to place.
pub(crate) struct Uploader<'a> {
    pub stream: &'a Stream,
    block: Buffer,
    counting: bool,
    at: usize,
    /// Told how many bytes came to be placed.
    progress: &'a mut dyn FnMut(usize),
}

impl<'a> Uploader<'a> {
    /// How many bytes `walk` would place.
    pub fn count<R>(stream: &'a Stream, walk: impl Fn(&mut Uploader) -> Result<R>) -> Result<usize> {
        let block = Buffer::pretend(stream.context());
        let mut uploader = Uploader { stream, block, counting: true, at: 0, progress: &mut |_| {} };
        walk(&mut uploader)?;
        Ok(uploader.at)
    }

    /// Places what `walk` asks for.
    pub fn run<R>(
        stream: &'a Stream,
        progress: &'a mut dyn FnMut(usize),
        walk: impl Fn(&mut Uploader) -> Result<R>,
    ) -> Result<R> {
        let bytes = Uploader::count(stream, &walk)?;
        let block = Buffer::new(stream.context(), bytes)?;
        walk(&mut Uploader { stream, block, counting: false, at: 0, progress })
    }

    /// Room for so many numbers, which hold anything.
    pub fn room<T: Number>(&mut self, len: usize) -> Span<T> {
        let span = self.block.span(self.at, len);
        self.at += (len * size_of::<T>()).next_multiple_of(ALIGNMENT);
        span
    }

    /// These numbers, made only when they are placed.
    pub fn made<'n, T: Number>(&mut self, len: usize, numbers: impl FnOnce() -> Cow<'n, [T]>) -> Result<Span<T>> {
        let span = self.room(len);
        if !self.counting {
            span.write(self.stream, &numbers())?;
            (self.progress)((len * size_of::<T>()).next_multiple_of(ALIGNMENT));
        }
        Ok(span)
    }

    pub fn floats(&mut self, numbers: &[f32]) -> Result<Span<f32>> {
        self.made(numbers.len(), || numbers.into())
    }

    pub fn matrix(&mut self, tensor: &Tensor) -> Result<Matrix> {
        self.stacked(&[tensor])
    }

    /// Matrices of one width, one below the other.
    pub fn stacked(&mut self, tensors: &[&Tensor]) -> Result<Matrix> {
        let (dtype, width) = (common(tensors), width(tensors[0]));
        let rows = tensors.iter().map(|tensor| tensor.shape[0]).sum();
        let numbers = self.made(rows * width * dtype.bytes(), || match tensors {
            [one] => bytes_as(one, dtype),
            all => all.iter().flat_map(|tensor| bytes_as(tensor, dtype).into_owned()).collect(),
        })?;
        Ok(Matrix { numbers, dtype, rows, width })
    }

    /// Two matrices of one shape, row by row in turns.
    pub fn in_turns(&mut self, first: &Tensor, second: &Tensor) -> Result<Matrix> {
        let (dtype, width) = (common(&[first, second]), width(first));
        let rows = 2 * first.shape[0];
        let numbers = self.made(rows * width * dtype.bytes(), || {
            let (first, second, row) = (bytes_as(first, dtype), bytes_as(second, dtype), width * dtype.bytes());
            let pairs = first.chunks_exact(row).zip(second.chunks_exact(row));
            pairs.flat_map(|(first, second)| [first, second]).flatten().copied().collect()
        })?;
        Ok(Matrix { numbers, dtype, rows, width })
    }
}

/// The storage that all have, else f32.
fn common(tensors: &[&Tensor]) -> Dtype {
    let first = tensors[0].dtype;
    if tensors.iter().all(|tensor| tensor.dtype == first) { first } else { Dtype::F32 }
}

fn width(tensor: &Tensor) -> usize {
    tensor.shape[1..].iter().product()
}

fn bytes_as(tensor: &Tensor, dtype: Dtype) -> Cow<'_, [u8]> {
    match tensor.dtype == dtype {
        true => tensor.bytes().into(),
        false => tensor.to_f32().iter().flat_map(|number| number.to_le_bytes()).collect(),
    }
}

/// A matrix on the device: a linear's weight, or a table of rows.
pub(crate) struct Matrix {
    pub(super) numbers: Span<u8>,
    pub(super) dtype: Dtype,
    pub(super) rows: usize,
    pub(super) width: usize,
}

impl Matrix {
    /// A table in f32 that is computed on the device.
    pub fn of_floats(uploader: &mut Uploader, rows: usize, width: usize) -> (Matrix, Span<f32>) {
        let floats: Span<f32> = uploader.room(rows * width);
        (Matrix { numbers: floats.bytes(), dtype: Dtype::F32, rows, width }, floats)
    }

    /// As kernels know its storage.
    pub(super) fn stored(&self) -> u32 {
        match self.dtype {
            Dtype::Bf16 => args::STORED_BF16,
            Dtype::F16 => args::STORED_F16,
            Dtype::F32 => args::STORED_F32,
        }
    }
}

/// A matrix with its bias.
pub(crate) struct Linear {
    pub weight: Matrix,
    pub bias: Option<Span<f32>>,
}

impl Linear {
    pub fn upload(uploader: &mut Uploader, linear: &weights::Linear) -> Result<Linear> {
        let weight = uploader.matrix(&linear.weight)?;
        let bias = linear.bias.as_deref().map(|bias| uploader.floats(bias)).transpose()?;
        Ok(Linear { weight, bias })
    }
}

/// A convolution on the device, in f32. A transposed one is a plain one with `rate` outputs for each channel.
pub(crate) struct Conv {
    pub(super) weight: Span<f32>, // [outputs, inputs, taps]
    pub(super) bias: Span<f32>,   // [outputs / rate]
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) taps: usize,
    pub(super) rate: usize,
}

impl Conv {
    pub fn upload(stream: &Stream, conv: &weights::Conv) -> Result<Conv> {
        let [outputs, inputs, taps] = three(&conv.weight);
        let (weight, bias) = (Span::from(stream, &conv.weight.to_f32())?, Span::from(stream, &conv.bias)?);
        Ok(Conv { weight, bias, inputs, outputs, taps, rate: 1 })
    }

    /// Sample j of a channel's `rate` is the product of tap j with the newest column and, where there are twice as many taps,
    /// of tap j + rate with the one before: an output of its own with one tap or two, the oldest first.
    pub fn upload_transposed(stream: &Stream, conv: &weights::Conv, rate: usize) -> Result<Conv> {
        let [inputs, channels, all] = three(&conv.weight);
        let (taps, outputs) = (all / rate, channels * rate);
        let from = conv.weight.to_f32();
        let mut weight = Vec::with_capacity(from.len());
        for (channel, j) in (0..channels).flat_map(|c| (0..rate).map(move |j| (c, j))) {
            for (input, tap) in (0..inputs).flat_map(|i| (0..taps).rev().map(move |tap| (i, tap))) {
                weight.push(from[(input * channels + channel) * all + tap * rate + j]);
            }
        }
        let (weight, bias) = (Span::from(stream, &weight)?, Span::from(stream, &conv.bias)?);
        Ok(Conv { weight, bias, inputs, outputs, taps, rate })
    }

    /// Input channels of a chain of multiply-adds: a matter of the layer alone, so that any cutting of time gives the same
    /// bits. Short enough that the layers with few columns keep the device busy.
    pub(super) fn chain(&self) -> usize {
        (args::CONV_CHAIN as usize / self.taps).next_multiple_of(8).min(self.inputs)
    }

    pub(super) fn chains(&self) -> usize {
        self.inputs.div_ceil(self.chain())
    }

    /// Floats that chains leave to be added, for so many columns; none where there is one chain.
    pub fn parts_len(&self, len: usize) -> usize {
        match self.chains() {
            1 => 0,
            chains => chains * self.outputs * len,
        }
    }
}

fn three(tensor: &Tensor) -> [usize; 3] {
    [tensor.shape[0], tensor.shape[1], tensor.shape[2]]
}
