"""Which staged shards are checked together."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from moderation.results.paths import NO_SHARD, RunPaths
from moderation.results.shard_files import Receipt
from moderation.storage import Store

GROUP_OBJECTS = 20_000
"""Small shards are checked together, up to this many objects: asking costs more than the rows."""


class StagedShard(NamedTuple):
    """A shard to be checked."""

    receipt: Receipt
    plan: str | None
    """key of its stored plan; None: there is none"""


def planned_shards(output: Store, paths: RunPaths) -> dict[str, str]:
    """Keys of the stored plans of a run, by name of the shard."""
    keys = (output.key_of(item.uri) for page in output.list(f"{paths.staging}plan/") for item in page)
    plans = {key.rpartition("-")[2].removesuffix(".parquet"): key for key in keys}
    plans.pop(NO_SHARD, None)
    return plans


def groups(receipts: Iterable[Receipt], plans: Mapping[str, str]) -> Iterator[tuple[StagedShard, ...]]:
    """Shards that are checked together, some `GROUP_OBJECTS` at a time."""
    group: list[StagedShard] = []
    objects = 0
    for receipt in receipts:
        if group and objects + receipt.objects > GROUP_OBJECTS:
            yield tuple(group)
            group, objects = [], 0
        group.append(StagedShard(receipt, plans.get(receipt.shard)))
        objects += receipt.objects
    if group:
        yield tuple(group)
