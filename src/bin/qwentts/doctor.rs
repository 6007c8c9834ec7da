//! `qwentts doctor`: what this machine and this build have for speaking, a verdict each. Changes nothing, downloads
//! nothing.

use crate::play::Player;
use crate::{ModelArgs, Outcome, files};
use clap::Args;
use qwentts::cpu;
use qwentts::device::Device;
use qwentts::driver::{Driver, Gpu};
use qwentts::error::{Error, Result};
use qwentts::model::Model;
use serde_json::{Value, json};

/// Say what is ready for speaking: CPU, driver, GPU, kernels, device, model, model cache, sound
///
/// A line for each: a verdict, the item, what was found, and where something is missing what can be done.
///
///   ok       ready to be used
///   note     missing, or not used by this build; speaking works without it
///   problem  asked for and broken
///
/// Nothing is downloaded: a hub id is opened if the model cache holds it whole.
///
/// Exit status: 0 no problem, 1 a problem.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Doctor {
    #[command(flatten)]
    model: ModelArgs,
    /// Where to compute; where not given, what speech would take
    #[arg(long, value_name = "cpu|cuda:N")]
    device: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, PartialOrd, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Note,
    Problem,
}
use Verdict::{Note, Problem};

#[derive(serde::Serialize)]
struct Item {
    item: &'static str,
    verdict: Verdict,
    /// Lines for people.
    found: Vec<String>,
    /// What can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
    /// The same for programs.
    #[serde(flatten)]
    figures: Value,
}

impl Item {
    fn new(item: &'static str, verdict: Verdict, found: impl Into<String>, figures: Value) -> Item {
        Item { item, verdict, found: vec![found.into()], advice: None, figures }
    }

    fn advise(self, advice: impl Into<String>) -> Item {
        Item { advice: Some(advice.into()), ..self }
    }
}

impl Doctor {
    pub fn run(self) -> Result<Outcome> {
        let [driver, gpu] = driver_and_gpu();
        let device = device(self.device.as_deref());
        let items = [cpu(), driver, gpu, kernels(), device, model(&self.model), cache(), sound()];
        let worst = items.iter().map(|i| i.verdict).fold(Verdict::Ok, |a, b| if b > a { b } else { a });
        match self.json {
            true => files::print_json(&json!({
                "version": env!("CARGO_PKG_VERSION"), "verdict": worst, "items": items,
            }))?,
            false => files::print(&items.iter().map(lines).collect::<String>())?,
        }
        Ok(if worst == Problem { Outcome::Fails } else { Outcome::Done })
    }
}

/// An item's line; what it holds several of stands below.
fn lines(item: &Item) -> String {
    let verdict = match item.verdict {
        Verdict::Ok => "ok",
        Note => "note",
        Problem => "problem",
    };
    let mut said = item.found.join(&format!("\n{:23}", ""));
    if let Some(advice) = &item.advice {
        said += &format!("; {advice}");
    }
    format!("{verdict:7}  {:12}  {said}\n", item.item)
}

// ---- the machine ---------------------------------------------------------------------------------------------

fn cpu() -> Item {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let vector_bits = cpu::vector_bits();
    let memory = memory_available_bytes();
    let figures = json!({"cores": cores, "vector_bits": vector_bits, "memory_available_bytes": memory});
    let memory = memory.map_or(String::new(), |bytes| format!(", {} of memory available", size(bytes)));
    let found = |vectors: &str| format!("{cores} cores, {vectors}{memory}");
    match vector_bits {
        32 => Item::new("cpu", Note, found("no vectors that this build knows: speech will be slow"), figures),
        bits => Item::new("cpu", Verdict::Ok, found(&format!("vectors of {bits} bits")), figures),
    }
}

/// What the system could still give this process; `None` where it is no Linux.
fn memory_available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available = line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024;
    // A container sees the host's memory there; its own bound, where it has one, is this.
    let bound = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|max| max.trim().parse().ok());
    Some(available.min(bound.unwrap_or(u64::MAX)))
}

fn driver_and_gpu() -> [Item; 2] {
    let driver = match Driver::open() {
        Ok(driver) => driver,
        Err(e) => {
            let item = Item::new("driver", Note, e.to_string(), json!({"cuda_version": null}));
            let advice = "an NVIDIA GPU needs NVIDIA's driver, and in a container the runtime's leave (`--gpus all`)";
            return [item.advise(advice), no_gpu("none to be seen without the driver")];
        }
    };
    let item = match driver.cuda_version() {
        Ok((major, minor)) => {
            let version = format!("{major}.{minor}");
            Item::new("driver", Verdict::Ok, format!("runs CUDA up to {version}"), json!({"cuda_version": version}))
        }
        Err(e) => Item::new("driver", Note, e.to_string(), json!({"cuda_version": null})),
    };
    let gpus = match driver.gpus() {
        Ok(gpus) if gpus.is_empty() => no_gpu("none that this process may use"),
        Ok(gpus) => {
            let lines = gpus.iter().enumerate().map(|(index, gpu)| gpu_line(index, gpu));
            let (found, speak): (Vec<_>, Vec<_>) = lines.unzip();
            let verdict = if speak.contains(&true) { Verdict::Ok } else { Note };
            Item { found, ..Item::new("gpu", verdict, "", json!({"gpus": gpus})) }
        }
        Err(e) => no_gpu(e.to_string()),
    };
    [item, gpus]
}

/// Its line, and whether it can compute speech; where not, the line says why.
fn gpu_line(index: usize, gpu: &Gpu) -> (String, bool) {
    let (major, minor) = gpu.compute_capability;
    let line = format!("{}, compute capability {major}.{minor}, {} of memory", gpu.name, size(gpu.memory_bytes));
    match Device::Cuda(index).describe() {
        Ok(_) => (line, true),
        Err(Error::Request { what, .. }) => (format!("{line}: {what}"), false),
        Err(e) => (format!("{line}: {e}"), false),
    }
}

fn no_gpu(found: impl Into<String>) -> Item {
    Item::new("gpu", Note, found, json!({"gpus": []}))
}

// ---- this build and its models -------------------------------------------------------------------------------

#[cfg(not(feature = "cuda"))]
fn kernels() -> Item {
    let found = "none: this build computes on the CPU alone (feature `cuda`)";
    Item::new("kernels", Note, found, json!({"built_for": []}))
}

#[cfg(feature = "cuda")]
fn kernels() -> Item {
    let built_for = qwentts::cuda::built_for();
    let figures = json!({"built_for": built_for});
    if built_for.is_empty() {
        let found = "none: no nvcc of 12.8 to 13.0 was found when this was built, so it computes on the CPU alone";
        return Item::new("kernels", Note, found, figures).advise("`make nvcc` fetches one; then build again");
    }
    Item::new("kernels", Verdict::Ok, format!("built for {}", built_for.join(", ")), figures)
}

/// Where speech would be computed, or whether it can be where it is asked for.
fn device(named: Option<&str>) -> Item {
    match crate::device(named).and_then(|device| Ok((device, device.describe()?))) {
        Ok((device, words)) => {
            let figures = json!({"device": device.to_string()});
            Item::new("device", Verdict::Ok, format!("speech is computed on {words}"), figures)
        }
        Err(e) => Item::new("device", Problem, e.to_string(), json!({"device": named})),
    }
}

fn model(args: &ModelArgs) -> Item {
    let source = args.model.as_ref().map(|given| given.display().to_string());
    let name = source.clone().unwrap_or_else(|| "embedded demo model".to_owned());
    let nothing = json!({"model": source, "kind": null, "size": null, "weights_bytes": null});
    if source.is_none() && !cfg!(feature = "demo") {
        let item = Item::new("model", Note, "this build carries none (feature `demo`)", nothing);
        return item.advise("give one with -m");
    }
    let look = || -> Result<(String, Value)> {
        let model = Model::open(&args.source_here()?)?;
        let bytes: usize = model.tensors()?.iter().map(|tensor| tensor.bytes).sum();
        let (kind, parameters) = (format!("{:?}", model.config.kind), &model.config.size);
        let found = format!("{name}: {kind} {parameters}, {} of weights", size(bytes as u64));
        Ok((found, json!({"model": source, "kind": kind, "size": parameters, "weights_bytes": bytes})))
    };
    match look() {
        Ok((found, figures)) => Item::new("model", Verdict::Ok, found, figures),
        Err(e @ Error::Hub { .. }) => {
            let item = Item::new("model", Problem, e.to_string(), nothing);
            item.advise(format!("`qwentts inspect {name}` downloads what is missing"))
        }
        Err(e) => Item::new("model", Problem, e.to_string(), nothing),
    }
}

#[cfg(not(feature = "hub"))]
fn cache() -> Item {
    let found = "not used: this build takes models as folders alone (feature `hub`)";
    Item::new("model cache", Note, found, json!({"folder": null, "models": [], "free_bytes": null}))
}

#[cfg(feature = "hub")]
fn cache() -> Item {
    /// Less than this and a model of 1.7B, the largest, may not fit.
    const ROOM_BYTES: u64 = 5 << 30;
    let look = || -> Result<Item> {
        let options = crate::hub::options()?;
        let mut models = qwentts::hub::held(&options)?;
        // The cache is every program's. What has all our files is one of ours, whatever its name.
        models.retain(|m| m.lacks.is_none() || m.id.to_string().to_lowercase().contains("qwen3-tts"));
        let (folder, free) = (options.cache.display().to_string(), free_bytes(&options.cache));
        let listed =
            models.iter().map(|m| json!({"id": m.id.to_string(), "whole": m.lacks.is_none(), "lacks": m.lacks}));
        let figures = json!({
            "folder": folder, "exists": options.cache.is_dir(), "free_bytes": free, "models": listed.collect::<Vec<_>>(),
        });
        let state = match (options.cache.is_dir(), models.len()) {
            (false, _) => "not there; the first download makes it".to_owned(),
            (true, 0) => "no Qwen3-TTS model".to_owned(),
            (true, 1) => "1 model".to_owned(),
            (true, count) => format!("{count} models"),
        };
        let free_words = free.map_or(String::new(), |bytes| format!(", {} free", size(bytes)));
        let mut item = Item::new("model cache", Verdict::Ok, format!("{folder}: {state}{free_words}"), figures);
        item.found.extend(models.iter().map(|m| match &m.lacks {
            None => format!("{}, whole", m.id),
            Some(lacks) => format!("{}, in part: {lacks} is missing", m.id),
        }));
        if free.is_some_and(|bytes| bytes < ROOM_BYTES) {
            item.verdict = Note;
            item = item.advise("a large model may not fit: make room, or set HF_HOME to a larger disk");
        } else if let Some(part) = models.iter().find(|m| m.lacks.is_some()) {
            item.verdict = Note;
            item = item.advise(format!("`qwentts inspect {}` fetches the rest", part.id));
        }
        Ok(item)
    };
    look().unwrap_or_else(|e| Item::new("model cache", Note, e.to_string(), json!({"folder": null, "models": []})))
}

/// What this user may still write on the disk of `folder`, or of where it would be made.
#[cfg(feature = "hub")]
fn free_bytes(folder: &std::path::Path) -> Option<u64> {
    let there = folder.ancestors().find(|folder| folder.is_dir())?;
    #[cfg(unix)]
    return rustix::fs::statvfs(there).ok().map(|disk| disk.f_bavail * disk.f_frsize);
    #[cfg(not(unix))]
    return None;
}

fn sound() -> Item {
    let built = cfg!(feature = "play");
    match Player::open() {
        Ok(player) => {
            let figures = json!({"built": built, "output": player.name(), "sample_rate_hz": player.sample_rate_hz()});
            Item::new("sound", Verdict::Ok, player.name(), figures)
        }
        Err(e) => {
            let words = match e {
                Error::Request { what, .. } => what, // without the option's name, which nobody gave
                e => e.to_string(),
            };
            Item::new("sound", Note, words, json!({"built": built, "output": null, "sample_rate_hz": null}))
        }
    }
}

/// Bytes as people say them.
fn size(bytes: u64) -> String {
    match bytes >> 30 {
        0 => format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64),
        _ => format!("{:.1} GiB", bytes as f64 / (1 << 30) as f64),
    }
}
