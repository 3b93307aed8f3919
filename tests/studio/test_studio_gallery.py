"""The gallery's filters and pages, compared with what Python says about the same rows."""

import contextlib
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published import write_results

from moderation.errors import SettingsError
from moderation.query import connect
from moderation.storage import Store
from moderation.studio.catalogue import Catalogue, Row
from moderation.studio.filters import Filter, Sort
from moderation.studio.paging import Cursor


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("gallery")
    write_results(Store(str(folder)))
    return str(folder)


@pytest.fixture(scope="module")
def catalogue(results: str) -> Iterator[Catalogue]:
    found = Catalogue(results)
    yield found
    found.close()


@pytest.fixture(scope="module")
def rows(results: str) -> list[dict[str, Any]]:
    with connect(results) as connection:
        found = connection.execute("SELECT * FROM latest_decisions").fetchall()
        names = [column[0] for column in connection.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found]


@pytest.fixture(scope="module")
def scores(results: str) -> dict[tuple[str, str], tuple[float, str]]:
    """Score and action by URI and rule, of the newest decisions."""
    with connect(results) as connection:
        found = connection.execute("SELECT uri, rule, score, rule_action FROM image_rules").fetchall()
    return {(uri, rule): (score, action) for uri, rule, score, action in found}


def everything(catalogue: Catalogue, chosen: Filter, size: int) -> list[Row]:
    """All pages, one after the other."""
    found: list[Row] = []
    after: Cursor | None = None
    while True:
        page = catalogue.page(chosen, after, size)
        assert len(page.rows) <= size
        found += page.rows
        if page.after is None:
            return found
        after = Cursor.read(str(page.after))


@pytest.mark.parametrize("size", [1, 2, 5, 60])
@pytest.mark.parametrize("sort", Sort)
def test_pages_have_every_image_once_and_in_order(
    catalogue: Catalogue, rows: list[dict[str, Any]], sort: Sort, size: int
) -> None:
    found = everything(catalogue, Filter(sort=sort), size)
    assert sorted(row.uri for row in found) == sorted(row["uri"] for row in rows)
    assert [row.uri for row in found] == [row.uri for row in everything(catalogue, Filter(sort=sort), 100)]
    scored = [row for row in found if row.score is not None]
    values = [row.score for row in scored]
    if sort is Sort.HIGHEST:
        assert values == sorted(values, reverse=True)
    if sort is Sort.LOWEST:
        assert values == sorted(values)
    if sort is Sort.NEAREST:
        away = [abs(row.score - row.threshold) for row in scored]
        assert away == sorted(away)
    if sort is Sort.NEWEST:
        moments = [row.scored_at for row in found]
        assert moments == sorted(moments, reverse=True)
    if sort is Sort.NAME:
        assert [row.uri for row in found] == sorted((row.uri for row in found), key=str.encode)


@pytest.mark.parametrize("rule", ["firearms", "nudity", "fireworks", "beer", "none"])
@pytest.mark.parametrize("span", [(None, None), (0.25, None), (None, 0.5), (0.5, 0.75)])
def test_a_rule_chooses_what_it_flags_or_what_lies_between_scores(
    catalogue: Catalogue,
    scores: dict[tuple[str, str], tuple[float, str]],
    rule: str,
    span: tuple[float | None, float | None],
) -> None:
    low, high = span
    found = everything(catalogue, Filter(rule=rule, low=low, high=high), 3)
    own = {uri: of for (uri, name), of in scores.items() if name == rule}
    if low is None and high is None:
        expected = {uri for uri, (_, action) in own.items() if action != "allow"}
    else:
        expected = {uri for uri, (score, _) in own.items() if (low is None or score >= low) and (high is None or score <= high)}
    assert {row.uri for row in found} == expected
    assert all(row.score == own[row.uri][0] for row in found)
    assert catalogue.count(Filter(rule=rule, low=low, high=high)) == len(expected)


@pytest.mark.parametrize("action", ["allow", "review", "block", "error", "flagged"])
def test_decisions_are_chosen(catalogue: Catalogue, rows: list[dict[str, Any]], action: str) -> None:
    holds = {
        "error": lambda row: row["status"] == "error",
        "flagged": lambda row: row["status"] == "scored" and row["action"] != "allow",
    }.get(action, lambda row: row["status"] == "scored" and row["action"] == action)
    expected = {row["uri"] for row in rows if holds(row)}
    assert expected
    assert {row.uri for row in everything(catalogue, Filter(action=action), 4)} == expected


def test_names_errors_and_days_are_chosen(catalogue: Catalogue, rows: list[dict[str, Any]]) -> None:
    cases = (
        (Filter(prefix="s3://shop/listings/"), lambda row: row["uri"].startswith("s3://shop/listings/")),
        (Filter(prefix="s3://shop/%"), lambda row: False),
        (Filter(error="corrupt"), lambda row: row["error_code"] == "corrupt"),
        (Filter(since="2026-11-22"), lambda row: row["scored_at"].day >= 22),
        (Filter(until="2026-11-21"), lambda row: row["scored_at"].day <= 21),
    )
    for chosen, holds in cases:
        assert {row.uri for row in everything(catalogue, chosen, 60)} == {row["uri"] for row in rows if holds(row)}


def test_many_rules_one_after_the_other_do_not_grow_without_bound(catalogue: Catalogue) -> None:
    for n in range(12):
        catalogue.page(Filter(rule=f"rule-{n}"))
    tables = catalogue.rows("SELECT table_name FROM duckdb_tables() WHERE table_name LIKE 'rule_%'", [])
    assert len(tables) <= 6
    assert catalogue.count(Filter(rule="beer")) > 0


def test_the_catalogue_reads_no_other_file(catalogue: Catalogue) -> None:
    with pytest.raises(SettingsError):
        catalogue.rows("SELECT * FROM read_csv('/etc/passwd')", [])
    with pytest.raises((SettingsError, duckdb.Error)):
        catalogue.rows("COPY images TO '/tmp/images.csv'", [])


@given(st.floats(allow_nan=False, allow_infinity=False), st.text(st.characters(codec="utf-8")))
def test_a_place_in_a_list_survives_its_address(value: float, uri: str) -> None:
    assert Cursor.read(str(Cursor(value, uri))) == Cursor(value, uri)


@given(st.text())
def test_any_other_text_is_no_place(text: str) -> None:
    with contextlib.suppress(SettingsError):
        assert Cursor.read(text)


def test_what_an_address_says_comes_back() -> None:
    chosen = Filter(rule="beer", low=0.25, prefix="s3://a b/?&", since="2026-11-22", sort=Sort.NEAREST)
    assert Filter.model_validate(chosen.query) == chosen
    assert Filter.model_validate({"rule": "", "action": " ", "low": "", "sort": "", "since": ""}) == Filter()
