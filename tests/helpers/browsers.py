"""A headless browser, what it is shown, and what it asks for."""

import base64
import io
import json
import os
import select
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

from needs import CHROMIUM
from PIL import Image
from report_pages import HOSTILE

PAYLOADS = {
    **HOSTILE,
    "owning": "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">.jpg",
    "svg": "</title><svg onload=\"document.title='owned'\"><a href=javascript:document.title='owned'>",
    "marks": "\u200f\u200fגן\u202e\u2067abc\u200e.jpg",
    "combining": "z" + "\u0300" * 300,
}
"""Names that would do harm if they were let."""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


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

    def __init__(self, profile: Path, proxy: int, reaches: str = "") -> None:
        """All requests go to `proxy`, except those to `reaches`, such as 127.0.0.1:8765."""
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()
        arguments = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
            "--hide-scrollbars", f"--user-data-dir={profile}", f"--proxy-server=127.0.0.1:{proxy}",
            f"--proxy-bypass-list=<-loopback>;{reaches}", "--blink-settings=primaryHoverType=2,availableHoverTypes=2",
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
        self.visit(page.as_uri(), width)

    def visit(self, url: str, width: int) -> None:
        """The same for an address."""
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
        self.call("Page.navigate", url=url)
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


def a_thumbnail() -> str:
    file = io.BytesIO()
    Image.effect_noise((160, 120), 80).convert("RGB").save(file, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
