"""LiveKit's text to speech by qwentts, in this process: `TTS`."""

from livekit.agents import Plugin

from .tts import TTS

__version__ = "0.1.0"

__all__ = ["TTS", "__version__"]


class _QwenttsPlugin(Plugin):
    def __init__(self) -> None:
        super().__init__(__name__, __version__, __package__ or __name__)


Plugin.register_plugin(_QwenttsPlugin())
