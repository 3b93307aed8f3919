"""Acting on decisions as a flow: after each publication, and on a schedule, which also picks up reviews.

One Prefect task per target, never one per image. For a target that is not live yet, a line says what it would receive.
"""

from pathlib import Path
from typing import Any, TypeVar, cast

from prefect import State, flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed
from pydantic import BaseModel, ConfigDict, Field

from flows.artifacts import publish_text
from flows.background import Background
from flows.flow_failures import one_line_failures
from flows.secret_blocks import from_block
from flows.standalone import standalone
from moderation.actions.acting import Acted, Settings, act_on, is_live, rehearse
from moderation.actions.actions_file import chosen, load_actions
from moderation.actions.changes import described
from moderation.actions.secret_values import from_environment
from moderation.actions.targets import Secret, Target
from moderation.common.progress import StageLines, listening
from moderation.common.safe_text import visible
from moderation.errors import ModerationError
from moderation.results.manifest import published_manifests
from moderation.settings import Location
from moderation.storage import Store

LOG_EVERY_S = 60.0
R = TypeVar("R")


class ActSettings(BaseModel):
    """Settings of acting on decisions. They never include secrets, which come from where the file of targets says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    results: Location = Field(description="the output of runs: a folder, or s3://bucket/prefix")
    actions: str = Field(min_length=1, description="path of the file of targets, actions.yaml")
    targets: tuple[str, ...] = Field(default=(), description="names of targets; default: all of the file")
    live: bool = Field(default=False, description="let targets go live that are not: otherwise nothing is sent to them")


def _named() -> str:
    """What a flow run is called on Prefect's page."""
    parameters: Any = runtime.flow_run.parameters
    settings = ActSettings.model_validate(parameters["settings"])
    return f"{Path(settings.actions).stem} on {settings.results}"


def _result(state: State[R]) -> R:
    """What a stage returned. Raises the error that it reported."""
    return state.result()


@standalone
@flow(name="act", flow_run_name=_named, validate_parameters=True, persist_result=False, retries=0)
def act(settings: ActSettings) -> str:
    """Send to each target the effective decisions that it has not received yet. Fails if a target accepts none.

    What was not delivered is resumed by the next flow run. Returns what was done, in words.
    """
    try:
        with listening(StageLines(get_run_logger().info, LOG_EVERY_S)), Background("artifacts") as background:
            output, targets = _result(check(settings, return_state=True))
            if not targets:
                return "no run is published yet"
            acted = [_result(_send(settings, output, target)) for target in targets]
            publish_text(background, table(acted), key="actions-summary", description=f"Actions for {output.uri}")
    except ModerationError as error:
        return cast("str", Failed(message=str(error), data=error))
    lines = "; ".join(in_words(one) for one in acted)
    if any(one.stopped for one in acted):
        return cast("str", Failed(message=lines))
    get_run_logger().info(lines)
    return lines


@task(cache_policy=NO_CACHE, persist_result=False, name="check inputs")
@one_line_failures
def check(settings: ActSettings) -> tuple[Store, tuple[Target, ...]]:
    """Read the file of targets; no target is returned as long as no run is published."""
    targets = chosen(load_actions(settings.actions), settings.targets)
    output = Store(settings.results)
    return output, targets if next(published_manifests(output), None) is not None else ()


@task(cache_policy=NO_CACHE, persist_result=False, name="send")
@one_line_failures
def send(settings: ActSettings, output: Store, target: Target) -> Acted:
    """Send to one target, or only say what it would receive."""
    if not (settings.live or is_live(output, target.name)):
        return rehearse(output, target)
    return act_on(output, target, Settings(_resolved), live=settings.live)


def _send(settings: ActSettings, output: Store, target: Target) -> State[Acted]:
    return send.with_options(task_run_name=f"send to {target.name}")(settings, output, target, return_state=True)


def in_words(one: Acted) -> str:
    """One target's line."""
    if one.busy:
        return f"{one.target}: {one.busy}"
    if not one.live:
        return f"{one.target}: not live: would send {described(one.planned)}"
    stopped = f"; given up for now: {visible(one.stopped)}" if one.stopped else ""
    return f"{one.target}: delivered {one.delivered:,}, refused {one.parked:,}, waiting {one.waiting:,}{stopped}"


def table(acted: list[Acted]) -> str:
    """A table in Markdown for Prefect's page."""
    head = "| target | delivered | refused | waiting | |\n|---|---|---|---|---|\n"
    rows = []
    for one in acted:
        note = one.busy or one.stopped or ("" if one.live else f"not live: would send {described(one.planned)}")
        safe = visible(note).replace("|", "\\|").replace("<", "‹")
        rows.append(f"| {one.target} | {one.delivered:,} | {one.parked:,} | {one.waiting:,} | {safe} |")
    return head + "\n".join(rows) + "\n"


def _resolved(secret: Secret) -> str:
    return from_environment(secret) if secret.env is not None else from_block(secret)
