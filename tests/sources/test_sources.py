"""Manifests and S3 Inventories: real files, and a real S3."""

import csv
import gzip
import io
import json
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from needs import needs_linux

from moderation.errors import SourceError
from moderation.records import ObjectRef
from moderation.sources import Source, tables
from moderation.sources.inventory import InventorySource
from moderation.sources.manifest_file import EXTENSIONS, ManifestSource, is_manifest, open_listed
from moderation.sources.object_rows import EPOCH
from moderation.storage import Census, Store

HOSTILE = [
    "plain.jpg",
    "new\nline.jpg",
    "carriage\r\nreturn.jpg",
    'quo"te.jpg',
    "'single'.jpg",
    "comma,semicolon;tab\t.jpg",
    "../../etc/passwd",
    "a//b/./c/../d.jpg",
    "emoji-🎃-ünïcödé.jpg",
    "<script>alert(1)</script>.jpg",
    "=cmd|'/c calc'!A1",
    "100% %2B %20 + plus.jpg",
    " spaces around ",
    "null",
    "NA",
    "a\\b.jpg",
    "nul\0.jpg",
    "\x85\u2028.jpg",
]
OBJECTS = [
    ObjectRef(f"s3://bucket/{key}", f"{number:032x}", number + 1, datetime(2026, 11, 21, 3, 0, number, 123456, UTC))
    for number, key in enumerate(HOSTILE)
]
Row = Mapping[str, object]


def rows_of(objects: Sequence[ObjectRef]) -> list[Row]:
    return [{**item._asdict(), "last_modified": item.last_modified.isoformat(), "caption": 'a "pumpkin"'} for item in objects]


def as_csv(rows: Sequence[Row]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_jsonl(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_parquet(table: Sequence[Row] | Mapping[str, Any], **options: Any) -> bytes:
    data = io.BytesIO()
    columns = table if isinstance(table, Mapping) else {name: [row.get(name) for row in table] for name in table[0]}
    pq.write_table(pa.table(dict(columns)), data, **options)
    return data.getvalue()


def written(name: str, rows: Sequence[Row]) -> bytes:
    write = as_csv if ".csv" in name else as_parquet if ".parquet" in name else as_jsonl
    return gzip.compress(write(rows)) if name.endswith(".gz") else write(rows)


def listed(source: Source) -> list[ObjectRef]:
    return [item for page in source.list() for item in page]


def refs(folder: Path, name: str, data: bytes | str) -> list[ObjectRef]:
    (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return listed(ManifestSource(str(folder / name)))


def problem(folder: Path, name: str, data: bytes | str) -> str:
    with pytest.raises(SourceError) as raised:
        refs(folder, name, data)
    return str(raised.value).replace(f"file://{folder}/", "")


@pytest.fixture
def bucket(s3_endpoint: str) -> str:
    name = f"b-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


def upload(bucket: str, key: str, data: bytes) -> str:
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=data)
    return f"s3://{bucket}/{key}"


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_format_names_the_same_objects(tmp_path: Path, extension: str) -> None:
    name = f"manifest{extension}"
    assert refs(tmp_path, name, written(name, rows_of(OBJECTS))) == OBJECTS
    census = Census()
    assert sum(map(len, ManifestSource(str(tmp_path / name)).list(census=census))) == census.objects == len(OBJECTS)


@pytest.mark.parametrize("name", ["lists/today.csv.gz", "today.jsonl", "a b/ü.parquet"])
def test_a_manifest_in_a_bucket_names_objects(bucket: str, name: str) -> None:
    uri = upload(bucket, name, written(name, rows_of(OBJECTS)))
    source = ManifestSource(uri)
    assert listed(source) == OBJECTS
    assert listed(source) == OBJECTS
    assert [item for page in source.list(after=OBJECTS[3].uri) for item in page] == OBJECTS
    assert source.uri == uri
    assert source.is_fixed
    store, key = Store.locate(uri)
    assert source.version == store.head(key).etag != ""


def test_a_manifest_comes_in_pages_with_its_rows_counted(tmp_path: Path) -> None:
    rows: list[Row] = [{"uri": f"s3://b/{number}", "size": number, "etag": "e", "last_modified": 7} for number in range(3_456)]
    for extension in EXTENSIONS:
        (tmp_path / f"m{extension}").write_bytes(written(extension, rows))
        pages = list(ManifestSource(f"{tmp_path}/m{extension}").list())
        assert [item.size for page in pages for item in page] == list(range(3_456))
        assert all(1000 <= len(page) <= 10_000 for page in pages[:-1])
        (tmp_path / f"m{extension}").write_bytes(written(extension, [*rows, {**rows[0], "uri": ""}]))
        with pytest.raises(SourceError, match=r", (row|line) 3457: 'uri' is empty"):
            listed(ManifestSource(f"{tmp_path}/m{extension}"))


def test_row_groups_of_a_manifest_are_parts_that_know_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "PART", 250)
    rows: list[Row] = [{"uri": f"s3://b/{number}", "size": number, "etag": "e", "last_modified": 7} for number in range(1_050)]
    (tmp_path / "m.parquet").write_bytes(as_parquet(rows, row_group_size=100))
    source = ManifestSource(f"{tmp_path}/m.parquet")
    census, parts = Census(), source.parts()
    assert [sum(map(len, part.list(census=census))) for part in parts] == [300, 300, 300, 150]
    assert [item for part in parts for item in listed(part)] == listed(source)
    assert census.objects == 1_050
    (tmp_path / "m.csv").write_bytes(as_csv(rows))
    assert [listed(part) for part in ManifestSource(f"{tmp_path}/m.csv").parts()] == [listed(source)]
    (tmp_path / "m.parquet").write_bytes(as_parquet([*rows[:999], {**rows[0], "uri": ""}], row_group_size=100))
    with pytest.raises(SourceError, match=r"m.parquet, row 1000: 'uri' is empty"):
        listed(ManifestSource(f"{tmp_path}/m.parquet").parts()[-1])


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("a.jpg", "file://{folder}/a.jpg"),
        ("a/b.jpg", "file://{folder}/a/b.jpg"),
        ("./a//b/../c%20d.jpg", "file://{folder}/a/c%20d.jpg"),
        ("/data/a.jpg", "file:///data/a.jpg"),
        ("//data/../a.jpg", "file:///a.jpg"),
        ("file:///data/../a%20b.jpg", "file:///data/../a%20b.jpg"),
        ("a b://c.jpg", "file://{folder}/a b:/c.jpg"),
        ("S3://Bucket/../A.jpg", "s3://Bucket/../A.jpg"),
        ("gs://bucket//a.jpg", "gs://bucket//a.jpg"),
        ("https://example.com/a.jpg", "https://example.com/a.jpg"),
        ("{folder}/x/a.jpg", "file://{folder}/x/a.jpg"),
    ],
)
def test_names_in_a_local_manifest_are_resolved(tmp_path: Path, given: str, meant: str) -> None:
    found = refs(tmp_path, "m.jsonl", as_jsonl([{"uri": given.format(folder=tmp_path)}]))
    assert found == [ObjectRef(meant.format(folder=tmp_path), "", 0, EPOCH)]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("a.jpg", "{folder}/a.jpg"),
        ("../a//./b%20.jpg", "{folder}/../a//./b%20.jpg"),
        ("/etc/passwd", "file:///etc/passwd"),
        ("s3://other/a.jpg", "s3://other/a.jpg"),
    ],
)
def test_names_in_a_manifest_in_a_bucket_are_resolved(given: str, meant: str) -> None:
    folder = f"memory://{uuid.uuid4().hex}/lists"
    Store(folder).put("m.jsonl", as_jsonl([{"uri": given}]))
    assert [item.uri for item in listed(ManifestSource(f"{folder}/m.jsonl"))] == [meant.format(folder=folder)]


def test_a_manifest_is_found_however_its_path_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in here").mkdir()
    (tmp_path / "in here" / "m 1.csv").write_text("uri\na.jpg\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = f"file://{tmp_path}/in here/m 1.csv"
    for location in (
        "in here/m 1.csv",
        "~/in here/m 1.csv",
        expected,
        expected.replace(" ", "%20"),
        "./in here/../in here/m 1.csv",
    ):
        source = ManifestSource(location)
        assert source.uri == expected
        assert [item.uri for item in listed(source)] == [f"file://{tmp_path}/in here/a.jpg"]


def test_patterns_see_the_key_in_its_bucket_or_below_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("uri\n")
    source = ManifestSource(str(tmp_path / "m.csv"))
    assert source.key_of("s3://b/a/b.jpg") == "a/b.jpg"
    assert source.key_of("s3://b//../b.jpg") == "/../b.jpg"
    assert source.key_of(f"file://{tmp_path}/a/b.jpg") == "a/b.jpg"
    assert source.key_of(f"file://{tmp_path}-other/b.jpg") == f"{tmp_path}-other/b.jpg".lstrip("/")
    assert source.key_of("s3://b") == ""


@pytest.mark.parametrize(
    ("size", "time"), [("", ""), ("5", ""), ("", "2026-11-21T03:00:00Z"), (None, None), (5, None), (None, 1795230000)]
)
def test_an_etag_without_size_and_time_is_unknown(tmp_path: Path, size: object, time: object) -> None:
    row = {"uri": "s3://b/a", "etag": "abc", "size": size, "last_modified": time}
    whole = {"uri": "s3://b/b", "etag": '"abc"', "size": 5, "last_modified": "2026-11-21T03:00:00Z"}
    moment = datetime(2026, 11, 21, 3, tzinfo=UTC)
    expected = [
        ObjectRef("s3://b/a", "", 5 if size else 0, moment if time else EPOCH),
        ObjectRef("s3://b/b", "abc", 5, moment),
    ]
    for name, write in (("m.csv", as_csv), ("m.jsonl", as_jsonl)):
        assert refs(tmp_path, name, write([row, whole])) == expected


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("2026-11-21T03:00:00Z", datetime(2026, 11, 21, 3, tzinfo=UTC)),
        ("2026-11-21T03:00:00.123Z", datetime(2026, 11, 21, 3, 0, 0, 123000, tzinfo=UTC)),
        ("2026-11-21 05:00:00+02:00", datetime(2026, 11, 21, 3, tzinfo=UTC)),
        ("2026-11-21 03:00:00", datetime(2026, 11, 21, 3, tzinfo=UTC)),
        ("2026-11-21", datetime(2026, 11, 21, tzinfo=UTC)),
        ("1711111111", datetime.fromtimestamp(1711111111, UTC)),
        (1711111111, datetime.fromtimestamp(1711111111, UTC)),
        ("1711111111.5", datetime.fromtimestamp(1711111111.5, UTC)),
        (1711111111.5, datetime.fromtimestamp(1711111111.5, UTC)),
    ],
)
def test_times_are_read_in_every_usual_form(tmp_path: Path, given: object, meant: datetime) -> None:
    row = {"uri": "s3://b/a", "etag": "e", "size": 1, "last_modified": given}
    expected = [ObjectRef("s3://b/a", "e", 1, meant)]
    assert refs(tmp_path, "m.jsonl", as_jsonl([row])) == expected
    assert refs(tmp_path, "m.csv", as_csv([row])) == expected
    assert refs(tmp_path, "m.parquet", as_parquet([row])) == expected
    assert refs(tmp_path, "m.csv", as_csv([row, {**row, "last_modified": "2026-11-21"}]))[:1] == expected


def test_sizes_are_read_in_every_usual_form(tmp_path: Path) -> None:
    for value, meant in (("7", 7), (7, 7), (7.0, 7), ("7.0", 7), (2**63 - 1, 2**63 - 1)):
        row = {"uri": "s3://b/a", "size": value}
        assert refs(tmp_path, "m.jsonl", as_jsonl([row]))[0].size == meant
        assert refs(tmp_path, "m.csv", as_csv([row]))[0].size == meant
        assert refs(tmp_path, "m.parquet", as_parquet([row]))[0].size == meant


def test_parquet_types_of_many_writers_are_read(tmp_path: Path) -> None:
    moment = datetime(2026, 11, 21, 3, 0, 0, 123000)
    text = pa.array(["s3://b/a", "s3://b/b"])
    texts = [text, text.cast(pa.large_string()), text.dictionary_encode(), text.cast(pa.binary()), text.cast(pa.string_view())]
    times = [
        pa.array([moment, None], pa.timestamp(unit, zone))
        for unit in ("ms", "us", "ns")
        for zone in (None, "UTC", "Asia/Tokyo")
    ]
    for uris in texts:
        for stamps in times:
            data = as_parquet({"uri": uris, "etag": ["x", "y"], "size": [1.0, float("nan")], "last_modified": stamps})
            utc = moment.replace(tzinfo=UTC)
            assert refs(tmp_path, "m.parquet", data) == [
                ObjectRef("s3://b/a", "x", 1, utc),
                ObjectRef("s3://b/b", "", 0, EPOCH),
            ]


def test_csv_and_json_of_many_writers_are_read(tmp_path: Path) -> None:
    two = ["s3://b/a", "s3://b/b"]
    for text in (
        "uri\ns3://b/a\ns3://b/b",
        "\ufeffuri\r\ns3://b/a\r\n\r\ns3://b/b\r\n",
        '\n"uri"\n"s3://b/a"\n\n"s3://b/b"\n\n',
        '\ufeff"uri","size"\n"s3://b/a",""\n"s3://b/b",\n',
        "note,uri\nx,s3://b/a\n,s3://b/b\n",
    ):
        assert [item.uri for item in refs(tmp_path, "m.csv", text)] == two
    for text in (
        '{"uri": "s3://b/a"}\n{"uri": "s3://b/b"}',
        '\ufeff{"uri": "s3://b/a"}\r\n\r\n  \n{"x": {"uri": 1}, "uri": "s3://b/b"}\r\n',
    ):
        assert [item.uri for item in refs(tmp_path, "m.jsonl", text)] == two
    for name, data in (
        ("m.csv", b"uri,etag\n"),
        ("m.csv", b"uri"),
        ("m.jsonl", b""),
        ("m.jsonl", b"\n \n"),
        ("m.parquet", as_parquet({"uri": pa.array([], pa.string())})),
        ("m.csv.gz", gzip.compress(b"uri\n")),
    ):
        assert refs(tmp_path, name, data) == []


GZIPPED = gzip.compress(as_csv(rows_of(OBJECTS * 50)))
PARQUET = as_parquet(rows_of(OBJECTS))
ROW = "etag,size,last_modified\ns3://b/1,e,1,2026-11-21\n"
ONE_OBJECT = "write one JSON object on each line"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("m.csv", "", "m.csv has no column 'uri', nor any other: one column must have exactly the name 'uri'"),
        ("m.csv", "url,etag\n", "m.csv has no column 'uri', only 'url', 'etag': rename 'url'"),
        ("m.csv", "URI\n", "m.csv has no column 'uri', only 'URI': rename 'URI'"),
        ("m.csv", " uri\n", "m.csv has no column 'uri', only ' uri': rename ' uri'"),
        ("m.csv", "uri;etag\n", "m.csv has no column 'uri', only 'uri;etag': commas must separate the columns"),
        ("m.csv", "s3://b/1\n", "m.csv has no column 'uri', only 's3://b/1': one column must have exactly the name 'uri'"),
        ("m.csv", "uri,uri\n", "m.csv has two columns 'uri': remove one"),
        ("m.csv", "uri,x\ns3://b/1,\n,\n", "m.csv, row 2: 'uri' is empty: name an object, or remove the row"),
        ("m.csv", 'uri\ns3://b/1\n\n""\n', "m.csv, row 2: 'uri' is empty: name an object, or remove the row"),
        (
            "m.csv",
            "uri\ns3://b/1,2.jpg\n",
            "m.csv, row 1: 2 values where 1 belong: put quotes around values that contain commas",
        ),
        ("m.csv", 'uri\n\na\n"b\nc\n', "m.csv, line 5: not valid CSV, unexpected end of data: is a quote missing?"),
        ("m.csv", 'uri\n"a"b"\n', "m.csv, line 2: not valid CSV, ',' expected after '\"': is a quote missing?"),
        (
            "m.csv",
            f'uri\n"{"x" * 99}\n'.ljust(200_000, "y"),
            "m.csv, line 3: not valid CSV, field larger than field limit (131072)",
        ),
        ("m.csv", "uri\n" + "x" * (2 << 20), "m.csv, line 2: longer than 1 MiB: is this a csv file?"),
        ("m.csv", b"uri\ns3://b/\xfc\n", "m.csv, line 2: not UTF-8 (invalid start byte): save the file as UTF-8"),
        ("m.csv", "uri\n".encode("utf-16"), "m.csv, line 1: not UTF-8 (invalid start byte): save the file as UTF-8"),
        (
            "m.csv",
            f"uri,{ROW}s3://b/2,e,1.5,2026-11-21\n",
            "m.csv, row 2: 'size' is '1.5': give whole bytes, or leave it empty",
        ),
        ("m.csv", f"uri,{ROW}s3://b/2,e,-1,2026-11-21\n", "m.csv, row 2: 'size' is '-1': give whole bytes, or leave it empty"),
        ("m.csv", f"uri,{ROW}s3://b/2,e,1,yesterday\n", "m.csv, row 2: 'last_modified' is 'yesterday': give ISO 8601, such as"),
        ("m.csv", f"uri,{ROW}s3://b/2,e,1,1711111111111\n", "m.csv, row 2: 'last_modified' is '1711111111111': give ISO 8601"),
        ("m.csv.gz", GZIPPED[:-200], "m.csv.gz is cut short: copy it again, or write it again"),
        ("m.csv.gz", b"", "m.csv.gz is cut short: copy it again, or write it again"),
        ("m.csv.gz", b"uri\na.jpg\n", "m.csv.gz is not valid gzip: copy it again, or write it again"),
        ("m.csv.gz", GZIPPED[:50] + b"xxxx" + GZIPPED[54:], "m.csv.gz is not valid gzip: copy it again, or write it again"),
        ("m.jsonl", '\n{"url": "s3://b/1"}\n', "m.jsonl, line 2, has no column 'uri', only 'url': rename 'url'"),
        (
            "m.jsonl",
            '{"uri": "a"}\n{"uri": null}\n',
            "m.jsonl, line 2: 'uri' is empty: name an object, or remove the row",
        ),
        ("m.jsonl", '{"uri": 7}\n', "m.jsonl, line 1: 'uri' is 7: give text"),
        ("m.jsonl", '{"uri": "a", "etag": 7}\n', "m.jsonl, line 1: 'etag' is 7: give text"),
        ("m.jsonl", '{"uri": "a", "size": true}\n', "m.jsonl, line 1: 'size' is True: give whole bytes, or leave it empty"),
        ("m.jsonl", '{"uri": "a", "size": 1e400}\n', "m.jsonl, line 1: 'size' is inf: give whole bytes, or leave it empty"),
        ("m.jsonl", '{"uri": "a", "last_modified": {}}\n', "m.jsonl, line 1: 'last_modified' is {}: give ISO 8601, such as"),
        ("m.jsonl", '{"uri": "a\\ud800"}\n', "m.jsonl, line 1: 'uri' is 'a\\ud800', which contains half a character"),
        ("m.jsonl", '{"uri": "a"}\n{"uri": "b\n', f"m.jsonl, line 2: not JSON, Invalid control character at: {ONE_OBJECT}"),
        ("m.jsonl", '{"uri": "a"} {"uri": "b"}\n', f"m.jsonl, line 1: not JSON, Extra data: {ONE_OBJECT}"),
        ("m.jsonl", '{"uri": "a"},{"uri": "b"}\n', f"m.jsonl, line 1: not JSON, Extra data: {ONE_OBJECT}"),
        ("m.jsonl", '[{"uri": "a"}]\n', f"m.jsonl, line 1: a JSON list: {ONE_OBJECT}"),
        ("m.jsonl", "[" * 100_000, "m.jsonl, line 1: not JSON, maximum recursion depth exceeded"),
        (
            "m.jsonl",
            b'{"uri": "a"}\n{"uri": "\xff"}\n',
            "m.jsonl, line 2: not UTF-8 (invalid start byte): save the file as UTF-8",
        ),
        ("m.parquet", b"", "m.parquet is not a valid parquet file: Parquet file size is 0 bytes"),
        ("m.parquet", b"uri\na.jpg\n" * 9, "m.parquet is not a valid parquet file: Parquet magic bytes not found in footer."),
        ("m.parquet", PARQUET[:-100], "m.parquet is not a valid parquet file: Parquet magic bytes not found in footer."),
        ("m.parquet", PARQUET[:4] + b"x" * 300 + PARQUET[304:], "m.parquet is not a valid parquet file: "),
        ("m.parquet", as_parquet({"url": ["a"]}), "m.parquet has no column 'uri', only 'url': rename 'url'"),
        ("m.parquet", as_parquet({"uri": ["a", None]}), "m.parquet, row 2: 'uri' is empty: name an object, or remove the row"),
        ("m.parquet", as_parquet({"uri": [1]}), "m.parquet, row 1: 'uri' is 1: give text"),
        ("m.parquet", as_parquet({"uri": [["a"]]}), "m.parquet: the column 'uri' is list<element: string>: give single values"),
        ("m.parquet", as_parquet({"uri": [b"\xff"]}), "m.parquet is not a valid parquet file: Invalid UTF8 payload"),
        ("m.parquet", as_parquet({"uri": ["a"], "size": [-1]}), "m.parquet, row 1: 'size' is -1: give whole bytes"),
        (
            "m.parquet",
            as_parquet({"uri": ["a"], "last_modified": pa.array([2**58], pa.timestamp("us"))}),
            "m.parquet, rows 1 to 1: date value out of range",
        ),
    ],
)
def test_what_is_wrong_with_a_manifest_is_said_in_one_line(tmp_path: Path, name: str, data: bytes | str, message: str) -> None:
    found = problem(tmp_path, name, data)
    assert found.startswith(message)
    assert "\n" not in found
    assert len(found) < 300


def test_what_is_wrong_at_the_start_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("url\n")
    with pytest.raises(SourceError, match="rename 'url'"):
        ManifestSource(str(tmp_path / "m.csv"))


def test_missing_manifests_are_reported_in_one_line(tmp_path: Path, bucket: str) -> None:
    missing = f"{tmp_path}/none.csv"
    with pytest.raises(SourceError, match=r"cannot read '.*none.csv': No such file .*; if it is a folder, end it with a slash"):
        ManifestSource(missing)
    with pytest.raises(SourceError, match=r"cannot read 's3://.*/none.csv': "):
        ManifestSource(f"s3://{bucket}/none.csv")
    with pytest.raises(SourceError, match="give a folder, or a URI that starts with"):
        ManifestSource("https://example.com/m.csv")
    with pytest.raises(SourceError, match=r"as a manifest: its name must end in \.csv, \.csv\.gz, "):
        ManifestSource("images.zip")
    with pytest.raises(SourceError, match="cannot read"):
        ManifestSource("~nobody-of-that-name/m.csv")


def test_a_manifest_that_changes_while_it_is_read_is_an_error(tmp_path: Path, bucket: str) -> None:
    uri = upload(bucket, "m.csv", b"uri\ns3://b/1\n")
    source = ManifestSource(uri)
    upload(bucket, "m.csv", b"uri\ns3://b/2\n")
    with pytest.raises(
        SourceError,
        match=r"m\.csv changed while it was being read: start a new run, and do not "
        r"change the file meanwhile",
    ):
        listed(source)

    path = tmp_path / "m.csv"
    path.write_text("uri,note\n" + f"s3://b/1,{'x' * 10_000}\n" * 2000)  # more than is fetched at once
    pages = ManifestSource(str(path)).list()
    assert next(pages)
    path.write_text("uri\n")
    with pytest.raises(SourceError, match="changed while it was being read"):
        list(pages)


def test_a_large_manifest_is_fetched_in_few_requests(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = upload(bucket, "m.csv", b"uri,note\n" + b"s3://b/1,%s\n" % (b"x" * 10_000) * 1500)
    requests = []
    fetch = Store.locate(uri)[0]._backend.get_range
    monkeypatch.setattr(
        "moderation.storage.s3.S3Backend.get_range", lambda self, *asked: requests.append(asked) or fetch(*asked)
    )
    source = ManifestSource(uri)
    requests.clear()
    assert len(listed(source)) == 1500
    assert 1 < len(requests) < 6


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("s3://b/lists/today.csv", True),
        ("s3://b/lists/TODAY.CSV.GZ", True),
        ("today.ndjson.gz", True),
        ("gs://b/x/manifest.json", True),
        ("manifest.json", True),
        ("s3://b/my-manifest.json", False),
        ("s3://b/x.csv/", False),
        ("s3://b/x", False),
        ("photos", False),
        ("x.json", False),
        ("x.gz", False),
        ("s3://b", False),
    ],
)
def test_a_file_that_lists_is_known_by_its_name(location: str, kind: bool) -> None:
    assert is_manifest(location) is kind


def test_manifests_and_folders_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    assert open_listed(str(tmp_path / "folder.csv")) is None
    assert open_listed(f"file://{tmp_path}/folder.csv") is None
    assert open_listed(str(tmp_path)) is None
    (tmp_path / "m.csv").write_text("uri\n")
    assert isinstance(open_listed(str(tmp_path / "m.csv")), ManifestSource)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(SourceError, match="is not an S3 Inventory manifest"):
        open_listed(str(tmp_path / "manifest.json"))


KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@settings(deadline=None, max_examples=60)
@given(keys=st.lists(KEYS, min_size=1, max_size=8))
def test_any_key_comes_through_unharmed(tmp_path_factory: pytest.TempPathFactory, keys: list[str]) -> None:
    folder = tmp_path_factory.getbasetemp()
    rows: list[Row] = [{"uri": f"s3://b/{key}"} for key in keys]
    for name, write in (("any.csv", as_csv), ("any.jsonl", as_jsonl), ("any.parquet", as_parquet)):
        assert [item.uri for item in refs(folder, name, write(rows))] == [f"s3://b/{key}" for key in keys]


# ---- S3 Inventory ----

SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass, IsMultipartUploaded"
IN_PARQUET = {
    "Bucket": "bucket",
    "Key": "key",
    "VersionId": "version_id",
    "IsLatest": "is_latest",
    "IsDeleteMarker": "is_delete_marker",
    "Size": "size",
    "LastModifiedDate": "last_modified_date",
    "ETag": "e_tag",
    "StorageClass": "storage_class",
    "IsMultipartUploaded": "is_multipart_uploaded",
}
NOTED = datetime(2026, 11, 21, 3, 0, 0, 123000, UTC)


def entry(key: str, **fields: object) -> Row:
    given = {"VersionId": None, "IsLatest": True, "IsDeleteMarker": False, "Size": 5, "LastModifiedDate": NOTED, "ETag": "abc"}
    return {"Bucket": "photos", "Key": key, **given, "StorageClass": "STANDARD", "IsMultipartUploaded": False, **fields}


def cell(column: str, value: object) -> object:
    if column == "Key":
        return quote_plus(str(value), safe="/")
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03d}Z" if isinstance(value, datetime) else value


def inventory_data(entries: Sequence[Row], file_format: str) -> bytes:
    """As S3 writes it: CSV without a header and with escaped keys, or Parquet."""
    if file_format == "Parquet":
        return as_parquet([{IN_PARQUET[name]: value for name, value in item.items()} for item in entries])
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([cell(name, value) for name, value in item.items()] for item in entries)
    return gzip.compress(text.getvalue().encode())


def inventory(parts: Sequence[Sequence[Row]], file_format: str, bucket: str = "reports", **fields: object) -> dict[str, bytes]:
    """An inventory's objects by key, in S3's own layout."""
    kind = "csv.gz" if file_format == "CSV" else "parquet"
    data = {f"inv/photos/daily/data/{n}.{kind}": inventory_data(part, file_format) for n, part in enumerate(parts)}
    manifest = {
        "sourceBucket": "photos",
        "destinationBucket": f"arn:aws:s3:::{bucket}",
        "version": "2016-11-30",
        "creationTimestamp": "1795230000000",
        "fileFormat": file_format,
        "fileSchema": ", ".join(parts[0][0])
        if file_format == "CSV"
        else "message s3.inventory { required binary bucket (UTF8); }",
        "files": [
            {"key": key, "size": len(part), "MD5checksum": "f11166069f1990abeb9c97ace9cdfabc"} for key, part in data.items()
        ],
        **fields,
    }
    return {**data, "inv/photos/daily/2026-11-21T01-00Z/manifest.json": json.dumps(manifest).encode()}


MANIFEST = "inv/photos/daily/2026-11-21T01-00Z/manifest.json"


def copied(folder: Path, files: Mapping[str, bytes]) -> str:
    for key, data in files.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)
    return str(folder / MANIFEST)


def inventory_problem(folder: Path, files: Mapping[str, bytes]) -> str:
    with pytest.raises(SourceError) as raised:
        listed(InventorySource(copied(folder, files)))
    assert "\n" not in str(raised.value)
    return str(raised.value).replace(f"file://{folder}/inv/photos/daily/", "")


@pytest.mark.parametrize(("file_format", "arn"), [("CSV", "arn:aws:s3:::{}"), ("Parquet", "arn:aws-cn:s3:::{}"), ("CSV", "{}")])
def test_an_s3_inventory_in_s3_names_its_objects(bucket: str, file_format: str, arn: str) -> None:
    parts = [[entry(key) for key in HOSTILE[:9]], [entry(key, ETag=f"{'a' * 32}-7") for key in HOSTILE[9:]]]
    for key, data in inventory(parts, file_format, destinationBucket=arn.format(bucket)).items():
        upload(bucket, key, data)
    source = InventorySource(f"s3://{bucket}/{MANIFEST}")
    expected = [ObjectRef(f"s3://photos/{key}", "abc", 5, NOTED) for key in HOSTILE]
    assert [item._replace(etag="abc") for item in listed(source)] == expected
    assert {item.etag for item in listed(source)} == {"abc", f"{'a' * 32}-7"}
    assert [listed(part) for part in source.parts()] == [listed(source)[:9], listed(source)[9:]]
    assert source.uri == f"s3://{bucket}/{MANIFEST}"
    assert source.is_fixed
    assert source.version == Store(f"s3://{bucket}").head(MANIFEST).etag
    assert source.key_of("s3://photos/a/b.jpg") == "a/b.jpg"


@pytest.mark.parametrize("file_format", ["CSV", "Parquet"])
def test_only_current_versions_of_objects_count(tmp_path: Path, file_format: str) -> None:
    gone = {"IsDeleteMarker": True, "Size": None, "ETag": None}
    entries = [
        entry("old.jpg", IsLatest=False, VersionId="1"),
        entry("deleted.jpg", **gone),
        entry("deleted.jpg", IsLatest=False),
        entry("folder/", Size=0),
        entry("folder/a.jpg", VersionId="2"),
        entry("undeleted.jpg"),
        entry("undeleted.jpg", IsLatest=False, **gone),
        entry("looks like one/", Size=5),
        entry("empty.jpg", Size=0),
        entry("literal%2F", Size=0),
    ]
    source = InventorySource(copied(tmp_path, inventory([entries], file_format)))
    keys = ["folder/a.jpg", "undeleted.jpg", "looks like one/", "empty.jpg", "literal%2F"]
    assert [source.key_of(item.uri) for item in listed(source)] == keys
    census = Census()
    assert sum(map(len, source.list(census=census))) == census.objects == len(keys)
    assert listed(InventorySource(copied(tmp_path, inventory([entries[:4]], file_format)))) == []


def test_keys_in_csv_are_escaped_as_in_a_form(tmp_path: Path) -> None:
    written = "plain.jpg a+b a%20b a%2Bb 100%25 %252B %F0%9F%8E%83 a%0Ab %22q%22 ..%2F..%2Fx"
    meant = ["plain.jpg", "a b", "a b", "a+b", "100%", "%2B", "🎃", "a\nb", '"q"', "../../x"]
    files = inventory([[entry("")]], "CSV")
    data = gzip.compress("".join(f'"photos","{key}"\n' for key in written.split()).encode())
    manifest = {**json.loads(files.pop(MANIFEST)), "fileSchema": "Bucket, Key"}
    (key,) = files
    manifest["files"][0]["size"] = len(data)
    source = InventorySource(copied(tmp_path, {key: data, MANIFEST: json.dumps(manifest).encode()}))
    assert listed(source) == [ObjectRef(f"s3://photos/{key}", "", 0, EPOCH) for key in meant]


@pytest.mark.parametrize("file_format", ["CSV", "Parquet"])
@pytest.mark.parametrize("lacking", ["Size", "LastModifiedDate", "ETag", "IsLatest", "IsDeleteMarker", "VersionId"])
def test_an_inventory_may_lack_fields(tmp_path: Path, file_format: str, lacking: str) -> None:
    parts = [[{name: value for name, value in entry("a.jpg").items() if name != lacking}]]
    etag = "" if lacking in {"Size", "LastModifiedDate", "ETag"} else "abc"
    size = 0 if lacking == "Size" else 5
    time = EPOCH if lacking == "LastModifiedDate" else NOTED
    source = InventorySource(copied(tmp_path, inventory(parts, file_format)))
    assert listed(source) == [ObjectRef("s3://photos/a.jpg", etag, size, time)]


@pytest.mark.parametrize("place", ["data/0.csv.gz", "../data/0.csv.gz", "0.csv.gz"])
def test_a_local_copy_of_an_inventory_is_read(tmp_path: Path, bucket: str, place: str) -> None:
    data, manifest = inventory([[entry("a.jpg")]], "CSV", bucket="no-such-bucket-anywhere").values()
    folder = (tmp_path / "copy" / "2026").resolve()
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(manifest)
    target = (folder / place).resolve()
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(data)
    expected = [ObjectRef("s3://photos/a.jpg", "abc", 5, NOTED)]
    assert listed(InventorySource(str(folder / "manifest.json"))) == expected
    for file in (folder / "manifest.json", target):
        upload(bucket, file.relative_to(tmp_path).as_posix(), file.read_bytes())
    assert listed(InventorySource(f"s3://{bucket}/copy/2026/manifest.json")) == expected


def test_a_copy_at_the_top_of_a_bucket_does_not_look_into_others() -> None:
    store = Store(f"memory://{uuid.uuid4().hex}")
    store.put("manifest.json", inventory([[entry("a.jpg")]], "CSV")[MANIFEST])
    with pytest.raises(SourceError) as raised:
        InventorySource(f"{store.uri}/manifest.json")
    assert f"which is in none of {store.uri}/data/0.csv.gz, {store.uri}/0.csv.gz: copy it there" in str(raised.value)


def test_an_inventory_without_objects_is_empty(tmp_path: Path) -> None:
    assert listed(InventorySource(copied(tmp_path, inventory([[entry("a")]], "CSV", files=[])))) == []


def changed(file_format: str = "CSV", **fields: object) -> Mapping[str, bytes]:
    return inventory([[entry("a.jpg"), entry("b.jpg", **fields)]], file_format)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {MANIFEST: b'{"uri": "a.jpg"}'},
            "2026-11-21T01-00Z/manifest.json is not an S3 Inventory manifest: destinationBucket: Field required; "
            "fileFormat: Field required; fileSchema: Field required; files: Field required; "
            "if it is your own list of objects, give it another name",
        ),
        ({MANIFEST: b"{"}, "2026-11-21T01-00Z/manifest.json is not an S3 Inventory manifest: Invalid JSON: EOF while parsing"),
        ({MANIFEST: b"\xff"}, "2026-11-21T01-00Z/manifest.json is not an S3 Inventory manifest: Invalid JSON: "),
        (
            inventory([[entry("a")]], "CSV", files=[{"key": "x"}]),
            "2026-11-21T01-00Z/manifest.json is not an S3 Inventory manifest: files: 0: size: Field required; ",
        ),
        (
            inventory([[entry("a")]], "CSV", fileFormat="ORC"),
            "2026-11-21T01-00Z/manifest.json lists ORC files: choose CSV or Parquet in the inventory's configuration",
        ),
        (
            inventory([[entry("a")]], "CSV", fileSchema="Bucket, Size"),
            "the fileSchema of 2026-11-21T01-00Z/manifest.json has no column 'Key', only 'Bucket', 'Size': ",
        ),
        (
            inventory([[entry("a")]], "CSV", fileSchema="Bucket, Key"),
            "data/0.csv.gz, row 1: 10 values where 2 belong: ",
        ),
        (
            inventory([[{"Key": "a"}]], "Parquet"),
            "data/0.parquet has no column 'bucket', only 'key': one column must have exactly the name 'bucket'",
        ),
        (
            {MANIFEST: inventory([[entry("a")]], "CSV")[MANIFEST]},
            "2026-11-21T01-00Z/manifest.json names 'inv/photos/daily/data/0.csv.gz', which is in none of "
            "2026-11-21T01-00Z/data/0.csv.gz, data/0.csv.gz, 2026-11-21T01-00Z/0.csv.gz: copy it there",
        ),
        (
            {**inventory([[entry("a")]], "CSV"), "inv/photos/daily/data/0.csv.gz": b"half"},
            "data/0.csv.gz has 4 bytes, 2026-11-21T01-00Z/manifest.json says ",
        ),
        (changed(Size="much"), "data/0.csv.gz, row 2: 'size' is 'much': give whole bytes, or leave it empty"),
        (changed(LastModifiedDate="late"), "data/0.csv.gz, row 2: 'last_modified' is 'late': give ISO 8601"),
        (changed(IsLatest="perhaps"), "data/0.csv.gz, row 2: 'IsLatest' is 'perhaps': true or false were expected"),
        (changed(Key=""), "data/0.csv.gz, row 2: 'Key' is empty: name an object, or remove the row"),
        (changed("Parquet", Bucket=None), "data/0.parquet, row 2: 'bucket' is empty: name an object, or remove the row"),
    ],
)
def test_what_is_wrong_with_an_inventory_is_said_in_one_line(tmp_path: Path, files: Mapping[str, bytes], message: str) -> None:
    assert inventory_problem(tmp_path, files).startswith(message)


def test_damaged_data_files_of_an_inventory_are_reported(tmp_path: Path) -> None:
    for file_format, message in (
        ("CSV", "data/0.csv.gz is not valid gzip: copy it again, or write it again"),
        ("Parquet", "data/0.parquet is not a valid parquet file: Parquet magic bytes not found in footer"),
    ):
        files = inventory([[entry("a.jpg")]], file_format)
        key = next(iter(files))
        assert inventory_problem(tmp_path, {**files, key: b"\x00" * len(files[key])}).startswith(message)
    files = inventory([[entry("a.jpg")]], "CSV")
    key = next(iter(files))
    data = gzip.compress(gzip.decompress(files[key]).replace(b"a.jpg", b"%FF.j"), mtime=0)
    manifest = json.loads(files[MANIFEST])
    manifest["files"][0]["size"] = len(data)
    found = inventory_problem(tmp_path, {key: data, MANIFEST: json.dumps(manifest).encode()})
    assert found == "data/0.csv.gz, row 1: the key '%FF.j' is not escaped UTF-8, as S3 writes it"


def test_an_inventory_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    files = inventory([[entry("a.jpg")], [entry("b.jpg")]], "CSV")
    pages = InventorySource(copied(tmp_path, files)).list()
    assert next(pages)
    second = tmp_path / "inv/photos/daily/data/1.csv.gz"
    second.write_bytes(second.read_bytes())
    with pytest.raises(SourceError, match=r"data/1\.csv\.gz changed while it was being read"):
        next(pages)


FLAT = """
import sys
from moderation.sources.manifest_file import ManifestSource
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) // 1024
before = peak()
count = sum(len(page) for page in ManifestSource(sys.argv[1]).list())
print(count, peak() - before)
"""


@needs_linux
def test_reading_a_large_manifest_takes_constant_memory(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "m.csv.gz", "wt", compresslevel=1) as file:
        file.write("uri,etag,size,last_modified\n")
        for start in range(0, 400_000, 10_000):
            row = ",d41d8cd98f00b204e9800998ecf8427e,1000,2026-11-21T03:00:00Z\n"
            file.write("".join(f"s3://bucket/images/{number:09d}.jpg{row}" for number in range(start, start + 10_000)))
    command = [sys.executable, "-c", FLAT, str(tmp_path / "m.csv.gz")]
    count, grown = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert count == 400_000
    assert grown < 60  # MiB; the objects together are more than twice that
