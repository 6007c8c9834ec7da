//! A GPU in use: its context, shared by all that lives on it. Owns which context a thread works in.

use super::{Driver, Gpu, ask, sys};
use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A GPU in use. It is the device's primary context, so that this process's other CUDA users share its memory and modules
/// instead of paying for a second one.
pub(crate) struct Context {
    pub gpu: Gpu,
    /// Device memory that is held through this.
    pub(super) allocated_bytes: AtomicUsize,
    driver: Driver,
    device: sys::CUdevice,
    raw: sys::CUcontext,
}

// SAFETY: the driver's contexts may be used from any thread; `enter` makes this one the calling thread's first.
unsafe impl Send for Context {}
// SAFETY: as above; the driver locks what it changes.
unsafe impl Sync for Context {}

impl Context {
    /// The GPU of this number, in the driver's order.
    pub fn open(index: usize) -> Result<Arc<Context>> {
        let driver = Driver::open()?;
        let devices = driver.devices()?;
        let Some(&device) = devices.get(index) else {
            return Err(Error::compute(
                "device",
                format!("cuda:{index} is not there; the driver has {}", devices.len()),
            ));
        };
        let gpu = driver.gpu(device)?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: writes one handle; given back by drop.
        unsafe { ask!(driver, cuDevicePrimaryCtxRetain(&mut raw, device)) }?;
        Ok(Arc::new(Context { gpu, allocated_bytes: AtomicUsize::new(0), driver, device, raw }))
    }

    /// Makes this context the thread's, which most calls work in. Cheap enough to be said before each: other users of
    /// CUDA on this thread may have chosen theirs in between.
    pub(super) fn enter(&self) -> Result<Driver> {
        // SAFETY: the handle is ours until drop.
        unsafe { ask!(self.driver, cuCtxSetCurrent(self.raw)) }?;
        Ok(self.driver)
    }

    /// Device memory that is held through this context, without the driver's own.
    pub fn allocated_bytes(&self) -> usize {
        self.allocated_bytes.load(Relaxed)
    }

    /// What is free of the GPU's memory, whoever uses the rest.
    pub fn free_bytes(&self) -> Result<u64> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: two numbers written before the call returns.
        unsafe { ask!(self.enter()?, cuMemGetInfo_v2(&mut free, &mut total)) }?;
        Ok(free as u64)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once, released once; everything that used it held an Arc of it.
        let _ = unsafe { ask!(self.driver, cuDevicePrimaryCtxRelease_v2(self.device)) };
    }
}
