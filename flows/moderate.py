"""The main flow: one Prefect task per stage of `moderation.pipeline`, never one per image.

Without a Prefect server (PREFECT_API_URL) it runs on a temporary one of its own, on loopback.
"""

import os
from contextlib import ExitStack
from typing import Any, cast

from prefect import flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Cancelled

from flows.announcing import announce_failed, announce_published, announce_quarantined
from flows.artifacts import ProgressArtifact, publish_report, publish_summary
from flows.background import Background
from flows.flow_failures import failed
from flows.source_lock import FLOW, Fence, WhenBusy, places, wait_for_turn
from flows.standalone import standalone
from moderation import pipeline
from moderation.common.progress import StageLines, listening
from moderation.errors import ModerationError, QuarantinedError
from moderation.planning.inputs import Inputs, check_inputs
from moderation.results.check_results import CheckResult
from moderation.results.manifest import Manifest
from moderation.settings import RunSettings

LOG_EVERY_S = 60.0
"""Seconds between two lines of progress in a flow run's logs."""
TIME_LIMIT_S = float(os.environ.get("MODERATION_TIME_LIMIT_S") or 0) or None
"""Seconds that an attempt may take, including its wait for other runs; default: no limit. Deployments set it (prefect.yaml)."""


def _named() -> str:
    """The flow run's name on Prefect's page: what it moderates."""
    parameters: Any = runtime.flow_run.parameters
    sources = RunSettings.model_validate(parameters["settings"]).sources
    if not sources:
        return "stored embeddings"
    return sources[0] if len(sources) == 1 else f"{sources[0]} and {len(sources) - 1} more"


@standalone
@flow(name=FLOW, flow_run_name=_named, validate_parameters=True, persist_result=False, timeout_seconds=TIME_LIMIT_S)
def moderate(settings: RunSettings, when_busy: WhenBusy = "wait") -> pipeline.Outcome:
    """Moderate the images under a folder or bucket and publish the results.

    A retry of a flow run resumes its run, and so does a flow run rescheduled after a crash. Only one of the deployments' flow
    runs moderates a source at a time: others wait, or are cancelled.

    Args:
        settings: Settings of the run.
        when_busy: What to do while another flow run moderates the same source: wait for it to end, or cancel this one.
    """
    log = get_run_logger().info
    busy = wait_for_turn(settings, when_busy, log)
    if busy:
        return cast("pipeline.Outcome", Cancelled(message=busy))
    run_id = settings.run_id or _run_id()
    inputs: Inputs | None = None
    with Background("artifacts") as background:
        try:
            with ExitStack() as stack:
                fence = stack.enter_context(Fence())
                for listener in (fence, ProgressArtifact(background), StageLines(log, LOG_EVERY_S)):
                    stack.enter_context(listening(listener))
                inputs = check(settings.model_copy(update={"run_id": run_id}))
                if settings.run_id is None and (done := pipeline.published(inputs)):
                    return done  # an earlier attempt of this flow run already published it
                session = start(inputs, stack)
                scored = score(session)
                checks = check_quality(session, scored)
                manifest = publish(session, scored, checks)
                outcome = report(session, scored, manifest)
                publish_summary(background, outcome, inputs.policy)
                announce_published(manifest, outcome.report)
                return outcome
        except ModerationError as error:
            state = failed(error, run_id, inputs is not None)
            if isinstance(error, QuarantinedError) and inputs is not None:
                publish_report(background, announce_quarantined(inputs))
            else:
                announce_failed(run_id, places(settings), error)
            return cast("pipeline.Outcome", state)


@task(cache_policy=NO_CACHE, persist_result=False, name="check inputs")
def check(settings: RunSettings) -> Inputs:
    """Read the policy, and check the sources and the output."""
    return check_inputs(settings)


@task(cache_policy=NO_CACHE, persist_result=False, name="start workers")
def start(inputs: Inputs, stack: ExitStack) -> pipeline.Session:
    """Start Ray and load the model; `stack` ends them with the flow."""
    return stack.enter_context(pipeline.session(inputs))


@task(cache_policy=NO_CACHE, persist_result=False, name="score")
def score(session: pipeline.Session) -> pipeline.Scored:
    """List, plan, fetch, decode, embed, score, decide."""
    return pipeline.score(session)


@task(cache_policy=NO_CACHE, persist_result=False, name="check quality")
def check_quality(session: pipeline.Session, scored: pipeline.Scored) -> tuple[CheckResult, ...]:
    """Great Expectations on every shard and on the sums."""
    return pipeline.check(session, scored)


@task(cache_policy=NO_CACHE, persist_result=False, name="publish")
def publish(session: pipeline.Session, scored: pipeline.Scored, checks: tuple[CheckResult, ...]) -> Manifest:
    """Make the run visible to readers, or quarantine it."""
    return pipeline.publish_or_quarantine(session, scored, checks)


@task(cache_policy=NO_CACHE, persist_result=False, name="report")
def report(session: pipeline.Session, scored: pipeline.Scored, manifest: Manifest) -> pipeline.Outcome:
    """Write the report."""
    return pipeline.report(session, scored, manifest)


def _run_id() -> str:
    """The same for every attempt of a flow run. It ends as the flow run's id does: ids of one moment share their start."""
    scheduled = runtime.flow_run.scheduled_start_time
    return f"{scheduled:%Y%m%dT%H%M%SZ}-{str(runtime.flow_run.id)[-8:]}"
