//! Where a model computes, as a caller chooses it.

#[cfg(feature = "cuda")]
use crate::driver::{Driver, Gpu};
use crate::error::{Error, Result};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// Where a model computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The reference: f32 on the processor's cores.
    Cpu,
    /// The NVIDIA GPU of this number, in the driver's order.
    Cuda(usize),
}

/// How the talker's keys and values are stored on a GPU. The CPU's are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvNumbers {
    /// As they are computed: the CPU reference's speech but for the order of sums.
    #[default]
    F32,
    /// Half the memory, and scores that differ from the reference's by some thousandths.
    Bf16,
}

/// How far a model is on its way to a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loading {
    /// Of its weights, so far.
    pub done_bytes: usize,
    /// Of its weights.
    pub total_bytes: usize,
}

/// What a model holds of a device's memory, by part; without the driver's own.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct Memory {
    /// Weights of talker and predictor.
    pub frames_weights_bytes: usize,
    /// Weights of the codec.
    pub codec_weights_bytes: usize,
    /// Pages of keys and values, in use or kept for the next.
    pub kv_bytes: usize,
    /// Of these: beginnings of prompts, kept for the next that begins the same. They give way to streams that need a page.
    pub prefix_bytes: usize,
    /// Codec states after the references of voices, kept for the next stream of the same voice.
    pub voices_bytes: usize,
    /// What hears recordings: weights and scratch, from the first voice on that is made.
    pub encoders_bytes: usize,
    /// All else: scratch, and each slot's small memory and codec state.
    pub working_bytes: usize,
    /// Together.
    pub total_bytes: usize,
}

impl Memory {
    /// With what hears recordings beside it.
    pub(crate) fn with_encoders(self, encoders_bytes: usize) -> Memory {
        Memory { encoders_bytes, total_bytes: self.total_bytes + encoders_bytes, ..self }
    }
}

impl KvNumbers {
    /// Of one number.
    #[cfg(feature = "cuda")]
    pub(crate) fn bytes(self) -> usize {
        match self {
            KvNumbers::F32 => 4,
            KvNumbers::Bf16 => 2,
        }
    }
}

impl Device {
    /// The first GPU that this build has kernels for, else the CPU.
    pub fn best() -> Device {
        #[cfg(feature = "cuda")]
        if let Ok(driver) = Driver::open()
            && driver.cuda_version().is_ok_and(|version| version >= crate::cuda::OLDEST_CUDA)
            && let Ok(gpus) = driver.gpus()
            && let Some(index) = gpus.iter().position(crate::cuda::runs_on)
        {
            return Device::Cuda(index);
        }
        Device::Cpu
    }

    /// What it is, in words. One that this build or this machine cannot compute on is an error.
    pub fn describe(self) -> Result<String> {
        match self {
            Device::Cpu => Ok(self.to_string()),
            Device::Cuda(index) => match gpu_name(index) {
                Ok(name) => Ok(format!("{self} ({name})")),
                Err(why) => Err(Error::request("device", format!("is {self}; {why}"))),
            },
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn gpu_name(_: usize) -> std::result::Result<String, String> {
    Err("this build computes on cpu alone (feature `cuda`)".to_owned())
}

/// The name of the GPU of this number, or why nothing can be computed there.
#[cfg(feature = "cuda")]
fn gpu_name(index: usize) -> std::result::Result<String, String> {
    let built_for = crate::cuda::built_for();
    if built_for.is_empty() {
        let why = "this build computes on cpu alone: no nvcc of 12.8 to 13.0 was found when it was built";
        return Err(why.to_owned());
    }
    let driver = Driver::open().map_err(|e| e.to_string())?;
    let (version, oldest) = (driver.cuda_version().map_err(|e| e.to_string())?, crate::cuda::OLDEST_CUDA);
    if version < oldest {
        let (has, wants) = (format!("{}.{}", version.0, version.1), format!("{}.{}", oldest.0, oldest.1));
        return Err(format!("the driver runs CUDA up to {has}; the kernels want one for {wants} or newer"));
    }
    let gpus = driver.gpus().map_err(|e| e.to_string())?;
    let Some(gpu) = gpus.get(index) else {
        return Err(format!("there is no GPU of that number: the driver has {}, counted from 0", gpus.len()));
    };
    if !crate::cuda::runs_on(gpu) {
        let Gpu { name, compute_capability: (major, minor), .. } = gpu;
        let code = built_for.join(", ");
        return Err(format!("{name} has compute capability {major}.{minor}, the kernels of this build are {code}"));
    }
    Ok(gpu.name.clone())
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Device::Cpu => write!(f, "cpu"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// "cpu", "cuda" (the first GPU) or "cuda:N".
    fn from_str(said: &str) -> Result<Device> {
        match said.split_once(':') {
            None if said == "cpu" => Ok(Device::Cpu),
            None if said == "cuda" => Ok(Device::Cuda(0)),
            Some(("cuda", index)) if !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit()) => {
                let refuse = |_| Error::request("device", format!("is {said:?}; there is no GPU of that number"));
                index.parse().map(Device::Cuda).map_err(refuse)
            }
            _ => Err(Error::request("device", format!("is {said:?}; expected cpu or cuda:N"))),
        }
    }
}

impl fmt::Display for KvNumbers {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            KvNumbers::F32 => "f32",
            KvNumbers::Bf16 => "bf16",
        })
    }
}

impl FromStr for KvNumbers {
    type Err = Error;

    /// "f32" or "bf16".
    fn from_str(said: &str) -> Result<KvNumbers> {
        match said {
            "f32" => Ok(KvNumbers::F32),
            "bf16" => Ok(KvNumbers::Bf16),
            _ => Err(Error::request("kv", format!("is {said:?}; expected f32 or bf16"))),
        }
    }
}
