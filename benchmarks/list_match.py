"""A hash list against images' hashes: `python -m benchmarks.list_match`.

Random PDQ hashes, of which one in a thousand lies near an entry: a list against a whole history with the building of its index,
and against the images of a shard.
"""

import argparse
import os
import resource
import time

import numpy as np

from benchmarks.figures import Figure, emit
from moderation.lists.hamming import HammingIndex

ENTRIES, SHARD, RUN_BATCH, DISTANCE = 1_000_000, 32_768, 256, 31


def hashes(count: int, seed: int) -> np.ndarray:
    """Uint8 [count, 32]."""
    return np.random.default_rng(seed).integers(0, 256, (count, 32), np.uint8)


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=ENTRIES, help="of the list, and of the history (%(default)s)")
    asked = parser.parse_args()
    threads = min(2, os.cpu_count() or 1)
    entries, history = hashes(asked.entries, 1), hashes(asked.entries, 2)
    planted = np.arange(0, asked.entries, 1000)
    history[planted] = entries[planted]
    history[planted, 5] ^= 0xFF
    start, used = time.monotonic(), time.process_time()
    index = HammingIndex(entries, DISTANCE)
    built = time.monotonic() - start
    entry, distance, _ = index.nearest(history, threads)
    whole, used = time.monotonic() - start, time.process_time() - used
    if not ((entry[planted] == planted).all() and (distance[planted] == 8).all()):
        raise SystemExit("a near hash was missed")
    shards = []
    for number in range(3):
        images = hashes(min(SHARD, asked.entries), 3 + number)
        start = time.thread_time()
        index.nearest(images)
        shards.append((time.thread_time() - start) / len(images) * 1e6)
    batches = []
    for number in range(3):
        images = hashes(RUN_BATCH * 16, 6 + number)
        start = time.thread_time()
        for first in range(0, len(images), RUN_BATCH):
            index.nearest(images[first : first + RUN_BATCH])
        batches.append((time.thread_time() - start) / len(images) * 1e6)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    of = f"{asked.entries:,} entries, distance {DISTANCE}"
    emit(
        [
            Figure(
                "list_match_1m_s", whole, "s", 180, runs=1, lower_is_better=True,
                note=f"{of}, against as many stored hashes, {threads} threads; {built:.1f} s of it build the index; "
                f"processor time {used:.0f} s",
            ),
            Figure("list_match_memory_mb", memory, "MB", 2_000, runs=1, lower_is_better=True, note="of the whole process"),
            Figure.of(
                "list_match_us_per_image", shards, "µs", 20, lower_is_better=True,
                note=f"{of}, a shard of {min(SHARD, asked.entries):,} images, processor time of one thread",
            ),
            Figure.of(
                "list_match_us_per_image_in_batches", batches, "µs", None, lower_is_better=True,
                note=f"{of}, batches of {RUN_BATCH} images as actors get them, processor time of one thread",
            ),
        ]
    )  # fmt: skip


if __name__ == "__main__":
    main()
