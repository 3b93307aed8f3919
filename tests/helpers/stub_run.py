"""Whole runs with a scorer that looks at no image: everything else is real, and nobody waits for a model."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from poisoned import Poisoned

from moderation import RunSettings, pipeline
from moderation.cluster.pool import ScorerPool
from moderation.cluster.scorer import ScorerFactory
from moderation.cluster.session import PoolPlan
from moderation.planning.inputs import check_inputs, claim_run
from moderation.policy.compiled import CompiledPolicy, prompt_texts
from moderation.results.manifest import Manifest
from moderation.results.stored_assets import keep_assets
from moderation.results.stored_exemplars import keep_exemplars
from moderation.results.stored_prompts import keep_prompts


@contextlib.contextmanager
def stub_session(settings: RunSettings, factory: ScorerFactory | None = None) -> Iterator[pipeline.Session]:
    """A run under way on a small actor; Ray must be running."""
    inputs = check_inputs(settings)
    plan = PoolPlan(1, 0.5, 0.0)
    with (
        tempfile.TemporaryDirectory() as notes,
        ScorerPool(factory or Poisoned(Path(notes)), plan, 60) as pool,
    ):
        model = pool.describe(prompt_texts(inputs.policy))
        paths, started_at = claim_run(inputs, model.fingerprint)
        head = keep_prompts(inputs.output, model.fingerprint, model.head)
        any_vector = next(iter(head.texts.values()))[None].astype(np.float16)
        images = dict.fromkeys(inputs.policy.assets.images, any_vector)
        compiled = CompiledPolicy.build(inputs.policy, replace(head, images=images))
        keep_assets(inputs.output, inputs.policy.assets)
        if images:
            keep_exemplars(inputs.output, model.fingerprint, images)
        yield pipeline.Session(inputs, pool, plan, model, compiled, paths, started_at)


def stub_run(settings: RunSettings, factory: ScorerFactory | None = None, *, checked: bool = True) -> Manifest:
    """Score, check and publish. Great Expectations takes seconds: not `checked` are runs that a test only builds on."""
    with stub_session(settings, factory) as running:
        scored = pipeline.score(running)
        return pipeline.publish_or_quarantine(running, scored, pipeline.check(running, scored) if checked else ())
