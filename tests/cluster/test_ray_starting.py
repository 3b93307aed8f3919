"""A Ray of a run's own starts whatever the environment and the current folder hold, or says in one line why not."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from places import MODULE_FOLDERS, ROOT

from moderation.cluster.own_ray import KEPT
from moderation.common.loopback import direct_loopback

LOOK = """
import os, subprocess, sys
from moderation.errors import ModerationError

os.environ["PYTHONPATH"] = os.pathsep + os.environ.get("PYTHONPATH", "")  # with an empty part, the current folder

def look():
    import json, logging, random, token, types
    import torch
    child = subprocess.run([sys.executable, "-c", "import random, json, torch"], capture_output=True, text=True)
    return sys.path, child.stderr, dict(os.environ)

try:
    from moderation.cluster.session import ray_session
    import ray
    with ray_session(None):
        path, complaints, variables = ray.get(ray.remote(look).remote())
except ModerationError as error:
    print("error:", error)
    sys.exit(error.exit_code)
print("path", [entry for entry in path if entry in ("", os.getcwd(), os.path.dirname(os.path.abspath(sys.argv[0])))])
print("complaints", complaints)
for name in sys.argv[1:]:
    print(name, variables.get(name))
"""
TRAPS = ("random", "json", "logging", "types", "token", "ray", "torch", "numpy", "sitecustomize", "usercustomize", "re", "os")
TRAP = "import pathlib; pathlib.Path(__file__).with_name('imported').open('a').write(__file__)\nraise SystemExit('imported')\n"


def drive(folder: Path, *names: str, before: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    """A driver in `folder`, with a script elsewhere. A Ray that does not start must say so in bounded time."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with tempfile.TemporaryDirectory() as elsewhere:
        script = Path(elsewhere, "look.py")
        script.write_text(LOOK)
        command = [*before, sys.executable, str(script), *names]
        return subprocess.run(
            command, env=clean | environment, cwd=folder, capture_output=True, text=True, check=False, timeout=300
        )


def test_ray_starts_in_hostile_surroundings(tmp_path: Path) -> None:
    for name in TRAPS:
        (tmp_path / f"{name}.py").write_text(TRAP)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{closed.getsockname()[1]}"
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "grpc_proxy"), proxy)
        proxies |= {name.upper(): value for name, value in proxies.items()}
        for_clusters = {
            "RAY_REDIS_ADDRESS": "127.0.0.1:1",
            "RAY_GCS_SERVER_PORT": "1",
            "RAY_gcs_storage": "redis",
            "RAY_RUNTIME_ENV_HOOK": "no.such.hook",
            "RAY_USE_TLS": "1",
            "RAY_TLS_CA_CERT": "/nonexistent",
            "RAY_AUTH_TOKEN_PATH": "/nonexistent",
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": "x",
            "RAY_grpc_enable_http_proxy": "1",
            "RAY_RAYLET_TMUX": "1",
        }
        others = {"PYTHONPATH": os.pathsep.join(MODULE_FOLDERS), "no_proxy": "internal", "RAY_worker_niceness": "7"}
        asked = ["http_proxy", "no_proxy", "NO_PROXY", "PYTHONPATH", "RAY_REDIS_ADDRESS", "RAY_worker_niceness"]
        done = drive(tmp_path, *asked, **proxies, **for_clusters, **others)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    hosts = "internal,localhost,127.0.0.1,::1"
    assert done.stdout.splitlines() == [
        "path []",
        "complaints ",
        f"http_proxy {proxy}",
        f"no_proxy {hosts}",
        f"NO_PROXY {hosts}",
        f"PYTHONPATH {os.pathsep.join(MODULE_FOLDERS)}",
        "RAY_REDIS_ADDRESS None",
        "RAY_worker_niceness 7",
    ]
    assert not (tmp_path / "imported").exists()


LONG = "/tmp/" + "x" * 60  # noqa: S108 - it is never made
SHORT = "set it to a folder with a shorter path"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"RAY_TMPDIR": "/proc/nonexistent"},
            "No such file or directory: set RAY_TMPDIR to a folder that exists and can be written",
        ),
        ({"RAY_TMPDIR": "/proc"}, "cannot create a temporary folder for Ray in /proc: "),
        ({"RAY_TMPDIR": LONG}, f"too many for Ray's sockets: {LONG}: {SHORT}"),
        ({"RAY_memory_usage_threshold": "7"}, "cannot start Ray on this machine: raylet: "),
        (
            {"RAY_memory_usage_threshold": "much"},
            "Ray cannot read what is in RAY_memory_usage_threshold: correct it, or unset it",
        ),
        ({"RAY_NUM_REDIS_GET_RETRIES": "x"}, "Ray cannot read what is in RAY_NUM_REDIS_GET_RETRIES: correct it, or unset it"),
        ({"RAY_ADDRESS": "127.0.0.1:1"}, "no Ray cluster answers at 127.0.0.1:1 (from RAY_ADDRESS): "),
        (
            {"RAY_ADDRESS": "http://head"},
            "the address of a Ray cluster is host:6379, ray://host:10001 or auto, not 'http://head'",
        ),
    ],
)
def test_a_ray_that_cannot_start_says_why_in_one_line(environment: dict[str, str], message: str, tmp_path: Path) -> None:
    done = drive(tmp_path, **environment)
    said = done.stdout + done.stderr
    assert message in said
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (2, "", 1), said
    assert done.stdout.startswith("error: ")


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("ulimit -n 64", "cannot start Ray on this machine: a process may have 64 open files here: "),
        ("ulimit -v 8388608", "cannot start Ray on this machine: a process may have 8 GiB of addresses here: "),
        ("mkdir gone && cd gone && rmdir ../gone", "the current folder no longer exists, and Ray needs one: "),
    ],
)
def test_a_ray_without_enough_files_memory_or_disk_is_one_line(limit: str, said: str, tmp_path: Path) -> None:
    done = drive(tmp_path, before=("sh", "-c", f'{limit} && exec "$@"', "sh"))
    assert (done.returncode, done.stderr) == (2, ""), done.stdout
    assert done.stdout.startswith(f"error: {said}")
    assert len(done.stdout.splitlines()) == 1


def test_the_command_names_a_variable_that_ray_cannot_read(demo_images: Path, tmp_path: Path) -> None:
    from moderation.demo import POLICY_FILE

    command = [sys.executable, "-m", "moderation.cli", "run", str(demo_images), "-p", str(POLICY_FILE), "-o", "out"]
    environment = os.environ | {"RAY_memory_usage_threshold": "much"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 2
    wanted = "error: Ray cannot read what is in RAY_memory_usage_threshold: correct it, or unset it"
    assert done.stderr.splitlines()[-1] == wanted
    assert "Traceback" not in done.stderr


def test_the_variables_that_are_kept_are_documented() -> None:
    page = ROOT.joinpath("docs", "operations.md").read_text()
    assert [name for name in [*KEPT, "RAY_TMPDIR"] if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"no_proxy": "localhost,127.0.0.1,::1", "NO_PROXY": "localhost,127.0.0.1,::1"}),
        ({"NO_PROXY": "a, b"}, {"no_proxy": "a,b,localhost,127.0.0.1,::1", "NO_PROXY": "a,b,localhost,127.0.0.1,::1"}),
        (
            {"no_proxy": "127.0.0.1,a", "NO_PROXY": "b"},
            {"no_proxy": "127.0.0.1,a,b,localhost,::1", "NO_PROXY": "127.0.0.1,a,b,localhost,::1"},
        ),
        ({"no_proxy": "*"}, {"no_proxy": "*", "NO_PROXY": "*"}),
        (
            {"no_grpc_proxy": "a"},
            {
                "no_proxy": "localhost,127.0.0.1,::1",
                "NO_PROXY": "localhost,127.0.0.1,::1",
                "no_grpc_proxy": "a,localhost,127.0.0.1,::1",
            },
        ),
    ],
)
def test_loopback_is_added_to_what_goes_through_no_proxy(given: dict[str, str], expected: dict[str, str]) -> None:
    assert direct_loopback(given) == expected
