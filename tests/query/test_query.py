"""Questions of results: views that show published runs and nothing else, SQL that reaches nothing else, output that is safe."""

# ruff: noqa: S608

import io
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import archived
import boto3
import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from listed_archive import listed_images, old_policy
from published import AT_FIRST, FIRST, JOBS, MODEL, NEW, OLD, SECOND, THIRD, Job, stage, write_debris, write_results

from moderation.errors import OutputError, SettingsError
from moderation.query.connection import VIEWS, connect, select, sql_errors
from moderation.query.view_runs import RUNS
from moderation.query.view_scan import sql_type
from moderation.query.views import view_schema
from moderation.results import schemas
from moderation.results.archive import open_archive
from moderation.results.check_results import CheckResult
from moderation.results.manifest import Release, published_manifests
from moderation.results.publishing import publish, quarantine
from moderation.storage import Store
from moderation.storage.files import ObjectFile

Connection = duckdb.DuckDBPyConnection


@pytest.fixture(scope="module", params=["local", "memory", "s3"])
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same results in three stores; the folder has a name that patterns, SQL and hive partitions might misread."""
    if request.param == "local":
        where = str(tmp_path_factory.mktemp("results") / "it's [a]*b? date=2000-01-01" / "run=x")
    elif request.param == "memory":
        where = "memory://test-query/it's a"
    else:
        request.getfixturevalue("s3_endpoint")
        boto3.client("s3").create_bucket(Bucket="query-bucket")
        where = "s3://query-bucket/results"
    write_results(Store(where))
    write_debris(Store(where))
    return where


@pytest.fixture(scope="module")
def connection(results: str) -> Iterator[Connection]:
    with connect(results) as connection:
        yield connection


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results that no test changes."""
    path = tmp_path_factory.mktemp("query") / "results"
    write_results(Store(str(path)))
    return path


def rows(connection: Connection, sql: str) -> list[tuple[object, ...]]:
    with sql_errors():
        return select(connection, sql).fetchall()


def files(output: Store, table: str, run: str) -> list[str]:
    return [e.path for m in published_manifests(output) if m.run_id == run for e in m.files if e.table == table]


# -- views


def test_views_have_all_columns_and_types(connection: Connection) -> None:
    def described(view: str) -> dict[str, str]:
        return {str(row[0]): str(row[1]) for row in rows(connection, f"DESCRIBE {view}")}

    for table in schemas.TABLES:
        assert described(table) == {f.name: sql_type(f.type) for f in view_schema(table)}
    assert described("latest_decisions") == described("errors") == described("decisions")
    assert list(described("runs")) == RUNS.names
    assert described("decisions")["date"] == described("runs")["date"] == "DATE"
    assert described("embeddings")["embedding"] == "FLOAT[]"
    assert {row[0] for row in rows(connection, "SHOW TABLES")} == set(VIEWS)


def test_only_published_runs_are_seen(connection: Connection) -> None:
    counted = rows(connection, "SELECT date, run, count(*), count(DISTINCT run_id) FROM decisions GROUP BY ALL ORDER BY run")
    assert counted == [
        (date(2026, 11, 20), FIRST, 13, 1),
        (date(2026, 11, 21), SECOND, 3, 1),
        (date(2026, 11, 22), THIRD, 15, 1),
    ]
    assert rows(connection, "SELECT DISTINCT run FROM scores ORDER BY 1") == [(FIRST,), (SECOND,), (THIRD,)]
    assert rows(connection, "SELECT count(*), min(model_fingerprint), max(len(embedding)) FROM embeddings") == [(25, MODEL, 8)]
    assert rows(connection, "SELECT count(*) FROM runs") == [(3,)]


def test_a_run_that_somebody_released_says_who_and_why() -> None:
    output = Store("memory://query-released")
    paths, manifest, receipts = stage(output, JOBS[0])
    release = Release(by="ann", reason="a known flood", at=datetime(2026, 11, 21, tzinfo=UTC))
    publish(output, paths, manifest.model_copy(update={"release": release}), receipts)
    with connect(output.uri) as connection:
        assert rows(connection, "SELECT released_by, release_reason FROM runs") == [("ann", "a known flood")]


def test_keys_come_through_unharmed(connection: Connection) -> None:
    found = {row[0] for row in rows(connection, f"SELECT uri FROM decisions WHERE run = '{FIRST}' AND status = 'scored'")}
    assert found == {f"s3://shop/{name}" for name in AT_FIRST}


def test_the_latest_decision_is_the_newest_of_each_image(connection: Connection) -> None:
    found = dict(rows(connection, "SELECT uri, run FROM latest_decisions"))
    assert len(found) == 15
    assert set(found.values()) == {THIRD}


def test_of_decisions_made_at_once_the_later_run_id_wins() -> None:
    output = Store("memory://query-ties")
    first = replace(JOBS[0], run_id=f"{FIRST[:-6]}zzzzzz", scored={"a.jpg": (0.875, 0.0, 0.0, 0.0)}, errors={})
    second = replace(first, run_id=FIRST, scored={"a.jpg": (0.0, 0.0, 0.0, 0.0), "b.jpg": (0.0, 0.0, 0.0, 0.0)})
    write_results(output, (first, second))
    with connect(output.uri) as connection:
        found = rows(connection, "SELECT uri, action, run FROM latest_decisions ORDER BY uri")
    assert found == [("s3://shop/a.jpg", "block", first.run_id), ("s3://shop/b.jpg", "allow", FIRST)]


def test_errors_are_listed_newest_first(connection: Connection) -> None:
    found = rows(connection, "SELECT run, error_code, flagged FROM errors")
    assert [row[0] for row in found] == [THIRD, THIRD, THIRD, SECOND, FIRST, FIRST]
    assert {row[1] for row in found} == {"corrupt", "not_found", "too_large"}


def test_every_run_is_one_row_of_the_runs_view(connection: Connection) -> None:
    row = dict(zip(RUNS.names, rows(connection, f"SELECT * FROM runs WHERE run_id = '{THIRD}'")[0], strict=True))
    assert (row["listed"], row["unchanged"], row["scored"], row["errored"]) == (15, 0, 12, 3)
    assert row["errored_by_code"] == {"corrupt": 1, "not_found": 1, "too_large": 1}
    assert row["flagged_by_rule"] == {"beer": 2, "firearms": 4, "nudity": 2}
    assert (row["checks_passed"], row["checks_failed"], row["failed_checks"]) == (1, 1, ["flag_rate"])
    assert (row["policy_hash"], row["model_fingerprint"]) == (NEW.hash, MODEL)
    assert (row["files"], row["date"], row["run"]) == (6, date(2026, 11, 22), THIRD)
    assert row["started_at"].astimezone(UTC) == datetime(2026, 11, 22, 3, tzinfo=UTC)
    assert {name for name, value in row.items() if value is None} == {"released_by", "release_reason"}


CONDITIONS = (f"run = '{FIRST}'", "date = '2026-11-20'", "date < DATE '2026-11-21'", f"run IN ('{FIRST}', 'x')")


@pytest.mark.parametrize("store", ["local", "memory"])
def test_conditions_on_run_and_date_keep_other_files_closed(store: str, tmp_path: Path) -> None:
    output = Store(str(tmp_path) if store == "local" else "memory://query-closed")
    write_results(output, JOBS[:2])
    for key in files(output, "decisions", SECOND):
        output.put(key, b"PAR1 broken PAR1")
    with connect(output.uri) as connection:
        for condition in CONDITIONS:
            assert rows(connection, f"SELECT count(uri) FROM decisions WHERE {condition}") == [(13,)]
        with pytest.raises(SettingsError):
            rows(connection, "SELECT count(uri) FROM decisions")


def test_of_files_in_a_bucket_only_the_columns_asked_for_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    output = Store("memory://query-columns")
    write_results(output, JOBS[:1])
    key = files(output, "embeddings", FIRST)[0]
    table = pq.read_table(io.BytesIO(output.get(key)))
    many = pa.concat_tables([table.slice(0, 1)] * 2048)
    noise = np.frombuffer(os.urandom(1024 * 2048), np.uint8).astype(np.float16) / 1024
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(noise), 1024)
    many = many.set_column(many.schema.get_field_index("embedding"), "embedding", embedding)
    buffer = io.BytesIO()
    pq.write_table(many, buffer)
    output.put(key, buffer.getvalue())
    manifest = json.loads(output.get(f"runs/{FIRST}.json"))
    for entry in manifest["files"]:
        entry["bytes"] = len(buffer.getvalue()) if entry["path"] == key else entry["bytes"]
    output.put(f"runs/{FIRST}.json", json.dumps(manifest).encode())

    read: list[int] = []
    readinto = ObjectFile.readinto
    monkeypatch.setattr(ObjectFile, "readinto", lambda self, buffer: read.append(len(buffer)) or readinto(self, buffer))
    with connect(output.uri) as connection:
        assert rows(connection, "SELECT count(uri) FROM embeddings")[0][0] >= 2048
    assert len(buffer.getvalue()) > 1_500_000
    assert sum(read) < 300_000


def test_threads_share_a_file_each_at_its_own_place() -> None:
    from concurrent.futures import ThreadPoolExecutor

    from moderation.query.view_files import SharedFile

    output = Store("memory://query-threads")
    output.put("f", bytes(range(256)) * 1000)
    file = SharedFile(output.open("f"))

    def read(start: int) -> bool:
        found = []
        for step in range(50):
            file.seek(start + 256 * step)
            found.append(file.read(1) + file.read(1))
        return found == [bytes([start, start + 1])] * 50

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(60)))


def test_files_of_an_older_schema_read_and_what_they_lack_is_null(tmp_path: Path) -> None:
    newer = [f.name for f in schemas.DECISIONS if int(f.metadata.get(b"since", b"1")) > 1]
    for where in (str(tmp_path), "memory://query-older"):
        output = Store(where)
        write_results(output)
        first_version(output, FIRST)
        with connect(where) as connection:
            assert rows(connection, "SELECT count(*), count(DISTINCT run) FROM decisions") == [(31, 3)]
            for column in newer:
                assert rows(connection, f"SELECT DISTINCT {column} FROM decisions WHERE run = '{FIRST}'") == [(None,)]
        for run in (SECOND, THIRD):
            first_version(output, run)
        with connect(where) as connection:  # now no file has them
            typed = ", ".join(f"typeof({column})" for column in newer) or "1"
            assert rows(connection, f"SELECT DISTINCT {typed} FROM latest_decisions") == [
                tuple(sql_type(schemas.DECISIONS.field(column).type) for column in newer) or (1,)
            ]


def test_list_matches_are_flat_and_of_the_newest_decisions(tmp_path: Path) -> None:
    output = Store(str(tmp_path / "out"))
    older = [archived.replace(image, sha256="f" * 64, md5=None, hashes=()) for image in listed_images(80, seed=4)]
    newer = listed_images(80, seed=4)
    policy = old_policy(archived.OLD)
    archived.write_runs(output, archived.Run(archived.FIRST, policy, older), archived.Run(archived.SECOND, policy, newer))
    with connect(str(tmp_path / "out")) as connection:
        found = rows(connection, "SELECT list, flags, would_flag, decides, action, count(*) FROM list_matches GROUP BY ALL")
        expected = Counter[tuple[object, ...]]()
        for row in rows(connection, "SELECT list_matches, flags, shadow_flags, top_rule, action FROM latest_decisions"):
            for match in row[0] or ():
                name = match["list"]
                expected[name, name in row[1], name in row[2], name == row[3], row[4]] += 1
        assert {one[:-1]: one[-1] for one in found} == expected
        assert {one[0] for one in found} == {"known", "brand", "seen"}
        assert rows(connection, "SELECT DISTINCT run_id FROM list_matches") == [(archived.SECOND,)]
        (nearest,) = rows(connection, "SELECT min(distance) FROM list_matches WHERE list = 'known' AND label LIKE 'picture %'")
        assert 0 <= nearest[0] <= 31


def first_version(output: Store, run: str) -> None:
    """Rewrite a run's decisions as schema version 1 had them."""
    for key in files(output, "decisions", run):
        table = pq.read_table(io.BytesIO(output.get(key)))
        old = [f.name for f in schemas.DECISIONS if f.metadata.get(b"since", b"1") == b"1"]
        buffer = io.BytesIO()
        pq.write_table(table.select(old).replace_schema_metadata({"schema_version": "1"}), buffer)
        output.put(key, buffer.getvalue())
        manifest = json.loads(output.get(f"runs/{run}.json"))
        for entry in manifest["files"]:
            entry["bytes"] = len(buffer.getvalue()) if entry["path"] == key else entry["bytes"]
        output.put(f"runs/{run}.json", json.dumps(manifest).encode())


def test_a_run_that_processed_nothing_leaves_empty_views_with_all_columns(tmp_path: Path) -> None:
    output = Store(str(tmp_path))
    paths, manifest, _ = stage(output, Job(FIRST, OLD, {}, unchanged=7))
    publish(output, paths, manifest.model_copy(update={"files": ()}), [])
    with connect(str(tmp_path)) as connection:
        for table in schemas.TABLES:
            assert rows(connection, f"SELECT * FROM {table}") == []
            assert dict(row[:2] for row in rows(connection, f"DESCRIBE {table}")) == {
                f.name: sql_type(f.type) for f in view_schema(table)
            }
        assert rows(connection, "SELECT listed, unchanged FROM runs") == [(7, 7)]


@pytest.mark.parametrize(
    "path", ["../x.parquet", "decisions/date=2026-11-20/run=x/../../../x.parquet", "/etc/passwd", "_staging/x.parquet"]
)
def test_a_manifest_that_names_files_elsewhere_is_refused(path: str, tmp_path: Path) -> None:
    output = Store(str(tmp_path))
    write_results(output, JOBS[:1])
    manifest = json.loads(output.get(f"runs/{FIRST}.json"))
    manifest["files"][0]["path"] = path
    output.put(f"runs/{FIRST}.json", json.dumps(manifest).encode())
    with pytest.raises(OutputError, match="but such files are never there"):
        connect(str(tmp_path))


def test_published_files_that_are_gone_are_named(tmp_path: Path) -> None:
    for where in (str(tmp_path), "memory://query-gone"):
        output = Store(where)
        write_results(output, JOBS[:1])
        gone = files(output, "decisions", FIRST)[0]
        output.delete(gone)
        with pytest.raises(SettingsError, match="cannot read") as caught, connect(where) as connection:
            rows(connection, "SELECT count(*) FROM decisions")
        assert gone in str(caught.value)
        assert "\n" not in str(caught.value)


# -- what SQL may do


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM read_parquet('https://example.com/x.parquet')",
        "COPY (SELECT 1) TO '{folder}/new.parquet'",
        "COPY (SELECT 1) TO '{folder}/../new.csv' (USE_TMP_FILE false)",
        "ATTACH '{folder}/new.db'",
        "EXPORT DATABASE '{folder}/new'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET allowed_paths = ['/']",
        "RESET lock_configuration",
        "SET temp_directory = '/'",
        "SELECT * FROM mine",
    ],
)
def test_sql_reads_the_results_and_nothing_else(sql: str, folder: Path) -> None:
    mine = pa.table({"x": [1]})  # a variable of this function
    before = sorted(folder.parent.rglob("*"))
    with connect(str(folder)) as connection:
        with pytest.raises(duckdb.Error):
            connection.execute(sql.format(folder=folder))
        assert rows(connection, "SELECT count(*) FROM decisions") == [(31,)]
    assert sorted(folder.parent.rglob("*")) == before
    assert mine.num_rows == 1


def test_files_in_a_bucket_cannot_be_written() -> None:
    output = Store("memory://query-writing")
    write_results(output, JOBS[:1])
    key = files(output, "decisions", FIRST)[0]
    before = output.get(key)
    with connect(output.uri) as connection:
        for how in ("", "(USE_TMP_FILE false)"):
            with pytest.raises(duckdb.Error):
                connection.execute(f"COPY (SELECT 1) TO 'results://{key}' {how}")
    assert output.get(key) == before


def test_tables_of_ones_own_can_be_joined_with_the_views(folder: Path) -> None:
    with connect(str(folder)) as connection:
        connection.register("mine", pa.table({"rule": ["beer"], "team": ["drinks"]}))
        assert rows(connection, "SELECT DISTINCT team FROM scores JOIN mine USING (rule)") == [("drinks",)]
        assert connection.cursor().execute("SELECT count(*) FROM decisions").fetchall() == [(31,)]


# -- every reader sees the same


def test_pandas_polars_duckdb_and_pyarrow_read_equal_tables(folder: Path) -> None:
    import pandas as pd

    for table in ("decisions", "scores", "embeddings"):
        kept = schemas.schema_of(table, 8)
        path = folder / files(Store(str(folder)), table, THIRD)[0]
        written = pq.ParquetFile(path).read()
        assert written.schema.equals(kept, check_metadata=True)
        readings = {
            "pandas": pa.Table.from_pandas(pd.read_parquet(path, dtype_backend="pyarrow"), preserve_index=False),
            "polars": pl.read_parquet(path, hive_partitioning=False).to_arrow(),
            "duckdb": duckdb.sql(f"SELECT * FROM read_parquet('{path}', hive_partitioning = false)").to_arrow_table(),
            "dataset": ds.dataset(path).to_table(),
        }
        for reader, found in readings.items():
            assert found.column_names == kept.names, reader
            assert alike(found) == alike(written), (reader, table)


def alike(table: pa.Table) -> list[dict[str, object]]:
    found: list[dict[str, object]] = table.to_pylist()
    return [{k: v.astimezone(UTC) if isinstance(v, datetime) else v for k, v in row.items()} for row in found]


def test_image_rules_are_flat_and_of_the_newest_decisions(connection: duckdb.DuckDBPyConnection) -> None:
    found = select(connection, "SELECT * FROM image_rules")
    assert not [kind for kind in map(str, found.types) if "[]" in kind or "MAP" in kind]
    assert len(set(found.columns)) == len(found.columns)
    images, pairs = rows(connection, "SELECT count(DISTINCT uri), count(*) FROM image_rules")[0]
    assert images == rows(connection, "SELECT count(*) FROM latest_decisions WHERE status = 'scored'")[0][0]
    assert pairs == rows(connection, "SELECT count(DISTINCT uri || rule) FROM image_rules")[0][0]
    by_list = "SELECT count(*) FROM (SELECT unnest({0}) FROM latest_decisions)"
    for column, listed in (("flags", "flags"), ("would_flag", "shadow_flags")):
        counted = rows(connection, f"SELECT count(*) FILTER ({column}) FROM image_rules")
        assert counted == rows(connection, by_list.format(listed))
    deciding = rows(connection, "SELECT count(*) FILTER (decides) FROM image_rules")
    assert deciding == rows(connection, "SELECT count(*) FILTER (flagged) FROM latest_decisions")


def test_perceptual_hashes_can_be_compared_in_sql(connection: duckdb.DuckDBPyConnection) -> None:
    zeros = "0" * 60
    sql = f"SELECT pdq_distance('ff00{zeros}', '0F01{zeros}'), pdq_distance(NULL, 'ff00{zeros}')"
    assert rows(connection, sql) == [(5, None)]


def test_a_quarantined_run_is_named_where_none_is_published(tmp_path: Path) -> None:
    folder = tmp_path / "my results"
    output = Store(str(folder))
    paths, manifest, receipts = stage(output, Job(FIRST, OLD, AT_FIRST))
    flood = CheckResult(name="flood", description="most images are not blocked", severity="fail", passed=False)
    quarantine(output, paths, manifest.model_copy(update={"checks": (flood,)}), receipts)
    for ask in (lambda: connect(str(folder)), lambda: open_archive(output)):
        with pytest.raises(SettingsError) as caught:
            ask()
        assert f"{FIRST} is quarantined, since quality checks failed: flood" in str(caught.value)
        command = re.search(r"`(moderate runs release [^`]+)`", str(caught.value))
        assert command
        assert shlex.split(command[1])[3:6] == [FIRST, "--results", str(folder)]
