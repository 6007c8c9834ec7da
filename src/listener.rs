//! What hears recordings: a model's two encoders, on a device. Voices are made with it (`voice`), and `codec encode` is all of
//! one of its calls.

use crate::backend::{Heard, Listen};
use crate::cpu::Reference;
#[cfg(feature = "cuda")]
use crate::cuda;
use crate::device::Device;
use crate::error::Result;
use crate::frame::Frame;
use crate::model::Model;
use std::sync::{Arc, Mutex, PoisonError};

/// A model's encoders on a device. Cheap to clone; calls may come from any thread and hold up no stream that speaks. A GPU has
/// their weights from the first call on: a quarter of a gigabyte at the published sizes.
#[derive(Clone)]
pub struct Listener(Arc<Inner>);

struct Inner {
    model: Arc<Model>,
    device: Device,
    threads: Option<usize>,
    /// From the first call on.
    opened: Mutex<Option<Arc<dyn Listen>>>,
}

impl Listener {
    /// `threads`: of the CPU; `None` takes one per core. Nothing is loaded yet. A device that cannot be used is an error.
    pub fn open(model: Arc<Model>, device: Device, threads: Option<usize>) -> Result<Listener> {
        device.describe()?;
        Ok(Listener::new(model, device, threads))
    }

    /// As `open`, of a device that is in use.
    pub(crate) fn new(model: Arc<Model>, device: Device, threads: Option<usize>) -> Listener {
        Listener(Arc::new(Inner { model, device, threads, opened: Mutex::new(None) }))
    }

    /// The model that listens.
    pub fn model(&self) -> &Arc<Model> {
        &self.0.model
    }

    /// The frames of a recording, one for each 1920 samples begun. `samples`: 24 kHz, mono, finite, one at least. A checkpoint
    /// without a codec encoder, and weights that are not finite, are errors.
    pub fn encode(&self, samples: &[f32]) -> Result<Vec<Frame>> {
        self.hear(None, Some(samples)).map(|heard| heard.frames)
    }

    /// Who speaks in a recording, as a vector of the talker's width: what stands in a clone's prompt. `samples`: 24 kHz, mono,
    /// finite, as many as [`Reference::fewest_samples`] at least. A checkpoint without a speaker encoder, which only Base models
    /// have, and weights that are not finite, are errors.
    pub fn speaker_vector(&self, samples: &[f32]) -> Result<Vec<f32>> {
        self.hear(Some(samples), None).map(|heard| heard.vector)
    }

    /// The speaker vector of `speaker` and the frames of `words`, side by side where the device can; what is not asked for is
    /// empty.
    pub(crate) fn hear(&self, speaker: Option<&[f32]>, words: Option<&[f32]>) -> Result<Heard> {
        let opened = {
            let mut opened = self.0.opened.lock().unwrap_or_else(PoisonError::into_inner);
            match &*opened {
                Some(listen) => listen.clone(),
                None => opened.insert(self.load()?).clone(),
            }
        };
        opened.hear(speaker, words)
    }

    /// The one place where a backend is named.
    fn load(&self) -> Result<Arc<dyn Listen>> {
        let Inner { model, device, threads, .. } = &*self.0;
        #[cfg(feature = "cuda")]
        if let Device::Cuda(index) = device {
            return Ok(Arc::new(cuda::listener::Listener::open(model, *index)?));
        }
        let _ = device; // of a build without CUDA: there is none but the CPU
        Ok(Arc::new(Reference::new(model.clone(), *threads)?))
    }

    /// What it holds of a GPU's memory now.
    pub(crate) fn memory_bytes(&self) -> usize {
        let opened = self.0.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.as_ref().map_or(0, |listen| listen.memory_bytes())
    }
}

impl From<Arc<Reference>> for Listener {
    fn from(reference: Arc<Reference>) -> Listener {
        let (model, threads) = (reference.model.clone(), Some(reference.thread_count()));
        let opened: Mutex<Option<Arc<dyn Listen>>> = Mutex::new(Some(reference));
        Listener(Arc::new(Inner { model, device: Device::Cpu, threads, opened }))
    }
}
