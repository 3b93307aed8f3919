"""Image files made by hand to break a decoder."""

import struct
import zlib

from pictures import encoded
from PIL import Image

from moderation.errors import ErrorCode
from moderation.images import decoding  # noqa: F401 - Pillow saves HEIF from here on

CORRUPT, TOO_MANY = ErrorCode.CORRUPT, ErrorCode.TOO_MANY_PIXELS
SCREENED = "corrupt: unreasonably large structure: "


def plain(width=8, height=8, colour="red"):
    return Image.new("RGB", (width, height), colour)


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


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


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
