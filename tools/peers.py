#!/usr/bin/env python3
"""How fast others speak on this machine, beside ours: the same texts, one stream, medians. Needs Python 3, and what a peer needs.

    tools/peers.py -m MODEL                                    ours, the official package and faster-qwen3-tts
    tools/peers.py -m MODEL --official --url vllm=http://127.0.0.1:8091     ours and these
    tools/peers.py --self-check                                a server on the loopback with known delays: are the figures right?

Ours is `qwentts bench` and always there. A peer that is not installed, or fails, is a line of the table, never the end of the run.
qwen-tts wants transformers 4.57.3 and faster-qwen3-tts transformers 5, so each may have a Python of its own: --official-python and
--faster-python, else target/python/official and target/python/faster, else the one that runs this. Each peer is a process of its own.

Before it is timed, the model becomes a folder in target/peers: links to MODEL with a generation_config.json that always draws and ends
after --frames, and with a preset voice where it has none. So random weights, which rarely end, are as long for everyone. A server by
URL is started by you, best on that folder (--prepare makes it and says where); it is told frames and voice in the request.

What each figure is. The clock starts when a text is handed over: the call of a package or of our engine; for a server the moment its
request is written, its connection being open. Each text is spoken once before, uncounted, so that models, graphs and caches are
warm: loading is not in any figure. A piece is what a peer hands over at once; from a server, what it sends without a pause of 3 ms. Each
figure is the median over the runs.

    frames       80 ms of sound each
    first sound  to the first sample in the caller's hands: prompt, first codes, the codec, and from a server HTTP, up to its first byte of
                 PCM (a WAV header is none). As the peer streams it: ours begins with 1 frame, faster-qwen3-tts with --chunk, servers as they
                 are set. The official package does not stream, its first sound is its last.
    first codes  to the first frame's codes (official) or the first piece's (faster-qwen3-tts, its own prefill_ms + decode_ms) in the
                 host's reach: without the codec. Others do not show it.
    ms a frame   from the first piece to the last, over the frames after the first piece: without prompt, codec included. Where there is
                 one piece only, from the first frame's codes to the end, over the frames after the first. Ours: of medians, since bench
                 gives those, and its first piece is a frame.
    codes alone  of a frame, talker and predictor, as the peer counts them, without codec: official from the first frame's codes to the
                 last's, faster-qwen3-tts its own decode_ms, ours bench's talker + predictor. Servers do not show it.
    RTF          from the text to the last sample, over the length of the sound: prompt, codes, codec, all waits. Below 1 is faster than
                 it is heard.
"""

import argparse
import base64
import http.client
import importlib.metadata
import io
import json
import os
import platform
import re
import shlex
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import wave
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "target/peers"
FRAME_S = 0.08
RATE = 24_000
PAUSE_S = 0.003  # what comes without one is one piece
NOT_PCM = re.compile("json|mpeg|mp3|ogg|opus|flac|aac|html")
TEXTS = {
    "short": "Good morning, how are you?",
    "medium": "The river was quiet in the morning, and a thin mist lay over the fields. We walked along the bank until the sun came "
    "out behind the hills.",
    "long": "The old library stood at the end of the street, between a bakery and a shop that sold nothing but clocks. Every afternoon "
    "the same three people came in, took the same three chairs by the window, and read until the lamps were lit. Nobody spoke. When "
    "the building was to be sold, they met for the first time on the steps outside, and found that they had been reading the same "
    "book all along. They bought it together, and it is still there, on the table, open at the last page.",
}


class Missing(Exception):
    """Why a peer gives no figures, in the words of the table."""


# ---- figures --------------------------------------------------------------------------------------------------------------------


def figures(runs):
    """Of one text: the median of each figure over its runs; None where a peer does not show it."""

    def median(of):
        values = [of(run) for run in runs]
        return None if None in values else statistics.median(values)

    return {
        "frames": median(lambda run: run["frames"]),
        "frame_ms": median(frame_ms),
        "codes_frame_ms": median(lambda run: run.get("codes_frame_ms")),
        "first_sound_ms": median(lambda run: run["first_sound_ms"]),
        "first_codes_ms": median(lambda run: run.get("first_codes_ms")),
        "real_time_factor": median(lambda run: run["wall_ms"] / (run["frames"] * FRAME_S * 1e3)),
    }


def frame_ms(run):
    if run["frames"] > run["first_frames"]:
        return (run["wall_ms"] - run["first_sound_ms"]) / (run["frames"] - run["first_frames"])
    if run.get("first_codes_ms") and run["frames"] > 1:
        return (run["wall_ms"] - run["first_codes_ms"]) / (run["frames"] - 1)
    return None


class Pieces:
    """What was heard and when. `began`: the clock's start."""

    def __init__(self, began):
        self.began, self.first, self.last, self.samples, self.first_samples = began, None, None, 0, 0

    def add(self, samples, rate):
        now, self.rate = time.perf_counter(), rate
        if self.first is None:
            self.first = now
        if self.first_samples == self.samples and (self.last is None or now - self.last < PAUSE_S):
            self.first_samples += samples
        self.samples, self.last = self.samples + samples, now

    def run(self):
        if not self.samples:
            raise Missing("gave no sound")
        ms, frames = lambda at: (at - self.began) * 1e3, lambda samples: samples / self.rate / FRAME_S
        heard = {"first_sound_ms": ms(self.first), "wall_ms": ms(self.last)}
        return heard | {"frames": frames(self.samples), "first_frames": frames(self.first_samples)}


# ---- the packages, each in a process of its own ---------------------------------------------------------------------------------


def installed(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        raise Missing("not installed") from None


def imported(name, load):
    """Its parts, and it in words; a package that is there and does not import is missing with the reason."""
    version = installed(name)
    try:
        transformers = importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        transformers = "none"
    try:
        return load(), f"{name} {version}, transformers {transformers}"
    except Exception as error:  # an old name that is gone raises what it likes
        raise Missing(f"{name} {version} does not import beside transformers {transformers}: {in_words(error)}") from error


def in_words(error):
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]


def device_of(torch, job):
    """Where, in which numbers, and both in words."""
    device = job["device"]
    if device == "auto":
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise Missing(f"torch {torch.__version__} sees no GPU")
        return device, torch.bfloat16, f"torch {torch.__version__}, {torch.cuda.get_device_name(device)}, bf16"
    torch.set_num_threads(job["threads"])
    return device, torch.float32, f"torch {torch.__version__}, CPU, threads: {job['threads']}, f32"


def official(job, tell):
    def load():
        import torch
        import transformers
        from qwen_tts import Qwen3TTSModel

        transformers.logging.set_verbosity_error()  # a line on padding for each sentence
        return torch, Qwen3TTSModel

    (torch, model), about = imported("qwen-tts", load)
    device, dtype, where = device_of(torch, job)
    tell(about=f"{about}, {where}")
    tts = model.from_pretrained(job["model"], dtype=dtype, device_map=device, attn_implementation="sdpa")
    predictor, codes_at = tts.model.talker.code_predictor, []
    generate = predictor.generate

    def generate_and_note(**named):
        result = generate(**named)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        codes_at.append(time.perf_counter())
        return result

    predictor.generate = generate_and_note

    def speak(text, seed):
        torch.manual_seed(seed)
        codes_at.clear()
        heard = Pieces(time.perf_counter())
        wavs, rate = tts.generate_custom_voice(text, speaker=job["voice"], language="Auto", max_new_tokens=job["frames"] + 1)
        heard.add(len(wavs[0]), rate)
        codes = {"first_codes_ms": (codes_at[0] - heard.began) * 1e3}
        if len(codes_at) > 1:
            codes["codes_frame_ms"] = (codes_at[-1] - codes_at[0]) / (len(codes_at) - 1) * 1e3
        return heard.run() | codes

    speak_all(job, speak, tell)


def faster(job, tell):
    def load():
        import torch
        from faster_qwen3_tts import FasterQwen3TTS

        return torch, FasterQwen3TTS

    (torch, model), about = imported("faster-qwen3-tts", load)
    device, dtype, where = device_of(torch, job)
    if device == "cpu":
        raise Missing("speaks on a GPU only")
    tell(about=f"{about}, {where}, pieces of {job['chunk']}")
    tts = model.from_pretrained(job["model"], device=device, dtype=dtype)

    def speak(text, seed):
        torch.manual_seed(seed)
        heard, timings = Pieces(time.perf_counter()), []
        named = {"speaker": job["voice"], "language": "Auto", "max_new_tokens": job["frames"], "chunk_size": job["chunk"]}
        for samples, rate, timing in tts.generate_custom_voice_streaming(text, **named):
            heard.add(len(samples), rate)
            timings.append(timing)
        run = heard.run()
        decode_ms, steps = (sum(timing[name] for timing in timings) for name in ("decode_ms", "chunk_steps"))
        # The text's own preparation lies before its clock, so it is a little short.
        codes = {"first_codes_ms": timings[0]["prefill_ms"] + timings[0]["decode_ms"], "codes_frame_ms": decode_ms / steps}
        return run | codes | {"first_frames": timings[0]["chunk_steps"]}

    speak_all(job, speak, tell)


def speak_all(job, speak, tell):
    for name, text in job["texts"].items():
        speak(text, 0)
        for seed in range(1, job["runs"] + 1):
            tell(text=name, run=speak(text, seed))


HALVES = {"official": official, "faster": faster}


def half(job):
    """The child's side: a line of JSON for each thing that it has to say, so that what a dying peer has said remains."""
    with open(job["tell"], "w") as file:

        def tell(**what):
            file.write(json.dumps(what) + "\n")
            file.flush()

        try:
            HALVES[job["half"]](job, tell)
        except Missing as missing:
            tell(missing=str(missing))
        except Exception as error:
            tell(missing=in_words(error))
            raise


def package(options, job, name, half, python, **more):
    """The parent's side: (about, runs by text, what is missing in words)."""
    log = OUT / f"{re.sub('[^a-z0-9]+', '-', name)}.log"
    with tempfile.TemporaryDirectory() as folder, log.open("wb") as said:
        told = Path(folder) / "told"
        more |= {"half": half, "tell": str(told)}
        words = [str(python), __file__, "--half", json.dumps(job | more)]
        status = ended(words, options.limit, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        lines = [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []
    about = next((line["about"] for line in lines if "about" in line), "")
    missing = next((line["missing"] for line in lines if "missing" in line), "")
    runs = {}
    for line in lines:
        if "run" in line:
            runs.setdefault(line["text"], []).append(line["run"])
    if status and not missing:
        missing = f"{status}; {log.relative_to(ROOT)} has its words"
    return about, runs, missing


def ended(words, limit, **how):
    """Runs it; how it ended in words, empty where well."""
    try:
        status = subprocess.run(words, timeout=limit, **how).returncode
    except subprocess.TimeoutExpired:
        return f"no end after {limit:.0f} s"
    except OSError as error:
        return in_words(error)
    return f"exit status {status}" if status else ""


# ---- a server by URL ------------------------------------------------------------------------------------------------------------


class Server:
    """An OpenAI-shaped one. Wants a stream of PCM in the words of vLLM-Omni, which others may not know, and takes WAV and events too."""

    def __init__(self, url, limit):
        self.url, self.limit = urllib.parse.urlsplit(url if "//" in url else f"http://{url}"), limit
        self.base = re.sub(r"(/v1)?/*$", "", self.url.path)

    def connection(self):
        kind = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
        connection = kind(self.url.hostname, self.url.port, timeout=self.limit)
        connection.connect()
        return connection

    def model(self):
        """What it calls its model; nothing where it does not tell."""
        connection = self.connection()
        try:
            connection.request("GET", f"{self.base}/v1/models")
            return json.load(connection.getresponse())["data"][0]["id"]
        except (ValueError, LookupError, TypeError):
            return None
        finally:
            connection.close()

    def speak(self, text, model, job, seed):
        fields = {"input": text, "voice": job["voice"], "response_format": "pcm", "stream": True, "stream_format": "audio"}
        fields |= {"max_new_tokens": job["frames"] + 1, "seed": seed} | ({"model": model} if model else {})
        connection, headers = self.connection(), {"Content-Type": "application/json"}
        try:
            heard = Pieces(time.perf_counter())
            connection.request("POST", f"{self.base}/v1/audio/speech", json.dumps(fields), headers)
            response = connection.getresponse()
            kind = response.headers.get_content_type() if response.headers["Content-Type"] else ""
            if response.status != 200 or NOT_PCM.search(kind):
                said = response.read(300).decode(errors="replace") if response.status != 200 else f"{kind}, not PCM"
                raise Missing(f"HTTP {response.status}: {' '.join(said.split())}"[:200])
            sound = events(response) if kind == "text/event-stream" else stream(response)
            for samples, rate in sound:
                heard.add(samples, rate)
            return heard.run()
        finally:
            connection.close()


def stream(response):
    """(samples, rate) as they come; a sample may come in two reads, and a WAV header before the first."""
    rate, held, header = int(response.headers.get("X-Sample-Rate") or RATE), b"", None
    while data := response.read1(1 << 16):
        held += data
        if header is None and len(held) >= 4:
            header = held.startswith(b"RIFF")
        if header:
            at = held.find(b"data")
            if at < 0 or len(held) < at + 8:
                continue
            channels, rate = struct.unpack_from("<HI", held, held.find(b"fmt ") + 10)
            if channels != 1:
                raise Missing(f"gives {channels} channels")
            header, held = False, held[at + 8 :]
        if header is False and len(held) > 1:
            yield len(held) // 2, rate
            held = held[len(held) // 2 * 2 :]


def events(response):
    """The same from speech.audio.delta events."""
    for line in response:
        event = line.removeprefix(b"data:").strip()
        if event == line.strip() or event == b"[DONE]":
            continue
        event = json.loads(event)
        if event.get("type") == "speech.audio.error" or "error" in event:
            raise Missing(f"its stream: {json.dumps(event)}"[:200])
        if data := event.get("audio") or event.get("delta"):
            yield len(base64.b64decode(data)) // 2, RATE


def by_url(options, job, url):
    server, runs, about = Server(url, options.limit), {}, url
    try:
        model = server.model()
        about += f", {model}" if model else ""
        speak_all(job, lambda text, seed: server.speak(text, model, job, seed), lambda text, run: runs.setdefault(text, []).append(run))
    except Missing as missing:
        return about, runs, str(missing)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return about, runs, in_words(error)
    return about, runs, ""


# ---- ours -----------------------------------------------------------------------------------------------------------------------


def ours(options, job):
    if not options.binary.exists():
        return "", {}, f"{options.binary} is not there: cargo build --release"
    device = {"auto": [], "cuda": ["--device", "cuda:0"]}.get(job["device"], ["--device", job["device"]])
    runs, about = {}, ""
    for name, text in job["texts"].items():
        words = [options.binary, "bench", "-m", job["model"], "--voice", job["voice"], "--text", text, "--runs", job["runs"], "--json"]
        words += [*device, "--threads", job["threads"], "--cancels", 0, *shlex.split(options.bench), "--live"]
        with tempfile.TemporaryFile() as said, (OUT / "ours.log").open("wb") as log:
            status = ended([str(word) for word in words], options.limit, stdout=said, stderr=log)
            said.seek(0)
            if status:
                words = (OUT / "ours.log").read_text(errors="replace").strip().splitlines()
                return about, runs, f"{status}: {words[-1] if words else ''}"[:200]
            bench = json.load(said)
        threads = f", threads: {bench['threads']}" if bench.get("threads") else ""
        about = f"qwentts {bench['version']}, {bench['device']}{threads}"
        run = {"frames": bench["frames"], "first_frames": 1, "first_sound_ms": bench["first_sound_ms"]}
        run["wall_ms"] = bench["real_time_factor"] * bench["frames"] * FRAME_S * 1e3
        run["codes_frame_ms"] = bench["frame_ms"]["talker"] + bench["frame_ms"]["predictor"]
        runs[name] = [run]
    return about, runs, ""


# ---- the model ------------------------------------------------------------------------------------------------------------------


def prepare(options):
    """The folder that everyone speaks from, and its voice."""
    config = json.loads((options.model / "config.json").read_text())
    settings = options.model / "generation_config.json"
    sampling = json.loads(settings.read_text()) if settings.exists() else {}
    talker = config["talker_config"]
    if config["tts_model_type"] != "custom_voice":
        # Speed is the same; the voice is a code that no frame uses.
        config["tts_model_type"] = "custom_voice"
        talker |= {"spk_id": {"vivian": talker["vocab_size"] - 7}, "spk_is_dialect": {"vivian": False}}
    voice = options.voice or sorted(talker["spk_id"])[0]
    # The last token makes no frame.
    sampling |= {"do_sample": True, "subtalker_dosample": True, "max_new_tokens": options.frames + 1}
    folder = OUT / f"{options.model.resolve().name}-{options.frames}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for entry in options.model.resolve().iterdir():
        if entry.name not in ("config.json", "generation_config.json"):
            (folder / entry.name).symlink_to(entry)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "generation_config.json").write_text(json.dumps(sampling, indent=2))
    return folder, voice


# ---- the table ------------------------------------------------------------------------------------------------------------------

COLUMNS = {
    "frames": ("frames", "{:.0f}"),
    "frame_ms": ("ms a frame", "{:.2f}"),
    "codes_frame_ms": ("codes alone", "{:.2f}"),
    "first_sound_ms": ("first sound, ms", "{:.1f}"),
    "first_codes_ms": ("first codes, ms", "{:.1f}"),
    "real_time_factor": ("RTF", "{:.3f}"),
}


def table(report):
    rows = [["peer", "text", *(head for head, _ in COLUMNS.values())], ["---"] * 2 + ["---:"] * len(COLUMNS)]
    for peer in report["peers"]:
        for text, found in peer["texts"].items():
            values = [found[key] for key in COLUMNS]
            shown = ["–" if value is None else how.format(value) for value, (_, how) in zip(values, COLUMNS.values())]
            rows.append([peer["name"], text, *shown])
        if peer["missing"]:
            rows.append([peer["name"], peer["missing"].replace("|", "/"), *[""] * len(COLUMNS)])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", *(f"- {peer['name']}: {peer['about']}" for peer in report["peers"] if peer["about"])]
    runs, frames = report["runs"], report["frames"]
    lines.append(f"- {report['model']} on {report['machine']}; medians of {runs} runs, drawn, at most {frames} frames; one stream")
    return "\n".join(lines)


def machine():
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M) if Path("/proc/cpuinfo").exists() else []
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def measure(options):
    folder, voice = prepare(options)
    if options.prepare:
        print(folder)
        return
    texts = {name: TEXTS[name] for name in options.texts}
    job = {"model": str(folder), "voice": voice, "device": options.device, "threads": options.threads, "texts": texts}
    job |= {"runs": options.runs, "frames": options.frames}
    everyone = not (options.official or options.faster or options.url)
    peers = {"ours": lambda: ours(options, job)}
    if options.official or everyone:
        peers["official"] = lambda: package(options, job, "official", "official", options.official_python)
    if options.faster or everyone:
        for chunk in options.chunk:
            name = f"faster, pieces of {chunk}"
            peers[name] = lambda name=name, chunk=chunk: package(options, job, name, "faster", options.faster_python, chunk=chunk)
    for name, url in options.url:
        peers[name] = lambda url=url: by_url(options, job, url)
    report = {"model": options.model.resolve().name, "machine": machine(), "runs": options.runs, "frames": options.frames, "peers": []}
    for name, peer in peers.items():
        began = time.monotonic()
        about, runs, missing = peer()
        found = {text: figures(of) for text, of in runs.items()}
        report["peers"].append({"name": name, "about": about, "missing": missing, "texts": found, "runs": runs})
        print(f"{name}: {missing or 'done'}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(json.dumps(report, indent=1) if options.json else table(report))


# ---- self-check -----------------------------------------------------------------------------------------------------------------

FIRST_S, FIRST_FRAMES, GAP_S, GAP_FRAMES, GAPS = 0.06, 4, 0.04, 8, 5
SAMPLES = int(RATE * FRAME_S)


class Fake(BaseHTTPRequestHandler):
    """Speaks 4 frames after 60 ms, and 8 more each 40 ms, in the manner that its path names."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def answer(self, status, kind, body=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header(*(("Transfer-Encoding", "chunked") if body is None else ("Content-Length", str(len(body)))))
        self.end_headers()
        self.wfile.write(body or b"")

    def piece(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def do_GET(self):
        self.answer(200, "application/json", b'{"data": [{"id": "fake"}]}')

    def do_POST(self):
        began = time.perf_counter()
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        manner = self.path.split("/")[1]
        if manner == "refuses":
            return self.answer(400, "application/json", b'{"error": {"message": "no such voice"}}')
        if manner == "mp3":
            return self.answer(200, "audio/mpeg", b"\xff\xfb")
        assert asked["model"] == "fake" and asked["stream"] and asked["response_format"] == "pcm" and asked["max_new_tokens"] == 45
        self.answer(200, {"events": "text/event-stream", "wav": "audio/wav"}.get(manner, "audio/pcm"))
        if manner == "silent":
            return self.piece(b"")
        if manner == "wav":  # its header at once: that is no sound
            file = io.BytesIO()
            with wave.open(file, "wb") as head:
                head.setparams((1, 2, RATE, 0, "NONE", ""))
            self.piece(file.getvalue()[:20])
            self.piece(file.getvalue()[20:])
        for i in range(1 + GAPS):
            time.sleep(max(0.0, began + FIRST_S + i * GAP_S - time.perf_counter()))
            data = b"\1\2" * SAMPLES * (GAP_FRAMES if i else FIRST_FRAMES)
            if manner == "events":
                event = {"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()}
                self.piece(b"event: speech.audio.delta\ndata: " + json.dumps(event).encode() + b"\n\n")
            else:  # cut inside a sample
                self.piece(data[:1001])
                self.piece(data[1001:])
        if manner == "events":
            self.piece(b'event: speech.audio.done\ndata: {"type": "speech.audio.done"}\n\ndata: [DONE]\n\n')
        self.piece(b"")


def self_check():
    """Nothing where all is as it should be, else what is not."""
    wrong = []

    def near(what, value, expected, more, less=0.0):
        """Never earlier than it can be; later only by what a busy machine may add."""
        if value is None or not expected * 0.99 - less <= value <= expected + more:
            wrong.append(f"{what}: {value}, expected {expected - less:g} to {expected + more:g}")

    def same(what, value, expected):
        if value != expected:
            wrong.append(f"{what}: {value!r}, expected {expected!r}")

    frames = FIRST_FRAMES + GAPS * GAP_FRAMES
    wall_ms = (FIRST_S + GAPS * GAP_S) * 1e3
    options = argparse.Namespace(limit=10)
    job = {"voice": "vivian", "frames": frames, "texts": {"short": TEXTS["short"]}, "runs": 5}
    with ThreadingHTTPServer(("127.0.0.1", 0), Fake) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        peers = {manner: by_url(options, job, f"{base}/{manner}/v1/") for manner in ("pcm", "wav", "events", "refuses", "mp3", "silent")}
        server.shutdown()
        gone = by_url(options, job, "127.0.0.1:1")
    for manner in ("pcm", "wav", "events"):
        _, runs, missing = peers[manner]
        same(f"{manner}, missing", missing, "")
        found = figures(runs["short"]) if runs else dict.fromkeys(COLUMNS)
        same(f"{manner}, runs", len(runs.get("short", [])), 5)
        # Of most runs: a busy machine cuts some first pieces.
        same(f"{manner}, first piece", statistics.median([run["first_frames"] for run in runs.get("short", [])] or [0]), FIRST_FRAMES)
        same(f"{manner}, frames", found["frames"], frames)
        near(f"{manner}, first sound", found["first_sound_ms"], FIRST_S * 1e3, 20)
        near(f"{manner}, ms a frame", found["frame_ms"], GAP_S / GAP_FRAMES * 1e3, 0.5, 0.5)
        near(f"{manner}, RTF", found["real_time_factor"], wall_ms / (frames * FRAME_S * 1e3), 30 / (frames * FRAME_S * 1e3))
    same("refused", peers["refuses"][2], 'HTTP 400: {"error": {"message": "no such voice"}}')
    same("mp3", peers["mp3"][2], "HTTP 200: audio/mpeg, not PCM")
    same("silent", peers["silent"][2], "gave no sound")
    same("gone", gone[2].split(":")[0], "ConnectionRefusedError")

    # By hand: a peer that streams in pieces of 2, one that gives all at once, and one that gives one frame.
    whole = {"frames": 10, "first_frames": 10, "first_sound_ms": 1000, "wall_ms": 1000, "first_codes_ms": 100, "codes_frame_ms": 80}
    same("streams", frame_ms({"frames": 10, "first_frames": 2, "first_sound_ms": 40, "wall_ms": 200}), 20)
    same("at once", frame_ms(whole), 100)
    same("one frame", frame_ms(whole | {"frames": 1, "first_frames": 1}), None)
    found = figures([whole, whole | {"wall_ms": 1600}, whole | {"wall_ms": 1200}])
    same("median", found["real_time_factor"], 1.5)
    report = {"model": "m", "machine": "x", "runs": 3, "frames": 10, "peers": []}
    report["peers"].append({"name": "a", "about": "a 1.0", "missing": "", "texts": {"short": found | {"first_codes_ms": None}}})
    report["peers"].append({"name": "b", "about": "", "missing": "not installed", "texts": {}})
    same("row", table(report).splitlines()[2], "| a | short | 10 | 122.22 | 80.00 | 1000.0 | – | 1.500 |")
    same("missing", table(report).splitlines()[3], "| b | not installed |  |  |  |  |  |  |")
    try:
        installed("no such package")
        wrong.append("a package that is not there was found")
    except Missing as missing:
        same("package", str(missing), "not installed")
    return wrong


# ---- main -----------------------------------------------------------------------------------------------------------------------


def parse():
    def named(text):
        name, equals, url = text.partition("=")
        if not (name and equals and url):
            raise argparse.ArgumentTypeError(f"{text!r} is not NAME=URL")
        return name, url

    def least(low):
        def number(text):
            if int(text) < low:
                raise argparse.ArgumentTypeError(f"is {text}; expected at least {low}")
            return int(text)

        return number

    def python(name):
        there = ROOT / f"target/python/{name}/bin/python"
        return there if there.exists() else Path(sys.executable)

    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("-m", "--model", type=Path, default=ROOT / "models/demo", metavar="DIR", help="model folder, seeded or published (models/demo)")
    add("--official", action="store_true", help="time the official package qwen-tts")
    add("--faster", action="store_true", help="time faster-qwen3-tts")
    add("--url", type=named, action="append", default=[], metavar="NAME=URL", help="time an OpenAI-shaped server; may be repeated")
    add("--device", default="auto", metavar="auto|cpu|cuda:N", help="of ours and the packages: a GPU where they see one (auto)")
    add("--threads", type=least(1), default=os.cpu_count(), metavar="N", help="of the CPU, for ours and the packages (one a core)")
    add("--runs", type=least(1), default=5, help="of each text (5)")
    add("--frames", type=least(2), default=100, help="at most, of each utterance (100)")
    add("--texts", nargs="+", choices=TEXTS, default=list(TEXTS), help="which (all)")
    add("--chunk", type=least(1), nargs="+", default=[1, 8], metavar="FRAMES", help="pieces of faster-qwen3-tts, a row each (1 8)")
    add("--voice", help="preset voice (the first)")
    add("--limit", type=float, default=900, metavar="S", help="seconds for a peer, of ours and a server for each utterance (900)")
    add("--bench", default="", metavar="WORDS", help="more words for qwentts bench, such as '--kv bf16'")
    add("--binary", type=Path, default=ROOT / "target/release/qwentts")
    add("--official-python", type=Path, default=python("official"), metavar="PYTHON")
    add("--faster-python", type=Path, default=python("faster"), metavar="PYTHON")
    add("--json", action="store_true", help="JSON with every run instead of the table")
    add("--prepare", action="store_true", help="make the model's folder, print its path, time nothing")
    add("--self-check", action="store_true", help="check the figures of this tool against known delays")
    add("--half", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    options = parse()
    if options.half:
        half(options.half)
    elif options.self_check:
        if wrong := self_check():
            sys.exit("\n".join(f"peers.py: {what}" for what in wrong))
        print("self-check: ok")
    else:
        if not (options.model / "config.json").exists():
            sys.exit(f"peers.py: {options.model} is no model folder")
        measure(options)


if __name__ == "__main__":
    main()
