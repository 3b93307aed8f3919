"""PDQ against hashes that the reference package computed, and what makes it useful."""

import numpy as np
import pytest
from PIL import Image

from moderation.demo import IMAGES_DIR
from moderation.images.pdq import SAME, distance, pdq

# From the package pdqhash 0.2.8, on the same pixels.
REFERENCE = [
    ("listings/48091-lizard.jpg", "a6ce49c15930b736a6c148895b3e6663adc9991e50b664e18e4e9b1ef1f974e8", 100),
    ("listings/48623-test-tube.jpg", "524bdb26adb62c921ad9da4de7246736629318db99cc89ac66366633267399cc", 45),
    ("listings/49057-bird.jpg", "134e98936c94666cc333949b6c8c7b663bc3389bccacc779c733c6308ccc39ce", 29),
    ("listings/49533-flower-playing-cards.jpg", "a7f22698a107dddb4a59b124fb2c469ee486fb3a891b00e507e4ffd3d813203e", 100),
]


@pytest.mark.parametrize(("name", "expected", "quality"), REFERENCE)
def test_hashes_are_those_of_the_reference(name: str, expected: str, quality: int) -> None:
    found, found_quality = pdq(Image.open(IMAGES_DIR / name).convert("RGB"))
    assert distance(found, expected) <= 4
    assert abs(found_quality - quality) <= 1


def test_the_same_picture_in_another_size_and_quality_is_near_and_another_one_is_far() -> None:
    one, two = (Image.open(IMAGES_DIR / REFERENCE[n][0]).convert("RGB") for n in (0, 3))
    for size in ((90, 180), (150, 300), (362, 740), (1500, 3000)):
        assert distance(pdq(one)[0], pdq(one.resize(size))[0]) <= SAME
    assert distance(pdq(one)[0], pdq(two)[0]) > 2 * SAME


def plainly(picture: Image.Image) -> tuple[str, int]:
    """The same with whole matrices, as the hashes of earlier runs were computed; pictures of at most 512 pixels a side."""

    def sampling(length: int) -> np.ndarray:
        window = (length + 127) // 128
        half = (window + 2) // 2
        at, pixel = np.arange(length)[:, None], np.arange(length)[None, :]
        inside = (pixel >= at - (window - half)) & (pixel <= at + half - 1)
        blur = inside / inside.sum(axis=1, keepdims=True)
        return blur[((np.arange(64) + 0.5) * length / 64).astype(int)] @ blur

    luma = np.asarray(picture.convert("L"), np.float64)
    small = sampling(luma.shape[0]) @ luma @ sampling(luma.shape[1]).T
    dct = np.sqrt(2 / 64) * np.cos(np.pi / 128 * np.arange(1, 17)[:, None] * (2 * np.arange(64) + 1)[None, :])
    spectrum = dct @ small @ dct.T
    bits = (spectrum > np.median(spectrum)).ravel()
    steps = [np.abs(np.trunc(np.diff(small, axis=axis) * 100 / 255)).sum() for axis in (0, 1)]
    return np.packbits(bits[::-1]).tobytes().hex(), min(100, int(sum(steps) / 90))


@pytest.mark.parametrize("size", [(512, 384), (500, 375), (129, 127), (64, 400), (40, 30), (361, 512)])
def test_hashes_are_those_of_whole_matrices(size: tuple[int, int]) -> None:
    for name, _, _ in REFERENCE:
        picture = Image.open(IMAGES_DIR / name).convert("RGB").resize(size)
        assert pdq(picture)[0] == plainly(picture)[0]
        assert abs(pdq(picture)[1] - plainly(picture)[1]) <= 1


@pytest.mark.parametrize("size", [(513, 700), (640, 480), (1500, 1100), (4000, 3000)])
def test_larger_pictures_have_the_hash_of_what_they_are_reduced_to(size: tuple[int, int]) -> None:
    for name, _, _ in REFERENCE:
        picture = Image.open(IMAGES_DIR / name).convert("RGB").resize(size)
        reduced = picture.resize(
            (size[0] * 512 // max(size), size[1] * 512 // max(size)), Image.Resampling.BOX, reducing_gap=2.0
        )
        assert distance(pdq(picture)[0], plainly(reduced)[0]) <= 6


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (512, 3), (64, 64), (3000, 2)])
def test_images_of_any_size_have_a_hash(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    found, quality = pdq(Image.fromarray(noise))
    assert len(found) == 64
    assert 0 <= quality <= 100


def test_a_plain_picture_has_hash_quality_zero() -> None:
    assert pdq(Image.new("RGB", (300, 200), "red"))[1] == 0
