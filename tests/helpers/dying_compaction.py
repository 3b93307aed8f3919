"""Appends reviews and compacts them in a process that ends after its n-th write: `python dying_compaction.py FOLDER LAST`."""

import os
import sys
from datetime import timedelta

from dying_store import DyingStore
from reviewed import review

from moderation.reviews.compaction import compact
from moderation.reviews.schema import REVIEWS
from moderation.reviews.store import append
from moderation.storage import Store

IMAGES = "abcdef"


def work(output: Store) -> None:
    """Two rounds of appending and compacting, and a last compaction."""
    for half in (IMAGES[:3], IMAGES[3:]):
        for image in half:
            append(output, [review(image, review_id=f"id-{image}")])
        for _ in range(2):
            compact(output, "reviews/", REVIEWS, "review_id", timedelta(0))


if __name__ == "__main__":
    folder, last = sys.argv[1], int(sys.argv[2])
    for writes in range(1, last):
        child = os.fork()
        if child == 0:
            work(DyingStore(f"{folder}/{writes}", writes))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))  # noqa: T201
