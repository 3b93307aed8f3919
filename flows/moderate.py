"""The main flow: one Prefect task per stage of `moderation.pipeline`, never one per image.

Without a Prefect server (PREFECT_API_URL) it runs on a temporary one of its own, on loopback.
"""

from contextlib import ExitStack
from typing import Any

from prefect import flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE

from flows.artifacts import ProgressArtifact, publish_summary
from moderation import pipeline
from moderation.inputs import Inputs, check_inputs
from moderation.progress import StageLines, listening
from moderation.results.checks import CheckResult
from moderation.results.manifest import Manifest
from moderation.settings import RunSettings

LOG_EVERY_S = 60.0
"""Seconds between two lines of progress in a flow run's logs."""


def _named() -> str:
    """What a flow run is called on Prefect's page: after what it moderates."""
    parameters: Any = runtime.flow_run.parameters
    sources = RunSettings.model_validate(parameters["settings"]).sources
    if not sources:
        return "stored embeddings"
    return sources[0] if len(sources) == 1 else f"{sources[0]} and {len(sources) - 1} more"


@flow(name="moderate", flow_run_name=_named, validate_parameters=True, persist_result=False)
def moderate(settings: RunSettings) -> pipeline.Outcome:
    """Moderate the images under a folder or bucket and publish the results.

    A retry of a flow run goes on with the run that it began.
    """
    with ExitStack() as stack:
        stack.enter_context(listening(ProgressArtifact()))
        stack.enter_context(listening(StageLines(get_run_logger().info, LOG_EVERY_S)))
        inputs = check(settings.model_copy(update={"run_id": settings.run_id or _run_id()}))
        if settings.run_id is None and (done := pipeline.published(inputs)):
            return done  # an earlier attempt of this flow run got that far
        session = start(inputs, stack)
        scored = score(session)
        checks = check_quality(session, scored)
        manifest = publish(session, scored, checks)
        return report(session, scored, manifest)


@task(cache_policy=NO_CACHE, persist_result=False, name="check inputs")
def check(settings: RunSettings) -> Inputs:
    """Read the policy and try source and output."""
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
    return pipeline.release(session, scored, checks)


@task(cache_policy=NO_CACHE, persist_result=False, name="report")
def report(session: pipeline.Session, scored: pipeline.Scored, manifest: Manifest) -> pipeline.Outcome:
    """Write the report and the flow run's artifacts."""
    outcome = pipeline.report(session, scored, manifest)
    publish_summary(outcome, session.inputs.policy)
    return outcome


def _run_id() -> str:
    """The same for every attempt of a flow run."""
    scheduled = runtime.flow_run.scheduled_start_time
    return f"{scheduled:%Y%m%dT%H%M%SZ}-{str(runtime.flow_run.id)[:8]}"
