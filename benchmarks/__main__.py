"""The benchmarks, one after the other: `make bench`, or `python -m benchmarks`. Writes `results.json` and `RESULTS.md`.

Long ones run by name only: `python -m benchmarks --only reviews,studio --minutes 30`.

Each benchmark is a process of its own that prints its figures. One that fails, or takes too long, costs its own figures and
nobody else's: they read "not measured", and the exit code is 1. A target that is not reached is no failure of this command.
"""

import argparse
import sys
import time
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import report
from benchmarks.machine import machine, software
from benchmarks.report import Entry
from benchmarks.running import Benchmark, run, say, with_missing

HERE = Path(__file__).parent
REASONS = HERE / "reasons.toml"
"""By the name of a figure: why it falls short and what was tried. Written by hand."""
MINUTES = 15.0

BENCHMARKS = (
    Benchmark("decode", "benchmarks.decode", 120, ("decode_500x375_vs_pillow", "decode_12mp_vs_pillow")),
    Benchmark("get", "benchmarks.get", 120, ("get_vs_boto3",)),
    Benchmark(
        "against_peers",
        "benchmarks.against_peers",
        420,
        ("vs_ray_data_500x375", "vs_plain_loop_500x375", "vs_ray_data_12mp"),
    ),
    Benchmark("pipeline_rate", "benchmarks.pipeline_rate", 330, ("pipeline_over_limit",), ("--quick",)),
    Benchmark(
        "cpu_precisions",
        "benchmarks.cpu_precisions",
        300,
        ("cpu_vit_b32_vs_fp32", "cpu_vit_b32_int8_vs_fp32"),
        ("--quick",),
    ),
    Benchmark("writing", "benchmarks.writing", 60, (), ("--rows", "2000")),
    Benchmark("redecide", "benchmarks.backtest", 180, ("redecide_images_per_s",), ("--runs", "1", "--images", "200000")),
    Benchmark(
        "driver_scale",
        "benchmarks.driver_scale",
        240,
        ("driver_memory_growth_mb", "driver_us_per_image", "driver_two_workers_over_one"),
        ("--objects", "100000"),
    ),
    Benchmark(
        "list_match",
        "benchmarks.list_match",
        180,
        ("list_match_1m_s", "list_match_us_per_image"),
        ("--entries", "50000"),
    ),
    Benchmark(
        "reviews",
        "benchmarks.reviews",
        240,
        ("review_queue_page_s", "effective_decisions_count_s"),
        ("--decisions", "200000", "--reviews", "20000"),
        by_name_only=True,
    ),
    Benchmark("studio", "benchmarks.studio", 900, (), ("--images", "40000", "--runs", "1"), by_name_only=True),
    Benchmark("actor_memory", "benchmarks.actor_memory", 180),
    Benchmark("colours", "benchmarks.parity", 60),
    Benchmark("gpu", "benchmarks.gpu", 300, ("gpu_encode_over_bare", "gpu_end_to_end_over_bare")),
)
NAMES = tuple(benchmark.name for benchmark in BENCHMARKS)


def main(arguments: Sequence[str] | None = None, benchmarks: Sequence[Benchmark] = BENCHMARKS) -> int:
    """Run benchmarks and write the results; 1 if one failed."""
    names = [benchmark.name for benchmark in benchmarks]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", help=f"some of them, with commas between; the others' earlier figures stay: {','.join(names)}"
    )
    parser.add_argument(
        "--quick", action="store_true", help="short runs that show whether they work; their figures mean little"
    )
    parser.add_argument("--output", type=Path, default=HERE, help="the folder for results.json and RESULTS.md")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all of them together (%(default)g)")
    asked = parser.parse_args(arguments)
    only = asked.only.split(",") if asked.only else [benchmark.name for benchmark in benchmarks if not benchmark.by_name_only]
    if unknown := sorted(set(only) - set(names)):
        parser.error(f"there is no benchmark {', '.join(unknown)}: choose among {', '.join(names)}")
    asked.output.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * asked.minutes
    entries = _earlier(asked.output, names)
    failed = []
    for benchmark in (benchmark for benchmark in benchmarks if benchmark.name in only):
        measured = run(benchmark, min(benchmark.limit_s, until - time.monotonic()), benchmark.quick if asked.quick else ())
        figures = with_missing(benchmark, measured)
        if measured.failure:
            failed.append(benchmark.name)
            say(f"{benchmark.name}: not measured: {measured.failure}")
        where = (benchmark.name, machine(), software(), f"{datetime.now(UTC):%Y-%m-%d}")
        entries = [entry for entry in entries if entry.module != benchmark.name]
        entries += [Entry(figure, *where) for figure in figures]
        entries.sort(key=lambda entry: names.index(entry.module))
        _write(asked.output, entries, quick=asked.quick)  # after each one: what was measured is never lost
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _earlier(folder: Path, names: Sequence[str]) -> list[Entry]:
    """The entries of an earlier run, of benchmarks that there still are."""
    path = folder / "results.json"
    if not path.exists():
        return []
    try:
        return [entry for entry in report.from_json(path.read_text()) if entry.module in names]
    except (AttributeError, KeyError, TypeError, ValueError):
        say(f"{path} was not written by this program: it is written anew")
        return []


def _write(folder: Path, entries: Sequence[Entry], *, quick: bool) -> None:
    reasons = tomllib.loads(REASONS.read_text()) if REASONS.exists() else {}
    page, completed = folder / "RESULTS.md", report.completed(entries)
    by_hand = report.kept_by_hand(page)
    (folder / "results.json").write_text(report.to_json(completed))
    page.write_text(report.to_markdown(completed, reasons, by_hand, quick=quick))


if __name__ == "__main__":
    sys.exit(main())
