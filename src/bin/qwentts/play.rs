//! `--play`: samples to the loudspeaker. Owns how far the sound may be ahead of the ear, and what a build without
//! sound output says; the waiting is the ring's, the device `sound`'s.

use crate::ring::{self, Writer};
use qwentts::error::Result;
use std::time::Duration;

#[cfg(feature = "play")]
use crate::sound;

/// What stands in for the device where the build has none.
#[cfg(not(feature = "play"))]
mod sound {
    use crate::{bad, ring::Reader};
    use qwentts::error::Result;

    pub struct Output {
        pub name: String,
        pub sample_rate_hz: u32,
    }

    impl Output {
        pub fn open(_: Reader) -> Result<Output> {
            let what = "this build has no sound output; build it with `--features play` (on Linux that needs the ALSA \
                headers, libasound2-dev), or let another program play: `-o - | aplay`";
            Err(bad("--play", what))
        }

        pub fn start(&mut self) -> Result<()> {
            Ok(())
        }
    }
}

/// How far the sound may be ahead of the ear: 8 s at 24 kHz, 4 s at 48 kHz.
const AHEAD_SAMPLES: usize = 192_000;
/// What must be there before anything is heard: with less, a busy machine runs dry right behind the first frame.
const LEAD_MS: usize = 160;
/// A device that takes nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// The default sound output, open. Dropped, it falls silent at once.
pub struct Player {
    ring: Writer,
    output: sound::Output,
    /// Samples pushed so far.
    pushed: usize,
}

impl Player {
    /// Opens the default output. Nothing is heard until two frames were pushed, or all.
    pub fn open() -> Result<Player> {
        let (ring, reader) = ring::ring(AHEAD_SAMPLES, PATIENCE);
        Ok(Player { ring, output: sound::Output::open(reader)?, pushed: 0 })
    }

    /// The device's name, and how it takes samples.
    pub fn name(&self) -> &str {
        &self.output.name
    }

    /// What it must be fed with: 24000, or where the device cannot, the rate that it can.
    pub fn sample_rate_hz(&self) -> u32 {
        self.output.sample_rate_hz
    }

    /// Queues mono samples; waits while the sound is seconds ahead.
    pub fn push(&mut self, samples: &[f32]) -> Result<()> {
        self.pushed += samples.len();
        if self.pushed * 1000 >= LEAD_MS * self.sample_rate_hz() as usize {
            self.output.start()?; // before the push, which may wait for the device
        }
        self.ring.push(samples)
    }

    /// How often the sound ran dry so far; each time was heard as silence.
    pub fn gaps(&self) -> usize {
        self.ring.gaps()
    }

    /// Waits until all that was pushed was heard.
    pub fn finish(mut self) -> Result<()> {
        if self.pushed > 0 {
            self.output.start()?;
        }
        self.ring.finish() // the output outlives this call
    }
}
