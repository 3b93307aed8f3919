"""What the formats that are decoded by a process of their own have in common."""

from collections.abc import Iterator
from typing import Protocol

from PIL import Image

from moderation.images.colour.colours import Conversion
from moderation.images.guarding import Deadline
from moderation.images.isolated.jpeg_xl import JpegXl
from moderation.images.isolated.svg_pictures import SvgPicture
from moderation.images.svg.attributes import Embed
from moderation.images.unread import JXL


class IsolatedPicture(Protocol):
    """A file whose header has been read."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, upright; of an SVG, as browsers show it."""

    @property
    def drawn(self) -> tuple[int, int]:
        """The same of its pictures."""

    @property
    def frames(self) -> int:
        """At least 1."""

    @property
    def has_alpha(self) -> bool:
        """Whether pictures are RGBA; else RGBX."""

    @property
    def conversion(self) -> Conversion | None:
        """What makes sRGB of the pictures; None: they are."""

    def memory(self, frames: int) -> tuple[int, int]:
        """Bytes that so many frames take, at least and at most, in both processes."""

    def pictures(self, indexes: list[int], memory: int) -> Iterator[tuple[Image.Image, str]]:
        """The frames of these indexes, ascending, and with the last what is wrong with those that are missing."""


def open_isolated(data: bytes, kind: str, deadline: Deadline, embed: Embed) -> IsolatedPicture:
    """Read the header of a JXL or an SVG.

    Raises:
        ImageError: unsupported_format, corrupt, too_many_pixels, worker_timeout.
    """
    return JpegXl(data, deadline) if kind == JXL else SvgPicture(data, deadline, embed)
