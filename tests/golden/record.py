"""Records the goldens from the official package. README.md says how to call it and what comes out."""

import argparse
import base64
import copy
import itertools
import json
import math
import resource
import shutil
import tempfile
import time
import wave
import zlib
from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch
from qwen_tts import Qwen3TTSModel, VoiceClonePromptItem
from qwen_tts.core.models import Qwen3TTSConfig, Qwen3TTSProcessor, modeling_qwen3_tts
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoConfig, AutoProcessor
from transformers.generation.logits_process import LogitsProcessorList, TopKLogitsWarper, TopPLogitsWarper
from transformers.models.mimi.modeling_mimi import MimiEuclideanCodebook

import material
import seeded

HERE = Path(__file__).parent
GROUPS, SAMPLES_PER_FRAME = 16, 1920

# ---- tokenizer

def train_tokenizer():
    """A small byte-level BPE in the published layout."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    # Trained on coarser pieces than any regex cuts, so that merges across digits, case, signs and white space exist:
    # a piece that is cut elsewhere then gets other ids.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r" ?\S+|\s+"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    trainer = trainers.BpeTrainer(
        vocab_size=2400, min_frequency=1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        max_token_length=16,
    )
    tokenizer.train_from_iterator(material.corpus(), trainer)
    folder = HERE / "tokenizer"
    folder.mkdir(exist_ok=True)
    tokenizer.model.save(str(folder))
    vocabulary = tokenizer.get_vocab()
    assert {"assistant", "user", "ĊĊ"} <= vocabulary.keys() and vocabulary["Ċ"] == 198
    assert not vocabulary.keys() & set(material.ADDED_TOKENS)
    added = {
        str(len(vocabulary) + i): {
            "content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
            "special": token not in material.PLAIN_ADDED_TOKENS,
        }
        for i, token in enumerate(material.ADDED_TOKENS)
    }
    settings = {
        "add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added,
        "additional_special_tokens": [t for t in material.ADDED_TOKENS[1:] if t not in material.PLAIN_ADDED_TOKENS],
        "bos_token": None, "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace",
        "model_max_length": 131072, "pad_token": "<|endoftext|>", "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer", "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def load_processor(kind):
    """The official text processor of a seeded checkpoint, as the package loads it; it needs no weights."""
    description = json.loads((HERE / f"checkpoints/{kind}.json").read_text())
    config = description["files"]["config.json"]
    with tempfile.TemporaryDirectory() as folder:
        seeded.write_files(description, Path(folder))
        AutoConfig.register("qwen3_tts", Qwen3TTSConfig, exist_ok=True)
        AutoProcessor.register(Qwen3TTSConfig, Qwen3TTSProcessor, exist_ok=True)
        return AutoProcessor.from_pretrained(folder, fix_mistral_regex=True), config


def tokenizer():
    train_tokenizer()
    seeded.list_kinds()
    processor, config = load_processor("tiny-0b6-base")
    backend = processor.tokenizer.backend_tokenizer
    # Only a vocabulary of more than 100,000 entries gets the other regex; so let the package put it into a large one.
    large = load_processor("full-0b6-base")[0].tokenizer.backend_tokenizer
    # Copies: a part handed from one tokenizer to another would be shared, and assigning it to itself never returns.
    regexes = {"qwen": copy.deepcopy(backend.pre_tokenizer[0]), "mistral": copy.deepcopy(large.pre_tokenizer[0])}

    plain = Tokenizer(models.BPE.from_file(str(HERE / "tokenizer/vocab.json"), str(HERE / "tokenizer/merges.txt")))
    plain.normalizer = copy.deepcopy(backend.normalizer)
    encode = lambda text: plain.encode(text, add_special_tokens=False).ids
    start, end = config["im_start_token_id"], config["im_end_token_id"]

    entries, regex_matters = [], 0
    for text in material.strings():
        official = {}
        for name, regex in regexes.items():
            for each in (backend, plain):
                each.pre_tokenizer = pre_tokenizers.Sequence([copy.deepcopy(regex), copy.deepcopy(backend.pre_tokenizer[1])])
            templated = f"<|im_start|>assistant\n{text}<|im_end|>\n<|im_start|>assistant\n"
            official[name] = processor(text=templated)["input_ids"][0]
            entries.append({"text": text, "regex": name, "special_tokens": True, "ids": official[name]})
            as_text = [start, *encode(f"assistant\n{text}"), end, *encode("\n"), start, *encode("assistant\n")]
            if as_text != official[name]:
                assert any(token in text for token in material.ADDED_TOKENS), text
                entries.append({"text": text, "regex": name, "special_tokens": False, "ids": as_text})
        regex_matters += official["qwen"] != official["mistral"]
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries)
    (HERE / "tokenizer.json").write_text(f"[\n{lines}\n]\n")
    print(f"{len(material.strings())} texts, {len(entries)} entries; the regexes differ on {regex_matters}")


# ---- watching the official package choose

def draw(probabilities, u):
    """The first index whose f64 cumulative sum exceeds u of the total; and the gap to the nearest edge within the total."""
    cumulative = np.cumsum(probabilities.astype(np.float64))
    total = cumulative[-1]
    chosen = int(np.argmax(cumulative > u * total))
    lower, upper = (cumulative[chosen - 1] if chosen else 0.0), cumulative[chosen]
    gaps = [abs(u * total - edge) / total for edge in (lower, upper) if 0 < edge < total]
    return chosen, min(gaps, default=1.0)


def cut_gaps(scores, top_k, top_p):
    """How near the top-k and top-p cuts were to falling elsewhere. scores: divided by temperature, not yet cut."""
    gaps = []
    if top_k is not None:
        kth = np.sort(scores)[-min(top_k, len(scores))]
        dropped = scores[np.isfinite(scores) & (scores < kth)]
        if len(dropped):
            gaps.append(float(kth - dropped.max()) / max(abs(float(kth)), 1e-30))
            scores = np.where(scores < kth, -np.inf, scores)
    if top_p is not None:
        ascending = torch.sort(torch.from_numpy(scores)).values.softmax(-1).numpy()
        gaps.append(float(np.abs(np.cumsum(ascending.astype(np.float64)) - (1 - top_p)).min()))
    return gaps


class Watch:
    """Stands in `LogitsProcessorList.__call__` and `torch.multinomial` while the official package generates.

    Notes the raw scores, the choice and its margin of every talker and predictor step. Draws by inverse CDF from the
    given uniforms in place of torch's generator. With forced frames, what is fed back is the forced code.
    """

    def __init__(self, talker_vocabulary, uniforms=None, forced=None):
        self.talker_vocabulary, self.uniforms, self.forced = talker_vocabulary, uniforms, forced
        self.drawn = 0
        self.chosen, self.margins, self.raw = [], [], []  # one list a talker step: group 0, then groups 1..15

    def __enter__(self):
        self.originals = LogitsProcessorList.__call__, torch.multinomial
        watch = self

        def process(processors, input_ids, scores, **kwargs):
            return watch.process(processors, input_ids, scores)

        def multinomial(probabilities, num_samples):
            # `process` has drawn from these same probabilities, except that a forced code is all that is left of them.
            return torch.tensor([[watch.fed_back]]) if watch.forced else torch.tensor([[draw(probabilities[0].numpy(), watch.u)[0]]])

        LogitsProcessorList.__call__, torch.multinomial = process, multinomial
        return self

    def __exit__(self, *_):
        LogitsProcessorList.__call__, torch.multinomial = self.originals

    def process(self, processors, input_ids, scores):
        assert scores.shape[0] == 1 and scores.dtype == torch.float32
        raw, uncut = scores[0].clone(), None
        for processor in processors:
            if uncut is None and isinstance(processor, (TopKLogitsWarper, TopPLogitsWarper)):
                uncut = scores
            scores = processor(input_ids, scores)
        uncut = (scores if uncut is None else uncut)[0].numpy()

        if self.sampled(len(raw)):
            self.u = self.uniforms[self.drawn]
            self.drawn += 1
            setting = lambda kind, name: next((getattr(p, name) for p in processors if isinstance(p, kind)), None)
            chosen, edge_gap = draw(torch.softmax(scores, -1)[0].numpy(), self.u)
            margin = min([edge_gap] + cut_gaps(uncut, setting(TopKLogitsWarper, "top_k"), setting(TopPLogitsWarper, "top_p")))
        else:
            chosen = int(torch.argmax(scores[0]))
            second, best = np.sort(uncut)[-2:].astype(np.float64)
            margin = best - second if np.isfinite(second) else 1.0

        if len(raw) == self.talker_vocabulary:
            self.chosen.append([]), self.margins.append([]), self.raw.append([])
        self.chosen[-1].append(chosen), self.margins[-1].append(float(margin)), self.raw[-1].append(raw.numpy())

        step, group = len(self.chosen) - 1, len(self.chosen[-1]) - 1
        if self.forced and step < len(self.forced):
            self.fed_back = self.forced[step][group]
            scores = torch.full_like(scores, -math.inf)
            scores[0, self.fed_back] = 0.0
        else:
            self.fed_back = chosen
        return scores

    def sampled(self, vocabulary):
        return self.sample_talker if vocabulary == self.talker_vocabulary else self.sample_predictor


class Official:
    """The official package on one checkpoint folder."""

    def __init__(self, folder):
        self.package = Qwen3TTSModel.from_pretrained(str(folder), dtype=torch.float32, attn_implementation="eager")
        self.model = self.package.model
        self.codec = self.model.speech_tokenizer.model.decoder

    def run(self, request, uniforms=None):
        """One utterance through the official API. Returns the trace output, and the watch that saw it."""
        package, model, talker = self.package, self.model, self.model.talker
        frames, ids, seen = {}, {}, {}
        reference = self.reference(request)
        tokenize, generate, decode = package._tokenize_texts, talker.generate, model.speech_tokenizer.decode

        def tokenize_and_note(texts):
            (tokens,) = tokenize(texts)
            if "text_ids" in request and "text" not in ids:  # the body, in the template of an empty text
                body = torch.tensor([request["text_ids"]], dtype=tokens.dtype)
                tokens = torch.cat([tokens[:, :3], body, tokens[:, 3:]], dim=1)
            # The official order: the text, then the instruction or the reference's transcript.
            ids["text" if "text" not in ids else "ref" if model.tts_model_type == "base" else "instruct"] = tokens[0].tolist()
            return [tokens]

        def generate_and_note(**kwargs):
            seen["prefill"] = kwargs["inputs_embeds"][0].numpy()
            result = generate(**kwargs)
            seen["last"] = int(result.sequences[0, -1])
            seen["hidden"] = torch.cat([step[0][-1][:, -1] for step in result.hidden_states]).numpy()
            return result

        def decode_nothing(encoded):  # the waveform is made by `decode`, below, where it is wanted
            frames["fed_back"] = encoded[0]["audio_codes"].tolist()
            return [np.zeros(1, np.float32)], 24000

        forced = request.get("forced_frames")
        with Watch(talker.config.vocab_size, uniforms or request.get("uniforms"), forced) as watch:
            package._tokenize_texts, talker.generate, model.speech_tokenizer.decode = tokenize_and_note, generate_and_note, decode_nothing
            try:
                self.call(request, watch)
            finally:
                package._tokenize_texts, talker.generate, model.speech_tokenizer.decode = tokenize, generate, decode

        count = len(watch.chosen) - 1  # the last token makes no frame
        official = frames["fed_back"][len(reference or []):]
        assert official == (forced or watch.chosen[:count]), "the watch saw other codes than the package made"
        prefill = seen["prefill"].astype(np.float64)
        output = {
            "ids": {"text": ids["text"], "instruct": ids.get("instruct"), "ref": ids.get("ref")},
            "prefill": {"positions": len(prefill), "sum": prefill.sum(), "sumsq": (prefill**2).sum()},
            "frames": watch.chosen[:count],
            "end": "forced" if forced else "eos" if seen["last"] == talker.config.codec_eos_token_id else "length",
            "margins": [[float(f"{margin:.4g}") for margin in row] for row in watch.margins[:count]],
            "end_margin": float(f"{watch.margins[-1][0]:.4g}"),
            "samples": count * SAMPLES_PER_FRAME,
            "device": "official",
        }
        return output, watch, seen

    def call(self, request, watch):
        """The public call that a request stands for."""
        defaults = self.package.generate_defaults
        greedy = {"do_sample": False, "subtalker_dosample": False} if request.get("greedy") else {}
        names = (
            "do_sample temperature top_k top_p repetition_penalty subtalker_dosample subtalker_temperature subtalker_top_k "
            "subtalker_top_p max_new_tokens"
        ).split()
        settings = {name: request[name] for name in names if name in request} | greedy
        if request.get("forced_frames"):
            settings["max_new_tokens"] = len(request["forced_frames"]) + 1
        watch.sample_talker = settings.get("do_sample", defaults["do_sample"])
        watch.sample_predictor = settings.get("subtalker_dosample", defaults["subtalker_dosample"])
        if "layout" in request:
            settings["non_streaming_mode"] = request["layout"] == "whole"
        settings |= {"text": request.get("text", ""), "language": request.get("language")}
        kind = self.model.tts_model_type
        if kind == "custom_voice":
            self.package.generate_custom_voice(speaker=request.get("speaker"), instruct=request.get("instruct"), **settings)
        elif kind == "voice_design":
            self.package.generate_voice_design(instruct=request["instruct"], **settings)
        else:
            if "ref_audio" in request:
                self.package.generate_voice_clone(voice_clone_prompt=self.heard(request), **settings)
                return
            codes = request.get("ref_codes")
            item = VoiceClonePromptItem(
                ref_code=torch.tensor(codes) if codes else None,
                ref_spk_embedding=torch.tensor(request["speaker_vector"], dtype=torch.float32),
                x_vector_only_mode=codes is None, icl_mode=codes is not None, ref_text=request.get("ref_text"),
            )
            self.package.generate_voice_clone(voice_clone_prompt=[item], **settings)

    def heard(self, request):
        """What the official package makes of a recording."""
        return self.package.create_voice_clone_prompt(
            ref_audio=str(HERE / "audio" / request["ref_audio"]), ref_text=request.get("ref_text"),
            x_vector_only_mode=request.get("xvec_only", False),
        )

    def reference(self, request):
        """The codes that stand before the utterance's own, if any."""
        if "ref_audio" in request:
            code = self.heard(request)[0].ref_code
            return None if code is None else code.tolist()
        return request.get("ref_codes")

    def decode(self, request, frames, dtype=torch.float64):
        """One pass of the official decoder; after a reference, its samples are cut."""
        reference = self.reference(request) or []
        codes = torch.tensor(reference + frames).T[None]
        with torch.inference_mode():
            samples = self.codec.to(dtype)(codes)[0, 0]
        self.codec.float()
        return samples[len(reference) * SAMPLES_PER_FRAME:].float().numpy()


def save_json(path, value):
    """Compact, but a line for each of the outer fields."""
    lines = [f"{json.dumps(name)}: {json.dumps(content, ensure_ascii=False, separators=(',', ':'))}" for name, content in value.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def record_case(official, name, checkpoint, seed, request, folder, wav=None, logits_steps=(), predictor_frames=()):
    """Writes <name>.json and its arrays. wav: the codec's dtype, if the waveform is wanted."""
    request = dict(request)
    if request.get("uniforms") == "drawn":
        for attempt in itertools.count():
            random = np.random.default_rng([zlib.crc32(name.encode()), attempt])
            tokens = len(request["forced_frames"]) + 1 if "forced_frames" in request else request["max_new_tokens"]
            uniforms = [round(float(u), 6) for u in random.random(GROUPS * tokens)]
            output, watch, seen = official.run(request, uniforms)
            if min(map(min, watch.margins)) > 1e-5:  # else rounding may draw another code, and the rest would say nothing
                break
        request["uniforms"] = uniforms[: watch.drawn]
    else:
        output, watch, seen = official.run(request)
    logits_steps = [step for step in logits_steps if step < len(watch.raw)]
    predictor_frames = [frame for frame in predictor_frames if frame < len(output["frames"])]
    arrays = {}
    if wav:
        samples = official.decode(request, request.get("forced_frames") or output["frames"], wav)
        assert len(samples) == output["samples"]
        arrays["wav"] = samples
    if logits_steps:
        arrays["talker_logits"] = np.stack([watch.raw[step][0] for step in logits_steps])
        arrays["talker_hidden"] = seen["hidden"][logits_steps]
    if predictor_frames:
        arrays["predictor_logits"] = np.stack([np.stack(watch.raw[frame][1:]) for frame in predictor_frames])
    files = {}
    for array, content in arrays.items():
        files[array] = f"{name}.{array}.npy"
        np.save(folder / files[array], content.astype("<f4"))
    lists = {"logits_steps": logits_steps} if logits_steps else {}
    lists |= {"predictor_frames": predictor_frames} if predictor_frames else {}
    recorded = {"talker": "f32"} | ({"codec": {torch.float64: "f64", torch.float32: "f32"}[wav]} if wav else {})
    save_json(
        folder / f"{name}.json",
        {"checkpoint": checkpoint, "seed": seed, "request": request} | output | files | lists | {"recorded_in": recorded},
    )
    return output


def tiny(prefix):
    """All cases, or those whose name begins so, leaving the others as they are."""
    seeded.list_kinds()
    write_clips()
    folder = HERE / "cases"
    if not prefix:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    cases = [case for case in material.cases() if case[0].startswith(prefix)]
    sums = {}
    for kind, seed in sorted({case[1:3] for case in cases}):
        with tempfile.TemporaryDirectory() as checkpoint:
            sums[f"{kind}-{seed}"] = seeded.make(kind, seed, checkpoint)
            official = Official(checkpoint)
            for name, *_, request, more in (case for case in cases if case[1:3] == (kind, seed)):
                begin = time.monotonic()
                more = more | ({"wav": torch.float64} if more.get("wav") else {})
                output = record_case(official, name, kind, seed, request, folder, **more)
                codes = np.array(output["frames"])
                print(
                    f"{name}: {len(codes)} frames, {output['end']}, smallest margin {min(map(min, output['margins'])):.2g}, "
                    f"{len(set(codes[:, 0]))} / {len(np.unique(codes))} different codes, {time.monotonic() - begin:.1f} s", flush=True,
                )
    add_sums(sums)


def write_clips():
    folder = HERE / "audio"
    folder.mkdir(exist_ok=True)
    for name in material.CLIPS:
        with wave.open(str(folder / f"{name}.wav"), "wb") as file:
            file.setnchannels(1), file.setsampwidth(2), file.setframerate(24000)
            file.writeframes(material.clip(name).tobytes())
    # The short clip in the other formats as libsndfile writes them, one in stereo, two at 48 kHz.
    short = material.clip("short")
    soundfile.write(folder / "short.flac", np.stack([short, short], axis=1), 24000, "PCM_16")
    twice = librosa.resample(short.astype(np.float32) / 32768, orig_sr=24000, target_sr=48000)
    soundfile.write(folder / "short.ogg", twice, 48000, "VORBIS")
    soundfile.write(folder / "short.mp3", twice, 48000)


class Distances:
    """Stands in the codec encoder's codebooks: notes how far each vector was from having another nearest row.

    That is its distance to the plane between the two nearest rows, in f64, over the vector's own length."""

    def __enter__(self):
        self.original, self.margins = MimiEuclideanCodebook.quantize, []
        watch = self

        def quantize(book, hidden):
            x, rows = hidden.double(), book.embed.double()
            apart = torch.cdist(x[None], rows[None], compute_mode="donot_use_mm_for_euclid_dist")[0]
            (near, second), (i, j) = (part.T for part in apart.topk(2, largest=False))
            between = (rows[i] - rows[j]).norm(dim=-1).clamp(min=1e-30)
            watch.margins.append(((second**2 - near**2) / (2 * between) / x.norm(dim=-1).clamp(min=1e-30)).tolist())
            return watch.original(book, hidden)

        MimiEuclideanCodebook.quantize = quantize
        return self

    def __exit__(self, *_):
        MimiEuclideanCodebook.quantize = self.original


def hear_clips(official, kind, seed):
    """What the official encoders make of each clip."""
    recorded = []
    for name, samples in material.CLIPS.items():
        with Distances() as distances:
            (item,) = official.heard({"ref_audio": f"{name}.wav", "ref_text": "-"})
        codes = item.ref_code.tolist()
        assert len(codes) == -(-samples // SAMPLES_PER_FRAME)
        # The order of the calls: the semantic table, then the acoustic ones, of which the first 15 count.
        margins = np.array(distances.margins[:GROUPS]).T[: len(codes)]
        recorded.append({
            "checkpoint": kind, "seed": seed, "audio": f"{name}.wav", "codes": codes,
            "margins": [[float(f"{margin:.4g}") for margin in row] for row in margins],
            "speaker_vector": [float(x) for x in item.ref_spk_embedding],
        })
        print(
            f"{kind} {name}: {len(codes)} frames, {len(np.unique(codes))} different codes, smallest margin {margins.min():.2g}", flush=True
        )
    return recorded


def save_voices(path, recorded):
    lines = ",\n".join(json.dumps(voice, separators=(",", ":")) for voice in recorded)
    path.write_text(f"[\n{lines}\n]\n")


def voices():
    """What the official encoders make of the clips: voices.json, and the clips' mel spectrograms."""
    seeded.list_kinds()
    write_clips()
    recorded, mels = [], {}
    original_mel = modeling_qwen3_tts.mel_spectrogram

    def mel_and_note(samples, **settings):
        mel = original_mel(samples, **settings)
        mels[samples.shape[1]] = mel[0].T.numpy()
        return mel

    modeling_qwen3_tts.mel_spectrogram = mel_and_note
    for kind, seed in [("tiny-0b6-base", 1), ("tiny-1b7-base", 2)]:
        with tempfile.TemporaryDirectory() as checkpoint:
            seeded.make(kind, seed, checkpoint)
            recorded += hear_clips(Official(checkpoint), kind, seed)
    for name, samples in material.CLIPS.items():
        np.save(HERE / f"audio/{name}.mel.npy", np.ascontiguousarray(mels[samples], "<f4"))
    save_voices(HERE / "voices.json", recorded)


def add_sums(sums):
    path = HERE / "checkpoints/sha256.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    save_json(path, dict(sorted((known | sums).items())))


def full(kind, out):
    """Cases at published size and what the encoders make of the clips, beside their checkpoint, outside the tree."""
    seed, out = 1, Path(out)
    checkpoint = out / f"{kind}-{seed}"
    if not (checkpoint / "speech_tokenizer/model.safetensors").exists():
        begin = time.monotonic()
        add_sums({f"{kind}-{seed}": seeded.make(kind, seed, checkpoint)})
        print(f"made {checkpoint} in {time.monotonic() - begin:.0f} s", flush=True)
    begin = time.monotonic()
    official = Official(checkpoint)
    print(f"loaded in {time.monotonic() - begin:.0f} s", flush=True)
    begin = time.monotonic()
    save_voices(out / "voices.json", hear_clips(official, kind, seed))
    print(f"heard the clips in {time.monotonic() - begin:.0f} s", flush=True)
    for name, request in material.full_cases(kind):
        begin = time.monotonic()
        output = record_case(
            official, name, kind, seed, request, out, wav=torch.float64, logits_steps=[0, 1, 5, 9], predictor_frames=[0, 4, 9]
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{name}: {len(output['frames'])} frames, {output['end']}, {time.monotonic() - begin:.0f} s, peak {peak:.1f} GiB", flush=True)


def demo():
    folder = HERE.parents[1] / "models/demo"
    official = Official(folder)
    utterances, begin = [], time.monotonic()
    for request in material.demo_requests((folder / "sentences.txt").read_text().splitlines()):
        output, *_ = official.run(request)
        codes = np.array(output["frames"])
        assert codes.max() < 256
        utterances.append({
            "request": request, "prefill": output["prefill"], "end": output["end"], "frames": len(codes),
            "codes": base64.b64encode(codes.astype(np.uint8).tobytes()).decode(),
            "smallest_margin": min(map(min, output["margins"] + [[output["end_margin"]]])),
        })
    lines = ",\n".join(json.dumps(utterance, ensure_ascii=False, separators=(",", ":")) for utterance in utterances)
    (HERE / "demo.json").write_text(f"[\n{lines}\n]\n")
    print(f"{len(utterances)} utterances, {sum(u['frames'] for u in utterances)} frames, {time.monotonic() - begin:.0f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("tokenizer", help="tokenizer/ and tokenizer.json")
    verb = verbs.add_parser("tiny", help="the tiny checkpoints' lists and sums, and cases/")
    verb.add_argument("prefix", nargs="?", default="", help="only the cases whose name begins so; the others stay as they are")
    verbs.add_parser("voices", help="audio/ and voices.json: recordings, and what the official encoders make of them")
    verb = verbs.add_parser("full", help="cases and voices at published size")
    verb.add_argument("kind", choices=["full-0b6-base", "full-1b7-base"])
    verb.add_argument("out", type=Path, help="a folder outside the tree; the checkpoint is made in it")
    verbs.add_parser("demo", help="demo.json, the codes of models/demo")
    arguments = parser.parse_args()
    torch.set_num_threads(2 if arguments.verb == "full" else 1)  # small tensors gain nothing from a second thread
    if arguments.verb == "full":
        full(arguments.kind, arguments.out)
    elif arguments.verb == "tiny":
        tiny(arguments.prefix)
    else:
        {"tokenizer": tokenizer, "voices": voices, "demo": demo}[arguments.verb]()


if __name__ == "__main__":
    main()
