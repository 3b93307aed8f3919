"""From staging to readers: copy the files, write the manifest, clear up. The manifest is what makes a run visible."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from moderation.errors import OutputError, StorageError
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
    """
    try:
        _copy(output, paths, receipts)
        output.put(paths.manifest, manifest.to_json(), create_only=True)
    except FileExistsError:
        raise OutputError(f"the run {paths.run_id} is published already: {output.uri_of(paths.manifest)}") from None
    except StorageError as error:
        raise OutputError(
            f"cannot publish to {output.uri}: {error.detail}; nothing was published: "
            f"once it is mended, go on with --run-id {paths.run_id}"
        ) from None
    _clear(output, paths)


def quarantine(output: Store, paths: RunPaths, manifest: Manifest, receipts: Sequence[Receipt]) -> str:
    """Set a run aside whose checks failed. Returns the URI of what would have been its manifest."""
    try:
        _copy(output, paths, receipts, paths.quarantine)
        output.put(paths.quarantined, manifest.model_copy(update={"state": "quarantined"}).to_json())
    except StorageError as error:
        raise OutputError(f"cannot write to {output.uri}: {error.detail}; go on with --run-id {paths.run_id}") from None
    _clear(output, paths)
    return output.uri_of(paths.quarantined)


def _clear(output: Store, paths: RunPaths) -> None:
    try:
        output.delete_folder(paths.staging)
    except StorageError as error:
        _log.warning("%s could not be removed and may be deleted by hand: %s", output.uri_of(paths.staging), error.detail)


def _copy(output: Store, paths: RunPaths, receipts: Sequence[Receipt], folder: str = "") -> None:
    files = [(receipt.attempt, entry.path) for receipt in receipts for entry in receipt.files]
    with ThreadPoolExecutor(COPIES, "copy") as pool:
        for _ in pool.map(lambda file: output.copy(paths.staged(*file), f"{folder}{file[1]}"), files):
            pass
