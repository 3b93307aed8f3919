"""Who reads sources and puts steps of the plan together: processes beside the driver, or the driver itself.

What is planned is the same, whoever does it and in whatever order they are done: the driver takes blocks in the order of the
sources, and hands out a step when it is stored.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from moderation.common.hash_set import Hashes, hashes
from moderation.planning.blocks import PAGES, Block, Part, Reading, blocks
from moderation.planning.inputs import Inputs
from moderation.planning.plan import Page, StoredPage, local, read_step, stored_steps
from moderation.planning.selection import Selection
from moderation.planning.steps import Cut, store_cut, uris_in, versions_in
from moderation.results.ledger import Ledger
from moderation.results.paths import RunPaths
from moderation.results.stored_images import StoredShard


class HelperLostError(Exception):
    """A helper died, or what it made went away with its machine: plan again, from the stored plan."""


class Step(NamedTuple):
    """A stored step, and what the driver remembers of it."""

    page: Page
    uris: Hashes
    """hashes of its URIs; [0] if they were not asked for"""
    versions: Hashes
    """hashes of the object versions to re-decide: listed with this step, or assigned to it"""


class Helpers(Protocol):
    """Reads and stores for the driver."""

    @property
    def history(self) -> Sequence[StoredShard]:
        """Shards of earlier runs that may have embeddings of the listed objects, the newest run first."""
        ...

    @property
    def readers(self) -> int:
        """How many parts are read at a time: the driver opens no more before the first of them has ended."""
        ...

    def blocks(self, part: Part) -> Iterator[tuple[Block, Any]]:
        """Begin to read a part now. Returns its blocks, each with a reference to its objects, for `store`.

        Raises:
            HelperLostError: or what `BlockReader.read` raises.
        """
        ...

    def store(self, cut: Cut, references: Sequence[Any]) -> Step:
        """Store a step of the plan. Raises `StorageError` or `HelperLostError`."""
        ...

    def stored(self, *, hashed: bool) -> Iterator[Step]:
        """The steps that earlier attempts stored, in order; `hashed`: with the hashes of their URIs."""
        ...

    def restart(self) -> None:
        """Replace what is lost."""
        ...


class InProcess:
    """The driver itself."""

    readers = 1

    def __init__(self, inputs: Inputs, paths: RunPaths, ledger: Ledger | None) -> None:
        """With `ledger` None, every object is scored."""
        self._reading, self._ledger = reading_of(inputs), Ledger() if ledger is None else ledger
        self._output, self._paths = inputs.output, paths

    @property
    def history(self) -> Sequence[StoredShard]:
        """The ledger's."""
        return self._ledger.stored

    def blocks(self, part: Part) -> Iterator[tuple[Block, Any]]:
        """The blocks of a part, read as they are asked for."""
        return blocks(part, self._reading, self._ledger)

    def store(self, cut: Cut, references: Sequence[Any]) -> Step:
        """Store a step of the plan."""
        step = store_cut(self._output, self._paths, cut, references)
        return Step(local(step), *remembered(step, hashed=False))

    def stored(self, *, hashed: bool) -> Iterator[Step]:
        """The steps that earlier attempts stored."""
        for file in stored_steps(self._output, self._paths):
            step = read_step(self._output, self._paths, file)
            yield Step(local(step), *remembered(step, hashed=hashed))

    def restart(self) -> None:
        """Nothing is lost."""


def reading_of(inputs: Inputs) -> Reading:
    """How the sources of a run are read."""
    settings = inputs.settings
    selection = Selection(settings.include, settings.exclude, settings.modified_since)
    return Reading(selection, inputs.reader, PAGES if settings.limit is None else 1)


def remembered(step: StoredPage, *, hashed: bool) -> tuple[Hashes, Hashes]:
    """The hashes of a step that the driver remembers: of URIs, if asked for, and of versions to re-decide."""
    return uris_in(step) if hashed else hashes([]), versions_in(step.redecided if step.listed is not None else step.objects)
