"""An engine: a model on one device."""

from __future__ import annotations

import ctypes
import operator
import os
import wave
import weakref
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Dict, Iterable, List, Optional, Union, cast

from ._library import EngineOptions, Handle, InvalidArgument, Unsupported, checked, fill, fresh, lib, quick, text
from ._stream import Options, Pieces, Stream
from ._voice import ENDING, Voice, floats

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Engine:
    """A model on one device, shared by threads. Each stream says the same to the bit, whoever else speaks.

    `close`, and the end of a `with` block, ends what still speaks: its streams raise `Cancelled` and can be closed or dropped
    at any later time. An engine that is dropped closes itself once its last stream is gone. It does not survive a fork: in the
    child its calls raise `Unsupported`.
    """

    def __init__(
        self,
        model: Union[str, "os.PathLike[str]", None] = None,
        device: Optional[str] = None,
        *,
        slots: Optional[int] = None,
        queue: Optional[int] = None,
        threads: Optional[int] = None,
        kv: Optional[str] = None,
        kv_positions: Optional[int] = None,
        prefix_positions: Optional[int] = None,
    ):
        """Opens a model and waits until its weights are where they are to be, which for a large one on a GPU is seconds.

        model: its folder, as downloaded; None: the small one inside the library.
        device: "cpu", "cuda" or "cuda:N"; None: a GPU that the library has code for, else the CPU.
        slots: streams that speak at the same time, 16. queue: streams besides that may wait, 64; beyond it speak raises `Busy`.
        threads: of the CPU; None: one per core. Results do not depend on it.
        kv: how a GPU stores keys and values, "f32" (None) or "bf16". kv_positions: how many of them; None: what memory holds.
        prefix_positions: of these, how many may hold what prompts begin with, an instruction or a voice's recording, so that the
        next stream that begins the same speaks sooner: 1024 for 16 voices of 10 s; None: none.
        """
        raw = fresh(EngineOptions)
        named = dict(device=device, slots=slots, queue=queue, threads=threads, kv=kv)
        named.update(kv_positions=kv_positions, prefix_positions=prefix_positions)
        named["model"] = None if model is None else os.fspath(model)
        for name, value in named.items():
            if value is not None:
                fill(raw, name, value)
        pointer = ctypes.c_void_p()
        checked(lib.qwentts_engine_open(ctypes.byref(raw), ctypes.byref(pointer)))
        self._handle = Handle("engine", pointer, lib.qwentts_engine_close)
        self._finalizer = weakref.finalize(self, self._handle.close)
        self._info = self._handle.json(quick.qwentts_engine_info)
        self._numpy: Any
        try:
            import numpy

            self._numpy = numpy
        except ImportError:
            self._numpy = None

    @property
    def voices(self) -> List[str]:
        """The model's preset voices."""
        return list(self._info["voices"])

    @property
    def info(self) -> Dict[str, Any]:
        """What it is: model, kind, device, voices, languages, takes_instruct, sample_rates_hz, frame_ms, codes_per_frame."""
        return dict(self._info)

    def stats(self) -> Dict[str, Any]:
        """How it is doing: open (streams that have not ended), speaking, memory (bytes of a GPU, by part; None on the CPU)."""
        return self._handle.json(quick.qwentts_engine_stats)

    def check(self) -> None:
        """Raises `DeviceLost`, with the reason, once no stream can speak any more. Never waits."""
        self._handle.call(quick.qwentts_engine_health)

    def warmup(self) -> None:
        """Speaks a few frames that nobody hears, so that the first stream finds everything ready. Waits for them."""
        self._handle.call(lib.qwentts_engine_warmup)

    def clone(
        self,
        samples: Union[Any, Iterable[float]],
        sample_rate_hz: int,
        transcript: Optional[str] = None,
        language: Optional[str] = None,
    ) -> Voice:
        """Makes a voice of a recording and waits for it, some ms on a GPU, seconds on a CPU; streams that speak are not held up.
        Only Base models have what it takes.

        samples: mono, -1 to 1: numbers, or a buffer of float32, float64 or int16 (numpy, array, memoryview).
        transcript: the words that are said in it, for a clone that speaks as the recording does; None: the speaker's sound alone.
        language: what it speaks where a stream names none; None: the model tells.
        """
        numbers = floats(samples)
        address, count = numbers.buffer_info()
        said = None if transcript is None else text("transcript", transcript)
        spoken = None if language is None else text("language", language)
        rate_hz = operator.index(sample_rate_hz)
        # ctypes would wrap it, maybe to one that is in order.
        if not 0 < rate_hz < 1 << 32:
            raise InvalidArgument(f"sample_rate_hz: is {rate_hz}, which is out of range")
        return self._voice(lib.qwentts_voice_from_pcm, address, count, rate_hz, said, spoken)

    def load_voice(self, path: Union[str, "os.PathLike[str]"]) -> Voice:
        """A voice that `Voice.save` or `qwentts voice create` wrote; raises `BadModel` where it was made with another model."""
        return self._voice(lib.qwentts_voice_load, text("path", os.fspath(path)))

    def voice_named(self, name: Union[str, "os.PathLike[str]"]) -> Union[str, Voice]:
        """What `voice=` takes, of what somebody wrote who may mean a preset or a file, as on the command line: a path, or a str
        that ends in ".qvoice", is loaded (`load_voice`); any other str is a preset's name and stays."""
        if isinstance(name, os.PathLike) or name.endswith(ENDING):
            return self.load_voice(name)
        return name

    def _voice(self, entry: Callable[..., int], *arguments: Any) -> Voice:
        pointer = ctypes.c_void_p()
        self._handle.call(entry, *arguments, ctypes.byref(pointer))
        return Voice(pointer)

    def speak(self, text: Union[str, bytes, Pieces], **options: Unpack[Options]) -> Stream:
        """Speaks a text, or text as it comes.

        Of a str all is known at once. From an iterable of str the speech begins with the first certain word: an iterator is
        drawn on by a thread, since it may wait; an async iterator by a task of the loop that reads. What it raises, the reader
        raises. Drawing stops once the stream has ended or is closed. Never waits. See `Options`.
        """
        return Stream(self, text, options)

    def stream(self, **options: Unpack[Options]) -> Stream:
        """A stream whose text comes by `push` and ends by `end`. Never waits. See `Options`."""
        return Stream(self, None, options)

    def say(self, text: Union[str, bytes, Pieces], path: Union[str, "os.PathLike[str]", BinaryIO], **options: Unpack[Options]) -> Dict[str, Any]:
        """Speaks to a WAV file, 16 bit mono, and waits for it; how it went (`Stream.stats`). What was said before an error
        stays in the file."""
        to = cast(Any, os.fspath(path) if isinstance(path, (str, os.PathLike)) else path)
        with _sound(self, text, options) as stream, wave.open(to, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(stream.sample_rate_hz)
            for chunk in stream:
                file.writeframes(chunk)
            return stream.stats()

    def play(self, text: Union[str, bytes, Pieces], **options: Unpack[Options]) -> Dict[str, Any]:
        """Speaks to the sound output, by the package sounddevice, and waits for the end; how it went (`Stream.stats`)."""
        try:
            import sounddevice  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except (ImportError, OSError) as error:
            raise Unsupported(f"play: needs the package sounddevice (pip install sounddevice): {error}") from error
        with _sound(self, text, options) as stream:
            with sounddevice.RawOutputStream(samplerate=stream.sample_rate_hz, channels=1, dtype="int16") as output:
                for chunk in stream:
                    output.write(memoryview(chunk).cast("B"))
            return stream.stats()

    def close(self) -> None:
        """Ends it; see the class. Waits for the work under way, a frame at most. A `warmup`, `clone` or `load_voice` of another
        thread is not waited for: no call begins any more, and what speaks is ended when that is done. Any thread; again is
        nothing."""
        self._finalizer.detach()
        self._handle.close()

    @property
    def closed(self) -> bool:
        return self._handle.closed

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _sound(engine: Engine, text: Union[str, bytes, Pieces], options: Options) -> Stream:
    for name in ("format", "output"):
        if name in options:
            raise TypeError(f"{name}: is not for the caller to choose here")
    sound: Options = {"format": "i16"}
    return Stream(engine, text, {**options, **sound})
