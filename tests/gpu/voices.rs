//! Recordings and cloned voices on a GPU: what is heard, what is kept behind a reference, and both beside streams that speak.

use crate::engine::{TEXTS, engine, options, read, request as request_of, say};
use crate::random::Random;
use crate::{device, full_size, off, open, support};
use qwentts::cpu::{Reference, philox_uniform};
use qwentts::engine::{Engine, EngineOptions};
use qwentts::frame::{GROUPS, SAMPLE_RATE, SAMPLES_PER_FRAME};
use qwentts::listener::Listener;
use qwentts::model::Model;
use qwentts::request::{ReferenceSpeech, Request, Voice, VoicePrompt};
use qwentts::speech::{Speech, Text};
use qwentts::voice::{Cloning, SavedVoice};
use qwentts::{Device, audio};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Of a speaker vector, in rms.
const VECTOR_ERROR: f64 = 1e-3;
/// Of codes that are the reference's, at least.
const SAME_CODES: f64 = 0.999;
/// How far from having another nearest row, of its own length, a vector may be that has another on the GPU. The largest that
/// was needed is printed.
const NEAR_TIE: f32 = 1e-4;

fn fox() -> Vec<f32> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/reference/fox.wav");
    audio::read(&file, audio::LONGEST_S).unwrap()
}

fn noise(samples: usize, seed: u64) -> Vec<f32> {
    (0..samples).map(|i| (philox_uniform(seed, i, 0) - 0.5) as f32).collect()
}

/// Codes that were compared, those that differ though nothing before them in their frame does, and the largest margin of those.
#[derive(Default)]
struct Codes {
    count: usize,
    differ: usize,
    widest: f32,
}

impl Codes {
    fn check(&self, name: &str) {
        let Codes { count, differ, widest } = *self;
        let same = 1.0 - differ as f64 / count as f64;
        println!("{name}: {count} codes, {differ} near-ties differ, the widest by {widest:e}");
        assert!(count > 0 && same >= SAME_CODES, "{name}: {same} are the same");
    }
}

/// Hears a sound on both; the rms of the vector's error.
fn compare(name: &str, cpu: &Reference, gpu: &Listener, sound: &[f32], codes: &mut Codes) -> f64 {
    let (expected, margins) = cpu.encode_with_margins(sound).unwrap();
    let found = gpu.encode(sound).unwrap();
    assert_eq!((found.len(), expected.len()), (sound.len().div_ceil(SAMPLES_PER_FRAME), found.len()), "{name}");
    for (f, ((a, b), margins)) in found.iter().zip(&expected).zip(&margins).enumerate() {
        // Behind a code that differs the others of its frame stand on another residual.
        let differs = (0..GROUPS).find(|&group| a[group] != b[group]);
        codes.count += differs.map_or(GROUPS, |group| group + 1);
        if let Some(group) = differs {
            let margin = margins[group];
            assert!(margin <= NEAR_TIE, "{name}: frame {f} group {group}: {a:?}, expected {b:?}, {margin:e}");
            codes.differ += 1;
            codes.widest = codes.widest.max(margin);
        }
    }
    assert_eq!(gpu.encode(sound).unwrap(), found, "{name}: again");
    let [vector, reference] = [gpu.speaker_vector(sound), cpu.speaker_vector(sound)].map(Result::unwrap);
    let error = off(&vector, &reference);
    assert!(error.rms <= VECTOR_ERROR, "{name}: the vector is {:e} off", error.rms);
    assert_eq!(gpu.speaker_vector(sound).unwrap(), vector, "{name}: again");
    error.rms
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn recordings_are_heard_as_the_reference_hears_them() {
    for (kind, seed) in [("tiny-0b6-base", 1), ("tiny-1b7-base", 2)] {
        let model = open(&support::checkpoint(kind, seed));
        let cpu = Reference::new(model.clone(), None).unwrap();
        let gpu = Listener::open(model, device(), None).unwrap();
        let (mut codes, mut worst, fewest) = (Codes::default(), 0.0f64, cpu.fewest_samples().unwrap());
        // Around what is convolved together, odd numbers of positions, and a longer one again after a shorter.
        for samples in [fewest, 24_000, 61_439, 61_440, 61_441, 62_500, 150_000, 1921, 2880, 2881, 123_456] {
            let sound = noise(samples, samples as u64);
            worst = worst.max(compare(&format!("{kind}, {samples} samples"), &cpu, &gpu, &sound, &mut codes));
        }
        worst = worst.max(compare(kind, &cpu, &gpu, &fox(), &mut codes));
        codes.check(kind);
        println!("{kind}: vectors {worst:e} off");

        let words = |error: qwentts::Error| error.to_string();
        for bad in [&[][..], &[0.1, f32::NAN, 0.1]] {
            assert_eq!(gpu.encode(bad).map_err(words), cpu.encode(bad).map_err(words));
            assert_eq!(gpu.speaker_vector(bad).map_err(words), cpu.speaker_vector(bad).map_err(words));
        }
        assert_eq!(gpu.encode(&[0.1]).unwrap(), cpu.encode(&[0.1]).unwrap());
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and full-size models"]
fn full_size_recordings_are_heard_as_the_reference_hears_them() {
    for (name, model) in full_size() {
        let cpu = Reference::new(model.clone(), None).unwrap();
        let gpu = Listener::open(model, device(), None).unwrap();
        let mut codes = Codes::default();
        let ten_seconds = noise(10 * SAMPLE_RATE as usize, 3);
        let longer: Vec<f32> = fox().into_iter().cycle().take(25 * SAMPLE_RATE as usize + 77).collect();
        for (what, sound) in [("the fox", fox()), ("10 s of noise", ten_seconds.clone()), ("25 s of foxes", longer)] {
            let error = compare(&format!("{name}, {what}"), &cpu, &gpu, &sound, &mut codes);
            println!("{name}, {what}: the vector is {error:e} off");
        }
        codes.check(&name);
        let cloning = Cloning { transcript: Some(TEXTS[0].into()), ..Cloning::default() };
        let mut took: Vec<f64> = (0..9)
            .map(|_| {
                let began = Instant::now();
                SavedVoice::create(&gpu, &ten_seconds, &cloning).unwrap();
                began.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        took.sort_by(f64::total_cmp);
        println!("{name}: a voice of 10 s is made in {:.2} ms", took[took.len() / 2]);
    }
}

// ---- references that are kept --------------------------------------------------------------------------------

/// Voices whose codec states an engine keeps.
const KEPT: usize = 16;

/// An in-context clone of a made-up reference.
fn cloned(model: &Model, which: usize, frames: usize) -> Request {
    let (mut random, codes) = (Random(which as u64 + 1), model.config.codes);
    let reference = ReferenceSpeech {
        frames: (0..frames).map(|_| std::array::from_fn(|_| random.below(codes) as u16)).collect(),
        transcript: TEXTS[0].to_owned(),
    };
    let speaker_vector = vec![0.01 * which as f32; model.config.talker.hidden];
    let voice = Voice::Cloned(VoicePrompt { speaker_vector, reference: Some(reference) });
    Request { voice, ..request_of(which as u64, 5) }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_kept_reference_changes_no_bit_and_the_oldest_goes() {
    let model = open(&support::checkpoint("tiny-0b6-base", 1));
    let keeps = engine(&model, 3);
    // More than are kept, of all lengths around what is decoded together.
    let requests: Vec<Request> = (0..KEPT + 4).map(|i| cloned(&model, i, 1 + 3 * i)).collect();
    let voices = |engine: &Engine| engine.memory().map(|memory| memory.voices_bytes);
    assert!(voices(&keeps).is_none_or(|bytes| bytes == 0));
    let (mut expected, mut one) = (Vec::new(), None);
    for (i, request) in requests.iter().enumerate() {
        let first = say(&keeps, TEXTS[1], request).unwrap();
        assert!(say(&keeps, TEXTS[1], request).unwrap() == first, "voice {i}: from a copy");
        if let Some(bytes) = voices(&keeps) {
            assert_eq!(bytes, *one.get_or_insert(bytes) * (i + 1).min(KEPT), "voice {i}");
        }
        // Another text of the voice, and the same voice in several slots at once.
        let mut streams = [0; 3].map(|_| keeps.speak(TEXTS[1], request).unwrap());
        assert!(streams.iter_mut().all(|stream| read(stream).unwrap() == first), "voice {i}: at once");
        expected.push(first);
    }
    let total = |engine: &Engine| engine.memory().map(|memory| memory.total_bytes);
    let before = total(&keeps);
    for (i, request) in requests.iter().enumerate().rev() {
        assert!(say(&keeps, TEXTS[1], request).unwrap() == expected[i], "voice {i}: again, after others");
    }
    assert_eq!(total(&keeps), before, "memory grows");
    // As where nothing was ever kept.
    for (request, expected) in requests.iter().zip(&expected).step_by(5) {
        assert!(say(&engine(&model, 1), TEXTS[1], request).unwrap() == *expected);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn the_bare_loop_hears_a_reference_once() {
    let model = open(&support::checkpoint("tiny-0b6-base", 1));
    let bare = support::bare(model.clone(), Some(1));
    let voices = || bare.memory().map(|memory| memory.voices_bytes);
    assert!(voices().is_none_or(|bytes| bytes == 0));
    let (mut expected, mut one) = (None, None);
    let (frames, request) = ([[3; GROUPS]; 5], cloned(&model, 1, 30));
    for _ in 0..3 {
        let mut speech = Speech::new(&bare, Text::Whole(TEXTS[1].into()), &request).unwrap();
        let sound = speech.decode(&frames).unwrap();
        assert!(sound == *expected.get_or_insert_with(|| sound.clone()), "other sound from a copy");
        assert!(voices() == *one.get_or_insert_with(voices) && voices() != Some(0), "kept again, or never");
    }
    // As where it is heard in front of them.
    let Voice::Cloned(VoicePrompt { reference: Some(reference), .. }) = &request.voice else { panic!() };
    let mut decoder = bare.decoder().unwrap();
    decoder.decode(&reference.frames).unwrap();
    assert!(Some(decoder.decode(&frames).unwrap()) == expected);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn voices_are_made_beside_streams_that_speak() {
    let model = open(&support::checkpoint("tiny-0b6-base", 1));
    let engine = Engine::with_model(model.clone(), &EngineOptions { queue: 8, ..options(2) }).unwrap();
    let cloning = Cloning { transcript: Some(TEXTS[0].into()), ..Cloning::default() };
    let make = || SavedVoice::create(engine.listener(), &fox(), &cloning).unwrap();
    let requests = [cloned(&model, 1, 9), cloned(&model, 2, 30)];
    let expected = requests.each_ref().map(|request| say(&engine, TEXTS[2], request).unwrap());
    let made = make();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..10).for_each(|_| assert!(make() == made, "another voice")));
        }
        for (request, expected) in requests.iter().zip(&expected) {
            let engine = &engine;
            scope.spawn(move || {
                (0..10).for_each(|_| assert!(say(engine, TEXTS[2], request).unwrap() == *expected, "other speech"));
            });
        }
    });
    // And it speaks.
    let voice = made.voice("fox", &model).unwrap();
    assert!(!say(&engine, TEXTS[0], &Request { voice, ..request_of(1, 5) }).unwrap().frames.is_empty());
    match engine.memory() {
        Some(memory) => assert!(memory.encoders_bytes > 0 && memory.total_bytes > memory.encoders_bytes),
        None => assert_eq!(device(), Device::Cpu),
    }
    let listener: Listener = Arc::new(Reference::new(model, Some(1)).unwrap()).into();
    let on_cpu = SavedVoice::create(&listener, &fox(), &cloning).unwrap();
    assert!(off(&made.prompt.speaker_vector, &on_cpu.prompt.speaker_vector).rms <= VECTOR_ERROR);
}
