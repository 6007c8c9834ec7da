//! Opus in Ogg (RFC 7845): the encoder is libopus, the container the ogg crate's. Owns the two headers, and where the stream
//! begins and ends in the encoder's time.

use crate::error::{ApiError, ApiResult};
use ogg::writing::{PacketWriteEndInfo, PacketWriter};
use opus::{Application, Bitrate, Channels, Encoder};

/// What libopus takes, of the rates that speech comes at.
pub const RATES_HZ: [u32; 4] = [8000, 16_000, 24_000, 48_000];

/// Positions of an Ogg page count samples of this rate, whatever was encoded.
const CLOCK_HZ: u64 = 48_000;
/// Packets of 20 ms, which decoders like best.
const PACKETS_A_SECOND: u32 = 50;
/// One voice has no more to it.
const BITS_A_SECOND: i32 = 48_000;
/// Far more than a packet has.
const MOST_PACKET_BYTES: usize = 4000;
/// The packet of 20 ms that says that it was lost: decoders fill it from what was before.
const LOST: [u8; 1] = [0xF8];
/// There is one stream in the file, so any number tells it from the others.
const SERIAL: u32 = 1;

pub struct Opus {
    encoder: Encoder,
    pages: PacketWriter<'static, Vec<u8>>,
    /// The pages before the first sample.
    head: Vec<u8>,
    rate_hz: u32,
    /// Samples by which what is decoded lags behind what was encoded.
    lag: usize,
    waiting: Vec<f32>,
    samples: usize,
    packets: u64,
}

impl Opus {
    pub fn new(rate_hz: u32) -> ApiResult<Opus> {
        let wrong = |e: opus::Error| {
            eprintln!("qwentts-server: {e}");
            ApiError::internal("the Opus encoder cannot be made; the log says why")
        };
        let mut encoder = Encoder::new(rate_hz, Channels::Mono, Application::Audio).map_err(wrong)?;
        encoder.set_bitrate(Bitrate::Bits(BITS_A_SECOND)).map_err(wrong)?;
        let lag = encoder.get_lookahead().map_err(wrong)?.unsigned_abs() as usize;
        let mut opus = Opus {
            encoder,
            pages: PacketWriter::new(Vec::new()),
            head: Vec::new(),
            rate_hz,
            lag,
            waiting: Vec::new(),
            samples: 0,
            packets: 0,
        };
        let mut about = b"OpusHead\x01\x01".to_vec(); // version 1, mono
        about.extend((opus.clock(lag) as u16).to_le_bytes()); // to be skipped at the beginning
        about.extend(rate_hz.to_le_bytes());
        about.extend([0, 0, 0]); // no gain, the plain mapping of channels
        let vendor = opus::version().as_bytes();
        let mut tags = b"OpusTags".to_vec();
        tags.extend((vendor.len() as u32).to_le_bytes());
        tags.extend(vendor);
        tags.extend(0u32.to_le_bytes());
        opus.put(about, PacketWriteEndInfo::EndPage, 0);
        opus.put(tags, PacketWriteEndInfo::EndPage, 0);
        opus.head = opus.written();
        Ok(opus)
    }

    pub fn head(&self) -> Vec<u8> {
        self.head.clone()
    }

    /// Whole packets of it, as a page of their own: nobody waits for a page to fill.
    pub fn push(&mut self, samples: &[f32]) -> Vec<u8> {
        self.samples += samples.len();
        self.waiting.extend(samples);
        let packet = self.packet_samples();
        let whole = self.waiting.len() / packet;
        for i in 0..whole {
            let end = if i + 1 == whole { PacketWriteEndInfo::EndPage } else { PacketWriteEndInfo::NormalPacket };
            let at = (self.packets + 1) * CLOCK_HZ / u64::from(PACKETS_A_SECOND);
            self.encode(end, at);
        }
        self.written()
    }

    /// What waits, and silence until the last sample has come out of the decoder too; at least a packet.
    pub fn end(&mut self) -> Vec<u8> {
        let packet = self.packet_samples();
        let left = (self.waiting.len() + self.lag).div_ceil(packet).max(1);
        self.waiting.resize(left * packet, 0.0);
        // The position of the last page cuts off what is silence.
        let last = self.clock(self.lag + self.samples);
        for i in 1..=left {
            let end = if i == left { PacketWriteEndInfo::EndStream } else { PacketWriteEndInfo::NormalPacket };
            self.encode(end, last);
        }
        self.written()
    }

    fn packet_samples(&self) -> usize {
        (self.rate_hz / PACKETS_A_SECOND) as usize
    }

    fn clock(&self, samples: usize) -> u64 {
        samples as u64 * CLOCK_HZ / u64::from(self.rate_hz)
    }

    fn encode(&mut self, end: PacketWriteEndInfo, at: u64) {
        let samples: Vec<f32> = self.waiting.drain(..self.packet_samples()).collect();
        let packet = self.encoder.encode_vec_float(&samples, MOST_PACKET_BYTES).unwrap_or_else(|e| {
            eprintln!("qwentts-server: {e}");
            LOST.to_vec()
        });
        self.packets += 1;
        self.put(packet, end, at);
    }

    fn put(&mut self, packet: Vec<u8>, end: PacketWriteEndInfo, at: u64) {
        let _ = self.pages.write_packet(packet, SERIAL, end, at); // into memory, where no write fails
    }

    fn written(&mut self) -> Vec<u8> {
        std::mem::take(self.pages.inner_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ogg::PacketReader;
    use std::io::Cursor;

    /// As a player would: skips what the head says, ends where the last page says.
    fn decoded(file: Vec<u8>, rate_hz: u32) -> Vec<f32> {
        let mut packets = PacketReader::new(Cursor::new(file));
        let head = packets.read_packet_expected().unwrap();
        assert_eq!((&head.data[..8], head.data[9], head.absgp_page()), (&b"OpusHead"[..], 1, 0));
        assert_eq!(head.data[12..16], rate_hz.to_le_bytes());
        let skip = u64::from(u16::from_le_bytes([head.data[10], head.data[11]]));
        assert_eq!(packets.read_packet_expected().unwrap().data[..8], *b"OpusTags");
        let mut decoder = opus::Decoder::new(rate_hz, Channels::Mono).unwrap();
        let (mut all, mut last, mut ended) = (Vec::new(), 0, false);
        while let Some(packet) = packets.read_packet().unwrap() {
            assert!(!ended, "packets behind the end");
            let mut samples = [0.0; 5760];
            let n = decoder.decode_float(&packet.data, &mut samples, false).unwrap();
            all.extend(&samples[..n]);
            assert!(packet.absgp_page() >= last, "positions go back");
            last = packet.absgp_page();
            ended = packet.last_in_stream();
        }
        assert!(ended, "no end");
        let of_rate = |clock: u64| (clock * u64::from(rate_hz) / CLOCK_HZ) as usize;
        all[of_rate(skip)..of_rate(last)].to_vec()
    }

    #[test]
    fn what_is_encoded_is_heard_again_to_its_length() {
        for rate_hz in RATES_HZ {
            for length in [0, 1, 479, 480, 481, 960, 7001, 48_000] {
                let tone = |i: usize| (i as f32 * 400.0 * std::f32::consts::TAU / rate_hz as f32).sin() * 0.4;
                let said: Vec<f32> = (0..length).map(tone).collect();
                let mut opus = Opus::new(rate_hz).unwrap();
                let mut file = opus.head();
                said.chunks(997).for_each(|piece| file.extend(opus.push(piece)));
                file.extend(opus.end());
                let heard = decoded(file, rate_hz);
                assert_eq!(heard.len(), said.len(), "{rate_hz} Hz");
                // Behind the onset, which no transform codec has by heart.
                let from = (rate_hz as usize / 20).min(length);
                let power = |samples: &mut dyn Iterator<Item = f32>| samples.map(|x| f64::from(x).powi(2)).sum::<f64>();
                let missed = power(&mut heard[from..].iter().zip(&said[from..]).map(|(h, s)| h - s));
                let all = power(&mut said[from..].iter().copied());
                assert!(missed <= 0.05 * all, "{rate_hz} Hz, {length} samples: {missed} of {all} is other sound");
            }
        }
    }

    #[test]
    fn sound_can_be_heard_as_it_comes() {
        let mut opus = Opus::new(24_000).unwrap();
        // A frame of the engine is four packets, in a page that ends with them.
        let page = opus.push(&[0.1; 1920]);
        assert_eq!((&page[..4], page[26]), (&b"OggS"[..], 4));
        assert!(opus.push(&[0.1; 100]).is_empty());
    }

    #[test]
    fn a_packet_that_says_it_was_lost_is_twenty_milliseconds() {
        let mut decoder = opus::Decoder::new(24_000, Channels::Mono).unwrap();
        assert_eq!(decoder.decode_float(&LOST, &mut [0.0; 5760], false).unwrap(), 480);
    }
}
