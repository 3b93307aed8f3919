"""The process that decodes one image. It closes the door behind itself before it looks at a byte of the image.

Its argument is an `Order` as JSON. It answers on standard output: what it says of the image, what kind of error there is if
any (corrupt or memory), the error in words, and the seconds that it took, as JSON. Pixels go to the file `target`.
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

Buffer = bytes | bytearray | mmap.mmap | ctypes.Array[ctypes.c_char]


class Order:
    """What the process is to do. No dataclass: importing those takes longer than many an image.

    Attributes:
        task: jxl_header, jxl_frames or svg.
        library: path of the decoder's shared library, or the folder of its package.
        source: file descriptor: the image.
        target: file descriptor: empty, for pixels.
        seconds: of a processor.
        memory: bytes beyond those of the process when it starts.
        parent: its process id.
        frames: jxl_frames: their indexes, ascending.
    """

    def __init__(
        self, task: str, library: str, source: int, target: int, seconds: float, memory: int, parent: int, frames: list[int]
    ) -> None:
        self.task = task
        self.library = library
        self.source = source
        self.target = target
        self.seconds = seconds
        self.memory = memory
        self.parent = parent
        self.frames = frames


def main(text: str) -> None:
    """Do what `text` orders, once."""
    order = Order(**json.loads(text))
    _die_with(order.parent)
    module = importlib.import_module("moderation.images.isolated." + ("resvg" if order.task == "svg" else "libjxl"))
    decoder = module.load(order.library)
    with mmap.mmap(order.source, os.fstat(order.source).st_size, access=mmap.ACCESS_READ) as data:
        confine(order)
        facts: dict[str, object] = {}
        error = detail = ""
        try:
            facts = module.decode(decoder, order, data)
        except MemoryError:
            error = "memory"
        except BaseException as raised:  # noqa: BLE001 - a panic of Rust is none of Exception's
            error, detail = "corrupt", " ".join(str(raised).split())[:200] or type(raised).__name__
        print(json.dumps([facts, error, detail, time.process_time()]), flush=True)  # noqa: T201
        os._exit(0)  # nothing of a decoder's is run any more


def confine(order: Order) -> None:
    """From here on: no file or connection can be opened, no process started, and time and memory are limited."""
    kept = max(order.source, order.target) + 1
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
