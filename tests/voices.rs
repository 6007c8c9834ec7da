//! Would catch: any departure from what the official package makes of a recording (spectrogram, speaker vector, codes),
//! memory or threads that change it, and a recording that is taken where it cannot be used.

mod support;

use qwentts::cpu::{Reference, log_mel, mel_frames};
use qwentts::frame::{Frame, GROUPS, SAMPLES_PER_FRAME};
use qwentts::model::Model;
use qwentts::source::ModelSource;
use serde::Deserialize;
use std::fs;

/// Logarithms of magnitudes: ours in f64 against the official f32.
const MEL_ERROR: f32 = 5e-5;
/// Relative to the vector's largest number.
const VECTOR_ERROR: f32 = 1e-5;
/// Of the vector's own length, how far a latent may be from having another nearest row, and still be called a near-tie.
const NEAR_TIE: f32 = 1e-5;

/// An entry of voices.json: tests/golden/README.md says what each is.
#[derive(Deserialize)]
struct Recorded {
    checkpoint: String,
    seed: u64,
    audio: String,
    codes: Vec<Frame>,
    margins: Vec<[f32; GROUPS]>,
    speaker_vector: Vec<f32>,
}

fn recorded() -> Vec<Recorded> {
    serde_json::from_slice(&fs::read(support::goldens().join("voices.json")).unwrap()).unwrap()
}

fn reference(checkpoint: &str, seed: u64, threads: usize) -> Reference {
    let folder = support::checkpoint(checkpoint, seed);
    Reference::new(Model::open(&ModelSource::Folder(folder)).unwrap(), Some(threads)).unwrap()
}

/// A clip's samples as the official package reads them.
fn clip(name: &str) -> Vec<f32> {
    let mut wav = hound::WavReader::open(support::goldens().join("audio").join(name)).unwrap();
    assert_eq!((wav.spec().channels, wav.spec().sample_rate), (1, 24_000));
    wav.samples::<i16>().map(|s| f32::from(s.unwrap()) / 32768.0).collect()
}

fn largest(numbers: impl Iterator<Item = f32>) -> f32 {
    numbers.fold(0.0, |most, x| if x.abs() <= most { most } else { x.abs() }) // NaN comes through
}

#[test]
fn spectrograms_are_the_official_ones() {
    let mut worst = 0.0f32;
    for name in ["short", "middle", "long"] {
        let file = fs::read(support::goldens().join(format!("audio/{name}.mel.npy"))).unwrap();
        let official: Vec<f32> = npyz::NpyFile::new(&file[..]).unwrap().into_vec().unwrap();
        let samples = clip(&format!("{name}.wav"));
        let ours = log_mel(&samples);
        assert_eq!((ours.len(), mel_frames(samples.len()) * 128), (official.len(), official.len()));
        worst = worst.max(largest(ours.iter().zip(&official).map(|(a, b)| a - b)));
    }
    println!("largest error of a logarithm: {worst:e}");
    assert!(worst <= MEL_ERROR, "{worst:e}");
}

#[test]
fn vectors_and_codes_are_the_official_ones() {
    let (mut worst, mut codes, mut forgiven) = (0.0f32, 0, 0);
    let recorded = recorded();
    for voice in &recorded {
        let what = format!("{} {}", voice.checkpoint, voice.audio);
        let reference = reference(&voice.checkpoint, voice.seed, 2);
        let samples = clip(&voice.audio);

        let vector = reference.speaker_vector(&samples).unwrap();
        assert_eq!(vector.len(), voice.speaker_vector.len());
        let apart = largest(vector.iter().zip(&voice.speaker_vector).map(|(a, b)| a - b));
        let error = apart / largest(voice.speaker_vector.iter().copied());
        assert!(error <= VECTOR_ERROR, "{what}: the speaker vector is {error:e} off");
        worst = worst.max(error);

        let frames = reference.encode(&samples).unwrap();
        assert_eq!(frames.len(), samples.len().div_ceil(SAMPLES_PER_FRAME), "{what}");
        for (f, (ours, official)) in frames.iter().zip(&voice.codes).enumerate() {
            codes += GROUPS;
            // Behind a code that differs the others of its frame stand on another residual.
            if let Some(group) = (0..GROUPS).find(|&g| ours[g] != official[g]) {
                let margin = voice.margins[f][group];
                assert!(
                    margin < NEAR_TIE,
                    "{what}: frame {f} group {group}: {ours:?}, expected {official:?}, {margin:e}"
                );
                forgiven += 1;
            }
        }
    }
    println!("{codes} codes, {forgiven} near-ties forgiven; largest error of a vector {worst:e}");
    assert!(recorded.len() >= 6 && codes > 1500 && forgiven * 200 <= codes);
}

#[test]
fn neither_threads_nor_a_longer_recording_change_what_was_heard() {
    let samples = clip("long.wav");
    let of = |threads: usize, samples: &[f32]| {
        let reference = reference("tiny-0b6-base", 1, threads);
        (reference.encode(samples).unwrap(), reference.speaker_vector(samples).unwrap())
    };
    let one = of(1, &samples);
    assert_eq!(of(3, &samples), one);
    // Causal but for the last halving, which meets a quarter of a second: frames that lie before see no later sound.
    let (frames, _) = of(1, &samples[..25 * SAMPLES_PER_FRAME]);
    assert_eq!(frames[..24], one.0[..24]);
}

#[test]
fn recordings_that_cannot_be_used() {
    let base = reference("tiny-0b6-base", 1, 1);
    let fewest = base.fewest_samples().unwrap();
    assert_eq!(fewest, 5 * 256); // the third block's taps reach four windows
    let says =
        |result: Result<Vec<f32>, qwentts::Error>, words: &str| assert_eq!(result.unwrap_err().to_string(), words);
    says(base.speaker_vector(&vec![0.1; fewest - 1]), "ref_audio: has 1279 samples; expected 1280 at least");
    assert_eq!(base.speaker_vector(&vec![0.1; fewest]).unwrap().len(), 48);
    assert_eq!(base.encode(&[]).unwrap_err().to_string(), "ref_audio: has 0 samples; expected 1 at least");
    assert_eq!(base.encode(&[0.1]).unwrap().len(), 1);
    let mut samples = vec![0.1; 4000];
    samples[77] = f32::NAN;
    says(base.speaker_vector(&samples), "ref_audio: sample 77 is NaN; expected finite ones");
    samples[77] = f32::INFINITY;
    assert_eq!(base.encode(&samples).unwrap_err().to_string(), "ref_audio: sample 77 is inf; expected finite ones");

    let custom = reference("tiny-0b6-custom", 1, 1);
    let words = "holds no speaker encoder (tensors speaker_encoder.*), which a Base model has";
    let file = custom.model.source.describe("model.safetensors");
    says(custom.speaker_vector(&vec![0.1; 9000]), &format!("{file}: {words}"));
}
