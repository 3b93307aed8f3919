"""Removing what is no longer wanted: leftovers that nothing names, and runs past their time.

Both first say what they would remove; removing is a second step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from moderation.errors import OutputError, StorageError
from moderation.records import ObjectRef
from moderation.results.manifest import Manifest, pruned_manifests, published_manifests
from moderation.results.runs import Run, all_runs
from moderation.results.schemas import TABLES
from moderation.storage import Store

KEPT_WITH_EMBEDDINGS = ("embeddings", "decisions")
"""Tables of a pruned run that stay if its embeddings are to."""


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Files that no manifest names."""

    keys: tuple[str, ...]
    bytes: int


def leftovers(output: Store) -> Leftovers:
    """What a crash or a removal that broke off has left: files in the tables, staging and reports of runs that are no more.

    Unfinished runs keep their files, since they can be resumed: `discard` removes those.
    Raises `OutputError`.
    """
    try:
        runs = all_runs(output)
        named = {entry.path for manifest in _all_manifests(output) for entry in manifest.files}
        alive = {run.run_id for run in runs if run.state == "unfinished"}
        known = {run.run_id for run in runs}
        found = [item for item in _candidates(output) if _is_left(output.key_of(item.uri), named, alive, known)]
    except StorageError as error:
        raise OutputError(f"cannot read the results at {output.uri}: {error.detail}") from None
    return Leftovers(tuple(output.key_of(item.uri) for item in found), sum(item.size for item in found))


def remove(output: Store, keys: Sequence[str]) -> None:
    """Remove files. Raises `OutputError`."""
    try:
        for key in keys:
            output.delete(key)
    except StorageError as error:
        raise OutputError(f"cannot remove from {output.uri}: {error.detail}") from None


def expired(output: Store, older_than: timedelta) -> list[Run]:
    """Published runs that began longer ago than that, the oldest first."""
    before = datetime.now(UTC) - older_than
    return sorted((run for run in all_runs(output) if run.state == "published" and run.started_at < before), key=_age)


def prune(output: Store, run: Run, keep_embeddings: bool) -> None:
    """Remove a published run. Its manifest is removed first, so that readers never see a part of it.

    With `keep_embeddings`, later runs can still re-decide its images: its embeddings stay, its decisions, which say what
    the images are, and the manifest under `_pruned/`.
    Raises `OutputError`.
    """
    if run.manifest is None:
        raise ValueError(f"{run.run_id} was never published")
    files = run.manifest.files
    kept = tuple(entry for entry in files if keep_embeddings and entry.table in KEPT_WITH_EMBEDDINGS)
    try:
        if kept:
            pruned = run.manifest.model_copy(update={"state": "pruned", "files": kept})
            output.put(f"_pruned/{run.run_id}.json", pruned.to_json())
        output.delete(f"runs/{run.run_id}.json")
        for entry in files:
            if entry not in kept:
                output.delete(entry.path)
        output.delete_folder(f"reports/{run.run_id}/")
    except StorageError as error:
        raise OutputError(f"cannot remove from {output.uri}: {error.detail}; try again, or `moderate runs clean`") from None


def _age(run: Run) -> tuple[datetime, str]:
    return run.started_at, run.run_id


def _all_manifests(output: Store) -> Iterator[Manifest]:
    yield from published_manifests(output)
    yield from pruned_manifests(output)


def _candidates(output: Store) -> Iterator[ObjectRef]:
    for folder in (*TABLES, "_staging", "reports"):
        for page in output.list(f"{folder}/"):
            yield from page


def _is_left(key: str, named: set[str], alive: set[str], known: set[str]) -> bool:
    folder, _, rest = key.partition("/")
    if folder == "_staging":
        return rest.partition("/")[0] not in alive
    if folder == "reports":
        return rest.partition("/")[0] not in known
    # A run that is not finished may be publishing this very file, its manifest to come.
    run = next((part.removeprefix("run=") for part in key.split("/") if part.startswith("run=")), "")
    return key not in named and run not in alive
