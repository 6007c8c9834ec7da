//! Samples as bytes: raw, WAV, FLAC, and Opus where this build has it; each as a stream whose length nobody knows yet, or with
//! the length that is known. Owns the formats; knows no request.

use crate::error::ApiResult;
#[cfg(feature = "opus")]
use crate::opus::{self, Opus};
use qwentts::frame::Sample;
use std::str::FromStr;

/// What speech is delivered as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 16-bit little-endian samples, nothing before them.
    Pcm,
    Wav,
    Flac,
    /// In Ogg.
    #[cfg(feature = "opus")]
    Opus,
    /// No sound: frames of codes, a line of JSON each.
    Codes,
}

impl Format {
    const ALL: &[Format] = &[
        Format::Wav,
        Format::Pcm,
        Format::Flac,
        #[cfg(feature = "opus")]
        Format::Opus,
        Format::Codes,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Format::Pcm => "pcm",
            Format::Wav => "wav",
            Format::Flac => "flac",
            #[cfg(feature = "opus")]
            Format::Opus => "opus",
            Format::Codes => "codes",
        }
    }

    /// Those that are sound, in words.
    pub fn sounds() -> String {
        let names: Vec<&str> =
            Format::ALL.iter().filter(|format| **format != Format::Codes).map(|format| format.name()).collect();
        names.join(", ")
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Pcm => "audio/pcm",
            Format::Wav => "audio/wav",
            Format::Flac => "audio/flac",
            #[cfg(feature = "opus")]
            Format::Opus => "audio/ogg",
            Format::Codes => "application/x-ndjson",
        }
    }

    /// The rates that it can have; where there are none, any.
    fn rates_hz(self) -> &'static [u32] {
        match self {
            #[cfg(feature = "opus")]
            Format::Opus => &opus::RATES_HZ,
            _ => &[],
        }
    }

    /// Why it cannot have this rate, if it cannot.
    pub fn refuses(self, rate_hz: u32) -> Option<String> {
        let rates = self.rates_hz();
        if rates.is_empty() || rates.contains(&rate_hz) {
            return None;
        }
        let known: Vec<String> = rates.iter().map(u32::to_string).collect();
        Some(format!("is {rate_hz}, which {} has not; expected one of {}", self.name(), known.join(", ")))
    }
}

impl FromStr for Format {
    type Err = String;
    fn from_str(name: &str) -> Result<Format, String> {
        let found = Format::ALL.iter().find(|format| format.name() == name);
        found.copied().ok_or_else(|| format!("is {name:?}; supported are {} and codes", Format::sounds()))
    }
}

/// Turns one utterance's samples into bytes.
pub struct Encoder {
    format: Format,
    rate_hz: u32,
    kept: Kept,
}

/// What an encoder keeps from one piece to the next.
enum Kept {
    Nothing,
    Flac(Flac),
    #[cfg(feature = "opus")]
    Opus(Box<Opus>),
}

impl Encoder {
    pub fn new(format: Format, rate_hz: u32) -> ApiResult<Encoder> {
        let kept = match format {
            Format::Pcm | Format::Wav | Format::Codes => Kept::Nothing,
            Format::Flac => Kept::Flac(Flac::new(rate_hz)),
            #[cfg(feature = "opus")]
            Format::Opus => Kept::Opus(Box::new(Opus::new(rate_hz)?)),
        };
        Ok(Encoder { format, rate_hz, kept })
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// What stands before the first sample. `samples`: how many there will be, where that is known.
    pub fn begin(&self, samples: Option<usize>) -> Vec<u8> {
        match &self.kept {
            Kept::Nothing if self.format == Format::Wav => wav_header(self.rate_hz, samples),
            Kept::Nothing => Vec::new(),
            Kept::Flac(flac) => flac.header(samples),
            #[cfg(feature = "opus")]
            Kept::Opus(opus) => opus.head(),
        }
    }

    pub fn push(&mut self, samples: &[f32]) -> Vec<u8> {
        let whole = samples.iter().map(|&s| i16::of(s));
        match &mut self.kept {
            Kept::Nothing => whole.flat_map(i16::to_le_bytes).collect(),
            Kept::Flac(flac) => flac.push(whole),
            #[cfg(feature = "opus")]
            Kept::Opus(opus) => opus.push(samples),
        }
    }

    /// What stands behind the last sample.
    pub fn end(&mut self) -> Vec<u8> {
        match &mut self.kept {
            Kept::Nothing => Vec::new(),
            Kept::Flac(flac) => flac.end(),
            #[cfg(feature = "opus")]
            Kept::Opus(opus) => opus.end(),
        }
    }
}

/// Sizes of all ones say "until the end", as who streams WAV has it.
fn wav_header(rate_hz: u32, samples: Option<usize>) -> Vec<u8> {
    let data = samples.and_then(|n| u32::try_from(2 * n).ok()).filter(|bytes| *bytes < u32::MAX - 36);
    let mut header = Vec::with_capacity(44);
    header.extend(b"RIFF");
    header.extend(data.map_or(u32::MAX, |bytes| bytes + 36).to_le_bytes());
    header.extend(b"WAVEfmt ");
    header.extend(16u32.to_le_bytes());
    header.extend([1u16.to_le_bytes(), 1u16.to_le_bytes()].as_flattened()); // PCM, mono
    header.extend([rate_hz.to_le_bytes(), (2 * rate_hz).to_le_bytes()].as_flattened());
    header.extend([2u16.to_le_bytes(), 16u16.to_le_bytes()].as_flattened()); // bytes and bits of a sample
    header.extend(b"data");
    header.extend(data.unwrap_or(u32::MAX).to_le_bytes());
    header
}

/// FLAC (RFC 9639): mono, 16 bits, blocks of 80 ms, each by the best of the format's fixed predictors.
struct Flac {
    rate_hz: u32,
    block: usize,
    waiting: Vec<i16>,
    frames: u32,
}

/// Fixed predictors have orders 0 to 4.
const ORDERS: usize = 5;
/// The largest Rice parameter of four bits; 15 is an escape.
const MOST_RICE: u32 = 14;

impl Flac {
    fn new(rate_hz: u32) -> Flac {
        Flac { rate_hz, block: rate_hz as usize * 2 / 25, waiting: Vec::new(), frames: 0 }
    }

    /// The mark, and STREAMINFO as the last block of metadata.
    fn header(&self, samples: Option<usize>) -> Vec<u8> {
        let mut bits = Bits::default();
        b"fLaC".iter().for_each(|&b| bits.put(b.into(), 8));
        bits.put(0x80, 8);
        bits.put(34, 24);
        bits.put(self.block as u64, 16);
        bits.put(self.block as u64, 16);
        bits.put(0, 48); // sizes of frames: unknown
        bits.put(self.rate_hz.into(), 20);
        bits.put(0, 3); // one channel
        bits.put(15, 5); // 16 bits
        bits.put(samples.map_or(0, |n| n as u64), 36);
        bits.put(0, 64); // no checksum of the samples: they are not known yet
        bits.put(0, 64);
        bits.bytes
    }

    fn push(&mut self, samples: impl Iterator<Item = i16>) -> Vec<u8> {
        self.waiting.extend(samples);
        let whole = self.waiting.len() / self.block * self.block;
        let rest = self.waiting.split_off(whole);
        let blocks = std::mem::replace(&mut self.waiting, rest);
        blocks.chunks(self.block).flat_map(|block| self.frame(block)).collect()
    }

    fn end(&mut self) -> Vec<u8> {
        let last = std::mem::take(&mut self.waiting);
        if last.is_empty() { Vec::new() } else { self.frame(&last) }
    }

    fn frame(&mut self, samples: &[i16]) -> Vec<u8> {
        let mut bits = Bits::default();
        bits.put(0xFFF8, 16); // fixed block size
        bits.put(0b0111_0000, 8); // its length stands below, the rate in STREAMINFO
        bits.put(0b0000_1000, 8); // mono, 16 bits
        put_number(&mut bits, self.frames);
        bits.put(samples.len() as u64 - 1, 16);
        let check = crc8(&bits.bytes);
        bits.put(check.into(), 8);
        put_subframe(&mut bits, samples);
        bits.align();
        let check = crc16(&bits.bytes);
        bits.put(check.into(), 16);
        self.frames += 1;
        bits.bytes
    }
}

/// A frame's number, as UTF-8 would have it.
fn put_number(bits: &mut Bits, number: u32) {
    if number < 0x80 {
        return bits.put(number.into(), 8);
    }
    let more = (2..=6).find(|n| number >> (5 * n + 1) == 0).unwrap_or(6); // bytes in all
    let first = (0xFF00u32 >> more) & 0xFF | number >> (6 * (more - 1));
    bits.put(first.into(), 8);
    (0..more - 1).rev().for_each(|i| bits.put((0x80 | number >> (6 * i) & 0x3F).into(), 8));
}

fn put_subframe(bits: &mut Bits, samples: &[i16]) {
    let orders = ORDERS.min(samples.len());
    let residuals: Vec<Vec<i32>> = (0..orders).map(|order| residual(samples, order)).collect();
    let cost = |r: &Vec<i32>| r.iter().map(|x| u64::from(x.unsigned_abs())).sum::<u64>();
    let order = (0..orders).min_by_key(|&order| cost(&residuals[order])).unwrap_or(0);
    // As many parts as divide the block; the first lacks what is warm-up.
    let halvings =
        (0..=3).rev().find(|h| samples.len().is_multiple_of(1 << h) && samples.len() >> h > order).unwrap_or(0);
    let part = samples.len() >> halvings;
    let parts: Vec<&[i32]> = (0..1usize << halvings)
        .map(|i| &residuals[order][(i * part).saturating_sub(order)..(i + 1) * part - order])
        .collect();
    let rice: Vec<(u32, u64)> = parts.iter().map(|part| best_rice(part)).collect();
    let size = 16 * order as u64 + 6 + rice.iter().map(|(_, bits)| 4 + bits).sum::<u64>();
    if size >= 16 * samples.len() as u64 {
        bits.put(0b0000_0010, 8); // verbatim
        return samples.iter().for_each(|&s| bits.put_signed(s));
    }
    bits.put(0b0001_0000 | (order as u64) << 1, 8); // fixed, of this order
    samples[..order].iter().for_each(|&s| bits.put_signed(s));
    bits.put(halvings, 6); // Rice parameters of four bits, 2^halvings of them
    for (part, (k, _)) in parts.iter().zip(rice) {
        bits.put(k.into(), 4);
        for &x in *part {
            let folded = (x << 1 ^ x >> 31) as u32;
            bits.put_zeros(folded >> k);
            bits.put(1, 1);
            bits.put(u64::from(folded) & ((1 << k) - 1), k);
        }
    }
}

/// What is left of the samples from `order` on once a polynomial through those before has been taken off.
fn residual(samples: &[i16], order: usize) -> Vec<i32> {
    let mut left: Vec<i32> = samples.iter().map(|&s| s.into()).collect();
    for _ in 0..order {
        left = left.windows(2).map(|pair| pair[1] - pair[0]).collect();
    }
    left
}

/// The Rice parameter that takes fewest bits, and how many.
fn best_rice(residual: &[i32]) -> (u32, u64) {
    let bits = |k: u32| residual.iter().map(|x| u64::from((x << 1 ^ x >> 31) as u32 >> k) + 1 + u64::from(k)).sum();
    (0..=MOST_RICE).map(|k| (k, bits(k))).min_by_key(|(_, bits)| *bits).unwrap_or((0, 0))
}

/// Bits, the highest first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    part: u64,
    length: u32,
}

impl Bits {
    fn put(&mut self, value: u64, length: u32) {
        for i in (0..length).rev() {
            self.part = self.part << 1 | value >> i & 1;
            self.length += 1;
            if self.length == 8 {
                self.bytes.push(self.part as u8);
                (self.part, self.length) = (0, 0);
            }
        }
    }

    fn put_signed(&mut self, sample: i16) {
        self.put(u64::from(sample as u16), 16);
    }

    fn put_zeros(&mut self, count: u32) {
        (0..count).for_each(|_| self.put(0, 1));
    }

    fn align(&mut self) {
        self.put(0, (8 - self.length) % 8);
    }
}

fn crc8(bytes: &[u8]) -> u8 {
    let step = |crc: u8, _| if crc & 0x80 != 0 { crc << 1 ^ 0x07 } else { crc << 1 };
    bytes.iter().fold(0, |crc, b| (0..8).fold(crc ^ b, step))
}

fn crc16(bytes: &[u8]) -> u16 {
    let step = |crc: u16, _| if crc & 0x8000 != 0 { crc << 1 ^ 0x8005 } else { crc << 1 };
    bytes.iter().fold(0, |crc, &b| (0..8).fold(crc ^ u16::from(b) << 8, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Speech-like, loud noise, silence, the extremes, and lengths that leave a short last block.
    fn sounds() -> Vec<Vec<f32>> {
        let noise = |n: usize| {
            let mut x = 1u32;
            (0..n).map(move |_| {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                x as f32 / u32::MAX as f32 * 2.0 - 1.0
            })
        };
        vec![
            (0..24_000).map(|i| (i as f32 / 20.0).sin() * 0.3).collect(),
            noise(7001).collect(),
            vec![0.0; 1921],
            vec![0.5],
            (0..4000).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect(),
            noise(300 * 1920).map(|x| x * 0.01).collect(), // frame numbers of two bytes
        ]
    }

    #[test]
    fn what_is_encoded_is_decoded_again() {
        for (i, sound) in sounds().into_iter().enumerate() {
            for format in [Format::Wav, Format::Flac] {
                for known in [None, Some(sound.len())] {
                    let mut encoder = Encoder::new(format, 24_000).ok().unwrap();
                    let mut bytes = encoder.begin(known);
                    sound.chunks(997).for_each(|piece| bytes.extend(encoder.push(piece)));
                    bytes.extend(encoder.end());
                    let heard = qwentts::audio::read_bytes("test", &bytes, 60.0).unwrap();
                    let said: Vec<i16> = sound.iter().map(|&s| i16::of(s)).collect();
                    let heard: Vec<i16> = heard.iter().map(|s| (s * 32768.0).round() as i16).collect();
                    assert!(said == heard, "{format:?} of sound {i}");
                }
            }
        }
    }

    #[test]
    fn flac_is_smaller_than_wav() {
        let sound = &sounds()[0];
        let mut encoder = Encoder::new(Format::Flac, 24_000).ok().unwrap();
        let size = encoder.push(sound).len();
        assert!(size < sound.len(), "{size} bytes of {} samples", sound.len());
    }
}
