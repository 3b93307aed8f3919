"""From sources to stored shards: first those that an earlier attempt planned, then the rest of the listing.

Every object is counted once: as unchanged or as planned; objects that are not selected are not counted. An object that
manifests name twice, or a store lists twice, is processed once.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from moderation.common.hash_set import HashSet, hashes
from moderation.errors import RunError
from moderation.planning.blocks import NotInOrderError
from moderation.planning.cutting import cuts
from moderation.planning.helpers import HelperLostError, Helpers, InProcess
from moderation.planning.inputs import Inputs
from moderation.planning.listing import Listing
from moderation.planning.plan import Page, store_page
from moderation.planning.selection import Selection
from moderation.planning.sharding import shards
from moderation.planning.stored_planning import SHARD_OBJECTS, WantedVersions, redecided_pages
from moderation.planning.tally import Tally
from moderation.records import ObjectRef
from moderation.results.ledger import Ledger, version_hashes
from moderation.results.paths import RunPaths

__all__ = ["InProcess", "Tally", "plan_shards", "plan_stored"]

LOSSES = 5
"""Times that helpers may be lost."""


def plan_shards(inputs: Inputs, paths: RunPaths, shard_size: int, helpers: Helpers, tally: Tally) -> Iterator[Page]:
    """Steps of the plan, stored before they are returned.

    Shards to score come while the listing is running, then those to re-decide from stored embeddings. The plan does not depend
    on who the helpers are, nor on the order in which they are done.

    Raises:
        SourceError: the listing failed.
        StoreDownError: the store of a source does not answer.
        StorageError: the plan could not be stored.
        RunError: helpers were lost again and again.
    """
    given = losses = 0
    while not tally.complete:
        try:
            for number, page in enumerate(_Planning(inputs, paths, shard_size, tally, helpers).pages()):
                if number >= given:
                    given += 1
                    yield page
            tally.complete = True
        except HelperLostError as error:
            losses += 1
            if losses == LOSSES:
                raise RunError(
                    f"the processes that list and plan were lost {losses} times, the last time because of: {error}; "
                    "fix that, then resume with the same --run-id"
                ) from None
            tally.begin_again(0)
            helpers.restart()


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
    for step in InProcess(inputs, paths, ledger).stored(hashed=True):
        planned.add(step.uris)
        tally.planned += len(step.page.objects)
        number += 1
        yield step.page

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


class _Planning:
    """One attempt at the plan: what is stored of it, and then the rest."""

    def __init__(self, inputs: Inputs, paths: RunPaths, shard_size: int, tally: Tally, helpers: Helpers) -> None:
        self._inputs, self._paths, self._shard_size = inputs, paths, shard_size
        self._tally, self._helpers = tally, helpers
        self._ordered = all(source.is_ordered for source in inputs.sources)
        self._wanted = WantedVersions()
        self._number = 0

    def pages(self) -> Iterator[Page]:
        """All steps, stored."""
        planned = HashSet()
        for step in self._helpers.stored(hashed=not self._ordered):
            planned.add(step.uris)
            if step.page.listed is not None:
                self._wanted.want(step.versions)
                self._tally.go_on_from(step.page.listed)
                self._tally.planned += len(step.page.objects) + len(step.page.redecided)
            else:
                self._wanted.place(step.versions)
            self._number += 1
            yield step.page
        yield from self._listed_pages(planned if self._number and not self._ordered else None)
        for page in self._redecided_pages():
            store_page(self._inputs.output, self._paths, self._number, page)
            self._number += 1
            yield page

    def _listed_pages(self, planned: HashSet | None) -> Iterator[Page]:
        """Objects not planned yet. `planned`: those that are, if the stores guarantee no order to resume the listing by."""
        if planned is None:
            try:
                yield from self._new_pages(None)
                return
            except NotInOrderError:
                planned = HashSet()
            for step in self._helpers.stored(hashed=True):
                planned.add(step.uris)
        self._tally.begin_again(len(planned))
        yield from self._new_pages(planned)

    def _new_pages(self, planned: HashSet | None) -> Iterator[Page]:
        limit = self._inputs.settings.limit
        if limit is not None and self._tally.planned >= limit:
            return
        listing = Listing(self._inputs.sources, self._helpers, self._tally, planned, patient=limit is None)
        for cut, references in cuts(listing.blocks(), self._shard_size, limit, self._tally, self._number):
            step = self._helpers.store(cut, references)
            self._wanted.want(step.versions)
            self._number += 1
            yield step.page

    def _redecided_pages(self) -> Iterator[Page]:
        """Shards of the listed objects whose embeddings are stored."""
        if self._wanted.left == 0:
            return

        def choose(items: Sequence[ObjectRef], embedded: NDArray[np.bool_]) -> NDArray[np.bool_]:
            taken = embedded.copy()
            taken[embedded] = self._wanted.place(
                version_hashes(item for item, stored in zip(items, embedded, strict=True) if stored)
            )
            return taken

        size = self._inputs.settings.shard_size or SHARD_OBJECTS
        yield from redecided_pages(self._inputs.output, self._helpers.history, size, choose)
        if self._wanted.left:  # the runs with their embeddings have been pruned
            objects = (item for step in self._helpers.stored(hashed=False) for item in step.page.redecided)
            left = (item for item in objects if self._wanted.place(version_hashes([item]))[0])
            for shard in shards(left, self._shard_size):
                yield Page(shard)
