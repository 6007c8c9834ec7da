//! The CUDA driver: whether it is there, and which GPUs it has. Owns its library, opened at run time; knows the
//! driver's words, none of speech.

mod sys;

use crate::error::{Error, Result};
use std::error::Error as _;
use sys::{Attribute, Calls, Status};

/// NVIDIA's driver. Stays open until the process ends.
pub struct Driver(Calls);

/// A GPU as the driver describes it.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct Gpu {
    /// Its maker's name for it.
    pub name: String,
    /// Major and minor: which machine code runs on it.
    pub compute_capability: (u32, u32),
    /// All its memory, used or not.
    pub memory_bytes: u64,
}

impl Driver {
    /// Opens the driver's library. That there is none is an ordinary error, in the system's words.
    pub fn open() -> Result<Driver> {
        match Calls::open() {
            Ok(calls) => Ok(Driver(calls)),
            Err(e) => {
                // The system's words, where it has some; these begin with the library's name already.
                let words = e.source().map_or_else(|| e.to_string(), ToString::to_string);
                let what = words.strip_prefix(sys::LIBRARY).map_or(&*words, |rest| rest.trim_start_matches([':', ' ']));
                Err(Error::compute(sys::LIBRARY, what))
            }
        }
    }

    /// The newest CUDA that it can run, major and minor.
    pub fn cuda_version(&self) -> Result<(u32, u32)> {
        let version = self.named("cuDriverGetVersion", self.0.version())? as u32;
        Ok((version / 1000, version % 1000 / 10))
    }

    /// The GPUs that this process may use, in the driver's order. Starts the driver.
    pub fn gpus(&self) -> Result<Vec<Gpu>> {
        self.named("cuInit", self.0.init())?;
        let count = self.named("cuDeviceGetCount", self.0.device_count())?;
        (0..count)
            .map(|index| {
                let device = self.named("cuDeviceGet", self.0.device(index))?;
                let attribute =
                    |which| Ok(self.named("cuDeviceGetAttribute", self.0.device_attribute(which, device))? as u32);
                Ok(Gpu {
                    name: self.named("cuDeviceGetName", self.0.device_name(device))?,
                    compute_capability: (
                        attribute(Attribute::ComputeCapabilityMajor)?,
                        attribute(Attribute::ComputeCapabilityMinor)?,
                    ),
                    memory_bytes: self.named("cuDeviceTotalMem", self.0.device_total_bytes(device))? as u64,
                })
            })
            .collect()
    }

    fn named<T>(&self, call: &'static str, result: std::result::Result<T, Status>) -> Result<T> {
        result.map_err(|status| Error::compute(call, format!("status {status}, {}", self.0.words(status))))
    }
}

#[cfg(test)]
mod tests {
    /// With or without a driver: opening is an answer, and an error names the library once.
    #[test]
    fn opening_is_an_answer() {
        match super::Driver::open() {
            Ok(driver) => assert!(driver.cuda_version().unwrap().0 >= 11),
            Err(e) => assert_eq!(e.to_string().matches(super::sys::LIBRARY).count(), 1, "{e}"),
        }
    }
}
