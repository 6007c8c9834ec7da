#!/usr/bin/env python3
"""What needs an NVIDIA GPU, on a machine that has one and no cargo. Needs Python 3 alone.

    tools/gpu.py pack                on the machine that builds: the tests as binaries, stripped and packed, to target/gpu
    tools/gpu.py run [STEP ...]      on the machine with the GPU, in the repository's root: all steps, or these, one after another

Steps, in the order of a whole run:
    driver    the driver's floor                            twins     each kernel against the reference's function
    goldens   the recordings of the official package, and the engine's tests, on the GPU
    small     a GPU against the CPU, tiny and demo models   ptx       twins and goldens with the embedded PTX, compiled by the driver
    models    makes the full-size models in --scratch       full      those against the CPU reference; minutes
    recorded  the official package's full-size recording in --recorded (`make golden-full`), walked on the GPU
    bench     qwentts bench on them, with bounds            speed     linear, gemm and conv alone, in GB/s
    soak      20,000 frames without drift, and a storm      sanitize  compute-sanitizer, its four tools

Each step has a time limit, prints one line, and leaves its log in target/gpu-out; a failure does not stop the next. A table
ends it, and all logs are packed into $OUT/gpu-logs.tar.gz where OUT is set; the exit status is 1 where something failed. What
runs no test is a failure, too.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACK = ROOT / "target/gpu"  # what travels: all binaries in one file, and what they were built of
BIN = ROOT / "target/gpu-bin"  # where they are unpacked
OUT = ROOT / "target/gpu-out"
TESTS = ["golden", "streaming", "live", "engine", "voices", "soak", "gpu"]
FEATURES = "hub,cuda"  # without `demo`: its model is in the tree anyway
LIMIT_MIB = 64  # of the pack and the tree together: what a lent machine takes
FULL = {"full-0b6-base": 1, "full-1b7-base": 1}
GPU = {"QWENTTS_TEST_DEVICE": "cuda:0"}
IGNORED = ["--ignored", "--nocapture", "--test-threads", "1"]
SANITIZERS = {"memcheck": 240, "initcheck": 180, "synccheck": 120, "racecheck": 240}
# What `bench` must show of the 0.6B model, in ms: a frame, a packet of one, the first sound of a prompt of some 20 tokens.
BOUNDS = {
    "a frame": (lambda d: d["frame_ms"]["talker"] + d["frame_ms"]["predictor"], 4.0),
    "a packet of one frame": (lambda d: d["codec_packet_ms"]["of_1"], 1.5),
    "first sound": (lambda d: d["first_sound_ms"], 20.0),
    "first sound of a cloned voice that is kept": (lambda d: d["prefix"]["kept"]["first_sound"], 6.0),
    # The median of thirty less that of thirty others: under it is what they differ by without a switch.
    "a switch to another that is kept": (lambda d: d["prefix"]["switched"]["first_sound"] - d["prefix"]["kept"]["first_sound"], 0.2),
    "10 s heard": (lambda d: d["hear_10_s_ms"]["voice"], 60.0),
}
# Short, so that weights without training, which rarely end, speak for some seconds and not for a minute.
BENCH = ["--runs", "3", "--cancels", "3", "--live", "--json", "--text", "Hello, how are you on this fine day?"]


# ---- pack


def pack(options):
    env = os.environ | {"QWENTTS_CUDA_ARCHS": options.archs}
    command = ["cargo", "test", "--no-run", "--release", "--locked", "--no-default-features", "--features", FEATURES]
    command += ["--lib", *(word for test in TESTS for word in ("--test", test)), "--message-format", "json"]
    began = time.monotonic()
    built = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    if built.returncode:
        return f"cargo: exit status {built.returncode}"
    found = {}
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message["reason"] != "compiler-artifact" or not message["executable"]:
            continue
        target = message["target"]
        name = "lib" if target["kind"][0] not in ("test", "bin") else target["name"]
        # A binary's own unit tests are not wanted; the binary is.
        if message["profile"]["test"] != ("bin" in target["kind"]):
            found[name] = Path(message["executable"])
    missing = {"lib", "qwentts", *TESTS} - found.keys()
    if missing:
        return f"cargo made no {', '.join(sorted(missing))}"

    shutil.rmtree(PACK, ignore_errors=True)
    PACK.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as stripped, tarfile.open(PACK / "pack.tar.xz", "w:xz") as packed:
        for name in sorted(found):
            to = Path(stripped) / name
            subprocess.run(["strip", "--strip-all", "-o", to, found[name]], check=True)
            print(f"{to.stat().st_size / 2**20:7.1f} MiB  {name}")
            packed.add(to, name)
    total = (PACK / "pack.tar.xz").stat().st_size
    print(f"{total / 2**20:7.1f} MiB  target/gpu/pack.tar.xz")
    about = {"root": str(ROOT), "archs": options.archs, "packed": time.time(), "commit": git("rev-parse", "HEAD").strip()}
    about["changed"] = bool(git("status", "--porcelain").strip())
    (PACK / "about.json").write_text(json.dumps(about))
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    tree = sum((ROOT / file).lstat().st_size for file in listed if file and (ROOT / file).is_file())
    together = (tree + total) / 2**20
    print(f"{tree / 2**20:7.1f} MiB  the tree; {together:.1f} of {LIMIT_MIB} MiB in all; {time.monotonic() - began:.0f} s")
    return "" if together <= LIMIT_MIB else f"{together:.1f} MiB are more than {LIMIT_MIB}"


def git(*words):
    return subprocess.run(["git", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


# ---- steps


class Piece:
    """One command of a step: its name, words, limit in seconds, environment. `tests`: it must run some. `bounds`: of figures
    that it prints as JSON."""

    def __init__(self, name, words, limit, env=None, tests=True, wrapped=(), bounds=None):
        self.name, self.limit, self.env, self.tests, self.bounds = name, limit, env or {}, tests, bounds or {}
        self.words = [*wrapped, str(BIN / words[0]) if words[0] in ("lib", "qwentts", *TESTS) else words[0], *words[1:]]


def twins(limit=150, skip=(), name="twins", **how):
    skip = [word for part in ("speed_of", *skip) for word in ("--skip", part)]
    return Piece(name, ["lib", *IGNORED, *skip, "engine::twins::"], limit, **how)


def driver(**how):
    return Piece("driver", ["lib", *IGNORED, "driver::"], 60, **how)


def goldens(env=None):
    env = GPU | (env or {})
    # Threads of the machine's, but not as many engines on the GPU at once.
    words = ["--nocapture", "--test-threads", "4"]
    # Of voices, what runs no command line: that stays where it was built.
    heard = ["vectors_and_codes", "a_saved_voice_is", "trace_hears"]
    pieces = [Piece(test, [test, *words], 240, env) for test in ("golden", "streaming", "live", "engine")]
    return [*pieces, Piece("voices", ["voices", *words, *heard], 120, env)]


def full_size(options):
    return [Path(options.scratch) / f"{kind}-{seed}" for kind, seed in FULL.items()]


def steps(options):
    """Every step's pieces, made when its turn comes."""
    ptx = {"CUDA_FORCE_PTX_JIT": "1", "CUDA_CACHE_PATH": str(BIN / "ptx-cache")}
    sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    models = full_size(options)

    def sanitize():
        for tool, limit in SANITIZERS.items():
            # Calls that are meant to fail are no errors.
            wrapped = [sanitizer, "--tool", tool, "--error-exitcode", "9", "--print-limit", "20"]
            wrapped += ["--report-api-errors", "no"] * (tool == "memcheck")
            # Every block of a program has its own.
            wrapped += ["--num-cuda-barriers", "128"] * (tool == "synccheck")
            # Thousands of launches take minutes where each access is followed: these are then followed in speech alone.
            followed = tool == "racecheck"
            skip = ["trouble", *["choices::"] * followed]
            yield twins(limit, skip, f"{tool}-twins", wrapped=wrapped)
            frames = GPU | ({"QWENTTS_SOAK_FRAMES": "3"} if followed else {})
            yield Piece(f"{tool}-speech", ["gpu", *IGNORED, "a_few_frames"], limit, frames, wrapped=wrapped)

    def bench():
        for folder in [*made(models), Path("models/demo")]:
            words = ["qwentts", "bench", "-m", str(folder), "--device", "cuda:0", *BENCH]
            yield Piece(folder.name, words, 90, tests=False, bounds=BOUNDS if "0b6" in folder.name else {})

    def recorded():
        if not options.recorded:
            raise RuntimeError("--recorded DIR is missing: what `make golden-full` wrote")
        env = GPU | {"QWENTTS_GOLDEN_FULL": str(Path(options.recorded).resolve())}
        for test in ("golden", "voices"):
            yield Piece(test, [test, *IGNORED, "at_full_size_too"], 240, env)

    storm = GPU | {"SOAK_SECONDS": "60"}
    return {
        "driver": lambda: [driver()],
        "twins": lambda: [twins()],
        "goldens": goldens,
        "small": lambda: [Piece("small", ["gpu", *IGNORED, "--skip", "full_size", "--skip", "long_use"], 240, GPU)],
        "ptx": lambda: [twins(env=ptx), *goldens(ptx)],
        "models": lambda: list(make_models(options)),
        "full": lambda: [
            Piece(part, ["gpu", *IGNORED, f"full_size_{part}"], limit, GPU | full_size_env(models))
            for part, limit in {"frames": 90, "speech": 150, "sound": 60, "memory": 60, "recordings": 120, "prompts": 120, "long_prompt": 480}.items()
        ],
        "recorded": lambda: list(recorded()),
        "bench": lambda: list(bench()),
        "speed": lambda: [Piece("speed", ["lib", *IGNORED, "speed_of"], 120)],
        "soak": lambda: [
            Piece("frames", ["gpu", *IGNORED, "long_use"], 300, GPU),
            Piece("storm", ["soak", *IGNORED], 180, storm),
        ],
        "sanitize": lambda: list(sanitize()),
    }


def made(models):
    for folder in models:
        if not (folder / "made").exists():
            raise RuntimeError(f"{folder} is not there: run the step models first")
    return models


def full_size_env(models):
    return {"QWENTTS_GPU_MODELS": ":".join(map(str, made(models)))}


def make_models(options):
    """Both at once; what is there already stays."""
    for (kind, seed), folder in zip(FULL.items(), full_size(options)):
        script = (
            "import pathlib, sys; sys.path.insert(0, 'tests/golden'); import seeded; folder = pathlib.Path(sys.argv[3])\n"
            "if not (folder / 'made').exists():\n"
            "    print(seeded.make(sys.argv[1], int(sys.argv[2]), folder)); (folder / 'made').touch()"
        )
        yield Piece(kind, [sys.executable, "-c", script, kind, str(seed), str(folder)], 400, tests=False)


# ---- run


def run(options):
    known = steps(options)
    chosen = options.steps or list(known)
    if unknown := [step for step in chosen if step not in known]:
        return f"no such step: {', '.join(unknown)}; known are {', '.join(known)}"
    if not (PACK / "about.json").exists():
        return f"{PACK.relative_to(ROOT)} is not there: pack it where there is cargo, and bring it along"
    unpack()
    about = json.loads((PACK / "about.json").read_text())
    print(f"built of {about['commit'][:12]}{' with changes' if about['changed'] else ''} for {about['archs']} on {gpu_name()}")
    stand_in(Path(about["root"]))
    OUT.mkdir(parents=True, exist_ok=True)
    until, table = time.monotonic() + options.limit, []
    for step in chosen:
        began = time.monotonic()
        try:
            pieces = known[step]()
            # Two that make files and use no GPU run at once.
            done = together(pieces, step, until) if step == "models" else [
                one(piece, step, until, begin(piece, step)) for piece in pieces
            ]
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            done = [(False, str(error))]
            (OUT / f"{step}.log").write_text(f"{error}\n")
        ok, seconds = all(ok for ok, _ in done), time.monotonic() - began
        # Those that failed, where some did; the logs have the rest.
        words = "; ".join(what for well, what in done if well == all(well for well, _ in done))[:400]
        table.append((step, ok, seconds, words))
        print(f"{'ok  ' if ok else 'FAIL'}  {step:9} {seconds:6.1f} s  {words}", flush=True)
    print(f"\n{'step':10} {'verdict':8} {'s':>6}")
    for step, ok, seconds, _ in table:
        print(f"{step:10} {'ok' if ok else 'FAIL':8} {seconds:6.1f}")
    failed = [step for step, ok, _, _ in table if not ok]
    (OUT / "summary.json").write_text(
        json.dumps([{"step": s, "ok": ok, "seconds": round(t, 1), "words": w} for s, ok, t, w in table], indent=1)
    )
    if "OUT" in os.environ:
        with tarfile.open(Path(os.environ["OUT"]) / "gpu-logs.tar.gz", "w:gz") as files:
            files.add(OUT, "gpu-logs")
    return f"failed: {', '.join(failed)}" if failed else ""


def unpack():
    """Unless these are the ones that are there."""
    packed, about = PACK / "pack.tar.xz", (PACK / "about.json").read_text()
    if (BIN / "about.json").exists() and (BIN / "about.json").read_text() == about:
        return
    shutil.rmtree(BIN, ignore_errors=True)
    with tarfile.open(packed) as files:
        files.extractall(BIN, filter="data")
    for name in ("lib", "qwentts", *TESTS):
        (BIN / name).chmod(0o755)
    (BIN / "about.json").write_text(about)


def gpu_name():
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        return subprocess.run(query, stdout=subprocess.PIPE, text=True, timeout=20).stdout.strip() or "no GPU"
    except (OSError, subprocess.TimeoutExpired):
        return "no GPU"


def stand_in(built):
    """Tests know the tree by the path that it was built at: where there is none, it leads here."""
    if built == ROOT or built.exists():
        return
    if built.is_symlink():  # to what is gone
        built.unlink()
    built.parent.mkdir(parents=True, exist_ok=True)
    built.symlink_to(ROOT)


def log_of(piece, step):
    return OUT / (f"{step}.log" if piece.name == step else f"{step}-{piece.name}.log")


def begin(piece, step):
    if not Path(shutil.which(piece.words[0]) or "").is_file():
        return f"{piece.words[0]} is not there"
    with log_of(piece, step).open("wb") as log:
        # A group of its own, so that its children end with it.
        how = {"cwd": ROOT, "env": os.environ | piece.env, "start_new_session": True}
        return subprocess.Popen(piece.words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **how)


def together(pieces, step, until):
    running = [begin(piece, step) for piece in pieces]
    return [one(piece, step, until, process) for piece, process in zip(pieces, running)]


def one(piece, step, until, process):
    """Waits for it; (whether it is well, in words)."""
    if isinstance(process, str):
        log_of(piece, step).write_text(process + "\n")
        return False, f"{piece.name}: {process}"
    began = time.monotonic()
    limit = max(1.0, min(piece.limit, until - began))
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        status = f"no end after {limit:.0f} s"
    said = log_of(piece, step).read_text(errors="replace")
    counts = [tuple(map(int, found)) for found in re.findall(r"test result: .*?(\d+) passed; (\d+) failed", said)]
    passed, failed = (sum(column) for column in zip(*counts)) if counts else (0, 0)
    what = [f"{passed} passed"] * piece.tests + [f"{failed} failed"] * bool(failed)
    errors = re.findall(r"ERROR SUMMARY: (\d+) errors?|RACECHECK SUMMARY: (\d+) hazards?", said)
    what += [f"{a or b} reported" for a, b in errors]
    if status != 0:
        what.append(status if isinstance(status, str) else f"exit status {status}")
        names = sorted(set(re.findall(r"^    ([a-z_0-9:]+)$", said, re.M)))
        what += [name.rsplit("::", 1)[-1] for name in names[:6]]
    ok = status == 0 and (passed > 0 or not piece.tests)
    if status == 0 and piece.bounds:
        figures = json.JSONDecoder().raw_decode(said[said.index("{") :])[0]
        for name, (of, most) in piece.bounds.items():
            what.append(f"{name} {of(figures):.2f} ms")
            ok &= of(figures) <= most
    if piece.tests and status == 0 and not passed:
        what.append("no test ran")
    return ok, f"{piece.name}: {', '.join(map(str, what)) or 'done'}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    packing = verbs.add_parser("pack", help="build, strip and gather what `run` runs")
    packing.add_argument("--archs", default="90", help="architectures, as QWENTTS_CUDA_ARCHS: 90 is an H100 or H200")
    packing.set_defaults(verb=pack)
    running = verbs.add_parser("run", help="run all steps, or these")
    running.add_argument("steps", nargs="*", metavar="STEP")
    running.add_argument("--scratch", default="/tmp/qwentts-models", help="where full-size models are made: 7 GB")
    running.add_argument("--recorded", help="with the *.json and *.npy that `make golden-full` wrote to target/golden-full")
    running.add_argument("--limit", type=float, default=86400, help="seconds for all together")
    running.set_defaults(verb=run)
    options = parser.parse_args()
    if problem := options.verb(options):
        sys.exit(f"gpu.py: {problem}")


if __name__ == "__main__":
    main()
