//! Would catch: a GPU that says other than the CPU reference, at any size; that drifts, leaks or remembers; trouble that is no
//! error. Each test needs an NVIDIA GPU: `make gpu`, or tools/gpu.py where there is no cargo.
//!
//! QWENTTS_TEST_DEVICE is the device that is tested (cuda:0 where it is not set; with cpu the tests test themselves).
//! QWENTTS_GPU_MODELS names the folders of the full-size Base models, `:` between them.
#![cfg(feature = "cuda")]

#[path = "gpu/engine.rs"]
mod engine;
#[path = "support/random.rs"]
mod random;
mod support;
#[path = "gpu/voices.rs"]
mod voices;

use qwentts::cpu::philox_uniform;
use qwentts::device::{Device, KvNumbers};
use qwentts::frame::{End, Frame, GROUPS, SAMPLES_PER_FRAME};
use qwentts::model::Model;
use qwentts::request::{Layout, Randomness, Request, Voice, VoicePrompt};
use qwentts::source::ModelSource;
use qwentts::speech::{Bare, Speech, Text};
use qwentts::trace::NEAR_TIE;
use random::Random;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Relative errors that hiddens and scores may have, in rms.
const F32_ERROR: f64 = 1e-4;
const BF16_ERROR: f64 = 2e-2;
/// Of a sound against the reference's, in dB.
const SNR: f64 = 70.0;

fn device() -> Device {
    std::env::var("QWENTTS_TEST_DEVICE").map_or(Device::Cuda(0), |said| said.parse().unwrap())
}

fn open(folder: &Path) -> Arc<Model> {
    Model::open(&ModelSource::Folder(folder.to_owned())).unwrap()
}

/// The full-size models, by the folder's name.
fn full_size() -> Vec<(String, Arc<Model>)> {
    let folders = std::env::var("QWENTTS_GPU_MODELS").expect("QWENTTS_GPU_MODELS=DIR:DIR, full-size Base models");
    let folders: Vec<_> = std::env::split_paths(&folders).collect();
    assert!(!folders.is_empty());
    folders.iter().map(|folder| (folder.file_name().unwrap().to_string_lossy().into_owned(), open(folder))).collect()
}

fn bare(model: &Arc<Model>, device: Device, kv: KvNumbers) -> Bare {
    Bare::open(model.clone(), device, None, kv).unwrap()
}

/// Speech of a voice of its own, of which nothing is asked but this many frames at most.
fn request(model: &Model, frames: usize) -> Request {
    let speaker_vector =
        (0..model.config.talker.hidden).map(|i| (1.6 * philox_uniform(11, i, 0) - 0.8) as f32).collect();
    let mut request = Request {
        voice: Voice::Cloned(VoicePrompt { speaker_vector, reference: None }),
        layout: Some(Layout::Streaming),
        ..Default::default()
    };
    request.sampling.max_new_tokens = Some(frames + 1);
    request.sampling.draws(false);
    request
}

/// A text of so many tokens.
fn text(model: &Model, tokens: usize, seed: u64) -> Text {
    let (mut random, most) = (Random(seed), model.config.text_vocab.min(100_000));
    Text::Ids((0..tokens).map(|_| random.below(most) as u32).collect())
}

fn random_frames(model: &Model, count: usize, seed: u64) -> Vec<Frame> {
    let mut random = Random(seed);
    (0..count).map(|_| std::array::from_fn(|_| random.below(model.config.codes) as u16)).collect()
}

/// What was chosen, how nearly, and by what arithmetic.
struct Spoken {
    frames: Vec<Frame>,
    margins: Vec<[f32; GROUPS]>,
    end: Option<End>,
    positions: usize,
    hidden: Vec<f32>,
    talker: Vec<f32>,
    predictor: Vec<f32>,
    /// Of a frame but the first.
    frame_ms: f64,
}

fn speak(bare: &Bare, text: Text, request: &Request, forced: Option<&[Frame]>) -> Spoken {
    let mut speech = Speech::new(bare, text, request).unwrap();
    speech.record();
    if let Some(frames) = forced {
        speech.force(frames.to_vec()).unwrap();
    }
    let (mut frames, mut margins, mut began) = (Vec::new(), Vec::new(), Instant::now());
    while let Some(chosen) = speech.next_frame().unwrap() {
        if frames.is_empty() {
            began = Instant::now();
        }
        frames.push(chosen.frame);
        margins.push(chosen.margins);
    }
    let frame_ms = began.elapsed().as_secs_f64() * 1e3 / (frames.len().max(2) - 1) as f64;
    let (end, positions) = (speech.end(), speech.prefill_positions());
    let kept = speech.recording().unwrap();
    let [hidden, talker, predictor] =
        [&kept.talker_hidden, &kept.talker_logits, &kept.predictor_logits].map(Clone::clone);
    Spoken { frames, margins, end, positions, hidden, talker, predictor, frame_ms }
}

/// How far numbers are off.
#[derive(Clone, Copy)]
struct Off {
    /// rms of the differences over rms of the reference.
    rms: f64,
    /// Likewise of the largest.
    largest: f64,
    /// The largest difference itself.
    absolute: f64,
}

fn off(ours: &[f32], reference: &[f32]) -> Off {
    assert_eq!(ours.len(), reference.len());
    let (mut squares, mut errors, mut largest, mut absolute) = (0.0, 0.0, 0.0f64, 0.0f64);
    for (a, b) in ours.iter().zip(reference).map(|(&a, &b)| (f64::from(a), f64::from(b))) {
        assert!(a.is_finite() && b.is_finite());
        squares += b * b;
        errors += (a - b) * (a - b);
        largest = largest.max(b.abs());
        absolute = absolute.max((a - b).abs());
    }
    assert!(squares > 0.0);
    Off { rms: (errors / squares).sqrt(), largest: absolute / largest, absolute }
}

/// The largest difference of the scores that a frame's group was chosen from.
fn error_of_choice(ours: &Spoken, reference: &Spoken, model: &Model, frame: usize, group: usize) -> f64 {
    let (all, row, width) = match group {
        0 => ([&ours.talker, &reference.talker], frame, model.config.talker_vocab),
        _ => ([&ours.predictor, &reference.predictor], frame * (GROUPS - 1) + group - 1, model.config.codes),
    };
    let [a, b] = all.map(|all| &all[row * width..][..width]);
    off(a, b).absolute
}

const HEADS: &str = "rms        largest";

#[test]
#[ignore = "needs an NVIDIA GPU and full-size models"]
fn full_size_frames_are_the_references() {
    const FRAMES: usize = 96;
    println!("{:>16} {:>5} {:>18}   {HEADS}    ms a frame (CPU, here); choices that differ", "", "kv", "");
    for (name, model) in full_size() {
        let (text, request) = (|| text(&model, 40, 1), request(&model, FRAMES));
        let forced = random_frames(&model, FRAMES, 2);
        let reference = speak(&bare(&model, Device::Cpu, KvNumbers::F32), text(), &request, Some(&forced));
        assert_eq!((reference.frames.len(), reference.end), (FRAMES, Some(End::Forced)));
        for (kv, limit) in [(KvNumbers::F32, F32_ERROR), (KvNumbers::Bf16, BF16_ERROR)] {
            let ours = speak(&bare(&model, device(), kv), text(), &request, Some(&forced));
            assert_eq!(ours.frames.len(), FRAMES);
            let errors = [
                ("hidden", off(&ours.hidden, &reference.hidden)),
                ("talker scores", off(&ours.talker, &reference.talker)),
                ("predictor scores", off(&ours.predictor, &reference.predictor)),
            ];
            for (what, off) in &errors {
                println!("{name:>16} {:>5} {what:>18}   {:.2e}   {:.2e}", words(kv), off.rms, off.largest);
            }
            let mut differing = Vec::new();
            for (frame, (a, b)) in ours.frames.iter().zip(&reference.frames).enumerate() {
                for group in (0..GROUPS).filter(|&group| a[group] != b[group]) {
                    let margin = f64::from(reference.margins[frame][group]);
                    // The penalty may stretch what differs.
                    let error = 1.05 * error_of_choice(&ours, &reference, &model, frame, group);
                    assert!(margin <= 2.0 * error, "{name}: frame {frame} group {group}: margin {margin}, {error} off");
                    differing.push((frame, group, margin));
                }
            }
            let times = (reference.frame_ms, ours.frame_ms);
            println!("{name:>16} {:>5} {times:.2?} ms; {} of {}", words(kv), differing.len(), FRAMES * GROUPS);
            differing
                .iter()
                .take(8)
                .for_each(|(frame, group, margin)| println!("  frame {frame} group {group}: {margin:.1e}"));
            for (what, off) in &errors {
                assert!(off.rms <= limit, "{name} {}: {what} is {:e} off", words(kv), off.rms);
            }
        }
    }
}

fn words(kv: KvNumbers) -> &'static str {
    match kv {
        KvNumbers::F32 => "f32",
        KvNumbers::Bf16 => "bf16",
    }
}

/// The first choice that differs from the reference's, with the reference's margin.
fn first_difference(ours: &Spoken, reference: &Spoken) -> Option<(usize, usize, f64)> {
    let pairs = ours.frames.iter().zip(&reference.frames).enumerate();
    let mut places =
        pairs.flat_map(|(frame, (a, b))| (0..GROUPS).map(move |group| (frame, group, a[group] == b[group])));
    let (frame, group, _) = places.find(|(_, _, same)| !same)?;
    Some((frame, group, reference.margins[frame][group].into()))
}

#[test]
#[ignore = "needs an NVIDIA GPU and full-size models"]
fn full_size_speech_is_the_references_until_the_first_near_tie() {
    const FRAMES: usize = 64;
    const SEED: u64 = 7;
    for (name, model) in full_size() {
        let [cpu, gpu] = [Device::Cpu, device()].map(|device| bare(&model, device, KvNumbers::F32));
        let greedy = request(&model, FRAMES);
        let mut drawn = greedy.clone();
        drawn.sampling.draws(true);
        drawn.randomness = Randomness::Seed(SEED);
        for (how, request) in [("greedy", &greedy), ("drawn", &drawn)] {
            let text = || text(&model, 30, 3);
            let [reference, ours] = [&cpu, &gpu].map(|bare| speak(bare, text(), request, None));
            let (frames, end) = (reference.frames.len(), reference.end);
            match first_difference(&ours, &reference) {
                None => {
                    println!("{name}, {how}: all {frames} frames are the same, {end:?}");
                    assert_eq!((ours.frames.len(), ours.end), (frames, end), "{name}, {how}");
                }
                Some((frame, group, margin)) => {
                    let error = error_of_choice(&ours, &reference, &model, frame, group);
                    println!(
                        "{name}, {how}: the same up to frame {frame} of {frames}, group {group}: margin {margin:.1e}, scores {error:.1e} off"
                    );
                    let near = margin < f64::from(NEAR_TIE) || margin <= 4.0 * error;
                    assert!(near, "{name}, {how}: frame {frame} group {group} is no near-tie: {margin}");
                    assert!(frame >= 4, "{name}, {how}: a near-tie in frame {frame} shows little; take other numbers");
                }
            }
        }
        // The same draws in a list are the same speech, to the bit; and so is the same seed once more.
        let draws = (0..=FRAMES).flat_map(|frame| (0..GROUPS).map(move |group| philox_uniform(SEED, frame, group)));
        let listed = Request { randomness: Randomness::Uniforms(draws.collect()), ..drawn.clone() };
        let [seeded, again, listed] = [&drawn, &drawn, &listed].map(|r| speak(&gpu, text(&model, 30, 3), r, None));
        assert!(seeded.frames.len() > 1);
        for other in [again, listed] {
            assert_eq!((&other.frames, other.end), (&seeded.frames, seeded.end), "{name}");
            assert!(other.talker == seeded.talker && other.predictor == seeded.predictor, "{name}: other bits");
        }
    }
}

/// The shortest prompt that the public face can ask of a Base model has nine positions: one of the whole-text layout ten and a
/// position for each token.
#[test]
#[ignore = "needs an NVIDIA GPU and full-size models"]
fn full_size_prompts_are_the_references() {
    assert_prompts(&[9, 20, 21, 64, 65, 200]);
}

/// Minutes, nearly all of them the reference's.
#[test]
#[ignore = "needs an NVIDIA GPU and full-size models"]
fn full_size_long_prompt_is_the_references() {
    assert_prompts(&[2000]);
}

fn assert_prompts(lengths: &[usize]) {
    println!("{:>16} {:>5} {:>9} {:>14}   {HEADS}", "", "kv", "positions", "");
    for (name, model) in full_size() {
        let cpu = bare(&model, Device::Cpu, KvNumbers::F32);
        let gpus = [(KvNumbers::F32, F32_ERROR), (KvNumbers::Bf16, BF16_ERROR)];
        let gpus = gpus.map(|(kv, limit)| (bare(&model, device(), kv), kv, limit));
        for &positions in lengths {
            let mut request = request(&model, 1);
            let tokens = match positions {
                9 => 1,
                more => {
                    request.layout = Some(Layout::Whole);
                    more - 10
                }
            };
            let prompt = |bare: &Bare| {
                let began = Instant::now();
                let spoken = speak(bare, text(&model, tokens, 5), &request, Some(&[[1; GROUPS]]));
                assert_eq!(spoken.positions, positions);
                (spoken, began.elapsed().as_secs_f64())
            };
            let (reference, cpu_s) = prompt(&cpu);
            for (gpu, kv, limit) in &gpus {
                let (ours, gpu_s) = prompt(gpu);
                for (what, ours, reference) in
                    [("hidden", &ours.hidden, &reference.hidden), ("talker scores", &ours.talker, &reference.talker)]
                {
                    let off = off(ours, reference);
                    println!(
                        "{name:>16} {:>5} {positions:>9} {what:>14}   {:.2e}   {:.2e}   {cpu_s:.3} s, here {gpu_s:.3} s",
                        words(*kv),
                        off.rms,
                        off.largest
                    );
                    assert!(off.rms <= *limit, "{name}: {what} of {positions} positions is {:e} off", off.rms);
                }
            }
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and full-size models"]
fn full_size_sound_is_the_references() {
    const FRAMES: usize = 110; // more than the codec's window
    for (name, model) in full_size() {
        let frames = random_frames(&model, FRAMES, 9);
        let [cpu, gpu] = [Device::Cpu, device()].map(|device| bare(&model, device, KvNumbers::F32));
        let began = Instant::now();
        let reference = cpu.decoder().unwrap().decode(&frames).unwrap();
        let cpu_s = began.elapsed().as_secs_f64();
        let whole = gpu.decoder().unwrap().decode(&frames).unwrap();
        assert_eq!(whole.len(), FRAMES * SAMPLES_PER_FRAME);
        let off = off(&whole, &reference);
        let snr = -20.0 * off.rms.log10();
        println!("{name}: {snr:.1} dB, the largest difference {:.1e}; CPU {cpu_s:.2} s", off.absolute);
        assert!(snr >= SNR, "{name}: {snr} dB");
        assert_cuttings(&name, &gpu, &frames, &whole);
    }
}

/// Every cutting gives the same bits, and so does a codec that has just spoken otherwise.
fn assert_cuttings(name: &str, bare: &Bare, frames: &[Frame], whole: &[f32]) {
    let cuttings: [&[usize]; 7] = [&[1], &[1, 2, 4, 8], &[2], &[3, 1, 7], &[12], &[32, 5], &[40]];
    for widths in cuttings {
        let began = Instant::now();
        let (mut decoder, mut samples, mut rest) = (bare.decoder().unwrap(), Vec::new(), frames);
        for i in 0.. {
            if rest.is_empty() {
                break;
            }
            let width = widths[i.min(widths.len() - 1)].min(rest.len());
            samples.extend(decoder.decode(&rest[..width]).unwrap());
            rest = &rest[width..];
        }
        let ms = began.elapsed().as_secs_f64() * 1e3 / frames.len() as f64;
        println!("{name}: {ms:.3} ms a frame in {widths:?}");
        let differs = samples.iter().zip(whole).position(|(a, b)| a.to_bits() != b.to_bits());
        assert!(samples.len() == whole.len() && differs.is_none(), "{name}: {widths:?} differ from sample {differs:?}");
    }
}

/// Likewise on a small model, whose window is crossed many times.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn small_sound_is_the_references() {
    for kind in ["tiny-0b6-base", "tiny-1b7-base"] {
        let model = open(&support::checkpoint(kind, 1));
        let frames = random_frames(&model, 150, 9);
        let [cpu, gpu] = [Device::Cpu, device()].map(|device| bare(&model, device, KvNumbers::F32));
        let [reference, whole] = [&cpu, &gpu].map(|bare| bare.decoder().unwrap().decode(&frames).unwrap());
        let snr = -20.0 * off(&whole, &reference).rms.log10();
        println!("{kind}: {snr:.1} dB");
        assert!(snr >= SNR, "{kind}: {snr} dB");
        assert_cuttings(kind, &gpu, &frames, &whole);
    }
}

/// Prompts of every length round a tile's and a page's edge.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn small_prompts_are_the_references() {
    for kind in ["tiny-0b6-base", "tiny-1b7-base"] {
        let model = open(&support::checkpoint(kind, 1));
        let [cpu, gpu] = [Device::Cpu, device()].map(|device| bare(&model, device, KvNumbers::F32));
        let mut worst = 0.0f64;
        for positions in (11..=70).chain([127, 128, 129, 255, 256, 257, 513, 700]) {
            let whole = Request { layout: Some(Layout::Whole), ..request(&model, 3) };
            let forced = random_frames(&model, 3, 4);
            let [reference, ours] =
                [&cpu, &gpu].map(|bare| speak(bare, text(&model, positions - 10, 5), &whole, Some(&forced)));
            assert_eq!(ours.positions, positions);
            let off = off(&ours.hidden, &reference.hidden).rms.max(off(&ours.predictor, &reference.predictor).rms);
            assert!(off <= F32_ERROR, "{kind}: {positions} positions are {off:e} off");
            worst = worst.max(off);
        }
        println!("{kind}: {worst:.1e}");
    }
}

/// Utterances that speak in turns, a frame each, say what they say alone: whose memory is on the device is nobody's to hear.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn speech_in_turns_is_speech_alone() {
    let model = open(&support::checkpoint("tiny-1b7-base", 2));
    let gpu = bare(&model, device(), KvNumbers::F32);
    let requests: Vec<Request> = (0..6)
        .map(|seed| {
            let mut request = request(&model, 90);
            request.sampling.draws(seed % 3 > 0);
            request.randomness = Randomness::Seed(seed);
            request
        })
        .collect();
    let text = |i: usize| text(&model, 10 + 40 * i, 6);
    let alone: Vec<Spoken> = requests.iter().enumerate().map(|(i, r)| speak(&gpu, text(i), r, None)).collect();
    let mut speeches: Vec<Speech> =
        requests.iter().enumerate().map(|(i, r)| Speech::new(&gpu, text(i), r).unwrap()).collect();
    let mut frames = vec![Vec::new(); speeches.len()];
    let (mut random, mut going) = (Random(3), (0..speeches.len()).collect::<Vec<_>>());
    while !going.is_empty() {
        let which = random.below(going.len());
        match speeches[going[which]].next_frame().unwrap() {
            Some(chosen) => frames[going[which]].push(chosen.frame),
            None => drop(going.swap_remove(which)),
        }
    }
    for (i, (found, alone)) in frames.iter().zip(&alone).enumerate() {
        assert!(alone.frames.len() > 1 && *found == alone.frames, "utterance {i}");
    }
}
