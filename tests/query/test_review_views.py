"""Which decision is in effect, what awaits a person, and what becomes of appeals."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from published import GUN, NEW, OLD, THIRD, stage
from reviewed import BEGAN, jobs, review, sha, write_results

from moderation.exchange.queue_rows import queue_items
from moderation.query import connect
from moderation.query.connection import VIEWS
from moderation.query.review_sql import queue_sql
from moderation.results.publishing import publish
from moderation.reviews.appeal import FOLDER, Appeal, as_table
from moderation.reviews.meaning import rule_meaning
from moderation.reviews.review import Review, Selection, Verdict
from moderation.reviews.schema import REVIEWS
from moderation.reviews.store import append, append_rows
from moderation.reviews.validity import Validity
from moderation.storage import Store

WAITING = {
    "listings/knife.jpg",
    "listings/party.jpg",
    "users/almost.jpg",
    "listings/broken.jpg",
    "users/gone.jpg",
    "users/huge.png",
}
KNIFE, NUDE, FACE, PARTY = "listings/knife.jpg", "users/nude.jpg", "users/face.jpg", "listings/party.jpg"
"""review for firearms; block for nudity; allow; review for beer"""


@pytest.fixture(scope="module")
def published_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    write_results(Store(str(folder)))
    return folder


@pytest.fixture
def output(published_once: Path, tmp_path: Path) -> Store:
    return Store(str(shutil.copytree(published_once, tmp_path / "results")))


def rows(output: Store, sql: str, validity: Validity | None = None) -> list[tuple[Any, ...]]:
    with connect(output.uri, validity or Validity()) as connection:
        return connection.execute(sql).fetchall()


def in_effect(output: Store, *images: str, validity: Validity | None = None) -> list[tuple[Any, ...]]:
    found = rows(output, "SELECT uri, action, machine_action, decided_by, reviewer FROM effective_decisions", validity)
    by_uri = {row[0]: row[1:] for row in found}
    assert len(by_uri) == len(found)
    return [by_uri[f"s3://shop/{image}"] for image in images]


def waiting(output: Store, queue: str = "review", validity: Validity | None = None) -> set[str]:
    found = rows(output, f"SELECT uri FROM review_queue WHERE queue = '{queue}'", validity)  # noqa: S608
    assert len(set(found)) == len(found)
    if queue == "review":  # the quick way to the first page sees the same
        assert set(rows(output, f"SELECT uri FROM ({queue_sql(100)})", validity)) == set(found)  # noqa: S608
    return {row[0].removeprefix("s3://shop/") for row in found}


def test_without_reviews_the_machine_decides_and_everything_in_review_waits(output: Store) -> None:
    with connect(output.uri) as connection:
        for view in VIEWS:
            connection.execute(f"SELECT * FROM {view}").fetchall()  # noqa: S608
    assert in_effect(output, KNIFE, NUDE, FACE) == [
        ("review", "review", "machine", None),
        ("block", "block", "machine", None),
        ("allow", "allow", "machine", None),
    ]
    assert rows(output, "SELECT count(*) FROM effective_decisions") == [(15,)]
    assert waiting(output) == WAITING


MACHINE = {KNIFE: "review", NUDE: "block", FACE: "allow"}

IN_EFFECT: dict[str, tuple[Sequence[Review], str, str, bool]] = {
    "allowed for the rule that decides": ([review(KNIFE, "allow", rule="firearms")], KNIFE, "allow", False),
    "blocked for the rule that decides": ([review(KNIFE, "block", rule="firearms")], KNIFE, "block", False),
    "allowed as a whole": ([review(NUDE, "allow")], NUDE, "allow", False),
    "allowed for another rule": ([review(NUDE, "allow", rule="beer")], NUDE, "block", False),
    "blocked for another rule": ([review(FACE, "block", rule="beer")], FACE, "block", False),
    "sent to review": ([review(FACE, "review", rule="beer")], FACE, "review", True),
    "escalated and allowed by the machine": ([review(FACE, "escalate")], FACE, "review", True),
    "escalated and blocked by the machine": ([review(NUDE, "escalate")], NUDE, "block", True),
    "escalated, then allowed": ([review(NUDE, "escalate"), review(NUDE, "allow", 1, reviewer="bob")], NUDE, "allow", False),
    "allowed, then escalated": ([review(NUDE, "allow"), review(NUDE, "escalate", 1, reviewer="bob")], NUDE, "block", True),
    "the newest of two people": ([review(KNIFE, "allow", 5), review(KNIFE, "block", 1, reviewer="bob")], KNIFE, "allow", False),
    "the newest of one person": ([review(KNIFE, "allow", 1), review(KNIFE, "block", 2)], KNIFE, "block", False),
    "the newest that applies": (
        [review(NUDE, "allow", 1, rule="nudity"), review(NUDE, "allow", 2, rule="beer")],
        NUDE,
        "allow",
        False,
    ),
    "a verdict without a decision": ([review(KNIFE, None, rule="firearms", verdict=Verdict.FINE)], KNIFE, "review", True),
    "the same bytes under another key": ([review("copy.jpg", "allow", sha256=sha(KNIFE), etag="x")], KNIFE, "allow", False),
    "other bytes under the same key": ([review(KNIFE, "allow", sha256=sha("earlier"), etag="v0")], KNIFE, "review", True),
    "another policy": ([review(KNIFE, "allow", rule="firearms", policy_hash=OLD.hash)], KNIFE, "allow", False),
}


@pytest.mark.parametrize(("reviews", "image", "action", "waits"), IN_EFFECT.values(), ids=IN_EFFECT)
def test_the_newest_decision_of_a_person_that_applies_is_in_effect(
    output: Store, reviews: Sequence[Review], image: str, action: str, waits: bool
) -> None:
    append(output, reviews)
    append(output, reviews[:1])  # there twice, as after a crash
    ((found, machine, by, reviewer),) = in_effect(output, image)
    assert (found, machine) == (action, MACHINE[image])
    assert (by == "person") == (reviewer is not None)
    assert (image in waiting(output)) is waits
    assert waiting(output) - {image} == WAITING - {image}


def test_an_escalated_image_waits_although_the_machine_allows_it_by_now(output: Store) -> None:
    append(output, [review("listings/knife.jpg", "escalate", rule="firearms")])
    (third,) = [job for job in jobs() if job.run_id == THIRD]
    allowed = dict.fromkeys(third.scored, (0.0, 0.0, 0.0, 0.0))
    publish(output, *stage(output, replace(third, run_id=f"20261123{THIRD[8:]}", scored=allowed, errors={})))
    assert in_effect(output, KNIFE) == [("review", "allow", "person", "ann")]
    assert KNIFE in waiting(output)


def test_the_view_says_who_decided_and_why(output: Store) -> None:
    one = review(KNIFE, "allow", rule="firearms", reason="a toy", note="plastic")
    append(output, [one])
    names = "review_id, reviewer, verdict, review_action, reviewed_rule, reason, note, review_source, decided_at, policy_hash"
    found = rows(output, f"SELECT {names} FROM effective_decisions WHERE decided_by = 'person'")  # noqa: S608
    assert found == [
        (one.review_id, "ann", "fine", "allow", "firearms", "a toy", "plastic", "csv", one.decided_at, NEW.hash),
    ]


def test_an_image_that_could_not_be_read_is_known_by_object_and_version(output: Store) -> None:
    append(output, [review("users/gone.jpg", "allow", sha256=None), review("users/huge.png", "allow", sha256=None, etag="v0")])
    assert [row[0] for row in in_effect(output, "users/gone.jpg", "users/huge.png")] == ["allow", "review"]
    assert waiting(output) == WAITING - {"users/gone.jpg"}


def test_a_decision_holds_for_a_later_run_until_the_image_is_replaced(output: Store) -> None:
    append(output, [review(GUN, "block", etag="v1")])
    assert in_effect(output, GUN) == [("block", "allow", "person", "ann")]
    (third,) = [job for job in jobs() if job.run_id == THIRD]
    replaced = {**third.hashes, GUN: sha("other bytes")}
    later = replace(third, run_id=f"20261123{THIRD[8:]}", etags={}, hashes=replaced)
    publish(output, *stage(output, later))
    assert in_effect(output, GUN) == [("allow", "allow", "machine", None)]


@pytest.mark.parametrize("ask_again", [True, False])
def test_a_rule_that_looks_for_something_else_asks_again_by_setting(ask_again: bool) -> None:
    output = Store(f"memory://review-views-meaning-{ask_again}")
    meanings = {rule.id: rule_meaning(rule) for rule in NEW.rules}
    for job in jobs():
        paths, manifest, receipts = stage(output, job)
        changed = {**meanings, "firearms": "something else"} if job.run_id == THIRD else meanings
        publish(output, paths, manifest.model_copy(update={"rule_meanings": changed}), receipts)
    append(
        output,
        [
            review(KNIFE, "allow", rule="firearms", rule_meaning=meanings["firearms"]),
            review("users/almost.jpg", "allow", rule="firearms", rule_meaning="something else"),
            review(PARTY, "allow", rule="beer", rule_meaning=meanings["beer"]),
            review(NUDE, "block", rule="nudity", rule_meaning="never seen"),
        ],
    )
    validity = Validity(ask_again=ask_again)
    found = in_effect(output, KNIFE, "users/almost.jpg", PARTY, NUDE, validity=validity)
    assert [row[0] for row in found] == ["review" if ask_again else "allow", "allow", "allow", "block"]
    assert (KNIFE in waiting(output, validity=validity)) is ask_again


def test_reviews_have_their_documented_columns_and_each_row_once(output: Store) -> None:
    one = review(KNIFE)
    append(output, [one])
    append(output, [one, review(NUDE)])
    with connect(output.uri) as connection:
        described = connection.execute("DESCRIBE reviews").fetchall()
    assert [row[0] for row in described] == [*REVIEWS.names, "date"]
    assert rows(output, "SELECT count(*), count(DISTINCT review_id) FROM reviews") == [(2, 2)]


def test_an_appeal_waits_in_its_own_queue_until_a_review_from_there_closes_it(output: Store) -> None:
    filed = BEGAN - timedelta(hours=2)
    of_nude = Appeal(uri=f"s3://shop/{NUDE}", etag="v1", sha256=sha(NUDE), text="art", appealed_action="block", filed_at=filed)
    of_face = Appeal(uri=f"s3://shop/{FACE}", etag="v1", sha256=sha(FACE), text="?", appealed_action="allow", filed_at=filed)
    append_rows(output, FOLDER, as_table([of_nude, of_face]), "appeal_id")
    assert waiting(output, "appeals") == {NUDE, FACE}
    assert waiting(output) == WAITING
    append(output, [review(NUDE, "escalate", 0, appeal_id=of_nude.appeal_id, selection=Selection.APPEAL)])
    assert waiting(output, "appeals") == {NUDE, FACE}
    append(output, [review(NUDE, "allow", 30, reviewer="bob", appeal_id=of_nude.appeal_id, selection=Selection.APPEAL)])
    append(output, [review(FACE, "block", 0, appeal_id=of_face.appeal_id, selection=Selection.APPEAL)])
    assert waiting(output, "appeals") == set()
    found = rows(output, "SELECT text, state, outcome, action, reviewer, hours FROM appeals ORDER BY text DESC")
    assert found == [
        ("art", "closed", "overturned", "allow", "bob", pytest.approx(2.5)),
        ("?", "closed", "made stricter", "block", "ann", pytest.approx(2.0)),
    ]
    assert in_effect(output, NUDE) == [("allow", "block", "person", "bob")]
    second = Appeal(uri=f"s3://shop/{NUDE}", etag="v1", sha256=sha(NUDE), text="again", appealed_action="allow")
    append_rows(output, FOLDER, as_table([second]), "appeal_id")
    assert waiting(output, "appeals") == {NUDE}


def test_a_decision_about_a_picture_that_looks_the_same_is_a_suggestion_and_no_more(tmp_path: Path) -> None:
    output = Store(str(tmp_path))
    near = f"{'f' * 63}0"  # 4 bits
    (third,) = [job for job in jobs() if job.run_id == THIRD]
    hashes = {KNIFE: "f" * 64, PARTY: near, "users/almost.jpg": "0" * 64, NUDE: "f" * 64}
    publish(output, *stage(output, replace(third, pdq=hashes)))
    first, second = review("old.jpg", "allow", 0, pdq=near), review("old.jpg", "block", 1, pdq=near)
    append(output, [first, second, review("other.jpg", "escalate", pdq="5" * 64), review("x.jpg", None, pdq="f" * 64)])
    sql = "SELECT uri, suggested_action, suggested_by, suggested_distance FROM review_queue WHERE suggested_by IS NOT NULL"
    expected = [(f"s3://shop/{KNIFE}", "block", second.review_id, 4), (f"s3://shop/{PARTY}", "block", second.review_id, 0)]
    assert sorted(rows(output, sql)) == expected
    assert sorted(rows(output, sql, Validity(near_duplicates=3))) == expected[1:]
    assert rows(output, sql, Validity(near_duplicates=None)) == []
    assert {KNIFE, PARTY} <= waiting(output)
    with connect(output.uri) as connection:
        for limit in (None, 5):
            found = {item.uri: item.suggestion for item in queue_items(connection, "review", limit)}
            assert found[f"s3://shop/{KNIFE}"] == "block, a picture that looks the same (distance 4)"
            assert found["s3://shop/users/almost.jpg"] is None


@pytest.mark.parametrize("store", ["memory", "s3"])
def test_reviews_in_a_bucket_are_read_as_well(store: str, request: pytest.FixtureRequest) -> None:
    if store == "s3":
        request.getfixturevalue("s3_endpoint")
        boto3.client("s3").create_bucket(Bucket="review-views")
    output = Store("s3://review-views/results" if store == "s3" else "memory://review-views")
    publish(output, *stage(output, jobs()[0]))
    append(output, [review(KNIFE, "block", rule="firearms", pdq="f" * 64)])
    append_rows(
        output, FOLDER, as_table([Appeal(uri=f"s3://shop/{NUDE}", etag="v1", sha256=sha(NUDE), text="art")]), "appeal_id"
    )
    assert in_effect(output, KNIFE) == [("block", "review", "person", "ann")]
    assert waiting(output) == {PARTY, "listings/broken.jpg", "users/gone.jpg"}
    assert waiting(output, "appeals") == {NUDE}
    assert rows(output, "SELECT count(suggested_by) FROM review_queue") == [(0,)]
