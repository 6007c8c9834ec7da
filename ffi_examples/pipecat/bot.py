"""A bot that listens, thinks and speaks: speech in, STT, LLM, qwentts, speech out.

    python bot.py --offline                       # no network, no keys: a caller in the same process asks, a script answers; reply.wav
    python bot.py                                 # a page at http://localhost:7860 (WebRTC); Deepgram hears, OpenAI answers
    python bot.py --stt whisper --llm-url http://localhost:8080/v1 --llm-model NAME     # both on this machine
    python bot.py --microphone                    # instead of the page
    python bot.py --model Qwen3-TTS-12Hz-0.6B-CustomVoice --voice vivian --device cuda:0

What each needs besides pipecat-qwentts: --offline nothing; the page pipecat-ai[webrtc,runner,silero]; Deepgram
pipecat-ai[deepgram] and DEEPGRAM_API_KEY; --stt whisper pipecat-ai[whisper]; the LLM OPENAI_API_KEY, where its server wants one;
--microphone pipecat-ai[local,silero] and PortAudio.
"""

import argparse
import asyncio
import os
import sys
import threading
from typing import Any

import qwentts
from loguru import logger
from pipecat.audio.vad.vad_analyzer import VADAnalyzer
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.tts_service import TextAggregationMode
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.turns.user_start import VADUserTurnStartStrategy
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.workers.runner import WorkerRunner
from pipecat_qwentts import QwenttsTTSService

SYSTEM = "You are a friendly assistant on the telephone. What you write is spoken: short sentences, no lists, no emoji."


def chain(
    transport: BaseTransport,
    stt: FrameProcessor,
    llm: FrameProcessor,
    tts: QwenttsTTSService,
    vad: VADAnalyzer,
    context: LLMContext,
    *watchers: FrameProcessor,
    page: bool = False,
) -> PipelineWorker:
    """The pipeline; `watchers` see what leaves the TTS, and the browser's page wants messages of its own (RTVI)."""
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
        enable_rtvi=page,
    )


async def run(worker: PipelineWorker, handle_sigint: bool = True) -> None:
    runner = WorkerRunner(handle_sigint=handle_sigint)
    await runner.add_workers(worker)
    await runner.run()


def service(arguments: argparse.Namespace, engine: qwentts.Engine) -> QwenttsTTSService:
    mode = TextAggregationMode.SENTENCE if arguments.sentences else TextAggregationMode.TOKEN
    settings = QwenttsTTSService.Settings(voice=arguments.voice, language=arguments.language)
    return QwenttsTTSService(engine=engine, text_aggregation_mode=mode, settings=settings)


def ears(arguments: argparse.Namespace) -> FrameProcessor:
    if arguments.stt == "whisper":
        from pipecat.services.whisper.stt import WhisperSTTService

        return WhisperSTTService(device="cpu", compute_type="int8", settings=WhisperSTTService.Settings(model=arguments.whisper))
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
    engine = await asyncio.to_thread(open_engine, arguments)
    tts, page = service(arguments, engine), not arguments.microphone
    worker = chain(transport, ears(arguments), mind(arguments), tts, SileroVADAnalyzer(), context, page=page)
    if page:

        @transport.event_handler("on_client_disconnected")
        async def on_gone(*_: Any) -> None:
            await worker.cancel()

    await run(worker, handle_sigint=arguments.microphone)


_engine: qwentts.Engine | None = None
_opening = threading.Lock()


def open_engine(arguments: argparse.Namespace) -> qwentts.Engine:
    """One for all calls of this process."""
    global _engine
    with _opening:
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
    parser.add_argument("--whisper", default="tiny.en", help="of --stt whisper: a model by name, or a folder in CTranslate2's layout")
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
            from offline import rehearse

            engine = open_engine(arguments)
            asyncio.run(rehearse(chain, run, service(arguments, engine), engine, arguments.port))
            return
        from pipecat.transports.local.audio import LocalAudioTransport, LocalAudioTransportParams

        transport = LocalAudioTransport(LocalAudioTransportParams(audio_in_enabled=True, audio_out_enabled=True))
        asyncio.run(converse(arguments, transport))
        return
    from pipecat.runner.run import main as serve

    serve(parser)


if __name__ == "__main__":
    main()
