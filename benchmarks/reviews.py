"""How long a reviewer waits for a page of the queue, and a count of effective decisions takes: `python -m benchmarks.reviews`.

Synthetic decisions, as the pipeline publishes them, in daily runs: nine out of ten objects of a run are new, the others were
decided before. A tenth of the images awaits review, and people have reviewed most of them.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from benchmarks.figures import Figure, emit
from moderation.query import connect
from moderation.query.connection import select
from moderation.records import Counts
from moderation.results import schemas
from moderation.results.manifest import Manifest, Timings
from moderation.results.paths import RunPaths
from moderation.results.shard_files import FileEntry
from moderation.storage import Store

DECISIONS, REVIEWS, RUNS, SHARD = 10_000_000, 1_000_000, 20, 20_000
BEGAN = datetime(2026, 11, 1, 3, tzinfo=UTC)
POLICY = "0123456789abcdef"
FINGERPRINT = "0" * 16

ROWS = """
SELECT
    '{run}' AS run_id,
    printf('s3://shop/uploads/2026/%06d/%09d.jpg', n // 1000, n) AS uri, md5(n::VARCHAR) AS etag,
    1000 + (h % 90000)::BIGINT AS size_bytes, {began} AS last_modified,
    CASE WHEN h % 200 = 7 THEN 'error' ELSE 'scored' END AS status,
    CASE WHEN h % 200 = 7 THEN 'corrupt' END AS error_code, NULL::VARCHAR AS error_detail, false AS retryable,
    'JPEG' AS format, 640 AS width, 480 AS height, 1 AS frames, 0 AS frame,
    CASE WHEN h % 200 <> 7 THEN sha256(n::VARCHAR) END AS sha256,
    CASE WHEN h % 200 <> 7 THEN sha256('pdq' || n) END AS pdq, 90 AS pdq_quality, NULL::VARCHAR AS damaged,
    CASE WHEN h % 10 = 7 THEN 'review' WHEN h % 50 = 1 THEN 'block' ELSE 'allow' END AS action,
    h % 200 <> 7 AND (h % 10 = 7 OR h % 50 = 1) AS flagged,
    CASE WHEN h % 200 <> 7 AND (h % 10 = 7 OR h % 50 = 1) THEN ['rule-' || (h // 50 % 20)] ELSE [] END AS flags,
    []::VARCHAR[] AS shadow_flags,
    CASE WHEN h % 200 <> 7 THEN 'rule-' || (h // 50 % 20) END AS top_rule,
    CASE WHEN h % 200 <> 7 THEN 'category' END AS top_category,
    CASE WHEN h % 200 <> 7 THEN ((h // 1000) % 1000 / 1000)::FLOAT END AS top_score, 0.5::FLOAT AS top_threshold,
    h % 30 = 3 AS near_threshold,
    'measured' AS policy, '1' AS policy_version, '{policy}' AS policy_hash, 'measured' AS model,
    '{fingerprint}' AS model_fingerprint, {began} + INTERVAL 10 MINUTE AS scored_at
FROM (SELECT n, hash(n) AS h FROM ({numbers}))
ORDER BY uri
"""

JUDGED = """
SELECT
    printf('%08x-%04x-7000-8000-%012x', d, n % 65536, n) AS review_id,
    printf('s3://shop/uploads/2026/%06d/%09d.jpg', n // 1000, n) AS uri, md5(n::VARCHAR) AS etag,
    CASE WHEN hash(n) % 200 <> 7 THEN sha256(n::VARCHAR) END AS sha256,
    CASE WHEN hash(n) % 200 <> 7 THEN sha256('pdq' || n) END AS pdq,
    NULL::INTEGER AS frame, NULL::VARCHAR AS run_id, 'measured' AS policy, '1' AS policy_version, '{policy}' AS policy_hash,
    'review' AS queue, 'decision' AS selection, NULL::DOUBLE AS weight,
    CASE WHEN hash(n) % 200 <> 7 THEN 'rule-' || (hash(n) // 50 % 20) END AS rule,
    CASE WHEN hash(n) % 200 <> 7 THEN 'fedcba9876543210' END AS rule_meaning,
    CASE WHEN n % 3 = 0 THEN 'violates' ELSE 'fine' END AS verdict,
    CASE WHEN n % 50 = 0 THEN 'escalate' WHEN n % 3 = 0 THEN 'block' ELSE 'allow' END AS action,
    NULL::VARCHAR AS reason, NULL::VARCHAR AS note, 'reviewer-' || (n % 17) AS reviewer,
    {began} + INTERVAL 1 DAY AS opened_at, {began} + INTERVAL 1 DAY + n * INTERVAL 1 MILLISECOND AS decided_at,
    false AS blind, 'studio' AS source, NULL::VARCHAR AS supersedes, NULL::VARCHAR AS appeal_id,
    'review' AS machine_action, 'rule-1' AS machine_rule, 0.6::FLOAT AS machine_score, 0.5::FLOAT AS machine_threshold
FROM (SELECT n, {day} AS d FROM ({numbers}))
ORDER BY review_id
"""


def write_results(folder: Path, decisions: int, reviews: int) -> None:
    """Runs with so many rows of decisions, and reviews of nearly all images that the policy sends to people."""
    output = Store(str(folder))
    each = decisions // RUNS
    new = each * 9 // 10
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        for day in range(RUNS):
            began = BEGAN + timedelta(days=day)
            run_id = f"{began:%Y%m%dT%H%M%SZ}-{day:06d}"
            paths = RunPaths(run_id, f"{began:%Y-%m-%d}", FINGERPRINT)
            first = day * new
            fresh = [f"SELECT unnest(range({s}, {min(s + SHARD, first + new)})) AS n" for s in range(first, first + new, SHARD)]
            again = each - new if day else 0
            step = max(1, first // max(again, 1))
            old = [
                f"SELECT unnest(range({s * step}, {min(s + SHARD, again) * step}, {step})) AS n" for s in range(0, again, SHARD)
            ]
            entries = []
            for number, numbers in enumerate([*fresh, *old]):
                key = paths.published("decisions", f"{number:016x}")
                path = folder / key
                path.parent.mkdir(parents=True, exist_ok=True)
                rows = ROWS.format(run=run_id, began=_moment(began), policy=POLICY, fingerprint=FINGERPRINT, numbers=numbers)
                connection.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 20000)")  # noqa: S608
                entries.append(FileEntry(table="decisions", path=key, rows=SHARD, bytes=path.stat().st_size))
            output.put(paths.manifest, _manifest(paths, began, each, entries).to_json())
            some = reviews // RUNS
            numbers = f"SELECT n FROM (SELECT unnest(range({first}, {first + new})) AS n) WHERE hash(n) % 10 = 7 OR hash(n) % 50 = 1 LIMIT {some}"  # noqa: S608
            judged = JUDGED.format(policy=POLICY, began=_moment(began), day=day, numbers=numbers)
            path = folder / f"reviews/date={began + timedelta(days=1):%Y-%m-%d}/{day:06d}.parquet"
            path.parent.mkdir(parents=True)
            connection.execute(f"COPY ({judged}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")  # noqa: S608


def _moment(moment: datetime) -> str:
    return f"TIMESTAMPTZ '{moment.isoformat()}'"


def _manifest(paths: RunPaths, began: datetime, rows: int, entries: list[FileEntry]) -> Manifest:
    return Manifest(
        run_id=paths.run_id,
        started_at=began,
        published_at=began + timedelta(minutes=20),
        sources=("s3://shop",),
        policy="measured",
        policy_version="1",
        policy_hash=POLICY,
        policy_text="",
        model="measured",
        model_fingerprint=FINGERPRINT,
        device="cpu",
        settings={},
        listed=rows,
        unchanged=0,
        counts=Counts(scored=rows),
        timings=Timings(wall_seconds=1, images_per_second=rows, busy_seconds={}, bottleneck="encode"),
        checks=(),
        versions={},
        report=paths.report,
        files=tuple(entries),
    )
