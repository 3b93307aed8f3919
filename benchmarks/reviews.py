"""How long a reviewer waits for a page of the queue, and a count of effective decisions takes: `python -m benchmarks.reviews`.

Synthetic decisions, as the pipeline publishes them, in daily runs: nine out of ten objects of a run are new, the others were
decided before. 4 % of the images are in review; people have reviewed 19 of 20 of these, half of them twice, and have audited
allowed images.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from benchmarks.figures import Figure, emit
from moderation.query import connect
from moderation.query.connection import select
from moderation.query.review_sql import queue_sql
from moderation.records import Counts
from moderation.results.manifest import Manifest, Timings
from moderation.results.paths import RunPaths
from moderation.results.shard_files import FileEntry
from moderation.storage import Store

DECISIONS, REVIEWS, RUNS, SHARD, PAGE = 10_000_000, 1_000_000, 20, 20_000, 100
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
    CASE WHEN h % 25 = 7 THEN 'review' WHEN h % 50 = 1 THEN 'block' ELSE 'allow' END AS action,
    h % 200 <> 7 AND (h % 25 = 7 OR h % 50 = 1) AS flagged,
    CASE WHEN h % 200 <> 7 AND (h % 25 = 7 OR h % 50 = 1) THEN ['rule-' || (h // 50 % 20)] ELSE [] END AS flags,
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
    printf('%08x-%04x-7%03x-8000-%012x', {day}, n % 65536, k, n) AS review_id,
    printf('s3://shop/uploads/2026/%06d/%09d.jpg', n // 1000, n) AS uri, md5(n::VARCHAR) AS etag,
    CASE WHEN h % 200 <> 7 THEN sha256(n::VARCHAR) END AS sha256,
    CASE WHEN h % 200 <> 7 THEN sha256('pdq' || n) END AS pdq,
    NULL::INTEGER AS frame, NULL::VARCHAR AS run_id, 'measured' AS policy, '1' AS policy_version, '{policy}' AS policy_hash,
    'review' AS queue, CASE WHEN k = 2 THEN 'audit_allowed' ELSE 'decision' END AS selection,
    CASE WHEN k = 2 THEN 50.0 END::DOUBLE AS weight,
    CASE WHEN h % 200 <> 7 THEN 'rule-' || (h // 50 % 20) END AS rule,
    CASE WHEN h % 200 <> 7 THEN 'fedcba9876543210' END AS rule_meaning,
    CASE WHEN n % 3 = 0 THEN 'violates' ELSE 'fine' END AS verdict,
    CASE WHEN n % 50 = 0 THEN 'escalate' WHEN n % 3 = 0 THEN 'block' ELSE 'allow' END AS action,
    NULL::VARCHAR AS reason, NULL::VARCHAR AS note, 'reviewer-' || ((n + k) % 17) AS reviewer,
    {began} + INTERVAL 1 DAY AS opened_at,
    {began} + INTERVAL 1 DAY + (n * 3 + k) * INTERVAL 1 MILLISECOND AS decided_at,
    false AS blind, 'studio' AS source, NULL::VARCHAR AS supersedes, NULL::VARCHAR AS appeal_id,
    'review' AS machine_action, 'rule-1' AS machine_rule, 0.6::FLOAT AS machine_score, 0.5::FLOAT AS machine_threshold
FROM (
    SELECT n, hash(n) AS h, k FROM (SELECT unnest(range({first}, {last})) AS n), (SELECT unnest([0, 1, 2]) AS k)
    WHERE CASE k
        WHEN 0 THEN hash(n) % 25 = 7 AND n % 20 <> 0
        WHEN 1 THEN hash(n) % 25 = 7 AND n % 20 <> 0 AND n % 2 = 0
        ELSE hash(n) % 25 <> 7 AND hash(n) % 50 <> 1
    END
    ORDER BY k, n LIMIT {count}
)
ORDER BY review_id
"""
"""Of the images in review 19 of 20, half of them twice, and audits of allowed images until there are so many."""


def write_results(folder: Path, decisions: int, reviews: int) -> None:
    """Runs with so many rows of decisions, and reviews of nearly all images that the policy sends to people."""
    output = Store(str(folder))
    each = decisions // RUNS
    new = each * 9 // 10
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2; SET enable_progress_bar = false")
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
                connection.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 20000)")
                entries.append(FileEntry(table="decisions", path=key, rows=SHARD, bytes=path.stat().st_size))
            output.put(paths.manifest, _manifest(paths, began, each, entries).to_json())
            judged = JUDGED.format(
                policy=POLICY, began=_moment(began), day=day, first=first, last=first + new, count=reviews // RUNS
            )
            path = folder / f"reviews/date={began + timedelta(days=1):%Y-%m-%d}/{day:06d}.parquet"
            path.parent.mkdir(parents=True)
            connection.execute(f"COPY ({judged}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")


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


def measure(folder: Path, rounds: int) -> Iterator[Figure]:
    """Each question on a connection of its own, which knows nothing of earlier ones. Two threads, as on two cores."""

    def seconds(ask: Callable[[duckdb.DuckDBPyConnection], object]) -> list[float]:
        found = []
        for _ in range(rounds):
            with connect(str(folder)) as connection:
                began = time.perf_counter()
                ask(connection)
                found.append(time.perf_counter() - began)
        return found

    def count(connection: duckdb.DuckDBPyConnection) -> object:
        return select(connection, "SELECT count(*) FROM effective_decisions").fetchall()

    def grouped(connection: duckdb.DuckDBPyConnection) -> object:
        return select(connection, "SELECT action, decided_by, count(*) FROM effective_decisions GROUP BY ALL").fetchall()

    def page(connection: duckdb.DuckDBPyConnection) -> object:
        sql = f"SELECT * FROM ({queue_sql(2 * PAGE)}) ORDER BY waiting_since, uri LIMIT {PAGE}"  # noqa: S608
        found = select(connection, sql).fetchall()
        if len(found) != PAGE:
            raise ValueError(f"a page of {len(found)} images")
        return found

    def whole_queue(connection: duckdb.DuckDBPyConnection) -> object:
        return select(connection, "SELECT count(*) FROM review_queue").fetchall()

    yield Figure.of("review_queue_page_s", seconds(page), "s", 1.0, lower_is_better=True, note=f"{PAGE} images")
    yield Figure.of("effective_decisions_count_s", seconds(count), "s", 10.0, lower_is_better=True)
    yield Figure.of("effective_decisions_by_action_s", seconds(grouped), "s", lower_is_better=True)
    yield Figure.of("review_queue_count_s", seconds(whole_queue), "s", lower_is_better=True)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reviews", description=__doc__)
    parser.add_argument("--decisions", type=int, default=DECISIONS)
    parser.add_argument("--reviews", type=int, default=REVIEWS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="results of an earlier call, or where to keep them")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        if not (folder / "runs").exists():
            began = time.perf_counter()
            write_results(folder, asked.decisions, asked.reviews)
            print(f"written in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        emit(measure(folder, asked.rounds))


if __name__ == "__main__":
    main()
