//! The one thread that owns the backend. It hears callers, admits streams to slots, gives the backend what each utterance
//! can have next, and each utterance what was done of it.

use super::inbox::{Inbox, StreamId};
use super::utterance::{New, Utterance};
use crate::backend::{Backend, Did, Done};
use crate::error::Error;
use crate::frame::End;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The worker's memory.
pub struct Worker {
    backend: Box<dyn Backend>,
    inbox: Arc<Inbox<New>>,
    max_positions: usize,
    streams: BTreeMap<StreamId, Utterance>,
    /// Who holds each slot.
    slots: Vec<Option<StreamId>>,
    /// Streams whose prompt is ready, in that order.
    queue: VecDeque<StreamId>,
    /// Pieces of work that the backend has.
    under_way: usize,
}

impl Worker {
    pub fn new(backend: Box<dyn Backend>, inbox: Arc<Inbox<New>>, max_positions: usize, slots: usize) -> Worker {
        let streams = BTreeMap::new();
        Worker {
            backend,
            inbox,
            max_positions,
            streams,
            slots: vec![None; slots],
            queue: VecDeque::new(),
            under_way: 0,
        }
    }

    /// Until the engine is closed.
    pub fn run(&mut self) {
        let mut done = Vec::new();
        loop {
            let news = match self.under_way {
                0 => self.inbox.wait(self.deadline()),
                _ => self.inbox.take(),
            };
            let opened: Vec<StreamId> = news.opened.iter().map(|(id, _)| *id).collect();
            self.streams.extend(news.opened.into_iter().map(|(id, new)| (id, Utterance::new(new))));
            if news.closed.is_some() {
                return; // dropping what lives ends it
            }
            for id in opened.into_iter().chain(news.noted) {
                self.hear(id);
            }
            let now = Instant::now();
            let due = |utterance: &Utterance| utterance.pad_at.is_some_and(|at| at <= now);
            let due: Vec<StreamId> =
                self.streams.iter().filter(|(_, utterance)| due(utterance)).map(|(id, _)| *id).collect();
            due.into_iter().for_each(|id| self.advance(id));
            self.admit();
            if self.under_way > 0 {
                let wait = self.deadline().map_or(LONGEST_POLL, |d| d.saturating_duration_since(now));
                if let Err(error) = self.backend.poll(wait.min(LONGEST_POLL), &mut done) {
                    return self.inbox.close(error);
                }
                done.drain(..).for_each(|done| self.take(done));
                self.admit();
            }
        }
    }

    /// When padding is due somewhere.
    fn deadline(&self) -> Option<Instant> {
        self.streams.values().filter_map(|utterance| utterance.pad_at).min()
    }

    /// Takes a stream's news: text, or that nobody wants it.
    fn hear(&mut self, id: StreamId) {
        let Some(utterance) = self.streams.get_mut(&id) else { return };
        match utterance.new.ring.take_text() {
            None => utterance.over = true,
            Some(text) if utterance.end.is_none() && !utterance.over => {
                match utterance.hear(text) {
                    Ok(true) => {}
                    Ok(false) => self.inbox.notify(id), // the rest once others have had their turn
                    Err(error) => utterance.fail(error),
                }
                let prompt = &utterance.new.prompt;
                let (tokens, missing) = (prompt.text_tokens(), prompt.missing_tokens());
                utterance.new.ring.note(|stats| (stats.text_tokens, stats.missing_tokens) = (tokens, missing));
            }
            Some(_) => {}
        }
        self.advance(id);
    }

    /// Starts whatever a stream can have next.
    fn advance(&mut self, id: StreamId) {
        let Some(utterance) = self.streams.get_mut(&id) else { return };
        // The news of a cancel may lie in the inbox behind the work that was just done: no frame is begun meanwhile.
        utterance.over |= utterance.new.ring.is_closed();
        if utterance.slot.is_none() && !utterance.over {
            match utterance.make_ready() {
                Ok(true) => self.queue.push_back(id),
                Ok(false) => {}
                Err(error) => utterance.fail(error),
            }
        }
        if let (Some(slot), false) = (utterance.slot, utterance.over) {
            for work in utterance.next_work(self.max_positions, self.backend.frames_ahead(), self.backend.hasty()) {
                self.under_way += 1;
                utterance.under_way += 1;
                if let Err(error) = self.backend.submit(slot, work) {
                    return self.inbox.close(error);
                }
            }
        }
        if utterance.is_done() {
            self.retire(id);
        }
    }

    /// Gives free slots to the streams that have waited longest.
    fn admit(&mut self) {
        while let Some(slot) = self.slots.iter().position(Option::is_none)
            && let Some(id) = self.queue.pop_front()
        {
            let Some(utterance) = self.streams.get_mut(&id) else { continue };
            self.slots[slot] = Some(id);
            utterance.slot = Some(slot);
            self.count();
            self.advance(id);
        }
    }

    fn count(&self) {
        self.inbox.set_speaking(self.slots.iter().flatten().count());
    }

    /// Takes what the backend has done.
    fn take(&mut self, Done { slot, what }: Done) {
        // What came in one go with the end of its stream is of no interest any more.
        let Some(id) = self.slots[slot] else { return };
        let Some(utterance) = self.streams.get_mut(&id) else { return };
        // A failure may be of no work in particular, and ends the stream with all that it has under way.
        if !matches!(what, Did::Failed(_)) {
            self.under_way -= 1;
            utterance.under_way -= 1;
        }
        if let Err(error) = utterance.take(what) {
            utterance.fail(error);
        }
        self.advance(id);
    }

    /// Forgets a stream that has come to its end.
    fn retire(&mut self, id: StreamId) {
        let Some(utterance) = self.streams.remove(&id) else { return };
        self.queue.retain(|&waits| waits != id);
        if let Some(slot) = utterance.slot {
            self.under_way -= utterance.under_way;
            self.slots[slot] = None;
            if let Err(error) = self.backend.release(slot) {
                self.inbox.close(error);
            }
        }
        self.count();
        utterance.new.ring.released();
    }
}

/// The worker is woken for all there is; this is for a backend that loses a piece of work.
const LONGEST_POLL: Duration = Duration::from_secs(1);

impl Drop for Worker {
    /// Also where a panic ends the worker: no reader waits for ever.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.inbox.close(Error::compute("engine", "its working thread failed"));
        }
        let news = self.inbox.take();
        self.streams.extend(news.opened.into_iter().map(|(id, new)| (id, Utterance::new(new))));
        for utterance in self.streams.values() {
            match &news.closed {
                Some(Error::Closed) => utterance.new.ring.cancel(),
                why => utterance.new.ring.finish(End::Failed, why.clone()),
            }
        }
        self.inbox.set_speaking(0);
    }
}
