"""docs/analysts.md says what is so: its queries give known answers, its Python runs, its views and links exist."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
from places import DOCS
from published import FIRST, HUGE, SECOND, THIRD, write_debris
from reviewed import review, write_results

from moderation.query.connection import VIEWS, connect, select
from moderation.reviews.store import append
from moderation.storage import Store

PAGE = (DOCS / "analysts.md").read_text(encoding="utf-8")
QUERIES = dict(re.findall(r"^### ([^\n]+)\n(?:(?!^###).)*?```sql\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))

BOTH, RIFLE = "s3://shop/users/both.jpg", "s3://shop/listings/rifle.jpg"
COLUMNS_AND_ANSWERS: dict[str, tuple[list[str], list[tuple[Any, ...]]]] = {
    "Flag rate by day and rule": (
        ["date", "policy_version", "rule", "images", "flagged", "percent"],
        [
            (date(2026, 11, 22), "2", "firearms", 12, 4, 33.3),
        ],
    ),
    "Prefixes with the most blocked images": (
        ["prefix", "images", "blocked", "percent"],
        [("s3://shop/users/", 8, 2, 25.0), ("s3://shop/listings/", 7, 1, 14.3)],
    ),
    "A queue for reviewers: closest to a threshold first": (
        ["uri", "rule", "score", "review", "block", "distance"],
        [(BOTH, "beer", 0.5, 0.5, None, 0.0)],
    ),
    "What shadow rules would have flagged": (["rule", "would_flag", "only_shadow"], [("fireworks", 1, 0)]),
    "The same image under two versions of a policy": (
        ["uri", "old_action", "new_action", "top_rule", "top_score", "old_threshold", "new_threshold"],
        [("s3://shop/users/almost.jpg", "allow", "review", "firearms", 0.46875, 0.5, 0.375)],
    ),
    "What waits for people, by rule and age": (
        ["queue", "because_of", "images", "over_an_hour"],
        [
            ("review", "beer", 1, True),
            ("review", "corrupt", 1, True),
            ("review", "firearms", 1, True),
            ("review", "not_found", 1, True),
            ("review", "too_large", 1, True),
        ],
    ),
    "How often people overturn a rule": (
        ["rule", "decided", "overturned", "percent"],
        [("firearms", 1, 1, 100.0), ("nudity", 1, 0, 0.0)],
    ),
    "Errors by code": (
        ["error_code", "images", "retryable", "example", "detail"],
        [
            ("corrupt", 1, False, "s3://shop/listings/broken.jpg", "=it is corrupt"),
            ("not_found", 1, False, "s3://shop/users/gone.jpg", "=it is not_found"),
            ("too_large", 1, False, f"s3://shop/{next(iter(HUGE))}", "=it is too_large"),
        ],
    ),
    "Do two runs agree?": (
        ["first_run", "second_run", "images", "percent"],
        [
            ("allow", "allow", 5, 38.5),
            ("review", "review", 4, 30.8),
            ("block", "block", 2, 15.4),
            ("allow", "review", 1, 7.7),
            ("block", "allow", 1, 7.7),
        ],
    ),
    "Throughput by run": (
        ["run_id", "started_at", "images", "wall_seconds", "images_per_second", "bottleneck", "checks_failed"],
        [],
    ),
    "Largest changes of an image's score from run to run": (
        ["uri", "rule", "previous_score", "score", "change", "replaced"],
        [("s3://shop/listings/gun.jpg", "firearms", 0.875, 0.25, -0.625, True)],
    ),
    "Categories by prefix": (
        ["prefix", "category", "images", "mean_score"],
        [
            ("listings", "weapons", 2, 0.734),
            ("listings", "alcohol", 1, 0.563),
            ("users", "adult", 2, 0.844),
            ("users", "weapons", 1, 0.469),
        ],
    ),
    "Images that several rules flag": (
        ["uri", "action", "rules", "flags"],
        [(BOTH, "block", 3, ["firearms", "nudity", "beer"])],
    ),
}
INCOMPLETE = {"Flag rate by day and rule", "Throughput by run"}
"""Of these, only some rows are given above."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("analyst") / "results"
    write_results(Store(str(folder)))
    write_debris(Store(str(folder)))
    reviews = [
        review("listings/knife.jpg", "block", 0, rule="firearms"),
        review("listings/knife.jpg", "allow", 1, rule="firearms", reviewer="bob"),
        review("users/nude.jpg", "block", 2),
        review("users/both.jpg", "allow", 3, rule="beer"),  # another rule decided
    ]
    append(Store(str(folder)), reviews[:3])
    append(Store(str(folder)), reviews[2:])
    return folder


@pytest.fixture(scope="module")
def connection(results: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(str(results)) as connection:
        yield connection


def test_there_are_ten_queries_and_every_one_is_checked() -> None:
    assert len(QUERIES) >= 10
    assert len(QUERIES) == PAGE.count("```sql")
    assert set(QUERIES) == set(COLUMNS_AND_ANSWERS)


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_gives_the_known_answer(name: str, connection: duckdb.DuckDBPyConnection) -> None:
    columns, answers = COLUMNS_AND_ANSWERS[name]
    found = select(connection, QUERIES[name])
    assert found.columns == columns
    rows = [tuple(pytest.approx(v) if isinstance(v, float) else v for v in row) for row in found.fetchall()]
    if name not in INCOMPLETE:
        assert rows == answers
    for answer in answers:
        assert answer in rows


def test_throughput_is_that_of_the_manifests(connection: duckdb.DuckDBPyConnection) -> None:
    rows = select(connection, QUERIES["Throughput by run"]).fetchall()
    assert [(row[0], *row[2:]) for row in rows] == [
        (FIRST, 13, 2.0, 6.5, "decode", 0),
        (SECOND, 3, 2.0, 1.5, "decode", 0),
        (THIRD, 15, 2.0, 7.5, "decode", 1),
    ]


def test_sql_within_the_text_runs(connection: duckdb.DuckDBPyConnection) -> None:
    (inline,) = re.findall(r"`(SELECT \* FROM decisions[^`]+)`", PAGE)
    assert len(select(connection, inline).fetchall()) == 15


def blocks() -> list[str]:
    return [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "pyspark" not in block]


@pytest.mark.parametrize("number", range(len(blocks())))
def test_python_in_the_page_runs_and_sees_published_runs_only(number: int, results: Path) -> None:
    path = os.pathsep.join(filter(None, [str(DOCS.parent), os.environ.get("PYTHONPATH")]))
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", blocks()[number]],
        capture_output=True,
        text=True,
        check=False,
        cwd=results.parent,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert (found.returncode, found.stderr) == (0, "")
    counts = re.findall(r"(allow|review|block)\W+(\d+)", found.stdout)
    assert sum(int(count) for _, count in counts) == 15, "the newest decision of each image"
    if "reviews" in blocks()[number] or "effective" in blocks()[number]:
        with connect(str(results)) as connection:
            in_effect = connection.execute("SELECT action, count(*) FROM effective_decisions GROUP BY action").fetchall()
        assert {action: int(count) for action, count in counts} == dict(in_effect)


def test_every_view_is_explained() -> None:
    rows = re.findall(r"^\| (`[^|]+) \|", PAGE, re.MULTILINE)
    explained = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert set(VIEWS) <= explained


def test_files_that_the_page_links_to_exist() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", PAGE) if "://" not in link]
    assert links
    assert [link for link in links if not (DOCS / link).exists()] == []
