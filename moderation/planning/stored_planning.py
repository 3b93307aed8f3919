"""Shards to re-decide from stored embeddings, each with the files of an earlier run that hold its embeddings.

The files are read one by one, newest run first, so that each is read once however the objects are spread over them.
"""

import io
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from moderation.common.hash_set import Hashes, HashSet
from moderation.errors import StorageError
from moderation.planning.plan import Page
from moderation.planning.sharding import shard_name
from moderation.records import ObjectRef, Shard
from moderation.results.stored_images import StoredShard
from moderation.storage import Store

SHARD_OBJECTS = 20_000
"""Minimum number of objects in a shard to re-decide: deciding takes a second where scoring takes a minute."""

Choose = Callable[[Sequence[ObjectRef], NDArray[np.bool_]], NDArray[np.bool_]]
"""From which objects of a file have embeddings, selects those to use; both bool [N]"""


class WantedVersions:
    """Object versions that were listed and whose embeddings are stored, until they are assigned to a shard; 16 bytes each."""

    def __init__(self) -> None:
        self._wanted, self._placed = HashSet(), HashSet()

    @property
    def left(self) -> int:
        """How many are not assigned yet."""
        return len(self._wanted) - len(self._placed)

    def want(self, versions: Hashes) -> None:
        """Hashes of object versions that were listed."""
        self._wanted.add(versions)

    def place(self, versions: Hashes) -> NDArray[np.bool_]:
        """Bool [N]: which of the object versions were waiting for a shard; they are assigned now."""
        taken = self._wanted.contains(versions)
        taken[taken] = self._placed.add(versions[taken])
        return taken


def redecided_pages(output: Store, stored: Sequence[StoredShard], size: int, choose: Choose) -> Iterator[Page]:
    """Shards of the stored objects that `choose` selects, each of at least `size` objects except the last."""
    objects: list[ObjectRef] = []
    sources: list[StoredShard] = []
    for shard in stored:
        items, embedded = _objects(output, shard)
        taken = [item for item, take in zip(items, choose(items, embedded), strict=True) if take]
        if taken:
            objects += taken
            sources.append(shard)
        if len(objects) >= size:
            yield _page(objects, sources)
            objects, sources = [], []
    if objects:
        yield _page(objects, sources)


def _page(objects: list[ObjectRef], sources: list[StoredShard]) -> Page:
    objects.sort(key=lambda item: item.uri)
    return Page(Shard(shard_name(objects), tuple(objects)), stored=tuple(sources))


def _objects(output: Store, shard: StoredShard) -> tuple[list[ObjectRef], NDArray[np.bool_]]:
    """The objects of a stored shard, and which of them have embeddings. None if its files are gone by now."""
    columns = ["uri", "etag", "size_bytes", "last_modified", "status"]
    try:
        table = pq.read_table(io.BytesIO(output.get(shard.decisions.path)), columns=columns)
    except StorageError:  # pruned since the run began: its objects are scored
        return [], np.zeros(0, bool)
    *parts, status = (table[name].to_pylist() for name in columns)
    return [ObjectRef(*row) for row in zip(*parts, strict=True)], np.array([one == "scored" for one in status], bool)
