//! Would catch: an engine that says other than the bare loop, that loses or repeats sound, that takes what it cannot do,
//! or that speaks on when it was told to stop.

#[path = "support/random.rs"]
mod random;
mod support;

use qwentts::engine::{Engine, EngineOptions, Event, RATES_HZ, Read, Stream, Wait, WordMark};
use qwentts::frame::{End, Frame, SAMPLES_PER_FRAME, Sample};
use qwentts::model::Model;
use qwentts::request::{Layout, Output, Request, Voice};
use qwentts::source::ModelSource;
use qwentts::speech::{Bare, Speech, Text};
use qwentts::{Error, Randomness};
use random::Random;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longer than any machine needs; only a failing test waits for it.
const PATIENCE: Wait = Wait::AtMost(Duration::from_secs(60));

fn model() -> Arc<Model> {
    Model::open(&ModelSource::Folder(concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo").into())).unwrap()
}

fn request(seed: u64) -> Request {
    let mut request = Request { voice: Voice::Preset("slt".into()), ..Default::default() };
    request.sampling.draws(true);
    request.randomness = Randomness::Seed(seed);
    request
}

/// What the bare loop says.
fn say_bare(bare: &Bare, text: &str, request: &Request) -> (Vec<Frame>, Vec<f32>, End) {
    let mut speech = Speech::new(bare, Text::Whole(text.into()), request).unwrap();
    let (mut frames, mut samples) = (Vec::new(), Vec::new());
    while let Some(chosen) = speech.next_frame().unwrap() {
        samples.extend(speech.decode(&[chosen.frame]).unwrap());
        frames.push(chosen.frame);
    }
    (frames, samples, speech.end().unwrap())
}

#[test]
fn the_engine_says_what_the_bare_loop_says() {
    let model = model();
    let engine = Engine::with_model(model.clone(), &support::options()).unwrap();
    let bare = support::bare(model, Some(1));
    assert_eq!(engine.device(), bare.device());
    let short = "The engine says what the loop says.";
    // More than runs in one piece.
    let long =
        format!("{short} It takes a longer prompt in pieces, and nothing of it may be lost or heard twice. ").repeat(4);
    for (layout, text) in [(None, short), (Some(Layout::Streaming), short), (None, &long)] {
        let mut request = Request { layout, ..request(3) };
        request.delivery.output = Output::Both;
        request.sampling.max_new_tokens = Some(60);
        let (frames, samples, end) = say_bare(&bare, text, &request);
        let mut stream = engine.speak(text, &request).unwrap();
        let mut said = Vec::new();
        for chunk in stream.chunks() {
            let chunk = chunk.unwrap();
            assert_eq!(chunk.first_frame * SAMPLES_PER_FRAME, said.len());
            said.extend(chunk.samples);
        }
        assert_eq!(said, samples);
        let mut chosen = vec![[0; 16]; frames.len() + 1];
        assert_eq!(stream.read_frames(&mut chosen, Wait::Forever).unwrap(), Read::Got(frames.len()));
        assert_eq!(chosen[..frames.len()], frames);
        let Read::Ended(ended) = stream.read(&mut [0.0f32; 4], Wait::Forever).unwrap() else { panic!() };
        assert_eq!((ended.end, ended.frame), (end, frames.len()));
    }
}

// ---- the tiny model, where many streams are needed -----------------------------------------------------------

fn tiny() -> Arc<Model> {
    Model::open(&ModelSource::Folder(support::checkpoint("tiny-0b6-custom", 2))).unwrap()
}

fn engine(slots: usize, queue: usize) -> Engine {
    Engine::with_model(tiny(), &EngineOptions { threads: Some(1), slots, queue, ..support::options() }).unwrap()
}

/// Seed 1 says some thirty frames of it.
const TEXT: &str = "The quick brown fox jumps over the lazy dog.";

fn tiny_request() -> Request {
    let mut request = Request { voice: Voice::Preset("vivian".into()), layout: Some(Layout::Streaming), ..request(1) };
    request.sampling.max_new_tokens = Some(30);
    request
}

fn read_all<S: Sample>(stream: &mut Stream) -> Vec<S> {
    let mut samples = Vec::new();
    let mut buffer = [S::default(); 3000];
    loop {
        match stream.read(&mut buffer, PATIENCE).unwrap() {
            Read::Got(n) => samples.extend_from_slice(&buffer[..n]),
            Read::Ended(_) => return samples,
            Read::NotYet => panic!("no sound comes"),
        }
    }
}

#[test]
fn whole_numbers_are_the_rounded_floats() {
    let engine = engine(2, 0);
    let floats: Vec<f32> = read_all(&mut engine.speak(TEXT, &tiny_request()).unwrap());
    let whole: Vec<i16> = read_all(&mut engine.speak(TEXT, &tiny_request()).unwrap());
    assert!(
        floats.len() > 10 * SAMPLES_PER_FRAME && whole.iter().any(|&s| s > 1000) && whole.iter().any(|&s| s < -1000)
    );
    assert_eq!(whole.len(), floats.len());
    // The product is rounded to f32 before it is to a whole number.
    let off = |(&float, &whole): (&f32, &i16)| (f64::from(float) * 32767.0 - f64::from(whole)).abs();
    assert!(floats.iter().zip(&whole).map(off).all(|off| off <= 0.5 + 0.001));
}

#[test]
fn any_rate_flows_with_the_least_lead_in_any_chunks() {
    let engine = engine(2, 0);
    for rate_hz in RATES_HZ {
        let speak = |chunk_frames: &[usize], lead: Duration| -> Vec<f32> {
            let mut request = tiny_request();
            request.delivery.sample_rate_hz = rate_hz;
            request.delivery.chunk_frames = chunk_frames.to_vec();
            request.delivery.lead = lead;
            read_all(&mut engine.speak(TEXT, &request).unwrap())
        };
        let whole = speak(&[32], Duration::from_secs(10));
        assert!(whole.len() > 10 * rate_hz as usize / 100 * 8);
        assert!(speak(&[1], Duration::from_millis(80)) == whole, "{rate_hz} Hz");
        assert!(speak(&[2, 5], Duration::from_millis(240)) == whole, "{rate_hz} Hz");
    }
}

/// A request that is refused because of this field.
#[track_caller]
fn refused(engine: &Engine, words: &str, change: impl FnOnce(&mut Request)) {
    let mut request = tiny_request();
    change(&mut request);
    for refused in [engine.stream(&request), engine.speak(TEXT, &request)] {
        match refused {
            Err(error @ Error::Request { .. }) => assert!(error.to_string().starts_with(words), "{error}"),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("{words} it is taken"),
        }
    }
    assert_eq!(engine.counts().open, 0);
}

#[test]
fn what_cannot_be_done_is_refused_by_its_name() {
    let engine = engine(1, 0);
    refused(&engine, "chunk_frames: is []; expected widths of 1 to 32", |r| r.delivery.chunk_frames.clear());
    refused(&engine, "chunk_frames: is [1, 0]", |r| r.delivery.chunk_frames = vec![1, 0]);
    refused(&engine, "chunk_frames: is [33]", |r| r.delivery.chunk_frames = vec![33]);
    refused(&engine, "lead: is 79ms; expected at least a frame, 80ms", |r| {
        r.delivery.lead = Duration::from_millis(79);
    });
    refused(&engine, "sample_rate_hz: is 11025; expected one of 8000, ", |r| r.delivery.sample_rate_hz = 11_025);
    refused(&engine, "max_new_tokens: is 1; ", |r| r.sampling.max_new_tokens = Some(1));
    refused(&engine, "temperature: is 0; ", |r| r.sampling.temperature = Some(0.0));
    refused(&engine, "uniforms: number 1 is 1; ", |r| r.randomness = Randomness::Uniforms(vec![0.0, 1.0]));
    refused(&engine, "voice: \"bob\" is unknown; ", |r| r.voice = Voice::Preset("bob".into()));
    let whole = Request { layout: Some(Layout::Whole), ..tiny_request() };
    let error = engine.stream(&whole).err().unwrap().to_string();
    assert_eq!(error, "layout: live text needs the streaming layout; this request has the whole-text one");
    let error = engine.speak(" \n", &whole).err().unwrap().to_string();
    assert_eq!(error, "text: is empty; there is nothing to say");
    assert_eq!(engine.counts().open, 0);
}

#[test]
fn bytes_that_are_no_text_are_refused_and_nothing_of_them_is_taken() {
    let engine = engine(2, 0);
    let text = "caf\u{e9} \u{4f60}.";
    let expected: Vec<f32> = read_all(&mut engine.speak(text, &tiny_request()).unwrap());
    let mut stream = engine.stream(&tiny_request()).unwrap();
    let not_text = |stream: &mut Stream, bytes: &[u8], at: usize| {
        let error = stream.push(bytes).unwrap_err().to_string();
        assert_eq!(error, format!("text: is not UTF-8 from byte {at} of the stream's text on"));
    };
    not_text(&mut stream, b"\xff", 0);
    not_text(&mut stream, b"ca\xc3\x28", 2);
    stream.push(b"caf\xc3").unwrap();
    not_text(&mut stream, b"e", 3); // the character that began before
    not_text(&mut stream, b"\xa9 \xed\xa0\x80", 6); // half of a surrogate pair
    stream.push(b"\xa9 \xe4\xbd").unwrap();
    stream.push(b"").unwrap();
    stream.push(b"\xa0.").unwrap();
    stream.end().unwrap();
    stream.flush().unwrap();
    for _ in 0..2 {
        assert_eq!(stream.push("more").unwrap_err().to_string(), "text: has ended; no more can be added");
    }
    assert!(read_all::<f32>(&mut stream) == expected);
}

#[test]
fn text_that_stops_inside_a_character_ends_all_the_same() {
    let engine = engine(1, 0);
    let expected: Vec<f32> = read_all(&mut engine.speak("caf", &tiny_request()).unwrap());
    let mut stream = engine.stream(&tiny_request()).unwrap();
    stream.push(b"caf\xc3").unwrap();
    assert_eq!(stream.end().unwrap_err().to_string(), "text: stops inside a UTF-8 character");
    stream.end().unwrap();
    assert!(read_all::<f32>(&mut stream) == expected);
}

#[test]
fn what_comes_behind_the_end_harms_nothing() {
    let engine = engine(1, 0);
    let expected: Vec<f32> = read_all(&mut engine.speak(TEXT, &tiny_request()).unwrap());
    let mut stream = engine.speak(TEXT, &tiny_request()).unwrap();
    stream.flush().unwrap();
    stream.end().unwrap();
    assert!(read_all::<f32>(&mut stream) == expected);
    // The model stops before its text: that is told to who goes on writing, and no error for who stops, too.
    let mut request = tiny_request();
    request.sampling.max_new_tokens = Some(3);
    let mut stream = engine.stream(&request).unwrap();
    stream.push(TEXT).unwrap();
    read_all::<f32>(&mut stream);
    assert!(matches!(stream.push("more"), Err(Error::Ended { end: End::Length })));
    stream.flush().unwrap();
    stream.end().unwrap();
}

#[test]
fn a_reader_of_one_kind_is_not_held_up_by_the_other_nor_by_itself() {
    let engine = engine(1, 0);
    let mut request = tiny_request();
    request.delivery.lead = Duration::from_millis(160);
    request.delivery.output = Output::Both;
    let mut stream = engine.speak(TEXT, &request).unwrap();
    let mut frames = 0;
    while let Read::Got(n) = stream.read_frames(&mut [[0; 16]; 3], PATIENCE).unwrap() {
        frames += n;
    }
    // All sound is there, none of it read; the end is the same for both.
    let sound: Vec<f32> = read_all(&mut stream);
    assert!(frames > 4 && sound.len() == frames * SAMPLES_PER_FRAME, "{frames} frames, {} samples", sound.len());
    for (output, kind) in [(Output::Samples, "Frames"), (Output::Frames, "Samples")] {
        request.delivery.output = output;
        let mut stream = engine.speak(TEXT, &request).unwrap();
        let error = match output {
            Output::Samples => stream.read_frames(&mut [[0; 16]], Wait::Forever).unwrap_err(),
            _ => stream.read_chunk(Wait::Forever).unwrap_err(),
        };
        assert_eq!(error.to_string(), format!("output: is {output:?}; this read needs {kind} or Both"));
        assert!(stream.read::<f32>(&mut [], Wait::Forever).is_err());
    }
}

#[test]
fn a_stream_takes_a_megabyte_of_text() {
    let engine = engine(1, 0);
    let mut stream = engine.stream(&tiny_request()).unwrap();
    stream.push(&"word ".repeat(200_000)[3..]).unwrap();
    let error = stream.push("four").unwrap_err().to_string();
    assert!(error.starts_with("text: is longer than the 1000000 bytes that a stream takes"), "{error}");
    stream.push("me.").unwrap();
    assert!(stream.push("x").is_err());
}

#[test]
fn nothing_is_read_once_a_cancel_has_returned_and_the_next_stream_is_unharmed() {
    let engine = engine(2, 2);
    let expected: Vec<f32> = read_all(&mut engine.speak(TEXT, &tiny_request()).unwrap());
    let mut request = tiny_request();
    request.delivery.chunk_frames = vec![1];
    let mut cut_short = 0;
    for round in 0..300 {
        let (mut writer, mut reader) = engine.stream(&request).unwrap().split();
        let cancelled = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Two at once, and either may be first.
            for i in 0..2 {
                let (canceller, cancelled) = (reader.canceller(), &cancelled);
                let mut random = Random(2 * round + i);
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_micros(random.below(20_000) as u64));
                    canceller.cancel();
                    cancelled.store(true, Ordering::SeqCst);
                });
            }
            scope.spawn(move || {
                // Text may be refused once the stream has ended.
                for word in TEXT.split_inclusive(' ') {
                    let _ = writer.push(word);
                }
            });
            let (mut samples, mut buffer) = (Vec::new(), [0.0f32; 700]);
            let ended = loop {
                let over = cancelled.load(Ordering::SeqCst);
                match reader.read(&mut buffer, [Wait::No, Wait::Forever][round as usize % 2]).unwrap() {
                    Read::Got(n) => {
                        assert!(!over, "sound after the cancel of round {round}");
                        samples.extend_from_slice(&buffer[..n]);
                    }
                    Read::NotYet => assert!(!over, "no end after the cancel of round {round}"),
                    Read::Ended(ended) => break ended,
                }
            };
            assert!(samples == expected[..samples.len()], "round {round}");
            cut_short += usize::from(ended.end == End::Cancelled && !samples.is_empty());
        });
        assert!(matches!(reader.read(&mut [0.0f32; 1], Wait::No).unwrap(), Read::Ended(_)));
        if round % 20 == 0 {
            let next: Vec<f32> = read_all(&mut engine.speak(TEXT, &tiny_request()).unwrap());
            assert!(next == expected, "after round {round}");
        }
    }
    assert!(cut_short > 0, "no cancel came while there was sound");
    assert_eq!(engine.counts().open, 0);
}

#[test]
fn closing_while_many_speak_ends_them_all() {
    let engine = engine(4, 4);
    let streams: Vec<Stream> = (0..8).map(|_| engine.speak(TEXT, &tiny_request()).unwrap()).collect();
    std::thread::scope(|scope| {
        for mut stream in streams {
            scope.spawn(move || {
                let mut buffer = [0i16; 500];
                while let Read::Got(_) = stream.read(&mut buffer, Wait::Forever).unwrap() {}
                assert!(matches!(stream.stats().ended.unwrap().end, End::Cancelled | End::Eos | End::Length));
            });
        }
        engine.close();
    });
    assert!(matches!(engine.speak(TEXT, &tiny_request()), Err(Error::Closed)));
    assert_eq!((engine.counts().open, engine.counts().speaking), (0, 0));
}

#[test]
fn events_are_in_order_and_every_word_is_marked_once() {
    let engine = engine(1, 0);
    let text = "One two three, four.";
    let mut request = tiny_request();
    request.sampling.max_new_tokens = None;
    // Text that came at once, and text that came live; heard by two, one who asks after each read and one at the end.
    for live in [false, true] {
        let mut stream = match live {
            true => engine.stream(&request).unwrap(),
            false => engine.speak(text, &request).unwrap(),
        };
        if live {
            text.bytes().for_each(|byte| stream.push([byte]).unwrap());
            stream.end().unwrap();
        }
        let (mut events, mut late) = (stream.events(), stream.events());
        let mut words: Vec<WordMark> = Vec::new();
        let (mut read, mut first, mut told, mut buffer) = (0, 0, None, [0.0f32; 1000]);
        let ended = loop {
            let done = match stream.read(&mut buffer, PATIENCE).unwrap() {
                Read::Got(n) => {
                    read += n;
                    None
                }
                Read::Ended(ended) => Some(ended),
                Read::NotYet => panic!("no sound comes"),
            };
            loop {
                match events.next_event() {
                    Read::Got(Event::FirstSound { after_ms }) => {
                        first += 1;
                        assert!(after_ms > 0.0 && words.is_empty());
                    }
                    Read::Got(Event::Word(mark)) => {
                        assert!(mark.sample < read, "{mark:?} is told before it is read");
                        words.push(mark);
                    }
                    Read::NotYet => break,
                    Read::Ended(ended) => {
                        told = Some(ended);
                        break;
                    }
                }
            }
            if let Some(ended) = done {
                break ended;
            }
        };
        assert_eq!((first, told), (1, Some(ended)));
        assert!(words.is_sorted_by_key(|mark| mark.sample));
        assert!(words.iter().all(|mark| text[mark.text_byte..].starts_with(&mark.word)));
        let said: Vec<&str> = words.iter().map(|mark| &*mark.word).collect();
        // What stops for another reason has not said all of it.
        match ended.end {
            End::Eos => assert_eq!(said, ["One", "two", "three", "four"]),
            _ => assert!(["One", "two", "three", "four"].starts_with(&said)),
        }
        assert!(matches!(late.next_event(), Read::Got(Event::FirstSound { .. })));
        let marks = std::iter::from_fn(|| match late.next_event() {
            Read::Got(Event::Word(mark)) => Some(mark.word),
            _ => None,
        });
        assert!(marks.eq(said));
        assert_eq!(late.next_event(), Read::Ended(ended));
        // Nothing comes behind a cancel that was not told before it.
        let stream = engine.speak(text, &request).unwrap();
        let mut events = stream.events();
        stream.cancel();
        while let Read::Got(event) = events.next_event() {
            assert!(matches!(event, Event::FirstSound { .. }), "{event:?}");
        }
    }
}

#[test]
fn an_engine_warms_up_whatever_its_kind_and_is_well_until_it_is_closed() {
    for name in ["tiny-0b6-custom", "tiny-0b6-base", "tiny-1b7-design"] {
        let model = Model::open(&ModelSource::Folder(support::checkpoint(name, 2))).unwrap();
        let engine = Engine::with_model(model, &EngineOptions { slots: 1, ..support::options() }).unwrap();
        engine.warm_up().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(engine.counts().open, 0);
        engine.health().unwrap();
        engine.close();
        assert!(matches!(engine.health(), Err(Error::Closed)));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_event_handle_is_ready_while_a_read_would_find_something() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let engine = engine(1, 0);
    let expected: Vec<f32> = read_all(&mut engine.speak(TEXT, &tiny_request()).unwrap());
    let mut stream = engine.stream(&tiny_request()).unwrap();
    let handle = stream.event_handle().unwrap();
    let ready = |seconds| {
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        poll(&mut [PollFd::new(&*handle, PollFlags::IN)], Some(&time)).unwrap() == 1
    };
    assert!(!ready(0));
    stream.push(TEXT).unwrap();
    stream.end().unwrap();
    let (mut said, mut buffer) = (Vec::new(), [0.0f32; 777]);
    loop {
        assert!(ready(60), "nothing comes");
        assert!(ready(0), "it stays so until it is read");
        match stream.read(&mut buffer, Wait::No).unwrap() {
            Read::Got(n) => said.extend_from_slice(&buffer[..n]),
            Read::Ended(_) => break,
            Read::NotYet => panic!("it was not ready"),
        }
    }
    assert!(ready(0) && said == expected);
}
