//! Models by hub id: what the environment says about hub and cache, and a bar while files come.

use crate::files;
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

/// What the environment says.
pub fn options() -> Result<HubOptions> {
    HubOptions::of_variables(|name| env::var_os(name), env::home_dir())
}
