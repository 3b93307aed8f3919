"""Files that a user, or another file, names."""

import os.path
from pathlib import Path

from moderation.errors import SourceError, StorageError
from moderation.records import ObjectRef
from moderation.storage import Store, file_uri, local_path, scheme_of
from moderation.storage.s3_addresses import split_bucket


def find_file(location: str) -> ObjectRef:
    """The file at a location, under the URI that its store gives it. Raises `SourceError`."""
    try:
        return head(file_uri(str(path_at(location))) if scheme_of(location) == "file" else location)
    except StorageError as error:
        missing = error.detail.lower().startswith("no such")
        hint = "; if it is a folder, end it with a slash" if missing else ""
        raise SourceError(f"cannot read {location!r}: {error.detail}{hint}") from None


def head(uri: str) -> ObjectRef:
    """One object, wherever it is. Raises `StorageError`."""
    store, key = Store.locate(uri)
    return store.head(key)


def path_at(location: str) -> Path:
    """The absolute path of a plain path or a `file://` URI, which may be escaped."""
    path = local_path(location) if location.lower().startswith("file://") else location
    return Path(os.path.expanduser(path)).absolute()  # noqa: PTH111 - Path's own raises for an unknown user


def key_in_bucket(uri: str) -> str:
    """The key of a URI in a bucket."""
    return split_bucket(uri.partition("://")[2])[1]
