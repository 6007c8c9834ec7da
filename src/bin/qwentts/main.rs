//! The command line. Owns arguments, exit codes and what a user sees; everything else is the library's.
//! stdout carries what was asked for (sound, JSON, a list), stderr progress, figures and errors.
#![deny(unsafe_code)]

mod bench;
mod check;
mod codec;
mod doctor;
mod files;
#[cfg(feature = "hub")]
mod hub;
mod inspect;
mod play;
mod ring;
mod say;
#[cfg(feature = "play")]
mod sound;
mod trace;
mod voice;
mod voices;

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use qwentts::config::ModelKind;
use qwentts::device::{Device, KvNumbers, Loading};
use qwentts::engine::{Engine, EngineOptions};
use qwentts::error::{Error, Result};
use qwentts::model::Model;
use qwentts::request::Voice;
use qwentts::source::ModelSource;
use qwentts::speech::Bare;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Text to speech with the Qwen3-TTS 12 Hz models.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Speak a text into a WAV file, written as it is made
    Say(Box<say::Say>),
    /// List the voices and languages of a model
    Voices(voices::Voices),
    /// Make a voice of a recording, look at its file, hear it
    #[command(subcommand)]
    Voice(voice::Voice),
    /// Show what a model folder holds: kind, sizes, settings
    Inspect(inspect::Inspect),
    // Its help is the struct's: words here would take the place of the request's fields.
    Trace(trace::TraceArgs),
    /// Turn frames of codes into sound, and sound into frames
    #[command(subcommand)]
    Codec(codec::Codec),
    // Its help is the struct's.
    Check(check::Check),
    /// Measure first sound, time per frame, gaps, cancels, live text
    Bench(bench::Bench),
    // Its help is the struct's.
    Doctor(doctor::Doctor),
}

/// Which model, and where it runs.
#[derive(Args)]
struct ModelArgs {
    /// Model folder in the published layout, or a model of the hub, downloaded once; the embedded demo model where
    /// none is given
    #[arg(short, long, value_name = "DIR|OWNER/NAME[@REVISION]")]
    model: Option<PathBuf>,
}

#[derive(Args)]
struct DeviceArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Where to compute; where not given, the first GPU that this build has kernels for, else the CPU
    #[arg(long, value_name = "cpu|cuda:N")]
    device: Option<String>,
    /// How a GPU stores keys and values; f32 where not given, bf16 takes half the memory
    #[arg(long, value_name = "f32|bf16")]
    kv: Option<String>,
    /// Threads of the CPU; one per core where not given. Results do not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl ModelArgs {
    fn source(&self) -> Result<ModelSource> {
        self.find(true)
    }

    /// As `source`, but what the model cache does not hold is an error.
    fn source_here(&self) -> Result<ModelSource> {
        self.find(false)
    }

    #[cfg_attr(not(feature = "hub"), expect(unused_variables))]
    fn find(&self, download: bool) -> Result<ModelSource> {
        match &self.model {
            Some(given) => {
                #[cfg(feature = "hub")]
                if !given.exists()
                    && let Some(id) = given.to_str().and_then(qwentts::hub::HubId::parse)
                {
                    let folder = if download { hub::folder(&id)? } else { hub::folder_in_cache(&id)? };
                    return Ok(ModelSource::Folder(folder));
                }
                Ok(ModelSource::Folder(given.clone()))
            }
            #[cfg(feature = "demo")]
            None => Ok(ModelSource::Demo),
            #[cfg(not(feature = "demo"))]
            None => Err(bad("--model", "is missing, and this build carries no demo model (feature `demo`)")),
        }
    }

    fn open(&self) -> Result<Arc<Model>> {
        Model::open(&self.source()?)
    }
}

impl DeviceArgs {
    /// The device, which is there, and how it stores keys and values.
    fn place(&self) -> Result<(Device, KvNumbers)> {
        let device = device(self.device.as_deref())?;
        device.describe()?;
        Ok((device, self.kv.as_deref().map_or(Ok(KvNumbers::default()), str::parse)?))
    }

    /// The model, once it is known that there is a device for it.
    fn model(&self) -> Result<Arc<Model>> {
        self.place()?;
        self.model.open()
    }

    fn bare(&self, model: Arc<Model>) -> Result<Bare> {
        let (device, kv) = self.place()?;
        Bare::open(model, device, self.threads, kv)
    }

    /// The engine, with a bar on a terminal while weights go to a GPU.
    /// `prefix_positions`: as `EngineOptions` has it.
    fn engine(&self, prefix_positions: usize) -> Result<Engine> {
        let (device, kv) = self.place()?;
        let options =
            EngineOptions { device: Some(device), kv, threads: self.threads, prefix_positions, ..Default::default() };
        let bar = ProgressBar::no_length();
        if let Ok(style) = ProgressStyle::with_template("loading {wide_bar} {binary_bytes} of {binary_total_bytes}") {
            bar.set_style(style);
        }
        let engine = Engine::load(self.model.open()?, &options, &mut |Loading { done_bytes, total_bytes }| {
            bar.set_length(total_bytes as u64);
            bar.set_position(done_bytes as u64);
        });
        bar.finish_and_clear();
        engine
    }
}

/// The device that is named, else the best.
fn device(named: Option<&str>) -> Result<Device> {
    named.map_or_else(|| Ok(Device::best()), str::parse)
}

/// The voice that is named, a preset or a voice file, else the first preset of a model that speaks in presets; and the
/// language that a voice file names.
fn voice(named: Option<&str>, model: &Model) -> Result<(Voice, Option<String>)> {
    if let Some(saved) = named.map_or(Ok(None), |named| voice::saved(named, model))? {
        return Ok(saved);
    }
    let first = model.voices().next().filter(|_| model.config.kind == ModelKind::CustomVoice);
    Ok((named.or(first).map_or(Voice::Unset, |name| Voice::Preset(name.to_owned())), None))
}

/// A word on the command line that cannot be used.
fn bad(field: &'static str, what: impl Into<String>) -> Error {
    Error::Request { field, what: what.into() }
}

/// What a command came to, besides an error.
enum Outcome {
    Done,
    /// `trace --compare` found a difference.
    Differs,
    /// `check` found a file that is not fit, or `doctor` a problem.
    Fails,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Say(say) => say.run(),
        Command::Voices(voices) => voices.run(),
        Command::Voice(voice) => voice.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Trace(trace) => trace.run(),
        Command::Codec(codec) => codec.run(),
        Command::Check(check) => check.run(),
        Command::Bench(bench) => bench.run(),
        Command::Doctor(doctor) => doctor.run(),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Differs | Outcome::Fails) => ExitCode::from(1),
        Err(error) => {
            files::note(&format!("qwentts: {error}"));
            ExitCode::from(2)
        }
    }
}
