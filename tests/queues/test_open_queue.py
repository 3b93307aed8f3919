"""What is in a queue and why: decisions, audits by hash, second reviews, known answers; its order, and its pages."""

from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
from queued import ALLOWED, BLOCK, POLICY, REVIEW, SECOND, answer, publish, review_of, sha256, uri

from moderation.errors import SettingsError
from moderation.policy.assets import Assets
from moderation.policy_files.loading import parse_policy
from moderation.queues.backlog import backlog
from moderation.queues.lots import lot, lot_sql
from moderation.queues.opening import opened_queues
from moderation.reviews.meaning import rule_meaning
from moderation.reviews.review import ReviewAction, Selection
from moderation.reviews.store import append
from moderation.storage import Store

MANY = 400


@contextmanager
def queue(results, text, name="a"):
    """A queue of a file of this text."""
    file = Path(results) / "queues.yaml"
    file.write_text(text)
    with opened_queues(results, file) as queues, queues.open(name) as one:
        yield one


def names(items):
    return [item.uri.removeprefix("s3://shop/") for item in items]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Allowed, reviewed and blocked images, so many of each."""
    folder = tmp_path_factory.mktemp("many")
    scores = {f"{kind}{i}": of for kind, of in (("a", ALLOWED), ("r", REVIEW), ("b", BLOCK)) for i in range(MANY)}
    return publish(folder, scores, broken=["broken"])


@pytest.mark.parametrize("purpose", ["audit", "second"])
@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1])
def test_sql_draws_the_same_lots(seed, purpose):
    images = [sha256(str(i)) for i in range(200)]
    with duckdb.connect() as connection:
        sql = f"SELECT {lot_sql('image', seed, purpose)} FROM (SELECT unnest($images) AS image)"  # noqa: S608
        found = [row[0] for row in connection.execute(sql, {"images": images}).fetchall()]
    assert found == [lot(image, seed, purpose) for image in images]


def test_lots_are_uniform_and_independent_of_each_other():
    pairs = [(lot(sha256(str(i)), 7, "audit"), lot(sha256(str(i)), 7, "second")) for i in range(20_000)]
    low = [second for first, second in pairs if first < 0.05]
    assert 900 <= len(low) <= 1100
    assert 0.45 < sum(second < 0.5 for second in low) / len(low) < 0.55


def test_the_default_queue_has_what_is_in_review_and_unreadable_images(many):
    with opened_queues(many) as queues, queues.open("review") as one:
        items = one.page(size=10_000)
        assert queues.left_out() == 0
    decisions = [item for item in items if item.why is Selection.DECISION]
    assert sorted(names(decisions)) == sorted([f"r{i}" for i in range(MANY)] + ["broken"])
    assert {item.rules for item in decisions} == {("firearms",), ()}
    assert [item.error_code for item in decisions if not item.rules] == ["corrupt"]


def test_audits_are_those_whose_lots_are_below_the_share_and_say_their_weight(many):
    with queue(many, "seed: 5\nqueues: [{name: a, where: 'false', audit: {allowed: 5%, blocked: 20%}}]") as one:
        items = one.page(size=10_000)
    expected = {f"{kind}{i}" for kind, share in (("a", 0.05), ("b", 0.2)) for i in range(MANY)
                if lot(sha256(f"{kind}{i}"), 5, "audit") < share}  # fmt: skip
    assert set(names(items)) == expected
    assert {(item.why, round(item.weight, 9), item.rules) for item in items} == {
        (Selection.AUDIT_ALLOWED, 20, ()),
        (Selection.AUDIT_BLOCKED, 5, ()),
    }


def test_a_larger_share_audits_the_same_images_and_more(many):
    found = []
    for share in ("5%", "20%"):
        with queue(many, f"queues: [{{name: a, where: 'false', audit: {{allowed: {share}}}}}]") as one:
            found.append(set(names(one.page(size=10_000))))
    assert found[0] < found[1]
    with queue(many, "seed: 1\nqueues: [{name: a, where: 'false', audit: {allowed: 5%}}]") as one:
        assert set(names(one.page(size=10_000))) != found[0]


def test_where_audits_of_two_queues_overlap_the_weight_is_that_of_the_larger_share(many):
    text = """queues:
  - {name: a, where: 'false', audit: {allowed: 5%}}
  - {name: b, where: uri LIKE '%a1%', audit: {allowed: 10%, where: uri LIKE '%a2%'}}
"""
    with queue(many, text) as one:
        by_weight = {name: item.weight for name, item in zip(names(one.page(size=10_000)), one.page(size=10_000), strict=True)}
    assert {name[:2] for name, weight in by_weight.items() if weight == pytest.approx(10)} == {"a2"}
    assert {round(weight, 9) for name, weight in by_weight.items() if not name.startswith("a2")} == {20}
    assert not any(name.startswith("a1") for name in by_weight)  # another queue asks about all of these


def test_only_the_newest_decision_of_an_image_counts(tmp_path):
    results = publish(tmp_path, {"a": REVIEW, "b": REVIEW})
    publish(tmp_path, {"a": ALLOWED, "c": REVIEW}, run_id=SECOND)
    with opened_queues(results) as queues, queues.open("review") as one:
        assert sorted(names(one.page())) == ["b", "c"]


def test_copies_of_an_image_are_asked_about_once(tmp_path):
    results = publish(tmp_path, {"a": REVIEW, "b": REVIEW, "c": REVIEW}, content={"a": "x", "b": "x"})
    with opened_queues(results) as queues, queues.open("review") as one:
        assert sorted(names(one.page())) == ["a", "c"]


def test_images_in_review_that_no_queue_asks_about_are_counted(many):
    with queue(many, "queues: [{name: a, where: action = 'review' AND uri LIKE '%r1%'}]") as one:
        assert one.count() == 111
    with opened_queues(many, None) as queues:
        assert queues.left_out() == 0
    with opened_queues(many, Path(many) / "queues.yaml") as queues:
        assert queues.left_out() == MANY + 1 - 111


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("severity", ["nude", "both", "gun", "toy", "beer"]),
        ("oldest", ["gun", "toy", "beer", "both", "nude"]),
        ("nearest_to_threshold", ["beer", "toy", "both", "gun", "nude"]),
    ],
)
def test_orders(tmp_path, order, expected):
    first = {"gun": (0.65625, 0.0, 0.0), "toy": (0.5625, 0.0, 0.0), "beer": (0.0, 0.0, 0.53125)}
    results = publish(tmp_path, first)
    publish(tmp_path, {"nude": (0.0, 0.71875, 0.0), "both": (0.6875, 0.59375, 0.0)}, run_id=SECOND)
    with queue(results, f"queues: [{{name: a, order: {order}}}]") as one:
        found = names(one.page())
    if order == "oldest":
        assert (set(found[:3]), set(found[3:])) == (set(expected[:3]), set(expected[3:]))
    else:
        assert found == expected


def test_the_most_uncertain_are_where_people_disagree(tmp_path):
    high, low = (0.71875, 0.0, 0.0), (0.53125, 0.0, 0.0)
    scores = {f"{kind}{i}": of for kind, of in (("high", high), ("low", low)) for i in range(12)}
    results = publish(tmp_path, scores)
    text = "queues: [{name: a, order: most_uncertain}]"
    with queue(results, text) as one:
        assert names(one.page())[0].startswith("low")  # nobody has said anything: nearest to the threshold
        items = dict(zip(names(one.page()), one.page(), strict=True))
    said = [items[f"low{i}"] for i in range(10)] + [items[f"high{i}"] for i in range(10)]
    answer(results, said, lambda item: item.top_score > 0.7 and int(item.uri[-1]) % 2 == 0)
    with queue(results, text) as one:
        assert [name[:4] for name in names(one.page())] == ["high", "high", "low1", "low1"]


def test_audits_are_spread_evenly_over_the_queue(many):
    with queue(many, "queues: [{name: a, audit: {allowed: 25%, blocked: 25%}}]") as one:
        whole = one.page(size=10_000)
    audits = sum(item.why is not Selection.DECISION for item in whole)
    first = sum(item.why is not Selection.DECISION for item in whole[: len(whole) // 4])
    assert first == pytest.approx(audits / 4, abs=2)


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_pages_show_every_image_once_and_in_order(many, size):
    with queue(many, "queues: [{name: a, where: uri LIKE '%r1%', audit: {allowed: 3%}}]") as one:
        whole, found, after = one.page(size=10_000), [], 0
        while page := one.page(after, size):
            found += page
            after = page[-1].position
        assert found == whole
        assert len({item.image for item in found}) == len(found) == one.count()


def test_a_reviewed_image_is_gone_and_an_escalated_one_is_for_somebody_else(tmp_path):
    results = publish(tmp_path, {"a": REVIEW, "b": REVIEW, "c": ALLOWED})
    with opened_queues(results) as queues, queues.open("review") as one:
        items = dict(zip(names(one.page()), one.page(), strict=True))
    append(Store(results), [review_of(items["a"]), review_of(items["b"], violates=None)])
    append(Store(results), [replace(review_of("c", violates=None), queue="review")])
    with opened_queues(results) as queues, queues.open("review") as one:
        assert sorted(names(one.page())) == ["b", "c"]
        assert names(one.page(reviewer="ann")) == []
        assert sorted(names(one.page(reviewer="bob"))) == ["b", "c"]


def test_an_open_queue_takes_note_of_reviews_as_they_come(tmp_path):
    results = publish(tmp_path, {"a": REVIEW, "b": REVIEW})
    with opened_queues(results) as queues, queues.open("review") as one:
        first, second = one.page()
        one.reviewed(first.image, "ann", decided=True)
        one.reviewed(second.image, "ann", decided=False)
        assert one.page() == [second]
        assert one.page(reviewer="ann") == []
        assert one.count() == 1


def test_a_milder_verdict_about_another_rule_leaves_the_image_in_the_queue(tmp_path):
    results = publish(tmp_path, {"both": (0.5625, 0.59375, 0.0)})
    append(Store(results), [review_of("both", rule="firearms")])
    with opened_queues(results) as queues, queues.open("review") as one:
        assert names(one.page()) == ["both"]


@pytest.mark.parametrize(("again", "waiting"), [("true", ["a"]), ("false", [])])
def test_images_are_asked_about_again_when_the_rule_means_something_else(tmp_path, again, waiting):
    results = publish(tmp_path, {"a": REVIEW})
    text = f"ask_again_when_meaning_changes: {again}\nqueues: [{{name: a}}]"
    with queue(results, text) as one:
        (item,) = one.page()
    meaning = rule_meaning(parse_policy(POLICY).rules[0], Assets())
    append(Store(results), [review_of(item, rule_meaning=meaning)])
    with queue(results, text) as one:
        assert names(one.page()) == []
    publish(tmp_path, {"a": REVIEW}, run_id=SECOND, policy=POLICY.replace("[a handgun]", "[a pistol]"))
    with queue(results, text) as one:
        assert names(one.page()) == waiting


def test_some_images_are_reviewed_by_two_people(many):
    text = "seed: 3\nqueues: [{name: a, where: uri LIKE '%r%', double_review: 10%}]"
    with queue(many, text) as one:
        waiting = one.page(size=10_000)
        assert {item.why for item in waiting} == {Selection.DECISION}
        for item in waiting:
            one.reviewed(item.image, "ann", decided=True)
        again = one.page(size=10_000, reviewer="bob")
        assert {item.why for item in again} == {Selection.DOUBLE}
        assert {item.image for item in again} == {item.image for item in waiting if lot(item.image, 3, "second") < 0.1}
        assert one.page(reviewer="ann") == []
        one.reviewed(again[0].image, "bob", decided=True)
        assert one.count() == len(again) - 1


@pytest.fixture
def golden(tmp_path):
    """Forty images whose answer is known: half violate a rule, half are fine."""
    for name in ("fine", "firearms"):
        (tmp_path / "golden" / name).mkdir(parents=True)
        for i in range(20):
            (tmp_path / "golden" / name / f"{i}.jpg").write_text(f"{name} {i}")
    return tmp_path


def test_known_answers_are_mixed_in_until_a_reviewer_has_given_them(golden, many):
    text = f"queues: [{{name: a, golden: {{path: {golden / 'golden'}, share: 10%}}}}]"
    with queue(many, text) as one:
        assert all(item.why is not Selection.GOLDEN for item in one.page())
        page = one.page(size=200, reviewer="ann")
        known = [item for item in page if item.why is Selection.GOLDEN]
        assert page == one.page(size=200, reviewer="ann")
        assert {item.image for item in known} != {
            item.image for item in one.page(size=200, reviewer="bob") if item.why is Selection.GOLDEN
        }
    assert 10 <= len(known) <= 35
    assert len({item.image for item in known}) == len(known)
    assert {item.rules for item in known} == {("firearms",), ()}
    assert all(item.uri.startswith("file://") and item.action is None for item in known)


def test_a_known_answer_is_not_asked_for_twice(golden, tmp_path):
    results = publish(tmp_path / "results", {f"r{i}": REVIEW for i in range(300)})
    text = f"queues: [{{name: a, golden: {{path: {golden / 'golden'}, share: 30%}}}}]"
    with queue(results, text) as one:
        known = [item for item in one.page(size=300, reviewer="ann") if item.why is Selection.GOLDEN]
        one.reviewed(known[-1].image, "ann", decided=False)
        assert known[-1].image not in {item.image for item in one.page(size=300, reviewer="ann")}
        assert known[-1].image in {item.image for item in one.page(size=300, reviewer="bob")}
    assert len(known) == 40
    answer(results, known[:30], lambda item: bool(item.rules))
    with queue(results, text) as one:
        left = {item.image for item in one.page(size=300, reviewer="ann") if item.why is Selection.GOLDEN}
        assert left == {item.image for item in known[30:]}
        assert one.count() == 300


def test_known_answers_of_images_in_the_results_come_from_a_file_of_labels(tmp_path):
    results = publish(tmp_path / "results", {"a": REVIEW, "b": ALLOWED})
    (tmp_path / "results" / "golden.csv").write_text(
        f"uri,rule,label\n{uri('b')},any,false\n{uri('a')},firearms,true\n{uri('gone')},any,true\n"
    )
    file = Path(results) / "queues.yaml"
    file.write_text("queues: [{name: a, golden: golden.csv}]")
    with opened_queues(results, file) as queues:
        golden = queues.golden(queues.file.queues[0])
    assert {(one.sha256, one.rule, one.violates) for one in golden.answers} == {
        (sha256("b"), None, False),
        (sha256("a"), "firearms", True),
    }
    assert golden.mistakes == (f"{uri('gone')}: no run has read this image",)


def test_the_backlog_counts_what_waits_and_for_how_long(many):
    with queue(many, "queues: [{name: a, audit: {allowed: 10%}, sla_hours: 24}]") as one:
        now = one.page(size=1)[0].scored_at + timedelta(hours=30)
        found = backlog(one, now)
        assert backlog(one, now - timedelta(hours=10)).late == 0
        assert found.waiting == Counter(item.why for item in one.page(size=10_000))
    assert found.waiting[Selection.DECISION] == MANY + 1
    assert (found.oldest, found.median, found.late) == (pytest.approx(30), pytest.approx(30), found.images)


def test_an_unknown_queue_is_refused_by_name(many):
    with opened_queues(many) as queues, pytest.raises(SettingsError, match=r"no queue 'revue'.*did you mean `review`"):
        queues.open("revue")


def test_a_condition_that_cannot_be_computed_is_reported(many):
    with pytest.raises(SettingsError, match="Conversion Error"), queue(many, "queues: [{name: a, where: uri::INTEGER > 1}]"):
        pass


def test_an_action_of_a_person_that_decides_nothing_keeps_the_image(tmp_path):
    results = publish(tmp_path, {"a": REVIEW})
    append(Store(results), [review_of("a", action=None)])  # answers for the rule alone
    append(Store(results), [review_of("a", action=ReviewAction.REVIEW, reviewer="bob")])
    with opened_queues(results) as queues, queues.open("review") as one:
        assert names(one.page()) == ["a"]
