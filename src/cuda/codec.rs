//! stub
use super::kernels::Kernels;
use crate::backend::SlotId;
use crate::driver::{Context, Event, Stream};
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::model::Model;
use std::sync::Arc;
pub(crate) struct Codec;
pub(crate) struct Samples;
impl Codec {
    pub fn weight_bytes(_: &Stream, _: &Model) -> Result<usize> {
        Ok(0)
    }
    pub fn open(_: &Arc<Context>, _: &Arc<Kernels>, _: &Arc<Model>, _: usize, _: &mut dyn FnMut(usize)) -> Result<Codec> {
        Ok(Codec)
    }
    pub fn reset(&mut self, _: SlotId) -> Result<()> {
        Ok(())
    }
    pub fn hear(&mut self, _: SlotId, _: &[Frame]) -> Result<()> {
        Ok(())
    }
    pub fn mark(&mut self) -> Result<Event> {
        Err(Error::compute("codec", "stub"))
    }
    pub fn decode(&mut self, _: SlotId, _: &[Frame]) -> Result<Samples> {
        Err(Error::compute("codec", "stub"))
    }
    pub fn take(&mut self, _: Samples, _: [Event; 2]) -> Vec<f32> {
        Vec::new()
    }
    pub fn decode_and_wait(&mut self, _: SlotId, _: &[Frame], _: &mut [f32]) -> Result<()> {
        Err(Error::compute("codec", "stub"))
    }
}
