"""Starting the studio: a port of this machine, a link with a token, and an end that leaves nothing behind."""

import contextlib
import getpass
import html
import socket
import tempfile
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from moderation.errors import SettingsError
from moderation.studio.access import Keys
from moderation.studio.app import app
from moderation.studio.audit import AuditLog, default_place
from moderation.studio.gate import BODY_SECONDS
from moderation.studio.protocol import HEADER_SECONDS, PromptProtocol
from moderation.studio.studio import Studio

PORT = 8765
"""Tried first where no port is asked for."""
CONNECTIONS = 200
"""At a time; more are answered with 503."""
_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that clients may take."""

    headers: float = HEADER_SECONDS
    body: float = BODY_SECONDS


def serve(
    results: str,
    policies: Sequence[Path] = (),
    port: int | None = None,
    *,
    browser: bool = True,
    ready: Callable[[str], None],
    audit: Path | None = None,
) -> None:
    """Run the studio until a signal ends it.

    Args:
        results: the output of runs.
        policies: files that may be edited.
        port: which to listen on; None: `PORT`, or another if that is in use.
        browser: whether to open a browser.
        ready: called with the link as soon as it works.
        audit: where the audit log is; None: in the user's own folder.

    Raises:
        SettingsError: the port is in use, there is no such file, or nothing can be shown.
        OutputError: the results or the audit log cannot be used.
    """
    for path in policies:
        if not path.is_file():
            raise SettingsError(f"--policy: there is no file {str(path)!r}")
    with listening(port) as listener, opened(results, policies, listener.getsockname()[1], audit) as studio:
        if not studio.runs():
            raise SettingsError(f"there is no run under {studio.output.uri}: give the --output of `moderate run`")

        with tempfile.TemporaryDirectory(prefix="clip-moderation-studio-") as folder:

            def started() -> None:
                ready(studio.keys.link)
                if browser:
                    webbrowser.open(_way_in(Path(folder), studio.keys.link).as_uri())

            server(studio, started).run([listener])


@contextlib.contextmanager
def opened(results: str, policies: Sequence[Path], port: int, audit: Path | None = None) -> Iterator[Studio]:
    """A studio with new keys; what it started ends with it. Raises `OutputError`."""
    log = AuditLog(audit or default_place(), results, _user())
    log.open()
    studio = Studio(results, policies, Keys(port), log)
    try:
        yield studio
    finally:
        studio.close()


class Server(uvicorn.Server):
    """Says when it is ready. `run` answers requests until a signal comes, or `should_exit` is set."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self._started()


def server(studio: Studio, started: Callable[[], None], patience: Patience | None = None) -> Server:
    """The server of a studio. `started` is called when it is ready."""
    patience = patience or Patience()
    protocol = type("Protocol", (PromptProtocol,), {"header_seconds": patience.headers})
    config = uvicorn.Config(
        app(studio, patience.body),
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,  # the first line of a request may have the token
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=2,
    )
    return Server(config, started)


@contextlib.contextmanager
def listening(port: int | None) -> Iterator[socket.socket]:
    """A socket that listens on loopback. Raises `SettingsError` if the port cannot be used."""
    tried = (PORT, 0) if port is None else (port,)
    for number in tried:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_HOST, number))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if number != tried[-1]:
                continue
            reason = (error.strerror or str(error)).lower()
            raise SettingsError(
                f"--port {number}: cannot listen on it: {reason}; give another, or none for any that is free"
            ) from None
        with listener:
            yield listener
        return


def _way_in(folder: Path, link: str) -> Path:
    """A page for the browser that leads to the link: everybody on the machine sees the arguments of a program."""
    path = folder / "studio.html"
    link = html.escape(link)
    path.write_text(
        f'<!doctype html><meta charset="utf-8"><title>Studio</title><meta http-equiv="refresh" content="0; url={link}">'
        f'<a href="{link}">Open the studio</a>\n'
    )
    return path


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
