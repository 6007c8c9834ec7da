//! Weights to the device, once, all in one block. Owns every repacking of them.

use super::args;
use crate::driver::{Buffer, Number, Span, Stream};
use crate::error::Result;
use crate::weights::{self, Dtype, Tensor};
use std::borrow::Cow;
use std::ops::Range;

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
        self.fill(&span, numbers)?;
        Ok(span)
    }

    /// Fills room with these numbers, made only when they are placed.
    fn fill<'n, T: Number>(&mut self, room: &Span<T>, numbers: impl FnOnce() -> Cow<'n, [T]>) -> Result<()> {
        if !self.counting {
            room.write(self.stream, &numbers())?;
            (self.progress)((room.len() * size_of::<T>()).next_multiple_of(ALIGNMENT));
        }
        Ok(())
    }

    pub fn floats(&mut self, numbers: &[f32]) -> Result<Span<f32>> {
        self.made(numbers.len(), || numbers.into())
    }

    /// These numbers, so many times one behind the other.
    pub fn repeated(&mut self, numbers: &[f32], times: usize) -> Result<Span<f32>> {
        self.made(numbers.len() * times, || numbers.repeat(times).into())
    }

    /// [rows][width] as [width][rows].
    pub fn turned(&mut self, numbers: &[f32], width: usize) -> Result<Span<f32>> {
        let columns = || (0..width).flat_map(|column| numbers.iter().skip(column).step_by(width)).copied().collect();
        self.made(numbers.len(), columns)
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
            all => all.iter().map(|tensor| bytes_as(tensor, dtype)).collect::<Vec<_>>().concat().into(),
        })?;
        Ok(Matrix { numbers, dtype, rows, width })
    }

    /// Some columns of a matrix, in f32.
    pub fn columns(&mut self, tensor: &Tensor, columns: Range<usize>) -> Result<Matrix> {
        let (matrix, floats) = Matrix::of_floats(self, tensor.shape[0], columns.len());
        let rows =
            || tensor.to_f32().chunks_exact(width(tensor)).flat_map(|row| row[columns.clone()].to_vec()).collect();
        self.fill(&floats, rows)?;
        Ok(matrix)
    }

    /// Matrices with as many rows each, side by side.
    pub fn beside(&mut self, first: &Tensor, second: &Tensor) -> Result<Matrix> {
        self.in_turns(first, second).map(|m| Matrix { rows: m.rows / 2, width: 2 * m.width, ..m })
    }

    /// Two matrices of one shape, row by row in turns.
    pub fn in_turns(&mut self, first: &Tensor, second: &Tensor) -> Result<Matrix> {
        let (dtype, width) = (common(&[first, second]), width(first));
        let rows = 2 * first.shape[0];
        let numbers = self.made(rows * width * dtype.bytes(), || {
            in_turns(&bytes_as(first, dtype), &bytes_as(second, dtype), width * dtype.bytes()).into()
        })?;
        Ok(Matrix { numbers, dtype, rows, width })
    }
}

/// Rows of two matrices, one of each in turns.
fn in_turns(first: &[u8], second: &[u8], row_bytes: usize) -> Vec<u8> {
    let mut rows = Vec::with_capacity(first.len() + second.len());
    for (first, second) in first.chunks_exact(row_bytes).zip(second.chunks_exact(row_bytes)) {
        rows.extend_from_slice(first);
        rows.extend_from_slice(second);
    }
    rows
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
#[derive(Clone)]
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

    /// Blocks that share the inputs of a product with many rows, enough to keep the device busy with few. A row's bits depend
    /// on how many there are, so this is a matter of the matrix alone.
    pub(super) fn slices(&self) -> u32 {
        match self.dtype {
            // The codec's, whose short runs have a few rows, and whose long runs thousands where the inputs are few.
            Dtype::F32 => 1 << (self.width / 384).clamp(1, 8).ilog2(),
            _ if self.rows < 2048 => 8,
            _ => 4,
        }
    }

    /// As kernels know its storage.
    pub fn stored(&self) -> u32 {
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

/// A convolution on the device, in f32: a matrix of [outputs][taps][inputs]. A transposed one is a plain one with `rate` times
/// the outputs, which are a column's `rate` rows one behind the other.
pub(crate) struct Conv {
    pub(super) weight: Matrix,
    pub(super) bias: Span<f32>, // [outputs]
    pub(super) inputs: usize,
    pub(super) taps: usize,
    pub(super) rate: usize,
}

impl Conv {
    pub fn upload(uploader: &mut Uploader, conv: &weights::Conv) -> Result<Conv> {
        let [outputs, inputs, taps] = three(&conv.weight);
        Conv::place(uploader, conv, [outputs, taps, inputs], 1, || by_tap(&conv.weight.to_f32(), inputs, taps))
    }

    /// Row j of a column's `rate` is the product of tap j with the newest input and, where there are twice as many taps, of tap
    /// j + rate with the one before: an output of its own with one tap or two, the oldest first.
    pub fn upload_transposed(uploader: &mut Uploader, conv: &weights::Conv, rate: usize) -> Result<Conv> {
        let [inputs, channels, all] = three(&conv.weight);
        let sizes = [channels * rate, all / rate, inputs];
        Conv::place(uploader, conv, sizes, rate, || by_row_and_tap(&conv.weight.to_f32(), [channels, all], rate))
    }

    /// One that keeps an output of `stride`, with twice as many taps: two taps of rows that are `stride` inputs side by side.
    pub fn upload_strided(uploader: &mut Uploader, conv: &weights::Conv, stride: usize) -> Result<Conv> {
        let [outputs, inputs, taps] = three(&conv.weight);
        let sizes = [outputs, taps / stride, stride * inputs];
        Conv::place(uploader, conv, sizes, 1, || by_tap(&conv.weight.to_f32(), inputs, taps))
    }

    /// One with a single tap, whose inputs lie in so many pieces, all rows of one behind all rows of another: each is a tap, as
    /// far from the next as there are rows.
    pub fn upload_pieces(uploader: &mut Uploader, conv: &weights::Conv, pieces: usize) -> Result<Conv> {
        let [outputs, inputs, _] = three(&conv.weight);
        Conv::place(uploader, conv, [outputs, pieces, inputs / pieces], 1, || conv.weight.to_f32())
    }

    fn place(
        uploader: &mut Uploader,
        conv: &weights::Conv,
        [outputs, taps, inputs]: [usize; 3],
        rate: usize,
        numbers: impl FnOnce() -> Vec<f32>,
    ) -> Result<Conv> {
        let (weight, floats) = Matrix::of_floats(uploader, outputs, taps * inputs);
        uploader.fill(&floats, || numbers().into())?;
        let bias = uploader.repeated(&conv.bias, rate)?;
        Ok(Conv { weight, bias, inputs, taps, rate })
    }

    /// Rows of the tail that it wants.
    pub fn past(&self, dilation: usize) -> usize {
        (self.taps - 1) * dilation
    }
}

/// SnakeBeta on the device, for rows of `rate` times its channels.
pub(crate) struct Snake {
    pub(super) alpha: Span<f32>,
    pub(super) inv_beta: Span<f32>,
}

impl Snake {
    pub fn upload(uploader: &mut Uploader, snake: &weights::SnakeBeta, rate: usize) -> Result<Snake> {
        Ok(Snake { alpha: uploader.repeated(&snake.alpha, rate)?, inv_beta: uploader.repeated(&snake.inv_beta, rate)? })
    }
}

/// [outputs][inputs][taps] as [outputs][taps][inputs].
fn by_tap(from: &[f32], inputs: usize, taps: usize) -> Vec<f32> {
    let mut to = Vec::with_capacity(from.len());
    for output in from.chunks_exact(inputs * taps) {
        for tap in 0..taps {
            to.extend(output.iter().skip(tap).step_by(taps));
        }
    }
    to
}

/// [inputs][channels][taps of each] as [rate][channels][taps of each / rate][inputs], the oldest tap first.
fn by_row_and_tap(from: &[f32], [channels, all]: [usize; 2], rate: usize) -> Vec<f32> {
    let mut to = Vec::with_capacity(from.len());
    for (row, channel) in (0..rate).flat_map(|row| (0..channels).map(move |channel| (row, channel))) {
        for tap in (0..all / rate).rev() {
            to.extend(from.iter().skip(channel * all + tap * rate + row).step_by(channels * all));
        }
    }
    to
}

fn three(tensor: &Tensor) -> [usize; 3] {
    [tensor.shape[0], tensor.shape[1], tensor.shape[2]]
}

#[cfg(test)]
mod tests {
    //! Would catch: a weight that is repacked to another place than kernels read it from. Needs no GPU.
    use super::*;

    #[test]
    fn a_convolutions_inputs_stand_side_by_side_for_each_tap() {
        let (outputs, inputs, taps) = (2, 3, 4);
        let from: Vec<f32> = (0..outputs * inputs * taps).map(|i| i as f32).collect();
        let to = by_tap(&from, inputs, taps);
        for (i, number) in to.iter().enumerate() {
            let (output, tap, input) = (i / (taps * inputs), i / inputs % taps, i % inputs);
            assert_eq!(*number, from[(output * inputs + input) * taps + tap], "{output} {tap} {input}");
        }
        assert_eq!(to.len(), from.len());
    }

    #[test]
    fn a_transposed_convolutions_rows_are_outputs_of_their_own() {
        for (inputs, channels, rate, overlap) in [(3, 2, 4, 2), (2, 3, 2, 1)] {
            let all = rate * overlap;
            let from: Vec<f32> = (0..inputs * channels * all).map(|i| i as f32).collect();
            let to = by_row_and_tap(&from, [channels, all], rate);
            for (i, number) in to.iter().enumerate() {
                let (output, tap, input) = (i / (overlap * inputs), i / inputs % overlap, i % inputs);
                let (row, channel) = (output / channels, output % channels);
                // The last tap meets the newest input, which the stored taps from 0 on are for.
                let stored = (overlap - 1 - tap) * rate + row;
                assert_eq!(*number, from[(input * channels + channel) * all + stored], "{row} {channel} {tap} {input}");
            }
            assert_eq!(to.len(), from.len());
        }
    }

    #[test]
    fn rows_come_in_turns() {
        assert_eq!(in_turns(&[1, 2, 3, 4], &[5, 6, 7, 8], 2), [1, 2, 5, 6, 3, 4, 7, 8]);
    }
}
