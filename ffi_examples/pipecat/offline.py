"""What stands for caller, line, ears and mind where there is no network: for bot.py --offline and for the tests of its chain."""

import asyncio
import time
import wave
from array import array
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import fields
from typing import Any

import qwentts
from pipecat.audio.vad.vad_analyzer import VADAnalyzer, VADParams
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    OutputAudioRawFrame,
    TranscriptionFrame,
)
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings, STTSettings
from pipecat.services.stt_service import SegmentedSTTService
from pipecat.transports.base_transport import BaseTransport
from pipecat.utils.time import time_now_iso8601

QUESTION = "Good morning. How are you?"
REPLY = "Thank you very much, I am well. It is a pleasure to talk to you today."


class LoudIsSpeech(VADAnalyzer):
    """Enough for a line without noise, and needs no model."""

    def __init__(self) -> None:
        super().__init__(params=VADParams(start_secs=0.1, stop_secs=0.2, min_volume=0.0))

    def num_frames_required(self) -> int:
        return self.sample_rate // 100

    def voice_confidence(self, buffer: bytes) -> float:
        return float(loudness(buffer) > 300)


def loudness(pcm: bytes) -> float:
    """The root of the mean square of 16 bit samples."""
    samples = array("h", pcm)
    return (sum(sample * sample for sample in samples) / max(1, len(samples))) ** 0.5


class Hears(SegmentedSTTService):
    """An STT by a function from a WAV file's bytes to text."""

    def __init__(self, hear: Callable[[bytes], Awaitable[str]]):
        super().__init__(settings=STTSettings(model=None, language=None), ttfs_p99_latency=0.5)
        self._hear = hear

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        if text := await self._hear(audio):
            yield TranscriptionFrame(text, "caller", time_now_iso8601())


class Answers(LLMService):
    """An LLM by a script: a reply for each turn, the last again and again, a token (a word and the space before it) at a time."""

    def __init__(self, *replies: str, token_s: float = 0.08):
        nothing = {field.name: None for field in fields(LLMSettings) if field.name != "extra"}
        super().__init__(settings=LLMSettings(**nothing))
        self._replies, self._token_s = list(replies), token_s
        #: When the first and the last token of each reply were pushed.
        self.said: list[tuple[float, float]] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        reply = self._replies[min(len(self.said), len(self._replies) - 1)]
        began = time.monotonic()
        self.said.append((began, float("inf")))
        await self.push_frame(LLMFullResponseStartFrame())
        for n, word in enumerate(reply.split(" ")):
            await self.push_frame(LLMTextFrame(word if n == 0 else " " + word))
            await asyncio.sleep(self._token_s)
        await self.push_frame(LLMFullResponseEndFrame())
        self.said[-1] = (began, time.monotonic())


class Caller:
    """Who is at the other end of the line: a microphone that always sends, and ears that keep what comes and when."""

    RATE_HZ = 16000

    def __init__(self, url: str):
        self._url = url
        self._serializer = ProtobufFrameSerializer()
        self._to_say = bytearray()
        #: What came, 24 kHz.
        self.heard: list[tuple[float, bytes]] = []
        self.interruptions: list[float] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Caller":
        import websockets

        self._socket: Any = await websockets.connect(self._url)
        self._tasks = [asyncio.create_task(self._speak()), asyncio.create_task(self._listen())]
        return self

    async def __aexit__(self, *_: Any) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._socket.close()

    async def say(self, pcm: bytes) -> None:
        """Until it has been said."""
        self._to_say += pcm
        while self._to_say:
            await asyncio.sleep(0.01)

    def sound(self) -> bytes:
        return b"".join(pcm for _, pcm in self.heard)

    async def quiet(self, seconds: float = 1.0, patience_s: float = 30.0) -> None:
        """Until something was heard, and then nothing for a while."""
        end = time.monotonic() + patience_s
        while not self.heard or time.monotonic() - self.heard[-1][0] < seconds:
            if time.monotonic() > end:
                raise TimeoutError("the line does not fall silent")
            await asyncio.sleep(0.02)

    async def _speak(self) -> None:
        step = self.RATE_HZ // 50 * 2
        at = time.monotonic()
        while True:
            pcm = bytes(self._to_say[:step]).ljust(step, b"\0")
            del self._to_say[:step]
            frame = OutputAudioRawFrame(pcm, self.RATE_HZ, 1)
            await self._socket.send(await self._serializer.serialize(frame))
            at += 0.02
            await asyncio.sleep(max(0.0, at - time.monotonic()))

    async def _listen(self) -> None:
        async for message in self._socket:
            frame = await self._serializer.deserialize(message)
            if isinstance(frame, InputAudioRawFrame):
                # Silence between two replies is nobody's.
                if any(frame.audio):
                    self.heard.append((time.monotonic(), frame.audio))
            elif isinstance(frame, InterruptionFrame):
                self.interruptions.append(time.monotonic())


def line(port: int) -> tuple[BaseTransport, asyncio.Event]:
    """A loopback websocket, and when it can be called."""
    from pipecat.transports.websocket.server import (
        SingleClientWebsocketServerParams,
        SingleClientWebsocketServerTransport,
    )

    params = SingleClientWebsocketServerParams(
        audio_in_enabled=True, audio_out_enabled=True, serializer=ProtobufFrameSerializer(), allowed_origins=[]
    )
    transport = SingleClientWebsocketServerTransport(params, "127.0.0.1", port)
    ready = asyncio.Event()

    @transport.event_handler("on_websocket_ready")
    async def on_ready(*_: Any) -> None:
        ready.set()

    return transport, ready


def spoken(engine: qwentts.Engine, text: str, **options: Any) -> bytes:
    """As a caller's microphone has it."""
    return b"".join(bytes(chunk) for chunk in engine.speak(text, format="i16", sample_rate_hz=Caller.RATE_HZ, **options))


async def rehearse(
    chain: Callable[..., PipelineWorker],
    run: Callable[..., Awaitable[None]],
    tts: FrameProcessor,
    engine: qwentts.Engine,
    port: int,
) -> None:
    """A question and its answer over the chain that bot.py builds; says how it went, and leaves reply.wav."""

    async def hear(_: bytes) -> str:
        return QUESTION

    llm, context = Answers(REPLY), LLMContext()
    transport, ready = line(port)
    worker = chain(transport, Hears(hear), llm, tts, LoudIsSpeech(), context)
    question = await asyncio.to_thread(spoken, engine, QUESTION)
    running = asyncio.ensure_future(run(worker, handle_sigint=False))
    await asyncio.wait_for(ready.wait(), 30)
    async with Caller(f"ws://127.0.0.1:{port}") as caller:
        await caller.say(question)
        asked = time.monotonic()
        await caller.quiet()
        first, last = llm.said[0]
        print(f"caller: {QUESTION}\nbot:    {context.get_messages()[-1]['content']}")
        print(f"first sound {1000 * (caller.heard[0][0] - first):.0f} ms after the LLM's first token ({last - first:.1f} s before its last),")
        print(f"{caller.heard[0][0] - asked:.1f} s after the question, most of which is the wait for its end")
    await worker.queue_frame(EndFrame())
    await running
    with wave.open("reply.wav", "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(24000)
        file.writeframes(caller.sound())
    print(f"reply.wav: {len(caller.sound()) / 48000:.1f} s")
