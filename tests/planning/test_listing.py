"""Listings that go wrong: stores without order, pages that fail, tokens that lead nowhere. Nothing is lost or repeated."""

import random
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from faulty_proxy import s3_error
from listing_server import PAGE_FAULTS, Bucket, ListingServer, failing, shuffled
from planned import planned_in_process

from moderation import RunSettings, Store
from moderation.demo import POLICY_FILE
from moderation.errors import SourceError, StorageError, StoreDownError
from moderation.planning.inputs import Inputs, check_inputs
from moderation.planning.plan import Page
from moderation.planning.planner import Tally
from moderation.results.ledger import Ledger, version_hashes
from moderation.results.paths import RunPaths
from moderation.storage import Census, s3, s3_listing
from moderation.storage import store as stores

PATHS = RunPaths("run", "2026-11-21", "0" * 16)
KEYS = [f"in/{number:03}.jpg" for number in range(302)]


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test-test-test", "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    stores._bucket.cache_clear()
    yield
    stores._bucket.cache_clear()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moderation.storage.retrying.PATIENCE", 0.2)
    monkeypatch.setattr("moderation.storage.store.PROBE_PATIENCE", 0.2)


def bucket(**how: object) -> Bucket:
    return Bucket({key: key.encode() for key in KEYS}, **how)  # type: ignore[arg-type]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[ListingServer]:
    with ListingServer(bucket()) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        yield server


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server passes for AWS, whose buckets promise order."""
    monkeypatch.setattr(s3, "promises_order", lambda *_: True)


def keys(store: Store, after: str = "", census: Census | None = None) -> list[str]:
    return [store.key_of(item.uri) for page in store.list(after=after, census=census) for item in page]


def inputs(folder: Path, source: str = "s3://shop/in", **more: object) -> Inputs:
    folder.mkdir(exist_ok=True)
    values = {"sources": source, "policy": str(POLICY_FILE), "output": str(folder), **more}
    return check_inputs(RunSettings.model_validate(values))


def planned(pages: Iterator[Page]) -> list[str]:
    return [item.uri.removeprefix("s3://shop/") for page in pages for item in (*page.objects, *page.redecided)]


# --- one listing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PAGE_FAULTS)
@pytest.mark.parametrize("page", [0, 1, 2, 3])
def test_a_page_that_fails_is_asked_for_again_by_its_token(serve: ListingServer, kind: str, page: int) -> None:
    for seed in range(2):
        serve.bucket = bucket(order=shuffled(seed), faults=failing([page, page + 1], kind))
        census = Census()
        assert sorted(keys(Store("s3://shop/in"), census=census)) == sorted(key.removeprefix("in/") for key in KEYS)
        assert census.objects == len(KEYS)
        assert serve.bucket.asked["page"] == 4 + 2


def test_listing_after_a_key_gives_the_keys_that_sort_after_it(serve: ListingServer) -> None:
    serve.bucket = bucket(order=shuffled(1))
    assert sorted(keys(Store("s3://shop/in"), after="150.jpg")) == [f"{number:03}.jpg" for number in range(151, 302)]


@pytest.mark.usefixtures("ordered")
def test_where_order_is_promised_a_key_out_of_order_stops_the_listing(serve: ListingServer) -> None:
    assert keys(Store("s3://shop/in"), after="150.jpg") == [f"{number:03}.jpg" for number in range(151, 302)]
    for order in (shuffled(3), shuffled(3, whole_pages=100), lambda found: [*found[:101], *found[100:]]):
        serve.bucket = bucket(order=order)
        with pytest.raises(StorageError, match=r"has the key 'in/\d+.jpg' after 'in/\d+.jpg', although S3 lists keys in order"):
            keys(Store("s3://shop/in"))


def test_aws_buckets_promise_key_order_and_other_endpoints_do_not() -> None:
    assert s3_listing.promises_order("https://s3.eu-central-1.amazonaws.com", "shop")
    assert s3_listing.promises_order("https://s3.cn-north-1.amazonaws.com.cn", "shop")
    assert not s3_listing.promises_order("https://s3.us-west-2.amazonaws.com", "shop--usw2-az1--x-s3")
    assert not s3_listing.promises_order("http://127.0.0.1:9000", "shop")
    assert not s3_listing.promises_order("https://amazonaws.com.example", "shop")
    assert Store("memory://x").ordered


CIRCLES = {
    "the same token": lambda xml: xml.replace("0-200<", "0-100<"),
    "a token from before": lambda xml: xml.replace("0-300<", "0-100<"),
    "the same page under other tokens": None,
    "empty pages under other tokens": None,
}


@pytest.mark.parametrize("kind", CIRCLES)
@pytest.mark.parametrize("is_ordered", [True, False])
def test_a_listing_that_would_never_end_ends(
    serve: ListingServer, monkeypatch: pytest.MonkeyPatch, kind: str, is_ordered: bool
) -> None:
    monkeypatch.setattr(s3, "promises_order", lambda *_: is_ordered)
    monkeypatch.setattr(s3_listing, "EMPTY_PAGES", 20)
    count = Counter[str]()

    def forever(xml: str) -> str:
        count["pages"] += 1
        more = f"<NextContinuationToken>0-0{'0' * count['pages']}</NextContinuationToken>"
        xml = xml.replace("<IsTruncated>false", "<IsTruncated>true").split("<NextContinuationToken>")[0].split("<IsTrunc")[0]
        if kind.startswith("empty"):
            xml = "<ListBucketResult>"
        return f"{xml}{more}<IsTruncated>true</IsTruncated></ListBucketResult>"

    change = CIRCLES[kind] or forever
    serve.bucket = bucket(change=change, page=100)
    with pytest.raises(StorageError, match=r"is repeated|repeats the page|in order|does not end") as caught:
        keys(Store("s3://shop/in"))
    assert "\n" not in str(caught.value)
    assert serve.bucket.asked["page"] < 30


@pytest.mark.usefixtures("impatient")
def test_a_page_that_contradicts_itself_is_asked_for_again_and_then_named(serve: ListingServer) -> None:
    wrong = {
        "says 99 keys but has 100": lambda xml: xml.replace("<KeyCount>100", "<KeyCount>99"),
        "without the token for the next page": lambda xml: xml.replace("NextContinuationToken", "Other"),
        "but has a token for another one": lambda xml: xml.replace("<IsTruncated>true", "<IsTruncated>false"),
        "lack their key, size or time": lambda xml: xml.replace("<Size>10</Size>", "", 1),
    }
    for message, change in wrong.items():
        serve.bucket = bucket(change=change)
        with pytest.raises(StorageError, match=message):
            keys(Store("s3://shop/in"))
        assert serve.bucket.asked["page"] > 1
    serve.bucket = bucket(change=lambda xml: xml.replace("in/007.jpg", "other/007.jpg"))
    with pytest.raises(StorageError, match=r"holds the key 'other/007.jpg', which does not start with that"):
        keys(Store("s3://shop/in"))


def test_an_empty_page_does_not_end_a_listing(serve: ListingServer) -> None:
    def hollow(xml: str) -> str:
        return xml if "in/100" not in xml else xml[: xml.index("<KeyCount>")] + xml[xml.index("<NextCont") :]

    serve.bucket = bucket(change=hollow)
    assert len(keys(Store("s3://shop/in"))) == 202
    serve.bucket = bucket(change=lambda xml: xml.replace("<KeyCount>100</KeyCount>", ""))  # which some stores leave out
    census = Census()
    assert len(keys(Store("s3://shop/in"), census=census)) == census.objects == 302


def test_folders_of_consoles_are_left_out_and_not_counted(serve: ListingServer) -> None:
    serve.bucket = bucket()
    serve.bucket.objects |= {"in/a/": b"", "in/a/1.jpg": b"x", "in/b/": b"not empty"}
    census = Census()
    assert set(keys(Store("s3://shop/in"), census=census)) >= {"a/1.jpg", "b/"}
    assert census.objects == 304


# --- a run's plan ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole_pages", [0, 100])
@pytest.mark.parametrize("seed", range(4))
def test_a_plan_of_an_unordered_store_names_every_object_once_however_often_it_is_killed(
    serve: ListingServer, tmp_path: Path, seed: int, whole_pages: int
) -> None:
    dice = random.Random(seed)
    faults = {dice.randrange(12): dice.choice(PAGE_FAULTS) for _ in range(4)}
    serve.bucket = bucket(order=shuffled(seed, whole_pages), faults=faults.get)
    given = inputs(tmp_path / "out")
    decided = dice.sample(KEYS, 20)
    store = Store("s3://shop/in")
    ledger = Ledger()
    ledger.add(
        version_hashes(
            item
            for page in store.list()
            for item in page
            if store.key_of(item.uri) in {key.removeprefix("in/") for key in decided}
        )
    )
    for _ in range(3):
        attempt = planned_in_process(given, PATHS, 40, ledger, Tally())
        for _ in range(dice.randrange(4)):
            next(attempt, None)
    tally = Tally()
    names = planned(planned_in_process(given, PATHS, 40, ledger, tally))
    assert sorted(names) == sorted(set(KEYS) - set(decided))
    assert (tally.listed, tally.named, tally.unchanged, tally.planned) == (302, 302, 20, 282)
    assert tally.complete


def test_a_run_killed_after_a_page_that_happens_to_be_in_order_loses_nothing(serve: ListingServer, tmp_path: Path) -> None:
    serve.bucket = bucket(order=lambda found: [*found[200:], *found[:200]])
    given = inputs(tmp_path / "out")
    next(planned_in_process(given, PATHS, 50, None, Tally()))
    names = planned(planned_in_process(given, PATHS, 50, None, Tally()))
    assert sorted(names) == KEYS
    again = planned(planned_in_process(given, PATHS, 50, None, Tally()))
    assert sorted(again) == KEYS


def test_a_key_that_comes_twice_is_processed_once(serve: ListingServer, tmp_path: Path) -> None:
    serve.bucket = bucket(order=lambda found: [*found[:150], found[3], *found[150:]])
    tally = Tally()
    names = planned(planned_in_process(inputs(tmp_path / "out"), PATHS, 40, None, tally))
    assert sorted(names) == KEYS
    assert (tally.listed, tally.named, tally.repeated) == (302, 302, 1)


def test_a_limit_and_a_selection_hold_where_there_is_no_order(serve: ListingServer, tmp_path: Path) -> None:
    serve.bucket = bucket(order=shuffled(5))
    given = inputs(tmp_path / "out", exclude=["*7.jpg"], limit=60)
    next(planned_in_process(given, PATHS, 25, None, Tally()))
    tally = Tally()
    names = planned(planned_in_process(given, PATHS, 25, None, tally))
    assert len(names) == len(set(names)) == tally.listed == tally.named == 60
    assert not any(name.endswith("7.jpg") for name in names)


@pytest.mark.usefixtures("ordered")
def test_where_order_is_promised_a_run_is_resumed_behind_its_last_object(serve: ListingServer, tmp_path: Path) -> None:
    given = inputs(tmp_path / "out")
    first = planned_in_process(given, PATHS, 50, None, Tally())
    for _ in range(3):
        next(first)
    before = serve.bucket.asked["page"]
    tally = Tally()
    assert planned(planned_in_process(given, PATHS, 50, None, tally)) == KEYS
    assert serve.bucket.asked["page"] == before + 2
    assert (tally.listed, tally.named) == (302, 302)
    serve.bucket.order = lambda found: [*found[:150], *found[100:]]
    with pytest.raises(SourceError, match=r"listing s3://shop/in failed: .* although S3 lists keys in order"):
        planned(planned_in_process(inputs(tmp_path / "other"), PATHS, 50, None, Tally()))


TREES = {
    "dates": [f"in/2026/11/{day:02}/{number}.jpg" for day in range(1, 29) for number in range(9)],
    "flat": [f"in/{number * 7919 % 4096:03x}.jpg" for number in range(302)],
    "many folders": [f"in/{number:04}/{part}.jpg" for number in range(150) for part in "ab"],
    "mixed": [
        "in/!.jpg",
        "in/a/",
        "in/a/1.jpg",
        "in/a0.jpg",
        "in/b/2/3.jpg",
        "in/b/2/4.jpg",
        "in/é/ü.jpg",
        "in/\U0001f98a.jpg",
    ],
    "one": ["in/a/b/c.jpg"],
}


@pytest.mark.usefixtures("ordered")
@pytest.mark.parametrize("tree", TREES)
def test_ranges_of_keys_are_listed_apart_and_hold_every_key_once(serve: ListingServer, tmp_path: Path, tree: str) -> None:
    serve.bucket = Bucket(dict.fromkeys(TREES[tree], b"x"))
    whole = Store("s3://shop/in")
    [source] = inputs(tmp_path / "out").sources
    names = [item.uri for page in source.list() for item in page]
    assert len(names) == len(TREES[tree])
    for after in ("", names[0], names[len(names) // 2], names[-1]):
        census = Census()
        parts = source.parts(after)
        found = [[item.uri for page in part.list(after, census) for item in page] for part in parts]
        assert [*chain.from_iterable(found)] == [name for name in names if name > after]
        assert census.objects == sum(map(len, found))
        assert (len(parts) > 1) == (bool(whole.cuts(whole.key_of(after) if after else "")))
    assert (len(source.parts()) > 4) == (tree in ("dates", "flat", "many folders"))


@pytest.mark.usefixtures("ordered")
def test_a_listing_that_may_not_ask_for_folders_is_not_cut(serve: ListingServer) -> None:
    serve.bucket = bucket()
    assert len(Store("s3://shop/in").cuts()) == 16
    answer = serve._answer
    serve._proxy.rule = lambda *sent: s3_error(403, "AccessDenied") if "delimiter" in sent[1] else answer(*sent)
    assert Store("s3://shop/in").cuts() == []
    assert len(keys(Store("s3://shop/in"))) == 302


def test_a_listing_without_order_is_not_cut(serve: ListingServer) -> None:
    serve.bucket = Bucket(dict.fromkeys(TREES["dates"], b"x"))
    assert Store("s3://shop/in").cuts() == []


@pytest.mark.usefixtures("impatient")
def test_a_store_that_goes_down_while_it_is_listed_can_be_resumed(serve: ListingServer, tmp_path: Path) -> None:
    given = inputs(tmp_path / "out")
    asked = serve.bucket.asked["page"]
    serve.bucket.faults = lambda number: "slow_down" if number >= asked + 2 else None
    with pytest.raises(StoreDownError, match=r"the store of s3://shop/in is down, the listing cannot continue: .*SlowDown"):
        planned(planned_in_process(given, PATHS, 50, None, Tally()))
    serve.bucket.faults = lambda _: None
    assert sorted(planned(planned_in_process(given, PATHS, 50, None, Tally()))) == KEYS


@pytest.mark.parametrize("order", [sorted, shuffled(2)])
def test_objects_lost_on_the_way_are_missing_from_the_sum(
    serve: ListingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: object
) -> None:
    """What a mistake of ours would do: the store says 302, and the loop sees fewer."""
    serve.bucket = bucket(order=order)
    whole = Store.list

    def lossy(self: Store, *arguments: object, **named: object) -> Iterator[list[object]]:
        for page in whole(self, *arguments, **named):  # type: ignore[arg-type]
            yield [item for item in page if not item.uri.endswith("/123.jpg")]

    given = inputs(tmp_path / "out")
    monkeypatch.setattr(Store, "list", lossy)
    tally = Tally()
    assert len(planned(planned_in_process(given, PATHS, 40, None, tally))) == tally.listed == 301
    assert tally.named == 302
