//! The engine on a GPU: cancels, long use, two at once, and what goes wrong.

use crate::random::Random;
use crate::{device, full_size, open, request as full_size_request, support};
use qwentts::Error;
use qwentts::device::{Device, KvNumbers};
use qwentts::engine::{Engine, EngineOptions, Read, Stream, Wait, percentile};
use qwentts::frame::{End, FRAME_TIME, Frame, SAMPLES_PER_FRAME};
use qwentts::model::Model;
use qwentts::request::{Layout, Output, Randomness, ReferenceSpeech, Request, Voice, VoicePrompt};
use qwentts::speech::{Bare, Speech, Text};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Only a failing test waits for it.
const PATIENCE: Wait = Wait::AtMost(Duration::from_secs(120));

pub const TEXTS: [&str; 3] = [
    "The quick brown fox jumps over the lazy dog.",
    "Yes.",
    "The river was quiet in the morning, and a thin mist lay over the fields. We walked along the bank until the sun came out.",
];

fn demo() -> Arc<Model> {
    open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo"))
}

pub fn options(slots: usize) -> EngineOptions {
    EngineOptions { device: Some(device()), slots, queue: 4, ..Default::default() }
}

pub fn engine(model: &Arc<Model>, slots: usize) -> Engine {
    Engine::with_model(model.clone(), &options(slots)).unwrap()
}

pub fn request(seed: u64, frames: usize) -> Request {
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
pub struct Said {
    pub frames: Vec<Frame>,
    samples: Vec<u32>,
    end: End,
}

/// All of a stream. An error is the stream's.
pub fn read(stream: &mut Stream) -> qwentts::Result<Said> {
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

pub fn say(engine: &Engine, text: &str, request: &Request) -> qwentts::Result<Said> {
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

/// Every kernel and every recording once or a few times, so that it is no long wait under a sanitizer.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_few_frames_of_two_streams_are_those_of_one() {
    let model = open(&support::checkpoint("tiny-1b7-base", 1));
    let engine = Engine::with_model(model.clone(), &EngineOptions { prefix_positions: 128, ..options(2) }).unwrap();
    let requests: [Request; 2] = std::array::from_fn(|which| {
        let mut request = cloned(&model, which, 9);
        request.delivery.chunk_frames = vec![1, 2, 4, 8];
        request.sampling.draws(which == 0);
        // Fewer, for a tool that follows every access.
        let frames = std::env::var("QWENTTS_SOAK_FRAMES").map_or(16, |said| said.parse().unwrap());
        request.sampling.max_new_tokens = Some(frames);
        request
    });
    let alone: Vec<Said> = requests.iter().map(|request| say(&engine, TEXTS[0], request).unwrap()).collect();
    let mut streams = requests.each_ref().map(|request| engine.speak(TEXTS[0], request).unwrap());
    for (stream, alone) in streams.iter_mut().zip(&alone) {
        assert!(alone.frames.len() > 1 && read(stream).unwrap() == *alone);
        assert_eq!(stream.stats().prefix_positions, kept(17));
    }
    // What compute-sanitizer of CUDA 13.0 does at a process's end crashes in the driver where a context is gone by then.
    std::mem::forget(engine);
}

/// Bytes of this process that are in memory.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Bytes of the GPU that are in use, whoever uses them, as the driver's own tool says; 0 on the CPU.
fn gpu_bytes() -> usize {
    let Device::Cuda(index) = device() else { return 0 };
    let mut query = std::process::Command::new("nvidia-smi");
    query.args(["--query-gpu=memory.used", "--format=csv,noheader,nounits"]).arg(format!("--id={index}"));
    let said = String::from_utf8(query.output().unwrap().stdout).unwrap();
    said.trim().parse::<usize>().unwrap() << 20
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
    let (mut spoken, mut settled, mut memory, mut resident, mut in_use) = (0, false, None, 0, 0);
    while spoken < frames {
        if wall.len() == 8 && !settled {
            // What the first ones need is there now.
            (settled, memory, resident, in_use) = (true, engine.memory(), resident_bytes(), gpu_bytes());
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
    assert_eq!(gpu_bytes(), in_use, "memory of the device, whoever has it");
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

/// The step that is begun behind the last finds no page: that is no failure of the speech before it.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn an_end_at_a_pages_edge_is_an_end() {
    let model = demo();
    let mut speech = Speech::new(
        Bare::open(model.clone(), Device::Cpu, None, KvNumbers::F32).unwrap(),
        Text::Whole(TEXTS[2].into()),
        &request(9, 1),
    )
    .unwrap();
    speech.next_frame().unwrap();
    // Their last token stands behind 64 positions, all of the one page that there is.
    let frames = 64 - speech.prefill_positions();
    let mut request = request(9, frames);
    request.sampling.do_sample = Some(false); // it does not end before
    let expected = say(&engine(&model, 1), TEXTS[2], &request).unwrap();
    assert_eq!((expected.frames.len(), expected.end), (frames, End::Length));
    let narrow = EngineOptions { kv_positions: Some(64), ..options(1) };
    let engine = Engine::with_model(model, &narrow).unwrap();
    for widths in [vec![1, 2, 4, 8], vec![1], vec![7]] {
        request.delivery.chunk_frames = widths;
        assert!(say(&engine, TEXTS[2], &request).unwrap() == expected);
    }
}

/// The model's own bytes and those of one stream of 4096 positions, without the driver's.
#[test]
#[ignore = "needs an NVIDIA GPU and full-size models"]
fn full_size_memory_is_within_its_limits() {
    const MOST_BYTES: [(usize, usize); 2] = [(1024, 2_600_000_000), (2048, 4_800_000_000)];
    for (name, model) in full_size() {
        let (_, most) = *MOST_BYTES.iter().find(|(hidden, _)| *hidden == model.config.talker.hidden).unwrap();
        for kv in [KvNumbers::Bf16, KvNumbers::F32] {
            let engine = Engine::with_model(model.clone(), &EngineOptions { kv, ..options(1) }).unwrap();
            let mut request = full_size_request(&model, 1);
            request.layout = Some(Layout::Whole);
            request.delivery.output = Output::Frames;
            // Until the prompt has 4000 positions, and a few.
            let mut text = String::new();
            while Speech::new(
                Bare::open(model.clone(), Device::Cpu, Some(1), kv).unwrap(),
                Text::Whole(text.clone()),
                &request,
            )
            .map_or(0, |mut speech| speech.ids().unwrap().text.len())
                < 4000
            {
                text += &"A thin mist lay over the fields. ".repeat(4);
            }
            let mut stream = engine.speak(&text, &request).unwrap();
            while let Read::Got(_) = stream.read_frames(&mut [[0; 16]; 8], PATIENCE).unwrap() {}
            let memory = engine.memory().unwrap();
            println!("{name}, {kv:?}: {memory:?}, of {most} bytes at most");
            // With keys and values in f32 it is some more, and only said.
            assert!(kv == KvNumbers::F32 || memory.total_bytes <= most, "{name}: {memory:?}");
        }
    }
}

// ---- prefixes ------------------------------------------------------------------------------------------------

/// What was said, and how many positions of its prompt were kept from another.
fn say_from(engine: &Engine, text: &str, request: &Request) -> (Said, usize) {
    let mut stream = engine.speak(text, request).unwrap();
    let said = read(&mut stream).unwrap();
    (said, stream.stats().prefix_positions)
}

/// So many positions, where any are kept: the CPU keeps none.
fn kept(positions: usize) -> usize {
    if device() == Device::Cpu { 0 } else { positions }
}

/// An engine that keeps this many positions of prefixes, and one that keeps none and so says what is right.
fn keeping(model: &Arc<Model>, prefix_positions: usize) -> [Engine; 2] {
    [prefix_positions, 0].map(|prefix_positions| {
        Engine::with_model(model.clone(), &EngineOptions { prefix_positions, ..options(3) }).unwrap()
    })
}

/// An in-context clone of a few frames with more words than frames: in the streaming layout its whole prompt has to do with no
/// text, and all but the last position is its prefix, which are 8 and the frames.
fn cloned(model: &Model, which: usize, frames: usize) -> Request {
    let vector = |i| (1.6 * qwentts::cpu::philox_uniform(which as u64, i, 0) - 0.8) as f32;
    let mut random = Random(which as u64 + 1);
    let codes = model.config.codes;
    let reference = ReferenceSpeech {
        frames: (0..frames).map(|_| std::array::from_fn(|_| random.below(codes) as u16)).collect(),
        transcript: TEXTS[2].repeat(frames / 20 + 1),
    };
    let speaker_vector = (0..model.config.talker.hidden).map(vector).collect();
    let voice = Voice::Cloned(VoicePrompt { speaker_vector, reference: Some(reference) });
    Request { voice, ..request(which as u64, 6) }
}

/// Says a text twice and another once: the first time nothing is kept, and every time it is what the other engine says.
fn assert_same_bits(what: &str, [keeps, never]: &[Engine; 2], request: &Request, prefix: Option<usize>) {
    let (expected, none) = say_from(never, TEXTS[0], request);
    let (first, nothing) = say_from(keeps, TEXTS[0], request);
    assert_eq!((none, nothing), (0, 0), "{what}");
    assert!(first == expected, "{what}: where it is kept");
    let mut found = None;
    for text in [TEXTS[0], TEXTS[1], TEXTS[2]] {
        let (said, positions) = say_from(keeps, text, request);
        assert!(positions > 0 || kept(1) == 0, "{what}: nothing was kept");
        assert_eq!(*found.get_or_insert(positions), positions, "{what}: {text:?}");
        assert!(said == say(never, text, request).unwrap(), "{what}: {text:?} behind {positions} kept positions");
    }
    assert!(prefix.is_none_or(|prefix| found == Some(kept(prefix))), "{what}: {found:?} are kept");
    // Another role where the vocabulary merges line breaks, so another prefix.
    assert!(say(keeps, "\n\nYes.", request).unwrap() == say(never, "\n\nYes.", request).unwrap(), "{what}");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_kept_prefix_changes_no_bit() {
    for (kind, voice) in [("tiny-1b7-custom", Voice::Preset("vivian".into())), ("tiny-1b7-design", Voice::Unset)] {
        let model = open(&support::checkpoint(kind, 1));
        let engines = keeping(&model, 4096);
        for (i, instruct) in ["Slowly, and with a smile.", TEXTS[2], &TEXTS[2].repeat(8)].into_iter().enumerate() {
            for (j, layout) in [Layout::Streaming, Layout::Whole].into_iter().enumerate() {
                // Without a reference both layouts begin the same: to each its own instruction.
                let instruct = Some(format!("{instruct} {layout:?}"));
                let mut request =
                    Request { voice: voice.clone(), layout: Some(layout), instruct, ..request(i as u64, 12) };
                request.sampling.draws((i + j) % 2 == 0);
                assert_same_bits(&format!("{kind}, instruction {i}, {layout:?}"), &engines, &request, None);
            }
        }
    }
    let model = open(&support::checkpoint("tiny-1b7-base", 1));
    let engines = keeping(&model, 4096);
    // Round the edges of pages, and of the rows of a prompt that run together.
    for frames in [8, 20, 55, 56, 57, 119, 120, 121, 247, 248, 249] {
        let request = cloned(&model, frames, frames);
        let prefix = Some(8 + frames);
        assert_same_bits(&format!("{frames} frames"), &engines, &request, prefix);
        let whole = Request { layout: Some(Layout::Whole), ..cloned(&model, 1000 + frames, frames) };
        assert_same_bits(&format!("{frames} frames, whole"), &engines, &whole, None);
    }
    // More frames than words: the text begins within the reference.
    let mut long = cloned(&model, 2000, 400);
    if let Voice::Cloned(VoicePrompt { reference: Some(reference), .. }) = &mut long.voice {
        reference.transcript = TEXTS[0].to_owned();
    }
    assert_same_bits("400 frames, few words", &engines, &long, None);
    // A voice that differs in one bit is another voice.
    let mut near = cloned(&model, 56, 56);
    say(&engines[0], TEXTS[0], &near).unwrap(); // it may have had to give way
    assert_eq!(say_from(&engines[0], TEXTS[1], &near).1, kept(64));
    if let Voice::Cloned(voice) = &mut near.voice {
        voice.speaker_vector[3] = voice.speaker_vector[3].next_up();
    }
    assert_eq!(say_from(&engines[0], TEXTS[1], &near).1, 0);
    // A bare voice is no prefix.
    let mut bare = cloned(&model, 56, 56);
    if let Voice::Cloned(voice) = &mut bare.voice {
        voice.reference = None;
    }
    for _ in 0..2 {
        assert_eq!(say_from(&engines[0], TEXTS[1], &bare).1, 0);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn prefixes_are_bounded_and_the_oldest_goes() {
    let model = open(&support::checkpoint("tiny-1b7-base", 1));
    let engines = keeping(&model, 128);
    let requests: Vec<Request> = (0..3).map(|which| cloned(&model, which, 12)).collect();
    let expected: Vec<Said> = requests.iter().map(|request| say(&engines[1], TEXTS[0], request).unwrap()).collect();
    // Two have room. Which is said, and whether it was kept.
    let order = [
        (0, false),
        (1, false),
        (0, true),
        (2, false),
        (0, true),
        (1, false),
        (2, false),
        (2, true),
        (1, true),
        (0, false),
    ];
    for (turn, (which, is_kept)) in order.into_iter().enumerate() {
        let (said, positions) = say_from(&engines[0], TEXTS[0], &requests[which]);
        assert_eq!(positions, if is_kept { kept(20) } else { 0 }, "turn {turn}");
        assert!(said == expected[which], "turn {turn}");
        if let Some(memory) = engines[0].memory() {
            // Besides, the page that was spoken in.
            let (prefixes, pages) = if turn == 0 { (1, 2) } else { (2, 3) };
            assert_eq!(memory.prefix_bytes * pages, memory.kv_bytes * prefixes, "turn {turn}: {memory:?}");
        }
    }
    // One that is too long for the room is said, and leaves the others in it.
    let long = cloned(&model, 9, 130);
    for _ in 0..2 {
        assert_eq!(say_from(&engines[0], TEXTS[0], &long).1, 0);
    }
    assert_eq!(say_from(&engines[0], TEXTS[0], &requests[0]), (expected[0].clone(), kept(20)));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_prefix_outlives_its_first_speaker_and_many_others() {
    let (model, mut random) = (open(&support::checkpoint("tiny-1b7-base", 1)), Random(4));
    let engines = keeping(&model, 4096);
    let [keeps, never] = &engines;
    let requests: Vec<Request> = [60, 90, 150].into_iter().map(|frames| cloned(&model, frames, frames)).collect();
    let cases: Vec<(&str, &Request)> = (0..9).map(|i| (TEXTS[i % 3], &requests[i / 3])).collect();
    let expected: Vec<Said> = cases.iter().map(|(text, request)| say(never, text, request).unwrap()).collect();
    // Kept by one whose stream is dropped at once.
    for request in &requests {
        drop(keeps.speak(TEXTS[1], request).unwrap());
    }
    let (cases, expected) = (&cases, &expected);
    let seeds: Vec<u64> = (0..3).map(|_| random.below(1000) as u64).collect();
    std::thread::scope(|scope| {
        for seed in seeds {
            let model = &model;
            scope.spawn(move || {
                let mut random = Random(seed);
                for round in 0..40 {
                    let which = random.below(cases.len());
                    let (text, request) = cases[which];
                    assert!(say(keeps, text, request).unwrap() == expected[which], "round {round}: case {which}");
                    // Others take and give pages meanwhile, some of them cut short.
                    let other = cloned(model, 5000 + seed as usize * 100 + round, 8 + random.below(60));
                    let mut stream = keeps.speak(TEXTS[2], &other).unwrap();
                    if random.below(2) == 0 {
                        read(&mut stream).unwrap();
                    }
                }
            });
        }
    });
    for (which, (text, request)) in cases.iter().enumerate() {
        assert!(say(keeps, text, request).unwrap() == expected[which], "at last: case {which}");
        assert!(say_from(keeps, text, request).1 >= kept(1), "at last: case {which}");
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn prefixes_give_way_to_who_speaks() {
    let model = open(&support::checkpoint("tiny-1b7-base", 1));
    let limited = EngineOptions { kv_positions: Some(128), prefix_positions: 128, ..options(3) };
    let [engine, free] = [limited, options(3)].map(|options| Engine::with_model(model.clone(), &options).unwrap());
    // Three voices that need a page each, and get to no end before they are heard.
    let voices = (0..100).map(|which| {
        let mut request = cloned(&model, which, 12);
        request.sampling.max_new_tokens = Some(31);
        request.delivery.lead = 2 * FRAME_TIME;
        let said = say(&free, TEXTS[0], &request).unwrap();
        (request, said)
    });
    let (requests, expected): (Vec<Request>, Vec<Said>) =
        voices.filter(|(_, said)| said.frames.len() > 8).take(3).unzip();
    assert_eq!(requests.len(), 3);
    for _ in 0..3 {
        assert_eq!(say_from(&engine, TEXTS[0], &requests[0]), (expected[0].clone(), 0));
        assert_eq!(say_from(&engine, TEXTS[0], &requests[0]), (expected[0].clone(), 20));
        // Two at a time have all there is: the second of them that page.
        let mut streams: Vec<Stream> = requests[1..].iter().map(|r| engine.stream(r).unwrap()).collect();
        for stream in &mut streams {
            stream.push("The quick brown fox").unwrap();
            assert!(matches!(stream.read(&mut [0.0f32; 100], PATIENCE).unwrap(), Read::Got(100)));
        }
        assert_eq!(engine.memory().unwrap().prefix_bytes, 0);
        fails(say(&engine, TEXTS[0], &requests[0]), &["128 positions of keys and values"]);
        for (stream, expected) in streams.iter_mut().zip(&expected[1..]) {
            stream.push(" jumps over the lazy dog.").unwrap();
            stream.end().unwrap();
            let said = read(stream).unwrap();
            assert!(said.frames == expected.frames && said.samples == expected.samples[100..]);
        }
    }
}
