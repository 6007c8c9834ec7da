//! Memory that kernels see: a block, owned once, and typed spans of it, which keep it alive.

use super::{Context, Stream, ask, sys};
use crate::error::{Error, Result};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A number that host and device store alike: any bytes are one.
///
/// # Safety
/// Without padding, and every pattern of bits is a value.
pub(crate) unsafe trait Number: Copy + 'static {}
// SAFETY, of each: a plain number.
unsafe impl Number for u8 {}
// SAFETY: as above.
unsafe impl Number for u32 {}
// SAFETY: as above.
unsafe impl Number for u64 {}
// SAFETY: as above.
unsafe impl Number for f32 {}
// SAFETY: as above.
unsafe impl Number for f64 {}

/// A block of memory that kernels see, freed once nothing holds it: neither this, nor a span of it.
#[derive(Clone)]
pub(crate) struct Buffer(Arc<Block>);

pub(super) struct Block {
    pub context: Arc<Context>,
    /// As kernels see it.
    pub address: sys::CUdeviceptr,
    pub bytes: usize,
    /// As this process sees it: pinned memory alone.
    pub host: Option<*mut std::ffi::c_void>,
}

// SAFETY: an address and its owner; nothing here reads through it.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        let Ok(driver) = self.context.enter() else { return };
        // SAFETY: allocated once by the call's counterpart, and nobody holds it any more. Both calls wait for the work
        // that was begun before them, so a kernel under way keeps its memory.
        let _ = match self.host {
            Some(host) => unsafe { ask!(driver, cuMemFreeHost(host)) },
            None if self.address == 0 => return, // a pretence
            None => unsafe { ask!(driver, cuMemFree_v2(self.address)) },
        };
        if self.host.is_none() {
            self.context.allocated_bytes.fetch_sub(self.bytes, Relaxed);
        }
    }
}

impl Buffer {
    /// Memory of the device. What it holds is anything. Where there is too little, the error says how much was asked for.
    pub fn new(context: &Arc<Context>, bytes: usize) -> Result<Buffer> {
        let driver = context.enter()?;
        let mut address = 0;
        // SAFETY: writes one address; the driver refuses zero bytes, so an empty block is one byte.
        unsafe { ask!(driver, cuMemAlloc_v2(&mut address, bytes.max(1))) }.map_err(|e| {
            match (e, context.free_bytes()) {
                (Error::Compute { call, what }, Ok(free)) => Error::compute(
                    call,
                    format!("{what}: {bytes} bytes asked for, {free} free on {}", context.gpu.name),
                ),
                (e, _) => e,
            }
        })?;
        context.allocated_bytes.fetch_add(bytes, Relaxed);
        Ok(Buffer::of(Block { context: context.clone(), address, bytes, host: None }))
    }

    /// No memory at all, whose spans have lengths and nothing else: to count what real ones would take.
    pub fn pretend(context: &Arc<Context>) -> Buffer {
        Buffer::of(Block { context: context.clone(), address: 0, bytes: usize::MAX, host: None })
    }

    pub(super) fn of(block: Block) -> Buffer {
        Buffer(Arc::new(block))
    }

    /// `len` numbers from byte `offset` on. Panics where the block ends before them or the offset is none of T's.
    pub fn span<T: Number>(&self, offset: usize, len: usize) -> Span<T> {
        let end = len.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(offset));
        assert!(end.is_some_and(|end| end <= self.0.bytes), "a span of {len} at {offset} in {} bytes", self.0.bytes);
        assert!(offset.is_multiple_of(align_of::<T>()), "a span at {offset}");
        Span { block: self.clone(), address: self.0.address + offset as u64, len, number: PhantomData }
    }
}

/// A run of numbers in a block, which it keeps alive. As with all memory of a device, who writes and who reads when is for
/// the order of work in streams to say.
pub(crate) struct Span<T> {
    block: Buffer,
    address: sys::CUdeviceptr,
    len: usize,
    number: PhantomData<fn() -> T>,
}

impl<T> Clone for Span<T> {
    fn clone(&self) -> Self {
        Span { block: self.block.clone(), ..*self }
    }
}

impl<T: Number> Span<T> {
    /// A block of its own.
    pub fn new(context: &Arc<Context>, len: usize) -> Result<Span<T>> {
        Ok(Buffer::new(context, len * size_of::<T>())?.span(0, len))
    }

    /// A block of its own, filled.
    pub fn from(stream: &Stream, numbers: &[T]) -> Result<Span<T>> {
        let span = Span::new(stream.context(), numbers.len())?;
        span.write(stream, numbers)?;
        Ok(span)
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The block that it lies in.
    pub fn buffer(&self) -> &Buffer {
        &self.block
    }

    /// Some of it. Panics where it has no such.
    pub fn part(&self, range: Range<usize>) -> Span<T> {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        let address = self.address + (range.start * size_of::<T>()) as u64;
        Span { block: self.block.clone(), address, len: range.len(), number: PhantomData }
    }

    /// The same, byte by byte.
    pub fn bytes(&self) -> Span<u8> {
        Span { block: self.block.clone(), address: self.address, len: self.len * size_of::<T>(), number: PhantomData }
    }

    /// Where kernels find it. No address of this process.
    pub fn ptr(&self) -> *const T {
        self.address as *const T
    }

    /// As `ptr`, for a kernel that writes.
    pub fn ptr_mut(&self) -> *mut T {
        self.address as *mut T
    }

    /// Copies from here to there, after the stream's work so far; waits. Panics unless both are as long.
    pub fn write(&self, stream: &Stream, from: &[T]) -> Result<()> {
        assert_eq!(self.len, from.len());
        let (driver, bytes) = (stream.context().enter()?, size_of_val(from));
        // SAFETY: both are that long, and the wait outlasts the copy, so `from` does too.
        unsafe { ask!(driver, cuMemcpyHtoDAsync_v2(self.address, from.as_ptr().cast(), bytes, stream.raw)) }?;
        stream.synchronize()
    }

    /// Copies from there to here, after the stream's work so far; waits. Panics unless both are as long.
    pub fn read(&self, stream: &Stream, into: &mut [T]) -> Result<()> {
        assert_eq!(self.len, into.len());
        let (driver, bytes) = (stream.context().enter()?, size_of_val(into));
        // SAFETY: as for `write`; any bytes are a number.
        unsafe { ask!(driver, cuMemcpyDtoHAsync_v2(into.as_mut_ptr().cast(), self.address, bytes, stream.raw)) }?;
        stream.synchronize()
    }

    /// Sets every byte, in the stream's order.
    pub fn fill(&self, stream: &Stream, byte: u8) -> Result<()> {
        let (driver, bytes) = (stream.context().enter()?, self.len * size_of::<T>());
        if bytes == 0 {
            return Ok(()); // the driver takes none for a mistake
        }
        // SAFETY: within the span, whose block outlives the work in the stream (Block's drop).
        unsafe { ask!(driver, cuMemsetD8Async(self.address, byte, bytes, stream.raw)) }
    }

    /// Copies from another span, in the stream's order. Panics unless both are as long.
    pub fn copy_from(&self, stream: &Stream, from: &Span<T>) -> Result<()> {
        assert_eq!(self.len, from.len);
        let (driver, bytes) = (stream.context().enter()?, self.len * size_of::<T>());
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: as for `fill`, of both.
        unsafe { ask!(driver, cuMemcpyDtoDAsync_v2(self.address, from.address, bytes, stream.raw)) }
    }
}
