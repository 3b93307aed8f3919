"""Working ahead in a thread."""

import threading
import time
from collections.abc import Iterator

import pytest

from moderation.common.prefetch import ahead


def test_items_come_in_order_and_a_few_are_prefetched() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number

    found = ahead(items(), 2)
    assert next(found) == 0
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == [0, 1, 2, 3]  # one taken, two in the queue, one in hand
    assert list(found) == list(range(1, 10))


def test_an_error_while_prefetching_is_raised_in_place_of_the_item() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("a bug")

    found = ahead(items(), 4)
    assert next(found) == 1
    with pytest.raises(KeyError, match="a bug"):
        next(found)


def test_closing_ends_the_prefetching_thread() -> None:
    def items() -> Iterator[int]:
        while True:
            yield 1

    found = ahead(items(), 1)
    assert next(found) == 1
    found.close()
    assert "ahead" not in [thread.name for thread in threading.enumerate()]
