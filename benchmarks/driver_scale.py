"""What the driver costs per image, its memory, and whether it feeds two workers: `python -m benchmarks.driver_scale`.

Real listing (a Parquet manifest), planning, Ray, shard files, checks and publishing. Only the scorer is a stub: it makes rows
without looking at images. Each size runs in a process of its own, so that one's memory is not the other's. CPU per image is
taken of each tenth of the larger run, with a tenth of what checking and publishing took: a cost that grew would show.

Two workers are compared with one in the same Ray, in turns. Each is a stub that takes the time of a fast GPU by waiting, since
this machine may have fewer cores than two workers that compute would want: what is measured is whether one driver hands out and
counts twice as much. The rate is that of the last eight tenths of the scoring stage, since workers start one after the other.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import Figure, emit
from benchmarks.s3_pages import s3_pages
from moderation import pipeline
from moderation.cluster.pool import ScorerPool
from moderation.cluster.scorer import ModelDescription
from moderation.cluster.session import PoolPlan, ray_session
from moderation.common.environment import environment
from moderation.common.progress import Progress, listening
from moderation.planning.inputs import check_inputs, claim_run
from moderation.policy.compiled import CompiledPolicy, TextHead, prompt_texts
from moderation.records import Batch, ScoredBatch
from moderation.scoring.decision_rows import Embedded, build_rows
from moderation.scoring.flips import FlipCheck
from moderation.scoring.judging import RowContext
from moderation.settings import RunSettings
from moderation.storage import Store

SMALL, LARGE, PARTS = 10_000, 1_000_000, 10
PACED, PACE, ROUNDS = 60_000, 1 / 7_000, 3
"""Objects, seconds per image (what the design wants of an H200) and runs of the comparison of two workers with one."""
LISTED = 50_000
DIM = 8
NOW = datetime(2026, 11, 21, tzinfo=UTC)
POLICY = "policy: stub\nmodel: {name: none}\ncontrast: [a wall]\nrules: [{id: one, prompts: [a thing], review: 0.9}]\n"


@dataclass(frozen=True)
class Stub:
    """Makes stub scorers."""

    pace: float = 0.0
    """seconds that an image takes, of which nothing is spent on computing"""

    def __call__(self) -> "StubScorer":
        """There is nothing to load."""
        return StubScorer(self.pace)


class StubScorer:
    """A scorer that looks at nothing."""

    def __init__(self, pace: float) -> None:
        self._pace, self._device = pace, threading.Lock()

    def describe(self, texts: list[str]) -> ModelDescription:
        """A model of random vectors."""
        vectors = np.random.default_rng(0).normal(size=(len(texts), DIM)).astype(np.float32)
        unit = {t: v / np.linalg.norm(v) for t, v in zip(texts, vectors, strict=True)}
        return ModelDescription("none", "0" * 16, DIM, "cpu", TextHead(unit, 10.0, None))

    def score(self, batch: Batch, context: RowContext) -> ScoredBatch:
        """A row for each object, after as long as they take one after the other."""
        with self._device:
            time.sleep(self._pace * len(batch.objects))
        rows = [Embedded(item, "0" * 64, "JPEG", 640, 480, 1, (0,)) for item in batch.objects]
        vectors = np.random.default_rng(len(rows)).normal(size=(len(rows), DIM)).astype(np.float16)
        return build_rows(context, rows, vectors, [], NOW)

    def check(self, batch: Batch, context: RowContext) -> FlipCheck:  # noqa: ARG002 - the interface
        """Nothing differs: no model runs."""
        return FlipCheck(len(batch.objects), 0, 1.0)


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


class Mark(NamedTuple):
    """How far a run has come."""

    done: int
    cpu_s: float
    """of this process"""
    at_s: float


def scored(running: pipeline.Session, count: int) -> tuple[pipeline.Scored, list[Mark]]:
    """List, plan and score `count` objects, with a mark at the start and at each tenth."""
    marks = [Mark(0, time.process_time(), time.monotonic())]

    def mark(progress: Progress) -> None:
        if progress.stage == "scoring" and progress.done >= len(marks) * count / PARTS:
            marks.append(Mark(progress.done, time.process_time(), time.monotonic()))

    with listening(mark):
        return pipeline.score(running), marks


@contextlib.contextmanager
def session(count: int, workers: int = 1, pace: float = 0.0, shard_size: int = 20_000) -> Iterator[pipeline.Session]:
    """A run of `count` objects with stub workers. Ray must be running."""
    with tempfile.TemporaryDirectory() as folder:
        write_manifest(Path(folder) / "list.parquet", count)
        (Path(folder) / "policy.yaml").write_text(POLICY)
        settings = RunSettings(
            sources=f"{folder}/list.parquet",
            policy=f"{folder}/policy.yaml",
            output=f"{folder}/out",
            shard_size=shard_size,
        )
        inputs = check_inputs(settings)
        plan = PoolPlan(workers, 1.0, 0.0)
        with ScorerPool(Stub(pace), plan, settings.batch_timeout_s) as pool:
            model = pool.describe(prompt_texts(inputs.policy))
            compiled = CompiledPolicy.build(inputs.policy, model.head)
            paths, started_at = claim_run(inputs, model.fingerprint)
            yield pipeline.Session(inputs, pool, plan, model, compiled, paths, started_at)


def measure(count: int) -> dict[str, Any]:
    """What `count` objects cost this process, from the manifest to the published run."""
    with ray_session(None), session(count) as running:
        began = time.monotonic()
        found, marks = scored(running, count)
        cpu = time.process_time()
        manifest = pipeline.publish_or_quarantine(running, found, pipeline.check(running, found))
        rest, wall = time.process_time() - cpu, time.monotonic() - began
    if (manifest.listed, manifest.scored) != (count, count):
        raise SystemExit(f"{manifest.scored} of {count} objects were scored")
    us = [((b.cpu_s - a.cpu_s) / (b.done - a.done) + rest / count) * 1e6 for a, b in pairwise(marks)]
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {"us_per_image": us, "wall_s": wall, "peak_mb": peak / 1024}


def compare(count: int) -> dict[str, Any]:
    """Images per second of one worker and of two, in turns."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    with ray_session(None):
        for _ in range(ROUNDS):
            for workers, found in rates.items():
                with session(count, workers, PACE, shard_size=5_000) as running:
                    first, last = itemgetter(2, -1)(scored(running, count)[1])
                found.append((last.done - first.done) / (last.at_s - first.at_s))
    return {"one": rates[1], "two": rates[2]}


def listing(count: int) -> dict[str, Any]:
    """CPU of listing `count` objects of a bucket, by `Store`, in microseconds per object."""
    names = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
    with s3_pages(count) as endpoint, environment({**names, "AWS_ENDPOINT_URL": endpoint}):
        store = Store("s3://shop")
        next(store.list())
        found = []
        for _ in range(ROUNDS):
            began, listed = time.process_time(), sum(map(len, store.list()))
            found.append((time.process_time() - began) / listed * 1e6)
    return {"us_per_object": found}


def apart(*options: str) -> dict[str, Any]:
    """What this module prints in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.driver_scale", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{' '.join(options)}: {found}", file=sys.stderr)
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=int, help="measure one size, in this process")
    parser.add_argument("--compare", type=int, help="compare two workers with one, in this process, by so many objects")
    parser.add_argument("--list", type=int, help="list so many objects, in this process")
    parser.add_argument("--objects", type=int, default=LARGE, help="of the larger run; %(default)s for the record")
    asked = parser.parse_args()
    for function, number in ((measure, asked.only), (compare, asked.compare), (listing, asked.list)):
        if number:
            print(json.dumps(function(number)))
            return
    paced = min(PACED, asked.objects)
    small, large = apart("--only", str(SMALL)), apart("--only", str(asked.objects))
    both, listed = apart("--compare", str(paced)), apart("--list", str(min(LISTED, asked.objects)))
    growth, sizes = large["peak_mb"] - small["peak_mb"], f"{SMALL:,} and {asked.objects:,} objects"
    tenths = f"the tenths of one run of {asked.objects:,} objects, each with its share of checking and publishing"
    rates = [two / one for one, two in zip(both["one"], both["two"], strict=True)]
    waits = (
        f"stub workers that wait {PACE * 1e6:.0f} µs per image, {paced:,} images each time; one: "
        f"{', '.join(f'{rate:,.0f}' for rate in both['one'])} images/s, two: {', '.join(f'{r:,.0f}' for r in both['two'])}"
    )
    emit(
        [
            Figure.of("driver_memory_growth_mb", [growth], "MB", 150, lower_is_better=True, note=f"peaks of runs of {sizes}"),
            Figure.of("driver_us_per_image", large["us_per_image"], "µs", 8, lower_is_better=True, note=tenths),
            Figure.of("driver_two_workers_over_one", rates, "times", 1.7, note=waits),
            Figure.of(
                "driver_images_per_s",
                [asked.objects / large["wall_s"]],
                "images/s",
                note="from manifest to published run, one stub worker that does not wait",
            ),
            Figure.of(
                "listing_us_per_object",
                listed["us_per_object"],
                "µs",
                note="CPU of the process that lists a bucket by boto3, a reader beside the driver; the server is another one",
            ),
        ]
    )


if __name__ == "__main__":
    main()
