"""One behaviour suite over every `Store`, and what is particular to files and to S3."""

import contextlib
import errno
import gzip
import hashlib
import io
import os
import pickle
import random
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from needs import needs_fifos, needs_linux, needs_plain_user

from moderation.errors import ErrorCode, SourceError, StorageError
from moderation.sources.manifest_file import ManifestSource
from moderation.storage import Skipped, Store, scheme_of
from moderation.storage.raw_names import escaped, raw_name

BUCKET = "storage-behaviour"

# Each is one name in a folder. It must come back from a listing byte for byte, and be readable under that name.
HOSTILE_NAMES = [
    "a b.jpg",
    " lead.jpg",
    "trail ",
    "q\"uo'te.jpg",
    "%41.jpg",
    "x%2Fy.jpg",
    "#frag?query=1&a=b.jpg",
    "<b>&amp;.jpg",
    "<script>alert(1)<.jpg",
    "émoji😀.jpg",
    "e\u0301.jpg",
    "back\\slash.jpg",
    "=1+1.jpg",
    "@SUM(A1).jpg",
    "-1.jpg",
    "*star*.jpg",
    "~t|c^d{e}`f`[g].jpg",
    ".hidden",
    "..two.jpg",
    "nbsp\xa0.jpg",
    "wide\u3000space\u2028.jpg",
    "rtl\u202egpj.exe",
    "; rm -rf $HOME",
]
CONTROL_NAMES = ["tab\there.jpg", "del\x7f.jpg", "bell\x07.jpg"]


@pytest.fixture(scope="module")
def s3_client(s3_endpoint):
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture(params=["file", "memory", "s3", "gs", "az"])
def root(request, tmp_path):
    """A fresh URI of each kind."""
    if request.param == "file":
        return str(tmp_path / "store")
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/some/prefix"
    if request.param in ("gs", "az"):
        request.getfixturevalue({"gs": "gcs", "az": "azurite"}[request.param])
        return f"{request.param}://behaviour/{uuid.uuid4().hex}"
    request.getfixturevalue("s3_client")
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture
def store(root):
    return Store(root)


@pytest.fixture
def s3(s3_client):
    return Store(f"s3://{BUCKET}/{uuid.uuid4().hex}")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def keys(store, *args, **kwargs):
    return [store.key_of(item.uri) for page in store.list(*args, **kwargs) for item in page]


def code_of(call, *args, **kwargs):
    with pytest.raises(StorageError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return caught.value.code


# --- every store -----------------------------------------------------------------------------------------------------------


def test_listing_is_in_key_order_whatever_the_order_of_writing(store):
    names = ["b.jpg", "a/z.jpg", "a.jpg", "a/b/c.jpg", "a-1.jpg", "Z.jpg", "a0.jpg", "é.jpg", "😀.jpg"]
    for name in names:
        store.put(name, b"x")
    assert keys(store) == sorted(names)


def test_listing_can_start_after_a_key(store):
    names = ["a-b.jpg", "a/1.jpg", "a/2.jpg", "a/b/3.jpg", "a.jpg", "b.jpg"]
    for name in names:
        store.put(name, b"x")
    for after in [*names, "a/", "a/1", "zzz"]:
        assert keys(store, after=after) == sorted(name for name in names if name > after)


def test_an_object_of_another_size_than_listed_is_a_failed_read(store, monkeypatch):
    monkeypatch.setattr("moderation.storage.retrying.PATIENCE", 0.3)
    store.put("a.jpg", b"12345")
    [[item]] = store.list()
    with pytest.raises(StorageError, match="storage_error: body cut short: received 5 of 6 bytes"):
        store.read(item._replace(size=6))
    assert store.read(item._replace(size=6, etag="")) == b"12345"


def test_listing_by_prefix_is_textual_within_the_store(store):
    for name in ["cats/1.jpg", "cats/2.jpg", "cats2/1.jpg", "cat", "dogs/1.jpg"]:
        store.put(name, b"x")
    assert keys(store, "cats/") == ["cats/1.jpg", "cats/2.jpg"]
    assert keys(store, "cats") == ["cats/1.jpg", "cats/2.jpg", "cats2/1.jpg"]
    assert keys(store, "cats/", after="cats/1.jpg") == ["cats/2.jpg"]
    assert keys(store, "nothing/") == []


def test_a_store_is_a_folder_and_not_a_text_prefix(root, store):
    for name in ["cats/1.jpg", "cats2/1.jpg", "cats.jpg"]:
        store.put(name, b"x")
    for uri in (f"{root}/cats", f"{root}/cats/"):
        assert keys(Store(uri)) == ["1.jpg"]
        assert Store(uri).get("1.jpg") == b"x"


def test_a_listed_object_carries_size_time_and_etag(store):
    store.put("a.jpg", b"12345")
    [[item]] = store.list()
    assert item.uri == store.uri_of("a.jpg")
    assert item.size == 5
    assert item.etag
    assert item.last_modified.utcoffset() == timedelta(0)
    assert abs(item.last_modified - datetime.now(UTC)) < timedelta(minutes=5)


def test_head_says_what_the_listing_says(store):
    store.put("folder/a b.jpg", b"12345")
    [[item]] = store.list()
    found = store.head("folder/a b.jpg")
    # S3 gives whole seconds in HEAD, and some servers more in a listing.
    assert found._replace(last_modified=item.last_modified) == item
    assert abs(found.last_modified - item.last_modified) < timedelta(seconds=1)


def test_an_object_is_read_at_the_version_that_was_listed(store):
    store.put("a.jpg", b"one")
    [[item]] = store.list()
    assert store.get("a.jpg") == b"one"
    assert store.get("a.jpg", item.etag) == b"one"
    assert store.read(item) == b"one"


def test_an_object_overwritten_since_listing_is_changed(store):
    store.put("a.jpg", b"one")
    [[item]] = store.list()
    store.put("a.jpg", b"two")
    assert code_of(store.read, item) == ErrorCode.CHANGED
    assert code_of(store.get, "a.jpg", item.etag) == ErrorCode.CHANGED
    assert store.get("a.jpg") == b"two"


def test_an_object_deleted_since_listing_is_not_found(store):
    store.put("a.jpg", b"one")
    [[item]] = store.list()
    store.delete("a.jpg")
    assert code_of(store.read, item) == ErrorCode.NOT_FOUND


def test_what_does_not_exist_is_not_found(store):
    store.put("a.jpg", b"x")
    for key in ["b.jpg", "a.jpg/b.jpg", "folder/b.jpg", "a.jp"]:
        assert code_of(store.get, key) == ErrorCode.NOT_FOUND
        assert code_of(store.head, key) == ErrorCode.NOT_FOUND


def test_a_folder_is_no_object(store):
    store.put("folder/a.jpg", b"x")
    assert code_of(store.get, "folder") == ErrorCode.NOT_FOUND
    assert code_of(store.head, "folder") == ErrorCode.NOT_FOUND


def test_overwriting_replaces_the_whole_content(store):
    store.put("a", b"a long content")
    store.put("a", b"short")
    assert store.get("a") == b"short"


def test_creating_refuses_what_exists_and_leaves_it_as_it_is(store):
    store.put("folder/a", b"first", create_only=True)
    with pytest.raises(FileExistsError, match="folder/a already exists"):
        store.put("folder/a", b"second", create_only=True)
    assert store.get("folder/a") == b"first"
    assert keys(store) == ["folder/a"]


def test_creating_what_exists_with_the_same_bytes_is_done_already(store, tmp_path):
    (tmp_path / "local").write_bytes(b"first" * 1000)
    store.put("folder/a", b"first" * 1000, create_only=True)
    store.put("folder/a", b"first" * 1000, create_only=True)
    store.put("folder/a", tmp_path / "local", create_only=True)
    for other in (b"", b"first" * 999, b"first" * 1001, b"First" * 1000):
        with pytest.raises(FileExistsError):
            store.put("folder/a", other, create_only=True)
        (tmp_path / "local").write_bytes(other)
        with pytest.raises(FileExistsError):
            store.put("folder/a", tmp_path / "local", create_only=True)


def test_of_many_creators_exactly_one_wins(store):
    outcomes = []

    def create(content):
        try:
            store.put("claim", content, create_only=True)
            outcomes.append(content)
        except FileExistsError:
            outcomes.append(None)

    threads = [threading.Thread(target=create, args=(f"{i}".encode(),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [content for content in outcomes if content is not None]
    assert len(outcomes) == 8
    assert store.get("claim") == winner


def test_empty_objects_are_objects(store):
    store.put("empty.jpg", b"")
    [[item]] = store.list()
    assert item.size == 0
    assert store.read(item) == b""


@pytest.mark.parametrize("create_only", [False, True])
def test_a_local_file_is_put_byte_for_byte(store, tmp_path, create_only):
    content = os.urandom(6 << 20)
    local = tmp_path / "local.bin"
    local.write_bytes(content)
    store.put("big.bin", local, create_only)
    assert store.get("big.bin") == content
    assert local.read_bytes() == content


def test_copy_overwrites_and_keeps_the_source(store):
    store.put("a b/from", b"new")
    store.put("c/to", b"old")
    store.copy("a b/from", "c/to")
    assert store.get("c/to") == b"new"
    assert store.get("a b/from") == b"new"


def test_copying_what_does_not_exist_is_not_found(store):
    assert code_of(store.copy, "nothing", "to") == ErrorCode.NOT_FOUND
    assert keys(store) == []


def test_deleting_is_idempotent(store):
    store.put("folder/a", b"x")
    store.put("b", b"x")
    for key in ["folder/a", "folder/a", "never/was", "b/below-an-object"]:
        store.delete(key)
    assert keys(store) == ["b"]


def test_deleting_a_folder_leaves_its_neighbours(store):
    for name in ["run/1", "run/deep/2", "run2/1", "run.json"]:
        store.put(name, b"x")
    store.delete_folder("run/")
    assert keys(store) == ["run.json", "run2/1"]
    store.delete_folder("run/")


def test_hostile_names_come_through_byte_for_byte(store):
    # Azure itself makes a slash of a backslash.
    names = [name for name in HOSTILE_NAMES if not (store.uri.startswith("az:") and "\\" in name)]
    for name in names:
        store.put(f"in/{name}", name.encode())
    items = {store.key_of(item.uri): item for page in store.list() for item in page}
    assert sorted(items) == sorted(f"in/{name}" for name in names)
    for name in names:
        item = items[f"in/{name}"]
        assert store.read(item) == name.encode()
        assert store.head(f"in/{name}").etag == item.etag
        assert item.uri == f"{store.uri}/in/{name}"


def test_a_hostile_folder_is_a_store_like_any_other(root):
    for name in ["a b", "%41", "#x?y", "émoji😀", "q\"'"]:
        inner = Store(f"{root}/{name}")
        inner.put("k.jpg", name.encode())
        assert keys(Store(f"{root}/{name}")) == ["k.jpg"]
        assert Store(root).get(f"{name}/k.jpg") == name.encode()


def test_a_store_survives_pickling(store):
    store.put("a.jpg", b"x")
    again = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own bytes
    assert again.uri == store.uri
    assert again._connections == 16
    assert pickle.loads(pickle.dumps(Store(store.uri, 3)))._connections == 3  # noqa: S301
    assert keys(again) == ["a.jpg"]
    assert again.get("a.jpg") == b"x"


@pytest.mark.parametrize("name", ["x%41", "x#y", "x?y=1", "~x", "a b", "not-yet/deep"])
def test_a_store_that_does_not_exist_yet_is_the_same_one_after_pickling(root, name):
    store = Store(f"{root}/{name}")
    again = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own bytes
    assert again.uri == store.uri == Store(root).uri_of(name)
    again.put("a", b"x")
    assert store.get("a") == b"x"


def test_uris_and_keys_are_inverse(store):
    for key in ["a.jpg", "a/b.jpg", "a b?#%41.jpg", "😀"]:
        assert store.key_of(store.uri_of(key)) == key


def test_uris_outside_the_store_are_refused(store):
    for uri in [f"{store.uri}2/a.jpg", store.uri, "s3://other-bucket/a.jpg", "a.jpg", "", store.uri.upper() + "/a.jpg"]:
        assert code_of(store.key_of, uri) == ErrorCode.ACCESS_DENIED


def test_a_store_with_objects_is_readable(store):
    store.put("deep/down/a.jpg", b"x")
    store.check_readable()


def test_a_place_without_objects_says_so(store):
    store.put("a", b"x")
    store.delete("a")
    with pytest.raises(StorageError, match=r"not_found: (there are no objects under|No such file or directory)"):
        store.check_readable()


def test_checking_that_a_store_is_writable_leaves_nothing_behind(store):
    store.put("a", b"x")
    store.check_writable()
    assert keys(store) == ["a"]


def test_pages_hold_every_object_once(store):
    names = [f"{i:04}.jpg" for i in range(1003)]
    for name in names:
        store.put(name, b"x")
    pages = list(store.list())
    assert [store.key_of(item.uri) for page in pages for item in page] == names
    assert len(pages) == 2
    assert max(map(len, pages)) == 1000
    assert keys(store, after="0998.jpg") == names[999:]


# --- objects as files ------------------------------------------------------------------------------------------------------


def test_an_opened_object_is_a_seekable_file(store):
    content = os.urandom(100_000)
    store.put("in/a b.bin", content)
    with store.open("in/a b.bin") as file:
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        assert file.read(10) == content[:10]
        assert file.seek(-5, io.SEEK_END) == 99_995
        assert file.read() == content[-5:]
        assert file.read() == file.read(3) == b""
        file.seek(50_000)
        file.seek(7, io.SEEK_CUR)
        assert file.tell() == 50_007
        assert file.read(100) == content[50_007:50_107]
        file.seek(200_000)
        assert file.read(1) == b""
        with pytest.raises(ValueError, match="before the start"):
            file.seek(-100_001, io.SEEK_END)
        file.seek(0)
        assert file.read() == content
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_an_opened_object_is_fetched_in_pieces(store, monkeypatch):
    content = os.urandom(100_000)
    store.put("a", content)
    monkeypatch.setattr("moderation.storage.store.BUFFER", 1000)
    pieces = []
    fetch = type(store._backend).get_range
    monkeypatch.setattr(type(store._backend), "get_range", lambda *args: pieces.append(args[2:4]) or fetch(*args))
    with store.open("a") as file:
        assert pieces == []
        assert file.read(10) + file.read(500) + file.read(490) == content[:1000]
        assert pieces == [(0, 1000)]
        file.seek(-10, io.SEEK_END)
        assert file.read(10) == content[-10:]
        assert pieces[1:] == [(99_990, 10)]
        assert file.read(10) == b""
        assert len(pieces) == 2


def test_an_empty_object_is_an_empty_file(store):
    store.put("a", b"")
    with store.open("a") as file:
        assert file.read() == file.read(1) == b""
        assert file.seek(0, io.SEEK_END) == 0
    with gzip.open(store.open("a")) as file:
        assert file.read() == b""
    with pytest.raises(pa.ArrowInvalid, match="Empty CSV file"):
        pyarrow.csv.open_csv(store.open("a"))
    with pytest.raises(pa.ArrowInvalid, match="size is 0 bytes"):
        pq.ParquetFile(store.open("a"))


def test_an_opened_object_is_one_version(store):
    store.put("a", b"one" * 1000)
    [[item]] = store.list()
    file = store.open("a")
    pinned = store.open("a", item.etag)
    store.put("a", b"two" * 1000)
    assert code_of(file.read, 1) == ErrorCode.CHANGED
    assert code_of(pinned.read, 1) == ErrorCode.CHANGED
    assert code_of(store.open, "a", item.etag) == ErrorCode.CHANGED
    assert store.open("a").read(3) == b"two"


def test_opening_what_does_not_exist_is_not_found(store):
    assert code_of(store.open, "a") == ErrorCode.NOT_FOUND
    store.put("folder/a", b"x")
    assert code_of(store.open, "folder") == ErrorCode.NOT_FOUND


def test_parquet_csv_and_gzip_are_read_through_an_opened_object(store, tmp_path):
    table = pa.table({"uri": [f"s3://b/{i}.jpg" for i in range(5000)], "n": range(5000)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=1000)
    pyarrow.csv.write_csv(table, tmp_path / "t.csv")
    store.put("t.parquet", tmp_path / "t.parquet")
    store.put("t.csv", tmp_path / "t.csv")
    store.put("t.csv.gz", gzip.compress((tmp_path / "t.csv").read_bytes()))
    with pq.ParquetFile(store.open("t.parquet")) as file:
        assert pa.Table.from_batches(file.iter_batches(batch_size=700)) == table
    with pyarrow.csv.open_csv(store.open("t.csv")) as reader:
        assert reader.read_all() == table
    with gzip.open(store.open("t.csv.gz")) as plain, pyarrow.csv.open_csv(plain) as reader:
        assert reader.read_all() == table


def test_a_reader_passes_on_that_the_object_changed(store, monkeypatch):
    monkeypatch.setattr("moderation.storage.store.BUFFER", 1 << 16)
    lines = b"".join(b"s3://bucket/%07d.jpg\n" % i for i in range(200_000))
    store.put("a.csv", b"uri\n" + lines)
    options = pyarrow.csv.ReadOptions(block_size=1 << 16)
    with pyarrow.csv.open_csv(store.open("a.csv"), options) as reader:
        reader.read_next_batch()
        store.put("a.csv", lines)
        assert code_of(reader.read_all) == ErrorCode.CHANGED


# --- addresses -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uri", ["ftp://host/a", "s3://", "s3:///key", "gs://", "http://x/y", "memory://"])
def test_unknown_schemes_and_missing_buckets_are_refused(uri):
    with pytest.raises(StorageError, match="give a folder, or a URI that starts with file://, s3://"):
        Store(uri)


def test_the_scheme_of_a_location_is_recognised():
    assert [scheme_of(uri) for uri in ["file:///a", "S3://b", "gs://b/c"]] == ["file", "s3", "gs"]
    assert {scheme_of(path) for path in ["a/b.jpg", "/a", "a:b", "/odd/a://b", ""]} == {"file"}


def test_a_folder_by_path_by_uri_and_by_escaped_uri_is_the_same(folder):
    store = Store(str(folder / "a b"))
    store.put("k", b"x")
    for uri in [str(folder / "a b"), f"file://{folder}/a b", f"file://{folder}/a b/", (folder / "a b").as_uri()]:
        assert Store(uri).uri == store.uri
        assert keys(Store(uri)) == ["k"]


def test_a_relative_folder_and_one_in_the_home_are_absolute_in_the_uri(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    assert Store("store").uri == Store("~/store").uri == Store(".").uri + "/store" == f"file://{folder.resolve()}"


def test_the_root_of_the_file_system_is_a_store():
    store = Store("/")
    path = str(Path(__file__).resolve())
    assert store.uri_of(path[1:]) == f"file://{path}"
    assert store.key_of(f"file://{path}") == path[1:]
    assert store.head(path[1:]).size == Path(__file__).stat().st_size
    assert pickle.loads(pickle.dumps(store)).uri == store.uri == Store("file:///").uri  # noqa: S301 - our own bytes


# --- files -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*CONTROL_NAMES, "new\nline.jpg", "\r\n", "\x1b[31mred"])
def test_files_with_control_characters_are_objects(folder, name):
    (folder / name).write_bytes(b"x")
    [[item]] = Store(str(folder)).list()
    assert item.uri == f"file://{folder}/{name}"
    assert Store(str(folder)).read(item) == b"x"


RAW_NAMES = [
    b"z.jpg",
    b"a.jpg",
    b"\xff\xfe.jpg",
    b"caf\xe9/x.jpg",
    b"caf\xc3\xa9/x.jpg",
    b"sub/\x80",
    b"half\xf0\x9f\x98.jpg",
    b"surrogate\xed\xb3\xbf.jpg",
    # what somebody may take for the escape of one of them
    b"\\xff\\xfe.jpg",
    b"%ff%fe.jpg",
    b"caf\\xe9/x.jpg",
    b"sub/\xef\xbf\xbd80",
    b"sub/\xef\xbf\xbd8",
    b"sub/\xef\xbf\xbd",
    b"sub/\xef\xbf\xbd\x80",
    b"sub/\xef\xbf\xbdef\xef\xbf\xbdbf\xef\xbf\xbdbd80",
    b"new\nline\xff.jpg",
    b"\xe2\x80\xaegpj\xff.exe",
]


def write_raw(folder, names):
    for name in names:
        path = os.fsencode(folder) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - pathlib takes no bytes
        with open(path, "wb") as file:
            file.write(name)


def test_names_that_are_not_utf8_have_a_uri_each_and_are_read_by_it(folder):
    write_raw(folder, RAW_NAMES)
    store = Store(str(folder))
    items = {store.key_of(item.uri): item for page in store.list() for item in page}
    found = list(items)
    assert len(found) == len(RAW_NAMES)
    assert found == sorted(found)
    for at, key in enumerate(found):
        key.encode()
        assert keys(store, after=key) == found[at + 1 :]
        assert keys(store, prefix=key)[0] == key
    assert {store.read(item) for item in items.values()} == set(RAW_NAMES)
    assert {"a.jpg", "caf\ufffde9/x.jpg", "\ufffdff\ufffdfe.jpg", "caf\xe9/x.jpg", "\\xff\\xfe.jpg"} <= set(found)
    for key, item in items.items():
        assert store.read(item) == store.get(key)
        assert store.head(key) == item
        other, name = Store.locate(item.uri)
        assert other.read(item) == store.get(key)
        assert other.uri_of(name) == item.uri
        raw = os.fsdecode(os.fsencode(folder) + b"/" + store.get(key))
        by_path, name = Store.locate(raw)
        assert by_path.head(name) == item
    for unused in [
        "caf\ufffdc3\ufffda9/x.jpg",
        "\ufffd61.jpg",
        "sub\ufffd2f\ufffd80",
        "\ufffd2e\ufffd2e/x",
        "\ud800",
        "\udcff\udcfe.jpg",
    ]:
        assert code_of(store.get, unused) == ErrorCode.NOT_FOUND


def test_a_folder_whose_name_is_not_utf8_is_a_store_like_any_other(folder):
    raw = os.fsdecode(os.fsencode(folder) + b"/\xff%41 caf\xe9")
    store = Store(raw)
    store.put("sub/\ufffde9.jpg", b"x")
    store.uri.encode()
    for same in (Store(raw), Store(store.uri), pickle.loads(pickle.dumps(store))):  # noqa: S301 - our own bytes
        assert same.uri == store.uri
        [[item]] = same.list()
        assert same.read(item) == b"x"
    assert os.listdir(f"{raw}/sub") == ["\udce9.jpg"]  # noqa: PTH208 - raw names
    percent = "file://" + urllib.parse.quote(os.fsencode(raw))
    assert keys(Store(percent)) == ["sub/\ufffde9.jpg"]


@given(st.binary(max_size=12).filter(lambda name: b"\0" not in name and b"/" not in name))
def test_every_name_can_be_read_back_from_its_escape(name):
    raw = os.fsdecode(name)
    text = escaped(raw)
    text.encode()
    assert raw_name(text) == raw


@given(st.text("\ufffdab8\x80\xe9ef", max_size=12))
def test_no_two_texts_stand_for_one_name(text):
    raw = raw_name(text)
    assert raw is None or escaped(raw) == text


def test_messages_about_names_are_one_line_of_valid_text(folder):
    write_raw(folder, [b"new\nline\x1b[31m\xff"])
    for call in (Store(str(folder)).get, Store(str(folder)).head):
        with pytest.raises(StorageError) as caught:
            call("new\nline\x1b[31m\ufffdff/below.jpg")
        assert str(caught.value).encode().decode().isprintable()


@pytest.mark.parametrize("key", ["../secret", "a/../../secret", "/etc/passwd", "a//b", "./a", "a/.", "", "nul\0byte"])
def test_keys_never_lead_out_of_the_folder(folder, key):
    (folder.parent / "secret").write_bytes(b"secret")
    (folder / "a").mkdir()
    store = Store(str(folder))
    for call in (store.get, store.head, store.delete):
        assert code_of(call, key) == ErrorCode.NOT_FOUND
    assert code_of(store.put, key, b"x") == ErrorCode.NOT_FOUND
    assert (folder.parent / "secret").read_bytes() == b"secret"


def test_links_out_of_the_folder_are_listed_and_refused(folder):
    (folder.parent / "secret").write_bytes(b"secret")
    (folder / "link.jpg").symlink_to(folder.parent / "secret")
    (folder / "away").symlink_to(folder.parent, target_is_directory=True)
    store = Store(str(folder))
    [[item]] = store.list()
    assert store.key_of(item.uri) == "link.jpg"
    assert code_of(store.read, item) == ErrorCode.ACCESS_DENIED
    assert code_of(store.get, "away/secret") == ErrorCode.ACCESS_DENIED
    assert code_of(store.put, "away/new", b"x") == ErrorCode.ACCESS_DENIED
    assert not (folder.parent / "new").exists()


def test_links_within_the_folder_are_read(folder):
    (folder / "a").mkdir()
    (folder / "a" / "real.jpg").write_bytes(b"x")
    (folder / "link.jpg").symlink_to("a/real.jpg")
    store = Store(str(folder))
    assert keys(store) == ["a/real.jpg", "link.jpg"]
    assert [store.read(item) for page in store.list() for item in page] == [b"x", b"x"]


def test_a_folder_that_is_reached_by_a_link_is_a_store(folder):
    (folder / "a.jpg").write_bytes(b"x")
    (folder.parent / "link").symlink_to(folder, target_is_directory=True)
    store = Store(str(folder.parent / "link"))
    [[item]] = store.list()
    assert store.read(item) == b"x"


def test_dangling_and_circular_links_are_listed_and_not_found(folder):
    (folder / "dangling").symlink_to(folder / "nothing")
    (folder / "self").symlink_to(folder / "self")
    store = Store(str(folder))
    items = [item for page in store.list() for item in page]
    assert [store.key_of(item.uri) for item in items] == ["dangling", "self"]
    assert code_of(store.read, items[0]) == ErrorCode.NOT_FOUND
    assert code_of(store.read, items[1]) == ErrorCode.NOT_FOUND


def test_a_folder_that_links_to_itself_is_walked_once(folder):
    (folder / "a").mkdir()
    (folder / "a" / "x.jpg").write_bytes(b"x")
    (folder / "a" / "loop").symlink_to(folder, target_is_directory=True)
    assert keys(Store(str(folder))) == ["a/x.jpg"]


@needs_fifos
def test_pipes_are_neither_listed_nor_waited_for(folder):
    os.mkfifo(folder / "pipe.jpg")
    (folder / "link-to-pipe.jpg").symlink_to("pipe.jpg")
    (folder / "a.jpg").write_bytes(b"x")
    store = Store(str(folder))
    assert keys(store) == ["a.jpg"]
    codes = []
    reader = threading.Thread(target=lambda: codes.append(code_of(store.get, "pipe.jpg")), daemon=True)
    reader.start()
    reader.join(timeout=10)
    assert codes == [ErrorCode.NOT_FOUND]
    assert code_of(store.head, "pipe.jpg") == ErrorCode.NOT_FOUND


def test_a_file_that_goes_away_while_it_is_listed_breaks_nothing(folder):
    names = [f"{i:04}.jpg" for i in range(1100)]
    for name in names:
        (folder / name).write_bytes(b"x")
    pages = Store(str(folder)).list()
    first = next(pages)
    (folder / names[1050]).unlink()
    rest = [item for page in pages for item in page]
    assert [item.uri.rpartition("/")[2] for item in [*first, *rest]] == [n for n in names if n != names[1050]]


@pytest.mark.parametrize("at_once", [1, 2, 7, 1000])
def test_folders_larger_than_what_is_held_at_once_are_listed_in_order(folder, monkeypatch, at_once):
    monkeypatch.setattr("moderation.storage.local_listing.AT_ONCE", at_once)
    drawn = random.Random(at_once)
    names = set()
    for _ in range(60):
        parts = ["".join(drawn.choices("ab-.0é😀", k=drawn.randint(1, 3))) for _ in range(drawn.randint(1, 3))]
        name = "/".join(part.strip(".") or "x" for part in parts)
        if (folder / name).exists() or any(parent.is_file() for parent in (folder / name).parents):
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
        names.add(name)
    (folder / f".{uuid.uuid4().hex}.partial").write_bytes(b"being written")
    store = Store(str(folder))
    in_order = sorted(names)
    assert len(in_order) > 30
    assert keys(store) == in_order
    for after in [*in_order, "a", "a/", "a.", "b/a", "\x7f"]:
        assert keys(store, after=after) == [name for name in in_order if name > after]
        assert keys(store, "a", after=after) == [name for name in in_order if name > after and name.startswith("a")]


def test_deep_folders_are_listed(folder):
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("x.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    try:
        assert keys(Store(str(folder))) == ["d/" * 1200 + "x.jpg"]
    finally:
        subprocess.run(["rm", "-r", str(folder)], check=True)  # too deep for pytest's own clean-up


def test_what_lies_deeper_than_a_path_can_name_is_one_row_that_says_so(folder):
    def down(name, levels):
        fd = os.open(folder, os.O_RDONLY)
        for _ in range(levels):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=fd)
            inner = os.open(name, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = inner
        return fd

    (folder / "a.jpg").write_bytes(b"x")
    (folder / "z.jpg").write_bytes(b"x")
    for name, levels, files in (("d" * 200, 25, ["x.jpg"]), ("e" * 100, 39, ["f" * 250, "short.jpg"])):
        fd = down(name, levels)
        for file in files:
            os.close(os.open(file, os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.close(fd)
    try:
        store = Store(str(folder))
        items = {store.key_of(item.uri): item for page in store.list() for item in page}
        readable = [key for key, item in items.items() if len(f"{folder}/{key}") < 4096]
        assert {"a.jpg", "z.jpg"} <= set(readable)
        unreadable = items.keys() - set(readable)
        assert unreadable
        for key in unreadable:
            with pytest.raises(StorageError, match=r"^not_found: File name too long: .{100,250} bytes\)$"):
                store.read(items[key])
        for at, key in enumerate(items):
            assert keys(store, after=key) == list(items)[at + 1 :]
    finally:
        subprocess.run(["rm", "-r", str(folder)], check=True)  # too deep for pytest's own clean-up


@pytest.mark.parametrize("name", ["a" * 300, "d/" * 2500 + "x"], ids=["a long name", "a long path"])
def test_a_path_that_is_too_long_is_one_short_line(folder, name):
    for call in (lambda: Store(f"{folder}/{name}").check_readable(), lambda: Store(f"{folder}/{name}").check_writable()):
        with pytest.raises(StorageError, match=r"^not_found: File name too long: .{100,250} bytes\)$"):
            call()
    for call in (lambda: Store(str(folder)).get(name), lambda: Store(str(folder)).put(name, b"x")):
        with pytest.raises(StorageError, match="File name too long: "):
            call()
    assert list(folder.iterdir()) == []


@contextlib.contextmanager
def somebody_else():
    """Without root's rights, if the tests have them."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_what_may_not_be_read_or_written_is_named():
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o755)
        (folder / "closed").mkdir()
        for name in ("closed/a.jpg", "b.jpg", "list.csv"):
            (folder / name).write_bytes(b"uri\n")
            (folder / name).chmod(0o000)
        (folder / "closed").chmod(0o000)
        folder.chmod(0o555)
        with somebody_else():
            told = [
                (lambda: list(Store(place).list()), f"{folder}/closed"),
                (Store(f"{folder}/closed").check_readable, f"{folder}/closed"),
                (lambda: Store(f"{folder}/closed/deeper").check_readable(), f"{folder}/closed/deeper"),
                (lambda: Store(place).get("b.jpg"), f"{folder}/b.jpg"),
                (lambda: ManifestSource(f"{folder}/list.csv"), f"{folder}/list.csv"),
                (Store(place).check_writable, f"{folder}/_staging"),
                (Store(f"{folder}/new/deep").check_writable, f"{folder}/new"),
            ]
            for call, named in told:
                with pytest.raises((StorageError, SourceError), match=f"Permission denied: {named}$"):
                    call()
        folder.chmod(0o755)
        (folder / "closed").chmod(0o755)


def test_a_place_where_no_folder_can_be_made_says_so():
    with pytest.raises(StorageError, match=r"cannot write /proc/nothing/_staging/.*: no folder can be created there"):
        Store("/proc/nothing").check_writable()


def test_what_is_left_out_of_a_folder_is_counted(folder):
    (folder.parent / "elsewhere").mkdir()
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "x.jpg").write_bytes(b"x")
    for link, target in {"away": folder.parent / "elsewhere", "a/inside": folder / "a" / "b", "a/b/loop": folder}.items():
        (folder / link).symlink_to(target, target_is_directory=True)
    (folder / "link.jpg").symlink_to("a/b/x.jpg")
    (folder / "dangling").symlink_to(folder / "nothing")
    (folder / "self").symlink_to(folder / "self")
    (folder / "null").symlink_to("/dev/null")
    os.mkfifo(folder / "a" / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(folder / "socket"))
    store = Store(str(folder))
    assert keys(store) == ["a/b/x.jpg", "dangling", "link.jpg", "self"]
    assert store.skipped() == Skipped(linked_folders=3, special_files=3)
    assert str(store.skipped()) == "3 linked folders and 3 pipes, sockets and devices"
    assert Store(f"memory://{uuid.uuid4().hex}").skipped() == Skipped()
    (folder.parent / "links").mkdir()
    (folder.parent / "links" / "away").symlink_to(folder, target_is_directory=True)
    with pytest.raises(StorageError, match=r"no objects under .*/links \(1 linked folder skipped: name a linked folder"):
        Store(str(folder.parent / "links")).check_readable()


@needs_plain_user
def test_a_folder_that_may_not_be_opened_stops_the_listing(folder):
    (folder / "closed").mkdir(mode=0o000)
    try:
        assert code_of(lambda: list(Store(str(folder)).list())) == ErrorCode.ACCESS_DENIED
    finally:
        (folder / "closed").chmod(0o700)


def test_a_missing_folder_and_a_file_for_a_folder_say_so(folder):
    (folder / "file").write_bytes(b"x")
    with pytest.raises(StorageError, match=r"not_found: No such file or directory: .*/nothing"):
        Store(str(folder / "nothing")).check_readable()
    with pytest.raises(StorageError, match=r"not_found: Not a directory: .*/file"):
        Store(str(folder / "file")).check_readable()
    (folder / "empty").mkdir()
    with pytest.raises(StorageError, match=f"not_found: there are no objects under file://{folder}/empty"):
        Store(str(folder / "empty")).check_readable()


def test_checking_that_a_new_folder_is_writable_makes_and_removes_it(folder):
    Store(str(folder / "new" / "deep" / "output")).check_writable()
    assert list(folder.iterdir()) == []


def test_checking_that_an_existing_folder_is_writable_leaves_it(folder):
    Store(str(folder)).check_writable()
    assert folder.is_dir()
    assert list(folder.iterdir()) == []


def test_folders_fall_with_their_last_object_only(folder):
    store = Store(str(folder))
    store.put("a/b/1", b"x")
    store.put("a/2", b"x")
    store.delete("a/b/1")
    assert (folder / "a").is_dir()
    assert not (folder / "a" / "b").exists()
    store.delete("a/2")
    assert list(folder.iterdir()) == []


def test_writers_and_deleters_in_one_folder_do_not_get_in_each_others_way(folder):
    store = Store(str(folder))
    failures = []

    def work(name):
        for _ in range(100):
            try:
                store.put(f"a/b/{name}", b"x")
                store.delete(f"a/b/{name}")
            except StorageError as error:
                failures.append(str(error))

    threads = [threading.Thread(target=work, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_file_that_stands_in_the_way_is_named(folder):
    (folder / "file").write_bytes(b"x")
    for path in [folder / "file", folder / "file" / "deep" / "output"]:
        with pytest.raises(StorageError, match="file"):
            Store(str(path)).check_writable()
    (folder / "runs").mkdir()
    for create_only in (False, True):
        with pytest.raises(StorageError, match="runs: a folder has that name"):
            Store(str(folder)).put("runs", b"x", create_only)
    assert (folder / "file").read_bytes() == b"x"
    assert sorted(path.name for path in folder.iterdir()) == ["file", "runs"]


@pytest.mark.parametrize("create_only", [False, True])
def test_what_was_written_is_flushed_with_its_folder(folder, monkeypatch, create_only):
    flushed = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(Path(f"/proc/self/fd/{fd}").readlink()) or fsync(fd))
    Store(str(folder)).put("sub/a", b"x", create_only)
    assert [path.suffix for path in flushed] == [".partial", ""]
    assert flushed[1] == folder / "sub"


def test_a_file_system_that_cannot_flush_folders_is_written_nevertheless(folder, monkeypatch):
    fsync = os.fsync

    def no_folders(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", no_folders)
    Store(str(folder)).put("a", b"x")
    assert Store(str(folder)).get("a") == b"x"


def test_a_full_disk_is_not_tried_again(folder, monkeypatch):
    tries = []

    def full(fd):
        tries.append(fd)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        Store(str(folder)).put("a", b"x")
    assert len(tries) == 1
    assert list(folder.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(folder):
    store = Store(str(folder))
    store.put("a", b"old")
    assert code_of(store.put, "a", folder / "no-such-file") == ErrorCode.NOT_FOUND
    assert code_of(store.put, "sub/b", folder / "no-such-file") == ErrorCode.NOT_FOUND
    assert keys(store) == ["a"]
    assert store.get("a") == b"old"


@needs_fifos
def test_a_writer_killed_in_the_middle_leaves_the_old_content(folder):
    store = Store(str(folder))
    store.put("a", b"old")
    pipe = folder.parent / "pipe"
    os.mkfifo(pipe)
    code = "import sys, pathlib, moderation; moderation.Store(sys.argv[1]).put('a', pathlib.Path(sys.argv[2]))"
    writer = subprocess.Popen([sys.executable, "-c", code, folder, pipe])
    with open(pipe, "wb", buffering=0) as feed:  # opens when the writer reads
        feed.write(b"n" * 100)
        deadline = time.monotonic() + 20
        while len(list(folder.iterdir())) == 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert len(list(folder.iterdir())) == 2, "the writer was killed before it began to write"
    assert store.get("a") == b"old"
    assert keys(store) == ["a"], "a half-written file is visible"


def test_an_etag_changes_with_the_content_even_when_size_and_time_do_not(folder):
    store = Store(str(folder))
    store.put("a", b"one")
    [[item]] = store.list()
    info = (folder / "a").stat()
    store.put("a", b"two")
    os.utime(folder / "a", ns=(info.st_atime_ns, info.st_mtime_ns))
    assert code_of(store.read, item) == ErrorCode.CHANGED


# --- S3 --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [*CONTROL_NAMES, "a//b.jpg", "a/./b.jpg", "a/../b.jpg", "/lead.jpg", "..", "a/b/", "//"])
def test_keys_that_are_no_paths_are_listed_and_read(s3, s3_client, key):
    s3_client.put_object(Bucket=BUCKET, Key=s3.uri.removeprefix(f"s3://{BUCKET}/") + "/" + key, Body=b"x")
    [[item]] = s3.list()
    assert s3.key_of(item.uri) == key
    assert s3.read(item) == b"x"
    assert s3.get(key) == b"x"
    assert s3.head(key).etag == item.etag
    assert code_of(s3.get, key, "another-etag") == ErrorCode.CHANGED
    assert s3.open(key, item.etag).read() == b"x"


def test_keys_that_are_no_paths_are_not_mixed_up(s3, s3_client):
    prefix = s3.uri.removeprefix(f"s3://{BUCKET}/")
    contents = {"b": b"1", "a/b": b"2", "a//b": b"3", "a/./b": b"4", "a/../b": b"5", "/b": b"6"}
    for key, content in contents.items():
        s3_client.put_object(Bucket=BUCKET, Key=f"{prefix}/{key}", Body=content)
    assert {s3.key_of(item.uri): s3.read(item) for page in s3.list() for item in page} == contents


def test_keys_that_are_no_paths_are_never_written(s3):
    for key in ["a//b", "../x", "new\nline"]:
        assert code_of(s3.put, key, b"x") == ErrorCode.STORAGE_ERROR
    assert keys(s3) == []


def test_keys_that_are_no_paths_are_deleted_and_nothing_else_is(s3, s3_client):
    prefix = s3.uri.removeprefix(f"s3://{BUCKET}/")
    for key in ["a/b", "a//b", "tab\t"]:
        s3_client.put_object(Bucket=BUCKET, Key=f"{prefix}/{key}", Body=b"x")
    s3.delete("a//b")
    s3.delete("tab\t")
    s3.delete("never//was")
    assert keys(s3) == ["a/b"]


def test_missing_keys_that_are_no_paths_are_not_found(s3):
    assert code_of(s3.get, "a//b") == ErrorCode.NOT_FOUND


def test_folder_markers_of_consoles_are_no_objects(s3, s3_client):
    prefix = s3.uri.removeprefix(f"s3://{BUCKET}/")
    s3_client.put_object(Bucket=BUCKET, Key=f"{prefix}/", Body=b"")
    s3_client.put_object(Bucket=BUCKET, Key=f"{prefix}/folder/", Body=b"")
    s3_client.put_object(Bucket=BUCKET, Key=f"{prefix}/folder/empty.jpg", Body=b"")
    assert keys(s3) == ["folder/empty.jpg"]


def test_a_missing_bucket_is_named(s3_client):
    for check in (Store("s3://no-such-bucket/x").check_readable, Store("s3://no-such-bucket/x").check_writable):
        with pytest.raises(StorageError, match=r"the bucket 'no-such-bucket' does not exist at http://127.0.0.1:"):
            check()
    assert code_of(Store("s3://no-such-bucket").get, "a") == ErrorCode.NOT_FOUND


def test_a_whole_bucket_is_a_store(s3_client):
    s3_client.create_bucket(Bucket="whole-bucket")
    for uri in ("s3://whole-bucket", "s3://whole-bucket/"):
        store = Store(uri)
        assert store.uri == "s3://whole-bucket"
        store.put("a/b.jpg", b"x")
        assert keys(store) == ["a/b.jpg"]
        assert store.uri_of("a/b.jpg") == "s3://whole-bucket/a/b.jpg"


def test_a_small_object_takes_one_request(s3):
    s3.put("a", b"x")
    # The ETag of an object that came in parts is a hash of their hashes.
    assert s3.head("a").etag == hashlib.md5(b"x").hexdigest()  # noqa: S324 - what S3 uses


def test_the_etag_of_s3_is_the_one_it_shows_to_everyone(s3, s3_client):
    s3.put("a", b"x")
    [[item]] = s3.list()
    prefix = s3.uri.removeprefix(f"s3://{BUCKET}/")
    assert s3_client.head_object(Bucket=BUCKET, Key=f"{prefix}/a")["ETag"] == f'"{item.etag}"'


def test_missing_credentials_say_what_to_set(s3_client, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    with pytest.raises(StorageError, match="no AWS credentials found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID"):
        Store("s3://bucket-never-opened-before/x")


@needs_linux
def test_a_file_without_a_size_is_not_read_to_its_end() -> None:
    assert Store("/proc/self").get("pagemap") == b""  # as large as all addresses, which would take all memory
