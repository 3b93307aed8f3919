"""A fast stand-in for the GETs of S3: nginx, which serves a folder's files as the objects of buckets, on loopback.

It knows HEAD, GET, ranges and If-Match, and neither lists nor checks signatures: what is measured is the client.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from moderation.errors import RunError, SettingsError

PLACES = os.pathsep.join(["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"])
"""Where nginx is that no PATH names."""
START_S = 10.0

_CONFIG = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    open_file_cache max=100000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port};
        root "{folder}";
    }}
}}
"""


def find_nginx() -> str:
    """The path of nginx. Raises `SettingsError` if it is not installed."""
    found = shutil.which("nginx") or shutil.which("nginx", path=PLACES)
    if found is None:
        raise SettingsError("nginx, from which this benchmark fetches, is not installed: apt-get install nginx-light")
    return found


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """Serve `folder`, whose subfolders are the buckets, in one process for the time of the block. Yields `http://127.0.0.1:PORT`.

    Raises:
        SettingsError: nginx is not installed, or cannot serve this folder.
        RunError: it does not start.
    """
    root = str(folder.resolve())
    if any(character in root for character in '"\\${}\n'):
        raise SettingsError(
            f"nginx cannot serve {root!r}: choose a folder without quotes, backslashes, $ and braces in its name"
        )
    program = find_nginx()
    with tempfile.TemporaryDirectory() as own, open(Path(own) / "errors", "wb") as errors:
        port = _free_port()
        config = Path(own) / "nginx.conf"
        config.write_text(_CONFIG.format(port=port, folder=root))
        server = subprocess.Popen([program, "-e", "stderr", "-p", own, "-c", str(config)], stderr=errors)
        try:
            _wait_for(server, port, errors)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait()


@contextlib.contextmanager
def s3_from(endpoint: str) -> Iterator[None]:
    """Have all clients of S3 in this process, and in those it starts, go to `endpoint` for the time of the block."""
    settings = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "asks",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",  # which obstore asks for, boto3 does not
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def etag(path: Path) -> str:
    """What nginx gives as the ETag of a file, without quotes: hexadecimal seconds of its last change, and bytes."""
    found = path.stat()
    return f"{int(found.st_mtime):x}-{found.st_size:x}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(server: "subprocess.Popen[bytes]", port: int, errors: IO[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    said = " ".join(Path(errors.name).read_text(errors="replace").split())[:300]
    raise RunError(f"nginx does not serve on port {port}: {said or f'no answer within {START_S:g} s'}")
