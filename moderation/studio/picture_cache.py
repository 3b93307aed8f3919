"""JPEGs on disk, up to a number of bytes; what was not asked for longest goes first. All go when the studio ends."""

import hashlib
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path

Key = tuple[str, str, int, int]
"""URI, ETag, frame and size of a picture"""


class PictureCache:
    """A folder that only its owner reads. Threads may use it at the same time."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._folder = Path(tempfile.mkdtemp(prefix="clip-moderation-studio-"))  # 0700
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Key) -> bytes | None:
        """The JPEG; None if it is not here."""
        name = _name(key)
        with self._lock:
            if name not in self._sizes:
                return None
            self._sizes.move_to_end(name)
        try:
            return (self._folder / name).read_bytes()
        except OSError:
            return None

    def put(self, key: Key, data: bytes) -> None:
        """Keep a JPEG; if the disk is full, do without."""
        name = _name(key)
        path = self._folder / name
        partial = self._folder / f"{name}.{threading.get_ident()}"
        try:
            partial.write_bytes(data)
            os.replace(partial, path)
        except OSError:
            return
        with self._lock:
            self._bytes += len(data) - self._sizes.pop(name, 0)
            self._sizes[name] = len(data)
            while self._bytes > self._most and self._sizes:
                oldest, size = self._sizes.popitem(last=False)
                self._bytes -= size
                (self._folder / oldest).unlink(missing_ok=True)

    @property
    def bytes(self) -> int:
        """What is kept."""
        return self._bytes

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _name(key: Key) -> str:
    return hashlib.sha256("\x00".join(map(str, key)).encode()).hexdigest()
