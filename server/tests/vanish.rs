//! Would catch: work that goes on, or a slot that is kept, for a client that has gone away. Counted in frames, not in time: with
//! fifteen others speaking, a frame of each takes far longer than it takes to notice that somebody left.

mod support;

use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use support::{Coming, Server};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

const SLOTS: usize = 16;
const FRAME_BYTES: usize = 2 * 1920;

fn long(format: &str) -> Value {
    let text = "This is a sentence that goes on. ".repeat(60);
    json!({"input": text, "response_format": format, "non_streaming_mode": false})
}

/// Frames of codes that have come with the next piece.
fn frames(coming: &mut Coming) -> usize {
    coming.next_piece().unwrap().unwrap().iter().filter(|&&byte| byte == b'\n').count()
}

/// Hears its first frames, goes away, and returns how many it has heard.
type Way = fn(&Server) -> usize;

fn codes(server: &Server) -> usize {
    let mut coming = server.ask(long("codes"));
    let mut heard = 0;
    while heard < 3 {
        heard += frames(&mut coming);
    }
    heard
}

fn sound(server: &Server) -> usize {
    server.ask(long("pcm")).next_piece().unwrap().unwrap().len() / FRAME_BYTES
}

fn events(server: &Server) -> usize {
    let mut body = long("pcm");
    body["stream_format"] = json!("sse");
    let first = server.ask(body).next_piece().unwrap().unwrap();
    let base64 = String::from_utf8(first).unwrap().split("\"audio\":\"").nth(1).unwrap().find('"').unwrap();
    base64 / 4 * 3 / FRAME_BYTES
}

fn live(server: &Server) -> usize {
    let request = format!("ws://{}/v1/audio/speech/stream", server.address).into_client_request().unwrap();
    let (mut socket, _) = tungstenite::client(request, server.connect()).unwrap();
    let text = long("pcm")["input"].clone();
    socket.send(Message::text(json!({"type": "input.text", "text": text}).to_string())).unwrap();
    heard_live(&mut socket)
}

fn heard_live(socket: &mut WebSocket<std::net::TcpStream>) -> usize {
    loop {
        if let Message::Binary(bytes) = socket.read().unwrap() {
            return bytes.len() / FRAME_BYTES;
        }
    }
}

#[test]
fn who_goes_away_costs_no_more_than_the_frame_under_way() {
    let server = Server::start(&["--slots", &SLOTS.to_string(), "--queue", "0"]);
    let others: Vec<Coming> = (0..SLOTS - 2).map(|_| server.ask(long("codes"))).collect();
    let mut witness = server.ask(long("codes"));
    let (witnessed, over) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while over.load(SeqCst) == 0 {
                witnessed.fetch_add(frames(&mut witness), SeqCst);
            }
        });
        let made = || server.metric("qwentts_frames_total{model=\"demo\"}") as usize;
        let ways: [(&str, Way); 4] = [("codes", codes), ("sound", sound), ("events", events), ("live text", live)];
        let mut counted = Vec::new();
        for (name, way) in ways {
            for _ in 0..3 {
                let before = made();
                let heard = way(&server);
                let gone_at = witnessed.load(SeqCst);
                server.until("free", || server.speaking() < SLOTS as f64);
                let until_free = witnessed.load(SeqCst) - gone_at;
                counted.push((name, heard, made() - before, until_free));
            }
        }
        over.store(1, SeqCst); // before anything can fail: the witness would be waited for
        println!("(way, frames heard, frames made, frames of another until the slot was free): {counted:?}");
        for (name, heard, made, until_free) in counted {
            assert!(made >= heard, "{name}: {made} frames counted, {heard} heard");
            assert!(made <= heard + 1, "{name}: {made} frames were made for who left after {heard}");
            assert!(until_free <= 1, "{name}: the slot was kept for {until_free} frames of another");
        }
    });
    drop(others);
}
