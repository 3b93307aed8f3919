"""Images to measure with: noise with the spectrum of photographs, so that JPEGs have the size and the work of real ones."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft

SMALL, MIDDLE, LARGE = (500, 375), (1280, 960), (4000, 3000)
"""Width and height: a thumbnail of a shop, a picture of a phone's screen, 12 megapixels of a camera."""
_SPECTRUM = 1.2
"""Amplitude falls with frequency to this power; photographs have about 1."""
_DISTINCT = {SMALL: 64, MIDDLE: 16, LARGE: 2}


def photo(size: tuple[int, int], seed: int) -> Image.Image:
    """An RGB picture of `size` (width, height) with the statistics of a photograph."""
    width, height = size
    random = np.random.default_rng(seed)
    down, across = np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij")
    falloff = (1 / np.maximum(np.hypot(down, across), 1 / max(size)) ** _SPECTRUM).astype(np.float32)
    luma = _field(random, falloff, height, width)
    channels = [luma + 0.35 * _field(random, falloff, height, width) for _ in range(3)]
    return Image.fromarray(np.stack([np.clip(128 + 55 * channel, 0, 255) for channel in channels], -1).astype(np.uint8))


def write_jpegs(folder: Path, count: int, size: tuple[int, int], quality: int = 85) -> list[Path]:
    """`count` JPEG files, all with different bytes; few pictures are drawn, since large ones take seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [_jpeg(photo(size, seed), quality) for seed in range(min(count, _DISTINCT.get(size, 8)))]
    paths = []
    for number in range(count):
        path = folder / f"{number:06}.jpg"
        path.write_bytes(drawn[number % len(drawn)] + number.to_bytes(4, "big"))  # behind the end of the image
        paths.append(path)
    return paths


def _field(random: np.random.Generator, falloff: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    spectrum = fft.rfft2(random.standard_normal((height, width), np.float32), workers=-1) * falloff
    field: NDArray[np.float32] = fft.irfft2(spectrum, (height, width), workers=-1)
    scaled: NDArray[np.float32] = field / field.std()
    return scaled


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()
