"""Plans that are made in this process."""

from collections.abc import Iterator

from moderation.planning.inputs import Inputs
from moderation.planning.plan import Page
from moderation.planning.planner import InProcess, Tally, plan_shards
from moderation.results.ledger import Ledger
from moderation.results.paths import RunPaths


def planned_in_process(inputs: Inputs, paths: RunPaths, size: int, ledger: Ledger | None, tally: Tally) -> Iterator[Page]:
    """The steps of a plan. With `ledger` None, every object is scored."""
    return plan_shards(inputs, paths, size, InProcess(inputs, paths, ledger), tally)
