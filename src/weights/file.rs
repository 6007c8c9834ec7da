//! safetensors files of one checkpoint, single or sharded with an index: every tensor by name, checked
//! for shape and dtype when it is bound. Knows the container format, no model.

use super::tensor::{Dtype, Tensor};
use crate::error::{Error, Result};
use crate::source::{FileBytes, ModelSource};
use safetensors::{SafeTensors, tensor::Metadata};
use std::collections::{BTreeMap, BTreeSet};

/// A tensor as its file has it.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    /// "model" or "speech_tokenizer/model".
    pub file: &'static str,
    /// Its full name.
    pub name: String,
    /// Rows first.
    pub shape: Vec<usize>,
    /// As safetensors names it: "BF16", "F32", …
    pub dtype: String,
    /// Stored bytes.
    pub bytes: usize,
}

/// The tensors of `{stem}.safetensors` (or of the shards that `{stem}.safetensors.index.json` names).
pub struct TensorFile {
    file: String,
    tensors: BTreeMap<String, Stored>,
    bound: BTreeSet<String>,
}

struct Stored {
    shape: Vec<usize>,
    dtype: safetensors::Dtype,
    data: FileBytes,
    range: std::ops::Range<usize>,
    file: String,
}

/// `{stem}.safetensors.index.json`: which shard, beside the index, holds which tensor.
#[derive(serde::Deserialize)]
pub struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Index {
    /// The name of the index of `stem`.
    pub fn name(stem: &str) -> String {
        format!("{stem}.safetensors.index.json")
    }

    /// Reads the index of `stem`; `None` where there is none.
    pub fn open(source: &ModelSource, stem: &str) -> Result<Option<Index>> {
        let name = Self::name(stem);
        if source.read_if_there(&name)?.is_none() {
            return Ok(None);
        }
        let index = source.json::<Index>(&name)?;
        match index.weight_map.values().find(|shard| shard.contains(['/', '\\'])) {
            None => Ok(Some(index)),
            Some(shard) => {
                Err(Error::checkpoint(source.describe(&name), format!("shard name {shard:?} leaves the folder")))
            }
        }
    }

    /// The name of `shard` in the checkpoint.
    fn beside(stem: &str, shard: &str) -> String {
        stem.rsplit_once('/').map_or(shard.to_owned(), |(folder, _)| format!("{folder}/{shard}"))
    }

    /// Every shard's name in the checkpoint, once.
    pub fn shards(&self, stem: &str) -> BTreeSet<String> {
        self.weight_map.values().map(|shard| Self::beside(stem, shard)).collect()
    }
}

impl TensorFile {
    /// Maps the file or its shards and reads the headers.
    pub fn open(source: &ModelSource, stem: &str) -> Result<TensorFile> {
        let mut tensors = BTreeMap::new();
        let single = format!("{stem}.safetensors");
        // As upstream: a single file goes before an index.
        let index = match source.read_if_there(&single)? {
            Some(_) => None,
            None => Index::open(source, stem)?,
        };
        let Some(index) = index else {
            read_headers(source, &single, &mut tensors)?;
            return Ok(TensorFile { file: source.describe(&single), tensors, bound: BTreeSet::new() });
        };
        let index_file = source.describe(&Index::name(stem));
        for shard in index.shards(stem) {
            read_headers(source, &shard, &mut tensors)?;
        }
        for (name, shard) in &index.weight_map {
            let file = source.describe(&Index::beside(stem, shard));
            if tensors.get(name).is_none_or(|t| t.file != file) {
                let what = format!("says tensor {name} is in {shard}, which does not hold it");
                return Err(Error::checkpoint(index_file, what));
            }
        }
        Ok(TensorFile { file: index_file, tensors, bound: BTreeSet::new() })
    }

    /// Tensor `name`, which must have exactly `shape` and be bf16, f16 or f32.
    pub fn bind(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let Some(t) = self.tensors.get(name) else {
            let what = format!("tensor {name} is missing; expected shape {shape:?}");
            return Err(Error::checkpoint(self.file.clone(), what));
        };
        if t.shape != shape {
            let what = format!("tensor {name} has shape {:?}; expected {shape:?}", t.shape);
            return Err(Error::checkpoint(t.file.clone(), what));
        }
        let dtype = match t.dtype {
            safetensors::Dtype::BF16 => Dtype::Bf16,
            safetensors::Dtype::F16 => Dtype::F16,
            safetensors::Dtype::F32 => Dtype::F32,
            other => {
                let what = format!("tensor {name} has dtype {other:?}; expected BF16, F16 or F32");
                return Err(Error::checkpoint(t.file.clone(), what));
            }
        };
        self.bound.insert(name.to_owned());
        Ok(Tensor { shape: t.shape.clone(), dtype, file: t.data.clone(), range: t.range.clone() })
    }

    /// Whether there is a tensor whose name begins so.
    pub fn holds(&self, prefix: &str) -> bool {
        self.tensors.range(prefix.to_owned()..).next().is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// Call when everything is bound: a tensor that is neither bound nor `expected` (of a part that is
    /// not used) means another architecture, and ignoring it would give wrong speech.
    pub fn finish(self, expected: impl Fn(&str) -> bool) -> Result<()> {
        match self.tensors.iter().find(|(name, _)| !self.bound.contains(*name) && !expected(name)) {
            None => Ok(()),
            Some((name, t)) => {
                let what = format!("tensor {name} {:?} is not part of a Qwen3-TTS 12 Hz checkpoint", t.shape);
                Err(Error::checkpoint(t.file.clone(), what))
            }
        }
    }

    /// The file's (or index's) path.
    pub fn path(&self) -> &str {
        &self.file
    }

    /// The first tensor, by name, with a number that is NaN or infinite.
    pub(crate) fn first_not_finite(&self) -> Option<&str> {
        let exponent_full = |bytes: &[u8], width: usize, mask: u32| {
            bytes.chunks_exact(width).any(|b| {
                let top = u32::from(u16::from_le_bytes([b[width - 2], b[width - 1]]));
                top & mask == mask
            })
        };
        let bad = |t: &&Stored| {
            let bytes = &t.data[t.range.clone()];
            match t.dtype {
                safetensors::Dtype::F32 => exponent_full(bytes, 4, 0x7f80),
                safetensors::Dtype::BF16 => exponent_full(bytes, 2, 0x7f80),
                safetensors::Dtype::F16 => exponent_full(bytes, 2, 0x7c00),
                _ => false,
            }
        };
        self.tensors.iter().find(|(_, t)| bad(t)).map(|(name, _)| name.as_str())
    }

    /// Name, type, shape and first bytes of every tensor: enough to tell two models apart, and read in a moment.
    pub(crate) fn identify(&self, into: &mut impl sha2::Digest) {
        for (name, t) in &self.tensors {
            into.update(format!("{name} {:?} {:?}\n", t.dtype, t.shape));
            into.update(&t.data[t.range.start..t.range.end.min(t.range.start + 4096)]);
        }
    }

    /// Every tensor, in order of name; `stem` is this file's.
    pub fn list(&self, stem: &'static str) -> impl Iterator<Item = TensorInfo> {
        self.tensors.iter().map(move |(name, t)| TensorInfo {
            file: stem,
            name: name.clone(),
            shape: t.shape.clone(),
            dtype: format!("{:?}", t.dtype),
            bytes: t.range.len(),
        })
    }
}

fn read_headers(source: &ModelSource, name: &str, into: &mut BTreeMap<String, Stored>) -> Result<()> {
    let data = source.read(name)?;
    let file = source.describe(name);
    let (header_bytes, metadata): (usize, Metadata) = SafeTensors::read_metadata(&data).map_err(|e| {
        Error::checkpoint(file.clone(), format!("not a whole safetensors file ({} bytes): {e}", data.len()))
    })?;
    let start = 8 + header_bytes; // after the header's length and the header; ranges are checked by the crate
    for (tensor, info) in metadata.tensors() {
        let range = start + info.data_offsets.0..start + info.data_offsets.1;
        let stored =
            Stored { shape: info.shape.clone(), dtype: info.dtype, data: data.clone(), range, file: file.clone() };
        if into.insert(tensor.clone(), stored).is_some() {
            return Err(Error::checkpoint(file, format!("tensor {tensor} stands in two shards")));
        }
    }
    Ok(())
}
