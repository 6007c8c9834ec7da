//! Where samples wait between the one who makes them and the sound device's callback. Owns the waiting and the
//! silence; knows no device. One writer, one reader, made together: each has `&mut` verbs, so there is no second.
//!
//! The callback runs where nothing may block: it takes no lock, allocates nothing and wakes nobody. So the writer
//! sleeps and looks again, which is cheap: it is seconds ahead.

use crate::bad;
use qwentts::error::Result;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the writer sleeps before it looks again.
const NAP: Duration = Duration::from_millis(5);

struct Ring {
    /// Samples as bits: an f32 that two threads may touch without a lock.
    slots: Box<[AtomicU32]>,
    /// Samples ever written, and ever taken; sample n lies in slot n modulo their number. The writer alone moves
    /// `written`, and only when the slots hold it; the reader alone moves `taken`, and only when it has copied.
    written: AtomicU64,
    taken: AtomicU64,
    /// No more comes: running dry is the end and no fault.
    ended: AtomicBool,
    /// How often it ran dry before the end.
    gaps: AtomicUsize,
    /// From a callback to when the last sample that it took is heard.
    delay_us: AtomicU64,
    failure: OnceLock<String>,
}

pub struct Writer {
    ring: Arc<Ring>,
    /// A device that takes nothing for so long is given up.
    patience: Duration,
}

#[cfg_attr(
    not(any(feature = "play", test)),
    expect(dead_code, reason = "nothing reads where there is no sound output")
)]
pub struct Reader {
    ring: Arc<Ring>,
    dry: bool,
}

/// A ring of `capacity` samples.
pub fn ring(capacity: usize, patience: Duration) -> (Writer, Reader) {
    let ring = Arc::new(Ring {
        slots: (0..capacity).map(|_| AtomicU32::new(0)).collect(),
        written: AtomicU64::new(0),
        taken: AtomicU64::new(0),
        ended: AtomicBool::new(false),
        gaps: AtomicUsize::new(0),
        delay_us: AtomicU64::new(0),
        failure: OnceLock::new(),
    });
    (Writer { ring: ring.clone(), patience }, Reader { ring, dry: false })
}

impl Ring {
    fn slot(&self, sample: u64) -> &AtomicU32 {
        &self.slots[(sample % self.slots.len() as u64) as usize]
    }
}

impl Writer {
    /// Writes all of `samples`, waiting for room where there is none.
    pub fn push(&mut self, mut samples: &[f32]) -> Result<()> {
        let ring = &self.ring;
        while !samples.is_empty() {
            let written = ring.written.load(Relaxed); // our own
            self.wait_until(|taken| written - taken < ring.slots.len() as u64)?;
            let room = ring.slots.len() - (written - ring.taken.load(Acquire)) as usize;
            let (now, later) = samples.split_at(room.min(samples.len()));
            for (n, sample) in (written..).zip(now) {
                ring.slot(n).store(sample.to_bits(), Relaxed);
            }
            ring.written.store(written + now.len() as u64, Release); // publishes the slots
            samples = later;
        }
        Ok(())
    }

    /// Says that no more comes, and waits until all of it was heard.
    pub fn finish(self) -> Result<()> {
        self.ring.ended.store(true, Release);
        let written = self.ring.written.load(Relaxed);
        self.wait_until(|taken| taken == written)?;
        if written > 0 {
            sleep(Duration::from_micros(self.ring.delay_us.load(Acquire)));
        }
        Ok(())
    }

    /// How often the sound ran dry before its end; each time was heard as silence.
    pub fn gaps(&self) -> usize {
        self.ring.gaps.load(Relaxed)
    }

    /// Sleeps until `there` is true of the samples taken. An error where the device failed, or stands still.
    fn wait_until(&self, there: impl Fn(u64) -> bool) -> Result<()> {
        let mut last = (self.ring.taken.load(Acquire), Instant::now());
        loop {
            if let Some(words) = self.ring.failure.get() {
                return Err(bad("--play", words.as_str()));
            }
            let taken = self.ring.taken.load(Acquire);
            if there(taken) {
                return Ok(());
            }
            if taken != last.0 {
                last = (taken, Instant::now());
            }
            if last.1.elapsed() > self.patience {
                return Err(bad("--play", format!("the sound device takes nothing for {:?}", self.patience)));
            }
            sleep(NAP);
        }
    }
}

#[cfg(any(feature = "play", test))]
impl Reader {
    /// Fills a callback's buffer: each sample once in every channel, silence where there is none. `delay` is how long
    /// it is until the end of this buffer is heard.
    pub fn fill<T: Copy>(&mut self, buffer: &mut [T], channels: usize, delay: Duration, convert: impl Fn(f32) -> T) {
        let ring = &self.ring;
        let taken = ring.taken.load(Relaxed); // our own
        // The end before the samples: where it is seen, so are all samples that came before it.
        let ended = ring.ended.load(Acquire);
        let there = ring.written.load(Acquire) - taken;
        let (sound, silence) = {
            let frames = there.min((buffer.len() / channels) as u64);
            buffer.split_at_mut(frames as usize * channels)
        };
        for (n, frame) in (taken..).zip(sound.chunks_exact_mut(channels)) {
            frame.fill(convert(f32::from_bits(ring.slot(n).load(Relaxed))));
        }
        silence.fill(convert(0.0));
        // Before the first sample there is nothing to run dry.
        let dry = !silence.is_empty() && !ended && taken + there > 0;
        if dry && !self.dry {
            ring.gaps.fetch_add(1, Relaxed);
        }
        self.dry = dry;
        ring.delay_us.store(delay.as_micros() as u64, Relaxed);
        ring.taken.store(taken + (sound.len() / channels) as u64, Release); // frees the slots
    }

    /// What the device's error callback calls where it cannot go on.
    pub fn alarm(&self) -> impl Fn(String) + Send + 'static {
        let ring = self.ring.clone();
        move |words| {
            let _ = ring.failure.set(words); // the first is the cause
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);
    const SOON: Duration = Duration::ZERO;

    fn take(reader: &mut Reader, count: usize) -> Vec<f32> {
        let mut out = vec![f32::NAN; count];
        reader.fill(&mut out, 1, SOON, |s| s);
        out
    }

    #[test]
    fn all_samples_come_once_and_in_order() {
        let (mut writer, mut reader) = ring(1000, PATIENCE);
        let all: Vec<f32> = (1..=200_000).map(|n| n as f32).collect();
        let expected = all.clone();
        let writing = std::thread::spawn(move || {
            let mut rest = &all[..];
            for width in (1..).map(|n| n * n % 1931 + 1) {
                let (now, later) = rest.split_at(rest.len().min(width));
                writer.push(now).unwrap();
                rest = later;
                if rest.is_empty() {
                    return writer.finish().unwrap();
                }
            }
        });
        let mut heard = Vec::new();
        for width in (1..).map(|n| n * 7 % 613 + 1) {
            let out = take(&mut reader, width);
            assert!(reader.ring.written.load(SeqCst) - reader.ring.taken.load(SeqCst) <= 1000);
            // Silence is no sample: it stands at the end of a buffer only.
            let there = out.iter().position(|&s| s == 0.0).unwrap_or(out.len());
            assert!(out[there..].iter().all(|&s| s == 0.0));
            heard.extend_from_slice(&out[..there]);
            if heard.len() == expected.len() {
                break;
            }
        }
        writing.join().unwrap();
        assert!(heard == expected);
    }

    #[test]
    fn each_channel_has_the_sample() {
        let (mut writer, mut reader) = ring(8, PATIENCE);
        writer.push(&[0.5, -1.0]).unwrap();
        let mut out = [7_i16; 9];
        reader.fill(&mut out, 3, SOON, |s| (s * 100.0) as i16);
        assert_eq!(out, [50, 50, 50, -100, -100, -100, 0, 0, 0]);
    }

    #[test]
    fn a_gap_is_silence_and_counted_once() {
        let (mut writer, mut reader) = ring(8, PATIENCE);
        assert_eq!((take(&mut reader, 3), writer.gaps()), (vec![0.0; 3], 0), "before the first sample");
        writer.push(&[1.0, 2.0]).unwrap();
        assert_eq!((take(&mut reader, 2), writer.gaps()), (vec![1.0, 2.0], 0), "just enough");
        assert_eq!((take(&mut reader, 2), writer.gaps()), (vec![0.0; 2], 1));
        assert_eq!((take(&mut reader, 2), writer.gaps()), (vec![0.0; 2], 1), "the same gap");
        writer.push(&[3.0]).unwrap();
        assert_eq!((take(&mut reader, 2), writer.gaps()), (vec![3.0, 0.0], 1), "still the same");
        writer.push(&[4.0]).unwrap();
        assert_eq!((take(&mut reader, 1), writer.gaps()), (vec![4.0], 1));
        assert_eq!((take(&mut reader, 1), writer.gaps()), (vec![0.0], 2));
        writer.ring.ended.store(true, SeqCst);
        take(&mut reader, 1);
        writer.push(&[5.0]).unwrap();
        assert_eq!((take(&mut reader, 3), writer.gaps()), (vec![5.0, 0.0, 0.0], 2), "the end is no gap");
    }

    #[test]
    fn push_waits_for_room_and_finish_for_the_ear() {
        let (mut writer, mut reader) = ring(4, PATIENCE);
        let (done, is_done) = std::sync::mpsc::channel();
        let writing = std::thread::spawn(move || {
            writer.push(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
            done.send("pushed").unwrap();
            writer.finish().unwrap();
            done.send("heard").unwrap();
        });
        assert!(is_done.recv_timeout(Duration::from_millis(50)).is_err());
        assert_eq!(take(&mut reader, 1), [1.0]);
        assert_eq!(is_done.recv(), Ok("pushed"));
        assert!(is_done.recv_timeout(Duration::from_millis(50)).is_err());
        let last = Instant::now();
        let mut out = [0.0; 8];
        reader.fill(&mut out, 1, Duration::from_millis(80), |s| s);
        assert_eq!(out[..4], [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(is_done.recv(), Ok("heard"));
        assert!(last.elapsed() >= Duration::from_millis(80), "the device still had it");
        writing.join().unwrap();
    }

    #[test]
    fn nobody_waits_for_a_device_that_is_gone() {
        let (mut writer, reader) = ring(4, Duration::from_millis(20));
        let error = writer.push(&[0.0; 5]).unwrap_err().to_string();
        assert_eq!(error, "--play: the sound device takes nothing for 20ms");
        reader.alarm()("unplugged".to_owned());
        assert_eq!(writer.push(&[0.0]).unwrap_err().to_string(), "--play: unplugged");
        assert_eq!(writer.finish().unwrap_err().to_string(), "--play: unplugged");
        let (writer, _reader) = ring(4, PATIENCE);
        writer.finish().unwrap(); // nothing said, nothing to wait for
    }
}
