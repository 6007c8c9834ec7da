//! A GPU as the bare loop sees it: each call waits for its work, and what the arithmetic was can be read back. The launches are
//! those of the engine.

use super::frames::Report;
use super::{Loaded, Options, load};
use crate::backend::{self, Recording, Step, Stepwise};
use crate::cpu::sample::{Source, TalkerRules, choose};
use crate::device::{Device, KvNumbers, Memory};
use crate::error::{Error, Result};
use crate::frame::{Frame, GROUPS, SAMPLES_PER_FRAME, check_codes};
use crate::model::Model;
use crate::prompt::Position;
use crate::request::{Randomness, Sampling};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Frames that a decoder has under way.
const FRAMES_TOGETHER: usize = 256;
/// Utterances and decoders that may be there at the same time.
const SLOTS: usize = 8;

/// A model on a GPU, without an engine.
pub(crate) struct Gpu {
    model: Arc<Model>,
    device: String,
    loaded: Arc<Mutex<Loaded>>,
    utterances: Slots,
    decoders: Slots,
}

/// Which slots are free.
#[derive(Clone)]
struct Slots(Arc<Mutex<Vec<usize>>>);

/// A slot, free again once dropped.
struct Held {
    slot: usize,
    slots: Slots,
}

impl Slots {
    fn new() -> Slots {
        Slots(Arc::new(Mutex::new((0..SLOTS).collect())))
    }

    fn hold(&self, what: &'static str) -> Result<Held> {
        let slot = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let busy = || Error::compute(what, format!("{SLOTS} are there already; drop one, or use an engine"));
        slot.map(|slot| Held { slot, slots: self.clone() }).ok_or_else(busy)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.slots.0.lock().unwrap_or_else(PoisonError::into_inner).push(self.slot);
    }
}

impl Gpu {
    /// Keeps no prompt's beginning: what it says is what the engine's prefixes are measured by.
    pub fn open(model: &Arc<Model>, index: usize, kv: KvNumbers) -> Result<Gpu> {
        let options = Options { index, slots: SLOTS, kv, positions: None, prefix_positions: 0 };
        let loaded = load(model, &options, &mut |_| {})?;
        let device = format!("{} ({})", Device::Cuda(index), loaded.context.gpu.name);
        let loaded = Arc::new(Mutex::new(loaded));
        Ok(Gpu { model: model.clone(), device, loaded, utterances: Slots::new(), decoders: Slots::new() })
    }
}

fn lock(loaded: &Mutex<Loaded>) -> MutexGuard<'_, Loaded> {
    loaded.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stepwise for Gpu {
    fn model(&self) -> &Arc<Model> {
        &self.model
    }

    fn device(&self) -> String {
        self.device.clone()
    }

    fn memory(&self) -> Option<Memory> {
        Some(lock(&self.loaded).memory())
    }

    fn utterance(&self, sampling: Sampling, randomness: Randomness) -> Result<Box<dyn backend::Utterance>> {
        let held = self.utterances.hold("utterance")?;
        lock(&self.loaded).frames.begin(held.slot, sampling, &randomness)?;
        Ok(Box::new(Utterance {
            model: self.model.clone(),
            loaded: self.loaded.clone(),
            sampling,
            source: Source::new(randomness),
            seen: BTreeSet::new(),
            recording: None,
            held,
        }))
    }

    fn decoder(&self, behind: &[Frame]) -> Result<Box<dyn backend::Decoder>> {
        check_codes("codes", behind, self.model.config.codec.codebook_size)?;
        let held = self.decoders.hold("decoder")?;
        lock(&self.loaded).codec.begin_behind(held.slot, behind)?;
        Ok(Box::new(Decoder { model: self.model.clone(), loaded: self.loaded.clone(), held }))
    }
}

struct Utterance {
    model: Arc<Model>,
    loaded: Arc<Mutex<Loaded>>,
    sampling: Sampling,
    /// The draws and the codes so far once more, for the margins.
    source: Source,
    seen: BTreeSet<usize>,
    recording: Option<Recording>,
    held: Held,
}

impl Drop for Utterance {
    fn drop(&mut self) {
        lock(&self.loaded).frames.release(self.held.slot);
    }
}

impl backend::Utterance for Utterance {
    fn prefill(&mut self, prompt: &[Position]) -> Result<()> {
        let embeds = self.recording.as_mut().map(|recording| &mut recording.prefill_embeds);
        lock(&self.loaded).frames.prefill(self.held.slot, prompt, 0, embeds)
    }

    fn step(&mut self, last: Option<(&Frame, u32)>, forced: Option<&Frame>, may_end: bool) -> Result<Step> {
        let (frame, text) = last.unzip();
        let (Report { chosen, frame, end }, [hidden, mut scores, rest]) = {
            let frames = &mut lock(&self.loaded).frames;
            let start = frames.mark()?;
            let ticket = frames.step(self.held.slot, start, text, frame, forced, may_end)?;
            ticket.end.synchronize()?;
            let report = frames.report(&ticket);
            let arithmetic = frames.arithmetic()?;
            frames.take_back(ticket);
            (report?, arithmetic)
        };
        if let Some(recording) = &mut self.recording {
            recording.talker_hidden.extend_from_slice(&hidden);
            recording.talker_logits.extend_from_slice(&scores);
        }
        let eos = self.model.config.codec_controls.eos as usize;
        TalkerRules {
            seen: &self.seen,
            repetition_penalty: self.sampling.repetition_penalty,
            eos,
            eos_allowed: may_end && frame >= 2,
        }
        .apply(&mut scores);
        let mut margins = [0.0; GROUPS];
        // How near the reference's choice of the same scores is to another.
        margins[0] = choose(&mut scores, &self.sampling.talker, &mut self.source, frame, 0)?.margin;
        if let Some(end) = end {
            return Ok(Step::Ended(end));
        }
        self.seen.insert(forced.unwrap_or(&chosen)[0].into());
        if let Some(recording) = &mut self.recording {
            recording.predictor_logits.extend_from_slice(&rest);
        }
        let each = rest.len() / (GROUPS - 1);
        for (group, scores) in (1..).zip(rest.chunks_exact(each)) {
            let sampler = &self.sampling.predictor;
            margins[group] = choose(&mut scores.to_vec(), sampler, &mut self.source, frame, group)?.margin;
        }
        Ok(Step::Frame { chosen, margins })
    }

    fn record(&mut self) {
        self.recording = Some(Recording::default());
    }

    fn recording(&self) -> Option<&Recording> {
        self.recording.as_ref()
    }
}

struct Decoder {
    model: Arc<Model>,
    loaded: Arc<Mutex<Loaded>>,
    held: Held,
}

impl backend::Decoder for Decoder {
    fn decode(&mut self, frames: &[Frame]) -> Result<Vec<f32>> {
        check_codes("codes", frames, self.model.config.codec.codebook_size)?;
        let mut samples = Vec::with_capacity(frames.len() * SAMPLES_PER_FRAME);
        // Each through pinned memory, of which there need not be more.
        for frames in frames.chunks(FRAMES_TOGETHER) {
            let codec = &mut lock(&self.loaded).codec;
            let decoded = codec.decode(self.held.slot, frames)?;
            decoded.end.synchronize()?;
            samples.extend(codec.take(decoded)?);
        }
        Ok(samples)
    }
}
