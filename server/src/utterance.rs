//! One utterance between the engine, whose reads wait, and the server, whose tasks may not: a thread of the runtime's own
//! pool reads and hands on. Dropping an [`Utterance`] cancels it, so that whatever a client's going away drops ends the speech.

use crate::App;
use crate::error::{ApiError, ApiResult};
use crate::models::Served;
use crate::request::Prepared;
use crate::sound::Format;
use qwentts::engine::{AudioReader, Canceller, Chunk, Event, Events, Read, Stats, TextWriter, Wait, WordMark};
use qwentts::{Error, Frame, GROUPS};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::sync::{mpsc, oneshot};

/// Pieces that may wait for the client; the engine's own lead comes on top.
const PIECES: usize = 4;
/// Frames of codes read at a time.
const FRAMES: usize = 16;

/// What comes of an utterance, in order.
pub enum Piece {
    Sound(Chunk),
    Frames(Vec<Frame>),
    /// Comes behind the sound that it was read with.
    Word(WordMark),
    /// The end, however it came; nothing follows.
    Ended(Box<Stats>),
    Failed(Error),
}

pub struct Utterance {
    pub pieces: mpsc::Receiver<Piece>,
    pub seed: u64,
    stop: Stop,
}

/// Ends an utterance from another task than the one that has it.
#[derive(Clone)]
pub struct Stop {
    canceller: Canceller,
    asked: Arc<AtomicBool>,
}

impl Stop {
    pub fn stop(&self) {
        self.asked.store(true, Relaxed);
        self.canceller.cancel();
    }

    /// Whether it was, or has been dropped: what was made before is not to be heard either.
    pub fn is_stopped(&self) -> bool {
        self.asked.load(Relaxed)
    }
}

impl Utterance {
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }
}

impl Drop for Utterance {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// Speaks this text, or without one what the writer will be given.
pub async fn begin(app: &Arc<App>, prepared: &Prepared, text: Option<String>) -> ApiResult<(Utterance, TextWriter)> {
    if app.is_draining() {
        return Err(ApiError::unavailable("the server is stopping"));
    }
    let (answer, opened) = oneshot::channel();
    let prepared = prepared.clone();
    tokio::task::spawn_blocking(move || {
        let (request, seed) = prepared.seeded();
        let engine = &prepared.served.engine;
        let stream = match &text {
            Some(text) => engine.speak(text, &request),
            None => engine.stream(&request),
        };
        let (writer, reader) = match stream {
            Ok(stream) => stream.split(),
            Err(error) => {
                if matches!(error, Error::Busy { .. }) {
                    prepared.served.speech.refused();
                }
                let _ = answer.send(Err(error)); // nobody waits any more: nobody need know
                return;
            }
        };
        let (sender, pieces) = mpsc::channel(PIECES);
        let stop = Stop { canceller: reader.canceller(), asked: Arc::default() };
        let utterance = Utterance { pieces, seed, stop };
        let wants = Wants { codes: prepared.format == Format::Codes, words: prepared.words };
        // Where nobody waits any more, the utterance comes back and is dropped: cancelled.
        drop(answer.send(Ok((utterance, writer))).err());
        pump(reader, wants, &sender, &prepared.served);
    });
    let lost = |_| Err(ApiError::internal("the speech could not be begun; the log says why"));
    opened.await.map_or_else(lost, |opened| opened.map_err(ApiError::from))
}

#[derive(Clone, Copy)]
struct Wants {
    codes: bool,
    words: bool,
}

/// Reads until the end. A client that has gone away cancels, so the end comes soon.
fn pump(mut reader: AudioReader, wants: Wants, to: &mpsc::Sender<Piece>, served: &Served) {
    let mut events = wants.words.then(|| reader.events());
    let last = loop {
        let read = match wants.codes {
            true => {
                let mut frames = [[0; GROUPS]; FRAMES];
                reader.read_frames(&mut frames, Wait::Forever).map(|read| match read {
                    Read::Got(count) => Read::Got(Piece::Frames(frames[..count].to_vec())),
                    Read::NotYet => Read::NotYet,
                    Read::Ended(ended) => Read::Ended(ended),
                })
            }
            false => reader.read_chunk(Wait::Forever).map(|read| match read {
                Read::Got(chunk) => Read::Got(Piece::Sound(chunk)),
                Read::NotYet => Read::NotYet,
                Read::Ended(ended) => Read::Ended(ended),
            }),
        };
        match read {
            Ok(Read::Got(piece)) => {
                let _ = to.blocking_send(piece); // who does not listen has cancelled
            }
            Ok(Read::NotYet) => {}
            Ok(Read::Ended(_)) => break Piece::Ended(Box::new(reader.stats())),
            Err(error) => break Piece::Failed(error),
        }
        send_words(&mut events, to);
    };
    send_words(&mut events, to);
    served.speech.ended(&reader.stats());
    let _ = to.blocking_send(last);
}

fn send_words(events: &mut Option<Events>, to: &mpsc::Sender<Piece>) {
    let Some(events) = events else { return };
    while let Read::Got(event) = events.next_event() {
        if let Event::Word(mark) = event {
            let _ = to.blocking_send(Piece::Word(mark));
        }
    }
}
