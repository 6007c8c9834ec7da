"""The page in headless Chromium, driven as a person would: would catch sound that is not what the server made, text that is not
spoken while it is typed, a stop that is none, a comparison that tells who is who, a page that freezes with its server.

    make page           # UPDATE=1 writes docs/page-*.png

Chromium is the system's (CHROMIUM names another); nothing is fetched but Playwright's own package.
"""

import array
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright

SERVER = os.environ["QWENTTS_SERVER"]
ROOT = pathlib.Path(__file__).parents[2]
TEXT = "Good morning, how are you today?"
PATIENCE_MS = 30_000

# Every node that plays is heard by a second one, which keeps what it hears: the graph's samples, not the page's own account.
LISTEN = """
window.heard = [];
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (to, ...more) {
  if (to instanceof AudioDestinationNode) {
    const ear = new AudioWorkletNode(to.context, "recorder", { numberOfOutputs: 0 });
    ear.port.onmessage = ({ data }) => window.heard.push(...data);
    connect.call(this, ear);
  }
  return connect.call(this, to, ...more);
};
"""


class Server:
    def __init__(self, *flags: str) -> None:
        command = [SERVER, "--port", "0", "--device", "cpu", *flags]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr
        self.url = ""
        for line in self.process.stderr:
            if found := re.search(r"http://\S+[^/\s]", line):
                self.url = found[0]
            if "ready" in line:
                return
        raise RuntimeError("the server ended before it was ready")

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()

    def speak(self, **fields: Any) -> array.array:
        body = json.dumps({"response_format": "pcm", "voice": "rms", **fields}).encode()
        request = urllib.request.Request(f"{self.url}/v1/audio/speech", body, {"content-type": "application/json"})
        return array.array("h", urllib.request.urlopen(request).read())

    def metric(self, name: str) -> float:
        text = urllib.request.urlopen(f"{self.url}/metrics").read().decode()
        return float(next((line.split()[-1] for line in text.splitlines() if line.startswith(name)), 0))


class Other(http.server.BaseHTTPRequestHandler):
    """Another server of OpenAI's shape: a tone; for the voice "broken" it goes away in the middle."""

    def do_OPTIONS(self) -> None:
        self.send_response(204)
        for header in ("Origin", "Headers", "Methods"):
            self.send_header(f"Access-Control-Allow-{header}", "*")
        self.end_headers()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        sound = array.array("h", [8000 if n // 60 % 2 else -8000 for n in range(24000)]).tobytes()
        self.send_response(200)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Content-Length", str(len(sound)))
        self.end_headers()
        self.wfile.write(sound[: len(sound) // 2 if asked["voice"] == "broken" else len(sound)])

    def log_message(self, *_: Any) -> None:
        pass


class ThePage(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
        if not chromium:
            raise RuntimeError("no Chromium here: apt-get install chromium, or CHROMIUM=PATH")
        cls.server = Server()
        cls.other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other)
        threading.Thread(target=cls.other.serve_forever, daemon=True).start()
        cls.playwright = sync_playwright().start()
        flags = ["--autoplay-policy=no-user-gesture-required", "--use-fake-device-for-media-stream"]
        flags += ["--use-fake-ui-for-media-stream", "--no-sandbox"]
        cls.browser = cls.playwright.chromium.launch(executable_path=chromium, args=flags)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.browser.close()
        cls.playwright.stop()
        cls.other.shutdown()
        cls.other.server_close()
        cls.server.stop()

    def open(self, url: str = "", **more: Any) -> Page:
        context = self.browser.new_context(**more)
        self.addCleanup(context.close)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        self.wrong: list[str] = []
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda said: self.wrong.append(said.text) if "Content Security" in said.text else None)
        page.add_init_script(LISTEN)
        page.goto(url or self.server.url)
        expect(page.locator("#server")).to_have_text("demo on cpu")
        expect(page.locator("#voice option")).to_have_count(2)
        return page

    def tearDown(self) -> None:
        self.assertEqual(getattr(self, "wrong", []), [])

    def sounds(self, page: Page) -> None:
        """Until something is heard."""
        until = time.monotonic() + PATIENCE_MS / 1000
        while not page.evaluate("window.heard.some((sample) => sample)"):
            self.assertLess(time.monotonic(), until, "nothing is heard")
            page.wait_for_timeout(20)

    def spoken(self, page: Page) -> None:
        """Until all of it has been heard."""
        expect(page.locator("#said")).to_contain_text("Spoken", timeout=PATIENCE_MS)
        expect(page.locator("#stop")).to_be_disabled(timeout=PATIENCE_MS)
        page.wait_for_timeout(300)

    def heard(self, page: Page) -> list[int]:
        """Samples that the graph carried, without the silence around them."""
        samples = [round(sample * 32768) for sample in page.evaluate("Array.from(window.heard)")]
        sounding = [n for n, sample in enumerate(samples) if sample]
        return samples[sounding[0] : sounding[-1] + 1] if sounding else []

    def same(self, page: Page, said: array.array) -> None:
        """What was heard is what the server says; where the machine was too slow to play in time, with the gaps it owns up to."""
        heard, expected = self.heard(page), self.trimmed(said)
        if page.locator("#gaps").inner_text() != "0":
            print(f"the machine is too slow to play in time: {page.locator('#gaps').inner_text()} gaps")
            heard, expected = [s for s in heard if s], [s for s in expected if s]
        self.assertTrue(heard == expected, f"{len(heard)} samples heard, {len(expected)} said")

    @staticmethod
    def trimmed(samples: array.array) -> list[int]:
        sounding = [n for n, sample in enumerate(samples) if sample]
        return list(samples[sounding[0] : sounding[-1] + 1])

    def test_a_typed_sentence_is_heard_sample_for_sample(self) -> None:
        page = self.open()
        page.fill("#text", TEXT)
        page.click("#speak")
        self.spoken(page)
        said = self.server.speak(input=TEXT, non_streaming_mode=False)
        self.same(page, said)
        href = page.locator("#save").get_attribute("href")
        saved = page.evaluate("async (href) => Array.from(new Uint8Array(await (await fetch(href)).arrayBuffer()))", href)
        self.assertEqual(array.array("h", bytes(saved[44:])), said)
        self.assertRegex(page.locator("#first").inner_text(), r"^\d+ ms$")
        self.assertRegex(page.locator("#rtf").inner_text(), r"^\d\.\d+$")
        self.assertEqual(page.locator("#end").inner_text(), "eos")
        self.assertEqual(page.locator("#length").inner_text(), f"{len(said) / 24000:.2f} s")
        label = page.locator("#picture").get_attribute("aria-label")
        self.assertTrue(label and label.endswith("Good morning how are you today"), label)
        colours = page.evaluate(
            "() => { const c = document.getElementById('picture'); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            " const all = new Set(); for (let i = 0; i < d.length; i += 4) all.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]); return all.size; }"
        )
        self.assertGreater(colours, 100)

    def test_text_is_spoken_while_it_is_typed(self) -> None:
        page = self.open()
        page.fill("#text", "")
        page.check("#live")
        page.locator("#text").press_sequentially("Good morning, ", delay=30)
        # Heard before the rest is typed.
        self.sounds(page)
        page.locator("#text").press_sequentially("how are you today?", delay=30)
        page.keyboard.press("Enter")
        self.spoken(page)
        said = self.server.speak(input=TEXT, non_streaming_mode=False)
        self.assertEqual(page.locator("#length").inner_text(), f"{len(said) / 24000:.2f} s")
        # The same samples, with silence wherever the text was slower than the speech.
        heard = [sample for sample in self.heard(page) if sample]
        self.assertTrue(heard == [sample for sample in said if sample], "other samples")
        # And again, in the same session.
        page.locator("#text").press_sequentially(" Good night.", delay=10)
        page.keyboard.press("Enter")
        said = self.server.speak(input=" Good night.", non_streaming_mode=False)
        expect(page.locator("#length")).to_have_text(f"{len(said) / 24000:.2f} s")

    def test_stop_is_silence_and_frees_the_slot(self) -> None:
        page = self.open()
        page.fill("#text", "This is a sentence that goes on. " * 30)
        page.click("#speak")
        self.sounds(page)
        page.keyboard.press("Escape")
        expect(page.locator("#said")).to_have_text("Stopped.")
        page.wait_for_timeout(300)
        before = page.evaluate("window.heard.length && window.heard.findLastIndex((sample) => sample)")
        page.wait_for_timeout(500)
        self.assertEqual(page.evaluate("window.heard.findLastIndex((sample) => sample)"), before)
        self.assertEqual(self.server.metric("qwentts_streams_live"), 0)
        page.fill("#text", "Good night.")
        page.keyboard.press("Control+Enter")
        self.spoken(page)

    def test_controls_reach_the_server(self) -> None:
        page = self.open()
        page.fill("#text", TEXT)
        page.select_option("#voice", "slt")
        page.select_option("#draws", "true")
        page.fill("#seed", "7")
        page.fill("#temperature", "0.7")
        page.click("#speak")
        self.spoken(page)
        fields = {"voice": "slt", "do_sample": True, "subtalker_dosample": True, "seed": 7, "temperature": 0.7}
        said = self.server.speak(input=TEXT, non_streaming_mode=False, **fields)
        self.same(page, said)
        page.fill("#top_p", "3")
        page.click("#speak")
        expect(page.locator("#said")).to_contain_text("top_p: is 3; expected 0 to 1")

    def test_side_by_side(self) -> None:
        page = self.open()
        page.fill("#text", TEXT)
        expect(page.locator(".side[data-side='1'] select").nth(1)).to_have_value("slt")
        page.click("#compare")
        expect(page.locator("#compared")).to_have_text("Both are made.")
        rows = page.locator("#timing tbody tr")
        expect(rows).to_have_count(2)
        for row, voice in enumerate(["rms", "slt"]):
            said = self.server.speak(input=TEXT, voice=voice)
            expect(rows.nth(row).locator("td").nth(0)).to_have_text(f"{voice} of demo · cpu")
            expect(rows.nth(row).locator("td").nth(4)).to_have_text(f"{len(said) / 24000:.2f} s")
            page.evaluate("window.heard = []")
            page.locator(f"[data-play='{row}']").click()
            page.wait_for_timeout(len(said) / 24 + 700)
            self.assertTrue(self.heard(page) == self.trimmed(said), f"other samples of {voice}")

    def test_another_server_beside_ours(self) -> None:
        page = self.open()
        side = page.locator(".side[data-side='1']")
        side.locator("input[type=url]").fill(f"http://127.0.0.1:{self.other.server_port}/v1/")
        page.fill("#text", TEXT)
        page.click("#compare")
        expect(page.locator("#compared")).to_have_text("Both are made.")
        expect(page.locator("#timing tbody tr").nth(1).locator("td").nth(4)).to_have_text("1.00 s")
        side.get_by_label("Voice").last.fill("broken")
        page.click("#compare")
        expect(page.locator("#compared")).to_contain_text("the server went away in the middle of the speech")
        expect(page.locator("#compare")).to_be_enabled()
        side.locator("input[type=url]").fill("http://127.0.0.1:9")
        page.click("#compare")
        expect(page.locator("#compared")).to_contain_text("http://127.0.0.1:9 cannot be reached")

    def test_blind_tells_nothing_until_it_is_asked(self) -> None:
        page = self.open()
        page.fill("#text", TEXT)
        page.check("#blind")
        order = set()
        for _ in range(12):
            page.click("#compare")
            expect(page.locator("#prefer")).to_be_visible()
            shown = page.locator("#heard").inner_text() + page.locator("#compared").inner_text()
            self.assertNotRegex(shown, "rms|slt")
            expect(page.locator("#timing")).to_be_hidden()
            page.get_by_role("button", name="A", exact=True).click()
            told = page.locator("#compared").inner_text()
            found = re.fullmatch(r"A was (\w+) of demo · cpu; B was (\w+) of demo · cpu. You preferred (\w+) of demo · cpu.", told)
            self.assertTrue(found and found[1] == found[3] != found[2], told)
            order.add(found[1])
            expect(page.locator("#timing")).to_be_visible()
        self.assertEqual(order, {"rms", "slt"}, "A is always the same")
        self.assertEqual(sum(int(n) for n in re.findall(r" (\d+)[,.]", page.locator("#tally").inner_text())), 12)

    def test_a_server_that_dies_gives_words(self) -> None:
        server = Server()
        self.addCleanup(server.stop)
        page = self.open(server.url)
        page.fill("#text", "This is a sentence that goes on. " * 30)
        page.click("#speak")
        self.sounds(page)
        server.process.send_signal(signal.SIGKILL)
        expect(page.locator("#said")).to_have_text("the server went away, in the middle of the speech.")
        expect(page.locator("#speak")).to_be_enabled()
        page.click("#speak")
        expect(page.locator("#said")).to_contain_text("cannot be reached")
        page.click("#compare")
        expect(page.locator("#compared")).to_contain_text("the server cannot be reached")

    def test_a_key_is_asked_for_and_used(self) -> None:
        os.environ["QWENTTS_API_KEYS"] = "sesame"
        self.addCleanup(os.environ.pop, "QWENTTS_API_KEYS", None)
        server = Server()
        os.environ.pop("QWENTTS_API_KEYS")
        self.addCleanup(server.stop)
        context = self.browser.new_context()
        self.addCleanup(context.close)
        page = context.new_page()
        page.goto(server.url)
        expect(page.locator("#server")).to_contain_text("no valid API key")
        page.fill("#key", "sesame")
        page.keyboard.press("Tab")
        expect(page.locator("#server")).to_have_text("demo on cpu")
        page.fill("#text", "Good night.")
        page.click("#speak")
        expect(page.locator("#said")).to_contain_text("Spoken")

    def test_a_voice_is_recorded_and_speaks(self) -> None:
        base = ROOT / "target/base"
        seeded = [sys.executable, str(ROOT / "tests/golden/seeded.py"), "tiny-0b6-base", "1", str(base)]
        subprocess.run(seeded, check=True, stdout=subprocess.DEVNULL)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        server = Server("--model", str(base), "--voices-dir", folder.name)
        self.addCleanup(server.stop)
        context = self.browser.new_context(permissions=["microphone"])
        self.addCleanup(context.close)
        page = context.new_page()
        page.goto(server.url)
        expect(page.locator("#server")).to_have_text("base on cpu")
        page.fill("#clone-name", "me")
        page.fill("#clone-consent", "my own")
        page.click("#record")  # Chromium's false microphone beeps
        expect(page.locator("#recorded")).to_contain_text(re.compile(r"recording [2-9]\.\d s"), timeout=PATIENCE_MS)
        page.click("#record")
        expect(page.locator("#recorded")).to_contain_text("s recorded")
        page.click("#clone-save")
        expect(page.locator("#recorded")).to_have_text("me can speak now", timeout=PATIENCE_MS)
        expect(page.locator("#voice")).to_have_value("me")
        expect(page.locator("#uploaded li")).to_contain_text("The quick brown fox jumps over the lazy dog.”, my own")
        self.assertTrue((pathlib.Path(folder.name) / "me.qvoice").exists())
        page.fill("#text", "Good night.")
        page.click("#speak")
        expect(page.locator("#said")).to_contain_text("Spoken", timeout=PATIENCE_MS)
        page.click("[aria-label='Delete me']")
        expect(page.locator("#uploaded li")).to_have_count(0)
        self.assertEqual(list(pathlib.Path(folder.name).iterdir()), [])

    def test_a_keyboard_and_a_screen_reader_are_enough(self) -> None:
        page = self.open()
        unnamed = page.evaluate(
            "() => [...document.querySelectorAll('button, input, select, textarea, canvas, a')].filter((e) =>"
            " !(e.labels?.length || e.textContent.trim() || e.getAttribute('aria-label'))).map((e) => e.outerHTML)"
        )
        self.assertEqual(unnamed, [])
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        page.keyboard.press("Enter")
        seen = set()
        for _ in range(40):
            page.keyboard.press("Tab")
            seen.add(page.evaluate("document.activeElement.id || document.activeElement.dataset.play || ''"))
        for control in ("speak", "live", "model", "voice", "seed", "temperature", "compare", "blind"):
            self.assertIn(control, seen)
        self.assertEqual(page.locator("[role=status]").count() >= 4, True)

    def test_narrow_screens_scroll_one_way(self) -> None:
        page = self.open(viewport={"width": 360, "height": 740})
        self.assertLessEqual(page.evaluate("document.documentElement.scrollWidth"), 360)

    @unittest.skipUnless(os.environ.get("UPDATE"), "writes docs/page-*.png with UPDATE=1")
    def test_pictures(self) -> None:
        views = {
            "wide": {"viewport": {"width": 1180, "height": 1000}, "color_scheme": "light"},
            "dark": {"viewport": {"width": 1180, "height": 1000}, "color_scheme": "dark"},
            "narrow": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
        }
        for name, view in views.items():
            page = self.open(**view)
            page.fill("#text", "The quick brown fox jumps over the lazy dog.")
            page.click("#compare")
            expect(page.locator("#compared")).to_have_text("Both are made.")
            page.click("#speak")
            self.spoken(page)
            page.evaluate("scrollTo(0, 0)")
            (ROOT / "docs").mkdir(exist_ok=True)
            page.screenshot(path=ROOT / f"docs/page-{name}.png", full_page=True)


if __name__ == "__main__":
    unittest.main()
