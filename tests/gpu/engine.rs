//! The engine on a GPU: cancels, long use, two at once, and what goes wrong.

use crate::random::Random;
use crate::{device, open, support};
use qwentts::Error;
use qwentts::device::{Device, KvNumbers};
use qwentts::engine::{Engine, EngineOptions, Read, Stream, Wait, percentile};
use qwentts::frame::{End, Frame, SAMPLES_PER_FRAME};
use qwentts::model::Model;
use qwentts::request::{Layout, Output, Randomness, Request, Voice};
use qwentts::speech::Bare;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Only a failing test waits for it.
const PATIENCE: Wait = Wait::AtMost(Duration::from_secs(120));

const TEXTS: [&str; 3] = [
    "The quick brown fox jumps over the lazy dog.",
    "Yes.",
    "The river was quiet in the morning, and a thin mist lay over the fields. We walked along the bank until the sun came out.",
];

fn demo() -> Arc<Model> {
    open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo"))
}

fn options(slots: usize) -> EngineOptions {
    EngineOptions { device: Some(device()), slots, queue: 4, ..Default::default() }
}

fn engine(model: &Arc<Model>, slots: usize) -> Engine {
    Engine::with_model(model.clone(), &options(slots)).unwrap()
}

fn request(seed: u64, frames: usize) -> Request {
    let mut request = Request {
        voice: Voice::Preset("slt".into()),
        layout: Some(Layout::Streaming),
        randomness: Randomness::Seed(seed),
        ..Default::default()
    };
    request.delivery.output = Output::Both;
    request.sampling.draws(true);
    request.sampling.max_new_tokens = Some(frames + 1);
    request
}

/// What was said, to the bit.
#[derive(Clone, Debug, PartialEq)]
struct Said {
    frames: Vec<Frame>,
    samples: Vec<u32>,
    end: End,
}

/// All of a stream. An error is the stream's.
fn read(stream: &mut Stream) -> qwentts::Result<Said> {
    let (mut frames, mut samples) = (Vec::new(), Vec::new());
    let mut buffer = [0.0f32; 4 * SAMPLES_PER_FRAME];
    loop {
        match stream.read(&mut buffer, PATIENCE)? {
            Read::Got(n) => samples.extend(buffer[..n].iter().map(|sample| sample.to_bits())),
            Read::NotYet => panic!("no sound comes"),
            Read::Ended(_) => break,
        }
    }
    let mut some = [[0; 16]; 64];
    let end = loop {
        match stream.read_frames(&mut some, PATIENCE)? {
            Read::Got(n) => frames.extend_from_slice(&some[..n]),
            Read::NotYet => panic!("no frames come"),
            Read::Ended(ended) => break ended.end,
        }
    };
    Ok(Said { frames, samples, end })
}

fn say(engine: &Engine, text: &str, request: &Request) -> qwentts::Result<Said> {
    read(&mut engine.speak(text, request)?)
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_cancel_at_any_moment_harms_nothing() {
    const ROUNDS: u64 = 200;
    let (model, mut random) = (demo(), Random(1));
    let engine = engine(&model, 2);
    let cases: Vec<(&str, Request)> = (0..6).map(|seed| (TEXTS[seed as usize % 3], request(seed, 40))).collect();
    let (mut whole, mut longest) = (Vec::new(), Duration::ZERO);
    for (text, request) in &cases {
        let began = Instant::now();
        whole.push(say(&engine, text, request).unwrap());
        longest = longest.max(began.elapsed());
    }
    let (mut cut_short, mut with_sound) = (0, 0);
    for round in 0..ROUNDS {
        let which = random.below(cases.len());
        let (text, request) = &cases[which];
        let mut stream = engine.speak(text, request).unwrap();
        let moment = Duration::from_micros(random.below(longest.as_micros() as usize) as u64);
        let (canceller, mut heard) = (stream.canceller(), Vec::new());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(moment);
                canceller.cancel();
            });
            let mut buffer = [0.0f32; 500];
            while let Read::Got(n) = stream.read(&mut buffer, Wait::Forever).unwrap() {
                heard.extend(buffer[..n].iter().map(|sample| sample.to_bits()));
            }
        });
        assert!(whole[which].samples.starts_with(&heard), "round {round}: other sound before the cancel");
        cut_short += usize::from(stream.stats().ended.unwrap().end == End::Cancelled);
        with_sound += usize::from(!heard.is_empty());
        drop(stream);
        // The same seed at once, mostly in the slot whose work is still under way.
        let again = say(&engine, text, request).unwrap();
        assert!(again.frames == whole[which].frames, "round {round}: other codes after a cancel at {moment:?}");
        assert!(again == whole[which], "round {round}: other sound after a cancel at {moment:?}");
    }
    println!("{ROUNDS} cancels within {longest:?}: {cut_short} cut speech short, {with_sound} after its first sound");
    assert!(cut_short > 20 && with_sound > 20);
}

/// Bytes of this process that are in memory.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// QWENTTS_SOAK_FRAMES: fewer, for a look.
#[test]
#[ignore = "needs an NVIDIA GPU, and a minute"]
fn long_use_neither_slows_nor_leaks() {
    let frames = std::env::var("QWENTTS_SOAK_FRAMES").map_or(20_000, |said| said.parse().unwrap());
    let engine = engine(&demo(), 2);
    let request = request(5, 100);
    let mut first = None;
    // Times of a frame, by utterance: all have the same frames, so the same positions.
    let [mut wall, mut device, mut codec] = [Vec::new(), Vec::new(), Vec::new()];
    let (mut spoken, mut settled, mut memory, mut resident) = (0, false, None, 0);
    while spoken < frames {
        if wall.len() == 8 && !settled {
            // What the first ones need is there now.
            (settled, memory, resident) = (true, engine.memory(), resident_bytes());
            [&mut wall, &mut device, &mut codec].into_iter().for_each(Vec::clear);
        }
        let (began, mut stream) = (Instant::now(), engine.speak(TEXTS[2], &request).unwrap());
        let said = read(&mut stream).unwrap();
        let (took, stats) = (began.elapsed().as_secs_f64() * 1e3, stream.stats());
        let count = said.frames.len();
        assert!(
            count > 10 && *first.get_or_insert_with(|| said.clone()) == said,
            "after {spoken} frames: other speech"
        );
        spoken += count;
        wall.push(took / count as f64);
        device.push((stats.talker_ms + stats.predictor_ms) / count as f64);
        codec.push(stats.codec_ms / count as f64);
    }
    println!("{spoken} frames, {} utterances of {}", wall.len(), first.unwrap().frames.len());
    let tenth = wall.len() / 10;
    assert!(tenth >= 5, "too few utterances to tell");
    let mut slower = Vec::new();
    for (what, times) in [("wall", &wall), ("talker and predictor", &device), ("codec", &codec)] {
        let [before, after] =
            [&times[..tenth], &times[times.len() - tenth..]].map(|times| percentile(times, 0.5).unwrap());
        println!(
            "{what}: {before:.4} ms a frame in the first tenth, {after:.4} in the last ({:+.2} %)",
            (after / before - 1.0) * 100.0
        );
        if after > 1.02 * before {
            slower.push(what);
        }
    }
    let grown = resident_bytes().saturating_sub(resident);
    println!("memory: {memory:?}, then {:?}; {grown} bytes more of the process in memory", engine.memory());
    assert!(slower.is_empty(), "slower by over 2 %: {slower:?}");
    let total = |memory: Option<qwentts::device::Memory>| memory.map(|memory| memory.total_bytes);
    assert_eq!(total(engine.memory()), total(memory), "memory of the device");
    assert!(grown < 16 << 20, "the process has {grown} bytes more in memory");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn two_engines_in_one_process_say_the_same() {
    let model = demo();
    let cases: Vec<(&str, Request)> = (0..6).map(|seed| (TEXTS[seed as usize % 3], request(10 + seed, 60))).collect();
    let engines = [engine(&model, 2), engine(&demo(), 3)];
    let alone: Vec<Said> = cases.iter().map(|(text, request)| say(&engines[0], text, request).unwrap()).collect();
    let (cases, alone) = (&cases, &alone);
    std::thread::scope(|scope| {
        for (which, engine) in engines.iter().enumerate() {
            for reader in 0..2 {
                scope.spawn(move || {
                    for i in 0..3 * cases.len() {
                        let i = (i + which + 3 * reader) % cases.len();
                        let (text, request) = &cases[i];
                        let said = say(engine, text, request).unwrap();
                        assert!(said == alone[i], "engine {which}, case {i}");
                    }
                });
            }
        }
    });
    // One goes; the other stays as it was.
    let [one, other] = engines;
    one.close();
    drop(one);
    assert!(say(&other, cases[0].0, &cases[0].1).unwrap() == alone[0]);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn the_engine_says_what_the_reference_says() {
    for (model, voice) in [(demo(), "slt"), (open(&support::checkpoint("tiny-1b7-custom", 1)), "vivian")] {
        let engine = engine(&model, 3);
        let cpu = Bare::open(model.clone(), Device::Cpu, None, KvNumbers::F32).unwrap();
        for seed in 0..6 {
            let mut request = Request { voice: Voice::Preset(voice.into()), ..request(20 + seed, 50) };
            request.sampling.draws(seed % 2 == 0);
            let text = TEXTS[seed as usize % 3];
            let said = say(&engine, text, &request).unwrap();
            let whole = qwentts::Text::Whole(text.into());
            let mut speech = qwentts::Speech::new(&cpu, whole, &request).unwrap();
            let mut frames = 0;
            while let Some(chosen) = speech.next_frame().unwrap() {
                if said.frames.get(frames) != Some(&chosen.frame) {
                    let margin = chosen.margins.iter().copied().fold(f32::INFINITY, f32::min);
                    println!("{voice} seed {seed}: the same up to frame {frames}, whose least margin is {margin:.1e}");
                    assert!(margin < qwentts::trace::NEAR_TIE, "{voice} seed {seed}: frame {frames}, margin {margin}");
                    break;
                }
                frames += 1;
            }
            if speech.end().is_some() {
                assert_eq!((said.frames.len(), Some(said.end)), (frames, speech.end()), "{voice} seed {seed}");
            }
            assert!(frames > 0, "{voice} seed {seed}: the very first frame differs");
        }
    }
}

/// The words of what does not open, or does not speak.
#[track_caller]
fn fails<T>(result: qwentts::Result<T>, words: &[&str]) -> Error {
    let Err(error) = result else { panic!("it works; expected {words:?}") };
    let said = error.to_string();
    assert!(words.iter().all(|word| said.contains(word)), "{said:?}; expected {words:?}");
    error
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn what_is_not_there_is_an_error() {
    let (model, device) = (demo(), Some(Device::Cuda(4096)));
    let words = ["cuda:4096", "the driver has"];
    fails(Engine::with_model(model.clone(), &EngineOptions { device, ..options(2) }), &words);
    fails(Bare::open(model, Device::Cuda(4096), None, KvNumbers::F32), &words);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_limit_of_keys_and_values_stops_who_needs_more() {
    let model = demo();
    // Two pages' worth: two short utterances, or one of some length.
    let engine = Engine::with_model(model.clone(), &EngineOptions { kv_positions: Some(128), ..options(3) }).unwrap();
    let short = request(1, 20);
    let free = self::engine(&model, 1);
    let expected = say(&free, TEXTS[0], &short).unwrap();
    assert!(expected.frames.len() > 4);
    let words = ["128 positions of keys and values", "bytes"];
    for _ in 0..3 {
        assert!(say(&engine, TEXTS[0], &short).unwrap() == expected);
        let long = Request { layout: Some(Layout::Whole), ..request(2, 400) };
        fails(say(&engine, &TEXTS[2].repeat(6), &long), &words);
    }
    // Two have a page each; the third finds none, and they do not hear of it.
    let mut first = engine.stream(&short).unwrap();
    let mut second = engine.stream(&short).unwrap();
    for stream in [&mut first, &mut second] {
        stream.push("The quick brown fox").unwrap();
        assert!(matches!(stream.read(&mut [0.0f32; 100], PATIENCE).unwrap(), Read::Got(100)));
    }
    fails(say(&engine, TEXTS[0], &short), &words);
    for stream in [&mut first, &mut second] {
        stream.push(" jumps over the lazy dog.").unwrap();
        stream.end().unwrap();
        let said = read(stream).unwrap();
        assert!(said.frames == expected.frames && said.samples == expected.samples[100..]);
    }
    assert!(say(&engine, TEXTS[0], &short).unwrap() == expected);
}
