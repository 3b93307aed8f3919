"""The backtest as a flow: what a policy would have decided, on a schedule or for a proposed change.

One Prefect task per stage. The report and the list of changed images are written to `backtests/<run>/` under the results,
where people can read them whichever machine the flow runs on.
"""

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

from prefect import State, flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed
from pydantic import BaseModel, ConfigDict, Field

from flows.artifacts import publish_report, publish_text
from flows.background import Background
from flows.flow_failures import one_line_failures
from flows.standalone import standalone
from moderation.common.progress import StageLines, listening
from moderation.errors import ModerationError, OutputError, SettingsError, StorageError
from moderation.policy.compiled import CompiledPolicy
from moderation.policy.schema import Policy
from moderation.policy_files.loading import load_policy
from moderation.query.condition import Condition
from moderation.results.archive import Archive, open_archive
from moderation.results.stored_policy import newest_policy_if_readable
from moderation.scoring.prompt_embeddings import compiled_for
from moderation.settings import Location
from moderation.storage import Store
from moderation.studies.backtest.backtest_page import write_page
from moderation.studies.backtest.backtest_result import Backtest
from moderation.studies.backtest.backtesting import PUBLISHED
from moderation.studies.backtest.backtesting import backtest as run_backtest
from moderation.studies.backtest.change_budget import Budget, Kind
from moderation.studies.backtest.changed_images import NAME as CHANGED
from moderation.studies.backtest.markdown import markdown

FOLDER = "backtests"
"""Below the results. These files belong to no run: readers and `moderate runs clean` ignore them."""
LOG_EVERY_S = 60.0

R = TypeVar("R")


class BacktestSettings(BaseModel):
    """Settings of a backtest. They never include credentials, which come from the environment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: str = Field(min_length=1, description="path of the new policy's file")
    results: Location = Field(description="the output of runs: a folder, or s3://bucket/prefix")
    against: str = Field(
        default=PUBLISHED, min_length=1, description="published: the published decisions; or the path of another policy file"
    )
    days: int | None = Field(default=None, gt=0, le=36_500, description="only runs of the last days; default: all")
    where: str | None = Field(
        default=None, description="only images whose decision meets a condition in SQL, such as uri LIKE 's3://shop/listings/%'"
    )
    fingerprint: str | None = Field(default=None, description="which model's embeddings to use, if there are several")
    max_new_blocks: str | None = Field(
        default=None, description="fail if more images than this become blocked: 0.1% of all images, or a number such as 250"
    )
    max_new_reviews: str | None = Field(default=None, description="the same for images that go to review")
    images: bool = Field(default=True, description="fetch the few images that the report shows, blurred")


@dataclass(frozen=True)
class Inputs:
    """The inputs of a backtest."""

    settings: BacktestSettings
    new: Policy
    old: Policy | None
    archive: Archive
    budgets: tuple[Budget, ...]


def _named() -> str:
    """What a flow run is called on Prefect's page."""
    parameters: Any = runtime.flow_run.parameters
    settings = BacktestSettings.model_validate(parameters["settings"])
    return f"{Path(settings.policy).stem} on {settings.results}"


def _result(state: State[R]) -> R:
    """What a stage returned. Raises the error that it reported."""
    return state.result()


@standalone
@flow(name="backtest", flow_run_name=_named, validate_parameters=True, persist_result=False, retries=0)
def backtest(settings: BacktestSettings) -> str:
    """Show what a policy would have decided for all stored images. Fails if it blocks more than allowed.

    Returns the URI of the report.
    """
    try:
        with (
            tempfile.TemporaryDirectory(prefix="clip-moderation-") as made,
            listening(StageLines(get_run_logger().info, LOG_EVERY_S)),
            Background("artifacts") as background,
        ):
            inputs = _result(check(settings, return_state=True))
            new, old = _result(embed_prompts(inputs, return_state=True))
            found = _result(decide(inputs, new, old, Path(made), return_state=True))
            over = "; ".join(line for budget in inputs.budgets if (line := budget.exceeded(found)))
            report = _result(write_report(inputs, found, over, Path(made), return_state=True))
            publish_text(background, markdown(found, over), key="backtest-summary", description=found.new)
            publish_report(background, report, key="backtest-report")
    except ModerationError as error:
        return cast("str", Failed(message=str(error), data=error))
    if over:
        return cast("str", Failed(message=f"{over}; report: {report}"))
    return report


@task(cache_policy=NO_CACHE, persist_result=False, name="check inputs")
@one_line_failures
def check(settings: BacktestSettings) -> Inputs:
    """Read the policies and find the embeddings of their model."""
    new = load_policy(settings.policy)
    old = None if settings.against == PUBLISHED else load_policy(settings.against)
    if old is not None and old.model != new.model:
        raise SettingsError(
            f"the policies name different models, {new.model.label} and {old.model.label}: they cannot be compared"
        )
    budgets: tuple[tuple[Kind, str | None], ...] = (
        ("blocks", settings.max_new_blocks),
        ("reviews", settings.max_new_reviews),
    )
    since = None if settings.days is None else datetime.now(UTC) - timedelta(days=settings.days)
    archive = open_archive(Store(settings.results), new.model.label, fingerprint=settings.fingerprint, since=since)
    return Inputs(settings, new, old, archive, tuple(Budget.parse(kind, text) for kind, text in budgets if text is not None))


@task(cache_policy=NO_CACHE, persist_result=False, name="embed prompts")
@one_line_failures
def embed_prompts(inputs: Inputs) -> tuple[CompiledPolicy, CompiledPolicy | None]:
    """Both policies ready to score. The model is loaded only if a prompt is new."""
    old = None if inputs.old is None else compiled_for(inputs.old, inputs.archive)
    return compiled_for(inputs.new, inputs.archive), old


@task(cache_policy=NO_CACHE, persist_result=False, name="re-decide")
@one_line_failures
def decide(inputs: Inputs, new: CompiledPolicy, old: CompiledPolicy | None, folder: Path) -> Backtest:
    """Score, decide and compare; no image is fetched."""
    settings = inputs.settings
    if settings.where is None:
        return run_backtest(new, inputs.archive, folder / CHANGED, old=old, against=settings.against)
    with Condition(settings.where) as condition:
        return run_backtest(new, inputs.archive, folder / CHANGED, old=old, against=settings.against, condition=condition)


@task(cache_policy=NO_CACHE, persist_result=False, name="report")
@one_line_failures
def write_report(inputs: Inputs, found: Backtest, over: str, folder: Path) -> str:
    """Write the page and the list of changed images next to the results. Returns the page's URI."""
    output = inputs.archive.output
    page = write_page(
        found,
        folder,
        policy=inputs.new,
        results=output.uri,
        over_budget=over or None,
        thumbnails=inputs.settings.images,
        before=inputs.old or newest_policy_if_readable(inputs.archive),
    )
    target = f"{FOLDER}/{_run_name()}"
    try:
        for file in (folder / CHANGED, page):
            output.put(f"{target}/{file.name}", file)
    except StorageError as error:
        raise OutputError(f"cannot write to {output.uri_of(target)}: {error.detail}") from None
    return output.uri_of(f"{target}/{page.name}")


def _run_name() -> str:
    """The same for every attempt of a flow run."""
    scheduled = runtime.flow_run.scheduled_start_time
    return f"{scheduled:%Y%m%dT%H%M%SZ}-{str(runtime.flow_run.id)[-8:]}"
