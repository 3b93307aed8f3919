"""From bytes to upright RGB frames: known pictures, limits, and everything that is broken."""

import gzip
import io
import itertools
import random
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from needs import DATA, needs_data, needs_writer, require, shared_files
from PIL import Image

from moderation.errors import ErrorCode, ImageError
from moderation.images import pixels
from moderation.images.decoding import FORMATS, DecodedImage, spread
from moderation.images.limits import ImageLimits
from moderation.images.pixels import rgb, upright
from moderation.model.preprocessing import Preprocessing

# As in production, where `decoding` itself turns these off; pytest turns all warnings back on.
pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")

LIMITS = ImageLimits()
CLIP = Preprocessing(224, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def frames(data, limits=LIMITS, target_size=None):
    return list(DecodedImage(data, limits, target_size).frames())


def picture(data, **kwargs):
    """The one frame of an image as an array [H, W, 3]."""
    [(index, frame)] = frames(data, **kwargs)
    assert index == 0
    assert frame.mode == "RGB"
    return np.asarray(frame)


def code_of(data, limits=LIMITS):
    with pytest.raises(ImageError) as caught:
        frames(data, limits)
    assert "\n" not in caught.value.detail
    assert caught.value.detail
    return caught.value.code


def scene(width=48, height=32):
    """A smooth picture without any symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [255 * x / width, 255 * y / height, 255 * (x * 2 + y) / (2 * width + height)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def plain(width, height, colour):
    return Image.new("RGB", (width, height), colour)


# --- formats ---------------------------------------------------------------------------------------------------------------

LOSSLESS = {
    "PNG": ("PNG", {}),
    "BMP": ("BMP", {}),
    "TIFF": ("TIFF", {}),
    "TIFF, deflated": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "WEBP": ("WEBP", {"lossless": True}),
}
LOSSY = {
    "JPEG": ("JPEG", {"quality": 95}),
    "JPEG, progressive": ("JPEG", {"quality": 95, "progressive": True}),
    "WEBP": ("WEBP", {"quality": 95}),
    "AVIF": ("AVIF", {"quality": 95}),
    "HEIF": ("HEIF", {"quality": 95}),
    "GIF": ("GIF", {}),
}


@pytest.mark.parametrize(("kind", "options"), LOSSLESS.values(), ids=LOSSLESS)
def test_lossless_formats_come_through_exactly(kind, options):
    data = encoded(scene(), kind, **options)
    assert np.array_equal(picture(data), np.asarray(scene()))
    assert DecodedImage(data, LIMITS).header == (header := DecodedImage(data, LIMITS).header)
    assert (header.format, header.width, header.height, header.frames) == (kind, 48, 32, 1)


@pytest.mark.parametrize(("kind", "options"), LOSSY.values(), ids=LOSSY)
def test_lossy_formats_come_through_closely(kind, options):
    require(needs_writer(kind))
    data = encoded(scene(), kind, **options)
    found = picture(data).astype(int)
    assert np.abs(found - np.asarray(scene(), int)).mean() < 6
    header = DecodedImage(data, LIMITS).header
    assert (header.format, header.width, header.height, header.frames) == (kind, 48, 32, 1)
    assert header.format in FORMATS


def test_two_pictures_in_one_jpeg_count_as_one():
    """Phones write MPO: a JPEG, and behind it a depth map or a second view."""
    data = encoded(scene(), "MPO", save_all=True, append_images=[plain(48, 32, "red")])
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    header = DecodedImage(data, LIMITS).header
    assert (header.format, header.frames) == ("JPEG", 1)
    assert np.abs(picture(data).astype(int) - np.asarray(scene(), int)).mean() < 6


# --- modes -----------------------------------------------------------------------------------------------------------------


def test_cmyk_is_converted():
    cmyk = Image.merge("CMYK", [Image.new("L", (8, 8), value) for value in (0, 255, 255, 0)])
    for data in (encoded(cmyk, "JPEG", quality=95), encoded(cmyk, "TIFF")):
        assert np.abs(picture(data).astype(int) - [255, 0, 0]).max() < 10


def test_16_bit_grey_is_scaled_to_8():
    levels = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        assert picture(encoded(Image.fromarray(levels), kind))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 127, 255]),
        ([0.0, 128.0, 255.0], [0, 128, 255]),
        ([0.0, 32768.0, 65535.0], [0, 127, 255]),
        ([0.0, 1e6, 2e6], [0, 127, 255]),
        ([-1.0, 0.0, 1.0], [0, 127, 255]),
        ([float("nan"), 0.0, 255.0], [0, 0, 255]),
        ([float("inf"), 0.0, 1.0], [0, 0, 255]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
        ([-5.0, -5.0, -5.0], [0, 0, 0]),
    ],
)
def test_grey_of_32_bits_is_scaled_by_the_range_it_uses(values, expected):
    data = encoded(Image.fromarray(np.array([values], np.float32)), "TIFF")
    assert picture(data)[0, :, 0].tolist() == expected


def test_16_bit_grey_that_pillow_opens_as_32_bits():
    assert picture(encoded(Image.fromarray(np.array([[0, 32896, 65535]], np.int32)), "TIFF"))[0, :, 1].tolist() == [0, 128, 255]


def test_what_is_transparent_is_white():
    image = Image.new("RGBA", (4, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 128))
    for data in (encoded(image, "PNG"), encoded(image, "WEBP", lossless=True, exact=True), encoded(image, "TIFF")):
        assert picture(data)[0].tolist() == [[255, 0, 0], [255, 255, 255], [127, 127, 127], [255, 0, 0]]


def test_grey_with_alpha_is_over_white():
    image = Image.new("LA", (3, 1), (0, 255))
    image.putpixel((1, 0), (0, 0))
    image.putpixel((2, 0), (200, 0))
    assert picture(encoded(image, "PNG"))[0].tolist() == [[0] * 3, [255] * 3, [255] * 3]


def test_a_transparent_palette_colour_is_white():
    image = Image.new("P", (3, 1), 0)
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 200])
    image.putpixel((1, 0), 1)
    image.putpixel((2, 0), 2)
    for kind in ("PNG", "GIF"):
        data = encoded(image, kind, transparency=1)
        assert picture(data)[0].tolist() == [[10, 20, 30], [255, 255, 255], [0, 0, 200]]
    by_alpha = encoded(image, "PNG", transparency=bytes([255, 0, 255]))
    assert picture(by_alpha)[0].tolist() == [[10, 20, 30], [255, 255, 255], [0, 0, 200]]


def test_a_transparent_colour_without_a_palette_is_white():
    image = plain(2, 1, (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    assert picture(encoded(image, "PNG", transparency=(9, 9, 9)))[0].tolist() == [[1, 2, 3], [255, 255, 255]]
    grey = Image.new("L", (2, 1), 7)
    grey.putpixel((1, 0), 8)
    assert picture(encoded(grey, "PNG", transparency=8))[0].tolist() == [[7] * 3, [255] * 3]


def test_one_bit_is_black_and_white():
    image = Image.new("1", (2, 1), 0)
    image.putpixel((1, 0), 1)
    for kind in ("PNG", "BMP", "TIFF"):
        assert picture(encoded(image, kind))[0].tolist() == [[0] * 3, [255] * 3]


def deep_png(kind, samples):
    """A PNG of one row with 16 bits in a sample; `kind` is the colour type, `samples` [pixels, channels]."""
    row = b"\0" + np.asarray(samples, ">u2").tobytes()
    body = struct.pack(">IIBBBBB", len(samples), 1, 16, kind, 0, 0, 0)
    chunks = [(b"IHDR", body), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    framed = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


@pytest.mark.parametrize(
    ("kind", "samples", "expected"),
    [
        (0, [[0], [0x80FF], [0xFFFF]], [[0] * 3, [128] * 3, [255] * 3]),
        (2, [[0xFFFF, 0x80FF, 0], [0x01FF, 0x0200, 0x7F00]], [[255, 128, 0], [1, 2, 127]]),
        (4, [[0x1000, 0xFFFF], [0x1000, 0]], [[16] * 3, [255] * 3]),
        (6, [[0x1000, 0x2000, 0x3000, 0xFFFF], [0x1000, 0x2000, 0x3000, 0]], [[16, 32, 48], [255] * 3]),
    ],
)
def test_16_bit_images_keep_their_upper_8_bits(kind, samples, expected):
    assert picture(deep_png(kind, samples))[0].tolist() == expected


def test_16_bit_colours_in_a_tiff_keep_their_upper_8_bits():
    tags = [(256, 4, 1, 2), (257, 4, 1, 1), (258, 3, 3, 134), (262, 3, 1, 2), (273, 4, 1, 140), (277, 3, 1, 3), (278, 4, 1, 1)]
    directory = struct.pack("<H", 9) + b"".join(
        struct.pack("<HHLL", *tag) for tag in sorted([*tags, (259, 3, 1, 1), (279, 4, 1, 12)])
    )
    data = (b"II*\0\x08\0\0\0" + directory + bytes(4)).ljust(134, b"\0") + struct.pack("<HHH", 16, 16, 16)
    data += struct.pack("<6H", 0xFFFF, 0x80FF, 0, 0x01FF, 0x0200, 0x7F00)
    assert picture(data)[0].tolist() == [[255, 128, 0], [1, 2, 127]]


def test_a_palette_with_an_alpha_channel_is_over_white():
    image = Image.new("RGBA", (3, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (0, 200, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 128))
    data = encoded(image.convert("P", palette=Image.Palette.ADAPTIVE), "PNG")
    with Image.open(io.BytesIO(data)) as stored:
        assert stored.mode == "P"
        assert isinstance(stored.info["transparency"], bytes)
    assert picture(data)[0].tolist() == [[200, 0, 0], [255, 255, 255], [127, 127, 127]]


MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb(mode):
    found = rgb(Image.new(mode, (3, 2)))
    assert (found.mode, found.size) == ("RGB", (3, 2))


def noise_of(mode, size):
    """Random pixels in any mode."""
    rng = np.random.default_rng(5)
    shape = size[::-1]
    if mode in ("I", "F", "I;16"):
        kind = {"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode]
        return Image.fromarray(rng.integers(0 if mode == "I;16" else -70000, 60000, shape).astype(kind))
    if mode == "1":
        return Image.fromarray(rng.integers(0, 2, shape).astype(bool))
    bands = len(Image.new(mode, (1, 1)).getbands())
    image = Image.frombytes(mode, size, rng.integers(0, 256, (*shape, bands), np.uint8).tobytes())
    if mode in ("P", "PA"):
        image.putpalette(rng.integers(0, 256, 768, np.uint8).tobytes())
    return image


@pytest.mark.parametrize("size", [(401, 97), (1, 3001), (3001, 1), (1024, 1), (32, 32), (33, 32)])
@pytest.mark.parametrize(
    "mode", [*MODES, "P with alpha", "P with a colour key", "RGB with a colour key", "L with a colour key"]
)
def test_large_pictures_are_converted_in_bands_to_the_same_pixels(monkeypatch, mode, size):
    mode, _, key = mode.partition(" with ")
    image = noise_of(mode, size)
    if key:
        image.info["transparency"] = bytes(range(256)) if key == "alpha" else (3, 5, 7) if mode == "RGB" else 7
    whole = rgb(image.copy())
    monkeypatch.setattr(pixels, "BAND", 1024)
    assert np.array_equal(np.asarray(rgb(image)), np.asarray(whole))


# --- EXIF orientation ------------------------------------------------------------------------------------------------------

# How a camera held in some way stores an upright picture: the inverse of what a viewer must do. By numpy, on [H, W, 3].
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


def turned(orientation, kind="PNG", **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = STORED.get(orientation, STORED[1])(np.asarray(scene()))
    return encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif.tobytes(), **options)


@pytest.mark.parametrize("orientation", STORED)
def test_a_turned_picture_is_turned_back(orientation):
    data = turned(orientation)
    assert np.array_equal(picture(data), np.asarray(scene()))
    header = DecodedImage(data, LIMITS).header
    assert (header.width, header.height) == ((48, 32) if orientation < 5 else (32, 48)), "the header says what is stored"
    assert np.abs(picture(turned(orientation, "JPEG", quality=95)).astype(int) - np.asarray(scene(), int)).mean() < 6


def test_browsers_do_not_turn_a_webp():
    assert np.array_equal(picture(turned(6, "WEBP", lossless=True)), STORED[6](np.asarray(scene())))


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_a_turned_picture_of_the_heif_family_is_turned_once(kind, orientation):
    """These turn by a property of their container; the EXIF tag beside it must not turn them again."""
    require(needs_writer(kind))
    found = picture(turned(orientation, kind, quality=95)).astype(int)
    assert found.shape == (32, 48, 3)
    assert np.abs(found - np.asarray(scene(), int)).mean() < 6


@pytest.mark.parametrize(
    ("compression", "orientation"), [*(("raw", i) for i in [*STORED, 0, 9]), *(("tiff_lzw", i) for i in STORED)]
)
def test_a_turned_tiff_is_turned_once(compression, orientation):
    """Pillow turns these itself while it loads them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = STORED.get(orientation, STORED[1])(np.asarray(scene()))
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "TIFF", compression=compression, exif=exif)
    assert np.array_equal(picture(data), np.asarray(scene()))


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_an_orientation_that_is_none_is_ignored(orientation):
    assert np.array_equal(picture(turned(orientation)), np.asarray(scene()))
    assert upright(scene(), orientation) is not None


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x05" * 9,
        b"Exif\0\0" + b"\xff" * 40,
        b"junk",
    ],
)
def test_broken_exif_does_not_make_a_picture_unreadable(exif):
    assert np.abs(picture(encoded(scene(), "JPEG", quality=95, exif=exif)).astype(int) - np.asarray(scene(), int)).mean() < 6


# --- frames ----------------------------------------------------------------------------------------------------------------


@given(count=st.integers(1, 2000), limit=st.integers(1, 64))
def test_frames_are_spread_evenly_with_first_and_last(count, limit):
    found = spread(count, limit)
    assert found == sorted(set(found))
    assert len(found) == min(count, limit)
    assert found[0] == 0
    assert limit == 1 or found[-1] == count - 1
    gaps = {b - a for a, b in itertools.pairwise(found)}
    assert not gaps or max(gaps) - min(gaps) <= 1


COLOURS = [(i * 20, 255 - i * 20, (i * 70) % 256) for i in range(11)]
ANIMATED = {
    "GIF": {"duration": 40, "disposal": 2},
    "PNG": {"duration": 40},
    "WEBP": {"duration": 40, "lossless": True},
    "TIFF": {},
}


@pytest.mark.parametrize(("kind", "options"), ANIMATED.items(), ids=ANIMATED)
@pytest.mark.parametrize("limit", [1, 2, 8, 64])
def test_a_few_frames_of_an_animation_are_scored(kind, options, limit):
    images = [plain(20, 12, colour) for colour in COLOURS]
    data = encoded(images[0], kind, save_all=True, append_images=images[1:], **options)
    header = DecodedImage(data, LIMITS).header
    assert (header.format, header.width, header.height, header.frames) == (kind, 20, 12, 11)
    found = frames(data, ImageLimits(max_frames=limit))
    assert [index for index, _ in found] == spread(11, limit)
    for index, frame in found:
        assert frame.mode == "RGB"
        assert np.abs(np.asarray(frame, int) - COLOURS[index]).max() <= (8 if kind == "GIF" else 0)


def test_an_animated_avif_has_frames():
    require(needs_writer("AVIF"))
    images = [plain(32, 32, colour) for colour in COLOURS[:3]]
    data = encoded(images[0], "AVIF", save_all=True, append_images=images[1:], quality=95)
    assert DecodedImage(data, LIMITS).header.frames == 3
    for index, frame in frames(data):
        assert np.abs(np.asarray(frame, int) - COLOURS[index]).mean() < 8


def test_frames_that_change_a_part_are_whole_pictures():
    still = plain(20, 20, (255, 0, 0))
    moved = still.copy()
    moved.paste((0, 0, 255), (5, 5, 10, 10))
    data = encoded(still, "GIF", save_all=True, append_images=[moved, still], disposal=1)
    (_, first), (_, second), (_, third) = frames(data)
    assert first.getpixel((7, 7)) == third.getpixel((7, 7)) == second.getpixel((0, 0)) == (255, 0, 0)
    assert second.getpixel((7, 7)) == (0, 0, 255)


def test_pages_of_different_size_and_kind_are_read():
    pages = [plain(10, 20, "red"), Image.new("L", (30, 5), 128), Image.new("1", (7, 7), 1)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert [frame.size for _, frame in frames(data)] == [(10, 20), (30, 5), (7, 7)]


def test_a_later_page_over_the_limit_is_refused():
    pages = [plain(10, 10, "red"), plain(200, 200, "red")]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert code_of(data, ImageLimits(max_pixels=5000)) == ErrorCode.TOO_MANY_PIXELS


def test_all_images_of_a_heif_are_read_in_their_order():
    require(needs_writer("HEIF"))
    images = [plain(64, 64, colour) for colour in COLOURS[:4]]
    data = encoded(images[0], "HEIF", save_all=True, append_images=images[1:], primary_index=2, quality=95)
    assert DecodedImage(data, LIMITS).header.frames == 4
    for index, frame in frames(data):
        assert np.abs(np.asarray(frame, int) - COLOURS[index]).mean() < 8


def test_frames_can_be_iterated_once():
    image = DecodedImage(encoded(scene(), "PNG"), LIMITS)
    assert len(list(image.frames())) == 1
    with pytest.raises(ImageError, match="the frames of an image can be read only once"):
        list(image.frames())


def test_one_frame_is_in_memory_at_a_time():
    images = [plain(1000, 1000, colour) for colour in COLOURS]
    data = encoded(images[0], "PNG", save_all=True, append_images=images[1:], compress_level=1)
    read = DecodedImage(data, ImageLimits(max_frames=11)).frames()
    kept = [next(read)[1].getpixel((0, 0))]
    kept += [frame.getpixel((0, 0)) for _, frame in read]
    assert kept == COLOURS


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_time_limit_must_be_a_positive_number_of_seconds(seconds):
    with pytest.raises(ValueError, match="max_seconds"):
        ImageLimits(max_seconds=seconds)


# --- limits ----------------------------------------------------------------------------------------------------------------


def png_header(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", b"")


def test_an_object_without_bytes_is_empty():
    assert code_of(b"") == ErrorCode.EMPTY


def test_bytes_over_the_limit_are_too_large():
    data = encoded(scene(), "PNG")
    assert code_of(data, ImageLimits(max_bytes=len(data) - 1)) == ErrorCode.TOO_LARGE
    assert frames(data, ImageLimits(max_bytes=len(data)))


def test_pixels_over_the_limit_are_refused():
    data = encoded(scene(), "PNG")
    assert code_of(data, ImageLimits(max_pixels=48 * 32 - 1)) == ErrorCode.TOO_MANY_PIXELS
    assert frames(data, ImageLimits(max_pixels=48 * 32))


@pytest.mark.parametrize(
    ("width", "height"), [(60000, 60000), (2**31 - 1, 2**31 - 1), (12000, 12000), (9460, 9460), (1, 2**31 - 1)]
)
def test_the_header_is_enough_to_refuse_a_bomb(width, height):
    tracemalloc.start()
    try:
        assert code_of(png_header(width, height)) == ErrorCode.TOO_MANY_PIXELS
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_large_jpeg_is_judged_by_what_decoding_it_takes():
    data = encoded(plain(4000, 3000, "red"), "JPEG")
    limits = ImageLimits(max_pixels=2_000_000)
    image = DecodedImage(data, limits, 224)
    assert (image.header.width, image.header.height) == (4000, 3000)
    assert image.memory < 8 << 20
    assert len(list(image.frames())) == 1
    with pytest.raises(ImageError, match="too_many_pixels: 4000 x 3000 = 12,000,000 pixels; the limit is 2,000,000"):
        DecodedImage(data, limits)  # at full scale


def test_a_jpeg_at_reduced_scale_still_has_a_pixel_limit():
    data = encoded(plain(4000, 3000, "red"), "JPEG")
    with pytest.raises(ImageError, match="too_many_pixels: 4000 x 3000"):
        DecodedImage(data, ImageLimits(max_pixels=900_000), 224)


# --- what is no image, and what is broken ----------------------------------------------------------------------------------

NO_IMAGES = {
    "text": b"just some words\n" * 20,
    "text that starts with BM": b"BMW price list\n" * 20,
    "csv": b"uri\ns3://a/b.jpg\n",
    "SVGZ": gzip.compress(b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>', mtime=0),
    "HTML": b"<!doctype html><html><body>404</body></html>",
    "JSON": b'{"a": 1}',
    "PDF": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "PSD": b"8BPS\0\1" + b"\0" * 6 + b"\0\3\0\0\0\x10\0\0\0\x10\0\x08\0\3" + b"\0" * 100,
    "JPEG 2000": encoded(scene(), "JPEG2000"),
    "TGA": encoded(scene(), "TGA"),
    "PPM": encoded(scene(), "PPM"),
    "ZIP": b"PK\x03\x04" + b"\0" * 40,
    "WAV": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + b"\0" * 40,
    "MP4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0" * 40,
    "zeros": b"\0" * 100,
    "one byte": b"\xff",
}


@pytest.mark.parametrize("data", NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_is_no_image_is_unsupported(data):
    assert code_of(data) == ErrorCode.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("part", [0.05, 0.3, 0.7, 0.95])
def test_a_truncated_image_is_corrupt_or_scored_as_far_as_it_goes(kind, part):
    require(needs_writer(kind))
    whole = encoded(noise(64, 64), kind)
    data = whole[: int(len(whole) * part)]
    if kind not in ("JPEG", "PNG", "GIF", "BMP"):
        assert code_of(data) == ErrorCode.CORRUPT
        return
    image = DecodedImage(data, LIMITS) if part > 0.1 or kind in ("PNG", "BMP") else None
    if image is None or (kind == "JPEG" and part == 0.3):
        return  # the first rows may be there or not
    [(_, found)] = image.frames()
    assert "truncated" in image.damaged
    expected, pixels = picture(whole), np.asarray(found)
    first, last = (-1, 0) if kind == "BMP" else (0, -1)
    assert np.abs(pixels[first].astype(int) - expected[first]).mean() < 3
    assert part == 0.95 or (pixels[last] > 200).all()


@pytest.mark.parametrize("length", [8, 12, 16])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
def test_an_image_cut_off_in_its_header_is_corrupt(kind, length):
    require(needs_writer(kind))
    data = encoded(noise(64, 64), kind)[:length]
    if length == 8 and kind in ("WEBP", "AVIF", "HEIF"):  # RIFF and a length: nothing says yet that this is an image
        assert code_of(data) in {ErrorCode.CORRUPT, ErrorCode.UNSUPPORTED_FORMAT}
    else:
        assert code_of(data) == ErrorCode.CORRUPT


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_frames_before_a_broken_one_are_scored(kind):
    images = [noise(40, 40, seed) for seed in range(5)]
    data = encoded(images[0], kind, save_all=True, append_images=images[1:])
    image = DecodedImage(data[: len(data) * 3 // 4], LIMITS)
    assert not image.damaged
    assert [index for index, _ in image.frames()] == [0, 1, 2]
    assert image.damaged.startswith("frame 3 or one before it is broken: ") or image.damaged.startswith("frame 4 or")


@needs_data
@pytest.mark.parametrize("path", shared_files("data/hostile/pillow"), ids=lambda path: path.name[:40])
def test_crafted_files_decode_or_are_refused(path):
    try:
        found = frames(path.read_bytes(), LIMITS, 224)
    except ImageError as error:
        assert error.code in {ErrorCode.CORRUPT, ErrorCode.TOO_MANY_PIXELS, ErrorCode.UNSUPPORTED_FORMAT}  # noqa: PT017
        return
    assert found
    for _, frame in found:
        assert CLIP(frame).shape == (224, 224, 3)


@needs_data
def test_sound_files_among_the_crafted_ones_are_read():
    for name in (
        "hopper.jpg",
        "hopper.png",
        "hopper.gif",
        "hopper.webp",
        "hopper.bmp",
        "pil_sample_cmyk.jpg",
        "lab.tif",
        "la.tga",
    ):
        data = (DATA / "hostile" / "pillow" / name).read_bytes()
        if name == "la.tga":
            assert code_of(data) == ErrorCode.UNSUPPORTED_FORMAT
        else:
            assert len(frames(data)) == 1


@needs_data
@pytest.mark.parametrize("shape", ["Landscape", "Portrait"])
def test_photos_of_every_orientation_show_the_same_picture(shape):
    paths = sorted((DATA / "hostile" / "exif-orientation").glob(f"{shape}_*.jpg"))
    assert len(paths) == 9
    found = [CLIP(frames(path.read_bytes(), LIMITS, 224)[0][1]).astype(int) for path in paths]
    for other in found[1:]:
        assert np.abs(other - found[0]).mean() < 10  # each file has its number painted on


FUZZED = {
    "JPEG": encoded(scene(), "JPEG"),
    "PNG": encoded(scene().quantize(16), "PNG", transparency=3),
    "APNG": encoded(scene(), "PNG", save_all=True, append_images=[noise(48, 32)]),
    "WEBP": encoded(scene(), "WEBP", save_all=True, append_images=[noise(48, 32)]),
    "GIF": encoded(scene(), "GIF", save_all=True, append_images=[noise(48, 32)]),
    "BMP": encoded(scene(), "BMP"),
    "TIFF": encoded(scene(), "TIFF", save_all=True, append_images=[scene().convert("L")], compression="tiff_lzw"),
    **({"AVIF": encoded(scene(), "AVIF")} if "AVIF" in Image.SAVE else {}),
    **({"HEIF": encoded(scene(), "HEIF")} if "HEIF" in Image.SAVE else {}),
}


@pytest.mark.parametrize("kind", FUZZED)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), flips=st.integers(0, 12), cut=st.floats(0, 1), head=st.booleans())
def test_damage_raises_nothing_but_image_errors(kind, seed, flips, cut, head):
    rng = random.Random(seed)
    data = bytearray(FUZZED[kind])
    for _ in range(flips):
        data[rng.randrange(min(len(data), 200) if head else len(data))] = rng.randrange(256)
    if cut < 0.5:
        del data[int(len(data) * (0.3 + cut)) :]
    try:
        found = frames(bytes(data), ImageLimits(max_pixels=4_000_000), 64)
    except ImageError as error:
        assert error.code != ErrorCode.INTERNAL  # noqa: PT017 - either outcome is fine
    else:
        assert all(frame.mode == "RGB" and frame.width and frame.height for _, frame in found)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from(
        [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"RIFF    WEBP", b"\0\0\0\x1cftypavif"]
    ),
)
def test_arbitrary_bytes_raise_nothing_but_image_errors(data, start):
    with pytest.raises(ImageError):
        frames(start + data, ImageLimits(max_pixels=4_000_000))


# --- reduced scale ---------------------------------------------------------------------------------------------------------


def test_a_far_too_large_jpeg_is_decoded_at_reduced_scale():
    full = scene(400, 300).resize((4000, 3000))
    data = encoded(full, "JPEG", quality=90)
    [(_, reduced)] = frames(data, LIMITS, 224)
    assert max(reduced.size) <= 1000
    assert min(reduced.size) >= 1.6 * 224
    header = DecodedImage(data, LIMITS, 224).header
    assert (header.width, header.height) == (4000, 3000)
    [(_, whole)] = frames(data, LIMITS)
    assert whole.size == (4000, 3000)
    assert np.abs(CLIP(reduced).astype(int) - CLIP(whole).astype(int)).mean() < 1.5


def test_a_large_photo_of_a_phone_is_decoded_at_reduced_scale_too():
    data = encoded(scene(400, 300).resize((4000, 3000)), "MPO", save_all=True, append_images=[scene(400, 300)])
    [(_, reduced)] = frames(data, LIMITS, 224)
    assert max(reduced.size) <= 1000
    [(_, whole)] = frames(data, LIMITS)
    assert np.abs(CLIP(reduced).astype(int) - CLIP(whole).astype(int)).mean() < 1.5


@pytest.mark.parametrize("orientation", [1, 6])
def test_reduced_scale_and_orientation_go_together(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(scene(400, 300).resize((2000, 1500)), "JPEG", exif=exif.tobytes())
    [(_, reduced)] = frames(data, LIMITS, 224)
    [(_, whole)] = frames(data, LIMITS)
    assert (reduced.width > reduced.height) == (whole.width > whole.height) == (orientation == 1)
    assert np.abs(CLIP(reduced).astype(int) - CLIP(whole).astype(int)).mean() < 1.5


@pytest.mark.parametrize(
    ("width", "height"), [(500, 375), (640, 480), (895, 895), (300, 4000), (4000, 300), (224, 224), (10, 10)]
)
def test_a_jpeg_of_ordinary_size_is_the_same_to_the_bit(width, height):
    data = encoded(scene(width, height), "JPEG")
    assert np.array_equal(picture(data, target_size=224), picture(data))


@needs_data
def test_real_photos_at_reduced_scale_look_the_same():
    data = encoded(Image.open(DATA / "clip-b32" / "photos" / "123_456.jpg").resize((3200, 2400)), "JPEG", quality=90)
    [(_, reduced)] = frames(data, LIMITS, 224)
    [(_, whole)] = frames(data, LIMITS)
    assert reduced.width <= 800
    assert np.abs(CLIP(reduced).astype(int) - CLIP(whole).astype(int)).mean() < 2
