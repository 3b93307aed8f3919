"""SVG: read here, and drawn by resvg in a process of its own."""

import io
import math
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from moderation.errors import ErrorCode, ImageError
from moderation.images.colour.colours import Conversion
from moderation.images.guarding import Deadline
from moderation.images.isolated.running import PROCESS_MEMORY, decoded, package_folder
from moderation.images.svg.attributes import Embed
from moderation.images.svg.reading import read_svg

_RENDERER = 256 << 20
"""Bytes that drawing may take, beside the text: layers of filters and masks, each of them as large as the picture."""
_TEXT = 12
"""Bytes for each character of the text: a tree of it."""


class SvgPicture:
    """An opened file; see `JpegXl`."""

    frames = 1
    has_alpha = True
    conversion: Conversion | None = None

    def __init__(self, data: bytes, deadline: Deadline, embed: Embed) -> None:
        """Read the file, and refuse what is not drawn as browsers draw it.

        Raises:
            ImageError: unsupported_format, corrupt, worker_timeout.
        """
        self._library = _library()
        self._deadline = deadline
        self._drawing = read_svg(data, deadline, embed)
        self.drawn = self._drawing.size
        width, height = self._drawing.natural
        self.size = (max(1, math.floor(width + 0.5)), max(1, math.floor(height + 0.5)))

    def memory(self, frames: int) -> tuple[int, int]:
        """Bytes that `pictures` takes, in both processes: at least, and at most."""
        width, height = self._drawing.size
        needed = PROCESS_MEMORY + _RENDERER + len(self._drawing.text) * _TEXT + width * height * 16 * frames
        return needed, needed

    def pictures(self, indexes: list[int], memory: int) -> Iterator[tuple[Image.Image, str]]:  # noqa: ARG002
        """The picture as RGBA. Raises ImageError: corrupt, too_many_pixels, worker_timeout."""
        width, height = self._drawing.size
        found = decoded("svg", self._library, self._drawing.text.encode(), self._deadline, memory - PROCESS_MEMORY)
        try:
            with Image.open(io.BytesIO(found.pixels or b""), formats=["PNG"]) as picture:
                picture.load()
        except (OSError, SyntaxError) as error:
            raise ImageError(ErrorCode.CORRUPT, f"no picture: {error}") from None
        if picture.size != (width, height):
            raise ImageError(ErrorCode.INTERNAL, f"drawn in {picture.size}, not in {self._drawing.size}")
        yield picture, ""


def _library() -> Path:
    folder = package_folder("resvg_py")
    if folder is None:
        raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, "SVG is not read without a renderer: pip install 'clip-moderation[svg]'")
    return folder.parent
