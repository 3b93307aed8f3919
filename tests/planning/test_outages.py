"""Stores that are down for good, or for a while, or fail now and then: the run stops, or goes on, and nothing is lost."""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from listing_server import Bucket, ListingServer

from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.errors import ErrorCode, StorageError, StoreDownError
from moderation.results.manifest import find_manifest, published_manifests
from moderation.sources import ObjectReader
from moderation.storage import Store, outages
from moderation.storage import store as stores
from moderation.storage.outages import Outage, read_through
from moderation.storage.retrying import TransientError

GONE = TransientError(ErrorCode.STORAGE_ERROR, "connection refused")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moderation.storage.retrying.PATIENCE", 0.1)
    monkeypatch.setattr("moderation.storage.outages.PROBE_PATIENCE", 0.1)
    monkeypatch.setattr("moderation.storage.outages.ASK_PATIENCE", 0.1)


class Flaky:
    """A store of objects `0` to `99`. `down` and `broken` say what fails; everything is counted."""

    def __init__(self) -> None:
        self.down, self.broken = False, frozenset[int]()
        self.asked = Counter[str]()

    def read(self, number: int, patience: float | None) -> int:
        self.asked["read"] += 1
        if self.down or number in self.broken:
            raise GONE
        return number

    def ask(self) -> None:
        self.asked["ask"] += 1
        if self.down:
            raise GONE


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("threads", [1, 16])
def test_a_store_that_is_down_stops_after_a_few_questions(threads: int) -> None:
    store, outage = Flaky(), Outage("s3://shop")
    store.down = True
    with ThreadPoolExecutor(threads) as pool:
        done = [pool.submit(read_through, outage, lambda patience: store.read(1, patience), store.ask) for _ in range(16)]
    errors = [one.exception() for one in done]
    assert all(isinstance(error, StoreDownError | TransientError) for error in errors)
    down = next(error for error in errors if isinstance(error, StoreDownError))
    assert re.match(r"s3://shop is down: \d+ requests in a row failed after several tries each, the last with: conn", str(down))
    assert store.asked["read"] <= 16
    store.down = False  # the next attempt in the same process
    assert read_through(outage, lambda patience: store.read(7, patience), store.ask) == 7
    store.broken = frozenset({3})
    with pytest.raises(TransientError):
        read_through(outage, lambda patience: store.read(3, patience), store.ask)


@pytest.mark.usefixtures("impatient")
def test_broken_objects_of_a_store_that_answers_never_stop_a_run() -> None:
    store, outage = Flaky(), Outage("s3://shop")
    store.broken = frozenset(range(100))
    for number in range(20):
        with pytest.raises(TransientError):
            read_through(outage, lambda patience: store.read(number, patience), store.ask)  # noqa: B023
    assert store.asked == {"read": 40, "ask": 40}


@pytest.mark.usefixtures("impatient")
def test_objects_that_failed_in_an_outage_are_read_when_the_store_is_back() -> None:
    store, outage = Flaky(), Outage("s3://shop")
    store.down = True
    asked = store.ask

    def ask() -> None:
        store.down = store.asked["ask"] < 12  # back after a while, before the limit
        asked()

    assert read_through(outage, lambda patience: store.read(1, patience), ask) == 1


def test_a_store_that_refuses_counts_as_up() -> None:
    outage = Outage("s3://shop")

    def refuse(_: float | None) -> None:
        raise StorageError(ErrorCode.NOT_FOUND, "no such object")

    for _ in range(3 * outages.FAILURES):
        with pytest.raises(StorageError, match="not_found"):
            read_through(outage, refuse, lambda: None)
        outage.failed(GONE)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[ListingServer]:
    """A store with the demo's uploads."""
    images = {f"in/{path.name}": path.read_bytes() for path in sorted((IMAGES_DIR / "uploads").iterdir())[:40]}
    for name, value in {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test-test-test", "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    stores._bucket.cache_clear()
    outages.outage_of.cache_clear()
    with ListingServer(Bucket(images)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        yield server
    stores._bucket.cache_clear()
    outages.outage_of.cache_clear()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", ["slow_down", "reset"])
def test_a_reader_tells_broken_objects_from_a_store_that_is_down(shop: ListingServer, fault: str) -> None:
    store = Store("s3://shop/in")
    reader = ObjectReader(folders=(store,))
    [items] = store.list()
    assert len(reader.read(items[0])) == items[0].size
    shop.bucket.reads = lambda _: fault
    for call in (lambda: reader.read(items[0]), lambda: reader.look_up(items[0].uri)):
        with pytest.raises(StoreDownError, match=r"^s3://shop is down: \d+ requests in a row failed") as caught:
            call()
        assert "\n" not in str(caught.value)
    shop.bucket.reads = lambda _: None
    assert len(reader.read(items[1])) == items[1].size
    with pytest.raises(StorageError, match="body cut short"):
        reader.read(items[2]._replace(size=1))


def moderate(shop: ListingServer, output: Path, home: Path) -> subprocess.CompletedProcess[str]:
    options = ["--run-id", "outage", "--shard-size", "10", "--batch-size", "5", "--actors", "1", "--fetch-threads", "2"]
    command = [sys.executable, "-m", "moderation.cli", "run", "s3://shop/in", "-p", str(POLICY_FILE), "-o", str(output)]
    environment = {**os.environ, "PREFECT_HOME": str(home)}
    return subprocess.run([*command, *options], env=environment, capture_output=True, text=True, timeout=1200, check=False)


@pytest.mark.slow
def test_a_run_whose_store_goes_down_stops_and_is_resumed_once_it_is_back(
    shop: ListingServer, prefect_home: Path, tmp_path: Path
) -> None:
    shop.bucket.reads = lambda number: "reset" if number > 17 else None
    stopped = moderate(shop, tmp_path / "out", prefect_home)
    assert stopped.returncode == 1, stopped.stderr[-3000:]
    said = [line for line in stopped.stderr.splitlines() if "is down" in line]
    assert len(said) == 1, stopped.stderr[-3000:]
    assert re.search(r"error: s3://shop is down: \d+ requests in a row failed.*resume with --run-id outage", said[0])
    assert "Traceback" not in stopped.stderr
    output = Store(str(tmp_path / "out"))
    assert list(published_manifests(output)) == []
    staged = [item.uri for page in output.list("_staging/outage/receipts/") for item in page]
    assert staged  # what was finished is kept

    shop.bucket.reads = lambda _: None
    resumed = moderate(shop, tmp_path / "out", prefect_home)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    manifest = find_manifest(output, "outage")
    assert manifest is not None
    assert manifest.listed == manifest.scored + manifest.errored == len(shop.bucket.objects)
    assert "storage_error" not in manifest.counts.errored
