"""The pool with scorers that die, hang and fail: real processes, really killed."""

import ctypes
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import ray

from moderation.errors import ModelError, WorkerStormError
from moderation.images.sharding import batches, shard_name
from moderation.policy.loading import parse_policy
from moderation.policy.scoring import CompiledPolicy, TextHead, prompt_texts
from moderation.records import Batch, ObjectRef, ScoredBatch, Shard
from moderation.scoring.pool import ScorerPool
from moderation.scoring.rows import Embedded, RowContext, build_rows
from moderation.scoring.scorer import ModelDescription
from moderation.scoring.session import PoolPlan

POLICY = parse_policy("""
policy: pool
model: {name: none}
contrast: [a wall]
rules:
  - {id: one, prompts: [a thing], review: 0.9}
""")
DIM = 8
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def head(texts: list[str]) -> TextHead:
    vectors = np.random.default_rng(0).normal(size=(len(texts), DIM)).astype(np.float32)
    return TextHead({t: v / np.linalg.norm(v) for t, v in zip(texts, vectors, strict=True)}, 10.0, None)


@dataclass(frozen=True)
class Poisoned:
    """A scorer factory: it scores names, and does what a name tells it to."""

    broken: str = ""

    def __call__(self) -> "Poisoned":
        if self.broken == "load":
            raise ModelError("no such model: did you mean another?")
        return self

    def describe(self, texts: list[str]) -> ModelDescription:
        return ModelDescription("none", "0" * 16, DIM, "cpu", head(texts))

    def score(self, batch: Batch, context: RowContext) -> ScoredBatch:
        if self.broken == "always":
            os._exit(1)
        for item in batch.objects:
            deed = item.uri.rpartition("/")[2]
            if deed.startswith("segfault"):
                ctypes.string_at(0)
            elif deed.startswith("exit"):
                os._exit(3)
            elif deed.startswith("hang"):
                time.sleep(3600)
            elif deed.startswith("raise"):
                raise KeyError("a bug")
        rows = [Embedded(item, "0" * 64, "PNG", 1, 1, 1, (0,)) for item in batch.objects]
        vectors = np.ones((len(rows), DIM), np.float16)
        return build_rows(context, rows, vectors, [], NOW)


def shard_of(names: list[str]) -> Shard:
    objects = tuple(ObjectRef(f"memory://pool/{name}", "e", 1, NOW) for name in names)
    return Shard(shard_name(objects), objects)


def score_all(names: list[str], pool: ScorerPool, batch_size: int = 25) -> dict[str, str]:
    """Every object's error code, or `scored`; fails on objects that come back twice."""
    context = RowContext("run", CompiledPolicy.build(POLICY, pool.describe(prompt_texts(POLICY)).head), "none", "0" * 16)
    outcome: dict[str, str] = {}
    for scored in pool.score(iter(batches(shard_of(names), batch_size)), context):
        rows = ray.get(scored.rows).decisions.select(["uri", "status", "error_code"]).to_pylist()
        assert len(rows) == len(scored.batch.objects)
        for row in rows:
            name = row["uri"].rpartition("/")[2]
            assert name not in outcome
            outcome[name] = row["error_code"] or row["status"]
    return outcome


def test_batches_come_back_once_each(ray_cluster: None) -> None:
    names = [f"{i:03}" for i in range(205)]
    with ScorerPool(Poisoned(), PoolPlan(2, 0.5, 0.0), 60) as pool:
        assert score_all(names, pool) == dict.fromkeys(names, "scored")


def test_images_that_kill_are_isolated_and_all_others_scored(ray_cluster: None) -> None:
    names = [f"{i:03}" for i in range(200)]
    names[17], names[113], names[114] = "segfault-a", "exit-b", "raise-c"
    with ScorerPool(Poisoned(), PoolPlan(2, 0.5, 0.0), 60) as pool:
        outcome = score_all(names, pool)
    poison = {name: code for name, code in outcome.items() if code != "scored"}
    assert poison == {"segfault-a": "worker_killed", "exit-b": "worker_killed", "raise-c": "internal"}
    assert set(outcome) == set(names)


def test_an_image_that_hangs_is_given_up_and_all_others_scored(ray_cluster: None) -> None:
    names = [f"{i:02}" for i in range(16)]
    names[5] = "hang"
    with ScorerPool(Poisoned(), PoolPlan(1, 0.5, 0.0), 3.0) as pool:
        outcome = score_all(names, pool, batch_size=4)
    assert outcome == {name: "worker_timeout" if name == "hang" else "scored" for name in names}


def test_a_storm_of_deaths_stops_the_run(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moderation.scoring.pool.STORM", 4)
    with ScorerPool(Poisoned("always"), PoolPlan(1, 0.5, 0.0), 60) as pool, pytest.raises(WorkerStormError, match="run-id"):
        score_all([f"{i:02}" for i in range(64)], pool)


def test_a_model_that_does_not_load_is_the_error_it_raises(ray_cluster: None) -> None:
    with ScorerPool(Poisoned("load"), PoolPlan(1, 0.5, 0.0), 60) as pool, pytest.raises(ModelError, match="did you mean"):
        pool.describe(["a thing"])


def test_a_ray_that_we_start_refuses_those_without_its_token(ray_cluster: None, tmp_path: Path) -> None:
    import subprocess
    import sys

    address = ray.get_runtime_context().gcs_address
    script = f"import ray; ray.init({address!r}, logging_level='error'); print('in')"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {
        "HOME": str(tmp_path),
        "RAY_NUM_REDIS_GET_RETRIES": "3",
    }
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False, timeout=90
    )
    assert found.returncode != 0
    assert "token" in found.stderr.lower()
    assert "in" not in found.stdout.split()
