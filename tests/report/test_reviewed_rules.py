"""What a run's report says about reviews of earlier runs."""

import json
import logging
from datetime import UTC, date, datetime

import pytest
from queued import BLOCK, POLICY, REVIEW, publish, review_of
from report_pages import COUNTS, Page, a_manifest, a_policy

from moderation.measures.judged_images import Part
from moderation.measures.rates import Rate
from moderation.measures.rule_measures import RuleMeasure
from moderation.policy_files.loading import parse_policy
from moderation.quality.quality_limits import ReviewLimits
from moderation.report.report_page import render
from moderation.report.reviewed_rules import Reviewed, imprecise, reviewed_rules
from moderation.report.summary import summary
from moderation.results.aggregates import Aggregates
from moderation.results.manifest import find_manifest
from moderation.reviews.review import Selection
from moderation.reviews.store import append
from moderation.storage import Store

RUN = "20261120T030000Z-aaaaaa"
LIMITS = ReviewLimits()
MANIFEST = a_manifest(a_policy(), COUNTS)


def measured(rule="weapons", precision=(0.6, 0.5, 0.7), blocked=(0.9, 0.8, 0.95)):
    rates = [Rate(value, low, high, 40, 0) for value, low, high in (precision, blocked)]
    return RuleMeasure(Part("marketplace"), rule, 1200, 400, 70, *rates)


def page(reviewed):
    return Page(render(MANIFEST, a_policy(), Aggregates(), {}, reviewed=reviewed))


def test_the_page_has_a_row_for_each_rule():
    text = page(Reviewed((measured(),), LIMITS)).text
    assert "Reviews of earlier runs" in text
    assert all(part in text for part in ("1,200", "400", "17.5 %", "0.600 (0.500 to 0.700)", "0.900 (0.800 to 0.950)"))
    assert "imprecise" not in text


def test_without_reviews_the_page_says_nothing():
    assert "Reviews of earlier runs" not in page(None).text
    assert json.loads(summary(MANIFEST, a_policy()))["reviews"] is None


@pytest.mark.parametrize(
    ("precision", "blocked", "warned"),
    [
        ((0.1, 0.05, 0.19), (0.9, 0.8, 0.95), ["flagged"]),
        ((0.1, 0.05, 0.21), (0.9, 0.8, 0.95), []),  # it may be above: not clearly below
        ((0.6, 0.5, 0.7), (0.5, 0.3, 0.79), ["blocked"]),
        ((0.6, 0.5, 0.7), (None, 0.0, 0.1), []),
        ((0.1, 0.05, 0.19), (0.5, 0.3, 0.79), ["flagged", "blocked"]),
    ],
)
def test_a_rule_clearly_below_a_limit_is_a_warning(precision, blocked, warned):
    reviewed = Reviewed((measured(precision=precision, blocked=blocked), measured("beer")), LIMITS)
    assert [low.key for low in reviewed.below] == warned
    notices = list(imprecise(reviewed))
    assert [notice.tone for notice in notices] == ["review"] * bool(warned)
    assert ("A rule is imprecise" in page(reviewed).text) == bool(warned)
    found = json.loads(summary(MANIFEST, a_policy(), reviewed=reviewed))["reviews"]
    assert found["rules"]["weapons"]["below"] == warned
    assert found["rules"]["beer"]["below"] == []
    assert found["days"] == 90


def test_the_limit_can_be_set_and_switched_off():
    low = measured(precision=(0.1, 0.05, 0.19))
    assert [one.limit for one in Reviewed((low,), ReviewLimits(flagged=0.5)).below] == [0.5]
    assert Reviewed((low,), ReviewLimits(flagged=0, blocked=0)).below == ()


def test_reviews_of_published_runs_are_found(tmp_path):
    results = publish(tmp_path, {f"{kind}{i}": of for kind, of in (("r", REVIEW), ("b", BLOCK)) for i in range(40)})
    output, policy = Store(results), parse_policy(POLICY)
    manifest = find_manifest(output, RUN)
    assert reviewed_rules(output, manifest, policy, LIMITS) is None
    audits = [review_of(f"b{i}", selection=Selection.AUDIT_BLOCKED, weight=2.0) for i in range(20)]
    append(output, [*(review_of(f"r{i}", violates=i < 10) for i in range(40)), *audits])
    reviewed = reviewed_rules(output, manifest, policy, LIMITS)
    (rule,) = reviewed.rules
    assert (rule.rule, rule.flagged, rule.judged, rule.overturned) == ("firearms", 80, 60, 50)
    assert rule.precision.value == pytest.approx(10 / 80)
    assert [low.key for low in reviewed.below] == ["blocked"]
    later = manifest.model_copy(update={"started_at": datetime(2027, 11, 20, tzinfo=UTC)})
    assert reviewed_rules(output, later, policy, LIMITS) is None
    shadow = parse_policy(POLICY.replace("id: firearms,", "id: firearms, mode: shadow,"))
    assert reviewed_rules(output, manifest, shadow, LIMITS) is None


def test_a_report_is_written_even_if_reviews_cannot_be_read(tmp_path, caplog):
    results = publish(tmp_path, {"r": REVIEW})
    output = Store(results)
    output.put(f"reviews/date={date(2026, 11, 20)}/x.parquet", b"not Parquet")
    with caplog.at_level(logging.WARNING):
        assert reviewed_rules(output, find_manifest(output, RUN), parse_policy(POLICY), LIMITS) is None
    assert "says nothing about reviews" in caplog.text
