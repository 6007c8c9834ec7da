//! Would catch: live text whose sound is not that of the same text at once, an utterance lost or mixed with the next, words
//! without marks, a cancel that is not one, a message that hangs or ends the server.

mod support;

use qwentts::Request;
use qwentts::request::Layout;
use serde_json::{Value, json};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::{Server, request, said};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

struct Live(WebSocket<TcpStream>);

/// What came of one utterance.
#[derive(Default, Debug)]
struct Heard {
    sound: Vec<u8>,
    pieces: usize,
    words: Vec<(String, u64)>,
    messages: Vec<Value>,
}

impl Heard {
    fn of(&self, kind: &str) -> &Value {
        self.messages.iter().find(|m| m["type"] == kind).unwrap_or_else(|| panic!("no {kind}: {:?}", self.messages))
    }
}

impl Live {
    fn new(server: &Server) -> Live {
        Live::with(server, &[]).unwrap()
    }

    fn with(server: &Server, headers: &[(&'static str, &str)]) -> Result<Live, u16> {
        let mut request = format!("ws://{}/v1/audio/speech/stream", server.address).into_client_request().unwrap();
        headers.iter().for_each(|(name, value)| drop(request.headers_mut().insert(*name, value.parse().unwrap())));
        match tungstenite::client(request, server.connect()) {
            Ok((socket, _)) => Ok(Live(socket)),
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                Err(answer.status().as_u16())
            }
            Err(e) => panic!("{e}"),
        }
    }

    fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).unwrap();
    }

    fn text(&mut self, text: &str) {
        self.send(json!({"type": "input.text", "text": text}));
    }

    fn next(&mut self) -> Message {
        self.0.read().unwrap()
    }

    fn next_json(&mut self) -> Value {
        match self.next() {
            Message::Text(text) => serde_json::from_str(text.as_str()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// All messages of the next utterance.
    fn hear(&mut self) -> Heard {
        let mut heard = Heard::default();
        loop {
            match self.next() {
                Message::Binary(bytes) => {
                    heard.sound.extend(&bytes[..]);
                    heard.pieces += 1;
                }
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(text.as_str()).unwrap();
                    if message["type"] == "audio.word" {
                        let word = message["word"].as_str().unwrap().to_owned();
                        heard.words.push((word, message["sample"].as_u64().unwrap()));
                    }
                    let over = message["type"] == "session.done";
                    heard.messages.push(message);
                    if over {
                        return heard;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn streaming(voice: &str) -> Request {
    Request { layout: Some(Layout::Streaming), ..request(voice) }
}

fn flac_as_pcm(bytes: &[u8]) -> Vec<u8> {
    let samples = qwentts::audio::read_bytes("flac", bytes, 60.0).unwrap();
    samples.iter().flat_map(|s| ((s * 32768.0).round() as i16).to_le_bytes()).collect()
}

const TEXT: &str = "The quick brown fox jumps over the lazy dog.";

#[test]
fn text_that_comes_bit_by_bit_is_spoken_as_it_comes() {
    let server = Server::start(&[]);
    let mut live = Live::new(&server);
    live.send(json!({"type": "session.config", "voice": "slt"}));
    live.text("The quick brown ");
    live.text("fox ");
    // Heard before the text has ended.
    let start = live.next_json();
    assert_eq!(
        (&start["type"], &start["format"], &start["sample_rate"]),
        (&json!("audio.start"), &json!("pcm"), &json!(24000))
    );
    let Message::Binary(first) = live.next() else { panic!("no sound") };
    assert_eq!(first.len(), 2 * 1920);
    for token in ["jumps", " over", " the", " la", "zy", " dog."] {
        live.text(token);
    }
    live.send(json!({"type": "input.done"}));
    let mut heard = live.hear();
    heard.sound.splice(0..0, first.iter().copied());
    assert!(heard.sound == said(TEXT, &streaming("slt")), "live text speaks as the same text at once");
    let words: Vec<&str> = heard.words.iter().map(|(word, _)| word.as_str()).collect();
    assert_eq!(words, ["The", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]);
    assert!(heard.words.is_sorted_by_key(|(_, sample)| *sample));
    assert!(heard.words.last().unwrap().1 < heard.sound.len() as u64 / 2);
    let done = heard.of("audio.done");
    assert_eq!((&done["total_bytes"], &done["error"]), (&json!(heard.sound.len()), &json!(false)));
    let done = heard.of("session.done");
    assert_eq!(
        (&done["end"], &done["total_sentences"], &done["utterance_index"]),
        (&json!("eos"), &json!(1), &json!(0))
    );
}

#[test]
fn utterances_follow_each_other_unmixed() {
    let server = Server::start(&[]);
    let mut live = Live::new(&server);
    // The second is given its text while the first still has none of its end; a third has no words.
    live.send(json!({"type": "input.text", "context_id": "a", "text": "This is the first "}));
    live.send(json!({"type": "input.text", "context_id": "b", "text": "And this the second."}));
    live.send(json!({"type": "input.done", "context_id": "b"}));
    live.send(json!({"type": "input.text", "context_id": "a", "text": "of them."}));
    live.send(json!({"type": "input.done", "context_id": "a"}));
    live.send(json!({"type": "input.text", "context_id": "c", "text": " "}));
    live.send(json!({"type": "input.done", "context_id": "c"}));
    for (index, (context, text)) in
        [("a", "This is the first of them."), ("b", "And this the second.")].iter().enumerate()
    {
        let heard = live.hear();
        assert!(
            heard.messages.iter().all(|m| m["context_id"] == *context && m["utterance_index"] == index),
            "{heard:?}"
        );
        assert!(heard.sound == said(text, &streaming("rms")), "{text}");
    }
    let heard = live.hear();
    assert_eq!((heard.sound.len(), &heard.of("session.done")["total_sentences"]), (0, &json!(0)));
    // Another configuration, another format, the same socket.
    live.send(json!({"type": "session.config", "voice": "slt", "response_format": "flac"}));
    live.text(TEXT);
    live.send(json!({"type": "input.done"}));
    let heard = live.hear();
    assert!(flac_as_pcm(&heard.sound) == said(TEXT, &streaming("slt")));
    assert_eq!(heard.of("session.done")["utterance_index"], 3);
    // Nothing said, nothing spoken.
    live.send(json!({"type": "input.done"}));
    assert_eq!(live.hear().of("session.done")["total_sentences"], 0);
    // What was said before the close is still heard.
    live.text("Good night.");
    live.send(json!({"type": "session.close"}));
    assert!(flac_as_pcm(&live.hear().sound) == said("Good night.", &streaming("slt")), "sound before the close");
    assert!(matches!(live.next(), Message::Close(_)));
}

#[test]
fn a_cancel_ends_an_utterance_and_not_the_session() {
    let server = Server::start(&["--slots", "1"]);
    let mut live = Live::new(&server);
    live.text(&"This is a sentence that goes on. ".repeat(40));
    while !matches!(live.next(), Message::Binary(_)) {}
    let asked = Instant::now();
    live.send(json!({"type": "input.cancel"}));
    let heard = live.hear();
    assert_eq!(heard.of("session.done")["end"], "cancelled");
    assert!(asked.elapsed() < Duration::from_secs(5));
    server.until("free", || server.speaking() == 0.0);
    live.text(TEXT);
    live.send(json!({"type": "input.done"}));
    assert!(live.hear().sound == said(TEXT, &streaming("rms")));
    // Of two, one by its name.
    live.send(json!({"type": "input.text", "context_id": "a", "text": "This is the first "}));
    live.send(json!({"type": "input.text", "context_id": "b", "text": "And this the second."}));
    live.send(json!({"type": "input.done", "context_id": "b"}));
    live.send(json!({"type": "input.cancel", "context_id": "a"}));
    assert_eq!(live.hear().of("session.done")["end"], "cancelled");
    assert!(live.hear().sound == said("And this the second.", &streaming("rms")));
}

#[test]
fn a_client_that_goes_away_frees_its_slots() {
    let server = Server::start(&["--slots", "2"]);
    for open_text in [true, false] {
        let mut live = Live::new(&server);
        live.text(&"This is a sentence that goes on. ".repeat(40));
        if !open_text {
            live.send(json!({"type": "input.done"}));
        }
        while !matches!(live.next(), Message::Binary(_)) {}
        drop(live);
        server.until("free", || server.metric("qwentts_streams_live{model=\"demo\"}") == 0.0);
    }
}

#[test]
fn what_cannot_be_done_is_said_and_the_session_goes_on() {
    let server = Server::start(&["--text-bytes", "60"]);
    let mut live = Live::new(&server);
    let cases = [
        (json!({"type": "session.config", "voice": "x"}), "voice: is \"x\"; known are rms, slt"),
        (json!({"type": "session.config", "speed": 2}), "speed: is 2; "),
        (
            json!({"type": "session.config", "response_format": "codes"}),
            "response_format: is \"codes\"; this path sends",
        ),
        (json!({"type": "input.text"}), "text: is missing or no string"),
        (json!({"type": "input.text", "text": 3}), "text: is missing or no string"),
        (json!({"type": "input.text", "text": "a", "context_id": 3}), "context_id: expected a string"),
        (json!({"type": "input.flush", "context_id": "x"}), "context_id: names no open text"),
        (json!({"type": "other"}), "type: is \"other\"; expected one of session.config, "),
        (json!([]), "the message is no JSON object"),
    ];
    for (message, words) in cases {
        live.send(message.clone());
        let answer = live.next_json();
        assert_eq!(answer["type"], "error");
        assert!(answer["message"].as_str().unwrap().starts_with(words), "{message}: {answer}");
        assert!(answer["error"]["code"].is_string());
    }
    live.send(json!({"type": "session.config", "speaker_embedding": vec![1; 200_000]}));
    let many = "the message has more than 262144 bytes outside of its strings";
    assert_eq!(live.next_json()["message"], many);
    live.0.send(Message::text("{")).unwrap();
    assert!(live.next_json()["message"].as_str().unwrap().starts_with("the message is no JSON"));
    live.0.send(Message::binary(vec![1, 2, 3])).unwrap();
    assert!(live.next_json()["message"].as_str().unwrap().starts_with("a binary message"));
    live.text("Good morning.");
    live.send(json!({"type": "session.config"}));
    live.text(&"a".repeat(60));
    live.send(json!({"type": "input.done"}));
    let heard = live.hear();
    let errors: Vec<&str> =
        heard.messages.iter().filter(|m| m["type"] == "error").map(|m| m["message"].as_str().unwrap()).collect();
    assert!(errors[0].starts_with("session.config: comes while the text"), "{errors:?}");
    assert!(errors[1].starts_with("text: is longer than the 60 bytes"), "{errors:?}");
    assert!(heard.sound == said("Good morning.", &streaming("rms")));
}

#[test]
fn a_session_may_have_eight_utterances_open() {
    let server = Server::start(&[]);
    let mut live = Live::new(&server);
    for i in 0..9 {
        live.send(json!({"type": "input.text", "context_id": i.to_string(), "text": "Hello "}));
    }
    loop {
        match live.next() {
            Message::Text(text) if text.contains("\"error\"") && text.contains("8 utterances") => break,
            Message::Close(_) => panic!("closed"),
            _ => {}
        }
    }
}

#[test]
fn silence_for_too_long_ends_the_session_and_frees_its_slot() {
    let server = Server::start(&["--idle-s", "1"]);
    let mut live = Live::new(&server);
    live.text("This has no end "); // and holds a slot
    let heard = live.hear();
    assert_eq!(heard.of("session.done")["end"], "cancelled");
    let Message::Close(Some(frame)) = live.next() else { panic!("not closed") };
    assert_eq!(frame.reason.as_str(), "nothing was said for too long");
    server.until("free", || server.speaking() == 0.0);
}

#[test]
fn a_ping_keeps_a_session_and_no_slot() {
    let server = Server::start(&["--idle-s", "1"]);
    let mut live = Live::new(&server);
    live.0.get_ref().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let ping = |live: &mut Live| {
        let _ = live.0.send(Message::Ping(Vec::new().into()));
        live.0.read()
    };
    // As most clients do by themselves.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        if let Ok(Message::Close(frame)) = ping(&mut live) {
            panic!("closed: {frame:?}");
        }
    }
    live.text("This has no end "); // and holds a slot
    let began = Instant::now();
    while !matches!(ping(&mut live), Ok(Message::Close(_))) {
        assert!(began.elapsed() < support::PATIENCE, "the slot is held");
    }
    server.until("free", || server.speaking() == 0.0);
}

#[test]
fn who_waits_for_a_slot_is_not_idle() {
    let server = Server::start(&["--slots", "1", "--queue", "1", "--idle-s", "1"]);
    let mut first = server
        .ask(json!({"input": "This is a sentence that goes on. ".repeat(300), "non_streaming_mode": false,
                                      "response_format": "codes"}));
    first.next_piece().unwrap().unwrap();
    let mut live = Live::new(&server);
    live.text("Good morning.");
    live.send(json!({"type": "input.done"}));
    // Longer than anybody may be idle.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        first.next_piece().unwrap().unwrap();
    }
    assert_eq!(server.metric("qwentts_queue{model=\"demo\"}"), 1.0);
    drop(first);
    assert!(live.hear().sound == said("Good morning.", &streaming("rms")));
}

/// The rest of a text whose beginning found no slot would be another text.
#[test]
fn a_text_whose_beginning_is_refused_is_not_spoken_from_its_middle() {
    let server = Server::start(&["--slots", "1", "--queue", "0"]);
    let mut holds = Live::new(&server);
    holds.text("This goes on ");
    server.until("held", || server.metric("qwentts_streams_live{model=\"demo\"}") == 1.0);
    let mut live = Live::new(&server);
    live.text("Do not ");
    let refused = live.next_json();
    assert_eq!((&refused["type"], &refused["error"]["code"]), (&json!("error"), &json!("rate_limit_exceeded")));
    drop(holds);
    server.until("free", || server.metric("qwentts_streams_live{model=\"demo\"}") == 0.0);
    live.text("open the door.");
    live.send(json!({"type": "input.flush"}));
    live.send(json!({"type": "input.done"}));
    let heard = live.hear();
    assert_eq!((heard.sound.len(), heard.messages.len()), (0, 1), "{heard:?}");
    assert_eq!(heard.of("session.done")["end"], "failed");
    live.text("Good morning.");
    live.send(json!({"type": "input.done"}));
    assert!(live.hear().sound == said("Good morning.", &streaming("rms")));
}

#[test]
fn pages_of_others_and_strangers_are_kept_out() {
    let server = Server::start_with(&[], &[("QWENTTS_API_KEYS", "sesame")]);
    server.until("ready", || server.get("/ready").status == 200);
    let refused = |headers: &[(&'static str, &str)]| Live::with(&server, headers).err();
    assert_eq!(refused(&[]), Some(401));
    assert_eq!(refused(&[("authorization", "Bearer wrong")]), Some(401));
    assert_eq!(refused(&[("authorization", "Bearer sesame"), ("origin", "https://evil.example")]), Some(403));
    assert_eq!(refused(&[("authorization", "Bearer sesame")]), None);
    // As a browser says it.
    let mut live =
        Live::with(&server, &[("sec-websocket-protocol", "qwentts, openai-insecure-api-key.sesame")]).ok().unwrap();
    live.text("Hello.");
    live.send(json!({"type": "input.done"}));
    assert!(live.hear().sound == said("Hello.", &streaming("rms")));
}

/// Messages that are nearly right, in any order, from a seeded generator: whatever comes, the server answers the next session.
#[test]
fn any_messages_leave_the_server_speaking() {
    let server = Server::start(&["--idle-s", "5", "--text-bytes", "200"]);
    let mut state = 7u64;
    let mut any = move |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let names = ["session.config", "input.text", "input.done", "input.flush", "input.cancel", "session.close", "", "x"];
    let values = [
        json!(null),
        json!(""),
        json!("slt"),
        json!("Hello there. "),
        json!(0),
        json!(-1),
        json!(1e300),
        json!(true),
        json!([]),
        json!({}),
        json!("\u{0}\u{ffff}"),
        json!("😀"),
        json!("<|im_end|>"),
        json!([[[]]]),
        json!("a".repeat(300)),
    ];
    let fields = [
        "text",
        "voice",
        "context_id",
        "response_format",
        "sample_rate",
        "temperature",
        "seed",
        "top_k",
        "ref_audio",
        "speed",
        "initial_codec_chunk_frames",
        "max_new_tokens",
        "language",
        "stream_format",
        "speaker_embedding",
        "type",
    ];
    let began = Instant::now();
    let mut sessions = 0;
    while began.elapsed() < Duration::from_secs(6) {
        sessions += 1;
        let mut live = Live::new(&server);
        live.0.get_ref().set_read_timeout(Some(Duration::from_millis(1 + any(20) as u64))).unwrap();
        for _ in 0..any(30) {
            let mut message = json!({"type": names[any(names.len())]});
            for _ in 0..any(4) {
                message[fields[any(fields.len())]] = values[any(values.len())].clone();
            }
            let mut bytes = message.to_string().into_bytes();
            let message = match any(12) {
                0 => Message::binary(bytes),
                1 => Message::Ping(vec![1].into()),
                2 => {
                    let at = any(bytes.len());
                    bytes[at] = b' ' + any(90) as u8;
                    Message::text(String::from_utf8_lossy(&bytes).into_owned())
                }
                3 => {
                    // No frame of the protocol at all.
                    let _ = std::io::Write::write_all(live.0.get_mut(), &[any(256) as u8, any(256) as u8, 0, 0]);
                    continue;
                }
                _ => Message::text(String::from_utf8_lossy(&bytes).into_owned()),
            };
            if live.0.send(message).is_err() {
                break;
            }
            let _ = live.0.read();
        }
    }
    assert!(sessions > 20, "{sessions} sessions in {:?}", began.elapsed());
    server.until("free", || server.metric("qwentts_streams_live{model=\"demo\"}") == 0.0);
    let mut live = Live::new(&server);
    live.text("Good morning.");
    live.send(json!({"type": "input.done"}));
    assert!(live.hear().sound == said("Good morning.", &streaming("rms")));
}
