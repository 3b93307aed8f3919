"""Frozen records that travel between the stages. Nothing here imports anything heavy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, TypeVar

import pyarrow as pa

Number = TypeVar("Number", int, float)


class ObjectRef(NamedTuple):
    """One object in storage, at one version."""

    uri: str
    etag: str
    size: int
    last_modified: datetime
    """UTC"""


@dataclass(frozen=True, slots=True)
class Shard:
    """The unit of commitment and of resuming. Named by its content."""

    name: str
    objects: tuple[ObjectRef, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """The unit of dispatch: some objects of one shard."""

    shard: str
    objects: tuple[ObjectRef, ...]

    def halves(self) -> "tuple[Batch, Batch]":
        """This batch cut in two; it must hold two objects or more."""
        middle = len(self.objects) // 2
        return Batch(self.shard, self.objects[:middle]), Batch(self.shard, self.objects[middle:])


STAGES = ("list", "fetch", "decode", "encode", "score", "write", "check", "publish")
"""The stages whose busy seconds are measured, in order."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of a batch, a shard or a run. `errored` is by error code, `flagged` and `shadow` by rule."""

    scored: int = 0
    blocked: int = 0
    review: int = 0
    near_threshold: int = 0
    errored: Mapping[str, int] = field(default_factory=dict)
    flagged: Mapping[str, int] = field(default_factory=dict)
    shadow: Mapping[str, int] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        """The number of error rows."""
        return sum(self.errored.values())

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.scored + other.scored,
            self.blocked + other.blocked,
            self.review + other.review,
            self.near_threshold + other.near_threshold,
            add_numbers(self.errored, other.errored),
            add_numbers(self.flagged, other.flagged),
            add_numbers(self.shadow, other.shadow),
        )


def add_numbers(a: Mapping[str, Number], b: Mapping[str, Number]) -> dict[str, Number]:
    """The sum of two mappings, key by key."""
    total = dict(a)
    for key, value in b.items():
        total[key] = total[key] + value if key in total else value
    return dict(sorted(total.items()))


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """What the driver learns of a scored batch; its rows stay in the object store."""

    counts: Counts
    seconds: Mapping[str, float]
    """busy seconds by stage, summed over threads"""


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """The rows of one batch, in the schemas of `moderation.results.schemas`."""

    summary: BatchSummary
    decisions: pa.Table
    scores: pa.Table
    embeddings: pa.Table
