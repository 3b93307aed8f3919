"""Manifests: files that list objects."""

import copy
import os.path
from collections.abc import Iterator, Sequence

from moderation.errors import SourceError
from moderation.records import ObjectRef
from moderation.sources.inventory import InventorySource
from moderation.sources.named_files import find_file, key_in_bucket, path_at
from moderation.sources.object_rows import names_in, object_refs
from moderation.sources.source import Source
from moderation.sources.tables import TableFile, parts_of, rows_of
from moderation.storage import Census, scheme_of

EXTENSIONS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".parquet")
_COLUMNS = ("uri", "etag", "size", "last_modified")
_WHOLE = ("s3://", "gs://", "az://", "memory://", "file://")


class ManifestSource:
    """The objects that a CSV, JSON lines or Parquet file names in its column `uri`.

    The columns `etag`, `size` and `last_modified` may be there too and save looking each object up; an ETag without the other
    two counts as unknown. URIs are used unchanged; nothing in them is decoded. One without a scheme is relative to the folder
    of the manifest: a local manifest names a path there, or an absolute one; a manifest in a bucket names a key there.
    """

    is_fixed = True
    is_ordered = True

    def __init__(self, location: str) -> None:
        """Raises `SourceError` if there is no such file, or its first rows cannot be read."""
        if not location.lower().endswith(EXTENSIONS):
            raise SourceError(f"cannot read {location!r} as a manifest: its name must end in {', '.join(EXTENSIONS)}")
        found = find_file(location)
        self.uri, self.version = found.uri, found.etag
        self._folder = found.uri.rpartition("/")[0]
        extension = location.lower().removesuffix(".gz").rpartition(".")[2]
        kind = "jsonl" if extension == "ndjson" else extension
        self._file = TableFile(self.uri, self.version, kind, gzipped=location.lower().endswith(".gz"))
        next(self.list(), None)  # report problems with the first rows now

    def parts(self, after: str = "") -> "Sequence[ManifestSource]":  # noqa: ARG002 - begins at its start
        """Row groups of a Parquet file; other files are one part."""
        parts = []
        for file in parts_of(self._file):
            part = copy.copy(self)
            part._file = file
            parts.append(part)
        return parts

    def list(self, after: str = "", census: Census | None = None) -> Iterator[list[ObjectRef]]:  # noqa: ARG002 - begins at its start
        """Pages of objects in the order of the file. Raises `SourceError`, with the row where something is wrong."""
        for rows in rows_of(self._file, _COLUMNS, required=("uri",), census=census):
            uris = names_in(rows, "uri")
            yield object_refs(rows, [uri if uri.startswith(_WHOLE) else self._absolute(uri) for uri in uris])

    def key_of(self, uri: str) -> str:
        """The key in its bucket. Of a file: the path below the manifest's folder, else the absolute one without its slash."""
        if scheme_of(uri) != "file":
            return key_in_bucket(uri)
        if uri.startswith(f"{self._folder}/"):
            return uri[len(self._folder) + 1 :]
        return uri.removeprefix("file://").lstrip("/")

    def _absolute(self, uri: str) -> str:
        scheme, separator, rest = uri.partition("://")
        if separator and scheme.isalnum():
            return f"{scheme.lower()}://{rest}"
        if uri.startswith("/"):
            return _file_uri(uri)
        if self._folder.startswith("file://"):
            return _file_uri(f"{self._folder.removeprefix('file://')}/{uri}")
        return f"{self._folder}/{uri}"


def open_listed(location: str) -> Source | None:
    """What a file lists: an S3 Inventory if it is called manifest.json, else a manifest, both by name; None for a folder.

    Raises:
        SourceError: the file cannot be read, or is not what its name says.
    """
    if not is_manifest(location):
        return None
    return InventorySource(location) if _is_inventory(location) else ManifestSource(location)


def is_manifest(location: str) -> bool:
    """Whether a location names a file that lists objects, going by its name."""
    if location.endswith("/") or not (_is_inventory(location) or location.lower().endswith(EXTENSIONS)):
        return False
    return scheme_of(location) != "file" or not os.path.isdir(path_at(location))  # noqa: PTH112 - Path's own raises


def _is_inventory(location: str) -> bool:
    return location.rpartition("/")[2] == "manifest.json"


def _file_uri(path: str) -> str:
    # Two slashes in front are kept by normpath, since POSIX lets them mean something.
    return "file:///" + os.path.normpath(path).lstrip("/")
