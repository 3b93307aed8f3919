"""What the driver costs per image, and whether its memory grows with their number: `python -m benchmarks.driver_scale`.

Real listing (a Parquet manifest), planning, Ray, shard files, checks and publishing. Only the scorer is a stub: it makes rows
without looking at images. Each size runs in a process of its own, so that one's memory is not the other's. CPU per image is
taken of each tenth of the larger run, with a tenth of what checking and publishing took: a cost that grew would show.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import Figure, emit
from moderation import pipeline
from moderation.cluster.pool import ScorerPool
from moderation.cluster.scorer import ModelDescription
from moderation.cluster.session import PoolPlan, ray_session
from moderation.common.progress import Progress, listening
from moderation.planning.inputs import check_inputs, claim_run
from moderation.policy.compiled import CompiledPolicy, TextHead, prompt_texts
from moderation.records import Batch, ScoredBatch
from moderation.scoring.decision_rows import Embedded, build_rows
from moderation.scoring.judging import RowContext
from moderation.settings import RunSettings

SMALL, LARGE, PARTS = 10_000, 1_000_000, 10
DIM = 8
NOW = datetime(2026, 11, 21, tzinfo=UTC)
POLICY = "policy: stub\nmodel: {name: none}\ncontrast: [a wall]\nrules: [{id: one, prompts: [a thing], review: 0.9}]\n"


@dataclass(frozen=True)
class Stub:
    """A scorer, and its factory, that looks at nothing."""

    def __call__(self) -> "Stub":
        """Itself."""
        return self

    def describe(self, texts: list[str]) -> ModelDescription:
        """A model of random vectors."""
        vectors = np.random.default_rng(0).normal(size=(len(texts), DIM)).astype(np.float32)
        unit = {t: v / np.linalg.norm(v) for t, v in zip(texts, vectors, strict=True)}
        return ModelDescription("none", "0" * 16, DIM, "cpu", TextHead(unit, 10.0, None))

    def score(self, batch: Batch, context: RowContext) -> ScoredBatch:
        """A row for each object."""
        rows = [Embedded(item, "0" * 64, "JPEG", 640, 480, 1, (0,)) for item in batch.objects]
        vectors = np.random.default_rng(len(rows)).normal(size=(len(rows), DIM)).astype(np.float16)
        return build_rows(context, rows, vectors, [], NOW)


def write_manifest(path: Path, count: int) -> None:
    """A manifest that names `count` objects in a bucket that is never asked."""
    step = 100_000
    with pq.ParquetWriter(
        path, pa.schema({"uri": "string", "etag": "string", "size": "int64", "last_modified": "timestamp[us]"})
    ) as file:
        for start in range(0, count, step):
            numbers = range(start, min(start + step, count))
            columns = {
                "uri": [f"s3://shop/uploads/2026/11/{n // 1000:06}/{n:09}.jpg" for n in numbers],
                "etag": [f"{n:032x}" for n in numbers],
                "size": list(numbers),
                "last_modified": [NOW.replace(tzinfo=None)] * len(numbers),
            }
            file.write_table(pa.table(columns, schema=file.schema))


def measure(count: int) -> dict[str, Any]:
    """Moderate `count` objects and say what it cost this process."""
    with tempfile.TemporaryDirectory() as folder:
        write_manifest(Path(folder) / "list.parquet", count)
        (Path(folder) / "policy.yaml").write_text(POLICY)
        settings = RunSettings(
            sources=f"{folder}/list.parquet",
            policy=f"{folder}/policy.yaml",
            output=f"{folder}/out",
            shard_size=20_000,
        )
        inputs = check_inputs(settings)
        plan = PoolPlan(1, 1.0, 0.0)
        with ray_session(None), ScorerPool(Stub(), plan, settings.batch_timeout_s) as pool:
            model = pool.describe(prompt_texts(inputs.policy))
            compiled = CompiledPolicy.build(inputs.policy, model.head)
            paths, started_at = claim_run(inputs, model.fingerprint)
            running = pipeline.Session(inputs, pool, plan, model, compiled, paths, started_at)
            marks = [(0, time.process_time())]
            wall = time.monotonic()

            def mark(progress: Progress) -> None:
                if progress.stage == "scoring" and progress.done >= len(marks) * count / PARTS:
                    marks.append((progress.done, time.process_time()))

            with listening(mark):
                scored = pipeline.score(running)
            cpu = time.process_time()
            manifest = pipeline.publish_or_quarantine(running, scored, pipeline.check(running, scored))
            rest, wall = time.process_time() - cpu, time.monotonic() - wall
        if (manifest.listed, manifest.scored) != (count, count):
            raise SystemExit(f"{manifest.scored} of {count} objects were scored")
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    us = [((c2 - c1) / (n2 - n1) + rest / count) * 1e6 for (n1, c1), (n2, c2) in pairwise(marks)]
    return {"us_per_image": us, "wall_s": wall, "peak_mb": peak / 1024}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=int, help="measure one size, in this process")
    parser.add_argument("--objects", type=int, default=LARGE, help="of the larger run; %(default)s for the record")
    asked = parser.parse_args()
    if asked.only:
        print(json.dumps(measure(asked.only)))
        return
    found = {}
    for count in (SMALL, asked.objects):
        command = [sys.executable, "-m", "benchmarks.driver_scale", "--only", str(count)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found[count] = json.loads(done.stdout.splitlines()[-1])
        print(f"{count:,} objects: {found[count]}", file=sys.stderr)
    small, large = found[SMALL], found[asked.objects]
    growth, sizes = large["peak_mb"] - small["peak_mb"], f"{SMALL:,} and {asked.objects:,} objects"
    tenths = f"the tenths of one run of {asked.objects:,} objects, each with its share of checking and publishing"
    emit(
        [
            Figure.of("driver_memory_growth_mb", [growth], "MB", 200, lower_is_better=True, note=f"peaks of runs of {sizes}"),
            Figure.of("driver_us_per_image", large["us_per_image"], "µs", 20, lower_is_better=True, note=tenths),
            Figure.of(
                "driver_images_per_s", [asked.objects / large["wall_s"]], "images/s", note="from manifest to published run"
            ),
        ]
    )


if __name__ == "__main__":
    main()
