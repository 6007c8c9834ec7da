//! Order of work: streams, and events between them.

use super::{Context, ask, sys};
use crate::error::Result;
use std::sync::Arc;

/// Work in order. Independent of other streams, and of what others in this process do.
pub(crate) struct Stream {
    context: Arc<Context>,
    pub(super) raw: sys::CUstream,
}

/// A place in a stream's work, with its time.
pub(crate) struct Event {
    context: Arc<Context>,
    raw: sys::CUevent,
}

// SAFETY, of each: the driver's handles may be used from any thread; every call enters the context first.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Send for Event {}
// SAFETY: as above; asking an event changes nothing, recording one is the driver's to order.
unsafe impl Sync for Event {}

impl Stream {
    /// Its work comes first: where blocks of several streams wait for a place, its are taken.
    pub fn new(context: &Arc<Context>) -> Result<Stream> {
        Stream::create(context, |_, first| first)
    }

    /// Its work gives way to that of the others.
    pub fn behind(context: &Arc<Context>) -> Result<Stream> {
        Stream::create(context, |last, _| last)
    }

    fn create(context: &Arc<Context>, choose: impl FnOnce(i32, i32) -> i32) -> Result<Stream> {
        let driver = context.enter()?;
        let (mut raw, mut last, mut first) = (std::ptr::null_mut(), 0, 0);
        // Not ordered after the process's default stream, which others may fill.
        let flags = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING;
        // SAFETY: writes two numbers, both 0 where a GPU knows no priorities; then one handle, destroyed by drop.
        unsafe {
            ask!(driver, cuCtxGetStreamPriorityRange(&mut last, &mut first))?;
            ask!(driver, cuStreamCreateWithPriority(&mut raw, flags.0, choose(last, first)))?;
        }
        Ok(Stream { context: context.clone(), raw })
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Waits for all its work so far, and says what went wrong in it.
    pub fn synchronize(&self) -> Result<()> {
        // SAFETY: the handle is ours.
        unsafe { ask!(self.context.enter()?, cuStreamSynchronize(self.raw)) }
    }

    /// Marks what the stream has been given so far.
    pub fn record(&self, event: &Event) -> Result<()> {
        // SAFETY: both handles are held.
        unsafe { ask!(self.context.enter()?, cuEventRecord(event.raw, self.raw)) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Ok(driver) = self.context.enter() else { return };
        // SAFETY: ours, once; the driver lets work under way end.
        let _ = unsafe { ask!(driver, cuStreamDestroy_v2(self.raw)) };
    }
}

impl Event {
    pub fn new(context: &Arc<Context>) -> Result<Event> {
        let driver = context.enter()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: writes one handle, destroyed by drop.
        unsafe { ask!(driver, cuEventCreate(&mut raw, sys::CUevent_flags_enum::CU_EVENT_DEFAULT.0)) }?;
        Ok(Event { context: context.clone(), raw })
    }

    /// Whether the work before it is done. Never waits.
    pub fn is_done(&self) -> Result<bool> {
        let driver = self.context.enter()?;
        // SAFETY: the handle is ours.
        match unsafe { driver.0.cuEventQuery(self.raw) } {
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            status => driver.check("cuEventQuery", status).map(|()| true),
        }
    }

    /// Waits for the work before it.
    pub fn synchronize(&self) -> Result<()> {
        // SAFETY: the handle is ours.
        unsafe { ask!(self.context.enter()?, cuEventSynchronize(self.raw)) }
    }

    /// Milliseconds of the device from `earlier` to this; both must be done.
    pub fn ms_since(&self, earlier: &Event) -> Result<f32> {
        let mut ms = 0.0;
        // SAFETY: writes one number; both handles are held.
        unsafe { ask!(self.context.enter()?, cuEventElapsedTime(&mut ms, earlier.raw, self.raw)) }?;
        Ok(ms)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let Ok(driver) = self.context.enter() else { return };
        // SAFETY: ours, once.
        let _ = unsafe { ask!(driver, cuEventDestroy_v2(self.raw)) };
    }
}
