"""Seeded checkpoints: names and shapes from the official classes, values from a hash. README.md has the recipe in words.

`list_kinds()` decides everything once and writes checkpoints/<kind>.json; `make()` turns such a file into a folder, as does
tests/support/checkpoint.rs, to the byte. `python3 seeded.py KIND SEED FOLDER` does that alone, and needs only numpy.
"""

import copy
import hashlib
import json
import math
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
GOLDEN_RATIO = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1
CHUNK = 1 << 20  # values that one thread makes at a time

LANGUAGES = {
    "english": 2050, "german": 2053, "spanish": 2054, "chinese": 2055, "japanese": 2058, "french": 2061, "korean": 2064,
    "russian": 2069, "italian": 2070, "portuguese": 2071,
}
DIALECTS = {"sichuan_dialect": 2062, "beijing_dialect": 2074}
SPEAKERS = {
    "vivian": 3065, "serena": 3066, "uncle_fu": 3010, "ryan": 3061, "aiden": 2861, "ono_anna": 2873, "sohee": 2864,
    "eric": 2875, "dylan": 2878,
}
CONTROLS = {
    "codec_pad_id": 2148, "codec_bos_id": 2149, "codec_eos_token_id": 2150, "codec_think_id": 2154, "codec_nothink_id": 2155,
    "codec_think_bos_id": 2156, "codec_think_eos_id": 2157,
}


# ---- configs

def attention(hidden, intermediate, layers, heads, kv_heads, head_dim):
    return {
        "hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": head_dim, "hidden_act": "silu", "attention_bias": False,
        "attention_dropout": 0, "initializer_range": 0.02, "rms_norm_eps": 1e-06, "rope_theta": 1000000, "use_cache": True,
        "use_sliding_window": False, "sliding_window": None, "num_code_groups": 16,
    }


def model_config(size, model_type, codes, talker, predictor, text_hidden, text_entries, base_entries, assistant, mrope, speaker):
    """config.json in the published layout, control ids moved from 2048 up to the end of the codes."""
    moved = lambda ids: {name: i - 2048 + codes for name, i in ids.items()}
    custom = model_type == "custom_voice"
    predictor = attention(**predictor) | {
        "vocab_size": codes, "rope_scaling": None, "max_position_embeddings": 65536, "max_window_layers": 28,
        "layer_types": ["full_attention"] * predictor["layers"], "tie_word_embeddings": False,
        "model_type": "qwen3_tts_talker_code_predictor",
    }
    talker = attention(**talker) | moved(CONTROLS) | {
        "vocab_size": codes + 1024, "text_vocab_size": text_entries, "text_hidden_size": text_hidden,
        "max_position_embeddings": 32768, "position_id_per_seconds": 13, "model_type": "qwen3_tts_talker",
        "rope_scaling": {"interleaved": True, "mrope_section": mrope, "rope_type": "default", "type": "default"},
        "codec_language_id": moved(LANGUAGES | (DIALECTS if custom else {})),
        "spk_id": moved(SPEAKERS) if custom else {},
        "spk_is_dialect": {
            name: {"eric": "sichuan_dialect", "dylan": "beijing_dialect"}.get(name, False) for name in SPEAKERS
        } if custom else {},
        "code_predictor_config": predictor,
    }
    added = lambda place: base_entries + place
    config = {
        "architectures": ["Qwen3TTSForConditionalGeneration"], "model_type": "qwen3_tts",
        "tokenizer_type": "qwen3_tts_tokenizer_12hz", "tts_model_size": size, "tts_model_type": model_type,
        "im_start_token_id": added(1), "im_end_token_id": added(2), "assistant_token_id": assistant,
        "tts_pad_token_id": added(28), "tts_bos_token_id": added(29), "tts_eos_token_id": added(30),
        "talker_config": talker, "transformers_version": "4.57.3",
    }
    if model_type == "base":
        config["speaker_encoder_config"] = speaker | {"enc_dim": talker["hidden_size"], "sample_rate": 24000}
    return config


def codec_config(decoder, encoder):
    """speech_tokenizer/config.json: the published one with other widths."""
    published_decoder = {
        "latent_dim": 1024, "codebook_dim": 512, "codebook_size": 2048, "hidden_size": 512, "intermediate_size": 1024,
        "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 64, "num_hidden_layers": 8, "sliding_window": 72,
        "decoder_dim": 1536, "attention_bias": False, "attention_dropout": 0.0, "hidden_act": "silu",
        "layer_scale_initial_scale": 0.01, "max_position_embeddings": 8000, "num_quantizers": 16, "num_semantic_quantizers": 1,
        "rms_norm_eps": 1e-05, "rope_theta": 10000, "semantic_codebook_size": 4096, "upsample_rates": [8, 5, 4, 3],
        "upsampling_ratios": [2, 2], "vector_quantization_hidden_dimension": 512,
    }
    published_encoder = {
        "hidden_size": 512, "num_filters": 64, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 8,
        "head_dim": 64, "intermediate_size": 2048, "codebook_dim": 256, "codebook_size": 2048,
        "vector_quantization_hidden_dimension": 256, "num_quantizers": 32, "num_semantic_quantizers": 1, "upsample_groups": 512,
        "_frame_rate": 12.5, "attention_bias": False, "attention_dropout": 0.0, "audio_channels": 1, "compress": 2,
        "dilation_growth_rate": 2, "dtype": "float32", "hidden_act": "gelu", "initializer_range": 0.02, "kernel_size": 7,
        "last_kernel_size": 3, "layer_scale_initial_scale": 0.01, "max_position_embeddings": 8000, "norm_eps": 1e-05,
        "normalize": False, "num_residual_layers": 1, "pad_mode": "constant", "residual_kernel_size": 3, "rope_theta": 10000.0,
        "sampling_rate": 24000, "sliding_window": 250, "trim_right_ratio": 1.0, "upsampling_ratios": [8, 6, 5, 4],
        "use_cache": False, "use_causal_conv": True, "use_conv_shortcut": False, "use_streaming": False, "model_type": "mimi",
    }
    return {
        "architectures": ["Qwen3TTSTokenizerV2Model"], "model_type": "qwen3_tts_tokenizer_12hz",
        "encoder_valid_num_quantizers": 16, "input_sample_rate": 24000, "output_sample_rate": 24000,
        "decode_upsample_rate": 1920, "encode_downsample_rate": 1920,
        "decoder_config": published_decoder | decoder, "encoder_config": published_encoder | encoder,
        "transformers_version": "4.57.3",
    }


GENERATION = {
    "do_sample": True, "repetition_penalty": 1.05, "temperature": 0.9, "top_p": 1.0, "top_k": 50, "subtalker_dosample": True,
    "subtalker_temperature": 0.9, "subtalker_top_p": 1.0, "subtalker_top_k": 50, "max_new_tokens": 8192,
}
TEXT_PROCESSOR = {
    "padding_side": "left", "padding_value": 0.0, "processor_class": "Qwen3TTSProcessor", "return_attention_mask": True,
}
SOUND_PROCESSOR = {
    "chunk_length_s": None, "feature_extractor_type": "EncodecFeatureExtractor", "feature_size": 1, "overlap": None,
    "padding_side": "right", "padding_value": 0.0, "return_attention_mask": True, "sampling_rate": 24000,
}


def kinds():
    """kind -> (config, codec config, entries of the base vocabulary)"""
    vocabulary = json.loads((HERE / "tokenizer/vocab.json").read_text())
    entries = len(vocabulary)
    codes = 64
    # Every relation of the published sizes that code could silently assume away is broken here: hidden is never heads x
    # head_dim, the text width is neither, and the codec's window is shorter than a case.
    predictor = {"hidden": 48, "intermediate": 96, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 16}
    tiny_talker = {"0b6": predictor | {"layers": 3}, "1b7": predictor | {"hidden": 80, "intermediate": 144, "layers": 3}}
    tiny_codec = codec_config(
        {
            "latent_dim": 48, "codebook_dim": 32, "codebook_size": codes, "hidden_size": 32, "intermediate_size": 80,
            "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16, "num_hidden_layers": 2, "sliding_window": 6,
            "decoder_dim": 64, "vector_quantization_hidden_dimension": 32,
        },
        {
            "hidden_size": 32, "num_filters": 4, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
            "head_dim": 8, "intermediate_size": 64, "codebook_dim": 16, "codebook_size": codes,
            "vector_quantization_hidden_dimension": 16, "num_quantizers": 20, "upsample_groups": 32,
        },
    )
    tiny_speaker = {
        "enc_channels": [32, 32, 32, 32, 96], "enc_attention_channels": 16, "enc_se_channels": 16,
    }
    tiny = lambda size, model_type: (
        model_config(
            size, model_type, codes, tiny_talker[size], predictor, text_hidden=56, text_entries=-(-(entries + 33) // 64) * 64,
            base_entries=entries, assistant=vocabulary["assistant"], mrope=[4, 2, 2], speaker=tiny_speaker,
        ),
        tiny_codec,
        entries,
    )
    full_predictor = {"hidden": 1024, "intermediate": 3072, "layers": 5, "heads": 16, "kv_heads": 8, "head_dim": 128}
    full_talker = {
        "0b6": full_predictor | {"layers": 28},
        "1b7": full_predictor | {"hidden": 2048, "intermediate": 6144, "layers": 28},
    }
    full = lambda size: (
        model_config(
            size, "base", 2048, full_talker[size], full_predictor, text_hidden=2048, text_entries=151936,
            base_entries=151643, assistant=77091, mrope=[24, 20, 20], speaker={},
        ),
        codec_config({}, {}),
        151643,
    )
    return {
        "tiny-0b6-base": tiny("0b6", "base"), "tiny-0b6-custom": tiny("0b6", "custom_voice"),
        "tiny-1b7-base": tiny("1b7", "base"), "tiny-1b7-custom": tiny("1b7", "custom_voice"),
        "tiny-1b7-design": tiny("1b7", "voice_design"),
        "full-0b6-base": full("0b6"), "full-1b7-base": full("1b7"),
    }


# ---- the list of a kind's tensors

def official_shapes(config, codec):
    """Names and shapes of both files, read from the official classes without allocating a weight."""
    import torch
    from qwen_tts.core.models import Qwen3TTSConfig, Qwen3TTSForConditionalGeneration
    from qwen_tts.core.tokenizer_12hz.configuration_qwen3_tts_tokenizer_v2 import Qwen3TTSTokenizerV2Config
    from qwen_tts.core.tokenizer_12hz.modeling_qwen3_tts_tokenizer_v2 import Qwen3TTSTokenizerV2Model

    with torch.device("meta"):
        models = [
            Qwen3TTSForConditionalGeneration(Qwen3TTSConfig(**copy.deepcopy(config))),
            Qwen3TTSTokenizerV2Model(Qwen3TTSTokenizerV2Config(**copy.deepcopy(codec))),
        ]
    return [{name: list(tensor.shape) for name, tensor in model.state_dict().items()} for model in models]


def recipe(name, shape, config):
    """A tensor's fill and numbers: scales at which greedy choices neither collapse nor run for ever."""
    def normal(scale, offset=0.0, **more):
        # Few digits, so that every JSON reader gets the same f64.
        return {"fill": "normal", "scale": float(f"{scale:.6g}"), "offset": offset} | more

    last = name.rsplit(".", 1)[-1]
    stage = re.search(r"layers\.(\d+)\.", name)
    if last == "cluster_usage":
        return {"fill": "usage", "scale": 1.0, "offset": 0.0}
    if last in ("embedding_sum", "embed_sum"):
        first = "rvq_first" in name or "semantic" in name
        scale = 0.75 ** (0 if first else int(stage[1]) + 1) * (3 if last == "embed_sum" else 1)
        return normal(scale) | {"fill": "sum", "usage": name.replace(last, "cluster_usage")}
    if last == "initialized":
        return normal(0.0, 1.0)
    if re.search(r"\.[qk]_norm\.weight$", name):
        return normal(0.15, 1.5)
    if re.search(r"norm\.weight$", name):
        return normal(0.1, 1.0)
    if last in ("alpha", "beta"):
        return normal(0.3)
    if last == "gamma" or name.endswith("layer_scale.scale"):
        return normal(0.05, 0.3)
    if last == "bias":
        return normal(0.05)
    if "embedding" in name:
        return normal(0.3 if "code_predictor" in name else 0.5)

    fan_in = math.prod(shape[1:])
    transposed = re.fullmatch(r"decoder\.(upsample\.\d\.0|decoder\.\d\.block\.1)\.conv\.weight", name)
    if transposed:  # [in, out, k], and an output meets one tap of an upsampling kernel k = stride, else two
        fan_in = shape[0] * (1 if "upsample" in name else 2)
    unit = 1 / math.sqrt(fan_in)
    if name == "talker.codec_head.weight":
        eos = config["talker_config"]["codec_eos_token_id"]
        return normal(2.5 * unit, row=eos, row_scale=float(f"{2.5 * 1.15 * unit:.6g}"))
    gain = 1.0
    if ".lm_head." in name:
        gain = 2.5
    elif re.fullmatch(r"decoder\.decoder\.\d\.block\.[234]\.conv2\.conv\.weight", name):
        gain = 0.4
    elif name == "decoder.decoder.6.conv.weight":
        gain = 0.05
    elif name == "encoder.encoder.layers.0.conv.weight":
        gain = 3.0
    elif name.startswith("encoder."):
        gain = 1.3
    elif name == "speaker_encoder.fc.weight":
        gain = 0.15
    elif name.startswith("speaker_encoder."):
        gain = 1.2
    return normal(gain * unit)


def list_kinds():
    for kind, (config, codec, entries) in kinds().items():
        model, speech_tokenizer = official_shapes(config, codec)
        tensors = {"model.safetensors": ("BF16", model), "speech_tokenizer/model.safetensors": ("F32", speech_tokenizer)}
        files = {
            "config.json": config, "generation_config.json": GENERATION, "preprocessor_config.json": TEXT_PROCESSOR,
            "speech_tokenizer/config.json": codec, "speech_tokenizer/preprocessor_config.json": SOUND_PROCESSOR,
        }
        # A line a tensor: small enough to read, and to see in a diff.
        lines = [f'{{\n"files": {json.dumps(files, indent=1)},\n"base_entries": {entries},\n"tensors": {{\n']
        for place, (file, (dtype, shapes)) in enumerate(tensors.items()):
            lines.append(("" if place == 0 else ",\n") + f'"{file}": [\n')
            lines.append(",\n".join(
                json.dumps({"name": name, "shape": shapes[name], "dtype": dtype} | recipe(name, shapes[name], config))
                for name in sorted(shapes)
            ))
            lines.append("\n]")
        lines.append("\n}\n}\n")
        (HERE / "checkpoints").mkdir(exist_ok=True)
        (HERE / f"checkpoints/{kind}.json").write_text("".join(lines))


# ---- bytes

def splitmix64(x):
    """x: uint64 array. numpy's unsigned arithmetic wraps."""
    x = x + np.uint64(GOLDEN_RATIO)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hashes(name, seed, begin, end):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 & MASK
    h ^= seed * GOLDEN_RATIO & MASK
    return splitmix64(np.arange(begin, end, dtype=np.uint64) + np.uint64(h))


def unit_normal(x):
    lanes = x.view(np.uint16).reshape(-1, 4).astype(np.int64)
    return (lanes.sum(axis=1) - 131070) / 37837.2


def usages(name, seed, rows):
    x = hashes(name, seed, 0, rows)
    u = (x >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.where(x & np.uint64(63) == 0, 1e-7, u).astype(np.float32)


def values(tensor, seed, begin, end):
    """Values [begin, end) of a tensor, row after row, in f32."""
    if tensor["fill"] == "usage":
        return usages(tensor["name"], seed, tensor["shape"][0])[begin:end]
    z = unit_normal(hashes(tensor["name"], seed, begin, end))
    row_length = math.prod(tensor["shape"][1:])
    rows = np.arange(begin, end) // row_length
    if tensor["fill"] == "sum":
        usage = usages(tensor["usage"], seed, tensor["shape"][0]).astype(np.float64)
        return (tensor["scale"] * z * usage[rows]).astype(np.float32)
    scale = tensor["scale"]
    if "row" in tensor:
        scale = np.where(rows == tensor["row"], tensor["row_scale"], scale)
    return (tensor["offset"] + scale * z).astype(np.float32)


def bf16(x):
    bits = x.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)).astype("<u2")


def write_safetensors(path, tensors, seed):
    """Returns the sha256 of the payload."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for tensor in tensors:
        size = math.prod(tensor["shape"]) * (2 if tensor["dtype"] == "BF16" else 4)
        header[tensor["name"]] = {"dtype": tensor["dtype"], "shape": tensor["shape"], "data_offsets": [offset, offset + size]}
        offset += size
    header = json.dumps(header, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)

    def data(chunk):
        tensor, begin, end = chunk
        x = values(tensor, seed, begin, end)
        return (bf16(x) if tensor["dtype"] == "BF16" else x.astype("<f4")).tobytes()

    chunks = []
    for tensor in tensors:
        count = math.prod(tensor["shape"])
        chunks += [(tensor, begin, min(begin + CHUNK, count)) for begin in range(0, count, CHUNK)]
    digest = hashlib.sha256()
    with open(path, "wb") as file, ThreadPoolExecutor(os.cpu_count()) as threads:
        file.write(len(header).to_bytes(8, "little") + header)
        # A few chunks for each thread at a time: all at once would be the whole file in memory.
        for held in range(0, len(chunks), 4 * os.cpu_count()):
            for bytes in threads.map(data, chunks[held : held + 4 * os.cpu_count()]):
                digest.update(bytes)
                file.write(bytes)
    return digest.hexdigest()


def write_tokenizer(folder, base_entries, assistant):
    """The shared small tokenizer. Where the vocabulary must be larger, unused entries fill it up and `assistant` moves."""
    vocabulary = json.loads((HERE / "tokenizer/vocab.json").read_text())
    settings = json.loads((HERE / "tokenizer/tokenizer_config.json").read_text())
    vocabulary["assistant"] = assistant
    taken = set(vocabulary.values())
    vocabulary |= {f"unused {i}": i for i in range(base_entries) if i not in taken}
    added = settings["added_tokens_decoder"].values()
    settings["added_tokens_decoder"] = {str(base_entries + i): token for i, token in enumerate(added)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "merges.txt").write_bytes((HERE / "tokenizer/merges.txt").read_bytes())


def write_files(description, folder):
    """All but the weights."""
    (folder / "speech_tokenizer").mkdir(parents=True, exist_ok=True)
    for file, content in description["files"].items():
        (folder / file).write_text(json.dumps(content, indent=2))
    write_tokenizer(folder, description["base_entries"], description["files"]["config.json"]["assistant_token_id"])


def make(kind, seed, folder):
    """Makes the checkpoint folder; returns {file: sha256 of its payload}."""
    folder = Path(folder)
    description = json.loads((HERE / f"checkpoints/{kind}.json").read_text())
    write_files(description, folder)
    return {file: write_safetensors(folder / file, tensors, seed) for file, tensors in description["tensors"].items()}


if __name__ == "__main__":
    kind, seed, folder = sys.argv[1:]
    print(json.dumps(make(kind, int(seed), folder)))
