"""One benchmark as a process of its own: what it printed, or why it did not come to its end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.report import PROMISES

GRACE_S = 15.0
"""What a benchmark gets to clean up behind itself before it is killed."""
NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "False",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class Benchmark:
    """A module that prints figures."""

    name: str
    module: str
    limit_s: float
    promised: tuple[str, ...] = ()
    """the promises of `report.PROMISES` that it measures"""
    quick: tuple[str, ...] = ()
    """options that make it short, so that one sees whether it works"""
    by_name_only: bool = False
    """whether it runs only where `--only` names it: what takes minutes would make `make bench` longer than 15"""


@dataclass(frozen=True)
class Measured:
    """What a benchmark gave."""

    figures: tuple[Figure, ...]
    failure: str = ""
    """why it did not come to its end; empty if it did"""


def run(benchmark: Benchmark, limit_s: float, options: Sequence[str] = ()) -> Measured:
    """Run it for at most `limit_s` seconds. Its stderr goes to ours; what it printed before it failed counts."""
    if limit_s <= 0:
        return Measured((), "there was no time left for it: give more with --minutes")
    say(f"{benchmark.name}: at most {limit_s:.0f} s")
    began = time.monotonic()
    failure = ""
    with _process([sys.executable, "-m", benchmark.module, *options]) as process:
        try:
            printed, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            failure = f"{benchmark.module} took more than {limit_s:.0f} s"
            _stop(process)
            printed, _ = process.communicate()
    say(f"{benchmark.name}: {time.monotonic() - began:.0f} s")
    if process.returncode and not failure:
        failure = f"{benchmark.module} ended with exit code {process.returncode}, its own words are on stderr"
    try:
        return Measured(tuple(Figure(**json.loads(line)) for line in printed.splitlines() if line.startswith("{")), failure)
    except (TypeError, ValueError):
        return Measured((), f"{benchmark.module} printed a line that is no figure")


def with_missing(benchmark: Benchmark, measured: Measured) -> list[Figure]:
    """The figures, and for what it owes and did not give, or did not come to, ones without a value that say why."""
    given = {figure.name for figure in measured.figures}
    reason = measured.failure or f"{benchmark.module} did not report it"
    missing = [p.missing(reason) for p in PROMISES if p.name in benchmark.promised and p.name not in given]
    if measured.failure and not missing:
        missing.append(Figure(benchmark.name, None, "", note=measured.failure))
    return [*measured.figures, *missing]


def say(text: str) -> None:
    """Tell who watches."""
    print(f"== {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _process(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own, of which nothing is left behind."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **NO_TELEMETRY},
        cwd=Path(__file__).parents[1],
        start_new_session=True,
    ) as process:
        try:
            yield process
        except BaseException:
            _stop(process)
            raise
        finally:
            _kill_group(process.pid)


def _stop(process: subprocess.Popen[str]) -> None:
    """Interrupt it as ^C does, so that it can clean up."""
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    _kill_group(process.pid)


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
