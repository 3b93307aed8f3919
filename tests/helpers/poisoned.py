"""What tests of the pool share: a scorer of names, which dies, hangs, fails and eats memory when a name tells it to.

Workers import this at each start, so that nothing slow may come in.
"""

import ctypes
import os
import threading
import time
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import ray

from moderation.cluster.pool import ScorerPool
from moderation.cluster.scorer import ModelDescription
from moderation.errors import ModelError
from moderation.planning.sharding import batches, shard_name
from moderation.policy.compiled import CompiledPolicy, TextHead, prompt_texts
from moderation.policy_files.loading import parse_policy
from moderation.records import Batch, ObjectRef, ScoredBatch, Shard
from moderation.scoring.decision_rows import Embedded, build_rows
from moderation.scoring.flips import FlipCheck
from moderation.scoring.judging import RowContext

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
    """A scorer factory: it scores names, and does what a name tells it to. `notes`: a folder that outlives workers."""

    notes: Path
    broken: str = ""

    def __call__(self) -> "Stub":
        starts = note(self.notes, "starts")
        if self.broken == "load":
            raise ModelError("no such model: did you mean another?")
        if starts > 1 and self.broken == "reload":
            os._exit(1)
        if starts > 1 and self.broken == "reload for ever":
            time.sleep(3600)
        return Stub(self)


class Stub:
    def __init__(self, factory: Poisoned) -> None:
        self.notes, self.broken, self.turn = factory.notes, factory.broken, threading.Lock()

    def describe(self, texts: list[str]) -> ModelDescription:
        return ModelDescription("none", "0" * 16, DIM, "cpu", head(texts))

    def check(self, batch: Batch, context: RowContext) -> FlipCheck:
        if self.broken == "check" and starts(self.notes) == 1:
            os._exit(1)
        return FlipCheck(len(batch.objects), 0, 1.0)

    def score(self, batch: Batch, context: RowContext) -> ScoredBatch:
        if self.broken == "sick":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        for item in batch.objects:
            self.do(item.uri.rpartition("/")[2])
        rows = [Embedded(item, "0" * 64, "PNG", 1, 1, 1, (0,)) for item in batch.objects]
        vectors = [np.random.default_rng(zlib.crc32(item.uri.encode())).normal(size=DIM) for item in batch.objects]
        return build_rows(context, rows, np.array(vectors, np.float16).reshape(-1, DIM), [], NOW)

    def do(self, name: str) -> None:
        deed = name.partition("-")[0]
        if deed == "segfault":
            ctypes.string_at(0)
        elif deed == "exit" or (deed == "unlucky" and note(self.notes, name) <= 3):
            os._exit(3)
        elif deed == "hang":
            time.sleep(3600)
        elif deed == "raise":
            raise KeyError("a bug")
        elif deed == "sicken":
            self.broken = "sick"
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        elif deed == "slow":
            with self.turn:
                time.sleep(2.0)
        elif deed == "eat":
            eat()


def note(folder: Path, what: str) -> int:
    """How often this was noted, this time included."""
    with (folder / what).open("ab") as file:
        file.write(b".")
        return file.tell()


def eat() -> None:
    """Memory, until somebody ends this process; 6 GB at most."""
    eaten = []
    for _ in range(60):
        eaten.append(b"x" * (100 << 20))
        time.sleep(0.1)
    raise AssertionError("nobody minded")


def shard_of(names: list[str]) -> Shard:
    objects = tuple(ObjectRef(f"memory://pool/{name}", "e", 1, NOW) for name in names)
    return Shard(shard_name(objects), objects)


def context_of(pool: ScorerPool) -> RowContext:
    return RowContext("run", CompiledPolicy.build(POLICY, pool.describe(prompt_texts(POLICY)).head), "none", "0" * 16)


def score_all(names: list[str], pool: ScorerPool, batch_size: int = 25) -> dict[str, str]:
    """Every object's error code and detail, or `scored`; fails on objects that come back twice."""
    context = context_of(pool)
    outcome: dict[str, str] = {}
    for scored in list(pool.score(iter(batches(shard_of(names), batch_size)), context)):  # workers that died left their rows
        rows = ray.get(scored.rows).decisions.select(["uri", "status", "error_code", "error_detail"]).to_pylist()
        assert len(rows) == len(scored.batch.objects)
        for row in rows:
            name = row["uri"].rpartition("/")[2]
            assert name not in outcome
            outcome[name] = f"{row['error_code']}: {row['error_detail']}" if row["error_code"] else row["status"]
    assert set(outcome) == set(names)
    return outcome


def unscored(outcome: dict[str, str]) -> dict[str, str]:
    return {name: code for name, code in outcome.items() if code != "scored"}


def starts(folder: Path) -> int:
    return (folder / "starts").stat().st_size
