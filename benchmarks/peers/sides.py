"""The sides of the comparison: each does the same `Work` and leaves a `Timeline`."""

import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from benchmarks.peers import ours, plain, ray_data
from benchmarks.peers.ray_data import Layout
from benchmarks.peers.timeline import Timeline
from benchmarks.peers.work import Work

NICE = 15
"""What Ray's workers are by default: `RAY_worker_niceness`."""

Side = Callable[[Work], Timeline]


def plain_loop(work: Work) -> Timeline:
    """A process of its own, as a script is: its start-up counts the imports. As nice to others as Ray's workers are."""
    began = time.time()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=os.nice, initargs=(NICE,)) as pool:
        pool.submit(plain.run, work).result()
    return Timeline.of(began, _rows(work))


def pipeline(work: Work) -> Timeline:
    """In the Ray that is running."""
    began = time.time()
    ours.run(work)
    return Timeline.of(began, ours.rows(work.output))


def ray_data_sides(cores: int, *, heavy: bool, remote: bool) -> Mapping[str, Side]:
    """Ways with Ray Data of which one may be its best, by name; in the Ray that is running.

    Args:
        cores: of the machine.
        heavy: whether encoding takes most of the time, and not reading.
        remote: whether the images are in S3. The actor that plans downloads keeps a core to itself: on two, `halves` would
            leave none to read with, and Ray Data would wait forever.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if remote:
        ways = {"Ray Data": (ray_data.documented, "readers"), "Ray Data, tuned": (ray_data.tuned, "readers")}
    elif heavy:
        ways = {"Ray Data": (ray_data.documented, "halves"), "Ray Data, tuned": (ray_data.tuned, "both")}
    else:
        ways = {
            "Ray Data": (ray_data.documented, "halves"),
            "Ray Data, tuned": (ray_data.tuned, "halves"),
        }
    known = ray_data.layouts(cores)
    return {name: _with_ray_data(way, known[layout]) for name, (way, layout) in ways.items()}


def _with_ray_data(way: Callable[[Work, Layout], None], layout: Layout) -> Side:
    def side(work: Work) -> Timeline:
        began = time.time()
        way(work, layout)
        return Timeline.of(began, _rows(work))

    return side


def _rows(work: Work) -> pa.Table:
    return pa.concat_tables(pq.read_table(file, partitioning=None) for file in sorted(work.rows.glob("*.parquet")))
