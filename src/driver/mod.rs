//! The CUDA driver: whether it is there, which GPUs it has, and their memory, code and order of work as owned types
//! whose errors name the call. Opened at run time; knows the driver's words, none of speech.
//!
//! `sys` holds the raw calls. `unsafe` begins at each use of one, and the reason stands beside it.
#![allow(unsafe_code)] // the driver's library and the calls into it

#[cfg(feature = "cuda")]
mod buffer;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod graph;
#[cfg(feature = "cuda")]
mod module;
#[cfg(feature = "cuda")]
mod pinned;
#[cfg(feature = "cuda")]
mod stream;
mod sys;
#[cfg(all(test, feature = "cuda"))]
mod tests;

#[cfg(feature = "cuda")]
pub(crate) use {
    buffer::{Buffer, Number, Span},
    device::Context,
    graph::Graph,
    module::{Function, Module, Shape},
    pinned::Pinned,
    stream::{Event, Stream},
};

use crate::error::{Error, Result};
use std::error::Error as _;
use std::ffi::{CStr, c_char, c_int};
use std::sync::OnceLock;
use sys::{CUdevice_attribute as Attribute, CUresult, Calls};

#[cfg(not(windows))]
const LIBRARY: &str = "libcuda.so.1";
#[cfg(windows)]
const LIBRARY: &str = "nvcuda.dll";

/// NVIDIA's driver. Stays open until the process ends, for it starts threads of its own.
#[derive(Clone, Copy)]
pub struct Driver(&'static Calls);

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
    /// How many blocks of threads it runs beside each other, at the least.
    pub multiprocessors: u32,
    /// Shared memory that a block can have, at the most.
    pub shared_bytes: u32,
}

/// A call by its own name, as a result that says it. To be used inside `unsafe`.
macro_rules! ask {
    ($driver:expr, $call:ident($($argument:expr),* $(,)?)) => {{
        let driver: $crate::driver::Driver = $driver;
        driver.check(stringify!($call), driver.0.$call($($argument),*))
    }};
}
#[cfg(feature = "cuda")]
use ask;

impl Driver {
    /// Opens the driver's library. That there is none is an ordinary error, in the system's words.
    pub fn open() -> Result<Driver> {
        static CALLS: OnceLock<Calls> = OnceLock::new();
        if CALLS.get().is_none() {
            // SAFETY: the name is that of NVIDIA's driver alone, whose initialisers may run at any time, and the types of
            // the calls are those of its header.
            let calls = unsafe { Calls::new(LIBRARY) }.map_err(|e| {
                // The system's words, where it has some; these begin with the library's name already.
                let words = e.source().map_or_else(|| e.to_string(), ToString::to_string);
                let what = words.strip_prefix(LIBRARY).map_or(&*words, |rest| rest.trim_start_matches([':', ' ']));
                Error::compute(LIBRARY, what)
            })?;
            // Where another thread was first, this handle is one too many: the library stays open through the other.
            let _ = CALLS.set(calls);
        }
        CALLS.get().map(Driver).ok_or_else(|| Error::compute(LIBRARY, "did not open"))
    }

    /// The newest CUDA that it can run, major and minor.
    pub fn cuda_version(self) -> Result<(u32, u32)> {
        let mut version = 0;
        // SAFETY: writes one number, before it returns.
        unsafe { ask!(self, cuDriverGetVersion(&mut version)) }?;
        Ok((version as u32 / 1000, version as u32 % 1000 / 10))
    }

    /// The GPUs that this process may use, in the driver's order. Starts the driver.
    pub fn gpus(self) -> Result<Vec<Gpu>> {
        self.devices()?.into_iter().map(|device| self.gpu(device)).collect()
    }

    fn devices(self) -> Result<Vec<sys::CUdevice>> {
        let mut count = 0;
        // SAFETY: numbers by value; one number written before the call returns.
        unsafe {
            ask!(self, cuInit(0))?;
            ask!(self, cuDeviceGetCount(&mut count))?;
        }
        (0..count)
            .map(|index| {
                let mut device = 0;
                // SAFETY: as above; an index that is none is a status.
                unsafe { ask!(self, cuDeviceGet(&mut device, index)) }?;
                Ok(device)
            })
            .collect()
    }

    fn gpu(self, device: sys::CUdevice) -> Result<Gpu> {
        let mut name = [0_u8; 256];
        let mut memory = 0;
        // SAFETY: the driver writes at most the length that it is told, with a zero at the end, and one number.
        unsafe {
            ask!(self, cuDeviceGetName(name.as_mut_ptr().cast::<c_char>(), name.len() as c_int, device))?;
            ask!(self, cuDeviceTotalMem_v2(&mut memory, device))?;
        }
        let attribute = |which| {
            let mut value = 0;
            // SAFETY: one number written before the call returns; an attribute that the driver does not know is a status.
            unsafe { ask!(self, cuDeviceGetAttribute(&mut value, which, device)) }?;
            Ok(value as u32)
        };
        Ok(Gpu {
            name: CStr::from_bytes_until_nul(&name).unwrap_or_default().to_string_lossy().into_owned(),
            compute_capability: (
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            memory_bytes: memory as u64,
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        })
    }

    /// A status as a result, in the driver's own words.
    fn check(self, call: &'static str, status: CUresult) -> Result<()> {
        match status {
            CUresult::CUDA_SUCCESS => Ok(()),
            status => Err(Error::compute(call, self.words(status))),
        }
    }

    fn words(self, status: CUresult) -> String {
        let (mut name, mut words) = (std::ptr::null(), std::ptr::null());
        // SAFETY: each writes a pointer to a constant text of the driver, which is never closed, or null.
        let [name, words] = unsafe {
            let _ = self.0.cuGetErrorName(status, &mut name); // null says it too
            let _ = self.0.cuGetErrorString(status, &mut words);
            [name, words].map(|text| (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy()))
        };
        match (name, words) {
            (Some(name), Some(words)) => format!("{words} ({name})"),
            _ => format!("status {}, which the driver has no words for", status.0),
        }
    }
}

#[cfg(test)]
mod opening {
    /// With or without a driver: opening is an answer, and an error names the library once.
    #[test]
    fn is_an_answer() {
        match super::Driver::open() {
            Ok(driver) => assert!(driver.cuda_version().unwrap().0 >= 11),
            Err(e) => assert_eq!(e.to_string().matches(super::LIBRARY).count(), 1, "{e}"),
        }
    }
}
