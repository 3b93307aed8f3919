"""Compaction: whenever it is stopped, whoever writes, compacts or reads meanwhile, every row is there, once."""

import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import boto3
import dying_compaction
import pytest
from published import JOBS, write_results
from reviewed import review

from moderation.errors import OutputError, SettingsError
from moderation.query.connection import connect, sql_errors
from moderation.results.retention import leftovers, prune
from moderation.results.runs import all_runs
from moderation.reviews.compaction import Compacted, compact
from moderation.reviews.review import Review
from moderation.reviews.schema import REVIEWS, as_table
from moderation.reviews.store import append, append_rows, files, parquet_of, read
from moderation.storage import Store

NOW, LATER = timedelta(0), timedelta(hours=1)


def compacted(output: Store, keep: timedelta = NOW) -> Compacted:
    return compact(output, "reviews/", REVIEWS, "review_id", keep)


def ids(output: Store) -> list[str]:
    return read(output, [])["review_id"].to_pylist()


@pytest.fixture(params=["local", "memory", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(str(tmp_path))
    if request.param == "memory":
        return Store(f"memory://compaction-{request.node.name}")
    request.getfixturevalue("s3_endpoint")
    boto3.client("s3").create_bucket(Bucket="compaction")
    return Store(f"s3://compaction/{request.node.name}")


def test_a_day_becomes_one_file_and_what_it_replaces_goes_later(output: Store) -> None:
    rows = [review(name) for name in "abcde"]
    for row in rows:
        append(output, [row])
    whole = as_table(rows)
    assert compacted(output) == Compacted(merged=5, written=1)
    assert len(files(output)) == 6
    assert read(output).equals(whole)
    assert compacted(output, LATER) == Compacted(kept=5)
    assert compacted(output) == Compacted(removed=5)
    assert len(files(output)) == 1
    assert read(output).equals(whole)
    assert compacted(output) == Compacted()


def test_a_merged_file_is_merged_again_with_what_came_after_it(output: Store) -> None:
    for name in "ab":
        append(output, [review(name, review_id=name)])
    compacted(output)
    append(output, [review("c", review_id="c")])
    assert compacted(output, LATER) == Compacted(merged=2, written=1, kept=2)
    assert compacted(output) == Compacted(removed=4)
    assert ids(output) == ["a", "b", "c"]
    assert len(files(output)) == 1


def test_rows_that_are_there_twice_are_merged_into_one(output: Store) -> None:
    one = review("a")
    append(output, [one])
    append(output, [one, review("b")])
    compacted(output)
    compacted(output)
    assert len(files(output)) == 1
    assert len(ids(output)) == 2


def test_nothing_is_removed_that_the_merged_file_does_not_hold(tmp_path: Path) -> None:
    """Whatever a file claims to replace."""
    output = Store(str(tmp_path))
    first = Path(append(output, [review("a")]) or "")
    claims = as_table([review("b")]).replace_schema_metadata({b"replaces": f'["{first.name}"]'.encode()})
    append_rows(output, "reviews/", claims, "review_id")
    (liar,) = [path for path in (tmp_path / first).parent.iterdir() if path.name != first.name]
    liar.rename(liar.with_name("merged-0.parquet"))
    assert compacted(output).removed == 0
    assert len(ids(output)) == 2


class ForgetfulStore(Store):
    """Another compaction, of a faulty version, was faster: what is under the name of a merged file lacks a row."""

    def put(self, key: str, data: bytes | Path, create_only: bool = False) -> None:
        if "/merged-" in key:
            super().put(key, parquet_of(as_table([review("a", review_id="a")])))
            raise FileExistsError(key)
        super().put(key, data, create_only)


def test_a_merged_file_with_other_rows_is_an_error_and_nothing_is_removed(tmp_path: Path) -> None:
    output = ForgetfulStore(str(tmp_path))
    for name in "ab":
        append(output, [review(name, review_id=name)])
    with pytest.raises(OutputError, match="reads back with other rows than were written; nothing was removed"):
        compacted(output)
    assert ids(output) == ["a", "b"]
    compacted(Store(str(tmp_path)))
    compacted(Store(str(tmp_path)))
    assert ids(output) == ["a", "b"]


def test_a_process_that_dies_after_any_write_loses_and_doubles_nothing(tmp_path: Path) -> None:
    last = 18
    command = [sys.executable, dying_compaction.__file__, str(tmp_path), str(last)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}  # a fork with threads is what this is about
    codes = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout.split()
    died = codes.index("0")
    assert codes == ["9"] * died + ["0"] * (last - 1 - died)
    assert died == 6 + 2 + 3 + 4  # reviews, merged files, and what they replace: the first merged file as well
    for writes in range(1, died + 1):
        output = Store(str(tmp_path / str(writes)))
        seen = ids(output)
        assert seen == sorted(set(seen))
        dying_compaction.work(output)
        assert ids(output) == [f"id-{image}" for image in dying_compaction.IMAGES]
        assert read(output).num_rows == 6
        for _ in range(2):
            compacted(output)
        assert len(files(output)) == 1
        assert ids(output) == [f"id-{image}" for image in dying_compaction.IMAGES]


def test_writers_readers_and_compactors_at_once_never_miss_a_row(tmp_path: Path) -> None:
    output = Store(str(tmp_path))
    written: list[Review] = []
    done, trouble = threading.Event(), list[BaseException]()

    def watched(work: "object") -> None:
        try:
            while not done.is_set():
                work()  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001
            trouble.append(error)
            done.set()

    def look() -> None:
        before = {row.review_id for row in list(written)}
        seen = ids(output)
        assert len(seen) == len(set(seen))
        assert before <= set(seen)

    def merge() -> None:
        try:
            compacted(output)
        except OutputError as error:
            if "another compaction" not in str(error):
                raise

    threads = [threading.Thread(target=watched, args=(work,)) for work in (merge, merge, look, look)]
    for thread in threads:
        thread.start()
    for number in range(60):
        if not done.is_set():
            rows = [review(f"{number}-{part}") for part in range(2)]
            append(output, rows)
            written += rows
    done.set()
    for thread in threads:
        thread.join()
    assert not trouble, trouble
    assert ids(output) == sorted(row.review_id for row in written)


def test_a_query_whose_files_were_compacted_long_ago_says_so(tmp_path: Path) -> None:
    output = Store(str(tmp_path))
    write_results(output, JOBS[:1])
    for name in "ab":
        append(output, [review(name)])
    with connect(str(tmp_path)) as before:
        compacted(output)
        compacted(output)
        with pytest.raises(SettingsError, match="it was compacted since: run the query again"), sql_errors():
            before.execute("SELECT count(uri) FROM reviews").fetchall()


def test_what_runs_leave_behind_and_old_runs_are_removed_without_their_reviews(tmp_path: Path) -> None:
    output = Store(str(tmp_path))
    write_results(output, JOBS[:1])
    append(output, [review("a")])
    assert leftovers(output).keys == ()
    (run,) = all_runs(output)
    prune(output, run, keep_embeddings=False)
    assert leftovers(output).keys == ()
    assert len(ids(output)) == 1


def test_a_view_reads_on_while_a_compaction_runs(tmp_path: Path) -> None:
    """Replaced files stay for an hour, so that whoever listed them can read them."""
    output = Store(str(tmp_path))
    write_results(output, JOBS[:1])
    rows = [review(name) for name in "abc"]
    for row in rows:
        append(output, [row])
    with connect(str(tmp_path)) as before:
        compacted(output, LATER)
        compacted(output, LATER)
        with connect(str(tmp_path)) as after:
            for connection in (before, after):
                found = connection.execute("SELECT review_id FROM reviews ORDER BY 1").fetchall()
                assert found == [(row.review_id,) for row in rows]
