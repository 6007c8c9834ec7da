//! Models by hub id: what the environment says about hub and cache, and a bar while files come.

use crate::{bad, files};
use indicatif::{ProgressBar, ProgressStyle};
use qwentts::error::Result;
use qwentts::hub::{self, HubId, HubOptions, Progress};
use std::env;
use std::path::PathBuf;

/// The model's folder in the cache, with everything in it.
pub fn folder(id: &HubId) -> Result<PathBuf> {
    let options = options()?;
    let bar = ProgressBar::no_length();
    let style = "{msg} {wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    let mut shown = String::new();
    let folder = hub::fetch(id, &options, &mut |progress| match progress {
        Progress::Came { file, bytes, total_bytes } => {
            if shown.is_empty() {
                bar.suspend(|| files::note(&format!("downloading {id} to {}", options.cache.display())));
            }
            if shown != file {
                shown = file.to_owned();
                bar.reset();
                bar.set_length(total_bytes);
                bar.set_position(bytes); // what is here already is no part of the speed
                bar.reset_eta();
                bar.set_message(shown.clone());
            }
            bar.set_position(bytes);
        }
        Progress::Waits { file } => {
            bar.suspend(|| files::note(&format!("waiting: another process is downloading {file} of {id}")));
        }
        _ => {}
    });
    bar.finish_and_clear();
    folder
}

/// The model's folder if the cache holds it whole; no request is made.
pub fn folder_in_cache(id: &HubId) -> Result<PathBuf> {
    hub::fetch(id, &HubOptions { offline: true, ..options()? }, &mut |_| {})
}

/// The variables of the official clients; an empty one counts as none.
pub fn options() -> Result<HubOptions> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let word = |name: &str| set(name).and_then(|value| value.into_string().ok()).map(|value| value.trim().to_owned());
    let home = set("HF_HOME").map(PathBuf::from).or_else(|| {
        let caches = set("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cache")));
        Some(caches?.join("huggingface"))
    });
    let at_home = |name| home.as_ref().map(|home| home.join(name));
    let Some(cache) = set("HF_HUB_CACHE").map(PathBuf::from).or_else(|| at_home("hub")) else {
        return Err(bad("HF_HOME", "is not set and there is no home folder; set it to where models can be kept"));
    };
    // As `hf auth login` leaves it.
    let token_file = set("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| at_home("token"));
    let saved = || Some(std::fs::read_to_string(token_file?).ok()?.trim().to_owned());
    let endpoint = word("HF_ENDPOINT").unwrap_or_else(|| HubOptions::ENDPOINT.to_owned());
    let yes = |value: String| ["1", "ON", "YES", "TRUE"].contains(&&*value.to_uppercase());
    Ok(HubOptions {
        token: word("HF_TOKEN").or_else(saved).filter(|token| !token.is_empty()),
        offline: word("HF_HUB_OFFLINE").is_some_and(yes),
        proxy: proxy(&endpoint, word),
        certificates: set("SSL_CERT_FILE").or_else(|| set("REQUESTS_CA_BUNDLE")).map(PathBuf::from),
        cache,
        endpoint,
    })
}

/// The proxy for `endpoint`, by the variables that most programs share.
fn proxy(endpoint: &str, word: impl Fn(&str) -> Option<String>) -> Option<String> {
    let either = |name: &str| word(name).or_else(|| word(&name.to_lowercase()));
    let (scheme, rest) = endpoint.split_once("://")?;
    let host = rest.split(['/', ':']).next()?;
    let spared = either("NO_PROXY").unwrap_or_default();
    let spares = |entry: &str| {
        let entry = entry.trim().trim_start_matches('.');
        entry == "*" || entry == host || (!entry.is_empty() && host.ends_with(&format!(".{entry}")))
    };
    if spared.split(',').any(spares) {
        return None;
    }
    either(if scheme == "http" { "HTTP_PROXY" } else { "HTTPS_PROXY" }).or_else(|| either("ALL_PROXY"))
}
