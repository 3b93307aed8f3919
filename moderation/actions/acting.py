"""Acts on effective decisions: delivers what is open, then what has changed, one target after the other."""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice

from moderation.actions.changes import find_changes
from moderation.actions.deliveries import Delivery, Open, Outcome, Result
from moderation.actions.dispatch import Chain, Patience
from moderation.actions.lease import LASTS_S, SKEW_S, BusyError, Lease, LeaseLostError
from moderation.actions.outbox import COMPACT_AFTER, Outbox, folder_of, load
from moderation.actions.secret_values import Resolve
from moderation.actions.senders import Sender, open_sender
from moderation.actions.targets import Target
from moderation.common.progress import Progress, tell
from moderation.errors import ModerationError, OutputError, SettingsError, StorageError
from moderation.query.connection import connect
from moderation.results.manifest import published_manifests
from moderation.storage import Store

BATCH = 500
"""Deliveries that are written together. A crash repeats no more than these, with the same keys."""
GIVE_UP_AFTER = 5
"""Runs in which a delivery failed, although the target accepted others: then it is parked."""


@dataclass(frozen=True, slots=True)
class Acted:
    """What one run did for one target."""

    target: str
    live: bool
    """False: nothing was sent or written"""
    planned: dict[str, int] = field(default_factory=dict)
    """images whose effective decision is new to the target, by action"""
    examples: tuple[tuple[str, str], ...] = ()
    delivered: int = 0
    parked: int = 0
    """refused in this run"""
    waiting: int = 0
    """deliveries that the next run resumes"""
    stopped: str = ""
    """why the target was given up in this run"""
    busy: str = ""
    """who else is at work on the target"""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run acts."""

    resolve: Resolve
    patience: Patience | None = None
    lease_s: float = LASTS_S
    skew_s: float = SKEW_S
    batch: int = BATCH


def is_live(output: Store, target: str) -> bool:
    """Whether a target has gone live: until then, a run sends nothing. Raises `OutputError`."""
    try:
        return output.exists(f"{folder_of(target)}live.json")
    except StorageError as error:
        raise OutputError(f"cannot read {output.uri}: {error.detail}") from None


def go_live(output: Store, target: str) -> None:
    """Let runs send to a target from now on. Raises `OutputError`."""
    since = json.dumps({"since": datetime.now(UTC).isoformat(timespec="seconds")})
    try:
        with contextlib.suppress(FileExistsError):
            output.put(f"{folder_of(target)}live.json", since.encode(), create_only=True)
    except StorageError as error:
        raise OutputError(f"cannot write to {output.uri}: {error.detail}") from None


def rehearse(output: Store, target: Target) -> Acted:
    """What a run would send to a target now. Sends and writes nothing. Raises `SettingsError`, `OutputError`."""
    with connect(output.uri) as connection, _reading(output):
        outbox = load(output, target.name)
        changes = find_changes(connection, target, outbox)
    return Acted(target.name, live=False, planned=changes.counts, examples=changes.examples, waiting=len(outbox.waiting))


def act_on(output: Store, target: Target, settings: Settings, *, live: bool = False) -> Acted:
    """Deliver to a target what is open and what has changed. With `live`, later runs do so as well.

    Raises:
        SettingsError: a secret is missing, or the results have no such policy.
        OutputError: the output cannot be read or written.
    """
    sender = open_sender(target, settings.resolve, settings.patience)
    _check_published(output)
    if live:  # before anything is sent: if this process dies, the next run resumes
        go_live(output, target.name)
    return _guarded(output, target, settings, _Round(target, sender, settings).run)


def retry_refused(output: Store, target: Target, settings: Settings) -> Acted:
    """Send again what a target permanently refused, of each image the newest, and what waits. Raises as `act_on`."""
    sender = open_sender(target, settings.resolve, settings.patience)
    _check_published(output)
    return _guarded(output, target, settings, _Round(target, sender, settings).retry)


def _check_published(output: Store) -> None:
    with _reading(output):
        published = next(published_manifests(output), None)
    if published is None:
        raise SettingsError(f"no run is published in {output.uri}: give the --output of `moderate run`")


def _guarded(output: Store, target: Target, settings: Settings, run: Callable[[Store, Lease], Acted]) -> Acted:
    try:
        with Lease(output, folder_of(target.name), settings.lease_s, settings.skew_s) as lease:
            return run(output, lease)
    except (BusyError, LeaseLostError) as error:
        return Acted(target.name, live=True, busy=str(error))


class _Round:
    """One run for one target, under its lease."""

    def __init__(self, target: Target, sender: Sender, settings: Settings) -> None:
        self._target, self._sender, self._settings = target, sender, settings
        self._tally: Counter[Result] = Counter()
        self._failures: list[Outcome] = []
        self._stopped = ""

    def run(self, output: Store, lease: Lease) -> Acted:
        outbox = load(output, self._target.name)
        self._deliver(outbox, chains(outbox.waiting), lease)
        planned: dict[str, int] = {}
        if not self._stopped:
            with connect(output.uri) as connection, _reading(output):
                changes = find_changes(connection, self._target, outbox)
                planned = changes.counts
                self._send_changes(outbox, changes.deliveries(), changes.images, lease)
        self._settle_failures(outbox, lease)
        if outbox.entries >= COMPACT_AFTER:
            outbox.compact(lease)
        return self._acted(outbox, planned)

    def retry(self, output: Store, lease: Lease) -> Acted:
        outbox = load(output, self._target.name)
        coming = chains(outbox.waiting)
        items = {chain[0].delivery.item for chain in coming}
        newest = {one.delivery.item: one for one in outbox.parked if one.delivery.item not in items}
        self._deliver(outbox, [*coming, *([one] for one in newest.values())], lease)
        self._settle_failures(outbox, lease)
        return self._acted(outbox, {})

    def _send_changes(self, outbox: Outbox, deliveries: Iterator[Delivery], images: int, lease: Lease) -> None:
        held = {one.delivery.item for one in outbox.waiting}  # failed just now: what follows must not arrive first
        done = 0
        while not self._stopped and (batch := list(islice(deliveries, self._settings.batch))):
            outbox.append_deliveries(batch, lease)
            self._deliver(outbox, [[outbox.open[one.key]] for one in batch if one.item not in held], lease)
            done += len(batch)
            if done % (20 * self._settings.batch) == 0:
                tell(Progress(f"{self._target.name}: {done:,} of {images:,} sent or tried"))
            if outbox.entries >= COMPACT_AFTER and 4 * outbox.items_since >= outbox.items_in_snapshot:
                outbox.compact(lease)

    def _deliver(self, outbox: Outbox, waiting: Iterable[Chain], lease: Lease) -> None:
        outcomes: list[Outcome] = []
        try:
            self._stopped = self._sender.send(waiting, outcomes, lease.check)
        except BaseException:
            with contextlib.suppress(ModerationError):  # the first error says more
                self._write(outbox, outcomes, lease)
            raise
        self._write(outbox, outcomes, lease)

    def _write(self, outbox: Outbox, outcomes: Sequence[Outcome], lease: Lease) -> None:
        definite = [outcome for outcome in outcomes if outcome.result is not Result.FAILED]
        self._failures += [outcome for outcome in outcomes if outcome.result is Result.FAILED]
        outbox.append_outcomes(definite, lease)
        self._tally.update(outcome.result for outcome in definite)

    def _settle_failures(self, outbox: Outbox, lease: Lease) -> None:
        """Write down what failed. A delivery is only to blame for it if the target accepted others in this run."""
        settled = [self._settled(outbox.open[one.key], one) for one in self._failures if one.key in outbox.open]
        outbox.append_outcomes(settled, lease)
        self._tally.update(outcome.result for outcome in settled)

    def _settled(self, waiting: Open, outcome: Outcome) -> Outcome:
        blamed = self._tally[Result.DELIVERED] > 0
        if blamed and waiting.failed_runs + 1 >= GIVE_UP_AFTER:
            return replace(outcome, result=Result.PARKED, reason=f"failed in {GIVE_UP_AFTER} runs: {outcome.reason}")
        return replace(outcome, blamed=blamed)

    def _acted(self, outbox: Outbox, planned: dict[str, int]) -> Acted:
        return Acted(
            self._target.name,
            live=True,
            planned=planned,
            delivered=self._tally[Result.DELIVERED],
            parked=self._tally[Result.PARKED],
            waiting=len(outbox.waiting),
            stopped=self._stopped,
        )


def chains(waiting: Iterable[Open]) -> list[list[Open]]:
    """Open deliveries by item, each chain in its order.

    Those that failed in fewest runs come first: nothing waits for what fails every time.
    """
    found: dict[bytes, list[Open]] = {}
    for one in waiting:
        found.setdefault(one.delivery.item, []).append(one)
    return sorted(
        (sorted(chain, key=lambda one: one.delivery.change) for chain in found.values()), key=lambda chain: chain[0].failed_runs
    )


@contextlib.contextmanager
def _reading(output: Store) -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise OutputError(f"cannot read {output.uri}: {error.detail}") from None
