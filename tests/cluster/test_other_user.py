"""Another user of the machine gets at nothing that a run's Ray starts, writes or listens on."""

import contextlib
import os
import signal
import socket
import ssl
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from needs import needs_root
from other_user import NOBODY, as_nobody
from own_rays import Driver, driver_with_ray, wait_until
from places import ROOT
from ports import answer, listeners
from support import descendants

from moderation.cluster.certificate import make_certificate
from moderation.cluster.private_folder import PREFIX, private_folder
from moderation.errors import SettingsError

pytestmark = needs_root


SHARED = ("/tmp/", "/dev/shm/", "/var/tmp/", "/run/")  # noqa: S108 - places that all users share


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    with driver_with_ray() as driver:
        yield driver


@pytest.fixture(scope="module")
def theirs() -> Iterator[tuple[str, str]]:
    """Certificate and key that another user has made."""
    with tempfile.TemporaryDirectory() as folder:
        made = make_certificate(Path(folder))
        for path in (folder, made.certificate, made.key):
            os.chown(path, NOBODY, NOBODY)
        yield str(made.certificate), str(made.key)


def token_of(driver: Driver) -> str:
    variables = Path(f"/proc/{driver.actor}/environ").read_bytes().decode().split("\0")
    return dict(variable.split("=", 1) for variable in variables if variable)["RAY_AUTH_TOKEN"]


def open_paths(driver: Driver) -> set[str]:
    """Files and folders that the run's processes have open or mapped below places that all users share."""
    found = set()
    for process in [driver.process.pid, *driver.processes]:
        links = [*Path(f"/proc/{process}/fd").iterdir(), Path(f"/proc/{process}/cwd")]
        with contextlib.suppress(OSError):
            found |= {str(link.readlink()) for link in links}
        maps = Path(f"/proc/{process}/maps").read_text().splitlines()
        found |= {line.split(maxsplit=5)[5] for line in maps if len(line.split(maxsplit=5)) == 6}
    own = (sys.prefix, str(ROOT))  # the program itself may have been installed there
    return {path for path in found if path.startswith(SHARED) and not path.startswith(own)}


def reached(paths: list[str]) -> list[str]:
    """What a process can do with some paths: enter, read, write, replace, connect."""
    can = []
    for path in paths:
        for what, flags in (("read", os.O_RDONLY), ("write", os.O_WRONLY)):
            with contextlib.suppress(OSError):
                os.close(os.open(path, flags))
                can.append(f"{what} {path}")
        with contextlib.suppress(OSError):
            Path(path).rename(path + ".theirs")
            can.append(f"replace {path}")
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            can.append(f"connect to {path}")
    return can


def test_no_file_of_a_run_can_be_reached(driver: Driver) -> None:
    files = [str(path) for path in driver.folder.rglob("*")]
    names = {Path(path).name for path in files}
    assert any(name.startswith("gcs_server_port_") for name in names)  # the one that was swapped
    assert {"plasma_store", "raylet", "key.pem", "certificate.pem", "raylet.out"} <= names
    assert reached([next(path for path in files if path.endswith("/key.pem"))])  # by root, for whom the test works
    assert as_nobody(reached, [str(driver.folder), *files]) == []
    status = driver.folder.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o700, os.getuid())


def test_a_run_has_nothing_open_but_in_its_folder(driver: Driver) -> None:
    paths = open_paths(driver)
    assert any(path.startswith(str(driver.folder)) for path in paths)
    rest = {path for path in paths if not path.startswith(str(driver.folder))}
    assert {path for path in rest if not path.endswith(" (deleted)")} == set()  # the object store has no name


def without_certificate(host: str, port: int, files: tuple[str, str] | None) -> str:
    """What somebody gets who speaks TLS, with a certificate of their own or none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if files:
        context.load_cert_chain(*files)
    try:
        with socket.create_connection((host, port), 30) as plain, context.wrap_socket(plain) as client:
            client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5))
            return client.recv(1000).hex()
    except OSError as error:
        return f"nothing: {type(error).__name__}"


def test_no_port_answers_without_the_certificate_of_the_run(driver: Driver, theirs: tuple[str, str]) -> None:
    ports = listeners(driver.process.pid)
    seen = " ".join(port.process for port in ports)
    assert all(name in seen for name in ("the run", "/gcs_server ", "/raylet ", "ray::"))
    assert [port for port in ports if not port.on_loopback] == []
    for port in ports:
        said = [as_nobody(without_certificate, "127.0.0.1", port.port, given) for given in (None, theirs)]
        assert {one.partition(":")[0] or "nothing" for one in said} == {"nothing"}, (port, said)
        assert answer(port).startswith("nothing"), port


def test_only_what_a_run_needs_is_started(driver: Driver) -> None:
    commands = list(descendants(driver.process.pid).values())
    names = {command.split(" ")[0].rpartition("/")[2]: command for command in commands}
    kinds = {"worker" if name.startswith("ray::") else name for name in names if not name.startswith("python")}
    assert kinds == {"gcs_server", "raylet", "sleep", "worker"}
    python = [command for command in commands if command.split(" ")[0].rpartition("/")[2].startswith("python")]
    assert [command for command in python if "cleaner.py" not in command and "default_worker.py" not in command] == []


def commands() -> str:
    """What every user sees of all processes, and of the environment of those that they may see."""
    seen = []
    for entry in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                seen.append((entry / name).read_bytes().decode(errors="replace"))
    return "\n".join(seen)


def test_the_token_is_in_no_command_line(driver: Driver) -> None:
    seen = as_nobody(commands)
    assert str(driver.folder) in seen
    assert token_of(driver) not in seen


def standing_in(port: int, certificate: tuple[str, str], seconds: float) -> list[str]:
    """Listen on a port that a dead process has left, and return what whoever comes says, in hexadecimal."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.set_alpn_protocols(["h2"])
    said = []
    until = time.monotonic() + seconds
    with socket.socket(socket.AF_INET6) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("::ffff:127.0.0.1", port))
        server.listen(50)
        server.settimeout(1)
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                connection = server.accept()[0]
                connection.settimeout(2)
                said.append(connection.recv(10_000, socket.MSG_PEEK).hex())
                with context.wrap_socket(connection, server_side=True) as client:
                    client.sendall(bytes(3) + b"\4" + bytes(5))
                    said.append("within TLS: " + client.recv(10_000).hex())
    return said


def test_the_token_goes_to_nobody_who_stands_in_for_a_process_that_died(theirs: tuple[str, str]) -> None:
    with driver_with_ray() as driver:
        token = token_of(driver)
        [(port, gcs)] = [(port.port, port.process) for port in listeners(driver.process.pid) if "/gcs_server " in port.process]
        [pid] = [pid for pid, name in descendants(driver.process.pid).items() if name == gcs]
        os.kill(pid, signal.SIGKILL)
        said = as_nobody(standing_in, port, theirs, 8.0)
    assert said  # somebody came
    assert {one[:4] for one in said} == {"1603"}  # and said nothing but the beginning of TLS
    assert token.encode().hex() not in "".join(said)


def test_a_temporary_folder_that_other_users_can_change_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    open_to_all = tmp_path / "open"
    (open_to_all / "own").mkdir(parents=True)
    open_to_all.chmod(0o777)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    (tmp_path / "link").symlink_to(open_to_all / "own")
    for parent in (open_to_all, open_to_all / "own", theirs, tmp_path / "link"):
        with pytest.raises(SettingsError, match=r"other users can replace what is in .*: set RAY_TMPDIR to your own folder"):
            private_folder(parent).__enter__()
    open_to_all.chmod(0o1777)  # as /tmp
    with private_folder(open_to_all) as folder:
        assert folder.name.startswith(PREFIX)
    wait_until(lambda: not folder.exists(), "the folder is still there")
    open_to_all.chmod(0o777)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")  # where volumes are like this, and nobody else is
    with private_folder(open_to_all):
        pass
