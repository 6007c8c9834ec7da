#!/usr/bin/env python3
"""Speaks with qwentts: a text, or standard input as it comes, to a WAV file or to the sound output.

    speak.py "Hello there." -o hello.wav
    my-llm | speak.py -m Qwen3-TTS-12Hz-0.6B-CustomVoice --voice vivian --play
"""

import argparse
import codecs
import os
import sys
from typing import Iterator, TextIO

import qwentts


def as_it_comes(source: TextIO) -> Iterator[str]:
    """What can be read of a file at once, again and again."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        data = os.read(source.fileno(), 4096)
        yield decoder.decode(data, final=not data)
        if not data:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="?", help="without it, standard input")
    parser.add_argument("-o", "--out", default="speech.wav", help="a WAV file (speech.wav)")
    parser.add_argument("--play", action="store_true", help="to the sound output instead; needs the package sounddevice")
    parser.add_argument("-m", "--model", help="a model's folder; without it, the small one in the library")
    parser.add_argument("--device", help="cpu, cuda or cuda:N")
    parser.add_argument("--voice")
    parser.add_argument("--seed", type=int)
    args = parser.parse_args()
    text = as_it_comes(sys.stdin) if args.text is None else args.text
    try:
        with qwentts.Engine(args.model, args.device) as engine:
            engine.warmup()
            options: qwentts.Options = dict(voice=args.voice, seed=args.seed)
            stats = engine.play(text, **options) if args.play else engine.say(text, args.out, **options)
    except qwentts.Error as error:
        sys.exit(f"speak.py: {error}")
    print(f"{stats['frames'] * 0.08:.2f} s of sound, the first after {stats['first_sound_ms']:.0f} ms", file=sys.stderr)


if __name__ == "__main__":
    main()
