"""From staging to readers: copy the files, write the manifest, clear up. The manifest is what makes a run visible."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from moderation.errors import ModerationError, OutputError, QuarantinedError, RunError, StorageError
from moderation.results.manifest import Manifest
from moderation.results.paths import RunPaths
from moderation.results.shard_files import Receipt
from moderation.storage import Store

COPIES = 8
"""Files copied at a time."""

_log = logging.getLogger(__name__)


def publish(output: Store, paths: RunPaths, manifest: Manifest, receipts: Sequence[Receipt]) -> None:
    """Make a checked run visible, manifest last. Safe to repeat after a crash at any point.

    Raises:
        OutputError: the output refused a write; nothing is visible, and the same run id can be tried again.
        RunError: another process under the same run id published it meanwhile.
    """
    try:
        if output.exists(paths.manifest):  # its files must not be replaced by those of this attempt
            raise published_meanwhile(output, paths)
        _copy(output, paths, receipts)
        output.put(paths.manifest, manifest.to_json(), create_only=True)
    except FileExistsError:
        raise published_meanwhile(output, paths) from None
    except StorageError as error:
        raise OutputError(
            f"cannot publish to {output.uri}: {error.detail}; nothing was published: "
            f"fix that, then resume with --run-id {paths.run_id}"
        ) from None
    _clear(output, paths)


def published_meanwhile(output: Store, paths: RunPaths) -> RunError:
    """What the slower one of two processes under one run id says."""
    return RunError(
        f"the run {paths.run_id} was meanwhile published by another process with the same --run-id: "
        f"{output.uri_of(paths.manifest)}; this one published nothing and stopped"
    )


@contextlib.contextmanager
def alone(output: Store, paths: RunPaths) -> Iterator[None]:
    """Report the real cause of an error if another process with the same run id ended the run first.

    That one removes the staged files, so that this one fails wherever it next needs them.
    """
    try:
        yield
    except ModerationError as error:
        with contextlib.suppress(StorageError):
            if output.exists(paths.manifest):
                output.delete_folder(paths.staging)  # what this one staged since
                raise published_meanwhile(output, paths) from None
            if not isinstance(error, QuarantinedError) and output.exists(paths.quarantined):
                raise QuarantinedError(
                    f"the run {paths.run_id} failed its quality checks in another process with the same --run-id, and is in "
                    f"{output.uri_of(paths.quarantined)}; this one stopped"
                ) from None
        raise


def quarantine(output: Store, paths: RunPaths, manifest: Manifest, receipts: Sequence[Receipt]) -> str:
    """Set a run aside whose checks failed. Returns the URI of what would have been its manifest."""
    try:
        _copy(output, paths, receipts, paths.quarantine)
        output.put(paths.quarantined, manifest.model_copy(update={"state": "quarantined"}).to_json())
    except StorageError as error:
        raise OutputError(f"cannot write to {output.uri}: {error.detail}; resume with --run-id {paths.run_id}") from None
    _clear(output, paths)
    return output.uri_of(paths.quarantined)


def _clear(output: Store, paths: RunPaths) -> None:
    try:
        output.delete_folder(paths.staging)
    except StorageError as error:
        _log.warning("%s could not be removed; you can delete it: %s", output.uri_of(paths.staging), error.detail)


def _copy(output: Store, paths: RunPaths, receipts: Sequence[Receipt], folder: str = "") -> None:
    files = [(receipt.attempt, entry.path) for receipt in receipts for entry in receipt.files]
    with ThreadPoolExecutor(COPIES, "copy") as pool:
        for _ in pool.map(lambda file: output.copy(paths.staged(*file), f"{folder}{file[1]}"), files):
            pass
