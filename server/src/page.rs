//! The page and the description of the API, embedded. Owns their paths and what the page may do in a browser.

use crate::App;
use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;

/// Everything from here but calls, which may go to other servers for a comparison.
const POLICY: &str =
    "default-src 'self'; connect-src * blob:; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'";

macro_rules! files {
    ($($path:literal, $file:literal, $kind:literal;)*) => {
        pub fn routes() -> Router<Arc<App>> {
            Router::new()$(.route($path, get(async || file($kind, include_str!($file)))))*
        }
    };
}
files! {
    "/", "../page/index.html", "text/html; charset=utf-8";
    "/page/page.css", "../page/page.css", "text/css";
    "/page/page.js", "../page/page.js", "text/javascript";
    "/page/calls.js", "../page/calls.js", "text/javascript";
    "/page/player.js", "../page/player.js", "text/javascript";
    "/page/picture.js", "../page/picture.js", "text/javascript";
    "/page/worklet.js", "../page/worklet.js", "text/javascript";
    "/openapi.json", "../openapi.json", "application/json";
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, text).into_response()
}
