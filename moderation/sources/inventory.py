"""S3 Inventory: the lists of all objects of a bucket that S3 itself writes.

Layout: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moderation.errors import ErrorCode, SourceError, StorageError
from moderation.records import ObjectRef
from moderation.sources.named_files import find_file, head, key_in_bucket
from moderation.sources.object_rows import Rows, names_in, object_refs
from moderation.sources.tables import TableFile, check_columns, rows_of
from moderation.storage import Census, Store

_LARGEST_MANIFEST = 64 << 20
_FLAGS: dict[object, bool | None] = {None: None, "": None, True: True, False: False, "true": True, "false": False}


class _Columns(NamedTuple):
    """What a format calls its columns."""

    bucket: str
    key: str
    is_latest: str
    is_delete_marker: str
    size: str
    last_modified: str
    etag: str


_IN_CSV = _Columns("Bucket", "Key", "IsLatest", "IsDeleteMarker", "Size", "LastModifiedDate", "ETag")
_IN_PARQUET = _Columns("bucket", "key", "is_latest", "is_delete_marker", "size", "last_modified_date", "e_tag")


class _DataFile(BaseModel):
    model_config = ConfigDict(frozen=True)

    key: str
    size: int


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True)

    destination_bucket: str = Field(alias="destinationBucket")
    file_format: Literal["CSV", "Parquet", "ORC"] = Field(alias="fileFormat")
    file_schema: str = Field(alias="fileSchema")
    files: tuple[_DataFile, ...]


class InventorySource:
    """The objects that an S3 Inventory lists, named by its `manifest.json`: the current versions, without folder markers.

    Its data files are looked for where the manifest says, if it is in S3 itself, and then where a copy would have them:
    under the manifest's folder or the one above, each time in `data/`, or beside the manifest. All must be there in full before
    the first object is given. An inventory without sizes, times or ETags names objects only; each is looked up later.
    """

    is_fixed = True
    is_ordered = True

    def __init__(self, location: str) -> None:
        """Raises `SourceError` if the inventory, or one of its files, cannot be read."""
        found = find_file(location)
        self.uri, self.version = found.uri, found.etag
        manifest = _read_manifest(found)
        self._columns = _IN_CSV if manifest.file_format == "CSV" else _IN_PARQUET
        header = None
        if manifest.file_format == "CSV":
            header = tuple(name.strip() for name in manifest.file_schema.split(","))
            check_columns(f"the fileSchema of {self.uri}", header, self._columns, self._columns[:2])
        self._files = [
            TableFile(data.uri, data.etag, manifest.file_format.lower(), data.uri.endswith(".gz"), header)
            for data in _data_files(found.uri, manifest)
        ]
        next(self.list(), None)  # report problems with the first file now

    def parts(self, after: str = "") -> "Sequence[InventorySource]":  # noqa: ARG002 - begins at its start
        """Its files."""
        parts = []
        for file in self._files:
            part = copy.copy(self)
            part._files = [file]
            parts.append(part)
        return parts

    def list(self, after: str = "", census: Census | None = None) -> Iterator[list[ObjectRef]]:  # noqa: ARG002 - begins at its start
        """Pages of objects, file after file. Raises `SourceError`, with the file and the row where something is wrong."""
        census = Census() if census is None else census
        for file in self._files:
            for rows in rows_of(file, self._columns, required=self._columns[:2], census=census):
                page = _objects(_current(rows, self._columns), self._columns)
                census.objects -= len(rows.numbers) - len(page)  # older versions, delete markers, folders
                if page:
                    yield page

    def key_of(self, uri: str) -> str:
        """The key in its bucket."""
        return key_in_bucket(uri)


def _read_manifest(found: ObjectRef) -> _Manifest:
    if found.size > _LARGEST_MANIFEST:
        raise SourceError(f"{found.uri} is not an S3 Inventory manifest: it has {found.size:,} bytes")
    try:
        store, key = Store.locate(found.uri)
        manifest = _Manifest.model_validate_json(store.get(key, found.etag or None))
    except StorageError as error:
        raise SourceError(f"cannot read {found.uri}: {error.detail}") from None
    except ValidationError as error:
        problems = "; ".join(": ".join([*map(str, problem["loc"]), problem["msg"]]) for problem in error.errors()[:5])
        raise SourceError(
            f"{found.uri} is not an S3 Inventory manifest: {problems}; if it is your own list of objects, give it another name"
        ) from None
    if manifest.file_format == "ORC":
        raise SourceError(f"{found.uri} lists ORC files: choose CSV or Parquet in the inventory's configuration")
    return manifest


def _data_files(manifest_uri: str, manifest: _Manifest) -> Iterator[ObjectRef]:
    for data in manifest.files:
        found = _find(manifest_uri, manifest.destination_bucket.rpartition(":")[2], data.key)
        if found.size != data.size:
            raise SourceError(
                f"{found.uri} has {found.size:,} bytes, {manifest_uri} says {data.size:,}: it may be partially "
                "copied: copy it again"
            )
        yield found


def _find(manifest_uri: str, bucket: str, key: str) -> ObjectRef:
    name = key.rpartition("/")[2]
    folder = manifest_uri.rpartition("/")[0]
    places = [f"{folder}/data/{name}", f"{folder}/{name}"]
    if "/" in folder.partition("://")[2]:  # there is no folder above a bucket
        places.insert(1, f"{folder.rpartition('/')[0]}/data/{name}")
    if manifest_uri.startswith("s3://"):
        places.insert(0, f"s3://{bucket}/{key}")
    problem = ""
    for place in places:
        try:
            return head(place)
        except StorageError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                problem = problem or f" ({place}: {error.detail})"
    raise SourceError(f"{manifest_uri} names {key!r}, which is in none of {', '.join(places)}{problem}: copy it there")


def _objects(rows: Rows, names: _Columns) -> list[ObjectRef]:
    buckets, keys = names_in(rows, names.bucket), names_in(rows, names.key)
    if names is _IN_CSV:
        keys = _decoded(rows, keys)
    uris = [f"s3://{bucket}/{key}" for bucket, key in zip(buckets, keys, strict=True)]
    sizes = rows.columns[names.size]
    known = {"etag": rows.columns[names.etag], "size": sizes, "last_modified": rows.columns[names.last_modified]}
    refs = object_refs(Rows(rows.file, rows.unit, rows.numbers, known), uris)
    return [ref for ref, size in zip(refs, sizes, strict=True) if not (ref.uri.endswith("/") and size in (0, "0"))]


def _current(rows: Rows, names: _Columns) -> Rows:
    """Without older versions and delete markers."""
    latest, deleted = _flags(rows, names.is_latest), _flags(rows, names.is_delete_marker)
    keep = [newest is not False and not gone for newest, gone in zip(latest, deleted, strict=True)]
    return rows if all(keep) else rows.only(keep)


def _flags(rows: Rows, column: str) -> list[bool | None]:
    values = rows.columns[column]
    if not set(values) <= _FLAGS.keys():
        index = next(index for index, value in enumerate(values) if value not in _FLAGS)
        raise rows.error(index, f"{column!r} is {values[index]!r}: true or false were expected")
    return list(map(_FLAGS.__getitem__, values))


def _decoded(rows: Rows, keys: Sequence[str]) -> list[str]:
    """Keys from a CSV file, where S3 escapes them as in a form: "%2B" is a plus sign, "+" a space."""
    decoded = []
    for index, key in enumerate(keys):
        try:
            decoded.append(unquote_to_bytes(key.replace("+", " ")).decode() if "%" in key or "+" in key else key)
        except UnicodeDecodeError:
            raise rows.error(index, f"the key {key!r} is not escaped UTF-8, as S3 writes it") from None
    return decoded
