//! Streams: what stands between a backend and those who listen.

// Until a stream asks for a rate, only the tests use it.
#[allow(dead_code)]
pub(crate) mod resample;
