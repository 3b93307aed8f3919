"""The archive: all results of published runs with one model, each image once, at its newest decision."""

import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from threadpoolctl import threadpool_limits

from moderation.common.hash_set import HashSet, hashes
from moderation.errors import SettingsError, StorageError
from moderation.results.manifest import Manifest, published_manifests
from moderation.results.runs import unpublished
from moderation.results.stored_images import StoredImages, StoredShard, read_images, stored_shards
from moderation.storage import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelRuns:
    """What published runs have of one model."""

    model: str
    fingerprint: str
    runs: int
    scored: int
    """images with embeddings; one that several runs scored counts several times"""
    precision: str
    """fp32 | bf16 | int8: part of what the fingerprint stands for"""
    resize: str
    """fast | exact: likewise"""

    def __str__(self) -> str:
        return f"{self.model} {self.fingerprint}: {self.scored:,} images in {self.runs} run{'s' if self.runs != 1 else ''}"


@dataclass(frozen=True, slots=True)
class ArchivedRun:
    """A published run, and the policy that it decided by."""

    run_id: str
    started_at: datetime
    policy: str
    version: str
    hash: str
    scored: int
    """images with embeddings"""


@dataclass(frozen=True)
class Archive:
    """Published runs of one model."""

    output: Store
    used: ModelRuns
    others: tuple[ModelRuns, ...]
    """results that cannot be used, since other models made them"""
    shards: tuple[StoredShard, ...]
    """newest run first"""
    runs: tuple[ArchivedRun, ...] = ()
    """newest first"""
    left_out: tuple[ArchivedRun, ...] = ()
    """runs of this model that were not asked for: they began too early, or are not among those named"""

    @property
    def fingerprint(self) -> str:
        """Of the model whose embeddings these are."""
        return self.used.fingerprint

    def each(
        self,
        columns: Iterable[str],
        work: Callable[[StoredImages], T],
        threads: int | None = None,
        *,
        with_hashes: bool = False,
    ) -> Generator[T]:
        """What `work` makes of the images of each shard, in the order of `shards`. Every image comes once, as decided last.

        `work` is called in threads. Few shards are in memory at a time; where there are several runs, 16 bytes per image are
        needed to tell which were seen.

        Raises:
            OutputError: a file cannot be read.
        """
        names = tuple(columns)
        threads = threads or os.cpu_count() or 1
        runs = {shard.run_id for shard in self.shards}
        seen = HashSet() if len(runs) > 1 else None
        reading: deque[Future[StoredImages]] = deque()
        working: deque[Future[T]] = deque()
        shards = iter(self.shards)
        # A matrix product that spreads over all processors in each of several threads takes many times as long.
        with threadpool_limits(1), ThreadPoolExecutor(threads, "archive") as pool:

            def read_on() -> None:
                shard = next(shards, None)
                if shard is not None:
                    reading.append(pool.submit(read_images, self.output, shard, names, with_hashes=with_hashes))

            try:
                for _ in range(threads):
                    read_on()
                while reading:
                    images = reading.popleft().result()
                    read_on()
                    working.append(pool.submit(work, images if seen is None else _unseen(images, seen)))
                    del images
                    if len(working) > threads:
                        yield working.popleft().result()
                while working:
                    yield working.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def open_archive(
    output: Store,
    model: str | None = None,
    *,
    fingerprint: str | None = None,
    since: datetime | None = None,
    run_ids: Iterable[str] | None = None,
    resize: str | None = None,
) -> Archive:
    """What the published runs hold of a model, given by its name or its fingerprint; None of both: the only one there is.

    Args:
        output: the results.
        model: as the manifests name it, e.g. `ViT-B-32/openai` (`policy.model.label`).
        fingerprint: chooses among several of a model.
        since: only runs that began at or after this time.
        run_ids: only these runs.
        resize: `fast` or `exact`: chooses among several of a model, where there is one of that kind.

    Raises:
        SettingsError: no run, none of this model, or the choice is not clear; the text lists what there is.
        OutputError: a manifest cannot be read.
    """
    chosen = None if run_ids is None else frozenset(run_ids)
    shards: dict[str, list[tuple[datetime, ArchivedRun, list[StoredShard]]]] = {}
    left_out: dict[str, list[ArchivedRun]] = {}
    sums: dict[str, Counter[str]] = {}
    names: dict[str, tuple[str, str, str]] = {}
    for manifest in _manifests(output):
        key, run = manifest.model_fingerprint, _run(manifest)
        if (since is not None and run.started_at < since) or (chosen is not None and run.run_id not in chosen):
            left_out.setdefault(key, []).append(run)
            continue
        shards.setdefault(key, []).append((manifest.published_at, run, list(stored_shards(manifest))))
        sums.setdefault(key, Counter()).update(runs=1, scored=manifest.scored)
        names[key] = manifest.model, _precision(manifest), _resize(manifest)
    found = [
        ModelRuns(name, key, sums[key]["runs"], sums[key]["scored"], precision, resize)
        for key, (name, precision, resize) in names.items()
    ]
    used = _choose(found, model, fingerprint, output, resize, narrowed=since is not None or chosen is not None)
    newest_first = sorted(shards[used.fingerprint], key=lambda run: run[0], reverse=True)
    return Archive(
        output=output,
        used=used,
        others=tuple(sorted((one for one in found if one != used), key=lambda one: -one.scored)),
        shards=tuple(shard for _, _, those in newest_first for shard in those),
        runs=tuple(run for _, run, _ in newest_first),
        left_out=tuple(left_out.get(used.fingerprint, ())),
    )


def open_archives(output: Store, *, since: datetime | None = None) -> tuple[Archive, ...]:
    """What the published runs hold, of every model: for what depends on no model, such as hashes. Largest first.

    Raises:
        SettingsError: no run is published.
        OutputError: a manifest cannot be read.
    """
    found = Counter[str]()
    for manifest in _manifests(output):
        if since is None or manifest.started_at >= since:
            found[manifest.model_fingerprint] += manifest.scored + manifest.errored
    if not found:
        return (open_archive(output, since=since),)  # which says why there is none
    return tuple(open_archive(output, fingerprint=one, since=since) for one, _ in found.most_common())


def _run(manifest: Manifest) -> ArchivedRun:
    return ArchivedRun(
        run_id=manifest.run_id,
        started_at=manifest.started_at,
        policy=manifest.policy,
        version=manifest.policy_version,
        hash=manifest.policy_hash,
        scored=manifest.scored,
    )


def _manifests(output: Store) -> Iterator[Manifest]:
    try:
        yield from published_manifests(output)
    except StorageError as error:
        raise SettingsError(f"cannot read the results at {output.uri}: {error.detail}") from None


def _precision(manifest: Manifest) -> str:
    if manifest.engine is not None:
        return manifest.engine.precision
    asked: Mapping[str, object] = manifest.settings
    if asked.get("precision", "auto") != "auto":
        return str(asked["precision"])
    return "bf16" if manifest.device.startswith("cuda") else "fp32"


def _resize(manifest: Manifest) -> str:
    """Manifests from before this setting say nothing of it."""
    return str(manifest.settings.get("resize", "exact"))


def _choose(
    found: list[ModelRuns], model: str | None, fingerprint: str | None, output: Store, resize: str | None, *, narrowed: bool
) -> ModelRuns:
    listed = "".join(f"\n  {one}" for one in sorted(found, key=lambda one: -one.scored))
    if not found:
        which = "none of the runs selected is published" if narrowed else "no run is published"
        text = ("" if narrowed else unpublished(output)) or "see `moderate runs list`"
        raise SettingsError(f"there is nothing to re-decide: {which} under {output.uri}: {text}")
    if fingerprint is not None:
        matching = [one for one in found if one.fingerprint == fingerprint]
        if not matching:
            raise SettingsError(f"no run under {output.uri} used a model of fingerprint {fingerprint!r}; there are:{listed}")
        return matching[0]
    matching = [one for one in found if model is None or one.model == model]
    if not matching:
        raise SettingsError(
            f"there are no embeddings of the model {model} under {output.uri}, only of:{listed}\n"
            "embeddings of one model cannot be used with another: score the images with that model (`moderate run`), "
            "or see what would change with `moderate model compare`"
        )
    if len(matching) > 1 and resize is not None:
        matching = [one for one in matching if one.resize == resize] or matching
    if len(matching) > 1:
        listed = "".join(f"\n  {one}" for one in sorted(matching, key=lambda one: -one.scored))
        raise SettingsError(
            f"{output.uri} holds embeddings of {len(matching)} different models, which cannot be compared:{listed}\n"
            "choose one with --fingerprint"
        )
    return matching[0]


def _unseen(images: StoredImages, seen: HashSet) -> StoredImages:
    """Those images whose URI comes for the first time."""
    return images.keep(*(seen.add(hashes(table["uri"].to_pylist())) for table in (images.scored, images.errors)))
