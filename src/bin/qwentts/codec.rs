//! `qwentts codec`: the codec alone.

use crate::{DeviceArgs, Outcome, files};
use clap::{Args, Subcommand};
use qwentts::error::Result;
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum Codec {
    /// Frames of codes to 24 kHz samples, f32
    Decode(Decode),
}

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
        let Codec::Decode(args) = self;
        let frames = files::read_codes(&args.codes)?;
        let mut decoder = args.device.bare(args.device.model()?)?.decoder()?;
        let mut samples = Vec::new();
        for piece in files::cut(&frames, args.chunks.as_deref().unwrap_or(&[])) {
            samples.extend(decoder.decode(piece)?);
        }
        files::write_samples(&args.output, &samples)?;
        Ok(Outcome::Done)
    }
}
