//! What the fuzz targets share. The fuzzer's bytes become a few edits to something valid (`edit`), so that most inputs
//! get behind the first check; the valid things are the demo model's files, the goldens' requests and configs, and a
//! checkpoint of a few kilobytes in any shape (`tiny`). So no corpus is kept: an empty input is the valid thing itself.

pub mod edit;
pub mod tiny;

use qwentts::{Error, ModelSource};
use std::fs;
use std::path::PathBuf;

/// A model folder that an input may fill; in memory where the system has such a place.
pub struct Folder(PathBuf);

impl Folder {
    /// An empty one for this process. It is not removed: the fuzzer ends by `exit`. `make fuzz` gives it a TMPDIR.
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("qwentts-fuzz-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("speech_tokenizer")).expect("a folder in TMPDIR");
        Folder(path)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), bytes).expect("a file in TMPDIR");
    }

    pub fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.0.join(name));
    }

    pub fn source(&self) -> ModelSource {
        ModelSource::Folder(self.0.clone())
    }

    /// The error says which file of this folder is wrong (one of `files`), and what is.
    pub fn check_error(&self, error: &Error, files: &[&str]) {
        let text = error.to_string();
        let place = |file: &&str| text.strip_prefix(&format!("{}: ", self.0.join(file).display()));
        let what = files.iter().find_map(place);
        assert!(what.is_some_and(|what| !what.trim().is_empty()), "{text:?} names none of {files:?}");
    }
}
