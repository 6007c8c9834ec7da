//! Files of sound and voice files: they are refused by name, or give finite samples no longer than was asked, or a voice that
//! a file brings back as it was.
#![no_main]

use libfuzzer_sys::arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use qwentts::audio;
use qwentts::request::{ReferenceSpeech, VoicePrompt};
use qwentts::voice::SavedVoice;
use qwentts_fuzz::edit::Splice;
use std::sync::LazyLock;

/// Of sound, in seconds; the clips have .64.
const LONGEST_S: f64 = 1.0;

static SOUNDS: [&[u8]; 4] = [
    include_bytes!("../../tests/golden/audio/short.wav"),
    include_bytes!("../../tests/golden/audio/short.flac"),
    include_bytes!("../../tests/golden/audio/short.mp3"),
    include_bytes!("../../tests/golden/audio/short.ogg"),
];

static VOICES: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let reference = ReferenceSpeech { frames: vec![[3; 16]; 5], transcript: "Good morning.".into() };
    [None, Some(reference)].map(|reference| {
        let voice = SavedVoice {
            transcript_ids: if reference.is_some() { vec![1, 2, 3] } else { Vec::new() },
            prompt: VoicePrompt { speaker_vector: vec![0.5; 9], reference },
            language: Some("english".into()),
            model: "0123456789abcdef".repeat(4),
            notes: [("consent".into(), "ours".into())].into(),
        };
        voice.to_bytes().unwrap()
    })
});

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    base: u8,
    /// How much of the file is there, of 256 parts; 0: all.
    cut: u8,
    splices: Vec<Splice<'a>>,
}

fuzz_target!(|input: Input| {
    let bases = SOUNDS.len() + VOICES.len();
    let base = usize::from(input.base) % bases;
    let whole = SOUNDS.get(base).map_or_else(|| VOICES[base - SOUNDS.len()].clone(), |sound| sound.to_vec());
    let mut bytes = whole.clone();
    input.splices.iter().take(8).for_each(|splice| splice.apply(&mut bytes));
    if input.cut > 0 {
        bytes.truncate(bytes.len() * usize::from(input.cut) / 256);
    }
    let named = |error: qwentts::Error| {
        let text = error.to_string();
        assert!(text.strip_prefix("f: ").is_some_and(|what| !what.is_empty()), "{text:?} does not name the file");
    };
    match audio::read_bytes("f", &bytes, LONGEST_S) {
        Ok(samples) => {
            assert!(samples.len() <= (24_000.0 * LONGEST_S) as usize + 1 && samples.iter().all(|s| s.is_finite()));
        }
        Err(error) => named(error),
    }
    match SavedVoice::from_bytes("f", &bytes) {
        Ok(voice) => assert_eq!(SavedVoice::from_bytes("f", &voice.to_bytes().unwrap()).unwrap(), voice),
        Err(error) => named(error),
    }
    if bytes == whole {
        assert!(audio::read_bytes("f", &bytes, LONGEST_S).is_ok() == (base < SOUNDS.len()));
        assert!(SavedVoice::from_bytes("f", &bytes).is_ok() == (base >= SOUNDS.len()));
    }
});
