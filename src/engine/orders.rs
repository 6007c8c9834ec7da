//! Every order in which a stream's caller and the worker can come to their locks (`make loom`): the real `Ring`, `Inbox`
//! and `Handle`, and a worker that is as small as can be. Would catch a reader or a worker that sleeps for ever, something
//! that is read after a cancel, an end that changes or is counted twice, a stream that is opened and never ended.
//!
//! Loom runs a model once for each order that its threads' locks, notifications and atomics can take, up to a number of
//! preemptions where it is given; where nobody can go on it says deadlock. Its `wait_timeout` never times out, so that no
//! time-out hides a lost wake-up.
//!
//! | model | preemptions | executions | what holds in all of them |
//! | --- | --- | --- | --- |
//! | text and frames | any | 258190 | what is written is heard, what is made is read, the end comes, nobody sleeps for ever |
//! | pause and read | 4 | 46297, sound 60532 | the worker stops at a full ring, and the read that makes room wakes it |
//! | write and read in two threads | 3 | 22571 | the same with the halves of a stream apart |
//! | cancel and read | 3 | 64592, sound 76060 | once a cancel has returned nothing is read; its reader wakes; the end stays; no stream is open |
//! | two cancels and the end | 4 | 23815 | there is one end, for every reader, counted once |
//! | cancel without text | any | 24154 | a reader who waits wakes, a worker that waits forgets the stream |
//! | open, read and close | any | 780 | a stream that is opened while the engine closes is refused or ended |
//! | end and open again | 4 | 65325 | who has heard an end can open a stream in its place, and not one more |

use super::inbox::Inbox;
use super::ring::{Chunk, Ended, Read, Ring, Text, Wait};
use super::stats::Stats;
use super::stream::Handle;
use crate::error::Error;
use crate::frame::End;
use crate::request::{Layout, Output};
use loom::sync::atomic::AtomicBool;
use loom::thread;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Count;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

type SmallInbox = Inbox<Arc<Ring>>;

/// Runs `model` in every order with at most so many preemptions, and says how many orders that were.
fn every_order(name: &str, preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(Count::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    let counted = executions.clone();
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        model();
    });
    let executions = executions.load(Relaxed);
    println!("{name}: {executions} executions, preemptions at most {preemptions:?}");
    assert!(executions > 10, "there is but one order to look at");
}

/// The stream as its worker sees it: each piece of text gives a frame, or a chunk of two samples.
struct Small {
    ring: Arc<Ring>,
    pieces: usize,
    frames: usize,
    ended: bool,
    sound: bool,
}

/// As the worker does: waits for news, hears, gives what there is room for; and where the engine is closed, ends what lives.
/// How many streams that were.
fn work(inbox: &SmallInbox, sound: bool) -> usize {
    let mut streams = BTreeMap::new();
    loop {
        let mut news = inbox.wait(None);
        let opened: Vec<u64> = news.opened.iter().map(|(id, _)| *id).collect();
        let closed = news.closed.is_some();
        if closed {
            // What came between is ended, too.
            news.opened.extend(inbox.take().opened);
        }
        let small = |ring| Small { ring, pieces: 0, frames: 0, ended: false, sound };
        streams.extend(news.opened.into_iter().map(|(id, ring)| (id, small(ring))));
        for id in opened.into_iter().chain(news.noted) {
            if streams.get_mut(&id).is_some_and(Small::hear) {
                streams.remove(&id).unwrap().ring.released();
            }
        }
        if closed {
            streams.values().for_each(|small: &Small| small.ring.cancel());
            return streams.len();
        }
    }
}

impl Small {
    /// Whether the stream has ended.
    fn hear(&mut self) -> bool {
        let Some(text) = self.ring.take_text() else { return true };
        for text in text {
            match text {
                Text::Piece(_) => self.pieces += 1,
                Text::Flush => {}
                Text::End => self.ended = true,
            }
        }
        // One frame unread stops it.
        while self.frames < self.pieces && self.ring.has_room(1) {
            self.ring.note(|stats| stats.frames += 1);
            match self.sound {
                true => self.ring.put(Chunk { samples: vec![0.5; 2], first_frame: self.frames, frames: 1 }),
                false => self.ring.put_frame([0; 16]),
            }
            self.frames += 1;
        }
        let done = self.ended && self.frames == self.pieces;
        if done {
            self.ring.finish(End::Eos, None);
        }
        done
    }
}

fn inbox(most: usize) -> Arc<SmallInbox> {
    Arc::new(Inbox::new(most, Arc::new(|| {})))
}

fn open(inbox: &Arc<SmallInbox>, sound: bool) -> Result<Handle<Arc<Ring>>, Error> {
    let stats = Stats::new(Layout::Streaming, 0, Some(1));
    let ring =
        Arc::new(Ring::new(if sound { Output::Samples } else { Output::Frames }, 2, stats, None, inbox.open.clone()));
    let id = inbox.open(ring.clone())?;
    Ok(Handle { inbox: inbox.clone(), ring, id })
}

fn start(inbox: &Arc<SmallInbox>, sound: bool) -> thread::JoinHandle<usize> {
    let inbox = inbox.clone();
    thread::spawn(move || work(&inbox, sound))
}

fn say(handle: &Handle<Arc<Ring>>, pieces: usize) {
    (0..pieces).for_each(|_| handle.write(Text::Piece(String::new())).unwrap());
    handle.write(Text::End).unwrap();
}

/// Reads a frame, or half a chunk.
fn read(handle: &Handle<Arc<Ring>>, sound: bool, wait: Wait) -> Read<usize> {
    handle.read(match sound {
        true => handle.ring.read(&mut [0.0f32], wait).unwrap(),
        false => handle.ring.read_frames(&mut [[0; 16]], wait).unwrap(),
    })
}

/// How many reads gave something, and the end.
fn read_all(handle: &Handle<Arc<Ring>>, sound: bool) -> (usize, Ended) {
    let mut count = 0;
    loop {
        match read(handle, sound, Wait::Forever) {
            Read::Got(n) => count += n,
            Read::Ended(ended) => return (count, ended),
            Read::NotYet => panic!("the wait was to have no end"),
        }
    }
}

/// Every stream has ended; and the worker has heard of it.
fn close(inbox: &SmallInbox, worker: thread::JoinHandle<usize>) {
    inbox.close(Error::Closed);
    assert_eq!(worker.join().unwrap(), 0, "the worker keeps a stream that has ended");
    assert_eq!(inbox.counts().open, 0);
}

#[test]
fn text_comes_out_as_frames_and_the_end_comes() {
    every_order("text and frames", None, || {
        let inbox = inbox(1);
        let handle = open(&inbox, false).unwrap();
        let worker = start(&inbox, false);
        say(&handle, 1);
        assert_eq!(read_all(&handle, false), (1, Ended { end: End::Eos, frame: 1 }));
        close(&inbox, worker);
    });
}

#[test]
fn a_full_ring_stops_the_worker_and_a_read_wakes_it() {
    for sound in [false, true] {
        every_order(if sound { "pause and read, sound" } else { "pause and read" }, Some(4), move || {
            let inbox = inbox(1);
            let handle = open(&inbox, sound).unwrap();
            let worker = start(&inbox, sound);
            say(&handle, 3);
            let reads = if sound { 6 } else { 3 };
            assert_eq!(read_all(&handle, sound), (reads, Ended { end: End::Eos, frame: 3 }));
            close(&inbox, worker);
        });
    }
}

#[test]
fn one_writes_another_reads() {
    every_order("write and read in two threads", Some(3), || {
        let inbox = inbox(1);
        let handle = open(&inbox, false).unwrap();
        let worker = start(&inbox, false);
        let writer = handle.clone();
        let writing = thread::spawn(move || say(&writer, 2));
        assert_eq!(read_all(&handle, false), (2, Ended { end: End::Eos, frame: 2 }));
        writing.join().unwrap();
        close(&inbox, worker);
    });
}

#[test]
fn nothing_is_read_once_a_cancel_has_returned() {
    for sound in [false, true] {
        every_order(if sound { "cancel and read, sound" } else { "cancel and read" }, Some(3), move || {
            let inbox = inbox(1);
            let handle = open(&inbox, sound).unwrap();
            let worker = start(&inbox, sound);
            say(&handle, 2);
            let returned = Arc::new(AtomicBool::new(false));
            let (canceller, set) = (handle.clone(), returned.clone());
            let cancelling = thread::spawn(move || {
                canceller.cancel();
                set.store(true, SeqCst);
            });
            let ended = loop {
                let over = returned.load(SeqCst);
                match read(&handle, sound, Wait::Forever) {
                    Read::Got(_) => assert!(!over, "something came after the cancel"),
                    Read::Ended(ended) => break ended,
                    Read::NotYet => panic!("the wait was to have no end"),
                }
            };
            cancelling.join().unwrap();
            assert!(matches!(ended.end, End::Eos | End::Cancelled));
            // What was read to its end stays as it was; the engine can take another at once.
            assert_eq!(read(&handle, sound, Wait::No), Read::Ended(ended));
            assert_eq!(inbox.counts().open, 0);
            close(&inbox, worker);
        });
    }
}

#[test]
fn cancels_race_each_other_and_the_end() {
    every_order("two cancels and the end", Some(4), || {
        let inbox = inbox(1);
        let handle = open(&inbox, false).unwrap();
        let worker = start(&inbox, false);
        say(&handle, 0);
        let canceller = handle.clone();
        let cancelling = thread::spawn(move || canceller.cancel());
        handle.cancel();
        let (count, ended) = read_all(&handle, false);
        cancelling.join().unwrap();
        assert_eq!((count, ended.frame), (0, 0));
        assert_eq!(read_all(&handle, false), (0, ended));
        assert!(handle.write(Text::End).is_err());
        close(&inbox, worker);
    });
}

#[test]
fn a_cancel_wakes_a_reader_who_has_nothing_to_hope_for() {
    every_order("cancel without text", None, || {
        let inbox = inbox(1);
        let handle = open(&inbox, false).unwrap();
        let worker = start(&inbox, false);
        let canceller = handle.clone();
        let cancelling = thread::spawn(move || canceller.cancel());
        assert_eq!(read_all(&handle, false), (0, Ended { end: End::Cancelled, frame: 0 }));
        cancelling.join().unwrap();
        close(&inbox, worker);
    });
}

#[test]
fn closing_wakes_readers_and_ends_what_is_being_opened() {
    every_order("open, read and close", None, || {
        let inbox = inbox(2);
        let worker = start(&inbox, false);
        let opener = inbox.clone();
        let opening = thread::spawn(move || match open(&opener, false) {
            Ok(handle) => assert_eq!(read_all(&handle, false), (0, Ended { end: End::Cancelled, frame: 0 })),
            Err(error) => assert!(matches!(error, Error::Closed)),
        });
        inbox.close(Error::Closed);
        opening.join().unwrap();
        worker.join().unwrap();
        assert_eq!(inbox.counts().open, 0);
    });
}

#[test]
fn who_has_heard_the_end_can_open_another() {
    every_order("end and open again", Some(4), || {
        let inbox = inbox(1);
        let worker = start(&inbox, false);
        let first = open(&inbox, false).unwrap();
        say(&first, 1);
        assert_eq!(read_all(&first, false).0, 1);
        let second = open(&inbox, false).expect("the first has ended");
        assert!(matches!(open(&inbox, false), Err(Error::Busy { .. })));
        second.cancel();
        let third = open(&inbox, false).expect("the second was cancelled");
        say(&third, 1);
        assert_eq!(read_all(&third, false), (1, Ended { end: End::Eos, frame: 1 }));
        close(&inbox, worker);
    });
}
