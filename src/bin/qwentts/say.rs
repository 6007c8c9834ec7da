//! `qwentts say`: a text into a WAV, chunk by chunk as it is made.

use crate::files::{self, Samples, WavWriter};
use crate::{DeviceArgs, Outcome, bad};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use qwentts::config::ModelKind;
use qwentts::error::Result;
use qwentts::frame::End;
use qwentts::frame::{SAMPLE_RATE, SAMPLES_PER_FRAME};
use qwentts::model::Model;
use qwentts::request::{Randomness, Request, SamplingOptions, Voice};
use qwentts::speech::{Speech, Text};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Say {
    #[command(flatten)]
    device: DeviceArgs,
    /// What to say; - reads standard input
    #[arg(required_unless_present = "file", conflicts_with = "file", allow_hyphen_values = true)]
    text: Option<String>,
    /// Say what this file holds
    #[arg(short, long, value_name = "F")]
    file: Option<PathBuf>,
    /// Preset voice, in any case; the first of `qwentts voices` where not given
    #[arg(long)]
    voice: Option<String>,
    /// Language, in any case; auto where not given
    #[arg(long)]
    language: Option<String>,
    /// How to speak, in words (1.7B CustomVoice), or who speaks (VoiceDesign)
    #[arg(long)]
    instruct: Option<String>,
    /// streaming or whole; the model's own where not given
    #[arg(long)]
    layout: Option<String>,
    /// Same seed, same speech; a new one each time where not given
    #[arg(long)]
    seed: Option<u64>,
    /// WAV file, 16 bit; - writes it to standard output
    #[arg(short, long, default_value = "out.wav", value_name = "OUT.wav|-")]
    output: PathBuf,
    /// Take the best score always, instead of drawing
    #[arg(long, conflicts_with = "sample")]
    greedy: bool,
    /// Draw by the seed, also where the model's settings take the best score
    #[arg(long)]
    sample: bool,
    #[arg(long, help_heading = "Sampling (the model's settings where not given)")]
    temperature: Option<f32>,
    #[arg(long, help_heading = "Sampling (the model's settings where not given)")]
    top_k: Option<usize>,
    #[arg(long, help_heading = "Sampling (the model's settings where not given)")]
    top_p: Option<f32>,
    #[arg(long, help_heading = "Sampling (the model's settings where not given)")]
    repetition_penalty: Option<f32>,
    /// Talker tokens at most; a frame is 80 ms
    #[arg(long, help_heading = "Sampling (the model's settings where not given)")]
    max_new_tokens: Option<usize>,
    /// Print the figures as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// Frames in the first chunks: sound soon, then larger pieces. The last repeats.
const RAMP_FRAMES: [usize; 4] = [1, 2, 4, 8];

impl Say {
    pub fn run(self) -> Result<Outcome> {
        let to_stdout = files::is_standard(&self.output);
        if to_stdout && self.json {
            return Err(bad("--json", "and -o - both want standard output"));
        }
        let text = match (&self.text, &self.file) {
            (Some(text), _) if text != "-" => text.clone(),
            (_, file) => files::read_text(file.as_deref().unwrap_or("-".as_ref()))?,
        };
        if text.trim().is_empty() {
            return Err(bad("text", "is empty; there is nothing to say"));
        }
        let started = Instant::now();
        let reference = self.device.open()?;
        let opened = started.elapsed();
        let seed = self.seed.unwrap_or_else(fresh_seed);
        let request = self.request(&reference.model, seed)?;

        let started = Instant::now();
        let mut speech = Speech::new(reference, Text::Whole(text), &request)?;
        let mut wav = WavWriter::create(&self.output, Samples::S16)?;
        let bar = progress();
        let mut first_sound = Duration::ZERO;
        let mut ramp = RAMP_FRAMES.iter().chain(std::iter::repeat(&RAMP_FRAMES[RAMP_FRAMES.len() - 1]));
        let mut frames = 0;
        loop {
            let width = ramp.next().copied().unwrap_or(1);
            let mut chunk = Vec::with_capacity(width);
            while chunk.len() < width
                && let Some(chosen) = speech.next_frame()?
            {
                chunk.push(chosen.frame);
            }
            if chunk.is_empty() {
                break;
            }
            wav.write(&speech.decode(&chunk)?)?;
            if frames == 0 {
                first_sound = started.elapsed();
            }
            frames += chunk.len();
            let speed = sound_s(frames) / started.elapsed().as_secs_f64();
            bar.set_message(format!("{:.1} s of speech, {speed:.2}x real time", sound_s(frames)));
            bar.tick();
        }
        bar.finish_and_clear();
        let total_s = started.elapsed().as_secs_f64();
        let figures = Figures {
            output: self.output.display().to_string(),
            frames,
            sound_s: sound_s(frames),
            open_ms: opened.as_secs_f64() * 1e3,
            first_sound_ms: first_sound.as_secs_f64() * 1e3,
            total_ms: total_s * 1e3,
            real_time_factor: total_s / sound_s(frames),
            end: speech.end().map_or("not ended", End::name),
            seed,
        };
        match self.json {
            true => files::print_json(&figures)?,
            false => figures.show(),
        }
        Ok(Outcome::Done)
    }

    fn request(&self, model: &Model, seed: u64) -> Result<Request> {
        let voice = match (&self.voice, model.config.kind) {
            (Some(name), _) => Voice::Preset(name.clone()),
            (None, ModelKind::CustomVoice) => model.voices().next().map_or(Voice::Unset, |v| Voice::Preset(v.into())),
            (None, _) => Voice::Unset,
        };
        if self.instruct.is_some() && !model.config.takes_instruct() {
            files::note("note: preset voices of this model take no instruction; --instruct has no effect");
        }
        let mut sampling = SamplingOptions {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            repetition_penalty: self.repetition_penalty,
            max_new_tokens: self.max_new_tokens,
            ..Default::default()
        };
        if self.greedy || self.sample {
            sampling.draws(self.sample);
        }
        let shapes = self.temperature.is_some() || self.top_k.is_some() || self.top_p.is_some();
        if shapes && !sampling.settle(&model.config.sampling)?.talker.do_sample {
            files::note("note: the best score is taken always; --temperature, --top-k and --top-p count with --sample");
        }
        Ok(Request {
            voice,
            language: self.language.clone(),
            layout: self.layout.as_deref().map(str::parse).transpose()?,
            instruct: self.instruct.clone(),
            sampling,
            randomness: Randomness::Seed(seed),
            ..Default::default()
        })
    }
}

#[derive(serde::Serialize)]
struct Figures {
    output: String,
    frames: usize,
    sound_s: f64,
    open_ms: f64,
    first_sound_ms: f64,
    total_ms: f64,
    real_time_factor: f64,
    end: &'static str,
    seed: u64,
}

impl Figures {
    fn show(&self) {
        files::note(&format!("{}: {:.2} s of speech (24 kHz), seed {}", self.output, self.sound_s, self.seed));
        files::note(&format!(
            "model open {:.0} ms, first sound {:.0} ms, all {:.0} ms, real-time factor {:.3}",
            self.open_ms, self.first_sound_ms, self.total_ms, self.real_time_factor
        ));
        if self.end == "length" {
            files::note("note: cut at max_new_tokens; the model had not finished");
        }
    }
}

/// How long so many frames sound.
fn sound_s(frames: usize) -> f64 {
    (frames * SAMPLES_PER_FRAME) as f64 / f64::from(SAMPLE_RATE)
}

/// A spinner on a terminal; nothing elsewhere.
fn progress() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// A seed that differs from run to run: std's hasher keys come from the system's randomness.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // 32 bits: short enough to be typed again.
    std::hash::RandomState::new().build_hasher().finish() >> 32
}
