"""The service: what Pipecat says to a TTS, said to a qwentts engine.

A *speech* is what one audio context of Pipecat says: a turn's sentences or tokens, or a TTSSpeakFrame. Each has one task, which
reads its streams one after another and puts sound and words into the context, in the order in which they are to be heard.
`run_tts` only hands text over, so that frames are processed while speech is made. It is the same in both modes, but for how
text becomes streams: a sentence is a stream of its own, all tokens of a turn are one stream whose text comes live.

Whatever ends a context (its end, an interruption, a time-out, the pipeline's end) ends its speech by `_drop`, which closes the
stream, and so frees the engine within a frame, before it returns to the event loop. Nothing here starts a thread but loading,
warm-up and close of an engine, which can wait.
"""

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, fields
from os import PathLike
from typing import Any

import qwentts
from loguru import logger
from pipecat.frames.frames import CancelFrame, EndFrame, Frame, TTSAudioRawFrame, TTSStoppedFrame
from pipecat.processors.frame_processor import FrameProcessorSetup
from pipecat.services.settings import NOT_GIVEN, NotGiven, TTSSettings
from pipecat.services.tts_service import TextAggregationMode, TTSService
from pipecat.transcriptions.language import Language
from pipecat.utils.tracing.service_decorators import traced_tts

# The languages of the published models, by the first part of a language's code.
_LANGUAGES = {
    "zh": "chinese",
    "en": "english",
    "ja": "japanese",
    "ko": "korean",
    "de": "german",
    "fr": "french",
    "ru": "russian",
    "pt": "portuguese",
    "es": "spanish",
    "it": "italian",
}

# Engines that were warmed up, whichever service did it.
_warm: "weakref.WeakSet[qwentts.Engine]" = weakref.WeakSet()


@dataclass
class QwenttsTTSSettings(TTSSettings):
    """What can be changed while the pipeline runs, from the next sentence (or, by tokens, the next turn) on.

    Parameters:
        voice: A preset voice, or the path of a voice file (F.qvoice); None: the model's first preset.
        language: None: the model tells.
        instruct: How to speak (CustomVoice 1.7B) or who speaks (VoiceDesign), in words.
        seed: The same seed and text give the same speech; None: 0.
        do_sample: Whether codes are drawn, or the best score wins; this and the next four None: the checkpoint's setting.
        temperature: Scores are divided by it.
        top_k: Only the k best scores; 0: all.
        top_p: Below 1, the least likely go.
        repetition_penalty: Against codes that were said.
        extra: Other options of `qwentts.Options` by name, such as max_frames.
    """

    instruct: str | None | NotGiven = field(default_factory=lambda: NOT_GIVEN)
    seed: int | None | NotGiven = field(default_factory=lambda: NOT_GIVEN)
    do_sample: bool | None | NotGiven = field(default_factory=lambda: NOT_GIVEN)
    temperature: float | None | NotGiven = field(default_factory=lambda: NOT_GIVEN)
    top_k: int | None | NotGiven = field(default_factory=lambda: NOT_GIVEN)
    top_p: float | None | NotGiven = field(default_factory=lambda: NOT_GIVEN)
    repetition_penalty: float | None | NotGiven = field(default_factory=lambda: NOT_GIVEN)


class _Text:
    """What one stream is to say."""

    def __init__(self, said: str, options: dict[str, Any], live: bool):
        self.said = said
        self.options = options
        #: Whether more of it may come.
        self.live = live
        #: The stream, once it is its turn; what comes before waits in `said`.
        self.stream: qwentts.Stream | None = None


class _Speech:
    """What one audio context says."""

    def __init__(self) -> None:
        self.texts: deque[_Text] = deque()
        #: No more text will come.
        self.complete = False
        #: Set when something above has changed.
        self.news = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        #: When its first sound is heard, in the loop's time.
        self.began: float | None = None
        #: A stream of it failed.
        self.failed = False


class QwenttsTTSService(TTSService):
    """Speaks with a qwentts engine in this process.

    One engine serves many services: open it once, and give it to each.

        tts = QwenttsTTSService(engine=qwentts.Engine("DIR"), settings=QwenttsTTSService.Settings(voice="vivian"))

    `text_aggregation_mode=TextAggregationMode.TOKEN` begins to speak with the first words of a reply, before its first sentence
    is complete; SENTENCE, the default, gives the model whole sentences.
    """

    Settings = QwenttsTTSSettings
    _settings: QwenttsTTSSettings

    def __init__(
        self,
        *,
        engine: qwentts.Engine | None = None,
        model: "str | PathLike[str] | None" = None,
        device: str | None = None,
        lead_ms: int = 4000,
        text_timeout_s: float = 3.0,
        settings: QwenttsTTSSettings | None = None,
        **kwargs: Any,
    ):
        """Opens nothing yet: that, and the warm-up, are done when the pipeline is set up, before it starts.

        Args:
            engine: An engine to share; it stays open. Without one, the service opens its own by the next two and closes it.
            model: The model's folder; None: the small one inside the library.
            device: "cpu", "cuda" or "cuda:N"; None: a GPU that the library has code for, else the CPU.
            lead_ms: How much sound may be made ahead of what is heard: half waits in the pipeline, half in the engine.
            text_timeout_s: Speech whose text has not come on for so long ends with what there is; later text begins a new one.
            settings: What differs from the defaults; see `QwenttsTTSSettings`.
            **kwargs: Of `TTSService`, text_aggregation_mode and sample_rate (the engine makes it so) among them.
        """
        store = self.Settings(**{f.name: None for f in fields(self.Settings) if f.name != "extra"})
        if settings is not None:
            store.apply_update(settings)
        # A context that gets no sound for so long is ended by the base: longer than our own time-out, and than a busy engine needs.
        kwargs.setdefault("stop_frame_timeout_s", text_timeout_s + 5.0)
        super().__init__(
            push_start_frame=True,
            # Only where a context times out: else we say it, with the time of the last word.
            push_stop_frames=True,
            # Text goes into the conversation word by word, as it is heard.
            push_text_frames=False,
            settings=store,
            **kwargs,
        )
        self._engine = engine
        self._own = None if engine is not None else (model, device)
        self._lead_ms = lead_ms
        self._text_timeout_s = text_timeout_s
        # Voices of files, by their paths as the settings have them.
        self._voices: dict[str, qwentts.Voice] = {}
        self._speeches: dict[str, _Speech] = {}
        # Contexts that failed: what they have not said is not to be taken for said.
        self._unsaid: set[str] = set()
        # One speech at a time has a stream, in order: contexts are heard one after another anyway.
        self._turn = asyncio.Lock()
        # When all that was put into the pipeline will have been heard, in the loop's time.
        self._heard_until = 0.0

    def can_generate_metrics(self) -> bool:
        return True

    @property
    def supports_processing_metrics(self) -> bool:
        # run_tts hands text over; TTFB and TTFA have the latency.
        return False

    @property
    def engine(self) -> qwentts.Engine | None:
        """The engine, once the pipeline is set up."""
        return self._engine

    # ---- from setup to cleanup

    async def setup(self, setup: FrameProcessorSetup) -> None:
        await super().setup(setup)
        if self._engine is None:
            assert self._own is not None
            self._engine = await asyncio.to_thread(qwentts.Engine, *self._own)
        rates = self._engine.info["sample_rates_hz"]
        if self.sample_rate not in rates:
            raise ValueError(f"sample_rate: is {self.sample_rate}; expected one of {', '.join(map(str, rates))}")
        if unknown := await self._unknown(self._settings):
            raise ValueError("; ".join(unknown.values()))
        if self._engine not in _warm:
            await asyncio.to_thread(self._engine.warmup)
            _warm.add(self._engine)

    async def stop(self, frame: EndFrame) -> None:
        # What has come is said to its end, which the base waits for.
        for speech in self._speeches.values():
            self._complete(speech)
        await super().stop(frame)

    async def cancel(self, frame: CancelFrame) -> None:
        await self._drop_all()
        await super().cancel(frame)

    async def cleanup(self) -> None:
        await self._drop_all()
        await super().cleanup()
        if self._own is not None and self._engine is not None:
            engine, self._engine = self._engine, None
            await asyncio.to_thread(engine.close)

    # ---- settings

    def language_to_service_language(self, language: Language) -> str | None:
        return _LANGUAGES.get(str(language).lower().split("-")[0], str(language))

    async def _update_settings(self, delta: TTSSettings) -> dict[str, Any]:
        # A name that the model does not know would be silence until somebody notices: the old one stays, and it is said.
        delta = delta.copy()
        for name, why in (await self._unknown(delta)).items():
            setattr(delta, name, NOT_GIVEN)
            await self.push_error(why)
        changed = await super()._update_settings(delta)
        if "model" in changed:
            self._warn_unhandled_updated_settings(["model"])
        return changed

    async def _unknown(self, settings: TTSSettings) -> dict[str, str]:
        """The fields whose value the model does not know, and what it does. Voices of files are loaded."""
        if self._engine is None:
            return {}
        info = self._engine.info
        unknown = {}
        for name, known in (("voice", info["voices"]), ("language", ["auto", *info["languages"]])):
            value = getattr(settings, name)
            if name == "voice" and isinstance(value, str):
                try:
                    voice = await asyncio.to_thread(self._engine.voice_named, value)
                except qwentts.Error as error:
                    unknown[name] = f"voice: {error}"
                    continue
                if isinstance(voice, qwentts.Voice):
                    self._voices[value] = voice
                    continue
            if name == "language" and isinstance(value, str):
                value = self._service_language(value)
            if isinstance(value, str) and value.lower() not in map(str.lower, known):
                unknown[name] = f"{name}: {value!r} is unknown; this model has {', '.join(known)}"
        return unknown

    def _options(self) -> dict[str, Any]:
        options = {name: value for name, value in self._settings.given_fields().items() if name != "model"}
        return options | {
            "voice": self._voices.get(options["voice"], options["voice"]),
            "sample_rate_hz": self.sample_rate,
            "format": "i16",
            "lead_ms": max(80, self._lead_ms // 2),
        }

    # ---- text in

    @traced_tts
    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        """Hands text over; its sound comes into the context by the speech's task."""
        await self.start_tts_usage_metrics(text)
        speech = self._speeches.get(context_id)
        if speech is None:
            speech = self._speeches[context_id] = _Speech()
            speech.task = self.create_task(self._say(context_id, speech), f"speech {context_id}")
        if not self._by_tokens:
            self._add(speech, text, live=False)
        elif not speech.failed:
            last = speech.texts[-1] if speech.texts else None
            if last is None or not last.live:
                self._add(speech, text, live=True)
            else:
                self._push(last, text)
        speech.news.set()
        # Text outside a turn, such as what comes behind an interruption, has a context of its own that nobody completes.
        if context_id != self._turn_context_id:
            self._complete(speech)
        yield None

    async def flush_audio(self, context_id: str | None = None) -> None:
        """The text is complete."""
        speech = self._speeches.get(context_id or self._turn_context_id or "")
        if speech is not None:
            self._complete(speech)

    @property
    def _by_tokens(self) -> bool:
        return self._text_aggregation_mode == TextAggregationMode.TOKEN

    def _add(self, speech: _Speech, text: str, live: bool) -> None:
        # Also where the last one was completed by its time-out: this one is said behind it.
        speech.complete = False
        speech.texts.append(_Text(text, self._options(), live))

    def _push(self, text: _Text, more: str) -> None:
        text.said += more
        if text.stream is not None:
            try:
                text.stream.push(more)
            except qwentts.Error as error:
                # Its reader hears why; here is only a text that nobody will say.
                logger.debug(f"{self}: text not taken: {error}")

    def _complete(self, speech: _Speech) -> None:
        speech.complete = True
        for text in speech.texts:
            text.live = False
            if text.stream is not None and self._by_tokens:
                try:
                    text.stream.end()
                except qwentts.Error as error:
                    logger.debug(f"{self}: text not ended: {error}")
        speech.news.set()

    # ---- sound out

    async def _say(self, context_id: str, speech: _Speech) -> None:
        """A speech's task: all its texts, then the end of its context."""
        async with self._turn:
            while True:
                while speech.texts:
                    await self._say_text(context_id, speech, speech.texts[0])
                    speech.texts.popleft()
                if speech.complete:
                    break
                speech.news.clear()
                try:
                    async with asyncio.timeout(self._text_timeout_s):
                        await speech.news.wait()
                except TimeoutError:
                    # So that it does not keep others waiting. Text that comes later is a new speech.
                    break
            # No await between the last look and this: text that comes later begins a new speech.
            self._speeches.pop(context_id, None)
        await self.append_to_audio_context(context_id, TTSStoppedFrame(context_id=context_id))
        await self.remove_audio_context(context_id)

    async def _say_text(self, context_id: str, speech: _Speech, text: _Text) -> None:
        try:
            if self._engine is None:
                raise qwentts.Closed("engine: is not open, since setup failed or cleanup is over")
            if self._by_tokens:
                text.stream = self._engine.stream(**text.options)
                text.stream.push(text.said)
                if not text.live:
                    text.stream.end()
            else:
                text.stream = self._engine.speak(text.said, **text.options)
            words = _Words(text)
            while len(chunk := await self._read(speech, text)) > 0:
                at_s = self._heard_at(speech, len(chunk))
                await self.append_to_audio_context(
                    context_id, TTSAudioRawFrame(bytes(chunk), self.sample_rate, 1, context_id=context_id)
                )
                if heard := words.in_chunk(len(chunk), at_s, self.sample_rate):
                    await self.add_word_timestamps(heard, context_id)
                # What waits in the pipeline's queues, which have no bound, waits for its hearer.
                ahead_s = self._heard_until - asyncio.get_running_loop().time()
                if ahead_s > self._lead_ms / 2000:
                    await asyncio.sleep(ahead_s - self._lead_ms / 2000)
            words.in_chunk(0, 0.0, self.sample_rate)
            if words.end is not None and words.end.reason != "eos":
                raise qwentts.Error(f"speech ended early ({words.end.reason}) after {words.end.frames} frames")
        except Exception as error:
            speech.failed = True
            self._unsaid.add(context_id)
            await self.push_error(
                f"qwentts: {error}", exception=error, force_treat_as_permanent=isinstance(error, qwentts.DeviceLost)
            )
        finally:
            if text.stream is not None:
                text.stream.close()

    async def _read(self, speech: _Speech, text: _Text) -> Any:
        """The next samples; none at the end."""
        assert text.stream is not None
        while text.live:
            said = len(text.said)
            try:
                async with asyncio.timeout(self._text_timeout_s):
                    return await text.stream.aread()
            except TimeoutError:
                if text.live and len(text.said) == said:
                    logger.warning(f"{self}: no text for {self._text_timeout_s} s; speech ends with what there is")
                    self._complete(speech)
        return await text.stream.aread()

    def _heard_at(self, speech: _Speech, n_samples: int) -> float:
        """Notes that so much more will be heard; when, in seconds from the beginning of the context. Pauses count."""
        start = max(self._heard_until, asyncio.get_running_loop().time())
        self._heard_until = start + n_samples / self.sample_rate
        if speech.began is None:
            speech.began = start
        return start - speech.began

    # ---- the end of a context

    async def on_audio_context_interrupted(self, context_id: str) -> None:
        self._heard_until = 0.0
        await self._drop(context_id)
        await super().on_audio_context_interrupted(context_id)

    async def on_audio_context_completed(self, context_id: str) -> None:
        await self._drop(context_id)
        await super().on_audio_context_completed(context_id)

    async def _drop(self, context_id: str) -> None:
        self._unsaid.discard(context_id)
        speech = self._speeches.pop(context_id, None)
        if speech is None:
            return
        for text in speech.texts:
            if text.stream is not None:
                text.stream.close()
        if speech.task is not None:
            await self.cancel_task(speech.task)

    async def _drop_all(self) -> None:
        for context_id in list(self._speeches):
            await self._drop(context_id)

    async def _apply_force_complete(self, context_id: str) -> None:
        # The base takes what was not timed, by the end of a context, for said. Of one that failed it is not.
        if context_id in self._unsaid:
            self._aggregated_frame_sequencer.clear(keep_contexts=set(self._tts_contexts) - {context_id})
        else:
            await super()._apply_force_complete(context_id)


class _Words:
    """A stream's words, with the punctuation around them, as its reader comes to them."""

    def __init__(self, text: _Text):
        self._text = text
        #: Samples and bytes of text that are done with.
        self._samples = 0
        self._bytes = 0
        self.end: qwentts.End | None = None

    def in_chunk(self, n_samples: int, at_s: float, sample_rate: int) -> list[tuple[str, float]]:
        """The words that the last read came to, each with its time; `at_s` is that of the read's first sample."""
        assert self._text.stream is not None
        words = []
        said = self._text.said.encode()
        for event in self._text.stream.events():
            if isinstance(event, qwentts.Word):
                before = said[self._bytes : event.text_byte].decode().split(" ")[-1].lstrip()
                self._bytes = event.text_byte + event.text_bytes
                behind = _punctuation(said[self._bytes :].decode())
                word = before + said[event.text_byte : self._bytes].decode() + behind
                words.append((word, at_s + max(0, event.sample - self._samples) / sample_rate))
                self._bytes += len(behind.encode())
            elif isinstance(event, qwentts.End):
                self.end = event
        self._samples += n_samples
        return words


def _punctuation(text: str) -> str:
    """What at its beginning belongs to the word before it."""
    n = 0
    while n < len(text) and not text[n].isalnum() and not text[n].isspace():
        n += 1
    return text[:n]
