"""Decoding and scoring in a process of its own, which may die; run as a program, this file does what it is asked to."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pillow_heif
from hostile_files import more_seeds, mutated
from needs import DATA
from support import make_policy

from moderation.demo import IMAGES_DIR
from moderation.errors import ImageError
from moderation.images.allocation import give_back_freed_memory
from moderation.images.decoding import DecodedImage
from moderation.images.limits import ImageLimits
from moderation.model.preprocessing import Preprocessing
from moderation.scoring.image_scorer import ImageScorer
from moderation.scoring.options import ScorerOptions

LIMITS = ImageLimits(max_seconds=5)
CLIP = Preprocessing(224, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def decode(data, limits=LIMITS):
    """The frames of an image as the pipeline wants them."""
    return [CLIP(frame) for _, frame in DecodedImage(data, limits, CLIP.size).frames()]


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
    with ImageScorer(NoModel(), make_policy({}), ScorerOptions(decode_threads=int(threads), limits=limits)) as scorer:
        scorer.score(sorted(path for path in IMAGES_DIR.rglob("*") if path.is_file())[:32])
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        rows = scorer.score(paths).decisions.to_pylist()
    return [resident("VmHWM") - before, {Path(row["uri"]).name: row["error_code"] for row in rows}]


SEEDS = sorted(path for path in [*(DATA / "hostile").rglob("*"), *IMAGES_DIR.rglob("*")] if path.is_file())


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
            except Exception as error:  # noqa: BLE001 - this is what is looked for
                text, seconds, megabytes = f"RAISED {type(error).__name__}: {error}", 0.0, 0.0
            line = json.dumps([text, round(seconds, 3), round(megabytes)])
            out.write(f"{number} {line}\n")
    return []


def run_fuzz(log, count):
    """All mutants, each in a process that is replaced if it dies or hangs; the numbers of those that did."""
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


def main(function, *arguments):
    pillow_heif.register_heif_opener()
    print(json.dumps(globals()[function](*arguments)))  # noqa: T201 - read by the test


if __name__ == "__main__":
    main(*sys.argv[1:])
