"""QwenttsTTSService in a pipeline, spoken by the embedded model on the CPU; no network.

    PYTHONPATH=ffi_examples/python:ffi_examples/pipecat python -m unittest discover -s ffi_examples/pipecat/tests
"""

import asyncio
import os
import threading
import time
import unittest
from typing import Any, Callable
from unittest import mock

import qwentts
from loguru import logger
from pipecat.frames.frames import (
    AggregatedTextFrame,
    CancelFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    MetricsFrame,
    OutputAudioRawFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    TTSUpdateSettingsFrame,
)
from pipecat.metrics.metrics import TTFBMetricsData, TTSUsageMetricsData
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.tts_service import TextAggregationMode
from pipecat.transcriptions.language import Language
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner
from pipecat_qwentts import QwenttsTTSService

Settings = QwenttsTTSService.Settings
TOKEN = TextAggregationMode.TOKEN
TEXT = "Hello there. Thank you very much for listening."
# Bounds on time are for a quiet machine; elsewhere this says how many times as long it may be.
PATIENCE = float(os.environ.get("QWENTTS_TEST_PATIENCE", "1"))
LONG = "one two three four five six seven eight nine ten " * 3


class _Recorder(FrameProcessor):
    def __init__(self, frames: list[tuple[float, Frame]], changed: asyncio.Event, direction: FrameDirection):
        super().__init__(enable_direct_mode=True)
        self._frames, self._changed, self._direction = frames, changed, direction

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction == self._direction:
            self._frames.append((time.monotonic(), frame))
            self._changed.set()
        await self.push_frame(frame, direction)


class Talk:
    """A running pipeline of services, whatever they push, and when."""

    def __init__(self, *services: FrameProcessor, rate: int = 24000):
        self.down: list[tuple[float, Frame]] = []
        self.up: list[tuple[float, Frame]] = []
        self._changed = asyncio.Event()
        up = _Recorder(self.up, self._changed, FrameDirection.UPSTREAM)
        down = _Recorder(self.down, self._changed, FrameDirection.DOWNSTREAM)
        params = PipelineParams(audio_out_sample_rate=rate, enable_metrics=True, enable_usage_metrics=True)
        self._worker = PipelineWorker(
            Pipeline([up, *services, down]), cancel_on_idle_timeout=False, enable_rtvi=False, params=params
        )
        self._started = asyncio.Event()
        self._worker.add_event_handler("on_pipeline_started", self._on_started)
        self._runner: asyncio.Task[None] | None = None

    async def _on_started(self, *_: Any) -> None:
        self._started.set()

    @property
    def started(self) -> bool:
        return self._started.is_set()

    async def __aenter__(self) -> "Talk":
        async def run() -> None:
            runner = WorkerRunner(handle_sigint=False)
            await runner.add_workers(self._worker)
            await runner.run()

        self._runner = asyncio.create_task(run())
        await asyncio.wait_for(self._started.wait(), 60)
        return self

    async def __aexit__(self, kind: Any, *_: Any) -> None:
        await self.end(CancelFrame() if kind else EndFrame())

    async def end(self, frame: Frame) -> None:
        assert self._runner is not None
        if not self._runner.done():
            await self._worker.queue_frame(frame)
        await asyncio.wait_for(self._runner, 60)

    async def send(self, *frames: Frame) -> None:
        for frame in frames:
            await self._worker.queue_frame(frame)

    async def reply(self, text: str, pause_s: float = 0.0) -> None:
        """As an LLM does it: tokens that carry the space before them."""
        await self.send(LLMFullResponseStartFrame())
        words = text.split(" ")
        for n, word in enumerate(words):
            await self.send(LLMTextFrame(word if n == 0 else " " + word))
            await asyncio.sleep(pause_s)
        await self.send(LLMFullResponseEndFrame())

    async def until(self, kind: type, n: int = 1, frames: list[tuple[float, Frame]] | None = None) -> None:
        """Until so many of a kind were pushed."""

        async def wait() -> None:
            while len(self.all(kind, frames)) < n:
                self._changed.clear()
                await self._changed.wait()

        await asyncio.wait_for(wait(), 60)

    def all(self, kind: type, frames: list[tuple[float, Frame]] | None = None) -> list[Any]:
        return [frame for _, frame in (self.down if frames is None else frames) if isinstance(frame, kind)]

    def at(self, kind: type) -> float:
        return next(at for at, frame in self.down if isinstance(frame, kind))

    def sound(self) -> bytes:
        return b"".join(frame.audio for frame in self.all(TTSAudioRawFrame))

    def said(self) -> str:
        return " ".join(frame.text.strip() for frame in self.all(TTSTextFrame))

    def order(self, *kinds: type) -> list[str]:
        """The names of the frames of these kinds, runs of one kind as one."""
        names: list[str] = []
        for _, frame in self.down:
            if isinstance(frame, kinds) and (not names or names[-1] != type(frame).__name__):
                names.append(type(frame).__name__)
        return names


class Speaker(BaseOutputTransport):
    """Is heard in real time, also where the machine is late for a moment."""

    def __init__(self) -> None:
        super().__init__(TransportParams(audio_out_enabled=True, audio_out_end_silence_secs=0))
        self.heard_s = 0.0
        self._free_at = 0.0

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        seconds = len(frame.audio) / 2 / frame.sample_rate
        self._free_at = max(self._free_at, time.monotonic() - 0.2) + seconds
        await asyncio.sleep(max(0, self._free_at - time.monotonic()))
        self.heard_s += seconds
        return True


async def within(seconds: float, true: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.002)
    return True


class ServiceTest(unittest.IsolatedAsyncioTestCase):
    engine: qwentts.Engine

    @classmethod
    def setUpClass(cls) -> None:
        logger.remove()
        cls.engine = qwentts.Engine(device="cpu")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.engine.close()

    def service(self, mode: TextAggregationMode | None = None, **named: Any) -> QwenttsTTSService:
        return QwenttsTTSService(engine=self.engine, text_aggregation_mode=mode, **named)

    def idle(self) -> bool:
        stats = self.engine.stats()
        return stats["open"] == stats["speaking"] == 0

    def alone(self, text: str, **options: Any) -> bytes:
        """What the engine says without Pipecat."""
        return b"".join(bytes(chunk) for chunk in self.engine.speak(text, format="i16", **options))

    async def test_sentences_come_in_order_with_their_words(self) -> None:
        async with Talk(self.service()) as talk:
            await talk.reply(TEXT)
            await talk.until(TTSStoppedFrame)
            await talk.until(LLMFullResponseEndFrame)
        # A sentence is announced before its sound, and its end is the last of it.
        self.assertEqual(
            talk.order(LLMFullResponseStartFrame, AggregatedTextFrame, TTSStartedFrame)[:3],
            ["LLMFullResponseStartFrame", "AggregatedTextFrame", "TTSStartedFrame"],
        )
        self.assertEqual(talk.order(TTSStartedFrame, TTSAudioRawFrame)[0], "TTSStartedFrame")
        self.assertEqual(talk.order(TTSStoppedFrame, LLMFullResponseEndFrame)[-1], "LLMFullResponseEndFrame")
        self.assertEqual(talk.order(TTSStartedFrame, TTSStoppedFrame), ["TTSStartedFrame", "TTSStoppedFrame"])
        self.assertEqual(talk.order(TTSStoppedFrame, TTSAudioRawFrame)[-1], "TTSStoppedFrame")
        self.assertEqual(talk.order(TTSStoppedFrame, TTSTextFrame)[-1], "TTSStoppedFrame")
        self.assertEqual(talk.said(), TEXT)
        # Words have times that grow, the second sentence's behind the first's sound.
        times = [frame.pts for frame in talk.all(TTSTextFrame)]
        self.assertEqual(times, sorted(times))
        first_s = len(self.alone("Hello there.")) / 48000
        words = {frame.text.strip(): frame.pts for frame in talk.all(TTSTextFrame)}
        # Later where the machine was too slow for real time, which is a pause.
        self.assertGreater((words["Thank"] - words["Hello"]) / 1e9, first_s - 0.1)
        # Not a sample more or less than the engine's.
        self.assertEqual(talk.sound(), self.alone("Hello there.") + self.alone("Thank you very much for listening."))
        self.assertEqual(len({frame.context_id for frame in talk.all(TTSAudioRawFrame)}), 1)
        self.assertEqual(talk.all(ErrorFrame, talk.up), [])

    async def test_sound_comes_before_the_end_of_a_text_by_tokens(self) -> None:
        async with Talk(self.service(TOKEN)) as talk:
            text = "Hello there, thank you very much for listening to me today."
            sent = time.monotonic()
            await talk.reply(text, pause_s=0.1)
            ended = time.monotonic()
            await talk.until(TTSStoppedFrame)
        self.assertLess(talk.at(TTSAudioRawFrame), ended - 0.4)
        self.assertLess(talk.at(TTSAudioRawFrame), sent + 0.6 * PATIENCE)
        self.assertEqual(talk.order(TTSStartedFrame, TTSAudioRawFrame, TTSStoppedFrame), ["TTSStartedFrame", "TTSAudioRawFrame", "TTSStoppedFrame"])
        self.assertEqual(talk.said(), text)
        self.assertEqual(talk.sound(), self.alone(text, layout="streaming"))
        self.assertEqual(talk.all(ErrorFrame, talk.up), [])

    async def test_sentences_stream_too(self) -> None:
        async with Talk(self.service()) as talk:
            await talk.send(TTSSpeakFrame(TEXT))
            await talk.until(TTSAudioRawFrame)
            first = time.monotonic()
            await talk.until(TTSStoppedFrame)
            self.assertGreater(time.monotonic() - first, 0.1)
        self.assertGreater(len(talk.all(TTSAudioRawFrame)), 4)
        self.assertLessEqual(len(talk.all(TTSAudioRawFrame)[0].audio), 3840)

    async def test_an_interruption_ends_sound_and_engine(self) -> None:
        for mode in (TextAggregationMode.SENTENCE, TOKEN):
            with self.subTest(mode=mode):
                async with Talk(self.service(mode)) as talk:
                    await talk.send(LLMFullResponseStartFrame(), *(LLMTextFrame(" " + word) for word in LONG.split()))
                    if mode != TOKEN:
                        await talk.send(LLMFullResponseEndFrame())
                    await talk.until(TTSAudioRawFrame, 2)
                    old = talk.all(TTSStartedFrame)[0].context_id
                    self.assertFalse(self.idle())
                    await talk.send(InterruptionFrame())
                    await talk.until(InterruptionFrame)
                    # A frame is 80 ms of sound and less than 20 ms of work.
                    self.assertTrue(await within(0.08 * PATIENCE, self.idle))
                    n = len(talk.all(TTSAudioRawFrame))
                    await asyncio.sleep(0.2)
                    self.assertEqual(len(talk.all(TTSAudioRawFrame)), n)
                    self.assertLess(len(talk.said()), len(LONG) / 2)
                    await talk.reply("Thank you very much.")
                    await talk.until(LLMFullResponseEndFrame)
                at = next(i for i, (_, frame) in enumerate(talk.down) if isinstance(frame, InterruptionFrame))
                later = {frame.context_id for _, frame in talk.down[at:] if isinstance(frame, TTSAudioRawFrame)}
                self.assertEqual(len(later), 1)
                self.assertNotIn(old, later)
                self.assertTrue(talk.said().endswith("Thank you very much."), talk.said())
                self.assertEqual(talk.all(ErrorFrame, talk.up), [])

    async def test_only_what_was_heard_enters_the_conversation(self) -> None:
        text = "One two three four five six seven eight nine ten."
        for mode in (TextAggregationMode.SENTENCE, TOKEN):
            with self.subTest(mode=mode):
                context = LLMContext()
                speaker = Speaker()
                aggregator = LLMContextAggregatorPair(context).assistant()
                async with Talk(self.service(mode), speaker, aggregator) as talk:
                    await talk.reply("Hello there.")
                    # The aggregator keeps a reply's frames to itself.
                    self.assertTrue(await within(10, lambda: len(context.get_messages()) == 1))
                    before_s = speaker.heard_s
                    await talk.reply(text)
                    self.assertTrue(await within(10, lambda: speaker.heard_s > before_s + 1.0))
                    await talk.send(InterruptionFrame())
                    await talk.until(InterruptionFrame)
                    heard_s = speaker.heard_s - before_s
                    await talk.reply("Thank you.")
                    self.assertTrue(await within(10, lambda: len(context.get_messages()) == 3))
                messages = [message["content"] for message in context.get_messages()]
                self.assertEqual([messages[0], messages[-1]], ["Hello there.", "Thank you."])
                self.assertTrue(text.startswith(messages[1]), messages)
                # As many words as that time has, which the engine tells of speech alone.
                stream = self.engine.speak(text, layout="streaming" if mode == TOKEN else None)
                for _ in stream:
                    pass
                starts = [event.sample / 24000 for event in stream.events() if isinstance(event, qwentts.Word)]
                self.assertAlmostEqual(len(messages[1].split()), sum(start < heard_s for start in starts), delta=2)

    async def test_many_interruptions_leak_nothing(self) -> None:
        for mode in (TextAggregationMode.SENTENCE, TOKEN):
            with self.subTest(mode=mode):
                async with Talk(self.service(mode)) as talk:

                    async def turn(n: int) -> None:
                        await talk.send(LLMFullResponseStartFrame(), *(LLMTextFrame(" " + word) for word in LONG.split()))
                        await talk.send(LLMFullResponseEndFrame())
                        await asyncio.sleep(0.01 * (n % 8))
                        await talk.send(InterruptionFrame())
                        await talk.until(InterruptionFrame, n)

                    await turn(1)
                    before = self.held()
                    for n in range(2, 32):
                        await turn(n)
                    self.assertTrue(await within(0.08 * PATIENCE, self.idle))
                    self.assertTrue(await within(0.5 * PATIENCE, lambda: self.held() == before), f"{before} before, {self.held()} now")
                    self.assertEqual(talk.all(ErrorFrame, talk.up), [])

    def held(self) -> tuple[int, int, int]:
        """Threads, descriptors, tasks."""
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())

    async def test_no_thread_reads(self) -> None:
        async with Talk(self.service(TOKEN)) as talk:
            before = threading.active_count()
            await talk.reply(TEXT)
            await talk.until(TTSAudioRawFrame, 2)
            self.assertEqual(threading.active_count(), before)

    async def test_the_loop_is_never_held(self) -> None:
        worst = 0.0

        async def tick() -> None:
            nonlocal worst
            while True:
                began = time.monotonic()
                await asyncio.sleep(0.002)
                worst = max(worst, time.monotonic() - began)

        async with Talk(self.service()) as talk:
            ticking = asyncio.create_task(tick())
            await talk.reply(TEXT)
            await talk.until(TTSStoppedFrame)
            ticking.cancel()
        # A sentence takes the engine far longer; this leaves room for a loud machine.
        self.assertLess(worst, 0.15 * PATIENCE)

    async def test_metrics(self) -> None:
        for mode in (TextAggregationMode.SENTENCE, TOKEN):
            with self.subTest(mode=mode):
                async with Talk(self.service(mode)) as talk:
                    await talk.reply(TEXT)
                    await talk.until(LLMFullResponseEndFrame)
                data = [one for frame in talk.all(MetricsFrame) for one in frame.data]
                ttfb = [one.value for one in data if isinstance(one, TTFBMetricsData) and one.value > 0]
                self.assertEqual(len(ttfb), 1)
                self.assertAlmostEqual(ttfb[0], talk.at(TTSAudioRawFrame) - talk.at(TTSStartedFrame), delta=0.1 * PATIENCE)
                self.assertEqual(sum(one.value for one in data if isinstance(one, TTSUsageMetricsData)), len(TEXT) - (mode != TOKEN))

    async def test_settings_hold_from_the_next_sentence_on(self) -> None:
        text = "Hello there."
        async with Talk(self.service(settings=Settings(voice="slt", language=Language.EN_US))) as talk:
            await talk.send(TTSSpeakFrame(text))
            await talk.send(TTSUpdateSettingsFrame(delta=Settings(voice="rms", seed=7, do_sample=True, temperature=0.6)))
            await talk.send(TTSSpeakFrame(text))
            await talk.until(TTSStoppedFrame, 2)
        slt = self.alone(text, voice="slt", language="english")
        rms = self.alone(text, voice="rms", language="english", seed=7, do_sample=True, temperature=0.6)
        self.assertEqual(talk.sound(), slt + rms)
        self.assertNotEqual(slt, rms)

    async def test_an_unknown_voice_is_refused_and_the_old_one_stays(self) -> None:
        async with Talk(self.service(settings=Settings(voice="slt"))) as talk:
            await talk.send(TTSUpdateSettingsFrame(delta=Settings(voice="nobody", language=Language.FR)))
            await talk.send(TTSSpeakFrame("Hello there."))
            await talk.until(TTSStoppedFrame)
        self.assertEqual(talk.sound(), self.alone("Hello there.", voice="slt"))
        errors = [frame.error for frame in talk.all(ErrorFrame, talk.up)]
        self.assertEqual(len(errors), 2, errors)
        self.assertIn("'nobody' is unknown; this model has rms, slt", errors[0])
        self.assertIn("'french' is unknown", errors[1])

    async def test_what_setup_finds_wrong_is_said_and_can_be_mended(self) -> None:
        async with Talk(self.service(settings=Settings(voice="nobody"))) as talk:
            await talk.until(ErrorFrame, frames=talk.up)
            self.assertIn("'nobody' is unknown; this model has rms, slt", talk.all(ErrorFrame, talk.up)[0].error)
            await talk.send(TTSUpdateSettingsFrame(delta=Settings(voice="rms")), TTSSpeakFrame("Hello there."))
            await talk.until(TTSStoppedFrame)
        self.assertEqual(talk.sound(), self.alone("Hello there.", voice="rms"))
        async with Talk(QwenttsTTSService(model="/nowhere")) as talk:
            await talk.until(ErrorFrame, frames=talk.up)
            self.assertIn("/nowhere", talk.all(ErrorFrame, talk.up)[0].error)
            await talk.send(TTSUpdateSettingsFrame(delta=Settings(seed=7)), TTSSpeakFrame("Hello there."))
            await talk.until(ErrorFrame, 2, talk.up)
            self.assertIn("engine: is not open", talk.all(ErrorFrame, talk.up)[1].error)
        async with Talk(self.service(), rate=11025) as talk:
            await talk.until(ErrorFrame, frames=talk.up)
            self.assertIn("11025; expected one of 8000, 16000", talk.all(ErrorFrame, talk.up)[0].error)

    async def test_the_engine_makes_the_pipelines_rate(self) -> None:
        async with Talk(self.service(), rate=8000) as talk:
            await talk.send(TTSSpeakFrame("Hello there."))
            await talk.until(TTSStoppedFrame)
        self.assertEqual({frame.sample_rate for frame in talk.all(TTSAudioRawFrame)}, {8000})
        self.assertEqual(talk.sound(), self.alone("Hello there.", sample_rate_hz=8000))

    async def test_a_failure_is_said_without_dead_air(self) -> None:
        for mode in (TextAggregationMode.SENTENCE, TOKEN):
            with self.subTest(mode=mode):
                async with Talk(self.service(mode, settings=Settings(extra={"top_k": -5}))) as talk:
                    began = time.monotonic()
                    await talk.reply(TEXT)
                    await talk.until(LLMFullResponseEndFrame)
                    self.assertLess(time.monotonic() - began, 0.5 * PATIENCE)
                    self.assertIn("top_k", talk.all(ErrorFrame, talk.up)[0].error)
                    self.assertEqual(talk.said(), "")
                    self.assertEqual(talk.order(TTSStartedFrame, TTSStoppedFrame), ["TTSStartedFrame", "TTSStoppedFrame"])
                    # And the next turn speaks, once what was wrong is mended.
                    await talk.send(TTSUpdateSettingsFrame(delta=Settings(extra={"top_k": 5})))
                    await talk.reply(TEXT)
                    await talk.until(LLMFullResponseEndFrame, 2)
                    self.assertEqual(talk.said(), TEXT)
                self.assertTrue(await within(0.08 * PATIENCE, self.idle))

    async def test_an_engine_that_is_lost_is_said_and_the_pipeline_ends(self) -> None:
        engine = qwentts.Engine(device="cpu")
        async with Talk(QwenttsTTSService(engine=engine)) as talk:
            await talk.reply(LONG)
            await talk.until(TTSAudioRawFrame)
            await asyncio.to_thread(engine.close)
            await talk.until(ErrorFrame, frames=talk.up)
            await talk.until(TTSStoppedFrame)
        self.assertLess(len(talk.said()), len(LONG) / 2)

    async def test_text_that_stops_coming_does_not_hold_the_turn(self) -> None:
        async with Talk(self.service(TOKEN, text_timeout_s=0.3)) as talk:
            await talk.send(LLMFullResponseStartFrame(), LLMTextFrame("Hello there"))
            await talk.until(TTSStoppedFrame)
            await talk.send(LLMTextFrame(" thank you."), LLMFullResponseEndFrame())
            await talk.until(TTSStoppedFrame, 2)
        self.assertEqual(talk.sound(), self.alone("Hello there", layout="streaming") + self.alone(" thank you.", layout="streaming"))
        self.assertTrue(await within(0.08 * PATIENCE, self.idle))

    async def test_tokens_outside_a_turn_hold_no_stream(self) -> None:
        async with Talk(self.service(TOKEN)) as talk:
            began = time.monotonic()
            await talk.send(*(LLMTextFrame(" " + word) for word in ("one", "two", "three")))
            await talk.until(TTSStoppedFrame, 3)
            self.assertLess(time.monotonic() - began, 2 * PATIENCE)
            self.assertTrue(await within(0.08 * PATIENCE, self.idle))

    async def test_speech_stays_within_its_lead(self) -> None:
        async with Talk(self.service(lead_ms=400)) as talk:
            await talk.send(TTSSpeakFrame(TEXT))
            await talk.until(TTSStoppedFrame)
        heard_s, worst_s = 0.0, 0.0
        for at, frame in talk.down:
            if isinstance(frame, TTSAudioRawFrame):
                worst_s = max(worst_s, heard_s - (at - talk.at(TTSAudioRawFrame)))
                heard_s += len(frame.audio) / 48000
        self.assertGreater(heard_s, 2)
        # Without its lead for a bound, speech comes to more than half of itself ahead where the engine is fast.
        self.assertLess(worst_s, min(0.3 * PATIENCE, heard_s / 2))

    async def test_an_utterance_that_must_not_be_interrupted_is_not(self) -> None:
        async with Talk(self.service()) as talk:
            frame = TTSSpeakFrame("Hello there.")
            frame.interruptible = False
            await talk.send(frame)
            await talk.until(TTSAudioRawFrame)
            await talk.send(InterruptionFrame())
            await talk.until(TTSStoppedFrame)
        self.assertEqual(talk.sound(), self.alone("Hello there."))

    async def test_the_end_waits_for_what_was_said_and_a_cancel_does_not(self) -> None:
        async with Talk(self.service(TOKEN)) as talk:
            await talk.send(LLMFullResponseStartFrame(), LLMTextFrame("Hello there."))
            began = time.monotonic()
            await talk.end(EndFrame())
            self.assertLess(time.monotonic() - began, 2 * PATIENCE)
        self.assertEqual(talk.sound(), self.alone("Hello there.", layout="streaming"))
        async with Talk(self.service()) as talk:
            await talk.reply(LONG)
            await talk.until(TTSAudioRawFrame)
            began = time.monotonic()
            await talk.end(CancelFrame())
            self.assertLess(time.monotonic() - began, 1 * PATIENCE)
        self.assertTrue(await within(0.08 * PATIENCE, self.idle))

    async def test_two_services_share_an_engine(self) -> None:
        talks = [Talk(self.service(settings=Settings(voice=voice))) for voice in ("slt", "rms")]
        async with talks[0], talks[1]:
            for talk in talks:
                await talk.reply(TEXT)
            for talk in talks:
                await talk.until(TTSStoppedFrame)
        for talk, voice in zip(talks, ("slt", "rms")):
            self.assertEqual(
                talk.sound(), self.alone("Hello there.", voice=voice) + self.alone("Thank you very much for listening.", voice=voice)
            )

    async def test_a_service_opens_warms_and_closes_an_engine_off_the_loop(self) -> None:
        calls: list[tuple[str, bool, bool]] = []
        loop = threading.get_ident()
        talk: Talk | None = None

        def noted(name: str) -> Any:
            own = getattr(qwentts.Engine, name)

            def call(*arguments: Any, **named: Any) -> Any:
                calls.append((name, threading.get_ident() == loop, talk is not None and talk.started))
                return own(*arguments, **named)

            return mock.patch.object(qwentts.Engine, name, call)

        service = QwenttsTTSService(device="cpu")
        with noted("__init__"), noted("warmup"), noted("close"):
            talk = Talk(service)
            async with talk:
                engine = service.engine
                assert engine is not None
                await talk.send(TTSSpeakFrame("Hello there."))
                await talk.until(TTSStoppedFrame)
        self.assertEqual(calls, [("__init__", False, False), ("warmup", False, False), ("close", False, True)])
        self.assertTrue(engine.closed)


if __name__ == "__main__":
    unittest.main()
