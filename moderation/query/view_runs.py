"""The view `runs`: a row per published run, from its manifest."""

from collections.abc import Iterable
from datetime import UTC
from typing import Any

import pyarrow as pa

from moderation.results.manifest import Manifest
from moderation.results.schemas import VERSION

_UTC = pa.timestamp("us", tz="UTC")
_NUMBERS = pa.map_(pa.string(), pa.int64())

RunRow = dict[str, Any]
"""by column of `RUNS`"""


def _field(name: str, kind: pa.DataType, description: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"description": description, "since": "1"})


RUNS = pa.schema(
    [
        _field("run_id", pa.string(), "name of the run"),
        _field("started_at", _UTC, "when the run started"),
        _field("published_at", _UTC, "when readers could first see it"),
        _field("sources", pa.list_(pa.string()), "the folders, manifests or inventories that it processed"),
        _field("policy", pa.string(), "name of the policy"),
        _field("policy_version", pa.string(), "the policy's version as its file states it"),
        _field("policy_hash", pa.string(), "identity of the policy: hash of its content"),
        _field("model", pa.string(), "name of the model"),
        _field("model_fingerprint", pa.string(), "identity of the model; rows of different fingerprints are not comparable"),
        _field("device", pa.string(), "what the model ran on"),
        _field("listed", pa.int64(), "objects listed: unchanged + scored + errored"),
        _field("unchanged", pa.int64(), "objects that already had a decision, and so have no row in this run"),
        _field("repeated", pa.int64(), "entries of manifests that repeat an object; not in `listed`"),
        _field("scored", pa.int64(), "objects with scores"),
        _field("redecided", pa.int64(), "of these, objects re-decided from embeddings that an earlier run stored"),
        _field("errored", pa.int64(), "objects with an error row"),
        _field("errored_by_code", _NUMBERS, "of these, how many by `error_code`"),
        _field("blocked", pa.int64(), "scored objects with the action block"),
        _field("review", pa.int64(), "scored objects with the action review"),
        _field(
            "to_review",
            pa.int64(),
            "objects that await a person: `review`, and `errored` where the policy sends these to people",
        ),
        _field("near_threshold", pa.int64(), "scored objects near a threshold of a live rule"),
        _field("flagged_by_rule", _NUMBERS, "scored objects by live rule that acts"),
        _field("shadow_by_rule", _NUMBERS, "scored objects by shadow rule that would act"),
        _field(
            "wall_seconds",
            pa.float64(),
            "from the first listed object to the last staged shard, of the attempt that published the run",
        ),
        _field("images_per_second", pa.float64(), "objects that this attempt wrote a row for, per second of that time"),
        _field("bottleneck", pa.string(), "the stage that was busiest for the threads it had"),
        _field("checks_passed", pa.int64(), "quality checks that passed"),
        _field("checks_failed", pa.int64(), "quality checks that failed: they only warn, or somebody released the run"),
        _field("failed_checks", pa.list_(pa.string()), "names of these"),
        _field("released_by", pa.string(), "who released a run whose checks failed; null for other runs", nullable=True),
        _field("release_reason", pa.string(), "the reason given for that", nullable=True),
        _field("files", pa.int64(), "Parquet files of the run"),
        _field("bytes", pa.int64(), "their size"),
        _field("report", pa.string(), "path of the report, relative to the results"),
        _field("date", pa.date32(), "the day the run started, UTC, as in the folders' names"),
        _field("run", pa.string(), "same as `run_id`, as in the folders' names"),
    ],
    metadata={
        "table": "runs",
        "description": "one row per published run; not stored as files: `moderate query` builds it from the manifests",
        "schema_version": str(VERSION),
    },
)


def runs_table(rows: Iterable[RunRow]) -> pa.Table:
    """The rows of `runs`, oldest run first."""
    return pa.Table.from_pylist(sorted(rows, key=lambda row: (row["started_at"], row["run_id"])), schema=RUNS)


def run_row(manifest: Manifest) -> RunRow:
    """One row of `runs`."""
    counts, timings, release = manifest.counts, manifest.timings, manifest.release
    failed = [check.name for check in manifest.checks if not check.passed]
    return {
        "run_id": manifest.run_id,
        "started_at": manifest.started_at,
        "published_at": manifest.published_at,
        "sources": list(manifest.sources),
        "policy": manifest.policy,
        "policy_version": manifest.policy_version,
        "policy_hash": manifest.policy_hash,
        "model": manifest.model,
        "model_fingerprint": manifest.model_fingerprint,
        "device": manifest.device,
        "listed": manifest.listed,
        "unchanged": manifest.unchanged,
        "repeated": manifest.repeated,
        "scored": manifest.scored,
        "redecided": manifest.redecided,
        "errored": manifest.errored,
        "errored_by_code": list(counts.errored.items()),
        "blocked": counts.blocked,
        "review": counts.review,
        "to_review": manifest.to_review.images,
        "near_threshold": counts.near_threshold,
        "flagged_by_rule": list(counts.flagged.items()),
        "shadow_by_rule": list(counts.shadow.items()),
        "wall_seconds": timings.wall_seconds,
        "images_per_second": timings.images_per_second,
        "bottleneck": timings.bottleneck,
        "checks_passed": len(manifest.checks) - len(failed),
        "checks_failed": len(failed),
        "failed_checks": failed,
        "released_by": release.by if release else None,
        "release_reason": release.reason if release else None,
        "files": len(manifest.files),
        "bytes": sum(entry.bytes for entry in manifest.files),
        "report": manifest.report,
        "date": manifest.started_at.astimezone(UTC).date(),
        "run": manifest.run_id,
    }
