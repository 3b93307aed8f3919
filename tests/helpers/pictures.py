"""Pictures that are quickly made, and their files."""

import io

import numpy as np
from PIL import Image


def picture(seed, size=(80, 60)):
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.NEAREST)


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()
