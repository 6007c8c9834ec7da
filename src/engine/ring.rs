//! What one stream's caller and the worker share: text on its way in, sound and frames on their way out, the end.
//! Everything stands under one lock that nobody holds for longer than a copy; the caller waits here, the worker never.

use super::events::{Cursor, Event, Progress, SpokenText};
#[cfg(target_os = "linux")]
use super::readiness::Readiness;
use super::stats::{Stats, ms};
use super::sync::{AtomicUsize, Condvar, Mutex, MutexGuard, lock, wait};
use crate::error::{Error, Result};
use crate::frame::{End, Frame, Sample};
use crate::request::Output;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// How long a read may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// This long.
    AtMost(Duration),
    /// Until there is something or the stream has ended.
    Forever,
}

/// What a read came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Read<T> {
    /// Something was there.
    Got(T),
    /// Nothing within the time.
    NotYet,
    /// All has been read, and no more will come.
    Ended(Ended),
}

/// How an utterance ended, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The reason.
    pub end: End,
    /// Frames that had been made.
    pub frame: usize,
}

/// Samples that became readable together.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// Mono, in -1..1, at the stream's rate.
    pub samples: Vec<f32>,
    /// The frame that it begins with, counted from 0.
    pub first_frame: usize,
    /// How many frames it stands for. With resampling a few of a chunk's samples come with the next one, and the last may
    /// be of the filter alone: 0.
    pub frames: usize,
}

/// Text on its way to the worker.
pub enum Text {
    Piece(String),
    Flush,
    End,
}

/// One stream, between its caller and the worker.
pub struct Ring {
    state: Mutex<State>,
    /// Sound, frames or the end have come.
    news: Condvar,
    output: Output,
    samples_per_frame: usize,
    /// Streams of the engine that have not ended; this one is among them until it has.
    open: Arc<AtomicUsize>,
}

struct State {
    text: Vec<Text>,
    spoken: SpokenText,
    first_text: Option<Instant>,
    chunks: VecDeque<Chunk>,
    /// Samples of the first chunk that have been read.
    read_of_first: usize,
    frames: VecDeque<Frame>,
    read_samples: usize,
    read_frames: usize,
    /// The worker waits until at most this many frames are unread.
    paused_above: Option<usize>,
    /// Since when nobody wants it any more.
    closed: Option<Instant>,
    error: Option<Error>,
    stats: Stats,
    /// For who waits for more than this stream.
    #[cfg(target_os = "linux")]
    readiness: Option<Readiness>,
}

impl State {
    /// Notes when the first of what is read could be read.
    fn note_first(&mut self) {
        if let (Some(first_text), None) = (self.first_text, self.stats.first_sound_ms) {
            self.stats.first_sound_ms = Some(ms(first_text.elapsed()));
        }
    }
}

impl Ring {
    /// `first_text`: when the text came, if it has.
    pub fn new(
        output: Output,
        samples_per_frame: usize,
        stats: Stats,
        first_text: Option<Instant>,
        open: Arc<AtomicUsize>,
    ) -> Ring {
        let state = State {
            text: Vec::new(),
            spoken: SpokenText::default(),
            first_text,
            chunks: VecDeque::new(),
            read_of_first: 0,
            frames: VecDeque::new(),
            read_samples: 0,
            read_frames: 0,
            paused_above: None,
            closed: None,
            error: None,
            stats,
            #[cfg(target_os = "linux")]
            readiness: None,
        };
        Ring { state: Mutex::new(state), news: Condvar::new(), output, samples_per_frame, open }
    }

    // The caller's side.

    /// Text for the worker. Once the stream has ended there is nobody to take it.
    pub fn write(&self, text: Text) -> Result<()> {
        let mut state = lock(&self.state);
        if let Some(Ended { end, .. }) = state.stats.ended {
            return Err(Error::Ended { end });
        }
        state.first_text.get_or_insert_with(Instant::now);
        let frames = state.stats.frames;
        match &text {
            Text::Piece(piece) => state.spoken.push(piece, frames),
            Text::Flush | Text::End => state.spoken.settle(),
        }
        // Twice in a row says no more than once.
        if !matches!((&text, state.text.last()), (Text::Flush, Some(Text::Flush))) {
            state.text.push(text);
        }
        Ok(())
    }

    /// Notes the text of a stream whose worker has it already.
    pub fn note_text(&self, text: &str) {
        let mut state = lock(&self.state);
        state.spoken.push(text, 0);
        state.spoken.settle();
    }

    /// Samples from where the last read stopped. `true` besides: the worker waits for this, and is to be told.
    pub fn read<S: Sample>(&self, into: &mut [S], wait: Wait) -> Result<(Read<usize>, bool)> {
        self.check(Output::Samples, into.len())?;
        self.take(wait, |state| {
            let mut done = 0;
            while done < into.len()
                && let Some(chunk) = state.chunks.front()
            {
                let unread = &chunk.samples[state.read_of_first..];
                let n = unread.len().min(into.len() - done);
                for (to, from) in into[done..done + n].iter_mut().zip(unread) {
                    *to = S::of(*from);
                }
                done += n;
                state.read_of_first += n;
                if state.read_of_first == chunk.samples.len() {
                    state.chunks.pop_front();
                    state.read_of_first = 0;
                }
            }
            state.read_samples += done;
            (done > 0).then_some(done)
        })
    }

    /// The next chunk, or what is left of it.
    pub fn read_chunk(&self, wait: Wait) -> Result<(Read<Chunk>, bool)> {
        self.check(Output::Samples, 1)?;
        self.take(wait, |state| {
            let mut chunk = state.chunks.pop_front()?;
            chunk.samples.drain(..std::mem::take(&mut state.read_of_first));
            state.read_samples += chunk.samples.len();
            Some(chunk)
        })
    }

    /// Frames from where the last read of frames stopped.
    pub fn read_frames(&self, into: &mut [Frame], wait: Wait) -> Result<(Read<usize>, bool)> {
        self.check(Output::Frames, into.len())?;
        self.take(wait, |state| {
            let n = state.frames.len().min(into.len());
            for (to, from) in into.iter_mut().zip(state.frames.drain(..n)) {
                *to = from;
            }
            state.read_frames += n;
            (n > 0).then_some(n)
        })
    }

    /// Refuses a read that could never give anything.
    fn check(&self, kind: Output, room: usize) -> Result<()> {
        if self.output != kind && self.output != Output::Both {
            let what = format!("is {:?}; this read needs {kind:?} or Both", self.output);
            return Err(Error::request("output", what));
        }
        match room {
            0 => Err(Error::request("into", "is empty; a read needs room for at least one")),
            _ => Ok(()),
        }
    }

    /// Waits for what `take` finds. The end comes when it finds nothing more.
    fn take<T>(&self, wait_for: Wait, mut take: impl FnMut(&mut State) -> Option<T>) -> Result<(Read<T>, bool)> {
        let deadline = match wait_for {
            Wait::AtMost(time) => Instant::now().checked_add(time),
            Wait::No | Wait::Forever => None,
        };
        let mut state = lock(&self.state);
        loop {
            if let Some(got) = take(&mut state) {
                self.tell_readiness(&mut state);
                let waits = state.paused_above.is_some_and(|most| self.unread_frames(&state) <= most);
                if waits {
                    state.paused_above = None;
                }
                return Ok((Read::Got(got), waits));
            }
            if let Some(ended) = state.stats.ended {
                return match &state.error {
                    Some(error) => Err(error.clone()),
                    None => Ok((Read::Ended(ended), false)),
                };
            }
            if wait_for == Wait::No || deadline.is_some_and(|d| Instant::now() >= d) {
                return Ok((Read::NotYet, false));
            }
            state = wait(&self.news, state, deadline);
        }
    }

    /// Frames made of which nothing has been read yet. Where sound and frames are read, the reader that is ahead counts:
    /// who wants only one of them at the moment is not held up by the other.
    fn unread_frames(&self, state: &MutexGuard<State>) -> usize {
        let read = state.read_frames.max(state.read_samples.div_ceil(self.samples_per_frame));
        state.stats.frames.saturating_sub(read)
    }

    /// Ends the stream: from here on no read gives anything. A stream that had ended and was read to its end stays as it
    /// was. The worker is to be told.
    pub fn cancel(&self) {
        let mut state = lock(&self.state);
        state.closed.get_or_insert_with(Instant::now);
        if state.stats.ended.is_some() && state.chunks.is_empty() && state.frames.is_empty() {
            return;
        }
        state.text.clear();
        state.chunks.clear();
        state.frames.clear();
        self.end(&mut state, End::Cancelled, None);
    }

    pub fn stats(&self) -> Stats {
        lock(&self.state).stats.clone()
    }

    /// What happened beside the sound, from where `cursor` is.
    pub fn next_event(&self, cursor: &mut Cursor) -> Read<Event> {
        let state = lock(&self.state);
        cursor.hear(&state.spoken);
        let ended = state.stats.ended;
        let of_frames = |frames: usize| frames * self.samples_per_frame;
        let progress = Progress {
            first_sound_ms: state.stats.first_sound_ms,
            samples_per_frame: self.samples_per_frame,
            read_samples: match self.output {
                Output::Frames => of_frames(state.read_frames),
                Output::Samples | Output::Both => state.read_samples,
            },
            made_samples: of_frames(state.stats.frames),
            over: ended.filter(|_| !self.has_more(&state)),
            ended,
        };
        drop(state);
        cursor.next(&progress)
    }

    /// A descriptor that is readable while a read without a wait would not say `NotYet`.
    #[cfg(target_os = "linux")]
    pub fn readiness(&self) -> Result<Arc<rustix::fd::OwnedFd>> {
        let mut state = lock(&self.state);
        if state.readiness.is_none() {
            let new = Readiness::new().map_err(|e| Error::compute("event handle", e.to_string()))?;
            state.readiness = Some(new);
            self.tell_readiness(&mut state);
        }
        state.readiness.as_ref().map(Readiness::fd).ok_or_else(|| Error::compute("event handle", "is not there"))
    }

    /// Nobody waits any more: the descriptor need not live as long as the worker's part of the stream.
    #[cfg(target_os = "linux")]
    pub fn forget_readiness(&self) {
        lock(&self.state).readiness = None;
    }

    /// Whether there is something to read. Where both are read, sound is what counts: its frames came before.
    fn has_more(&self, state: &State) -> bool {
        match self.output {
            Output::Frames => !state.frames.is_empty(),
            Output::Samples | Output::Both => !state.chunks.is_empty(),
        }
    }

    /// To be called wherever something has come or was taken.
    fn tell_readiness(&self, state: &mut State) {
        #[cfg(target_os = "linux")]
        if state.readiness.is_some() {
            let ready = state.stats.ended.is_some() || self.has_more(state);
            state.readiness.iter_mut().for_each(|readiness| readiness.set(ready));
        }
        #[cfg(not(target_os = "linux"))]
        let _ = state;
    }

    /// Tells every reader that something has come.
    fn tell(&self, state: &mut State) {
        self.tell_readiness(state);
        self.news.notify_all();
    }

    // The worker's side.

    /// The text that has come; `None` where nobody wants the speech any more.
    pub fn take_text(&self) -> Option<Vec<Text>> {
        let mut state = lock(&self.state);
        state.closed.is_none().then(|| std::mem::take(&mut state.text))
    }

    /// Whether nobody wants the speech any more.
    pub fn is_closed(&self) -> bool {
        lock(&self.state).closed.is_some()
    }

    /// Sound for the reader.
    pub fn put(&self, chunk: Chunk) {
        let mut state = lock(&self.state);
        if state.closed.is_none() && !chunk.samples.is_empty() {
            state.chunks.push_back(chunk);
            state.note_first();
            self.tell(&mut state);
        }
    }

    /// A frame for the reader.
    pub fn put_frame(&self, frame: Frame) {
        let mut state = lock(&self.state);
        if state.closed.is_none() {
            state.frames.push_back(frame);
            if self.output == Output::Frames {
                state.note_first();
            }
            self.tell(&mut state);
        }
    }

    /// Whether fewer than `most` frames wait for the reader. Where not, the read that makes it so says it.
    pub fn has_room(&self, most: usize) -> bool {
        let mut state = lock(&self.state);
        let room = self.unread_frames(&state) < most;
        state.paused_above = (!room).then(|| most - 1);
        room
    }

    /// Ends the stream behind what was put; the first end stays. An error is what reads give then.
    pub fn finish(&self, end: End, error: Option<Error>) {
        let mut state = lock(&self.state);
        if state.stats.ended.is_none() {
            self.end(&mut state, end, error);
        }
    }

    fn end(&self, state: &mut State, end: End, error: Option<Error>) {
        let ended = Ended { end, frame: state.stats.frames };
        if state.stats.ended.replace(ended).is_none() {
            // Under the lock: who has seen the end can open another stream in its place.
            self.open.fetch_sub(1, SeqCst);
        }
        state.error = error;
        self.tell(state);
    }

    /// Notes that the slot is free.
    pub fn released(&self) {
        let mut state = lock(&self.state);
        state.stats.cancel_ms = state.closed.map(|since| ms(since.elapsed()));
    }

    pub fn note(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut lock(&self.state).stats);
    }
}
