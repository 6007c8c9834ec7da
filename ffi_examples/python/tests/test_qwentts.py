"""Would catch a Python package that speaks otherwise than the command line, cuts live text, hangs or crashes where a stream is
cancelled, closed or forgotten in the middle, leaks threads or descriptors, does not match qwentts.h, or a wheel that does not work.

    python3 -m unittest discover -s ffi_examples/python/tests

The library is the one that the package finds. QWENTTS_BIN names the command line (else target/release/qwentts), and
QWENTTS_TEST_DEVICE and QWENTTS_TEST_KV where it all computes (else the CPU). QWENTTS_TEST_BASE is a Base model's folder: without
it voices of recordings are not tested, which is said.
"""

import array
import asyncio
import contextlib
import gc
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import wave
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parents[1]
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

import qwentts  # noqa: E402
from qwentts import _library  # noqa: E402

DEVICE = os.environ.get("QWENTTS_TEST_DEVICE", "cpu")
KV = os.environ.get("QWENTTS_TEST_KV")
TEXT = "Good morning to you."
SHORT = "Hello."
engine = None


def setUpModule():
    global engine
    engine = qwentts.Engine(device=DEVICE, kv=KV, slots=8)


def tearDownModule():
    engine.close()


def raw(chunks):
    """The bytes of what a stream says."""
    return b"".join(bytes(memoryview(chunk).cast("B")) for chunk in chunks)


def said(text, **options):
    with engine.speak(text, **options) as stream:
        return raw(stream)


async def said_async(stream):
    return b"".join([bytes(memoryview(chunk).cast("B")) async for chunk in stream])


def soon(is_so, what):
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def text_threads():
    return [thread for thread in threading.enumerate() if thread.name == "qwentts-text"]


def held():
    """Descriptors and threads of this process."""
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


class InThread(threading.Thread):
    """Runs something in a thread; `result` is what it gave or raised."""

    def __init__(self, what):
        super().__init__()
        self._what = what
        self.result = None
        self.start()

    def run(self):
        try:
            self.result = self._what()
        except BaseException as error:
            self.result = error

    def done(self):
        self.join(10)
        assert not self.is_alive(), "it hangs"
        return self.result


@unittest.skipUnless(os.environ.get("QWENTTS_TEST_BASE"), "QWENTTS_TEST_BASE names no Base model")
class Voices(unittest.TestCase):
    def test_a_recording_speaks_and_so_does_its_file(self):
        sound = [i % 240 / 240 - 0.5 for i in range(30000)]
        said = lambda **options: [frame.tolist() for frame in base.speak(TEXT, output="frames", max_frames=12, **options)]
        with tempfile.TemporaryDirectory() as folder, qwentts.Engine(os.environ["QWENTTS_TEST_BASE"], "cpu") as base:
            ann = base.clone(sound, 24000, transcript="A few words.")
            path = Path(folder) / "ann.qvoice"
            ann.save(path)
            expected = said(voice=ann)
            self.assertGreater(len(expected), 1)
            self.assertEqual(said(voice=base.load_voice(path)), expected)
            # The same sound however it is held; the speaker alone is another voice.
            self.assertEqual(said(voice=base.clone(array.array("f", sound), 24000, "A few words.")), expected)
            self.assertNotEqual(said(voice=base.clone(sound, 24000)), expected)
            for error, words, call in [
                (qwentts.InvalidArgument, "samples: ", lambda: base.clone([], 24000)),
                (qwentts.InvalidArgument, "samples: have the format 'b'", lambda: base.clone(array.array("b", [1]), 24000)),
                (TypeError, "transcript: is int", lambda: base.clone(sound, 24000, transcript=5)),
                (qwentts.NotFound, "none.qvoice", lambda: base.load_voice(Path(folder) / "none.qvoice")),
                (qwentts.BadModel, "ann.qvoice", lambda: engine.load_voice(path)),
                (qwentts.BadModel, "cloned: was made with another model", lambda: engine.speak(TEXT, voice=ann)),
            ]:
                with self.assertRaisesRegex(error, words):
                    call()


class Header(unittest.TestCase):
    def test_structs_statuses_and_entries_are_those_of_the_header(self):
        header = (ROOT / "include/qwentts.h").read_text()
        code = re.sub(r"//.*", "", header)
        number = {name: int(value) for name, value in re.findall(r"#define (QWENTTS_\w+) (-?\d+)", header)}
        self.assertEqual((number["QWENTTS_ABI_MAJOR"], number["QWENTTS_ABI_MINOR"]), (_library.ABI_MAJOR, _library.ABI_MINOR))
        self.assertEqual(number["QWENTTS_CODES_PER_FRAME"], _library.CODES_PER_FRAME)
        types = {
            "uint32_t": _library.c_uint32, "int32_t": _library.c_int32, "uint64_t": _library.c_uint64,
            "float": _library.c_float, "double": _library.c_double, "const char *": _library.c_char_p, "char": _library.c_char,
            "const qwentts_voice *": _library.c_void_p,
        }  # fmt: skip
        structs = {name: body for body, name in re.findall(r"typedef struct \{(.*?)\} (qwentts_\w+);", code, re.S)}
        ours = {"qwentts_engine_options": _library.EngineOptions, "qwentts_stream_options": _library.StreamOptions, "qwentts_event": _library.Event}
        self.assertEqual(set(structs), set(ours))
        for name, struct in ours.items():
            fields = []
            for kind, field, count in re.findall(r"(const \w+ \*|\w+ )(\w+)(?:\[(\w+)\])?;", structs[name]):
                kind = types[kind if "*" in kind else kind.strip()]
                fields.append((field, kind * number[count] if count else kind))
            self.assertEqual(fields, struct._fields_, name)
            self.assertEqual(_library.fresh(struct).struct_size, _library.ctypes.sizeof(struct))
        statuses = re.search(r"enum qwentts_status\b.*?\{(.*?)\}", code, re.S).group(1)
        statuses = {int(value) for value in re.findall(r"QWENTTS_\w+ = (-?\d+)", statuses)}
        self.assertEqual(statuses - {_library.OK, _library.AGAIN}, set(_library._FAILURES))
        for status, kind in _library._FAILURES.items():
            self.assertEqual(kind.status, status)
        entries = set(re.findall(r"\b(qwentts_\w+)\(", code))
        self.assertLessEqual(set(_library._ENTRIES), entries)
        known = {name for name, _ in _library.StreamOptions._fields_} - {"struct_size", "cloned"}
        self.assertEqual(set(qwentts.Options.__annotations__), known)

    def test_a_library_that_is_not_there_or_not_ours_is_said(self):
        def import_with(path):
            environment = {**os.environ, "QWENTTS_LIBRARY": str(path), "PYTHONPATH": str(HERE)}
            ran = subprocess.run([sys.executable, "-c", "import qwentts"], env=environment, capture_output=True, text=True)
            self.assertNotEqual(ran.returncode, 0)
            return ran.stderr.strip().splitlines()[-1]

        self.assertRegex(import_with("/nowhere/libqwentts.so"), "ImportError: /nowhere/libqwentts.so: cannot be used")
        with open("/proc/self/maps") as maps:
            libc = next(line.split()[-1] for line in maps if "libc.so" in line or "libc-" in line)
        self.assertRegex(import_with(libc), "ImportError: .*: cannot be used: .*qwentts_")


class Speech(unittest.TestCase):
    def test_it_is_that_of_the_command_line(self):
        program = os.environ.get("QWENTTS_BIN") or str(ROOT / "target/release/qwentts")
        self.assertTrue(Path(program).exists(), f"{program} is not there: cargo build --release")
        with tempfile.TemporaryDirectory() as folder:
            theirs, ours = Path(folder, "theirs.wav"), Path(folder, "ours.wav")
            where = ["--device", DEVICE] + (["--kv", KV] if KV else [])
            subprocess.run([program, "say", TEXT, "-o", theirs, "--voice", "slt", "--sample", "--seed", "7", *where], check=True, capture_output=True)
            stats = engine.say(TEXT, ours, voice="SLT", do_sample=True, subtalker_do_sample=True, seed=7)
            with wave.open(str(ours)) as file:
                self.assertEqual(file.getparams()[:4], (1, 2, 24000, stats["frames"] * 1920))
            self.assertEqual(ours.read_bytes(), theirs.read_bytes())
        self.assertEqual(stats["end"], "eos")
        file = io.BytesIO()
        engine.say(TEXT, file, voice="slt", do_sample=True, seed=8)
        self.assertNotIn(file.getvalue()[44:], (b"", ours))

    def test_the_same_seed_says_the_same_and_another_does_not(self):
        once = said(TEXT, do_sample=True, seed=3, temperature=1.0)
        self.assertEqual(once, said(TEXT, do_sample=True, seed=3, temperature=1.0))
        self.assertNotEqual(once, said(TEXT, do_sample=True, seed=4, temperature=1.0))
        self.assertNotEqual(said(TEXT, voice="slt"), said(TEXT, voice="rms"))

    def test_formats_rates_and_sizes_of_reads(self):
        floats = array.array("f", said(SHORT))
        shorts = array.array("h", said(SHORT, format="i16"))
        self.assertEqual(len(floats), len(shorts))
        self.assertLess(max(abs(a * 32767 - b) for a, b in zip(floats, shorts)), 1.0)
        self.assertEqual(len(said(SHORT, sample_rate_hz=8000)), len(floats) // 3 * 4)
        for capacity in (1000, 1920, 5001):
            with engine.speak(SHORT) as stream:
                parts = []
                while len(chunk := stream.read(capacity, timeout=10)):
                    self.assertLessEqual(len(chunk), capacity)
                    parts.append(chunk)
            self.assertEqual(raw(parts), floats.tobytes())
        with engine.speak(SHORT) as stream:
            buffer, read = array.array("f", bytes(4 * len(floats))), 0
            while n := stream.readinto(memoryview(buffer)[read:] if read < len(buffer) else bytearray(4)):
                read += n
            self.assertEqual((read, buffer), (len(floats), floats))
            self.assertEqual(stream.readinto(bytearray(4)), 0)
        with engine.speak(SHORT) as stream, self.assertRaisesRegex(TypeError, "format 'd'"):
            stream.readinto(array.array("d", [0.0] * 100))

    def test_samples_are_the_callers_own(self):
        for numpy in (None, engine._numpy):
            with mock.patch.object(engine, "_numpy", numpy), engine.speak(SHORT) as stream:
                chunk = next(stream)
                before = bytes(memoryview(chunk).cast("B"))
                for index in range(len(chunk)):
                    chunk[index] = 0
                self.assertNotEqual(before, bytes(memoryview(chunk).cast("B")))
                self.assertEqual(before + raw(stream), said(SHORT))

    @unittest.skipUnless(__import__("importlib.util").util.find_spec("numpy"), "needs numpy")
    def test_with_numpy_they_are_arrays(self):
        import numpy

        chunk = next(engine.speak(SHORT))
        self.assertEqual((type(chunk), chunk.dtype, chunk.ndim), (numpy.ndarray, numpy.float32, 1))
        buffer = numpy.empty(1920, "f4")
        with engine.speak(SHORT) as stream:
            self.assertEqual(stream.readinto(buffer), 1920)
        self.assertTrue((buffer == chunk[:1920]).all())
        self.assertEqual(next(engine.speak(SHORT, output="frames")).shape[1], 16)

    def test_frames_come_too(self):
        with engine.speak(SHORT, output="frames") as stream:
            frames = raw(stream)
        with engine.speak(SHORT, output="both") as stream:
            sound = raw(stream)
            first = stream.read_frames(1)
            self.assertEqual(memoryview(first).shape, (1, 16))
            both = raw([first]) + raw(self.frames_left(stream))
        self.assertEqual(frames, both)
        self.assertEqual(asyncio.run(said_async(engine.speak(SHORT, output="frames"))), frames)
        self.assertEqual(len(sound) // (1920 * 4), len(frames) // 32)

    def frames_left(self, stream):
        while len(frames := stream.read_frames(5)):
            yield frames

    def test_events_and_stats(self):
        with engine.speak(TEXT, layout="streaming") as stream:
            events, samples = [], 0
            for chunk in stream:
                samples += len(chunk)
                events += stream.events()
            events += stream.events()
            stats = stream.stats()
            self.assertEqual(list(stream.events()), [])
        self.assertIsInstance(events[0], qwentts.FirstSound)
        self.assertGreater(events[0].after_ms, 0)
        self.assertEqual([event.word for event in events[1:-1]], ["Good", "morning", "to", "you"])
        for word in events[1:-1]:
            self.assertEqual(TEXT.encode()[word.text_byte :][: word.text_bytes].decode(), word.word)
        places = [word.sample for word in events[1:-1]]
        self.assertEqual(places, sorted(places))
        self.assertLess(places[-1], samples)
        self.assertEqual(events[-1], qwentts.End("eos", samples // 1920))
        self.assertEqual((stats["end"], stats["frames"], stats["layout"]), ("eos", samples // 1920, "streaming"))

    def test_play_says_what_it_lacks_and_plays(self):
        with mock.patch.dict(sys.modules, sounddevice=None), self.assertRaisesRegex(qwentts.Unsupported, "sounddevice"):
            engine.play(SHORT)
        output = mock.MagicMock()
        output.RawOutputStream.return_value.__enter__.return_value.write = played = mock.Mock()
        with mock.patch.dict(sys.modules, sounddevice=output):
            engine.play(SHORT)
        self.assertEqual(b"".join(bytes(call.args[0]) for call in played.call_args_list), said(SHORT, format="i16"))


class LiveText(unittest.TestCase):
    def test_cut_anywhere_it_is_the_text_at_once(self):
        text = "A café, by the river 🙂."
        expected = said(text, layout="streaming")
        data = text.encode()
        for pieces in (
            [text],
            tuple(text),
            iter(text),
            (data[i : i + 1] for i in range(len(data))),
            ["", text[:5], "", text[5:], b""],
        ):
            self.assertEqual(said(pieces), expected)
        with engine.stream() as stream:
            for i in range(0, len(data), 3):
                stream.push(data[i : i + 3])
            stream.end()
            stream.end()
            self.assertEqual(raw(stream), expected)
            with self.assertRaises(qwentts.Error):
                stream.push("more")

    def test_it_speaks_before_the_text_has_ended(self):
        go_on = threading.Event()

        def text():
            yield "Good morning to "
            self.assertTrue(go_on.wait(10))
            yield "you."

        with engine.speak(text()) as stream:
            first = stream.read(timeout=10)
            go_on.set()
            self.assertEqual(raw([first]) + raw(stream), said(TEXT, layout="streaming"))
        with engine.stream() as stream:
            stream.push("Hello")
            with self.assertRaises(TimeoutError):
                stream.read(timeout=0.2)
            stream.flush()
            self.assertGreater(len(stream.read(timeout=10)), 0)

    def test_what_the_iterator_raises_the_reader_raises(self):
        def text():
            yield "Good morning to you, "
            raise LookupError("no more tokens")

        async def atext():
            for piece in text():
                yield piece

        with engine.speak(text()) as stream, self.assertRaisesRegex(LookupError, "no more tokens"):
            raw(stream)
        with self.assertRaisesRegex(LookupError, "no more tokens"):
            asyncio.run(said_async(engine.speak(atext())))
        with self.assertRaises(TypeError):
            engine.speak(["Hello ", 5])
        with self.assertRaises(TypeError):
            engine.speak(5)
        with engine.speak(iter(["Hello."])) as stream, self.assertRaisesRegex(qwentts.InvalidArgument, "iterator"):
            stream.push("x")
        with engine.speak(atext()) as stream, self.assertRaisesRegex(qwentts.InvalidArgument, "async for"):
            stream.read()

    def test_nobody_draws_on_text_that_nobody_will_say(self):
        def forever():
            while True:
                time.sleep(0.005)
                yield "and on "

        stream = engine.speak(forever(), max_frames=4)
        self.assertEqual(len(raw(stream)), 4 * 1920 * 4)
        soon(lambda: not text_threads(), "text is drawn after the end")
        for end in (lambda s: s.close(), lambda s: s.cancel(), lambda s: None):
            stream = engine.speak(forever())
            stream.read(timeout=10)
            self.assertTrue(text_threads())
            end(stream)
            del stream
            soon(lambda: not text_threads(), "text is drawn after the stream")


class Async(unittest.TestCase):
    def test_many_at_once_on_one_loop_without_a_thread(self):
        async def text(pace_s):
            for letter in TEXT:
                await asyncio.sleep(pace_s)
                yield letter

        async def main():
            before = threading.active_count()
            streams = [engine.speak(TEXT, layout="streaming"), engine.speak(text(0)), engine.speak(text(0.01))]
            sounds = asyncio.gather(*map(said_async, streams))
            await asyncio.sleep(0.05)
            self.assertEqual(threading.active_count(), before)
            return await sounds

        self.assertEqual(set(asyncio.run(main())), {said(TEXT, layout="streaming")})

    def test_a_wait_that_is_given_up_loses_nothing(self):
        async def main():
            async with engine.stream() as stream:
                with self.assertRaises(asyncio.TimeoutError):
                    await asyncio.wait_for(stream.aread(), 0.1)
                stream.push(TEXT)
                stream.end()
                first = await asyncio.wait_for(stream.aread(1000), 10)
                self.assertLessEqual(len(first), 1000)
                sound = raw([first]) + await said_async(stream)
            self.assertTrue(stream.closed)
            return sound

        self.assertEqual(asyncio.run(main()), said(TEXT, layout="streaming"))

    def test_close_and_cancel_end_a_wait(self):
        async def main(end, error, elsewhere):
            stream = engine.stream()
            waits = asyncio.ensure_future(stream.aread())
            await asyncio.sleep(0.05)
            if elsewhere:
                await asyncio.get_running_loop().run_in_executor(None, end, stream)
            else:
                end(stream)
            with self.assertRaises(error):
                await asyncio.wait_for(waits, 10)

        for elsewhere in (False, True):
            asyncio.run(main(qwentts.Stream.close, qwentts.Closed, elsewhere))
            asyncio.run(main(qwentts.Stream.cancel, qwentts.Cancelled, elsewhere))

    def test_text_that_waits_is_ended_with_the_stream(self):
        async def main():
            ended = asyncio.Event()

            async def text():
                try:
                    yield "Good morning to you, "
                    await asyncio.sleep(3600)
                finally:
                    ended.set()

            async with engine.speak(text()) as stream:
                await stream.aread()
            await asyncio.wait_for(ended.wait(), 10)

        asyncio.run(main())


class Ends(unittest.TestCase):
    def test_a_read_that_waits_is_ended_by_cancel_and_by_close(self):
        for end, error in ((qwentts.Stream.cancel, qwentts.Cancelled), (qwentts.Stream.close, qwentts.Closed)):
            stream = engine.stream()
            reader = InThread(stream.read)
            time.sleep(0.05)
            end(stream)
            self.assertIs(type(reader.done()), error)
            with self.assertRaises(error):
                next(stream)
            stream.close()
            stream.close()

    def test_a_second_reader_is_told(self):
        with engine.stream() as stream:
            reader = InThread(stream.read)
            soon(stream._reading.locked, "no reader")
            for _ in range(200):
                with self.assertRaises(qwentts.Busy):
                    stream.read(timeout=0)
                with self.assertRaises(qwentts.Busy):
                    asyncio.run(stream.aread())
            stream.push("Hello.")
            stream.end()
            self.assertGreater(len(reader.done()), 0)

    def test_nothing_comes_behind_a_cancel(self):
        with engine.speak(TEXT) as stream:
            stream.read()
            stream.cancel()
            stream.cancel()
            for _ in range(3):
                with self.assertRaises(qwentts.Cancelled) as caught:
                    stream.read()
                self.assertEqual(caught.exception.status, -1)
            self.assertEqual(list(stream.events())[-1].reason, "cancelled")

    def test_use_after_close(self):
        stream = engine.speak(SHORT)
        stream.close()
        self.assertTrue(stream.closed)
        for use in (
            stream.read, stream.read_frames, stream.flush, stream.end, stream.cancel, stream.stats, stream.__next__,
            lambda: stream.push("x"), lambda: list(stream.events()), lambda: asyncio.run(stream.aread()),
        ):  # fmt: skip
            with self.assertRaisesRegex(qwentts.Closed, "stream: is closed"):
                use()
        other = qwentts.Engine(device=DEVICE, kv=KV)
        other.close()
        other.close()
        self.assertEqual(other.voices, engine.voices)
        for use in (other.stats, other.warmup, other.check, other.stream, lambda: other.speak(SHORT)):
            with self.assertRaisesRegex(qwentts.Closed, "engine: is closed"):
                use()

    def test_an_engine_that_closes_ends_its_streams(self):
        with qwentts.Engine(device=DEVICE, kv=KV) as other:
            waits, speaks = other.stream(), other.speak(TEXT)
            reader = InThread(waits.read)
            time.sleep(0.05)
        self.assertIs(type(reader.done()), qwentts.Cancelled)
        with self.assertRaises(qwentts.Cancelled):
            raw(speaks)
        with self.assertRaises(qwentts.Error):
            waits.push("x")
        waits.close()

    def test_an_engine_lives_as_long_as_its_streams(self):
        stream = qwentts.Engine(device=DEVICE, kv=KV).speak(SHORT)
        gc.collect()
        self.assertEqual(raw(stream), said(SHORT))

    def test_storm_of_closes(self):
        def storm(seed):
            for round in range(25):
                stream = engine.speak(TEXT)
                reader = InThread(lambda: raw(stream))
                time.sleep((seed * 7 + round * 3) % 11 * 0.001)
                (stream.close, stream.cancel)[round % 2]()
                result = reader.done()
                if not isinstance(result, qwentts.Cancelled):
                    return result
                stream.close()

        for thread in [InThread(lambda seed=seed: storm(seed)) for seed in range(4)]:
            self.assertIsNone(thread.done())

    def test_ctrl_c_ends_a_read(self):
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with engine.stream() as stream:
                began = time.monotonic()
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
                with self.assertRaises(KeyboardInterrupt):
                    stream.read(timeout=10)
                self.assertLess(time.monotonic() - began, 5)
        finally:
            signal.signal(signal.SIGINT, before)

    def test_after_a_fork_it_says_so(self):
        child = os.fork()
        if child == 0:
            try:
                engine.speak(SHORT)
            except qwentts.Unsupported as error:
                os._exit(0 if "fork" in str(error) else 2)
            except BaseException:
                pass
            os._exit(1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)


class Errors(unittest.TestCase):
    def test_options(self):
        for error, text, options in (
            (qwentts.InvalidArgument, 'voice: "nobody" is unknown; this model has rms, slt', dict(voice="nobody")),
            (qwentts.InvalidArgument, "seed: is -1, which is out of range", dict(seed=-1)),
            (qwentts.InvalidArgument, "seed: is 18446744073709551616", dict(seed=1 << 64)),
            (qwentts.InvalidArgument, "format: is 'u8'; expected 'f32' or 'i16'", dict(format="u8")),
            (qwentts.InvalidArgument, "chunk_frames", dict(chunk_frames=[1, 33])),
            (qwentts.InvalidArgument, "sample_rate_hz|rate", dict(sample_rate_hz=12345)),
            (qwentts.InvalidArgument, "temperature", dict(temperature=-3.0)),
            (qwentts.InvalidArgument, "voice: has a zero byte", dict(voice="slt\0")),
            (ValueError, "voice", dict(voice="nobody")),
            (TypeError, "voice: is int; expected str", dict(voice=3)),
            (TypeError, "seed", dict(seed="7")),
            (TypeError, "pitch: no such option; there are voice", dict(pitch=1)),
        ):
            with self.subTest(options), self.assertRaisesRegex(error, text):
                engine.speak(SHORT, **options)
        with self.assertRaises(qwentts.InvalidArgument) as caught:
            engine.speak("")
        self.assertEqual(caught.exception.status, -2)
        with self.assertRaisesRegex(TypeError, "format"):
            engine.say(SHORT, "nowhere.wav", format="f32")
        for nothing in (0, -1):
            with engine.speak(SHORT) as stream, self.assertRaises(ValueError):
                stream.read(nothing)

    def test_engines(self):
        with self.assertRaisesRegex(qwentts.Error, "/nowhere/model"):
            qwentts.Engine(Path("/nowhere/model"))
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaisesRegex(FileNotFoundError, "config.json") as caught:
                qwentts.Engine(folder)
            self.assertIsInstance(caught.exception, qwentts.NotFound)
            Path(folder, "config.json").write_text("{}")
            with self.assertRaisesRegex(qwentts.BadModel, "config.json"):
                qwentts.Engine(folder)
        for options in (dict(device="tpu"), dict(slots=0), dict(slots=-1), dict(kv="f64"), dict(threads=1 << 32)):
            with self.subTest(options), self.assertRaises(qwentts.Error):
                qwentts.Engine(**options)

    def test_a_full_engine_is_busy(self):
        with qwentts.Engine(device=DEVICE, kv=KV, slots=1, queue=1) as other:
            streams = [other.stream(), other.stream()]
            with self.assertRaises(qwentts.Busy):
                other.stream()
            self.assertEqual(other.stats()["open"], 2)
            streams[0].close()
            soon(lambda: other.stats()["open"] == 1, "the slot is not given back")
            other.check()
            other.warmup()

    def test_the_model_by_its_folder(self):
        with qwentts.Engine(ROOT / "models/demo", DEVICE, kv=KV) as other, other.speak(SHORT) as stream:
            self.assertEqual(raw(stream), said(SHORT))


class Load(unittest.TestCase):
    def test_eight_threads(self):
        expected = [said(SHORT, do_sample=True, seed=seed) for seed in range(2)]

        def speaks(number):
            return [said(SHORT, do_sample=True, seed=(number + round) % 2) for round in range(3)]

        for number, thread in enumerate([InThread(lambda number=number: speaks(number)) for number in range(8)]):
            self.assertEqual(thread.done(), [expected[(number + round) % 2] for round in range(3)])

    def test_fifty_streams_leave_nothing(self):
        async def some(count):
            for number in range(count):
                stream = engine.speak(letters() if number % 2 else iter(SHORT))
                async for _ in stream:
                    if number % 3 == 0:
                        break

        async def letters():
            for letter in SHORT:
                yield letter

        def streams(each):
            for number in range(each):
                stream = engine.speak([SHORT] if number % 2 else iter(SHORT))
                next(stream)
                if number % 3:
                    raw(stream)
            for _ in range(each):
                engine.stream().push("Hel")
            asyncio.run(some(each))

        def quiet():
            gc.collect()
            return not text_threads() and engine.stats()["open"] == 0

        streams(3)
        soon(quiet, "streams stay open")
        before = held()
        streams(17)
        soon(quiet, "streams stay open")
        soon(lambda: held() == before, f"not {before} descriptors and threads any more")


class Wheel(unittest.TestCase):
    def test_it_builds_without_an_index_and_speaks_from_a_fresh_environment(self):
        library = _library._find()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("QWENTTS_", "PYTHON", "PIP_"))}
        environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"

        def run(*command, input=None, **more):
            ran = subprocess.run(command, input=input, env={**environment, **more}, cwd=folder, capture_output=True, text=True)
            self.assertEqual(ran.returncode, 0, f"{command}: {ran.stdout}{ran.stderr}")
            return ran.stdout

        with tempfile.TemporaryDirectory() as folder:
            run(sys.executable, "-m", "venv", "venv")
            python = str(Path(folder, "venv/bin/python"))
            run(python, "-m", "pip", "wheel", "--no-index", "-w", "wheels", str(HERE), QWENTTS_LIBRARY=str(library))
            (wheel,) = Path(folder, "wheels").iterdir()
            self.assertRegex(wheel.name, rf"^qwentts-{re.escape(qwentts.__version__)}-py3-none-\w+\.whl$")
            run(python, "-m", "pip", "install", "--no-index", str(wheel))
            program = "import qwentts, sys; sys.stdout.write(qwentts.__file__); qwentts.Engine(device='cpu').say('Hello.', 'hello.wav')"
            self.assertTrue(run(python, "-c", program).startswith(str(Path(folder, "venv").resolve())))
            with wave.open(str(Path(folder, "hello.wav"))) as file:
                sound = file.readframes(file.getnframes())
            if DEVICE == "cpu":
                self.assertEqual(sound, said(SHORT, format="i16"))
            # A copy, so that it finds the wheel's package and not the one beside it.
            speak = shutil.copy(HERE / "speak.py", folder)
            run(python, speak, SHORT, "-o", "speak.wav", "--device", "cpu")
            self.assertEqual(Path(folder, "speak.wav").read_bytes(), Path(folder, "hello.wav").read_bytes())
            run(python, speak, "--device", "cpu", "--voice", "slt", "--seed", "3", input=SHORT)
            with wave.open(str(Path(folder, "speech.wav"))) as file:
                sound = file.readframes(file.getnframes())
            if DEVICE == "cpu":
                self.assertEqual(sound, said([SHORT], voice="slt", format="i16"))

            failed = subprocess.run(
                [python, "-m", "pip", "wheel", "--no-index", "-w", "wheels", str(HERE)],
                env={**environment, "QWENTTS_LIBRARY": "/nowhere.so"}, cwd=folder, capture_output=True, text=True,
            )  # fmt: skip
            self.assertNotEqual(failed.returncode, 0)
            self.assertIn("/nowhere.so is not there: cargo build --release makes it", failed.stdout + failed.stderr)


if __name__ == "__main__":
    unittest.main()
