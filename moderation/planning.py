"""From sources to stored shards: what an earlier attempt planned comes first, then the rest of the listing.

Every named object is counted once: as unchanged, as planned, or not at all where the selection leaves it out. An object that
manifests name twice is taken up once.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.anew import SHARD_OBJECTS, WantedVersions, anew_pages
from moderation.errors import StorageError
from moderation.hashes import HashSet, hashes
from moderation.images.selection import Selection
from moderation.images.sharding import shard_name, shards
from moderation.images.sources import Source
from moderation.inputs import Inputs
from moderation.records import ObjectRef, Shard
from moderation.results.ledger import Ledger
from moderation.results.paths import RunPaths
from moderation.results.plan import Listed, Page, store_page, stored_pages

LOOK_UPS = 32
"""Objects of manifests looked up at a time, where the manifest does not give their version."""


@dataclass
class Tally:
    """How far the listing has come. Grows while it runs."""

    listed: int = 0
    unchanged: int = 0
    repeated: int = 0
    planned: int = 0
    source: int = 0
    """number of the source being listed"""
    entries: int = 0
    """entries of that source looked at"""
    last_uri: str = ""
    seconds: float = 0.0
    complete: bool = False

    def listed_so_far(self) -> Listed:
        """As it is stored beside a shard."""
        return Listed(self.listed, self.unchanged, self.source, self.entries, self.last_uri)

    def go_on_from(self, listed: Listed) -> None:
        """Take up what an earlier attempt stored."""
        self.listed, self.unchanged = listed.listed, listed.unchanged
        self.source, self.entries, self.last_uri = listed.source, listed.entries, listed.last_uri


def plan_shards(inputs: Inputs, paths: RunPaths, shard_size: int, ledger: Ledger | None, tally: Tally) -> Iterator[Page]:
    """Steps of the plan, stored before they are handed out. `ledger` None takes up everything, to be scored.

    Shards of what is to be scored come while the listing is running, then those decided anew from stored embeddings.

    Raises:
        SourceError: the listing broke off.
        StorageError: the plan could not be stored.
    """
    output, wanted = inputs.output, WantedVersions()
    number = 0
    for page in stored_pages(output, paths):
        wanted.want(page.anew)
        if page.listed is not None:
            tally.go_on_from(page.listed)
            tally.planned += len(page.objects) + len(page.anew)
        else:
            wanted.place(page.objects)
        number += 1
        yield page
    for page in _all_pages(inputs, paths, shard_size, ledger, tally, wanted):
        store_page(output, paths, number, page)
        number += 1
        yield page
    tally.complete = True


def plan_stored(inputs: Inputs, paths: RunPaths, ledger: Ledger, tally: Tally) -> Iterator[Page]:
    """Shards of all that earlier runs embedded and the selection chooses, each image once at its newest decision.

    What is decided already counts as unchanged, unless the settings say `full`. Stored before they are handed out.

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
    for page in anew_pages(inputs.output, ledger.stored, settings.shard_size or SHARD_OBJECTS, choose):
        store_page(inputs.output, paths, number, page)
        number += 1
        yield page
    tally.complete = True


def _all_pages(
    inputs: Inputs, paths: RunPaths, shard_size: int, ledger: Ledger | None, tally: Tally, wanted: WantedVersions
) -> Iterator[Page]:
    """What is not planned yet."""
    for page in _listed_pages(inputs, shard_size, ledger, tally):
        wanted.want(page.anew)
        yield page
    if ledger is None or wanted.left == 0:
        return

    def choose(items: Sequence[ObjectRef], embedded: NDArray[np.bool_]) -> NDArray[np.bool_]:
        taken = embedded.copy()
        taken[embedded] = wanted.place([item for item, stored in zip(items, embedded, strict=True) if stored])
        return taken

    yield from anew_pages(inputs.output, ledger.stored, inputs.settings.shard_size or SHARD_OBJECTS, choose)
    if wanted.left:  # somebody pruned the runs that held their embeddings
        objects = (item for page in stored_pages(inputs.output, paths) for item in page.anew)
        for shard in shards((item for item in objects if wanted.place([item])[0]), shard_size):
            yield Page(shard)


def _listed_pages(inputs: Inputs, shard_size: int, ledger: Ledger | None, tally: Tally) -> Iterator[Page]:
    """What the listing gives, `shard_size` objects of a kind at most."""
    to_score: list[ObjectRef] = []
    anew: list[ObjectRef] = []
    for item, embedded in _new_objects(inputs, ledger, tally):
        (anew if embedded else to_score).append(item)
        if max(len(to_score), len(anew)) == shard_size:
            yield _page(to_score, anew, tally)
            to_score, anew = [], []
    if to_score or anew:
        yield _page(to_score, anew, tally)


def _page(to_score: list[ObjectRef], anew: list[ObjectRef], tally: Tally) -> Page:
    shard = Shard(shard_name(to_score), tuple(to_score)) if to_score else None
    return Page(shard, anew=tuple(anew), listed=tally.listed_so_far())


def _new_objects(inputs: Inputs, ledger: Ledger | None, tally: Tally) -> Iterator[tuple[ObjectRef, bool]]:
    """Objects to take up, each with whether its embeddings are stored."""
    limit = inputs.settings.limit
    if limit is not None and tally.planned >= limit:
        return
    if ledger is None:
        ledger = Ledger()
    for page in _Listing(inputs, tally).pages():
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
                return


_Page = list[tuple[int, ObjectRef]]
"""objects, and how many entries of the source had been looked at with each"""


class _Listing:
    """The chosen objects of all sources behind where the tally stands, each once."""

    def __init__(self, inputs: Inputs, tally: Tally) -> None:
        settings = inputs.settings
        self._selection = Selection(settings.include, settings.exclude, settings.modified_since)
        self._sources, self._reader, self._tally = inputs.sources, inputs.reader, tally
        self._seen = HashSet()

    def pages(self) -> Iterator[_Page]:
        tally = self._tally
        begun, done, after = tally.source, tally.entries, tally.last_uri
        for number, source in enumerate(self._sources):
            if number > begun:
                tally.source, tally.entries, tally.last_uri, done, after = number, 0, "", 0, ""
            if source.is_fixed:
                # Earlier lists are read again, for what they name is not to be taken up twice.
                yield from self._listed(source, done if number >= begun else -1)
            elif number >= begun:
                yield from self._folder(source, done, after)

    def _folder(self, source: Source, entries: int, after: str) -> Iterator[_Page]:
        for found in self._timed(source.list(after)):
            page = list(enumerate(found, entries + 1))
            entries += len(found)
            yield self._chosen_times(self._chosen_keys(source, page))

    def _listed(self, source: Source, done: int) -> Iterator[_Page]:
        """Objects of a fixed list behind its first `done` entries; -1: none, they are only remembered."""
        entries = 0
        for found in self._timed(source.list()):
            page = self._chosen_keys(source, list(enumerate(found, entries + 1)))
            entries += len(found)
            fresh = self._seen.add(hashes(item.uri for _, item in page))
            self._tally.repeated += len(page) - int(fresh.sum())
            if done < 0 or entries <= done:
                continue
            new = [entry for entry, first in zip(page, fresh, strict=True) if first and entry[0] > done]
            yield self._chosen_times(self._looked_up(new))

    def _chosen_keys(self, source: Source, page: _Page) -> _Page:
        if not self._selection.by_key:
            return page
        return [entry for entry in page if self._selection.takes_key(source.key_of(entry[1].uri))]

    def _chosen_times(self, page: _Page) -> _Page:
        if not self._selection.by_time:
            return page
        return [entry for entry in page if self._selection.takes_time(entry[1])]

    def _looked_up(self, page: _Page) -> _Page:
        """With the versions of objects whose manifest does not give them."""
        if all(item.etag for _, item in page):
            return page
        with ThreadPoolExecutor(LOOK_UPS, "look-up") as pool:
            return list(zip((number for number, _ in page), pool.map(self._look_up, (item for _, item in page)), strict=True))

    def _look_up(self, item: ObjectRef) -> ObjectRef:
        if item.etag:
            return item
        try:
            return self._reader.look_up(item.uri)
        except StorageError:
            return item  # reading it will fail too, and its row says why

    def _timed(self, pages: Iterator[list[ObjectRef]]) -> Iterator[list[ObjectRef]]:
        while True:
            began = time.monotonic()
            page = next(pages, None)
            self._tally.seconds += time.monotonic() - began
            if page is None:
                return
            yield page
