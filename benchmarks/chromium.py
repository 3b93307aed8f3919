"""A headless Chromium that shows pictures, and how far ours are from them: what a browser shows is what must be scored.

Each picture is drawn at its natural size on white, an SVG at 256 pixels, and averaged to 64×64 in the page; ours is
averaged the same way.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moderation.errors import ImageError
from moderation.images.decoding import DecodedImage
from moderation.images.limits import ImageLimits
from moderation.images.unread import SVG, isolated_format

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SIDE = 64
ALIKE = 6.0
"""Levels of 255: pictures whose mean difference is at most this are the same."""
DRAWN = 256
"""Pixels of the longer side of an SVG."""
ANSWER_SECONDS = 120

_PAGE = """
window.spans = (length) => Array.from({length: SIDE}, (_, i) => {
  const low = i * length / SIDE, high = (i + 1) * length / SIDE, found = [];
  for (let at = Math.floor(low); at < Math.min(length, Math.ceil(high - 1e-9)); at++)
    found.push([at, (Math.min(at + 1, high) - Math.max(at, low)) / (high - low)]);
  return found;
});
window.shown = (...asked) => draw(...asked).catch((error) => {
  if (error.name === "SecurityError") return null;  // of an SVG with HTML inside, no page may read the pixels
  throw error;
});
window.draw = async (text, type, side) => {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const url = URL.createObjectURL(new Blob([bytes], {type}));
  const image = new Image();
  const loaded = new Promise((done) => { image.onload = () => done(true); image.onerror = () => done(false); });
  image.src = url;
  const fine = await loaded, size = [image.naturalWidth, image.naturalHeight];
  if (!fine || !size[0] || !size[1]) { URL.revokeObjectURL(url); return null; }
  const scale = side ? side / Math.max(...size) : 1;
  const [width, height] = size.map((length) => Math.max(1, Math.round(length * scale)));
  const sums = new Float64Array(SIDE * SIDE * 3), across = spans(width), down = spans(height);
  const rows = Math.min(height, Math.max(1, Math.floor((1 << 24) / width)));
  const weights = Array.from({length: height}, () => []);
  down.forEach((span, i) => span.forEach(([at, weight]) => weights[at].push([i, weight])));
  const canvas = new OffscreenCanvas(width, rows);
  const context = canvas.getContext("2d", {willReadFrequently: true});
  for (let top = 0; top < height; top += rows) {
    context.fillStyle = "white";
    context.fillRect(0, 0, width, rows);
    context.drawImage(image, 0, -top, width, height);
    const pixels = context.getImageData(0, 0, width, Math.min(rows, height - top)).data;
    for (let y = 0; y < Math.min(rows, height - top); y++)
      for (let x = 0; x < SIDE; x++)
        for (let c = 0; c < 3; c++) {
          let sum = 0;
          for (const [at, weight] of across[x]) sum += pixels[(y * width + at) * 4 + c] * weight;
          for (const [i, weight] of weights[top + y]) sums[(i * SIDE + x) * 3 + c] += sum * weight;
        }
  }
  URL.revokeObjectURL(url);
  return [...size, btoa(String.fromCharCode(...sums.map((level) => Math.round(level))))];
};
""".replace("SIDE", str(SIDE))


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture as people see it."""

    width: int
    height: int
    levels: NDArray[np.uint8]
    """[64, 64, 3]"""


class Chromium:
    """One browser for a whole corpus, spoken to through its DevTools pipe. It can reach no network."""

    def __init__(self) -> None:
        if CHROMIUM is None:
            raise RuntimeError("no Chromium on this machine: install `chromium`")
        self._profile = tempfile.TemporaryDirectory()
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()
        arguments = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--hide-scrollbars",
            "--force-color-profile=srgb", "--proxy-server=127.0.0.1:9", "--proxy-bypass-list=<-loopback>",
            f"--user-data-dir={self._profile.name}", "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        # The pipe's ends must be file descriptors 3 and 4 of the browser.
        shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", shell, "bash", CHROMIUM, *arguments],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._number, self._session = b"", 0, ""
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        self.call("Runtime.evaluate", expression=_PAGE)

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser."""
        self._session = ""
        self.call("Browser.close")
        self._process.wait(60)
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()

    def shown(self, data: bytes) -> Shown | None:
        """The picture of a file, of an animation the first; None if the browser does not show it."""
        kind = "image/svg+xml" if isolated_format(data) == SVG else ""
        # Without a view box or a size of its own, an SVG that is drawn larger shows more, not the same larger.
        root = data[data.find(b"<svg") :].partition(b">")[0]
        scaled = kind and (b"viewBox" in root or (b" width=" in root and b" height=" in root))
        found = self.ask(f"shown('{base64.b64encode(data).decode()}', '{kind}', {DRAWN if scaled else 0})")
        if found is None:
            return None
        width, height, levels = found
        return Shown(width, height, np.frombuffer(base64.b64decode(levels), np.uint8).reshape(SIDE, SIDE, 3))

    def ask(self, expression: str) -> Any:
        """What an expression, or the promise that it is, comes to."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"])[:500])
        return answer["result"].get("value")

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """A command of the DevTools protocol, and its result."""
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        rest = memoryview(json.dumps(message).encode() + b"\0")
        while rest:
            rest = rest[os.write(self._to, rest) :]
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._from], [], [], ANSWER_SECONDS)[0]:
                raise RuntimeError("the browser does not answer")
            data = os.read(self._from, 1 << 20)
            if not data:
                raise RuntimeError("the browser is gone")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


def averaged(picture: Image.Image) -> Image.Image:
    """A picture of any mode with 8-bit channels averaged to 64×64, each pixel by the area that it covers."""
    pixels = np.asarray(picture, np.float64)
    down, across = _weights(picture.height), _weights(picture.width)
    levels = np.einsum("iy,yxc,jx->ijc", down, np.atleast_3d(pixels), across, optimize=True)
    return Image.fromarray(levels.round().astype(np.uint8).squeeze(), picture.mode)


@lru_cache(maxsize=256)
def _weights(length: int) -> NDArray[np.float64]:
    """[64, length]: how much of each pixel goes into each sample."""
    edges = np.arange(SIDE + 1)[:, None] * (length / SIDE)
    pixel = np.arange(length)[None, :]
    overlap = np.minimum(edges[1:], pixel + 1) - np.maximum(edges[:-1], pixel)
    return overlap.clip(0) * (SIDE / length)


@dataclass(frozen=True, slots=True)
class Parity:
    """One file, by the browser and by us."""

    kind: str
    """alike | different | size | refused (shown, but an error row) | unshown (scored, though not shown) | neither"""
    difference: float
    """mean, in levels of 255"""
    detail: str
    """our error, or what is damaged"""


def ours(data: bytes, limits: ImageLimits | None = None) -> tuple[Image.Image, tuple[int, int], str]:
    """The first picture that people see of a file as it is scored, averaged to 64×64; its size; what is damaged.

    Raises `ImageError`.
    """
    image = DecodedImage(data, limits or ImageLimits())
    for index, picture in image.frames():
        if index >= image.primary:
            small = averaged(picture)
            size = (image.header.width, image.header.height) if image.header.format == "SVG" else picture.size
            return small if image.colours is None else image.colours(small), size, image.damaged
    raise AssertionError("a picture has frames")


def parity(browser: Chromium, data: bytes, limits: ImageLimits | None = None) -> Parity:
    """Whether a file is scored as the picture that people see."""
    shown = browser.shown(data)
    try:
        picture, size, damaged = ours(data, limits)
    except ImageError as error:
        seen = shown is not None and bool((shown.levels < 255).any())  # of what is broken at its beginning, nothing is seen
        return Parity("refused" if seen else "neither", 0.0, str(error))
    if shown is None:
        return Parity("unshown", 0.0, damaged)
    difference = float(np.abs(np.asarray(picture, int) - shown.levels).mean())
    if size != (shown.width, shown.height):
        return Parity("size", difference, f"{size} for us, {(shown.width, shown.height)} in the browser")
    return Parity("alike" if difference <= ALIKE else "different", difference, damaged)


def folder_parity(browser: Chromium, folder: Path, limits: ImageLimits | None = None) -> dict[str, Parity]:
    """All files below a folder, by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): parity(browser, path.read_bytes(), limits) for path in files}
