"""What decoding costs, from bytes to the model's input: `python -m benchmarks.decode`.

As `ImageScorer` does it, the perceptual hash apart, against Pillow at full size with the same preprocessing: both in turns in
this thread, by its CPU time. And on one and two threads, by the clock.
"""

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from PIL import Image

from benchmarks.figures import Figure, emit
from benchmarks.images import LARGE, MIDDLE, SMALL, photo, write_jpegs
from moderation.images.decoding import DecodedImage
from moderation.images.limits import ImageLimits
from moderation.images.pdq import pdq
from moderation.model.preprocessing import Preprocessing

TARGETS = {"500x375": 2.0, "12mp": 5.0}
LIGHT = 75
"""JPEG quality of pictures on the web; `write_jpegs` has that of cameras."""
CLIP = Preprocessing(224, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
FAST = replace(CLIP, resize="fast")
LIMITS = ImageLimits()
NAMES = {SMALL: "500x375", MIDDLE: "1280x960", LARGE: "12mp"}
COUNTS = {SMALL: 64, MIDDLE: 16, LARGE: 4}
"""pictures in a round"""


def ours(data: bytes) -> None:
    """What `ImageScorer` does, but for the hashes."""
    _ours(data, FAST)


def exact(data: bytes) -> None:
    """The same with `resize: exact`."""
    _ours(data, CLIP)


def _ours(data: bytes, prepare: Preprocessing) -> None:
    image = DecodedImage(data, LIMITS, prepare.size)
    for _, frame in image.frames():
        prepare(frame, image.reduction, image.colours)


def pillow(data: bytes) -> None:
    """What a program does that knows Pillow and open_clip."""
    CLIP(Image.open(io.BytesIO(data)).convert("RGB"))


def cpu(work: Callable[[bytes], None], images: Sequence[bytes]) -> float:
    """CPU seconds of this thread for an image."""
    began = time.thread_time()
    for data in images:
        work(data)
    return (time.thread_time() - began) / len(images)


def over_pillow(name: str, images: Sequence[bytes], rounds: int) -> list[Figure]:
    """The ratio, and all sides' milliseconds."""
    sides = (ours, pillow, exact)
    for work in sides:
        work(images[0])
    turns = [tuple(cpu(work, images) for work in sides) for _ in range(rounds)]
    fast, slow, as_open_clip = ([seconds * 1e3 for seconds in column] for column in zip(*turns, strict=True))
    size = f"{statistics.mean(map(len, images)) / 1e6:.2f} MB each"
    return [
        Figure.of(f"decode_{name}_vs_pillow", [b / a for a, b, _ in turns], "x", TARGETS.get(name), note=size),
        Figure.of(f"decode_{name}_ms", fast, "ms", lower_is_better=True, note=f"CPU time; {size}"),
        Figure.of(f"decode_{name}_pillow_ms", slow, "ms", lower_is_better=True, note="CPU time"),
        Figure.of(f"decode_{name}_exact_ms", as_open_clip, "ms", lower_is_better=True, note="CPU time; `resize: exact`"),
    ]


def hashing(name: str, images: Sequence[bytes], rounds: int) -> Figure:
    """The perceptual hash of what was decoded."""
    opened = [DecodedImage(data, LIMITS, CLIP.size) for data in images]
    pictures = [picture for image in opened for _, picture in image.frames()]
    found = []
    for _ in range(rounds):
        began = time.thread_time()
        for picture in pictures:
            pdq(picture)
        found.append((time.thread_time() - began) / len(pictures) * 1e3)
    return Figure.of(f"pdq_{name}_ms", found, "ms", lower_is_better=True, note="CPU time")


def two_threads(name: str, images: Sequence[bytes], rounds: int) -> Figure:
    """Images per second of two threads over those of one."""
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(2) as two:

        def rate(pool: ThreadPoolExecutor) -> float:
            began = time.perf_counter()
            list(pool.map(ours, [*images, *images]))
            return 1 / (time.perf_counter() - began)

        pairs = [(rate(one), rate(two)) for _ in range(rounds)]
    return Figure.of(f"decode_{name}_2_threads", [b / a for a, b in pairs], "x", note="two threads over one, by the clock")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds")
    rounds = 3 if parser.parse_args().quick else 9
    with tempfile.TemporaryDirectory() as folder:
        for size, name in NAMES.items():
            paths = write_jpegs(Path(folder) / name, COUNTS[size], size)
            images = [path.read_bytes() for path in paths]
            found = [*over_pillow(name, images, rounds), hashing(name, images, rounds), two_threads(name, images, rounds)]
            emit(found)
            for figure in found:
                print(f"{figure.name}: {figure.value:.2f} {figure.unit}", file=sys.stderr)
    file = io.BytesIO()
    photo(LARGE, 0).save(file, "JPEG", quality=LIGHT)
    emit(over_pillow(f"12mp_quality_{LIGHT}", [file.getvalue()], rounds)[:2])


if __name__ == "__main__":
    main()
