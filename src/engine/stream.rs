//! What a caller holds of one utterance: text goes in by one half, speech comes out by the other, from two threads if
//! wanted. No call but `read…` waits.

use super::Core;
use super::events::Events;
use super::inbox::{Inbox, StreamId};
use super::ring::{Chunk, Read, Ring, Text, Wait};
use super::stats::Stats;
use super::utterance::New;
use crate::error::{Error, Result};
use crate::frame::{Frame, Sample};
use std::sync::Arc;

/// Text of one stream at most, in bytes: more than any model has positions for.
pub const MOST_TEXT_BYTES: usize = 1_000_000;

/// What the halves of a stream have in common. `T`: what the worker's inbox takes.
pub(super) struct Handle<T = New> {
    pub inbox: Arc<Inbox<T>>,
    pub ring: Arc<Ring>,
    pub id: StreamId,
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Handle { inbox: self.inbox.clone(), ring: self.ring.clone(), id: self.id }
    }
}

impl<T> Handle<T> {
    pub fn write(&self, text: Text) -> Result<()> {
        self.ring.write(text)?;
        self.inbox.notify(self.id);
        Ok(())
    }

    /// Passes on what was read, and tells the worker if it waits for that.
    pub fn read<R>(&self, (read, waits): (Read<R>, bool)) -> Read<R> {
        if waits {
            self.inbox.notify(self.id);
        }
        read
    }

    pub fn cancel(&self) {
        self.ring.cancel();
        self.inbox.notify(self.id);
    }
}

/// One utterance. Dropping it cancels it.
pub struct Stream {
    writer: TextWriter,
    reader: AudioReader,
}

/// The half that text goes into. Dropping it ends the text.
pub struct TextWriter {
    handle: Handle,
    /// The beginning of a character whose end has yet to come.
    part: Vec<u8>,
    bytes: usize,
    ended: bool,
}

/// The half that speech comes out of. Dropping it cancels the stream.
pub struct AudioReader {
    handle: Handle,
    /// Keeps the engine going.
    _core: Arc<Core>,
}

/// Ends a stream from any thread.
#[derive(Clone)]
pub struct Canceller {
    handle: Handle,
}

impl Stream {
    /// `ended`: it has all its text.
    pub(super) fn new(core: Arc<Core>, ring: Arc<Ring>, id: StreamId, ended: bool) -> Stream {
        let handle = Handle { inbox: core.inbox.clone(), ring, id };
        let writer = TextWriter { handle: handle.clone(), part: Vec::new(), bytes: 0, ended };
        Stream { writer, reader: AudioReader { handle, _core: core } }
    }

    /// Two halves, so that one thread feeds text while another reads.
    pub fn split(self) -> (TextWriter, AudioReader) {
        (self.writer, self.reader)
    }

    /// See `TextWriter::push`.
    pub fn push(&mut self, text: impl AsRef<[u8]>) -> Result<()> {
        self.writer.push(text)
    }

    /// See `TextWriter::flush`.
    pub fn flush(&mut self) -> Result<()> {
        self.writer.flush()
    }

    /// See `TextWriter::end`.
    pub fn end(&mut self) -> Result<()> {
        self.writer.end()
    }

    /// See `AudioReader::read`.
    pub fn read<S: Sample>(&mut self, into: &mut [S], wait: Wait) -> Result<Read<usize>> {
        self.reader.read(into, wait)
    }

    /// See `AudioReader::read_chunk`.
    pub fn read_chunk(&mut self, wait: Wait) -> Result<Read<Chunk>> {
        self.reader.read_chunk(wait)
    }

    /// See `AudioReader::read_frames`.
    pub fn read_frames(&mut self, into: &mut [Frame], wait: Wait) -> Result<Read<usize>> {
        self.reader.read_frames(into, wait)
    }

    /// See `AudioReader::chunks`.
    pub fn chunks(&mut self) -> impl Iterator<Item = Result<Chunk>> {
        self.reader.chunks()
    }

    /// See `Canceller::cancel`.
    pub fn cancel(&self) {
        self.reader.handle.cancel();
    }

    /// Something that ends this stream from any thread.
    pub fn canceller(&self) -> Canceller {
        self.reader.canceller()
    }

    /// See `AudioReader::events`.
    pub fn events(&self) -> Events {
        self.reader.events()
    }

    /// See `AudioReader::event_handle`.
    #[cfg(target_os = "linux")]
    pub fn event_handle(&self) -> Result<Arc<std::os::fd::OwnedFd>> {
        self.reader.event_handle()
    }

    /// How it went so far.
    pub fn stats(&self) -> Stats {
        self.reader.stats()
    }
}

impl TextWriter {
    /// The next piece of the text, as UTF-8. It may be cut anywhere, also inside a character. Returns at once. An error
    /// takes nothing of the piece: bytes that are not UTF-8, more than a stream takes, a stream that has ended.
    pub fn push(&mut self, text: impl AsRef<[u8]>) -> Result<()> {
        let new = text.as_ref();
        if self.ended {
            return Err(Error::request("text", "has ended; no more can be added"));
        }
        check_length(self.bytes.saturating_add(new.len()))?;
        let mut bytes = self.part.clone();
        bytes.extend_from_slice(new);
        let whole = match std::str::from_utf8(&bytes) {
            Ok(_) => bytes.len(),
            // The end of the last character may come with the next piece.
            Err(e) if e.error_len().is_none() => e.valid_up_to(),
            Err(e) => {
                let at = self.bytes - self.part.len() + e.valid_up_to();
                return Err(Error::request("text", format!("is not UTF-8 from byte {at} of the stream's text on")));
            }
        };
        let part = bytes.split_off(whole);
        if let Ok(piece) = String::from_utf8(bytes)
            && !piece.is_empty()
        {
            self.handle.write(Text::Piece(piece))?;
        }
        self.part = part;
        self.bytes += new.len();
        Ok(())
    }

    /// Has all the text so far spoken, as if it ended here; without it a word waits for the character behind it. What
    /// follows begins anew, so that a flush inside a word changes how it is read.
    /// The beginning of a character waits for its end. Behind the end of the text it does nothing.
    pub fn flush(&mut self) -> Result<()> {
        match self.ended {
            true => Ok(()),
            false => or_ended(self.handle.write(Text::Flush)),
        }
    }

    /// No more text will come; what is left is spoken to its end. Again is nothing. Where the text stops inside a
    /// character that is an error; it has ended all the same, without that character.
    pub fn end(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        or_ended(self.handle.write(Text::End))?;
        match self.part.is_empty() {
            true => Ok(()),
            false => Err(Error::request("text", "stops inside a UTF-8 character")),
        }
    }

    /// Something that ends this stream from any thread.
    pub fn canceller(&self) -> Canceller {
        Canceller { handle: self.handle.clone() }
    }

    /// How the stream went so far.
    pub fn stats(&self) -> Stats {
        self.handle.ring.stats()
    }
}

/// That the speech has ended already is no error for who has no more to say.
fn or_ended(written: Result<()>) -> Result<()> {
    match written {
        Err(Error::Ended { .. }) => Ok(()),
        other => other,
    }
}

/// Refuses more text than a stream takes.
pub(super) fn check_length(bytes: usize) -> Result<()> {
    match bytes > MOST_TEXT_BYTES {
        true => {
            let what =
                format!("is longer than the {MOST_TEXT_BYTES} bytes that a stream takes; open another for the rest");
            Err(Error::request("text", what))
        }
        false => Ok(()),
    }
}

impl Drop for TextWriter {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.handle.write(Text::End); // a stream that has ended needs no end
        }
    }
}

impl AudioReader {
    /// Samples from where the last read stopped, mono, at the stream's rate: f32 in -1..1, or i16. As many as are there
    /// and fit, at least one. Sound made before an error is read first, then every call gives the error.
    pub fn read<S: Sample>(&mut self, into: &mut [S], wait: Wait) -> Result<Read<usize>> {
        Ok(self.handle.read(self.handle.ring.read(into, wait)?))
    }

    /// The next chunk as it was made; of one that `read` has begun, the samples that it has left.
    pub fn read_chunk(&mut self, wait: Wait) -> Result<Read<Chunk>> {
        Ok(self.handle.read(self.handle.ring.read_chunk(wait)?))
    }

    /// Frames from where the last read of frames stopped; needs `Output::Frames` or `Both`. As many as are there and fit,
    /// at least one.
    pub fn read_frames(&mut self, into: &mut [Frame], wait: Wait) -> Result<Read<usize>> {
        Ok(self.handle.read(self.handle.ring.read_frames(into, wait)?))
    }

    /// Chunks as they are made, until the stream ends.
    pub fn chunks(&mut self) -> impl Iterator<Item = Result<Chunk>> {
        let mut failed = false;
        std::iter::from_fn(move || match self.read_chunk(Wait::Forever) {
            Ok(Read::Got(chunk)) => Some(Ok(chunk)),
            Ok(_) => None,
            Err(_) if failed => None,
            Err(error) => {
                failed = true;
                Some(Err(error))
            }
        })
    }

    /// Something that ends this stream from any thread.
    pub fn canceller(&self) -> Canceller {
        Canceller { handle: self.handle.clone() }
    }

    /// What happens beside the sound, from the beginning: the first of it, roughly where each word is, the end. May be asked
    /// by another thread than the one that reads.
    pub fn events(&self) -> Events {
        Events::new(self.handle.ring.clone())
    }

    /// A descriptor for `poll`, `epoll` and their like: readable while `read` without a wait would not say `NotYet` (with
    /// `Output::Frames`, while `read_frames` would not). It is only to be waited on, neither read nor written.
    #[cfg(target_os = "linux")]
    pub fn event_handle(&self) -> Result<Arc<std::os::fd::OwnedFd>> {
        self.handle.ring.readiness()
    }

    /// How the stream went so far.
    pub fn stats(&self) -> Stats {
        self.handle.ring.stats()
    }
}

impl Drop for AudioReader {
    fn drop(&mut self) {
        self.handle.cancel();
        #[cfg(target_os = "linux")]
        self.handle.ring.forget_readiness();
    }
}

impl Canceller {
    /// Ends the stream. No read that begins once this has returned gives sound or frames; the slot is free within a frame.
    /// Never waits; again is nothing.
    pub fn cancel(&self) {
        self.handle.cancel();
    }

    /// Whether nobody wants its sound any more: it was cancelled, or its reader is gone.
    pub fn is_cancelled(&self) -> bool {
        self.handle.ring.is_closed()
    }
}
