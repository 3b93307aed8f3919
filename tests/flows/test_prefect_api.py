"""Where Prefect's API is named, what is said of one that does not work, and the temporary server where none is named."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from needs import needs, needs_network_namespaces, needs_root, needs_setpriv, require
from support import descendants

from flows.api_url import named_api_url
from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.errors import SettingsError

MODERATE = [sys.executable, "-P", "-m", "moderation.cli"]
NAMED = "http://127.0.0.1:9/api"
"""Nobody listens there."""


def clean(**more: str) -> dict[str, str]:
    """The environment without anything of Prefect's."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("PREFECT_")} | more


def moderate(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [
        *MODERATE,
        "run",
        *(arguments or [str(IMAGES_DIR / "listings")]),
        "-p",
        str(POLICY_FILE),
        "-o",
        str(folder / "out"),
    ]
    return subprocess.run(
        command, env=clean(**environment), cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )


def put(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


PROFILES = """
active = "mine"
[profiles.mine]
PREFECT_API_URL = "http://mine/api"
[profiles.other]
PREFECT_API_URL = "http://other/api"
[profiles.without]
PREFECT_API_KEY = "x"
"""
TOML = '[api]\nurl = "http://toml/api"\n'
PYPROJECT = '[tool.prefect.api]\nurl = "http://pyproject/api"\n'
WHERE: dict[str, tuple[dict[str, str], dict[str, str], str | None]] = {
    "nothing": ({}, {}, None),
    "environment": ({"PREFECT_API_URL": "http://env/api"}, {".env": "PREFECT_API_URL=http://dotenv/api"}, "http://env/api"),
    "lower case": ({"prefect_api_url": "http://env/api"}, {}, "http://env/api"),
    "dotenv": ({}, {".env": "PREFECT_API_URL=http://dotenv/api\n", "prefect.toml": TOML}, "http://dotenv/api"),
    "toml": ({}, {"prefect.toml": TOML, "pyproject.toml": PYPROJECT}, "http://toml/api"),
    "pyproject": ({}, {"pyproject.toml": PYPROJECT, "home/profiles.toml": PROFILES}, "http://pyproject/api"),
    "profile": ({}, {"home/profiles.toml": PROFILES}, "http://mine/api"),
    "other profile": ({"PREFECT_PROFILE": "other"}, {"home/profiles.toml": PROFILES}, "http://other/api"),
    "profile without": ({"PREFECT_PROFILE": "without"}, {"home/profiles.toml": PROFILES}, None),
    "built-in profile": ({"PREFECT_PROFILE": "local", "PREFECT_HOME": "", "HOME": "nobody"}, {}, "http://127.0.0.1:4200/api"),
    "profiles elsewhere": ({}, {".env": "PREFECT_PROFILES_PATH=p.toml", "p.toml": PROFILES}, "http://mine/api"),
    "empty": ({"PREFECT_API_URL": ""}, {"home/profiles.toml": PROFILES}, None),
    "somebody else's pyproject": ({}, {"pyproject.toml": "[tool\n"}, None),
}
ASK_PREFECT = """
import json, sys, warnings
warnings.simplefilter("ignore")
from prefect.settings import get_current_settings
print(json.dumps(get_current_settings().api.url))
"""


@pytest.mark.parametrize("case", WHERE)
def test_the_address_is_read_from_every_place_that_may_name_it(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables, files, url = WHERE[case]
    put(tmp_path, files)
    for name in [name for name in os.environ if name.upper().startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    for name, value in {"PREFECT_HOME": str(tmp_path / "home"), **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    found = named_api_url()
    assert (found and found.url) == url


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in WHERE if "somebody" not in case])
def test_prefect_reads_the_same_address(case: str, tmp_path: Path) -> None:
    variables, files, url = WHERE[case]
    put(tmp_path, files)
    environment = clean(**{"PREFECT_HOME": str(tmp_path / "home"), **variables})
    said = subprocess.run(
        [sys.executable, "-c", ASK_PREFECT],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (json.loads(said) or None) == url


@pytest.mark.parametrize(
    ("variables", "files", "told"),
    [
        ({}, {"home/profiles.toml": "[profiles.x"}, ("profiles.toml is not valid TOML, but Prefect reads it",)),
        ({"PREFECT_API_URL": NAMED}, {"home/profiles.toml": "[profiles.x"}, ("profiles.toml is not valid TOML",)),
        ({}, {"prefect.toml": "[api"}, ("prefect.toml is not valid TOML",)),
        ({}, {"pyproject.toml": "[tool.prefect"}, ("pyproject.toml is not valid TOML",)),
        ({}, {"home/profiles.toml": "active = [1]"}, ("names the Prefect profile '[1]'", "profiles.toml does not define")),
        (
            {"PREFECT_PROFILE": "prod"},
            {},
            ("PREFECT_PROFILE names the Prefect profile 'prod'", "profiles.toml does not define"),
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line_with_its_name(
    variables: dict[str, str], files: dict[str, str], told: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, files)
    for name, value in {"PREFECT_HOME": str(tmp_path / "home"), **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as raised:
        named_api_url()
    assert all(text in str(raised.value) for text in told)


def test_a_missing_folder_and_a_pipe_do_not_stop_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    os.mkfifo(here / ".env")
    assert named_api_url() is None
    os.mkfifo(here / "prefect.toml")
    with pytest.raises(SettingsError, match="is a pipe, and Prefect waits forever to read it"):
        named_api_url()
    shutil.rmtree(here)
    assert named_api_url() is None


@contextmanager
def answering(status: int, kind: str, body: bytes) -> Iterator[str]:
    """A server that gives the same answer to everybody; its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


def one_error(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line that a command said."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def test_an_api_that_does_not_work_is_one_line_that_says_where_it_is_named(tmp_path: Path) -> None:
    home = {"PREFECT_HOME": str(tmp_path / "home"), "http_proxy": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9"}
    put(tmp_path, {"home/profiles.toml": f'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "{NAMED}"\n'})
    told = one_error(moderate(tmp_path, **home), 2)
    assert f"{NAMED} (PREFECT_API_URL from the profile 'mine' of {tmp_path}/home/profiles.toml) does not answer" in told
    told = one_error(moderate(tmp_path, **home, PREFECT_API_URL="http://u:secret@127.0.0.1:9x/"), 2)
    assert "(PREFECT_API_URL from the environment) is not an address" in told
    assert "secret" not in told
    told = one_error(moderate(tmp_path, **home, PREFECT_API_URL=f"{NAMED}\nx"), 2)
    assert "/api\u240ax (PREFECT_API_URL from the environment) is not an address" in told
    with answering(401, "application/json", b"{}") as url:
        put(tmp_path, {".env": f"PREFECT_API_URL={url}\n"})
        told = one_error(moderate(tmp_path, **home), 2)
    assert f"from {tmp_path}/.env) refuses the password (HTTP 401): set PREFECT_API_AUTH_STRING" in told
    with answering(200, "text/html", b"<html>") as url:
        told = one_error(moderate(tmp_path, **home, PREFECT_API_URL=url), 2)
    assert "is not Prefect's API" in told
    assert not (tmp_path / "out").exists()


def test_settings_above_prefects_limit_are_one_line_that_names_the_way_out(tmp_path: Path) -> None:
    folders = [f"{IMAGES_DIR}/{'x' * 100}/{number}" for number in range(4_000)]
    told = one_error(moderate(tmp_path, *folders), 2)
    assert "4,000 sources: give a manifest" in told


HOLD = """
import sys
from flows.prefect_api import prefect_api
from moderation.errors import ModerationError
try:
    with prefect_api(quiet=True):
        from prefect import flow
        from prefect.settings import get_current_settings
        flow(lambda: print("up", get_current_settings().api.url, flush=True), name="held")()
        sys.stdin.read()
except ModerationError as error:
    sys.exit(f"error: {error}")
"""


HOSTILE = {
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://nobody@127.0.0.1:9/x",
    "PREFECT_API_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////proc/x.db",
    "prefect_server_database_driver": "postgresql+asyncpg",
    "PREFECT_SERVER_API_HOST": "0.0.0.0",  # noqa: S104
    "PREFECT_SERVER_API_PORT": "1",
    "PREFECT_SERVER_API_AUTH_STRING": "x:y",
    "PREFECT_SERVER_API_BASE_PATH": "/elsewhere",
    "PREFECT_API_AUTH_STRING": "a:b",
    "PREFECT_API_KEY": "pnu_of_the_user",
    "PREFECT_API_REQUEST_TIMEOUT": "soon",
    "PREFECT_LOGGING_LEVEL": "DEBUG",
    "PREFECT_LOGGING_SETTINGS_PATH": "/proc/version",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
    "PREFECT_TEST_MODE": "1",
    "PREFECT_CLIENT_CUSTOM_HEADERS": "no json",
    "http_proxy": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "NO_PROXY": "corp.example",
    "HOME": "/proc",
}
"""What would break Prefect, or the temporary server, if it got that far."""
MODULES = ("random", "types", "logging", "json", "socket", "asyncio", "uvicorn", "prefect", "sqlalchemy", "flows", "moderation")


def test_nothing_around_the_user_reaches_the_temporary_server(tmp_path: Path) -> None:
    put(tmp_path, {f"{name}.py": f"raise SystemExit('{name} of the current folder')" for name in MODULES})
    put(tmp_path, {".env": "PREFECT_SERVER_API_HOST=0.0.0.0\nPREFECT_API_REQUEST_TIMEOUT=soon\n"})
    put(tmp_path, {"prefect.toml": "[results]\npersist_by_default = 7\n", "home/prefect.db": "of another version"})
    put(tmp_path, {"pyproject.toml": '[tool.prefect]\nserver.database.connection_url = "postgresql://nobody@127.0.0.1:9/x"\n'})
    before = sorted(tmp_path.rglob("*"))
    environment = clean(**HOSTILE, PREFECT_HOME=str(tmp_path / "home"), PYTHONDONTWRITEBYTECODE="1")
    command = [sys.executable, "-P", "-c", HOLD]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, input="", capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("up http://127.0.0.1:")
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "home" / "prefect.db").read_text() == "of another version"


@pytest.mark.slow
def test_a_disk_without_room_is_one_line(tmp_path: Path) -> None:
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"  # no file may grow further
    command = [sys.executable, "-P", "-c", full + HOLD]
    environment = clean(TMPDIR=str(tmp_path))
    done = subprocess.run(command, env=environment, input="", capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the temporary Prefect server could not start: cannot make its database: ")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def gone(pid: int, seconds: float = 30) -> bool:
    until = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists() and "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def test_the_temporary_server_goes_with_its_run_even_if_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD]
    environment = clean(TMPDIR=str(tmp_path))
    del environment["HOME"]
    run = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    up, url = run.stdout.readline().split()
    assert (up, url.startswith("http://127.0.0.1:")) == ("up", True)
    (server,) = [pid for pid, words in descendants(run.pid).items() if "flows.server_process" in words]
    assert os.getsid(server) == server  # Ctrl-C in the run's terminal is not for it
    (folder,) = tmp_path.glob("clip-moderation-prefect-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o077 == 0 for file in folder.iterdir() if file.name != "server.log")
    run.kill()
    run.wait()
    run.stdout.close()
    assert run.stdin is not None
    run.stdin.close()
    assert gone(server)
    assert list(tmp_path.iterdir()) == []


def in_own_network(setup: str, **environment: str) -> str:
    """What a temporary server says in a network namespace of its own, where loopback is set up like this."""
    require(needs_network_namespaces())
    command = f"{setup}; exec {sys.executable} -c '{HOLD}' </dev/null"
    done = subprocess.run(
        ["unshare", "-n", "bash", "-c", command],
        env=clean(**environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_loopback_may_know_ipv6_only_or_nothing_at_all() -> None:
    assert in_own_network("ip link set lo up; ip addr del 127.0.0.1/8 dev lo").startswith("up http://[::1]:")
    for setup in ("ip link set lo up; ip addr flush dev lo", "ip link set lo down"):
        nothing = in_own_network(setup)
        assert nothing.startswith("error: no port on loopback for the temporary Prefect server (127.0.0.1: ")
        assert len(nothing.splitlines()) == 1


OTHER = r"""
import json, socket, sys, urllib.error, urllib.request
pid, port, folder = sys.argv[1:]
said = {}
for path in ("/", "/api", "/api/health", "/api/ready", "/api/hello", "/api/admin/version", "/api/admin/settings", "/docs",
             "/api/docs", "/api/openapi.json", "/metrics", "/api/metrics", "/static/prefect-logo-mark-gradient.png"):
    for headers in ({}, {"Authorization": "Basic OjpwYXNzd29yZA=="}, {"Authorization": "Bearer x"}, {"Host": "x/api/health"}):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
        try:
            status = urllib.request.urlopen(request, timeout=60).status
        except urllib.error.HTTPError as error:
            status = error.code
        said[path + str(headers)] = status
for path in ("/api/block_documents/filter", "/api/flow_runs/filter"):
    try:
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=b"{}"), timeout=60)
        said[path] = 200
    except urllib.error.HTTPError as error:
        said[path] = error.code
for path in ("/api/events/in", "/api/events/out", "/api/logs/out"):
    with socket.create_connection(("127.0.0.1", int(port)), timeout=60) as raw:
        raw.sendall((f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: prefect\r\n"
                     "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n").encode())
        said[path] = int(raw.recv(64).split()[1])
files = {}
for path in (f"/proc/{pid}/environ", f"{folder}/prefect.db", f"{folder}/server.log", f"{folder}/"):
    try:
        open(path).read()
        files[path] = "read"
    except OSError as error:
        files[path] = type(error).__name__
print(json.dumps([said, files]))
""".replace("\\\\\\\\", "\\\\")


PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin")
"""One that other users may run; ours may lie in a home folder."""


@needs_root
@needs_setpriv
@needs(PYTHON is not None, "a python3 that other users may run", "apt-get install python3")
def test_another_user_of_the_machine_gets_no_answer_and_no_file() -> None:
    command = [sys.executable, "-c", HOLD]
    run = subprocess.Popen(command, env=clean(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert run.stdin is not None
    assert run.stdout is not None
    try:
        url = run.stdout.readline().split()[1]
        (server,) = [pid for pid, words in descendants(run.pid).items() if "flows.server_process" in words]
        commands = [Path(f"/proc/{pid}/cmdline").read_text() for pid in (run.pid, server)]
        variables = Path(f"/proc/{server}/environ").read_text().split("\0")
        (password,) = [value.partition("=")[2] for value in variables if value.startswith("PREFECT_SERVER_API_AUTH_STRING=")]
        folder = commands[1].split("\0")[-3]
        assert not any(password in words for words in commands)
        assert not any(password.encode() in file.read_bytes() for file in Path(folder).iterdir())
        assert not any(value.startswith(("AWS_", "PREFECT_API_KEY")) for value in variables)
        port = url.rpartition(":")[2].removesuffix("/api")
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/env", "-i"]
        other = [*nobody, str(PYTHON), "-c", OTHER, str(server), port, folder]
        said, files = json.loads(subprocess.run(other, capture_output=True, text=True, check=True, timeout=300).stdout)
        assert {path: status for path, status in said.items() if status not in (401, 403)} == {}
        assert set(files.values()) == {"PermissionError"}, files
        with_password = httpx.get(f"{url}/health", auth=tuple(password.split(":", 1)), trust_env=False, timeout=60)
        assert with_password.status_code == 200
        by_port = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=False).stdout
        own = [line.split()[3] for line in by_port.splitlines() if f"pid={server}," in line or f"pid={run.pid}," in line]
        assert not by_port or own == [f"127.0.0.1:{port}"]
    finally:
        run.stdin.close()
        run.wait(60)
        run.stdout.close()


CALLED = """
from prefect import flow
from prefect.settings import get_current_settings
from flows.standalone import standalone

@standalone
@flow(name="called")
def called(asked):
    return get_current_settings().api.url

print(called("x"), called.with_options(retries=1)("x"), get_current_settings().api.url)
"""


@pytest.mark.slow
def test_a_flow_that_python_calls_has_a_server_of_its_own_too(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    environment = clean(PREFECT_HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", CALLED], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    first, second, after = done.stdout.split()
    assert first.startswith("http://127.0.0.1:")
    assert second.startswith("http://127.0.0.1:")
    assert after == "None"
    assert [path.name for path in (tmp_path / "home").iterdir() if path.suffix == ".db"] == []
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
