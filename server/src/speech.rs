//! POST /v1/audio/speech: a text to sound as it is made, to sound with its length, to events, or to codes.

use crate::App;
use crate::error::{ApiError, ApiResult};
use crate::request::{self, Ask, Prepared, Transport};
use crate::sound::{Encoder, Format};
use crate::utterance::{self, Piece, Utterance};
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use qwentts::engine::Stats;
use qwentts::request::Voice;
use qwentts::{Frame, frame::End};
use serde_json::{Map, Value, json};
use std::io;
use std::sync::Arc;

/// A request's body as a JSON object.
async fn object(app: &App, request: Request) -> ApiResult<Map<String, Value>> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().is_none_or(|kind| !kind.trim().eq_ignore_ascii_case("application/json")) {
        let message = format!("the content type is {kind:?}; expected application/json");
        return Err(ApiError::request(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let body = app.in_time(async {
        let body = Bytes::from_request(request, &()).await;
        body.map_err(|e| ApiError::request(e.status(), e.body_text()))
    });
    request::object("body", &body.await?)
}

pub async fn speak(State(app): State<Arc<App>>, request: Request) -> ApiResult<Response> {
    let fields = object(&app, request).await?;
    let mut ask = Ask::read(&fields, &app.config)?;
    drop(fields);
    let text = ask.input.take().ok_or_else(|| ApiError::field("input", "is missing; expected the text to speak"))?;
    let transport = ask.transport;
    let prepared = ask.prepare(&app).await?;
    let encoder = Encoder::new(prepared.format, prepared.rate_hz())?;
    let (mut utterance, _) = utterance::begin(&app, &prepared, Some(text)).await?;
    let seed = utterance.seed;
    // The status is said once something can be heard: until then it may still be an error.
    let first = match utterance.pieces.recv().await {
        Some(Piece::Failed(error)) => return Err(error.into()),
        Some(Piece::Ended(stats)) if was_ended(&stats) => return Err(ApiError::unavailable("the server is stopping")),
        Some(piece) => piece,
        None => return Err(ApiError::internal("the speech was lost; the log says why")),
    };
    let mut response = match transport {
        Transport::Whole => whole(utterance, first, encoder).await?,
        Transport::Streamed | Transport::Sse => {
            let sse = transport == Transport::Sse;
            let reference_frames = reference_frames(&prepared);
            let begun = encoder.begin(None);
            let answer =
                Answer { utterance, first: Some(first), encoder, begun, sse, reference_frames, frame: 0, over: false };
            Body::from_stream(stream::unfold(answer, Answer::next)).into_response()
        }
    };
    let headers = response.headers_mut();
    let kind = if transport == Transport::Sse { "text/event-stream" } else { prepared.format.content_type() };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-sample-rate", HeaderValue::from(prepared.rate_hz()));
    headers.insert("x-seed", HeaderValue::from(seed));
    Ok(response)
}

/// Cancelled though its client is there: by the server's end.
fn was_ended(stats: &Stats) -> bool {
    stats.ended.is_some_and(|ended| ended.end == End::Cancelled)
}

fn reference_frames(prepared: &Prepared) -> usize {
    match &prepared.request.voice {
        Voice::Cloned(prompt) => prompt.reference.as_ref().map_or(0, |reference| reference.frames.len()),
        _ => 0,
    }
}

/// A line for each frame.
fn lines(frames: &[Frame], first: usize) -> Vec<u8> {
    let line = |(i, codes): (usize, &Frame)| format!("{}\n", json!({"frame": first + i, "codes": codes}));
    frames.iter().enumerate().map(line).collect::<String>().into_bytes()
}

/// The last line of codes.
fn last_line(stats: &Stats) -> Vec<u8> {
    format!("{}\n", json!({"end": stats.ended.map(|ended| ended.end.name()), "frames": stats.frames})).into_bytes()
}

/// All of it at once.
async fn whole(mut utterance: Utterance, first: Piece, mut encoder: Encoder) -> ApiResult<Response> {
    let (mut bytes, mut samples, mut frame) = (Vec::new(), 0, 0);
    let mut piece = Some(first);
    loop {
        match piece {
            Some(Piece::Sound(chunk)) => {
                samples += chunk.samples.len();
                bytes.extend(encoder.push(&chunk.samples));
            }
            Some(Piece::Frames(frames)) => {
                bytes.extend(lines(&frames, frame));
                frame += frames.len();
            }
            Some(Piece::Word(_)) => {}
            Some(Piece::Ended(stats)) if was_ended(&stats) => {
                return Err(ApiError::unavailable("the server is stopping"));
            }
            Some(Piece::Ended(stats)) => {
                bytes.extend(match encoder.format() {
                    Format::Codes => last_line(&stats),
                    _ => encoder.end(),
                });
                return Ok([encoder.begin(Some(samples)), bytes].concat().into_response());
            }
            Some(Piece::Failed(error)) => return Err(error.into()),
            None => return Err(ApiError::internal("the speech was lost; the log says why")),
        }
        piece = utterance.pieces.recv().await;
    }
}

/// An answer on its way. Hyper drops it when its client goes away, and with it the utterance.
struct Answer {
    utterance: Utterance,
    first: Option<Piece>,
    encoder: Encoder,
    /// What stands before the sound, until it is sent.
    begun: Vec<u8>,
    sse: bool,
    reference_frames: usize,
    frame: usize,
    over: bool,
}

impl Answer {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Answer)> {
        while !self.over {
            let piece = match self.first.take() {
                Some(first) => Some(first),
                None => self.utterance.pieces.recv().await,
            };
            let bytes = self.put(piece);
            if bytes.as_ref().is_ok_and(Vec::is_empty) {
                continue;
            }
            return Some((bytes.map(Bytes::from), self));
        }
        None
    }

    /// An error breaks the answer off, so that nobody takes a part for the whole.
    fn put(&mut self, piece: Option<Piece>) -> io::Result<Vec<u8>> {
        match piece {
            Some(Piece::Sound(chunk)) => {
                let mut bytes = std::mem::take(&mut self.begun);
                bytes.extend(self.encoder.push(&chunk.samples));
                Ok(self.delta(bytes))
            }
            Some(Piece::Frames(frames)) => {
                let bytes = lines(&frames, self.frame);
                self.frame += frames.len();
                Ok(bytes)
            }
            Some(Piece::Word(mark)) => Ok(event(&json!({
                "type": "speech.audio.word", "word": mark.word, "text_byte": mark.text_byte, "sample": mark.sample,
            }))),
            Some(Piece::Ended(stats)) if was_ended(&stats) => {
                self.break_off(&ApiError::unavailable("the server is stopping"))
            }
            Some(Piece::Ended(stats)) => {
                self.over = true;
                Ok(self.end(&stats))
            }
            Some(Piece::Failed(error)) => self.break_off(&error.into()),
            None => self.break_off(&ApiError::internal("the speech was lost; the log says why")),
        }
    }

    fn delta(&self, bytes: Vec<u8>) -> Vec<u8> {
        match self.sse && !bytes.is_empty() {
            true => event(&json!({
                "type": "speech.audio.delta",
                "audio": STANDARD.encode(bytes),
                "response_format": self.encoder.format().name(),
            })),
            false => bytes,
        }
    }

    fn end(&mut self, stats: &Stats) -> Vec<u8> {
        if self.encoder.format() == Format::Codes {
            return last_line(stats);
        }
        let mut bytes = std::mem::take(&mut self.begun);
        bytes.extend(self.encoder.end());
        let mut bytes = self.delta(bytes);
        if self.sse {
            let input = stats.text_tokens + self.reference_frames;
            bytes.extend(event(&json!({
                "type": "speech.audio.done",
                "end": stats.ended.map(|ended| ended.end.name()),
                "usage": {
                    "input_tokens": input,
                    "output_tokens": stats.frames,
                    "total_tokens": input + stats.frames,
                    "input_token_details": {"text_tokens": stats.text_tokens, "audio_tokens": self.reference_frames},
                },
            })));
            bytes.extend(DONE);
        }
        bytes
    }

    fn break_off(&mut self, error: &ApiError) -> io::Result<Vec<u8>> {
        self.over = true;
        match self.sse {
            true => Ok([event(&json!({"type": "speech.audio.error", "error": error.json()})), DONE.to_vec()].concat()),
            false => Err(io::Error::other(error.message.clone())),
        }
    }
}

/// The last event, which some clients wait for.
const DONE: &[u8] = b"data: [DONE]\n\n";

fn event(what: &Value) -> Vec<u8> {
    format!("event: {}\ndata: {what}\n\n", what["type"].as_str().unwrap_or_default()).into_bytes()
}
