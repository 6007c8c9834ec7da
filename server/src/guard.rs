//! What every request passes: whose page sends it, which key it has, which id it goes by. Owns CORS and the comparison of keys.

use crate::App;
use crate::error::ApiError;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use subtle::{Choice, ConstantTimeEq};

/// What a WebSocket that names protocols is answered.
pub const PROTOCOL: &str = "qwentts";
/// A browser's WebSocket can send no header of its own: there the key is a protocol behind these words, as OpenAI has it.
const KEY_PROTOCOL: &str = "openai-insecure-api-key.";
const REQUEST_ID: &str = "x-request-id";

/// The keys that open the server, as digests, so that neither their bytes nor their lengths are compared.
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    pub fn new(keys: &[String]) -> Keys {
        Keys(keys.iter().map(|key| Sha256::digest(key).into()).collect())
    }

    /// Whether it is one of them. Takes the same time for every key of a length: all digests are looked at, whole.
    fn open_with(&self, key: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(key).into();
        let found = self.0.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(&given));
        found.into()
    }
}

fn key_of(headers: &HeaderMap) -> Option<&str> {
    if let Some(said) = headers.get(header::AUTHORIZATION) {
        let (scheme, key) = said.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| key.trim());
    }
    let protocols = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    protocols.split(',').find_map(|protocol| protocol.trim().strip_prefix(KEY_PROTOCOL))
}

/// Whether a page of this origin may call: one of our own, or one that the configuration names. Where no key is asked for, a
/// page is our own only if its address is a number or localhost: whoever owns a name can have it mean this machine once a
/// browser has the page.
fn welcome(origin: &HeaderValue, headers: &HeaderMap, allowed: &[String], keyed: bool) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let same = origin.split_once("://").is_some_and(|(_, at)| at.eq_ignore_ascii_case(host));
    let ours = same && (keyed || is_no_name(host));
    ours || allowed.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
}

fn is_no_name(host: &str) -> bool {
    let Ok(host) = host.parse::<Authority>() else { return false };
    let host = host.host().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

/// The length that a body is said to have. One that says none is counted as it comes.
fn announced(headers: &HeaderMap) -> u64 {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    length.unwrap_or(0)
}

/// An id that a client gave, if it may stand in a header and a log.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|id| (1..=128).contains(&id.len()) && id.to_str().is_ok());
    given.cloned().unwrap_or_else(|| {
        let random = RandomState::new().hash_one(0u8);
        HeaderValue::from_str(&format!("{random:016x}")).unwrap_or(HeaderValue::from_static("none"))
    })
}

pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let path = request.uri().path();
    let api = path.starts_with("/v1/") || path == "/v1";
    let origin = request.headers().get(header::ORIGIN).cloned();
    let (allowed, asks_for_keys) = (&app.config.cors_origins, !app.keys.0.is_empty());
    let may = origin.as_ref().is_none_or(|origin| welcome(origin, request.headers(), allowed, asks_for_keys));
    let preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let keyed = api || path == "/metrics";
    let opens = !keyed || !asks_for_keys || key_of(request.headers()).is_some_and(|key| app.keys.open_with(key));
    let mut response = if api && !may {
        // Its page could not read the answer, but the request would have been carried out.
        ApiError::forbidden("this page's origin may not call this server; cors_origins names those that may")
            .into_response()
    } else if api && preflight {
        StatusCode::NO_CONTENT.into_response()
    } else if !opens {
        ApiError::no_key().into_response()
    } else if announced(request.headers()) > app.config.body_bytes as u64 {
        let message = format!("the body has more than the {} bytes that this server takes", app.config.body_bytes);
        ApiError::request(StatusCode::PAYLOAD_TOO_LARGE, message).into_response()
    } else {
        next.run(request).await
    };
    app.metrics.answered(response.status().as_u16());
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(origin) = origin.filter(|_| may && api) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        let shown = HeaderValue::from_static("x-request-id, x-sample-rate, x-seed, retry-after");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, shown);
        if preflight {
            let methods = HeaderValue::from_static("GET, POST, DELETE");
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
            let names = HeaderValue::from_static("authorization, content-type, x-request-id");
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_key_opens() {
        let keys = Keys::new(&["alpha".into(), "beta".into()]);
        assert!(keys.open_with("alpha") && keys.open_with("beta"));
        for wrong in ["", "a", "alph", "alphaa", "ALPHA", "alpha,beta", "gamma"] {
            assert!(!keys.open_with(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_key_is_found_where_clients_put_it() {
        let headers = |name: header::HeaderName, value: &str| HeaderMap::from_iter([(name, value.parse().unwrap())]);
        assert_eq!(key_of(&headers(header::AUTHORIZATION, "bearer k")), Some("k"));
        assert_eq!(key_of(&headers(header::AUTHORIZATION, "Basic k")), None);
        assert_eq!(key_of(&headers(header::SEC_WEBSOCKET_PROTOCOL, "qwentts, openai-insecure-api-key.k")), Some("k"));
        assert_eq!(key_of(&HeaderMap::new()), None);
    }

    #[test]
    fn pages_of_others_must_be_named() {
        let at = |host: &'static str, origin: &'static str, allowed: &[&str], keyed: bool| {
            let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            let allowed: Vec<String> = allowed.iter().map(|s| s.to_string()).collect();
            welcome(&HeaderValue::from_static(origin), &headers, &allowed, keyed)
        };
        let welcome = |origin, allowed: &[&str]| at("here:1", origin, allowed, true);
        assert!(welcome("http://here:1", &[]));
        assert!(!welcome("http://here:2", &[]) && !welcome("null", &[]) && !welcome("http://here:1.evil.org", &[]));
        // A name that its owner has made mean this machine: the browser takes us for the page's own server.
        assert!(!at("evil.example:1", "http://evil.example:1", &[], false));
        assert!(at("evil.example:1", "http://evil.example:1", &[], true), "it has no key");
        assert!(at("mine.example", "https://mine.example", &["https://mine.example"], false));
        for host in ["127.0.0.1:1", "[::1]:1", "localhost:1", "192.168.7.7"] {
            let origin: &'static str = format!("http://{host}").leak();
            assert!(at(host, origin, &[], false), "{host}");
        }
        assert!(!at("127.0.0.1.evil.example", "http://127.0.0.1.evil.example", &[], false));
        assert!(welcome("https://a.b", &["https://a.b"]) && !welcome("https://a.b.c", &["https://a.b"]));
        assert!(welcome("null", &["*"]));
    }
}
