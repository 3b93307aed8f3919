"""Whole runs over a store that lists in no order and goes down on the way: what is published is complete."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from listing_server import Bucket, ListingServer, shuffled
from stub_run import stub_run

from moderation import RunSettings, Store
from moderation.demo import POLICY_FILE
from moderation.errors import QuarantinedError, StoreDownError
from moderation.results.read_run import read_decisions
from moderation.storage import store as stores

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]
KEYS = [f"in/{number:03}.jpg" for number in range(302)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ListingServer]:
    monkeypatch.setattr("moderation.storage.retrying.PATIENCE", 0.3)
    with ListingServer(Bucket({key: key.encode() for key in KEYS}, order=shuffled(7))) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        stores._bucket.cache_clear()
        yield server
    stores._bucket.cache_clear()


def settings(output: Path, run_id: str) -> RunSettings:
    values = {"sources": "s3://shop/in", "policy": str(POLICY_FILE), "output": str(output), "run_id": run_id, "shard_size": 60}
    return RunSettings.model_validate(values)


def test_a_run_over_a_store_without_order_that_goes_down_publishes_every_object_once(
    server: ListingServer, tmp_path: Path
) -> None:
    server.bucket.faults = lambda number: "slow_down" if number > 3 else None  # one page is tried at the start
    with pytest.raises(StoreDownError, match=r"s3://shop/in is down.*resume with --run-id r$") as caught:
        stub_run(settings(tmp_path, "r"), checked=False)
    assert "\n" not in str(caught.value)
    server.bucket.faults = {server.bucket.asked["page"] + 3: "half_body"}.get
    manifest = stub_run(settings(tmp_path, "r"))
    assert (manifest.listed, manifest.scored, manifest.repeated) == (302, 302, 0)
    uris = read_decisions(Store(str(tmp_path)), manifest)["uri"].to_pylist()
    assert sorted(uris) == [f"s3://shop/{key}" for key in KEYS]


def test_a_run_that_loses_an_object_of_a_page_is_quarantined(
    server: ListingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Store.list

    def lossy(self: Store, *arguments: object, **named: object) -> Iterator[list[object]]:
        for page in whole(self, *arguments, **named):  # type: ignore[arg-type]
            yield [item for item in page if not item.uri.endswith("/123.jpg")]

    monkeypatch.setattr(Store, "list", lossy)
    with pytest.raises(QuarantinedError, match=r"accounting.*301 listed.*302 by the sources' own count"):
        stub_run(settings(tmp_path, "lossy"))
