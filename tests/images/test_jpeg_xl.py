"""JPEG XL: frames, limits and damage. That colours are right, a browser judges in `test_shown_is_scored.py`."""

import contextlib
import random

import numpy as np
import pytest
from PIL import Image
from strange_jxl import golden, header, jxl, refused, shown
from strange_pictures import PROFILES, photo, scene

from moderation.errors import ErrorCode, ImageError
from moderation.images.decoding import DecodedImage
from moderation.images.isolated import jpeg_xl
from moderation.images.limits import ImageLimits

GOLDEN = golden()


def decoded(data, **limits):
    image = DecodedImage(data, ImageLimits(**limits), 224)
    return image, list(image.frames())


def refusal(data, **limits):
    with pytest.raises(ImageError) as found:
        decoded(data, **limits)
    return found.value


def difference(one, other):
    return np.abs(np.asarray(one, int) - np.asarray(other, int)).mean()


def test_a_lossless_picture_comes_back_to_the_bit():
    image, [(index, picture)] = decoded(jxl(photo()))
    assert (image.header.format, image.header.width, image.header.height, image.header.frames) == ("JXL", 96, 64, 1)
    assert (index, image.primary, image.orientation, image.damaged, image.colours) == (0, 0, 1, "", None)
    assert np.array_equal(picture, photo())
    assert picture.mode == "RGB"


def test_what_is_clear_is_over_white():
    clear = photo().convert("RGBA")
    clear.putalpha(0)
    _, [(_, picture)] = decoded(jxl(clear))
    assert np.asarray(picture).min() == 255


def test_frames_of_an_animation_are_chosen_like_those_of_others():
    expected = [scene(), scene().transpose(Image.Transpose.FLIP_LEFT_RIGHT), scene().convert("L").convert("RGB")]
    image, found = decoded(GOLDEN["moving, opaque.jxl"])
    assert image.header.frames == 3
    assert [index for index, _ in found] == [0, 1, 2]
    assert all(np.array_equal(picture, wanted) for (_, picture), wanted in zip(found, expected, strict=True))
    image, found = decoded(GOLDEN["moving, opaque.jxl"], max_frames=2)
    assert [index for index, _ in found] == [0, 2]
    assert np.array_equal(found[1][1], expected[2])
    assert len(decoded(GOLDEN["moving, opaque.jxl"], max_frames=1)[1]) == 1


def test_a_cut_animation_is_scored_up_to_where_it_is_cut():
    data = GOLDEN["moving.jxl"]
    image, found = decoded(data[:-40])
    assert [index for index, _ in found] == [0, 1]
    assert "libjxl" in image.damaged
    assert np.array_equal(found[1][1], decoded(data)[1][1][1])


def test_colours_are_converted_behind_the_resize():
    image, [(_, picture)] = decoded(jxl(photo(), icc=PROFILES["P3"]))
    assert image.colours is not None
    assert np.array_equal(picture, photo())
    assert difference(image.colours(picture), photo()) > 3


@pytest.mark.parametrize("name", refused())
def test_a_profile_that_browsers_do_not_use_is_refused(name):
    assert "a colour profile that browsers do not use" in str(refusal(refused()[name]))


def test_a_turned_one_is_upright():
    image, [(_, picture)] = decoded(GOLDEN["of a JPEG, turned.jxl"])
    assert picture.size == (image.header.width, image.header.height) == (64, 96)
    assert difference(picture, photo().transpose(Image.Transpose.ROTATE_270)) < 13


# --- limits ----------------------------------------------------------------------------------------------------------------


def test_a_size_out_of_all_proportion_is_refused_by_its_header():
    found = refusal(header(1 << 30, 1 << 30))
    assert found.code in (ErrorCode.CORRUPT, ErrorCode.TOO_MANY_PIXELS)
    found = refusal(header(20_000, 20_000))
    assert (found.code, "the limit is 89,478,485" in found.detail) == (ErrorCode.TOO_MANY_PIXELS, True)
    assert refusal(jxl(photo()), max_pixels=6143).code is ErrorCode.TOO_MANY_PIXELS


def test_memory_is_reserved_before_it_is_taken_and_never_exceeded():
    data = jxl(photo(1200, 1000), effort=1)
    image = DecodedImage(data, ImageLimits(), 224)
    assert 1_200_000 * 50 < image.memory < 1_200_000 * 100
    with pytest.raises(ImageError) as found:
        list(image._isolated.pictures([0], image.memory // 4))
    assert found.value.code is ErrorCode.TOO_MANY_PIXELS
    assert len(list(image.frames())) == 1


def test_the_time_of_the_other_process_counts():
    data = jxl(photo(1200, 1000), effort=3)
    found = refusal(data, max_seconds=0.1)
    assert found.code is ErrorCode.WORKER_TIMEOUT
    assert "0.1 s" in found.detail


def test_without_the_library_the_row_names_it(monkeypatch):
    monkeypatch.setattr(jpeg_xl, "package_folder", lambda name: None)
    found = refusal(jxl(photo()))
    assert found.code is ErrorCode.UNSUPPORTED_FORMAT
    assert found.detail.endswith("pip install pylibjxl")


@pytest.mark.parametrize(
    "data", [b"\xff\x0a", b"\xff\x0a" + bytes(50), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), jxl(photo())[:200]]
)
def test_what_is_no_picture_is_corrupt(data):
    assert refusal(data).code is ErrorCode.CORRUPT


def mutants(count, seed):
    files = [data for name, data in sorted(shown().items()) if len(data) < 6000]
    rng = random.Random(seed)
    for _ in range(count):
        data = bytearray(rng.choice(files))
        for _ in range(rng.choice((1, 1, 3, 12))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        yield bytes(data[: rng.choice((len(data), len(data), rng.randrange(2, len(data))))])


def survive(count, seed):
    """Decode so many mutants; the codes of their errors, and how many have none."""
    codes = {}
    for data in mutants(count, seed):
        code = ""
        with contextlib.suppress(ImageError):
            try:
                decoded(data, max_pixels=4_000_000, max_seconds=5)
            except ImageError as error:
                code = error.code
                raise
        codes[code] = codes.get(code, 0) + 1
    return codes


def test_mutants_are_rows():
    codes = survive(40, 1)
    assert sum(codes.values()) == 40
    assert set(codes) <= {
        "",
        ErrorCode.CORRUPT,
        ErrorCode.TOO_MANY_PIXELS,
        ErrorCode.UNSUPPORTED_FORMAT,
        ErrorCode.WORKER_TIMEOUT,
    }


@pytest.mark.slow
def test_thousands_of_mutants_are_rows():
    codes = survive(3000, 2)
    print(codes)  # noqa: T201 - shown by pytest -s
    assert set(codes) <= {
        "",
        ErrorCode.CORRUPT,
        ErrorCode.TOO_MANY_PIXELS,
        ErrorCode.UNSUPPORTED_FORMAT,
        ErrorCode.WORKER_TIMEOUT,
    }
    assert codes[""] > 100
