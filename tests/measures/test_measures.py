"""Measures of published runs by their reviews: from queues that people worked through to precision, recall and agreement."""

import json
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest
from queued import ALLOWED, BLOCK, POLICY, REVIEW, SECOND, answer, publish, review_of, sha256, uri
from typer.testing import CliRunner

from moderation.cli import app
from moderation.measures import measure_text
from moderation.measures.reviewers import WHOLE_IMAGE, agreements, golden_results, throughput
from moderation.measures.rule_measures import measure, measure_rules
from moderation.policy.assets import Assets
from moderation.policy_files.loading import parse_policy
from moderation.query import connect
from moderation.queues.opening import opened_queues
from moderation.reviews.meaning import rule_meaning
from moderation.reviews.review import Selection
from moderation.reviews.store import append
from moderation.storage import Store

AUDITS = "seed: 2\nqueues: [{name: a, audit: {allowed: 20%, blocked: 50%}}]"

LATER = review_of("r0", violates=False, reviewer="bob", minute=1)
KNOWN = {"selection": Selection.GOLDEN, "action": None}


def measured(results, **options):
    with connect(results) as connection:
        return measure(connection, **options)


def violates(name):
    """A made-up truth, the same for every copy: a tenth of the allowed, half of the reviewed, most of the blocked."""
    number = int(sha256(name)[:8], 16) / 2**32
    return number < {"a": 0.1, "r": 0.5, "b": 0.9}[name[0]]


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    """Everything in a queue with audits has a review."""
    folder = tmp_path_factory.mktemp("reviewed")
    scores = {f"{kind}{i}": of for kind, of in (("a", ALLOWED), ("r", REVIEW), ("b", BLOCK)) for i in range(300)}
    results = publish(folder, scores)
    (folder / "queues.yaml").write_text(AUDITS)
    with opened_queues(results, folder / "queues.yaml") as queues, queues.open("a") as queue:
        items = queue.page(size=10_000)
    answer(results, items, lambda item: violates(item.uri.rpartition("/")[2]))
    return results, [item.uri.rpartition("/")[2] for item in items]


def test_precision_and_recall_come_from_weighted_audits(reviewed):
    results, names = reviewed
    found = measured(results)
    (policy,), (rule,) = found.policies, found.rules
    seen = {kind: [violates(name) for name in names if name[0] == kind] for kind in "arb"}
    rates = {kind: np.mean(answers) for kind, answers in seen.items()}
    assert policy.images == {"allow": 300, "review": 300, "block": 300}
    assert policy.judged == {"allow": len(seen["a"]), "review": 300, "block": len(seen["b"])}
    assert policy.precision.value == pytest.approx((rates["r"] + rates["b"]) / 2)
    right = rates["r"] + rates["b"]
    assert policy.recall.value == pytest.approx(right / (right + rates["a"]))
    assert (rule.rule, rule.flagged, rule.judged) == ("firearms", 600, 300 + len(seen["b"]))
    assert rule.overturned == sum(not answer for kind in "rb" for answer in seen[kind])
    assert rule.precision == policy.precision
    assert rule.blocked_precision.value == pytest.approx(rates["b"])
    truth = np.mean([violates(f"{kind}{i}") for kind in "rb" for i in range(300)])
    assert rule.precision.low < truth < rule.precision.high
    assert list(measure_text.remarks(found)) == []


def test_the_report_measures_rules_without_looking_at_allowed_images(reviewed):
    with connect(reviewed[0]) as connection:
        assert measure_rules(connection, "shop", date(2026, 11, 1)) == measure(connection).rules
        assert measure_rules(connection, "another", date(2026, 11, 1)) == ()
        assert measure_rules(connection, "shop", date(2026, 11, 21)) == ()


def test_images_that_reach_people_in_other_ways_stand_for_themselves(tmp_path):
    results = publish(tmp_path, {f"b{i}": BLOCK for i in range(100)})
    appealed = [review_of(f"b{i}", violates=False, selection=Selection.APPEAL) for i in range(10)]
    audited = [review_of(f"b{i}", violates=True, selection=Selection.AUDIT_BLOCKED, weight=5.0) for i in range(10, 30)]
    append(Store(results), [*appealed, *audited])
    (rule,) = measured(results).rules
    assert rule.precision.value == pytest.approx(0.9)
    assert rule.overturned == 10


def test_audits_of_before_the_policy_changed_count_where_the_images_are_now(tmp_path):
    results = publish(tmp_path, {f"b{i}": BLOCK for i in range(100)})
    allowed = [review_of(f"b{i}", violates=i < 1, selection=Selection.AUDIT_ALLOWED, weight=50.0) for i in range(2)]
    blocked = [review_of(f"b{i}", violates=True, selection=Selection.AUDIT_BLOCKED, weight=5.0) for i in range(2, 20)]
    append(Store(results), [*allowed, *blocked])
    (rule,) = measured(results).rules
    assert rule.precision.value == pytest.approx(19 / 20)


@pytest.mark.parametrize(
    ("said", "precision"),
    [
        ([review_of("r0", violates=True, rule="firearms")], 1),
        ([review_of("r0", violates=False)], 0),
        ([review_of("r0", violates=True)], 1),  # the whole image violates: the rule that decided is right
        (
            [review_of("r0", violates=True, rule="firearms"), review_of("r0", violates=False, reviewer="bob", minute=1)],
            0,
        ),  # the newest counts
        ([review_of("r0", violates=False), review_of("r0", violates=True, reviewer="bob", minute=1, rule="firearms")], 1),
        ([review_of("r0", violates=None)], None),
        ([review_of("r0", violates=True, rule="nudity")], None),  # says nothing about this rule
        ([review_of("r0", violates=False, selection=Selection.GOLDEN)], None),  # measures the reviewer
    ],
)
def test_what_counts_as_a_verdict_about_a_rule(tmp_path, said, precision):
    results = publish(tmp_path, {"r0": REVIEW})
    append(Store(results), said)
    (rule,) = measured(results).rules
    assert rule.precision.value == precision


def test_verdicts_about_another_meaning_of_a_rule_do_not_count(tmp_path):
    results = publish(tmp_path, {"r0": REVIEW})
    meaning = rule_meaning(parse_policy(POLICY).rules[0], Assets())
    append(Store(results), [review_of("r0", violates=True, rule="firearms", rule_meaning=meaning)])
    assert measured(results).rules[0].judged == 1
    publish(tmp_path, {"r0": REVIEW}, run_id=SECOND, policy=POLICY.replace("[a handgun]", "[a pistol]"))
    assert measured(results).rules[0].judged == 0


def test_copies_count_once_with_their_newest_decision(tmp_path):
    results = publish(tmp_path, {"r0": REVIEW, "r1": REVIEW, "r2": REVIEW}, content={"r0": "x", "r1": "x"})
    publish(tmp_path, {"r2": ALLOWED}, run_id=SECOND)
    assert measured(results).policies[0].images == {"allow": 1, "review": 1}


def test_versions_and_days_are_kept_apart_where_asked_for(tmp_path):
    results = publish(tmp_path, {"r0": REVIEW, "r1": REVIEW})
    publish(tmp_path, {"r0": BLOCK}, run_id=SECOND, policy=POLICY.replace('version: "1"', 'version: "2"'))
    append(Store(results), [review_of("r0", violates=True), review_of("r1", violates=False)])
    versions = {
        rule.part.version: (rule.flagged, rule.judged, rule.overturned) for rule in measured(results, by="version").rules
    }
    assert versions == {"1": (2, 2, 1), "2": (1, 1, 0)}
    days = {rule.part.day: rule.flagged for rule in measured(results, by="day").rules}
    assert days == {date(2026, 11, 20): 2, date(2026, 11, 21): 1}
    assert [rule.flagged for rule in measured(results).rules] == [2]
    assert [rule.flagged for rule in measured(results, since=date(2026, 11, 21)).rules] == [1]


def test_what_the_figures_do_not_cover_is_said(tmp_path):
    results = publish(tmp_path, {"a0": ALLOWED, "b0": BLOCK, **{f"r{i}": REVIEW for i in range(10)}})
    append(Store(results), [review_of("r0", violates=True), review_of("r1", violates=False)])
    found = measured(results)
    assert found.policies[0].recall.value is None
    assert list(measure_text.remarks(found)) == [
        "shop: 2 of 10 images in review have a verdict; if the queue shows some kinds first, precision is that of these kinds",
        "shop: none of the 1 blocked images was judged, so precision is that of the images in review: set "
        "`audit: {blocked: ...}` in queues.yaml",
        "shop: none of the 1 allowed images was judged, so recall cannot be known: set `audit: {allowed: ...}` in queues.yaml",
    ]


@pytest.fixture
def two_people(tmp_path):
    """Ann and Bob reviewed twenty images and disagree about four; Cem reviewed one, and three golden ones."""
    results = publish(tmp_path, {"a0": ALLOWED, **{f"r{i}": REVIEW for i in range(21)}})
    ann = [review_of(f"r{i}", violates=i < 10, rule="firearms", blind=i < 15) for i in range(20)]
    bob = [review_of(f"r{i}", violates=4 <= i < 10, reviewer="bob", minute=1, rule="firearms", blind=True) for i in range(20)]
    later = [review_of("r19", violates=False, reviewer="bob", minute=2, rule="firearms", blind=True)]
    cem = [review_of("r0", violates=True, reviewer="cem", rule="firearms"), review_of("r1", violates=True, reviewer="cem")]
    known = [review_of(f"r{i}", violates=i < 2, reviewer="cem", rule="firearms", **KNOWN) for i in range(3)]
    append(Store(results), [*ann, *bob, *later, *cem, *known])
    return results


def test_agreement_per_rule_and_per_pair(two_people):
    with connect(two_people) as connection:
        found = agreements(connection)
        blind = agreements(connection, blind=True)
        nothing = agreements(connection, since=date(2027, 1, 1))
    (rule,) = found.rules
    pairs = {pair.reviewers: pair for pair in found.pairs}
    assert (rule.rule, rule.alpha.images, rule.alpha.answers) == ("firearms", 20, 41)
    assert pairs["ann", "bob"].same == 0.8
    assert pairs["ann", "bob"].kappa.value == pytest.approx(0.6)
    assert pairs["ann", "cem"].kappa.images == 1
    assert blind.rules[0].alpha.images == 15
    assert (nothing.rules, nothing.pairs) == ((), ())
    assert WHOLE_IMAGE not in {rule.rule for rule in found.rules}


def test_known_answers_and_throughput(two_people):
    known = pa.Table.from_pylist([{"image": sha256(f"r{i}"), "rule": "firearms", "violates": i < 1} for i in range(3)])
    with connect(two_people) as connection:
        (golden,) = golden_results(connection, known)
        days = throughput(connection)
    assert (golden.reviewer, golden.right.value, golden.right.judged) == ("cem", pytest.approx(2 / 3), 3)
    assert [(day.reviewer, day.reviews, day.images, day.seconds) for day in days] == [
        ("ann", 20, 20, None),
        ("bob", 21, 20, None),
        ("cem", 5, 3, None),
    ]


def test_the_first_of_several_known_answers_counts(two_people):
    corrected = review_of("r1", violates=False, reviewer="cem", minute=9, rule="firearms", **KNOWN)
    append(Store(two_people), [corrected])
    known = pa.Table.from_pylist([{"image": sha256("r1"), "rule": "firearms", "violates": False}])
    with connect(two_people) as connection:
        assert golden_results(connection, known)[0].right.value == 0


def test_the_median_time_is_that_from_opening_to_deciding(tmp_path):
    results = publish(tmp_path, {f"r{i}": REVIEW for i in range(3)})
    said = [review_of(f"r{i}") for i in range(3)]

    append(
        Store(results),
        [replace(r, opened_at=r.decided_at - timedelta(seconds=s)) for r, s in zip(said, (4, 60, 9), strict=True)],
    )
    with connect(results) as connection:
        assert throughput(connection)[0].seconds == 9


def test_the_commands_show_it(two_people, tmp_path):
    run = CliRunner()
    shown = run.invoke(app, ["reviews", "stats", "--results", two_people])
    assert shown.exit_code == 0, shown.output
    assert all(word in shown.stdout for word in ("firearms", "shop", "overturned", "2026-11-23", "ann"))
    found = json.loads(run.invoke(app, ["reviews", "stats", "--results", two_people, "--by", "day", "--json"]).stdout)
    assert found["rules"][0]["part"]["day"] == "2026-11-20"
    assert found["policies"][0]["recall"]["value"] is None
    shown = run.invoke(app, ["reviews", "agreement", "--results", two_people]).stdout
    assert "0.60" in shown
    assert "ann, bob" in shown
    one = json.loads(run.invoke(app, ["reviews", "agreement", "--results", two_people, "--json"]).stdout)
    assert one["rules"][0]["alpha"]["images"] == 20
    later = run.invoke(app, ["reviews", "agreement", "--results", two_people, "--since", "2027-01-01"])
    assert "no image was judged by two people" in later.stdout


def test_stats_shows_known_answers_and_what_is_in_no_queue(two_people, tmp_path):
    file = tmp_path / "queues.yaml"
    (tmp_path / "golden.csv").write_text(f"uri,rule,label\n{uri('r0')},firearms,true\n")
    file.write_text("queues: [{name: a, where: uri LIKE '%nothing%', golden: golden.csv}]")
    shown = CliRunner().invoke(app, ["reviews", "stats", "--results", two_people, "--queues", str(file)]).stdout
    assert "known answers" in shown
    assert "1 image in review is in no queue" in shown
    waiting = CliRunner().invoke(app, ["queues", "show", str(file), "--results", two_people]).stdout
    assert "1 image in review is in no queue" in waiting
