//! `qwentts bench`: how fast this machine speaks. Owns what is measured and its definitions; every figure is of runs made
//! here and now.

use crate::{DeviceArgs, Outcome, bad, files};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use qwentts::config::ModelKind;
use qwentts::device::{Device, Memory};
use qwentts::engine::{AudioReader, Engine, Read, Stats, Wait, percentile};
use qwentts::error::Result;
use qwentts::frame::{FRAME_TIME, GROUPS, SAMPLE_RATE};
use qwentts::request::{Layout, Output, Randomness, ReferenceSpeech, Request, Voice, VoicePrompt};
use qwentts::speech::{Bare, Speech, Text};
use qwentts::voice::{Cloning, SavedVoice};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Measure first sound, time per frame by part, gaps between chunks, cancels, and speech from live text
#[derive(Args)]
pub struct Bench {
    #[command(flatten)]
    device: DeviceArgs,
    /// Preset voice; the first of the model where not given, and a made-up speaker for a Base model
    #[arg(long)]
    voice: Option<String>,
    /// What is said
    #[arg(long, default_value = TEXT)]
    text: String,
    /// Utterances of each kind
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    runs: u64,
    /// Streams that are cancelled at some moment of their speech, for each run
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=10_000))]
    cancels: u64,
    /// Text tokens a second at which live text is fed; where none is named, there is no live text
    #[arg(long, value_name = "RATE", num_args = 0.., value_delimiter = ',', default_values_t = [5, 10, 20],
          value_parser = clap::value_parser!(u32).range(1..))]
    live: Vec<u32>,
    /// Also print pass or fail for the field's usual three: 500 tokens/s, first sound under 90 ms, real-time factor under .3
    #[arg(long)]
    targets: bool,
    /// Also measure first chunks of 1 to 12 frames
    #[arg(long)]
    scan_first_chunk: bool,
    /// Print the figures as JSON on standard output
    #[arg(long)]
    json: bool,
}

const TEXT: &str = "The river was quiet in the morning, and a thin mist lay over the fields. We walked along the bank until \
                    the sun came out behind the hills.";

#[derive(Serialize)]
struct Figures {
    version: &'static str,
    device: String,
    model: String,
    /// Of the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<usize>,
    /// What the engine holds of a GPU's memory, after all runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    runs: u64,
    text_tokens: usize,
    frames: usize,
    /// From nothing to an engine that is ready.
    open_ms: f64,
    prompt_positions: usize,
    /// The whole text at once; medians over the runs.
    first_sound_ms: f64,
    prefill_ms: f64,
    /// Of a Base model; on a GPU also of one that takes an instruction.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<Prefix>,
    /// Of a Base model.
    #[serde(skip_serializing_if = "Option::is_none")]
    hear_10_s_ms: Option<HearMs>,
    frame_ms: FrameMs,
    codec_packet_ms: CodecPacketMs,
    /// Wall time by time of sound.
    real_time_factor: f64,
    frames_per_s: f64,
    /// Talker steps a second of the talker's own time: what the field calls decode tokens/s.
    tokens_per_s: f64,
    chunk_gap_ms: Spread,
    /// The bare loop: the same frames and chunks without the engine, on the caller's thread.
    bare_real_time_factor: f64,
    /// How much longer the engine's runs take than the bare loop's, in turns; below 0 where its overlap gains more.
    engine_overhead_percent: f64,
    /// The same without codec and overlap: what the engine itself costs.
    frames_only_overhead_percent: f64,
    /// Times that a player which begins with the first chunk ran dry, over all runs.
    underruns: usize,
    cancel: Cancel,
    /// Text at an even pace, for a player that begins with the first chunk.
    live: Vec<LiveText>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    targets: Vec<Target>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    first_chunk: Vec<FirstChunk>,
}

/// A recording of 10 s, from samples to what a voice is made of; medians over the runs.
#[derive(Serialize)]
struct HearMs {
    /// To codes.
    codec: f64,
    /// To a speaker vector.
    speaker: f64,
    /// To a voice that speaks in context, which is both.
    voice: f64,
    /// The engine speaking while another thread makes one such voice after another.
    speech_meanwhile: Meanwhile,
}

#[derive(Serialize)]
struct Meanwhile {
    /// Voices that were made in that time.
    voices: usize,
    /// As `frame_ms.whole`.
    frame: f64,
    /// As `chunk_gap_ms`.
    chunk_gap: Spread,
}

/// What a stream gains where an earlier one's prompt began the same: with a voice's reference of 10 s and its words, behind
/// which the codec's state is kept as well; or with an instruction. Two such beginnings take turns, and each run has two of its
/// own; medians.
#[derive(Serialize)]
struct Prefix {
    /// Positions that were kept.
    positions: usize,
    /// The first stream that begins so: nothing of it is kept.
    new: PrefixMs,
    /// A later one, right behind one that began the same.
    kept: PrefixMs,
    /// A later one, right behind one that began in the other way, which is kept as well: the voice was switched.
    switched: PrefixMs,
}

#[derive(Serialize)]
struct PrefixMs {
    prefill: f64,
    first_sound: f64,
}

/// Of one frame, by part; the codec runs beside the next frame, so that the parts may come to more than the whole.
#[derive(Serialize)]
struct FrameMs {
    talker: f64,
    predictor: f64,
    codec: f64,
    whole: f64,
}

/// The codec alone, from frames to samples that the caller has, so many frames at once and its memory full.
#[derive(Serialize)]
struct CodecPacketMs {
    of_1: f64,
    of_8: f64,
}

#[derive(Serialize)]
struct Spread {
    count: usize,
    p50: f64,
    p99: f64,
    max: f64,
}

/// From a cancel to when its slot is free; prompts and speech are cancelled, at moments spread evenly over both.
#[derive(Serialize)]
struct Cancel {
    ms: Spread,
    /// The same in frames of this machine (`frame_ms.whole`).
    frames: Spread,
    /// The first sound of what is said right after a cancel; it may find a chunk of the cancelled stream in the codec.
    next_first_sound_ms: Spread,
}

#[derive(Serialize)]
struct LiveText {
    tokens_per_s: f64,
    first_sound_ms: f64,
    /// Over all runs: how often the player had nothing to play, and for how long in all.
    underruns: usize,
    silent_ms: f64,
}

#[derive(Serialize)]
struct Target {
    name: &'static str,
    value: f64,
    pass: bool,
}

#[derive(Serialize)]
struct FirstChunk {
    frames: usize,
    first_sound_ms: f64,
    real_time_factor: f64,
    /// Over all runs.
    underruns: usize,
}

/// One utterance as its reader saw it.
struct Heard {
    stats: Stats,
    wall_s: f64,
    sound_s: f64,
    underruns: usize,
    silent_ms: f64,
}

impl Heard {
    fn real_time_factor(&self) -> f64 {
        self.wall_s / self.sound_s
    }
}

impl Bench {
    pub fn run(self) -> Result<Outcome> {
        let started = Instant::now();
        let engine = self.device.engine(2048)?;
        let open_ms = started.elapsed().as_secs_f64() * 1e3;
        let model = engine.model().clone();
        let voice = match (&self.voice, model.config.kind) {
            // A made-up speaker: what it costs to speak does not depend on who.
            (None, ModelKind::Base) => Voice::Cloned(VoicePrompt {
                speaker_vector: (0..model.config.talker.hidden).map(|i| (i as f32).sin() * 0.5).collect(),
                reference: None,
            }),
            (named, _) => crate::voice(named.as_deref(), &model)?.0,
        };
        let mut request = Request { voice, randomness: Randomness::Seed(1), ..Default::default() };
        // As speech is used: drawn, whatever the checkpoint's own setting.
        request.sampling.draws(true);
        // The bare loop knows no other end for weights that never choose one.
        request.sampling.max_new_tokens.get_or_insert(300);
        let bare = self.device.bare(model.clone())?;

        let scans = if self.scan_first_chunk { 12 * self.runs } else { 0 };
        let bar = progress(2 + (4 + self.cancels + self.live.len() as u64) * self.runs + scans);
        let step = |what: &'static str| {
            bar.set_message(what);
            bar.inc(1);
        };
        step("warming up");
        hear(&engine, &self.text, &request)?;
        let prompt_positions = speak_bare(&bare, &self.text, &request)?.1;
        step("codec alone");
        let codec_packet_ms = CodecPacketMs { of_1: self.codec_packet(&bare, 1)?, of_8: self.codec_packet(&bare, 8)? };

        let (mut runs, mut loops) = (Vec::new(), Vec::new());
        let (mut frames_runs, mut frames_loops) = (Vec::new(), Vec::new());
        let mut codes = request.clone();
        codes.delivery.output = Output::Frames;
        for _ in 0..self.runs {
            step("whole text");
            runs.push(hear(&engine, &self.text, &request)?);
            step("bare loop");
            loops.push(speak_bare(&bare, &self.text, &request)?.0);
            step("frames only");
            frames_runs.push(frames_only(&engine, &self.text, &codes)?);
            step("frames only, bare loop");
            frames_loops.push(speak_bare(&bare, &self.text, &codes)?.0);
        }
        let overhead = |engine_s: f64, bare_s: f64| (engine_s / bare_s - 1.0) * 100.0;
        let of = |value: &dyn Fn(&Heard) -> f64| median(runs.iter().map(value));
        let frames = runs[0].stats.frames;
        let per_frame = |value: f64| value / frames as f64;
        let whole_s = of(&|run| run.wall_s);
        let talker_ms = of(&|run| run.stats.talker_ms / (run.stats.frames.max(2) - 1) as f64);
        let frame_ms = FrameMs {
            talker: talker_ms,
            predictor: per_frame(of(&|run| run.stats.predictor_ms)),
            codec: per_frame(of(&|run| run.stats.codec_ms)),
            whole: per_frame(whole_s * 1e3),
        };
        let gaps: Vec<f64> = runs.iter().flat_map(|run| run.stats.chunk_gaps_ms.clone()).collect();
        let bare_s = median(loops.iter().copied());
        let cancel = self.cancels(&engine, &request, frames, frame_ms.whole, &step)?;
        let live = self.live.iter().map(|&rate| {
            let tokens_per_word = runs[0].stats.text_tokens as f64 / words(&self.text).count() as f64;
            self.live(&engine, &request, f64::from(rate), tokens_per_word, &step)
        });
        let live = live.collect::<Result<Vec<_>>>()?;
        let prefix = self.prefix(&engine, &request)?;
        let hear_10_s_ms = self.recording(&engine, &request)?;
        let mut figures = Figures {
            version: env!("CARGO_PKG_VERSION"),
            device: engine.device().to_owned(),
            model: model.source.describe(""),
            threads: self.cpu_threads()?,
            memory: engine.memory(),
            runs: self.runs,
            text_tokens: runs[0].stats.text_tokens,
            frames,
            open_ms,
            prompt_positions,
            first_sound_ms: of(&|run| run.stats.first_sound_ms.unwrap_or(0.0)),
            prefill_ms: of(&|run| run.stats.prefill_ms),
            prefix,
            hear_10_s_ms,
            frames_per_s: 1e3 / frame_ms.whole,
            tokens_per_s: 1e3 / talker_ms,
            frame_ms,
            codec_packet_ms,
            real_time_factor: of(&Heard::real_time_factor),
            chunk_gap_ms: spread(&gaps),
            bare_real_time_factor: bare_s / runs[0].sound_s,
            engine_overhead_percent: overhead(whole_s, bare_s),
            frames_only_overhead_percent: overhead(median(frames_runs.into_iter()), median(frames_loops.into_iter())),
            underruns: runs.iter().map(|run| run.underruns).sum(),
            cancel,
            live,
            targets: Vec::new(),
            first_chunk: Vec::new(),
        };
        if self.targets {
            figures.targets = targets(&figures);
        }
        for width in (1..=12).filter(|_| self.scan_first_chunk) {
            figures.first_chunk.push(self.first_chunk(&engine, &request, width, &step)?);
        }
        bar.finish_and_clear();
        match self.json {
            true => files::print_json(&figures)?,
            false => files::print(&figures.table())?,
        }
        Ok(Outcome::Done)
    }

    fn cpu_threads(&self) -> Result<Option<usize>> {
        let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
        let on_cpu = self.device.place()?.0 == Device::Cpu;
        Ok(on_cpu.then(|| self.device.threads.unwrap_or_else(cores)))
    }

    /// So many frames at once through the codec, once its memory is full; the median over the runs.
    fn codec_packet(&self, bare: &Bare, frames: usize) -> Result<f64> {
        let packet = vec![[0; GROUPS]; frames];
        let mut decoder = bare.decoder()?;
        for _ in 0..bare.model().config.codec.sliding_window.div_ceil(frames) {
            decoder.decode(&packet)?;
        }
        let packets = (0..self.runs).map(|_| {
            let started = Instant::now();
            decoder.decode(&packet).map(|_| started.elapsed().as_secs_f64() * 1e3)
        });
        Ok(median(packets.collect::<Result<Vec<_>>>()?.into_iter()))
    }

    /// Streams with two beginnings that are kept, which take turns.
    fn prefix(&self, engine: &Engine, request: &Request) -> Result<Option<Prefix>> {
        const ROUNDS: usize = 5;
        let config = &engine.model().config;
        let beginning = |which: u64| {
            let mut request = request.clone();
            match &mut request.voice {
                Voice::Cloned(voice) => {
                    // All of it new: of codes that were heard before, the codec's state would be kept.
                    voice.speaker_vector[0] = which as f32 / 1e4;
                    let mut frames: Vec<_> = (0..125).map(|i| [(i % config.codes) as u16; GROUPS]).collect();
                    let digits = (0..GROUPS as u32).map(|at| (which >> (4 * at) & 15) as u16);
                    frames[0].iter_mut().zip(digits).for_each(|(code, digit)| *code = digit);
                    voice.reference = Some(ReferenceSpeech { frames, transcript: TEXT.to_owned() });
                }
                _ => request.instruct = Some(format!("Slowly and warmly, as on evening {which:05} by the fire.")),
            }
            request.sampling.max_new_tokens = Some(3);
            request
        };
        // The CPU keeps nothing of an instruction.
        if config.kind != ModelKind::Base && (engine.memory().is_none() || !config.takes_instruct()) {
            return Ok(None);
        }
        let (mut new, mut kept, mut switched) = (Vec::new(), Vec::new(), Vec::new());
        let said = |to: &mut Vec<Stats>, request: &Request| {
            hear(engine, &self.text, request).map(|heard| to.push(heard.stats))
        };
        for run in 0..self.runs {
            let both = [2 * run, 2 * run + 1].map(beginning);
            both.iter().try_for_each(|request| said(&mut new, request))?;
            for request in both.iter().cycle().take(2 * ROUNDS) {
                said(&mut switched, request)?; // the last spoke with the other
                said(&mut kept, request)?;
            }
        }
        let ms = |all: &[Stats]| PrefixMs {
            prefill: median(all.iter().map(|stats| stats.prefill_ms)),
            first_sound: median(all.iter().map(|stats| stats.first_sound_ms.unwrap_or(0.0))),
        };
        let positions = kept[0].prefix_positions;
        Ok(Some(Prefix { positions, new: ms(&new), kept: ms(&kept), switched: ms(&switched) }))
    }

    /// Hears 10 s of a made-up sound; once before, for what is loaded then.
    fn recording(&self, engine: &Engine, request: &Request) -> Result<Option<HearMs>> {
        if engine.model().config.kind != ModelKind::Base {
            return Ok(None);
        }
        let sound: Vec<f32> = (0..10 * SAMPLE_RATE).map(|i| (i as f32 * 0.05).sin() * (i as f32).sin() * 0.3).collect();
        let cloning = Cloning { transcript: Some(TEXT.to_owned()), append_silence: false, ..Cloning::default() };
        let listener = engine.listener();
        let of = |work: &dyn Fn() -> Result<()>| -> Result<f64> {
            work()?;
            let took = (0..self.runs).map(|_| {
                let started = Instant::now();
                work().map(|()| started.elapsed().as_secs_f64() * 1e3)
            });
            Ok(median(took.collect::<Result<Vec<_>>>()?.into_iter()))
        };
        let create = || SavedVoice::create(listener, &sound, &cloning).map(|_| ());
        Ok(Some(HearMs {
            codec: of(&|| listener.encode(&sound).map(|_| ()))?,
            speaker: of(&|| listener.speaker_vector(&sound).map(|_| ()))?,
            voice: of(&create)?,
            speech_meanwhile: self.meanwhile(engine, request, &create)?,
        }))
    }

    /// Speaks while another thread makes voices.
    fn meanwhile(
        &self,
        engine: &Engine,
        request: &Request,
        create: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<Meanwhile> {
        let over = AtomicBool::new(false);
        let (runs, made) = std::thread::scope(|scope| {
            let making = scope.spawn(|| {
                let mut voices = 0;
                while !over.load(Relaxed) {
                    create()?;
                    voices += 1;
                }
                Ok(voices)
            });
            let runs = (0..self.runs).map(|_| hear(engine, &self.text, request)).collect::<Result<Vec<_>>>();
            over.store(true, Relaxed);
            let made: Result<usize> = making.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (runs, made)
        });
        let runs = runs?;
        let gaps: Vec<f64> = runs.iter().flat_map(|run| run.stats.chunk_gaps_ms.clone()).collect();
        let frame = median(runs.iter().map(|run| run.wall_s * 1e3 / run.stats.frames as f64));
        Ok(Meanwhile { voices: made?, frame, chunk_gap: spread(&gaps) })
    }

    /// Cancels at moments spread over the whole utterance.
    fn cancels(
        &self,
        engine: &Engine,
        request: &Request,
        frames: usize,
        frame_ms: f64,
        step: &dyn Fn(&'static str),
    ) -> Result<Cancel> {
        let (mut all_ms, mut next_ms) = (Vec::new(), Vec::new());
        let cancels = self.cancels * self.runs;
        for i in 0..cancels {
            step("cancels");
            let stream = engine.speak(&self.text, request)?;
            let after_ms = frame_ms * frames as f64 * (i as f64 + 0.5) / cancels as f64;
            std::thread::sleep(Duration::from_secs_f64(after_ms / 1e3));
            stream.canceller().cancel();
            let mut next = engine.speak(&self.text, request)?;
            next.read_chunk(Wait::Forever)?;
            all_ms.extend(stream.stats().cancel_ms);
            next_ms.extend(next.stats().first_sound_ms);
        }
        let in_frames: Vec<f64> = all_ms.iter().map(|ms| ms / frame_ms).collect();
        Ok(Cancel { ms: spread(&all_ms), frames: spread(&in_frames), next_first_sound_ms: spread(&next_ms) })
    }

    /// Words that come at an even pace, as from a language model.
    fn live(
        &self,
        engine: &Engine,
        request: &Request,
        tokens_per_s: f64,
        tokens_per_word: f64,
        step: &dyn Fn(&'static str),
    ) -> Result<LiveText> {
        let pause = Duration::from_secs_f64(tokens_per_word / tokens_per_s);
        let mut runs = Vec::new();
        for _ in 0..self.runs {
            step("live text");
            let request = Request { layout: Some(Layout::Streaming), ..request.clone() };
            let (mut writer, mut reader) = engine.stream(&request)?.split();
            let started = Instant::now();
            let text = &self.text;
            let heard = std::thread::scope(|scope| {
                scope.spawn(move || {
                    for (i, word) in words(text).enumerate() {
                        std::thread::sleep((pause * i as u32).saturating_sub(started.elapsed()));
                        // Speech that has ended takes no more text; its reader hears why.
                        if writer.push(word).is_err() {
                            return;
                        }
                    }
                    let _ = writer.end(); // as above
                });
                listen(started, &mut reader)
            })?;
            runs.push(heard);
        }
        Ok(LiveText {
            tokens_per_s,
            first_sound_ms: median(runs.iter().map(|run| run.stats.first_sound_ms.unwrap_or(0.0))),
            underruns: runs.iter().map(|run| run.underruns).sum(),
            silent_ms: runs.iter().map(|run| run.silent_ms).sum(),
        })
    }

    fn first_chunk(
        &self,
        engine: &Engine,
        request: &Request,
        width: usize,
        step: &dyn Fn(&'static str),
    ) -> Result<FirstChunk> {
        let mut request = request.clone();
        request.delivery.chunk_frames[0] = width;
        let mut runs = Vec::new();
        for _ in 0..self.runs {
            step("first chunks");
            runs.push(hear(engine, &self.text, &request)?);
        }
        Ok(FirstChunk {
            frames: width,
            first_sound_ms: median(runs.iter().map(|run| run.stats.first_sound_ms.unwrap_or(0.0))),
            real_time_factor: median(runs.iter().map(Heard::real_time_factor)),
            underruns: runs.iter().map(|run| run.underruns).sum(),
        })
    }
}

/// Speaks through the engine.
fn hear(engine: &Engine, text: &str, request: &Request) -> Result<Heard> {
    let started = Instant::now();
    listen(started, &mut engine.speak(text, request)?.split().1)
}

/// Takes the frames alone; the seconds it took.
fn frames_only(engine: &Engine, text: &str, request: &Request) -> Result<f64> {
    let started = Instant::now();
    let mut stream = engine.speak(text, request)?;
    while let Read::Got(_) = stream.read_frames(&mut [[0; GROUPS]; 8], Wait::Forever)? {}
    Ok(started.elapsed().as_secs_f64())
}

/// Reads to the end, as a player would that begins with the first chunk.
fn listen(started: Instant, reader: &mut AudioReader) -> Result<Heard> {
    let (mut sound_s, mut underruns, mut silent_s) = (0.0, 0, 0.0);
    // When the player will have played what it has.
    let mut played_s: Option<f64> = None;
    for chunk in reader.chunks() {
        let chunk = chunk?;
        let now_s = started.elapsed().as_secs_f64();
        let until_s = played_s.unwrap_or(now_s);
        if now_s > until_s {
            underruns += 1;
            silent_s += now_s - until_s;
        }
        let chunk_s = chunk.samples.len() as f64 / f64::from(SAMPLE_RATE);
        played_s = Some(until_s.max(now_s) + chunk_s);
        sound_s += chunk_s;
    }
    if played_s.is_none() {
        return Err(bad("--text", "gave no sound to be measured"));
    }
    let wall_s = started.elapsed().as_secs_f64();
    Ok(Heard { stats: reader.stats(), wall_s, sound_s, underruns, silent_ms: silent_s * 1e3 })
}

/// Speaks with the bare loop, in the same chunks, or for frames alone without the codec; the seconds it took, and the
/// positions of the prompt.
fn speak_bare(bare: &Bare, text: &str, request: &Request) -> Result<(f64, usize)> {
    let started = Instant::now();
    let mut speech = Speech::new(bare, Text::Whole(text.to_owned()), request)?;
    let widths = &request.delivery.chunk_frames;
    let mut frames = Vec::new();
    for i in 0.. {
        while frames.len() < widths[i.min(widths.len() - 1)]
            && let Some(chosen) = speech.next_frame()?
        {
            frames.push(chosen.frame);
        }
        if frames.is_empty() {
            break;
        }
        if request.delivery.output != Output::Frames {
            speech.decode(&frames)?;
        }
        frames.clear();
    }
    Ok((started.elapsed().as_secs_f64(), speech.prefill_positions()))
}

/// Words with the space before them, as tokens have it.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let ends = text.match_indices(' ').map(|(at, _)| at).chain([text.len()]);
    let mut from = 0;
    ends.map(move |end| &text[std::mem::replace(&mut from, end)..end])
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    percentile(&values.collect::<Vec<_>>(), 0.5).unwrap_or(0.0)
}

fn spread(values: &[f64]) -> Spread {
    let at = |p| percentile(values, p).unwrap_or(0.0);
    Spread { count: values.len(), p50: at(0.5), p99: at(0.99), max: at(1.0) }
}

fn targets(figures: &Figures) -> Vec<Target> {
    let target = |name, value: f64, pass| Target { name, value, pass };
    vec![
        target("tokens/s >= 500", figures.tokens_per_s, figures.tokens_per_s >= 500.0),
        target("first sound < 90 ms", figures.first_sound_ms, figures.first_sound_ms < 90.0),
        target("real-time factor < 0.3", figures.real_time_factor, figures.real_time_factor < 0.3),
    ]
}

impl Figures {
    fn table(&self) -> String {
        let mut rows: Vec<(String, String)> = Vec::new();
        let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
        let ms = |value: f64| format!("{value:.1} ms");
        let sound_s = self.frames as f64 * FRAME_TIME.as_secs_f64();
        let threads = self.threads.map_or(String::new(), |threads| format!(" with {threads} threads"));
        row("model, device", format!("{}, {}{threads}", self.model, self.device));
        if let Some(memory) = self.memory {
            let mb = |bytes: usize| bytes as f64 / 1e6;
            let [frames, codec] = [memory.frames_weights_bytes, memory.codec_weights_bytes].map(mb);
            let [kv, working, total] = [memory.kv_bytes, memory.working_bytes, memory.total_bytes].map(mb);
            let [voices, encoders] = [memory.voices_bytes, memory.encoders_bytes].map(mb);
            let weights = format!("weights {frames:.0} + codec {codec:.0} MB");
            row(
                "GPU memory",
                format!(
                    "{weights}, keys and values {kv:.0} MB, voices {voices:.0} MB, encoders {encoders:.0} MB, \
                     working {working:.0} MB, {total:.0} in all"
                ),
            );
        }
        row("open", ms(self.open_ms));
        row("said", format!("{} text tokens, {sound_s:.2} s of speech, {} runs", self.text_tokens, self.runs));
        row("first sound", ms(self.first_sound_ms));
        row("prompt", format!("{} for {} positions", ms(self.prefill_ms), self.prompt_positions));
        if let Some(Prefix { positions, new, kept, switched }) = &self.prefix {
            let all = |what: &str, of: &dyn Fn(&PrefixMs) -> f64| {
                let [new, kept, switched] = [new, kept, switched].map(|ms| format!("{:.2}", of(ms)));
                format!("{what} {new}, kept {kept}, switched {switched} ms")
            };
            let [sound, prompt] = [all("first sound", &|ms| ms.first_sound), all("prompt", &|ms| ms.prefill)];
            row("same beginning", format!("{positions} positions kept; {sound}; {prompt}"));
        }
        if let Some(HearMs { codec, speaker, voice, speech_meanwhile }) = &self.hear_10_s_ms {
            let parts = format!("codes {codec:.1}, speaker vector {speaker:.1}");
            row("10 s recording", format!("{} for a voice; alone {parts} ms", ms(*voice)));
            let Meanwhile { voices, frame, chunk_gap } = speech_meanwhile;
            let gap = format!("gap between chunks p99 {:.1} ms", chunk_gap.p99);
            row("speech meanwhile", format!("{voices} voices made; a frame {frame:.2} ms, {gap}"));
        }
        let f = &self.frame_ms;
        let parts = format!("talker {:.2}, predictor {:.2}, codec {:.2}", f.talker, f.predictor, f.codec);
        row("frame", format!("{:.2} ms ({parts})", f.whole));
        let CodecPacketMs { of_1, of_8 } = self.codec_packet_ms;
        row("codec alone, 1, 8 frames", format!("{of_1:.2}, {of_8:.2} ms"));
        row("real-time factor", format!("{:.3}; bare loop {:.3}", self.real_time_factor, self.bare_real_time_factor));
        let overheads = (self.engine_overhead_percent, self.frames_only_overhead_percent);
        row("engine over bare loop", format!("{:+.1} %; frames only {:+.1} %", overheads.0, overheads.1));
        row(
            "frames/s",
            format!("{:.1}; a player that begins at once ran dry {} times", self.frames_per_s, self.underruns),
        );
        row("tokens/s", format!("{:.0} talker steps a second of the talker's own time", self.tokens_per_s));
        let spread = |s: &Spread| format!("p50 {:.1}, p99 {:.1}, most {:.1} of {}", s.p50, s.p99, s.max, s.count);
        row("gap between chunks, ms", spread(&self.chunk_gap_ms));
        if self.cancel.next_first_sound_ms.count > 0 {
            row("cancel to free slot, ms", spread(&self.cancel.ms));
            let c = &self.cancel.frames;
            row("first sound after a cancel", spread(&self.cancel.next_first_sound_ms));
            row("cancel, in frames", format!("p50 {:.2}, p99 {:.2}, most {:.2}", c.p50, c.p99, c.max));
        }
        for live in &self.live {
            let player = format!("{} underruns, silent for {:.0} ms in all", live.underruns, live.silent_ms);
            row(
                &format!("live text, {} tokens/s", live.tokens_per_s),
                format!("first sound {}; {player}", ms(live.first_sound_ms)),
            );
        }
        for target in &self.targets {
            let verdict = if target.pass { "pass" } else { "FAIL" };
            row(target.name, format!("{verdict}: {:.3}", target.value));
        }
        for first in &self.first_chunk {
            let (sound, factor) = (ms(first.first_sound_ms), first.real_time_factor);
            row(
                &format!("first chunk of {}", first.frames),
                format!("first sound {sound}, real-time factor {factor:.3}, {} underruns", first.underruns),
            );
        }
        rows.iter().map(|(name, value)| format!("{name:26}  {value}\n")).collect()
    }
}

/// A bar on a terminal; nothing elsewhere.
fn progress(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}
