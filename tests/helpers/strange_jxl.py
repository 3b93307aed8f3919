"""JPEG XL files of every kind, for comparison with a browser: some made here, others by `cjxl`, see `golden/jxl`."""

import numpy as np
import pylibjxl
from PIL import Image
from places import GOLDEN
from strange_pictures import PROFILES, encoded, photo

FILES = GOLDEN / "jxl"
UNUSED_PROFILES = {"inverted", "by table"}
"""Those that browsers do not use in a JPEG XL, though in a PNG they do."""


def jxl(image, **options):
    return pylibjxl.encode(np.asarray(image), **({"lossless": True, "effort": 3} | options))


def golden():
    return {path.name: path.read_bytes() for path in sorted(FILES.glob("*.jxl"))}


def shown():
    """Name: a file that is scored as browsers show it."""
    clear = photo().convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    found = {
        "lossless": jxl(photo()),
        "lossy": jxl(photo(), lossless=False),
        "very lossy": jxl(photo(), lossless=False, distance=12.0),
        "clear, lossless": jxl(clear),
        "clear, lossy": jxl(clear, lossless=False),
        "of a JPEG": pylibjxl.jpeg_to_jxl(encoded(photo(), "JPEG", quality=80)),
        "of a JPEG with P3": pylibjxl.jpeg_to_jxl(encoded(photo(), "JPEG", icc_profile=PROFILES["P3"])),
        "of a grey JPEG": pylibjxl.jpeg_to_jxl(encoded(photo().convert("L"), "JPEG")),
        "one pixel": jxl(photo().resize((1, 1))),
        "narrow": jxl(photo().resize((3, 300))),
    }
    for name, profile in PROFILES.items():
        if name not in UNUSED_PROFILES:
            found[f"profile, {name}"] = jxl(photo(), icc=profile)
            found[f"profile, {name}, lossy"] = jxl(photo(), icc=profile, lossless=False)
    return golden() | {f"{name}.jxl": data for name, data in found.items()}


def refused():
    return {f"{name}.jxl": jxl(photo(), icc=PROFILES[name]) for name in sorted(UNUSED_PROFILES)}


def header(width, height):
    """The first bytes of a codestream of this size, all else by default."""
    bits = [0]
    for length, ratio in ((height, True), (width, False)):
        bits += [1, 1] + [(length - 1) >> i & 1 for i in range(30)]
        bits += [0, 0, 0] if ratio else []
    bits += [1, 1]  # all else is as usual
    return b"\xff\x0a" + np.packbits(bits, bitorder="little").tobytes() + bytes(20)
