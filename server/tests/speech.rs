//! Would catch: sound over HTTP that is not the engine's to the sample, in any format, transport or rate; an answer that waits
//! for the end; an error that is not OpenAI's JSON or does not name its field; a client that goes away and is spoken to.

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qwentts::audio;
use qwentts::request::Output;
use serde_json::{Value, json};
use support::{Server, engine, request, said};

const TEXT: &str = "Good morning, how are you today?";

fn samples(bytes: &[u8]) -> Vec<i16> {
    let heard = audio::read_bytes("answer", bytes, 60.0).unwrap();
    heard.iter().map(|s| (s * 32768.0).round() as i16).collect()
}

fn as_bytes(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|s| s.to_le_bytes()).collect()
}

/// A request for TEXT, with more fields.
fn body_of(format: &str, more: Value) -> Value {
    let mut body = json!({"input": TEXT, "voice": "slt", "response_format": format});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn every_format_carries_the_same_samples() {
    let server = Server::start(&[]);
    let expected = said(TEXT, &request("slt"));
    for format in ["pcm", "wav", "flac"] {
        for stream in [json!(null), json!(true), json!(false)] {
            let body = json!({"input": TEXT, "voice": "slt", "response_format": format, "stream": stream});
            let answer = server.speak(body);
            assert_eq!((answer.status, answer.headers["x-sample-rate"].as_str()), (200, "24000"));
            assert_eq!(answer.headers["content-type"], format!("audio/{format}"));
            assert_eq!(answer.headers.contains_key("content-length"), stream == false);
            let heard = if format == "pcm" { answer.body.clone() } else { as_bytes(&samples(&answer.body)) };
            assert!(heard == expected, "{format}, stream {stream}");
            if format == "wav" && stream == false {
                assert_eq!(answer.body[40..44], (expected.len() as u32).to_le_bytes());
                assert_eq!(answer.body[4..8], (expected.len() as u32 + 36).to_le_bytes());
            }
        }
    }
    // Nothing asked for: wav, the first voice.
    let answer = server.speak(json!({"input": TEXT}));
    assert_eq!(answer.headers["content-type"], "audio/wav");
    assert!(as_bytes(&samples(&answer.body)) == said(TEXT, &request("rms")));
}

/// `make opus`: what it sounds like is tested where it is made.
#[cfg(feature = "opus")]
#[test]
fn opus_is_the_whole_speech_however_it_is_sent() {
    let server = Server::start(&[]);
    let body = |more| body_of("opus", more);
    let streamed = server.speak(body(json!({})));
    assert_eq!((streamed.status, streamed.headers["content-type"].as_str()), (200, "audio/ogg"));
    assert!(streamed.pieces.len() > 2);
    let last_position = |file: &[u8]| {
        let mut packets = ogg::PacketReader::new(std::io::Cursor::new(file));
        std::iter::from_fn(|| packets.read_packet().unwrap()).last().unwrap().absgp_page()
    };
    let head = streamed.body.windows(8).position(|at| at == b"OpusHead").unwrap();
    let skip = u16::from_le_bytes([streamed.body[head + 10], streamed.body[head + 11]]);
    let samples = said(TEXT, &request("slt")).len() as u64 / 2;
    assert_eq!(last_position(&streamed.body), u64::from(skip) + 2 * samples);
    let whole = server.speak(body(json!({"stream": false})));
    assert_eq!(last_position(&whole.body), last_position(&streamed.body));
    let events = server.speak(body(json!({"stream_format": "sse"}))).text();
    let audio = events.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let audio = audio.filter_map(|event| Some(STANDARD.decode(event["audio"].as_str()?).unwrap()));
    assert!(audio.collect::<Vec<_>>().concat() == streamed.body);
    let (param, message) = server.speak(body(json!({"sample_rate": 44_100}))).error(400);
    assert_eq!(param.as_deref(), Some("sample_rate"));
    assert_eq!(message, "sample_rate: is 44100, which opus has not; expected one of 8000, 16000, 24000, 48000");
}

#[test]
fn sound_comes_as_it_is_made() {
    let server = Server::start(&[]);
    let long = "This is a sentence that goes on. ".repeat(12);
    let mut coming = server.ask(json!({"input": long, "response_format": "pcm", "non_streaming_mode": false}));
    let first = coming.next_piece().unwrap().unwrap();
    assert_eq!(first.len(), 2 * 1920, "a frame of 80 ms comes alone");
    assert_eq!(server.speaking(), 1.0, "it still speaks when the first sound is here");
    // Another first chunk where it is asked for.
    let mut coming = server.ask(
        json!({"input": long, "response_format": "pcm", "non_streaming_mode": false, "initial_codec_chunk_frames": 4}),
    );
    assert_eq!(coming.next_piece().unwrap().unwrap().len(), 4 * 2 * 1920);
}

#[test]
fn events_carry_sound_words_and_usage() {
    let server = Server::start(&[]);
    let expected = said(TEXT, &request("slt"));
    for format in ["pcm", "wav", "flac"] {
        let body = json!({"input": TEXT, "voice": "slt", "response_format": format, "stream_format": "sse",
                          "word_timestamps": true});
        let answer = server.speak(body);
        assert_eq!(answer.headers["content-type"], "text/event-stream");
        let text = answer.text();
        let mut events: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(events.pop(), Some("[DONE]"));
        let events: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).cloned().collect::<Vec<_>>();
        let bytes: Vec<u8> = of("speech.audio.delta")
            .iter()
            .flat_map(|event| STANDARD.decode(event["audio"].as_str().unwrap()).unwrap())
            .collect();
        let heard = if format == "pcm" { bytes } else { as_bytes(&samples(&bytes)) };
        assert!(heard == expected, "{format}");
        assert!(of("speech.audio.delta").len() > 2);
        let words: Vec<String> =
            of("speech.audio.word").iter().map(|event| event["word"].as_str().unwrap().to_owned()).collect();
        assert_eq!(words, ["Good", "morning", "how", "are", "you", "today"]);
        let done = events.last().unwrap();
        let frames = expected.len() / (2 * 1920);
        assert_eq!((&done["type"], &done["end"]), (&json!("speech.audio.done"), &json!("eos")));
        assert_eq!(done["usage"]["output_tokens"], frames);
        let input = done["usage"]["input_tokens"].as_u64().unwrap();
        assert_eq!(done["usage"]["total_tokens"], input + frames as u64);
        assert_eq!(done["usage"]["input_token_details"], json!({"text_tokens": input, "audio_tokens": 0}));
    }
}

#[test]
fn codes_are_the_engines() {
    let server = Server::start(&[]);
    let mut request = request("rms");
    request.delivery.output = Output::Frames;
    let mut stream = engine().speak(TEXT, &request).unwrap();
    let mut expected = Vec::new();
    let mut frames = [[0; 16]; 8];
    while let qwentts::engine::Read::Got(n) = stream.read_frames(&mut frames, qwentts::engine::Wait::Forever).unwrap() {
        expected.extend(frames[..n].iter().copied());
    }
    for stream in [json!(null), json!(false)] {
        let answer = server.speak(json!({"input": TEXT, "voice": "rms", "response_format": "codes", "stream": stream}));
        assert_eq!(answer.headers["content-type"], "application/x-ndjson");
        let mut lines: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.pop().unwrap(), json!({"end": "eos", "frames": expected.len()}));
        let all: Vec<Value> =
            expected.iter().enumerate().map(|(i, codes)| json!({"frame": i, "codes": codes})).collect();
        assert_eq!(lines, all);
    }
}

#[test]
fn rates_seeds_and_sampling_reach_the_engine() {
    let server = Server::start(&[]);
    let speak = |more| server.speak(body_of("pcm", more));
    let mut slow = request("slt");
    slow.delivery.sample_rate_hz = 8000;
    let answer = speak(json!({"sample_rate": 8000}));
    assert_eq!(answer.headers["x-sample-rate"], "8000");
    assert!(answer.body == said(TEXT, &slow));

    let mut drawn = request("slt");
    drawn.sampling.draws(true);
    drawn.sampling.temperature = Some(0.7);
    drawn.randomness = qwentts::Randomness::Seed(7);
    let sampling = json!({"do_sample": true, "subtalker_dosample": true, "temperature": 0.7, "seed": 7});
    let answer = speak(sampling);
    assert_eq!(answer.headers["x-seed"], "7");
    assert!(answer.body == said(TEXT, &drawn));

    // A seed that nobody gave is said, and repeats the speech.
    let hot = json!({"do_sample": true, "subtalker_dosample": true, "temperature": 2.0, "subtalker_temperature": 2.0});
    let seeded = |seed: u64| {
        let mut hot = hot.clone();
        hot["seed"] = json!(seed);
        speak(hot)
    };
    let answer = speak(hot.clone());
    let seed: u64 = answer.headers["x-seed"].parse().unwrap();
    assert!(answer.body == seeded(seed).body);
    assert!(answer.body != seeded(seed ^ 1).body);

    let mut live = request("slt");
    live.layout = Some(qwentts::request::Layout::Streaming);
    assert!(speak(json!({"non_streaming_mode": false})).body == said(TEXT, &live));
    let mut short = request("slt");
    short.sampling.max_new_tokens = Some(5);
    assert!(speak(json!({"max_new_tokens": 5})).body == said(TEXT, &short));
}

#[test]
fn voices_are_known_by_openais_names_and_the_tables() {
    let table = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&table, "[voice_aliases]\nalloy = \"slt\"\nNarrator = \"rms\"\n").unwrap();
    let server = Server::start(&["-c", table.path().to_str().unwrap()]);
    let (slt, rms) = (said(TEXT, &request("slt")), said(TEXT, &request("rms")));
    let cases = [("SLT", &slt), ("alloy", &slt), ("Alloy", &slt), ("narrator", &rms), ("nova", &rms), ("onyx", &slt)];
    for (voice, expected) in cases {
        let answer = server.speak(json!({"input": TEXT, "voice": voice, "response_format": "pcm", "model": "tts-1"}));
        assert!(&answer.body == expected, "{voice}");
    }
    let answer =
        server.speak(json!({"input": TEXT, "voice": {"id": "slt"}, "response_format": "pcm", "model": "demo"}));
    assert!(answer.body == slt);
    let list = server.get("/v1/audio/voices").json();
    assert_eq!((&list["voices"], &list["uploaded_voices"]), (&json!(["rms", "slt"]), &json!([])));
    assert_eq!((&list["aliases"]["alloy"], &list["aliases"]["nova"]), (&json!("slt"), &json!("rms")));
    let models = server.get("/v1/models").json();
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("demo")));
}

#[test]
fn an_error_is_openais_and_names_the_field() {
    let server = Server::start(&["--text-bytes", "100", "--body-bytes", "2000"]);
    let cases = [
        (json!({}), 400, Some("input"), "input: is missing; expected the text to speak"),
        (json!({"input": " "}), 400, Some("input"), "input: is empty; there is nothing to say"),
        (json!({"input": "a".repeat(101)}), 400, Some("input"), "input: has 101 bytes; this server takes 100 at most"),
        (
            json!({"input": "a", "voice": "vivian"}),
            400,
            Some("voice"),
            "voice: is \"vivian\"; known are rms, slt, alloy",
        ),
        (json!({"input": "a", "model": "x"}), 404, Some("model"), "model: is \"x\"; this server has demo"),
        (
            json!({"input": "a", "response_format": "mp3"}),
            400,
            Some("response_format"),
            "response_format: is \"mp3\"; supported are wav, pcm, flac",
        ),
        (json!({"input": "a", "language": "klingon"}), 400, Some("language"), "language: \"klingon\" is unknown"),
        (json!({"input": "a", "sample_rate": 23}), 400, Some("sample_rate"), "sample_rate: is 23; expected one of"),
        (
            json!({"input": "a", "instructions": "slowly"}),
            400,
            Some("instructions"),
            "instructions: this model takes none",
        ),
        (
            json!({"input": "a", "task_type": "Base"}),
            400,
            Some("task_type"),
            "task_type: is \"Base\"; model \"demo\" does CustomVoice alone",
        ),
        (
            json!({"input": "a", "speaker_embedding": [1.0]}),
            400,
            Some("voice"),
            "voice: only a Base model speaks in a cloned voice",
        ),
        (json!({"input": "a", "unknown": "field", "top_p": 2}), 400, Some("top_p"), "top_p: is 2; expected 0 to 1"),
        (json!(["input"]), 400, None, "the body is no JSON object"),
        (json!({"input": "a".repeat(3000)}), 413, None, ""),
    ];
    for (body, status, param, words) in cases {
        let (found, message) = server.speak(body.clone()).error(status);
        assert_eq!(found.as_deref(), param, "{body}: {message}");
        assert!(message.starts_with(words), "{body}: {message}");
    }
    let json = [("content-type", "application/json")];
    let bad = server.call("POST", "/v1/audio/speech", &json, b"{\"input\": ");
    assert!(bad.error(400).1.starts_with("the body is no JSON: "));
    server.call("POST", "/v1/audio/speech", &[("content-type", "text/plain")], b"{}").error(415);
    server.call("POST", "/v1/audio/speech", &[], b"").error(415);
    server.get("/v1/audio/speech").error(405);
    server.get("/v1/nowhere").error(404);
    server.call("DELETE", "/v1/audio/voices/x", &[], b"").error(400);
    assert_eq!(server.get("/v1/audio/speech/stream").error(400).0, None);
}

#[test]
fn a_client_that_goes_away_frees_its_slot() {
    let server = Server::start(&["--slots", "1", "--queue", "1"]);
    let long = json!({"input": "This is a sentence that goes on. ".repeat(40), "response_format": "pcm", "non_streaming_mode": false});
    for heard in [0, 1, 3] {
        let mut coming = server.ask(long.clone());
        (0..heard).for_each(|_| drop(coming.next_piece().unwrap().unwrap()));
        assert_eq!(server.speaking(), 1.0);
        drop(coming);
        server.until("free", || server.speaking() == 0.0);
    }
    // Also one that waits in the queue, and has heard nothing.
    let mut speaks = server.ask(long.clone());
    speaks.next_piece().unwrap().unwrap();
    let waiting = server.connect();
    let body = long.to_string();
    let head = format!(
        "POST /v1/audio/speech HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    std::io::Write::write_all(&mut &waiting, head.as_bytes()).unwrap();
    let live = "qwentts_streams_live{model=\"demo\"}";
    server.until("waiting", || server.metric(live) == 2.0);
    drop(waiting);
    server.until("one again", || server.metric(live) == 1.0);
    drop(speaks);
    server.until("free", || server.metric(live) == 0.0);
    server.until("counted", || server.metric("qwentts_cancels_total{model=\"demo\"}") == 5.0);
    assert_eq!(server.speak(json!({"input": TEXT, "response_format": "pcm"})).body, said(TEXT, &request("rms")));
}
