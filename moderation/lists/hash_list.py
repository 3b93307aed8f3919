"""A list that was read: its kind, its hashes and what the file says of each."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class HashKind(StrEnum):
    """Which hash of an image a list holds."""

    PDQ = "pdq"
    SHA256 = "sha256"
    MD5 = "md5"

    @property
    def size(self) -> int:
        """Bytes of a hash."""
        return 16 if self is HashKind.MD5 else 32

    @property
    def shown(self) -> str:
        """As people write it."""
        return {"pdq": "PDQ", "sha256": "SHA-256", "md5": "MD5"}[self.value]


TYPE_NAMES = {
    **dict.fromkeys(("pdq", "hash_pdq"), HashKind.PDQ),
    **dict.fromkeys(("sha256", "sha-256", "hash_sha256", "hash_image_sha256"), HashKind.SHA256),
    **dict.fromkeys(("md5", "hash_md5", "photo_md5", "hash_image_md5"), HashKind.MD5),
}
"""What files call the kinds, in lower case; `hash_…` are ThreatExchange's."""


@dataclass(frozen=True)
class HashList:
    """Entries, each hash once, in the order of their bytes: the same entries make the same list however a file orders them."""

    kind: HashKind
    hashes: NDArray[np.uint8]
    """uint8 [N, 32], or [N, 16] of MD5"""
    labels: pa.Array
    """[N] strings; empty where the file says nothing"""

    def __len__(self) -> int:
        return len(self.hashes)

    def index(self, digest: bytes) -> int | None:
        """The entry with this hash; None if there is none."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.hashes[middle].tobytes() < digest:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self.hashes[low].tobytes() == digest else None

    def hex(self, entry: int) -> str:
        """The hash of an entry, lower-case hex digits."""
        digits: str = self.hashes[entry].tobytes().hex()
        return digits

    @cached_property
    def digest(self) -> str:
        """SHA-256 of kind, hashes and labels, as hex: what the list's content adds to a policy's hash."""
        content = hashlib.sha256(self.kind.encode())
        content.update(np.ascontiguousarray(self.hashes).data)
        for start in range(0, len(self.labels), 1 << 16):
            for label in self.labels[start : start + (1 << 16)].to_pylist():
                text = label.encode()
                content.update(len(text).to_bytes(4, "little") + text)
        return content.hexdigest()


def ordered_by_bytes(hashes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The order of hashes [N, size] by their bytes; equal ones keep theirs."""
    words = np.ascontiguousarray(hashes).view(">u8").astype(np.uint64)
    return np.lexsort(words.T[::-1])
