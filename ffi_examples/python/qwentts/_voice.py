"""Voices of recordings."""

from __future__ import annotations

import array
import ctypes
import os
import weakref
from typing import Any, Iterable, Optional, Union

from ._library import Handle, InvalidArgument, lib, text


class Voice:
    """A voice that was made of a recording (`Engine.clone`) or loaded (`Engine.load_voice`). It never changes; threads and
    streams may share it: `engine.speak("Hi.", voice=ann)`. It goes when nobody holds it; streams that speak with it go on."""

    def __init__(self, pointer: ctypes.c_void_p):
        self._handle = Handle("voice", pointer, lib.qwentts_voice_release)
        self._finalizer = weakref.finalize(self, self._handle.close)

    def save(self, path: Union[str, "os.PathLike[str]"]) -> None:
        """Writes it to a file, which any engine with the same model can load."""
        self._handle.call(lib.qwentts_voice_save, text("path", os.fspath(path)))

    @property
    def pointer(self) -> Optional[int]:
        """What C knows it by, as long as this object lives."""
        with self._handle.used() as pointer:
            return pointer.value


def floats(samples: Union[Any, Iterable[float]]) -> "array.array[float]":
    """Samples of -1 to 1: numbers, or a buffer of float32 or int16."""
    try:
        view = memoryview(samples)
    except TypeError:
        return array.array("f", samples)
    if view.ndim != 1 or view.format not in ("f", "d", "h"):
        raise InvalidArgument(f"samples: have the format {view.format!r} and {view.ndim} dimensions; expected one of f, d or h, mono")
    scale = 32768.0 if view.format == "h" else 1.0
    return array.array("f", (sample / scale for sample in view.tolist()))
