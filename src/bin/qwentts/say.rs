//! `qwentts say`: a text into a WAV, chunk by chunk as it is made.

use crate::files::{self, Samples, WavWriter};
use crate::play::Player;
use crate::{DeviceArgs, Outcome, bad};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use qwentts::device::Memory;
use qwentts::engine::{TextWriter, percentile};
use qwentts::error::{Error, Result};
use qwentts::frame::{End, SAMPLE_RATE};
use qwentts::model::Model;
use qwentts::request::{Layout, Randomness, Request, SamplingOptions};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

#[derive(Args)]
pub struct Say {
    #[command(flatten)]
    device: DeviceArgs,
    /// What to say; - speaks standard input as it comes, in the streaming layout
    #[arg(required_unless_present = "file", conflicts_with = "file", allow_hyphen_values = true)]
    text: Option<String>,
    /// Say what this file holds
    #[arg(short, long, value_name = "F")]
    file: Option<PathBuf>,
    /// Preset voice, in any case, or a voice file (F.qvoice) of this model; the first of `qwentts voices` where not given
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
    /// WAV file, 16 bit; - writes it to standard output. out.wav where neither this nor --play is given
    #[arg(short, long, value_name = "OUT.wav|-")]
    output: Option<PathBuf>,
    /// Play it while it is made
    #[arg(long)]
    play: bool,
    /// Samples a second: 8000, 16000, 22050, 24000, 44100 or 48000. 24000 where not given, or what --play needs
    #[arg(long, value_name = "HZ")]
    sample_rate: Option<u32>,
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

impl Say {
    pub fn run(self) -> Result<Outcome> {
        let output = match (&self.output, self.play) {
            (None, true) => None,
            (given, _) => Some(given.clone().unwrap_or_else(|| "out.wav".into())),
        };
        if self.json && output.as_deref().is_some_and(files::is_standard) {
            return Err(bad("--json", "and -o - both want standard output"));
        }
        let layout: Option<Layout> = self.layout.as_deref().map(str::parse).transpose()?;
        let live = self.text.as_deref() == Some("-") && layout != Some(Layout::Whole);
        let text = match (&self.text, &self.file) {
            _ if live => String::new(),
            (Some(text), _) if text != "-" => text.clone(),
            (_, file) => files::read_text(file.as_deref().unwrap_or("-".as_ref()))?,
        };
        if !live && text.trim().is_empty() {
            return Err(nothing_to_say());
        }
        let mut player = self.play.then(Player::open).transpose()?;
        let rate_hz = self.rate_hz(player.as_ref())?;
        let started = Instant::now();
        let engine = self.device.engine(0)?;
        let open_ms = started.elapsed().as_secs_f64() * 1e3;
        let seed = self.seed.unwrap_or_else(fresh_seed);
        let mut request = self.request(engine.model(), layout, seed)?;
        request.delivery.sample_rate_hz = rate_hz;

        let started = Instant::now();
        let mut fed = None;
        let mut stream = match live {
            false => engine.speak(&text, &request)?.split().1,
            true => {
                let (writer, reader) = engine.stream(&request)?.split();
                fed = Some(feed(writer));
                reader
            }
        };
        let mut wav = None;
        let bar = progress();
        let mut samples = 0;
        let sound_s = |samples: usize| samples as f64 / f64::from(rate_hz);
        for chunk in stream.chunks() {
            let chunk = chunk?;
            // Not before there is something to write: a refused text leaves an older file as it was.
            if let (None, Some(output)) = (&wav, &output) {
                wav = Some(WavWriter::create(output, Samples::S16, rate_hz)?);
            }
            wav.as_mut().map_or(Ok(()), |wav| wav.write(&chunk.samples))?;
            player.as_mut().map_or(Ok(()), |player| player.push(&chunk.samples))?;
            samples += chunk.samples.len();
            let sound_s = sound_s(samples);
            let speed = sound_s / started.elapsed().as_secs_f64();
            bar.set_message(format!("{sound_s:.1} s of speech, {speed:.2}x real time"));
            bar.tick();
        }
        bar.finish_and_clear();
        let total_s = started.elapsed().as_secs_f64();
        let stats = stream.stats();
        let end = stats.ended.map(|ended| ended.end);
        if let (Some(End::Cancelled), Some(Ok(Err(error)))) = (end, fed.map(|fed| fed.try_recv())) {
            return Err(error);
        }
        if samples == 0 {
            return Err(nothing_to_say());
        }
        let gaps = player.as_ref().map(Player::gaps);
        player.map_or(Ok(()), Player::finish)?;
        let figures = Figures {
            device: engine.device().to_owned(),
            memory: engine.memory(),
            output: output.map(|output| output.display().to_string()),
            player_gaps: gaps,
            frames: stats.frames,
            sound_s: sound_s(samples),
            sample_rate_hz: rate_hz,
            open_ms,
            first_sound_ms: stats.first_sound_ms.unwrap_or(0.0),
            total_ms: total_s * 1e3,
            real_time_factor: total_s / sound_s(samples),
            chunk_gap_p99_ms: percentile(&stats.chunk_gaps_ms, 0.99),
            layout: stats.layout.name(),
            text_tokens: stats.text_tokens,
            end: end.map_or("not ended", End::name),
            seed,
        };
        match self.json {
            true => files::print_json(&figures)?,
            false => figures.show(live),
        }
        Ok(Outcome::Done)
    }

    /// What is said, else what is played, else the model's own.
    fn rate_hz(&self, player: Option<&Player>) -> Result<u32> {
        match (self.sample_rate, player.map(Player::sample_rate_hz)) {
            (Some(said), Some(played)) if said != played => {
                Err(bad("--sample-rate", format!("is {said}; the player takes {played}")))
            }
            (said, played) => Ok(said.or(played).unwrap_or(SAMPLE_RATE)),
        }
    }

    fn request(&self, model: &Model, layout: Option<Layout>, seed: u64) -> Result<Request> {
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
        let (voice, language) = crate::voice(self.voice.as_deref(), model)?;
        Ok(Request {
            voice,
            language: self.language.clone().or(language),
            layout,
            instruct: self.instruct.clone(),
            sampling,
            randomness: Randomness::Seed(seed),
            ..Default::default()
        })
    }
}

#[derive(serde::Serialize)]
struct Figures {
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    output: Option<String>,
    /// How often the player ran dry.
    player_gaps: Option<usize>,
    frames: usize,
    sound_s: f64,
    sample_rate_hz: u32,
    open_ms: f64,
    /// From the first text on.
    first_sound_ms: f64,
    total_ms: f64,
    real_time_factor: f64,
    chunk_gap_p99_ms: Option<f64>,
    layout: &'static str,
    text_tokens: usize,
    end: &'static str,
    seed: u64,
}

impl Figures {
    fn show(&self, live: bool) {
        let Figures { device, output, sound_s, seed, open_ms, first_sound_ms, total_ms, .. } = self;
        let khz = f64::from(self.sample_rate_hz) / 1e3;
        let output = output.as_deref().unwrap_or("played");
        files::note(&format!("{output}: {sound_s:.2} s of speech ({khz} kHz), seed {seed}"));
        let mut line = format!("{device}: model open {open_ms:.0} ms, first sound {first_sound_ms:.0} ms");
        if !live {
            // Live, the whole time is that of the text.
            let factor = self.real_time_factor;
            line += &format!(", all {total_ms:.0} ms, real-time factor {factor:.3}");
        }
        files::note(&line);
        if self.end == "length" {
            files::note(
                "note: cut at max_new_tokens, or at the most that such a text can need; the model had not finished",
            );
        }
    }
}

fn nothing_to_say() -> Error {
    bad("text", "is empty; there is nothing to say")
}

/// Feeds standard input from a thread of its own, which may wait there for ever. What went wrong with it comes out,
/// and the stream is cancelled.
fn feed(writer: TextWriter) -> Receiver<Result<()>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let canceller = writer.canceller();
        let fed = match files::feed_stdin(writer) {
            Err(Error::Ended { .. }) => Ok(()), // the speech was over before the text
            fed => fed,
        };
        let failed = fed.is_err();
        let _ = sender.send(fed); // nobody listens once the speech has ended
        if failed {
            canceller.cancel();
        }
    });
    receiver
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
