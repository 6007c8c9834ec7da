//! stub
use crate::error::Result;
pub const RATES_HZ: [u32; 6] = [8_000, 16_000, 22_050, 24_000, 44_100, 48_000];
pub struct Resampler;
impl Resampler {
    pub fn new(_: u32) -> Result<Resampler> {
        Ok(Resampler)
    }
    pub fn push(&mut self, s: &[f32], out: &mut Vec<f32>) -> Result<()> {
        out.extend_from_slice(s);
        Ok(())
    }
    pub fn end(&mut self, _: &mut Vec<f32>) -> Result<()> {
        Ok(())
    }
}
