//! The shortest prompts, which no request makes: the bare loop's prefill against the reference's.

use crate::backend::{Stepwise, Utterance};
use crate::cpu::Reference;
use crate::cuda::stepwise;
use crate::device::KvNumbers;
use crate::model::Model;
use crate::prompt::{CodecInput, Position};
use crate::request::{Randomness, SamplingOptions};
use std::sync::Arc;

/// Of the scores and hiddens of a prompt, relative to the largest.
const OFF: f32 = 1e-4;

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn prompts_of_one_position_and_a_few() {
    let model = Model::demo();
    let cpu = Arc::new(Reference::new(model.clone(), None).unwrap());
    let gpu = stepwise::Gpu::open(&model, 0, KvNumbers::F32).unwrap();
    let sampling = SamplingOptions::default().settle(&model.config.sampling).unwrap();
    let position = |i: u32| Position {
        text: 5 + 3 * i,
        codec: if i.is_multiple_of(3) { CodecInput::None } else { CodecInput::Id(i) },
    };
    for count in [1, 2, 3, 15, 16, 17, 255, 256, 257] {
        let prompt: Vec<Position> = (0..count).map(position).collect();
        let run = |stepwise: &dyn Stepwise| {
            let mut utterance: Box<dyn Utterance> = stepwise.utterance(sampling, Randomness::Seed(1)).unwrap();
            utterance.record();
            utterance.prefill(&prompt).unwrap();
            utterance.step(None, Some(&[1; 16]), true).unwrap();
            let kept = utterance.recording().unwrap();
            [&kept.prefill_embeds, &kept.talker_hidden, &kept.talker_logits, &kept.predictor_logits].map(Clone::clone)
        };
        for (ours, reference) in run(&gpu).iter().zip(&run(&cpu)) {
            assert_eq!(ours.len(), reference.len());
            let largest = super::largest(reference);
            for (a, b) in ours.iter().zip(reference) {
                assert!((a - b).abs() <= OFF * largest, "{count} positions: {a}, expected {b}, of {largest} at most");
            }
        }
    }
}
