"""The table of reviews: identities, appending, reading, and which review counts."""

import threading
from dataclasses import fields, replace
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reviewed import review, sha

from moderation.errors import OutputError
from moderation.policy.loading import parse_policy
from moderation.reviews.current import current, deciding
from moderation.reviews.identity import new_id
from moderation.reviews.meaning import rule_meaning
from moderation.reviews.review import Review, imported_review_id
from moderation.reviews.schema import REVIEWS, VERSION, as_table
from moderation.reviews.store import append, append_rows, read
from moderation.storage import Store


def ids(table: pa.Table) -> list[str]:
    return table["review_id"].to_pylist()


def test_the_record_and_the_table_have_the_same_columns_and_each_is_described() -> None:
    assert [f.name for f in fields(Review)] == REVIEWS.names
    for field in REVIEWS:
        assert field.metadata[b"description"]
        assert field.nullable or field.metadata[b"since"] == b"1"
        assert 1 <= int(field.metadata[b"since"]) <= VERSION


def test_ids_sort_by_the_time_at_which_they_are_made() -> None:
    made = [new_id() for _ in range(5000)]
    assert made == sorted(made)
    assert len(set(made)) == 5000
    assert {len(one) for one in made} == {36}
    assert {one[14] for one in made} == {"7"}


def test_a_row_of_a_file_has_the_same_id_each_time_and_another_if_it_says_something_else() -> None:
    one = review("a", note="x")
    assert imported_review_id(one) == imported_review_id(replace(one, review_id=new_id(), run_id="later", machine_score=0.5))
    others = [
        replace(one, note=None),
        replace(one, reviewer="bob"),
        replace(one, rule="beer"),
        replace(one, sha256=sha("b")),
        replace(one, decided_at=one.decided_at + timedelta(microseconds=1)),
    ]
    assert len({imported_review_id(each) for each in [one, *others]}) == 6
    later = replace(one, decided_at=one.decided_at + timedelta(seconds=1))
    assert imported_review_id(one) < imported_review_id(later)


def test_what_is_appended_is_read_once_each_and_in_order() -> None:
    output = Store("memory://reviews-append")
    assert read(output).num_rows == 0
    assert append(output, []) is None
    rows = [review(name) for name in "abc"]
    key = append(output, [rows[1], rows[0]])
    append(output, [rows[2], rows[1]])
    assert key is not None
    assert key.startswith("reviews/date=20")
    assert read(output).equals(as_table(sorted(rows, key=lambda row: row.review_id)))
    assert read(output, ["verdict"]).column_names == ["review_id", "verdict"]


def test_columns_describe_themselves_in_the_files() -> None:
    output = Store("memory://reviews-described")
    key = append(output, [review()])
    schema = pq.read_schema(pa.BufferReader(output.get(key or "")))
    assert schema.equals(REVIEWS, check_metadata=True)


def test_a_file_of_an_earlier_version_lacks_nullable_columns_only() -> None:
    output = Store("memory://reviews-older")
    append_rows(output, "reviews/", as_table([review()]).drop_columns(["appeal_id", "weight"]), "review_id")
    assert read(output).select(["appeal_id", "weight"]).to_pylist() == [{"appeal_id": None, "weight": None}]


@pytest.mark.parametrize("data", [b"no Parquet", b""], ids=["text", "empty"])
def test_a_file_that_is_no_table_of_reviews_is_named(data: bytes) -> None:
    output = Store(f"memory://reviews-broken-{len(data)}")
    append(output, [review()])
    output.put("reviews/date=2026-11-23/broken.parquet", data)
    with pytest.raises(OutputError, match=r"reviews/date=2026-11-23/broken.parquet is not a file of reviews"):
        read(output)


def test_writers_at_once_lose_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    output = Store(str(tmp_path_factory.mktemp("reviews")))
    wanted = [[review(f"{writer}-{n}") for n in range(20)] for writer in range(8)]

    def write(rows: list[Review]) -> None:
        for row in rows:
            append(output, [row])

    threads = [threading.Thread(target=write, args=(rows,)) for rows in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids(read(output)) == sorted(row.review_id for rows in wanted for row in rows)


def test_of_a_person_the_newest_review_of_an_image_and_rule_counts() -> None:
    rows = {
        "old": review("a", "allow", 0, rule="beer"),
        "new": review("a", "block", 5, rule="beer"),
        "other rule": review("a", "allow", 1, rule="nudity"),
        "whole image": review("a", "allow", 2),
        "other person": review("a", "allow", 3, rule="beer", reviewer="bob"),
        "other key": review("b", "allow", 9, rule="beer", sha256=sha("a")),
        "other image": review("c", "allow", 0, rule="beer"),
    }
    expected = {name: row.review_id for name, row in rows.items() if name not in ("old", "new")}
    assert set(ids(current(as_table(rows.values())))) == set(expected.values())
    assert ids(deciding(as_table(rows.values()))) == sorted([rows["other key"].review_id, rows["other image"].review_id])


def test_a_later_review_supersedes_that_of_another_person_and_an_earlier_one_cannot() -> None:
    first = review("a", "block", 0)
    second = review("a", "allow", 1, reviewer="lead", supersedes=first.review_id)
    third = review("a", "block", 2, reviewer="head", supersedes=second.review_id)
    assert ids(current(as_table([first, second]))) == [second.review_id]
    assert ids(current(as_table([third, first, second]))) == [third.review_id]
    earlier = review("a", "allow", -1, reviewer="bob", supersedes=first.review_id)
    assert set(ids(current(as_table([first, earlier])))) == {first.review_id, earlier.review_id}


def test_images_without_a_hash_are_told_apart_by_object_and_version() -> None:
    rows = [
        review("a", minute=0, sha256=None),
        review("a", minute=1, sha256=None),
        review("a", minute=2, sha256=None, etag="v2"),
        review("b", minute=3, sha256=None),
    ]
    assert ids(current(as_table(rows))) == sorted(row.review_id for row in rows[1:])


def test_a_review_that_only_answers_for_a_rule_decides_nothing_about_the_image() -> None:
    rows = [review("a", "block", 0), review("a", None, 1, rule="beer")]
    assert ids(deciding(as_table(rows))) == [rows[0].review_id]


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([None, "x", "y"]), st.sampled_from("pq"), st.integers(0, 3))),
    st.randoms(use_true_random=False),
)
def test_which_reviews_count_depends_neither_on_their_order_nor_on_rows_that_are_there_twice(said, random) -> None:
    rows = [review(image, "allow", minute, rule=rule, reviewer=reviewer) for image, rule, reviewer, minute in said]
    shuffled = [*rows, *rows[::2]]
    random.shuffle(shuffled)
    found = current(as_table(shuffled))
    assert found.equals(current(as_table(rows)))
    newest: dict[object, Review] = {}
    for row in rows:
        key = (row.sha256, row.rule, row.reviewer)
        if key not in newest or (row.decided_at, row.review_id) > (newest[key].decided_at, newest[key].review_id):
            newest[key] = row
    assert ids(found) == sorted(row.review_id for row in newest.values())


RULE = "{id: beer, prompts: [a beer, a pub], contrast: [a cola, water], review: 0.5}"


def meaning(rule: str) -> str:
    return rule_meaning(parse_policy(f"policy: shop\nmodel: {{name: demo}}\nrules: [{rule}]\n").rules[0])


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        (RULE.replace("0.5", "0.6, block: 0.9"), True),
        (RULE.replace("beer,", "ale, severity: high, mode: shadow, category: alcohol, description: drinks,", 1), True),
        (RULE.replace("a beer, a pub", "a pub, a beer"), True),
        (RULE.replace("a beer,", "a glass of beer,"), False),
        (RULE.replace("a cola, ", ""), False),
        (RULE.replace("contrast: [a cola, water]", "score: similarity"), False),
    ],
    ids=["thresholds", "names", "order", "prompt", "lookalike", "kind"],
)
def test_what_a_rule_means_is_what_it_looks_for(changed: str, same: bool) -> None:
    assert (meaning(changed) == meaning(RULE)) is same
