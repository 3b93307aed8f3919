"""The listing of a run: the selected objects of all sources, each once, and its position.

An earlier attempt's listing resumes after its last object only if the store guarantees to list in order. With other stores,
everything is listed again, and objects in the stored plan are skipped.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.common.hash_set import Hashes, HashSet, hashes
from moderation.errors import StorageError
from moderation.planning.inputs import Inputs
from moderation.planning.plan import Listed
from moderation.planning.selection import Selection
from moderation.records import ObjectRef
from moderation.sources import Source
from moderation.storage import Census

LOOK_UPS = 32
"""Objects of manifests looked up at a time, where the manifest does not give their version."""


class NotInOrderError(Exception):
    """A store that guarantees no order returned a key out of order: list again, by the stored plan."""


@dataclass
class Tally:
    """The position of the listing. Grows while it runs."""

    listed: int = 0
    unchanged: int = 0
    repeated: int = 0
    planned: int = 0
    source: int = 0
    """number of the source being listed"""
    entries: int = 0
    """entries of that source looked at"""
    last_uri: str = ""
    named: int = 0
    """objects to process, as counted by stores and files themselves: the listing must reach the same number"""
    missing: int = 0
    """of these, how many the pages of folders that are behind should have given and did not"""
    seconds: float = 0.0
    complete: bool = False

    def listed_so_far(self) -> Listed:
        """As it is stored beside a shard."""
        return Listed(self.listed, self.unchanged, self.source, self.entries, self.last_uri, self.missing)

    def go_on_from(self, listed: Listed) -> None:
        """Start from the position that an earlier attempt stored."""
        self.listed, self.unchanged, self.missing = listed.listed, listed.unchanged, listed.missing
        self.named = self.listed + self.missing
        self.source, self.entries, self.last_uri = listed.source, listed.entries, listed.last_uri

    def begin_again(self, planned: int) -> None:
        """List everything from the start, since the order is unreliable; `planned` objects are already in shards."""
        self.listed = self.named = self.planned = planned
        self.unchanged = self.repeated = self.source = self.entries = self.missing = 0
        self.last_uri = ""


Entries = list[tuple[int, ObjectRef]]
"""objects, and how many entries of the source had been looked at with each"""


class Listing:
    """The selected objects of all sources after the tally's position, each once.

    Args:
        inputs: the sources, and what is chosen of them.
        tally: where an earlier attempt came to, and this one comes to.
        planned: hashes of the URIs that are already in shards, if the order is unreliable.
    """

    def __init__(self, inputs: Inputs, tally: Tally, planned: HashSet | None = None) -> None:
        settings = inputs.settings
        self._selection = Selection(settings.include, settings.exclude, settings.modified_since)
        self._sources, self._reader, self._tally = inputs.sources, inputs.reader, tally
        self._planned = planned
        self._seen = HashSet()

    def pages(self) -> Iterator[Entries]:
        """Pages of objects. Raises `NotInOrderError` if a store without guaranteed order lists out of order."""
        tally = self._tally
        begun, done, after = tally.source, tally.entries, tally.last_uri
        for number, source in enumerate(self._sources):
            if number > begun:
                tally.source, tally.entries, tally.last_uri, done, after = number, 0, "", 0, ""
            if source.is_fixed:
                # Earlier lists are read again, so that nothing they name is processed twice.
                yield from self._listed(source, done if number >= begun else -1)
            elif number >= begun:
                yield from self._folder(source, done, after)

    def _folder(self, source: Source, entries: int, after: str) -> Iterator[Entries]:
        last = after
        for found in self._counted(source, after):
            if self._planned is None and not source.is_ordered:
                for item in found:
                    if item.uri <= last:
                        raise NotInOrderError
                    last = item.uri
            page = self._chosen_keys(source, list(enumerate(found, entries + 1)))
            entries += len(found)
            if self._planned is not None:
                page = self._not_planned(page, self._planned)
            page = self._handed_on(found, self._chosen_times(page))
            self._tally.missing = self._tally.named - self._tally.listed - len(page)
            yield page

    def _listed(self, source: Source, done: int) -> Iterator[Entries]:
        """Objects of a fixed list after its first `done` entries; -1: none, they are only remembered."""
        entries = 0
        for found in self._counted(source, ""):
            page = self._chosen_keys(source, list(enumerate(found, entries + 1)))
            entries += len(found)
            fresh = self._first_seen(hashes(item.uri for _, item in page))
            if done < 0 or entries <= done:
                self._handed_on(found, [])
                continue
            new = [entry for entry, first in zip(page, fresh, strict=True) if first and entry[0] > done]
            objects = [entry for entry in self._looked_up(new) if not _is_folder_marker(entry[1])]
            yield self._handed_on(found, self._chosen_times(objects))

    def _not_planned(self, page: Entries, planned: HashSet) -> Entries:
        uris = hashes(item.uri for _, item in page)
        new = self._first_seen(uris) & ~planned.contains(uris)
        return [entry for entry, is_new in zip(page, new, strict=True) if is_new]

    def _first_seen(self, uris: Hashes) -> NDArray[np.bool_]:
        fresh = self._seen.add(uris)
        self._tally.repeated += len(uris) - int(fresh.sum())
        return fresh

    def _handed_on(self, found: list[ObjectRef], page: Entries) -> Entries:
        """Objects skipped on purpose are not missing."""
        self._tally.named -= len(found) - len(page)
        return page

    def _chosen_keys(self, source: Source, page: Entries) -> Entries:
        if not self._selection.by_key:
            return page
        return [entry for entry in page if self._selection.takes_key(source.key_of(entry[1].uri))]

    def _chosen_times(self, page: Entries) -> Entries:
        if not self._selection.by_time:
            return page
        return [entry for entry in page if self._selection.takes_time(entry[1])]

    def _looked_up(self, page: Entries) -> Entries:
        """With the versions of objects whose manifest does not give them."""
        if all(item.etag for _, item in page):
            return page
        with ThreadPoolExecutor(LOOK_UPS, "look-up") as pool:
            found = pool.map(self._look_up, (item for _, item in page))
            try:
                return list(zip((number for number, _ in page), found, strict=True))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _look_up(self, item: ObjectRef) -> ObjectRef:
        if item.etag:
            return item
        try:
            return self._reader.look_up(item.uri)
        except StorageError:
            return item  # reading it will fail too, and its row says why

    def _counted(self, source: Source, after: str) -> Iterator[list[ObjectRef]]:
        """The pages of a source, which is timed, and whose own count of them goes to the tally."""
        census = Census()
        pages = source.list(after, census)
        while True:
            began = time.monotonic()
            page = next(pages, None)
            self._tally.seconds += time.monotonic() - began
            self._tally.named += census.objects
            census.objects = 0
            if page is None:
                return
            yield page


def _is_folder_marker(item: ObjectRef) -> bool:
    """Whether a console made it for a "folder", as listings leave them out: an empty object whose name ends in a slash."""
    return item.uri.endswith("/") and item.size == 0 and item.etag != ""
