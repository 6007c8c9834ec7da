//! A GPU as recordings see it: both encoders, in a stream of their own, which gives way to whatever speaks.

use super::encoder::Encoder;
use super::kernels::Kernels;
use super::speaker::Speaker;
use crate::backend::{Heard, Listen};
use crate::cpu::{check_recording, fewest_samples, log_mel};
use crate::driver::{Context, Stream};
use crate::error::Result;
use crate::model::Model;
use std::sync::{Arc, Mutex, PoisonError};

/// The encoders on a GPU, each there from its first use on.
pub(crate) struct Listener {
    model: Arc<Model>,
    /// Its own, which counts what the encoders hold.
    context: Arc<Context>,
    kernels: Arc<Kernels>,
    /// One recording at a time: another thread's waits, and holds up nothing else.
    ears: Mutex<Ears>,
}

struct Ears {
    // Dropped in this order: memory goes before the stream whose work is under way.
    encoder: Option<Encoder>,
    speaker: Option<Speaker>,
    stream: Stream,
}

impl Listener {
    pub fn open(model: &Arc<Model>, index: usize) -> Result<Listener> {
        let context = Context::open(index)?;
        let kernels = Kernels::of(&context, index)?;
        let ears = Mutex::new(Ears { encoder: None, speaker: None, stream: Stream::behind(&context)? });
        Ok(Listener { model: model.clone(), context, kernels, ears })
    }
}

impl Listen for Listener {
    fn hear(&self, speaker: Option<&[f32]>, words: Option<&[f32]>) -> Result<Heard> {
        let model = &self.model;
        let ears = &mut *self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        let Ears { encoder, speaker: voice, stream } = ears;
        let begun = match words {
            None => None,
            Some(samples) => {
                let (config, weights) = model.codec_encoder()?;
                check_recording(samples, 1)?;
                let encoder = match encoder {
                    Some(encoder) => encoder,
                    none => none.insert(Encoder::open(stream, config, weights)?),
                };
                let encoding = encoder.begin(&self.kernels, stream, samples)?;
                Some((encoder, encoding))
            }
        };
        let mut heard = Heard::default();
        if let Some(samples) = speaker {
            let weights = model.speaker_encoder()?;
            check_recording(samples, fewest_samples(weights))?;
            // 9 ms of a processor's time for 10 s of sound, while the GPU makes the codes.
            let mels = log_mel(samples);
            let voice = match voice {
                Some(voice) => voice,
                none => none.insert(Speaker::open(stream, weights)?),
            };
            heard.vector = voice.run(&self.kernels, stream, &mels)?;
            if !heard.vector.iter().all(|x| x.is_finite()) {
                return Err(model.blame("speaker encoder", "the vector is not finite"));
            }
        }
        if let Some((encoder, encoding)) = begun {
            let blame = || model.blame("codec encode", "what the codes are chosen from is not finite");
            heard.frames = encoder.finish(stream, &encoding)?.ok_or_else(blame)?;
        }
        Ok(heard)
    }

    fn memory_bytes(&self) -> usize {
        self.context.allocated_bytes()
    }
}
