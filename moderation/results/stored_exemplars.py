"""Embeddings of exemplars, stored with the results: with them, a policy can re-decide without their images.

They are named by their content and never change, as those of prompts (`stored_prompts`).
"""

import hashlib
import io
from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from moderation.errors import OutputError, StorageError
from moderation.storage import Store

_FOLDER = "_exemplars"
_Embeddings = dict[str, NDArray[np.float16]]


def exemplars_key(fingerprint: str, digests: Collection[str]) -> str:
    """Where the embeddings of these images, by their SHA-256, lie, relative to the output."""
    digest = hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()[:16]
    return f"{_FOLDER}/{fingerprint}/{digest}.parquet"


def keep_exemplars(output: Store, fingerprint: str, images: Mapping[str, NDArray[np.float16]]) -> _Embeddings:
    """Store embeddings [F, D] of images. Where they are stored already, those count: they are what is returned.

    Raises:
        OutputError: what is stored cannot be read.
        StorageError: the output refuses the file.
    """
    key = exemplars_key(fingerprint, images.keys())
    try:
        output.put(key, _to_parquet(images), create_only=True)
    except FileExistsError:
        return read_exemplars(output, key)
    return dict(images)


def read_exemplars(output: Store, key: str) -> _Embeddings:
    """Stored embeddings by the images' SHA-256. Raises `OutputError`."""
    try:
        table = pq.read_table(io.BytesIO(output.get(key)))
        size = table.schema.field("embedding").type.list_size
        flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        vectors = flat.reshape(-1, size).astype(np.float16, copy=False)
        rows: dict[str, list[int]] = {}
        for at, digest in enumerate(table["sha256"].to_pylist()):
            rows.setdefault(digest, []).append(at)
        return {digest: vectors[at] for digest, at in rows.items()}
    except StorageError as error:
        raise OutputError(f"cannot read the embeddings of exemplars at {output.uri_of(key)}: {error.detail}") from None
    except (pa.ArrowException, OSError, KeyError, ValueError, AttributeError) as error:
        raise OutputError(
            f"the embeddings of exemplars at {output.uri_of(key)} are damaged ({type(error).__name__}): remove the file, "
            "they are then computed again"
        ) from None


def known_exemplars(output: Store, fingerprint: str, digests: Collection[str]) -> _Embeddings:
    """Those of the images whose embeddings are stored, from however many files. Raises `OutputError`."""
    wanted, exact = set(digests), exemplars_key(fingerprint, digests)
    try:
        if output.exists(exact):
            return read_exemplars(output, exact)
        stored = sorted(output.key_of(item.uri) for page in output.list(f"{_FOLDER}/{fingerprint}/") for item in page)
    except StorageError as error:
        raise OutputError(f"cannot read the embeddings of exemplars in {output.uri}: {error.detail}") from None
    found: _Embeddings = {}
    for key in stored:
        if wanted <= found.keys():
            break
        found |= {digest: vectors for digest, vectors in read_exemplars(output, key).items() if digest in wanted}
    return found


def _to_parquet(images: Mapping[str, NDArray[np.float16]]) -> bytes:
    vectors = np.concatenate(list(images.values())).astype(np.float16)
    counts = [len(found) for found in images.values()]
    table = pa.table(
        {
            "sha256": pa.array(
                [digest for digest, count in zip(images, counts, strict=True) for _ in range(count)], pa.string()
            ),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
