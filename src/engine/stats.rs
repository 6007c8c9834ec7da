//! What a stream's caller can know of how it went. Times in milliseconds.

use super::ring::Ended;
use crate::request::Layout;
use std::time::Duration;

/// One stream so far.
#[derive(Clone, Debug)]
pub struct Stats {
    /// The layout in force: streaming is exact for text that comes live.
    pub layout: Layout,
    /// Tokens of the text so far.
    pub text_tokens: usize,
    /// Tokens that speech waits for before it can begin; 0 once it can. `None`: it waits for the end of the text.
    pub missing_tokens: Option<usize>,
    /// Frames made.
    pub frames: usize,
    /// Times that padding was fed because live text had run dry (`OnDry::PadAfter`). Where it is not 0 the speech is not
    /// what the same text at once would have given.
    pub pads: usize,
    /// How long live text had run dry, counted once text has come again.
    pub dry_ms: f64,
    /// From when the prompt was ready to when a slot was free.
    pub queued_ms: f64,
    /// The prompt.
    pub prefill_ms: f64,
    /// Positions at the prompt's beginning that were kept from an earlier one (`EngineOptions::prefix_positions`).
    pub prefix_positions: usize,
    /// From the first text to the first sound that could be read (or frame, where only frames are).
    pub first_sound_ms: Option<f64>,
    /// The talker's steps, all together.
    pub talker_ms: f64,
    /// The predictor's work, all together.
    pub predictor_ms: f64,
    /// The codec's work, all together.
    pub codec_ms: f64,
    /// Between one chunk and the next, in order, the last 1024; not where the speech waited for text or for its reader.
    pub chunk_gaps_ms: Vec<f64>,
    /// From the cancel to when its slot was free.
    pub cancel_ms: Option<f64>,
    /// How it ended; `None` while it goes on.
    pub ended: Option<Ended>,
}

impl Stats {
    pub(super) fn new(layout: Layout, text_tokens: usize, missing_tokens: Option<usize>) -> Stats {
        Stats {
            layout,
            text_tokens,
            missing_tokens,
            frames: 0,
            pads: 0,
            dry_ms: 0.0,
            queued_ms: 0.0,
            prefill_ms: 0.0,
            prefix_positions: 0,
            first_sound_ms: None,
            talker_ms: 0.0,
            predictor_ms: 0.0,
            codec_ms: 0.0,
            chunk_gaps_ms: Vec::new(),
            cancel_ms: None,
            ended: None,
        }
    }

    /// Whether the same text at once, in the same layout, would have given this speech.
    pub fn conformant(&self) -> bool {
        self.pads == 0
    }
}

/// A time as `Stats` has it.
pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The smallest of `values` that at least the share `p` of them does not exceed; `None` of none.
pub fn percentile(values: &[f64], p: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (p * sorted.len() as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied()
}
