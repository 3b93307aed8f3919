"""One run at a time for each source, whichever deployments they belong to.

Flow runs look at each other's states, which Prefect keeps in its database. A deployment's own `concurrency_limit` holds a
lease instead: it knows of one deployment only, and ends a run in progress when Prefect's API is unavailable for some minutes.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import Abort
from pydantic import ValidationError

from flows.background import Background, answer_within
from flows.flow_failures import ANSWER_S, UNREACHABLE, current_flow_run
from moderation.common.progress import Progress
from moderation.settings import RunSettings

WhenBusy = Literal["wait", "cancel"]

FLOW = "moderate"
SETTLE_S = 2.0
"""Seconds in which runs that start at the same moment see each other."""
LOOK_EVERY_S = 15.0
TELL_EVERY_S = 600.0
WAIT_S, PUBLISHING_WAIT_S = 3.0, 15.0
"""Seconds that the fence waits for an answer, usually of milliseconds."""
UNDER_WAY = [StateType.RUNNING, StateType.CANCELLING]
MOST = 200
"""Running flow runs that are considered: what Prefect's API gives at a time."""


def wait_for_turn(settings: RunSettings, when_busy: WhenBusy, say: Callable[[str], object]) -> str | None:
    """Wait until no earlier flow run moderates any of the same sources. Returns why not to run, if `when_busy` is `cancel`.

    Only flow runs of deployments are considered, and wait. While Prefect's API is unavailable, nobody waits: two runs over the
    same source cost time but do no harm.
    """
    flow_run = current_flow_run()
    if flow_run is None or flow_run.deployment_id is None:
        return None
    time.sleep(SETTLE_S)
    last_report = -TELL_EVERY_S
    while True:
        answer: list[FlowRun | None] = []
        try:
            answer_within(ANSWER_S, lambda: answer.append(_earlier(flow_run.id, settings)))  # noqa: B023 - used up here
            if not answer:
                raise TimeoutError
        except UNREACHABLE as error:
            say(f"cannot check whether another run moderates the same source; starting anyway: {type(error).__name__}")
            return None
        (first,) = answer
        if first is None:
            return None
        reason = f"the flow run {first.name!r} ({first.id}) moderates the same source"
        if when_busy == "cancel":
            return f"{reason}: this one was cancelled; the next run processes what is new"
        if time.monotonic() - last_report >= TELL_EVERY_S:
            last_report = time.monotonic()
            say(f"{reason}: waiting for it to end")
        time.sleep(LOOK_EVERY_S)


def _earlier(own: UUID, settings: RunSettings) -> FlowRun | None:
    """Of the flow runs with a source in common, the first, if that is not `own`; by the server's clock."""
    under_way = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNDER_WAY)))
    runs = get_client(sync_client=True).read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])), flow_run_filter=under_way, limit=MOST
    )
    mine = next((_since(run) for run in runs if run.id == own), None)
    others = [run for run in runs if run.id != own and run.deployment_id and (mine is None or _since(run) < mine)]
    same = [run for run in others if overlap(_places(run), places(settings))]
    return min(same, key=_since, default=None)


def _since(run: FlowRun) -> tuple[bool, str, str]:
    """A sort key. A run that is being cancelled was running before."""
    assert run.state is not None  # noqa: S101 - it was asked for by its state
    return run.state.type is StateType.RUNNING, run.state.timestamp.isoformat(), str(run.id)


def _places(run: FlowRun) -> tuple[str, ...]:
    try:
        return places(RunSettings.model_validate(run.parameters.get("settings")))
    except ValidationError:  # of another version of this program
        return ()


def places(settings: RunSettings) -> tuple[str, ...]:
    """What a run processes, as URIs."""
    return settings.sources or (f"{settings.output.rstrip('/')}/embeddings",)


def overlap(some: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether one lies inside another."""
    folders = [f"{place.rstrip('/')}/" for place in some]
    return any(a.startswith(b) or b.startswith(a) for a in folders for b in (f"{place.rstrip('/')}/" for place in others))


class Fence:
    """A listener that stops an attempt that Prefect marked as crashed, once another attempt of the same flow run has started.

    It asks Prefect's API on a separate thread and waits briefly; while the API is unavailable, work continues.
    """

    def __init__(self, every_s: float = 60.0) -> None:
        self._own = current_flow_run()
        self._every, self._due = every_s, time.monotonic() + every_s
        self._background = Background("fence", end_s=0)
        self._superseded = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._background.__exit__(kind, error, trace)

    def __call__(self, progress: Progress) -> None:
        """Check now and then, and before publishing. Raises Prefect's `Abort`, which leaves the state as it is."""
        now, publishing = time.monotonic(), progress.stage == "publishing"
        if self._own is not None and (now >= self._due or publishing):
            self._due = now + self._every
            idle = self._background.idle
            self._background.post("look", self._look)
            if idle or publishing:
                self._background.wait(PUBLISHING_WAIT_S if publishing else WAIT_S)
        if self._superseded:
            raise Abort("another attempt of this flow run has started: this one stops and leaves the work to it")

    def _look(self) -> None:
        if self._own is not None:
            begun = get_client(sync_client=True).read_flow_run(self._own.id).run_count
            self._superseded = self._superseded or begun > self._own.run_count
