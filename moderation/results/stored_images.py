"""Reading back what a published run knows of its images: their decisions and, aligned with these, their embeddings."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from moderation.errors import OutputError, StorageError
from moderation.lists.lookup import ImageHashes
from moderation.results import schemas
from moderation.results.manifest import Manifest
from moderation.results.schemas import Table
from moderation.results.shard_files import FileEntry
from moderation.storage import Store

_ALWAYS = ("uri", "etag", "status")
"""Columns that are read whatever is asked for."""
FRAME_HASHES = pa.schema([pa.field("pdq", pa.string()), pa.field("pdq_quality", pa.int32())])
_DECODED = 1024
"""Embeddings decoded at a time: so many stay in the processor's cache meanwhile."""


@dataclass(frozen=True, slots=True)
class StoredShard:
    """Two files of one shard of a published run. Both are sorted by URI."""

    run_id: str
    decisions: FileEntry
    embeddings: FileEntry

    @property
    def name(self) -> str:
        """The shard's name."""
        return PurePosixPath(self.decisions.path).stem


@dataclass(frozen=True, slots=True)
class StoredImages:
    """Some images of one shard: N scored ones with the F embeddings of their frames, and those that ended in an error."""

    scored: pa.Table
    """decision rows [N], by URI"""
    vectors: NDArray[np.float16]
    """[F, D] unit embeddings"""
    starts: NDArray[np.int64]
    """[N + 1] image i has the rows starts[i] to starts[i + 1] of `vectors`"""
    frames: NDArray[np.int32]
    """[F] numbers of the frames, counted from 0"""
    errors: pa.Table
    """decision rows of images without embeddings, by URI"""
    hashes: pa.Table | None = None
    """[F] `pdq` and `pdq_quality` of the frames, as `FRAME_HASHES`; None where they were not asked for"""

    @property
    def image_hashes(self) -> ImageHashes:
        """The hashes of the N scored images. They were read with hashes, and `sha256` and `md5` of the decisions."""
        if self.hashes is None:
            raise ValueError("these images were read without their hashes")
        return ImageHashes(
            self.scored["sha256"], self.scored["md5"], self.hashes["pdq"], self.hashes["pdq_quality"], self.starts, self.frames
        )

    @property
    def error_hashes(self) -> ImageHashes:
        """The hashes of the images without embeddings, which have no frames; read likewise."""
        return ImageHashes.of_bytes(self.errors["sha256"], self.errors["md5"])

    def keep(self, scored: NDArray[np.bool_], errors: NDArray[np.bool_]) -> "StoredImages":
        """Those of the images that two masks [N] and [errors] choose."""
        if scored.all() and errors.all():
            return self
        counts = np.diff(self.starts)
        rows = np.repeat(scored, counts)
        return StoredImages(
            scored=self.scored.filter(pa.array(scored)),
            vectors=self.vectors[rows],
            starts=np.concatenate([[0], np.cumsum(counts[scored])]).astype(np.int64),
            frames=self.frames[rows],
            errors=self.errors.filter(pa.array(errors)),
            hashes=None if self.hashes is None else self.hashes.filter(pa.array(rows)),
        )


def stored_shards(manifest: Manifest) -> Iterator[StoredShard]:
    """The shards of a run. Raises `OutputError` if its manifest names decisions without embeddings, or the other way round."""
    by_table: dict[Table, dict[str, FileEntry]] = {table: {} for table in schemas.TABLES}
    for entry in manifest.files:
        by_table[entry.table][PurePosixPath(entry.path).stem] = entry
    decisions, embeddings = by_table["decisions"], by_table["embeddings"]
    if decisions.keys() != embeddings.keys():
        alone = sorted(decisions.keys() ^ embeddings.keys())[0]
        raise OutputError(f"the manifest of run {manifest.run_id} names the shard {alone} in one table only")
    for name, entry in sorted(decisions.items()):
        yield StoredShard(manifest.run_id, entry, embeddings[name])


def read_images(output: Store, shard: StoredShard, columns: Iterable[str] = (), *, with_hashes: bool = False) -> StoredImages:
    """The images of a shard. Returns `columns` of the decisions, in addition to URI, ETag and status.

    With `with_hashes`, those of the frames as well. Rows of schema versions before 4 know that of the first frame only, or of a
    HEIF that of its primary image: it stands in the decisions, and is given for the first frame.

    Raises:
        OutputError: a file is missing, cannot be read, or the two do not fit together.
    """
    wanted = list(dict.fromkeys([*_ALWAYS, *columns, *(FRAME_HASHES.names if with_hashes else ())]))
    decisions = _with_columns(_read(output, shard.decisions, wanted), wanted)
    is_scored = pc.equal(decisions["status"], "scored")
    all_scored = pc.all(is_scored, min_count=0).as_py()
    scored = decisions if all_scored else decisions.filter(is_scored)
    with _opened(output, shard.embeddings) as file:
        rows = _columns(file, ["uri", "frame", *(FRAME_HASHES.names if with_hashes else ())])
        vectors, starts = _vectors(file), frame_starts(rows["uri"])
    if not rows["uri"].take(pa.array(starts[:-1])).equals(scored["uri"]):
        raise OutputError(
            f"{output.uri_of(shard.embeddings.path)} does not contain the embeddings of the images in "
            f"{output.uri_of(shard.decisions.path)}: one of the files was replaced"
        )
    return StoredImages(
        scored=scored,
        vectors=vectors,
        starts=starts,
        frames=rows["frame"].to_numpy(),
        errors=decisions.slice(0, 0) if all_scored else decisions.filter(pc.invert(is_scored)),
        hashes=frame_hashes(rows, scored, starts) if with_hashes else None,
    )


def frame_hashes(rows: pa.Table, scored: pa.Table, starts: NDArray[np.int64]) -> pa.Table:
    """The hashes of frames [F], as `FRAME_HASHES`.

    Args:
        rows: rows of embeddings [F].
        scored: the images' decision rows [N], in the same order.
        starts: [N + 1] image i has the rows starts[i] to starts[i + 1].
    """
    if "pdq" in rows.column_names and rows["pdq"].null_count < len(rows):
        return rows.select(FRAME_HASHES.names).cast(FRAME_HASHES)
    image: NDArray[np.int64] = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    first = np.zeros(len(rows), np.bool_)
    first[starts[:-1]] = True
    return scored.select(FRAME_HASHES.names).take(pa.array(image, mask=~first)).cast(FRAME_HASHES)


def _read(output: Store, entry: FileEntry, columns: Sequence[str]) -> pa.Table:
    with _opened(output, entry) as file:
        return _columns(file, columns)


def _columns(file: pq.ParquetFile, columns: Sequence[str]) -> pa.Table:
    known = [name for name in columns if name in file.schema_arrow.names]
    return file.read(columns=known, use_threads=False)


@contextlib.contextmanager
def _opened(output: Store, entry: FileEntry) -> Iterator[pq.ParquetFile]:
    """A file that a manifest names. Raises `OutputError`, also for what is found wrong with it while it is read."""
    place = output.uri_of(entry.path)
    try:
        yield pq.ParquetFile(pa.BufferReader(output.get(entry.path)), pre_buffer=False)
    except StorageError as error:
        raise OutputError(f"cannot read {place}, which a manifest names: {error.detail}") from None
    except (pa.ArrowException, OSError, KeyError) as error:
        raise OutputError(f"{place} is damaged: {' '.join(str(error).split())[:200]}") from None


def _with_columns(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """With the columns that files of an earlier schema lack, as nulls."""
    for name in columns:
        if name not in table.column_names:
            field = schemas.DECISIONS.field(name)
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(list(columns))


def frame_starts(uris: pa.ChunkedArray) -> NDArray[np.int64]:
    """Where each image begins among its frames, and the number of frames at the end: [N + 1], of the URIs [F] of frames."""
    count = len(uris)
    if count == 0:
        return np.zeros(1, np.int64)
    differs = np.asarray(pc.not_equal(uris.slice(1), uris.slice(0, count - 1)))
    return np.concatenate([[0], np.flatnonzero(differs) + 1, [count]]).astype(np.int64)


def _vectors(file: pq.ParquetFile) -> NDArray[np.float16]:
    """Embeddings [F, D]. A few rows at a time: decoding them takes several times the memory of what they hold."""
    count, start = file.metadata.num_rows, 0
    vectors = np.empty((count, file.schema_arrow.field("embedding").type.list_size), np.float16)
    for batch in file.iter_batches(_DECODED, columns=["embedding"], use_threads=False):
        flat = batch.column(0).flatten().to_numpy(zero_copy_only=False)
        vectors[start : start + len(batch)] = flat.reshape(len(batch), vectors.shape[1])
        start += len(batch)
    return vectors
