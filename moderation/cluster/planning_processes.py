"""Listing and planning beside the driver: actors read the sources, tasks put the steps of the plan together and store them.

They hold no CPUs, as the tasks that write do not. Tables of objects stay in Ray's object store.
"""

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import ray
from ray import exceptions

from moderation.cluster.liveness import check_ray, ray_died, wait
from moderation.cluster.shared_objects import SharedObjects
from moderation.cluster.tasks import started
from moderation.common.hash_set import Hashes
from moderation.errors import ModerationError, RunError
from moderation.planning.blocks import Block, BlockReader, NotInOrderError, Part
from moderation.planning.helpers import HelperLostError, Helpers, InProcess, Step, reading_of, remembered
from moderation.planning.inputs import Inputs
from moderation.planning.plan import StoredPage, read_step, stored_steps
from moderation.planning.steps import Cut, store_cut
from moderation.records import ObjectRef
from moderation.results.ledger import Ledger, read_ledger
from moderation.results.paths import RunPaths
from moderation.results.stored_images import StoredShard
from moderation.storage import Store

MAX_READERS = 4
"""Parts of a source that are read at the same time."""
CORES_PER_READER = 4
AHEAD = 16
"""Blocks that a reader has ready or in work: a part of the usual size, so that all readers are busy."""
STORED_AHEAD = 4
"""Steps of an earlier attempt that are read at the same time."""
SHORT = 1_000
"""Objects that the driver lists and plans itself: starting a process takes longer."""


class _Facts(NamedTuple):
    """What the driver learns of a stored step."""

    number: int
    """of the step"""
    step: StoredPage
    """without the rows of its tables"""
    objects: int
    redecided: int
    uris: Hashes
    versions: Hashes


@contextlib.contextmanager
def planning_helpers(inputs: Inputs, paths: RunPaths, fingerprint: str) -> Iterator[Helpers]:
    """Who lists and plans a run under a model: the driver itself if there is little to list.

    Raises:
        OutputError, StorageError: what earlier runs did cannot be read.
        SourceError, StoreDownError: a source cannot be listed.
    """
    settings = inputs.settings
    known = (inputs.output, inputs.policy.hash, fingerprint, settings.retry_errors)
    if is_short(inputs):
        yield InProcess(inputs, paths, None if settings.full else read_ledger(*known))
        return
    helpers = _Processes(inputs, paths, None if settings.full else known)
    try:
        yield helpers
    finally:
        helpers.close()


class _Processes:
    """Helpers in processes of their own."""

    def __init__(self, inputs: Inputs, paths: RunPaths, known: tuple[Store, str, str, bool] | None) -> None:
        self._reading, self._output, self._paths = reading_of(inputs), inputs.output, paths
        self._known = known
        self.readers = max(1, min(MAX_READERS, int(ray.cluster_resources().get("CPU", 1)) // CORES_PER_READER))
        self._actors: deque[Any] = deque()
        self._start()

    def _start(self) -> None:
        ledger: Any = Ledger()
        self.history: Sequence[StoredShard] = ()
        if self._known is not None:
            ledger, history = started(_ledger, *self._known, returns=2)
            try:
                self.history = _received(history)
            except HelperLostError as error:
                text = f"what earlier runs did could not be read: {error}; fix that, then resume with the same --run-id"
                raise RunError(text) from None
        actor = ray.remote(BlockReader).options(num_cpus=0, max_restarts=0)
        check_ray()
        self._actors.extend(actor.remote(self._reading, ledger) for _ in range(self.readers))

    def close(self) -> None:
        """End the readers."""
        while self._actors:
            actor = self._actors.pop()
            if not ray_died():
                ray.kill(actor)

    def restart(self) -> None:
        """Replace the readers, and read again what earlier runs did."""
        self.close()
        self._start()

    def blocks(self, part: Part) -> Iterator[tuple[Block, Any]]:
        """Begin to read a part. The reader that is free is the one that had the part before the last `readers`."""
        self._actors.rotate(-1)
        reader = self._actors[-1]
        check_ray()
        opened = reader.open.remote(part)
        return self._blocks(reader, opened, deque(_read(reader) for _ in range(AHEAD)))

    def _blocks(self, reader: Any, opened: Any, begun: deque[tuple[Any, Any]]) -> Iterator[tuple[Block, Any]]:
        _received(opened)
        last = False
        while not last:
            reference, objects = begun.popleft()
            block: Block = _received(reference)
            last = block.last
            if not last:
                begun.append(_read(reader))
            yield block, objects

    def store(self, cut: Cut, references: Sequence[Any]) -> Step:
        """Have a step put together and stored."""
        return self._step(started(_store, self._output, self._paths, cut, *references, returns=3))

    def stored(self, *, hashed: bool) -> Iterator[Step]:
        """The steps that earlier attempts stored, some of them read at a time."""
        begun: deque[list[Any]] = deque()
        for file in stored_steps(self._output, self._paths):
            begun.append(started(_read_step, self._output, self._paths, file, hashed, returns=3))
            if len(begun) == STORED_AHEAD:
                yield self._step(begun.popleft())
        while begun:
            yield self._step(begun.popleft())

    def _step(self, references: list[Any]) -> Step:
        reference, objects, redecided = references
        facts: _Facts = _received(reference)
        number, name = facts.number, facts.step.name
        page = facts.step.page(
            SharedObjects(objects, self._output.uri_of(self._paths.plan(number, name)), 0, facts.objects),
            SharedObjects(redecided, self._output.uri_of(self._paths.plan_redecided(number)), 0, facts.redecided),
        )
        return Step(page, facts.uris, facts.versions)


def is_short(inputs: Inputs) -> bool:
    """Whether all sources together, or the limit, are at most `SHORT` objects. Raises as `Source.list`."""
    if inputs.settings.limit is not None and inputs.settings.limit <= SHORT:
        return True
    count = 0
    for source in inputs.sources:
        for page in source.list():
            count += len(page)
            if count > SHORT:
                return False
    return True


def _read(reader: Any) -> tuple[Any, Any]:
    block, objects = reader.read.options(num_returns=2).remote()
    return block, objects


def _received(reference: Any) -> Any:
    """What a helper made. Raises `HelperLostError`, or what the helper raised."""
    try:
        wait([reference])
        return ray.get(reference)
    except exceptions.RayTaskError as error:
        if isinstance(error.cause, ModerationError | NotInOrderError):
            raise error.cause from None
        if isinstance(error.cause, exceptions.ObjectLostError):
            raise HelperLostError("an object was lost with a machine") from None
        raise
    except exceptions.RayError as error:
        raise HelperLostError(" ".join(str(error).split())[:300]) from None


def _ledger(output: Store, policy: str, fingerprint: str, retry_errors: bool) -> tuple[Ledger, tuple[StoredShard, ...]]:
    ledger = read_ledger(output, policy, fingerprint, retry_errors)
    return ledger, ledger.stored


def _store(output: Store, paths: RunPaths, cut: Cut, *blocks: pa.Table) -> tuple[_Facts, pa.Table, pa.Table]:
    return _parted(cut.number, store_cut(output, paths, cut, blocks), hashed=False)


def _read_step(output: Store, paths: RunPaths, file: ObjectRef, hashed: bool) -> tuple[_Facts, pa.Table, pa.Table]:
    number = int(file.uri.rpartition("/")[2].partition("-")[0])
    return _parted(number, read_step(output, paths, file), hashed=hashed)


def _parted(number: int, step: StoredPage, *, hashed: bool) -> tuple[_Facts, pa.Table, pa.Table]:
    light = step._replace(objects=step.objects.slice(0, 0), redecided=step.redecided.slice(0, 0))
    facts = _Facts(number, light, step.objects.num_rows, step.redecided.num_rows, *remembered(step, hashed=hashed))
    return facts, step.objects, step.redecided
