"""From sources to stored shards: first those that an earlier attempt planned, then the rest of the listing.

Every object is counted once: as unchanged or as planned; objects that are not selected are not counted. An object that
manifests name twice, or a store lists twice, is processed once.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from moderation.common.hash_set import Hashes, HashSet, hashes
from moderation.planning.inputs import Inputs
from moderation.planning.listing import Listing, NotInOrderError, Tally
from moderation.planning.plan import Page, store_page, stored_pages
from moderation.planning.selection import Selection
from moderation.planning.sharding import shard_name, shards
from moderation.planning.stored_planning import SHARD_OBJECTS, WantedVersions, redecided_pages
from moderation.records import ObjectRef, Shard
from moderation.results.ledger import Ledger
from moderation.results.paths import RunPaths

__all__ = ["Tally", "plan_shards", "plan_stored"]


def plan_shards(inputs: Inputs, paths: RunPaths, shard_size: int, ledger: Ledger | None, tally: Tally) -> Iterator[Page]:
    """Steps of the plan, stored before they are returned. With `ledger` None, every object is scored.

    Shards to score come while the listing is running, then those to re-decide from stored embeddings.

    Raises:
        SourceError: the listing failed.
        StoreDownError: the store of a source does not answer.
        StorageError: the plan could not be stored.
    """
    output, wanted = inputs.output, WantedVersions()
    ordered = all(source.is_ordered for source in inputs.sources)
    planned = HashSet()
    number = 0
    for page in stored_pages(output, paths):
        wanted.want(page.redecided)
        if not ordered:
            planned.add(_uris(page))
        if page.listed is not None:
            tally.go_on_from(page.listed)
            tally.planned += len(page.objects) + len(page.redecided)
        else:
            wanted.place(page.objects)
        number += 1
        yield page
    again = planned if number and not ordered else None
    for page in _all_pages(inputs, paths, shard_size, ledger, tally, wanted, again):
        store_page(output, paths, number, page)
        number += 1
        yield page
    tally.complete = True


def plan_stored(inputs: Inputs, paths: RunPaths, ledger: Ledger, tally: Tally) -> Iterator[Page]:
    """Shards of all selected objects that earlier runs embedded, each image once, at its newest decision.

    Objects already decided count as unchanged, unless the settings say `full`. Stored before they are returned.

    Raises:
        StorageError: the plan could not be stored.
    """
    settings = inputs.settings
    selection = Selection(settings.include, settings.exclude, settings.modified_since)
    seen, planned = HashSet(), HashSet()
    number = 0
    for page in stored_pages(inputs.output, paths):
        planned.add(hashes(item.uri for item in page.objects))
        tally.planned += len(page.objects)
        number += 1
        yield page

    def choose(items: Sequence[ObjectRef], embedded: NDArray[np.bool_]) -> NDArray[np.bool_]:
        uris = hashes(item.uri for item in items)
        new = seen.add(uris) & embedded & ~planned.contains(uris)
        new &= np.array([selection.takes_key(item.uri) and selection.takes_time(item) for item in items], bool)
        unchanged = new & ledger.decided(items) if not settings.full else np.zeros(len(items), bool)
        taken = new & ~unchanged
        if settings.limit is not None:
            taken[np.flatnonzero(taken)[max(0, settings.limit - tally.planned) :]] = False
        tally.unchanged += int(unchanged.sum())
        tally.planned += int(taken.sum())
        tally.listed = tally.unchanged + tally.planned
        return taken

    tally.listed = tally.planned
    for page in redecided_pages(inputs.output, ledger.stored, settings.shard_size or SHARD_OBJECTS, choose):
        store_page(inputs.output, paths, number, page)
        number += 1
        yield page
    tally.named = tally.listed
    tally.complete = True


def _all_pages(
    inputs: Inputs,
    paths: RunPaths,
    shard_size: int,
    ledger: Ledger | None,
    tally: Tally,
    wanted: WantedVersions,
    again: HashSet | None,
) -> Iterator[Page]:
    """Objects not planned yet. `again`: those already planned, if the stores guarantee no order to resume the listing by."""
    for page in _listed_pages(inputs, paths, shard_size, ledger, tally, again):
        wanted.want(page.redecided)
        yield page
    if ledger is None or wanted.left == 0:
        return

    def choose(items: Sequence[ObjectRef], embedded: NDArray[np.bool_]) -> NDArray[np.bool_]:
        taken = embedded.copy()
        taken[embedded] = wanted.place([item for item, stored in zip(items, embedded, strict=True) if stored])
        return taken

    yield from redecided_pages(inputs.output, ledger.stored, inputs.settings.shard_size or SHARD_OBJECTS, choose)
    if wanted.left:  # the runs with their embeddings have been pruned
        objects = (item for page in stored_pages(inputs.output, paths) for item in page.redecided)
        for shard in shards((item for item in objects if wanted.place([item])[0]), shard_size):
            yield Page(shard)


def _listed_pages(
    inputs: Inputs, paths: RunPaths, shard_size: int, ledger: Ledger | None, tally: Tally, planned: HashSet | None
) -> Iterator[Page]:
    """The listed objects, at most `shard_size` of a kind."""
    if planned is None:
        try:
            yield from _cut(_new_objects(inputs, ledger, tally, None), shard_size, tally)
            return
        except NotInOrderError:
            planned = HashSet()
        for page in stored_pages(inputs.output, paths):
            planned.add(_uris(page))
    tally.begin_again(len(planned))
    yield from _cut(_new_objects(inputs, ledger, tally, planned), shard_size, tally)


def _uris(page: Page) -> Hashes:
    return hashes(item.uri for item in (*page.objects, *page.redecided))


def _cut(objects: Iterator[tuple[ObjectRef, bool]], shard_size: int, tally: Tally) -> Iterator[Page]:
    to_score: list[ObjectRef] = []
    redecided: list[ObjectRef] = []
    for item, embedded in objects:
        (redecided if embedded else to_score).append(item)
        if max(len(to_score), len(redecided)) == shard_size:
            yield _page(to_score, redecided, tally)
            to_score, redecided = [], []
    if to_score or redecided:
        yield _page(to_score, redecided, tally)


def _page(to_score: list[ObjectRef], redecided: list[ObjectRef], tally: Tally) -> Page:
    shard = Shard(shard_name(to_score), tuple(to_score)) if to_score else None
    return Page(shard, redecided=tuple(redecided), listed=tally.listed_so_far())


def _new_objects(
    inputs: Inputs, ledger: Ledger | None, tally: Tally, planned: HashSet | None
) -> Iterator[tuple[ObjectRef, bool]]:
    """Objects to process, each with whether its embeddings are stored."""
    limit = inputs.settings.limit
    if limit is not None and tally.planned >= limit:
        return
    if ledger is None:
        ledger = Ledger()
    for page in Listing(inputs, tally, planned).pages():
        items = [item for _, item in page]
        for (entries, item), decided, embedded in zip(page, ledger.decided(items), ledger.embedded(items), strict=True):
            tally.entries, tally.last_uri = entries, item.uri
            tally.listed += 1
            if decided:
                tally.unchanged += 1
                continue
            tally.planned += 1
            yield item, bool(embedded)
            if limit is not None and tally.planned >= limit:
                tally.named = tally.listed + tally.missing  # the rest of the page, and of the sources, is not requested
                return
