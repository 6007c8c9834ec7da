#!/usr/bin/env python3
"""How long samples that are ready wait until Python has them, by each way from the library to Python: a table of Markdown.

    tools/bridge.py [--runs 200] [--library target/release/libqwentts.so]

Each run is a stream of one frame of the embedded model on the CPU, so that nothing computes any more when its samples are ready.
When that was the library itself says (`first_sound_ms`, counted from the text, by the clock that Python reads here too); the time
of the push counts as waiting. The ways: `async for`'s own (the event handle, watched by the loop), a callback that hands over by
call_soon_threadsafe (which is what one would write without the handle), and a read that waits in a thread of its own. Busy are
Python threads that compute and never wait; they want the GIL all the time.
"""

import argparse
import asyncio
import ctypes
import os
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int32)
CONTINUE = 0x5100
TEXT = "Hello."


def waited_ms(stream, pushed, seen):
    """From the samples' being ready to `seen`, both in seconds of time.monotonic."""
    return (seen - pushed) * 1000 - stream.stats()["first_sound_ms"]


def push(stream):
    pushed = time.monotonic()
    stream.push(TEXT)
    stream.end()
    return pushed


async def by_handle(engine):
    with engine.stream(max_frames=1) as stream:
        pushed = push(stream)
        chunk = await stream.aread()
        seen = time.monotonic()
        assert len(chunk) == 1920
        return waited_ms(stream, pushed, seen)


async def by_callback(engine):
    loop = asyncio.get_running_loop()
    first, last = loop.create_future(), loop.create_future()

    def called(_, samples, n, status):
        # Copied, as the samples are the library's when this has returned.
        data = ctypes.string_at(samples, 4 * n) if n else b""
        loop.call_soon_threadsafe((first if n else last).set_result, data)
        return CONTINUE

    call = CALLBACK(called)
    with engine.stream(max_frames=1) as stream:
        stream._handle.call(qwentts._library.lib.qwentts_stream_set_callback, call, None)
        pushed = push(stream)
        data = await first
        seen = time.monotonic()
        assert len(data) == 4 * 1920
        await last
        return waited_ms(stream, pushed, seen)


async def by_thread(engine):
    """The loop only waits for the thread, which is what saw the samples."""

    def read():
        with engine.stream(max_frames=1) as stream:
            pushed = push(stream)
            chunk = stream.read()
            seen = time.monotonic()
            assert len(chunk) == 1920
            return waited_ms(stream, pushed, seen)

    return await asyncio.to_thread(read)


WAYS = {"event handle, asyncio": by_handle, "callback, call_soon_threadsafe": by_callback, "read in a thread": by_thread}


def compute(until):
    n = 0
    while not until.is_set():
        n = (n * 31 + 7) % 1000003


def measure(engine, way, busy, runs):
    over = threading.Event()
    threads = [threading.Thread(target=compute, args=(over,), daemon=True) for _ in range(busy)]
    for thread in threads:
        thread.start()

    async def all_runs():
        return [await way(engine) for _ in range(runs)]

    try:
        return sorted(asyncio.run(all_runs()))
    finally:
        over.set()
        for thread in threads:
            thread.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--library", type=Path, default=ROOT / "target/release/libqwentts.so")
    arguments = parser.parse_args()
    os.environ["QWENTTS_LIBRARY"] = str(arguments.library)
    sys.path.insert(0, str(ROOT / "ffi_examples/python"))
    global qwentts
    import qwentts

    entry = qwentts._library.lib.qwentts_stream_set_callback
    entry.restype, entry.argtypes = ctypes.c_int32, (ctypes.c_void_p, CALLBACK, ctypes.c_void_p)
    print(f"samples ready to seen by Python {sys.version.split()[0]}, ms, {arguments.runs} streams each; {os.cpu_count()} cores\n")
    print("| way | idle: p50 / p99 | 3 busy threads: p50 / p99 |\n| --- | --- | --- |")
    with qwentts.Engine(device="cpu", threads=1) as engine:
        engine.warmup()
        for name, way in WAYS.items():
            cells = []
            for busy in (0, 3):
                waits = measure(engine, way, busy, arguments.runs)
                # The library's clock and Python's are one: less than nothing is a fault of this program.
                assert waits[0] > 0, waits[0]
                p50, p99 = (waits[min(len(waits) - 1, len(waits) * p // 100)] for p in (50, 99))
                cells.append(f"{p50:.2f} / {p99:.2f}")
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
