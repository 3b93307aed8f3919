"""`unsupported` in a policy: what becomes of a format that is not read, where `unreadable` says something else."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archived import DIM, FIRST, MODEL, OLD, OLD_TEXT, Image, Run, compiled, some_images, write_runs
from support import make_policy

from moderation.errors import ErrorCode
from moderation.policy.comparison import Effect, compare
from moderation.policy.explanation import unreadable
from moderation.policy.schema import Policy
from moderation.policy_files.loading import parse_policy
from moderation.quality.facts import ExpectedRows
from moderation.quality.row_frames import row_frames
from moderation.records import Counts, ObjectRef
from moderation.results import schemas
from moderation.results.archive import open_archive
from moderation.results.human_work import to_review
from moderation.scoring.decision_rows import Failure, error_rows
from moderation.scoring.judging import RowContext
from moderation.storage import Store
from moderation.studies.backtest.backtesting import backtest
from moderation.studies.replay.row_comparison import Differences
from moderation.studies.replay.shard_reading import LoadedShard
from moderation.studies.replay.shard_replay import replay_shard

BLOCKS = parse_policy(OLD_TEXT.replace("unreadable: review", "unreadable: review\nunsupported: block"))
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def ref(name: str) -> ObjectRef:
    return ObjectRef(f"s3://shop/{name}", '"1"', 10, NOW)


def actions(policy: Policy) -> list[str]:
    codes = [ErrorCode.CORRUPT, ErrorCode.UNSUPPORTED_FORMAT, ErrorCode.TOO_LARGE]
    context: Any = RowContext("run", compiled(policy), "demo", MODEL)
    rows, _ = error_rows(context, [Failure(ref(code.value), code, "why") for code in codes], NOW)
    found: list[str] = rows["action"].to_pylist()
    return found


def test_a_policy_without_unsupported_keeps_its_hash_and_follows_unreadable() -> None:
    assert OLD.unsupported is None
    assert "unsupported" not in OLD.model_dump(mode="json", exclude_defaults=True)
    assert actions(OLD) == ["review"] * 3
    assert make_policy({}).hash == make_policy({}, unsupported=None).hash != make_policy({}, unsupported="review").hash


def test_explanations_and_review_counts_follow_the_unsupported_key() -> None:
    assert actions(BLOCKS) == ["review", "block", "review"]
    found = unreadable(BLOCKS, "u", "unsupported_format", "why")
    assert (found.action, found.decided_by) == ("block", "unsupported")
    found = unreadable(BLOCKS, "u", "corrupt", "why")
    assert (found.action, found.decided_by) == ("review", "unreadable")
    assert unreadable(OLD, "u", "unsupported_format", "why").decided_by == "unreadable"
    counts = Counts(review=5, errored={"corrupt": 3, "unsupported_format": 4})
    assert [to_review(counts, *said).unreadable for said in (("review",), ("review", "block"), ("block", "review"))] == [
        7,
        3,
        4,
    ]
    assert to_review(counts, None, "allow").unreadable == 3


def test_changing_the_unsupported_key_changes_decisions(tmp_path: Path) -> None:
    [change] = compare(OLD, BLOCKS)
    assert (change.key, change.old, change.new, change.effect) == ("unsupported", None, "block", Effect.DECISIONS)
    output = Store(str(tmp_path / "results"))
    pictures = some_images(20, errors=0)
    broken = Image(ref("broken.jpg"), None, ErrorCode.CORRUPT)
    document = Image(ref("invoice.pdf"), None, ErrorCode.UNSUPPORTED_FORMAT)
    write_runs(output, Run(FIRST, OLD, [*pictures, broken, document]))
    for against in ({}, {"old": compiled(OLD)}):
        found = backtest(compiled(BLOCKS), open_archive(output, fingerprint=MODEL), tmp_path / "changed.parquet", **against)
        assert found.errors == 2
        changed = pq.read_table(tmp_path / "changed.parquet").to_pylist()
        assert [(row["uri"], row["before"], row["after"]) for row in changed] == [("s3://shop/invoice.pdf", "review", "block")]


@pytest.mark.parametrize("wrong", [False, True], ids=["as the policy says", "otherwise"])
def test_replay_and_quality_checks_know_the_unsupported_key(wrong: bool) -> None:
    context = RowContext("run", compiled(BLOCKS), "demo", MODEL)
    codes = [ErrorCode.CORRUPT, ErrorCode.UNSUPPORTED_FORMAT]
    rows, _ = error_rows(context, [Failure(ref(code.value), code, "why") for code in codes], NOW)
    if wrong:
        rows = rows.set_column(rows.schema.get_field_index("action"), rows.schema.field("action"), pa.array(["review"] * 2))
    no_scores = schemas.SCORES.empty_table()
    frames = row_frames(rows, no_scores, ExpectedRows("run", BLOCKS, MODEL))
    assert frames.decisions["action_matches"].tolist() == [True, not wrong]
    differences = Differences()
    tables = {"decisions": rows, "scores": no_scores, "embeddings": schemas.embeddings(DIM).empty_table()}
    replay_shard(LoadedShard("shard", tables), context, differences)  # type: ignore[arg-type]
    found = [(one.uri, one.column, one.stored, one.recomputed) for one in differences.shown]
    assert found == ([("s3://shop/unsupported_format", "action", "review", "block")] if wrong else [])
