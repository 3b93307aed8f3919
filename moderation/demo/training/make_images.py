"""Writes the demo images and labels.csv: what a marketplace's bucket could hold, drawn by the demo's renderer.

Everything follows from fixed seeds that neither training nor evaluation uses. A label says what was drawn; no model is
asked. Some files are broken on purpose, and their label is the error they must end in.
"""

from __future__ import annotations

import argparse
import csv
import io
import shutil
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image

from moderation.demo import IMAGES_DIR, LABELS_FILE
from moderation.demo.training.concepts import load_concepts
from moderation.demo.training.render import FontMissingError, draw_glyph, find_font, render, rng_for, transparent

LIVE_RULES = {
    "weapons": "🔫🔪🗡⚔🪓🏹💣",
    "tobacco": "🚬",
    "alcohol": "🍺🍻🍷🍸🍹🍾🥂🥃🍶",
    "gambling": "🎰🎲🃏🎴",
}
SHADOW_RULES = {"medication": "💊💉"}
COPIES = {"weapons": 4, "tobacco": 11, "alcohol": 3, "gambling": 4, "medication": 4}
# Harmless things that look like, or stand beside, what a rule is about; two pictures of each.
LOOKALIKES = "🚭🚭☕🍵🥛🥤🧃🧋🍼🔨🔧🪛🪚⛏🍴🥄🧩🎮🎯♟🔦📌🧪🩹🌡"
# Left out of the clean ones: a person could argue about them.
ARGUABLE = frozenset("🧨🪃🛡🤺🥷💥☠💀⚰🍽🧉⚗🧫🩸🎱🔥")
PICTURES = 290  # all decodable files, animations among them
FOLDERS = ("listings", "profile-photos", "uploads")


@dataclass(frozen=True)
class Label:
    """One row of labels.csv; several values in one field are separated by semicolons."""

    file: str
    concept: str
    glyph: str
    expect: str  # flagged | clean | error
    rules: str  # live rules that should flag it
    shadow_rules: str
    error_code: str


class Studio:
    """Draws concepts with the random stream of one file."""

    def __init__(self, font: Path) -> None:
        self._font = font
        self.names = {concept.glyph: concept.captions[0] for concept in load_concepts()}

    def glyph(self, glyph: str) -> Image.Image:
        """The bare glyph, RGBA."""
        picture = draw_glyph(glyph, self._font)
        if picture is None:
            raise FontMissingError(f"the font at {self._font} has no picture for {glyph!r}")
        return picture

    def draw(self, glyph: str, rng: np.random.Generator, low: int, high: int) -> Image.Image:
        """An RGB picture with sides between low and high pixels."""
        width, height = (int(side) for side in rng.integers(low, high + 1, 2))
        return render(self.glyph(glyph), rng, (width, height))

    def cut_out(self, glyph: str, rng: np.random.Generator) -> Image.Image:
        """An RGBA picture on a transparent ground."""
        width, height = (int(side) for side in rng.integers(160, 321, 2))
        return transparent(self.glyph(glyph), rng, (width, height))

    def label(self, file: str, glyphs: str) -> Label:
        """What the rules should make of a file that shows these glyphs."""
        live = [rule for rule, members in LIVE_RULES.items() if any(g in members for g in glyphs)]
        shadow = [rule for rule, members in SHADOW_RULES.items() if any(g in members for g in glyphs)]
        names = ";".join(self.names[g] for g in glyphs)
        expect = "flagged" if live else "clean"
        return Label(file, names, ";".join(glyphs), expect, ";".join(live), ";".join(shadow), "")


def subjects(all_glyphs: list[str]) -> list[str]:
    """The glyph of every ordinary file, shuffled: flagged ones, lookalikes, then a random choice of the rest."""
    chosen: list[str] = []
    for rule, members in (LIVE_RULES | SHADOW_RULES).items():
        chosen += [glyph for glyph in members for _ in range(COPIES[rule])]
    chosen += [glyph for glyph in LOOKALIKES if glyph in all_glyphs for _ in range(2)]
    taken = set(chosen) | ARGUABLE
    rest = [glyph for glyph in all_glyphs if glyph not in taken]
    rng = rng_for("demo", 0)
    picks = rng.permutation(len(rest))[: PICTURES - len(SPECIAL) - len(chosen)]
    chosen += [rest[pick] for pick in picks]
    return [chosen[place] for place in rng.permutation(len(chosen))]


def file_name(number: int, name: str, rng: np.random.Generator) -> tuple[str, str]:
    """(path below images/, suffix): a listing is named after its subject, a profile photo after its user."""
    suffix = str(rng.choice(["jpg", "jpeg", "JPG", "png", "webp", "gif"], p=[0.4, 0.1, 0.1, 0.18, 0.17, 0.05]))
    folder = FOLDERS[int(rng.choice(3, p=[0.45, 0.25, 0.3]))]
    if folder == "listings":
        slug = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name).strip("-")
        return f"listings/{48000 + number * 7}-{slug}.{suffix}", suffix
    if folder == "profile-photos":
        return f"profile-photos/user-{10200 + number * 13}.{suffix}", suffix
    return f"uploads/IMG_{2000 + number}.{suffix}", suffix


def encode(studio: Studio, glyph: str, suffix: str, rng: np.random.Generator) -> bytes:
    """The file's bytes. The variant within a format (quality, orientation, palette, alpha) is drawn from the stream."""
    out = io.BytesIO()
    variant = float(rng.random())
    if suffix == "png":
        if variant < 0.4:
            studio.cut_out(glyph, rng).save(out, "PNG", optimize=True)
        elif variant < 0.7:
            studio.draw(glyph, rng, 160, 280).quantize(64).save(out, "PNG", optimize=True)
        else:
            studio.draw(glyph, rng, 160, 220).save(out, "PNG", optimize=True)
    elif suffix == "gif":
        studio.draw(glyph, rng, 160, 260).quantize(64).save(out, "GIF")
    elif suffix == "webp":
        studio.draw(glyph, rng, 160, 480).save(out, "WEBP", quality=int(rng.integers(45, 92)))
    else:
        picture = studio.draw(glyph, rng, 160, 480)
        quality = int(rng.integers(40, 93))
        if variant < 0.15:
            save_turned(picture, out, quality, int(rng.choice([3, 6, 8])))
        else:
            picture.save(out, "JPEG", quality=quality, progressive=variant > 0.85)
    return out.getvalue()


def save_turned(picture: Image.Image, out: io.BytesIO, quality: int, orientation: int) -> None:
    """As a camera held sideways stores it: pixels turned, EXIF orientation saying so."""
    turn = {
        3: Image.Transpose.ROTATE_180,
        6: Image.Transpose.ROTATE_90,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.transpose(turn).save(out, "JPEG", quality=quality, exif=exif)


def animation(studio: Studio, glyphs: str, rng: np.random.Generator, kind: str) -> bytes:
    """One frame for each glyph."""
    side = int(rng.integers(160, 221))
    frames = [render(studio.glyph(glyph), rng, (side, side)) for glyph in glyphs]
    if kind == "GIF":
        frames = [frame.quantize(48) for frame in frames]
    out = io.BytesIO()
    options = {"quality": 75} if kind == "WEBP" else {"disposal": 1}
    frames[0].save(out, kind, save_all=True, append_images=frames[1:], duration=400, loop=0, **options)
    return out.getvalue()


def _cmyk(studio: Studio, glyph: str, rng: np.random.Generator) -> bytes:
    out = io.BytesIO()
    studio.draw(glyph, rng, 200, 320).convert("CMYK").save(out, "JPEG", quality=85)
    return out.getvalue()


def _grey(studio: Studio, glyph: str, rng: np.random.Generator) -> bytes:
    out = io.BytesIO()
    studio.draw(glyph, rng, 200, 320).convert("L").save(out, "JPEG", quality=85)
    return out.getvalue()


def _sixteen_bit(studio: Studio, glyph: str, rng: np.random.Generator) -> bytes:
    out = io.BytesIO()
    grey = np.asarray(studio.draw(glyph, rng, 160, 200).convert("L"), dtype=np.uint16) * 257
    Image.fromarray(grey).save(out, "PNG", optimize=True)
    return out.getvalue()


def _turned(studio: Studio, glyph: str, rng: np.random.Generator) -> bytes:
    out = io.BytesIO()
    save_turned(studio.draw(glyph, rng, 240, 400), out, 82, 6)
    return out.getvalue()


def _gif(studio: Studio, glyphs: str, rng: np.random.Generator) -> bytes:
    return animation(studio, glyphs, rng, "GIF")


def _webp(studio: Studio, glyphs: str, rng: np.random.Generator) -> bytes:
    return animation(studio, glyphs, rng, "WEBP")


# Files that must be there whatever the random choice of formats gives.
SPECIAL: tuple[tuple[str, str, Callable[[Studio, str, np.random.Generator], bytes]], ...] = (
    ("uploads/Foto vom Café.jpg", "☕", _turned),
    ("uploads/Grüße aus Köln (3).jpeg", "🍺", _turned),
    ("listings/print-ready CMYK.jpg", "🍉", _cmyk),
    ("listings/grey-football.jpg", "⚽", _grey),
    ("uploads/scan-16bit.png", "🐼", _sixteen_bit),
    ("uploads/slideshow-1.gif", "🍓🐘🔫", _gif),
    ("uploads/slideshow-2.gif", "🚗🌵🎸🍩🚬🎈", _gif),
    ("uploads/slideshow-3.gif", "🎰🐙", _gif),
    ("uploads/slideshow-4.gif", "🐧🌈🚁🍍", _gif),
    ("uploads/slideshow-5.gif", "🌻🥨", _gif),
    ("uploads/slideshow-6.gif", "🍷🧀🍇", _gif),
    ("profile-photos/animated.webp", "🦊🦄", _webp),
)


def _png_header_only(width: int, height: int) -> bytes:
    """A small file whose header promises an enormous picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 4096)) + chunk(b"IEND", b"")


def _saved(picture: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind)
    return out.getvalue()


def broken(studio: Studio) -> dict[str, tuple[str, bytes]]:
    """Path -> (error code, bytes)."""
    rng = rng_for("demo", 2)
    jpeg, second = (_saved(studio.draw(glyph, rng, 240, 300), "JPEG") for glyph in "🍕🪓")
    png, cut = (_saved(studio.draw(glyph, rng, 160, 180), "PNG") for glyph in "🐝🎹")
    webp = _saved(studio.draw("🌮", rng, 240, 300), "WEBP")
    gif = _saved(studio.draw("🚀", rng, 160, 200).quantize(64), "GIF")
    middle = png.index(b"IDAT") + 40
    logo = b'<circle cx="32" cy="32" r="30"/><text x="18" y="38" fill="white">Logo</text>'  # text is not drawn
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64">' + logo + b"</svg>\n"
    pdf = b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF\n"
    page = b"<!DOCTYPE html>\n<html><head><title>504 Gateway Time-out</title></head><body></body></html>\n"
    return {
        "uploads/IMG_2741.jpg": ("corrupt", jpeg[:300]),
        "listings/49901-axe.jpg": ("corrupt", second[:300]),
        "uploads/scan-0031.png": ("corrupt", png[:middle] + b"\xff" * 64 + png[middle + 64 :]),
        "uploads/scan-0032.png": ("corrupt", cut[:40]),
        "profile-photos/user-14007.webp": ("corrupt", webp[: len(webp) // 2]),
        "uploads/loop.gif": ("corrupt", gif[:100]),
        "listings/49915-no-picture.jpg": ("empty", b""),
        "uploads/notes.jpg": ("unsupported_format", b"Pictures of the lamp follow tomorrow.\n" * 8),
        "listings/49922-logo.svg.png": ("unsupported_format", svg),
        "uploads/invoice.jpg": ("unsupported_format", pdf),
        "profile-photos/user-14020.png": ("unsupported_format", page),
        "uploads/huge.png": ("too_many_pixels", _png_header_only(60_000, 60_000)),
    }


def draw_all(font: Path) -> Iterator[tuple[Label, bytes]]:
    """Every file with its label: special ones, broken ones, then the ordinary ones. Each is drawn when asked for."""
    studio = Studio(font)
    for number, (path, glyphs, how) in enumerate(SPECIAL):
        yield studio.label(path, glyphs), how(studio, glyphs, rng_for("demo", 3, number))
    for path, (code, content) in broken(studio).items():
        yield Label(path, "", "", "error", "", "", code), content
    for number, glyph in enumerate(subjects(list(studio.names))):
        rng = rng_for("demo", 1, number)
        path, suffix = file_name(number, studio.names[glyph], rng)
        yield studio.label(path, glyph), encode(studio, glyph, suffix, rng)


def make(images: Path, labels_file: Path, font: Path) -> list[Label]:
    """Write every image below `images` (its folders emptied first) and the labels; return the labels, by file."""
    for folder in FOLDERS:
        shutil.rmtree(images / folder, ignore_errors=True)
        (images / folder).mkdir(parents=True)
    labels = []
    for label, content in draw_all(font):
        (images / label.file).write_bytes(content)
        labels.append(label)
    labels.sort(key=lambda label: label.file)
    with labels_file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([field.name for field in fields(Label)])
        writer.writerows(astuple(label) for label in labels)
    return labels


def main(arguments: list[str] | None = None) -> int:
    """Write the demo images; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m moderation.demo.training.make_images", description=__doc__)
    parser.add_argument("--images", type=Path, default=IMAGES_DIR, help="default: %(default)s")
    parser.add_argument("--labels", type=Path, default=LABELS_FILE, help="default: %(default)s")
    parser.add_argument("--font", type=Path, help="NotoColorEmoji.ttf, where it is not in a usual place")
    options = parser.parse_args(arguments)
    try:
        labels = make(options.images, options.labels, find_font(options.font))
    except (FontMissingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in options.images.rglob("*") if path.is_file())
    flagged = sum(label.expect == "flagged" for label in labels)
    print(f"{len(labels)} images, {flagged} to be flagged, {size / 1e6:.2f} MB -> {options.images}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
