"""ViT-B/32 on a CPU in bf16 and int8, over fp32: `python -m benchmarks.cpu_precisions`.

Each is a real run with Ray and Parquet over 500x375 JPEGs, from a local folder up to the staged shards, in its steady state;
the three run in turn, so that what else the machine does falls on all of them. Cosines are those of the embeddings of the same
pictures; flips are decisions whose threshold lies at the median score. The weights are random, so they say how exact the
arithmetic is, not what a trained model would decide: `moderate model compare` says that, on your own images.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Figure, emit
from benchmarks.images import SMALL, write_jpegs
from benchmarks.machine import cores
from benchmarks.pipeline_rate import ARCHITECTURE, LIKE, POLICY, Model, checkpoint, say, session
from moderation.cluster.session import ray_session
from moderation.images.decoding import DecodedImage
from moderation.images.limits import ImageLimits
from moderation.model.bf16 import multiplies_in_bf16
from moderation.model.encoder import Precision
from moderation.model.open_clip_encoder import OpenClipEncoder

TARGETS = {"cpu_vit_b32_vs_fp32": 2.5, "cpu_vit_b32_int8_vs_fp32": 4.0}
VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "i8mm", "asimddp"})
"""What Linux calls instructions for integer products, on x86 and on ARM."""
FEW, MANY = 32, 160
"""Images of the two runs whose difference counts."""
SAMPLE = 32
"""Pictures whose embeddings are compared."""


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few images, no repetitions")
    asked = parser.parse_args()
    factor, repetitions = (4, 1) if asked.quick else (1, 2)
    with tempfile.TemporaryDirectory() as scratch, ray_session(None):
        folder = Path(scratch)
        write_jpegs(folder / "images", MANY // factor, SMALL)
        weights = checkpoint(folder)
        policy = folder / "policy.yaml"
        policy.write_text(POLICY.format(model=f"{{name: {ARCHITECTURE}, pretrained: {weights}, preprocess: {LIKE}}}"))
        model = Model(ARCHITECTURE, policy, weights, FEW // factor, MANY // factor, 32, 64)
        emit(_measured(model, folder, repetitions))


def _measured(model: Model, folder: Path, repetitions: int) -> Iterator[Figure]:
    bf16 = multiplies_in_bf16()
    wanted: list[Precision] = ["fp32", "bf16", "int8"] if bf16 else ["fp32", "int8"]
    rates: dict[Precision, list[float]] = {precision: [] for precision in wanted}
    for number in range(repetitions):
        for precision in wanted:
            with session(model, folder / "images", folder / f"{precision}-{number}", precision=precision) as runs:
                rates[precision].append(runs.rate())
            say(f"{precision}: {rates[precision][-1]:.1f} images/s ({number + 1})")
    ratios = {
        precision: [fast / exact for fast, exact in zip(rates[precision], rates["fp32"], strict=True)] for precision in wanted
    }
    for precision in wanted:
        yield Figure.of(f"cpu_vit_b32_{precision}_images_per_s", rates[precision], "images/s", note="pipeline, steady state")
    for name, precision, able, lack in (
        ("cpu_vit_b32_vs_fp32", "bf16", bf16, "bf16 (AVX-512-BF16, AMX)"),
        ("cpu_vit_b32_int8_vs_fp32", "int8", _has(VNNI), "integer products (VNNI)"),
    ):
        if able:
            yield Figure.of(name, ratios[precision], "times", TARGETS[name], note="pipeline images/s, 500x375 JPEGs")
        else:
            yield Figure(name, None, "times", TARGETS[name], note=f"not measured: this CPU has no instructions for {lack}")
    if not _has(VNNI):
        yield Figure.of("cpu_vit_b32_int8_vs_fp32_without_vnni", ratios["int8"], "times", note="pipeline images/s")
    yield from _exactness(model, folder, wanted[1:])


def _exactness(model: Model, folder: Path, precisions: list[Precision]) -> Iterator[Figure]:
    """Cosines to fp32, and flips of a decision whose threshold half of the pictures reach."""
    found: dict[Precision, NDArray[np.float32]] = {}
    text = np.empty(0, np.float32)
    for precision in ("fp32", *precisions):
        encoder = OpenClipEncoder(
            model.name, model.pretrained, preprocess=LIKE, device="cpu", precision=precision, threads=cores()
        )
        pictures = []
        for path in sorted((folder / "images").iterdir())[:SAMPLE]:
            image = DecodedImage(path.read_bytes(), ImageLimits(), encoder.preprocessing.size)
            pictures += [encoder.preprocessing(frame, image.reduction, image.colours) for _, frame in image.frames()]
        found[precision] = encoder.encode_images(np.stack(pictures))
        text = encoder.encode_texts(["a dog"])[0]
    exact = found["fp32"]
    threshold = float(np.median(exact @ text))
    for precision in precisions:
        cosines = (found[precision] * exact).sum(axis=1)
        flips = np.mean((found[precision] @ text >= threshold) != (exact @ text >= threshold))
        yield Figure.of(f"cpu_vit_b32_{precision}_cosine", [float(cosines.min())], "", note=f"the lowest of {len(cosines)}")
        note = "share of decisions with the threshold at the median score, where most are on the edge; random weights"
        yield Figure.of(f"cpu_vit_b32_{precision}_flips", [float(flips)], "", lower_is_better=True, note=note)


def _has(flags: frozenset[str]) -> bool:
    known = Path("/proc/cpuinfo")
    return known.exists() and not flags.isdisjoint(known.read_text().split())


if __name__ == "__main__":
    main()
