"""How the deliveries to a target stand: what `moderate actions status` shows. Reads only."""

import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

from moderation.actions.acting import is_live
from moderation.actions.lease import newest
from moderation.actions.outbox import folder_of, load
from moderation.actions.targets import Target
from moderation.errors import OutputError, StorageError
from moderation.storage import Store

EXAMPLES = 5
"""URIs that are shown for each reason."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Deliveries that were parked for one reason."""

    reason: str
    deliveries: int
    uris: tuple[str, ...]
    """some of them"""


@dataclass(frozen=True, slots=True)
class Standing:
    """A target's deliveries."""

    target: str
    kind: str
    live: bool
    delivered: int
    """ever"""
    waiting: int
    failed: int
    """of those waiting, how many were tried already"""
    newest_failure: str
    refused: tuple[Refused, ...]
    """parked ones, by reason, the most frequent first"""
    at_work: str
    """who sends at this moment; empty: nobody"""


def standing(output: Store, target: Target) -> Standing:
    """How it stands now. Raises `OutputError`."""
    outbox = load(output, target.name)
    parked = outbox.parked
    failures = [one for one in outbox.waiting if one.reason]
    latest = max(failures, key=lambda one: one.at or datetime.min.replace(tzinfo=UTC), default=None)
    uris: dict[str, list[str]] = {}
    for one in parked:
        uris.setdefault(one.reason, []).append(one.delivery.uri)
    counts = Counter(one.reason for one in parked)
    return Standing(
        target.name,
        target.kind,
        is_live(output, target.name),
        outbox.delivered,
        len(outbox.waiting),
        len(failures),
        latest.reason if latest is not None else "",
        tuple(Refused(reason, count, tuple(uris[reason][:EXAMPLES])) for reason, count in counts.most_common()),
        _at_work(output, target),
    )


def _at_work(output: Store, target: Target) -> str:
    try:
        _, holder = newest(output, f"{folder_of(target.name)}lease/")
    except StorageError as error:
        raise OutputError(f"cannot read {output.uri}: {error.detail}") from None
    if holder is None or holder.released or holder.until < time.time():
        return ""
    return f"process {holder.process} on {holder.host}"
