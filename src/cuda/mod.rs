//! The model on an NVIDIA GPU. So far its kernels and their launches, each proved against the function of the same name in
//! [`crate::cpu`]; no speech is computed with them yet.
#![cfg_attr(not(test), expect(dead_code, reason = "the backend that launches the kernels is not there yet"))]

mod args;
pub(crate) mod kernels;
pub(crate) mod upload;

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// What the kernels inside this build were compiled for: machine code (`sm_90`), and PTX for what is newer (`compute_80`). Empty
/// where no CUDA compiler was found when it was built.
pub fn built_for() -> &'static [&'static str] {
    BUILT_FOR
}
