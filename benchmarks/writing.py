"""How fast rows become Parquet: `python -m benchmarks.writing`.

Shards of 20,000 images with five rules and embeddings of 512 dimensions: each table alone, and `write_shard`, which a Ray task
does of a run's shards: sort, write, read back and compare, put under staging, aggregate. In one thread, on local disk.
"""

import argparse
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.figures import Figure, emit
from moderation.planning.sharding import shard_name
from moderation.policy.compiled import CompiledPolicy, TextHead, prompt_texts
from moderation.policy_files.loading import parse_policy
from moderation.records import ObjectRef, ScoredBatch, Shard
from moderation.results import schemas
from moderation.results.paths import RunPaths
from moderation.results.shard_files import write_rows, write_shard
from moderation.scoring.decision_rows import Embedded, build_rows
from moderation.scoring.judging import RowContext
from moderation.storage import Store

DIM, RULES, BATCH = 512, 5, 256
NOW = datetime(2026, 11, 21, tzinfo=UTC)
POLICY = parse_policy(
    "policy: measured\nmodel: {name: none}\ncontrast: [a wall]\n"
    f"rules: [{', '.join(f'{{id: rule-{n}, prompts: [a thing {n}], review: 0.8, block: 0.97}}' for n in range(RULES))}]\n"
)
PATHS = RunPaths("measured", "2026-11-21", "0" * 16)


def context() -> RowContext:
    """The policy with random prompt embeddings."""
    random = np.random.default_rng(0)
    texts = {text: random.normal(size=DIM).astype(np.float32) for text in prompt_texts(POLICY)}
    unit = {text: vector / np.linalg.norm(vector) for text, vector in texts.items()}
    return RowContext(PATHS.run_id, CompiledPolicy.build(POLICY, TextHead(unit, 20.0, None)), "none", PATHS.fingerprint)


def scored_shard(rows: int, number: int) -> tuple[Shard, list[ScoredBatch], float]:
    """A shard, its rows in batches as actors make them, and the seconds that scoring, deciding and making rows took."""
    random = np.random.default_rng(number)
    names = (f"s3://shop/uploads/2026/11/{number:04}/{n:09}.jpg" for n in range(rows))
    objects = tuple(ObjectRef(uri, f"{n:032x}", n, NOW) for n, uri in enumerate(names))
    vectors = random.normal(size=(rows, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    stored = vectors.astype(np.float16)
    hashes = [random.bytes(32).hex() for _ in objects]
    images = [Embedded(o, h, "JPEG", 640, 480, 1, (0,), h, 100) for o, h in zip(objects, hashes, strict=True)]
    about = context()
    began = time.perf_counter()
    starts = range(0, rows, BATCH)
    batches = [build_rows(about, images[i : i + BATCH], stored[i : i + BATCH], [], NOW) for i in starts]
    return Shard(shard_name(objects), objects), batches, time.perf_counter() - began


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="images in a shard (%(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="shards (%(default)s)")
    asked = parser.parse_args()
    tables = {table: (list[float](), list[float]()) for table in schemas.TABLES}
    made, staged = [], []
    with tempfile.TemporaryDirectory() as scratch:
        output = Store(f"{scratch}/out")
        for number in range(asked.runs):
            shard, batches, seconds = scored_shard(asked.rows, number)
            made.append(asked.rows / seconds)
            began = time.perf_counter()
            receipt = write_shard(shard, batches, POLICY, DIM, PATHS, output)
            staged.append(asked.rows / (time.perf_counter() - began))
            for entry in receipt.files:
                joined = pa.concat_tables([getattr(batch, entry.table) for batch in batches]).combine_chunks()
                path = Path(scratch) / f"{entry.table}.parquet"
                began = time.perf_counter()
                write_rows(entry.table, joined, path)
                took = time.perf_counter() - began
                rates, sizes = tables[entry.table]
                rates.append(entry.rows / took)
                sizes.append(path.stat().st_size / took / 1e6)
    emit(
        [
            Figure.of("scored_rows_images_per_s", made, "images/s", note=f"score, decide and make rows in batches of {BATCH}"),
            Figure.of("write_shard_images_per_s", staged, "images/s", note="all three tables, verified and staged"),
        ]
    )
    for table, (rates, sizes) in tables.items():
        note = f"{statistics.median(sizes):.0f} MB/s of Parquet"
        emit([Figure.of(f"write_{table}_rows_per_s", rates, "rows/s", note=note)])


if __name__ == "__main__":
    main()
