"""JPEG XL: what a file says of itself, its colours, and its frames, decoded by libjxl in a process of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from moderation.errors import ErrorCode, ImageError
from moderation.images.colour.colours import BrokenProfileError, Conversion, UnmanagedColourError, by_profile
from moderation.images.colour.icc import BT709, made_profile
from moderation.images.colour.video_colours import CURVES, by_code_points
from moderation.images.guarding import Deadline
from moderation.images.isolated.running import PROCESS_MEMORY, decoded, package_folder

_HEADER_MEMORY = 256 << 20
"""Bytes for reading a header and finding the frames, beside the file."""
_LEAST, _MOST, _MOVING = 8, 48, 64
"""Bytes that libjxl needs for a pixel: of a photo, of anything, and beside it of an animation, by what was measured."""
_EXTRA = 8
"""Bytes for each extra channel of a pixel."""
_SHOWN = 12
"""Bytes for a pixel on this side: RGBA as it comes, and RGB twice."""
_ALPHA = 0
_COLOURLESS = frozenset({_ALPHA, 1, 3, 6, 15, 16})
"""Extra channels that are no part of the picture, but for alpha: depth, selections and the like."""
_BT709, _CUSTOM, _P3, _P3_DCI, _P3_D65 = 1, 2, 11, 11, 12
_D65, _DCI_WHITE = 1, 11
_SRGB, _POWER = 13, 65535
_STEP = 8
"""Levels from one to the next that must not be darker: the table of a conversion is rough."""
_LIKE_SRGB = frozenset({1, 2, 13})
"""Transfer functions that browsers show as sRGB's: that of SDR video is one."""


class _Encoding(BaseModel):
    """Colours by numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    white: int
    primaries: int
    xy: tuple[float, float, float, float, float, float, float, float]
    transfer: int
    gamma: float


class _Facts(BaseModel):
    """What the decoding process says of a header."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    bits: int
    is_float: bool
    lossless: bool
    channels: tuple[int, ...]
    grey: bool
    encoding: _Encoding | None
    profile: bytes
    frames: int = Field(gt=0)


class JpegXl:
    """An opened file.

    Attributes:
        size: width and height in pixels, upright.
        drawn: the same.
        frames: at least 1.
        conversion: what makes sRGB of the pictures; None: they are.
        has_alpha: whether pictures are RGBA; else RGBX.
    """

    def __init__(self, data: bytes, deadline: Deadline) -> None:
        """Read the header.

        Raises:
            ImageError: unsupported_format, corrupt, worker_timeout, too_many_pixels.
        """
        self._library = _library()
        self._data = data
        self._deadline = deadline
        found = decoded("jxl_header", self._library, data, deadline, _HEADER_MEMORY + 2 * len(data)).facts
        facts = _Facts(**{**found, "profile": bytes.fromhex(str(found["profile"]))})
        self.size = self.drawn = (facts.width, facts.height)
        self.frames = facts.frames
        self.has_alpha = _ALPHA in facts.channels
        if not _COLOURLESS.issuperset(facts.channels):
            raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, "a JPEG XL in CMYK or with spot colours")
        self._least = (_LEAST + _SHOWN, _MOST + _SHOWN + _EXTRA * len(facts.channels) + (_MOVING if facts.frames > 1 else 0))
        self.conversion = _conversion(facts)

    def memory(self, frames: int) -> tuple[int, int]:
        """Bytes that `pictures` takes for so many frames, in both processes: at least, and at most."""
        pixels = self.size[0] * self.size[1]
        least, most = (PROCESS_MEMORY + pixels * (each + 4 * (frames - 1)) + 3 * len(self._data) for each in self._least)
        return least, most

    def pictures(self, indexes: list[int], memory: int) -> Iterator[tuple[Image.Image, str]]:
        """The frames of these indexes, and with the last what is wrong with those that are missing.

        Args:
            indexes: ascending.
            memory: bytes that both processes may take.

        Raises:
            ImageError: corrupt, too_many_pixels, worker_timeout.
        """
        width, height = self.size
        found = decoded(
            "jxl_frames",
            self._library,
            self._data,
            self._deadline,
            memory - PROCESS_MEMORY - width * height * (_SHOWN + 4 * (len(indexes) - 1)) - len(self._data),
            frames=indexes,
        )
        count, broken = int(str(found.facts["frames"])), str(found.facts["broken"])
        each = width * height * 4
        if found.pixels is None or not 0 < count <= len(indexes) or len(found.pixels) != count * each:
            raise ImageError(ErrorCode.CORRUPT, "no pixels")
        mode = "RGBA" if self.has_alpha else "RGBX"
        view = np.frombuffer(found.pixels, np.uint8)
        for i in range(count):
            part = view[i * each : (i + 1) * each]
            picture = Image.frombuffer(mode, self.size, cast("bytes", part), "raw", mode, 0, 1)  # any buffer will do
            yield picture, broken if i == count - 1 and count < len(indexes) else ""


def _library() -> Path:
    folder = package_folder("pylibjxl")
    found = sorted(folder.glob("_pylibjxl*.so")) if folder else []
    if not found:
        raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, "JPEG XL is not read without its library: pip install pylibjxl")
    return found[0]


def _conversion(facts: _Facts) -> Conversion | None:
    try:
        if facts.encoding is None:
            return _by_profile(facts.profile, grey=facts.grey)
        return _by_numbers(facts.encoding, grey=facts.grey)
    except BrokenProfileError:  # as if there were none
        return None
    except UnmanagedColourError as error:
        raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, str(error)) from None


def _by_profile(profile: bytes, *, grey: bool) -> Conversion | None:
    """Browsers ignore those of a JPEG XL that are tables, or curves that go down; other programs do not."""
    found = by_profile(profile, "L" if grey else "RGB")
    if found is None:
        return None
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None].repeat(3, 0).T[None].copy())
    shown = np.asarray(found(ramp)).astype(int).sum(axis=2)[0]
    if b"A2B" in profile[128:2048] or (np.diff(shown[::_STEP]) < 0).any():
        raise UnmanagedColourError("a JPEG XL with a colour profile that browsers do not use and other programs do")
    return found


def _by_numbers(found: _Encoding, *, grey: bool) -> Conversion | None:
    primaries = _BT709 if grey else found.primaries
    if primaries == _P3:
        primaries = _P3_DCI if found.white == _DCI_WHITE else _P3_D65
    transfer = _SRGB if found.transfer in _LIKE_SRGB else found.transfer
    named = primaries != _CUSTOM and found.white in (_D65, _DCI_WHITE) and (found.white == _DCI_WHITE) == (primaries == _P3_DCI)
    known = by_code_points(primaries, transfer) if named and transfer != _POWER else None
    if known is not None:
        return known.conversion
    chromaticities = (*found.xy[:2], *BT709[2:]) if grey else found.xy
    if transfer == _POWER:
        profile = made_profile(chromaticities, lambda levels: np.power(levels, 1 / found.gamma)) if found.gamma > 0 else None
    else:
        curve = CURVES.get(transfer)
        profile = made_profile(chromaticities, curve) if curve is not None else None
    if profile is None:
        raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, "a JPEG XL whose colours mean nothing that is known here")
    return by_profile(profile, "RGB")
