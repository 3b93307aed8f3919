"""What is delivered, and what happened to it: the records of the outbox and their Arrow schemas. Pure."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pyarrow as pa


class Result(StrEnum):
    """How an attempt to deliver ended."""

    DELIVERED = "delivered"
    PARKED = "parked"
    """permanently refused: `moderate actions retry` sends it again"""
    FAILED = "failed"
    """may succeed in a later run, which tries again"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One action on one image for one target. It is sent as it was written, however often it is sent."""

    key: str
    """the idempotency key"""
    item: bytes
    """16 bytes: identity of the object's place, its URI"""
    content: bytes
    """16 bytes: identity of its content: SHA-256 of its bytes, or its version where they could not be read"""
    uri: str
    etag: str
    sha256: str | None
    action: str
    policy_hash: str
    change: int
    """counts the actions on this item for this target, from 1: a receiver ignores a message with a lower count"""
    payload: str
    """the message, JSON"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of an attempt to deliver."""

    key: str
    result: Result
    reason: str = ""
    """why it was not delivered, in words, without secrets"""
    tries: int = 1
    blamed: bool = False
    """of a failure: whether the target accepted others in that run"""
    at: datetime


@dataclass(frozen=True, slots=True)
class Open:
    """A delivery that has not been delivered yet."""

    number: int
    """the entry of the log that holds it"""
    delivery: Delivery
    parked: bool = False
    reason: str = ""
    """of the newest attempt; empty: none ended"""
    failed_runs: int = 0
    """runs in which it failed although the target accepted others"""
    at: datetime | None = None
    """of the newest attempt"""

    def after(self, outcome: Outcome) -> "Open":
        """The same after an attempt that did not deliver it."""
        failed = self.failed_runs + outcome.blamed
        parked = outcome.result is Result.PARKED
        return replace(self, parked=parked, reason=outcome.reason, failed_runs=failed, at=outcome.at)


_UTC = pa.timestamp("us", tz="UTC")
_TEXT = pa.string()
_DELIVERY = (
    ("key", _TEXT),
    ("item", pa.binary(16)),
    ("content", pa.binary(16)),
    ("uri", _TEXT),
    ("etag", _TEXT),
    ("sha256", _TEXT),
    ("action", _TEXT),
    ("policy_hash", _TEXT),
    ("change", pa.int64()),
    ("payload", _TEXT),
)
DELIVERIES = pa.schema(_DELIVERY, metadata={"kind": "deliveries"})
OUTCOMES = pa.schema(
    [("key", _TEXT), ("result", _TEXT), ("reason", _TEXT), ("tries", pa.int32()), ("blamed", pa.bool_()), ("at", _UTC)],
    metadata={"kind": "outcomes"},
)
OPEN = pa.schema(
    [*_DELIVERY, ("number", pa.int64()), ("parked", pa.bool_()), ("reason", _TEXT), ("failed_runs", pa.int32()), ("at", _UTC)],
    metadata={"kind": "open"},
)
ITEMS = pa.schema(
    [
        ("item", pa.binary(16)),
        ("content", pa.binary(16)),
        ("action", _TEXT),
        ("policy_hash", _TEXT),
        ("change", pa.int64()),
    ]
)
"""The newest delivery of each item."""


def delivery_rows(deliveries: Iterable[Delivery]) -> pa.Table:
    """Deliveries as rows, in their order."""
    return pa.Table.from_pylist([asdict(one) for one in deliveries], schema=DELIVERIES)


def outcome_rows(outcomes: Iterable[Outcome]) -> pa.Table:
    """Outcomes as rows, in their order."""
    return pa.Table.from_pylist([asdict(one) for one in outcomes], schema=OUTCOMES)


def open_rows(waiting: Iterable[Open]) -> pa.Table:
    """Open deliveries as rows, in their order."""
    rows = [
        {
            **asdict(one.delivery),
            "number": one.number,
            "parked": one.parked,
            "reason": one.reason,
            "failed_runs": one.failed_runs,
            "at": one.at,
        }
        for one in waiting
    ]
    return pa.Table.from_pylist(rows, schema=OPEN)


def as_delivery(row: dict[str, Any]) -> Delivery:
    """A row of `DELIVERIES` or `OPEN`."""
    return Delivery(**{field.name: row[field.name] for field in fields(Delivery)})


def as_open(row: dict[str, Any]) -> Open:
    """A row of `OPEN`."""
    return Open(row["number"], as_delivery(row), row["parked"], row["reason"], row["failed_runs"], row["at"])


def as_outcome(row: dict[str, Any]) -> Outcome:
    """A row of `OUTCOMES`."""
    return Outcome(**{**row, "result": Result(row["result"])})


def idempotency_key(target: str, item: bytes, content: bytes, policy_hash: str, action: str, change: int) -> str:
    """The same for every attempt to deliver one action, and for no other action."""
    said = "\0".join((target, item.hex(), content.hex(), policy_hash, action, str(change)))
    return f"act_{hashlib.sha256(said.encode()).hexdigest()[:40]}"


def now() -> datetime:
    """The time of an outcome."""
    return datetime.now(UTC)
