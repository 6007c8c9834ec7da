//! The reference backend: the model on the CPU, in f32, over mapped weights. Read this first, then `talker`,
//! `predictor`, `stack`, `codec`, and `ops` for the arithmetic. A slot is one utterance's place.

pub(crate) mod along_time;
mod codec;
mod encoder;
pub(crate) mod lanes;
mod mel;
pub(crate) mod ops;
mod predictor;
pub(crate) mod sample;
pub(crate) mod simd;
mod speaker;
mod stack;
mod talker;

pub use codec::CodecSlot;
pub(crate) use mel::fewest_samples;
pub use mel::{log_mel, mel_frames};
pub use sample::philox_uniform;
pub use simd::vector_bits;

use crate::backend::{self, Decoder, Heard, Listen, Recording, Step, Stepwise};
use crate::error::{Error, Result};
use crate::frame::{End, Frame, GROUPS, check_codes, check_finite};
use crate::model::Model;
use crate::primed::Primed;
use crate::prompt::Position;
use crate::request::{Randomness, Sampling};
use crate::state::CodecState;
use codec::Codec;
use encoder::Encoder;
use predictor::Predictor;
use sample::{Source, TalkerRules, choose};
use simd::Threads;
use speaker::SpeakerEncoder;
use stack::Kv;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use talker::{Talker, TalkerOutput};

/// The model on the CPU. Results depend on the request alone, not on the number of threads.
pub struct Reference {
    /// What it speaks with.
    pub model: Arc<Model>,
    threads: Threads,
    codec_state: CodecState,
    primed: PrimedSlots,
}

/// Codecs behind the references of voices.
#[derive(Clone, Default)]
struct PrimedSlots(Arc<Mutex<Primed<Arc<CodecSlot>>>>);

impl PrimedSlots {
    fn lock(&self) -> MutexGuard<'_, Primed<Arc<CodecSlot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The codec behind this reference, if one has heard it.
    fn find(&self, reference: &[Frame]) -> Option<Arc<CodecSlot>> {
        self.lock().find(reference).cloned()
    }

    /// Keeps a codec that has heard all of a reference, and no more.
    fn keep(&self, reference: Vec<Frame>, slot: &CodecSlot) {
        let mut primed = self.lock();
        // Two that began at once have both heard it.
        if primed.find(&reference).is_none() {
            primed.keep(reference, Arc::new(slot.clone()));
        }
    }
}

/// One utterance: the talker's and predictor's memory, the draws, and what the last talker step gave.
pub(crate) struct Slot {
    talker_kv: Kv,
    predictor_kv: Kv,
    sampling: Sampling,
    source: Source,
    output: Option<TalkerOutput>,
    /// Group-0 tokens so far, each once, for the penalty.
    seen: BTreeSet<usize>,
    /// Talker tokens so far; frames are the same number until the end.
    tokens: usize,
    /// Filled while it is there.
    pub recording: Option<Recording>,
}

impl Reference {
    /// `threads`: how many; `None` takes one per core.
    pub fn new(model: Arc<Model>, threads: Option<usize>) -> Result<Reference> {
        let codec_state = CodecState::new(&model.config.codec, codec::past_positions(&model.config.codec));
        Ok(Reference { model, threads: Threads::new(threads)?, codec_state, primed: PrimedSlots::default() })
    }

    /// How many threads compute.
    pub fn thread_count(&self) -> usize {
        self.threads.count()
    }

    pub(crate) fn slot(&self, sampling: Sampling, randomness: Randomness) -> Slot {
        Slot {
            talker_kv: Kv::new(&self.model.config.talker),
            predictor_kv: Kv::new(&self.model.config.predictor),
            sampling,
            source: Source::new(randomness),
            output: None,
            seen: BTreeSet::new(),
            tokens: 0,
            recording: None,
        }
    }

    /// A codec that has heard nothing yet.
    pub fn codec_slot(&self) -> CodecSlot {
        CodecSlot::new(&self.codec_state)
    }

    /// A codec behind a voice's reference: heard now, or as an earlier one with the same left it.
    fn codec_slot_behind(&self, reference: &[Frame]) -> Result<CodecSlot> {
        if let Some(kept) = self.primed.find(reference) {
            return Ok(CodecSlot::clone(&kept));
        }
        let mut slot = self.codec_slot();
        if !reference.is_empty() {
            self.prime(&mut slot, reference, 0)?;
            self.primed.keep(reference.to_vec(), &slot);
        }
        Ok(slot)
    }

    fn talker(&self) -> Talker<'_> {
        Talker { config: &self.model.config, weights: &self.model.weights, threads: &self.threads }
    }

    /// Runs the prompt, or its next part; after the last the slot is ready for its first step.
    pub(crate) fn prefill(&self, slot: &mut Slot, prompt: &[Position]) {
        let embeds = self.threads.install(|| self.talker().embed(prompt));
        if let Some(recording) = &mut slot.recording {
            recording.prefill_embeds.clone_from(&embeds);
        }
        self.forward(slot, embeds);
    }

    /// Feeds a finished frame and the next text token back to the talker.
    pub(crate) fn feed(&self, slot: &mut Slot, frame: &Frame, text: u32) {
        let embeds = self.threads.install(|| self.talker().embed_step(frame, text));
        self.forward(slot, embeds);
    }

    fn forward(&self, slot: &mut Slot, embeds: Vec<f32>) {
        let output = self.threads.install(|| self.talker().forward(&mut slot.talker_kv, embeds));
        if let Some(recording) = &mut slot.recording {
            recording.talker_hidden.extend_from_slice(&output.hidden);
            recording.talker_logits.extend_from_slice(&output.logits);
        }
        slot.output = Some(output);
    }

    /// Chooses the next token and, unless it ends the utterance, the frame's other groups. With `forced`, that
    /// frame's codes are taken as chosen: each group sees them before it, whatever it would choose itself. Without
    /// `may_end` the talker cannot choose to stop.
    pub(crate) fn step(&self, slot: &mut Slot, forced: Option<&Frame>, may_end: bool) -> Result<Step> {
        let Some(output) = slot.output.take() else {
            return Err(Error::compute("step", "no prompt or frame was fed since the last step"));
        };
        let config = &self.model.config;
        let (frame_number, eos) = (slot.tokens, config.codec_controls.eos as usize);
        let sampling = slot.sampling;
        let mut scores = output.logits;
        self.check(&scores, frame_number, 0)?;
        TalkerRules {
            seen: &slot.seen,
            repetition_penalty: sampling.repetition_penalty,
            eos,
            eos_allowed: may_end && slot.tokens >= 2,
        }
        .apply(&mut scores);
        let first = choose(&mut scores, &sampling.talker, &mut slot.source, frame_number, 0)?;
        slot.tokens += 1;
        if forced.is_none() {
            if first.index == eos {
                return Ok(Step::Ended(End::Eos));
            }
            if slot.tokens >= sampling.max_new_tokens {
                return Ok(Step::Ended(End::Length));
            }
        }

        let mut chosen = [0; GROUPS];
        let mut margins = [0.0; GROUPS];
        (chosen[0], margins[0]) = (first.index as u16, first.margin);
        let mut fed = chosen;
        fed[0] = forced.map_or(chosen[0], |f| f[0]);
        slot.seen.insert(fed[0].into());
        let predictor = Predictor { config, weights: &self.model.weights, threads: &self.threads };
        let (kv, source, recording) = (&mut slot.predictor_kv, &mut slot.source, &mut slot.recording);
        let choose_group = |group: usize, logits: &[f32]| {
            self.check(logits, frame_number, group)?;
            if let Some(recording) = recording {
                recording.predictor_logits.extend_from_slice(logits);
            }
            let choice = choose(&mut logits.to_vec(), &sampling.predictor, source, frame_number, group)?;
            (chosen[group], margins[group]) = (choice.index as u16, choice.margin);
            Ok(forced.map_or(chosen[group], |f| f[group]))
        };
        self.threads.install(|| predictor.frame(kv, &output.hidden, &mut fed, choose_group))?;
        Ok(Step::Frame { chosen, margins })
    }

    /// The next frames' samples: SAMPLES_PER_FRAME each, in [-1, 1]. Any cutting of the same frames gives the same
    /// samples. A code that no codebook has, and weights that are not finite, are errors.
    pub fn decode(&self, slot: &mut CodecSlot, frames: &[Frame]) -> Result<Vec<f32>> {
        let samples = self.codec(slot, frames)?.decode(slot, frames);
        match samples.iter().all(|s| s.is_finite()) {
            true => Ok(samples),
            false => Err(self.model.blame("codec decode", "samples are not finite")),
        }
    }

    /// Hears a voice's reference or a part of it, behind which come `more` frames of it: the slot is as if they had been decoded.
    pub(crate) fn prime(&self, slot: &mut CodecSlot, frames: &[Frame], more: usize) -> Result<()> {
        let (early, late) = frames.split_at(self.codec_state.early(frames.len(), more));
        self.codec(slot, early)?.skim(slot, early);
        self.decode(slot, late).map(|_| ())
    }

    /// The codec, which takes these frames for this slot.
    fn codec(&self, slot: &CodecSlot, frames: &[Frame]) -> Result<Codec<'_>> {
        let config = &self.model.config.codec;
        check_codes("codes", frames, config.codebook_size)?;
        if !slot.fits(&self.codec_state) {
            return Err(Error::request("slot", "belongs to a model with another codec"));
        }
        let weights = &self.model.weights.codec;
        Ok(Codec { config, weights, threads: &self.threads, state: &self.codec_state })
    }

    /// The frames of a recording, one for each 1920 samples begun: the codec's other half, which a clone's reference and
    /// `codec encode` go through. `samples`: 24 kHz, mono, finite, one at least; memory grows with them by 0.7 MB a second
    /// at the published sizes. A checkpoint without a codec encoder, and weights that are not finite, are errors.
    pub fn encode(&self, samples: &[f32]) -> Result<Vec<Frame>> {
        self.encode_with_margins(samples).map(|(frames, _)| frames)
    }

    /// As [`Reference::encode`], and how near each code was to another: how far what was looked up lies from the plane between
    /// its two nearest rows, by its own length.
    #[allow(clippy::type_complexity)] // frames, and as many margins
    pub fn encode_with_margins(&self, samples: &[f32]) -> Result<(Vec<Frame>, Vec<[f32; GROUPS]>)> {
        let (config, weights) = self.model.codec_encoder()?;
        check_recording(samples, 1)?;
        let encoder = Encoder { config, codec: &self.model.config.codec, weights, threads: &self.threads };
        let frames = self.threads.install(|| encoder.encode(samples));
        frames.ok_or_else(|| self.model.blame("codec encode", "what the codes are chosen from is not finite"))
    }

    /// Who speaks in a recording, as a vector of the talker's width: what stands in a clone's prompt. `samples`: 24 kHz,
    /// mono, finite, at least as many as `fewest_samples` says. Not scaled to any length. Memory grows with them by
    /// 5 MB a second at the published sizes. A checkpoint without a speaker encoder, which only Base models have, and
    /// weights that are not finite, are errors.
    pub fn speaker_vector(&self, samples: &[f32]) -> Result<Vec<f32>> {
        let weights = self.model.speaker_encoder()?;
        check_recording(samples, fewest_samples(weights))?;
        let encoder = SpeakerEncoder { weights, threads: &self.threads };
        let vector = self.threads.install(|| encoder.run(&log_mel(samples)));
        match vector.iter().all(|x| x.is_finite()) {
            true => Ok(vector),
            false => Err(self.model.blame("speaker encoder", "the vector is not finite")),
        }
    }

    /// The fewest samples that the speaker encoder's mirrored edges allow; 53 ms at the published sizes.
    pub fn fewest_samples(&self) -> Result<usize> {
        Ok(fewest_samples(self.model.speaker_encoder()?))
    }

    fn check(&self, scores: &[f32], frame: usize, group: usize) -> Result<()> {
        match scores.iter().all(|s| s.is_finite()) {
            true => Ok(()),
            false => Err(self.model.blame("step", &format!("scores of frame {frame} group {group} are not finite"))),
        }
    }
}

/// What is heard of a recording: finite samples, so many at least.
pub(crate) fn check_recording(samples: &[f32], fewest: usize) -> Result<()> {
    if samples.len() < fewest {
        let what = format!("has {} samples; expected {fewest} at least", samples.len());
        return Err(Error::request("ref_audio", what));
    }
    check_finite(samples).map_err(|what| Error::request("ref_audio", what))
}

impl Listen for Reference {
    fn hear(&self, speaker: Option<&[f32]>, words: Option<&[f32]>) -> Result<Heard> {
        let frames = words.map(|samples| self.encode(samples)).transpose()?.unwrap_or_default();
        let vector = speaker.map(|samples| self.speaker_vector(samples)).transpose()?.unwrap_or_default();
        Ok(Heard { vector, frames })
    }
}

impl Stepwise for Arc<Reference> {
    fn model(&self) -> &Arc<Model> {
        &self.model
    }

    fn device(&self) -> String {
        "cpu".to_owned()
    }

    fn utterance(&self, sampling: Sampling, randomness: Randomness) -> Result<Box<dyn backend::Utterance>> {
        Ok(Box::new(Utterance { reference: self.clone(), slot: self.slot(sampling, randomness) }))
    }

    fn decoder(&self, behind: &[Frame]) -> Result<Box<dyn Decoder>> {
        Ok(Box::new(Decoding { reference: self.clone(), slot: self.codec_slot_behind(behind)? }))
    }
}

/// A slot with what computes it.
struct Utterance {
    reference: Arc<Reference>,
    slot: Slot,
}

impl backend::Utterance for Utterance {
    fn prefill(&mut self, prompt: &[Position]) -> Result<()> {
        self.reference.prefill(&mut self.slot, prompt);
        Ok(())
    }

    fn step(&mut self, last: Option<(&Frame, u32)>, forced: Option<&Frame>, may_end: bool) -> Result<Step> {
        if let Some((frame, text)) = last {
            self.reference.feed(&mut self.slot, frame, text);
        }
        self.reference.step(&mut self.slot, forced, may_end)
    }

    fn record(&mut self) {
        self.slot.recording = Some(Recording::default());
    }

    fn recording(&self) -> Option<&Recording> {
        self.slot.recording.as_ref()
    }
}

/// A codec's slot with what computes it.
struct Decoding {
    reference: Arc<Reference>,
    slot: CodecSlot,
}

impl Decoder for Decoding {
    fn decode(&mut self, frames: &[Frame]) -> Result<Vec<f32>> {
        self.reference.decode(&mut self.slot, frames)
    }
}

#[cfg(test)]
mod tests {
    //! Would catch: a reference that each utterance hears for itself, and a kept codec that is another's or gives other sound.
    use super::*;

    #[test]
    fn a_reference_is_heard_once_and_changes_no_bit() {
        let model = Model::demo();
        let reference = Arc::new(Reference::new(model, Some(1)).unwrap());
        // More than the codec's window.
        let frames: Vec<Frame> = (0..100).map(|i| std::array::from_fn(|group| (7 * i + group as u16) % 60)).collect();
        let (voice, speech) = frames.split_at(97);
        let says = |behind: &[Frame]| reference.decoder(behind).unwrap().decode(speech).unwrap();
        let kept = || reference.primed.lock().count();

        let mut all = reference.decoder(&[]).unwrap();
        all.decode(voice).unwrap();
        let expected = all.decode(speech).unwrap();
        assert_eq!(kept(), 0, "a codec that has heard nothing");
        assert!(says(voice) == expected && says(voice) == expected && says(&[]) != expected);
        assert_eq!(kept(), 1);
        // What is kept is what speaks: under another's name it is heard as that one.
        let behind_voice = reference.codec_slot_behind(voice).unwrap();
        reference.primed.keep(frames[..3].to_vec(), &behind_voice);
        assert!(says(&frames[..3]) == expected);

        let wrong = [[u16::MAX; GROUPS]];
        assert!(reference.decoder(&wrong).is_err() && kept() == 2, "codes that no codebook has");
    }
}
