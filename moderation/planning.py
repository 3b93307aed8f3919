"""From the listing to stored shards: what an earlier attempt planned comes first, then the rest of the listing."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from moderation.images.listing import Selection, list_objects
from moderation.images.sharding import shards
from moderation.inputs import Inputs
from moderation.records import ObjectRef, Shard
from moderation.results.ledger import Ledger
from moderation.results.paths import RunPaths
from moderation.results.plan import Progress, store_shard, stored_shards


@dataclass
class Tally:
    """Counts that grow while the listing runs."""

    listed: int = 0
    unchanged: int = 0
    planned: int = 0
    last_uri: str = ""
    seconds: float = 0.0
    complete: bool = False


def plan_shards(inputs: Inputs, paths: RunPaths, shard_size: int, ledger: Ledger | None, tally: Tally) -> Iterator[Shard]:
    """Shards of the objects to take up, stored before they are handed out. `ledger` None takes up everything."""
    number = 0
    for shard, progress in stored_shards(inputs.output, paths):
        tally.listed, tally.unchanged, tally.last_uri = progress.listed, progress.unchanged, progress.last_uri
        tally.planned += len(shard.objects)
        number += 1
        yield shard
    for shard in shards(_new_objects(inputs, ledger, tally), shard_size):
        progress = Progress(tally.listed, tally.unchanged, tally.last_uri)
        store_shard(inputs.output, paths, number, shard, progress)
        number += 1
        yield shard
    tally.complete = True


def _new_objects(inputs: Inputs, ledger: Ledger | None, tally: Tally) -> Iterator[ObjectRef]:
    limit = inputs.settings.limit
    settings = inputs.settings
    selection = Selection(settings.include, settings.exclude, settings.modified_since)
    pages = list_objects(inputs.source, selection, after=tally.last_uri)
    while True:
        began = time.monotonic()
        page = next(pages, None)
        tally.seconds += time.monotonic() - began
        if page is None:
            return
        for item in page:
            if limit is not None and tally.planned >= limit:
                return
            tally.listed += 1
            tally.last_uri = item.uri
            if ledger is not None and item in ledger:
                tally.unchanged += 1
            else:
                tally.planned += 1
                yield item
