//! Would catch what only many threads and much time bring about: a race between streams, a cancel or a drop that harms
//! another stream, a slot, a thread or a descriptor that is not given back. `make soak` runs it under AddressSanitizer.

#[path = "support/random.rs"]
mod random;
mod support;

use qwentts::Device;
use qwentts::engine::{Canceller, Counts, Engine, EngineOptions, Read, Stream, Wait};
use qwentts::frame::{End, Frame};
use qwentts::model::Model;
use qwentts::request::{Layout, Output, Randomness, Request, SamplingOptions, Voice};
use qwentts::source::ModelSource;
use random::Random;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const THREADS: usize = 16;
const STREAMS_PER_THREAD: usize = 4;
const SLOTS: usize = 16;
/// How long an engine lives.
const ROUND: Duration = Duration::from_secs(30);
/// Only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

const TEXTS: [&str; 5] = [
    "The quick brown fox jumps over the lazy dog.",
    "Straße, Äpfel und Öl: schön!",
    "你好,世界。今天天气很好。",
    "Family 👨\u{200D}👩\u{200D}👧\u{200D}👦 and 👩🏽\u{200D}🚀.\r\n",
    "Yes.",
];

/// A request, and what it says alone.
struct Case {
    text: &'static str,
    request: Request,
    frames: Vec<Frame>,
    /// Bit by bit.
    samples: Vec<u32>,
    end: End,
}

/// Every text with outputs, rates, chunks and leads of all kinds.
fn requests() -> impl Iterator<Item = (&'static str, Request)> {
    TEXTS.into_iter().enumerate().flat_map(|(t, text)| {
        (0..6).map(move |i| {
            let mut sampling = SamplingOptions { max_new_tokens: Some(8 + 5 * i), ..Default::default() };
            sampling.draws(i != 0);
            let (voice, randomness) = (Voice::Preset("vivian".into()), Randomness::Seed((10 * t + i) as u64));
            let layout = Some(Layout::Streaming);
            let mut request = Request { voice, randomness, layout, sampling, ..Default::default() };
            request.delivery.output = [Output::Samples, Output::Frames, Output::Both][i % 3];
            request.delivery.sample_rate_hz = [24_000, 16_000, 48_000][(i + t) % 3];
            request.delivery.chunk_frames = [vec![1, 2, 4, 8], vec![1], vec![3, 7]][(i / 2) % 3].clone();
            request.delivery.lead = Duration::from_millis([80, 500, 10_000][(i + 1) % 3]);
            (text, request)
        })
    })
}

fn alone(engine: &Engine, text: &'static str, request: Request) -> Case {
    let mut said = Said::new(engine.speak(text, &request).unwrap(), request.delivery.output);
    let end = loop {
        if let Some(end) = said.read(5000, Wait::AtMost(PATIENCE)) {
            break end;
        }
    };
    assert!(said.frames.len() + said.samples.len() > 0);
    Case { text, request, frames: said.frames, samples: said.samples, end }
}

/// A stream, and what has been read of it.
struct Said {
    stream: Stream,
    output: Output,
    frames: Vec<Frame>,
    samples: Vec<u32>,
}

impl Said {
    fn new(stream: Stream, output: Output) -> Said {
        Said { stream, output, frames: Vec::new(), samples: Vec::new() }
    }

    /// Reads once; the end, where all has been read.
    fn read(&mut self, size: usize, wait: Wait) -> Option<End> {
        if self.output == Output::Frames {
            return self.read_frames(size.div_ceil(1920), wait);
        }
        let mut samples = vec![0.0f32; size];
        match self.stream.read(&mut samples, wait).unwrap() {
            Read::Got(n) => self.samples.extend(samples[..n].iter().map(|s| s.to_bits())),
            Read::NotYet => {}
            Read::Ended(ended) if self.output == Output::Samples => return Some(ended.end),
            Read::Ended(_) => return self.read_frames(4, Wait::No),
        }
        None
    }

    fn read_frames(&mut self, size: usize, wait: Wait) -> Option<End> {
        let mut frames = vec![[0; 16]; size];
        match self.stream.read_frames(&mut frames, wait).unwrap() {
            Read::Got(n) => self.frames.extend_from_slice(&frames[..n]),
            Read::NotYet => {}
            Read::Ended(ended) => return Some(ended.end),
        }
        None
    }

    /// It is what the request says alone; where it was cut short, the beginning of that.
    fn check(&self, case: &Case, end: Option<End>) {
        let (frames, samples) = (self.frames.len(), self.samples.len());
        assert!(case.frames.starts_with(&self.frames), "{:?}: other codes than alone", case.text);
        assert!(case.samples.starts_with(&self.samples), "{:?}: other samples than alone", case.text);
        if end.is_some_and(|end| end != End::Cancelled) {
            assert_eq!((end, frames, samples), (Some(case.end), case.frames.len(), case.samples.len()));
        }
    }
}

/// What became of the streams.
#[derive(Debug, Default)]
struct Sums {
    opened: AtomicUsize,
    whole: AtomicUsize,
    cancelled: AtomicUsize,
    dropped: AtomicUsize,
    refused: AtomicUsize,
    frames: AtomicUsize,
}

/// What all threads share.
struct Storm {
    cases: Vec<Case>,
    /// Of the streams that live: any thread may cancel any of them.
    cancellers: Mutex<BTreeMap<usize, Canceller>>,
    sums: Sums,
}

/// A stream in one thread's hands.
struct Life<'a> {
    case: &'a Case,
    id: usize,
    said: Said,
    /// Pieces that have yet to be pushed, the last one first; `None` once its text has ended.
    pieces: Option<Vec<&'a [u8]>>,
    slow: bool,
    /// It is dropped after so many steps.
    steps: usize,
}

impl<'a> Life<'a> {
    fn begin(storm: &'a Storm, engine: &Engine, random: &mut Random) -> qwentts::Result<Life<'a>> {
        let case = &storm.cases[random.below(storm.cases.len())];
        let live = random.below(3) > 0;
        let stream = if live { engine.stream(&case.request) } else { engine.speak(case.text, &case.request) }?;
        let id = storm.sums.opened.fetch_add(1, Relaxed);
        storm.cancellers.lock().unwrap().insert(id, stream.canceller());
        let pieces = live.then(|| random.cut(case.text.as_bytes()).into_iter().rev().collect());
        let steps = if random.below(4) == 0 { random.below(60) } else { usize::MAX };
        let said = Said::new(stream, case.request.delivery.output);
        Ok(Life { case, id, said, pieces, slow: random.below(6) == 0, steps })
    }

    /// Pushes and reads a little. Whether it goes on.
    fn step(&mut self, random: &mut Random, sums: &Sums) -> bool {
        if self.steps == 0 {
            self.said.check(self.case, None);
            sums.dropped.fetch_add(1, Relaxed);
            return false;
        }
        self.steps -= 1;
        self.push(random);
        if self.slow && random.below(8) > 0 {
            std::thread::sleep(Duration::from_micros(200));
            return true;
        }
        let wait = [Wait::No, Wait::AtMost(Duration::from_millis(random.below(10) as u64))][random.below(2)];
        let Some(end) = self.said.read(1 + random.below(9000), wait) else { return true };
        self.said.check(self.case, Some(end));
        let sum = if end == End::Cancelled { &sums.cancelled } else { &sums.whole };
        sum.fetch_add(1, Relaxed);
        false
    }

    fn push(&mut self, random: &mut Random) {
        for _ in 0..random.below(4) {
            let Some(pieces) = &mut self.pieces else { return };
            let pushed = match pieces.pop() {
                Some(piece) => self.said.stream.push(piece),
                None => {
                    let ended = self.said.stream.end();
                    self.pieces = None;
                    ended
                }
            };
            if pushed.is_err() {
                assert!(self.said.stream.stats().ended.is_some(), "text is refused while the stream lives");
                self.pieces = None;
            }
        }
    }
}

impl Storm {
    /// One thread's part.
    fn rage(&self, engine: &Engine, seed: u64, until: Instant) {
        let mut random = Random(seed);
        let mut lives: Vec<Life> = Vec::new();
        let mut open = true;
        while open || !lives.is_empty() {
            open &= Instant::now() < until;
            if open && lives.len() < STREAMS_PER_THREAD {
                match Life::begin(self, engine, &mut random) {
                    Ok(life) => {
                        lives.push(life);
                        if random.below(3) == 0 {
                            self.cancel_any(&mut random);
                        }
                    }
                    Err(qwentts::Error::Busy { .. }) => {
                        self.sums.refused.fetch_add(1, Relaxed);
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Err(qwentts::Error::Closed) => open = false,
                    Err(error) => panic!("{error}"),
                }
            }
            if lives.is_empty() {
                continue;
            }
            let which = random.below(lives.len());
            if !lives[which].step(&mut random, &self.sums) {
                let life = lives.swap_remove(which);
                self.cancellers.lock().unwrap().remove(&life.id);
                self.sums.frames.fetch_add(life.said.stream.stats().frames, Relaxed);
            }
        }
    }

    fn cancel_any(&self, random: &mut Random) {
        let chosen = {
            let cancellers = self.cancellers.lock().unwrap();
            let nth = random.below(cancellers.len().max(1));
            cancellers.values().nth(nth).cloned()
        };
        if let Some(canceller) = chosen {
            canceller.cancel();
        }
    }

    /// An engine's life. It ends by being closed under its streams, or once they have ended.
    fn round(&self, model: &Arc<Model>, round: u64, time: Duration) {
        // Fewer places than there are streams, so that some are refused.
        let queue = THREADS * STREAMS_PER_THREAD - SLOTS - round as usize % 2 * 8;
        let options = EngineOptions { slots: SLOTS, queue, ..support::options() };
        let engine = Engine::with_model(model.clone(), &options).unwrap();
        let until = Instant::now() + time;
        std::thread::scope(|scope| {
            for thread in 0..THREADS as u64 {
                let engine = engine.clone();
                scope.spawn(move || self.rage(&engine, round << 32 | thread, until));
            }
            if round % 2 == 1 {
                std::thread::sleep(time.saturating_sub(Duration::from_millis(50)));
                engine.close();
            }
        });
        let since = Instant::now();
        while engine.counts() != Counts::default() {
            assert!(since.elapsed() < PATIENCE, "{:?}", engine.counts());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Threads and open descriptors of this process.
fn held() -> (usize, usize) {
    let count = |folder: &str| fs::read_dir(folder).unwrap().count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

#[test]
#[ignore = "needs ten minutes: make soak"]
fn a_storm_of_streams() {
    let time = Duration::from_secs(std::env::var("SOAK_SECONDS").map_or(600, |s| s.parse().unwrap()));
    let folder = support::checkpoint("tiny-0b6-custom", 2);
    let one_slot = EngineOptions { slots: 1, queue: 0, ..support::options() };
    if support::device() != Device::Cpu {
        // The driver keeps threads and descriptors of its own from its first use on.
        let model = Model::open(&ModelSource::Folder(folder.clone())).unwrap();
        Engine::with_model(model, &one_slot).unwrap().close();
    }
    let before = held();
    let began = Instant::now();
    let model = Model::open(&ModelSource::Folder(folder)).unwrap();
    let engine = Engine::with_model(model.clone(), &one_slot).unwrap();
    let cases = requests().map(|(text, request)| alone(&engine, text, request)).collect();
    drop(engine);
    let storm = Storm { cases, cancellers: Mutex::default(), sums: Sums::default() };
    let mut rounds = 0;
    while began.elapsed() < time {
        storm.round(&model, rounds, ROUND.min(time - began.elapsed()));
        rounds += 1;
    }
    drop(model);
    let Storm { cancellers, sums, .. } = storm;
    drop(cancellers); // each keeps its stream's ring, but no engine
    let since = Instant::now();
    while held() != before {
        assert!(since.elapsed() < PATIENCE, "threads and descriptors: {before:?} before, {:?} after", held());
        std::thread::sleep(Duration::from_millis(10));
    }
    let sanitizer = option_env!("RUSTFLAGS").is_some_and(|flags| flags.contains("sanitizer=address"));
    println!(
        "{:.0} s, {rounds} engines, AddressSanitizer {}\n{sums:?}\nthreads and descriptors: {before:?} before and after",
        began.elapsed().as_secs_f64(),
        if sanitizer { "on" } else { "off" },
    );
    let of = |sum: &AtomicUsize| sum.load(Relaxed);
    assert_eq!(of(&sums.opened), of(&sums.whole) + of(&sums.cancelled) + of(&sums.dropped));
    assert!(of(&sums.whole) > 0 && of(&sums.cancelled) > 0 && of(&sums.dropped) > 0, "it was no storm");
}
