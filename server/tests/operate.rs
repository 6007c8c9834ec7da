//! Would catch: a server that cannot be run for others: one that says ready before it is, lets strangers in, takes more than
//! it was told to, loses speech when it is told to stop, miscounts, or leaks descriptors.

mod support;

use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};
use support::{Server, request, said};

const TEXT: &str = "Good morning, how are you today?";

fn long() -> serde_json::Value {
    json!({"input": "This is a sentence that goes on. ".repeat(40), "response_format": "pcm", "non_streaming_mode": false})
}

#[test]
fn ready_comes_behind_health() {
    let server = Server::start_with(&[], &[]);
    assert_eq!(server.get("/health").status, 200);
    // Until the model has spoken once, requests are refused in a way that says to come again.
    let early = server.speak(json!({"input": TEXT, "response_format": "pcm"}));
    match early.status {
        503 => assert_eq!(early.headers["retry-after"], "1"),
        200 => assert_eq!(server.get("/ready").status, 200),
        other => panic!("{other}"),
    }
    server.until("ready", || server.get("/ready").status == 200);
    assert_eq!(server.get("/ready").text(), "ready\n");
}

#[test]
fn without_a_key_only_health_and_the_page_are_open() {
    let server = Server::start_with(&["--api-keys", "flag"], &[("QWENTTS_API_KEYS", "sesame,open")]);
    server.until("ready", || server.get("/ready").status == 200);
    for path in ["/v1/models", "/v1/audio/voices", "/v1/nowhere", "/metrics"] {
        let answer = server.get(path);
        answer.error(401);
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    let with = |key: &str| server.call("GET", "/v1/models", &[("authorization", key)], b"").status;
    assert_eq!(["Bearer sesame", "bearer open"].map(with), [200, 200]);
    for wrong in
        ["Bearer ", "Bearer sesam", "Bearer sesames", "Bearer sesame,open", "Basic sesame", "sesame", "Bearer flag"]
    {
        assert_eq!(with(wrong), 401, "{wrong}");
    }
    for open in ["/", "/health", "/ready", "/openapi.json", "/page/page.js"] {
        assert_eq!(server.get(open).status, 200, "{open}");
    }
}

#[test]
fn pages_of_others_may_not_call_unless_named() {
    let server = Server::start(&["--cors-origins", "https://friend.example"]);
    let from = |origin: &str, method: &str| server.call(method, "/v1/models", &[("origin", origin)], b"");
    from("https://evil.example", "GET").error(403);
    let friend = from("https://friend.example", "GET");
    assert_eq!(
        (friend.status, friend.headers["access-control-allow-origin"].as_str()),
        (200, "https://friend.example")
    );
    let ours = from(&format!("http://{}", server.address), "GET");
    assert_eq!(ours.status, 200);
    // A page of a name that was made to mean this machine: its own origin, as its browser sees it.
    let mut stream = server.connect();
    let head = "POST /v1/audio/speech HTTP/1.1\r\nhost: evil.example\r\norigin: http://evil.example\r\n";
    write!(stream, "{head}content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}").unwrap();
    assert_eq!(support::Coming::new(stream).status, 403);
    let ask = [("origin", "https://friend.example"), ("access-control-request-method", "POST")];
    let preflight = server.call("OPTIONS", "/v1/audio/speech", &ask, b"");
    assert_eq!(preflight.status, 204);
    assert!(preflight.headers["access-control-allow-headers"].contains("authorization"));
    let ask = [("origin", "https://evil.example"), ("access-control-request-method", "POST")];
    server.call("OPTIONS", "/v1/audio/speech", &ask, b"").error(403);
}

#[test]
fn beyond_slots_and_queue_the_answer_is_429() {
    let server = Server::start(&["--slots", "1", "--queue", "1"]);
    let mut first = server.ask(long());
    first.next_piece().unwrap().unwrap();
    let second = std::thread::scope(|scope| {
        let second = scope.spawn(|| server.speak(json!({"input": TEXT, "response_format": "pcm"})));
        server.until("queued", || server.metric("qwentts_queue{model=\"demo\"}") == 1.0);
        let refused = server.speak(json!({"input": TEXT}));
        refused.error(429);
        assert_eq!(refused.headers["retry-after"], "1");
        assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
        assert_eq!(server.metric("qwentts_refused_total{model=\"demo\"}"), 1.0);
        drop(first);
        second.join().unwrap()
    });
    assert!(second.body == said(TEXT, &request("rms")), "who waited is served, whole");
}

#[test]
fn limits_on_bodies_sockets_and_idleness_hold() {
    let server = Server::start(&["--open-sockets", "4", "--idle-s", "1", "--body-bytes", "5000"]);
    // A body that is announced too large is refused before it is sent, and so is one that only turns out so.
    let mut stream = server.connect();
    let head = "POST /v1/audio/speech HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    write!(stream, "{head}content-length: 99999999999\r\n\r\n").unwrap();
    assert_eq!(support::Coming::new(stream).status, 413);
    let mut stream = server.connect();
    write!(stream, "{head}transfer-encoding: chunked\r\n\r\n").unwrap();
    (0..10).for_each(|_| drop(write!(stream, "400\r\n{}\r\n", "a".repeat(1024))));
    assert_eq!(support::Coming::new(stream).status, 413);
    // A body that does not come, a head that does not come, a connection that says nothing more.
    let mut stream = server.connect();
    write!(stream, "{head}content-length: 10\r\n\r\n{{").unwrap();
    assert_eq!(support::Coming::new(stream).status, 408);
    for begun in ["", "GET /hea", "GET /health HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let mut stream = server.connect();
        stream.write_all(begun.as_bytes()).unwrap();
        let began = Instant::now();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all); // the end, or a reset
        assert!(began.elapsed() < Duration::from_secs(10), "{begun:?} stays open");
    }
    server.until("closed", || server.metric("qwentts_sockets") == 1.0);
    let open: Vec<TcpStream> = (0..4).map(|_| server.connect()).collect();
    server.until("turned away", || {
        let mut stream = server.connect();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1")
    });
    drop(open);
    server.until("open again", || server.get("/health").status == 200);
}

#[test]
fn a_reader_that_stops_reading_is_let_go() {
    let server = Server::start(&["--idle-s", "1"]);
    // More than the kernel keeps for a reader.
    let mut body = long();
    body["sample_rate"] = json!(48000);
    let coming = server.ask(body);
    assert_eq!(coming.status, 200);
    server.until("let go", || server.speaking() == 0.0);
    server.until("counted", || server.metric("qwentts_cancels_total{model=\"demo\"}") == 1.0);
    drop(coming);
}

#[test]
fn json_and_audio_bombs_are_refused_cheaply() {
    let server = Server::start(&[]);
    let json = [("content-type", "application/json")];
    let deep = format!("{{\"input\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    server.call("POST", "/v1/audio/speech", &json, deep.as_bytes()).error(400);
    let before = server.peak_kb();
    let wide = format!("{{\"input\": \"a\", \"speaker_embedding\": [{}1]}}", "1,".repeat(7_000_000));
    let (_, message) = server.call("POST", "/v1/audio/speech", &json, wide.as_bytes()).error(400);
    assert_eq!(message, "the body has more than 262144 bytes outside of its strings");
    let many = format!("{{{}\"input\": 1}}", (0..200_000).map(|i| format!("\"f{i}\": 0, ")).collect::<String>());
    server.call("POST", "/v1/audio/speech", &json, many.as_bytes()).error(400);
    // Little more than the body itself, which is 14 MB: as values it would be 20 times that.
    assert!(server.peak_kb() < before + 60_000, "{} kB", server.peak_kb() - before);
    assert_eq!(server.get("/health").status, 200);
}

/// A client over the limit hears why, also where it has sent something already.
#[test]
fn who_is_turned_away_is_told() {
    let server = Server::start(&["--open-sockets", "1"]);
    let mut open = server.connect();
    write!(open, "GET /health HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert_eq!(support::Coming::new(open.try_clone().unwrap()).status, 200); // and is kept
    for _ in 0..3 {
        let mut stream = server.connect();
        // It is still sending when the answer comes.
        for _ in 0..4 {
            stream.write_all(&[b'x'; 1000]).unwrap();
            std::thread::sleep(Duration::from_millis(30));
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
}

#[test]
fn told_to_stop_it_lets_speech_end_and_takes_no_more() {
    let mut server = Server::start(&[]);
    let mut coming = server.ask(json!({"input": TEXT.repeat(6), "response_format": "pcm"}));
    let first = coming.next_piece().unwrap().unwrap();
    server.signal("TERM");
    server.until("closed", || TcpStream::connect(server.address).is_err());
    let rest = coming.whole().body;
    assert!([first, rest].concat() == said(&TEXT.repeat(6), &request("rms")));
    assert_eq!(server.wait(), 0, "{}", server.log());
    assert!(server.log().contains("stopped"));
}

#[test]
fn its_time_to_stop_is_bounded() {
    let mut server = Server::start(&["--drain-s", "0"]);
    let mut coming = server.ask(long());
    coming.next_piece().unwrap().unwrap();
    let began = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(coming.try_whole().broken, "a part is not taken for the whole");
}

#[test]
fn events_that_the_servers_end_cuts_off_say_so() {
    let mut server = Server::start(&["--drain-s", "0"]);
    let mut body = long();
    body["stream_format"] = json!("sse");
    let mut coming = server.ask(body);
    coming.next_piece().unwrap().unwrap();
    server.signal("TERM");
    let heard = String::from_utf8(coming.whole().body).unwrap();
    let (_, end) = heard.rsplit_once("event: speech.audio.error").unwrap();
    assert!(end.contains("the server is stopping") && end.ends_with("data: [DONE]\n\n"), "{end}");
    assert_eq!(server.wait(), 0);
}

/// A hub that takes the connection and says nothing more.
#[cfg(feature = "hub")]
#[test]
fn a_model_that_is_still_coming_holds_up_no_end() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (hub, cache) = (format!("http://{}", silent.local_addr().unwrap()), tempfile::tempdir().unwrap());
    let variables =
        [("HF_ENDPOINT", hub.as_str()), ("HF_HOME", cache.path().to_str().unwrap()), ("HF_HUB_OFFLINE", "")];
    let mut server = Server::start_with(&["--model", "owner/name"], &variables);
    let _asked = silent.accept().unwrap();
    server.get("/ready").error(503);
    let began = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait(), 0, "{}", server.log());
    assert!(began.elapsed() < Duration::from_secs(15), "the hub may be silent for 30 s");
}

#[test]
fn metrics_are_prometheus_and_add_up() {
    let server = Server::start(&[]);
    for _ in 0..3 {
        assert_eq!(server.speak(json!({"input": TEXT})).status, 200);
    }
    server.speak(json!({"input": ""})).error(400);
    let text = server.get("/metrics").text();
    let mut families = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(family) => families.push(family.split(' ').next().unwrap().to_owned()),
            None if line.starts_with('#') => {}
            None => {
                let (name, value) = line.rsplit_once(' ').unwrap();
                value.parse::<f64>().unwrap();
                let name = name.split('{').next().unwrap();
                assert!(name.starts_with(families.last().unwrap().as_str()), "{line}");
            }
        }
    }
    for family in [
        "streams_live",
        "first_sound_seconds",
        "chunk_gap_seconds",
        "frames_total",
        "cancels_total",
        "endings_total",
        "queue",
    ] {
        assert!(families.contains(&format!("qwentts_{family}")), "{family}");
    }
    let model = "{model=\"demo\"}";
    // The warm-up is nobody's request.
    assert_eq!(server.metric("qwentts_endings_total{model=\"demo\",end=\"eos\"}"), 3.0);
    let frames = said(TEXT, &request("rms")).len() / (2 * 1920);
    assert_eq!(server.metric(&format!("qwentts_frames_total{model}")), 3.0 * frames as f64);
    assert_eq!(server.metric(&format!("qwentts_first_sound_seconds_count{model}")), 3.0);
    assert!(server.metric(&format!("qwentts_first_sound_seconds_sum{model}")) > 0.0);
    assert_eq!(server.metric("qwentts_answers_total{status=\"400\"}"), 1.0);
}

#[test]
fn options_that_cannot_be_used_end_it_in_words() {
    let run = |flags: &[&str]| {
        let ran = Command::new(env!("CARGO_BIN_EXE_qwentts-server")).args(flags).output().unwrap();
        (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
    };
    let cases: [(&[&str], &str); 5] = [
        (&["--slots", "many"], "--slots: is \"many\"; expected a whole number"),
        (&["--port", "0", "--model", "/nowhere"], "model nowhere: "),
        (&["--port", "0", "--device", "tpu"], "model demo: device: is \"tpu\"; expected cpu or cuda:N"),
        (&["--port", "0", "--kv", "x"], "model demo: kv: is \"x\"; expected f32 or bf16"),
        (&["--host", "300.1.1.1"], "host: cannot listen on 300.1.1.1:8080"),
    ];
    for (flags, words) in cases {
        let (code, said) = run(flags);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
    let printed = Command::new(env!("CARGO_BIN_EXE_qwentts-server"))
        .arg("--print-config")
        .env("QWENTTS_PORT", "7")
        .output()
        .unwrap();
    assert!(printed.status.success() && String::from_utf8(printed.stdout).unwrap().contains("\nport = 7\n"));
}

/// As the official clients keep a model: a ref, and a snapshot of links.
#[cfg(all(unix, feature = "hub"))]
#[test]
fn a_model_is_found_by_its_hub_id() {
    let cache = tempfile::tempdir().unwrap();
    let model = cache.path().join("models--owner--demo");
    let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/demo").canonicalize().unwrap();
    std::fs::create_dir_all(model.join("snapshots/abc")).unwrap();
    std::fs::create_dir_all(model.join("refs")).unwrap();
    std::fs::write(model.join("refs/main"), "abc").unwrap();
    for file in std::fs::read_dir(&demo).unwrap() {
        let file = file.unwrap();
        std::os::unix::fs::symlink(file.path(), model.join("snapshots/abc").join(file.file_name())).unwrap();
    }
    let variables = [("HF_HUB_CACHE", cache.path().to_str().unwrap()), ("HF_HUB_OFFLINE", "1")];
    let server = Server::start_with(&["--model", "owner/demo"], &variables);
    server.until("ready", || server.get("/ready").status == 200);
    assert_eq!(server.get("/v1/models").json()["data"][0]["id"], "owner/demo");
    let answer = server.speak(json!({"input": TEXT, "model": "owner/demo", "voice": "slt", "response_format": "pcm"}));
    assert!(answer.body == said(TEXT, &request("slt")));
    let mut missing = Server::start_with(&["--model", "owner/other"], &variables);
    assert_eq!(missing.wait(), 2);
    missing.until("said", || {
        missing.log().contains("model owner/other: ") && missing.log().contains("being offline it is not downloaded")
    });
}

#[test]
fn two_models_are_served_side_by_side() {
    let table = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&table, "[models.other]\nsource = \"demo\"\ndevice = \"cpu\"\n").unwrap();
    let server = Server::start(&["-c", table.path().to_str().unwrap()]);
    for model in ["demo", "other"] {
        let answer = server.speak(json!({"input": TEXT, "model": model, "voice": "slt", "response_format": "pcm"}));
        assert!(answer.body == said(TEXT, &request("slt")), "{model}");
    }
    let models = server.get("/v1/models").json();
    let names: Vec<_> = models["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["demo", "other"]);
}

/// Clients that vanish at any moment: nothing stays open of them.
#[test]
fn vanishing_clients_leave_nothing() {
    let server = Server::start(&[]);
    let vanish = |after: Duration| {
        let body = long().to_string();
        let mut stream = server.connect();
        let head = "POST /v1/audio/speech HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
        let _ = write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len());
        std::thread::sleep(after);
    };
    (0..5).for_each(|i| vanish(Duration::from_millis(i * 20))); // what is made once is made
    server.until("quiet", || server.metric("qwentts_streams_live{model=\"demo\"}") == 0.0);
    let before = server.descriptors();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            scope.spawn(move || (0..25u64).for_each(|i| vanish(Duration::from_millis((thread * 7 + i * 13) % 60))));
        }
    });
    server.until("quiet", || server.metric("qwentts_streams_live{model=\"demo\"}") == 0.0);
    server.until("closed", || server.descriptors() <= before);
    assert!(server.speak(json!({"input": TEXT, "response_format": "pcm"})).body == said(TEXT, &request("rms")));
}
