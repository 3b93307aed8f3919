"""Whole runs with a scorer that looks at no image: everything else is real, and nobody waits for a model."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from poisoned import DIM, Poisoned

from moderation import RunSettings, pipeline
from moderation.cluster.pool import ScorerPool
from moderation.cluster.scorer import ScorerFactory
from moderation.cluster.session import PoolPlan
from moderation.planning.inputs import check_inputs, claim_run
from moderation.policy.compiled import CompiledPolicy, prompt_texts
from moderation.policy.schema import Policy
from moderation.results.manifest import Manifest
from moderation.results.stored_assets import keep_assets
from moderation.results.stored_exemplars import keep_exemplars
from moderation.results.stored_prompts import keep_prompts


@contextlib.contextmanager
def stub_session(settings: RunSettings, factory: ScorerFactory | None = None) -> Iterator[pipeline.Session]:
    """A run under way on a small actor; Ray must be running."""
    inputs = check_inputs(settings)
    inputs = replace(inputs, policy=with_small_heads(inputs.policy))
    plan = PoolPlan(1, 0.5, 0.0)
    with (
        tempfile.TemporaryDirectory() as notes,
        ScorerPool(factory or Poisoned(Path(notes)), plan, 60) as pool,
    ):
        model = pool.describe(prompt_texts(inputs.policy))
        paths, started_at = claim_run(inputs, model.fingerprint)
        head = keep_prompts(inputs.output, model.fingerprint, model.head)
        images = {digest: any_vector(digest) for digest in inputs.policy.assets.images}
        compiled = CompiledPolicy.build(inputs.policy, replace(head, images=images))
        keep_assets(inputs.output, inputs.policy.assets)
        if images:
            keep_exemplars(inputs.output, model.fingerprint, images)
        yield pipeline.Session(inputs, pool, plan, model, compiled, paths, started_at)


def any_vector(digest: str) -> NDArray[np.float16]:
    """[1, DIM] of unit length: another one for each exemplar."""
    vector = np.random.default_rng(int(digest[:12], 16)).normal(size=(1, DIM))
    return (vector / np.linalg.norm(vector)).astype(np.float16)


def with_small_heads(policy: Policy) -> Policy:
    """The same policy, its heads cut down to the stub's embeddings; that they are others does not show in its hash."""
    cut = {
        rule: replace(head, layers=((head.layers[0][0][:, :DIM], head.layers[0][1]), *head.layers[1:]))
        for rule, head in policy.assets.heads.items()
    }
    return policy.with_assets(replace(policy.assets, heads=cut)) if cut else policy


def stub_run(settings: RunSettings, factory: ScorerFactory | None = None, *, checked: bool = True) -> Manifest:
    """Score, check and publish. Great Expectations takes seconds: not `checked` are runs that a test only builds on."""
    with stub_session(settings, factory) as running:
        scored = pipeline.score(running)
        return pipeline.publish_or_quarantine(running, scored, pipeline.check(running, scored) if checked else ())
