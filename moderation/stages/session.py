"""Starting a run: Ray, the model in its actors, the prompts' embeddings, and the claim on a run id."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from moderation.cluster import tasks
from moderation.cluster.nodes import check_folders
from moderation.cluster.pool import ScorerPool
from moderation.cluster.scorer import ModelDescription
from moderation.cluster.session import PoolPlan, plan_pool, ray_session
from moderation.cluster.sizing import decode_threads
from moderation.cluster.worker import OpenClipScorer
from moderation.cluster.workforce import Workforce
from moderation.common.progress import Progress, tell
from moderation.errors import ModelError, OutputError, StorageError
from moderation.model.engines import MAX_BATCH
from moderation.planning.inputs import Inputs, claim_run
from moderation.policy.compiled import CompiledPolicy, TextHead, prompt_texts
from moderation.policy.head_models import check_heads, head_fingerprints
from moderation.policy_files.loading import located
from moderation.results.archive import open_archive
from moderation.results.paths import RunPaths
from moderation.results.publishing import alone
from moderation.results.stored_assets import keep_assets
from moderation.results.stored_prompts import keep_prompts
from moderation.scoring.exemplar_embeddings import exemplar_embeddings
from moderation.scoring.prompt_embeddings import compiled_for
from moderation.settings import RunSettings
from moderation.storage import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """A run in progress: its inputs, its workers, and what does not change while it lasts."""

    inputs: Inputs
    pool: ScorerPool | None
    """None if the run only re-decides from stored embeddings"""
    plan: PoolPlan
    model: ModelDescription
    compiled: CompiledPolicy
    paths: RunPaths
    started_at: datetime

    @property
    def settings(self) -> RunSettings:
        """The run's settings."""
        return self.inputs.settings

    @property
    def output(self) -> Store:
        """Where the results go."""
        return self.inputs.output

    @property
    def workforce(self) -> Workforce:
        """What it works with."""
        return Workforce(self.settings, self.plan, self.model.engine)


@contextlib.contextmanager
def session(inputs: Inputs) -> Iterator[Session]:
    """Start workers, load the model in them and embed the prompts."""
    settings = inputs.settings
    tell(Progress("starting Ray"))
    with ray_session(settings.ray_address, settings.run_id):
        check_folders(inputs.source_uris, inputs.output.uri)
        with _without_model(inputs) if settings.from_embeddings else _with_model(inputs) as running:
            yield running


@contextlib.contextmanager
def _with_model(inputs: Inputs) -> Iterator[Session]:
    settings, policy = inputs.settings, inputs.policy
    plan = plan_pool(settings)
    with ScorerPool(_scorer(inputs, plan), plan, settings.batch_timeout_s) as pool:
        tell(Progress("loading the model"))
        tasks.prepare_writing()
        try:
            model = pool.describe(prompt_texts(policy))
        except ModelError as error:
            raise located(settings.policy, error) from None
        if model.engine is not None and model.engine.warning:
            _log.warning("%s", model.engine.warning)
        check_heads(policy, pool.made(head_fingerprints(policy)).__contains__)
        paths, started_at = claim_run(inputs, model.fingerprint)
        with writing_to(inputs.output, paths.run_id):
            head = keep_prompts(inputs.output, model.fingerprint, model.head)
            images = exemplar_embeddings(inputs.output, model.fingerprint, policy, pool.embed)
            head = replace(head, images=images)
            keep_assets(inputs.output, policy.assets)
        compiled = CompiledPolicy.build(policy, head)
        with alone(inputs.output, paths):
            yield Session(inputs, pool, plan, model, compiled, paths, started_at)


@contextlib.contextmanager
def _without_model(inputs: Inputs) -> Iterator[Session]:
    """A run that re-decides from stored embeddings: it needs no images and, if the prompts are known, no model."""
    policy = inputs.policy
    archive = open_archive(inputs.output, policy.model.label, resize=inputs.settings.resize)
    made = {"precision": archive.used.precision, "resize": archive.used.resize}  # what the manifest is to say
    inputs = replace(inputs, settings=inputs.settings.model_copy(update=made))
    compiled = compiled_for(policy, archive)
    head = TextHead({}, compiled.logit_scale, compiled.logit_bias)
    model = ModelDescription(archive.used.model, archive.fingerprint, compiled.dim, "none", head)
    paths, started_at = claim_run(inputs, archive.fingerprint)
    with writing_to(inputs.output, paths.run_id):
        keep_assets(inputs.output, policy.assets)
    with alone(inputs.output, paths):
        yield Session(inputs, None, PoolPlan(0, 0.0, 0.0), model, compiled, paths, started_at)


def _scorer(inputs: Inputs, plan: PoolPlan) -> OpenClipScorer:
    settings = inputs.settings
    return OpenClipScorer(
        model=inputs.policy.model,
        reader=inputs.reader,
        device="cuda" if plan.gpus else "cpu",
        precision=settings.precision,
        options=replace(settings.scorer_options, decode_threads=decode_threads(settings, plan)),
        torch_threads=plan.torch_threads,
        engine=settings.engine,
        resize=settings.resize,
        max_batch=min(MAX_BATCH, settings.batch_size),
        gpu_share=plan.gpus or 1.0,
    )


@contextlib.contextmanager
def writing_to(output: Store, run_id: str) -> Iterator[None]:
    """A block in which every error of storage is the output's: sources have errors of their own.

    Raises:
        OutputError: with the run's id, to resume with.
    """
    try:
        yield
    except StorageError as error:
        raise OutputError(
            f"the output {output.uri} failed: {error.detail}; nothing was published: "
            f"fix that, then resume with --run-id {run_id}"
        ) from None
