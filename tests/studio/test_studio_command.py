"""`moderate studio` as a process: its link, its end, and what it says when it cannot start."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from published import write_results
from typer.testing import CliRunner

from moderation.cli import app
from moderation.errors import ModerationError, OutputError, SettingsError
from moderation.storage import Store
from moderation.studio.audit import AuditLog, default_place
from moderation.studio.server import listening

LINK = re.compile(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]{40,})\s")


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("command")
    write_results(Store(str(folder)))
    return folder


def problem(*arguments: str) -> ModerationError:
    found = CliRunner().invoke(app, ["studio", *arguments, "--no-browser"])
    assert isinstance(found.exception, ModerationError), found
    return found.exception


def test_ctrl_c_ends_it_and_nothing_is_left(results: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "moderation.cli", "studio", "--results", str(results), "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    assert process.stdout is not None
    found = LINK.search(process.stdout.readline())
    assert found is not None
    with closing(http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)) as connection:
        connection.request("GET", f"/?token={found[2]}")
        with connection.getresponse() as answer:
            cookie = answer.headers["set-cookie"].partition(";")[0]
            answer.read()
        connection.request("GET", "/pictures?uri=s3://shop/none.jpg", headers={"Cookie": cookie})
        with connection.getresponse() as answer:
            assert answer.status == 404
    assert list(scratch.glob("clip-moderation-studio-*"))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert err.strip().splitlines()[-1] == "the studio has ended"
    assert "Traceback" not in err
    assert found[2] not in out + err  # no log of requests: one has the token
    assert list(scratch.glob("clip-moderation-studio-*")) == []


def test_the_token_is_not_among_the_arguments_of_the_browser(results: Path, tmp_path: Path) -> None:
    """Everybody on the machine sees those. The file that leads to the link is for its owner alone."""
    program = tmp_path / "browser"
    seen = tmp_path / "seen"
    program.write_text(
        "#!/bin/sh\n"
        f"exec > {seen}.part\n"
        'echo "$@"; file=$(echo "$1" | sed s,file://,,); ls -ld "$(dirname "$file")" "$file"; cat "$file"\n'
        f"mv {seen}.part {seen}\n"
    )
    program.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-m", "moderation.cli", "studio", "--results", str(results)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "BROWSER": f"{program} %s"},
    )
    assert process.stdout is not None
    found = LINK.search(process.stdout.readline())
    deadline = time.monotonic() + 60
    while not seen.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    arguments, folder, _, page = seen.read_text().split("\n", 3)
    assert found is not None
    assert "token" not in arguments
    assert folder.startswith("drwx------")
    assert found[2] in page


def test_a_port_in_use_is_said_to_be(results: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        error = problem("--results", str(results), "--port", str(taken.getsockname()[1]))
    assert isinstance(error, SettingsError)
    assert "--port" in str(error)
    assert "in use" in str(error)


def test_without_a_port_any_free_one_is_taken() -> None:
    with listening(None) as first, listening(None) as second:
        assert first.getsockname()[0] == "127.0.0.1"
        assert first.getsockname()[1] != second.getsockname()[1]


def test_results_that_are_not_there_are_said_to_be(tmp_path: Path) -> None:
    assert "cannot read the results" in str(problem("--results", str(tmp_path / "none")))
    (tmp_path / "empty").mkdir()
    assert "there is no run" in str(problem("--results", str(tmp_path / "empty")))


def test_a_policy_that_is_not_there_is_said_to_be(results: Path, tmp_path: Path) -> None:
    error = problem("--results", str(results), "--policy", str(tmp_path / "none.yaml"))
    assert "there is no file" in str(error)


def test_the_audit_log_is_for_its_owner_alone(tmp_path: Path) -> None:
    log = AuditLog(default_place(), "s3://results", "ada")
    assert tmp_path in log.path.parents
    log.open()
    log.write("release", reason='a "reason"\nof two lines')
    log.write("discard")
    assert log.path.stat().st_mode & 0o077 == 0
    lines = log.path.read_text().splitlines()
    assert len(lines) == 2
    assert '"user": "ada"' in lines[0]


def test_an_audit_log_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="audit log"):
        AuditLog(tmp_path / "file" / "log", "s3://results", "ada").open()
