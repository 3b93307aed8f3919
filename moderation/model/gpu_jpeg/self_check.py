"""Checks whether a JPEG decoder can replace Pillow: both read the same few files, and the results must agree."""

import io
from collections.abc import Callable, Iterator

import numpy as np
from PIL import ExifTags, Image

from moderation.demo import IMAGES_DIR
from moderation.images.decoding import DecodedImage
from moderation.images.limits import ImageLimits
from moderation.images.pdq import SAME, distance, pdq
from moderation.model.encoder import Encoder
from moderation.model.jpeg_decoder import ReadyPicture
from moderation.model.preprocessing import Preprocessing

MIN_COSINE = 0.999
"""Between the embeddings of a picture decoded one way and the other."""
MAX_LEVELS = 4.0
"""Of 255: mean difference of a picture's pixels. Decoders differ a little in how they enlarge colour; a picture that is turned,
shifted or of other colours is far beyond."""

_SOURCES = ("listings/48091-lizard.jpg", "listings/48343-tent.jpg")
_KINDS: tuple[tuple[str, str, int, int], ...] = (
    ("RGB", "4:2:0", 1, 1),
    ("RGB", "4:2:0", 4, 6),
    ("RGB", "4:2:2", 3, 5),
    ("RGB", "4:4:4", 2, 3),
    ("L", "4:4:4", 2, 8),
)
"""Mode, sampling of colours, how many times as large as the bundled picture, EXIF orientation."""


def difference(
    decode: Callable[[bytes, int], ReadyPicture | None], preprocessing: Preprocessing, encoder: Encoder | None
) -> str | None:
    """What differs too much, in words, or None if all is well. Without an encoder, pixels and hashes only are compared."""
    expected, found = [], []
    for data in _files():
        image = DecodedImage(data, ImageLimits(), preprocessing.size)
        ready = decode(data, image.orientation)
        if ready is None:
            return "a plain JPEG could not be decoded"
        [(_, picture)] = image.frames()
        expected.append(preprocessing(picture, image.reduction))
        found.append(ready.pixels)
        levels = float(np.abs(expected[-1].astype(np.int16) - ready.pixels).mean())
        if levels > MAX_LEVELS:
            return f"pixels differ by {levels:.1f} of 255 on average; the limit is {MAX_LEVELS:g}"
        bits = distance(pdq(picture)[0], pdq(ready.small)[0])
        if bits > SAME:
            return f"perceptual hashes differ in {bits} bits; the limit is {SAME}"
    if encoder is None:
        return None
    cosine = float((encoder.encode_images(np.stack(expected)) * encoder.encode_images(np.stack(found))).sum(axis=1).min())
    # Said this way round, NaN is refused.
    return None if cosine >= MIN_COSINE else f"the cosine of embeddings is {cosine:.5f}; the limit is {MIN_COSINE:g}"


def _files() -> Iterator[bytes]:
    for source in _SOURCES:
        with Image.open(IMAGES_DIR / source) as bundled:
            picture = bundled.convert("RGB")
        for mode, subsampling, times, orientation in _KINDS:
            file, exif = io.BytesIO(), Image.Exif()
            exif[ExifTags.Base.Orientation] = orientation
            large = picture.resize((picture.width * times, picture.height * times), Image.Resampling.BICUBIC)
            large.convert(mode).save(file, "JPEG", quality=90, subsampling=subsampling, exif=exif)
            yield file.getvalue()
