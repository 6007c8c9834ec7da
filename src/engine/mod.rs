//! The engine: many streams of speech from one model, on a thread of its own.
//!
//! A caller opens streams, pushes text and reads sound; everything else is the worker's (`worker`), which drives a backend
//! through the seam (`crate::backend`). A stream and the worker share a `ring`; all streams share the `inbox`.

mod events;
mod inbox;
#[cfg(all(test, qwentts_loom))]
mod orders;
#[cfg(target_os = "linux")]
mod readiness;
pub(crate) mod resample;
mod ring;
#[cfg(all(test, not(qwentts_loom)))]
pub(crate) mod scripted;
mod stats;
mod stream;
mod sync;
#[cfg(all(test, feature = "cuda"))]
mod twins;
mod utterance;
mod worker;

pub use events::{Event, Events, WordMark};
pub use inbox::Counts;
pub use resample::RATES_HZ;
pub use ring::{Chunk, Ended, Read, Wait};
pub use stats::{Stats, percentile};
pub use stream::{AudioReader, Canceller, Stream, TextWriter};

use crate::backend::Backend;
use crate::config::ModelKind;
use crate::cpu;
#[cfg(feature = "cuda")]
use crate::cuda;
use crate::device::{Device, KvNumbers, Loading, Memory};
use crate::error::{Error, Result};
use crate::frame::{End, SAMPLE_RATE, SAMPLES_PER_FRAME};
use crate::model::Model;
use crate::prompt::Prompt;
use crate::request::{Layout, Request, Voice, VoicePrompt};
use crate::source::ModelSource;
use inbox::Inbox;
use resample::Resampler;
use ring::Ring;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;
use utterance::New;
use worker::Worker;

/// Streams that may speak at the same time at most.
pub const MOST_SLOTS: usize = 1024;

/// What an engine is opened with.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Where it computes; `None` takes a GPU that this build has kernels for, else the CPU (`Device::best`).
    pub device: Option<Device>,
    /// Threads of the CPU, so many for frames and so many for the codec, which runs beside them; `None` takes one per core.
    /// Results do not depend on it.
    pub threads: Option<usize>,
    /// How a GPU stores keys and values.
    pub kv: KvNumbers,
    /// Positions, of all streams together, that a GPU keeps keys and values for at most; `None` takes what its memory
    /// holds. They are allocated by need, and a stream that finds none left fails.
    pub kv_positions: Option<usize>,
    /// Of these, how many may hold what prompts begin with, in pages of 64: of an instruction or an in-context reference, what
    /// comes before the text is computed once, and found again by the next stream that begins the same. Speech is the same to
    /// the bit. What was not used for longest is given up first, and all of it to streams that would find no memory. 0 keeps
    /// nothing.
    pub prefix_positions: usize,
    /// Streams that speak at the same time. Each keeps its own memory of what was said.
    pub slots: usize,
    /// Streams besides that may be open and wait for a slot, in the order in which their prompts became ready. Beyond
    /// it `stream` and `speak` are refused with `Error::Busy`; 0 refuses whatever finds no slot.
    pub queue: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            device: None,
            threads: None,
            kv: KvNumbers::default(),
            kv_positions: None,
            prefix_positions: 0,
            slots: 16,
            queue: 64,
        }
    }
}

/// A model that speaks. Cheap to clone and to share between threads. It ends when the last of its clones and streams is
/// dropped, or with `close`.
#[derive(Clone)]
pub struct Engine {
    core: Arc<Core>,
}

/// What keeps the worker going.
pub(crate) struct Core {
    model: Arc<Model>,
    device: String,
    memory: Option<Arc<Mutex<Memory>>>,
    inbox: Arc<Inbox<New>>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// A backend, and what can be told of it while the worker has it.
struct Opened {
    backend: Box<dyn Backend>,
    device: String,
    memory: Option<Arc<Mutex<Memory>>>,
}

impl Opened {
    /// The one place where a backend is named.
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "`progress` is of a GPU"))]
    fn new(model: &Arc<Model>, options: &EngineOptions, progress: &mut dyn FnMut(Loading)) -> Result<Opened> {
        let device = options.device.unwrap_or_else(Device::best);
        let words = device.describe()?;
        #[cfg(feature = "cuda")]
        if let Device::Cuda(index) = device {
            let EngineOptions { slots, kv, kv_positions: positions, prefix_positions, .. } = *options;
            let options = cuda::Options { index, slots, kv, positions, prefix_positions };
            let lanes = cuda::lanes::Lanes::open(model, &options, progress)?;
            let memory = Some(lanes.memory());
            return Ok(Opened { backend: Box::new(lanes), device: words, memory });
        }
        Ok(Opened::of(cpu::lanes::Lanes::new(model, options.threads, options.slots)?, words))
    }

    /// One that uses no GPU.
    fn of(backend: impl Backend + 'static, device: String) -> Opened {
        Opened { backend: Box::new(backend), device, memory: None }
    }
}

impl Engine {
    /// Opens a model and starts its worker. Errors name the file, or the option.
    pub fn open(source: &ModelSource, options: &EngineOptions) -> Result<Engine> {
        Engine::with_model(Model::open(source)?, options)
    }

    /// As `open`, with a model that is open.
    pub fn with_model(model: Arc<Model>, options: &EngineOptions) -> Result<Engine> {
        Engine::load(model, options, &mut |_| {})
    }

    /// As `with_model`; `progress` hears how far the weights are on their way to a GPU. The CPU reads them where they lie.
    pub fn load(model: Arc<Model>, options: &EngineOptions, progress: &mut dyn FnMut(Loading)) -> Result<Engine> {
        if !(1..=MOST_SLOTS).contains(&options.slots) {
            return Err(Error::request("slots", format!("is {}; expected 1 to {MOST_SLOTS}", options.slots)));
        }
        if options.kv_positions == Some(0) {
            return Err(Error::request("kv_positions", "is 0; expected at least those of one stream, or none"));
        }
        let opened = Opened::new(&model, options, progress)?;
        Engine::with_backend(model, opened, options)
    }

    fn with_backend(model: Arc<Model>, opened: Opened, options: &EngineOptions) -> Result<Engine> {
        let Opened { backend, device, memory } = opened;
        let inbox = Arc::new(Inbox::new(options.slots.saturating_add(options.queue), backend.waker()));
        let most_positions = model.config.max_positions.min(backend.most_positions());
        let mut worker = Worker::new(backend, inbox.clone(), most_positions, options.slots);
        let thread = std::thread::Builder::new()
            .name("qwentts-worker".to_owned())
            .spawn(move || worker.run())
            .map_err(|e| Error::compute("threads", e.to_string()))?;
        let core = Core { model, device, memory, inbox, worker: Mutex::new(Some(thread)) };
        Ok(Engine { core: Arc::new(core) })
    }

    /// The model that speaks.
    pub fn model(&self) -> &Arc<Model> {
        &self.core.model
    }

    /// Where it computes, in words.
    pub fn device(&self) -> &str {
        &self.core.device
    }

    /// What it holds of its GPU's memory now; `None` on the CPU.
    pub fn memory(&self) -> Option<Memory> {
        self.core.memory.as_ref().map(|memory| *memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Names of the preset voices, sorted; empty for Base and VoiceDesign.
    pub fn voices(&self) -> impl Iterator<Item = &str> {
        self.core.model.voices()
    }

    /// Speech whose text comes now, later, or bit by bit. The layout is the streaming one, which begins to speak with the
    /// first token; a request for the whole-text one is refused.
    pub fn stream(&self, request: &Request) -> Result<Stream> {
        if request.layout == Some(Layout::Whole) {
            let what = "live text needs the streaming layout; this request has the whole-text one";
            return Err(Error::request("layout", what));
        }
        let request = Request { layout: Some(Layout::Streaming), ..request.clone() };
        self.begin(self.prompt(&request)?, &request, None)
    }

    /// Speech of this text, in the layout of the request, else the model's own (`Stats::layout`). Text without a word is
    /// refused.
    pub fn speak(&self, text: &str, request: &Request) -> Result<Stream> {
        if text.trim().is_empty() {
            return Err(Error::request("text", "is empty; there is nothing to say"));
        }
        stream::check_length(text.len())?;
        let began = Instant::now();
        // Here, not on the worker's thread: a long text holds up no other stream.
        let mut prompt = self.prompt(request)?;
        prompt.push(text)?;
        prompt.end()?;
        self.begin(prompt, request, Some((began, text)))
    }

    fn prompt(&self, request: &Request) -> Result<Prompt> {
        Prompt::new(&self.core.model.config, &self.core.model.tokenizer, request)
    }

    /// `whole`: when the text came, and the text, if it is all there.
    fn begin(&self, prompt: Prompt, request: &Request, whole: Option<(Instant, &str)>) -> Result<Stream> {
        let sampling = request.sampling.settle(&self.core.model.config.sampling)?;
        request.randomness.check()?;
        let delivery = request.delivery.clone();
        delivery.check()?;
        let resampler = Resampler::new(delivery.sample_rate_hz)?;
        let samples_per_frame = SAMPLES_PER_FRAME * delivery.sample_rate_hz as usize / SAMPLE_RATE as usize;
        let stats = Stats::new(prompt.layout(), prompt.text_tokens(), prompt.missing_tokens());
        let began = whole.map(|(began, _)| began);
        let ring = Ring::new(delivery.output, samples_per_frame, stats, began, self.core.inbox.open.clone());
        whole.iter().for_each(|(_, text)| ring.note_text(text));
        let ring = Arc::new(ring);
        let randomness = request.randomness.clone();
        let id = self.core.inbox.open(New { ring: ring.clone(), prompt, sampling, randomness, delivery, resampler })?;
        Ok(Stream::new(self.core.clone(), ring, id, whole.is_some()))
    }

    /// How many streams there are.
    pub fn counts(&self) -> Counts {
        self.core.inbox.counts()
    }

    /// Speaks a few frames that nobody hears, so that the first stream need not wait for what is done once: pages of mapped
    /// weights, memory, clocks. Waits until they are made.
    pub fn warm_up(&self) -> Result<()> {
        let config = &self.core.model.config;
        let mut request = Request { voice: self.any_voice(), ..Request::default() };
        request.sampling.max_new_tokens = Some(1 + request.delivery.chunk_frames.iter().sum::<usize>());
        if config.kind == ModelKind::VoiceDesign {
            request.instruct = Some("A calm voice.".to_owned());
        }
        let mut stream = self.speak("This is only to be ready.", &request)?;
        stream.chunks().try_for_each(|chunk| chunk.map(|_| ()))?;
        match stream.stats().ended {
            Some(ended) if ended.end == End::Cancelled => Err(Error::Closed), // by `close`: nobody else has it
            _ => Ok(()),
        }
    }

    /// A voice that this model can speak in.
    fn any_voice(&self) -> Voice {
        let config = &self.core.model.config;
        match (self.voices().next(), config.kind) {
            (Some(name), _) => Voice::Preset(name.to_owned()),
            (None, ModelKind::Base) => {
                let speaker_vector = vec![0.01; config.talker.hidden];
                Voice::Cloned(VoicePrompt { speaker_vector, reference: None })
            }
            (None, _) => Voice::Unset,
        }
    }

    /// Whether streams can be opened: an error says why no more will be, as `stream` would.
    pub fn health(&self) -> Result<()> {
        self.core.inbox.closed().map_or(Ok(()), Err)
    }

    /// Ends the engine: what still speaks is cancelled, and no stream can be opened. Waits for the work under way, a frame
    /// at most, or on a GPU a prompt. Again is nothing.
    pub fn close(&self) {
        self.core.inbox.close(Error::Closed);
        let thread = self.core.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join(); // a panic has been said to every stream
        }
    }
}

impl Drop for Core {
    /// Does not wait: the last stream may be dropped by a thread that must not.
    fn drop(&mut self) {
        self.inbox.close(Error::Closed);
    }
}
