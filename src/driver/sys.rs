//! The CUDA driver's calls, looked up in its library at run time, so that a machine without one can load this
//! library. Owns the raw calls and the rule for their pointers; everything above is safe.
#![allow(unsafe_code)] // the driver's library and the calls into it

use libloading::{Error, Library};
use std::ffi::{CStr, c_char, c_int, c_uint};

#[cfg(not(windows))]
pub const LIBRARY: &str = "libcuda.so.1";
#[cfg(windows)]
pub const LIBRARY: &str = "nvcuda.dll";

/// A status that is not CUDA_SUCCESS.
pub type Status = c_int;
/// What the driver counts devices by.
pub type Ordinal = c_int;

/// CUdevice_attribute, as far as it is asked for.
#[derive(Clone, Copy)]
#[repr(i32)]
pub enum Attribute {
    ComputeCapabilityMajor = 75,
    ComputeCapabilityMinor = 76,
}

/// Declares the table of calls and how it is filled, so that a name and its type stand side by side, as in cuda.h.
macro_rules! calls {
    ($($field:ident = $symbol:literal: fn($($argument:ty),*);)*) => {
        pub struct Calls {
            $($field: unsafe extern "system" fn($($argument),*) -> Status,)*
        }

        impl Calls {
            /// Opens the library. Where there is none, the error has the system's own words.
            pub fn open() -> Result<Calls, Error> {
                // SAFETY: the name is that of NVIDIA's driver alone, whose initialisers may run at any time.
                let library = unsafe { Library::new(LIBRARY)? };
                let calls = Calls {
                    // SAFETY: each type is that of this symbol in cuda.h, and the library is never closed (below).
                    $($field: unsafe { *library.get(concat!($symbol, "\0").as_bytes())? },)*
                };
                // The driver starts threads of its own, so it stays until the process ends.
                std::mem::forget(library);
                Ok(calls)
            }
        }
    };
}

calls! {
    init = "cuInit": fn(c_uint);
    driver_get_version = "cuDriverGetVersion": fn(*mut c_int);
    device_get_count = "cuDeviceGetCount": fn(*mut c_int);
    device_get = "cuDeviceGet": fn(*mut Ordinal, c_int);
    device_get_name = "cuDeviceGetName": fn(*mut c_char, c_int, Ordinal);
    device_get_attribute = "cuDeviceGetAttribute": fn(*mut c_int, c_int, Ordinal);
    device_total_mem = "cuDeviceTotalMem_v2": fn(*mut usize, Ordinal);
    get_error_string = "cuGetErrorString": fn(Status, *mut *const c_char);
}

/// The value that `call` writes where it succeeds.
fn written<T: Copy>(zero: T, call: impl FnOnce(*mut T) -> Status) -> Result<T, Status> {
    let mut value = zero;
    match call(&mut value) {
        0 => Ok(value),
        status => Err(status),
    }
}

// SAFETY, of each block below: numbers go in by value; a pointer is to a value of the call's own type that lives until
// the call returns, and the driver keeps none. A wrong ordinal, or a call before `init`, is a status and no harm.
impl Calls {
    pub fn init(&self) -> Result<(), Status> {
        // SAFETY: as above.
        match unsafe { (self.init)(0) } {
            0 => Ok(()),
            status => Err(status),
        }
    }

    pub fn version(&self) -> Result<c_int, Status> {
        // SAFETY: as above.
        written(0, |at| unsafe { (self.driver_get_version)(at) })
    }

    pub fn device_count(&self) -> Result<c_int, Status> {
        // SAFETY: as above.
        written(0, |at| unsafe { (self.device_get_count)(at) })
    }

    pub fn device(&self, index: c_int) -> Result<Ordinal, Status> {
        // SAFETY: as above.
        written(0, |at| unsafe { (self.device_get)(at, index) })
    }

    pub fn device_name(&self, device: Ordinal) -> Result<String, Status> {
        let mut name = [0_u8; 256];
        // SAFETY: as above; the driver writes at most the length that it is told, with a zero at the end.
        match unsafe { (self.device_get_name)(name.as_mut_ptr().cast(), name.len() as c_int, device) } {
            0 => Ok(CStr::from_bytes_until_nul(&name).unwrap_or_default().to_string_lossy().into_owned()),
            status => Err(status),
        }
    }

    pub fn device_attribute(&self, attribute: Attribute, device: Ordinal) -> Result<c_int, Status> {
        // SAFETY: as above.
        written(0, |at| unsafe { (self.device_get_attribute)(at, attribute as c_int, device) })
    }

    pub fn device_total_bytes(&self, device: Ordinal) -> Result<usize, Status> {
        // SAFETY: as above.
        written(0, |at| unsafe { (self.device_total_mem)(at, device) })
    }

    /// What the driver says of a status.
    pub fn words(&self, status: Status) -> String {
        // SAFETY: as above.
        match written(std::ptr::null(), |at| unsafe { (self.get_error_string)(status, at) }) {
            // SAFETY: on success this is a constant text of the driver's, which is never closed.
            Ok(words) if !words.is_null() => unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned(),
            _ => "no words for it".to_owned(),
        }
    }
}
