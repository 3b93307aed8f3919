"""What a backtest costs per image, and whether its memory grows with their number: `python -m benchmarks.backtest`.

Synthetic 512-d embeddings in shards of 20,000, published as the pipeline stores them, under a policy of 20 rules with 50
prompts; then what `moderate policy backtest` does, but for the page: everything is read, decided under another policy, counted,
and the changed images are written. Each size runs in a process of its own, so that one's memory is not the other's.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.figures import Figure, emit
from moderation.policy.compiled import CompiledPolicy, TextHead, prompt_texts
from moderation.policy.decision import ACTIONS, decide
from moderation.policy.schema import Policy
from moderation.policy_files.loading import parse_policy
from moderation.records import Counts
from moderation.results import schemas
from moderation.results.archive import open_archive
from moderation.results.manifest import Manifest, Timings
from moderation.results.paths import RunPaths
from moderation.results.schemas import Table
from moderation.results.shard_files import FileEntry, write_rows
from moderation.results.stored_prompts import keep_prompts
from moderation.scoring.prompt_embeddings import compiled_for
from moderation.storage import Store
from moderation.studies.backtest.backtesting import backtest

SMALL, LARGE, SHARD, DIM, RULES, PROMPTS, PROCESSES = 200_000, 1_000_000, 20_000, 512, 20, 50, 2
BEGAN = datetime(2026, 11, 1, 3, tzinfo=UTC)
PATHS = RunPaths("20261101T030000Z-000000", "2026-11-01", "0" * 16)


def policy(review: float) -> Policy:
    """20 rules; of 50 prompts they have two each, and ten are contrasts of all."""
    rules = [
        f"{{id: rule-{n}, severity: {('low', 'high')[n % 2]}, mode: {'shadow' if n == 0 else 'live'}, "
        f"prompts: [a thing {2 * n}, a thing {2 * n + 1}], review: {review}, block: 0.9}}"
        for n in range(RULES)
    ]
    contrast = ", ".join(f"a wall {n}" for n in range(PROMPTS - 2 * RULES))
    about = "policy: measured\nmodel: {name: measured}\ntemplates: ['{}']\n"
    return parse_policy(f"{about}contrast: [{contrast}]\nrules: [{', '.join(rules)}]\n")


OLD, NEW = policy(0.62), policy(0.60)


def head() -> TextHead:
    """Random prompt embeddings."""
    vectors = np.random.default_rng(0).normal(size=(PROMPTS, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return TextHead(dict(zip(prompt_texts(OLD), vectors, strict=True)), 20.0, None)


def write_shard(folder: Path, number: int) -> list[FileEntry]:
    """One shard as a run publishes it, but for its scores: they are not read."""
    random = np.random.default_rng(number)
    vectors = random.standard_normal((SHARD, DIM), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    stored = vectors.astype(np.float16)
    compiled = CompiledPolicy.build(OLD, head())
    scores = compiled.scores(stored)
    found = decide(scores, compiled.thresholds)
    ids = np.array([rule.id for rule in compiled.rules])
    uri = [f"s3://shop/uploads/2026/11/{n // 1000:06}/{n:09}.jpg" for n in range(number * SHARD, (number + 1) * SHARD)]
    days = random.integers(0, 30 * 86400, SHARD)
    same = {
        "run_id": PATHS.run_id,
        "status": "scored",
        "retryable": False,
        "format": "JPEG",
        "width": 640,
        "height": 480,
        "frames": 1,
        "frame": 0,
        "policy": OLD.policy,
        "policy_version": OLD.version,
        "policy_hash": OLD.hash,
        "model": "measured",
        "model_fingerprint": PATHS.fingerprint,
        "scored_at": BEGAN,
    }
    values = {
        "uri": uri,
        "etag": [f"{n:032x}" for n in random.integers(0, 1 << 60, SHARD)],
        "size_bytes": random.integers(1000, 100_000, SHARD),
        "last_modified": [BEGAN - timedelta(days=30) + timedelta(seconds=int(s)) for s in days],
        "sha256": [f"{n:064x}" for n in random.integers(0, 1 << 60, SHARD)],
        "action": [ACTIONS[a].value for a in found.action],
        "flagged": found.flagged.any(axis=1),
        "flags": [ids[row].tolist() for row in found.flagged],
        "shadow_flags": [ids[row].tolist() for row in found.shadow],
        "top_rule": ids[found.top_rule],
        "top_category": ["uncategorized"] * SHARD,
        "top_score": scores[np.arange(SHARD), found.top_rule],
        "top_threshold": found.top_threshold,
        "near_threshold": found.near,
    }
    decisions = pa.table(
        {
            f.name: pa.array(values[f.name], f.type)
            if f.name in values
            else pa.repeat(pa.scalar(same[f.name], f.type), SHARD)
            if f.name in same
            else pa.nulls(SHARD, f.type)
            for f in schemas.DECISIONS
        },
        schema=schemas.DECISIONS,
    )
    schema = schemas.embeddings(DIM)
    embeddings = pa.table(
        {
            **{name: decisions[name] for name in ("run_id", "uri", "etag", "sha256")},
            "frame": pa.array(np.zeros(SHARD, np.int32)),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(stored.ravel()), type=schema.field("embedding").type),
        },
        schema=schema,
    )
    files: list[tuple[Table, pa.Table]] = [("decisions", decisions), ("embeddings", embeddings)]
    return [_write(folder, table, rows, f"{number:06}") for table, rows in files]


def _write(folder: Path, table: Table, rows: pa.Table, name: str) -> FileEntry:
    path = folder / PATHS.published(table, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(table, rows, path)
    return FileEntry(table=table, path=PATHS.published(table, name), rows=len(rows), bytes=path.stat().st_size)


def write_results(folder: Path, images: int) -> None:
    """A published run of so many images, with its prompt embeddings."""
    output = Store(str(folder))
    keep_prompts(output, PATHS.fingerprint, head())
    shards = range(images // SHARD)
    with ProcessPoolExecutor(PROCESSES) as pool:
        files = [entry for entries in pool.map(write_shard, [folder] * len(shards), shards) for entry in entries]
    manifest = Manifest(
        run_id=PATHS.run_id,
        started_at=BEGAN,
        published_at=BEGAN,
        sources=("s3://shop",),
        policy=OLD.policy,
        policy_version=OLD.version,
        policy_hash=OLD.hash,
        policy_text="",
        model="measured",
        model_fingerprint=PATHS.fingerprint,
        device="cpu",
        settings={},
        listed=images,
        unchanged=0,
        counts=Counts(scored=images),
        timings=Timings(wall_seconds=1.0, images_per_second=1.0, busy_seconds={}, bottleneck="decode"),
        checks=(),
        versions={},
        report=PATHS.report,
        files=tuple(files),
    )
    output.put(PATHS.manifest, manifest.to_json(), create_only=True)


def measure(folder: Path, runs: int, scratch: Path) -> dict[str, Any]:
    """What each of several backtests of the results took, and the most memory of this process."""
    walls, cpus = [], []
    for _ in range(runs):
        cpu, wall = time.process_time(), time.monotonic()
        archive = open_archive(Store(str(folder)), NEW.model.label)
        found = backtest(compiled_for(NEW, archive), archive, scratch / "changed.parquet", threads=PROCESSES)
        walls.append(time.monotonic() - wall)
        cpus.append(time.process_time() - cpu)
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {"images": found.images, "changed": found.total.changed, "wall_s": walls, "cpu_s": cpus, "peak_mb": peak / 1024}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="how often to repeat (%(default)s)")
    parser.add_argument("--images", type=int, default=LARGE, help="of the larger size, at least %(default)s for the record")
    parser.add_argument("--folder", type=Path, help="where results are kept for next time, about 1 kB for each image")
    parser.add_argument("--only", type=Path, help="measure the results in this folder, in this process")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if asked.only:
            print(json.dumps(measure(asked.only, asked.runs, Path(scratch))))
            return
        found = {}
        for images in (SMALL, asked.images):
            folder = (asked.folder or Path(scratch)) / f"{images}"
            if not (folder / PATHS.manifest).exists():
                write_results(folder, images)
            command = [sys.executable, "-m", "benchmarks.backtest", "--only", str(folder), "--runs", str(asked.runs)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[images] = json.loads(done.stdout.splitlines()[-1])
            print(f"{images:,} images: {found[images]}", file=sys.stderr)
    small, large = found[SMALL], found[asked.images]
    images = large["images"]
    what = f"a backtest of {images:,} images of {DIM} dimensions, {RULES} rules with {PROMPTS} prompts, {PROCESSES} threads"
    rates = [images / wall for wall in large["wall_s"]]
    cpu = [seconds / images * 1e6 for seconds in large["cpu_s"]]
    memory, growth = [large["peak_mb"]], [large["peak_mb"] - small["peak_mb"]]
    emit(
        [
            Figure.of("redecide_images_per_s", rates, "images/s", 300_000, note=what),
            Figure.of("redecide_cpu_us_per_image", cpu, "µs", 1e6 * PROCESSES / 300_000, lower_is_better=True),
            Figure.of("redecide_peak_mb", memory, "MB", 1500, lower_is_better=True),
            Figure.of("redecide_memory_growth_mb", growth, "MB", 100, lower_is_better=True, note=f"from {SMALL:,} images"),
        ]
    )


if __name__ == "__main__":
    main()
