"""One GPU: what the bare model does, and what `ImageScorer` makes of it, without Ray: `python -m benchmarks.gpu`.

Bare model, encoder and `ImageScorer` take turns, so that a device that slows down slows all of them. The JPEGs are in memory.
Without a GPU nothing is measured, unless `--device cpu` asks for it; the figures have other names then.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch

from benchmarks.figures import Figure, emit
from benchmarks.gpu_models import BareModel, encode, random_model
from benchmarks.images import SMALL, write_jpegs
from moderation.images.decoding import DecodedImage
from moderation.images.limits import ImageLimits
from moderation.images.pdq import pdq
from moderation.model.gpu_jpeg.decoder import GpuJpegDecoder
from moderation.model.jpeg_decoder import JpegDecoder
from moderation.model.open_clip_encoder import OpenClipEncoder
from moderation.policy.schema import Policy
from moderation.records import ObjectRef
from moderation.scoring.image_scorer import ImageScorer
from moderation.scoring.options import ScorerOptions

MODELS = ("ViT-B-32", "ViT-L-14", "ViT-SO400M-14-SigLIP2")
TARGETS = {"gpu_encode_over_bare": 0.95, "gpu_end_to_end_over_bare": 0.90}
REPETITIONS = 3
SECONDS = 4.0
"""How long a run takes, about."""
HIDDEN = 1.25
"""Decoding is hidden behind a model that it is this many times as fast as."""
WAITING = 64
"""Decode threads of a GPU's decoder: they do little but wait, and what waits together is decoded together."""
_RULE = {"id": "one", "prompts": ["a thing"], "review": 0.9}
_POLICY = Policy.model_validate({"policy": "gpu", "model": {"name": "demo"}, "contrast": ["a wall"], "rules": [_RULE]})


@dataclass(frozen=True)
class Jpegs:
    """Any number of JPEG files of one size, all with different bytes, of which a few are held in memory."""

    held: tuple[bytes, ...]

    @classmethod
    def drawn(cls, size: tuple[int, int], distinct: int) -> "Jpegs":
        """Of `distinct` pictures of `size` (width, height)."""
        with tempfile.TemporaryDirectory() as folder:
            return cls(tuple(path.read_bytes() for path in write_jpegs(Path(folder), distinct, size)))

    def refs(self, count: int) -> list[ObjectRef]:
        """The first `count`, as a listing gives them."""
        now = datetime(2026, 11, 21, tzinfo=UTC)
        return [ObjectRef(f"memory://bench/{number}", "1", len(self.held[0]), now) for number in range(count)]

    def read(self, ref: ObjectRef) -> bytes:
        """One of `refs`."""
        number = int(ref.uri.rpartition("/")[2])
        return self.held[number % len(self.held)] + number.to_bytes(4, "big")  # behind the end of the image


@dataclass(frozen=True)
class Rates:
    """Images per second with one model, run by run."""

    model: str
    bare: list[float]
    encode: list[float]
    end_to_end: list[float]
    pillow: list[float]
    """decoding on all cores"""
    device: list[float]
    """decoding on the device"""
    idle: list[float]
    """share of the time in which the device had nothing to do"""

    @property
    def hidden(self) -> bool:
        """Whether decoding can keep ahead of the model."""
        return max(statistics.median(self.pillow), statistics.median(self.device)) >= HIDDEN * max(self.bare)

    def over_bare(self, rates: Sequence[float]) -> list[float]:
        """As shares of the bare model's, run by run."""
        return [rate / bare for rate, bare in zip(rates, self.bare, strict=True)]


def measure(model: str, device: Literal["cpu", "cuda"], images: int | None, jpegs: Jpegs) -> Rates:
    """All rates with one model. `images`: how many to a run; by default as many as take some seconds."""
    with tempfile.TemporaryDirectory() as folder:
        identifier = random_model(model, Path(folder) / "model")
        encoder = OpenClipEncoder(identifier, device=device)
        cuda = encoder.device.type == "cuda"
        if cuda:
            encoder.fit()  # the batch size
        bare = BareModel(identifier, encoder)
    decoder = GpuJpegDecoder(encoder.preprocessing, encoder, device=encoder.device.type)
    if decoder.refused:
        raise SystemExit(f"JPEGs cannot be decoded on {encoder.device}: {decoder.refused}")

    def rates(runs: Sequence[Callable[[int], None]]) -> list[list[float]]:
        few = images or 4 * encoder.batch_size
        counts = []
        for run in runs:
            run(few)  # warm-up
            counts.append(images or max(few, int(SECONDS * _rate(run, few))))
        return [[_rate(run, count) for run, count in zip(runs, counts, strict=True)] for _ in range(REPETITIONS)]

    decoded = rates([lambda count: with_pillow(encoder, jpegs, count), lambda count: on_device(decoder, jpegs, count)])
    pillow, on_gpu = (list(column) for column in zip(*decoded, strict=True))
    ours = decoder if cuda and statistics.median(on_gpu) > statistics.median(pillow) else None
    options = ScorerOptions(decode_threads=WAITING) if ours else ScorerOptions()
    with ImageScorer(encoder, _POLICY, options, read=jpegs.read, jpeg_decoder=ours) as scorer:

        def score(count: int) -> None:
            failed = [code for code in scorer.score(jpegs.refs(count)).decisions["error_code"].to_pylist() if code]
            if failed:
                raise SystemExit(f"{len(failed)} of {count} images failed: {failed[0]}")

        turns = rates([bare.run, lambda count: encode(encoder, count), score])
        count = images or int(SECONDS * turns[0][2])
        idle = [idle_share(_device_spans(score, count)) for _ in range(REPETITIONS)] if cuda else []
    decoder.close()
    bare_rates, encode_rates, whole_rates = (list(column) for column in zip(*turns, strict=True))
    return Rates(model, bare_rates, encode_rates, whole_rates, pillow, on_gpu, idle)


def with_pillow(encoder: OpenClipEncoder, jpegs: Jpegs, count: int) -> None:
    """What `ImageScorer` does to a JPEG on the CPU, on all cores."""
    limits, prepare = ImageLimits(), encoder.preprocessing

    def work(ref: ObjectRef) -> None:
        image = DecodedImage(jpegs.read(ref), limits, prepare.size)
        for _, picture in image.frames():
            pdq(picture)
            prepare(picture, image.reduction, image.colours)

    _in_threads(work, jpegs.refs(count), os.cpu_count() or 1)


def on_device(decoder: JpegDecoder, jpegs: Jpegs, count: int) -> None:
    """What `ImageScorer` does to a JPEG where a decoder stands in for Pillow."""
    limits = ImageLimits()

    def work(ref: ObjectRef) -> None:
        data = jpegs.read(ref)
        DecodedImage(data, limits)
        ready = decoder.decode(data, 1)
        if ready is None:
            raise SystemExit("a plain JPEG was left to Pillow")
        pdq(ready.small)

    _in_threads(work, jpegs.refs(count), WAITING)


def idle_share(spans: Sequence[tuple[float, float]]) -> float:
    """The share of the time, from the first start to the last end, in which none of these (start, end) was under way."""
    first = reached = min(start for start, _ in spans)
    busy = 0.0
    for start, end in sorted(spans):
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return 1 - busy / (reached - first)


def figures(measured: Sequence[Rates], prefix: str) -> Iterator[Figure]:
    """What was found: the two promised ratios of the model that does worst, then everything by model."""
    hidden = [rates for rates in measured if rates.hidden]
    promised = {"gpu_encode_over_bare": measured, "gpu_end_to_end_over_bare": hidden}
    for name, models in promised.items():
        if prefix != "gpu" or not measured:
            yield Figure(name, None, "ratio", TARGETS[name], note="not measured: no CUDA device here")
        elif not models:
            yield Figure(name, None, "ratio", TARGETS[name], note="not measured: decoding is slower than every model here")
        else:
            field = "encode" if name == "gpu_encode_over_bare" else "end_to_end"
            worst = min(models, key=lambda rates: statistics.median(rates.over_bare(getattr(rates, field))))
            yield Figure.of(name, worst.over_bare(getattr(worst, field)), "ratio", TARGETS[name], note=worst.model)
    for rates in measured:
        end = rates.model.lower().replace("-", "_")
        for what in ("bare", "encode", "end_to_end", "pillow", "device"):
            called = {"pillow": "decode_pillow", "device": "decode_device"}.get(what, what)
            yield Figure.of(f"{prefix}_{called}_{end}", getattr(rates, what), "images/s")
        for what in ("encode", "end_to_end"):
            note = "" if rates.hidden or what == "encode" else "decoding is not hidden: it is the slower part"
            yield Figure.of(f"{prefix}_{what}_over_bare_{end}", rates.over_bare(getattr(rates, what)), "ratio", note=note)
        if rates.idle:
            yield Figure.of(f"{prefix}_idle_share_{end}", rates.idle, "ratio", lower_is_better=True)


def _in_threads(work: Callable[[ObjectRef], None], refs: Sequence[ObjectRef], threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, refs):
            pass


def _rate(run: Callable[[int], None], count: int) -> float:
    start = time.perf_counter()
    run(count)
    return count / (time.perf_counter() - start)


def _device_spans(run: Callable[[int], None], count: int) -> list[tuple[float, float]]:
    """When the GPU was at work, in microseconds: kernels and copies."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        run(count)
        torch.cuda.synchronize()
    on_device = (event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA)
    return [(event.time_range.start, event.time_range.end) for event in on_device]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--model", action="append", help=f"may be repeated; by default {', '.join(MODELS)}")
    parser.add_argument("--images", type=int, help="images to a run; by default what takes some seconds")
    options = parser.parse_args()
    measured = []
    if options.device == "cpu" or torch.cuda.is_available():
        jpegs = Jpegs.drawn(SMALL, min(64, options.images or 64))
        for model in options.model or MODELS:
            measured.append(measure(model, options.device, options.images, jpegs))
            print(measured[-1], file=sys.stderr)
    emit(figures(measured, "gpu" if options.device == "cuda" else "cpu"))


if __name__ == "__main__":
    main()
