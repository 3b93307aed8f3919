"""What the report is made of: sums over shards, examples, near-identical images, the audit sample, earlier runs."""

import hashlib
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import pairwise
from operator import add
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_pages import COUNTS, SOURCE, a_manifest, a_policy
from support import make_policy

from moderation.policy.schema import Policy
from moderation.records import Counts
from moderation.results.aggregates import SAMPLE, Aggregates, aggregate, examples_of
from moderation.results.example_images import Example, Pictures, collapse
from moderation.results.history import RUNS, earlier_runs, in_numbers
from moderation.results.manifest import Manifest
from moderation.results.shard_files import Receipt

POLICY = make_policy(
    {"id": "guns", "prompts": ["a gun", "a rifle"], "review": 0.5, "block": 0.8},
    {"id": "pills", "mode": "shadow", "severity": "critical", "review": 0.5},
    {"id": "off", "mode": "off"},
    near=0.06,
)
HASHES = ("0" * 64, "0" * 60 + "ffff", "f" * 64)


def tables(contents: list[int], rules: Policy = POLICY, errors: int = 0) -> tuple[pa.Table, pa.Table]:
    """Rows of one image per number; images of the same number have the same bytes and scores."""
    ids = [rule.id for rule in rules.active_rules]
    count = len(contents)
    uris = [f"{SOURCE}/{i:05}" for i in range(count + errors)]
    digests = [hashlib.sha256(f"{c}".encode()).hexdigest() for c in contents]
    score = np.array([[(c * (8 + r) % 21) / 20 for r in range(len(ids))] for c in contents], np.float32).reshape(
        count, len(ids)
    )
    action = np.where(score >= 0.8, "block", np.where(score >= 0.5, "review", "allow"))
    decisions = pa.table(
        {
            "run_id": pa.array(["run"] * (count + errors), pa.string()),
            "uri": pa.array(uris, pa.string()),
            "etag": ["1"] * (count + errors),
            "status": pa.array(["scored"] * count + ["error"] * errors, pa.string()),
            "error_code": pa.array([None] * count + ["corrupt"] * errors, pa.string()),
            "error_detail": pa.array([None] * count + ["bad"] * errors, pa.string()),
            "sha256": pa.array(digests + [None] * errors, pa.string()),
            "pdq": pa.array([HASHES[c % 3] for c in contents] + [None] * errors, pa.string()),
            "pdq_quality": pa.array([(c * 13) % 101 for c in contents] + [None] * errors, pa.int32()),
            "flagged": pa.array((action[:, 0] != "allow").tolist() + [False] * errors, pa.bool_()),
            "top_rule": pa.array(["guns"] * count + [None] * errors, pa.string()),
            "top_score": pa.array([*score[:, 0].tolist(), *[None] * errors], pa.float32()),
            "frame": pa.array([0] * count + [None] * errors, pa.int32()),
        }
    )
    scores = pa.table(
        {
            "uri": pa.array([uri for uri in uris[:count] for _ in ids], pa.string()),
            "etag": pa.array(["1"] * count * len(ids), pa.string()),
            "rule": pa.array(ids * count, pa.string()),
            "score": score.ravel(),
            "action": pa.array(action.ravel().tolist(), pa.string()),
            "top_prompt": pa.array([f"prompt {c % 3}" for c in contents for _ in ids], pa.string()),
            "frame": pa.array([0] * count * len(ids), pa.int32()),
        }
    )
    return decisions, scores


def part(whole: tuple[pa.Table, pa.Table], start: int, end: int) -> tuple[pa.Table, pa.Table]:
    decisions, scores = whole
    decisions = decisions.slice(start, end - start)
    return decisions, scores.filter(pa.compute.is_in(scores["uri"], decisions["uri"].combine_chunks()))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_shards_sum_to_the_run_in_any_order(contents: list[int], random: Random) -> None:
    decisions, scores = tables(contents, errors=20)
    whole = (decisions.drop_columns(["pdq", "pdq_quality"]), scores)  # who looks like whom by PDQ is not transitive
    cuts = sorted(random.sample(range(1, len(contents) + 20), 3))
    parts = [aggregate(POLICY, *part(whole, start, end)) for start, end in pairwise([0, *cuts, len(contents) + 20])]
    random.shuffle(parts)
    assert reduce(add, parts, Aggregates()) == aggregate(POLICY, *whole)


def test_statistics_of_a_rule_hold_its_counts_prompts_and_examples() -> None:
    contents = [*range(21), 20, 20]
    decisions, scores = tables(contents, errors=15)
    found = aggregate(POLICY, decisions.drop_columns(["pdq", "pdq_quality"]), scores)
    assert set(found.rules) == {"guns", "pills"}
    guns = found.rules["guns"]
    score = np.array([c * 8 % 21 for c in contents]) / 20
    assert (guns.scored, guns.flagged) == (23, int((score >= 0.5).sum()))
    assert (guns.minimum, guns.maximum, guns.thresholds) == (0.0, 1.0, (0.5, 0.8))
    assert sum(guns.prompts.values()) == guns.flagged
    near = [round(e.score, 2) for e in guns.near]
    assert near[:2] == [0.5, 0.8]
    assert sorted(near[2:]) == [0.45, 0.55, 0.75, 0.85]
    assert sorted(guns.examples, key=lambda e: -e.score) == list(guns.examples)
    assert {e.critical for e in guns.examples} == {True, False}  # as the shadow rule says
    assert [e.uri for e in found.errors["corrupt"]] == [f"{SOURCE}/{i:05}" for i in range(23, 35)]
    assert len(found.clean) == int((score < 0.5).sum()) <= SAMPLE
    assert all(e.score is not None and e.score < 0.5 for e in found.clean)


def test_equal_images_are_shown_once_with_their_count() -> None:
    decisions, scores = tables([20] * 5 + [4] * 2)
    plain = (decisions.drop_columns(["pdq", "pdq_quality"]), scores)
    assert [e.copies for e in aggregate(POLICY, *plain).rules["guns"].examples] == [5, 2]
    alike = decisions.set_column(7, "pdq", pa.array(["0" * 64] * 5 + ["0" * 59 + "7ffff"[:5]] * 2)).set_column(
        8, "pdq_quality", pa.array([50] * 7, pa.int32())
    )
    assert [e.copies for e in aggregate(POLICY, alike, scores).rules["guns"].examples] == [7]
    plain_areas = alike.set_column(8, "pdq_quality", pa.array([49] * 7, pa.int32()))
    assert [e.copies for e in aggregate(POLICY, plain_areas, scores).rules["guns"].examples] == [5, 2]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=40), st.integers(1, 6))
def test_the_fast_and_the_plain_way_to_collapse_duplicates_agree(contents: list[int], kept: int) -> None:
    decisions, _ = tables(contents)
    order = np.array([c % 4 for c in contents], np.float64)
    fast = Pictures(decisions).collapse(np.arange(len(contents)), order, kept)
    rows = decisions.to_pylist()
    examples = [
        Example(row["uri"], "1", -order[i], "allow", "", 0, row["sha256"][:16], row["pdq"], row["pdq_quality"])
        for i, row in enumerate(rows)
    ]
    slow = collapse(examples, lambda e: -e.score, kept)
    assert [(rows[i]["uri"], copies) for i, copies in fast] == [(e.uri, e.copies) for e in slow]


def test_the_audit_sample_is_uniform_and_bound_to_the_run() -> None:
    decisions, scores = tables([0] * 2000)
    places = []
    for run in range(100):
        named = decisions.set_column(0, "run_id", pa.array([f"run {run}"] * 2000))
        sample = aggregate(POLICY, named, scores.slice(0, 0)).clean
        assert len(sample) == SAMPLE
        places += [int(e.uri[-5:]) for e in sample]
    counts, _ = np.histogram(places, bins=10, range=(0, 2000))
    assert counts.sum() == 2400
    assert ((counts > 180) & (counts < 300)).all()


def test_empty_shards_and_nan_scores_do_not_break_statistics() -> None:
    assert aggregate(POLICY, *tables([])) == Aggregates()
    decisions, scores = tables([3, 4])
    scores = scores.set_column(3, "score", pa.array([np.nan, 0.3, 0.7, np.nan], pa.float32()))
    found = aggregate(POLICY, decisions, scores)
    assert [e.score for e in found.rules["guns"].examples] == pytest.approx([0.7])
    assert np.isnan(found.rules["guns"].minimum)
    receipt = Receipt(shard="s", attempt="a", files=(), counts=Counts(), seconds={}, aggregates=found)
    read = Receipt.model_validate_json(receipt.model_dump_json())
    assert np.isnan(read.aggregates.rules["guns"].minimum)
    assert read.aggregates.rules["guns"].examples == found.rules["guns"].examples


def test_statistics_of_a_large_shard_stay_small() -> None:
    rules = make_policy(*({"id": f"rule-{i}", "review": 0.5, "block": 0.8} for i in range(50)))
    found = aggregate(rules, *tables(list(range(5000)), rules))
    assert len(found.model_dump_json()) < 300_000
    assert [examples_of(n) for n in (0, 1, 24, 50, 500)] == [12, 12, 12, 5, 1]


def test_earlier_runs_of_the_same_policy_and_sources_come_newest_first() -> None:
    policy, day = a_policy(), timedelta(days=1)
    now = a_manifest(policy, COUNTS)

    def run(days: int, **others: object) -> Manifest:
        started = datetime(2026, 11, 21, 14, 3, tzinfo=UTC) - days * day
        return a_manifest(policy, COUNTS, run_id=f"run-{days:02}", started_at=started).model_copy(update=others)

    others = [run(3, sources=("s3://elsewhere",)), run(4, policy="other"), run(-1), now, run(5, sources=(SOURCE,))]
    found = earlier_runs([*others, *(run(i) for i in range(6, 40))], now)
    assert [e.run_id for e in found] == [f"run-{i:02}" for i in range(5, 5 + RUNS)]
    assert found[0].flagged == {"firearms": 20, "tobacco": 1234}
    assert (in_numbers(now).unchanged, in_numbers(now).allowed, in_numbers(now).processed) == (10_000, 970, 1000)
