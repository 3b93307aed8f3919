"""Starts the process that decodes one image, and reads its answer."""

import importlib.util
import json
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from moderation.errors import ErrorCode, ImageError
from moderation.images.guarding import Deadline
from moderation.images.isolated.child import Order, write

_PATIENCE = 10
"""Seconds of waiting for each second of a processor that the image has, and a minute: a busy machine makes no other rows."""
_START = """
import sys, types
for name, folder in zip(sys.argv[2::2], sys.argv[3::2]):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
from moderation.images.isolated.child import main
main(sys.argv[1])
"""
_PACKAGES = ("moderation", "moderation.images", "moderation.images.isolated")
"""They are there in the process, but what is in their `__init__` does not run."""
PROCESS_MEMORY = 24 << 20
"""Bytes that the process takes whatever the image is."""
_TOO_LONG = frozenset({signal.SIGPROF, signal.SIGXCPU})
_NO_MEMORY = ("memory allocation of", "bad_alloc", "MemoryError", "Cannot allocate memory", "failed to map segment")
_ENDED_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a process said of an image."""

    facts: dict[str, object]
    pixels: mmap.mmap | None
    """what it wrote; None if that is nothing"""


def package_folder(name: str) -> Path | None:
    """Where a package of decoders is installed; None if it is not. It is not imported."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def decoded(
    task: str,
    library: Path,
    data: bytes,
    deadline: Deadline,
    memory: int,
    *,
    frames: Sequence[int] = (),
) -> Decoded:
    """Have an image decoded by a process of its own. It can open nothing, and ends with this thread.

    Args:
        task: what is to be done; see `Order`.
        library: the decoder.
        data: the image, not empty.
        deadline: what is left of the image's time; the process's is subtracted.
        memory: bytes that it may take, beside `PROCESS_MEMORY`.
        frames: of jxl_frames, their indexes, ascending.

    Raises:
        ImageError: corrupt, too_many_pixels, worker_timeout; worker_killed, if somebody else ended the process.
    """
    deadline.check()
    with _memory_files() as (source, target):
        write(source, data)
        order = Order(task, str(library), source, target, deadline.left, memory + PROCESS_MEMORY, os.getpid(), list(frames))
        packages = [part for name in _PACKAGES for part in (name, *sys.modules[name].__path__)]
        process = subprocess.Popen(  # noqa: S603 - this program
            [sys.executable, "-I", "-S", "-c", _START, json.dumps(vars(order)), *packages],
            pass_fds=(source, target),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={},
        )
        with process:
            try:
                answer, words = process.communicate(timeout=_PATIENCE * deadline.left + 60)
            except subprocess.TimeoutExpired:
                raise deadline.over() from None
            finally:
                process.kill()
        if process.returncode:
            raise _ended(process.returncode, words, deadline, memory)
        facts, error, detail, seconds = json.loads(answer)
        deadline.spend(seconds)
        deadline.check()
        if error == "memory":
            raise _too_much(memory)
        if error:
            raise ImageError(ErrorCode.CORRUPT, detail)
        size = os.fstat(target).st_size
        return Decoded(facts, mmap.mmap(target, size, access=mmap.ACCESS_READ) if size else None)


@contextmanager
def _memory_files() -> Iterator[tuple[int, int]]:
    files = [os.memfd_create(name) for name in ("image", "pixels")]
    try:
        yield files[0], files[1]
    finally:
        for file in files:
            os.close(file)


def _ended(status: int, words: bytes, deadline: Deadline, memory: int) -> ImageError:
    """Why there is no answer."""
    text = words[-2000:].decode("utf-8", "replace")
    if -status in _TOO_LONG:
        return deadline.over()
    if any(sign in text for sign in _NO_MEMORY):
        return _too_much(memory)
    if -status in _ENDED_FROM_OUTSIDE:
        return ImageError(ErrorCode.WORKER_KILLED, f"the process that decoded it was ended by {signal.Signals(-status).name}")
    if "overflowed its stack" in text:
        return ImageError(ErrorCode.CORRUPT, "its decoder ran out of stack: the file is nested too deeply")
    if status > 0:
        last = " ".join(text.splitlines()[-1:])[:200]
        return ImageError(ErrorCode.INTERNAL, f"the process that decodes it does not start: {last}")
    return ImageError(ErrorCode.CORRUPT, f"its decoder crashed ({signal.Signals(-status).name})")


def _too_much(memory: int) -> ImageError:
    return ImageError(ErrorCode.TOO_MANY_PIXELS, f"decoding takes more than the {memory >> 20:,} MiB of memory that it may")
