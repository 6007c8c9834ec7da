"""Ears for another process: a path of a WAV file a line on standard input, what Whisper tiny.en hears a line on standard output.

Runs in the venv of tools/requirements-ears.txt, which has other versions of what Pipecat's has; so they meet here.
"""

import sys

from listen import Judge

judge = Judge()
print("ready", flush=True)
for line in sys.stdin:
    print(judge.hear(line.rstrip("\n")), flush=True)
