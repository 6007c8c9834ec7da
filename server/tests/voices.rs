//! Would catch: a voice made over HTTP that is not the library's, a name that leaves the folder, a recording or a form that ends
//! or fills the server, a reference in a request that is not followed or followed too far.

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qwentts::frame::Sample;
use qwentts::{Cloning, Device, Engine, EngineOptions, ModelSource, Request, SavedVoice, audio};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use support::{Answer, Server};

const WORDS: &str = "The quick brown fox jumps over the lazy dog.";

fn fox() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/reference/fox.wav")).unwrap()
}

struct Base {
    server: Server,
    folder: tempfile::TempDir,
    model: PathBuf,
}

impl Base {
    fn start(flags: &[&str]) -> Base {
        let model = support::checkpoint("tiny-0b6-base", 1);
        let folder = tempfile::tempdir().unwrap();
        let voices = folder.path().join("voices");
        let flags = [&["--model", model.to_str().unwrap(), "--voices-dir", voices.to_str().unwrap()], flags].concat();
        Base { server: Server::start(&flags), folder, model }
    }

    fn make(&self, parts: &[(&str, &[u8])]) -> Answer {
        let mut body = Vec::new();
        for (name, bytes) in parts {
            let file = if *name == "audio_sample" { "; filename=\"../../x.wav\"" } else { "" };
            body.extend(format!("--cut\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n").bytes());
            body.extend(*bytes);
            body.extend(b"\r\n");
        }
        body.extend(b"--cut--\r\n");
        let kind = [("content-type", "multipart/form-data; boundary=cut")];
        self.server.call("POST", "/v1/audio/voices", &kind, &body)
    }

    /// What the library says with a voice that it makes itself.
    fn said(&self, text: &str, cloning: &Cloning) -> Vec<u8> {
        let options = EngineOptions { device: Some(Device::Cpu), ..Default::default() };
        let engine = Engine::open(&ModelSource::Folder(self.model.clone()), &options).unwrap();
        let samples = audio::read_bytes("fox", &fox(), 60.0).unwrap();
        let voice = SavedVoice::create(engine.listener(), &samples, cloning).unwrap();
        let mut request = Request { voice: voice.voice("fox", engine.model()).unwrap(), ..Request::default() };
        request.sampling.max_new_tokens = Some(6);
        request.sampling.draws(false);
        let mut stream = engine.speak(text, &request).unwrap();
        let samples = stream.chunks().flat_map(|chunk| chunk.unwrap().samples);
        samples.flat_map(|sample| i16::of(sample).to_le_bytes()).collect()
    }

    fn speak(&self, more: serde_json::Value) -> Answer {
        let mut body = json!({"input": "Good morning.", "response_format": "pcm", "max_new_tokens": 6, "do_sample": false,
                              "subtalker_dosample": false});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.server.speak(body)
    }
}

#[test]
fn a_voice_is_made_listed_spoken_with_and_deleted() {
    let base = Base::start(&[]);
    let made =
        base.make(&[("name", b"fox"), ("ref_text", WORDS.as_bytes()), ("consent", b"ours"), ("audio_sample", &fox())]);
    assert_eq!(made.status, 200, "{}", made.text());
    assert_eq!((&made.json()["success"], &made.json()["voice"]["name"]), (&json!(true), &json!("fox")));
    let listed = base.server.get("/v1/audio/voices").json();
    assert_eq!(listed["voices"], json!(["fox"]));
    assert_eq!(listed["uploaded_voices"][0]["ref_text"], WORDS);
    let in_context = Cloning { transcript: Some(WORDS.into()), ..Cloning::default() };
    let expected = base.said("Good morning.", &in_context);
    assert!(base.speak(json!({"voice": "fox"})).body == expected);
    // The same without a name: the recording in the request, as base64 and as a data URL.
    let bytes = STANDARD.encode(fox());
    assert!(base.speak(json!({"ref_audio": bytes, "ref_text": WORDS})).body == expected);
    let address = format!("data:audio/wav;base64,{bytes}");
    let alone = base.said("Good morning.", &Cloning::default());
    assert!(base.speak(json!({"ref_audio": address, "x_vector_only_mode": true})).body == alone);
    // And the vector itself.
    let file = SavedVoice::load(&base.folder.path().join("voices/fox.qvoice")).unwrap();
    assert!(base.speak(json!({"speaker_embedding": file.prompt.speaker_vector})).body == alone);
    base.make(&[("name", b"fox"), ("audio_sample", &fox())]).error(409);
    let deleted = base.server.call("DELETE", "/v1/audio/voices/fox", &[], b"");
    assert_eq!(deleted.status, 200);
    base.server.call("DELETE", "/v1/audio/voices/fox", &[], b"").error(404);
    assert_eq!(base.server.get("/v1/audio/voices").json()["voices"], json!([]));
    base.speak(json!({"voice": "fox"})).error(400);
}

#[test]
fn no_name_leaves_the_folder() {
    let base = Base::start(&[]);
    let outside = base.folder.path().join("outside.qvoice");
    assert_eq!(base.make(&[("name", b"inside"), ("audio_sample", &fox())]).status, 200);
    fs::copy(base.folder.path().join("voices/inside.qvoice"), &outside).unwrap();
    let names = [
        "../outside",
        "..",
        ".",
        "",
        "a/b",
        "/etc/passwd",
        "a\\b",
        "a\0b",
        "%2e%2e%2foutside",
        "ünï",
        "a.b",
        "outside.qvoice",
    ];
    for name in names {
        if !name.is_empty() {
            let (param, _) = base.speak(json!({"voice": name})).error(400);
            assert_eq!(param.as_deref(), Some("voice"), "{name:?}");
        }
        let (param, _) = base.make(&[("name", name.as_bytes()), ("audio_sample", &fox())]).error(400);
        assert_eq!(param.as_deref(), Some("name"), "{name:?}");
    }
    for path in ["../outside", "..%2foutside", "%2e%2e%2foutside", "..%5coutside", "%00", "inside%00"] {
        let deleted = base.server.call("DELETE", &format!("/v1/audio/voices/{path}"), &[], b"");
        assert!([400, 404, 405].contains(&deleted.status), "{path}: {}", deleted.status);
    }
    // A link inside is no voice.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&outside, base.folder.path().join("voices/link.qvoice")).unwrap();
        base.speak(json!({"voice": "link"})).error(400);
        assert_eq!(base.server.get("/v1/audio/voices").json()["voices"], json!(["inside"]));
    }
    assert!(outside.exists());
    assert_eq!(fs::read_dir(base.folder.path()).unwrap().count(), 2, "nothing was written outside");
}

#[test]
fn what_is_no_recording_is_refused_in_words() {
    let base = Base::start(&["--voices-most", "1"]);
    let mut cut = fox();
    cut.truncate(cut.len() / 2);
    let silent = [&fox()[..44], &vec![0; 48_000]].concat();
    let cases: [(&[u8], &str); 4] = [
        (b"", "audio_sample: is empty"),
        (b"no sound at all, but words", "audio_sample: is no"),
        (&cut, "audio_sample: is cut off after"),
        (&silent, "audio_sample: is "),
    ];
    for (bytes, words) in cases {
        let (param, message) = base.make(&[("name", b"x"), ("audio_sample", bytes)]).error(400);
        assert_eq!(param.as_deref(), Some("audio_sample"));
        assert!(message.starts_with(words), "{message}");
    }
    assert_eq!(base.make(&[("name", b"x")]).error(400).0.as_deref(), Some("audio_sample"));
    assert_eq!(base.make(&[("audio_sample", &fox())]).error(400).0.as_deref(), Some("name"));
    let klingon = base.make(&[("name", b"x"), ("language", b"klingon"), ("audio_sample", &fox())]);
    assert_eq!(klingon.error(400).0.as_deref(), Some("language"));
    base.server.call("POST", "/v1/audio/voices", &[("content-type", "application/json")], b"{}").error(400);
    let half = b"--cut\r\ncontent-disposition: form-data; name=\"name\"\r\n\r\nx";
    base.server
        .call("POST", "/v1/audio/voices", &[("content-type", "multipart/form-data; boundary=cut")], half)
        .error(400);
    assert_eq!(base.make(&[("name", b"one"), ("audio_sample", &fox())]).status, 200);
    base.make(&[("name", b"two"), ("audio_sample", &fox())]).error(409);
    base.speak(json!({})).error(400);
    base.speak(json!({"voice": "one", "instructions": "slowly"})).error(400);
    let (param, _) = base.speak(json!({"ref_audio": "http://127.0.0.1/x.wav", "x_vector_only_mode": true})).error(400);
    assert_eq!(param.as_deref(), Some("ref_audio"));
    assert_eq!(base.speak(json!({"speaker_embedding": [0.5]})).error(400).0.as_deref(), Some("speaker_embedding"));
}

/// Half an hour of silence in a hundred kilobytes.
fn bomb() -> Vec<u8> {
    let seconds = 1800u64;
    let mut flac = b"fLaC\x80\x00\x00\x22".to_vec();
    flac.extend([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0]); // blocks of 65535
    let fields: u64 = 8000 << 44 | 15 << 36 | (seconds * 8000);
    flac.extend(fields.to_be_bytes());
    flac.extend([0; 16]);
    flac.extend(vec![0; 100_000]);
    flac
}

#[test]
fn a_recording_that_would_never_end_is_refused_before_it_is_read() {
    let base = Base::start(&[]);
    let before = base.server.resident_kb();
    base.make(&[("name", b"x"), ("audio_sample", &bomb())]).error(400);
    base.speak(json!({"ref_audio": STANDARD.encode(bomb()), "x_vector_only_mode": true})).error(400);
    assert!(base.server.resident_kb() < before + 100_000);
}

#[test]
fn a_server_without_a_folder_keeps_no_voices() {
    let server = Server::start(&[]);
    let kind = [("content-type", "multipart/form-data; boundary=cut")];
    let (_, message) = server.call("POST", "/v1/audio/voices", &kind, b"--cut--\r\n").error(400);
    assert_eq!(message, "this server keeps no voices: it was started without voices_dir");
}
