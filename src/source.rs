//! Where a checkpoint's files come from: a folder in the hub's layout, or the demo model inside this
//! library. Owns the mapping of files into memory; knows file names, not what they hold.
#![allow(unsafe_code)] // one block: memory maps

use crate::error::{Error, Result};
use std::{ops::Deref, path::PathBuf, sync::Arc};

/// A place that holds a checkpoint in the published layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// A folder: config.json, vocab.json, model.safetensors, speech_tokenizer/…
    Folder(PathBuf),
    /// The small model inside this library (feature `demo`): English, voices `slt` and `rms`.
    #[cfg(feature = "demo")]
    Demo,
}

/// The bytes of one file, mapped read-only: from disk, or where they lie in the binary. Cheap to clone.
#[derive(Clone)]
pub struct FileBytes(Arc<Backing>);

enum Backing {
    Mapped(memmap2::Mmap),
    #[cfg(feature = "demo")]
    Embedded(&'static [u8]),
    #[cfg(test)]
    Owned(Vec<u8>),
}

#[cfg(test)]
impl FileBytes {
    pub(crate) fn owned(bytes: Vec<u8>) -> FileBytes {
        FileBytes(Arc::new(Backing::Owned(bytes)))
    }
}

impl Deref for FileBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &*self.0 {
            Backing::Mapped(map) => map,
            #[cfg(feature = "demo")]
            Backing::Embedded(bytes) => bytes,
            #[cfg(test)]
            Backing::Owned(bytes) => bytes,
        }
    }
}

#[cfg(feature = "demo")]
macro_rules! demo_files {
    ($($name:literal),* $(,)?) => {
        /// models/demo, as (name, bytes); the bytes stay in the binary's read-only pages.
        static DEMO: &[(&str, &[u8])] = &[$(($name, include_bytes!(concat!("../models/demo/", $name)))),*];
    };
}
#[cfg(feature = "demo")]
demo_files!(
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors",
    "speech_tokenizer/config.json",
    "speech_tokenizer/model.safetensors",
    "tokenizer_config.json",
    "vocab.json",
);

impl ModelSource {
    /// What to call file `name` in a message: its path, or its place in the demo model.
    pub fn describe(&self, name: &str) -> String {
        match self {
            ModelSource::Folder(folder) => folder.join(name).display().to_string(),
            #[cfg(feature = "demo")]
            ModelSource::Demo => format!("demo/{name}"),
        }
    }

    /// The bytes of file `name`. Fails with the path where it is missing or unreadable.
    pub fn read(&self, name: &str) -> Result<FileBytes> {
        match self {
            ModelSource::Folder(folder) => {
                let path = folder.join(name);
                let map = || -> std::io::Result<memmap2::Mmap> {
                    let file = std::fs::File::open(&path)?;
                    if file.metadata()?.is_dir() {
                        return Err(std::io::ErrorKind::IsADirectory.into()); // mapping it says "no such device"
                    }
                    // SAFETY: the map is read-only and private to us; as with every mapped model file,
                    // whoever truncates it while it is open ends the process. Stated in the README.
                    unsafe { memmap2::Mmap::map(&file) }
                };
                map().map(|m| FileBytes(Arc::new(Backing::Mapped(m)))).map_err(|e| match folder.is_dir() {
                    true => Error::file(path.clone(), e),
                    false => {
                        use std::io::ErrorKind::{NotADirectory, NotFound};
                        let kind = if folder.exists() { NotADirectory } else { NotFound };
                        let words =
                            "is no folder; expected one that holds config.json, model.safetensors, speech_tokenizer/…";
                        Error::file(folder, std::io::Error::new(kind, words))
                    }
                })
            }
            #[cfg(feature = "demo")]
            ModelSource::Demo => DEMO
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, bytes)| FileBytes(Arc::new(Backing::Embedded(bytes))))
                .ok_or_else(|| Error::file(self.describe(name), std::io::ErrorKind::NotFound.into())),
        }
    }

    /// As `read`, but `None` where there is no such file.
    pub fn read_if_there(&self, name: &str) -> Result<Option<FileBytes>> {
        match self.read(name) {
            Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// File `name` as JSON. A file that is no JSON, or misses a field, is named with the parser's words and, where it
    /// holds a field and is short, the line.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T> {
        let bytes = self.read(name)?;
        serde_json::from_slice(&bytes).map_err(|e| {
            let line = bytes.split(|&b| b == b'\n').nth(e.line().wrapping_sub(1)).unwrap_or(&[]);
            let line = String::from_utf8_lossy(line);
            let what = match line.contains(':') && line.len() <= 120 {
                true => format!("{e}: {}", line.trim()),
                false => e.to_string(),
            };
            Error::checkpoint(self.describe(name), what)
        })
    }
}
