"""A command whose standard streams are closed works as any other, and writes into no file that is not for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOOK = """
import os, sys
from moderation.common.streams import open_streams
open_streams()
with open(sys.argv[1], "w") as file:
    print("out", flush=True)
    print("err", file=sys.stderr, flush=True)
    os.write(2, b"past Python")
    print(file.fileno() > 2, sys.stdin.read() == "", file=file)
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_is_printed_goes_into_no_file(closed: str, tmp_path: Path) -> None:
    written = tmp_path / "written"
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-P", "-c", LOOK, str(written)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert written.read_text() == "True True\n"


def test_a_command_with_closed_streams_ends_as_usual() -> None:
    for entry in ("from moderation.entry import main; import sys; sys.argv = ['moderate', 'version']; main()", None):
        run = ["-c", entry] if entry else ["-m", "moderation.cli", "version"]
        command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-P", *run]
        assert subprocess.run(command, env=dict(os.environ), check=False, timeout=300).returncode == 0
