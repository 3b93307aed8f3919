"""Acts on decisions in processes that end after their n-th write: `python dying_actions.py RESULTS URL FOLDER`.

For each n, from 1 until a run survives: a copy of the results is acted on by a process that dies, then by one that does not. In
between, the dead process's lease is removed, as if it had ended. Prints the exit code of each that was to die.
"""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from acted import IMAGES, quick, review, target
from dying_store import DyingStore

from moderation.actions import acting
from moderation.actions.acting import act_on
from moderation.actions.senders import open_sender
from moderation.query.connection import connect
from moderation.reviews.review import ReviewAction
from moderation.storage import Store

__all__ = ["connect", "open_sender"]  # imported before the processes part: each would take a second for it


def in_a_process(work: object) -> int:
    """Run something in a process of its own; its exit code."""
    child = os.fork()
    if child == 0:
        try:
            work()  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def act(store: Store, url: str, number: int) -> None:
    """With a target of its own for each number, so that the receiver can tell them apart."""
    chosen = target(
        f"{{name: 'trust-{number}', actions: [block], webhook: {{url: '{url}', secret: {{env: KEY}}, connections: 1}}}}"
    )
    acted = act_on(store, chosen, replace(quick(batch=2), lease_s=600.0))
    if acted.busy or acted.stopped or acted.waiting:
        raise RuntimeError(str(acted))


def without_lease(folder: Path) -> None:
    for lease in folder.glob("_actions/*/lease/*"):
        lease.unlink()


def trial(results: str, url: str, folder: Path, number: int) -> bool:
    """Whether the process survived."""
    shutil.copytree(results, folder)
    died = in_a_process(lambda: act(DyingStore(str(folder), number), url, number))
    print(died, flush=True)  # noqa: T201
    without_lease(folder)
    resumed = in_a_process(lambda: act(Store(str(folder)), url, number))
    in_a_process(lambda: review(Store(str(folder)), IMAGES[0], ReviewAction.ALLOW))
    overturned = in_a_process(lambda: act(Store(str(folder)), url, number))
    if (resumed, overturned) != (0, 0):
        sys.exit(f"after {number} writes: {resumed}, {overturned}")
    shutil.rmtree(folder)
    return died == 0


if __name__ == "__main__":
    acting.COMPACT_AFTER = 5  # so that snapshots are written, and entries removed
    for each in range(1, 1000):
        if trial(sys.argv[1], sys.argv[2], Path(sys.argv[3]) / str(each), each):
            break
