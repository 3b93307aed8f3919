"""Files made to break a decoder: each is an `ImageError` with the right code, soon, and takes little memory.

Run as a program, this file decodes what it is told to in a process of its own; see `main`.
"""

import io
import json
import random
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from needs import DATA, needs_data, needs_linux
from PIL import Image
from support import make_policy

from moderation.demo import IMAGES_DIR
from moderation.errors import ErrorCode, ImageError
from moderation.images.allocation import give_back_freed_memory
from moderation.images.budget import MemoryBudget
from moderation.images.decoding import FORMATS, PARSER_ERRORS, DecodedImage
from moderation.images.guarding import Deadline, GuardedFile
from moderation.images.limits import ImageLimits
from moderation.images.structure.gif import survey_gif
from moderation.images.structure.tiff import survey_tiff
from moderation.model.preprocessing import Preprocessing
from moderation.scoring.image_scorer import ImageScorer

pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")

LIMITS = ImageLimits(max_seconds=5)
CLIP = Preprocessing(224, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
CORRUPT, TOO_MANY, TIMEOUT = ErrorCode.CORRUPT, ErrorCode.TOO_MANY_PIXELS, ErrorCode.WORKER_TIMEOUT
SCREENED = "corrupt: unreasonably large structure: "


def decode(data, limits=LIMITS):
    """The frames of an image as the pipeline wants them."""
    return [CLIP(frame) for _, frame in DecodedImage(data, limits, CLIP.size).frames()]


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def plain(width=8, height=8, colour="red"):
    return Image.new("RGB", (width, height), colour)


# --- files by hand ---------------------------------------------------------------------------------------------------------


def jpeg(*segments, image=None):
    """A JPEG with more segments (marker, content) before its own."""
    data = encoded(image or plain(), "JPEG")
    return data[:2] + b"".join(struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body for kind, body in segments) + data[2:]


def jpeg_sized(width, height):
    data = bytearray(encoded(plain(), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def chunk(kind, body=b""):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks, width=1, height=1):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0\0\0\0")) + chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunk(*one) for one in chunks) + pixels


def gif(*frames, width=1, height=1):
    """Frames are (left, top, width, height)."""
    blocks = [b"," + struct.pack("<HHHHB", *frame, 0) + b"\2\2\x44\1\0" for frame in frames]
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b"".join(blocks) + b";"


def tags(entries, following=0, order="<"):
    """A TIFF directory of (tag, type, count, value or offset)."""
    body = b"".join(struct.pack(order + "HHLL", *entry) for entry in sorted(entries))
    return struct.pack(order + "H", len(entries)) + body + struct.pack(order + "L", following)


def tiff(*entries, tail=b"", without=(), following=0):
    """A TIFF of one grey pixel, with other tags; what their offsets point at starts at 400."""
    all_tags = {256: (4, 1, 1), 257: (4, 1, 1), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 8), 278: (3, 1, 1)}
    all_tags |= {tag: tuple(rest) for tag, *rest in entries}
    head = b"II*\0\x08\0\0\0" + tags([(tag, *rest) for tag, rest in all_tags.items() if tag not in without], following)
    return head.ljust(400, b"\0") + tail


def exif(count):
    """EXIF whose orientation and resolution are lists of fractions."""
    values = b"\1\0\0\0\2\0\0\0" * count
    return b"II*\0\x08\0\0\0" + tags([(0x112, 5, count, 64), (0x11A, 5, count, 64)]).ljust(56, b"\0") + values


def riff(*chunks):
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def animated_webp(frames, width=1, height=1):
    still = encoded(plain(width, height), "WEBP", lossless=True)[12:]
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    frame = (b"ANMF", bytes(6) + size + b"\1\0\0\2" + still)
    return riff((b"VP8X", b"\2\0\0\0" + size), (b"ANIM", bytes(6)), *[frame] * frames)


def resized_boxes(data, width, height, last_only=False):
    """An AVIF or HEIF whose boxes tell another size."""
    data = bytearray(data)
    at = data.rfind(b"ispe") if last_only else data.find(b"ispe")
    while at >= 0:
        data[at + 8 : at + 16] = struct.pack(">II", width, height)
        at = -1 if last_only else data.find(b"ispe", at + 1)
    return bytes(data)


def progressive_jpeg_of_many_scans(count):
    data = encoded(plain(2000, 2000), "JPEG", progressive=True)
    end = data.rindex(b"\xff\xd9")
    scan = data[data.rindex(b"\xff\xda") : end]
    return data[:end] + scan * count + data[end:]


def rle_bitmap(width, height):
    palette = b"".join(bytes([i, 255 - i, i // 2, 0]) for i in range(256))
    header = struct.pack("<IIIHHIIIIII", 40, width, height, 1, 8, 1, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 40 + 1024) + header + palette + b"\1\5" * 3_000_000


def animated(kind, size, frames, **options):
    images = [Image.linear_gradient("L").resize((size, size)).rotate(7 * i) for i in range(frames)]
    return encoded(images[0], kind, save_all=True, append_images=images[1:], **options)


HEIF_PAIR = encoded(plain(64, 64), "HEIF", save_all=True, append_images=[plain(128, 64, "blue")])
TILE = [(322, 4, 1, 40_000), (323, 4, 1, 40_000), (324, 4, 1, 400), (325, 4, 1, 100), (259, 3, 1, 8)]
GREY_TEXT = zlib.compress("\U0001f600".encode() + b"a" * ((1 << 20) - 8))

BOMBS = {
    "GIF, screen": (lambda: gif((0, 0, 1, 1), width=65535, height=65535), TOO_MANY),
    "GIF, frame beyond the screen": (lambda: gif((0, 0, 1, 1), (0, 0, 65535, 65535)), TOO_MANY),
    "GIF, frame far out": (lambda: gif((65000, 65000, 1, 1)), TOO_MANY),
    "PNG": (lambda: png(width=2**31 - 1, height=2**31 - 1), TOO_MANY),
    "APNG, a million million frames": (lambda: png((b"acTL", struct.pack(">II", 2**31, 0))), CORRUPT),
    "BMP": (lambda: b"BM" + struct.pack("<IHHIIIIHHIIIIII", 0, 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0), TOO_MANY),
    "TIFF": (lambda: tiff((256, 4, 1, 2**31 - 1), (257, 4, 1, 2**31 - 1)), TOO_MANY),
    "TIFF, tile": (lambda: tiff(*TILE, tail=b"\x78\x9c" + b"\0" * 98, without=(273, 278)), "takes 1,525 MiB of memory"),
    "JPEG": (lambda: jpeg_sized(65500, 65500), TOO_MANY),
    "WEBP": (lambda: riff((b"VP8X", b"\2\0\0\0\xff\xff\0\xff\xff\0"), (b"ANIM", bytes(6))), None),
    "AVIF": (lambda: resized_boxes(encoded(plain(64, 64), "AVIF"), 16000, 16000), TOO_MANY),
    "HEIF": (lambda: resized_boxes(encoded(plain(64, 64), "HEIF"), 16000, 16000), TOO_MANY),
    "HEIF, impossible": (lambda: resized_boxes(encoded(plain(64, 64), "HEIF"), 2**31, 2**31), None),
    "HEIF, second image": (lambda: resized_boxes(HEIF_PAIR, 32000, 32000, last_only=True), TOO_MANY),
    "JPEG, comments": (lambda: jpeg(*[(0xFE, b"")] * 5000), SCREENED),
    "JPEG, EXIF in many segments": (lambda: jpeg(*[(0xE1, b"Exif\0\0" + b"x" * 65000)] * 20), SCREENED),
    "JPEG, frame header": (lambda: jpeg((0xC0, b"\x08\0\x08\0\x08\3" + bytes(65000))), SCREENED),
    "JPEG, EXIF of one segment": (lambda: jpeg((0xE1, b"Exif\0\0" + exif(8000))), ""),
    "PNG, EXIF": (lambda: png((b"eXIf", exif(300_000))), ""),
    "PNG, private chunks": (lambda: png(*[(b"abCd",)] * 70_000), SCREENED),
    "PNG, texts that expand": (lambda: png(*[(b"iTXt", b"k%d\0\1\0\0\0" % i + GREY_TEXT) for i in range(60)]), SCREENED),
    "PNG, a text that expands for ever": (lambda: png((b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000)))), CORRUPT),
    "PNG, a profile that expands": (lambda: png((b"iCCP", b"k\0\0" + zlib.compress(bytes(50_000_000)))), CORRUPT),
    "PNG, one huge text": (lambda: png((b"tEXt", b"k\0" + b"x" * (33 << 20))), SCREENED),
    "TIFF, strips": (lambda: tiff((257, 4, 1, 400_000), (273, 4, 400_000, 400), tail=b"\x08\0\0\0" * 400_000), SCREENED),
    "TIFF, fractions": (lambda: tiff((282, 5, 400_000, 400), tail=b"\1\0\0\0\2\0\0\0" * 400_000), SCREENED),
    "TIFF, EXIF": (
        lambda: tiff((34665, 4, 1, 400), tail=tags([(282, 5, 400_000, 500)]).ljust(100, b"\0") + b"\1\0\0\0" * 800_000),
        SCREENED,
    ),
    "TIFF, more strips than bytes": (lambda: tiff((273, 4, 2**31, 400)), CORRUPT),
    "TIFF, itself the next page": (lambda: tiff(following=8), ""),
    "TIFF, pages": (lambda: b"II*\0\x08\0\0\0" + b"".join(tags([], 14 + 6 * i) for i in range(110_000)), SCREENED),
    "GIF, comments": (lambda: gif((0, 0, 1, 1))[:-1] + b"!\xfe" + b"\1x" * 70_000 + b"\0;", SCREENED),
    "WEBP, chunks": (lambda: riff((b"VP8X", bytes(10)), *[(b"abcd", b"")] * 70_000), SCREENED),
    "WEBP, frames": (lambda: animated_webp(70_000), SCREENED),
    "AVIF, items": (
        lambda: b"\0\0\0\x18ftypavif" + bytes(12) + struct.pack(">I", 2 << 20) + b"meta" + bytes(2 << 20),
        SCREENED,
    ),
    "AVIF, EXIF": (lambda: encoded(plain(64, 64), "AVIF") + exif(300_000), SCREENED),
}
"""Each with what the error says; None: anything, "": it can be read."""


def outcome(data, limits=LIMITS):
    """The error, "" if there is none; the seconds; the megabytes that memory grew by at most."""
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    start = time.monotonic()
    try:
        assert decode(data, limits)
        text = ""
    except ImageError as error:
        text = str(error)
    assert "\n" not in text
    assert not text.endswith(": ")
    return text, time.monotonic() - start, resident("VmHWM") - before


def resident(what):
    """Megabytes of this process: VmRSS now, VmHWM at most since it was reset."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


@needs_linux
@pytest.mark.parametrize(("make", "expected"), BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_soon_and_without_taking_memory(make, expected):
    data = make()
    text, seconds, megabytes = outcome(data)
    if expected is None:
        assert text
    elif expected:
        assert expected in text
    else:
        assert not text
    assert seconds < 5
    assert megabytes < 100 + 3 * len(data) / 1e6


SLOW = {
    "GIF, frames": lambda: gif(*[(0, 0, 1, 1)] * 200_000),
    "GIF, frames of some size": lambda: animated("GIF", 1500, 24),
    "APNG, frames": lambda: animated("PNG", 1500, 24),
    "WEBP, frames": lambda: animated_webp(60_000),
    "TIFF, pages": lambda: b"II*\0\x08\0\0\0" + b"".join(tags([], 14 + 6 * i) for i in range(90_000)),
    "JPEG, scans": lambda: progressive_jpeg_of_many_scans(400),
    "JPEG, junk": lambda: jpeg((0xFE, b""))[:6] + b"\0" * 20_000_000 + jpeg()[2:],
    "BMP, runs": lambda: rle_bitmap(9000, 9000),
}


@pytest.mark.parametrize("make", SLOW.values(), ids=SLOW)
def test_what_takes_too_long_is_stopped(make):
    data = make()
    limits = ImageLimits(max_seconds=0.1, max_frames=64)
    start = time.thread_time()
    with pytest.raises(ImageError) as caught:
        decode(data, limits)
    assert caught.value.code == TIMEOUT
    assert caught.value.detail == "decoding took longer than 0.1 s"
    assert time.thread_time() - start < 4


def test_a_thread_that_waits_for_a_processor_uses_up_no_time():
    """A busy machine gives the same rows as an idle one."""
    deadline = Deadline(0.2)
    file = GuardedFile(b"x", deadline)
    time.sleep(0.4)
    deadline.check()
    assert file.read() == b"x"
    while time.thread_time() <= deadline.end:
        pass
    for late in (deadline.check, file.read):
        with pytest.raises(ImageError) as caught:
            late()
        assert caught.value.code == TIMEOUT


def test_waiting_between_header_and_pixels_does_not_count():
    image = DecodedImage(encoded(plain(), "PNG"), ImageLimits(max_seconds=0.2))
    time.sleep(0.3)
    assert len(list(image.frames())) == 1


# --- what is no image, and what is two things at once ----------------------------------------------------------------------

FOREIGN = {
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n",
    "EPS, binary": b"\xc5\xd0\xd3\xc6" + bytes(40),
    "PDF": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n" + encoded(plain(), "JPEG"),
    "WMF": b"\xd7\xcd\xc6\x9a\0\0" + bytes(80),
    "EMF": b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(80),
    "FLI": struct.pack("<IHHHHHH", 128, 0xAF11, 4000, 64, 64, 8, 3) + bytes(112),
    "PSD": b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\x10\0\0\0\x10\0\x08\0\3" + bytes(100),
    "FITS": b"SIMPLE  =                    T" + bytes(200),
    "XPM": b"/* XPM */\nstatic char *x[] = {};",
    "GBR": struct.pack(">IIIII", 28, 2, 8, 8, 4) + b"GIMP" + bytes(100),
    "PCD": bytes(2048) + b"PCD_" + bytes(100),
    "SUN": b"\x59\xa6\x6a\x95" + bytes(60),
    "BLP": b"BLP2" + bytes(200),
    "GRIB": b"GRIB\0\0\0\1" + bytes(60),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(60),
    "MPEG": b"\0\0\1\xb3" + bytes(60),
    "QOI": b"qoif" + struct.pack(">II", 8, 8) + b"\3\0" + bytes(20),
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40),
    "a JPEG inside": b"x" + encoded(plain(), "JPEG"),
}


@pytest.fixture
def parsers_run(monkeypatch):
    """The formats whose parsers Pillow starts."""
    Image.init()
    run = []

    def counted(name, factory):
        return lambda *args: (run.append(name), factory(*args))[1]

    for name, (factory, accept) in list(Image.OPEN.items()):
        monkeypatch.setitem(Image.OPEN, name, (counted(name, factory), accept))
    return run


def test_no_parser_of_another_format_runs(parsers_run):
    writable = {}
    for kind in sorted(set(Image.SAVE) - {*FORMATS, "ICO", "MPO", "DIB", "PDF", "EPS", "IM"}):
        for mode in ("RGB", "L", "1", "P"):
            try:
                writable[kind] = encoded(plain(16, 16).convert(mode), kind)
            except (OSError, ValueError, AttributeError):
                continue
            break
    assert len(writable) > 10
    for kind, data in {**FOREIGN, **writable}.items():
        with pytest.raises(ImageError) as caught:
            decode(data)
        assert caught.value.code == ErrorCode.UNSUPPORTED_FORMAT, kind
    assert set(parsers_run) <= set(FORMATS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("tail", [b"PK\x03\x04" + bytes(100), b"<script>alert(1)</script>", b"%PDF-1.4\n" * 20, bytes(1000)])
def test_what_hangs_on_an_image_changes_nothing(kind, tail):
    data = encoded(Image.linear_gradient("L").convert("RGB"), kind)
    [expected], [found] = decode(data), decode(data + tail)
    assert np.array_equal(found, expected)


@needs_linux
def test_a_phones_jpeg_that_promises_many_more_pictures_is_read():
    data = bytearray(encoded(plain(64, 64), "MPO", save_all=True, append_images=[plain(64, 64, "blue")]))
    count = data.index(struct.pack("<HHLL", 0xB001, 4, 1, 2)) + 8
    data[count : count + 4] = b"\xff\xff\xff\x7f"
    text, seconds, _ = outcome(bytes(data))
    assert (text[:7] or CORRUPT) == CORRUPT
    assert seconds < 1


EMPTY = {
    "PNG": png(width=0),
    "GIF": gif((0, 0, 0, 0), width=0, height=0),
    "JPEG": jpeg_sized(0, 0),
    "BMP": b"BM" + struct.pack("<IHHIIIIHHIIIIII", 0, 0, 0, 54, 40, 0, 0, 1, 24, 0, 0, 0, 0, 0, 0),
    "TIFF": tiff((256, 4, 1, 0)),
    "AVIF": resized_boxes(encoded(plain(64, 64), "AVIF"), 0, 0),
    "HEIF": resized_boxes(encoded(plain(64, 64), "HEIF"), 0, 0),
}


@pytest.mark.parametrize("data", EMPTY.values(), ids=EMPTY)
def test_a_picture_of_no_pixels_is_corrupt(data):
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.code == CORRUPT


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), flips=st.integers(0, 6))
def test_frames_are_counted_as_pillow_counts_them(kind, seed, flips):
    data = bytearray(encoded(plain(4, 4), kind, save_all=True, append_images=[plain(5, 3, "blue"), plain(4, 4, "white")]))
    rng = random.Random(seed)
    for _ in range(flips):
        data[rng.randrange(len(data))] = rng.randrange(256)
    try:
        with Image.open(io.BytesIO(bytes(data)), formats=[kind]) as image:
            expected = image.n_frames
    except PARSER_ERRORS:
        return
    survey = survey_gif if kind == "GIF" else survey_tiff
    assert survey(bytes(data), Deadline(5)).frames == expected


# --- memory ----------------------------------------------------------------------------------------------------------------


def test_a_budget_is_never_overdrawn_and_nobody_starves():
    lock, held, most, order = threading.Lock(), 0, 0, []
    budget = MemoryBudget(100)

    def work(name, amount):
        nonlocal held, most
        with budget.reserve(amount):
            with lock:
                held += min(amount, 100)
                most = max(most, held)
                order.append(name)
            time.sleep(0.001)
            with lock:
                held -= min(amount, 100)

    rng = random.Random(1)
    threads = [threading.Thread(target=work, args=(i, rng.choice([1, 10, 60, 100, 1000]))) for i in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(order) == list(range(200))
    assert 60 < most <= 100


def test_a_large_request_is_not_overtaken():
    budget, order, started = MemoryBudget(100), [], threading.Event()

    def work(name, amount):
        with budget.reserve(amount):
            order.append(name)

    with budget.reserve(50):
        threads = []
        for name, amount in (("large", 80), ("small", 10)):
            threads.append(threading.Thread(target=work, args=(name, amount)))
            threads[-1].start()
            started.wait(0.1)
        assert order == []
    for thread in threads:
        thread.join(5)
    assert order == ["large", "small"]


def test_what_was_reserved_is_free_again_after_an_error():
    given_back = []
    budget = MemoryBudget(100, lambda: given_back.append(1))
    for _ in range(3):
        with pytest.raises(KeyError), budget.reserve(100):
            raise KeyError
    assert len(given_back) == 3
    with pytest.raises(ValueError, match="a memory budget of 0 bytes"):
        MemoryBudget(0)
    give_back_freed_memory()


# --- in a process of its own: large pictures, and many broken ones ---------------------------------------------------------


class NoModel:
    """An encoder to which all pictures are alike."""

    name, fingerprint, dim, batch_size, logit_scale, logit_bias = "none", "0" * 16, 2, 32, 1.0, None
    preprocessing = CLIP

    def encode_images(self, pixels):
        return np.tile(np.array([1, 0], np.float32), (len(pixels), 1))

    encode_texts = encode_images

    def start(self, pixels):
        vectors = self.encode_images(pixels)
        return lambda: vectors


def ramp(side, mode="RGB"):
    """A large picture that is quickly made and packs well, [side, side]."""
    rows = np.arange(side, dtype=np.uint32)
    grey = ((rows[:, None] // 53 + rows[None, :] // 37) % 256).astype(np.uint8)
    if mode in ("I", "F", "I;16"):
        return Image.fromarray(grey.astype({"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode]))
    image = Image.fromarray(grey)
    if mode == "P":
        image.putpalette(bytes(range(256)) * 3)
        return image
    return Image.merge(mode, [image] * len(mode))


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


LARGE = {
    "rgb.jpg": ("RGB", "JPEG", {}),
    "turned.jpg": ("RGB", "JPEG", {"exif": turned}),
    "cmyk.jpg": ("CMYK", "JPEG", {}),
    "progressive.jpg": ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    "progressive-cmyk.jpg": ("CMYK", "JPEG", {"progressive": True}),
    "rgba.png": ("RGBA", "PNG", {"compress_level": 1}),
    "turned-rgba.png": ("RGBA", "PNG", {"compress_level": 1, "exif": turned}),
    "la.png": ("LA", "PNG", {"compress_level": 1}),
    "colour-key.png": ("RGB", "PNG", {"compress_level": 1, "transparency": (9, 9, 9)}),
    "palette.png": ("P", "PNG", {"compress_level": 1, "transparency": bytes(range(256))}),
    "grey16.png": ("I;16", "PNG", {"compress_level": 1}),
    "palette.gif": ("P", "GIF", {"transparency": 3}),
    "rgba.tif": ("RGBA", "TIFF", {"compression": "tiff_adobe_deflate"}),
    "int.tif": ("I", "TIFF", {"compression": "tiff_adobe_deflate"}),
    "float.tif": ("F", "TIFF", {"compression": "tiff_adobe_deflate"}),
    "rgba.webp": ("RGBA", "WEBP", {"quality": 50, "method": 0}),
    "rgba.avif": ("RGBA", "AVIF", {"speed": 10}),
    "rgba.heic": ("RGBA", "HEIF", {"enc_params": {"preset": "ultrafast"}}),
}


def large(name, side):
    mode, kind, options = LARGE[name]
    options = {key: value() if callable(value) else value for key, value in options.items()}
    return encoded(ramp(side, mode), kind, **options)


def in_a_process(*arguments, timeout=600):
    """What `main` prints, as JSON."""
    command = [sys.executable, "-W", "ignore", __file__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def measure_decoding(folder):
    """Megabytes that decoding each file takes, and those that were foreseen."""
    found = {}
    for path in sorted(Path(folder).iterdir()):
        data = path.read_bytes()
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        image = DecodedImage(data, ImageLimits(max_seconds=300))
        for _, frame in image.frames():
            CLIP(frame)
            del frame
        found[path.name] = [resident("VmHWM") - before, image.memory / (1 << 20)]
        del image
        give_back_freed_memory()
    return found


def measure_scoring(folder, threads):
    """Megabytes that scoring all files takes, and the error code of each (None: scored)."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    random.Random(0).shuffle(paths)
    limits = ImageLimits(max_seconds=300)
    with ImageScorer(NoModel(), make_policy({}), decode_threads=int(threads), limits=limits) as scorer:
        scorer.score(sorted(path for path in IMAGES_DIR.rglob("*") if path.is_file())[:32])
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        rows = scorer.score(paths).decisions.to_pylist()
    return [resident("VmHWM") - before, {Path(row["uri"]).name: row["error_code"] for row in rows}]


@pytest.mark.slow
@needs_linux
def test_the_memory_that_is_foreseen_is_what_is_taken(tmp_path):
    for name in LARGE:
        (tmp_path / name).write_bytes(large(name, 4096))
    for kind, images in {"gif": "P", "png": "RGBA", "webp": "RGBA"}.items():
        frames = [ramp(4096, images).rotate(90 * i) for i in range(3)]
        how = {"disposal": 2} if kind != "webp" else {"method": 0}
        (tmp_path / f"animated.{kind}").write_bytes(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **how))
    found = in_a_process("measure_decoding", tmp_path)
    assert len(found) == len(LARGE) + 3
    over = {name: (taken, foreseen) for name, (taken, foreseen) in found.items() if taken > foreseen * 1.05 + 25}
    assert not over


@needs_data
@needs_linux
def test_every_hostile_file_has_its_row_and_memory_stays_low():
    taken, codes = in_a_process("measure_scoring", DATA / "hostile", 8)
    assert len(codes) == sum(path.is_file() for path in (DATA / "hostile").rglob("*"))
    assert {code for code in codes.values() if code} <= {CORRUPT, TOO_MANY, ErrorCode.UNSUPPORTED_FORMAT}
    assert taken < 1000


@pytest.mark.slow
@needs_linux
def test_large_pictures_side_by_side_stay_within_the_budget(tmp_path):
    """89 million pixels in each mode and format, by eight threads: what is fetched and what is decoded, under 1.5 GB."""
    for name in LARGE:
        data = large(name, 8192 if name == "rgba.heic" else 9459)
        (tmp_path / name).write_bytes(data)
        (tmp_path / f"again-{name}").write_bytes(data + b"\0")  # equal bytes would be decoded once
    taken, codes = in_a_process("measure_scoring", tmp_path, 8)
    print(f"{len(codes)} large pictures by eight threads took {taken:.0f} MB")  # noqa: T201 - shown by pytest -s
    refused = {name for name, code in codes.items() if code}
    assert refused == {"rgba.webp", "again-rgba.webp"}, "libwebp takes 16 bytes for a pixel"
    assert {codes[name] for name in refused} == {TOO_MANY}
    assert taken < 1500


MUTANTS = 14_000
SEEDS = sorted(path for path in [*(DATA / "hostile").rglob("*"), *IMAGES_DIR.rglob("*")] if path.is_file())


def more_seeds():
    """Kinds of files that the corpora lack."""
    image = Image.linear_gradient("L").resize((48, 40)).convert("RGB")
    others = [image.rotate(90), image.rotate(180)]
    several = {"save_all": True, "append_images": others}
    kinds = [("AVIF", {}), ("AVIF", several), ("HEIF", {}), ("HEIF", several), ("WEBP", several), ("WEBP", {"lossless": True})]
    kinds += [("PNG", several), ("GIF", several), ("BMP", {}), ("MPO", several), ("JPEG", {"progressive": True})]
    kinds += [
        ("TIFF", {"compression": name}) for name in ("jpeg", "tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd", "lzma")
    ]
    files = [encoded(image, kind, **options) for kind, options in kinds]
    files += [encoded(image.convert("1"), "TIFF", compression=name) for name in ("group3", "group4", "tiff_ccitt")]
    files += [encoded(image.convert(mode), "TIFF") for mode in ("RGBA", "CMYK", "LAB", "YCbCr", "F", "I", "LA", "P")]
    files += [encoded(image, "HEIF", tile_size=16), encoded(image, "JPEG", exif=turned()), rle_bitmap(64, 64)[:5000]]
    return files


def mutated(data, rng):
    """The file with one to six kinds of damage: bytes, numbers, pieces cut, repeated, moved, and its end lost."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        if not data:
            break
        near = min(len(data), rng.choice([32, 256, 4096, len(data)]))
        at, length = rng.randrange(near), rng.choice([1, 2, 4, 8, 64, 1000])
        kind = rng.randrange(7)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + length] = rng.randbytes(min(length, len(data) - at))
        elif kind == 2:
            number = rng.choice([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF, 40000, 2**24])
            size = rng.choice([2, 4])
            data[at : at + size] = (number % 256**size).to_bytes(size, rng.choice(["big", "little"]))
        elif kind == 3:
            del data[at : at + length]
        elif kind == 4:
            data[at:at] = data[at : at + length] * rng.choice([1, 1, 2, 50])
        elif kind == 5:
            other = rng.randrange(len(data))
            data[at : at + length] = data[other : other + length]
        elif rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
    return bytes(data)


def fuzz(log, first, last):
    """Decode the mutants of these numbers. The log gets a line before each, and one with what became of it."""
    seeds, others = SEEDS, more_seeds()
    with Path(log).open("a", buffering=1) as out:
        for number in range(int(first), int(last)):
            rng = random.Random(number)
            chosen = rng.randrange(len(seeds) + 8 * len(others))
            data = seeds[chosen].read_bytes() if chosen < len(seeds) else others[(chosen - len(seeds)) % len(others)]
            data = mutated(data, rng)
            out.write(f"{number} start\n")
            try:
                text, seconds, megabytes = outcome(data)
            except Exception as error:  # noqa: BLE001 - this is what to look for
                text, seconds, megabytes = f"RAISED {type(error).__name__}: {error}", 0.0, 0.0
            line = json.dumps([text, round(seconds, 3), round(megabytes)])
            out.write(f"{number} {line}\n")
    return []


def run_fuzz(log, count):
    """All mutants, in processes that are started anew where one dies or hangs; the numbers of those that did that."""
    dead, first = [], 0
    while first < count:
        command = [sys.executable, "-W", "ignore", __file__, "fuzz", str(log), str(first), str(count)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        size = -1
        while process.poll() is None:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                if log.stat().st_size == size:
                    process.kill()
                size = log.stat().st_size
        last = int(log.read_text().splitlines()[-1].split()[0])
        if process.returncode:
            dead.append(last)
        first = last + 1
    return dead


@needs_data
@needs_linux
@pytest.mark.slow
def test_thousands_of_broken_files_are_read_or_refused(tmp_path):
    """A process that dies in a codec is counted and reported: the pool isolates the file that did it."""
    log = tmp_path / "log"
    dead = run_fuzz(log, MUTANTS)
    found = {}
    for line in log.read_text().splitlines():
        number, rest = line.split(" ", 1)
        if rest != "start":
            found[int(number)] = json.loads(rest)
    assert len(found) + len(dead) == MUTANTS
    codes = {}
    for text, _, _ in found.values():
        code = text.partition(":")[0]
        codes[code] = codes.get(code, 0) + 1
    print(f"{MUTANTS} mutants: {codes}; processes died of {dead}")  # noqa: T201 - shown by pytest -s
    assert [(number, text) for number, (text, _, _) in found.items() if text.startswith("RAISED")] == []
    assert set(codes) <= {"", *(code.value for code in ErrorCode)}
    assert [number for number, (_, seconds, _) in found.items() if seconds > 2 * LIMITS.max_seconds] == []
    assert [(number, megabytes) for number, (_, _, megabytes) in found.items() if megabytes > 1200] == []
    assert len(dead) <= 3


def main(function, *arguments):
    pillow_heif.register_heif_opener()
    print(json.dumps(globals()[function](*arguments)))  # noqa: T201 - read by the test


if __name__ == "__main__":
    main(*sys.argv[1:])
