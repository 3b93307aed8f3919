"""Pictures whose file ends, or breaks, in the middle of the pixels: what comes before that is there, the rest is white.

Pillow's own way (`ImageFile.LOAD_TRUNCATED_IMAGES`) is a switch for the whole process, and leaves the rest black.
"""

import numpy as np
from PIL import Image, ImageFile, ImagePalette

_WHITE: dict[str, int | tuple[int, ...]] = {
    "1": 255,
    "L": 255,
    "LA": (255, 255),
    "RGB": (255, 255, 255),
    "RGBA": (255, 255, 255, 255),
    "RGBX": (255, 255, 255, 255),
    "CMYK": (0, 0, 0, 0),
    "YCbCr": (255, 128, 128),
    "I;16": 65535,
    "I;16B": 65535,
}


def whiten(image: ImageFile.ImageFile) -> int | tuple[int, ...] | None:
    """Have an opened file loaded onto white instead of black, and index what is beyond a palette as browsers do.

    Returns what is white, or transparent, in the picture's mode; None where nothing is.
    """
    if not image.tile:  # no pixels at all
        return None
    white = _WHITE.get(image.mode)
    if image.mode == "P":
        white = _white_index(image)
    if white is not None and image.format != "GIF":  # its frames lie on their transparent colour
        image.im = Image.new(image.mode, image.size, white).im
    return white


def load_partly(image: ImageFile.ImageFile, errors: tuple[type[BaseException], ...]) -> bool:
    """Load what there is of the first picture of an opened file; the rest is white. False: nothing is there.

    `errors` are those that mean a broken file; all other errors, including deadlines, propagate to the caller.
    """
    white = whiten(image)
    png = image.format == "PNG"
    if white is None or (png and image.info.get("interlace")):  # of these, browsers make blocks of every few pixels
        return False
    try:
        image.load()
    except errors as error:
        image.tile = []
        if png and "truncated" not in str(error):  # how much browsers show of broken pixels depends on their buffers
            return _has_content(image.crop((0, image.height * 31 // 32 - 1, image.width, image.height)), white)
    return _has_content(image, white)


def _white_index(image: ImageFile.ImageFile) -> int | None:
    transparent = image.info.get("transparency")
    if image.palette is None:
        return None
    palette = bytes(image.palette.palette)
    if len(palette) < 255 * 3 and image.format == "PNG" and len(palette) >= 3:
        # Where a palette is too short, browsers repeat its last colour.
        palette = (palette + palette[-3:] * (255 - len(palette) // 3))[: 255 * 3] + b"\xff\xff\xff"
        image.palette = ImagePalette.raw("RGB", palette)
    if isinstance(transparent, int):
        return transparent
    colours = np.frombuffer(palette[: len(palette) // 3 * 3], np.uint8)[: 256 * 3].reshape(-1, 3)
    return int(colours.sum(axis=1, dtype=int).argmax()) if len(colours) else None


def _has_content(image: Image.Image, white: int | tuple[int, ...]) -> bool:
    """Whether anything but white is in the picture."""
    if image.mode.startswith("I;16"):
        return bool((np.asarray(image) != white).any())
    levels = white if isinstance(white, tuple) else (white,)
    extremes = image.getextrema()
    bands = extremes if isinstance(extremes[0], tuple) else (extremes,)
    return any(band != (level, level) for band, level in zip(bands, levels, strict=True))
