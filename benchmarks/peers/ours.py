"""The same work by the pipeline: listing, Ray actors, rows, and shards written and verified."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.nginx import etag
from benchmarks.peers.work import Work, policy_text
from moderation import RunSettings, pipeline
from moderation.errors import RunError
from moderation.planning.inputs import check_inputs

SHARDS, BATCHES = 8, 16
"""Of a run, so that most shards are written while others are being scored, and there are enough batches to see a pace. By
default shards are larger than this, and batches."""


def run(work: Work) -> None:
    """Do the work. The checks of a run and its publication come after scoring, at once for all, and are not part of it."""
    policy = work.output / "policy.yaml"
    policy.write_text(policy_text(work.model))
    settings = RunSettings(
        sources=str(_manifest(work) if work.bucket else work.files[0].parent),
        policy=str(policy),
        output=str(work.output / "results"),
        device="cpu",
        limit=len(work.files),
        batch_size=max(1, len(work.files) // BATCHES),
        shard_size=max(1, len(work.files) // SHARDS),
    )
    with pipeline.session(check_inputs(settings)) as running:
        scored = pipeline.score(running)
    if scored.counts.scored != len(work.files):
        raise RunError(f"{scored.counts.scored} of {len(work.files)} images were scored: {dict(scored.counts.errored)}")


def rows(folder: Path) -> pa.Table:
    """What a run left under `folder` as the peers write it: `uri`, `embedding`, `scored_at` in seconds."""
    decisions = _read(folder, "decisions", ["uri", "scored_at"])
    embeddings = _read(folder, "embeddings", ["uri", "embedding"])
    joined = decisions.sort_by("uri"), embeddings.sort_by("uri")
    seconds = joined[0]["scored_at"].cast(pa.int64()).to_numpy() / 1e6
    return pa.table({"uri": joined[0]["uri"], "embedding": joined[1]["embedding"], "scored_at": seconds})


def _read(folder: Path, table: str, columns: list[str]) -> pa.Table:
    files = sorted(folder.glob(f"results/_staging/*/*/{table}/**/*.parquet"))
    return pa.concat_tables(pq.ParquetFile(file).read(columns) for file in files)


def _manifest(work: Work) -> Path:
    """The list of objects, with what a listing would say of them: nginx lists nothing."""
    found = [file.stat() for file in work.files]
    columns = {
        "uri": work.images,
        "etag": [etag(file) for file in work.files],
        "size": [each.st_size for each in found],
        "last_modified": [datetime.fromtimestamp(int(each.st_mtime), UTC) for each in found],
    }
    path = work.output / "images.parquet"
    pq.write_table(pa.table(columns), path)
    return path
