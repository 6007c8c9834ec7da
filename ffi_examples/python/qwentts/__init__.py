"""Text to speech with the Qwen3-TTS 12 Hz models: libqwentts by ctypes, nothing else needed.

    import qwentts

    with qwentts.Engine() as engine:                    # the small model inside the library; Engine("DIR") opens another
        for chunk in engine.speak("Hello there."):      # float32, 24 kHz, mono; the first 80 ms come at once
            play(chunk)                                 # a numpy array where numpy is installed, else a memoryview
        async for chunk in engine.speak(tokens):        # text as it comes, from any iterator or async iterator of str
            await send(chunk)
        engine.say("Hello there.", "hello.wav")

Threads: an engine is shared. Of a stream, one thread may push text while another reads and any other cancels or closes.
No call holds the GIL while it waits. Nothing waits but `Engine(...)`, `warmup`, `Engine.close` (a frame at most), `read`,
`read_frames` and iteration. Handles close themselves when they are dropped; a call after a close raises `Closed`.
"""

from ._engine import Engine
from ._library import (
    BadModel,
    Busy,
    Cancelled,
    Closed,
    DeviceError,
    DeviceLost,
    Ended,
    Error,
    InternalError,
    InvalidArgument,
    NotFound,
    OutOfMemory,
    Unsupported,
    build_info,
    version,
)
from ._stream import End, Event, FirstSound, Options, Samples, Stream, Word
from ._voice import Voice

__version__ = version()

__all__ = [
    "BadModel",
    "Busy",
    "Cancelled",
    "Closed",
    "DeviceError",
    "DeviceLost",
    "End",
    "Ended",
    "Engine",
    "Error",
    "Event",
    "FirstSound",
    "InternalError",
    "InvalidArgument",
    "NotFound",
    "Options",
    "OutOfMemory",
    "Samples",
    "Stream",
    "Unsupported",
    "Voice",
    "Word",
    "build_info",
    "version",
]
