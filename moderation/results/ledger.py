"""What is done already: objects that have a published decision under the same policy and model, or stored embeddings of it."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from moderation.common.hash_set import Hashes, HashSet, hashes
from moderation.records import ObjectRef
from moderation.results.manifest import pruned_manifests, published_manifests
from moderation.results.stored_images import StoredShard, stored_shards
from moderation.storage import Store


class Known(NamedTuple):
    """What is known of N object versions, both bool [N]."""

    decided: NDArray[np.bool_]
    """which have a decision"""
    embedded: NDArray[np.bool_]
    """which have stored embeddings"""


class Ledger:
    """Two sets of object versions, 16 bytes each: decided ones, and ones whose embeddings are stored."""

    def __init__(self) -> None:
        self._decided, self._embedded = HashSet(), HashSet()
        self.stored: tuple[StoredShard, ...] = ()
        """shards of published runs under the model, the newest run first"""

    def __len__(self) -> int:
        return len(self._decided)

    def add(self, versions: Hashes) -> None:
        """Take in the hashes of decided object versions."""
        self._decided.add(versions)

    def add_embedded(self, versions: Hashes) -> None:
        """Take in the hashes of object versions whose embeddings are stored."""
        self._embedded.add(versions)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is done yet."""
        return not (len(self._decided) or len(self._embedded))

    def known(self, items: Sequence[ObjectRef]) -> Known:
        """What is known of objects at their version."""
        versions = version_hashes(items)
        return Known(self._decided.contains(versions), self._embedded.contains(versions))

    def decided(self, items: Sequence[ObjectRef]) -> NDArray[np.bool_]:
        """Bool [N]: which of the objects have a decision at their version."""
        return self._decided.contains(version_hashes(items))


def read_ledger(output: Store, policy_hash: str, fingerprint: str, retry_errors: bool) -> Ledger:
    """What runs decided under this policy and model, with `retry_errors` without retryable errors, and what they embedded."""
    ledger = Ledger()
    runs: list[tuple[datetime, list[StoredShard]]] = []
    for manifest in published_manifests(output):
        if manifest.model_fingerprint != fingerprint:
            continue
        same_policy = manifest.policy_hash == policy_hash
        shards = list(stored_shards(manifest))
        runs.append((manifest.published_at, shards))
        for shard in shards:
            _take_in(ledger, output, shard, decided=same_policy, retry_errors=retry_errors)
    for manifest in pruned_manifests(output):
        if manifest.model_fingerprint == fingerprint:
            shards = list(stored_shards(manifest))
            runs.append((manifest.published_at, shards))
            for shard in shards:
                _take_in(ledger, output, shard, decided=False, retry_errors=False)
    ledger.stored = tuple(shard for _, shards in sorted(runs, key=lambda run: run[0], reverse=True) for shard in shards)
    return ledger


def version_hashes(items: Iterable[ObjectRef]) -> Hashes:
    """The hash of each object version."""
    return hashes(f"{item.uri}\0{item.etag}" for item in items)


def _take_in(ledger: Ledger, output: Store, shard: StoredShard, *, decided: bool, retry_errors: bool) -> None:
    """Some rows at a time, and only the columns that say what is done."""
    with output.open(shard.decisions.path) as file:
        for rows in pq.ParquetFile(file).iter_batches(columns=["uri", "etag", "status", "retryable"]):
            versions = hashes(f"{uri}\0{etag}" for uri, etag in zip(_list(rows, "uri"), _list(rows, "etag"), strict=True))
            if not decided:
                ledger.add_embedded(versions[np.asarray(pc.equal(rows.column("status"), "scored"))])
            elif retry_errors:
                ledger.add(versions[~np.array(_list(rows, "retryable"), bool)])
            else:
                ledger.add(versions)


def _list(rows: pa.RecordBatch, name: str) -> list[str]:
    found: list[str] = rows.column(name).to_pylist()
    return found
