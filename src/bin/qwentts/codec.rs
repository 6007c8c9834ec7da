//! `qwentts codec`: the codec alone.

use crate::{DeviceArgs, ModelArgs, Outcome, files};
use clap::{Args, Subcommand};
use qwentts::audio;
use qwentts::cpu::Reference;
use qwentts::error::Result;
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum Codec {
    /// Frames of codes to 24 kHz samples, f32
    Decode(Decode),
    /// A sound file to frames of codes
    Encode(Encode),
}

#[derive(Args)]
pub struct Encode {
    #[command(flatten)]
    model: ModelArgs,
    /// WAV, FLAC, MP3 or Ogg Vorbis, any rate and channels, ten minutes at most
    #[arg(value_name = "IN.wav")]
    audio: PathBuf,
    /// Where the codes go: a .npy of u2 [frames, 16], or JSON [[16]...]
    #[arg(short, long, value_parser = files::parse_codes_path, value_name = "CODES.npy|CODES.json")]
    output: PathBuf,
    /// Threads; one per core where not given. Results do not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// The transformer of the encoder looks back over all of a recording.
const LONGEST_S: f64 = 600.0;

#[derive(Args)]
pub struct Decode {
    #[command(flatten)]
    device: DeviceArgs,
    /// Codes: a .npy of integers [frames, 16], or JSON [[16]...]
    #[arg(value_name = "CODES.npy|CODES.json")]
    codes: PathBuf,
    /// Where the samples go, f32
    #[arg(short, long, value_parser = files::parse_samples_path, value_name = "OUT.wav|OUT.npy")]
    output: PathBuf,
    /// Frames decoded at once, in order, the last repeating; one pass where not given. The samples are the same
    #[arg(long, value_parser = files::parse_chunks, value_name = "N,N,…")]
    chunks: Option<files::Widths>,
}

impl Codec {
    pub fn run(self) -> Result<Outcome> {
        match self {
            Codec::Decode(decode) => decode.run(),
            Codec::Encode(encode) => encode.run(),
        }
    }
}

impl Encode {
    fn run(self) -> Result<Outcome> {
        let reference = Reference::new(self.model.open()?, self.threads)?;
        let samples = audio::read(&self.audio, LONGEST_S)?;
        files::write_codes(&self.output, &reference.encode(&samples)?)?;
        Ok(Outcome::Done)
    }
}

impl Decode {
    fn run(self) -> Result<Outcome> {
        let frames = files::read_codes(&self.codes)?;
        let mut decoder = self.device.bare(self.device.model()?)?.decoder()?;
        let mut samples = Vec::new();
        for piece in files::cut(&frames, self.chunks.as_deref().unwrap_or(&[])) {
            samples.extend(decoder.decode(piece)?);
        }
        files::write_samples(&self.output, &samples)?;
        Ok(Outcome::Done)
    }
}
