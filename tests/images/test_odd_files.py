"""Files that no browser can judge, or that are more than a picture: TIFF layouts, several images in a HEIF, damage in rows."""

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from decoding_processes import NoModel
from needs import SHARED, needs_shared
from PIL import Image
from report_pages import a_run_of
from strange_pictures import PROFILES, cicp, encoded, gama, gif, photo, png, scene
from support import make_policy

from moderation.errors import ErrorCode, ImageError
from moderation.images.colour.colours import MAX_PROFILE, by_profile
from moderation.images.decoding import DecodedImage, with_primary
from moderation.images.limits import ImageLimits
from moderation.images.pdq import distance, pdq
from moderation.images.repair.bmp_repair import MAX_SIZE
from moderation.model.preprocessing import Preprocessing
from moderation.records import Counts
from moderation.scoring.image_scorer import ImageScorer
from moderation.scoring.options import ScorerOptions

LIMITS = ImageLimits()
CLIP = Preprocessing(224, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
CASES = SHARED / "cases" / "images"


def picture(data):
    [(_, found)] = DecodedImage(data, LIMITS).frames()
    return np.asarray(found)


def tiff(pixels, width, height, bits, photometric, *more):
    """A TIFF of one strip."""
    tags = {256: (4, [width]), 257: (4, [height]), 258: (3, bits), 259: (3, [1]), 262: (3, [photometric]), 273: (4, [0])}
    tags |= {277: (3, [len(bits)]), 278: (4, [height]), 279: (4, [len(pixels)])}
    tags |= {tag: (kind, values) for tag, kind, values in more}
    values = {tag: struct.pack(f"<{len(v)}{'H' if kind == 3 else 'I'}", *v) for tag, (kind, v) in tags.items()}
    start = 8 + 2 + 12 * len(tags) + 4
    places, blob = {}, b""
    for tag, raw in values.items():
        if len(raw) > 4:
            places[tag] = start + len(blob)
            blob += raw
    values[273] = struct.pack("<I", start + len(blob))
    entries = b"".join(
        struct.pack("<HHI", tag, tags[tag][0], len(tags[tag][1]))
        + (struct.pack("<I", places[tag]) if tag in places else values[tag].ljust(4, b"\0"))
        for tag in sorted(tags)
    )
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + blob + pixels


GREY = np.asarray(scene(16, 8).convert("L"))
INDEX = GREY >> 4
GREYS = [i * 16 for i in range(16)] * 3


def twelve_bits():
    bits = "".join(format(int(level) << 4, "012b") for level in GREY.ravel())
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


LAYOUTS = {
    "palette of 8 bits": (tiff(((INDEX[:, ::2] << 4) | INDEX[:, 1::2]).tobytes(), 16, 8, [4], 3, (320, 3, GREYS)), INDEX * 16),
    "12 bits": (tiff(twelve_bits(), 16, 8, [12], 1), GREY),
    "16 bits, white is zero": (tiff(((255 - GREY).astype("<u2") * 257).tobytes(), 16, 8, [16], 0), GREY),
    "32 bits": (tiff((GREY.astype("<u4") * 0x1010101).tobytes(), 16, 8, [32], 1), GREY),
    "grey with premultiplied alpha": (
        tiff(np.stack([GREY, np.full_like(GREY, 255)], -1).tobytes(), 16, 8, [8, 8], 1, (338, 3, [1])),
        GREY,
    ),
}


@pytest.mark.parametrize(("data", "expected"), LAYOUTS.values(), ids=LAYOUTS)
def test_tiff_layouts_show_what_they_hold(data, expected):
    assert np.abs(picture(data)[:, :, 1].astype(int) - expected).max() <= 1


def test_planes_of_16_bits_are_refused_and_never_noise():
    planes = np.moveaxis(np.asarray(scene(16, 8)).astype("<u2") * 257, 2, 0)
    with pytest.raises(ImageError, match="16 bits with its colours in separate planes is not supported") as caught:
        picture(tiff(planes.tobytes(), 16, 8, [16] * 3, 2, (284, 3, [2])))
    assert caught.value.code == ErrorCode.UNSUPPORTED_FORMAT


@pytest.mark.parametrize(
    ("indexes", "primary", "limit", "expected"),
    [([0, 3, 6, 9], 3, 4, [0, 3, 6, 9]), ([0, 3, 6, 9], 7, 4, [0, 3, 7, 9]), ([0, 9], 5, 2, [0, 5]), ([0], 5, 1, [5])],
)
def test_the_primary_image_replaces_the_nearest_sampled_frame(indexes, primary, limit, expected):
    assert with_primary(indexes, primary, limit) == expected


def test_the_primary_image_of_a_heif_is_always_among_the_frames():
    images = [Image.new("RGB", (64, 64), "red" if i == 7 else "white") for i in range(20)]
    data = encoded(images[0], "HEIF", save_all=True, append_images=images[1:], primary_index=7)
    for limit in (1, 2, 8):
        image = DecodedImage(data, ImageLimits(max_frames=limit))
        found = dict(image.frames())
        assert image.primary == 7
        assert len(found) == limit
        assert found[7].getpixel((5, 5))[1] < 20


def test_a_profile_out_of_all_proportion_is_an_error():
    with pytest.raises(ImageError, match=r"a colour profile of .* bytes; the limit is 4,194,304") as caught:
        DecodedImage(encoded(scene(), "WEBP", icc_profile=PROFILES["P3"] + bytes(MAX_PROFILE)), LIMITS)
    assert caught.value.code == ErrorCode.CORRUPT


def test_profiles_like_srgb_cost_nothing():
    assert by_profile(PROFILES["sRGB"], "RGB") is None
    assert DecodedImage(png(scene(), gama(0.45455)), LIMITS).is_plain
    assert DecodedImage(png(scene(), cicp(1, 13, 0, 1)), LIMITS).is_plain
    image = DecodedImage(encoded(scene(), "JPEG", icc_profile=PROFILES["gamma 1.8"]), LIMITS)
    assert not image.is_plain, "another decoder must not read it"


def test_the_perceptual_hash_is_of_what_is_seen():
    original = photo(300, 200)
    stored = Image.fromarray(np.asarray(original)[:, :, [1, 2, 0]])
    image = DecodedImage(encoded(stored, "PNG", icc_profile=PROFILES["channels swapped"]), LIMITS)
    [(_, found)] = image.frames()
    shown = Image.fromarray(np.asarray(image.colours(found)))
    assert distance(pdq(found, image.colours)[0], pdq(shown)[0]) <= 12
    assert np.array_equal(CLIP(found, None, image.colours), np.asarray(image.colours(Image.fromarray(CLIP(found)))))


def test_a_bmp_whose_header_claims_a_huge_size_is_not_unpacked():
    """A BMP whose header asks for much is not unpacked to that."""
    side = 1 << 14
    assert side * side * 4 > MAX_SIZE
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, 0, 0, 0, 256, 0)
    with pytest.raises(ImageError):
        list(DecodedImage(b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + header + bytes(1024) + b"\1\5" * 9, LIMITS).frames())


def test_a_damaged_image_is_scored_and_its_row_says_so(tmp_path):
    whole = encoded(photo(200, 150), "JPEG")
    y, x = np.mgrid[0:40, 0:60]
    moving = gif((0, 0, x // 15, None, 0), (0, 0, y // 10, None, 0), width=60, height=40, palette=[(9, 9, 9)] * 4)
    files = {
        "whole.jpg": whole,
        "no end.jpg": whole[:-2],
        "cut.gif": moving[:-300],
        "empty.jpg": b"",
        "black.png": png(Image.new("RGB", (64, 64))),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with ImageScorer(NoModel(), make_policy({}), ScorerOptions(decode_threads=2)) as scorer:
        found = scorer.score([tmp_path / name for name in files])
    rows = {Path(row["uri"]).name: row for row in found.decisions.to_pylist()}
    assert {name for name, row in rows.items() if row["status"] == "error"} == {"empty.jpg"}
    assert {name for name, row in rows.items() if row["damaged"]} == {"no end.jpg", "cut.gif"}
    assert rows["no end.jpg"]["damaged"].startswith("the picture is cut or broken: image file is truncated")
    assert rows["cut.gif"]["damaged"].startswith("frame 1 or one before it is broken")
    assert found.summary.counts.damaged == 2
    assert replace(found.summary.counts, damaged=0) + found.summary.counts != found.summary.counts
    assert rows["black.png"]["pdq_quality"] == 0


EXIFS = [b"Exif\0\0", b"Exif\0\0\0\0\x11\0" + bytes(9), b"\xff\xe1\0\x40Exif\0\0II*\0" + bytes(20)]


@pytest.mark.parametrize("exif", EXIFS)
@pytest.mark.parametrize("kind", ["JPEG", "HEIF", "WEBP"])
def test_odd_exif_changes_nothing(kind, exif):
    data = encoded(scene(), kind, quality=95, exif=exif)
    assert np.abs(picture(data).astype(int) - np.asarray(scene(), int)).mean() < 6


def test_a_report_counts_damaged_images():
    words = a_run_of(Counts(scored=9, damaged=2), checks=())
    assert "Damaged images 2 of the 9 scored images have damaged files" in words
    assert "amaged image" not in a_run_of(Counts(scored=9), checks=())


@needs_shared("cases")
def test_files_from_public_bug_reports_are_decoded_as_expected():
    right = {"jpeg_without_eoi.jpg": True, "apng_gap.png": True, "gif_cut_in_2nd_frame.gif": True, "png_text_bad_crc.png": True}
    for path in sorted(CASES.iterdir()):
        image = None
        try:
            image = DecodedImage(path.read_bytes(), LIMITS)
            frames = [frame for _, frame in image.frames()]
        except ImageError as error:
            assert path.name in {"tiff_rgb16_planar.tif", "tiff_rgb_float32.tif"}, (path.name, error)  # noqa: PT017
            continue
        assert frames
        assert bool(image.damaged) or not right.get(path.name), path.name
