"""What the tests of Python's packages have in common: Pipecat's, LiveKit's."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import qwentts

ROOT = Path(__file__).resolve().parents[3]
# Bounds on time are for a quiet machine; elsewhere this says how many times as long it may be.
PATIENCE = float(os.environ.get("QWENTTS_TEST_PATIENCE", "1"))


async def within(seconds: float, true: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.002)
    return True


@contextmanager
def base_and_voices() -> Iterator[tuple[qwentts.Engine, str, str]]:
    """A Base model, two voice files of it, and of another model the second. Seeded weights make noise, and end by max_frames alone."""
    sound = [i % 240 / 240 - 0.5 for i in range(30000)]
    with tempfile.TemporaryDirectory() as folder:
        made = []
        for seed in ("1", "2"):
            model, voice = f"{folder}/base-{seed}", f"{folder}/{seed}.qvoice"
            subprocess.run([sys.executable, ROOT / "tests/golden/seeded.py", "tiny-0b6-base", seed, model], check=True, capture_output=True)
            with qwentts.Engine(model, "cpu") as base:
                base.clone(sound, 24000).save(voice)
            made.append((model, voice))
        with qwentts.Engine(made[0][0], "cpu") as engine:
            yield engine, made[0][1], made[1][1]
