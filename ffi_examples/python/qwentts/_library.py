"""The shared library by ctypes: where it is, its structs and entries, its failures, its handles.

What qwentts.h leaves to the caller is kept here, once, so that no use of this package is undefined: no entry is called
with a handle that was closed, and none is freed under a call (`Handle`).

Each entry is there twice. `lib` releases the GIL, for what can wait. `quick` keeps it, for what never waits: to get it back from
threads that compute can take 5 ms of each (sys.setswitchinterval), which is more than all the rest of a read. The library's
own threads never want it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
import threading
from ctypes import POINTER, c_char, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Type, cast

ABI_MAJOR, ABI_MINOR = 0, 3
OK, END, AGAIN = 0, 1, 2
CODES_PER_FRAME = 16


# ---- failures -------------------------------------------------------------------------------------------------------


class Error(Exception):
    """A call that failed, in the library's own words."""

    #: The number in qwentts.h; None where this package noticed first.
    status: Optional[int] = None


class Cancelled(Error):
    """The stream was cancelled, or its engine closed: no more sound comes."""

    status: Optional[int] = -1


class Closed(Cancelled):
    """The engine or the stream was closed, now or before."""

    status = None


class Ended(Error):
    """The speech has ended by itself, so nobody will say this text."""

    status = END


class InvalidArgument(Error, ValueError):
    """A value or a text that cannot be; the text names it and says what can."""

    status = -2


class Unsupported(Error):
    """This build, this machine or this process cannot do it."""

    status = -3


class NotFound(Error, FileNotFoundError):
    """There is no such file."""

    status = -4


class BadModel(Error):
    """The files of the model, or of a voice, do not hold what they must, or cannot be read or written."""

    status = -5


class OutOfMemory(Error, MemoryError):
    """The device's memory is used up."""

    status = -6


class DeviceError(Error):
    """The device's driver refused a call."""

    status = -7


class DeviceLost(DeviceError):
    """The engine's device has failed; no stream of it will speak again. Close it and open another."""

    status = -8


class Busy(Error):
    """The engine has all the streams that it takes, or another thread is in a read of this stream."""

    status = -9


class InternalError(Error):
    """A fault of the library."""

    status = -10


_FAILURES: Dict[int, Type[Error]] = {
    kind.status: kind
    for kind in (Cancelled, Ended, InvalidArgument, Unsupported, NotFound, BadModel, OutOfMemory, DeviceError, DeviceLost)
    + (Busy, InternalError)
    if kind.status is not None
}


def failure(status: int) -> Error:
    """The exception of a status. On the thread of the call, before another call."""
    kind = _FAILURES.get(status, InternalError)
    return kind(quick.qwentts_last_error().decode("utf-8", "replace"))


def checked(status: int) -> int:
    if status < 0:
        raise failure(status)
    return status


# ---- structs, in the words of qwentts.h --------------------------------------------------------------------------------


class EngineOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("slots", c_uint32),
        ("queue", c_uint32),
        ("threads", c_uint32),
        ("kv_positions", c_uint64),
        ("model", c_char_p),
        ("device", c_char_p),
        ("kv", c_char_p),
        ("prefix_positions", c_uint64),
    ]


class StreamOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("sample_rate_hz", c_uint32),
        ("format", c_int32),
        ("output", c_int32),
        ("seed", c_uint64),
        ("voice", c_char_p),
        ("language", c_char_p),
        ("instruct", c_char_p),
        ("layout", c_int32),
        ("max_frames", c_int32),
        ("do_sample", c_int32),
        ("top_k", c_int32),
        ("temperature", c_float),
        ("top_p", c_float),
        ("repetition_penalty", c_float),
        ("subtalker_do_sample", c_int32),
        ("subtalker_top_k", c_int32),
        ("subtalker_temperature", c_float),
        ("subtalker_top_p", c_float),
        ("lead_ms", c_uint32),
        ("pad_after_ms", c_int32),
        ("cap_frames", c_uint32),
        ("cap_frames_per_token", c_uint32),
        ("special_tokens", c_uint32),
        ("chunk_frames", c_uint32 * 8),
        ("cloned", c_void_p),
    ]


class Event(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("kind", c_int32),
        ("sample", c_uint64),
        ("text_byte", c_uint64),
        ("after_ms", c_double),
        ("frames", c_uint64),
        ("end", c_int32),
        ("word_bytes", c_uint32),
        ("word", c_char * 64),
    ]


_INITS = {
    EngineOptions: "qwentts_engine_options_init",
    StreamOptions: "qwentts_stream_options_init",
    Event: "qwentts_event_init",
}


def fresh(kind: Type[ctypes.Structure]) -> Any:
    """A struct with its size and its defaults."""
    struct: Any = kind()
    checked(getattr(quick, _INITS[kind])(ctypes.byref(struct), ctypes.sizeof(struct)))
    return struct


def text(name: str, value: Any) -> bytes:
    """A str as C has it; one that C would cut is refused."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: is {type(value).__name__}; expected str")
    data = value.encode()
    if b"\0" in data:
        raise InvalidArgument(f"{name}: has a zero byte")
    return data


def fill(struct: Any, name: str, value: Any) -> None:
    """Sets a field; a value that C would cut or wrap is refused."""
    # ctypes would take a number for an address.
    if isinstance(value, str) or dict(struct._fields_)[name] is c_char_p and not isinstance(value, bytes):
        value = text(name, value)
    try:
        setattr(struct, name, value)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    if isinstance(value, int) and getattr(struct, name) != value:
        raise InvalidArgument(f"{name}: is {value}, which is out of range")


# ---- loading -----------------------------------------------------------------------------------------------------------

# What a call gives, and what it takes.
_ENTRIES: Dict[str, Any] = {
    "qwentts_abi_version": (c_uint32,),
    "qwentts_version": (c_char_p,),
    "qwentts_build_info": (c_char_p,),
    "qwentts_last_error": (c_char_p,),
    "qwentts_engine_options_init": (c_int32, c_void_p, c_uint32),
    "qwentts_stream_options_init": (c_int32, c_void_p, c_uint32),
    "qwentts_event_init": (c_int32, c_void_p, c_uint32),
    "qwentts_engine_open": (c_int32, POINTER(EngineOptions), POINTER(c_void_p)),
    "qwentts_engine_close": (None, c_void_p),
    "qwentts_engine_warmup": (c_int32, c_void_p),
    "qwentts_engine_health": (c_int32, c_void_p),
    "qwentts_engine_info": (c_int32, c_void_p, c_void_p, c_size_t, POINTER(c_size_t)),
    "qwentts_engine_stats": (c_int32, c_void_p, c_void_p, c_size_t, POINTER(c_size_t)),
    "qwentts_voice_from_pcm": (c_int32, c_void_p, c_void_p, c_size_t, c_uint32, c_char_p, c_char_p, POINTER(c_void_p)),
    "qwentts_voice_load": (c_int32, c_void_p, c_char_p, POINTER(c_void_p)),
    "qwentts_voice_save": (c_int32, c_void_p, c_char_p),
    "qwentts_voice_release": (None, c_void_p),
    "qwentts_stream_open": (c_int32, c_void_p, POINTER(StreamOptions), POINTER(c_void_p)),
    "qwentts_speak": (c_int32, c_void_p, c_char_p, c_size_t, POINTER(StreamOptions), POINTER(c_void_p)),
    "qwentts_stream_push_text": (c_int32, c_void_p, c_char_p, c_size_t),
    "qwentts_stream_flush": (c_int32, c_void_p),
    "qwentts_stream_end_text": (c_int32, c_void_p),
    "qwentts_stream_read": (c_int32, c_void_p, c_void_p, c_size_t, POINTER(c_size_t), c_int32),
    "qwentts_stream_read_frames": (c_int32, c_void_p, c_void_p, c_size_t, POINTER(c_size_t), c_int32),
    "qwentts_stream_event_handle": (c_int32, c_void_p, POINTER(c_int64)),
    "qwentts_stream_next_event": (c_int32, c_void_p, POINTER(Event)),
    "qwentts_stream_stats": (c_int32, c_void_p, c_void_p, c_size_t, POINTER(c_size_t)),
    "qwentts_stream_cancel": (c_int32, c_void_p),
    "qwentts_stream_close": (None, c_void_p),
}

FILE_NAME = {"darwin": "libqwentts.dylib", "win32": "qwentts.dll"}.get(sys.platform, "libqwentts.so")


def _find() -> Path:
    """QWENTTS_LIBRARY, else the one that the wheel brought, else in the source tree the one that cargo built."""
    named = os.environ.get("QWENTTS_LIBRARY")
    if named:
        return Path(named).absolute()
    here = Path(__file__).resolve().parent
    places = [here / FILE_NAME]
    if len(here.parents) > 2 and (here.parents[2] / "Cargo.toml").exists():
        places.append(here.parents[2] / "target" / "release" / FILE_NAME)
    for place in places:
        if place.exists():
            return place
    tried = ", ".join(map(str, places))
    raise ImportError(f"{FILE_NAME} is not there (looked for {tried}): cargo build --release makes it, QWENTTS_LIBRARY names one")


def _load(kind: Type[ctypes.CDLL]) -> ctypes.CDLL:
    path = _find()
    try:
        library = kind(str(path))
        for name, (gives, *takes) in _ENTRIES.items():
            entry = getattr(library, name)
            entry.restype, entry.argtypes = gives, takes
    except (OSError, AttributeError) as error:
        raise ImportError(f"{path}: cannot be used: {error}") from error
    abi = library.qwentts_abi_version()
    major, minor = abi >> 16, abi & 0xFFFF
    if major != ABI_MAJOR or minor < ABI_MINOR:
        raise ImportError(f"{path}: has ABI {major}.{minor}; this package needs {ABI_MAJOR}.{ABI_MINOR} or a later minor one")
    return library


lib, quick = _load(ctypes.CDLL), _load(ctypes.PyDLL)
for _kind in _INITS:
    if fresh(_kind).struct_size != ctypes.sizeof(_kind):
        raise ImportError(f"{_find()}: {_kind.__name__} is not the struct that this package knows")


def version() -> str:
    """The library's version, "major.minor.patch"."""
    return cast(bytes, quick.qwentts_version()).decode()


def build_info() -> Dict[str, Any]:
    """What the library can do: version, abi, demo (the model inside), cuda (the kinds of GPU that it has code for)."""
    return cast(Dict[str, Any], json.loads(quick.qwentts_build_info()))


# ---- handles -----------------------------------------------------------------------------------------------------------


class Handle:
    """A C handle. It is freed once, when it is closed and the last call on it has returned."""

    def __init__(self, what: str, pointer: c_void_p, free: Callable[[Any], Any], wake: Optional[Callable[[Any], Any]] = None):
        """`wake`: what makes calls that wait return."""
        self.what = what
        self.closed = False
        self._pointer = pointer
        self._free = free
        self._wake = wake
        self._users = 0
        # A signal's handler, or a finalizer, may come to it on the thread that holds it.
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def used(self) -> Iterator[c_void_p]:
        """The pointer, alive for the block; not freed though somebody closes meanwhile."""
        with self._lock:
            if self.closed:
                raise Closed(f"{self.what}: is closed")
            self._users += 1
        try:
            yield self._pointer
        finally:
            self._leave()

    def call(self, entry: Callable[..., int], *arguments: Any) -> int:
        """Calls an entry; a failure is raised, a state is the answer."""
        with self.used() as pointer:
            return checked(entry(pointer, *arguments))

    def close(self) -> None:
        with self._lock:
            if self.closed:
                return
            self.closed = True
            self._users += 1
        if self._wake is not None:
            self._wake(self._pointer)
        self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            last = self.closed and self._users == 0
        if last:
            self._free(self._pointer)

    def json(self, entry: Callable[..., int]) -> Dict[str, Any]:
        """What an entry writes as JSON."""
        needed = c_size_t()
        self.call(entry, None, 0, ctypes.byref(needed))
        while True:
            # It may grow between two calls.
            text = ctypes.create_string_buffer(needed.value + 64)
            try:
                self.call(entry, text, len(text), ctypes.byref(needed))
            except InvalidArgument:
                continue
            return cast(Dict[str, Any], json.loads(text.value))
