//! Where tests compute, chosen in one way: QWENTTS_TEST_DEVICE (`cpu`, `cuda:N`) and QWENTTS_TEST_KV (`f32`, `bf16`), else the
//! CPU. So the same goldens, cuts and storms run on a GPU.
#![allow(dead_code)] // each test file uses its own part

use qwentts::Device;
use qwentts::device::KvNumbers;

pub fn device() -> Device {
    std::env::var("QWENTTS_TEST_DEVICE").map_or(Device::Cpu, |said| said.parse().unwrap())
}

pub fn kv() -> KvNumbers {
    std::env::var("QWENTTS_TEST_KV").map_or(KvNumbers::F32, |said| said.parse().unwrap())
}
