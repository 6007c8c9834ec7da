//! What the server counts, in Prometheus' text format. Owns names and buckets.

use crate::models::Served;
use qwentts::engine::Stats;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Upper bounds in seconds.
const BUCKETS: [f64; 13] = [0.005, 0.01, 0.02, 0.04, 0.08, 0.12, 0.16, 0.24, 0.4, 0.8, 1.6, 3.2, 6.4];

#[derive(Default)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    fn see(&self, ms: f64) {
        let place = BUCKETS.iter().position(|bound| ms / 1e3 <= *bound).unwrap_or(BUCKETS.len());
        self.counts[place].fetch_add(1, Relaxed);
        self.sum_us.fetch_add((ms * 1e3) as u64, Relaxed);
    }

    fn write(&self, out: &mut String, name: &str, label: &str) {
        let mut total = 0;
        for (count, bound) in self.counts.iter().zip(BUCKETS.iter().map(f64::to_string).chain(["+Inf".to_owned()])) {
            total += count.load(Relaxed);
            let _ = writeln!(out, "{name}_bucket{{{label},le=\"{bound}\"}} {total}");
        }
        let sum = self.sum_us.load(Relaxed) as f64 / 1e6;
        let _ = writeln!(out, "{name}_sum{{{label}}} {sum}\n{name}_count{{{label}}} {total}");
    }
}

/// Of one model.
#[derive(Default)]
pub struct Speech {
    first_sound: Histogram,
    gaps: Histogram,
    frames: AtomicU64,
    endings: Mutex<BTreeMap<&'static str, u64>>,
    refused: AtomicU64,
}

impl Speech {
    /// An utterance has ended.
    pub fn ended(&self, stats: &Stats) {
        stats.first_sound_ms.iter().for_each(|ms| self.first_sound.see(*ms));
        stats.chunk_gaps_ms.iter().for_each(|ms| self.gaps.see(*ms));
        self.frames.fetch_add(stats.frames as u64, Relaxed);
        let name = stats.ended.map_or("cancelled", |ended| ended.end.name());
        *lock(&self.endings).entry(name).or_default() += 1;
    }

    /// Slots and queue were full.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }
}

/// Of the server.
#[derive(Default)]
pub struct Metrics {
    pub sockets: AtomicUsize,
    answers: Mutex<BTreeMap<u16, u64>>,
}

impl Metrics {
    pub fn answered(&self, status: u16) {
        *lock(&self.answers).entry(status).or_default() += 1;
    }

    /// All of it. Families stand together, as the format wants it. `clones`: voices that are being made.
    pub fn text(&self, models: &[Arc<Served>], clones: usize) -> String {
        let mut out = String::new();
        let mut family = |name: &str, kind: &str, words: &str, write: &dyn Fn(&mut String, &Served, &str)| {
            let _ = writeln!(out, "# HELP {name} {words}\n# TYPE {name} {kind}");
            models.iter().for_each(|m| write(&mut out, m, &format!("model=\"{}\"", escaped(&m.name))));
        };
        type Gauge = fn(&Served) -> u64;
        let numbers: [(&str, &str, &str, Gauge); 5] = [
            ("qwentts_streams_speaking", "gauge", "Utterances that hold a slot.", |m| {
                m.engine.counts().speaking as u64
            }),
            ("qwentts_streams_live", "gauge", "Utterances that are open, those that wait among them.", |m| {
                m.engine.counts().open as u64
            }),
            ("qwentts_queue", "gauge", "Utterances that wait for a slot or for text.", |m| {
                let counts = m.engine.counts();
                counts.open.saturating_sub(counts.speaking) as u64
            }),
            ("qwentts_frames_total", "counter", "Frames made, 80 ms each, of utterances that have ended.", |m| {
                m.speech.frames.load(Relaxed)
            }),
            ("qwentts_refused_total", "counter", "Utterances refused since slots and queue were full.", |m| {
                m.speech.refused.load(Relaxed)
            }),
        ];
        for (name, kind, words, value) in numbers {
            family(name, kind, words, &|out, m, label| {
                let _ = writeln!(out, "{name}{{{label}}} {}", value(m));
            });
        }
        let name = "qwentts_endings_total";
        family(name, "counter", "Utterances that have ended, by how.", &|out, m, label| {
            for (end, count) in lock(&m.speech.endings).iter() {
                let _ = writeln!(out, "{name}{{{label},end=\"{end}\"}} {count}");
            }
        });
        let name = "qwentts_cancels_total";
        family(name, "counter", "Utterances that were cancelled or whose client went away.", &|out, m, label| {
            let count = lock(&m.speech.endings).get("cancelled").copied().unwrap_or(0);
            let _ = writeln!(out, "{name}{{{label}}} {count}");
        });
        let name = "qwentts_first_sound_seconds";
        family(name, "histogram", "From the first text to the first sound.", &|out, m, label| {
            m.speech.first_sound.write(out, name, label);
        });
        let name = "qwentts_chunk_gap_seconds";
        family(name, "histogram", "Between one chunk and the next.", &|out, m, label| {
            m.speech.gaps.write(out, name, label);
        });
        for (name, words, value) in [
            ("qwentts_sockets", "Open connections.", self.sockets.load(Relaxed)),
            ("qwentts_clones", "Voices that are being made of recordings, those that wait for it among them.", clones),
        ] {
            let _ = writeln!(out, "# HELP {name} {words}\n# TYPE {name} gauge\n{name} {value}");
        }
        let _ = writeln!(out, "# HELP qwentts_answers_total Answers by status.\n# TYPE qwentts_answers_total counter");
        for (status, count) in lock(&self.answers).iter() {
            let _ = writeln!(out, "qwentts_answers_total{{status=\"{status}\"}} {count}");
        }
        out
    }
}

/// Nobody panics with one of these locks, so a poisoned one holds what it should.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
