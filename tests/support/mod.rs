//! What several test files need. Each uses its own part of it.
#![allow(dead_code)]

mod checkpoint;

pub use checkpoint::checkpoint;

use std::path::PathBuf;

/// The folder of the recorded goldens.
pub fn goldens() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}
