//! The demo model in a folder that tests may break, and the words with which things fail. Each test file uses its own
//! part of it.
#![allow(dead_code)]

use crate::run::demo;
use qwentts::cpu::Reference;
use qwentts::frame::Frame;
use qwentts::model::Model;
use qwentts::request::{Request, SamplingOptions, Voice};
use qwentts::source::ModelSource;
use qwentts::speech::{Speech, Text};
use qwentts::trace::{self, TraceRequest};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

pub const FILES: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors",
    "speech_tokenizer/config.json",
    "speech_tokenizer/model.safetensors",
    "tokenizer_config.json",
    "vocab.json",
];

/// One tensor of a file that a test rewrites.
pub struct Stored {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// The demo model in a folder that a test may break. Files are links until they are replaced.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Folder {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("speech_tokenizer")).unwrap();
        for name in FILES {
            std::os::unix::fs::symlink(demo().join(name), folder.path().join(name)).unwrap();
        }
        Folder(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn without(self, name: &str) -> Folder {
        fs::remove_file(self.path(name)).unwrap();
        self
    }

    pub fn with(self, name: &str, bytes: impl AsRef<[u8]>) -> Folder {
        let path = self.path(name);
        if path.exists() {
            fs::remove_file(&path).unwrap();
        }
        fs::write(path, bytes).unwrap();
        self
    }

    /// Sets the JSON value at `pointer` of file `name`.
    pub fn set(self, name: &str, pointer: &str, value: Value) -> Folder {
        let mut json: Value = serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value);
        self.with(name, serde_json::to_vec_pretty(&json).unwrap())
    }

    pub fn tensors(&self, name: &str) -> Vec<Stored> {
        let bytes = fs::read(self.path(name)).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let own = |(name, t): (String, TensorView)| Stored {
            name,
            dtype: t.dtype(),
            shape: t.shape().to_vec(),
            bytes: t.data().to_vec(),
        };
        let mut tensors: Vec<Stored> = tensors.tensors().into_iter().map(own).collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name)); // the crate's order changes from call to call
        tensors
    }

    pub fn with_tensors<'a>(self, name: &str, tensors: impl IntoIterator<Item = &'a Stored>) -> Folder {
        let view = |t: &'a Stored| (&t.name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap());
        let bytes = safetensors::serialize(tensors.into_iter().map(view), None).unwrap();
        self.with(name, bytes)
    }

    /// Rewrites file `name` with `change` made to its tensor `tensor`.
    pub fn change(self, name: &str, tensor: &str, change: impl FnOnce(&mut Stored)) -> Folder {
        let mut tensors = self.tensors(name);
        change(tensors.iter_mut().find(|t| t.name == tensor).unwrap());
        self.with_tensors(name, &tensors)
    }

    pub fn open(&self) -> Arc<Model> {
        Model::open(&ModelSource::Folder(self.0.path().to_owned())).unwrap()
    }

    pub fn reference(&self) -> Arc<Reference> {
        Arc::new(Reference::new(self.open(), Some(1)).unwrap())
    }

    /// The words with which opening fails.
    pub fn error(&self) -> String {
        match Model::open(&ModelSource::Folder(self.0.path().to_owned())) {
            Ok(_) => panic!("the folder opens"),
            Err(error) => error.to_string(),
        }
    }

    /// Opening fails with `words` about file `name`.
    #[track_caller]
    pub fn says(&self, name: &str, words: &str) {
        assert_eq!(self.error(), format!("{}: {words}", self.path(name).display()));
    }
}

pub fn reference() -> Arc<Reference> {
    let model = Model::open(&ModelSource::Folder(demo())).unwrap();
    Arc::new(Reference::new(model, Some(1)).unwrap())
}

pub fn base() -> Folder {
    Folder::new().set("config.json", "/tts_model_type", json!("base")).set(
        "config.json",
        "/talker_config/spk_id",
        json!({}),
    )
}

pub fn say(max_new_tokens: usize) -> Request {
    let mut sampling = SamplingOptions { max_new_tokens: Some(max_new_tokens), ..Default::default() };
    sampling.draws(false);
    Request { voice: Voice::Preset("slt".into()), sampling, ..Default::default() }
}

pub fn hello() -> Text {
    Text::Whole("Hello there, how are you?".into())
}

/// The words with which an utterance is refused or fails.
pub fn fails(reference: Arc<Reference>, text: Text, request: &Request) -> String {
    let run = || -> qwentts::error::Result<()> {
        let mut speech = Speech::new(reference, text, request)?;
        while let Some(chosen) = speech.next_frame()? {
            speech.decode(&[chosen.frame])?;
        }
        Ok(())
    };
    run().expect_err("it speaks").to_string()
}

/// The words with which a trace request fails on this model.
pub fn request_fails(reference: &Arc<Reference>, request: &str) -> String {
    let run = || trace::run(reference, &TraceRequest::parse(request.as_bytes())?, None).map(|_| ());
    run().expect_err(request).to_string()
}

/// Frames of the first `frames`, and the bits of every talker score.
pub fn speak(reference: Arc<Reference>, frames: usize) -> (Vec<Frame>, Vec<u32>) {
    let mut speech = Speech::new(reference, hello(), &say(frames + 1)).unwrap();
    speech.record();
    let mut spoken = Vec::new();
    while let Some(chosen) = speech.next_frame().unwrap() {
        spoken.push(chosen.frame);
    }
    assert_eq!(spoken.len(), frames);
    (spoken, speech.recording().unwrap().talker_logits.iter().map(|x| x.to_bits()).collect())
}
