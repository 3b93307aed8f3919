"""TIFFs whose samples Pillow takes for something else, without an error."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImagePalette, TiffImagePlugin

_BITS, _PHOTOMETRIC, _COLOUR_MAP, _SAMPLES, _PLANES, _FORMAT = 258, 262, 320, 277, 284, 339
_UNSIGNED = 1
# CMYK with alpha, which Pillow knows with an extra channel of no meaning only.
for _order in (b"II", b"MM"):
    for _alpha in (1, 2):
        TiffImagePlugin.OPEN_INFO.setdefault((_order, 5, (1,), 1, (8,) * 5, (_alpha,)), ("CMYK", "CMYKX"))

Correction = Callable[[Image.Image], Image.Image]


class MisreadLayoutError(ValueError):
    """Pillow would make noise of the picture."""


def set_right(image: TiffImagePlugin.TiffImageFile) -> Correction | None:
    """Correct what can be corrected of a page that is open and not loaded; and what is to be done to its picture once it is.

    Raises:
        MisreadLayoutError: nothing can be done.
    """
    tags = image.tag_v2
    bits, white_is_zero = tags.get(_BITS, (1,)), tags.get(_PHOTOMETRIC, 0) == 0
    if tags.get(_PLANES, 1) == 2 and tags.get(_SAMPLES, 1) > 1 and max(bits) != 8:
        raise MisreadLayoutError(f"a TIFF of {max(bits)} bits with its colours in separate planes is not supported")
    levels = tags.get(_COLOUR_MAP)
    if image.mode in ("P", "PA") and levels and max(levels) < 256:  # meant to be of 16 bits, but written with 8
        image.palette = ImagePalette.raw("RGB", bytes(np.array(levels, np.uint8).reshape(3, -1).T.tobytes()))
    if image.mode == "F" and white_is_zero:
        raise MisreadLayoutError("a TIFF of real numbers whose white is zero is not supported")
    if image.mode.startswith("I;16"):
        shift = 16 - bits[0] if 8 < bits[0] < 16 else 0
        if shift or white_is_zero:
            return lambda picture: _levels(picture, shift, white_is_zero=white_is_zero)
    if image.mode == "I" and bits[0] == 32 and tags.get(_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED:
        return _upper_half
    return None


def _levels(picture: Image.Image, shift: int, *, white_is_zero: bool) -> Image.Image:
    """Of 16 bits, those in use at the top, white at the end."""
    values = np.asarray(picture) << shift
    return Image.fromarray(~values if white_is_zero else values)


def _upper_half(picture: Image.Image) -> Image.Image:
    """Of unsigned 32 bits, which Pillow takes for signed ones, the upper 16."""
    return Image.fromarray((np.asarray(picture).view(np.uint32) >> 16).astype(np.uint16))
