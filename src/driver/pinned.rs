//! Memory of this process that kernels write into directly: where finished frames and samples land.

use super::buffer::Block;
use super::{Buffer, Context, Number, Span, Stream, ask, sys};
use crate::error::{Error, Result};
use std::marker::PhantomData;
use std::sync::Arc;

/// Pinned memory of this process, mapped for the device. Kernels may write while it is read, so reads are volatile and
/// copy; what they hold is whole only once the writer said so: by an event.
pub(crate) struct Pinned<T> {
    buffer: Buffer,
    host: *mut T,
    len: usize,
    number: PhantomData<T>,
}

// SAFETY: memory that it owns; all access is volatile.
unsafe impl<T: Send> Send for Pinned<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Pinned<T> {}

impl<T: Number> Pinned<T> {
    /// Zeroed.
    pub fn new(context: &Arc<Context>, len: usize) -> Result<Pinned<T>> {
        let driver = context.enter()?;
        let bytes = (len * size_of::<T>()).max(1);
        let (mut host, mut address) = (std::ptr::null_mut(), 0);
        let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
        // SAFETY: writes one address.
        unsafe { ask!(driver, cuMemHostAlloc(&mut host, bytes, flags)) }.map_err(|e| match e {
            Error::Compute { call, what } => {
                Error::compute(call, format!("{what}: {bytes} bytes of this process's memory asked for"))
            }
            e => e,
        })?;
        // SAFETY: that memory is ours and that long.
        unsafe { host.cast::<u8>().write_bytes(0, bytes) };
        let mut block = Block { context: context.clone(), address: 0, bytes, host: Some(host) };
        // SAFETY: writes one address, for memory that was mapped.
        unsafe { ask!(driver, cuMemHostGetDevicePointer_v2(&mut address, host, 0)) }?;
        block.address = address;
        Ok(Pinned { buffer: Buffer::of(block), host: host.cast(), len, number: PhantomData })
    }

    /// As kernels see it.
    pub fn span(&self) -> Span<T> {
        self.buffer.span(0, self.len)
    }

    /// Copies in, from `start` on. Panics where it ends before. What kernels read of it must not be under way.
    pub fn write(&mut self, start: usize, from: &[T]) {
        assert!(start <= self.len && from.len() <= self.len - start, "{} at {start} of {}", from.len(), self.len);
        for (i, &number) in from.iter().enumerate() {
            // SAFETY: within the block; volatile, because the device may read it.
            unsafe { self.host.add(start + i).write_volatile(number) };
        }
    }

    /// Copies what stands from `start` on to device memory, in the stream's order: it must stay until then.
    pub fn copy_to(&self, stream: &Stream, start: usize, to: &Span<T>) -> Result<()> {
        assert!(start <= self.len && to.len() <= self.len - start, "{} at {start} of {}", to.len(), self.len);
        let (driver, bytes) = (stream.context().enter()?, to.len() * size_of::<T>());
        if bytes == 0 {
            return Ok(()); // the driver takes none for a mistake
        }
        // SAFETY: both are that long; blocks outlive the work in streams (Block's drop).
        unsafe { ask!(driver, cuMemcpyHtoDAsync_v2(to.ptr() as u64, self.host.add(start).cast(), bytes, stream.raw)) }
    }

    /// Copies device memory here, from `start` on, in the stream's order.
    pub fn copy_from(&self, stream: &Stream, start: usize, from: &Span<T>) -> Result<()> {
        assert!(start <= self.len && from.len() <= self.len - start, "{} at {start} of {}", from.len(), self.len);
        let (driver, bytes) = (stream.context().enter()?, from.len() * size_of::<T>());
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: as for `copy_to`.
        unsafe { ask!(driver, cuMemcpyDtoHAsync_v2(self.host.add(start).cast(), from.ptr() as u64, bytes, stream.raw)) }
    }

    /// Copies out what stands from `start` on. Panics where it ends before.
    pub fn read(&self, start: usize, into: &mut [T]) {
        assert!(start <= self.len && into.len() <= self.len - start, "{} at {start} of {}", into.len(), self.len);
        for (i, to) in into.iter_mut().enumerate() {
            // SAFETY: within the block; volatile, because the device may be writing, and then any number may come.
            *to = unsafe { self.host.add(start + i).read_volatile() };
        }
    }
}
