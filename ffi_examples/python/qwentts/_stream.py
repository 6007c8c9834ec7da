"""A stream: text in, sound out, by reads, `for` and `async for`."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import math
import os
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, AsyncIterable, Callable, Dict, Iterable, Iterator, Literal, Optional, Sequence, TypedDict, Union

from ._library import AGAIN, CODES_PER_FRAME, END, OK, Busy, Cancelled, Closed, Ended, Handle, InvalidArgument, fill, fresh, lib, quick
from ._library import Event as RawEvent
from ._library import StreamOptions
from ._voice import Voice

if TYPE_CHECKING:
    from ._engine import Engine

#: A one-dimensional array of float32 (-1 to 1) or int16, as the stream's format is: a numpy.ndarray where numpy is installed
#: when the engine is opened, else a memoryview of format "f" or "h". It is the caller's: writable, and nobody else has it.
Samples = Any

#: Text as it comes: pieces cut anywhere, bytes (UTF-8) also inside a character.
Pieces = Union[Iterable[Union[str, bytes]], AsyncIterable[Union[str, bytes]]]

# A thread that waits looks up this often, for Ctrl-C and for a close.
_LOOK_UP_S = 0.1
_FORMATS = {"f32": 0, "i16": 1}
_OUTPUTS = {"samples": 0, "frames": 1, "both": 2}
_LAYOUTS = {"streaming": 0, "whole": 1}
_WORDS: Dict[str, Dict[str, int]] = {"format": _FORMATS, "output": _OUTPUTS, "layout": _LAYOUTS}
_ENDS = {0: "none", 1: "eos", 2: "length", 3: "cancelled", 4: "degenerate", 5: "failed"}


class Options(TypedDict, total=False):
    """What a stream is opened with, all by name: `engine.speak("Hi.", voice="slt", seed=7)`. What is left out or None is as
    the model's own settings have it, or as it says here."""

    voice: Union[str, Voice, None]  #: a preset voice, in any case, or one of a recording; the model's first preset
    language: Optional[str]  #: in any case; the model tells
    instruct: Optional[str]  #: how to speak (CustomVoice 1.7B) or who speaks (VoiceDesign), in words
    seed: Optional[int]  #: 0 to 2**64 - 1; the same seed and request give the same speech; 0
    sample_rate_hz: Optional[int]  #: 8000, 16000, 22050, 24000, 44100 or 48000; 24000
    format: Optional[str]  #: "f32" or "i16"; "f32"
    output: Optional[str]  #: "samples", "frames" (codes, no sound is made) or "both"; "samples"
    layout: Optional[str]  #: "streaming" (the only one for live text) or "whole"
    max_frames: Optional[int]  #: frames of 80 ms at most
    do_sample: Optional[bool]  #: whether codes are drawn, or the best score wins
    top_k: Optional[int]  #: only the k best scores; 0: all
    top_p: Optional[float]  #: below 1, the least likely go
    temperature: Optional[float]  #: scores are divided by it
    repetition_penalty: Optional[float]  #: against codes that were said
    subtalker_do_sample: Optional[bool]  #: as do_sample, for the groups behind the first; so are the next three
    subtalker_top_k: Optional[int]
    subtalker_top_p: Optional[float]
    subtalker_temperature: Optional[float]
    lead_ms: Optional[int]  #: how much sound may wait for its reader before the speech waits for him; 10000
    pad_after_ms: Optional[int]  #: live text that is dry so long is padded; None waits, which is exact
    cap_frames: Optional[int]  #: speech ends at so many frames, 75, and ...
    cap_frames_per_token: Optional[int]  #: ... so many for each token of its text, 16
    special_tokens: Optional[bool]  #: control strings in the text are controls; False
    chunk_frames: Optional[Sequence[int]]  #: frames delivered together, up to eight widths, the last repeats; (1, 2, 4, 8)


@dataclass(frozen=True)
class FirstSound:
    """The first sound (or frame) could be read, so many milliseconds after the first text."""

    after_ms: float


@dataclass(frozen=True)
class Word:
    """The reader has come to a word."""

    #: Cut to 63 bytes.
    word: str
    #: About where it begins, counted at the stream's rate. An estimate, spread over the text by its characters.
    sample: int
    #: Where it begins in the stream's text, all pushes together, and how long it is there; bytes of UTF-8.
    text_byte: int
    text_bytes: int


@dataclass(frozen=True)
class End:
    """All has been read."""

    #: "eos" (no more to say), "length" (max_frames or a cap), "cancelled", "degenerate" (the same sound for 3.2 s), "failed"
    reason: str
    #: Frames of 80 ms that had been made.
    frames: int


Event = Union[FirstSound, Word, End]


def raw_options(options: Options) -> Any:
    raw = fresh(StreamOptions)
    for name, value in options.items():
        if name not in Options.__annotations__:
            raise TypeError(f"{name}: no such option; there are {', '.join(Options.__annotations__)}")
        if value is None:
            continue
        if name in _WORDS:
            known = _WORDS[name]
            if value not in known:
                raise InvalidArgument(f"{name}: is {value!r}; expected {' or '.join(map(repr, known))}")
            value = known[value]
        elif isinstance(value, Voice) and name == "voice":
            name, value = "cloned", value.pointer
        elif name == "chunk_frames":
            widths = list(value)  # type: ignore[call-overload]
            if not 1 <= len(widths) <= len(raw.chunk_frames) or not all(0 < width <= 32 for width in widths):
                raise InvalidArgument(f"chunk_frames: is {widths}; expected one to eight of 1 to 32")
            value = type(raw.chunk_frames)(*widths)
        fill(raw, name, value)
    return raw


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _push(handle: Handle, text: Union[str, bytes]) -> None:
    data = text.encode() if isinstance(text, str) else bytes(memoryview(text))
    if handle.call(quick.qwentts_stream_push_text, data, len(data)) == END:
        raise Ended("text: the speech has ended, nobody will say it")


class _Feeder:
    """Gives a stream its text as an iterator yields it. It knows the handle and not the Stream, so that a Stream that
    everybody forgot is closed, which ends the feeding."""

    def __init__(self, handle: Handle):
        self._handle = handle
        #: What the iterator raised; the stream is cancelled then, and its reader raises it.
        self.error: Optional[BaseException] = None
        self._stop: Optional[Callable[[], Any]] = None

    def run(self, pieces: Iterable[Union[str, bytes]]) -> None:
        with self._guarded():
            for piece in pieces:
                _push(self._handle, piece)
            self._handle.call(quick.qwentts_stream_end_text)

    def start(self, pieces: AsyncIterable[Union[str, bytes]]) -> None:
        """On the running loop."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run(pieces))

        def stop() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(task.cancel)

        self._stop = stop

    def stop(self) -> None:
        """Nobody will say more. A thread that waits for its iterator ends with the next piece."""
        if self._stop is not None:
            self._stop()
            self._stop = None

    async def _run(self, pieces: AsyncIterable[Union[str, bytes]]) -> None:
        with self._guarded():
            try:
                async for piece in pieces:
                    _push(self._handle, piece)
                self._handle.call(quick.qwentts_stream_end_text)
            finally:
                aclose = getattr(pieces, "aclose", None)
                if aclose is not None:
                    await aclose()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (Cancelled, Ended):
            pass
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                self.error = error
            with contextlib.suppress(Closed):
                self._handle.call(quick.qwentts_stream_cancel)
            if isinstance(error, asyncio.CancelledError):
                raise


class Stream:
    """One utterance, opened by `Engine.speak` or `Engine.stream`. Iterate it, with `for` or `async for`, for its sound.

    One thread may push text while another reads and any other cancels or closes. A read of a stream that was cancelled raises
    `Cancelled`; of one that was closed, also while the read waits, `Closed`, which is a `Cancelled`.
    """

    def __init__(self, engine: Engine, text: Union[str, bytes, Pieces, None], options: Options):
        """Of `Engine.speak` and `Engine.stream`, which say what it all means."""
        raw = raw_options(options)
        pointer = ctypes.c_void_p()
        if isinstance(text, (str, bytes)):
            data = text.encode() if isinstance(text, str) else text
            engine._handle.call(quick.qwentts_speak, data, len(data), ctypes.byref(raw), ctypes.byref(pointer))
        else:
            if text is not None and not hasattr(text, "__iter__") and not hasattr(text, "__aiter__"):
                raise TypeError(f"text: is {type(text).__name__}; expected str or an iterable of str")
            engine._handle.call(quick.qwentts_stream_open, ctypes.byref(raw), ctypes.byref(pointer))
        self._handle = Handle("stream", pointer, quick.qwentts_stream_close, quick.qwentts_stream_cancel)
        self._finalizer = weakref.finalize(self, self._handle.close)
        # An engine that nobody else has must not close under its stream.
        self._engine = engine
        self._reading = threading.Lock()
        self._numpy = engine._numpy
        self._format: Literal["f", "h"] = "h" if raw.format else "f"
        self._output = raw.output
        #: Samples a second.
        self.sample_rate_hz: int = raw.sample_rate_hz
        #: Samples in a frame of 80 ms.
        self.samples_per_frame: int = raw.sample_rate_hz * 80 // 1000
        self._pending: Optional[AsyncIterable[Union[str, bytes]]] = None
        self._feeder: Optional[_Feeder] = None
        if text is None or isinstance(text, (str, bytes)):
            return
        self._feeder = _Feeder(self._handle)
        if hasattr(text, "__aiter__"):
            self._pending = text  # type: ignore[assignment]
        elif isinstance(text, (list, tuple)):
            self._feeder.run(text)
            if self._feeder.error is not None:
                self.close()
                raise self._feeder.error
        else:
            run = threading.Thread(target=self._feeder.run, args=(text,), name="qwentts-text", daemon=True)
            run.start()

    # ---- text

    def push(self, text: Union[str, bytes]) -> None:
        """The next piece of the text, cut anywhere; bytes are UTF-8 and may be cut inside a character. Never waits. Raises
        `Ended` or `Cancelled` where nobody will say it."""
        self._unfed()
        _push(self._handle, text)

    def flush(self) -> None:
        """Has all the text so far spoken, as if it ended here: without it a word waits for the character behind it. Never waits."""
        self._unfed()
        self._handle.call(quick.qwentts_stream_flush)

    def end(self) -> None:
        """No more text will come; what is left is spoken to its end. Again is nothing. Never waits."""
        self._unfed()
        self._handle.call(quick.qwentts_stream_end_text)

    def _unfed(self) -> None:
        if self._feeder is not None:
            raise InvalidArgument("text: comes from the iterator that speak was given")

    # ---- sound

    def readinto(self, buffer: Any, timeout: Optional[float] = None) -> int:
        """Reads samples into a writable buffer (numpy array, array.array, bytearray) of the stream's format: as many as are
        there and fit, one at least. How many they are; 0: the stream has ended. Waits up to `timeout` seconds (0 not at all,
        None until there is something), then raises TimeoutError. One thread at a time; a second one gets `Busy`."""
        view = memoryview(buffer)
        if view.format not in (self._format, "B", "b", "c"):
            raise TypeError(f"buffer: is of format {view.format!r}; expected {self._format!r}")
        view = view.cast("B")
        capacity = view.nbytes // (4 if self._format == "f" else 2)
        return self._take("qwentts_stream_read", view, capacity, timeout)

    def read(self, max_samples: Optional[int] = None, timeout: Optional[float] = None) -> Samples:
        """Samples, up to `max_samples` (None: 8 frames), one at least; none at the end. Else as `readinto`."""
        size = 4 if self._format == "f" else 2
        data = bytearray((self.samples_per_frame * 8 if max_samples is None else max_samples) * size)
        del data[self.readinto(data, timeout) * size :]
        if self._numpy is not None:
            return self._numpy.frombuffer(data, "f4" if self._format == "f" else "i2")
        return memoryview(data).cast(self._format)

    def read_frames(self, max_frames: int = 8, timeout: Optional[float] = None) -> Any:
        """Frames of a stream whose output has them: 16 codes each, an array or memoryview of uint16 of shape (n, 16). No frames
        at the end. Else as `readinto`."""
        data = bytearray(max_frames * CODES_PER_FRAME * 2)
        n = self._take("qwentts_stream_read_frames", memoryview(data), max_frames, timeout)
        del data[n * CODES_PER_FRAME * 2 :]
        if self._numpy is not None:
            return self._numpy.frombuffer(data, "u2").reshape(n, CODES_PER_FRAME)
        return memoryview(data).cast("H", (n, CODES_PER_FRAME)) if n else memoryview(data).cast("H")

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Samples:
        """What there is, as soon as there is something: samples, or frames where the output is "frames"."""
        chunk = self._next(None)
        if len(chunk) == 0:
            raise StopIteration
        return chunk

    async def aread(self, max_samples: Optional[int] = None) -> Samples:
        """As `read`, on an event loop, by the stream's event handle and without a thread. asyncio.wait_for may end it: nothing
        is lost."""
        return await self._wait_for(lambda: self.read(max_samples, 0))

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Samples:
        """As `__next__`, on an event loop."""
        chunk = await self._wait_for(lambda: self._next(0))
        if len(chunk) == 0:
            raise StopAsyncIteration
        return chunk

    def _next(self, timeout: Optional[float]) -> Any:
        return self.read_frames(timeout=timeout) if self._output == _OUTPUTS["frames"] else self.read(timeout=timeout)

    def _take(self, entry: str, view: memoryview, capacity: int, timeout: Optional[float]) -> int:
        if capacity < 1:
            raise InvalidArgument("buffer: has no room for one")
        if self._pending is not None:
            raise InvalidArgument("text: is an async iterator, which needs `async for` or aread")
        # Held over all of a wait, which here is many of C's.
        if not self._reading.acquire(blocking=False):
            raise Busy("stream: another thread is in a read of it")
        try:
            return self._wait_and_take(entry, view, capacity, timeout)
        finally:
            self._reading.release()

    def _wait_and_take(self, entry: str, view: memoryview, capacity: int, timeout: Optional[float]) -> int:
        n = ctypes.c_size_t()
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        room = (ctypes.c_char * view.nbytes).from_buffer(view)
        wait_ms = 0  # what is there already is had without a wait
        while True:
            try:
                call = getattr(lib if wait_ms else quick, entry)
                status = self._handle.call(call, room, capacity, ctypes.byref(n), wait_ms)
            except Cancelled:
                if self._feeder is not None and self._feeder.error is not None:
                    raise self._feeder.error
                if self._handle.closed:
                    raise Closed("stream: is closed") from None
                raise
            if status == OK:
                return n.value
            if status == END:
                if self._feeder is not None:
                    self._feeder.stop()
                return 0
            assert status == AGAIN, status
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("stream: nothing to read within the time")
            wait_ms = math.ceil(min(left_s, _LOOK_UP_S) * 1000)

    async def _wait_for(self, read: Callable[[], Any]) -> Any:
        self._feed()
        while True:
            with contextlib.suppress(TimeoutError):
                return read()
            loop = asyncio.get_running_loop()
            ready: asyncio.Future[None] = loop.create_future()
            number = ctypes.c_int64()
            with self._handle.used():
                self._handle.call(quick.qwentts_stream_event_handle, ctypes.byref(number))
                # One of our own, which stays what it is though another thread closes the stream meanwhile.
                watched = os.dup(number.value)
            loop.add_reader(watched, _set, ready)
            try:
                await ready
            finally:
                loop.remove_reader(watched)
                os.close(watched)

    def _feed(self) -> None:
        if self._pending is not None and self._feeder is not None:
            pieces, self._pending = self._pending, None
            self._feeder.start(pieces)

    # ---- what it did

    def events(self) -> Iterator[Event]:
        """What has happened since it was last asked: the first sound, words as the reader comes to them, the end. Ask after a
        read. Any thread; each event is told once; never waits."""
        raw = fresh(RawEvent)
        while self._handle.call(quick.qwentts_stream_next_event, ctypes.byref(raw)) == OK:
            if raw.kind == 1:
                yield FirstSound(raw.after_ms)
            elif raw.kind == 2:
                yield Word(raw.word.decode(), raw.sample, raw.text_byte, raw.word_bytes)
            elif raw.kind == 3:
                yield End(_ENDS.get(raw.end, "unknown"), raw.frames)

    def stats(self) -> Dict[str, Any]:
        """How it went so far: layout, text_tokens, missing_tokens, frames, pads, conformant, dry_ms, queued_ms, prefill_ms,
        first_sound_ms, talker_ms, predictor_ms, codec_ms, cancel_ms, end; None for what is not known yet. Any thread."""
        return self._handle.json(quick.qwentts_stream_stats)

    # ---- its end

    def cancel(self) -> None:
        """Ends it: no read that begins once this has returned gives sound, one that waits raises `Cancelled`. A stream that was
        read to its end stays as it was. Any thread; again is nothing; never waits."""
        self._handle.call(quick.qwentts_stream_cancel)
        if self._feeder is not None:
            self._feeder.stop()

    def close(self) -> None:
        """Cancels it and gives back what it holds. Any thread, also while another reads; again is nothing; never waits."""
        self._finalizer.detach()
        self._handle.close()
        if self._feeder is not None:
            self._feeder.stop()

    @property
    def closed(self) -> bool:
        return self._handle.closed

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    async def __aenter__(self) -> Stream:
        self._feed()
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.close()
