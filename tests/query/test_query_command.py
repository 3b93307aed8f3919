"""`moderate query` as users meet it: exit codes, one-line errors, tables, CSV, JSON and Parquet that do no harm."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from needs import needs_bash
from published import AT_FIRST, write_results

from moderation import cli
from moderation.storage import Store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results that no test changes."""
    path = tmp_path_factory.mktemp("query") / "results"
    write_results(Store(str(path)))
    return path


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Ask = Callable[..., Answer]


@pytest.fixture
def ask(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """`moderate query` in this process."""
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str, results: str | None = None) -> Answer:
        monkeypatch.setattr(sys, "argv", ["moderate", "query", "--results", results or str(folder), *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Answer(code, *capsys.readouterr())

    return run


def test_a_table_shows_hostile_text_harmlessly(ask: Ask) -> None:
    found = ask("SELECT split_part(uri, '/', -1) AS \"[b]name\", top_score FROM latest_decisions ORDER BY 1")
    assert (found.code, found.err) == (0, "")
    assert "new␊line 😀␛[31m.jpg" in found.out
    assert "<b>[red].jpg" in found.out
    assert "[b]name" in found.out
    assert "\x1b" not in found.out
    assert "0.46875" in found.out
    assert "null" in found.out  # errors have no score


def test_long_answers_are_cut_with_a_note(ask: Ask) -> None:
    found = ask("SELECT range AS n FROM range(1234)")
    assert "│   49 │" in found.out or "│ 49 │" in found.out
    assert "… and 1,184 more rows: use --csv" in found.out
    assert "and at least 100,000 more rows" in ask("SELECT range AS n FROM range(10_000_000_000)").out
    assert "no rows" in ask("SELECT * FROM decisions WHERE uri = 'nothing'").out
    assert "more row" not in ask("SELECT range AS n FROM range(50)").out


def test_wide_answers_are_shown_as_records(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    found = ask("SELECT * FROM decisions ORDER BY uri")
    lines = found.out.splitlines()
    assert lines[0].strip() == "row 1"
    assert any(line.split()[:1] == ["near_threshold"] for line in lines)
    assert "… and 21 more rows" in found.out
    uris = re.findall(r"^uri +(s3://.*)$", found.out, re.MULTILINE)
    assert uris
    assert "s3://shop/listings/broken.jpg" in uris, "a wrapped URI cannot be copied"


def test_uris_are_not_wrapped_in_tables(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    found = ask("SELECT uri, action FROM latest_decisions WHERE uri LIKE '%rifle%'")
    assert "s3://shop/listings/rifle.jpg" in found.out


FORMULAS = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "＝1+1"]


def test_csv_defuses_formulas_and_leaves_numbers(ask: Ask) -> None:
    listed = ", ".join("'" + f + "'" for f in FORMULAS)
    found = ask("--csv", f'SELECT unnest([{listed}]) AS text, -1 AS number, -0.5::FLOAT AS score, [1] AS "=x"')
    header, *lines = csv.reader(io.StringIO(found.out, newline=""))
    assert header == ["text", "number", "score", "'=x"]
    assert [line[0] for line in lines] == [f"'{formula}" for formula in FORMULAS]
    assert {tuple(line[1:]) for line in lines} == {("-1", "-0.5", "[1]")}


def test_csv_holds_every_row_and_key(ask: Ask) -> None:
    found = ask("--csv", "SELECT uri, flags, near_threshold, top_score, scored_at FROM decisions")
    lines = list(csv.DictReader(io.StringIO(found.out, newline="")))
    assert len(lines) == 31
    assert {f"s3://shop/{name}" for name in AT_FIRST} <= {line["uri"] for line in lines}
    both = next(line for line in lines if "both" in line["uri"])
    assert (both["flags"], both["near_threshold"]) == ('["firearms", "nudity", "beer"]', "true")
    assert (both["top_score"], both["scored_at"]) == ("0.8125", "2026-11-20T03:01:00+00:00")


def test_json_is_an_array_of_objects(ask: Ask) -> None:
    found = ask("--json", "SELECT uri, flags, top_score, date, error_code FROM decisions")
    listed = json.loads(found.out)
    assert len(listed) == 31
    assert {f"s3://shop/{name}" for name in AT_FIRST} <= {row["uri"] for row in listed}
    assert {"uri", "flags", "top_score", "date", "error_code"} == set(listed[0])
    odd = ask(
        "--json",
        "SELECT 'nan'::DOUBLE AS a, 0.9::FLOAT AS b, sum(2) AS c, 1.5 AS d, NULL AS e, MAP {'k': 1} AS f, "
        "{'x': [DATE '2026-11-20']} AS g, INTERVAL 1 DAY AS h, 'ab'::BLOB AS i, '101'::BIT AS j, "
        "TIMESTAMPTZ '2026-11-20 03:00:00+01' AS k, 1 AS a, 'é\n' AS l",
    )
    assert [list(row.values()) for row in json.loads(odd.out)] == [
        [None, 0.9, 2, 1.5, None, {"k": 1}, {"x": ["2026-11-20"]}, "1 day", "ab", "101", "2026-11-20T02:00:00+00:00", 1, "é\n"]
    ]
    assert list(json.loads(odd.out)[0]) == [*"abcdefghijk", "a_1", "l"]
    assert json.loads(ask("--json", "SELECT 1 WHERE false").out) == []


def test_parquet_keeps_types(ask: Ask, tmp_path: Path) -> None:
    target = tmp_path / "answer.parquet"
    sql = "SELECT uri, flags, top_score, scored_at, sum(1) OVER () AS n, INTERVAL 1 DAY AS i FROM decisions ORDER BY uri, run"
    found = ask("--parquet", str(target), sql)
    assert (found.code, found.out) == (0, "")
    assert "31 rows written to" in found.err
    table = pq.read_table(target)
    assert table.num_rows == 31
    assert table.schema.field("top_score").type == pa.float32()
    assert table.schema.field("scored_at").type == pa.timestamp("us", tz="UTC")
    assert table.schema.field("n").type == pa.float64()
    assert table["uri"].to_pylist() == sorted(table["uri"].to_pylist())
    assert [p.name for p in tmp_path.iterdir()] == ["answer.parquet"]
    before = target.read_bytes()
    assert ask("--parquet", str(target), "SELECT error('no') FROM decisions").code == 2
    assert target.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["answer.parquet"]


def test_sql_can_come_from_a_file(ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "query.sql"
    file.write_text("-- one\nSELECT 41 + 1 AS answer;\n", encoding="utf-8-sig")
    assert "42" in ask("--file", str(file)).out
    file.write_text("SELECT 1,\n  2\nFORM decisions x y\n")
    assert ask("--file", str(file)).err.rstrip().endswith("(line 3)")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["SELECT action FROM decision"], ["decision does not exist", 'Did you mean "decisions"']),
        (["SELECT acton FROM decisions"], ['"acton" not found', '"action"']),
        (["SELEC 1"], ["syntax error", "SELEC"]),
        (["SELECT uri::INTEGER FROM decisions"], ["Could not convert", "INT32"]),
        (["SELECT error('a' || chr(10) || chr(27) || '[31mb') FROM decisions"], ["a ␛[31mb"]),
        (["COPY decisions TO 'x.csv'"], ["only SELECT", "COPY"]),
        (["EXPLAIN ANALYZE COPY decisions TO 'x.csv'"], ["only SELECT"]),
        (["PIVOT decisions ON action USING count(*)"], ["PIVOT", "IN ("]),
        (["SELECT 1; SELECT 2"], ["2 statements"]),
        ([" ; "], ["no SQL"]),
        ([], ["no SQL", "latest_decisions"]),
        (["--file", "nope.sql"], ["nope.sql", "No such file"]),
        (["SELECT 1", "--file", "nope.sql"], ["either SQL or --file"]),
        (["SELECT 1", "--csv", "--json"], ["one of --csv, --json and --parquet"]),
        (["SELECT 1", "--parquet", "/nope/x.parquet"], ["cannot write /nope/x.parquet", "No such file"]),
        (["SELECT 1", "--results", "/nope"], ["cannot read results in /nope", "No such file"]),
        (["SELECT 1", "--results", "/usr"], ["no run is published in", "--output"]),
        (["SELECT 1", "--results", "ftp://x"], ["ftp://x", "s3://"]),
    ],
)
def test_mistakes_are_one_clear_line(arguments: list[str], told: list[str], ask: Ask) -> None:
    found = ask(*arguments)
    assert (found.code, found.out) == (2, "")
    assert len(found.err.splitlines()) == 1, found.err
    assert found.err.startswith("error: ")
    for text in told:
        assert text in found.err


def test_a_missing_bucket_is_one_clear_line(ask: Ask, s3_endpoint: str) -> None:
    found = ask("SELECT 1", results="s3://no-such-bucket-here/x")
    assert (found.code, found.err) == (2, "error: cannot read results in s3://no-such-bucket-here/x: no such bucket\n")


def test_control_c_stops_a_query_that_computes(folder: Path) -> None:
    endless = "SELECT count(*) FROM range(100_000_000_000) a, range(100_000_000) b WHERE a.range * b.range = 3"
    command = [sys.executable, "-m", "moderation.cli", "query", "-r", str(folder), "--csv", endless]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert running.stdout is not None
    assert running.stdout.readline() == "count_star()\n"  # from here on it computes
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err) == (130, "", "")


@needs_bash
def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    command = f'"{sys.executable}" -m moderation.cli query -r "{folder}" --csv "SELECT range FROM range(5_000_000)" | head -1'  # noqa: S608
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert (found.stdout, found.stderr) == ("range\n", "")
