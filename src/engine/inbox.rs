//! What callers tell the worker: streams opened, streams with news, the end. Owns the bound on open streams.

use super::sync::{AtomicUsize, Condvar, Mutex, MutexGuard, lock, wait};
use crate::backend::Waker;
use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

/// A stream's number, never used again.
pub type StreamId = u64;

/// The worker waits here when nothing is under way. `T`: what a stream is opened with.
pub struct Inbox<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
    /// Streams that have not ended for their callers. Each ring takes its own off.
    pub open: Arc<AtomicUsize>,
    /// Streams at most: those in slots and those that wait for one.
    most: usize,
    /// Ends the worker's wait for its backend.
    wake: Waker,
}

struct State<T> {
    news: News<T>,
    next_id: StreamId,
    speaking: usize,
}

/// What has come since the worker looked last.
pub struct News<T> {
    pub opened: Vec<(StreamId, T)>,
    /// Streams with text, a reader that has caught up, or no more interest. May name one more than once.
    pub noted: Vec<StreamId>,
    /// Why no more streams are taken: those that live are to end.
    pub closed: Option<Error>,
}

/// Streams of an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Opened and not ended.
    pub open: usize,
    /// Streams that hold a slot; one that was cancelled may for the length of a frame.
    pub speaking: usize,
}

impl<T> Inbox<T> {
    pub fn new(most: usize, wake: Waker) -> Inbox<T> {
        let news = News { opened: Vec::new(), noted: Vec::new(), closed: None };
        let state = State { news, next_id: 0, speaking: 0 };
        Inbox { state: Mutex::new(state), arrived: Condvar::new(), open: Arc::new(AtomicUsize::new(0)), most, wake }
    }

    /// Announces a stream. Too many, or a closed engine, are errors.
    pub fn open(&self, new: T) -> Result<StreamId> {
        let mut state = lock(&self.state);
        if let Some(why) = &state.news.closed {
            return Err(why.clone());
        }
        // Nor may streams that were cancelled before the worker has seen them pile up.
        if self.open.load(SeqCst) >= self.most || state.news.opened.len() > self.most {
            let what = format!("all {} streams that it takes are open (slots and queue together)", self.most);
            return Err(Error::Busy { what });
        }
        self.open.fetch_add(1, SeqCst);
        let id = state.next_id;
        state.next_id += 1;
        state.news.opened.push((id, new));
        self.wake(state);
        Ok(id)
    }

    /// A stream has news.
    pub fn notify(&self, id: StreamId) {
        let mut state = lock(&self.state);
        // Many pushes between two looks are one piece of news.
        if state.news.noted.last() != Some(&id) {
            state.news.noted.push(id);
        }
        self.wake(state);
    }

    /// Ends the engine; the first reason stays.
    pub fn close(&self, why: Error) {
        let mut state = lock(&self.state);
        state.news.closed.get_or_insert(why);
        self.wake(state);
    }

    /// Why no more streams are taken.
    pub fn closed(&self) -> Option<Error> {
        lock(&self.state).news.closed.clone()
    }

    /// Has the worker look, wherever it waits.
    fn wake(&self, state: MutexGuard<State<T>>) {
        self.arrived.notify_one();
        drop(state);
        (self.wake)();
    }

    pub fn counts(&self) -> Counts {
        Counts { open: self.open.load(SeqCst), speaking: lock(&self.state).speaking }
    }

    /// For the worker: how many streams hold a slot.
    pub fn set_speaking(&self, speaking: usize) {
        lock(&self.state).speaking = speaking;
    }

    /// For the worker: what has come.
    pub fn take(&self) -> News<T> {
        lock(&self.state).news.take()
    }

    /// For the worker: what has come; waits for something, until `deadline` at most.
    pub fn wait(&self, deadline: Option<Instant>) -> News<T> {
        let mut state = lock(&self.state);
        while state.news.is_empty() && deadline.is_none_or(|d| Instant::now() < d) {
            state = wait(&self.arrived, state, deadline);
        }
        state.news.take()
    }
}

impl<T> News<T> {
    fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.noted.is_empty() && self.closed.is_none()
    }

    fn take(&mut self) -> News<T> {
        let (opened, noted) = (std::mem::take(&mut self.opened), std::mem::take(&mut self.noted));
        News { opened, noted, closed: self.closed.clone() }
    }
}
