//! From scores to codes, and what an utterance remembers of them.

use super::Gpu;
use crate::cpu::sample::{Source, TalkerRules, argmax, draw};
use crate::cpu::simd::tests::Numbers;
use crate::cuda::args;
use crate::cuda::kernels::SpeakerMemory;
use crate::driver::Pinned;
use crate::frame::{Frame, GROUPS};
use crate::request::{Randomness, Sampler};
use std::collections::BTreeSet;
use std::mem::offset_of;

/// How an utterance's codes are chosen.
#[derive(Clone, Debug)]
struct Rules {
    talker: Sampler,
    predictor: Sampler,
    repetition_penalty: f32,
    randomness: Randomness,
}

/// An utterance's memory, and its bytes as the header lays them out.
struct Speaker<'a> {
    gpu: &'a Gpu,
    memory: SpeakerMemory,
    _uniforms: Option<crate::driver::Span<f64>>,
}

impl Speaker<'_> {
    /// As an utterance begins; what has no value then is poison.
    fn new<'a>(gpu: &'a Gpu, rules: &Rules) -> Speaker<'a> {
        let memory = SpeakerMemory::new(&gpu.context).unwrap();
        let mut bytes = vec![0xff; size_of::<args::Speaker>()];
        let mut put = |at: usize, number: &[u8]| bytes[at..at + number.len()].copy_from_slice(number);
        let (seed, list) = match &rules.randomness {
            Randomness::Seed(seed) => (*seed, None),
            Randomness::Uniforms(list) => (0, Some(gpu.put(list))),
        };
        put(offset_of!(args::Speaker, seed), &seed.to_le_bytes());
        let address = list.as_ref().map_or(0, |list| list.ptr() as u64);
        put(offset_of!(args::Speaker, uniforms), &address.to_le_bytes());
        put(offset_of!(args::Speaker, draws), &list.as_ref().map_or(0, |list| list.len() as u32).to_le_bytes());
        for at in [offset_of!(args::Speaker, position), offset_of!(args::Speaker, frame)] {
            put(at, &0_u32.to_le_bytes());
        }
        put(offset_of!(args::Speaker, repetition_penalty), &rules.repetition_penalty.to_le_bytes());
        put(offset_of!(args::Speaker, seen), &[0; args::SAMPLE_SCORES_MAX as usize]);
        for (at, sampler) in [
            (offset_of!(args::Speaker, talker), &rules.talker),
            (offset_of!(args::Speaker, predictor), &rules.predictor),
        ] {
            put(at + offset_of!(args::Choosing, do_sample), &u32::from(sampler.do_sample).to_le_bytes());
            put(at + offset_of!(args::Choosing, top_k), &(sampler.top_k as u32).to_le_bytes());
            put(at + offset_of!(args::Choosing, temperature), &sampler.temperature.to_le_bytes());
            put(at + offset_of!(args::Choosing, top_p), &sampler.top_p.to_le_bytes());
        }
        memory.whole().bytes().write(&gpu.stream, &bytes).unwrap();
        Speaker { gpu, memory, _uniforms: list }
    }

    fn enter(&self, may_end: bool, codes: Option<&Frame>, forced: Option<&Frame>) {
        self.gpu.kernels.enter(&self.gpu.stream, &self.memory, None, may_end, codes, forced).unwrap();
    }

    fn leave(&self) {
        self.gpu.kernels.leave(&self.gpu.stream, &self.memory, 0, 1, None).unwrap();
    }

    fn sample(&self, group: usize, suppressed: Option<(usize, usize)>, scores: &[f32]) {
        let (gpu, there) = (self.gpu, self.gpu.put(scores));
        gpu.kernels.sample(&gpu.stream, &self.memory, group, suppressed, &there).unwrap();
        gpu.stream.synchronize().unwrap();
    }

    fn now(&self) -> Now {
        Now(self.gpu.get(&self.memory.whole().bytes()))
    }
}

/// What a speaker's memory held at some time.
struct Now(Vec<u8>);

impl Now {
    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn words(&self, at: usize) -> [u32; GROUPS] {
        std::array::from_fn(|i| self.word(at + 4 * i))
    }

    fn chosen(&self) -> [u32; GROUPS] {
        self.words(offset_of!(args::Speaker, chosen))
    }

    fn codes(&self) -> [u32; GROUPS] {
        self.words(offset_of!(args::Speaker, codes))
    }

    fn fault(&self) -> u32 {
        self.word(offset_of!(args::Speaker, fault))
    }

    fn seen(&self) -> BTreeSet<usize> {
        let seen = &self.0[offset_of!(args::Speaker, seen)..][..args::SAMPLE_SCORES_MAX as usize];
        (0..seen.len()).filter(|&code| seen[code] != 0).collect()
    }
}

fn sampled(temperature: f32, top_k: usize, top_p: f32) -> Sampler {
    Sampler { do_sample: true, temperature, top_k, top_p }
}

fn greedy() -> Sampler {
    Sampler { do_sample: false, ..sampled(1.0, 0, 1.0) }
}

/// Choices of whole utterances are equal but where the reference says that another is as near; of those there may be few, and
/// of the best scores none.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn sample() {
    const NEAR: f32 = 1e-5; // the reference's own f32 sum of 3072 probabilities is no better
    const FRAMES: usize = 24;
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(27));
    let (mut choices, mut forgiven, mut ends) = (0, 0, 0);
    // Scores of group 0, of which the last 1024 are controls, and of the others.
    for (vocab, codes, talker, predictor, penalty, coarse) in [
        (1025, 1, sampled(1.0, 0, 1.0), sampled(1.0, 0, 1.0), 1.0, false),
        (1029, 5, sampled(0.9, 3, 1.0), sampled(0.9, 3, 1.0), 1.3, true),
        (3072, 2048, sampled(0.9, 50, 1.0), sampled(0.9, 50, 1.0), 1.05, false),
        (3072, 2048, sampled(1.0, 0, 0.9), sampled(1.0, 0, 0.9), 1.0, false),
        (3072, 2048, sampled(0.9, 50, 0.8), sampled(1.3, 0, 0.5), 1.2, true),
        (3072, 2048, sampled(0.7, 400, 0.95), greedy(), 1.05, true),
        (3072, 2048, greedy(), sampled(0.9, 50, 1.0), 1.05, false),
        (4096, 3071, sampled(1.0, 5000, 1e-6), sampled(1.0, 1, 1.0), 1.0, true),
        (1101, 77, greedy(), greedy(), 1.5, true),
    ] {
        for given in [false, true] {
            let draws = FRAMES * (usize::from(talker.do_sample) + (GROUPS - 1) * usize::from(predictor.do_sample));
            let list = || (0..draws.max(1)).map(|i| crate::cpu::philox_uniform(7, i, vocab)).collect();
            let randomness = if given { Randomness::Uniforms(list()) } else { Randomness::Seed(u64::MAX - 99) };
            let rules = Rules { talker, predictor, repetition_penalty: penalty, randomness: randomness.clone() };
            let what = format!("{vocab} and {codes} scores, {talker:?}, {predictor:?}, given {given}");
            let eos = vocab - 1024 + 102;
            let (speaker, mut source) = (Speaker::new(&gpu, &rules), Source::new(randomness));
            let mut seen = BTreeSet::new();
            for frame in 0..FRAMES {
                // Some frames are forced, and some scores make the end likely.
                let forced: Option<Frame> = (frame % 5 == 3)
                    .then(|| std::array::from_fn(|g| ((frame * 7 + g * 3) % codes.min(vocab - 1024)) as u16));
                let may_end = frame % 4 != 1;
                speaker.enter(may_end, None, forced.as_ref());
                for group in 0..GROUPS {
                    let count = if group == 0 { vocab } else { codes };
                    let mut scores: Vec<f32> = numbers.some(count).iter().map(|x| 6.0 * x).collect();
                    if coarse {
                        scores.iter_mut().for_each(|s| *s = (*s * 2.0).round() / 2.0); // many ties, -0 among them
                    }
                    if group == 0 && frame % 3 == 1 {
                        scores[eos] = 30.0;
                    }
                    let controls = (group == 0).then_some((vocab - 1024, eos));
                    speaker.sample(group, controls, &scores);
                    let now = speaker.now();

                    let sampler = if group == 0 { &talker } else { &predictor };
                    if group == 0 {
                        let eos_allowed = may_end && frame >= 2;
                        TalkerRules { seen: &seen, repetition_penalty: penalty, eos, eos_allowed }.apply(&mut scores);
                    }
                    let expected = match sampler.do_sample {
                        true => draw(&mut scores, sampler, source.uniform(frame, group).unwrap()),
                        false => argmax(&scores),
                    };
                    let found = now.chosen()[group] as usize;
                    choices += 1;
                    ends += usize::from(group == 0 && found == eos);
                    if found != expected.index {
                        let near = expected.margin < NEAR && sampler.do_sample;
                        assert!(near, "{what}, frame {frame} group {group}: {found}, expected {expected:?}");
                        forgiven += 1;
                    }
                    let fed = forced.map_or(found, |forced| forced[group].into());
                    assert_eq!(now.codes()[group] as usize, fed, "{what}, frame {frame} group {group}: what is fed");
                    if group == 0 {
                        seen.insert(fed);
                    }
                    assert_eq!(now.seen(), seen, "{what}, frame {frame} group {group}: what was seen");
                    assert_eq!(now.fault(), 0, "{what}");
                }
                speaker.leave();
            }
        }
    }
    println!("{choices} choices, {forgiven} forgiven, {ends} ends");
    assert!(forgiven * 200 <= choices, "{forgiven} of {choices}");
    assert!(ends > 20, "{ends} ends: the rule about them was hardly seen");
}

/// A choice has the bits of its scores: which, where and beside what is the same every time.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_choice_is_the_same_again() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(36));
    let sampler = sampled(0.9, 0, 0.999);
    let randomness = Randomness::Seed(5);
    let rules = Rules { talker: sampler, predictor: sampler, repetition_penalty: 1.0, randomness };
    let scores: Vec<f32> = numbers.some(2048).iter().map(|x| 2.0 * x).collect();
    let choose = || {
        let speaker = Speaker::new(&gpu, &rules);
        (0..50)
            .map(|_| {
                speaker.enter(true, None, None);
                speaker.sample(9, None, &scores);
                speaker.leave();
                speaker.now().chosen()[9]
            })
            .collect::<Vec<_>>()
    };
    let first = choose();
    assert!(first.iter().collect::<BTreeSet<_>>().len() > 30, "draws of other frames are others: {first:?}");
    for _ in 0..5 {
        assert_eq!(choose(), first);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn scores_that_are_not_finite_are_a_fault() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(37));
    for sampler in [greedy(), sampled(0.9, 50, 1.0)] {
        let randomness = Randomness::Seed(3);
        let rules = Rules { talker: sampler, predictor: sampler, repetition_penalty: 1.05, randomness };
        for (poison, at) in [(f32::NAN, 0), (f32::INFINITY, 1300), (f32::NEG_INFINITY, 2047), (-f32::NAN, 2111)] {
            let (count, group) = if at < 2048 { (2048, 1 + at % 15) } else { (3072, 0) };
            let controls = (group == 0).then_some((2048, 2150)); // what is suppressed counts, too
            let mut scores: Vec<f32> = numbers.some(count);
            let speaker = Speaker::new(&gpu, &rules);
            speaker.enter(true, Some(&[9; GROUPS]), None);
            speaker.sample(group, controls, &scores);
            assert_eq!(speaker.now().fault(), 0);
            scores[at] = poison;
            speaker.sample(group, controls, &scores);
            let now = speaker.now();
            assert_eq!(now.fault() as usize, 1 + group, "{poison} at {at}");
            assert_eq!([now.chosen()[group], now.codes()[group]], [0; 2], "a code that every table has");
            // The first stays, until the next frame begins.
            speaker.sample(15, None, &scores[..2048.min(at + 1)]);
            speaker.sample(14, None, &numbers.some(100));
            assert_eq!(speaker.now().fault() as usize, 1 + group);
            speaker.enter(true, None, None);
            assert_eq!(speaker.now().fault(), 0);
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn the_host_tells_and_is_told() {
    let (gpu, mut numbers) = (Gpu::open(), Numbers::new(38));
    let randomness = Randomness::Seed(3);
    let rules = Rules { talker: greedy(), predictor: greedy(), repetition_penalty: 1.0, randomness };
    let speaker = Speaker::new(&gpu, &rules);
    let (kernels, stream) = (&gpu.kernels, &gpu.stream);
    let at = |field: usize| field..field + 4 * GROUPS;
    for width in [1, 77, 2048, 5000] {
        let (text, mut from) = (numbers.some(width), Pinned::<f32>::new(&gpu.context, width + 3).unwrap());
        from.write(3, &text);
        let to = gpu.poisoned::<f32>(width + 1);
        let codes: Frame = std::array::from_fn(|g| (width + g) as u16);
        let forced: Frame = std::array::from_fn(|g| (2 * width + g) as u16);
        let (there, part) = (from.span().part(3..width + 3), to.part(0..width));
        let before = speaker.now();
        kernels.enter(stream, &speaker.memory, Some((&there, &part)), true, Some(&codes), Some(&forced)).unwrap();
        let found = gpu.get(&to);
        super::assert_same(&found[..width], &text, "the text's row");
        assert!(found[width].is_nan(), "behind the text's row");
        let now = speaker.now();
        assert_eq!(now.codes(), codes.map(u32::from));
        assert_eq!(now.words(offset_of!(args::Speaker, forced)), forced.map(u32::from));
        assert_eq!(now.word(offset_of!(args::Speaker, may_end)), 1);
        // Without them: no text, the codes stay, nothing is forced, and it may not end.
        kernels.enter(stream, &speaker.memory, None, false, None, None).unwrap();
        let mut now = speaker.now();
        assert_eq!(now.codes(), codes.map(u32::from));
        assert_eq!(now.words(offset_of!(args::Speaker, forced)), [args::NO_CODE; GROUPS]);
        assert_eq!(now.word(offset_of!(args::Speaker, may_end)), 0);
        // Nothing else has changed.
        for range in [
            at(offset_of!(args::Speaker, codes)),
            at(offset_of!(args::Speaker, forced)),
            offset_of!(args::Speaker, may_end)..offset_of!(args::Speaker, may_end) + 4,
            offset_of!(args::Speaker, fault)..offset_of!(args::Speaker, fault) + 4,
        ] {
            now.0[range.clone()].copy_from_slice(&before.0[range]);
        }
        assert!(now.0 == before.0, "something else has changed");
    }

    // What is chosen is told, with the fault, and counted.
    speaker.enter(true, None, Some(&[3; GROUPS]));
    for group in 0..GROUPS {
        let mut scores = vec![0.0; 64];
        scores[20 + group] = 1.0;
        speaker.sample(group, None, &scores);
    }
    let report = Pinned::<u32>::new(&gpu.context, GROUPS + 2).unwrap();
    let told = |positions, frames| {
        kernels.leave(stream, &speaker.memory, positions, frames, Some(&report.span())).unwrap();
        stream.synchronize().unwrap();
        let mut words = [0; GROUPS + 2];
        report.read(0, &mut words);
        let now = speaker.now();
        let [position, frame] =
            [offset_of!(args::Speaker, position), offset_of!(args::Speaker, frame)].map(|field| now.word(field));
        assert_eq!(words[GROUPS + 1], 0, "behind the report");
        (words[..GROUPS].to_vec(), words[GROUPS], position, frame)
    };
    let chosen: Vec<u32> = (20..36).collect();
    assert_eq!(told(1, 1), (chosen.clone(), 0, 1, 1));
    speaker.sample(5, None, &[f32::NAN; 9]);
    let faulty: Vec<u32> = chosen.iter().enumerate().map(|(g, &code)| if g == 5 { 0 } else { code }).collect();
    assert_eq!(told(130, 0), (faulty, 6, 131, 1));
    speaker.leave();
    assert_eq!(speaker.now().word(offset_of!(args::Speaker, frame)), 2);

    // Pages find their places in the list.
    for index in [0, 1, 511, 7] {
        let page = gpu.poisoned::<u8>(16);
        kernels.put_page(stream, &speaker.memory, index, &page).unwrap();
        assert_eq!(gpu.get(&speaker.memory.pages())[index], page.ptr() as u64);
    }
    assert_eq!(gpu.get(&speaker.memory.pages())[2], u64::MAX, "no other place");
}
