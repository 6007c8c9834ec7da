"""Would catch a service that fits its tests and no conversation: the whole chain over a loopback websocket, as bot.py builds it. A caller
asks with our own voice through a microphone; energy is the VAD, the LLM a script. The STT is a script, too, or where QWENTTS_EARS
names the Python of the ears' venv (`make listen` does) Whisper tiny.en, which then also judges the reply.

    PYTHONPATH=ffi_examples/python:ffi_examples/pipecat python -m unittest discover -s ffi_examples/pipecat/tests
"""

import asyncio
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import wave
from collections import Counter
from pathlib import Path
from typing import Any

import qwentts
from loguru import logger
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.tts_service import TextAggregationMode
from pipecat_qwentts import QwenttsTTSService

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "ffi_examples/pipecat"))

import bot  # noqa: E402
import offline  # noqa: E402

# Both are sentences that the ears write down right where the embedded voice says them.
QUESTION = "Can you tell me the time?"
SENTENCES = ("Thank you very much for listening.", "It is a pleasure to talk to you today.")
REPLY = " ".join(SENTENCES)
# By tokens Pipecat commits a sentence's words once it knows the whole sentence, so that one without an end would leave none.
LONG = "One two three. Four five six. Seven eight nine. " * 4
# As in test_service.py.
PATIENCE = float(os.environ.get("QWENTTS_TEST_PATIENCE", "1"))
EARS = os.environ.get("QWENTTS_EARS")


class Ears:
    """Whisper in its own process."""

    def __init__(self) -> None:
        hear = [EARS or "", str(ROOT / "tools/hear.py")]
        self._process = subprocess.Popen(hear, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def hear(self, wav: bytes) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            file.write(wav)
            file.flush()
            print(file.name, file=self._process.stdin, flush=True)
            return self._process.stdout.readline().strip()

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(10)


class Watcher(FrameProcessor):
    """What leaves the TTS, and when."""

    def __init__(self) -> None:
        super().__init__(enable_direct_mode=True)
        self.frames: list[tuple[float, Frame]] = []
        self.errors: list[str] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction == FrameDirection.DOWNSTREAM:
            self.frames.append((time.monotonic(), frame))
        elif isinstance(frame, ErrorFrame):
            self.errors.append(frame.error)
        await self.push_frame(frame, direction)

    def all(self, kind: type) -> list[tuple[float, Any]]:
        return [(at, frame) for at, frame in self.frames if isinstance(frame, kind)]

    async def until(self, kind: type, n: int) -> None:
        async with asyncio.timeout(60):
            while len(self.all(kind)) < n:
                await asyncio.sleep(0.005)


def free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return int(any_port.getsockname()[1])


def words(text: str) -> list[str]:
    return re.sub(r"[^a-z ]", "", text.lower()).split()


class Call:
    """A bot, and a caller on its line."""

    def __init__(self, test: "ChainTest", mode: TextAggregationMode, *replies: str):
        self.llm, self.context, self.watcher = offline.Answers(*replies), LLMContext(), Watcher()
        self.port = free_port()
        transport, self._ready = offline.line(self.port)
        tts = QwenttsTTSService(engine=test.engine, text_aggregation_mode=mode, settings=QwenttsTTSService.Settings(voice="slt"))
        self.worker = bot.chain(transport, offline.Hears(test.hear), self.llm, tts, offline.LoudIsSpeech(), self.context, self.watcher)

    async def __aenter__(self) -> "Call":
        self._running = asyncio.create_task(bot.run(self.worker, handle_sigint=False))
        await asyncio.wait_for(self._ready.wait(), 60)
        self.caller = await offline.Caller(f"ws://127.0.0.1:{self.port}").__aenter__()
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.caller.__aexit__()
        await self.worker.queue_frame(EndFrame())
        await asyncio.wait_for(self._running, 60)

    def messages(self) -> list[tuple[str, str]]:
        return [(message["role"], message["content"]) for message in self.context.get_messages()]


class ChainTest(unittest.IsolatedAsyncioTestCase):
    engine: qwentts.Engine
    question: bytes
    ears: Ears | None = None

    @classmethod
    def setUpClass(cls) -> None:
        logger.remove()
        cls.engine = qwentts.Engine(device="cpu")
        cls.question = offline.spoken(cls.engine, QUESTION, voice="slt")
        if EARS:
            cls.ears = Ears()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.engine.close()
        if cls.ears is not None:
            cls.ears.close()

    async def hear(self, wav: bytes) -> str:
        # A segment that is silent is nobody's question.
        self.assertGreater(offline.loudness(wav[44:]), 100)
        return QUESTION if self.ears is None else await asyncio.to_thread(self.ears.hear, wav)

    def alone(self, text: str, **options: Any) -> bytes:
        return b"".join(bytes(chunk) for chunk in self.engine.speak(text, voice="slt", format="i16", **options))

    def same_words(self, a: str, b: str) -> None:
        # Pipecat 1.14 may put a word that comes in the moment in which its sentence becomes known before those that waited for it.
        self.assertEqual(sorted(words(a)), sorted(words(b)))

    def idle(self) -> bool:
        stats = self.engine.stats()
        return stats["open"] == stats["speaking"] == 0

    async def test_a_question_is_answered(self) -> None:
        for mode in (TextAggregationMode.TOKEN, TextAggregationMode.SENTENCE):
            with self.subTest(mode=mode):
                async with Call(self, mode, REPLY) as call:
                    await call.caller.say(self.question)
                    await call.watcher.until(TTSStoppedFrame, 1)
                    await call.caller.quiet()
                    self.assertEqual(call.caller.interruptions[1:], [])
                first, last = call.llm.said[0]
                sound = [frame.audio for _, frame in call.watcher.all(TTSAudioRawFrame)]
                at = [at for at, _ in call.watcher.all(TTSAudioRawFrame)]
                # In order, and all of it: what the engine says, as much at the caller's ear.
                [(started, _)], [(stopped, _)] = call.watcher.all(TTSStartedFrame), call.watcher.all(TTSStoppedFrame)
                self.assertTrue(started <= at[0] and at[-1] <= stopped)
                alone = self.alone(REPLY, layout="streaming") if mode == TextAggregationMode.TOKEN else b"".join(map(self.alone, SENTENCES))
                self.assertEqual(b"".join(sound), alone)
                self.assertAlmostEqual(len(call.caller.sound()) / 48000, len(alone) / 48000, delta=0.1)
                heard_ms = 1000 * (call.caller.heard[0][0] - first)
                print(f"{mode.value}: first sound at the caller {heard_ms:.0f} ms after the LLM's first token", file=sys.stderr)
                if mode == TextAggregationMode.TOKEN:
                    self.assertLess(call.caller.heard[0][0], last - 0.2)
                self.assertEqual([role for role, _ in call.messages()], ["user", "assistant"])
                self.assertEqual(words(call.messages()[0][1]), words(QUESTION))
                self.same_words(call.messages()[1][1], REPLY)
                self.assertEqual(call.watcher.errors, [])
                if self.ears is not None:
                    self.assertEqual(words(self.ears.hear(as_wav(call.caller.sound()))), words(REPLY))

    async def test_a_caller_may_break_in(self) -> None:
        for mode in (TextAggregationMode.TOKEN, TextAggregationMode.SENTENCE):
            with self.subTest(mode=mode):
                async with Call(self, mode, LONG, REPLY) as call:
                    await call.caller.say(self.question)
                    await call.watcher.until(TTSAudioRawFrame, 1)
                    # Long enough for a few words, which are taken for said when they have been heard.
                    await asyncio.sleep(1.5)
                    # Between two sentences it may be, by tokens it cannot.
                    self.assertFalse(mode == TextAggregationMode.TOKEN and self.idle())
                    asking = asyncio.create_task(call.caller.say(self.question))
                    before = len(call.watcher.all(InterruptionFrame))
                    began = time.monotonic()
                    await call.watcher.until(InterruptionFrame, before + 1)
                    # A frame is 80 ms of sound, and less than 20 ms of work.
                    while not self.idle():
                        self.assertLess(time.monotonic() - call.watcher.all(InterruptionFrame)[-1][0], 0.08 * PATIENCE)
                        await asyncio.sleep(0.002)
                    self.assertLess(call.watcher.all(InterruptionFrame)[-1][0] - began, 0.6 * PATIENCE)
                    await asking
                    await call.watcher.until(TTSStartedFrame, 2)
                    await call.watcher.until(TTSAudioRawFrame, len(call.watcher.all(TTSAudioRawFrame)) + 1)
                    await call.caller.quiet()
                at = call.watcher.all(InterruptionFrame)[-1][0]
                contexts = {frame.context_id for when, frame in call.watcher.all(TTSAudioRawFrame) if when < at}
                later = {frame.context_id for when, frame in call.watcher.all(TTSAudioRawFrame) if when > at}
                self.assertEqual((len(contexts), len(later), len(contexts & later)), (1, 1, 0))
                # The caller hears nothing between the interruption and the new reply.
                told, answered = call.caller.interruptions[-1], call.llm.said[-1][0]
                self.assertEqual([when for when, _ in call.caller.heard if told + 0.05 < when < answered], [])
                # Of the reply that was broken off, the conversation has what was heard, and no more.
                roles = [role for role, _ in call.messages()]
                self.assertEqual(roles, ["user", "assistant", "user", "assistant"])
                broken = words(call.messages()[1][1])
                self.assertEqual(sorted(broken), sorted(words(LONG)[: len(broken)]))
                self.assertTrue(0 < len(broken) < len(words(LONG)) / 2, broken)
                # A word that was on its way when Pipecat's interruption overtook it may begin the next message; none left us behind it.
                texts = [(when, frame) for when, frame in call.watcher.all(TTSTextFrame) if when > at]
                self.assertEqual({frame.context_id for _, frame in texts}, later)
                self.assertLessEqual((Counter(words(call.messages()[3][1])) - Counter(words(REPLY))).total(), 1)
                self.same_words(" ".join(frame.text for _, frame in texts), REPLY)
                self.assertEqual(call.watcher.errors, [])


def as_wav(pcm: bytes) -> bytes:
    with tempfile.TemporaryFile() as file:
        with wave.open(file, "wb") as to:
            to.setnchannels(1)
            to.setsampwidth(2)
            to.setframerate(24000)
            to.writeframes(pcm)
        file.seek(0)
        return file.read()


if __name__ == "__main__":
    unittest.main()
