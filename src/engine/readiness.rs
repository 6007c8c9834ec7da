//! What an event loop waits on: a descriptor that is readable while a read would find something.

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use std::sync::Arc;

/// Owns an eventfd whose count is 1 while a read would find something, else 0. Its ring changes it under its own lock, and
/// only where the answer changes, so that a stream that nobody polls makes no system call.
pub struct Readiness {
    fd: Arc<OwnedFd>,
    ready: bool,
}

impl Readiness {
    /// One that is not ready.
    pub fn new() -> std::io::Result<Readiness> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Readiness { fd: Arc::new(fd), ready: false })
    }

    pub fn fd(&self) -> Arc<OwnedFd> {
        self.fd.clone()
    }

    pub fn set(&mut self, ready: bool) {
        if ready == self.ready {
            return;
        }
        self.ready = ready;
        // Neither can fail or wait: the count goes from 0 to 1, or from 1 to 0. A caller who reads the descriptor himself,
        // which he must not, empties it: then there is nothing left to take.
        let _ = match ready {
            true => rustix::io::write(&*self.fd, &1u64.to_ne_bytes()),
            false => rustix::io::read(&*self.fd, &mut [0u8; 8]),
        };
    }
}
