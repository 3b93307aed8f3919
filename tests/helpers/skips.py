"""Skipped tests. The last line of the output counts them with their reasons; with `FORBID_SKIPS=1` each is a failure.

What may be skipped all the same stands in `allowed_skips.toml`.
"""

import os
import tomllib
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

LIST = Path(__file__).parents[1].joinpath("allowed_skips.toml")
FORBIDDEN = os.environ.get("FORBID_SKIPS", "") not in ("", "0")

Report = pytest.TestReport | pytest.CollectReport


@dataclass(frozen=True)
class Allowed:
    """Tests that may be skipped for one reason, and why nothing else can be done."""

    reason: str
    tests: tuple[str, ...]
    why: str
    where_absent: str | None = None

    def covers(self, test: str, reason: str) -> bool:
        """Whether this test, given by its node id, may be skipped for this reason on this machine."""
        if self.where_absent and (LIST.parent / self.where_absent).exists():
            return False
        file, _, function = test.partition("[")[0].partition("::")
        return reason == self.reason and (self.tests == ("*",) or f"{Path(file).name}::{function}" in self.tests)


def allowed() -> list[Allowed]:
    """What `allowed_skips.toml` holds."""
    return [Allowed(**{**entry, "tests": tuple(entry["tests"])}) for entry in tomllib.loads(LIST.read_text())["allowed"]]


def reason_of(report: Report) -> str | None:
    """Why a test or a whole file was skipped, or expected to fail; None if neither."""
    if not report.skipped:
        return None
    if hasattr(report, "wasxfail"):
        return f"expected to fail: {report.wasxfail}"
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def _forbid(report: Report) -> None:
    reason = reason_of(report)
    if reason is None or any(entry.covers(report.nodeid, reason) for entry in allowed()):
        return
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid}: skipped, which FORBID_SKIPS=1 forbids: {reason}\n(exceptions: tests/{LIST.name})"
    if hasattr(report, "wasxfail"):
        del report.wasxfail


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a failure of a skip that is not allowed."""
    report = yield
    if FORBIDDEN:
        _forbid(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Make a failure of a file that skips itself."""
    report = yield
    if FORBIDDEN:
        _forbid(report)
    return report


_reasons: list[str] = []
_files: set[str] = set()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember why a test was skipped."""
    _reasons.extend(filter(None, [reason_of(report)]))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Remember why a file was skipped: once, though each process of pytest-xdist reports it."""
    if report.nodeid not in _files:
        _files.add(report.nodeid)
        _reasons.extend(filter(None, [reason_of(report)]))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, None, None]:
    """Write the last line."""
    yield
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:  # none in the processes of pytest-xdist
        terminal.write_line(last_line(_reasons))


def last_line(reasons: list[str]) -> str:
    """`3 skipped: 2 needs nginx (apt-get install nginx-light); 1 needs root`."""
    if not reasons:
        return "0 skipped"
    counted = [f"{count} {reason}" for reason, count in Counter(reasons).most_common()]
    return f"{len(reasons)} skipped: {'; '.join(' '.join(text.split()) for text in counted)}"
