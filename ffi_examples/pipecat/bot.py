"""A bot that listens, thinks and speaks: speech in, STT, LLM, qwentts, speech out.

    python bot.py --offline                       # no network, no keys: a caller in the same process asks, a script answers; reply.wav
    python bot.py                                 # a page at http://localhost:7860 (WebRTC); Deepgram hears, OpenAI answers
    python bot.py --stt whisper --llm-url http://localhost:8080/v1 --llm-model NAME     # both on this machine
    python bot.py --microphone                    # instead of the page
    python bot.py --model Qwen3-TTS-12Hz-0.6B-CustomVoice --voice vivian --device cuda:0

What each needs besides pipecat-qwentts: --offline pipecat-ai[websocket]; the page pipecat-ai[webrtc,runner,silero]; Deepgram
pipecat-ai[deepgram] and DEEPGRAM_API_KEY; --stt whisper pipecat-ai[whisper]; the LLM OPENAI_API_KEY, where its server wants one;
--microphone pipecat-ai[local,silero] and PortAudio.
"""

import argparse
import asyncio
import os
import sys
import time
import wave
from array import array
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import fields
from typing import Any

import qwentts
from loguru import logger
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
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings, STTSettings
from pipecat.services.stt_service import SegmentedSTTService
from pipecat.services.tts_service import TextAggregationMode
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.turns.user_start import VADUserTurnStartStrategy
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.utils.time import time_now_iso8601
from pipecat.workers.runner import WorkerRunner
from pipecat_qwentts import QwenttsTTSService

SYSTEM = "You are a friendly assistant on the telephone. What you write is spoken: short sentences, no lists, no emoji."
QUESTION = "Good morning. How are you?"
REPLY = "Thank you very much, I am well. It is a pleasure to talk to you today."


def chain(
    transport: BaseTransport,
    stt: FrameProcessor,
    llm: FrameProcessor,
    tts: QwenttsTTSService,
    vad: VADAnalyzer,
    context: LLMContext,
    *watchers: FrameProcessor,
) -> PipelineWorker:
    """The pipeline; `watchers` see what leaves the TTS."""
    strategies = UserTurnStrategies(
        start=[VADUserTurnStartStrategy()], stop=[SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=0.3)]
    )
    params = LLMUserAggregatorParams(vad_analyzer=vad, user_turn_strategies=strategies)
    user, assistant = LLMContextAggregatorPair(context, user_params=params)
    steps = [transport.input(), stt, user, llm, tts, *watchers, transport.output(), assistant]
    return PipelineWorker(
        Pipeline(steps),
        params=PipelineParams(enable_metrics=True, enable_usage_metrics=True),
        cancel_on_idle_timeout=False,
        enable_rtvi=False,
    )


async def run(worker: PipelineWorker, handle_sigint: bool = True) -> None:
    runner = WorkerRunner(handle_sigint=handle_sigint)
    await runner.add_workers(worker)
    await runner.run()


# ---- what stands for microphone, ears and mind where there is no network ---------------------------------------------


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


async def offline(arguments: argparse.Namespace, engine: qwentts.Engine) -> None:
    async def hear(_: bytes) -> str:
        return QUESTION

    llm, context = Answers(REPLY), LLMContext()
    transport, ready = line(arguments.port)
    worker = chain(transport, Hears(hear), llm, service(arguments, engine), LoudIsSpeech(), context)
    question = await asyncio.to_thread(spoken, engine, QUESTION)
    running = asyncio.create_task(run(worker, handle_sigint=False))
    await asyncio.wait_for(ready.wait(), 30)
    async with Caller(f"ws://127.0.0.1:{arguments.port}") as caller:
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


# ---- what is used where there is one ---------------------------------------------------------------------------------


def service(arguments: argparse.Namespace, engine: qwentts.Engine) -> QwenttsTTSService:
    mode = TextAggregationMode.SENTENCE if arguments.sentences else TextAggregationMode.TOKEN
    settings = QwenttsTTSService.Settings(voice=arguments.voice, language=arguments.language)
    return QwenttsTTSService(engine=engine, text_aggregation_mode=mode, settings=settings)


def ears(arguments: argparse.Namespace) -> FrameProcessor:
    if arguments.stt == "whisper":
        from pipecat.services.whisper.stt import WhisperSTTService

        return WhisperSTTService(device="cpu", compute_type="int8", settings=WhisperSTTService.Settings(model="tiny.en"))
    from pipecat.services.deepgram.stt import DeepgramSTTService

    return DeepgramSTTService(api_key=os.environ["DEEPGRAM_API_KEY"])


def mind(arguments: argparse.Namespace) -> FrameProcessor:
    from pipecat.services.openai.llm import OpenAILLMService

    # A server of one's own wants no key; the client wants one to be there.
    key = os.environ.get("OPENAI_API_KEY", "none" if arguments.llm_url else "")
    settings = OpenAILLMService.Settings(model=arguments.llm_model, system_instruction=SYSTEM)
    return OpenAILLMService(api_key=key, base_url=arguments.llm_url, settings=settings)


async def converse(arguments: argparse.Namespace, transport: BaseTransport) -> None:
    from pipecat.audio.vad.silero import SileroVADAnalyzer

    context = LLMContext()
    worker = chain(transport, ears(arguments), mind(arguments), service(arguments, open_engine(arguments)), SileroVADAnalyzer(), context)
    if not arguments.microphone:

        @transport.event_handler("on_client_disconnected")
        async def on_gone(*_: Any) -> None:
            await worker.cancel()

    await run(worker, handle_sigint=arguments.microphone)


_engine: qwentts.Engine | None = None


def open_engine(arguments: argparse.Namespace) -> qwentts.Engine:
    """One for all calls of this process."""
    global _engine
    if _engine is None:
        _engine = qwentts.Engine(arguments.model, arguments.device)
        _engine.warmup()
    return _engine


async def bot(call: Any) -> None:
    """What Pipecat's runner calls for each caller of its page."""
    from pipecat.runner.utils import create_transport

    both = {"webrtc": lambda: TransportParams(audio_in_enabled=True, audio_out_enabled=True)}
    await converse(call.cli_args, await create_transport(call, both))


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", help="a folder, as downloaded; without it the small model inside the library")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; without it a GPU that the library has code for, else the CPU")
    parser.add_argument("--voice", help="a preset voice; without it the model's first")
    parser.add_argument("--language", help="without it the model tells")
    parser.add_argument("--sentences", action="store_true", help="give the model whole sentences, not tokens")
    parser.add_argument("--stt", choices=("deepgram", "whisper"), default="deepgram")
    parser.add_argument("--llm-url", help="an OpenAI-compatible server; without it OpenAI's")
    parser.add_argument("--llm-model", default="gpt-4.1-mini")
    parser.add_argument("--microphone", action="store_true", help="this machine's microphone and loudspeaker, not the page")
    parser.add_argument("--offline", action="store_true", help="no network: a caller and an LLM by script")
    return parser


def main() -> None:
    parser = options()
    if "--offline" in sys.argv or "--microphone" in sys.argv:
        parser.add_argument("--port", type=int, default=8765, help="of the offline line")
        arguments = parser.parse_args()
        if arguments.offline:
            logger.remove()
            asyncio.run(offline(arguments, open_engine(arguments)))
            return
        from pipecat.transports.local.audio import LocalAudioTransport, LocalAudioTransportParams

        transport = LocalAudioTransport(LocalAudioTransportParams(audio_in_enabled=True, audio_out_enabled=True))
        asyncio.run(converse(arguments, transport))
        return
    from pipecat.runner.run import main as serve

    serve(parser)


if __name__ == "__main__":
    main()
