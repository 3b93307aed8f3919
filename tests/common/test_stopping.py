"""Ctrl-C in a terminal, SIGTERM and SIGHUP: seconds, one line, an exit code that says it, and nothing left behind."""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import descendants
from terminal import Terminal

from moderation.common.stopping import GRACE_S
from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.results.manifest import published_manifests
from moderation.storage import Store

SCORING = "0 errors"
"""What is shown while images are scored, and at no other time."""
RESUME = "to resume, give the same command with --run-id mine"
START_S, END_S = 400.0, 2 * GRACE_S
"""Seconds: of a machine that is busy with other tests."""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Terminal]:
    """A run in a terminal, and what it leaves behind of temporary files."""
    short = tempfile.mkdtemp(prefix="s")  # the paths of Ray's sockets must be short
    (tmp_path / "tmp").symlink_to(short)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"TMPDIR": short, "HOME": str(tmp_path), "TERM": "xterm", "COLUMNS": "200"}
    command = [sys.executable, "-P", "-m", "moderation.cli", "run", str(IMAGES_DIR), "-p", str(POLICY_FILE), "-o", "out"]
    small = ["--run-id", "mine", "--shard-size", "16", "--batch-size", "8"]
    terminal = Terminal([*command, *small], environment, tmp_path)
    yield terminal
    terminal.close()
    shutil.rmtree(short, ignore_errors=True)


def ended(run: Terminal, code: int, folder: Path, said: str = f"stopped; nothing was published: {RESUME}") -> None:
    """The run ends as it should, and so does all that it started."""
    started = descendants(run.pid)
    run.wait(END_S)
    assert run.code == code, run.text[-3000:]
    assert run._terminal < 0 or said in run.text, run.text[-3000:]
    assert "Traceback" not in run.text
    until = time.monotonic() + END_S
    while left := [
        *(words for pid, words in started.items() if "flows.server_process" in words and Path(f"/proc/{pid}").exists()),
        *(folder / "tmp").glob("clip-moderation-prefect-*"),
    ]:
        assert time.monotonic() < until, left
        time.sleep(0.1)
    assert not (folder / "out").exists() or list(published_manifests(Store(str(folder / "out")))) == []


def test_control_c_while_starting_up_stops_the_run_with_one_line(run: Terminal, tmp_path: Path) -> None:
    run.read_until("starting", START_S)
    run.control_c()
    ended(run, 130, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["loading the model", SCORING, "checking"])
def test_control_c_while_scoring_stops_the_run_with_one_line(run: Terminal, tmp_path: Path, stage: str) -> None:
    run.read_until(stage, START_S)
    run.control_c()
    ended(run, 130, tmp_path)


@pytest.mark.slow
def test_a_second_control_c_stops_the_run_at_once(run: Terminal, tmp_path: Path) -> None:
    run.read_until(SCORING, START_S)
    run.control_c()
    time.sleep(0.8)
    if Path(f"/proc/{run.pid}").exists():
        run.control_c()
    ended(run, 130, tmp_path, RESUME)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_sighup_stop_a_run_as_control_c_does(run: Terminal, tmp_path: Path, number: int) -> None:
    run.read_until(SCORING, START_S)
    run.kill(number)
    ended(run, 128 + number, tmp_path)


@pytest.mark.slow
def test_closing_the_terminal_stops_the_run(run: Terminal, tmp_path: Path) -> None:
    run.read_until(SCORING, START_S)
    run.hang_up()
    ended(run, 128 + signal.SIGHUP, tmp_path)


HANGS = """
import time
from moderation.common import stopping
stopping.GRACE_S = 1.0
stopping.listen()
stopping.on_stop("stopped at once")
while True:
    try:
        print("hangs", flush=True)
        time.sleep(1)
    except KeyboardInterrupt:
        print("swallowed", flush=True)
"""


def test_a_process_that_hangs_is_ended_all_the_same(tmp_path: Path) -> None:
    hanging = Terminal([sys.executable, "-c", HANGS], dict(os.environ), tmp_path)
    try:
        hanging.read_until("hangs", 60)
        hanging.control_c()
        hanging.wait(60)
        assert (hanging.code, "swallowed" in hanging.text, "stopped at once" in hanging.text) == (130, True, True)
    finally:
        hanging.close()
