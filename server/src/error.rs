//! What a client is told when something is wrong: OpenAI's JSON, `{"error": {"message", "type", "param", "code"}}`. Owns which
//! error has which status.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use qwentts::Error;
use serde_json::{Value, json};

/// An answer that is no speech.
#[derive(Clone, Debug)]
pub struct ApiError {
    pub status: StatusCode,
    pub message: String,
    /// The field of the request that is wrong.
    pub param: Option<String>,
    pub code: &'static str,
    /// Seconds after which to try again.
    pub retry_after_s: Option<u64>,
}

pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, message: message.into(), param: None, code, retry_after_s: None }
    }

    /// A field that cannot be used; `what` follows its name.
    pub fn field(param: &str, what: impl std::fmt::Display) -> ApiError {
        let error = ApiError::new(StatusCode::BAD_REQUEST, "invalid_value", format!("{param}: {what}"));
        ApiError { param: Some(param.to_owned()), ..error }
    }

    /// A body, path or header that cannot be used.
    pub fn request(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError::new(status, "invalid_request", message)
    }

    pub fn no_key() -> ApiError {
        let message = "no valid API key was given; expected the header Authorization: Bearer KEY";
        ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
    }

    pub fn forbidden(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "origin_not_allowed", message)
    }

    pub fn not_found(param: &str, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { param: Some(param.to_owned()), ..ApiError::new(StatusCode::NOT_FOUND, code, message) }
    }

    pub fn busy(message: impl Into<String>) -> ApiError {
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message);
        ApiError { retry_after_s: Some(1), ..error }
    }

    pub fn unavailable(message: impl Into<String>) -> ApiError {
        let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message);
        ApiError { retry_after_s: Some(1), ..error }
    }

    pub fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }

    /// What stands under "error".
    pub fn json(&self) -> Value {
        let kind = match self.status.as_u16() {
            401 => "authentication_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        json!({"message": self.message, "type": kind, "param": self.param, "code": self.code})
    }
}

/// Our fields by the names that the library calls other.
fn api_name(field: &str) -> &str {
    match field {
        "text" => "input",
        "instruct" => "instructions",
        "chunk_frames" => "initial_codec_chunk_frames",
        "sample_rate_hz" => "sample_rate",
        "layout" => "non_streaming_mode",
        "speaker_vector" => "speaker_embedding",
        other => other,
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> ApiError {
        match error {
            Error::Request { field, what } => ApiError::field(api_name(field), what),
            Error::Busy { what } => ApiError::busy(what),
            Error::Ended { .. } => ApiError::field("input", error),
            Error::Closed => ApiError::unavailable("the engine is closed"),
            other => {
                eprintln!("qwentts-server: {other}");
                ApiError::internal("the engine failed; its log says why")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({"error": self.json()}))).into_response();
        let headers = response.headers_mut();
        if let Some(s) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(s));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
