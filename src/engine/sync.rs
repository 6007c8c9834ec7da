//! The locks of the engine: std's, or loom's where its tests look at every order of events.

#[cfg(qwentts_loom)]
pub use loom::sync::{Condvar, Mutex, MutexGuard, atomic::AtomicUsize};
#[cfg(not(qwentts_loom))]
pub use std::sync::{Condvar, Mutex, MutexGuard, atomic::AtomicUsize};

use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Locks. A panic elsewhere while it was held is no reason for a second one: every change under our locks is whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a notification; until `deadline` at most, where there is one.
pub fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, deadline: Option<Instant>) -> MutexGuard<'a, T> {
    match deadline {
        None => condvar.wait(guard).unwrap_or_else(PoisonError::into_inner),
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
            condvar.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
        }
    }
}
