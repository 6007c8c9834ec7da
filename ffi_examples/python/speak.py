#!/usr/bin/env python3
"""Speaks with qwentts: a text, or standard input as it comes, to a WAV file or to the sound output.

    speak.py "Hello there." -o hello.wav
    my-llm | speak.py -m Qwen3-TTS-12Hz-0.6B-CustomVoice --voice vivian --play

It says when the library had the first samples, and how much later Python had them; --json gives all that is known of it.
"""

import argparse
import codecs
import json
import os
import sys
import time
import wave
from typing import Any, Dict, Iterator, TextIO

import qwentts


def as_it_comes(source: TextIO) -> Iterator[str]:
    """What can be read of a file at once, again and again."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        data = os.read(source.fileno(), 4096)
        yield decoder.decode(data, final=not data)
        if not data:
            return


def to_file(engine: qwentts.Engine, text: Any, path: str, options: qwentts.Options) -> Dict[str, Any]:
    """As Engine.say, and `python_ms`: how long after the library Python had the first samples."""
    asked = seen = 0.0

    def noted(pieces: Iterator[str]) -> Iterator[str]:
        nonlocal asked
        for piece in pieces:
            if piece and not asked:
                asked = time.monotonic()
            yield piece

    if isinstance(text, str):
        asked = time.monotonic()
    else:
        text = noted(text)
    sound: qwentts.Options = {**options, "format": "i16"}
    with engine.speak(text, **sound) as stream, wave.open(path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(stream.sample_rate_hz)
        for chunk in stream:
            seen = seen or time.monotonic()
            file.writeframes(chunk)
        stats = stream.stats()
    # The library counts from the text, by the clock that Python reads here too; what it took to hand the text over counts as Python's.
    stats["python_ms"] = (seen - asked) * 1000 - stats["first_sound_ms"] if seen else None
    return stats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="?", help="without it, standard input")
    parser.add_argument("-o", "--out", default="speech.wav", help="a WAV file (speech.wav)")
    parser.add_argument("--play", action="store_true", help="to the sound output instead; needs the package sounddevice")
    parser.add_argument("-m", "--model", help="a model's folder; without it, the small one in the library")
    parser.add_argument("--device", help="cpu, cuda or cuda:N")
    parser.add_argument("--voice", help="a preset voice, or a voice file (F.qvoice)")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--runs", type=int, default=1, help="says the text so many times, a line each (1)")
    parser.add_argument("--json", action="store_true", help="prints a JSON object a run to standard output")
    args = parser.parse_args()
    try:
        with qwentts.Engine(args.model, args.device) as engine:
            engine.warmup()
            voice = engine.voice_named(args.voice) if args.voice else None
            options: qwentts.Options = dict(voice=voice, seed=args.seed)
            for _ in range(args.runs):
                text = as_it_comes(sys.stdin) if args.text is None else args.text
                stats = engine.play(text, **options) if args.play else to_file(engine, text, args.out, options)
                if args.json:
                    print(json.dumps({"device": engine.info["device"], **stats}))
                    continue
                seconds, first_ms, python_ms = stats["frames"] * 0.08, stats["first_sound_ms"], stats.get("python_ms")
                first = "" if first_ms is None else f", the first after {first_ms:.0f} ms"
                later = "" if python_ms is None else f", in Python {python_ms:.2f} ms later"
                print(f"{seconds:.2f} s of sound{first}{later}", file=sys.stderr)
    except qwentts.Error as error:
        sys.exit(f"speak.py: {error}")


if __name__ == "__main__":
    main()
