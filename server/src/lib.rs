//! Speech over HTTP and WebSocket, in OpenAI's shape, from engines of the `qwentts` library, by its public face alone.
//!
//! A request goes [`listen`] (sockets) → `guard` (origin, key) → `speech`, `live` or `voices` (routes) → `request` (fields to the
//! library's `Request`) → `utterance` (a stream, read by a thread of its own) → `sound` (bytes). [`config`] says what to serve,
//! `models` opens it, `metrics` counts.

pub mod config;
mod error;
mod guard;
pub mod listen;
mod live;
mod metrics;
mod models;
#[cfg(feature = "opus")]
mod opus;
mod page;
mod request;
mod sound;
mod speech;
mod utterance;
mod voices;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use config::Config;
use error::{ApiError, ApiResult};
use models::Served;
use serde_json::json;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Voices that may wait to be made while one is.
const CLONES_WAITING: usize = 4;

/// What all requests share.
pub struct App {
    config: Config,
    models: OnceLock<Vec<Arc<Served>>>,
    voices: voices::Folder,
    keys: guard::Keys,
    metrics: metrics::Metrics,
    draining: watch::Sender<bool>,
    clones: Arc<Semaphore>,
    clones_waiting: Arc<Semaphore>,
}

impl App {
    pub fn new(config: Config) -> Arc<App> {
        Arc::new(App {
            voices: voices::Folder(config.voices_dir.clone()),
            keys: guard::Keys::new(&config.api_keys),
            models: OnceLock::new(),
            metrics: metrics::Metrics::default(),
            draining: watch::Sender::new(false),
            clones: Arc::new(Semaphore::new(1)),
            clones_waiting: Arc::new(Semaphore::new(CLONES_WAITING + 1)),
            config,
        })
    }

    /// Opens the models and has each speak once: from then on the server is ready. Waits until it is done.
    pub fn open(&self) -> Result<(), String> {
        if let Some(folder) = &self.config.voices_dir {
            std::fs::create_dir_all(folder).map_err(|e| format!("voices_dir: {}: {e}", folder.display()))?;
        }
        let models = models::open_all(&self.config)?;
        for model in &models {
            eprintln!("qwentts-server: model {} on {}", model.name, model.engine.device());
        }
        let _ = self.models.set(models);
        Ok(())
    }

    /// Takes no more connections, and has those that are end with what is under way.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Ends all speech.
    pub fn close(&self) {
        self.models.get().iter().flat_map(|models| models.iter()).for_each(|model| model.engine.close());
    }

    fn models(&self) -> ApiResult<&[Arc<Served>]> {
        let models =
            self.models.get().ok_or_else(|| ApiError::unavailable("the models are being loaded; try again"))?;
        Ok(models)
    }

    /// Until the server is told to stop.
    async fn told_to_stop(&self) {
        let mut draining = self.draining.subscribe();
        let _ = draining.wait_for(|draining| *draining).await; // its other end is ours
    }

    fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Where work may take its time: not on the threads that serve.
    async fn off_thread<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<App>) -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let app = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&app)).await;
        done.unwrap_or_else(|_| Err(ApiError::internal("the request could not be worked on; the log says why")))
    }

    /// A body, or a part of one, that must come within the time that a connection may be idle.
    async fn in_time<T>(&self, coming: impl Future<Output = ApiResult<T>>) -> ApiResult<T> {
        let limit = Duration::from_secs(self.config.idle_s);
        let late = || {
            let message = format!("the body did not come within {} s", self.config.idle_s);
            ApiError::request(StatusCode::REQUEST_TIMEOUT, message)
        };
        tokio::time::timeout(limit, coming).await.unwrap_or_else(|_| Err(late()))
    }

    /// Voices that are being made, those that wait for it among them.
    fn clones(&self) -> usize {
        CLONES_WAITING + 1 - self.clones_waiting.available_permits()
    }

    /// One voice is made at a time, with every core; a few may wait.
    async fn turn_to_clone(&self) -> ApiResult<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let busy = || ApiError::busy("voices are being made of as many recordings as may wait");
        let waiting = self.clones_waiting.clone().try_acquire_owned().map_err(|_| busy())?;
        let turn = self.clones.clone().acquire_owned().await.map_err(|_| busy())?;
        Ok((waiting, turn))
    }
}

/// Every route.
pub fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/v1/audio/speech", post(speech::speak))
        .route("/v1/audio/speech/stream", get(live::upgrade))
        .route("/v1/audio/voices", get(voices::list).post(voices::make))
        .route("/v1/audio/voices/{name}", delete(voices::delete))
        .route("/v1/models", get(list_models))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_text))
        .merge(page::routes())
        .fallback(async || ApiError::request(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            ApiError::request(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
        })
        .layer(DefaultBodyLimit::max(app.config.body_bytes))
        .layer(axum::middleware::from_fn_with_state(app.clone(), guard::guard))
        .with_state(app.clone())
}

async fn list_models(State(app): State<Arc<App>>) -> ApiResult<axum::Json<serde_json::Value>> {
    let models = app.models()?.iter().map(|served| {
        let config = &served.engine.model().config;
        json!({
            "id": served.name, "object": "model", "created": 0, "owned_by": "qwentts", "task_type": served.kind(),
            "device": served.engine.device(), "languages": config.language_names().collect::<Vec<_>>(),
            "instructions": config.takes_instruct(), "clones": config.speaker_encoder.is_some(),
        })
    });
    Ok(axum::Json(json!({"object": "list", "data": models.collect::<Vec<_>>()})))
}

/// Whether the process can serve at all: an engine that broke is for whoever restarts it.
async fn health(State(app): State<Arc<App>>) -> ApiResult<&'static str> {
    for model in app.models.get().iter().flat_map(|models| models.iter()) {
        let broken = |e| ApiError::unavailable(format!("model {} has ended: {e}", model.name));
        model.engine.health().map_err(broken)?;
    }
    Ok("ok\n")
}

/// Whether requests are welcome: the models are loaded and have spoken, and the server was not told to stop.
async fn ready(State(app): State<Arc<App>>) -> ApiResult<&'static str> {
    app.models()?;
    match app.is_draining() {
        true => Err(ApiError::unavailable("the server is stopping")),
        false => Ok("ready\n"),
    }
}

async fn metrics_text(State(app): State<Arc<App>>) -> Response {
    let text = app.metrics.text(app.models.get().map_or(&[], Vec::as_slice), app.clones());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
