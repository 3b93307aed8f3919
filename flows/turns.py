"""One run at a time for each source, whichever deployments they belong to.

Flow runs look at each other's states, which Prefect keeps in its database. A deployment's own `concurrency_limit` holds a
lease instead: it knows of one deployment only, and ends a run that is under way when Prefect's API is away for some minutes.
"""

import time
from collections.abc import Callable
from typing import Literal
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import Abort
from pydantic import ValidationError

from flows.telling import UNREACHABLE, current_flow_run
from moderation.progress import Progress
from moderation.settings import RunSettings

WhenBusy = Literal["wait", "cancel"]

FLOW = "moderate"
SETTLE_S = 2.0
"""Seconds for those who begin at the same moment to see each other."""
LOOK_EVERY_S = 15.0
TELL_EVERY_S = 600.0
UNDER_WAY = [StateType.RUNNING, StateType.CANCELLING]
MOST = 200
"""Flow runs under way that are looked at: what Prefect's API gives at a time."""


def wait_for_turn(settings: RunSettings, when_busy: WhenBusy, say: Callable[[str], object]) -> str | None:
    """Wait until no earlier flow run moderates any of the same sources. Returns why not to run, if `when_busy` is `cancel`.

    Only flow runs of deployments are looked at, and wait. While Prefect's API is away nobody waits: two runs over the same
    source cost time, and harm nothing.
    """
    flow_run = current_flow_run()
    if flow_run is None or flow_run.deployment_id is None:
        return None
    time.sleep(SETTLE_S)
    told = -TELL_EVERY_S
    with get_client(sync_client=True) as client:
        while True:
            try:
                first = _earlier(client, flow_run.id, settings)
            except UNREACHABLE as error:
                say(f"cannot see whether another run moderates the same source, going on: {type(error).__name__}")
                return None
            if first is None:
                return None
            reason = f"the flow run {first.name!r} ({first.id}) moderates the same source"
            if when_busy == "cancel":
                return f"{reason}: this one was cancelled; what is new is taken up by the next run"
            if time.monotonic() - told >= TELL_EVERY_S:
                told = time.monotonic()
                say(f"{reason}: waiting for its end")
            time.sleep(LOOK_EVERY_S)


def _earlier(client: SyncPrefectClient, own: UUID, settings: RunSettings) -> FlowRun | None:
    """Of the flow runs with a source in common, the first, if that is not `own`; by the server's clock."""
    under_way = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNDER_WAY)))
    runs = client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])), flow_run_filter=under_way, limit=MOST
    )
    mine = next((_since(run) for run in runs if run.id == own), None)
    others = [run for run in runs if run.id != own and run.deployment_id and (mine is None or _since(run) < mine)]
    same = [run for run in others if overlap(_places(run), places(settings))]
    return min(same, key=_since, default=None)


def _since(run: FlowRun) -> tuple[bool, str, str]:
    """A key to sort by. One that is being cancelled has been at work before."""
    assert run.state is not None  # noqa: S101 - it was asked for by its state
    return run.state.type is StateType.RUNNING, run.state.timestamp.isoformat(), str(run.id)


def _places(run: FlowRun) -> tuple[str, ...]:
    try:
        return places(RunSettings.model_validate(run.parameters.get("settings")))
    except ValidationError:  # of another version of this program
        return ()


def places(settings: RunSettings) -> tuple[str, ...]:
    """What a run takes up, as URIs."""
    return settings.sources or (f"{settings.output.rstrip('/')}/embeddings",)


def overlap(some: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether one lies inside another."""
    folders = [f"{place.rstrip('/')}/" for place in some]
    return any(a.startswith(b) or b.startswith(a) for a in folders for b in (f"{place.rstrip('/')}/" for place in others))


class Fence:
    """A listener that stops an attempt which Prefect took for dead, once another one of the same flow run has begun."""

    def __init__(self, every_s: float = 60.0) -> None:
        self._own = current_flow_run()
        self._every, self._due = every_s, time.monotonic() + every_s

    def __call__(self, progress: Progress) -> None:
        """Look now and then, and before anything is published. Raises Prefect's `Abort`, which leaves the state as it is."""
        now = time.monotonic()
        if self._own is None or (now < self._due and progress.stage != "publishing"):
            return
        self._due = now + self._every
        try:
            with get_client(sync_client=True) as client:
                begun = client.read_flow_run(self._own.id).run_count
        except UNREACHABLE:
            return
        if begun > self._own.run_count:
            raise Abort("another attempt of this flow run has begun: this one stops, and leaves the work to it")
