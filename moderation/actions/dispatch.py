"""Sends many deliveries at once: retries, pauses that the target asks for, and an end when it does not answer."""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from moderation.actions.deliveries import Delivery, Open, Outcome, Result, now
from moderation.errors import ModerationError

Chain = Sequence[Open]
"""Deliveries for one item, in the order in which they must arrive."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of one attempt."""

    result: Result
    reason: str = ""
    wait_s: float | None = None
    """how long the target asks to be left alone"""


@dataclass(frozen=True, slots=True)
class Patience:
    """When to try again, and when to stop."""

    attempts: int = 5
    """for one delivery; those after which the target asked for a pause are not counted"""
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    longest_pause_s: float = 60.0
    """a target that asks for a longer pause is left to the next run"""
    in_a_row: int = 20
    """failed attempts, or refusals, after which the target counts as down"""

    def wait_s(self, attempt: int) -> float:
        """Before the attempt after this one, counted from 1: exponential, with full jitter."""
        return random.uniform(0, min(self.longest_wait_s, self.first_wait_s * 2**attempt))


class Dispatch:
    """One round of sending to one target.

    Args:
        attempt: sends one delivery once. It must not raise, and must end in bounded time.
        connections: how many at once.
        patience: when to try again, and when to stop.
        check: raises if this process may not send any more.
        outcomes: filled while sending, so that it is complete whatever interrupts the round.
    """

    def __init__(
        self,
        attempt: Callable[[Delivery], Awaitable[Answer]],
        connections: int,
        patience: Patience,
        check: Callable[[], None],
        outcomes: list[Outcome],
    ) -> None:
        self._attempt, self._connections, self._patience = attempt, connections, patience
        self._check, self._outcomes = check, outcomes
        self._failures = self._refusals = 0
        self._not_before = 0.0
        self._stopped = ""
        self._error: ModerationError | None = None

    async def send(self, chains: Iterable[Chain]) -> str:
        """Send them. Returns why the target was given up, or "". Raises what `check` raises."""
        queue = deque(chains)

        async def worker() -> None:
            while queue and not self._stopped and self._error is None:
                await self._send_chain(queue.popleft())

        await asyncio.gather(*(worker() for _ in range(self._connections)))
        if self._error is not None:
            raise self._error
        return self._stopped

    async def _send_chain(self, chain: Chain) -> None:
        for waiting in chain:
            result = await self._send(waiting.delivery)
            if result not in (Result.DELIVERED, Result.PARKED):
                return  # what comes after it must not arrive before it

    async def _send(self, delivery: Delivery) -> Result | None:
        tries = counted = 0
        while True:
            await self._pause()
            if self._stopped or not self._allowed():
                return None
            answer = await self._attempt(delivery)
            tries += 1
            self._count(answer)
            if answer.result is not Result.FAILED:
                break
            if answer.wait_s is None:
                counted += 1
            if counted >= self._patience.attempts or self._stopped:
                break
            if answer.wait_s is None:
                await asyncio.sleep(self._patience.wait_s(counted))
        self._outcomes.append(Outcome(key=delivery.key, result=answer.result, reason=answer.reason, tries=tries, at=now()))
        return answer.result

    async def _pause(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopped and (left := self._not_before - loop.time()) > 0:
            await asyncio.sleep(left + random.uniform(0, min(left, 0.5)))

    def _allowed(self) -> bool:
        try:
            self._check()
        except ModerationError as error:
            self._error = error
        return self._error is None

    def _count(self, answer: Answer) -> None:
        patience = self._patience
        self._failures = self._failures + 1 if answer.result is Result.FAILED else 0
        self._refusals = 0 if answer.result is Result.DELIVERED else self._refusals + (answer.result is Result.PARKED)
        if self._failures >= patience.in_a_row:
            self._stopped = f"{self._failures} attempts in a row failed: {answer.reason}"
        elif self._refusals >= patience.in_a_row:
            self._stopped = f"{self._refusals} deliveries in a row were refused: {answer.reason}"
        elif answer.wait_s is not None and answer.wait_s > patience.longest_pause_s:
            self._stopped = f"it asks to wait for {answer.wait_s:.0f} s: {answer.reason}"
        elif answer.wait_s is not None:
            self._not_before = max(self._not_before, asyncio.get_running_loop().time() + answer.wait_s)
