"""Parts of which columns of rows are made."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moderation.results import schemas


def embedding_column(vectors: NDArray[np.float16]) -> pa.Array:
    """Embeddings [F, D] as the column of their table."""
    kind = schemas.embeddings(vectors.shape[1]).field("embedding").type
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).ravel(), pa.float16()), type=kind)


def same(text: str, count: int) -> pa.Array:
    """One text, `count` times."""
    return pa.repeat(pa.scalar(text, pa.string()), count)


def labels(names: Sequence[str], index: NDArray[np.integer]) -> pa.Array:
    """Names by index; null where that is negative."""
    return pa.array(names, pa.string()).take(pa.array(index, mask=index < 0))


def name_lists(flags: NDArray[np.bool_], names: Sequence[str]) -> pa.Array:
    """Boolean [N, R] as lists of names."""
    _, columns = flags.nonzero()
    offsets = np.concatenate([[0], flags.sum(axis=1).cumsum()]).astype(np.int32)
    kind = pa.list_(pa.field("element", pa.string(), nullable=False))
    return pa.ListArray.from_arrays(pa.array(offsets), labels(names, columns), type=kind)


def counts_by_name(flags: NDArray[np.bool_], names: Sequence[str]) -> dict[str, int]:
    """How many of N images each name, of R, flags, boolean [N, R]; names that flag none are left out."""
    return {name: int(n) for name, n in zip(names, flags.sum(axis=0), strict=True) if n}
