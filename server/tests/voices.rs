//! Would catch: a voice made over HTTP that is not the library's, a name that leaves the folder, a recording or a form that ends
//! or fills the server, a reference in a request that is not followed or followed too far.

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qwentts::frame::Sample;
use qwentts::{Cloning, Device, Engine, EngineOptions, ModelSource, Request, SavedVoice, audio};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use support::{Answer, Coming, Server};

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
        Coming::new(self.upload(parts)).whole()
    }

    /// Sends it, and hears nothing yet.
    fn upload(&self, parts: &[(&str, &[u8])]) -> TcpStream {
        let mut body = Vec::new();
        for (name, bytes) in parts {
            let file =
                if *name == "audio_sample" { "; filename=\"../../x.wav\"\r\ncontent-type: audio/wav" } else { "" };
            body.extend(format!("--cut\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n").bytes());
            body.extend(*bytes);
            body.extend(b"\r\n");
        }
        body.extend(b"--cut--\r\n");
        let mut stream = self.server.connect();
        let kind = "content-type: multipart/form-data; boundary=cut";
        let head = format!("POST /v1/audio/voices HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{kind}\r\n");
        write!(stream, "{head}content-length: {}\r\n\r\n", body.len()).unwrap();
        let _ = stream.write_all(&body); // a server that refuses may have closed before it has read all
        stream
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
    assert_eq!(made.json()["success"], true);
    let listed = base.server.get("/v1/audio/voices").json();
    assert_eq!((&listed["voices"], &listed["uploaded_voices"]), (&json!(["fox"]), &json!([made.json()["voice"]])));
    let voice = &listed["uploaded_voices"][0];
    let said = ["name", "ref_text", "consent", "mime_type"].map(|field| voice[field].as_str().unwrap());
    assert_eq!(said, ["fox", WORDS, "ours", "audio/wav"]);
    assert!(voice["created_at"].as_u64().unwrap() > 1_700_000_000 && voice["file_size"].as_u64().unwrap() > 100);
    assert!(voice.get("speaker_description").is_none(), "what was not said is not told");
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
    assert_eq!(file.notes["consent"], "ours", "it goes where the voice goes");
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
    let wordy = base.make(&[("name", b"x"), ("consent", &[b'a'; 1025]), ("audio_sample", &fox())]);
    assert_eq!(wordy.error(400), (Some("consent".into()), "consent: has 1025 bytes; expected 1024 at most".into()));
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

/// Clients that leave while their recording is heard must not have many be heard at a time.
#[test]
fn a_voice_whose_client_left_is_made_in_its_turn() {
    let base = Base::start(&[]);
    let long = |seconds: usize| {
        let hum = |i: usize| ((i as f32 * 0.05).sin() * 9000.0) as i16;
        let samples: Vec<u8> = (0..24_000 * seconds).map(hum).flat_map(i16::to_le_bytes).collect();
        let mut file = fox()[..44].to_vec();
        file[4..8].copy_from_slice(&(36 + samples.len() as u32).to_le_bytes());
        file[40..44].copy_from_slice(&(samples.len() as u32).to_le_bytes());
        [file, samples].concat()
    };
    let leave = base.upload(&[("name", b"left"), ("ref_text", b"Hum."), ("audio_sample", &long(59))]);
    let making = || base.server.metric("qwentts_clones");
    base.server.until("being made", || making() == 1.0);
    drop(leave);
    let file = base.folder.path().join("voices/left.qvoice");
    let looked = std::cell::Cell::new(0);
    base.server.until("made", || {
        // In this order: where there is no file after the count, it was still being made.
        let count = making();
        looked.set(looked.get() + usize::from(!file.exists()));
        assert!(file.exists() || count == 1.0, "its turn was given away while it is made");
        file.exists()
    });
    assert!(looked.get() > 2, "it was made too soon to be looked at");
    base.server.until("over", || making() == 0.0);
}

#[test]
fn a_server_without_a_folder_keeps_no_voices() {
    let server = Server::start(&[]);
    let kind = [("content-type", "multipart/form-data; boundary=cut")];
    let (_, message) = server.call("POST", "/v1/audio/voices", &kind, b"--cut--\r\n").error(400);
    assert_eq!(message, "this server keeps no voices: it was started without voices_dir");
}
