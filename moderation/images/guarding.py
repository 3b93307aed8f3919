"""How long the decoding of one image may take: in seconds of a processor, so that a busy machine makes no other rows."""

import io
from time import thread_time

from moderation.errors import ErrorCode, ImageError

_read = io.BytesIO.read
_FEW = 16
"""Small reads between two looks at the clock, each of which is a call of the system."""
_SMALL = 4096
"""Bytes of a small read."""


class Deadline:
    """The processor time that is left for one image; what passes while it is paused does not count.

    It is the time of one thread. Another thread may continue with the image after `resume`.

    Args:
        seconds: how long the image may take.

    Attributes:
        end: when the time is over, on the clock of `time.thread_time`; it is another after `resume`.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.end = thread_time() + seconds
        self._left = seconds

    def check(self) -> None:
        """Raise an ImageError, `worker_timeout`, once the time is over."""
        if thread_time() > self.end:
            raise self.over()

    @property
    def left(self) -> float:
        """Seconds that are left; negative once the time is over."""
        return self.end - thread_time()

    def spend(self, seconds: float) -> None:
        """Count what another process spent on the image."""
        self.end -= seconds

    def over(self) -> ImageError:
        """The error of an image whose time is over."""
        return ImageError(ErrorCode.WORKER_TIMEOUT, f"decoding took longer than {self._seconds:g} s")

    def pause(self) -> None:
        """Stop the clock."""
        self._left = self.end - thread_time()

    def resume(self) -> None:
        """Continue with the time that was left at `pause`."""
        self.end = thread_time() + self._left


class GuardedFile(io.BytesIO):
    """The bytes of an image as Pillow reads them.

    Pillow cannot be interrupted inside C. But its parsers come back for every field of a file's metadata and for every
    64 KB of the pixels of a JPEG, PNG, GIF or BMP, and past the deadline they find an `ImageError` here, a few small reads
    later at most.
    """

    def __init__(self, data: bytes, deadline: Deadline) -> None:
        super().__init__(data)
        self._deadline = deadline
        self._reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """As in `io.BytesIO`."""
        self._reads += 1
        if self._reads % _FEW == 0 or size is None or not 0 <= size <= _SMALL:
            self._deadline.check()
        return _read(self, size)
