"""The clients that people have, against the server: the openai package and Pipecat's OpenAITTSService, as they are; no network.

    make clients        # in the environment that make pipecat makes
"""

import asyncio
import base64
import io
import json
import os
import re
import subprocess
import unittest
import wave

import openai
from loguru import logger
from pipecat.frames.frames import EndFrame, ErrorFrame, Frame, TTSAudioRawFrame, TTSSpeakFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.workers.runner import WorkerRunner

TEXT = "Good morning, how are you today?"
SERVER = os.environ["QWENTTS_SERVER"]
logger.remove()


class Server:
    """A process of the server, with a key, while a test class runs."""

    def __init__(self, *flags: str) -> None:
        command = [SERVER, "--port", "0", "--device", "cpu", *flags]
        environment = {**os.environ, "QWENTTS_API_KEYS": "sesame"}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert self.process.stderr
        self.url = ""
        for line in self.process.stderr:
            if found := re.search(r"http://\S+[^/\s]", line):
                self.url = found[0] + "/v1"
            if "ready" in line:
                return
        raise RuntimeError("the server ended before it was ready")

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0, self.process.returncode


class OpenAI(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.server = Server()
        cls.client = openai.OpenAI(base_url=cls.server.url, api_key="sesame", max_retries=0)
        cls.said = cls.speak("pcm")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.client.close()
        cls.server.stop()

    @classmethod
    def speak(cls, response_format: str, **more) -> bytes:
        made = cls.client.audio.speech.create(
            model="gpt-4o-mini-tts", voice="alloy", input=TEXT, response_format=response_format, **more
        )
        return made.content

    def test_whole(self) -> None:
        self.assertGreater(len(self.said), 24000)
        with wave.open(io.BytesIO(self.speak("wav", extra_body={"stream": False}))) as file:
            self.assertEqual((file.getframerate(), file.getnchannels(), file.getsampwidth()), (24000, 1, 2))
            self.assertEqual(file.readframes(file.getnframes()), self.said)
        self.assertEqual(self.speak("wav")[44:], self.said)

    def test_streaming(self) -> None:
        speech = self.client.audio.speech.with_streaming_response
        with speech.create(model="tts-1", voice="alloy", input=TEXT, response_format="pcm") as answer:
            self.assertEqual(answer.headers["x-sample-rate"], "24000")
            pieces = list(answer.iter_bytes())
        self.assertGreater(len(pieces), 2)
        self.assertEqual(b"".join(pieces), self.said)

    def test_events(self) -> None:
        speech = self.client.audio.speech.with_streaming_response
        more = {"response_format": "pcm", "stream_format": "sse"}
        with speech.create(model="tts-1", voice="alloy", input=TEXT, **more) as answer:
            lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
        self.assertEqual(lines.pop(), "[DONE]")
        events = [json.loads(line) for line in lines]
        deltas = [base64.b64decode(event["audio"]) for event in events if event["type"] == "speech.audio.delta"]
        self.assertEqual(b"".join(deltas), self.said)
        self.assertEqual(events[-1]["type"], "speech.audio.done")
        self.assertEqual(events[-1]["usage"]["output_tokens"], len(self.said) // 3840)

    def test_models(self) -> None:
        self.assertEqual([model.id for model in self.client.models.list()], ["demo"])

    def test_errors_are_the_packages_own(self) -> None:
        with self.assertRaises(openai.BadRequestError) as refused:
            self.speak("mp3")
        self.assertEqual((refused.exception.param, refused.exception.code), ("response_format", "invalid_value"))
        with self.assertRaises(openai.NotFoundError) as refused:
            self.client.audio.speech.create(model="none", voice="alloy", input=TEXT)
        self.assertEqual(refused.exception.code, "model_not_found")
        with self.assertRaises(openai.AuthenticationError):
            self.client.with_options(api_key="other").models.list()

    def test_asyncio(self) -> None:
        async def speak() -> bytes:
            async with openai.AsyncOpenAI(base_url=self.server.url, api_key="sesame") as client:
                speech = client.audio.speech.with_streaming_response
                async with speech.create(model="tts-1", voice="alloy", input=TEXT, response_format="pcm") as answer:
                    return b"".join([piece async for piece in answer.iter_bytes()])

        self.assertEqual(asyncio.run(speak()), self.said)


class Busy(unittest.TestCase):
    def test_the_package_comes_again_after_429(self) -> None:
        server = Server("--slots", "1", "--queue", "0")
        try:
            client = openai.OpenAI(base_url=server.url, api_key="sesame", max_retries=60)
            long = "This is a sentence that goes on. " * 3  # less than the engine makes ahead of a reader
            speech = client.audio.speech.with_streaming_response
            with speech.create(model="tts-1", voice="alloy", input=long, response_format="pcm") as answer:
                pieces = answer.iter_bytes()
                next(pieces)
                with self.assertRaises(openai.RateLimitError) as refused:
                    client.with_options(max_retries=0).audio.speech.create(model="tts-1", voice="alloy", input=TEXT)
                self.assertEqual(refused.exception.response.headers["retry-after"], "1")
                # Its own retries, which wait as long as it was told, find the slot free.
                again = client.audio.speech.create(model="tts-1", voice="alloy", input=TEXT, response_format="pcm")
                self.assertGreater(len(again.content), 24000)
                b"".join(pieces)
            client.close()
        finally:
            server.stop()


class Heard(FrameProcessor):
    """What comes out of the service, each way."""

    def __init__(self, of: type, into: list) -> None:
        super().__init__(enable_direct_mode=True)
        self._of, self._into = of, into

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, self._of):
            self._into.append(frame)
        await self.push_frame(frame, direction)


class Pipecat(unittest.TestCase):
    def test_its_openai_service_speaks(self) -> None:
        server = Server()
        self.addCleanup(server.stop)
        sound: list[TTSAudioRawFrame] = []
        errors: list[ErrorFrame] = []

        async def talk() -> bytes:
            service = OpenAITTSService(api_key="sesame", base_url=server.url)  # its own voice, alloy, its own model
            parts = [Heard(ErrorFrame, errors), service, Heard(TTSAudioRawFrame, sound)]
            worker = PipelineWorker(Pipeline(parts), params=PipelineParams(audio_out_sample_rate=24000))
            await worker.queue_frames([TTSSpeakFrame(TEXT), EndFrame()])
            runner = WorkerRunner(handle_sigint=False)
            await runner.add_workers(worker)
            await asyncio.wait_for(runner.run(), 60)
            async with openai.AsyncOpenAI(base_url=server.url, api_key="sesame") as client:
                said = await client.audio.speech.create(model="tts-1", voice="alloy", input=TEXT, response_format="pcm")
                return said.content

        said = asyncio.run(talk())
        self.assertEqual(errors, [])
        self.assertEqual({frame.sample_rate for frame in sound}, {24000})
        heard = b"".join(frame.audio for frame in sound)
        # Pipecat may end an utterance with silence of its own.
        self.assertEqual(heard[: len(said)], said)
        self.assertEqual(heard[len(said) :].strip(b"\0"), b"")


if __name__ == "__main__":
    unittest.main()
