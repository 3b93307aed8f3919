"""Ray tasks beside scoring: writing and checking shards, away from the driver. They hold no CPUs, actors have those."""

import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import pyarrow as pa
import ray
from ray import exceptions

from moderation.cluster.liveness import check_ray, wait
from moderation.errors import ModerationError, RunError
from moderation.policy.schema import Policy
from moderation.quality.facts import ExpectedRows, RunFacts, RunHistory, recent
from moderation.quality.quality_limits import QualityLimits
from moderation.quality.staged import StagedShard
from moderation.quality.verdicts import Verdict
from moderation.records import Shard
from moderation.results.manifest import published_manifests
from moderation.results.paths import RunPaths
from moderation.results.shard_files import Receipt, write_shard
from moderation.results.stored_images import StoredShard
from moderation.scoring.redeciding import write_decided
from moderation.storage import Store

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

ISOLATED_TIMEOUT_S = 120.0


class RowsLost(Exception):  # noqa: N818 - news, not a mistake
    """Scored rows went away with the machine that held them, before they were written: score the shard again."""


def prepare_writing() -> None:
    """Start a process for what follows, while the model is being loaded: later it would take a core from decoding."""
    started(_ready)


def shared(value: T) -> Any:
    """A reference to a value, to give to many tasks: it is packed once, however large. Tasks get the value itself."""
    check_ray()
    return ray.put(value)


def start_writing(shard: Shard, rows: Sequence[Any], policy: Policy, dim: int, paths: RunPaths, output: Store) -> Any:
    """Begin to write a shard whose `rows` are Ray references to scored batches. Returns a reference to its receipt."""
    return started(_write, shard, rows, policy, dim, paths, output)


def start_deciding(shard: Shard, stored: Sequence[StoredShard], context: Any, paths: RunPaths, output: Store) -> Any:
    """Start to re-decide a shard from stored embeddings. Returns a reference to its receipt, or to the reason why it fails.

    `context`: a `RowContext`, or a reference to one (`shared`).
    """
    return started(write_decided, shard, stored, context, paths, output)


def start_checking(shards: Sequence[StagedShard], paths: RunPaths, output: Store, expected: Any, limits: QualityLimits) -> Any:
    """Begin the row checks of some staged shards. Returns a reference to their verdicts.

    `expected`: `ExpectedRows`, or a reference to them (`shared`).
    """
    return started(_check_shards, shards, paths, output, expected, limits)


def checked_run(facts: RunFacts, limits: QualityLimits, output: Store) -> tuple[Verdict, ...]:
    """The run-level checks, against the runs that are published under `output`."""
    return cast("tuple[Verdict, ...]", result(started(_check_run, facts, limits, output)))


def written_data_docs(verdicts: Sequence[Verdict], paths: RunPaths, policy: str, output: Store) -> None:
    """Write the Data Docs of a run. Raises `StorageError`."""
    result(started(_write_data_docs, verdicts, paths, policy, output))


def isolated(function: Callable[P, R], *arguments: P.args, **_: P.kwargs) -> R | None:
    """Call a function in a process of its own, since what it reads is hostile; None if that process dies or hangs."""
    check_ray()
    reference = ray.remote(function).options(num_cpus=0, max_retries=0).remote(*arguments)
    if wait([reference], ISOLATED_TIMEOUT_S) is None:
        ray.cancel(reference, force=True)
        return None
    try:
        return cast("R", ray.get(reference))
    except exceptions.RayTaskError:
        raise  # a mistake of ours
    except exceptions.RayError:
        return None


def started(function: Callable[..., Any], *arguments: Any, returns: int = 1) -> Any:
    """Begin to call a function in another process. Returns a reference to what it returns, or a list of `returns` ones."""
    check_ray()
    return _task(function).options(num_cpus=0, max_retries=3, num_returns=returns).remote(*arguments)


@cache
def _task(function: Callable[..., Any]) -> Any:
    return ray.remote(function)  # sends the function to the cluster when it is called for the first time


def _ready() -> None:
    pa.array([""])  # what pyarrow imports at its first conversion


def _write(shard: Shard, rows: Sequence[Any], policy: Policy, dim: int, paths: RunPaths, output: Store) -> Receipt:
    return write_shard(shard, ray.get(list(rows)), policy, dim, paths, output)


def _check_shards(
    shards: Sequence[StagedShard], paths: RunPaths, output: Store, expected: ExpectedRows, limits: QualityLimits
) -> tuple[Verdict, ...]:
    from moderation.quality.shard_checks import check_shards

    return check_shards(shards, paths, output, expected, limits)


def _check_run(facts: RunFacts, limits: QualityLimits, output: Store) -> tuple[Verdict, ...]:
    from moderation.quality.run_checks import check_run

    history = (
        RunHistory(m.run_id, m.published_at, m.policy, m.policy_hash, m.model_fingerprint, m.statistics)
        for m in published_manifests(output)
    )
    return check_run(facts, limits, recent(history, facts.expected, limits))


def _write_data_docs(verdicts: Sequence[Verdict], paths: RunPaths, policy: str, output: Store) -> None:
    from moderation.quality.data_docs import write_data_docs

    with tempfile.TemporaryDirectory(prefix="clip-moderation-") as folder:
        write_data_docs(verdicts, paths.run_id, policy, Path(folder))
        for file in sorted(Path(folder).iterdir()):
            output.put(f"{paths.data_docs}{file.name}", file)


def finished(references: list[Any], block: bool) -> tuple[list[Any], list[Any]]:
    """Split references into done ones and others. With `block`, at least one is done."""
    if not references:
        return [], []
    done, others = ray.wait(references, num_returns=len(references), timeout=0)
    if not done and block:
        done = [wait(references)]
        others = [reference for reference in references if reference not in done]
    return done, others


def result(reference: Any) -> Any:
    """The value behind a reference that `finished` says is done. Errors of this program come out as they were raised.

    Raises:
        RowsLost: what the task needed, or made, was lost with a machine.
        RunError: the task's process died again and again, or Ray did.
    """
    wait([reference])
    try:
        return ray.get(reference)
    except exceptions.RayTaskError as error:
        if isinstance(error.cause, ModerationError):
            raise error.cause from None
        if isinstance(error.cause, exceptions.ObjectLostError):
            raise RowsLost from None
        raise
    except exceptions.ObjectLostError:
        raise RowsLost from None
    except exceptions.RayError as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"writing or checking results failed; resume with the same --run-id: {reason}") from None
