"""Which objects of a source are taken up."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.planning.object_tables import table_of
from moderation.planning.selection import Selection
from moderation.planning.sharding import batches, shard_name, shards
from moderation.planning.steps import name_of
from moderation.records import ObjectRef

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)


def ref(name: str, modified: datetime = NOW) -> ObjectRef:
    return ObjectRef(f"memory://x/{name}", "e", 1, modified)


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(), ["a.jpg", "b/c.png", "b/d.jpg", "new\nline.jpg"]),
        (Selection(include=["*.jpg"]), ["a.jpg", "b/d.jpg", "new\nline.jpg"]),
        (Selection(include=["b/*"]), ["b/c.png", "b/d.jpg"]),
        (Selection(include=["b/*", "a.???"], exclude=["*.png"]), ["a.jpg", "b/d.jpg"]),
        (Selection(exclude=["*"]), []),
        (Selection(include=["[ab].jpg"]), ["a.jpg"]),
        (Selection(include=["A.JPG"]), []),
    ],
)
def test_include_and_exclude_patterns_choose_keys(selection: Selection, taken: list[str]) -> None:
    keys = ["a.jpg", "b/c.png", "b/d.jpg", "new\nline.jpg"]
    assert [key for key in keys if selection.takes_key(key)] == taken


def test_modified_since_is_inclusive_and_utc_unless_it_says_otherwise() -> None:
    times = [NOW - timedelta(seconds=1), NOW, NOW + timedelta(seconds=1)]
    for since in (NOW, NOW.replace(tzinfo=None), datetime.fromisoformat("2026-11-21T05:00:00+02:00")):
        assert [Selection(modified_since=since).takes_time(ref("a", t)) for t in times] == [False, True, True]


@given(count=st.integers(0, 60), size=st.integers(1, 20), batch=st.integers(1, 7))
def test_every_object_is_in_one_shard_and_one_batch_in_order(count: int, size: int, batch: int) -> None:
    objects = [ref(str(i)) for i in range(count)]
    cut = list(shards(iter(objects), size))
    assert [item for shard in cut for item in shard.objects] == objects
    assert [item for shard in cut for part in batches(shard, batch) for item in part.objects] == objects
    assert all(len(shard.objects) == size for shard in cut[:-1])
    assert all(shard.name == shard_name(shard.objects) for shard in cut)


def test_a_shard_is_named_by_what_is_in_it() -> None:
    a, b = ref("a"), ref("b")
    assert all(name_of(table_of(objects)) == shard_name(objects) for objects in ([a, b], [b, a], [ref("\u00fc\0")]))
    assert shard_name([a, b]) == shard_name([a, b])
    assert len({shard_name(x) for x in ([a, b], [b, a], [a], [a._replace(etag="f"), b])}) == 4
