//! Weights to the device, once. Owns every repacking of them.

use super::args;
use crate::driver::{Span, Stream};
use crate::error::Result;
use crate::weights::{self, Dtype, Tensor};

/// A matrix on the device, stored as its file has it: a linear's weight, or a table of rows.
pub(crate) struct Matrix {
    pub(super) numbers: Span<u8>,
    dtype: Dtype,
    pub(super) rows: usize,
    pub(super) width: usize,
}

impl Matrix {
    pub fn upload(stream: &Stream, tensor: &Tensor) -> Result<Matrix> {
        let width = tensor.shape[1..].iter().product();
        let numbers = Span::from(stream, tensor.bytes())?;
        Ok(Matrix { numbers, dtype: tensor.dtype, rows: tensor.shape[0], width })
    }

    /// As kernels know it.
    pub(super) fn stored(&self) -> u32 {
        match self.dtype {
            Dtype::Bf16 => args::STORED_BF16,
            Dtype::F16 => args::STORED_F16,
            Dtype::F32 => args::STORED_F32,
        }
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
