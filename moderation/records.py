"""Frozen records that travel between the stages. Nothing here imports anything heavy."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa

Number = TypeVar("Number", int, float)
T = TypeVar("T", "Shard", "Batch")


class ObjectRef(NamedTuple):
    """One object in storage, at one version."""

    uri: str
    etag: str
    size: int
    last_modified: datetime
    """UTC"""


@dataclass(frozen=True, slots=True)
class Shard:
    """The unit of committing and resuming work. Named by its content."""

    name: str
    objects: Sequence[ObjectRef]
    """a tuple, or a sequence that knows where its objects are and travels by that"""

    def __reduce__(self) -> tuple[Any, ...]:
        return _sent(Shard, self.name, self.objects)


@dataclass(frozen=True, slots=True)
class Batch:
    """The unit of dispatch: some objects of one shard."""

    shard: str
    objects: Sequence[ObjectRef]
    """as those of a shard"""

    def __reduce__(self) -> tuple[Any, ...]:
        return _sent(Batch, self.shard, self.objects)

    def parts(self, size: int) -> "list[Batch]":
        """This batch cut into smaller ones of `size` objects, the last one perhaps of fewer."""
        return [Batch(self.shard, self.objects[i : i + size]) for i in range(0, len(self.objects), size)]


_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)

# Millions of objects travel between processes, and Ray pickles whatever is not built in by slow Python code: fifteen
# microseconds an object, against one for a few long lists.


def _sent(kind: type[T], name: str, objects: Sequence[ObjectRef]) -> tuple[Any, ...]:
    if not isinstance(objects, tuple):
        return kind, (name, objects)
    return _unpacked, (kind, name, _packed(objects))


def _packed(objects: tuple[ObjectRef, ...]) -> tuple[list[str], list[str], list[int], list[int]]:
    microseconds = [(item.last_modified - _EPOCH) // _MICROSECOND for item in objects]
    return [item.uri for item in objects], [item.etag for item in objects], [item.size for item in objects], microseconds


def _unpacked(kind: type[T], name: str, columns: tuple[list[str], list[str], list[int], list[int]]) -> T:
    return kind(name, object_refs(*columns))


def object_refs(
    uris: Iterable[str], etags: Iterable[str], sizes: Iterable[int], microseconds: Iterable[int]
) -> tuple[ObjectRef, ...]:
    """Objects of their columns; times in microseconds since 1970, UTC."""
    times = (_EPOCH + number * _MICROSECOND for number in microseconds)
    return tuple(map(ObjectRef, uris, etags, sizes, times))


STAGES = ("list", "fetch", "decode", "encode", "score", "write", "check", "publish")
"""The stages whose busy seconds are measured, in order."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The outcome of a batch, a shard or a run. `errored` is by error code, `flagged` and `shadow` by rule and list."""

    scored: int = 0
    blocked: int = 0
    review: int = 0
    near_threshold: int = 0
    errored: Mapping[str, int] = field(default_factory=dict)
    flagged: Mapping[str, int] = field(default_factory=dict)
    shadow: Mapping[str, int] = field(default_factory=dict)
    damaged: int = 0
    """scored images whose file is damaged"""
    matched: Mapping[str, int] = field(default_factory=dict)
    """images on each hash list, in any mode, images without scores among them"""
    unscored_review: int = 0
    """how many more images without scores go to people than by the policy's `unreadable` and `unsupported`: lists decided"""
    without_md5: int = 0
    """scored images that MD5 lists were not asked about: their bytes were hashed under a policy that had none"""

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
            self.damaged + other.damaged,
            add_numbers(self.matched, other.matched),
            self.unscored_review + other.unscored_review,
            self.without_md5 + other.without_md5,
        )


def add_numbers(a: Mapping[str, Number], b: Mapping[str, Number]) -> dict[str, Number]:
    """The sum of two mappings, key by key."""
    total = dict(a)
    for key, value in b.items():
        total[key] = total[key] + value if key in total else value
    return dict(sorted(total.items()))


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """What a scored batch reports to the driver; its rows stay in Ray's object store."""

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
