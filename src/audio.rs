//! Recordings in: a sound file of any rate and channel count to what the encoders take, 24 kHz mono. Owns the limits on
//! what a recording may be; knows containers through `symphonia`, and no model.

use crate::engine::resample::Resampler;
use crate::error::{Error, Result};
use crate::frame::{SAMPLE_RATE, check_finite};
use std::fs::File;
use std::io::{Cursor, ErrorKind};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error as Trouble;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;

/// Rates that a recording may have.
pub const RATES_HZ: std::ops::RangeInclusive<u32> = 4_000..=192_000;
/// A recording that a voice is made of lasts so long at least, in seconds: under it there is no voice to be heard.
pub const SHORTEST_S: f64 = 0.25;
/// And at most. A clone's reference stands in every prompt; a few seconds are enough.
pub const LONGEST_S: f64 = 60.0;
/// The loudest sample of a recording that is not silence: 60 dB under full scale.
pub const SILENT: f32 = 1e-3;
/// More channels than any recording has.
const MOST_CHANNELS: usize = 32;
/// A header that says as many samples, 46 minutes at 24 kHz, says that it does not know.
const OPEN_END: u64 = 1 << 26;

/// A sound file's samples at 24 kHz, mono.
///
/// WAV (PCM of 8 to 32 bits, float), FLAC, MP3 or Ogg Vorbis, told apart by what the file holds and not by its name. Channels
/// are averaged, other rates resampled; 16-bit samples are over 32768, as the official package has them. Integer files come out
/// within [-1, 1], but for what MP3, Vorbis and the resampler put between samples. `longest_s` bounds the length: a file that
/// is longer is refused before it is read to its end.
///
/// Errors name the file: it cannot be read, is empty, is none of these, is damaged or cut off (MP3 and Ogg, which do not
/// say how long they are, are what is there), has a rate outside [`RATES_HZ`], is too long, or holds a sample that is not finite.
pub fn read(path: &Path, longest_s: f64) -> Result<Vec<f32>> {
    let file = File::open(path).map_err(|e| Error::file(path, e))?;
    let of = file.metadata().map_err(|e| Error::file(path, e))?;
    if of.is_dir() {
        return Err(Error::file(path, ErrorKind::IsADirectory.into()));
    }
    let bytes = of.is_file().then_some(of.len()); // a pipe's come as they come
    decode(&path.display().to_string(), Box::new(file), bytes, longest_s)
}

/// As [`read`], of a file's bytes; `name` stands in errors.
pub fn read_bytes(name: &str, bytes: &[u8], longest_s: f64) -> Result<Vec<f32>> {
    decode(name, Box::new(Cursor::new(bytes.to_vec())), Some(bytes.len() as u64), longest_s)
}

/// Mono samples at any rate of [`RATES_HZ`] to 24 kHz: what a program has that recorded them itself. `field` stands in errors.
pub fn resample(field: &'static str, samples: &[f32], rate_hz: u32) -> Result<Vec<f32>> {
    check_rate(rate_hz).map_err(|what| Error::request(field, what))?;
    check_finite(samples).map_err(|what| Error::request(field, what))?;
    to_24_khz(samples, rate_hz)
}

/// 24 kHz samples at one of `engine::RATES_HZ`: for a player that takes no other.
pub fn at_rate(samples: &[f32], rate_hz: u32) -> Result<Vec<f32>> {
    all_through(Resampler::new(rate_hz)?, samples)
}

/// Refuses what no voice can be made of: too short, too long, silent, not finite. `samples` at 24 kHz.
pub fn check_voice(samples: &[f32]) -> Result<()> {
    let refuse = |what: String| Err(Error::request("ref_audio", what));
    check_finite(samples).or_else(refuse)?;
    let lasts_s = samples.len() as f64 / f64::from(SAMPLE_RATE);
    if !(SHORTEST_S..=LONGEST_S).contains(&lasts_s) {
        return refuse(format!("lasts {lasts_s:.2} s; expected {SHORTEST_S} to {LONGEST_S} s"));
    }
    let loudest = samples.iter().fold(0.0f32, |most, s| most.max(s.abs()));
    if loudest < SILENT {
        let what =
            format!("is silent: its loudest sample is {loudest:.1e}; expected {SILENT} at least (full scale is 1)");
        return refuse(what);
    }
    Ok(())
}

fn check_rate(rate_hz: u32) -> std::result::Result<(), String> {
    match RATES_HZ.contains(&rate_hz) {
        true => Ok(()),
        false => Err(format!("is at {rate_hz} Hz; expected {} to {} Hz", RATES_HZ.start(), RATES_HZ.end())),
    }
}

fn to_24_khz(samples: &[f32], rate_hz: u32) -> Result<Vec<f32>> {
    all_through(Resampler::between(rate_hz, SAMPLE_RATE)?, samples)
}

fn all_through(mut resampler: Resampler, samples: &[f32]) -> Result<Vec<f32>> {
    let mut out = Vec::new();
    resampler.push(samples, &mut out)?;
    resampler.end(&mut out)?;
    Ok(out)
}

fn decode(name: &str, source: Box<dyn MediaSource>, bytes: Option<u64>, longest_s: f64) -> Result<Vec<f32>> {
    // Where overflow is checked, as in debug builds, symphonia 0.6 panics at a WAV's absurd channel count.
    let sound = std::panic::catch_unwind(AssertUnwindSafe(|| mono_at_24_khz(name, source, bytes, longest_s)));
    sound.unwrap_or_else(|_| Err(Error::checkpoint(name, "is damaged: its decoder gave up")))
}

fn mono_at_24_khz(name: &str, source: Box<dyn MediaSource>, bytes: Option<u64>, longest_s: f64) -> Result<Vec<f32>> {
    let refuse = |what: String| Error::checkpoint(name, what);
    if bytes == Some(0) {
        return Err(refuse("is empty; expected a sound file".into()));
    }
    let stream = MediaSourceStream::new(source, Default::default());
    let probe = symphonia::default::get_probe();
    let mut format = probe.probe(&Hint::new(), stream, FormatOptions::default(), MetadataOptions::default()).map_err(
        |e| match e {
            Trouble::IoError(e) if e.kind() != ErrorKind::UnexpectedEof => Error::file(name, e),
            Trouble::IoError(_) => refuse("is no whole sound file; expected WAV, FLAC, MP3 or Ogg Vorbis".into()),
            Trouble::Unsupported(_) => {
                refuse("is no sound file that can be read; expected WAV, FLAC, MP3 or Ogg Vorbis".into())
            }
            other => refuse(format!("is no sound file that can be read: {other}")),
        },
    )?;
    let info = *format.format_info();
    let track = format.default_track(TrackType::Audio).ok_or_else(|| refuse("holds no sound".into()))?;
    // Their headers say how long the sound is, where they say it: a WAV that came through a pipe says "until the end".
    let counts = ["wave", "flac"].contains(&info.short_name);
    let frames = track.num_frames.filter(|&frames| counts && frames < OPEN_END);
    let track_id = track.id;
    let Some(CodecParameters::Audio(parameters)) = &track.codec_params else {
        return Err(refuse("holds no sound".into()));
    };
    let too_long = |s: f64| refuse(format!("lasts {s:.0} s or more; expected {longest_s} s at most"));
    let mut rate_hz = parameters.sample_rate;
    if let (Some(frames), Some(rate)) = (frames, rate_hz.filter(|rate| *rate > 0)) {
        let lasts_s = frames as f64 / f64::from(rate);
        // Not of a file that is too small for what it says: that one is cut off.
        if lasts_s > longest_s && bytes.is_none_or(|bytes| frames <= bytes.saturating_mul(64)) {
            return Err(too_long(lasts_s));
        }
    }
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(|e| refuse(format!("holds sound that cannot be read: {e}")))?;

    let mut mono: Vec<f32> = Vec::new();
    let mut interleaved: Vec<f32> = Vec::new();
    let damaged = |at: usize, rate: Option<u32>, e: &Trouble| {
        let s = at as f64 / f64::from(rate.unwrap_or(SAMPLE_RATE).max(1));
        match e {
            Trouble::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => refuse(format!("is cut off after {s:.2} s")),
            e => refuse(format!("is damaged after {s:.2} s: {e}")),
        }
    };
    loop {
        let packet = match format.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            // The end of what has no other.
            Err(Trouble::IoError(e)) if e.kind() == ErrorKind::UnexpectedEof && frames.is_none() => break,
            Err(e) => return Err(damaged(mono.len(), rate_hz, &e)),
        };
        if packet.track_id != track_id {
            continue;
        }
        let sound = decoder.decode(&packet).map_err(|e| damaged(mono.len(), rate_hz, &e))?;
        let (rate, channels) = (sound.spec().rate(), sound.spec().channels().count());
        if sound.frames() == 0 {
            continue;
        }
        if !(1..=MOST_CHANNELS).contains(&channels) {
            return Err(refuse(format!("has {channels} channels; expected 1 to {MOST_CHANNELS}")));
        }
        if *rate_hz.get_or_insert(rate) != rate {
            return Err(refuse(format!("changes from {} to {rate} Hz; expected one rate", rate_hz.unwrap_or(0))));
        }
        check_rate(rate).map_err(refuse)?;
        sound.copy_to_vec_interleaved(&mut interleaved);
        mono.extend(interleaved.chunks_exact(channels).map(|all| all.iter().sum::<f32>() / channels as f32));
        if mono.len() as f64 > longest_s * f64::from(rate) {
            return Err(too_long(mono.len() as f64 / f64::from(rate)));
        }
    }
    let Some(rate) = rate_hz.filter(|_| !mono.is_empty()) else {
        return Err(refuse("holds no sample of sound".into()));
    };
    // A reader stops in silence where the file does.
    if let Some(frames) = frames.filter(|&frames| (mono.len() as u64) < frames) {
        let (s, of) = (mono.len() as f64 / f64::from(rate), frames as f64 / f64::from(rate));
        return Err(refuse(format!("is cut off after {s:.2} of {of:.2} s")));
    }
    check_finite(&mono).map_err(refuse)?;
    to_24_khz(&mono, rate)
}
