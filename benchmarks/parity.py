"""What a browser shows and what is scored, over a folder of images: `python -m benchmarks.parity --corpus FOLDER`.

Counts what is shown and scored alike, shown but refused (by error code), scored but different; `--list` names the files. And
what it costs to convert the colours of an image.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.chromium import CHROMIUM, Chromium, Parity, folder_parity
from benchmarks.figures import Figure, emit
from benchmarks.images import SMALL, photo
from moderation.images.colour.colours import by_profile
from moderation.images.colour.icc import BT709, made_profile

SIDE = 224
WORDS = {
    "alike": "shown and scored alike",
    "different": "scored but different",
    "size": "scored at another size",
    "refused": "shown but refused",
    "unshown": "scored, though the browser does not show it",
    "neither": "neither shown nor scored",
}


def colour_cost(rounds: int = 9) -> Figure:
    """Milliseconds of CPU for the model's crop of an image with a profile of gamma 1.8."""
    profile = made_profile(BT709, lambda levels: np.power(levels, 1.8))
    assert profile is not None  # noqa: S101
    convert = by_profile(profile, "RGB")
    assert convert is not None  # noqa: S101
    crop = photo(SMALL, 0).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    found = []
    for _ in range(rounds):
        began = time.thread_time()
        for _ in range(50):
            convert(crop)
        found.append((time.thread_time() - began) / 50 * 1e3)
    return Figure.of("colour_conversion_ms", found, "ms", 0.2, lower_is_better=True, note="CPU time, 224×224")


def counted(found: dict[str, Parity]) -> list[Figure]:
    """One figure for each kind, and one for each error code of what is refused."""
    kinds = Counter(one.kind for one in found.values())
    codes = Counter(one.detail.partition(":")[0] for one in found.values() if one.kind == "refused")
    figures = [Figure.of(f"parity_{kind}", [kinds[kind]], "files", note=words) for kind, words in WORDS.items()]
    return figures + [Figure.of(f"parity_refused_{code}", [count], "files") for code, count in sorted(codes.items())]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help="a folder of images; without one, colours only are measured")
    parser.add_argument("--list", action="store_true", help="name the files that are refused or different")
    asked = parser.parse_args()
    emit([colour_cost()])
    if asked.corpus is None:
        return
    if not asked.corpus.is_dir():
        parser.error(f"there is no folder {asked.corpus}")
    if CHROMIUM is None:
        parser.error("no Chromium on this machine: install `chromium`")
    with Chromium() as browser:
        found = folder_parity(browser, asked.corpus)
    emit(counted(found))
    for name, one in found.items():
        if asked.list and one.kind in ("different", "size", "refused"):
            print(f"{WORDS[one.kind]}: {name!r}: {one.detail or f'{one.difference:.0f} levels'}", file=sys.stderr)


if __name__ == "__main__":
    main()
