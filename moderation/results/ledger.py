"""What is done already: objects that have a published decision under the same policy and model."""

import hashlib
import io
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from moderation.records import ObjectRef
from moderation.results.manifest import Manifest, published_manifests
from moderation.storage import Store


class Ledger:
    """A set of object versions, 16 bytes each, in sorted arrays. Membership is by 128-bit hash."""

    def __init__(self, hashes: NDArray[np.bytes_] | None = None) -> None:
        self._hashes = np.unique(hashes) if hashes is not None else np.empty(0, "S16")

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, item: ObjectRef) -> bool:
        if not len(self._hashes):
            return False
        value = np.frombuffer(_hash(item.uri, item.etag), "S16")[0]
        at = int(np.searchsorted(self._hashes, value))
        return at < len(self._hashes) and bool(self._hashes[at] == value)


def read_ledger(output: Store, policy_hash: str, fingerprint: str, retry_errors: bool) -> Ledger:
    """Object versions decided by published runs under this policy and model; with `retry_errors` without retryable errors."""
    found: list[NDArray[np.bytes_]] = [np.empty(0, "S16")]
    for manifest in published_manifests(output):
        if manifest.policy_hash == policy_hash and manifest.model_fingerprint == fingerprint:
            found.extend(_decided(output, manifest, retry_errors))
    return Ledger(np.concatenate(found))


def _decided(output: Store, manifest: Manifest, retry_errors: bool) -> Iterator[NDArray[np.bytes_]]:
    """Hashes of decided object versions, an array for each file, so that one file's rows are in memory at a time."""
    for entry in manifest.files:
        if entry.table == "decisions":
            table = pq.read_table(io.BytesIO(output.get(entry.path)), columns=["uri", "etag", "retryable"])
            rows = zip(*(table[name].to_pylist() for name in ("uri", "etag", "retryable")), strict=True)
            hashes = [_hash(uri, etag) for uri, etag, retryable in rows if not (retry_errors and retryable)]
            yield np.frombuffer(b"".join(hashes), "S16")


def _hash(uri: str, etag: str) -> bytes:
    return hashlib.blake2b(f"{uri}\0{etag}".encode(), digest_size=16).digest()
