"""Would catch a LiveKit plugin that speaks otherwise than the engine, waits for the end of the text, goes on behind an interruption, leaks,
or does not fit an agent: a session with a scripted LLM, without a room. The embedded model on the CPU; no network.

    PYTHONPATH=ffi_examples/python:ffi_examples/livekit python -m unittest discover -s ffi_examples/livekit/tests
"""

import asyncio
import os
import time
import unittest
from collections.abc import Callable
from typing import Any

import qwentts as engines
from livekit import rtc
from livekit.agents import Agent, AgentSession, APIConnectOptions, APIError, llm
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities
from livekit.plugins import qwentts

TEXT = "Hello there, thank you very much for listening to me today."
LONG = "One two three. Four five six. Seven eight nine. " * 4
PATIENCE = float(os.environ.get("QWENTTS_TEST_PATIENCE", "1"))
ONCE = APIConnectOptions(max_retry=0)


class Script(llm.LLM):
    """A reply to everything, a token at a time."""

    def __init__(self, reply: str, token_s: float = 0.08):
        super().__init__()
        self.reply, self.token_s = reply, token_s
        self.first = self.last = 0.0

    def chat(self, *, chat_ctx: llm.ChatContext, tools: Any = None, conn_options: Any = ONCE, **_: Any) -> llm.LLMStream:
        return Scripted(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class Scripted(llm.LLMStream):
    async def _run(self) -> None:
        script: Any = self._llm
        script.first = time.monotonic()
        for n, word in enumerate(script.reply.split(" ")):
            content = word if n == 0 else " " + word
            self._event_ch.send_nowait(llm.ChatChunk(id="script", delta=llm.ChoiceDelta(role="assistant", content=content)))
            await asyncio.sleep(script.token_s)
        script.last = time.monotonic()


class Ear(AudioOutput):
    """Hears in real time."""

    def __init__(self) -> None:
        super().__init__(label="ear", capabilities=AudioOutputCapabilities(pause=False))
        self.heard: list[tuple[float, bytes]] = []
        self._until = 0.0
        self._playing: asyncio.Task[None] | None = None
        self._seconds = 0.0

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        now = time.monotonic()
        self.heard.append((now, bytes(frame.data)))
        self._until = max(self._until, now) + frame.duration
        self._seconds += frame.duration

    def flush(self) -> None:
        super().flush()

        async def play() -> None:
            await asyncio.sleep(max(0.0, self._until - time.monotonic()))
            self._finish(False)

        self._playing = asyncio.create_task(play())

    def clear_buffer(self) -> None:
        if self._playing is not None:
            self._playing.cancel()
        if self._seconds > 0:
            self._seconds -= max(0.0, self._until - time.monotonic())
            self._finish(True)

    def _finish(self, interrupted: bool) -> None:
        seconds, self._seconds, self._until, self._playing = self._seconds, 0.0, 0.0, None
        self.on_playback_finished(playback_position=seconds, interrupted=interrupted)

    def sound(self) -> bytes:
        return b"".join(sound for _, sound in self.heard)


async def within(seconds: float, true: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.002)
    return True


class PluginTest(unittest.IsolatedAsyncioTestCase):
    engine: engines.Engine

    @classmethod
    def setUpClass(cls) -> None:
        cls.engine = engines.Engine(device="cpu")
        cls.engine.warmup()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.engine.close()

    def tts(self, **options: Any) -> "qwentts.TTS":
        return qwentts.TTS(engine=self.engine, **{"voice": "slt", **options})

    def alone(self, text: str, **options: Any) -> bytes:
        return b"".join(bytes(chunk) for chunk in self.engine.speak(text, format="i16", **{"voice": "slt", **options}))

    def idle(self) -> bool:
        stats = self.engine.stats()
        return stats["open"] == stats["speaking"] == 0

    def same_sound(self, heard: bytes, alone: bytes) -> None:
        # LiveKit ends a segment with 10 ms of silence.
        self.assertEqual(heard[: len(alone)], alone)
        self.assertLessEqual(len(heard) - len(alone), 2 * 480)
        self.assertFalse(any(heard[len(alone) :]))

    async def test_a_whole_text(self) -> None:
        metrics: list[Any] = []
        tts = self.tts(sample_rate=16000)
        tts.on("metrics_collected", metrics.append)
        async with tts.synthesize(TEXT) as stream:
            frame = await stream.collect()
        self.assertEqual(frame.sample_rate, 16000)
        self.same_sound(bytes(frame.data), self.alone(TEXT, sample_rate_hz=16000))
        self.assertEqual((metrics[0].characters_count, metrics[0].cancelled), (len(TEXT), False))
        self.assertGreater(metrics[0].ttfb, 0)

    async def test_live_text_is_heard_before_its_end_with_its_words(self) -> None:
        stream = self.tts().stream()

        async def type_slowly() -> float:
            for word in TEXT.split(" "):
                stream.push_text(word + " ")
                await asyncio.sleep(0.1)
            stream.end_input()
            return time.monotonic()

        typing = asyncio.create_task(type_slowly())
        first, sound, words = 0.0, b"", []
        async for audio in stream:
            first = first or time.monotonic()
            sound += bytes(audio.frame.data)
            words += audio.frame.userdata.get("lk.timed_transcripts", [])
        self.assertLess(first, await typing - 0.4)
        self.same_sound(sound, self.alone(TEXT + " ", layout="streaming"))
        self.assertEqual("".join(words), TEXT + " ")
        times = [word.start_time for word in words[:-1]]
        self.assertEqual(times, sorted(times))
        self.assertGreater(times[-1], len(sound) / 48000 / 2)
        await stream.aclose()

    async def test_a_stream_that_is_closed_frees_the_engine_and_leaks_nothing(self) -> None:
        def held() -> tuple[int, int, int]:
            return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())

        async def once(frames: int) -> None:
            stream = self.tts().stream()
            stream.push_text(LONG)
            for _ in range(frames):
                await anext(stream)
            await stream.aclose()
            self.assertTrue(await within(0.08 * PATIENCE, self.idle))

        await once(2)
        before = held()
        for n in range(30):
            await once(n % 4)
        self.assertTrue(await within(1 * PATIENCE, lambda: held() == before), f"{before} before, {held()} now")

    async def test_a_failure_is_an_api_error_with_the_librarys_text(self) -> None:
        for tts in (self.tts(voice="nobody"), self.tts(top_k=-5)):
            with self.assertRaisesRegex(APIError, "qwentts: (voice|top_k)") as caught:
                async with tts.synthesize(TEXT, conn_options=ONCE) as stream:
                    await stream.collect()
            self.assertFalse(caught.exception.retryable)
        tts = self.tts()
        tts.update_options(voice="rms")
        async with tts.synthesize("Hello there.") as stream:
            self.same_sound(bytes((await stream.collect()).data), self.alone("Hello there.", voice="rms"))
        # Nor is one that comes later, which nobody is to wait behind for ever.
        stream = self.tts().stream(conn_options=ONCE)
        stream.push_text("Hello there, ")
        stream.push_text("a" * 1_000_000)
        with self.assertRaisesRegex(APIError, "qwentts: text: is longer"):
            async with asyncio.timeout(60):
                async for _ in stream:
                    pass
        await stream.aclose()
        self.assertTrue(await within(0.08 * PATIENCE, self.idle))
        # Blank text has no sound, and is no failure; nor is none.
        for text in ("", "  "):
            stream = self.tts().stream(conn_options=ONCE)
            stream.push_text(text)
            stream.end_input()
            self.assertLess(sum([audio.frame.duration async for audio in stream]), 0.05)
            await stream.aclose()

    async def test_an_agent_speaks_and_is_interrupted(self) -> None:
        script, ear = Script(TEXT), Ear()
        async with AgentSession(llm=script, tts=self.tts(), user_away_timeout=None) as session:
            session.output.audio = ear
            await session.start(Agent(instructions="Speak."))
            await session.generate_reply(user_input="Hello?")
            self.assertLess(ear.heard[0][0], script.last - 0.2)
            self.same_sound(ear.sound(), self.alone(TEXT, layout="streaming"))
            print(f"first sound {1000 * (ear.heard[0][0] - script.first):.0f} ms after the LLM's first token")
            self.assertEqual(session.history.items[-1].text_content, TEXT)

            script.reply = LONG
            ear.heard.clear()
            speech = session.generate_reply(user_input="And then?")
            self.assertTrue(await within(60, lambda: len(ear.heard) > 3))
            await asyncio.sleep(0.5)
            self.assertFalse(self.idle())
            await session.interrupt()
            self.assertTrue(await within(0.08 * PATIENCE, self.idle))
            n = len(ear.heard)
            await speech
            await asyncio.sleep(0.2)
            self.assertEqual(len(ear.heard), n)
            self.assertLess(len(session.history.items[-1].text_content or ""), len(LONG) / 2)


if __name__ == "__main__":
    unittest.main()
