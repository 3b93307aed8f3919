"""A machine that has no more of something: one line that says of what, from every command."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moderation.common.scarcity import scarcity
from moderation.demo import IMAGES_DIR, POLICY_FILE


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, "Too many open files", "/a"), "/a: too many open files in one process"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "no more processes or threads: "),
        (RuntimeError("can't start new thread"), "no more processes or threads: "),
        (MemoryError(), "not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on a disk: "),
    ],
)
def test_a_missing_resource_is_named_in_words(error: BaseException, words: str) -> None:
    assert (scarcity(error) or "").startswith(words)


def test_other_errors_are_not_taken_for_a_missing_resource() -> None:
    others = (OSError(errno.ENOENT, "No such file", "/a"), OSError("text"), RuntimeError("a mistake of ours"), ValueError("x"))
    assert [scarcity(error) for error in others] == [None] * len(others)


def test_output_that_nobody_can_write_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-P", "-m", "moderation.cli", "version"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=300)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no space left on a disk")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("files", [24, 40])
def test_a_run_with_few_open_files_is_one_line(files: int, tmp_path: Path) -> None:
    limited = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", sys.executable, "-P", "-m", "moderation.cli"]
    command = [*limited, "run", str(IMAGES_DIR / "listings"), "-p", str(POLICY_FILE), "-o", "out"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode in (1, 2)
    assert len(errors) == 1
    assert "Traceback" not in done.stderr
