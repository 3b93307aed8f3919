"""The process that decodes one image. It closes the door behind itself before it looks at a byte of the image.

Arguments: those of `Order`, as JSON. Answer: JSON on standard output, and pixels in the file `output`.
"""

import ctypes
import importlib
import json
import mmap
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass

Buffer = bytes | bytearray | mmap.mmap | ctypes.Array[ctypes.c_char]


@dataclass(frozen=True, slots=True)
class Order:
    """What the process is to do."""

    task: str
    """jxl_header, jxl_frames or svg"""
    library: str
    """path of the decoder's shared library, or the folder of its package"""
    input: int
    """file descriptor: the image"""
    output: int
    """file descriptor: empty, for pixels"""
    seconds: float
    """of a processor"""
    memory: int
    """bytes beyond those of the process when it starts"""
    parent: int
    """its process id"""
    width: int = 0
    """svg: pixels to be drawn"""
    height: int = 0
    frames: tuple[int, ...] = ()
    """jxl_frames: their indexes, ascending"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it."""

    facts: dict[str, object]
    """what the task says of the image"""
    error: str = ""
    """corrupt, or memory; "" if there is none"""
    detail: str = ""
    seconds: float = 0.0
    """of a processor"""


def main(text: str) -> None:
    """Do what `text` orders, once."""
    fields = json.loads(text)
    order = Order(**{**fields, "frames": tuple(fields["frames"])})
    _die_with(order.parent)
    module = importlib.import_module("moderation.images.isolated." + ("resvg" if order.task == "svg" else "libjxl"))
    decoder = module.load(order.library)
    size = os.fstat(order.input).st_size
    with mmap.mmap(order.input, size, access=mmap.ACCESS_READ) as data:
        confine(order)
        try:
            answer = Answer(module.decode(decoder, order, data))
        except MemoryError:
            answer = Answer({}, "memory", "no memory is left")
        except BaseException as error:  # noqa: BLE001 - a panic of Rust is none of Exception's
            answer = Answer({}, "corrupt", " ".join(str(error).split())[:200] or type(error).__name__)
        print(json.dumps([answer.facts, answer.error, answer.detail, time.process_time()]), flush=True)  # noqa: T201
        os._exit(0)  # nothing of a decoder's is run any more


def confine(order: Order) -> None:
    """From here on: no file or connection can be opened, no process started, and time and memory are limited."""
    kept = max(order.input, order.output) + 1
    used = _pages() * resource.getpagesize()
    whole = int(order.seconds) + 2
    for what, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, order.memory),
        (resource.RLIMIT_CPU, whole),
        (resource.RLIMIT_AS, used + order.memory),
    ):
        resource.setrlimit(what, (limit, limit))
    signal.setitimer(signal.ITIMER_PROF, max(order.seconds, 0.001))
    os.closerange(kept, 256)


def write(file: int, data: Buffer) -> None:
    """All of it."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(file, rest) :]


def _die_with(parent: int) -> None:
    """End when the thread that started this process does."""
    set_death_signal = 1
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(set_death_signal, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _pages() -> int:
    """Of virtual memory, that the process has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0])


if __name__ == "__main__":
    main(sys.argv[1])
