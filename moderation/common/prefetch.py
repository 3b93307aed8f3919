"""Working ahead: an iterator that fills a short queue from a thread of its own."""

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T], count: int) -> Generator[T, None, None]:
    """The same items, with up to `count` of them prepared in advance. Errors in preparing them are raised here.

    Closing this iterator lets the thread end at the item that it is making.
    """
    made: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(count)
    stop = threading.Event()

    def give(item: tuple[T] | BaseException | None) -> None:
        while not stop.is_set():
            try:
                made.put(item, timeout=0.2)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for item in items:
                give((item,))
                if stop.is_set():
                    return
            give(None)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that asks
            give(error)

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        stop.set()
        thread.join()
