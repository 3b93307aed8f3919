"""What the quality checks cost: `python -m benchmarks.quality_checks`.

Shards as a run stages them, of 20,000 objects and five rules each; then the checks of their rows in two processes, as Ray tasks
run them, the checks of the run against ten earlier ones, and the Data Docs.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure, emit
from moderation.errors import ErrorCode
from moderation.planning.plan import Page, store_page
from moderation.planning.planner import Tally
from moderation.planning.sharding import shard_name
from moderation.policy.compiled import CompiledPolicy, TextHead, prompt_texts
from moderation.policy_files.loading import parse_policy
from moderation.quality.facts import ExpectedRows, RunFacts, RunHistory
from moderation.quality.quality_limits import QualityLimits
from moderation.quality.staged import StagedShard, groups, planned_shards
from moderation.quality.verdicts import Verdict, merge
from moderation.records import Counts, ObjectRef, Shard
from moderation.results.aggregates import Aggregates
from moderation.results.paths import RunPaths
from moderation.results.shard_files import Receipt, write_shard
from moderation.scoring.decision_rows import Embedded, Failure, build_rows
from moderation.scoring.judging import RowContext
from moderation.storage import Store

SHARDS, OBJECTS, RULES, DIM, PROCESSES = 50, 20_000, 5, 8, 2
NOW = datetime(2026, 11, 21, tzinfo=UTC)
RULE = "{{id: rule-{0}, mode: {1}, prompts: [a thing {0}], review: 0.8, block: 0.97}}"
POLICY = parse_policy(
    "policy: measured\nmodel: {name: none}\ncontrast: [a wall]\n"
    f"rules: [{', '.join(RULE.format(n, 'shadow' if n == 0 else 'live') for n in range(RULES))}]\n"
)
PATHS = RunPaths("measured", "2026-11-21", "0" * 16)
EXPECTED = ExpectedRows(PATHS.run_id, POLICY, PATHS.fingerprint)
LIMITS = QualityLimits()


def compiled() -> CompiledPolicy:
    """The policy with random prompt embeddings."""
    random = np.random.default_rng(0)
    texts = {text: random.normal(size=DIM).astype(np.float32) for text in prompt_texts(POLICY)}
    unit = {text: vector / np.linalg.norm(vector) for text, vector in texts.items()}
    return CompiledPolicy.build(POLICY, TextHead(unit, 4.0, None))


def stage(output: Store, number: int, context: RowContext) -> Receipt:
    """One shard with 1 % errors, as the pipeline writes it."""
    names = (f"s3://shop/uploads/2026/11/{number:04}/{n:09}.jpg" for n in range(OBJECTS))
    objects = tuple(ObjectRef(uri, f"{n:032x}", n, NOW) for n, uri in enumerate(names))
    shard = Shard(shard_name(objects), objects)
    failed, good = objects[::100], [o for n, o in enumerate(objects) if n % 100]
    vectors = np.random.default_rng(number).normal(size=(len(good), DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = build_rows(
        context,
        [Embedded(o, "0" * 64, "JPEG", 640, 480, 1, (0,)) for o in good],
        vectors.astype(np.float16),
        [Failure(o, ErrorCode.CORRUPT, "cannot be decoded") for o in failed],
        NOW,
    )
    store_page(output, PATHS, number, Page(shard, listed=Tally().listed_so_far()))
    return write_shard(shard, [rows], POLICY, DIM, PATHS, output)


def check(group: tuple[StagedShard, ...], output: Store) -> tuple[tuple[Verdict, ...], float]:
    """What a Ray task does; and the most memory that its process has held, in MB."""
    from moderation.quality.shard_checks import check_shards  # noqa: PLC0415 - as in a task: Great Expectations is loaded there

    return check_shards(group, PATHS, output, EXPECTED, LIMITS), peak()


def check_sums(facts: RunFacts, history: list[RunHistory]) -> tuple[tuple[Verdict, ...], float]:
    """The checks of the run."""
    from moderation.quality.run_checks import check_run  # noqa: PLC0415

    return check_run(facts, LIMITS, history), peak()


def show(verdicts: tuple[Verdict, ...], folder: Path) -> float:
    """The Data Docs; the seconds they took, without loading Great Expectations."""
    from moderation.quality.data_docs import write_data_docs  # noqa: PLC0415

    began = time.monotonic()
    write_data_docs(verdicts, PATHS.run_id, "measured", folder)
    return time.monotonic() - began


def peak() -> float:
    """The most memory that this process has held, in MB. Not `ru_maxrss`: that one is inherited from the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


def receipts(output: Store, shards: int) -> Iterator[Receipt]:
    """Staged shards, one at a time."""
    context = RowContext(PATHS.run_id, compiled(), "none", PATHS.fingerprint)
    for number in range(shards):
        yield stage(output, number, context)


def measure(shards: int, folder: Path) -> list[Figure]:
    """Seconds and megabytes for so many shards."""
    output = Store(str(folder))
    staged, counts, aggregates = [], Counts(), Aggregates()
    for receipt in receipts(output, shards):
        staged.append(receipt)
        counts, aggregates = counts + receipt.counts, aggregates + receipt.aggregates
    plans = planned_shards(output, PATHS)
    rows = {t: sum(e.rows for r in staged for e in r.files if e.table == t) for t in ("decisions", "scores", "embeddings")}
    names = frozenset(r.shard for r in staged)
    facts = RunFacts(EXPECTED, shards * OBJECTS, 0, counts, aggregates, rows, frozenset(plans), names)
    history = [
        RunHistory(f"run-{n}", NOW - timedelta(days=n + 1), POLICY.policy, POLICY.hash, PATHS.fingerprint, facts.rules)
        for n in range(10)
    ]
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        began = time.monotonic()
        verdicts: tuple[Verdict, ...] = ()
        memory = 0.0
        for found, held in pool.map(check, groups(staged, plans), [output] * shards):
            verdicts, memory = merge(verdicts, found), max(memory, held)
        by_row = time.monotonic() - began
        found, held = pool.submit(check_sums, facts, history).result()
        by_run = time.monotonic() - began - by_row
        verdicts = merge(verdicts, found)
        docs = pool.submit(show, verdicts, folder / "data-docs").result()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    failed = [str(v.result) for v in verdicts if not v.result.passed]
    if failed:
        raise SystemExit(f"checks of good rows failed: {'; '.join(failed)}")
    objects = f"{rows['decisions']:,} objects, {rows['scores']:,} scores, {len(verdicts)} checks, {PROCESSES} processes"
    minute = 60 if shards == SHARDS else None
    return [
        Figure.of("quality_rows_s", [by_row], "s", minute, lower_is_better=True, note=objects),
        Figure.of("quality_run_and_docs_s", [by_run + docs], "s", lower_is_better=True),
        Figure.of("quality_cpu_s", [usage.ru_utime + usage.ru_stime], "s", lower_is_better=True),
        Figure.of(
            "quality_memory_mb", [PROCESSES * max(memory, held)], "MB", 1000, lower_is_better=True, note="of both processes"
        ),
    ]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=SHARDS, help="of 20,000 objects and 100,000 scores each (%(default)s)")
    shards = parser.parse_args().shards
    with tempfile.TemporaryDirectory() as folder:
        emit(measure(shards, Path(folder)))


if __name__ == "__main__":
    main()
