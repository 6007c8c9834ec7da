//! Would catch: speech that depends on how its text was cut, when the pieces came, or how it was read; on which streams
//! spoke beside it, or in which order they were admitted.

#[path = "support/random.rs"]
mod random;
mod support;

use qwentts::engine::{AudioReader, Counts, Engine, EngineOptions, Read, TextWriter, Wait};
use qwentts::frame::{End, Frame};
use qwentts::model::Model;
use qwentts::request::{Layout, Output, Randomness, ReferenceSpeech, Request, SamplingOptions, Voice, VoicePrompt};
use qwentts::source::ModelSource;
use qwentts::speech::{Bare, Speech, Text};
use random::Random;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longer than any machine needs; only a failing test waits for it.
const PATIENCE: Wait = Wait::AtMost(Duration::from_secs(60));

/// Frames of each utterance, at least and at most: enough for all the tokens of most of the texts, and the end.
const LEAST_FRAMES: usize = 25;
const MOST_FRAMES: usize = 39;

/// Pieces that hang together where a cut may fall: characters of several bytes, clusters of several characters, runs.
const TEXTS: [&str; 12] = [
    "The quick brown fox jumps over the lazy dog.",
    "Straße, Äpfel und Öl: schön!",
    "Ça va, l'été à Orléans ?",
    "¿Qué tal, señor Muñoz? ¡Olé!",
    "Привет, мир! Как дела?",
    "你好,世界。今天天气很好。",
    "こんにちは、世界。ガギグ か\u{3099}",
    "한국어 문장입니다. \u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}",
    "Family 👨\u{200D}👩\u{200D}👧\u{200D}👦 and 👩🏽\u{200D}🚀, flag 🇨🇦, heart ❤\u{FE0F}.",
    "Line one.\r\nLine two,\r\n\r\n  line three.\n",
    "cafe\u{301} a\u{323}\u{302} a\u{302}\u{323} Å \u{212B} e\u{301}\u{301}\u{301}",
    "Call 0049 30 123456 at 12:30, 3.1415 or 1,000,000!!! we'll <|im_end|> it",
];

fn open(kind: &str) -> Arc<Model> {
    Model::open(&ModelSource::Folder(support::checkpoint(kind, 2))).unwrap()
}

fn request(voice: Voice, seed: u64) -> Request {
    let mut sampling = SamplingOptions { max_new_tokens: Some(MOST_FRAMES + 1), ..Default::default() };
    sampling.draws(true);
    let randomness = Randomness::Seed(seed);
    let mut request = Request { voice, sampling, randomness, layout: Some(Layout::Streaming), ..Default::default() };
    request.delivery.output = Output::Both;
    request
}

/// Codes, and samples bit by bit.
#[derive(PartialEq)]
struct Said {
    frames: Vec<Frame>,
    samples: Vec<u32>,
    end: End,
}

/// What the bare loop says of the whole text at once.
fn say_bare(bare: &Bare, text: &str, request: &Request) -> Said {
    let mut speech = Speech::new(bare, Text::Whole(text.into()), request).unwrap();
    let (mut frames, mut samples) = (Vec::new(), Vec::new());
    while let Some(chosen) = speech.next_frame().unwrap() {
        samples.extend(speech.decode(&[chosen.frame]).unwrap().iter().map(|s| s.to_bits()));
        frames.push(chosen.frame);
    }
    Said { frames, samples, end: speech.end().unwrap() }
}

fn pause(random: &mut Random, pauses: usize) {
    match random.below(4) {
        _ if pauses == 0 => {}
        0 => std::thread::yield_now(),
        1 if pauses > 1 => std::thread::sleep(Duration::from_micros(random.below(3000) as u64)),
        _ => {}
    }
}

/// Pushes the text in random pieces, and looks that the tokens that are missing become fewer.
fn write(mut writer: TextWriter, text: &str, random: &mut Random) {
    let pauses = random.below(3);
    let mut missing = writer.stats().missing_tokens;
    for piece in random.cut(text.as_bytes()) {
        if writer.push(piece).is_err() {
            // The model may choose to stop before it has heard everything.
            assert_eq!(writer.stats().ended.map(|ended| ended.end), Some(End::Eos));
            return;
        }
        pause(random, pauses);
        let now = writer.stats().missing_tokens;
        assert!(now <= missing, "{missing:?}, then {now:?} tokens are missing");
        missing = now;
    }
    // Dropping the writer ends the text, too.
    if random.below(2) == 0 && writer.end().is_err() {
        assert_eq!(writer.stats().ended.map(|ended| ended.end), Some(End::Eos));
    }
}

/// Reads all, in random sizes and ways.
fn read(reader: &mut AudioReader, random: &mut Random) -> Said {
    let (mut frames, mut samples, mut chunk_frames) = (Vec::new(), Vec::new(), 0);
    let pauses = random.below(3);
    let mut buffer = vec![0.0f32; [1, 100, 1920, 5000, 40_000][random.below(5)].max(random.below(3000))];
    let wait = [Wait::No, Wait::AtMost(Duration::from_micros(300)), PATIENCE];
    let ended = loop {
        pause(random, pauses);
        let wait = wait[random.below(3)];
        match random.below(4) {
            0 => {
                let mut into = vec![[0; 16]; 1 + random.below(5)];
                // The sound's end is the one to wait for: frames come to theirs before it.
                if let Read::Got(n) = reader.read_frames(&mut into, Wait::No).unwrap() {
                    frames.extend_from_slice(&into[..n]);
                }
            }
            1 => match reader.read_chunk(wait).unwrap() {
                Read::Got(chunk) => {
                    chunk_frames += chunk.frames;
                    samples.extend(chunk.samples);
                }
                Read::NotYet => assert!(wait != PATIENCE, "no sound comes"),
                Read::Ended(ended) => break ended,
            },
            _ => match reader.read(&mut buffer, wait).unwrap() {
                Read::Got(n) => samples.extend_from_slice(&buffer[..n]),
                Read::NotYet => assert!(wait != PATIENCE, "no sound comes"),
                Read::Ended(ended) => break ended,
            },
        }
    };
    let mut into = vec![[0; 16]; 64];
    while let Read::Got(n) = reader.read_frames(&mut into, Wait::No).unwrap() {
        frames.extend_from_slice(&into[..n]);
    }
    assert!(chunk_frames <= ended.frame);
    assert_eq!(frames.len(), ended.frame);
    assert!(reader.stats().conformant());
    Said { frames, samples: samples.iter().map(|s| s.to_bits()).collect(), end: ended.end }
}

/// Speaks live, cut and read by chance, and compares with what was said at once.
#[track_caller]
fn compare(engine: &Engine, text: &str, request: &Request, expected: &Said, seed: u64) {
    let (writer, mut reader) = engine.stream(request).unwrap().split();
    let said = std::thread::scope(|scope| {
        let writing = scope.spawn(move || write(writer, text, &mut Random(seed)));
        let said = read(&mut reader, &mut Random(!seed));
        writing.join().unwrap();
        said
    });
    assert_eq!(said.frames, expected.frames, "{text:?} cut by {seed}: codes");
    assert!(said.samples == expected.samples, "{text:?} cut by {seed}: samples");
    assert_eq!(said.end, expected.end, "{text:?} cut by {seed}");
}

/// Live against whole for all the texts, each cut `cuts` times, from several threads at once. How many that were.
fn splits(kind: &str, voice: &Voice, cuts: usize) -> usize {
    let model = open(kind);
    let bare = support::bare(model.clone(), Some(1));
    let cases = TEXTS.map(|text| {
        // The first seed that speaks for long enough to say the text and its end.
        let mut said = (0..).map(|seed| {
            let request = request(voice.clone(), seed);
            let said = say_bare(&bare, text, &request);
            (text, request, said)
        });
        said.find(|(.., said)| said.frames.len() >= LEAST_FRAMES).unwrap()
    });
    assert!(cases.iter().all(|(.., said)| said.samples.iter().any(|&s| s != 0)));
    let options = EngineOptions { threads: Some(1), slots: 4, queue: 4, ..support::options() };
    let engine = Engine::with_model(model, &options).unwrap();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some((text, request, said)) = (i < cuts * cases.len()).then(|| &cases[i % cases.len()]) else {
                        break;
                    };
                    let mut request = request.clone();
                    let mut random = Random(i as u64);
                    request.delivery.chunk_frames = (0..=random.below(3)).map(|_| 1 + random.below(9)).collect();
                    request.delivery.lead = Duration::from_millis(80 + random.next() % 2000);
                    compare(&engine, text, &request, said, i as u64);
                }
            });
        }
    });
    assert_eq!(engine.counts().open, 0);
    cuts * cases.len()
}

#[test]
fn text_cut_anywhere_says_what_it_says_at_once() {
    let started = Instant::now();
    let splits = splits("tiny-0b6-custom", &Voice::Preset("vivian".into()), 45);
    println!("{splits} splits in {:.1?}", started.elapsed());
    assert!(splits >= 500);
}

fn cloned(reference: Option<(usize, &str)>) -> Voice {
    let mut random = Random(77);
    let frames = |count| (0..count).map(|_| std::array::from_fn(|_| random.below(64) as u16)).collect();
    let reference = reference
        .map(|(count, transcript)| ReferenceSpeech { frames: { frames }(count), transcript: transcript.into() });
    Voice::Cloned(VoicePrompt { speaker_vector: (0..48).map(|i| 0.02 * (i as f32 - 24.0)).collect(), reference })
}

#[test]
fn so_it_does_in_a_cloned_voice() {
    // The vector alone; a recording with more words than frames; with fewer; with more frames than the text has tokens.
    let transcript = "Good morning to you all, said the miller to his seven lazy sons.";
    for reference in [None, Some((3, transcript)), Some((14, "Hi!")), Some((60, "Oui, oui."))] {
        splits("tiny-0b6-base", &cloned(reference), 4);
    }
}

#[test]
fn streams_together_say_what_each_says_alone() {
    let model = open("tiny-0b6-custom");
    let bare = support::bare(model.clone(), Some(1));
    let cases: Vec<(&str, Request, Said)> = (0..16)
        .map(|i| {
            let request = request(Voice::Preset("vivian".into()), 100 + i as u64);
            let said = say_bare(&bare, TEXTS[i % TEXTS.len()], &request);
            (TEXTS[i % TEXTS.len()], request, said)
        })
        .collect();
    for (round, slots) in [16, 5, 3, 1].into_iter().enumerate() {
        let options = EngineOptions { slots, queue: 16 - slots, ..support::options() };
        let engine = Engine::with_model(model.clone(), &options).unwrap();
        let mut random = Random(round as u64);
        let mut order: Vec<usize> = (0..cases.len()).collect();
        (1..order.len()).for_each(|i| order.swap(i, random.below(i + 1)));
        let streams: Vec<_> = order
            .iter()
            .map(|&case| {
                let (text, request, _) = &cases[case];
                let mut stream = engine.stream(request).unwrap();
                stream.push(text).unwrap();
                let _ = stream.end(); // it may have ended before its text
                (case, stream)
            })
            .collect();
        let cases = &cases;
        std::thread::scope(|scope| {
            for (case, stream) in streams {
                scope.spawn(move || {
                    let (writer, mut reader) = stream.split();
                    let said = read(&mut reader, &mut Random(case as u64));
                    assert!(said == cases[case].2, "stream {case}, {slots} slots");
                    drop((writer, reader));
                });
            }
        });
        let until = Instant::now() + Duration::from_secs(60);
        while engine.counts() != Counts::default() {
            assert!(Instant::now() < until, "{:?}", engine.counts());
            std::thread::yield_now();
        }
    }
}
