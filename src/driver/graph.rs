//! Launches recorded once and replayed as one.

use super::{Buffer, Context, Stream, ask, sys};
use crate::error::Result;
use std::sync::Arc;

/// Recorded work. Addresses and arguments are those of the recording; what changes lies in device memory.
pub(crate) struct Graph {
    context: Arc<Context>,
    raw: sys::CUgraphExec,
    /// What the recorded work touches, so that it outlives this.
    _touched: Vec<Buffer>,
}

// SAFETY: the handle may be used from any thread; every call enters the context first.
unsafe impl Send for Graph {}

impl Graph {
    /// Records what `work` gives the stream, without running it. `touched` are the blocks that it reads and writes.
    pub fn record(stream: &Stream, touched: Vec<Buffer>, work: impl FnOnce() -> Result<()>) -> Result<Graph> {
        let context = stream.context().clone();
        let driver = context.enter()?;
        // Only this thread's forbidden calls spoil the recording: another engine may be loading meanwhile.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is held; the recording ends below, whatever `work` says.
        unsafe { ask!(driver, cuStreamBeginCapture_v2(stream.raw, mode)) }?;
        let worked = work();
        let mut graph = std::ptr::null_mut();
        // SAFETY: writes one handle, null where the recording was spoilt.
        let ended = unsafe { ask!(context.enter()?, cuStreamEndCapture(stream.raw, &mut graph)) };
        let mut raw = std::ptr::null_mut();
        let made = worked.and(ended).and_then(|()| {
            // SAFETY: the graph is whole; writes one handle, destroyed by drop.
            unsafe { ask!(driver, cuGraphInstantiateWithFlags(&mut raw, graph, 0)) }
        });
        if !graph.is_null() {
            // SAFETY: ours, once; what was made of it does not need it.
            let _ = unsafe { ask!(driver, cuGraphDestroy(graph)) };
        }
        made.map(|()| Graph { context, raw, _touched: touched })
    }

    /// Gives all of it to the stream.
    pub fn launch(&self, stream: &Stream) -> Result<()> {
        // SAFETY: the handle is ours, and what the work touches is kept.
        unsafe { ask!(self.context.enter()?, cuGraphLaunch(self.raw, stream.raw)) }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let Ok(driver) = self.context.enter() else { return };
        // SAFETY: ours, once; the driver lets launches under way end.
        let _ = unsafe { ask!(driver, cuGraphExecDestroy(self.raw)) };
    }
}
