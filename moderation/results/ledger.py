"""What is done already: objects that have a published decision under the same policy and model."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from moderation.hashes import Hashes, HashSet, hashes
from moderation.records import ObjectRef
from moderation.results.manifest import Manifest, published_manifests
from moderation.storage import Store


class Ledger:
    """A set of object versions, 16 bytes each."""

    def __init__(self) -> None:
        self._versions = HashSet()

    def __len__(self) -> int:
        return len(self._versions)

    def add(self, versions: Hashes) -> None:
        """Take in the hashes of object versions."""
        self._versions.add(versions)

    def decided(self, items: Sequence[ObjectRef]) -> NDArray[np.bool_]:
        """Bool [N]: which of the objects have a decision at their version."""
        return self._versions.contains(_hashes((item.uri, item.etag) for item in items))


def read_ledger(output: Store, policy_hash: str, fingerprint: str, retry_errors: bool) -> Ledger:
    """Object versions decided by published runs under this policy and model; with `retry_errors` without retryable errors."""
    ledger = Ledger()
    for manifest in published_manifests(output):
        if manifest.policy_hash == policy_hash and manifest.model_fingerprint == fingerprint:
            for versions in _decided(output, manifest, retry_errors):
                ledger.add(versions)
    return ledger


def _decided(output: Store, manifest: Manifest, retry_errors: bool) -> Iterator[Hashes]:
    """Hashes of decided object versions, of some rows at a time; only the columns that say so are read."""
    for entry in manifest.files:
        if entry.table == "decisions":
            with output.open(entry.path) as file:
                for rows in pq.ParquetFile(file).iter_batches(columns=["uri", "etag", "retryable"]):
                    uri, etag, retryable = (rows.column(name).to_pylist() for name in ("uri", "etag", "retryable"))
                    versions = _hashes(zip(uri, etag, strict=True))
                    yield versions[~np.array(retryable, bool)] if retry_errors else versions


def _hashes(versions: Iterable[tuple[str, str]]) -> Hashes:
    return hashes(f"{uri}\0{etag}" for uri, etag in versions)
