"""From staging to readers: copy the files, write the manifest, clear up. The manifest is what makes a run visible."""

from moderation.errors import OutputError, StorageError
from moderation.results.manifest import Manifest
from moderation.results.paths import RunPaths
from moderation.storage import Store


def publish(output: Store, paths: RunPaths, manifest: Manifest) -> None:
    """Make a checked run visible, manifest last. Safe to repeat after a crash at any point.

    Raises:
        OutputError: the output refused a write; nothing is visible, and the same run id can be tried again.
    """
    try:
        for entry in manifest.files:
            output.copy(f"{paths.staging}{entry.path}", entry.path)
        output.put(paths.manifest, manifest.to_json(), create_only=True)
    except FileExistsError:
        raise OutputError(f"the run {paths.run_id} is published already: {output.uri_of(paths.manifest)}") from None
    except StorageError as error:
        raise OutputError(f"cannot publish to {output.uri}: {error.detail}; go on with --run-id {paths.run_id}") from None
    output.delete_folder(paths.staging)


def quarantine(output: Store, paths: RunPaths, manifest: Manifest) -> str:
    """Set a run aside whose checks failed. Returns the URI of what would have been its manifest."""
    try:
        for entry in manifest.files:
            output.copy(f"{paths.staging}{entry.path}", f"{paths.quarantine}{entry.path}")
        key = f"{paths.quarantine}{paths.manifest}"
        output.put(key, manifest.model_copy(update={"state": "quarantined"}).to_json())
    except StorageError as error:
        raise OutputError(f"cannot write to {output.uri}: {error.detail}; go on with --run-id {paths.run_id}") from None
    output.delete_folder(paths.staging)
    return output.uri_of(key)
