"""What is recorded: the strings and the requests. How it is recorded stands in record.py."""

import itertools
import math
import zlib

import numpy as np

ADDED_TOKENS = (
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> "
    "<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> "
    "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|> "
    "<tool_response> </tool_response> <think> </think> <|audio_start|> <|audio_end|> <tts_pad> <tts_text_bos> "
    "<tts_text_eod> <tts_text_bos_single> <|audio_pad|>"
).split()

# Published as `"special": false`; it does not change how they are matched.
PLAIN_ADDED_TOKENS = ADDED_TOKENS[14:26]

PROSE = [
    "Hello.",
    "Hello, world!",
    "The quick brown fox jumps over the lazy dog.",
    "She sells sea shells by the sea shore; the shells she sells are surely seashells.",
    "Good morning! How are you today? I'm fine, thanks.",
    "It was the best of times, it was the worst of times...",
    "\"Quoted,\" she said -- 'and nested' (in brackets) [and more] {and more}.",
    "Wait… what?! No—really – yes-no.",
    "Dr. Smith's e-mail is a.b@example.com, see https://example.com/a/b?c=d&e=f#g.",
    "我叫通义千问，是阿里云的开源大模型。",
    "今天天气怎么样？我们去公园散步吧！",
    "「こんにちは」、世界。カタカナとひらがな、漢字。ｶﾀｶﾅ",
    "안녕하세요, 만나서 반갑습니다. 오늘 날씨가 좋네요.",
    "Guten Morgen! Übermäßig große Äpfel kosten 3,50 €. Straße, STRASSE, ẞ.",
    "¿Dónde está la biblioteca? ¡Mañana será otro día, señor!",
    "L'été, c'est l'âge d'or; où êtes-vous, Noël? Œuvre naïve.",
    "Però perché no? È già così, più o meno.",
    "Não há razão. Ação, coração, pão, você.",
    "Привет, как дела? Съешь ещё этих мягких французских булок.",
    "สวัสดีครับ วันนี้อากาศดีมาก น้ำใจ กำลังใจ",
    "नमस्ते दुनिया, क्या हाल है? हिन्दी में लिखना।",
    "مرحبا بالعالم، كيف الحال؟ اَلْعَرَبِيَّةُ",
    "שלום עולם, מה שלומך? שָׁלוֹם",
    "Γειά σου Κόσμε, τι κάνεις; ΟΔΟΣ οδός",
    "Xin chào thế giới, hôm nay trời đẹp quá.",
    "Türkçe İstanbul ılık İ ı I i",
    "ქართული ენა ᲥᲐᲠᲗᲣᲚᲘ",
    "አማርኛ ቋንቋ ።",
    "中文English混排test，数字123和ABC。",
    "日本語とEnglishと한국어とРусский",
]

CONTRACTIONS = [
    "I'm you're he's she'd we'll they've don't",
    "I'M YOU'RE HE'S SHE'D WE'LL THEY'VE DON'T",
    "I'Ll you'rE it'S",
    "it\u2019s don\u2019t we\u2019ll",
    "'s 't 're 've 'm 'll 'd",
    "''s '' 'x 'sub 'tis 'twas rock'n'roll o'clock",
    "it'\u017f and '\u017fo",  # long s folds to s under (?i)
    "\u017f \u212a '\u212a K'\u017f",
    "he'sn't y'all'd've",
    "don't.Don'T?DON't!",
]

DIGITS = [
    "0", "7", "42", "2024", "1234567890", "3.14159", "1,000,000", "1 000 000", "-5", "+7", "50%", "$9.99", "1st 2nd 3rd",
    "10:30", "2026-11-20", "192.168.0.1", "x2y3", "A1B22C333", "٣٤٥", "१२३", "①②③", "½ ¼ ⅔", "Ⅳ Ⅷ ⅻ", "x² + y³ = z⁴", "１２３ ＡＢＣ",
    "𝟏𝟐𝟑 𝔘𝔫𝔦", "五百二十", "1️⃣ 2️⃣",
]

EMOJI = [
    "😀", "😀😀", "Hi 😀!", "👍🏽 ok", "👩‍👩‍👧‍👦 family", "🏳️‍🌈", "🇩🇪🇫🇷🇯🇵", "🇩", "❤️ vs ❤", "☺︎ ☺️", "🧑🏿‍🚀🚀", "text😀text", "🫠🫥", "♪♫ la la ♪",
    "→ ← ⇒ ∀x∈ℝ", "™®©", "—–‐‑", "“curly” ‘quotes’ «guillemets»", "。，！？、；：", "・…‥",
]

COMBINING = [
    "e\u0301", "cafe\u0301", "caf\u00e9", "A\u030a ngstro\u0308m", "\u212b \u2126", "o\u0302\u0323 o\u0323\u0302",  # reordered by NFC
    "a\u0300\u0301\u0302", "\u0301start", "x\u0301y\u0301", " \u0301", "\n\u0301", "1\u0301", "q\u0307\u0323", "\u1e9b\u0323",
    "\ufb01 \ufb02 \u2460 \uff21",  # compatibility forms: NFC keeps them
    "\u0958 \u0915\u093c",  # composition exclusion
    "\u1112\u1161\u11ab\u1100\u1173\u11af", "\u1112\u1161", "\u1112", "\u1161\u11ab", "한\u11ab", "하\u11ab", "가\u1161", "ㅎㅏㄴ",
    "\u0e19\u0e49\u0e33", "\u0e01\u0e33 \u0e40\u0e01\u0e48\u0e32", "กิน ที่ ผู้", "\u0eb3 \u0e33",
    "e\u200d\u0301", "\u2003\u0301", "e\u034f\u0301", "\ufeffBOM", "zero\u200bwidth\u200cjoin\u200d", "soft\u00adhyphen",
    "i\u0307 I\u0307", "\u01c5\u01c8\u01cb Dž", "ʰʲʷ ªº", "\u1ffb \u03ce\u03c9\u0301", "\u05e9\u05c1\u05b8", "ก\u0301", "漢\u0301字",
]

WHITE_SPACE = [
    "", " ", "  ", "   ", "\t", "\t\t", " \t ", "\n", "\n\n", "\n\n\n", " \n", "\n ", " \n \n ", "\r\n", "\r\n\r\n", "\r", "\n\r",
    "\u00a0", "\u3000", "\u2028", "\u0085", "\x0b", "\x0c", "\x1c", "\u180e", "\u200b",
    "a b", "a  b", "a   b", "a    b", " a", "  a", "a ", "a  ", "a   ", "a\tb", "a\t\tb", "a \tb", "a\t b", "\ta", "a\t",
    "a\nb", "a\n\nb", "a \nb", "a\n b", "a  \n  b", "a\r\nb", "a\r\n\r\nb", "a\rb", "\na", "\n\na", "\r\na", " \na", "\n a", "a\n", "a\n\n", "a\r\n", "a \n",
    "a\u00a0b", "a \u00a0b", "a\u00a0 b", "a\u3000b", "a\u3000 b", "a\u2028b", "a\u0085b", "a\x0bb", "a\x0c b", "a\u2003\u2003b", "a\u202fb",
    ".\n", ".\n\n", ". \n", ".\n ", "!\r\n", "!\n\nA", "?  \n  A", "...\n...", "。\n\n「", "a.\n\n\nb", "1\n2\n3", "  \n\n  ", "\n\n \n\n", "\n\tx", "\t\nx",
    "  1", " 1", "1  ", "  .", "  。", "  中", " 中", "  😀", "  'm", " 's", "  \u0301a",
]

CODE = [
    "iPhone", "getUserById", "XMLHttpRequest", "camelCaseString PascalCase snake_case SCREAMING_CASE kebab-case", "McDonald's MacBook eBay",
    "HTTPServer2Go", "aB", "Ab", "AB", "aBC", "ABc", "abcABCabc", "ÀÉÎ àÉî ÉCOLE École", "ΑΒγδ ΑΒ", "ДОМ дОм Дом", "ǅungla", "ʼn",
    "and/or", "a/b/c", "./run.sh", "path/to/file.txt", "C:\\dir\\file", "http://", "//comment", "/", "//", "./\n", "/\n/", ".//\r\n",
    "def f(x):\n    return x + 1\n", "if (a && b) { c(); }\n\n\t// done\n", "for i in range(10):\n\tprint(i)", "x = {'a': [1, 2], \"b\": None}",
    "SELECT * FROM t WHERE a >= 10;", "<html><body class=\"x\">&nbsp;</body></html>", "a->b::c!=d==e", "$VAR ${VAR} `cmd`", "#tag @user *bold* _it_ ~~x~~",
    "\\n is not a newline", "\x00\x01\x7f", "\ud7ff \ue000 \ufffd", "\U0001f9ff\U000e0041",
]

NEAR_CONTROLS = [
    "<|im_start", "<|im_end|", "<im_start>", "< |im_start|>", "<|IM_START|>", "<|im_start|\n>", "<<|im_end|>>", "tts_pad", "<tts_pad", "<tts_text_bos",
    "<think", "</think", "<tts_text_bos_singl", "assistant", "assistant\n", "assistants", " assistant", "Assistant",
]


def strings():
    """Every text of the tokenizer goldens, in order and each once."""
    texts = list(
        itertools.chain(PROSE, CONTRACTIONS, DIGITS, EMOJI, COMBINING, WHITE_SPACE, CODE, NEAR_CONTROLS)
    )
    for i, token in enumerate(ADDED_TOKENS):
        # In turn: alone, between words, between spaces, beside newlines, doubled.
        texts.append([token, f"a{token}b", f"say {token} now", f"one\n{token}\ntwo", f"{token}{token}é"][i % 5])
    texts += [
        "<|im_start|>user\nignore this<|im_end|>\n<|im_start|>assistant\n",
        "<tts_text_bos_single><tts_text_bos><tts_text_eod>",
        "e<tts_pad>\u0301",  # no composition across a control
        "it'<|im_end|>s",
        "  <think>  </think>  ",
        "<|im_end|>\n\nand on",
    ]
    return list(dict.fromkeys(texts))


def corpus():
    """What the small tokenizer is trained on. Repeats give the pieces that other choices depend on their merges."""
    without_controls = [text for text in strings() if not any(token in text for token in ADDED_TOKENS)]
    return without_controls + PROSE * 4 + ["assistant\n", "user\n", "\n\n", "\n\n\n", "\r\n", "assistant", "user"] * 20


# ---- requests: (name, checkpoint, seed, R.json, what to record beside the codes)

SAMPLED = {"uniforms": "drawn"}  # record.py puts the numbers in
HOT = {"temperature": 1.3, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.2}
HOT |= {"subtalker_temperature": 1.1, "subtalker_top_k": 12, "subtalker_top_p": 0.7}
WARM = {"temperature": 0.6, "top_k": 5, "top_p": 0.95, "repetition_penalty": 1.0}
WARM |= {"subtalker_temperature": 0.8, "subtalker_top_k": 60, "subtalker_top_p": 0.9}
NO_CUTS = {"temperature": 1.0, "top_k": 0, "subtalker_temperature": 1.0, "subtalker_top_k": 0}
ALL = {"wav": True, "logits_steps": [0, 1, 5], "predictor_frames": [0, 2]}


def speaker_vector(width, seed):
    return [round(math.sin(1.7 * i + seed) * (0.2 + (i * 7 + seed) % 5 / 5), 4) for i in range(width)]


def reference_codes(frames, seed):
    return [[(frame * 29 + group * 11 + frame * group + seed * 17) % 64 for group in range(16)] for frame in range(frames)]


# ---- recordings

# Samples: under a second, and an odd number of half frames; no whole number of frames; 30 frames to the sample.
CLIPS = {"short": 15433, "middle": 36000, "long": 57600}


def clip(name):
    """16-bit samples at 24 kHz, somewhat like a voice: gliding harmonics under moving formants, breath, and a pause of zeros."""
    count = CLIPS[name]
    random = np.random.default_rng(zlib.crc32(name.encode()))
    t = np.arange(count) / 24000
    pitch = 110 + 40 * len(name) / 6 + 25 * np.sin(2 * np.pi * 0.9 * t + len(name)) - 12 * t
    phase = 2 * np.pi * np.cumsum(pitch) / 24000
    formants = [(500 + 250 * np.sin(2 * np.pi * 1.7 * t), 120), (1500 + 500 * np.sin(2 * np.pi * 1.1 * t + 2), 200), (2700, 300)]
    voice = np.zeros(count)
    for harmonic in range(1, 60):
        hz = harmonic * pitch
        gain = sum(1 / (1 + ((hz - centre) / width) ** 2) for centre, width in formants)
        voice += np.where(hz < 11000, gain / harmonic**0.5, 0) * np.sin(harmonic * phase)
    breath = random.standard_normal(count)
    loud = 0.5 + 0.5 * np.sin(2 * np.pi * 3.1 * t + len(name))
    samples = 0.16 * voice * loud + 0.02 * breath * (0.3 + loud)
    samples[count // 2 : count // 2 + count // 9] = 0
    return np.clip(np.round(samples * 32767 * 0.8), -32768, 32767).astype("<i2")


def cases():
    long = "She sells sea shells by the sea shore; the shells she sells are surely seashells."
    found = []

    def case(name, checkpoint, seed, request, **more):
        request = {"max_new_tokens": 17} | request
        if "uniforms" not in request:
            request = {"greedy": True} | request
        found.append((name, f"tiny-{checkpoint}", seed, request, more))

    for size, seed in [("0b6", 1), ("0b6", 2), ("1b7", 1), ("1b7", 2)]:
        at = f"{size}-{seed}"
        custom, base = f"{size}-custom", f"{size}-base"
        everything = ALL if seed == 1 else {}
        case(f"custom-whole-{at}", custom, seed, {"text": "Hello, world!", "language": "english", "speaker": "ryan"}, **everything)
        case(f"custom-streaming-{at}", custom, seed, {"text": PROSE[4], "language": "German", "speaker": "Uncle_Fu", "layout": "streaming"})
        case(f"custom-auto-{at}", custom, seed, {"text": PROSE[10], "speaker": "serena", "layout": "streaming"} | SAMPLED)
        case(f"custom-dialect-auto-{at}", custom, seed, {"text": PROSE[28], "language": "auto", "speaker": "eric"})
        case(f"custom-dialect-chinese-{at}", custom, seed, {"text": PROSE[9], "language": "Chinese", "speaker": "dylan", "layout": "streaming"})
        case(f"custom-hot-{at}", custom, seed, {"text": PROSE[14], "language": "spanish", "speaker": "aiden"} | SAMPLED | HOT, wav=seed == 2)
        # 0b6 drops the instruction, as upstream does.
        case(f"custom-instruct-{at}", custom, seed, {"text": PROSE[0], "language": "english", "speaker": "sohee", "instruct": "Speak slowly, with joy."})

        width = {"0b6": 48, "1b7": 80}[size]
        vector = {"speaker_vector": speaker_vector(width, seed)}
        in_context = lambda frames, text: vector | {"ref_codes": reference_codes(frames, seed), "ref_text": text}
        case(f"base-vector-streaming-{at}", base, seed, {"text": PROSE[2], "language": "english"} | vector, **everything)
        case(f"base-vector-whole-{at}", base, seed, {"text": PROSE[11], "language": "japanese", "layout": "whole"} | vector)
        case(f"base-long-reference-{at}", base, seed, {"text": "Yes.", "language": "french"} | in_context(23, "Oui, oui."), **everything)
        case(f"base-short-reference-{at}", base, seed, {"text": long, "language": "auto"} | in_context(5, "Good morning!"))
        case(f"base-reference-whole-{at}", base, seed, {"text": PROSE[18], "language": "russian", "layout": "whole"} | in_context(9, PROSE[3]), wav=seed == 2)
        case(f"base-reference-warm-{at}", base, seed, {"text": PROSE[12], "language": "korean"} | in_context(7, PROSE[0]) | SAMPLED | WARM)

    for seed in (1, 2):
        design, at = "1b7-design", f"1b7-{seed}"
        instruct = "An old man, low and hoarse; he speaks in short breaths."
        case(f"design-whole-{at}", design, seed, {"text": PROSE[1], "language": "english", "instruct": instruct}, wav=seed == 1)
        case(f"design-streaming-{at}", design, seed, {"text": PROSE[16], "language": "italian", "instruct": "低沉的声音", "layout": "streaming"} | SAMPLED)
        case(f"design-no-instruct-{at}", design, seed, {"text": PROSE[17], "language": "portuguese", "instruct": ""})

    # The whole way from a recording; the codecs of both sizes differ by their seed alone.
    for size, seed in [("0b6", 1), ("1b7", 2)]:
        base, at = f"{size}-base", f"{size}-{seed}"
        heard = lambda clip, text: {"ref_audio": f"{clip}.wav", "ref_text": text}
        alone = lambda clip: {"ref_audio": f"{clip}.wav", "xvec_only": True}
        case(f"clone-in-context-{at}", base, seed, {"text": PROSE[5], "language": "english"} | heard("long", PROSE[3]), wav=True)
        case(f"clone-in-context-whole-{at}", base, seed, {"text": PROSE[6], "layout": "whole"} | heard("short", "Oh no."))
        case(f"clone-in-context-sampled-{at}", base, seed, {"text": PROSE[7], "language": "german"} | heard("middle", "Guten Tag!") | SAMPLED)
        case(f"clone-vector-{at}", base, seed, {"text": PROSE[8], "language": "auto"} | alone("middle"))
        case(f"clone-vector-whole-{at}", base, seed, {"text": PROSE[0], "language": "french", "layout": "whole"} | alone("short"))

    speak = {"language": "english", "speaker": "ryan"}
    # Mixed stages: only the sampled one takes uniforms.
    case("talker-sampled-alone", "0b6-custom", 1, speak | {"text": PROSE[1], "subtalker_dosample": False} | SAMPLED)
    case("predictor-sampled-alone", "1b7-custom", 1, speak | {"text": PROSE[1], "do_sample": False} | SAMPLED)
    case("no-cuts", "0b6-custom", 2, speak | {"text": PROSE[1]} | SAMPLED | NO_CUTS)
    case("top-k-of-one", "0b6-custom", 1, speak | {"text": PROSE[1], "top_k": 1, "subtalker_top_k": 1} | SAMPLED)
    # Texts at the edges of the template.
    case("empty-text-streaming", "0b6-custom", 1, speak | {"text": "", "layout": "streaming"})
    case("empty-text-whole", "1b7-custom", 1, speak | {"text": "", "layout": "whole"})
    case("leading-newline-streaming", "0b6-custom", 1, speak | {"text": "\nHello, world!", "layout": "streaming"})
    case("leading-newlines-whole", "1b7-custom", 2, speak | {"text": "\n\nGood morning!", "layout": "whole"})
    case("trailing-newline", "0b6-custom", 2, speak | {"text": "Hello, world!\n\n", "layout": "streaming"})
    case("one-token", "0b6-custom", 2, speak | {"text": "A", "layout": "streaming"})
    case("text-ids", "1b7-custom", 2, speak | {"text_ids": [40, 300, 1200, 5, 198, 77], "layout": "streaming"})
    case("controls-in-text", "0b6-custom", 1, speak | {"text": "one <tts_pad> two<|im_end|>", "special_tokens": True, "layout": "streaming"})
    # Ends.
    case("shortest", "0b6-custom", 1, speak | {"text": PROSE[0], "max_new_tokens": 2})
    case("forced-greedy", "0b6-custom", 2, speak | {"text": PROSE[0], "forced_frames": reference_codes(12, 3)}, **ALL)
    case("forced-sampled", "1b7-base", 2, {"text": PROSE[0], "speaker_vector": speaker_vector(80, 5), "forced_frames": reference_codes(8, 4)} | SAMPLED)
    # Long: past the codec's window and receptive field, and with a large set to penalise.
    case("long-greedy", "0b6-custom", 2, speak | {"text": PROSE[19], "layout": "streaming", "max_new_tokens": 81}, wav=True)
    case("long-sampled", "1b7-custom", 2, speak | {"text": long, "layout": "whole", "max_new_tokens": 161} | SAMPLED)
    return found


def full_cases(kind):
    """At published size: ids from all over the vocabulary, and both ways to clone."""
    width = {"full-0b6-base": 1024, "full-1b7-base": 2048}[kind]
    common = {"greedy": True, "max_new_tokens": 11, "language": "english", "speaker_vector": speaker_vector(width, 1)}
    ids = [(i * 48271 + 7) % 151643 for i in range(1, 25)]
    reference = {"ref_codes": [[(frame * 577 + group * 211 + 5) % 2048 for group in range(16)] for frame in range(8)], "ref_text": "Good morning!"}
    return [(f"{kind}-vector", common | {"text_ids": ids}), (f"{kind}-in-context", common | reference | {"text_ids": ids})]


def demo_requests(sentences):
    """The demo voice with its own generation_config.json: greedy, no penalty. A third of its sentences; all would take half an hour."""
    requests = [{"text": text, "language": "english", "speaker": "slt"} for text in sentences[::3]]
    requests += [{"text": text, "language": "english", "speaker": "rms", "layout": "streaming"} for text in sentences[1::18]]
    return requests
