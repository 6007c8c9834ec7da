//! The sound device. Owns the choice of a format, and the callback that empties the ring; knows no speech.

use crate::bad;
use crate::ring::Reader;
use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{BufferSize, ErrorKind, OutputCallbackInfo, SampleFormat, Stream, StreamConfig, SupportedStreamConfigRange};
use qwentts::error::{Error, Result};
use std::time::Duration;

/// The rates that the engine makes, the one without resampling first.
const RATES_HZ: [u32; 6] = [24_000, 48_000, 44_100, 22_050, 16_000, 8_000];

const NONE: &str = "this machine has no sound output that can be reached";

/// The default output device, open.
pub struct Output {
    pub name: String,
    pub sample_rate_hz: u32,
    stream: Stream,
    started: bool,
}

/// How a device is fed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Feed {
    rate_hz: u32,
    channels: u16,
    format: SampleFormat,
}

impl Output {
    /// Opens it; its callback will empty the ring.
    pub fn open(mut reader: Reader) -> Result<Output> {
        let device = cpal::default_host().default_output_device();
        let device = device.ok_or_else(|| bad("--play", NONE))?;
        let offers: Vec<_> = device.supported_output_configs().map_err(refused)?.collect();
        let own_hz = device.default_output_config().map_err(refused)?.sample_rate();
        let feed = choose(&offers, own_hz)
            .ok_or_else(|| bad("--play", format!("{device} takes none of {RATES_HZ:?} Hz as f32 or i16")))?;
        let Feed { rate_hz, channels, format } = feed;
        let config = StreamConfig { channels, sample_rate: rate_hz, buffer_size: BufferSize::Default };
        let alarm = reader.alarm();
        let failed = move |e: cpal::Error| match e.kind() {
            // The device goes on by itself; what a gap of the device's own is, is not ours to count.
            ErrorKind::Xrun | ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => {}
            _ => alarm(e.to_string()),
        };
        let delay = move |info: &OutputCallbackInfo, samples: usize| {
            let at = info.timestamp();
            let sound_s = (samples / usize::from(channels)) as f64 / f64::from(rate_hz);
            at.playback.duration_since(at.callback) + Duration::from_secs_f64(sound_s)
        };
        let stream = match format {
            SampleFormat::F32 => {
                let fill = move |out: &mut [f32], info: &OutputCallbackInfo| {
                    reader.fill(out, channels.into(), delay(info, out.len()), |s| s);
                };
                device.build_output_stream(config, fill, failed, None)
            }
            _ => {
                let fill = move |out: &mut [i16], info: &OutputCallbackInfo| {
                    reader.fill(out, channels.into(), delay(info, out.len()), |s| (s * 32767.0).round() as i16);
                };
                device.build_output_stream(config, fill, failed, None)
            }
        };
        let name = format!("{device}, {rate_hz} Hz, {channels} channels of {format}");
        Ok(Output { name, sample_rate_hz: rate_hz, stream: stream.map_err(refused)?, started: false })
    }

    /// Begins to take samples.
    pub fn start(&mut self) -> Result<()> {
        if !self.started {
            self.stream.play().map_err(refused)?;
            self.started = true;
        }
        Ok(())
    }
}

fn refused(e: cpal::Error) -> Error {
    match e.kind() {
        ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable => bad("--play", NONE),
        _ => bad("--play", format!("the sound output: {e}")),
    }
}

/// 24 kHz where the device has it, else its own rate, else what it has; the fewest channels; f32 before i16.
fn choose(offers: &[SupportedStreamConfigRange], own_hz: u32) -> Option<Feed> {
    let [ours, rest @ ..] = RATES_HZ;
    let own = rest.into_iter().filter(|&rate| rate == own_hz);
    let rates = std::iter::once(ours).chain(own).chain(rest);
    let of = |rate_hz: u32| {
        let takes = |o: &&SupportedStreamConfigRange| (o.min_sample_rate()..=o.max_sample_rate()).contains(&rate_hz);
        let feeds =
            offers.iter().filter(takes).map(|o| Feed { rate_hz, channels: o.channels(), format: o.sample_format() });
        let known = feeds.filter(|f| f.channels > 0 && matches!(f.format, SampleFormat::F32 | SampleFormat::I16));
        known.min_by_key(|f| (f.channels, f.format != SampleFormat::F32))
    };
    rates.into_iter().find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use SampleFormat::{F32, I16, I32};

    #[test]
    fn the_choice_of_a_format() {
        let offer = |channels, least, most, format| {
            SupportedStreamConfigRange::new(channels, least, most, cpal::SupportedBufferSize::Unknown, format)
        };
        let feed = |rate_hz, channels, format| Some(Feed { rate_hz, channels, format });
        let any = [offer(2, 4000, 192_000, F32), offer(1, 4000, 192_000, I16), offer(1, 4000, 192_000, F32)];
        assert_eq!(choose(&any, 44_100), feed(24_000, 1, F32));
        assert_eq!(choose(&any[..2], 44_100), feed(24_000, 1, I16), "fewer channels before floats");
        let usual = [offer(2, 44_100, 44_100, F32), offer(2, 48_000, 48_000, F32), offer(8, 48_000, 48_000, F32)];
        assert_eq!(choose(&usual, 44_100), feed(44_100, 2, F32), "the device's own rate");
        assert_eq!(choose(&usual, 96_000), feed(48_000, 2, F32));
        assert_eq!(choose(&[offer(2, 16_000, 16_000, I16)], 16_000), feed(16_000, 2, I16));
        assert_eq!(choose(&[offer(2, 96_000, 192_000, F32)], 96_000), None);
        assert_eq!(choose(&[offer(2, 24_000, 48_000, I32)], 48_000), None);
    }
}
