"""The plugin: what LiveKit asks of a TTS, asked of a qwentts engine.

`stream` speaks text as it comes, one qwentts stream for each of LiveKit's; `synthesize` speaks a whole text. Both read by the
engine's event handle, on the event loop and without a thread, and whatever ends them (their end, an interruption, an error)
closes the qwentts stream before the next thing happens, which frees the engine within a frame.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from os import PathLike
from typing import Any

import qwentts
from livekit.agents import APIConnectOptions, APIError, tts
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, TimedString
from livekit.agents.utils import shortuuid


class TTS(tts.TTS):
    """Speaks with a qwentts engine in this process. One engine serves many of these.

    tts = qwentts.TTS(engine=engine, voice="vivian")
    """

    def __init__(
        self,
        *,
        engine: qwentts.Engine | None = None,
        model: str | PathLike[str] | None = None,
        device: str | None = None,
        sample_rate: int = 24000,
        **options: Any,
    ):
        """Without an engine, opens its own by the next two, which waits until its weights are where they are to be, and closes it.

        Args:
            engine: An engine to share; it stays open.
            model: The model's folder; None: the small one inside the library.
            device: "cpu", "cuda" or "cuda:N"; None: a GPU that the library has code for, else the CPU.
            sample_rate: Made by the engine.
            **options: Of `qwentts.Options` by name: voice, language, instruct, seed, temperature and so on.
        """
        capabilities = tts.TTSCapabilities(streaming=True, aligned_transcript=True)
        super().__init__(capabilities=capabilities, sample_rate=sample_rate, num_channels=1)
        self._owns = engine is None
        self._engine = qwentts.Engine(model, device) if engine is None else engine
        self._options: dict[str, Any] = {}
        self.update_options(**options)

    def update_options(self, **options: Any) -> None:
        """What differs from now on, from the next stream; None: the model's own."""
        for name in ("format", "output", "sample_rate_hz"):
            if name in options:
                raise TypeError(f"{name}: is not for the caller to choose here")
        self._options |= options

    @property
    def model(self) -> str:
        return str(self._engine.info["model"])

    @property
    def provider(self) -> str:
        return "qwentts"

    def prewarm(self) -> None:
        """Has the first stream find everything ready; does not wait."""

        def warm() -> None:
            # Who closes it meanwhile has no use for it.
            with contextlib.suppress(qwentts.Error):
                self._engine.warmup()

        threading.Thread(target=warm, name="qwentts-prewarm", daemon=True).start()

    def synthesize(self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS) -> tts.ChunkedStream:
        return _Whole(tts=self, input_text=text, conn_options=conn_options)

    def stream(self, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS) -> tts.SynthesizeStream:
        return _Live(tts=self, conn_options=conn_options)

    async def aclose(self) -> None:
        if self._owns:
            await asyncio.to_thread(self._engine.close)

    def _stream_options(self) -> dict[str, Any]:
        return {**self._options, "sample_rate_hz": self.sample_rate, "format": "i16"}


class _Whole(tts.ChunkedStream):
    async def _run(self, emitter: tts.AudioEmitter) -> None:
        service: Any = self._tts
        emitter.initialize(request_id=shortuuid(), sample_rate=service.sample_rate, num_channels=1, mime_type="audio/pcm")
        try:
            with service._engine.speak(self._input_text, **service._stream_options()) as stream:
                await _deliver(stream, [self._input_text], emitter, service.sample_rate)
        except qwentts.Error as error:
            raise _as_api_error(error) from error
        emitter.flush()


class _Live(tts.SynthesizeStream):
    async def _run(self, emitter: tts.AudioEmitter) -> None:
        service: Any = self._tts
        segment = shortuuid()
        emitter.initialize(request_id=segment, sample_rate=service.sample_rate, num_channels=1, mime_type="audio/pcm", stream=True)
        # LiveKit opens streams ahead of the text; a qwentts stream is opened for text that is there.
        text: list[str] = []
        async for piece in self._input_ch:
            if isinstance(piece, str):
                text.append(piece)
                break
        if not text:
            return
        self._mark_started()
        emitter.start_segment(segment_id=segment)
        try:
            with service._engine.stream(**service._stream_options()) as stream:
                stream.push(text[0])
                feeding = asyncio.create_task(self._feed(stream, text))
                try:
                    await _deliver(stream, text, emitter, service.sample_rate)
                except qwentts.Cancelled:
                    if feeding.done() and not feeding.cancelled():
                        feeding.result()
                    raise
                finally:
                    feeding.cancel()
                    await asyncio.gather(feeding, return_exceptions=True)
        except qwentts.Error as error:
            raise _as_api_error(error) from error
        emitter.end_segment()

    async def _feed(self, stream: qwentts.Stream, text: list[str]) -> None:
        try:
            async for piece in self._input_ch:
                if not isinstance(piece, str):
                    break
                stream.push(piece)
                text.append(piece)
            stream.end()
        except (qwentts.Cancelled, qwentts.Ended):
            # The reader hears why; here are only texts that nobody will say.
            pass
        except Exception:
            # A text that is not taken: the reader would wait for its end for ever.
            stream.cancel()
            raise


async def _deliver(stream: qwentts.Stream, text: list[str], emitter: tts.AudioEmitter, sample_rate: int) -> None:
    """All of a stream's sound, and of the text each word, with what stands before it, at its estimated time."""
    told, end = 0, None
    while len(chunk := await stream.aread()) > 0:
        emitter.push(bytes(chunk))
        told, _ = _tell_words(stream, text, told, emitter, sample_rate)
    # What the last read came to, and the end.
    told, end = _tell_words(stream, text, told, emitter, sample_rate)
    if end is not None and end.reason != "eos":
        raise APIError(f"qwentts: speech ended early ({end.reason}) after {end.frames} frames", retryable=False)
    if rest := "".join(text).encode()[told:].decode():
        emitter.push_timed_transcript(TimedString(rest))


def _tell_words(
    stream: qwentts.Stream, text: list[str], told: int, emitter: tts.AudioEmitter, sample_rate: int
) -> tuple[int, qwentts.End | None]:
    """How many bytes of the text were told now, and the end."""
    end = None
    for event in stream.events():
        if isinstance(event, qwentts.Word):
            to = event.text_byte + event.text_bytes
            word = "".join(text).encode()[told:to].decode()
            emitter.push_timed_transcript(TimedString(word, start_time=event.sample / sample_rate))
            told = to
        elif isinstance(event, qwentts.End):
            end = event
    return told, end


def _as_api_error(error: qwentts.Error) -> APIError:
    # Only a place that others hold now may be free the next time.
    return APIError(f"qwentts: {error}", retryable=isinstance(error, qwentts.Busy))
