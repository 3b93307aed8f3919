"""A stored object as a file, for readers that want one: Parquet, CSV, gzip."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from moderation.errors import ErrorCode
from moderation.storage.retrying import TransientError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BUFFER = 8 << 20
"""bytes that are fetched at once"""


class ObjectFile(io.RawIOBase):
    """The `size` bytes of one object, read by `fetch(start, length)`, which gives exactly `length` bytes or raises."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch = fetch
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Bytes from the start."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, also behind the end, where nothing is read; one before the start is a `ValueError`."""
        self._check_open()
        target = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if target < 0:
            raise ValueError(f"cannot seek to {target}, before the start of the object")
        self._at = target
        return target

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill `buffer` as far as the object goes."""
        view = memoryview(buffer).cast("B")
        data = self._take(len(view))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """All that is left, in one request."""
        return self._take(self._size)

    def _take(self, length: int) -> bytes:
        self._check_open()
        length = min(length, self._size - self._at)
        if length <= 0:
            return b""
        data = self._fetch(self._at, length)
        self._at += length
        return data

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the file is closed")


def whole(data: bytes, length: int) -> bytes:
    """`data`, if there are `length` bytes of it; or else an error that makes the store be asked again."""
    if len(data) != length:
        raise TransientError(ErrorCode.STORAGE_ERROR, f"body cut short: received {len(data)} of {length} bytes")
    return data
