"""The report in a real browser: nothing runs, nothing overflows, no request leaves the page, images stay blurred."""

import base64
import io
import json
import os
import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from needs import CHROMIUM, needs_chromium
from PIL import Image
from report_pages import HOSTILE, SOURCE, a_page, a_page_full_of, an_earlier_run

from moderation.results.check_results import CheckResult

pytestmark = needs_chromium

PAYLOADS = {
    **HOSTILE,
    "owning": "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">.jpg",
    "svg": "</title><svg onload=\"document.title='owned'\"><a href=javascript:document.title='owned'>",
    "marks": "\u200f\u200fגן\u202e\u2067abc\u200e.jpg",
    "combining": "z" + "\u0300" * 300,
}
"""Names that would do harm if they were let."""


class Recorder:
    """A proxy that answers nothing and remembers who was asked for."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.asked: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    self.asked.append(connection.recv(4096).decode("latin-1").partition("\r\n")[0])
                except OSError:
                    self.asked.append("?")

    def close(self) -> None:
        self._listener.close()


class Browser:
    """A headless Chromium, spoken to through its DevTools pipe."""

    def __init__(self, profile: Path, proxy: int) -> None:
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()
        arguments = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
            "--hide-scrollbars", f"--user-data-dir={profile}", f"--proxy-server=127.0.0.1:{proxy}",
            "--proxy-bypass-list=<-loopback>", "--blink-settings=primaryHoverType=2,availableHoverTypes=2",
            "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        # The pipe's ends must be file descriptors 3 and 4 of the browser.
        shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", str(CHROMIUM), *arguments],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: object) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._from], [], [], 60)[0], "the browser does not answer"
            data = os.read(self._from, 1 << 20)
            assert data, "the browser has gone"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, page: Path, width: int) -> None:
        """Show a page, in a window as wide as a phone's or a desktop's, and wait until it is loaded."""
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
        self.call("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def ask(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def mouse(self, kind: str, selector: str) -> None:
        """Move the mouse over the middle of the first such element, or click there."""
        place = f"document.querySelector({json.dumps(selector)})"
        self.ask(f"{place}.scrollIntoView({{block: 'center'}})")
        box = f"{place}.getBoundingClientRect()"
        x, y = self.ask(f"[{box}.left + {box}.width / 2, {box}.top + {box}.height / 2]")
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        if kind == "click":
            for event in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=event, x=x, y=y, button="left", clickCount=1)

    def blur(self, selector: str) -> str:
        return self.ask(f"getComputedStyle(document.querySelector({json.dumps(selector)})).filter")

    @property
    def requested(self) -> set[str]:
        """URLs that the page asked for, beside itself and what it holds."""
        urls = {e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"}
        return {url for url in urls if not url.startswith(("data:", "file:"))}

    @property
    def complaints(self) -> list[str]:
        """What the browser logged, such as scripts that it refused."""
        return [e["params"]["entry"]["text"] for e in self.events if e.get("method") == "Log.entryAdded"]

    def close(self) -> None:
        self._session = None
        self.call("Browser.close")
        self._process.wait(20)
        os.close(self._to)
        os.close(self._from)


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with closing(Recorder()) as recorder:
        yield recorder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> Iterator[Browser]:
    with closing(Browser(tmp_path_factory.mktemp("profile"), recorder.port)) as browser:
        yield browser


def a_thumbnail() -> str:
    file = io.BytesIO()
    Image.effect_noise((160, 120), 80).convert("RGB").save(file, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def thumbnails_of(keys: list[str]) -> dict[tuple[str, int], str]:
    return {(f"{SOURCE}/{kind}{key}", 0): a_thumbnail() for kind in ("", "near ", "clean ") for key in keys}


OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def test_the_measures_work(browser: Browser, recorder: Recorder, tmp_path: Path) -> None:
    """A page that does all that the report must not do is caught at each of it."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<!doctype html><title>fine</title><script>document.title='owned'</script>"
        "<img src='http://evil.example/x.png'><p style='width:3000px'>wide</p>"
    )
    browser.open(page, 390)
    assert browser.ask("document.title") == "owned"
    assert browser.ask(OVERFLOW) > 0
    assert browser.requested == {"http://evil.example/x.png"}
    assert any("evil.example" in asked for asked in recorder.asked)


@pytest.mark.parametrize("width", [1280, 390, 320], ids=["desktop", "phone", "small phone"])
def test_hostile_names_do_nothing(browser: Browser, recorder: Recorder, tmp_path: Path, width: int) -> None:
    pages = {name: a_page_full_of(key) for name, key in PAYLOADS.items()}
    keys = list(PAYLOADS.values())
    pages["all"] = a_page(keys, thumbnails_of(keys), (an_earlier_run(1), an_earlier_run(2)), "data-docs/index.html")
    recorder.asked.clear()
    for name, html in pages.items():
        page = tmp_path / f"{name}.html"
        page.write_text(html)
        browser.open(page, width)
        browser.ask("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert browser.ask("document.title").startswith("marketplace – moderation run"), name
        assert browser.ask(OVERFLOW) <= 0, name
        assert browser.requested == set(), name
        assert browser.complaints == [], name
        assert browser.ask("document.querySelectorAll('script, iframe, a[href^=javascript]').length") == 0, name
    assert not [asked for asked in recorder.asked if "example" in asked]


WORDS_BROKEN = """(() => {
  document.querySelectorAll("details").forEach(d => { d.open = true; });
  const broken = [];
  for (const table of document.querySelectorAll("table.checks")) {
    const walker = document.createTreeWalker(table, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      if (node.parentElement.closest(".key, code")) continue;
      for (const word of node.data.matchAll(/[\\w,.%]+/g)) {
        const range = document.createRange();
        range.setStart(node, word.index);
        range.setEnd(node, word.index + word[0].length);
        if (new Set([...range.getClientRects()].map(r => Math.round(r.top))).size > 1) broken.push(word[0]);
      }
    }
  }
  return broken.join(" ");
})()"""
"""The words of tables of checks that stand on two lines."""


def test_no_word_of_the_checks_is_broken(browser: Browser, tmp_path: Path) -> None:
    found = ("26.9 % (78 of 290 images); rules that flag most: weapons 29, alcohol 27", "unsupported_format 1,234,567,890")
    checks = tuple(
        CheckResult(
            name=f"decision_error_complete_{i}",
            description="error rows have a known code, a detail and the code's `retryable`; scored rows have none of these",
            severity="fail",
            passed=i != 1,
            observed=observed,
            limit="302 decisions, 1,450 scores, 290 or more embeddings",
        )
        for i, observed in enumerate(found)
    )
    page = tmp_path / "report.html"
    for width in (1280, 390):
        page.write_text(a_page(["a.jpg"], checks=checks))
        browser.open(page, width)
        assert browser.ask("document.querySelectorAll('table.checks tr').length") == 4
        assert browser.ask(WORDS_BROKEN) == "", width
    page.write_text(
        a_page(["a.jpg"], checks=checks).replace("</style>", ".checks td, .checks bdi { word-break: break-all; }</style>")
    )
    browser.open(page, 1280)
    assert browser.ask(WORDS_BROKEN) != "", "the measure works"


def test_images_are_seen_on_purpose_only(browser: Browser, tmp_path: Path) -> None:
    keys = ["plain.jpg", "sealed.jpg"]
    page = tmp_path / "report.html"
    page.write_text(a_page(keys, thumbnails_of(keys)))
    browser.open(page, 1280)
    assert "blur" in browser.blur(".picture:not(.sealed) img")
    browser.mouse("move", ".picture:not(.sealed)")
    assert browser.blur(".picture:not(.sealed) img") == "none"
    browser.mouse("move", ".picture.sealed")
    assert "blur" in browser.blur(".picture.sealed img")
    assert "blur" in browser.blur(".picture:not(.sealed) img")
    browser.mouse("click", ".picture.sealed")
    assert browser.blur(".picture.sealed img") == "none"

    browser.call("Emulation.setEmulatedMedia", media="print")
    assert "blur" in browser.blur(".picture:not(.sealed) img")
    assert browser.ask("getComputedStyle(document.querySelector('.picture.sealed img')).visibility") == "hidden"
    browser.call("Emulation.setEmulatedMedia", media="")

    shown = "[...document.querySelectorAll('.picture')].filter(p => p.checkVisibility()).length"
    assert browser.ask(shown) > 0
    browser.mouse("click", ".switch")
    assert browser.ask(shown) == 0


def test_the_keyboard_is_enough(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(a_page(["plain.jpg"], thumbnails_of(["plain.jpg"])))
    browser.open(page, 1280)

    def press(key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)

    press("Tab", 9)
    assert browser.ask("document.activeElement.id") == "hide-images"
    for _ in range(40):
        press("Tab", 9)
        if browser.ask("document.activeElement.matches('.picture input')"):
            break
    assert browser.ask("getComputedStyle(document.activeElement.nextElementSibling).filter") == "none"
