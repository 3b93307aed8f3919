"""What `ImageScorer` asks of a JPEG decoder that stands in for Pillow. No torch here: decode threads import it."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True, slots=True)
class ReadyPicture:
    """A JPEG as far as it is needed: decoded, upright, resized and cropped."""

    pixels: NDArray[np.uint8]
    """[S, S, 3], RGB: what `Preprocessing` makes of the picture"""
    small: Image.Image
    """grey, at most 512 pixels a side: all that `pdq` looks at"""


@dataclass(frozen=True, slots=True)
class DecoderCounts:
    """What became of the files that a decoder was given."""

    decoded: int = 0
    passed_on: int = 0
    """left to Pillow by their header: not a plain baseline JPEG, too small, too large, too long"""
    failed: int = 0
    """left to Pillow because decoding failed"""


class JpegDecoder(Protocol):
    """Called from many decode threads at a time."""

    def decode(self, data: bytes, orientation: int) -> ReadyPicture | None:
        """A file whose header `DecodedImage` has read, or None: Pillow is to decode it. Never raises because of the file.

        `orientation`: as EXIF has it; values other than 2 to 8 turn nothing.
        """
        ...
