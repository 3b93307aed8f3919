"""Objects of a shard that stay in Ray's object store: the driver, and every batch, only says which of them it means."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import pyarrow as pa
import ray
from ray import exceptions

from moderation.planning.object_tables import objects_in
from moderation.planning.plan import planned_objects
from moderation.records import ObjectRef


@dataclass(frozen=True, slots=True)
class SharedObjects(Sequence[ObjectRef]):
    """Consecutive rows of a table of objects; taken from the stored plan if the table went away with its machine."""

    table: Any
    """ray.ObjectRef of the table"""
    plan: str
    """URI of the file that holds the same table"""
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @overload
    def __getitem__(self, index: int) -> ObjectRef: ...
    @overload
    def __getitem__(self, index: slice) -> "SharedObjects": ...
    def __getitem__(self, index: int | slice) -> "ObjectRef | SharedObjects":
        rows = range(self.start, self.stop)[index]
        if isinstance(rows, range):
            return replace(self, start=rows.start, stop=rows.stop)
        return replace(self, start=rows, stop=rows + 1).fetched()[0]

    def __iter__(self) -> Iterator[ObjectRef]:
        return iter(self.fetched())

    def fetched(self, get: Callable[[Any], pa.Table] = ray.get) -> tuple[ObjectRef, ...]:
        """The objects themselves. `get`: how a table is had of its reference, such as one that keeps some."""
        try:
            table = get(self.table)
        except exceptions.RayError:
            table = planned_objects(self.plan)
        return objects_in(table.slice(self.start, len(self)))
