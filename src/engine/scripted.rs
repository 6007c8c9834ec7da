//! The engine on a device that does as a test says, so that no clock decides. Would catch: work that is given too soon, too
//! late, twice or to nobody; text that is lost or fed out of order; an end that never comes, or comes at the wrong frame;
//! a slot that is not given back.

use super::{Canceller, Chunk, Counts, Engine, EngineOptions, MOST_SLOTS, Opened, Read, Stream, Wait};
use crate::backend::{Backend, Did, Done, SlotId, Took, Waker, Work};
use crate::config::ModelKind;
use crate::error::{Error, Result};
use crate::frame::{DEGENERATE_FRAMES, End, FRAME_TIME, Frame, SAMPLES_PER_FRAME};
use crate::model::Model;
use crate::prompt::Prompt;
use crate::request::{Layout, LengthCap, OnDry, Output, ReferenceSpeech, Regex, Request, Voice, VoicePrompt};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Longer than any machine needs; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The backend's side: says what it was given, and answers what it is told.
struct Scripted {
    frames_ahead: usize,
    given: Sender<(SlotId, Given)>,
    answers: Receiver<Answer>,
    polls: Arc<AtomicUsize>,
}

/// An engine whose device is lost, once that is asked for, as soon as a stream of it has work; for those who hear of it above.
pub(crate) fn engine_to_lose() -> (Engine, impl FnOnce()) {
    let device = Device::new(2, 2);
    let lose = |device: Device| {
        device.answers.send(Answer::Broken(Error::compute("cuStreamSynchronize", "as the test wants it")))
    };
    (device.engine.clone(), move || lose(device).unwrap())
}

/// What the backend was given, in short.
#[derive(Debug, PartialEq)]
enum Given {
    Prefill {
        positions: usize,
        reference: usize,
    },
    Step {
        text: u32,
    },
    /// A step that must not be the last.
    Pad {
        text: u32,
    },
    Decode {
        frames: usize,
    },
    Release,
}

enum Answer {
    Done(Vec<Done>),
    Nothing,
    Broken(Error),
    Panic,
}

impl Backend for Scripted {
    fn frames_ahead(&self) -> usize {
        self.frames_ahead
    }

    fn submit(&mut self, slot: SlotId, work: Work) -> Result<()> {
        let given = match work {
            Work::Prefill { positions, reference, .. } => {
                Given::Prefill { positions: positions.len(), reference: reference.len() }
            }
            Work::Step { text, may_end: true } => Given::Step { text },
            Work::Step { text, may_end: false } => Given::Pad { text },
            Work::Decode { frames } => Given::Decode { frames: frames.len() },
        };
        let _ = self.given.send((slot, given)); // the test may be over
        Ok(())
    }

    fn poll(&mut self, wait: Duration, done: &mut Vec<Done>) -> Result<()> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        match self.answers.recv_timeout(wait) {
            Ok(Answer::Done(answer)) => done.extend(answer),
            Ok(Answer::Nothing) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Answer::Broken(error)) => return Err(error),
            Ok(Answer::Panic) => panic!("as the test wants it"),
            Err(RecvTimeoutError::Disconnected) => return Err(Error::compute("script", "the test is over")),
        }
        Ok(())
    }

    /// Wakes nobody: what the test says is all that moves it.
    fn waker(&self) -> Waker {
        Arc::new(|| {})
    }

    fn release(&mut self, slot: SlotId) -> Result<()> {
        let _ = self.given.send((slot, Given::Release));
        Ok(())
    }
}

/// The test's side, with the engine that it drives.
struct Device {
    frames_ahead: usize,
    engine: Engine,
    given: Receiver<(SlotId, Given)>,
    answers: Sender<Answer>,
    polls: Arc<AtomicUsize>,
    /// Frames answered, of all slots: no two alike in group 0.
    frames: u16,
    answered: Cell<usize>,
}

impl Device {
    fn new(slots: usize, queue: usize) -> Device {
        Device::with_model(MODEL.clone(), slots, queue)
    }

    fn with_model(model: Arc<Model>, slots: usize, queue: usize) -> Device {
        Device::ahead(1, model, slots, queue)
    }

    /// One that takes so many frames ahead.
    fn ahead(frames_ahead: usize, model: Arc<Model>, slots: usize, queue: usize) -> Device {
        let (given_sender, given) = channel();
        let (answers, answers_receiver) = channel();
        let polls = Arc::new(AtomicUsize::new(0));
        let backend = Scripted { frames_ahead, given: given_sender, answers: answers_receiver, polls: polls.clone() };
        let options = EngineOptions { slots, queue, ..Default::default() };
        let engine = Engine::with_backend(model, Opened::of(backend, "script".into()), &options).unwrap();
        Device { frames_ahead, engine, given, answers, polls, frames: 0, answered: Cell::new(0) }
    }

    /// The next thing the backend is given.
    fn next(&self) -> (SlotId, Given) {
        self.given.recv_timeout(PATIENCE).expect("the backend is given something")
    }

    #[track_caller]
    fn expect(&self, slot: SlotId, given: Given) {
        assert_eq!(self.next(), (slot, given));
    }

    #[track_caller]
    fn expect_prefill(&self, slot: SlotId) -> usize {
        match self.next() {
            (of, Given::Prefill { positions, .. }) if of == slot => positions,
            other => panic!("no prefill in slot {slot} but {other:?}"),
        }
    }

    #[track_caller]
    fn expect_steps(&mut self, slot: SlotId, texts: &[u32]) {
        for &text in texts {
            self.expect(slot, Given::Step { text });
            self.frame(slot);
        }
    }

    #[track_caller]
    fn expect_pads(&mut self, slot: SlotId, count: usize, text: u32) {
        for _ in 0..count {
            self.expect(slot, Given::Pad { text });
            self.frame(slot);
        }
    }

    fn answer(&self, slot: SlotId, what: Did) {
        self.answer_together([(slot, what)]);
    }

    fn answer_together<const N: usize>(&self, answers: [(SlotId, Did); N]) {
        self.say(Answer::Done(answers.into_iter().map(|(slot, what)| Done { slot, what }).collect()));
    }

    fn say(&self, answer: Answer) {
        self.answered.set(self.answered.get() + 1);
        self.answers.send(answer).unwrap();
    }

    /// The worker has taken every answer, and waits for the next: for where work is under way from beginning to end.
    fn waits(&self) {
        while self.polls.load(Ordering::Relaxed) <= self.answered.get() {
            std::thread::yield_now();
        }
    }

    fn frame(&mut self, slot: SlotId) {
        self.frames += 1;
        self.frame_of(slot, self.frames);
    }

    fn frame_of(&self, slot: SlotId, code: u16) {
        self.answer(slot, Did::Frame { frame: frame(code), took: Took::default() });
    }

    fn samples(&self, slot: SlotId, frames: usize) {
        let samples = vec![0.5; frames * SAMPLES_PER_FRAME];
        self.answer(slot, Did::Samples { samples, took: Duration::ZERO });
    }

    /// Has the worker look at its inbox, should it wait for work under way.
    fn nudge(&self) {
        self.say(Answer::Nothing);
    }

    /// The worker has done all that it can, and nothing was given: a stream opened now is what it turns to next. Needs a
    /// free slot, `free`.
    #[track_caller]
    fn quiet(&self, free: SlotId) {
        let mut probe = self.engine.stream(&request()).unwrap();
        probe.push("x").unwrap();
        probe.end().unwrap();
        self.nudge();
        self.expect_prefill(free);
        for _ in 1..self.frames_ahead {
            assert!(matches!(self.next(), (of, Given::Step { .. }) if of == free));
        }
        self.answer(free, Did::Ended(End::Eos));
        self.expect(free, Given::Release);
    }
}

static MODEL: LazyLock<Arc<Model>> = LazyLock::new(Model::demo);

fn frame(code: u16) -> Frame {
    let mut frame = [0; 16];
    frame[0] = code;
    frame
}

fn request() -> Request {
    Request { voice: Voice::Preset("slt".into()), ..Default::default() }
}

/// Codes alone, so that no decode stands between the steps.
fn frames_only() -> Request {
    let mut request = request();
    request.delivery.output = Output::Frames;
    request
}

const TEXT: &str = "one two three four five six seven eight nine ten";

/// The text tokens behind the prompt's: the text's, eos, pad.
fn trailing(text: &str) -> (Vec<u32>, u32, u32) {
    let request = Request { layout: Some(Layout::Streaming), ..request() };
    let mut prompt = Prompt::new(&MODEL.config, &MODEL.tokenizer, &request).unwrap();
    prompt.push(text).unwrap();
    prompt.end().unwrap();
    let tokens = prompt.text_tokens() - 1;
    prompt.prefill().unwrap().unwrap();
    let texts = (0..tokens).map(|_| prompt.next_text().unwrap()).collect();
    let eos = prompt.next_text().unwrap();
    assert_ne!(eos, prompt.pad());
    assert_eq!(prompt.next_text(), Some(prompt.pad()));
    (texts, eos, prompt.pad())
}

/// Tokens that are certain while the text may go on.
fn certain_tokens(text: &str) -> usize {
    let mut prompt = Prompt::new(&MODEL.config, &MODEL.tokenizer, &request()).unwrap();
    prompt.push(text).unwrap();
    prompt.text_tokens()
}

fn stream(device: &Device, request: &Request, text: &str) -> Stream {
    let mut stream = device.engine.stream(request).unwrap();
    stream.push(text).unwrap();
    stream.end().unwrap();
    stream
}

#[track_caller]
fn ends(stream: &mut Stream, end: End, frame: usize) {
    let mut left = vec![0.0f32; 1 << 20];
    loop {
        let read = match stream.read(&mut left, Wait::AtMost(PATIENCE)) {
            // A stream of frames alone.
            Err(Error::Request { field: "output", .. }) => {
                stream.read_frames(&mut [[0; 16]; 64], Wait::AtMost(PATIENCE))
            }
            read => read,
        };
        match read.unwrap() {
            Read::Got(_) => {}
            Read::Ended(ended) => {
                assert_eq!((ended.end, ended.frame), (end, frame));
                assert_eq!(stream.stats().ended, Some(ended));
                return;
            }
            Read::NotYet => panic!("no end comes"),
        }
    }
}

fn read_frames(stream: &mut Stream, count: usize) {
    let mut frames = vec![[0; 16]; count];
    let mut read = 0;
    while read < count {
        match stream.read_frames(&mut frames[read..], Wait::AtMost(PATIENCE)).unwrap() {
            Read::Got(n) => read += n,
            other => panic!("{read} of {count} frames, then {other:?}"),
        }
    }
}

// ---- chunks --------------------------------------------------------------------------------------------------

/// Speaks so many frames to an Eos; the widths that the codec is given. Each decode must come while a step is under way.
fn widths(chunk_frames: &[usize], frames: usize) -> Vec<usize> {
    let mut device = Device::new(1, 0);
    let mut request = request();
    request.delivery.chunk_frames = chunk_frames.to_vec();
    let mut stream = stream(&device, &request, TEXT);
    device.expect_prefill(0);
    let mut widths = Vec::new();
    for made in 1..=frames {
        device.frame(0);
        // The step comes before the decode of what is there: neither waits for the other.
        assert!(matches!(device.next(), (0, Given::Step { .. })));
        let width = chunk_frames[widths.len().min(chunk_frames.len() - 1)];
        if made - widths.iter().sum::<usize>() == width {
            device.expect(0, Given::Decode { frames: width });
            widths.push(width);
            device.samples(0, width);
        }
    }
    device.answer(0, Did::Ended(End::Eos));
    let left = frames - widths.iter().sum::<usize>();
    if left > 0 {
        device.expect(0, Given::Decode { frames: left });
        widths.push(left);
        device.samples(0, left);
    }
    device.expect(0, Given::Release);
    let chunks: Vec<Chunk> = stream.chunks().map(Result::unwrap).collect();
    let mut first_frame = 0;
    for (chunk, &width) in chunks.iter().zip(&widths) {
        assert_eq!((chunk.first_frame, chunk.frames, chunk.samples.len()), (first_frame, width, width * 1920));
        first_frame += width;
    }
    assert_eq!(chunks.len(), widths.len());
    ends(&mut stream, End::Eos, frames);
    widths
}

#[test]
fn chunks_widen_as_asked_and_the_last_takes_what_is_left() {
    assert_eq!(widths(&Request::default().delivery.chunk_frames, 26), [1, 2, 4, 8, 8, 3]);
    assert_eq!(widths(&[1, 2, 4, 8], 15), [1, 2, 4, 8]);
    assert_eq!(widths(&[3], 10), [3, 3, 3, 1]);
    assert_eq!(widths(&[2, 5], 8), [2, 5, 1]);
    assert_eq!(widths(&[32], 5), [5]);
}

#[test]
fn a_pause_of_the_text_lets_a_narrower_chunk_out() {
    let (texts, eos, _) = trailing(TEXT);
    let mut device = Device::new(1, 0);
    let mut request = request();
    request.delivery.chunk_frames = vec![32];
    let mut stream = device.engine.stream(&request).unwrap();
    stream.push("one two three ").unwrap();
    device.expect_prefill(0);
    device.frame(0);
    device.expect_steps(0, &texts[..2]);
    // "three" may yet go on: the text is dry after two words and the space before the third.
    device.expect(0, Given::Decode { frames: 3 });
    device.samples(0, 3);
    assert!(matches!(stream.read_chunk(Wait::AtMost(PATIENCE)).unwrap(), Read::Got(Chunk { frames: 3, .. })));
    stream.push(&TEXT["one two three ".len()..]).unwrap();
    stream.end().unwrap();
    device.expect_steps(0, &texts[2..]);
    device.expect(0, Given::Step { text: eos });
}

// ---- text ----------------------------------------------------------------------------------------------------

#[test]
fn text_is_fed_in_order_then_eos_once_then_padding() {
    let (texts, eos, pad) = trailing(TEXT);
    let mut device = Device::new(1, 0);
    let mut stream = device.engine.stream(&frames_only()).unwrap();
    for (i, piece) in TEXT.split_inclusive('e').enumerate() {
        stream.push(piece).unwrap();
        if i == 1 {
            device.expect_prefill(0);
            device.frame(0);
        }
    }
    stream.end().unwrap();
    stream.end().unwrap();
    device.expect_steps(0, &texts);
    device.expect_steps(0, &[eos, pad, pad, pad]);
    device.expect(0, Given::Step { text: pad });
    device.answer(0, Did::Ended(End::Eos));
    device.expect(0, Given::Release);
    ends(&mut stream, End::Eos, texts.len() + 5);
    let stats = stream.stats();
    assert_eq!((stats.text_tokens, stats.missing_tokens, stats.pads), (texts.len() + 1, Some(0), 0));
    assert!(stats.conformant());
}

#[test]
fn dropping_the_writer_ends_the_text() {
    let (texts, eos, pad) = trailing("one two");
    let mut device = Device::new(1, 0);
    let (mut writer, _reader) = device.engine.stream(&frames_only()).unwrap().split();
    writer.push("one two").unwrap();
    drop(writer);
    device.expect_prefill(0);
    device.frame(0);
    device.expect_steps(0, &texts);
    device.expect_steps(0, &[eos, pad]);
}

#[test]
fn a_flush_speaks_the_last_word_and_text_may_follow() {
    let request = Request { layout: Some(Layout::Streaming), ..frames_only() };
    let mut prompt = Prompt::new(&MODEL.config, &MODEL.tokenizer, &request).unwrap();
    prompt.push("Wonderful").unwrap();
    assert_eq!(prompt.text_tokens(), 0, "the word may yet go on");
    prompt.flush().unwrap();
    prompt.prefill().unwrap().unwrap();
    let before: Vec<u32> = std::iter::from_fn(|| prompt.next_text()).collect();
    prompt.push(" news.").unwrap();
    prompt.end().unwrap();
    let rest = prompt.text_tokens() - 1 - before.len();
    let after: Vec<u32> = (0..=rest).map(|_| prompt.next_text().unwrap()).collect();

    let mut device = Device::new(2, 0);
    let mut stream = device.engine.stream(&request).unwrap();
    stream.push("Wonderful").unwrap();
    device.quiet(0);
    assert_eq!(stream.stats().missing_tokens, Some(1));
    stream.flush().unwrap();
    device.expect_prefill(0);
    device.frame(0);
    device.expect_steps(0, &before);
    device.quiet(1);
    stream.flush().unwrap();
    device.quiet(1);
    stream.push(" news.").unwrap();
    stream.end().unwrap();
    device.expect_steps(0, &after);
    device.expect(0, Given::Step { text: prompt.pad() });
}

/// A Base model, which the embedded one becomes by the word.
fn base() -> Arc<Model> {
    let mut model = Model::demo();
    let config = &mut Arc::get_mut(&mut model).unwrap().config;
    (config.kind, config.speakers) = (ModelKind::Base, Default::default());
    model
}

#[test]
fn a_clone_begins_with_the_token_that_fills_its_prompt() {
    let model = base();
    let ids = |text: &str| MODEL.tokenizer.encode(text, Regex::default(), false).unwrap().len();
    let transcript = "Yes, sir.";
    let transcript_tokens = ids(&format!("assistant\n{transcript}")) - ids("assistant\n");
    // The vector alone waits for one token, and so does a recording with fewer frames than words. One with more frames
    // waits for as many tokens as its frames, and the bos before them, have over its words.
    for (frames, waits_for) in [
        (None, 1),
        (Some(2), 0),
        (Some(transcript_tokens - 1), 0),
        (Some(transcript_tokens), 1),
        (Some(transcript_tokens + 5), 6),
    ] {
        let recording = frames.map(|n| ReferenceSpeech { frames: vec![[0; 16]; n], transcript: transcript.into() });
        let speaker_vector = vec![0.01; model.config.talker.hidden];
        let mut request = request();
        request.voice = Voice::Cloned(VoicePrompt { speaker_vector, reference: recording });
        let device = Device::with_model(model.clone(), 2, 0);
        let mut stream = device.engine.stream(&request).unwrap();
        assert_eq!(stream.stats().missing_tokens, Some(waits_for.max(1)), "{frames:?} frames");
        let mut text = String::new();
        loop {
            let came = TEXT[text.len()..].chars().next().unwrap();
            text.push(came);
            stream.push(came.to_string()).unwrap();
            // Where the recording's words fill the prompt, any word begins it: spaces may be all there will ever be. The
            // role before the text is certain once the text's first letter is, with its second.
            if certain_tokens(&text) >= waits_for && text.len() > 1 {
                break;
            }
            let probe = Request { voice: request.voice.clone(), ..frames_only() };
            let mut probe = device.engine.stream(&probe).unwrap();
            probe.push(TEXT).unwrap();
            device.expect_prefill(0);
            drop(probe);
            device.nudge();
            device.expect(0, Given::Release);
            assert_eq!(stream.stats().missing_tokens, Some(waits_for.max(1) - certain_tokens(&text)), "{text:?}");
        }
        match device.next() {
            (0, Given::Prefill { reference, .. }) => assert_eq!(reference, frames.unwrap_or(0)),
            other => panic!("{other:?}"),
        }
        assert_eq!(stream.stats().missing_tokens, Some(0));
    }
}

#[test]
fn a_clone_whose_text_is_too_short_begins_with_its_end() {
    let model = base();
    let recording = ReferenceSpeech { frames: vec![[0; 16]; 40], transcript: "Yes, sir.".into() };
    let speaker_vector = vec![0.01; model.config.talker.hidden];
    let voice = Voice::Cloned(VoicePrompt { speaker_vector, reference: Some(recording) });
    let mut device = Device::with_model(model, 1, 0);
    let mut stream = device.engine.stream(&Request { voice, ..frames_only() }).unwrap();
    stream.push("Hello. ").unwrap();
    stream.flush().unwrap();
    assert!(matches!(device.given.recv_timeout(Duration::from_millis(20)), Err(RecvTimeoutError::Timeout)));
    assert!(stream.stats().missing_tokens > Some(10));
    stream.end().unwrap();
    // The codec is not asked, so it hears no reference. Eos was among the prompt.
    match device.next() {
        (0, Given::Prefill { reference, .. }) => assert_eq!(reference, 0),
        other => panic!("{other:?}"),
    }
    device.frame(0);
    let (_, _, pad) = trailing(TEXT);
    device.expect_steps(0, &[pad, pad]);
}

#[test]
fn text_without_a_word_is_an_utterance_without_a_frame() {
    let device = Device::new(1, 1);
    let mut stream = device.engine.stream(&request()).unwrap();
    stream.push(" \n ").unwrap();
    stream.flush().unwrap();
    stream.push("\t").unwrap();
    device.quiet(0);
    stream.end().unwrap();
    ends(&mut stream, End::Eos, 0);
    device.quiet(0);
}

#[test]
fn dry_text_waits_and_costs_nothing() {
    let (texts, eos, _) = trailing(TEXT);
    let mut device = Device::new(2, 0);
    let mut stream = device.engine.stream(&frames_only()).unwrap();
    stream.push("one two three ").unwrap();
    device.expect_prefill(0);
    device.frame(0);
    device.expect_steps(0, &texts[..2]);
    device.quiet(1);
    let polls = device.polls.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(device.polls.load(Ordering::Relaxed), polls, "it looks again and again");
    stream.push(&TEXT["one two three ".len()..]).unwrap();
    stream.end().unwrap();
    device.expect_steps(0, &texts[2..]);
    device.expect(0, Given::Step { text: eos });
    let stats = stream.stats();
    assert!(stats.dry_ms >= 50.0 && stats.conformant(), "{stats:?}");
}

/// Dry at once, and no more than `frames + tokens` frames.
fn padded(wait: Duration, frames: usize) -> Request {
    let mut request = frames_only();
    request.delivery.on_dry = OnDry::PadAfter(wait);
    request.delivery.length_cap = LengthCap { frames, frames_per_token: 1 };
    request
}

#[test]
fn padding_lets_sound_flow_until_the_cap_and_late_text_is_still_spoken() {
    let (texts, _, pad) = trailing(TEXT);
    let mut device = Device::new(2, 0);
    let mut stream = device.engine.stream(&padded(Duration::ZERO, 4)).unwrap();
    stream.push("one two three ").unwrap();
    device.expect_prefill(0);
    device.frame(0);
    // Three tokens make a cap of seven frames.
    device.expect_steps(0, &texts[..2]);
    device.expect_pads(0, 4, pad);
    device.quiet(1);
    let stats = stream.stats();
    assert_eq!((stats.pads, stats.frames, stats.text_tokens), (4, 7, 3));
    assert!(!stats.conformant());
    stream.push(&TEXT["one two three ".len()..]).unwrap();
    let certain = certain_tokens(TEXT) - 1; // the last word may go on
    device.expect_steps(0, &texts[2..certain]);
    device.quiet(1);
    assert_eq!(stream.stats().pads, 4);
    stream.end().unwrap();
    device.expect_steps(0, &texts[certain..]);
    device.expect(0, Given::Release);
    ends(&mut stream, End::Length, texts.len() + 5);
}

#[test]
fn padding_comes_of_itself_after_its_time() {
    let (_, _, pad) = trailing(TEXT);
    let mut device = Device::new(1, 0);
    let mut stream = device.engine.stream(&padded(Duration::from_millis(30), 100)).unwrap();
    stream.push("one ").unwrap();
    device.expect_prefill(0);
    device.frame(0);
    device.expect_pads(0, 3, pad);
}

// ---- ends ----------------------------------------------------------------------------------------------------

#[test]
fn the_length_cap_grows_with_the_text() {
    for text in ["one two three", TEXT] {
        let (texts, eos, pad) = trailing(text);
        let mut device = Device::new(1, 0);
        let mut request = frames_only();
        request.delivery.length_cap = LengthCap { frames: 4, frames_per_token: 2 };
        let mut stream = stream(&device, &request, text);
        device.expect_prefill(0);
        device.frame(0);
        device.expect_steps(0, &texts);
        device.expect_steps(0, &[eos]);
        let tokens = texts.len() + 1;
        let cap = 4 + 2 * tokens;
        device.expect_steps(0, &vec![pad; cap - tokens - 1]);
        device.expect(0, Given::Release);
        ends(&mut stream, End::Length, cap);
    }
}

/// A model whose positions end so many behind TEXT's prompt.
fn with_positions_behind_the_prompt(more: usize) -> Arc<Model> {
    let positions = {
        let device = Device::new(1, 0);
        let _stream = stream(&device, &frames_only(), TEXT);
        device.expect_prefill(0)
    };
    let mut model = Model::demo();
    Arc::get_mut(&mut model).unwrap().config.max_positions = positions + more;
    model
}

#[test]
fn positions_that_are_used_up_end_it() {
    let model = with_positions_behind_the_prompt(3);
    let mut device = Device::with_model(model, 1, 0);
    let mut stream = stream(&device, &frames_only(), TEXT);
    device.expect_prefill(0);
    device.frame(0);
    device.expect_steps(0, &trailing(TEXT).0[..3]);
    device.expect(0, Given::Release);
    ends(&mut stream, End::Length, 4);
}

#[test]
fn the_backend_ends_it() {
    for (end, frames) in [(End::Eos, 0), (End::Eos, 3), (End::Length, 1)] {
        let mut device = Device::new(1, 0);
        let mut stream = stream(&device, &frames_only(), TEXT);
        device.expect_prefill(0);
        for _ in 0..frames {
            device.frame(0);
            assert!(matches!(device.next(), (0, Given::Step { .. })));
        }
        device.answer(0, Did::Ended(end));
        device.expect(0, Given::Release);
        read_frames(&mut stream, frames);
        ends(&mut stream, end, frames);
    }
}

#[test]
fn speech_that_is_stuck_is_ended() {
    let device = Device::new(1, 0);
    let mut stream = stream(&device, &frames_only(), TEXT);
    device.expect_prefill(0);
    // One short of it, another code, then all of it.
    for i in 0..2 * DEGENERATE_FRAMES {
        device.frame_of(0, if i == DEGENERATE_FRAMES - 1 { 8 } else { 7 });
        match i + 1 < 2 * DEGENERATE_FRAMES {
            true => assert!(matches!(device.next(), (0, Given::Step { .. })), "frame {i}"),
            false => device.expect(0, Given::Release),
        }
    }
    ends(&mut stream, End::Degenerate, 2 * DEGENERATE_FRAMES);
}

#[test]
fn sound_made_before_an_error_is_read_before_the_error_and_none_after_it() {
    let mut device = Device::new(2, 0);
    let mut stream = stream(&device, &request(), TEXT);
    device.expect_prefill(0);
    for width in [Some(1), None, Some(2)] {
        device.frame(0);
        assert!(matches!(device.next(), (0, Given::Step { .. })));
        width.into_iter().for_each(|frames| device.expect(0, Given::Decode { frames }));
    }
    device.samples(0, 1);
    // The third step fails while two frames are being decoded: what the backend says of them comes to nobody.
    device.answer_together([
        (0, Did::Failed(Error::compute("step", "went wrong"))),
        (0, Did::Samples { samples: vec![0.5; 2 * SAMPLES_PER_FRAME], took: Duration::ZERO }),
    ]);
    device.expect(0, Given::Release);
    device.quiet(0);
    let mut samples = [0.0f32; 8000];
    assert_eq!(stream.read(&mut samples, Wait::AtMost(PATIENCE)).unwrap(), Read::Got(1920));
    for _ in 0..2 {
        let error = stream.read(&mut samples, Wait::AtMost(PATIENCE)).unwrap_err().to_string();
        assert_eq!(error, "step: went wrong");
        assert!(stream.read_frames(&mut [[0; 16]], Wait::AtMost(PATIENCE)).is_err());
    }
    let mut chunks = stream.chunks();
    assert!(chunks.next().unwrap().is_err());
    assert!(chunks.next().is_none());
    drop(chunks);
    let ended = stream.stats().ended.unwrap();
    assert_eq!((ended.end, ended.frame), (End::Failed, 3));
}

#[test]
fn text_that_cannot_be_tokenised_ends_its_stream_alone() {
    let mut device = Device::new(2, 0);
    let mut other = stream(&device, &frames_only(), TEXT);
    device.expect_prefill(0);
    // One word, longer than the tokenizer takes.
    let mut stream = stream(&device, &request(), &"a".repeat(300_000));
    (0..300_000 >> 14).for_each(|_| device.nudge());
    let error = stream.read(&mut [0.0f32; 4], Wait::AtMost(PATIENCE)).unwrap_err().to_string();
    assert!(error.ends_with(" bytes without a break; at most 131072 can be tokenised"), "{error}");
    assert_eq!(stream.stats().ended.unwrap().end, End::Failed);
    device.frame(0);
    read_frames(&mut other, 1);
}

/// Two streams that speak, one in the queue and one without text, once the engine has come to its end.
fn engine_ends(how: impl FnOnce(&Device)) -> (Vec<Stream>, Device) {
    let device = Device::new(2, 2);
    let mut streams: Vec<Stream> = (0..3).map(|_| device.engine.stream(&request()).unwrap()).collect();
    streams.iter_mut().for_each(|stream| stream.push(TEXT).unwrap());
    streams.push(device.engine.stream(&request()).unwrap());
    device.expect_prefill(0);
    device.expect_prefill(1);
    assert_eq!(device.engine.counts(), Counts { open: 4, speaking: 2 });
    how(&device);
    (streams, device)
}

#[test]
fn a_backend_that_breaks_fails_every_stream() {
    let broken = |device: &Device| device.say(Answer::Broken(Error::compute("script", "broke")));
    for (how, words) in [
        (&broken as &dyn Fn(&Device), "script: broke"),
        (&|device: &Device| device.say(Answer::Panic), "engine: its working thread failed"),
    ] {
        let (streams, device) = engine_ends(how);
        for mut stream in streams {
            let error = stream.read(&mut [0.0f32; 4], Wait::AtMost(PATIENCE)).unwrap_err();
            assert_eq!(error.to_string(), words);
            assert_eq!(stream.stats().ended.unwrap().end, End::Failed);
            refuses_text(&mut stream, "failed");
        }
        assert_eq!(device.engine.stream(&request()).err().unwrap().to_string(), words);
        device.engine.close();
        assert_eq!(device.engine.counts(), Counts::default());
    }
}

fn refuses_text(stream: &mut Stream, ended: &str) {
    let error = stream.push("more").unwrap_err().to_string();
    assert_eq!(error, format!("text: comes too late; this stream has ended: {ended}"));
}

#[test]
fn closing_the_engine_cancels_what_lives() {
    let (streams, device) = engine_ends(|device| {
        device.nudge();
        device.engine.close();
        device.engine.clone().close();
    });
    assert_eq!(device.engine.counts(), Counts::default());
    for mut stream in streams {
        ends(&mut stream, End::Cancelled, 0);
        refuses_text(&mut stream, "cancelled");
    }
    assert!(matches!(device.engine.stream(&request()), Err(Error::Closed)));
}

#[test]
fn what_was_made_can_be_read_after_the_engine_has_closed() {
    let mut device = Device::new(1, 0);
    let mut stream = stream(&device, &request(), TEXT);
    device.expect_prefill(0);
    device.frame(0);
    assert!(matches!(device.next(), (0, Given::Step { .. })));
    device.expect(0, Given::Decode { frames: 1 });
    device.answer(0, Did::Ended(End::Eos));
    device.samples(0, 1);
    device.expect(0, Given::Release);
    device.engine.close();
    assert_eq!(stream.read(&mut [0.0f32; 4000], Wait::AtMost(PATIENCE)).unwrap(), Read::Got(1920));
    ends(&mut stream, End::Eos, 1);
}

#[test]
fn the_engine_lives_as_long_as_its_last_stream() {
    let Device { engine, given, .. } = Device::new(1, 0);
    let (writer, reader) = engine.stream(&request()).unwrap().split();
    drop(engine);
    assert!(matches!(given.recv_timeout(Duration::from_millis(20)), Err(RecvTimeoutError::Timeout)));
    drop(reader);
    assert!(matches!(given.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected)), "the worker goes on");
    drop(writer);
}

// ---- the reader ----------------------------------------------------------------------------------------------

#[test]
fn a_slow_reader_stops_the_work_and_it_goes_on_when_he_reads() {
    for output in [Output::Samples, Output::Frames, Output::Both] {
        let mut device = Device::new(2, 0);
        let mut request = request();
        request.delivery.output = output;
        request.delivery.lead = 4 * FRAME_TIME;
        let mut stream = stream(&device, &request, TEXT);
        device.expect_prefill(0);
        let sound = output != Output::Frames;
        for made in 1..=4 {
            device.frame(0);
            if made < 4 {
                assert!(matches!(device.next(), (0, Given::Step { .. })));
            }
            // 1, 2, and what the pause lets out.
            match made {
                1 | 4 if sound => device.expect(0, Given::Decode { frames: 1 }),
                3 if sound => device.expect(0, Given::Decode { frames: 2 }),
                _ => {}
            }
        }
        if sound {
            [1, 2, 1].into_iter().for_each(|frames| device.samples(0, frames));
        }
        device.quiet(1);
        let read = |stream: &mut Stream, samples: usize| match sound {
            true => {
                let mut into = vec![0.0f32; samples];
                let mut done = 0;
                while done < samples {
                    match stream.read(&mut into[done..], Wait::AtMost(PATIENCE)).unwrap() {
                        Read::Got(n) => done += n,
                        other => panic!("{other:?}"),
                    }
                }
            }
            false => read_frames(stream, 1),
        };
        // One sample is enough: less than four whole frames wait.
        read(&mut stream, 1);
        assert!(matches!(device.next(), (0, Given::Step { .. })));
        device.frame(0);
        if sound {
            device.expect(0, Given::Decode { frames: 1 });
            device.samples(0, 1);
            device.quiet(1);
            read(&mut stream, 1919); // to the end of the frame that was begun
        }
        device.quiet(1);
        read(&mut stream, 1);
        assert!(matches!(device.next(), (0, Given::Step { .. })));
    }
}

#[test]
fn codes_alone_need_no_codec() {
    let (texts, eos, _) = trailing("one two");
    let mut device = Device::new(1, 0);
    let mut stream = stream(&device, &frames_only(), "one two");
    device.expect_prefill(0);
    device.frame(0);
    device.expect_steps(0, &texts);
    device.expect(0, Given::Step { text: eos });
    device.answer(0, Did::Ended(End::Eos));
    device.expect(0, Given::Release);
    let mut frames = [[0; 16]; 9];
    let count = texts.len() + 1;
    assert_eq!(stream.read_frames(&mut frames, Wait::AtMost(PATIENCE)).unwrap(), Read::Got(count));
    for (i, read) in frames[..count].iter().enumerate() {
        assert_eq!(*read, frame(i as u16 + 1));
    }
    assert!(stream.stats().first_sound_ms.is_some());
}

#[test]
fn a_reader_who_waits_is_woken() {
    type Wake = (&'static str, fn(&Device, &Canceller), Option<End>);
    let wakes: [Wake; 4] = [
        ("cancel", |_, canceller| canceller.cancel(), Some(End::Cancelled)),
        ("close", |device, _| device.engine.close(), Some(End::Cancelled)),
        ("failure", |device, _| device.answer(0, Did::Failed(Error::compute("step", "went wrong"))), None),
        ("end", |device, _| device.answer(0, Did::Ended(End::Eos)), Some(End::Eos)),
    ];
    for (name, wake, expected) in wakes {
        let device = Device::new(1, 0);
        let (_writer, mut reader) = stream(&device, &request(), TEXT).split();
        device.expect_prefill(0);
        let canceller = reader.canceller();
        let (sender, woken) = channel();
        let thread = std::thread::spawn(move || sender.send(reader.read(&mut [0i16; 8], Wait::Forever)).unwrap());
        assert!(woken.recv_timeout(Duration::from_millis(20)).is_err(), "{name}: it did not wait");
        wake(&device, &canceller);
        match (woken.recv_timeout(PATIENCE).expect(name), expected) {
            (Ok(Read::Ended(ended)), Some(end)) => assert_eq!(ended.end, end, "{name}"),
            (Err(_), None) => {}
            (other, _) => panic!("{name}: {other:?}"),
        }
        thread.join().unwrap();
    }
}

#[test]
fn a_read_waits_no_longer_than_it_was_told() {
    let device = Device::new(1, 0);
    let mut both = request();
    both.delivery.output = Output::Both;
    let mut stream = stream(&device, &both, TEXT);
    for wait in [Wait::No, Wait::AtMost(Duration::ZERO), Wait::AtMost(Duration::from_millis(20))] {
        let started = Instant::now();
        assert_eq!(stream.read(&mut [0.0f32; 8], wait).unwrap(), Read::NotYet);
        assert_eq!(stream.read_chunk(wait).unwrap(), Read::NotYet);
        assert_eq!(stream.read_frames(&mut [[0; 16]], wait).unwrap(), Read::NotYet);
        if let Wait::AtMost(time) = wait {
            assert!(started.elapsed() >= 3 * time);
        }
    }
}

// ---- cancelling ----------------------------------------------------------------------------------------------

#[test]
fn after_a_cancel_nothing_new_is_begun() {
    let mut device = Device::new(1, 0);
    let mut stream = stream(&device, &request(), TEXT);
    device.expect_prefill(0);
    device.frame(0);
    assert!(matches!(device.next(), (0, Given::Step { .. })));
    device.expect(0, Given::Decode { frames: 1 });
    device.samples(0, 1);
    device.waits();
    let canceller = stream.canceller();
    canceller.cancel();
    canceller.clone().cancel();
    // The frame that was under way. Neither the next step nor a decode: nobody wants them.
    device.frame(0);
    device.expect(0, Given::Release);
    ends(&mut stream, End::Cancelled, 1);
    canceller.cancel();
    ends(&mut stream, End::Cancelled, 1);
}

#[test]
fn a_cancelled_streams_slot_goes_to_the_next_at_once() {
    let mut device = Device::new(1, 1);
    let mut first = stream(&device, &request(), TEXT);
    device.expect_prefill(0);
    let mut second = stream(&device, &request(), "Hello.");
    device.frame(0);
    assert!(matches!(device.next(), (0, Given::Step { .. })));
    device.expect(0, Given::Decode { frames: 1 });
    first.canceller().cancel();
    device.nudge();
    device.expect(0, Given::Release);
    device.expect_prefill(0);
    device.answer(0, Did::Ended(End::Eos));
    ends(&mut second, End::Eos, 0);
    ends(&mut first, End::Cancelled, 1);
    assert!(first.stats().cancel_ms.is_some());
}

#[test]
fn the_end_of_a_stream_that_was_heard_stays_what_it_was() {
    let device = Device::new(1, 0);
    let mut stream = stream(&device, &frames_only(), TEXT);
    device.expect_prefill(0);
    device.answer(0, Did::Ended(End::Eos));
    ends(&mut stream, End::Eos, 0);
    stream.canceller().cancel();
    ends(&mut stream, End::Eos, 0);
}

#[test]
fn a_dropped_reader_cancels_and_a_dropped_stream_too() {
    for halves in [true, false] {
        let mut device = Device::new(1, 0);
        let stream = stream(&device, &request(), TEXT);
        device.expect_prefill(0);
        device.waits();
        if halves {
            let (mut writer, reader) = stream.split();
            drop(reader);
            assert_eq!(writer.stats().ended.unwrap().end, End::Cancelled);
            assert!(writer.push("more").is_err());
        } else {
            drop(stream);
        }
        assert_eq!(device.engine.counts().open, 0);
        device.frame(0);
        device.expect(0, Given::Release);
    }
}

// ---- slots ---------------------------------------------------------------------------------------------------

#[test]
fn no_slots_and_too_many_are_refused() {
    for slots in [0, MOST_SLOTS + 1] {
        let options = EngineOptions { slots, ..Default::default() };
        let error = Engine::with_model(MODEL.clone(), &options).err().unwrap();
        assert_eq!(error.to_string(), format!("slots: is {slots}; expected 1 to {MOST_SLOTS}"));
    }
}

#[test]
fn slots_go_to_those_whose_prompt_was_ready_first_and_the_rest_is_refused() {
    let mut device = Device::new(1, 3);
    let speaks = stream(&device, &request(), TEXT);
    device.expect_prefill(0);
    // Opened first, ready last.
    let mut late = device.engine.stream(&frames_only()).unwrap();
    let gone = stream(&device, &frames_only(), TEXT);
    let early = stream(&device, &request(), TEXT);
    device.nudge();
    device.waits();
    late.push(TEXT).unwrap();
    assert_eq!(device.engine.counts(), Counts { open: 4, speaking: 1 });
    match device.engine.stream(&request()) {
        Err(error @ Error::Busy { .. }) => {
            let words = "engine: all 4 streams that it takes are open (slots and queue together)";
            assert_eq!(error.to_string(), words);
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a fifth stream is taken"),
    }
    gone.canceller().cancel();
    drop(speaks);
    device.nudge();
    device.expect(0, Given::Release);
    // Not the one that was cancelled while it waited.
    device.expect_prefill(0);
    assert_eq!(device.engine.counts(), Counts { open: 2, speaking: 1 });
    device.frame(0);
    assert!(matches!(device.next(), (0, Given::Step { .. })));
    device.expect(0, Given::Decode { frames: 1 }); // `early` has sound, `late` has not
    drop(early);
    device.nudge();
    device.expect(0, Given::Release);
    device.expect_prefill(0);
    device.frame(0);
    assert!(matches!(device.next(), (0, Given::Step { .. })));
    drop(late);
    device.nudge();
    device.expect(0, Given::Release);
    while device.engine.counts() != Counts::default() {
        std::thread::yield_now();
    }
}

#[test]
fn who_has_heard_the_end_has_given_the_place_back() {
    let mut device = Device::new(1, 0);
    for _ in 0..200 {
        let mut stream = stream(&device, &frames_only(), TEXT);
        device.expect_prefill(0);
        device.frame(0);
        assert!(matches!(device.next(), (0, Given::Step { .. })));
        device.answer(0, Did::Ended(End::Eos));
        ends(&mut stream, End::Eos, 1);
        assert_eq!(device.engine.counts().open, 0);
        device.expect(0, Given::Release);
    }
}

// ---- frames ahead --------------------------------------------------------------------------------------------

/// A device that takes the next frame before the last was seen.
fn two_ahead(slots: usize) -> Device {
    Device::ahead(2, MODEL.clone(), slots, 0)
}

#[test]
fn the_next_frame_is_under_way_before_the_last_was_seen() {
    let (texts, eos, pad) = trailing(TEXT);
    let mut device = two_ahead(1);
    let mut stream = stream(&device, &request(), TEXT);
    device.expect_prefill(0);
    device.expect(0, Given::Step { text: texts[0] });
    let fed: Vec<u32> = texts[1..].iter().copied().chain([eos, pad, pad]).collect();
    let (mut widths, mut pending) = ([1, 2, 4, 8].into_iter(), 0);
    let mut width = widths.next().unwrap();
    for &text in &fed {
        device.frame(0);
        device.expect(0, Given::Step { text });
        pending += 1;
        if pending == width {
            device.expect(0, Given::Decode { frames: width });
            device.samples(0, width);
            (pending, width) = (0, widths.next().unwrap_or(8));
        }
    }
    // The frame after the next is the end: what was begun behind it is nothing, and no frame is held back for it.
    device.frame(0);
    device.expect(0, Given::Step { text: pad });
    pending += 1;
    device.answer(0, Did::Ended(End::Eos));
    device.expect(0, Given::Decode { frames: pending });
    device.answer(0, Did::Ended(End::Eos));
    device.samples(0, pending);
    device.expect(0, Given::Release);
    ends(&mut stream, End::Eos, fed.len() + 1);
    assert!(stream.stats().conformant());
}

#[test]
fn a_frame_behind_the_end_is_waited_for_by_nobody() {
    for (end, frames) in [(End::Eos, 0), (End::Eos, 3), (End::Length, 1)] {
        let mut device = two_ahead(1);
        for _ in 0..2 {
            let mut stream = stream(&device, &frames_only(), TEXT);
            device.expect_prefill(0);
            assert!(matches!(device.next(), (0, Given::Step { .. })));
            for _ in 0..frames {
                device.frame(0);
                assert!(matches!(device.next(), (0, Given::Step { .. })));
            }
            // With its echo in one go, or without it.
            device.answer_together([(0, Did::Ended(end)), (0, Did::Ended(end))]);
            device.expect(0, Given::Release);
            ends(&mut stream, end, frames);
        }
    }
}

#[test]
fn what_is_under_way_counts_for_the_length() {
    let (texts, eos, pad) = trailing("one two three");
    let tokens = texts.len() + 1;
    for last in [End::Length, End::Eos] {
        let mut device = two_ahead(1);
        let mut request = frames_only();
        request.delivery.length_cap = LengthCap { frames: 2, frames_per_token: 1 };
        let cap = 2 + tokens;
        let mut stream = stream(&device, &request, "one two three");
        device.expect_prefill(0);
        let mut fed = texts.iter().copied().chain([eos, pad, pad]);
        device.expect(0, Given::Step { text: fed.next().unwrap() });
        for text in fed.by_ref().take(cap - 2) {
            device.frame(0);
            device.expect(0, Given::Step { text });
        }
        device.frame(0);
        // The last one is under way, and may yet say that it is none.
        match last {
            End::Length => device.frame(0),
            end => device.answer(0, Did::Ended(end)),
        }
        device.expect(0, Given::Release);
        ends(&mut stream, last, if last == End::Length { cap } else { cap - 1 });
    }
}

#[test]
fn what_is_under_way_counts_for_the_positions() {
    let model = with_positions_behind_the_prompt(2);
    let mut device = Device::ahead(2, model, 1, 0);
    let mut stream = stream(&device, &frames_only(), TEXT);
    device.expect_prefill(0);
    device.expect(0, Given::Step { text: trailing(TEXT).0[0] });
    device.frame(0);
    device.expect(0, Given::Step { text: trailing(TEXT).0[1] });
    device.frame(0);
    device.frame(0);
    device.expect(0, Given::Release);
    ends(&mut stream, End::Length, 3);
}

#[test]
fn nothing_is_delivered_behind_speech_that_is_stuck() {
    for sound in [false, true] {
        let device = two_ahead(1);
        let mut request = if sound { request() } else { frames_only() };
        request.delivery.chunk_frames = vec![32];
        let mut stream = stream(&device, &request, TEXT);
        device.expect_prefill(0);
        assert!(matches!(device.next(), (0, Given::Step { .. })));
        for made in 1..DEGENERATE_FRAMES {
            device.frame_of(0, 7);
            assert!(matches!(device.next(), (0, Given::Step { .. })));
            if sound && made == 32 {
                device.expect(0, Given::Decode { frames: 32 });
                device.samples(0, 32);
            }
        }
        device.frame_of(0, 7);
        if sound {
            let left = DEGENERATE_FRAMES - 32;
            device.expect(0, Given::Decode { frames: left });
            device.frame_of(0, 9);
            device.samples(0, left);
        }
        device.expect(0, Given::Release);
        ends(&mut stream, End::Degenerate, DEGENERATE_FRAMES);
    }
}

#[test]
fn text_is_dry_when_nothing_is_under_way() {
    let (texts, eos, pad) = trailing(TEXT);
    let mut device = two_ahead(2);
    let mut request = request();
    request.delivery.chunk_frames = vec![32];
    let mut stream = device.engine.stream(&request).unwrap();
    stream.push("one two three ").unwrap();
    device.expect_prefill(0);
    device.expect(0, Given::Step { text: texts[0] });
    device.frame(0);
    device.expect(0, Given::Step { text: texts[1] });
    device.frame(0);
    // No text for another, but a frame comes: it joins the chunk.
    device.nudge();
    device.waits();
    device.frame(0);
    device.expect(0, Given::Decode { frames: 3 });
    device.samples(0, 3);
    device.quiet(1);
    stream.push(&TEXT["one two three ".len()..]).unwrap();
    stream.end().unwrap();
    let fed: Vec<u32> = texts[2..].iter().copied().chain([eos, pad]).collect();
    device.expect(0, Given::Step { text: fed[0] });
    for &text in &fed[1..] {
        device.expect(0, Given::Step { text });
        device.frame(0);
    }
    assert!(stream.stats().dry_ms > 0.0);
}

#[test]
fn padding_is_not_begun_ahead_but_text_behind_it_is() {
    let (texts, _, pad) = trailing(TEXT);
    let mut device = two_ahead(2);
    let mut stream = device.engine.stream(&padded(Duration::ZERO, 4)).unwrap();
    stream.push("one two three ").unwrap();
    device.expect_prefill(0);
    device.expect(0, Given::Step { text: texts[0] });
    device.frame(0);
    device.expect(0, Given::Step { text: texts[1] });
    device.frame(0);
    device.waits();
    assert_eq!(stream.stats().pads, 0);
    device.frame(0);
    device.expect(0, Given::Pad { text: pad });
    stream.push(&TEXT["one two three ".len()..]).unwrap();
    device.nudge();
    device.expect(0, Given::Step { text: texts[2] });
    device.frame(0);
    device.expect(0, Given::Step { text: texts[3] });
    assert_eq!(stream.stats().pads, 1);
}

#[test]
fn silence_of_padding_is_told_from_speech_that_is_stuck() {
    // Every frame is the same, and every second one is padding: which is which is known of each that is under way.
    let (_, _, pad) = trailing(TEXT);
    let device = two_ahead(1);
    let mut request = padded(Duration::ZERO, 1000);
    request.delivery.lead = Duration::from_secs(1000);
    let mut stream = device.engine.stream(&request).unwrap();
    stream.push("one ").unwrap();
    device.expect_prefill(0);
    device.frame_of(0, 7);
    for _ in 0..2 * DEGENERATE_FRAMES {
        device.expect(0, Given::Pad { text: pad });
        stream.push("a ").unwrap();
        device.nudge();
        assert!(matches!(device.next(), (0, Given::Step { .. })));
        device.frame_of(0, 7);
        device.frame_of(0, 7);
    }
    device.expect(0, Given::Pad { text: pad });
}

#[test]
fn what_is_under_way_counts_for_the_lead() {
    for lead in 1..4 {
        let mut device = two_ahead(2);
        let mut request = frames_only();
        request.delivery.lead = lead * FRAME_TIME;
        let mut stream = stream(&device, &request, TEXT);
        device.expect_prefill(0);
        let steps = |device: &Device, count: u32| {
            (0..count).for_each(|_| assert!(matches!(device.next(), (0, Given::Step { .. }))));
        };
        steps(&device, lead.min(2) - 1);
        for made in 1..=lead {
            device.frame(0);
            steps(&device, u32::from(made + 1 < lead));
        }
        device.quiet(1);
        read_frames(&mut stream, 1);
        steps(&device, 1);
        device.frame(0);
        device.quiet(1);
    }
}

#[test]
fn a_cancel_leaves_what_is_under_way_to_nobody() {
    let mut device = two_ahead(1);
    let mut stream = stream(&device, &request(), TEXT);
    device.expect_prefill(0);
    assert!(matches!(device.next(), (0, Given::Step { .. })));
    device.waits();
    stream.canceller().cancel();
    device.nudge();
    device.expect(0, Given::Release);
    ends(&mut stream, End::Cancelled, 0);
    // The slot is another's, whose frames are counted from nothing.
    let mut next = self::stream(&device, &frames_only(), TEXT);
    device.expect_prefill(0);
    assert!(matches!(device.next(), (0, Given::Step { .. })));
    device.frame(0);
    read_frames(&mut next, 1);
}
