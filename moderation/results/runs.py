"""The runs under an output, whatever became of them: published, quarantined, or not finished."""

import difflib
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from moderation.common.safe_text import visible
from moderation.errors import ErrorCode, OutputError, SettingsError, StorageError
from moderation.results.manifest import Manifest, Release, published_manifests
from moderation.results.paths import RunPaths
from moderation.storage import Store

State = Literal["published", "quarantined", "unfinished"]


@dataclass(frozen=True, slots=True)
class Run:
    """One run."""

    run_id: str
    state: State
    started_at: datetime
    sources: tuple[str, ...]
    manifest: Manifest | None
    """None as long as it is not finished"""


def all_runs(output: Store) -> list[Run]:
    """Every run, the newest first. Raises `OutputError` if there is no such place, or a manifest cannot be read."""
    try:
        runs = [
            *(_finished(manifest, "published") for manifest in published_manifests(output)),
            *(_finished(manifest, "quarantined") for manifest in _quarantined(output)),
        ]
        finished = {run.run_id for run in runs}
        runs += [run for run in _unfinished(output) if run.run_id not in finished]
    except StorageError as error:
        raise OutputError(f"cannot read the results at {output.uri}: {error.detail}") from None
    return sorted(runs, key=lambda run: (run.started_at, run.run_id), reverse=True)


def find_run(output: Store, run_id: str) -> Run:
    """One run by its name. Raises `SettingsError` if there is none."""
    runs = all_runs(output)
    for run in runs:
        if run.run_id == run_id:
            return run
    near = difflib.get_close_matches(run_id, [run.run_id for run in runs], 1)
    meant = f"did you mean {near[0]}?" if near else f"there are {len(runs)} runs: see `moderate runs list`"
    raise SettingsError(f"there is no run {run_id!r} under {output.uri}: {meant}")


def unpublished(output: Store) -> str:
    """The state of an output's runs if none is published, and what to do; empty if there are no runs."""
    quarantined = [run for run in all_runs(output) if run.state == "quarantined"]
    if quarantined:
        newest, results = quarantined[0], shlex.quote(visible(output.uri.removeprefix("file://")))
        failed = [check.name for check in newest.manifest.checks if not check.passed] if newest.manifest else []
        others = f" ({len(quarantined) - 1} more)" if len(quarantined) > 1 else ""
        return (
            f"{newest.run_id}{others} is quarantined, since quality checks failed: {', '.join(failed)}; look at its report, "
            f"then `moderate runs release {newest.run_id} --results {results} --reason 'why it is right' --by 'your name'` "
            "publishes it anyway"
        )
    unfinished = [run for run in all_runs(output) if run.state == "unfinished"]
    return f"{unfinished[0].run_id} is not finished: resume it with --run-id {unfinished[0].run_id}" if unfinished else ""


def release(output: Store, run: Run, reason: str, by: str) -> Manifest:
    """Publish a quarantined run after all. Its manifest keeps who released it and why. Safe to repeat after a crash.

    Raises:
        SettingsError: the run is not quarantined.
        OutputError: the output refused a write.
    """
    if run.state != "quarantined" or run.manifest is None:
        raise SettingsError(f"only a quarantined run can be released; {run.run_id} is {run.state}")
    now = datetime.now(UTC)
    manifest = run.manifest.model_copy(
        update={"state": "published", "published_at": now, "release": Release(by=by, reason=reason, at=now)}
    )
    paths = _paths(run)
    try:
        for entry in manifest.files:
            output.copy(f"{paths.quarantine}{entry.path}", entry.path)
        output.put(paths.manifest, manifest.to_json(), create_only=True)
        output.delete_folder(paths.quarantine)
    except FileExistsError:
        raise OutputError(f"the run {run.run_id} is already published: {output.uri_of(paths.manifest)}") from None
    except StorageError as error:
        raise OutputError(f"cannot publish to {output.uri}: {error.detail}; fix that, then try again") from None
    return manifest


def discard(output: Store, run: Run) -> None:
    """Permanently remove a run that was never published. Raises `SettingsError` for one that was."""
    if run.state == "published":
        raise SettingsError(f"{run.run_id} is published: `moderate runs prune` removes published runs by their age")
    paths = _paths(run)
    try:
        # Remove the file that makes the run exist first: an interrupted removal leaves only files that `clean` removes.
        for key in (paths.quarantined, f"{paths.staging}run.json"):
            output.delete(key)
        for folder in (paths.quarantine, paths.staging, f"reports/{run.run_id}/"):
            output.delete_folder(folder)
    except StorageError as error:
        raise OutputError(f"cannot remove from {output.uri}: {error.detail}") from None


def _finished(manifest: Manifest, state: State) -> Run:
    return Run(manifest.run_id, state, manifest.started_at, manifest.sources, manifest)


def _quarantined(output: Store) -> Iterator[Manifest]:
    for key in _keys(output, "_quarantine/"):
        folder, _, name = key.partition("/runs/")
        if name.endswith(".json") and folder.count("/") == 1:
            yield Manifest.from_json(output.get(key))


def _unfinished(output: Store) -> Iterator[Run]:
    for key in _keys(output, "_staging/"):
        if key.endswith("/run.json") and key.count("/") == 2:
            try:
                note = json.loads(output.get(key))
            except StorageError as error:
                if error.code is ErrorCode.NOT_FOUND:  # published at this moment
                    continue
                raise
            yield Run(key.split("/")[1], "unfinished", datetime.fromisoformat(note["started_at"]), tuple(note["source"]), None)


def _keys(output: Store, prefix: str) -> Iterator[str]:
    for page in output.list(prefix):
        for item in page:
            yield output.key_of(item.uri)


def _paths(run: Run) -> RunPaths:
    fingerprint = run.manifest.model_fingerprint if run.manifest else ""
    return RunPaths(run.run_id, f"{run.started_at:%Y-%m-%d}", fingerprint)
