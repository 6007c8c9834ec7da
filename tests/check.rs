//! Would catch: speech of the embedded model that nobody should have to hear, decoded in chunks as a listener gets it;
//! and a check that lets broken sound pass, or blames the wrong thing.
#![cfg(feature = "demo")]

#[path = "support/run.rs"]
mod run;

use qwentts::check::{Report, check};
use qwentts::cpu::philox_uniform;
use qwentts::frame::{Frame, SAMPLE_RATE, SAMPLES_PER_FRAME};
use qwentts::{Model, ModelSource, Reference, Request, Speech, Text, Voice};
use run::{command, done, refused, run};
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use tempfile::TempDir;

const CHUNKS: [usize; 4] = [1, 2, 4, 8];
/// Every twelfth sentence: a greeting of one word, statements and questions, short and long, numbers.
const STEP: usize = 12;

struct Utterance {
    name: String,
    text: String,
    samples: Vec<f32>,
    /// The same frames, each chunk from a fresh slot.
    cold: Vec<f32>,
}

impl Utterance {
    fn report(&self, samples: &[f32]) -> Report {
        check(samples, Some(&self.text), &CHUNKS)
    }

    /// The RMS of all of it.
    fn level(&self) -> f32 {
        (self.samples.iter().map(|s| s * s).sum::<f32>() / self.samples.len() as f32).sqrt()
    }

    /// Where it is loudest, in samples.
    fn loudest(&self, within: std::ops::Range<usize>) -> usize {
        within.max_by(|&a, &b| self.samples[a].abs().total_cmp(&self.samples[b].abs())).unwrap()
    }
}

/// What the embedded model makes of the sentences, greedy, in both voices, decoded in chunks.
static UTTERANCES: LazyLock<Vec<Utterance>> = LazyLock::new(|| {
    let reference = Arc::new(Reference::new(Model::open(&ModelSource::Demo).unwrap(), None).unwrap());
    let sentences = fs::read_to_string(run::demo().join("sentences.txt")).unwrap();
    let texts = sentences.lines().step_by(STEP);
    texts.flat_map(|text| ["slt", "rms"].map(|voice| utterance(&reference, voice, text))).collect()
});

fn utterance(reference: &Arc<Reference>, voice: &str, text: &str) -> Utterance {
    let mut request = Request { voice: Voice::Preset(voice.into()), ..Request::default() };
    (request.sampling.do_sample, request.sampling.subtalker_dosample) = (Some(false), Some(false));
    let mut speech = Speech::new(reference.clone(), Text::Whole(text.into()), &request).unwrap();
    let (mut samples, mut cold) = (Vec::new(), Vec::new());
    for width in CHUNKS.into_iter().chain(std::iter::repeat(CHUNKS[3])) {
        let next = || speech.next_frame().unwrap().map(|chosen| chosen.frame);
        let chunk: Vec<Frame> = std::iter::from_fn(next).take(width).collect();
        samples.extend(speech.decode(&chunk).unwrap());
        cold.extend(reference.decode(&mut reference.codec_slot(), &chunk).unwrap());
        if chunk.len() < width {
            break;
        }
    }
    Utterance { name: format!("{voice} {text:?}"), text: text.to_owned(), samples, cold }
}

/// Breaks every utterance in the same way; each must fail, and by `measure`.
#[track_caller]
fn each_fails(measure: &str, how: &str, broken: impl Fn(&Utterance) -> Vec<f32>) {
    let reports: Vec<Report> = UTTERANCES.iter().map(|u| u.report(&broken(u))).collect();
    show(measure, how, &reports);
    for (utterance, report) in UTTERANCES.iter().zip(&reports) {
        let name = &utterance.name;
        assert!(report.failed().any(|m| m.name == measure), "{name}, {how}: {measure} passes: {report:#?}");
    }
}

/// The range of a measure's figures, for `--nocapture`.
fn show(measure: &str, how: &str, reports: &[Report]) {
    let figures = reports.iter().flat_map(|r| &r.measures).filter(|m| m.name == measure).map(|m| m.figure);
    let (least, most) = figures.fold((f64::MAX, f64::MIN), |(l, m), f| (l.min(f), m.max(f)));
    println!("{measure:8}  {how:24}  {least:8.2} to {most:8.2}");
}

/// Noise as loud as the speech, the same on every run.
fn noise(count: usize, level: f32) -> impl Iterator<Item = f32> {
    // Uniform numbers in -1..1 have an RMS of a root of a third.
    (0..count).map(move |i| (2.0 * philox_uniform(5, i, 0) as f32 - 1.0) * level * 3f32.sqrt())
}

// ---- what is good --------------------------------------------------------------------------------------------

#[test]
fn the_embedded_model_is_fit_to_be_heard() {
    assert!(UTTERANCES.len() >= 30);
    let mut reports = Vec::new();
    for utterance in UTTERANCES.iter() {
        let report = utterance.report(&utterance.samples);
        assert!(report.passes(), "{}: {report:#?}", utterance.name);
        // The border of each frame, not only of each chunk; and as a 16-bit file has it.
        let rounded: Vec<f32> = utterance.samples.iter().map(|s| (s * 32767.0).round() / 32767.0).collect();
        let report = check(&rounded, Some(&utterance.text), &[]);
        assert!(report.passes(), "{}: {report:#?}", utterance.name);
        reports.push(report);
    }
    for measure in reports[0].measures.iter().map(|m| m.name) {
        show(measure, "good", &reports);
    }
}

// ---- what is broken ------------------------------------------------------------------------------------------

#[test]
fn silence_fails() {
    each_fails("loudness", "silence", |u| vec![0.0; u.samples.len()]);
    each_fails("loudness", "empty", |_| Vec::new());
    each_fails("length", "empty", |_| Vec::new());
    let second = |_: &Utterance| vec![0.0; SAMPLE_RATE as usize + SAMPLES_PER_FRAME];
    each_fails("dead air", "silence of 1.08 s", second);
}

#[test]
fn a_gap_fails() {
    each_fails("dead air", "gap of 1.5 s", |u| {
        let mut samples = u.samples.clone();
        let gap = SAMPLE_RATE as usize * 3 / 2;
        let middle = samples.len() / 2;
        samples.splice(middle..middle, std::iter::repeat_n(0.0, gap));
        samples
    });
}

#[test]
fn noise_fails() {
    each_fails("noise", "noise alone", |u| noise(u.samples.len(), u.level()).collect());
    // A burst of 0.3 s in the middle of the speech.
    each_fails("noise", "burst of 0.3 s", |u| {
        let mut samples = u.samples.clone();
        let burst = SAMPLE_RATE as usize * 3 / 10;
        let begin = (samples.len() - burst) / 2;
        samples.splice(begin..begin + burst, noise(burst, u.level()));
        samples
    });
}

#[test]
fn truncated_speech_fails() {
    // In the middle of a word: where it is loudest, in the second and in the third quarter.
    for (begin, end) in [(1, 2), (2, 3)] {
        each_fails("ending", "cut in a word", |u| {
            let quarter = u.samples.len() / 4;
            u.samples[..u.loudest(begin * quarter..end * quarter)].to_vec()
        });
    }
    // After two fifths, with a fade of 40 ms as a careful player would make it: only the text can tell.
    each_fails("length", "cut and faded", |u| {
        let mut samples = u.samples[..u.samples.len() * 2 / 5].to_vec();
        let fade = 960;
        for (i, s) in samples.iter_mut().rev().take(fade).enumerate() {
            *s *= (i as f32 / fade as f32).powi(2);
        }
        samples
    });
}

#[test]
fn a_repeated_chunk_fails() {
    // The third and fourth chunk start at frames 3 and 7; the shortest utterances have only the third.
    for (begin, end) in [(1, 3), (3, 7)] {
        each_fails("repeat", "repeated chunk", |u| {
            let chunk = u.samples[begin * SAMPLES_PER_FRAME..end * SAMPLES_PER_FRAME].to_vec();
            let mut samples = u.samples.clone();
            samples.splice(end * SAMPLES_PER_FRAME..end * SAMPLES_PER_FRAME, chunk);
            samples
        });
    }
}

#[test]
fn gain_fails() {
    // Doubled, and cut at the end of the scale as the codec and every player do. What has room for it is not broken.
    let mut clipped = 0;
    for utterance in UTTERANCES.iter() {
        let doubled: Vec<f32> = utterance.samples.iter().map(|s| (2.0 * s).clamp(-1.0, 1.0)).collect();
        let has_room = utterance.samples.iter().all(|s| s.abs() < 0.499);
        let report = utterance.report(&doubled);
        let fails = report.failed().any(|m| m.name == "clipping");
        assert_eq!(fails, !has_room, "{}: {report:#?}", utterance.name);
        clipped += usize::from(fails);
    }
    assert!(clipped >= 30, "{clipped} of {}", UTTERANCES.len());
    println!("doubled: {clipped} of {} clip", UTTERANCES.len());
    each_fails("loudness", "a sixteenth", |u| u.samples.iter().map(|s| s / 16.0).collect());
    each_fails("loudness", "eightfold", |u| u.samples.iter().map(|s| (8.0 * s).clamp(-1.0, 1.0)).collect());
}

#[test]
fn chunks_decoded_cold_click() {
    each_fails("click", "chunks decoded cold", |u| u.cold.clone());
    // Whoever does not know the chunks finds them too, and no others.
    for utterance in UTTERANCES.iter() {
        let report = check(&utterance.cold, None, &[]);
        let click = report.failed().find(|m| m.name == "click").unwrap();
        let frame = (click.at_s.unwrap() * f64::from(SAMPLE_RATE)).round() as usize / SAMPLES_PER_FRAME;
        assert!([1, 3].contains(&frame) || frame % 8 == 7, "{}: frame {frame}", utterance.name);
    }
}

#[test]
fn what_is_no_number_fails() {
    for odd in [f32::NAN, f32::INFINITY] {
        each_fails("finite", "one is no number", |u| {
            let mut samples = u.samples.clone();
            samples[5000] = odd;
            samples
        });
    }
}

// ---- the command ---------------------------------------------------------------------------------------------

fn write(path: &Path, channels: u16, sample_rate: u32, samples: &[f32]) {
    let sample_format = hound::SampleFormat::Float;
    let spec = hound::WavSpec { channels, sample_rate, bits_per_sample: 32, sample_format };
    let mut wav = hound::WavWriter::create(path, spec).unwrap();
    samples.iter().for_each(|&s| wav.write_sample(s).unwrap());
    wav.finalize().unwrap();
}

#[test]
fn the_command_judges_files() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (good, piped, broken) = (at("good.wav"), at("piped.wav"), at("broken.wav"));
    let text = "The river was quiet in the morning.";
    done(&["say", text, "-o", &good]);
    fs::write(&piped, done(&["say", text, "-o", "-"]).out).unwrap();
    let table = |ran: run::Ran| String::from_utf8(ran.out).unwrap();
    let chunks = ["--text", text, "--chunks", "1,2,4,8"];
    let found = table(done(&[&["check", &good][..], &chunks].concat()));
    assert_eq!(found.lines().count(), 10, "nine measures and a verdict\n{found}");
    assert!(found.lines().next_back().unwrap().ends_with("  passes"), "{found}");
    // A header without sizes, and two files at once; the text from a file.
    let both = table(done(&[&["check", &good, &piped][..], &chunks].concat()));
    assert_eq!(both, found.clone() + &found.replace("good.wav", "piped.wav"));
    fs::write(at("text"), format!("{text}\n")).unwrap();
    assert_eq!(table(done(&["check", &good, "--text-file", &at("text"), "--chunks", "1,2,4,8"])), found);

    // A text that takes ten times as long; and one bad file among good ones.
    let fails = |args: &[&str]| {
        let ran = run(command(args), b"");
        assert_eq!((ran.status, &*ran.err), (Some(1), ""));
        table(ran)
    };
    let found = fails(&["check", &good, "--text", &text.repeat(10)]);
    assert!(found.lines().next_back().unwrap().ends_with("  FAILS: length"), "{found}");
    let mut samples = UTTERANCES[0].samples.clone();
    samples.resize(samples.len() + 30_000, 0.0);
    write(broken.as_ref(), 1, SAMPLE_RATE, &samples);
    let found = fails(&["check", &broken, &good, "--json"]);
    let lines: Vec<serde_json::Value> = found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["file"], &lines[0]["passes"]), (&broken.into(), &false.into()));
    assert_eq!((&lines[1]["file"], &lines[1]["passes"]), (&good.into(), &true.into()));
    let of = |name: &str| lines[0]["measures"].as_array().unwrap().iter().find(|m| m["name"] == name).unwrap();
    assert_eq!((&of("dead air")["passes"], &of("dead air")["most"]), (&false.into(), &1.0.into()));
    assert!(of("dead air")["figure"].as_f64().unwrap() > 1.25);
    // f32 comes through as it is.
    let known = check(&samples, None, &[]);
    let click = known.measures.iter().find(|m| m.name == "click").unwrap();
    assert_eq!(of("click")["figure"], click.figure);
}

#[test]
fn the_command_refuses_what_it_cannot_read() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let says = |name: &str, words: &str| {
        let line = refused(&["check", path(name).to_str().unwrap()]);
        assert_eq!(line, format!("{}: {words}", path(name).display()));
    };
    write(&path("stereo.wav"), 2, SAMPLE_RATE, &[0.0; 4]);
    says("stereo.wav", "has 2 channels at 24000 Hz; expected 1 at 24000 Hz");
    write(&path("slow.wav"), 1, 16_000, &[0.0; 4]);
    says("slow.wav", "has 1 channels at 16000 Hz; expected 1 at 24000 Hz");
    let spec = hound::WavSpec {
        bits_per_sample: 24,
        channels: 1,
        sample_rate: 24_000,
        sample_format: hound::SampleFormat::Int,
    };
    hound::WavWriter::create(path("24.wav"), spec).unwrap().finalize().unwrap();
    says("24.wav", "holds 24-bit Int; expected 16-bit Int or 32-bit Float");
    fs::write(path("empty.wav"), "").unwrap();
    says("empty.wav", "not a WAV file: Failed to read enough bytes.");
    fs::write(path("text.wav"), "This is no sound, but long enough for a header of 44 bytes.").unwrap();
    says("text.wav", "not a WAV file: Ill-formed WAVE file: no RIFF tag found");
    write(&path("cut.wav"), 1, SAMPLE_RATE, &[0.0; 400]);
    let whole = fs::read(path("cut.wav")).unwrap();
    fs::write(path("cut.wav"), &whole[..whole.len() - 100]).unwrap();
    says("cut.wav", "Failed to read enough bytes.");
    assert!(refused(&["check", path("none.wav").to_str().unwrap()]).contains("none.wav: No such file"));
    // A WAV without samples can be read, and fails.
    write(&path("none.wav"), 1, SAMPLE_RATE, &[]);
    let ran = run(command(&["check", path("none.wav").to_str().unwrap()]), b"");
    assert_eq!(ran.status, Some(1), "{}", ran.err);
}
