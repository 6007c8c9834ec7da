//! What several test files need. Each uses its own part of it.
#![allow(dead_code)]

mod checkpoint;
mod device;

pub use checkpoint::checkpoint;
pub use device::{device, kv};

use qwentts::{Bare, EngineOptions, Model};
use std::path::PathBuf;
use std::sync::Arc;

/// The folder of the recorded goldens.
pub fn goldens() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The bare loop on the device that tests choose.
pub fn bare(model: Arc<Model>, threads: Option<usize>) -> Bare {
    Bare::open(model, device(), threads, kv()).unwrap()
}

/// An engine's options with that device.
pub fn options() -> EngineOptions {
    EngineOptions { device: Some(device()), kv: kv(), ..Default::default() }
}
