//! Would catch: a chunk border that can be heard, a result that depends on threads, on what ran before, or on how
//! text was cut; a reset that forgets something.

mod support;

use qwentts::cpu::{Reference, philox_uniform};
use qwentts::frame::{Frame, SAMPLES_PER_FRAME};
use qwentts::model::Model;
use qwentts::request::{Randomness, Request, SamplingOptions, Voice};
use qwentts::source::ModelSource;
use qwentts::speech::{Bare, Speech, Text};
use std::sync::Arc;

fn model() -> Arc<Model> {
    Model::open(&ModelSource::Folder(support::checkpoint("tiny-0b6-custom", 2))).unwrap()
}

fn tiny() -> Bare {
    support::bare(model(), Some(2))
}

/// For what the CPU alone has: threads, slots that can be copied.
fn cpu(threads: usize) -> Arc<Reference> {
    Arc::new(Reference::new(model(), Some(threads)).unwrap())
}

/// Frames with every code in play, more than the codec's window several times over.
fn frames(count: usize, codes: usize, seed: u64) -> Vec<Frame> {
    let code = |f, g| (philox_uniform(seed, f, g) * codes as f64) as u16;
    (0..count).map(|f| std::array::from_fn(|g| code(f, g))).collect()
}

/// Decodes in pieces whose widths come from `width(i)`.
fn decode(bare: &Bare, frames: &[Frame], width: impl Fn(usize) -> usize) -> Vec<f32> {
    let mut decoder = bare.decoder().unwrap();
    let (mut samples, mut rest) = (Vec::new(), frames);
    for i in 0.. {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(width(i).min(rest.len()));
        samples.extend(decoder.decode(piece).unwrap());
        rest = after;
    }
    samples
}

fn bits(samples: &[f32]) -> Vec<u32> {
    samples.iter().map(|s| s.to_bits()).collect()
}

#[test]
fn any_cutting_of_the_same_frames_gives_the_same_bits() {
    let bare = tiny();
    let frames = frames(61, bare.model().config.codes, 7);
    let whole = decode(&bare, &frames, |_| frames.len());
    assert_eq!(whole.len(), frames.len() * SAMPLES_PER_FRAME);
    assert!(whole.iter().any(|s| s.abs() > 0.01), "silence would hide every difference");
    for width in [1, 2, 3, 4, 7, 8, 9, 16, 32, 60] {
        assert_eq!(bits(&decode(&bare, &frames, |_| width)), bits(&whole), "chunks of {width}");
    }
    let ramp = [1, 2, 4, 8];
    assert_eq!(bits(&decode(&bare, &frames, |i| ramp[i.min(3)])), bits(&whole), "ramp");
    for seed in 0..20 {
        let random = |i| 1 + (philox_uniform(seed, i, 0) * 12.0) as usize;
        assert_eq!(bits(&decode(&bare, &frames, random)), bits(&whole), "random cutting {seed}");
    }
}

#[test]
fn the_demo_voice_has_no_chunk_borders_either() {
    let model = Model::open(&ModelSource::Folder(concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo").into())).unwrap();
    let bare = support::bare(model, None);
    let frames = frames(40, bare.model().config.codes, 3);
    let whole = decode(&bare, &frames, |_| frames.len());
    for width in [1, 3, 8] {
        assert_eq!(bits(&decode(&bare, &frames, |_| width)), bits(&whole), "chunks of {width}");
    }
}

#[test]
fn a_new_slot_and_a_copied_one_know_nothing_of_the_old() {
    let reference = cpu(1);
    let frames = frames(20, reference.model.config.codes, 5);
    let (before, after) = frames.split_at(9);
    let mut slot = reference.codec_slot();
    reference.decode(&mut slot, before).unwrap();
    let mut copy = slot.clone();
    let rest = reference.decode(&mut slot, after).unwrap();
    reference.decode(&mut slot, before).unwrap();
    assert_eq!(bits(&reference.decode(&mut copy, after).unwrap()), bits(&rest), "a copy goes on where it was taken");
    let fresh = reference.decode(&mut reference.codec_slot(), before).unwrap();
    assert_eq!(bits(&fresh), bits(&decode(&Bare::from(&reference), before, |_| 1)), "a new slot begins anew");
}

fn sampled(seed: u64) -> Request {
    let sampling = SamplingOptions {
        do_sample: Some(true),
        subtalker_dosample: Some(true),
        temperature: Some(0.9),
        subtalker_temperature: Some(0.9),
        max_new_tokens: Some(24),
        ..Default::default()
    };
    Request {
        voice: Voice::Preset("vivian".into()),
        sampling,
        randomness: Randomness::Seed(seed),
        ..Default::default()
    }
}

/// All frames and samples of one utterance.
fn speak(bare: impl Into<Bare>, request: &Request) -> (Vec<Frame>, Vec<u32>) {
    let text = Text::Whole("One sentence, said again and again.".into());
    let mut speech = Speech::new(bare, text, request).unwrap();
    let (mut frames, mut samples) = (Vec::new(), Vec::new());
    while let Some(chosen) = speech.next_frame().unwrap() {
        samples.extend(speech.decode(&[chosen.frame]).unwrap());
        frames.push(chosen.frame);
    }
    assert!(frames.len() > 2);
    (frames, bits(&samples))
}

#[test]
fn a_seed_says_the_same_whatever_ran_before() {
    let bare = tiny();
    let first = speak(&bare, &sampled(11));
    let other = speak(&bare, &sampled(12));
    assert_ne!(first.0, other.0, "another seed, other speech");
    assert!(speak(&bare, &sampled(11)) == first, "again in the same process");
    assert!(speak(tiny(), &sampled(11)) == first, "by another that was opened");
}

#[test]
fn a_seed_says_the_same_whatever_the_threads() {
    let first = speak(cpu(1), &sampled(11));
    for threads in [2, 3, 5] {
        assert!(speak(cpu(threads), &sampled(11)) == first, "{threads} threads");
    }
}

#[test]
fn a_seed_is_the_philox_of_frame_and_group() {
    let bare = tiny();
    let seeded = speak(&bare, &sampled(11));
    let draws = (0..24).flat_map(|f| (0..16).map(move |g| philox_uniform(11, f, g))).collect();
    let listed = Request { randomness: Randomness::Uniforms(draws), ..sampled(11) };
    assert!(speak(&bare, &listed) == seeded);
}

#[test]
fn a_slot_of_another_model_is_refused() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo");
    let other = Reference::new(Model::open(&ModelSource::Folder(folder.into())).unwrap(), Some(1)).unwrap();
    let error = other.decode(&mut cpu(1).codec_slot(), &[[0; 16]]).unwrap_err().to_string();
    assert_eq!(error, "slot: belongs to a model with another codec");
}

#[test]
fn forcing_no_frames_still_runs_the_prompt() {
    let request = r#"{"text": "Hello.", "speaker": "vivian", "forced_frames": []}"#;
    let request = qwentts::trace::TraceRequest::parse(request.as_bytes()).unwrap();
    let trace = qwentts::trace::run(tiny(), &request, None).unwrap().trace;
    assert!(trace.prefill.positions > 3 && trace.prefill.sumsq > 0.0, "{:?}", trace.prefill);
    assert_eq!((trace.frames.len(), trace.end.as_str()), (0, "forced"));
}
