//! `qwentts voice`: voices made of recordings, and their files.

use crate::play::Player;
use crate::{DeviceArgs, Outcome, bad, files};
use clap::{Args, Subcommand};
use qwentts::audio;
use qwentts::error::{Error, Result};
use qwentts::frame::{Frame, SAMPLE_RATE, SAMPLES_PER_FRAME};
use qwentts::request::Voice as Speaker;
use qwentts::voice::{Cloning, SavedVoice};
use std::path::{Path, PathBuf};

/// How a voice file's name ends, where `--voice` takes a name or a file.
const ENDING: &str = ".qvoice";

#[derive(Subcommand)]
pub enum Voice {
    /// Make a voice of a recording: a file that `say --voice` takes, for the model it was made with
    Create(Create),
    /// Say what a voice file holds
    Show(Show),
    /// Hear a voice file's reference as the model has it, through its codec
    Play(Play),
}

#[derive(Args)]
pub struct Create {
    #[command(flatten)]
    device: DeviceArgs,
    /// The recording: WAV, FLAC, MP3 or Ogg Vorbis, any rate and channels, 0.25 to 60 s; a few seconds are enough
    #[arg(long, value_name = "F")]
    audio: PathBuf,
    /// The words that are said in it: the clone then speaks on from the recording
    #[arg(long, required_unless_present = "xvec_only", conflicts_with = "xvec_only")]
    text: Option<String>,
    /// Take only who speaks, not how; no words needed
    #[arg(long)]
    xvec_only: bool,
    /// The language that the voice speaks where `say` names none
    #[arg(long)]
    language: Option<String>,
    /// Leave out the half second of silence behind the recording, as the official package does
    #[arg(long, conflicts_with = "xvec_only")]
    no_silence: bool,
    /// The file
    #[arg(short, long, value_parser = parse_voice_path, value_name = "OUT.qvoice")]
    output: PathBuf,
}

#[derive(Args)]
pub struct Show {
    /// The voice file
    #[arg(value_name = "F.qvoice")]
    voice: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Play {
    #[command(flatten)]
    device: DeviceArgs,
    /// The voice file
    #[arg(value_name = "F.qvoice")]
    voice: PathBuf,
    /// Write it there, f32, instead of playing it
    #[arg(short, long, value_parser = files::parse_samples_path, value_name = "OUT.wav|OUT.npy")]
    output: Option<PathBuf>,
}

impl Voice {
    pub fn run(self) -> Result<Outcome> {
        match self {
            Voice::Create(create) => create.run(),
            Voice::Show(show) => show.run(),
            Voice::Play(play) => play.run(),
        }
    }
}

impl Create {
    fn run(self) -> Result<Outcome> {
        let listener = self.device.listener()?;
        let samples = audio::read(&self.audio, audio::LONGEST_S)?;
        let cloning = Cloning { transcript: self.text, language: self.language, append_silence: !self.no_silence };
        // What is wrong with the recording is said with its name.
        let voice = SavedVoice::create(&listener, &samples, &cloning).map_err(|e| match e {
            Error::Request { field: "ref_audio", what } => {
                Error::Checkpoint { file: self.audio.display().to_string(), what }
            }
            Error::Request { field: "ref_text", what } => bad("--text", what),
            other => other,
        })?;
        voice.save(&self.output)?;
        let (heard_s, frames) = (samples.len() as f64 / f64::from(SAMPLE_RATE), frames(&voice).len());
        files::note(&format!("{}: {heard_s:.2} s heard, {frames} frames of reference", self.output.display()));
        Ok(Outcome::Done)
    }
}

impl Show {
    fn run(self) -> Result<Outcome> {
        let voice = SavedVoice::load(&self.voice)?;
        let reference = voice.prompt.reference.as_ref();
        let length = voice.prompt.speaker_vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let reference_s = (frames(&voice).len() * SAMPLES_PER_FRAME) as f64 / f64::from(SAMPLE_RATE);
        let transcript = reference.map(|r| r.transcript.as_str());
        if self.json {
            files::print_json(&serde_json::json!({
                "model": voice.model, "language": voice.language, "width": voice.prompt.speaker_vector.len(),
                "vector_length": length, "frames": frames(&voice).len(), "reference_s": reference_s,
                "transcript": transcript, "transcript_ids": voice.transcript_ids, "notes": voice.notes,
            }))?;
            return Ok(Outcome::Done);
        }
        let way = match transcript {
            Some(text) => {
                let text = printable(text);
                format!("in context: {reference_s:.2} s, {} frames\ntranscript: {text}", frames(&voice).len())
            }
            None => "speaker vector alone".to_owned(),
        };
        let language = printable(voice.language.as_deref().unwrap_or("auto"));
        let width = voice.prompt.speaker_vector.len();
        let note = |(name, words): (&String, &String)| format!("{}: {}\n", printable(name), printable(words));
        let notes: String = voice.notes.iter().map(note).collect();
        files::print(&format!(
            "model {}\nlanguage {language}\nspeaker vector of {width} numbers, length {length:.3}\n{way}\n{notes}",
            voice.model
        ))?;
        Ok(Outcome::Done)
    }
}

impl Play {
    fn run(self) -> Result<Outcome> {
        let voice = SavedVoice::load(&self.voice)?;
        let name = self.voice.display().to_string();
        if frames(&voice).is_empty() {
            let what = "holds a speaker vector alone, which is no sound; `say --voice` speaks with it".to_owned();
            return Err(Error::Checkpoint { file: name, what });
        }
        let mut player = self.output.is_none().then(Player::open).transpose()?;
        let model = self.device.model()?;
        voice.voice(&name, &model)?;
        let samples = self.device.bare(model)?.decoder()?.decode(frames(&voice))?;
        if let Some(output) = &self.output {
            files::write_samples(output, &samples)?;
        }
        if let Some(mut player) = player.take() {
            player.push(&audio::at_rate(&samples, player.sample_rate_hz())?)?;
            player.finish()?;
        }
        Ok(Outcome::Done)
    }
}

/// What a file of anyone's says, as it can be shown to a terminal: controls as escapes.
fn printable(text: &str) -> String {
    let show = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(show).collect()
}

fn frames(voice: &SavedVoice) -> &[Frame] {
    voice.prompt.reference.as_ref().map_or(&[], |r| &r.frames)
}

/// The voice of a file, and its language, where `named` is one.
pub fn saved(named: &str, model: &qwentts::Model) -> Result<Option<(Speaker, Option<String>)>> {
    if !named.ends_with(ENDING) {
        return Ok(None);
    }
    let voice = SavedVoice::load(Path::new(named))?;
    Ok(Some((voice.voice(named, model)?, voice.language)))
}

fn parse_voice_path(path: &str) -> std::result::Result<PathBuf, String> {
    match path.ends_with(ENDING) {
        true => Ok(path.into()),
        false => Err(format!("expected a name that ends in {ENDING}")),
    }
}
