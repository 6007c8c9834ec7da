//! Code on the device: a fatbin, its functions by name, their launch.

use super::{Context, Stream, ask, sys};
use crate::error::{Error, Result};
use std::ffi::{CStr, c_void};
use std::sync::Arc;
use sys::CUlaunchAttributeID as Id;

/// A fatbin on the device; unloaded once neither this nor a function of it is held.
#[derive(Clone)]
pub(crate) struct Module(Arc<Loaded>);

struct Loaded {
    context: Arc<Context>,
    raw: sys::CUmodule,
    name: &'static str,
}

/// A kernel.
#[derive(Clone)]
pub(crate) struct Function {
    module: Module,
    raw: sys::CUfunction,
    name: &'static CStr,
}

// SAFETY, of each: handles that may be used from any thread; every call enters the context first.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}
// SAFETY: as above.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

/// How a launch is laid over the device.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: u32,
    /// Blocks that run beside each other and see each other's shared memory; from compute capability 9.0 on.
    pub cluster: Option<u32>,
    /// May begin before the kernel in front of it ends; the kernel itself waits where it must (griddepcontrol).
    pub early: bool,
    /// All blocks are there at once, or the launch is refused.
    pub cooperative: bool,
    /// Of shared memory that a block has beside what the source says.
    pub shared_bytes: u32,
}

impl Shape {
    /// Nothing special.
    pub fn new(grid: [u32; 3], block: u32) -> Shape {
        Shape { grid, block, cluster: None, early: false, cooperative: false, shared_bytes: 0 }
    }
}

impl Module {
    /// Loads the machine code that fits the GPU best; where there is none, the driver compiles the PTX, and what it
    /// says of it is in the error.
    ///
    /// # Safety
    /// The image is a whole fatbin, or PTX that ends with a zero: the driver takes its length from what it says.
    pub unsafe fn load(context: &Arc<Context>, name: &'static str, image: &[u8]) -> Result<Module> {
        let driver = context.enter()?;
        let mut said = [0_u8; 4096];
        let mut options =
            [sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        let mut values = [said.as_mut_ptr().cast::<c_void>(), said.len() as *mut c_void];
        let mut raw = std::ptr::null_mut();
        // SAFETY: the image is whole, by the caller's promise, and copied; options and values are as many as said, and the log is
        // as long as said.
        let loaded = unsafe {
            let (options, values) = (options.as_mut_ptr(), values.as_mut_ptr());
            ask!(driver, cuModuleLoadDataEx(&mut raw, image.as_ptr().cast(), 2, options, values))
        };
        loaded.map_err(|e| {
            let said = CStr::from_bytes_until_nul(&said).unwrap_or_default().to_string_lossy();
            match e {
                Error::Compute { call, what } => {
                    let (major, minor) = context.gpu.compute_capability;
                    Error::compute(call, format!("{name} for compute capability {major}.{minor}: {what} {said}"))
                }
                e => e,
            }
        })?;
        Ok(Module(Arc::new(Loaded { context: context.clone(), raw, name })))
    }

    /// A kernel by the name that the source gives it.
    pub fn function(&self, name: &'static CStr) -> Result<Function> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: writes one handle, good as long as the module.
        unsafe { ask!(self.0.context.enter()?, cuModuleGetFunction(&mut raw, self.0.raw, name.as_ptr())) }.map_err(
            |e| match e {
                Error::Compute { call, what } => {
                    Error::compute(call, format!("{} in {}: {what}", name.to_string_lossy(), self.0.name))
                }
                e => e,
            },
        )?;
        Ok(Function { module: self.clone(), raw, name })
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let Ok(driver) = self.context.enter() else { return };
        // SAFETY: ours, once; no function of it is held.
        let _ = unsafe { ask!(driver, cuModuleUnload(self.raw)) };
    }
}

impl Function {
    /// The architecture whose PTX its code was made of, times ten: 90 for machine code of compute capability 9.0, 80 where the
    /// driver compiled PTX of 8.0 for it.
    pub fn compiled_for(&self) -> Result<u32> {
        self.attribute(sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_PTX_VERSION)
    }

    /// Threads that a block of it may have: what the source bounds it to, where it does.
    pub fn most_threads(&self) -> Result<u32> {
        self.attribute(sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)
    }

    fn attribute(&self, which: sys::CUfunction_attribute) -> Result<u32> {
        let mut value = 0;
        // SAFETY: writes one number, before it returns; the handle is held.
        unsafe { ask!(self.module.0.context.enter()?, cuFuncGetAttribute(&mut value, which, self.raw)) }?;
        Ok(value as u32)
    }

    /// Lets its blocks have so much shared memory beside what the source says; without, it is some 48 KiB in all.
    pub fn allow_shared(&self, bytes: u32) -> Result<()> {
        let which = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the handle is held; a size that the GPU has not is a status.
        unsafe { ask!(self.module.0.context.enter()?, cuFuncSetAttribute(self.raw, which, bytes as i32)) }
    }

    /// Gives the kernel, with its one argument, to the stream.
    ///
    /// # Safety
    /// `A` is the kernel's argument, byte for byte. What its addresses lead to is as large as the kernel takes it for, stays
    /// until the work has run (and until the graph is gone, where this is recorded), and nothing else writes to it meanwhile.
    pub unsafe fn launch<A: Copy>(&self, stream: &Stream, shape: Shape, argument: &A) -> Result<()> {
        let none =
            || sys::CUlaunchAttribute { id: Id(0), pad: [0; 4], value: sys::CUlaunchAttributeValue { pad: [0; 64] } };
        let mut attributes = [none(), none(), none()];
        let mut count = 0;
        let mut set = |id, value| {
            attributes[count] = sys::CUlaunchAttribute { id, value, ..none() };
            count += 1;
        };
        if let Some(x) = shape.cluster {
            let mut value = sys::CUlaunchAttributeValue { pad: [0; 64] };
            value.clusterDim = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x, y: 1, z: 1 };
            set(Id::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, value);
        }
        if shape.early {
            let value = sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 };
            set(Id::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, value);
        }
        if shape.cooperative {
            set(Id::CU_LAUNCH_ATTRIBUTE_COOPERATIVE, sys::CUlaunchAttributeValue { cooperative: 1 });
        }
        let config = sys::CUlaunchConfig {
            gridDimX: shape.grid[0],
            gridDimY: shape.grid[1],
            gridDimZ: shape.grid[2],
            blockDimX: shape.block,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: shape.shared_bytes,
            hStream: stream.raw,
            attrs: attributes.as_mut_ptr(),
            numAttrs: count as u32,
        };
        let mut parameters = [std::ptr::from_ref(argument).cast_mut().cast::<c_void>()];
        let driver = stream.context().enter()?;
        // SAFETY: handles are held, the attributes are as many as said, and the driver copies the argument before it returns;
        // the rest is the caller's promise.
        unsafe { ask!(driver, cuLaunchKernelEx(&config, self.raw, parameters.as_mut_ptr(), std::ptr::null_mut())) }
            .map_err(|e| match e {
                Error::Compute { call, what } => {
                    Error::compute(call, format!("{}: {what}", self.name.to_string_lossy()))
                }
                e => e,
            })
    }
}
