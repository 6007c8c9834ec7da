"""Pipecat's text to speech by qwentts, in this process: `QwenttsTTSService`."""

from .tts import QwenttsTTSService, QwenttsTTSSettings

__version__ = "0.1.0"

__all__ = ["QwenttsTTSService", "QwenttsTTSSettings"]
