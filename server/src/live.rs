//! GET /v1/audio/speech/stream: text in over a WebSocket as it comes, sound out as it is made, in vLLM-Omni's messages.
//!
//! Client: `session.config` (the fields of POST /v1/audio/speech), `input.text`, `input.done`, `session.close`; and ours,
//! `input.flush`, `input.cancel`. Server: `audio.start`, sound as binary messages, `audio.done`, `session.done` at the end of each
//! utterance, `error`; and ours, `audio.word`. Utterances are told apart by `context_id`, where a client gives one, and follow
//! each other on the socket: the next may be given its text, and is spoken ahead, while one is still being sent.
//!
//! One task reads messages and never waits for the client to read; another sends. When either ends, the socket is dropped
//! with all its utterances, which cancels them.

use crate::App;
use crate::error::{ApiError, ApiResult};
use crate::guard;
use crate::request::{self, Ask, Prepared};
use crate::sound::{Encoder, Format};
use crate::utterance::{self, Piece, Stop, Utterance};
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use qwentts::engine::{Stats, TextWriter};
use qwentts::frame::End;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Utterances of one socket that may be open, those that wait to be sent among them.
const MOST_UTTERANCES: usize = 8;
/// Texts of one socket that are remembered until they end, those whose beginning was refused among them.
const MOST_TEXTS: usize = 64;
/// Answers to messages that may wait to be sent.
const ANSWERS: usize = 16;

pub async fn upgrade(
    State(app): State<Arc<App>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> ApiResult<Response> {
    let upgrade = upgrade.map_err(|e| {
        let message = format!("this path speaks WebSocket: {}", e.body_text());
        ApiError::request(StatusCode::BAD_REQUEST, message)
    })?;
    app.models()?;
    // A recording may come in the configuration.
    let most = app.config.body_bytes;
    let upgrade = upgrade.max_message_size(most).max_frame_size(most).protocols([guard::PROTOCOL]);
    Ok(upgrade.on_upgrade(move |socket| session(socket, app)))
}

/// An utterance on its way to being sent.
struct Queued {
    utterance: Utterance,
    index: usize,
    context: Option<String>,
    encoder: Encoder,
}

/// What the two tasks of a socket share.
struct Shared {
    began: Instant,
    /// When something was read or sent, in milliseconds from the beginning.
    last_ms: AtomicU64,
    /// Utterances that have been begun and not sent to their end.
    open: std::sync::atomic::AtomicUsize,
}

impl Shared {
    fn touch(&self) {
        self.last_ms.store(self.began.elapsed().as_millis() as u64, Relaxed);
    }

    fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last_ms.load(Relaxed))
    }
}

async fn session(socket: WebSocket, app: Arc<App>) {
    let (sink, mut stream) = socket.split();
    let (answers, to_answer) = mpsc::channel(ANSWERS);
    let (queue, queued) = mpsc::channel(MOST_UTTERANCES);
    let shared = Arc::new(Shared { began: Instant::now(), last_ms: AtomicU64::new(0), open: Default::default() });
    let mut sending = std::pin::pin!(send(sink, to_answer, queued, shared.clone()));
    let mut session = Session {
        app,
        shared,
        answers,
        queue,
        prepared: None,
        texts: HashMap::new(),
        stops: Vec::new(),
        utterances: 0,
    };
    let close = tokio::select! {
        close = session.read(&mut stream) => close,
        () = &mut sending => return,
    };
    let Some(reason) = close else { return };
    // With the session go the queues' ends, so that sending ends behind what is in them.
    tokio::select! {
        _ = async { tokio::join!(session.end(reason), sending) } => {}
        () = gone(&mut stream) => {}
    }
}

/// Until the client has gone away.
async fn gone(stream: &mut SplitStream<WebSocket>) {
    while let Some(Ok(_)) = stream.next().await {}
}

struct Session {
    app: Arc<App>,
    shared: Arc<Shared>,
    answers: mpsc::Sender<Message>,
    queue: mpsc::Sender<Queued>,
    prepared: Option<Prepared>,
    /// Utterances whose text has not ended. `None`: the beginning was refused, and the rest of it is no text of its own.
    texts: HashMap<Option<String>, Option<Text>>,
    stops: Vec<(Option<String>, Stop)>,
    utterances: usize,
}

struct Text {
    writer: TextWriter,
    bytes: usize,
}

impl Session {
    /// Messages until the client goes away (`None`), or a reason to close.
    async fn read(&mut self, stream: &mut SplitStream<WebSocket>) -> Option<(u16, &'static str)> {
        let idle = Duration::from_secs(self.app.config.idle_s);
        loop {
            let message = tokio::select! {
                message = stream.next() => message?.ok()?,
                () = sleep_until(self.shared.last() + idle) => {
                    if self.shared.last().elapsed() < idle {
                        continue; // something was sent meanwhile
                    }
                    if self.texts.is_empty() && self.shared.open.load(Relaxed) > 0 {
                        self.shared.touch(); // it is the client that waits, for a slot or for a long prompt
                        continue;
                    }
                    // Text that does not go on must not hold a slot.
                    self.stops.iter().for_each(|(_, stop)| stop.stop());
                    return Some((close_code::POLICY, "nothing was said for too long"));
                }
                () = self.app.told_to_stop() => return Some((close_code::AWAY, "the server is stopping")),
            };
            // Most clients ping by themselves: that keeps a session, but no slot for a text that does not go on.
            if !matches!(message, Message::Ping(_) | Message::Pong(_)) || self.texts.is_empty() {
                self.shared.touch();
            }
            let said = match message {
                Message::Text(text) => self.hear(text.as_str()).await,
                Message::Binary(_) => Err(refused("a binary message; expected JSON in text messages")),
                Message::Ping(_) | Message::Pong(_) => Ok(true),
                Message::Close(_) => return None,
            };
            match said {
                Ok(true) => {}
                Ok(false) => return Some((close_code::NORMAL, "")),
                Err(error) => self.answer(error_message(&error, None)).await,
            }
        }
    }

    /// Whether the session goes on.
    async fn hear(&mut self, text: &str) -> ApiResult<bool> {
        let mut message = request::object("message", text.as_bytes())?;
        let context = match message.remove("context_id") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) if id.len() <= 128 => Some(id),
            Some(_) => return Err(ApiError::field("context_id", "expected a string of up to 128 bytes")),
        };
        match message.get("type").and_then(Value::as_str).unwrap_or_default() {
            "session.config" => self.configure(&message).await?,
            "input.text" => {
                let text = message.get("text").and_then(Value::as_str);
                let text = text.ok_or_else(|| ApiError::field("text", "is missing or no string"))?;
                self.push(context, text).await?;
            }
            "input.flush" => {
                let text = self.texts.get_mut(&context);
                let text = text.ok_or_else(|| ApiError::field("context_id", "names no open text"))?;
                text.as_mut().map_or(Ok(()), |text| text.writer.flush())?;
            }
            "input.done" => self.done(context).await?,
            "input.cancel" => self.cancel(context.as_ref()),
            "session.close" => return Ok(false),
            other => {
                let known = "session.config, input.text, input.flush, input.done, input.cancel, session.close";
                return Err(ApiError::field("type", format!("is {other:?}; expected one of {known}")));
            }
        }
        Ok(true)
    }

    async fn configure(&mut self, fields: &Map<String, Value>) -> ApiResult<()> {
        if !self.texts.is_empty() {
            return Err(ApiError::field(
                "session.config",
                "comes while the text of an utterance is open; end it first",
            ));
        }
        let mut fields = fields.clone();
        fields.remove("word_timestamps"); // words are always marked here
        if fields.get("response_format").is_none_or(Value::is_null) {
            fields.insert("response_format".into(), json!("pcm"));
        }
        let mut ask = Ask::read(&fields, &self.app.config)?;
        if ask.format == Format::Codes {
            let what = format!("is \"codes\"; this path sends one of {}", Format::sounds());
            return Err(ApiError::field("response_format", what));
        }
        ask.words = true;
        self.prepared = Some(ask.prepare(&self.app).await?);
        Ok(())
    }

    /// The text of this context, begun where there is none.
    async fn push(&mut self, context: Option<String>, piece: &str) -> ApiResult<()> {
        if self.prepared.is_none() {
            self.configure(&Map::new()).await?;
        }
        if !self.texts.contains_key(&context) {
            let begun = self.begin(context.clone()).await;
            let (text, wrong) = match begun {
                Ok(text) => (Some(text), Ok(())),
                Err(error) => (None, Err(error)),
            };
            if text.is_some() || self.texts.len() < MOST_TEXTS {
                self.texts.insert(context.clone(), text);
            }
            wrong?;
        }
        let Some(Some(text)) = self.texts.get_mut(&context) else { return Ok(()) };
        let most = self.app.config.text_bytes;
        if text.bytes + piece.len() > most {
            let what = format!("is longer than the {most} bytes that an utterance may have; end it and begin another");
            return Err(ApiError::field("text", what));
        }
        text.bytes += piece.len();
        match text.writer.push(piece) {
            // The speech ended before its text: `session.done` says how.
            Err(qwentts::Error::Ended { .. }) => Ok(()),
            other => other.map_err(ApiError::from),
        }
    }

    async fn begin(&mut self, context: Option<String>) -> ApiResult<Text> {
        let Some(prepared) = self.prepared.clone() else { return Err(refused("the session has no configuration")) };
        if self.shared.open.load(Relaxed) >= MOST_UTTERANCES {
            return Err(ApiError::busy(format!("{MOST_UTTERANCES} utterances of this session are open; wait for one")));
        }
        let encoder = Encoder::new(prepared.format, prepared.rate_hz())?;
        let (utterance, writer) = utterance::begin(&self.app, &prepared, None).await?;
        self.stops.retain(|(_, stop)| !stop.is_stopped());
        self.stops.push((context.clone(), utterance.stopper()));
        let queued = Queued { utterance, index: self.utterances, context, encoder };
        self.utterances += 1;
        self.shared.open.fetch_add(1, Relaxed);
        let _ = self.queue.send(queued).await; // has room for all that may be open; sending that has ended ends us
        Ok(Text { writer, bytes: 0 })
    }

    async fn done(&mut self, context: Option<String>) -> ApiResult<()> {
        // Nothing was said, or nothing of it taken: an utterance of no sound.
        let end = match self.texts.remove(&context) {
            Some(Some(mut text)) => return Ok(text.writer.end()?),
            Some(None) => "failed",
            None => "eos",
        };
        let index = self.utterances;
        self.utterances += 1;
        let done = json!({"type": "session.done", "utterance_index": index, "total_sentences": 0, "end": end});
        self.answer(marked(done, &context)).await;
        Ok(())
    }

    /// All utterances, or those of one context.
    fn cancel(&mut self, context: Option<&String>) {
        let meant = |of: &Option<String>| context.is_none() || of.as_ref() == context;
        self.stops.iter().filter(|(of, _)| meant(of)).for_each(|(_, stop)| stop.stop());
        self.texts.retain(|of, _| !meant(of));
    }

    async fn answer(&self, message: Value) {
        let _ = self.answers.send(Message::Text(message.to_string().into())).await; // as above
    }

    /// Ends the texts, so that what was said is spoken to its end, and then closes.
    async fn end(mut self, (code, reason): (u16, &'static str)) {
        self.texts.clear();
        let frame = CloseFrame { code, reason: reason.into() };
        let _ = self.answers.send(Message::Close(Some(frame))).await;
    }
}

fn refused(what: &str) -> ApiError {
    ApiError::request(StatusCode::BAD_REQUEST, what)
}

/// Names its context, if it has one.
fn marked(mut message: Value, context: &Option<String>) -> Value {
    if let Some(id) = context {
        message["context_id"] = json!(id);
    }
    message
}

fn error_message(error: &ApiError, index: Option<usize>) -> Value {
    json!({"type": "error", "message": error.message, "utterance_index": index, "error": error.json()})
}

/// Sends answers at once and utterances one after another; returns when there is no more of either, or nobody to send to.
async fn send(
    mut sink: SplitSink<WebSocket, Message>,
    mut answers: mpsc::Receiver<Message>,
    mut queue: mpsc::Receiver<Queued>,
    shared: Arc<Shared>,
) {
    let mut current: Option<Sending> = None;
    let mut closing = None;
    loop {
        let messages = tokio::select! {
            Some(answer) = answers.recv() => match answer {
                Message::Close(_) => {
                    closing = Some(answer);
                    Vec::new()
                }
                answer => vec![answer],
            },
            Some(queued) = queue.recv(), if current.is_none() => {
                current = Some(Sending::new(queued));
                Vec::new()
            }
            (messages, over) = next_of(&mut current), if current.is_some() => {
                if over {
                    current = None;
                    shared.open.fetch_sub(1, Relaxed);
                }
                messages
            }
            else => break,
        };
        for message in messages {
            if sink.send(message).await.is_err() {
                return;
            }
            shared.touch();
        }
    }
    if let Some(close) = closing {
        let _ = sink.send(close).await; // the last word, if anybody listens
    }
}

async fn next_of(current: &mut Option<Sending>) -> (Vec<Message>, bool) {
    match current {
        Some(sending) => sending.next().await,
        None => std::future::pending().await,
    }
}

/// One utterance as messages.
struct Sending {
    queued: Queued,
    stop: Stop,
    bytes: usize,
    started: bool,
}

impl Sending {
    fn new(queued: Queued) -> Sending {
        Sending { stop: queued.utterance.stopper(), queued, bytes: 0, started: false }
    }

    /// The next messages, and whether they are the last.
    async fn next(&mut self) -> (Vec<Message>, bool) {
        let piece = self.queued.utterance.pieces.recv().await;
        let index = self.queued.index;
        let mut out = Vec::new();
        match piece {
            // Made before it was cancelled, but nothing is heard after.
            Some(Piece::Sound(_) | Piece::Word(_)) if self.stop.is_stopped() => {}
            Some(Piece::Sound(chunk)) => {
                let mut bytes = Vec::new();
                if !self.started {
                    self.started = true;
                    out.push(self.say(json!({
                        "type": "audio.start", "utterance_index": index, "sentence_index": 0,
                        "format": self.queued.encoder.format().name(), "sample_rate": self.queued.encoder.rate_hz(),
                        "seed": self.queued.utterance.seed,
                    })));
                    bytes = self.queued.encoder.begin(None);
                }
                bytes.extend(self.queued.encoder.push(&chunk.samples));
                self.sound(bytes, &mut out);
            }
            Some(Piece::Frames(_)) => {}
            Some(Piece::Word(mark)) => out.push(self.say(json!({
                "type": "audio.word", "utterance_index": index, "word": mark.word, "text_byte": mark.text_byte,
                "sample": mark.sample,
            }))),
            Some(Piece::Ended(stats)) => {
                let whole = stats.ended.is_some_and(|ended| ended.end != End::Cancelled);
                if self.started && whole {
                    let bytes = self.queued.encoder.end();
                    self.sound(bytes, &mut out);
                }
                self.end(Some(&stats), None, &mut out);
                return (out, true);
            }
            Some(Piece::Failed(error)) => {
                self.end(None, Some(error.into()), &mut out);
                return (out, true);
            }
            None => {
                self.end(None, Some(ApiError::internal("the speech was lost; the log says why")), &mut out);
                return (out, true);
            }
        }
        (out, false)
    }

    fn say(&self, message: Value) -> Message {
        Message::Text(marked(message, &self.queued.context).to_string().into())
    }

    fn sound(&mut self, bytes: Vec<u8>, out: &mut Vec<Message>) {
        if !bytes.is_empty() {
            self.bytes += bytes.len();
            out.push(Message::Binary(bytes.into()));
        }
    }

    fn end(&self, stats: Option<&Stats>, error: Option<ApiError>, out: &mut Vec<Message>) {
        let index = self.queued.index;
        if let Some(error) = &error {
            out.push(self.say(error_message(error, Some(index))));
        }
        if self.started {
            out.push(self.say(json!({
                "type": "audio.done", "utterance_index": index, "sentence_index": 0, "total_bytes": self.bytes,
                "error": error.is_some(),
            })));
        }
        let mut done = json!({
            "type": "session.done", "utterance_index": index, "total_sentences": usize::from(self.started), "end": "failed",
        });
        if let Some(stats) = stats {
            done["end"] = json!(stats.ended.map(|ended| ended.end.name()));
            done["first_sound_ms"] = json!(stats.first_sound_ms);
            done["usage"] = json!({"input_tokens": stats.text_tokens, "output_tokens": stats.frames,
                                   "total_tokens": stats.text_tokens + stats.frames});
        }
        out.push(self.say(done));
    }
}
