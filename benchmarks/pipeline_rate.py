"""The pipeline's images per second over what its own stages allow: `python -m benchmarks.pipeline_rate`.

The limit is cores / (CPU seconds of decoding + encoding an image), both measured bare: decoding in one thread, by that thread's
CPU time, from bytes to the model's input with the hashes that rows hold; encoding by the model alone on all cores, wall time x
cores. The pipeline is a real run with Ray and Parquet, from a local folder, up to the staged shards; its steady state is what
more images cost: the difference of two runs of different size in the same session, so that starting and running dry cancel out.
"""

import argparse
import contextlib
import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import open_clip
import torch
from threadpoolctl import threadpool_limits

from benchmarks.figures import Figure, emit
from benchmarks.images import SMALL, write_jpegs
from benchmarks.machine import cores
from benchmarks.random_models import save_weights
from moderation import pipeline
from moderation.cluster.session import ray_session
from moderation.common.progress import Progress, listening
from moderation.images.decoding import DecodedImage
from moderation.images.limits import ImageLimits
from moderation.images.pdq import pdq
from moderation.model.catalog import quiet
from moderation.model.encoder import Encoder
from moderation.model.open_clip_encoder import OpenClipEncoder
from moderation.planning.inputs import check_inputs, claim_run
from moderation.settings import RunSettings

TARGET = 0.85
ARCHITECTURE, LIKE = "ViT-B-32", "laion2b_s34b_b79k"
"""What is run, and the tag whose preprocessing and activation it has."""
VIT, DEMO = (64, 320), (256, 1024)
"""Images of the two runs whose difference counts: with a model that takes two cores all their time, and with a light one."""
POLICY = "policy: measured\nmodel: {model}\ncontrast: [a wall]\nrules: [{{id: one, prompts: [a dog], review: 0.9}}]\n"


@dataclass(frozen=True)
class Model:
    """What is run, and how much of it."""

    name: str
    policy: Path
    pretrained: str | None
    few: int
    many: int
    """images of the two runs whose difference counts"""
    batch: int
    shard: int


@dataclass(frozen=True)
class Bare:
    """CPU seconds of an image."""

    decode: float
    pdq: float
    """of it, the perceptual hash"""
    encode: float

    @property
    def limit(self) -> float:
        """Images per second that all cores could do."""
        return cores() / (self.decode + self.encode)


def checkpoint(folder: Path) -> str:
    """Random weights of `ARCHITECTURE`, in a file."""
    torch.manual_seed(0)
    path = folder / "random.safetensors"
    with quiet():
        save_weights(open_clip.create_model(ARCHITECTURE), path)
    return str(path)


def bare(images: Sequence[bytes], encoder: Encoder, batches: int = 3) -> Bare:
    """Decode the images in this thread, and encode some batches of them on all cores."""
    limits = ImageLimits()
    pictures, hashing = [], 0.0
    with threadpool_limits(1, "blas"):  # small matrix products cost more on two threads than on one
        began = time.thread_time()
        for data in images:
            hashlib.sha256(data).hexdigest()
            image = DecodedImage(data, limits, encoder.preprocessing.size)
            for _, frame in image.frames():
                before = time.thread_time()
                pdq(frame)
                hashing += time.thread_time() - before
                pictures.append(encoder.preprocessing(frame, image.reduction, image.colours))
        decode = time.thread_time() - began
    batch = np.stack([pictures[n % len(pictures)] for n in range(encoder.batch_size * batches)])
    encoder.encode_images(batch[: encoder.batch_size])
    began = time.perf_counter()
    encoder.encode_images(batch)
    encode = (time.perf_counter() - began) * cores() / len(batch)
    return Bare(decode / len(images), hashing / len(images), encode)


@contextlib.contextmanager
def session(model: Model, images: Path, output: Path, **options: int | str) -> Iterator["Runs"]:
    """Workers with the model, and a first run that warms them up."""
    settings = RunSettings(
        sources=str(images),
        policy=str(model.policy),
        output=str(output),
        batch_size=model.batch,
        shard_size=model.shard,
        device="cpu",
        **options,
    )
    firsts: list[float] = []
    began = time.monotonic()

    def first(progress: Progress) -> None:
        if progress.done and not firsts:
            firsts.append(time.monotonic() - began)

    with pipeline.session(check_inputs(settings)) as running:
        runs = Runs(running, model, firsts)
        with listening(first):
            runs.seconds(model.few)
        yield runs


@dataclass(frozen=True)
class Runs:
    """Runs in one session."""

    running: pipeline.Session
    model: Model
    firsts: list[float]
    """seconds from the start of the session to its first scored batch"""

    def seconds(self, images: int, **options: int) -> float:
        """Wall seconds that scoring and staging so many images take."""
        settings = self.running.settings.model_copy(update={"limit": images, "full": True, **options})
        inputs = check_inputs(settings)
        paths, started_at = claim_run(inputs, self.running.model.fingerprint)
        began = time.monotonic()
        scored = pipeline.score(replace(self.running, inputs=inputs, paths=paths, started_at=started_at))
        took = time.monotonic() - began
        if scored.counts.scored != images:
            raise SystemExit(f"{scored.counts.scored} of {images} images were scored: {dict(scored.counts.errored)}")
        return took

    def rate(self, **options: int) -> float:
        """Images per second in steady state."""
        few, many = self.model.few, self.model.many
        short = self.seconds(few, **options)
        return (many - few) / (self.seconds(many, **options) - short)


def over_limit(model: Model, images: Path, output: Path, repetitions: int) -> list[Figure]:
    """The pipeline and its stages in turn."""
    data = [path.read_bytes() for path in sorted(images.iterdir())[:64]]
    encoder = OpenClipEncoder(
        model.name, model.pretrained, preprocess=LIKE if model.pretrained else None, device="cpu", threads=cores()
    )
    bares, rates = [], []
    with session(model, images, output) as runs:
        chosen = str(runs.running.plan)
        for number in range(repetitions):
            bares.append(bare(data, encoder))
            rates.append(runs.rate())
            say(f"{model.name}: {bares[-1]}, limit {bares[-1].limit:.1f}/s; pipeline {rates[-1]:.1f}/s ({number + 1})")
    ratios = [rate / found.limit for rate, found in zip(rates, bares, strict=True)]
    without = [rate * (b.decode - b.pdq + b.encode) / cores() for rate, b in zip(rates, bares, strict=True)]
    demo = "_demo" if model.name == "demo" else ""
    note = (
        f"{model.name}, 500x375 JPEGs, {chosen}; the difference of runs of {model.many} and {model.few} images; "
        f"{statistics.median(without):.3g} if the perceptual hash (PDQ) did not count as decoding"
    )
    return [
        Figure.of(f"pipeline_over_limit{demo}", ratios, "", None if demo else TARGET, note=note),
        Figure.of(f"pipeline{demo}_images_per_s", rates, "images/s"),
        Figure.of(f"limit{demo}_images_per_s", [b.limit for b in bares], "images/s"),
        Figure.of(f"bare{demo}_decode_ms", [b.decode * 1000 for b in bares], "ms", note="CPU, PDQ and SHA-256 included"),
        Figure.of(f"bare{demo}_pdq_ms", [b.pdq * 1000 for b in bares], "ms", note="CPU, of the above"),
        Figure.of(f"bare{demo}_encode_ms", [b.encode * 1000 for b in bares], "ms", note="wall x cores"),
        Figure.of(f"first_result{demo}_s", runs.firsts, "s", note="from the start of Ray to the first scored batch"),
    ]


def scaling(model: Model, images: Path, output: Path, repetitions: int) -> Iterator[Figure]:
    """Other numbers of threads and actors, other sizes of batches and shards; those of one session in turn."""
    sizes: dict[str, dict[str, int]] = {
        "2_decode_threads": {},
        "batch_64": {"batch_size": 64},
        "shard_128": {"shard_size": 128},
    }
    sessions: tuple[tuple[dict[str, int], dict[str, dict[str, int]]], ...] = (
        ({"decode_threads": 1}, {"1_decode_thread": {}}),
        ({"decode_threads": 2}, sizes),
        ({"actors": 2}, {"2_actors": {}}),
    )
    for options, variants in sessions:
        found: dict[str, list[float]] = {name: [] for name in variants}
        with session(model, images, output, **options) as runs:
            for _ in range(repetitions):
                for name, changed in variants.items():
                    found[name].append(runs.rate(**changed))
            note = f"{runs.running.plan}; batches of {model.batch}, shards of {model.shard} but where the name says another"
        for name, rates in found.items():
            say(f"{name}: {rates}")
            yield Figure.of(f"demo_{name}_images_per_s", rates, "images/s", note=note)


def say(text: str) -> None:
    """Tell who watches."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few images, no repetitions")
    parser.add_argument("--part", choices=("vit", "demo", "scaling"), help="only this part")
    asked = parser.parse_args()
    factor, repetitions = (4, 1) if asked.quick else (1, 3)
    with tempfile.TemporaryDirectory() as scratch, ray_session(None):
        folder = Path(scratch)
        images = folder / "images"
        write_jpegs(images, DEMO[1] // factor, SMALL)
        output = folder / "output"
        policies = {"demo": "{name: demo}"}
        weights = ""
        if asked.part in (None, "vit"):
            weights = checkpoint(folder)
            policies[ARCHITECTURE] = f"{{name: {ARCHITECTURE}, pretrained: {weights}, preprocess: {LIKE}}}"
        for name, model in policies.items():
            (folder / f"{name}.yaml").write_text(POLICY.format(model=model))
        demo = Model("demo", folder / "demo.yaml", None, DEMO[0] // factor, DEMO[1] // factor, 256, 512)
        if weights:
            vit = Model(ARCHITECTURE, folder / f"{ARCHITECTURE}.yaml", weights, VIT[0] // factor, VIT[1] // factor, 64, 256)
            emit(over_limit(vit, images, output, repetitions))
        if asked.part in (None, "demo"):
            emit(over_limit(demo, images, output, repetitions))
        if asked.part in (None, "scaling"):
            emit(scaling(demo, images, output, min(2, repetitions)))


if __name__ == "__main__":
    main()
