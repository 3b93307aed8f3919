"""How a flow reports an error: one line in its state, without a stack trace, and without pointless retries."""

import contextlib
import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, FlowRunPolicy
from prefect.context import FlowRunContext
from prefect.exceptions import CancelledRun, PrefectException
from prefect.states import Failed

from flows.background import answer_within
from moderation.errors import AccountingError, ModerationError, PolicyError, QuarantinedError, SettingsError

FINAL = (AccountingError, QuarantinedError)
"""Errors that another attempt would only repeat."""
MISTAKES = (PolicyError, SettingsError)
"""The same, for inputs. Later on, a temporarily unreachable Ray cluster is a SettingsError too."""
UNREACHABLE = (PrefectException, httpx.HTTPError, OSError)
"""What calls to Prefect's API raise when it is unavailable."""
ANSWER_S = 30.0
"""Seconds that a run waits for Prefect's API to answer an optional request."""

P = ParamSpec("P")
R = TypeVar("R")


class _OneLine(logging.Filter):
    """Keeps stack traces of expected errors out of Prefect's logs: the state's message reports them."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, (ModerationError, CancelledRun)):
            return True
        record.exc_info = record.exc_text = None
        return not record.getMessage().startswith("Engine execution exited")


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_OneLine())


def one_line_failures(stage: Callable[P, R]) -> Callable[P, R]:
    """A stage whose errors become a failed state with a one-line message; the task's caller gets them raised again."""

    @wraps(stage)
    def run(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return stage(*arguments, **named)
        except ModerationError as error:
            return cast("R", Failed(message=str(error), data=error))

    return run


def failed(error: ModerationError, run_id: str, inputs_are_well: bool) -> Any:
    """What a flow returns for an error: a failed state with its message. Raises the error if another attempt may help."""
    final = isinstance(error, FINAL if inputs_are_well else (*FINAL, *MISTAKES))
    if not (final or is_last_attempt()):
        raise error  # a state that a flow returns is never retried
    if final:
        _retry_no_more()
    name = "Quarantined" if isinstance(error, QuarantinedError) else "Failed"
    message = str(error) if run_id in str(error) else f"run {run_id}: {error}"
    return Failed(message=message, data=error, name=name)


def is_last_attempt() -> bool:
    """Whether this flow run will not be retried if it fails now."""
    flow_run = current_flow_run()
    return flow_run is None or flow_run.run_count > (flow_run.empirical_policy.retries or 0)


def current_flow_run() -> FlowRun | None:
    """The current flow run, as it was when this attempt started."""
    context = FlowRunContext.get()
    return context.flow_run if context is not None else None


def _retry_no_more() -> None:
    flow_run = current_flow_run()
    if flow_run is None or is_last_attempt():
        return
    run_id = flow_run.id

    def update() -> None:
        get_client(sync_client=True).update_flow_run(run_id, empirical_policy=FlowRunPolicy(retries=0, retry_delay=0))

    with contextlib.suppress(*UNREACHABLE):
        answer_within(ANSWER_S, update)
