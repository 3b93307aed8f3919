"""What a browser shows is what is scored: a real Chromium is the judge, picture by picture, at 64×64.

A picture is scored as it is shown (within 6 of 255 levels on average), or it is an error row. What is neither stands in
`DIFFERENT`, with the reason; what the browser shows and we refuse in `REFUSED`. Anything new in them fails.
"""

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from needs import needs_chromium
from PIL import Image, features
from places import GOLDEN
from strange_drawings import drawn
from strange_icons import icons
from strange_jxl import refused as refused_jxl
from strange_jxl import shown
from strange_pictures import PROFILES, corpus, encoded, photo, scene
from support import DATA, needs_data

from benchmarks.chromium import Chromium, Parity, averaged, folder_parity, parity
from moderation.demo import IMAGES_DIR
from moderation.images.decoding import DecodedImage
from moderation.images.limits import ImageLimits
from moderation.images.pdq import pdq
from moderation.model.preprocessing import Preprocessing

CASES = DATA.parent / "cases" / "images"
CLIP = Preprocessing(224, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
CROPS = GOLDEN / "crops.txt"

DIFFERENT = {
    "moving (AVIF).avif": "Chromium takes the full range of an AVIF sequence for video levels: contrast differs by 7 levels",
}
REFUSED = {
    "16-bit colour, one transparent.png": "Pillow keeps eight bits of each channel, and the key has sixteen",
    "interlaced, cut at 50 %.png": "browsers make blocks of what is there, Pillow leaves gaps",
    "filter 9.png": "how much browsers show of broken pixels depends on their buffers",
    "progressive, cut at 5 %.jpg": "cut in its first scan: libjpeg does not say how many rows of it are there",
    "progressive, after its first scan.jpg": "the same",
    "RLE.ico": "pictures of icons are never compressed so, but browsers read them",
    "pillow/broken_data_stream.png": "broken pixels, as above",
    "pillow/decompression_bomb_extents.gif": "a later frame asks for 4,000 megapixels",
}
UNSEEN = frozenset({".tif", ".tiff", ".heic"})
"""Formats that no browser shows."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


def judge(found: dict[str, Parity]) -> Counter[str]:
    """Fail on what is new among the differences; the count of each kind."""
    wrong = {name: one for name, one in found.items() if one.kind in ("different", "size") and name not in DIFFERENT}
    assert not wrong
    refused = {name: one.detail for name, one in found.items() if one.kind == "refused" and name not in REFUSED}
    assert not refused
    stale = {name for name in DIFFERENT.keys() & found.keys() if found[name].kind not in ("different", "size")}
    stale |= {name for name in REFUSED.keys() & found.keys() if found[name].kind != "refused"}
    assert not stale, "these are right by now"
    counts = Counter(one.kind for one in found.values())
    print(f"{dict(counts)}; the browser shows and we refuse: {counts['refused']}")  # noqa: T201 - shown by pytest -s
    return counts


@needs_chromium
def test_pictures_out_of_the_ordinary_are_scored_as_they_are_shown(browser: Chromium) -> None:
    counts = judge({name: parity(browser, data) for name, data in corpus().items()})
    assert counts["alike"] > 270
    assert counts["refused"] <= 5


@needs_chromium
def test_icons_and_cursors_are_scored_as_they_are_shown(browser: Chromium) -> None:
    counts = judge({name: parity(browser, data) for name, data in icons().items()})
    assert counts["alike"] > 30


@needs_chromium
def test_jpeg_xl_is_scored_as_it_is_shown(browser: Chromium) -> None:
    counts = judge({name: parity(browser, data) for name, data in shown().items()})
    assert set(counts) == {"alike"}
    assert {parity(browser, data).kind for data in refused_jxl().values()} == {"refused"}


@needs_chromium
def test_svg_is_scored_as_it_is_shown(browser: Chromium) -> None:
    counts = judge({name: parity(browser, data) for name, data in drawn().items()})
    assert set(counts) == {"alike"}


@needs_chromium
@needs_data
def test_hostile_files_and_cases_are_scored_as_they_are_shown(browser: Chromium) -> None:
    found = folder_parity(browser, DATA / "hostile")
    if CASES.is_dir():
        found |= folder_parity(browser, CASES)
    judge(found)
    unshown = {name for name, one in found.items() if one.kind == "unshown" and Path(name).suffix not in UNSEEN}
    assert not unshown


@needs_chromium
def test_the_comparison_of_shown_and_scored_pixels_finds_differences(browser: Chromium) -> None:
    """It is no use if everything is alike to it."""
    shown = browser.shown(encoded(scene(), "PNG", icc_profile=PROFILES["channels swapped"]))
    assert shown is not None
    assert np.abs(np.asarray(averaged(scene()), int) - shown.levels).mean() > 50
    assert browser.shown(b"no picture") is None
    red, blue = (encoded(Image.new("RGB", (300, 200), colour), "PNG") for colour in ("red", "blue"))
    assert [browser.shown(data).levels[9, 9].tolist() for data in (red, blue)] == [[255, 0, 0], [0, 0, 255]]


@needs_chromium
@pytest.mark.parametrize("name", ["Adobe RGB", "P3", "gamma 1.8", "channels swapped", "inverted"])
def test_large_photos_with_a_profile_are_scored_as_they_are_shown(browser: Chromium, name: str) -> None:
    """At reduced scale, with colours converted behind the resize, or before where that matters."""
    data = encoded(photo(1600, 1600), "JPEG", quality=92, icc_profile=PROFILES[name])
    shown, image = browser.shown(data), DecodedImage(data, ImageLimits(), CLIP.size)
    [(_, picture)] = image.frames()
    crop = Image.fromarray(CLIP(picture, image.reduction, image.colours))
    assert shown is not None
    assert np.abs(np.asarray(averaged(crop), int) - shown.levels).mean() < 4
    assert (image.colours is None) == (name == "inverted")


def test_ordinary_images_keep_the_same_pixels_bit_for_bit() -> None:
    """Crops and perceptual hashes of the demo's images and of real photos, as version 1 of decoding made them.

    Other versions of the codecs may decode otherwise; then this compares with Pillow alone.
    """
    import hashlib

    head, *lines = CROPS.read_text().splitlines()
    same_codecs = head == f"# libjpeg-turbo {features.version('libjpeg_turbo')} libwebp {features.version('webp')}"
    folders = {"demo": IMAGES_DIR, "photos": DATA / "clip-b32" / "photos"}
    compared = 0
    for line in lines:
        name, _, expected = line.partition("\t")
        kind, _, rest = name.partition("/")
        path = folders[kind] / rest
        if not path.exists():  # the photos are test data that may not be here
            continue
        digest, image = hashlib.sha256(), DecodedImage(path.read_bytes(), ImageLimits(), CLIP.size)
        for _, frame in image.frames():
            crop = CLIP(frame, image.reduction, image.colours)
            digest.update(crop.tobytes())
            digest.update(pdq(frame, image.colours)[0].encode())
            if image.header.frames == 1 and image.reduction is None and image.orientation == 1:
                with Image.open(io.BytesIO(path.read_bytes())) as plain:
                    if plain.mode in ("RGB", "L"):
                        assert np.array_equal(crop, CLIP(plain.convert("RGB"))), name
        assert image.is_plain, name
        assert not same_codecs or digest.hexdigest()[:16] == expected, name
        compared += 1
    assert compared >= 290
