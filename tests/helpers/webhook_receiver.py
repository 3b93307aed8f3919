"""A receiver of webhooks over real HTTP, which does what receivers and networks do, and keeps what it received."""

import base64
import hashlib
import hmac
import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

KEY = "whsec_" + base64.b64encode(b"k" * 32).decode()
"""The signing key of the tests."""


@dataclass(frozen=True)
class Reply:
    """What the receiver does with a request."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    fault: str = ""
    """close | half: the connection ends before, or within, the answer | hang: no answer | endless: a body that never ends"""


@dataclass(frozen=True)
class Message:
    """A request that came in, and what was done with it."""

    number: int
    headers: Mapping[str, str]
    body: bytes
    reply: Reply

    @property
    def content(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def uri(self) -> str:
        return str(self.content["item"]["uri"])

    @property
    def accepted(self) -> bool:
        return self.reply.status == 200 and self.reply.fault in ("", "endless", "half")


Script = Callable[[int, dict[str, Any]], Reply]
"""the number of the request, from 0, and its message -> what to do"""


def accept(number: int, message: dict[str, Any]) -> Reply:
    return Reply()


class Receiver:
    """Listens on loopback. `messages` has every request, in the order in which they came."""

    def __init__(self, script: Script = accept, certificate: Path | None = None) -> None:
        self.script, self._scheme = script, "https" if certificate else "http"
        self.messages: list[Message] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                reply = receiver._received({name.lower(): value for name, value in self.headers.items()}, body)
                if reply.fault == "hang":
                    receiver._ended.wait()
                if reply.fault in ("close", "hang"):
                    self._cut()
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.fault == "endless":
                    self.send_header("transfer-encoding", "chunked")
                    self.end_headers()
                    self._flood()
                    return
                self.send_header("content-length", str(len(reply.body) + (100 if reply.fault == "half" else 0)))
                self.end_headers()
                self.wfile.write(reply.body)
                if reply.fault == "half":
                    self.wfile.flush()
                    self._cut()

            def _cut(self) -> None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

            def _flood(self) -> None:
                self.close_connection = True
                try:
                    while not receiver._ended.is_set():
                        self.wfile.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                except OSError:
                    return

            def log_message(self, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # The handshake belongs to the thread of the connection: a refused one must not end the server.
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
            self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/moderation"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _received(self, headers: Mapping[str, str], body: bytes) -> Reply:
        with self._lock:
            number = len(self.messages)
            reply = self.script(number, json.loads(body))
            self.messages.append(Message(number, headers, body, reply))
            return reply

    def accepted(self) -> list[Message]:
        return [message for message in self.messages if message.accepted]

    def actions(self) -> dict[str, list[str]]:
        """By URI, the actions that were accepted, repeats of one message left out."""
        found: dict[str, list[str]] = {}
        seen: set[str] = set()
        for message in self.accepted():
            key = message.content["id"]
            if key not in seen:
                seen.add(key)
                found.setdefault(message.uri, []).append(message.content["action"])
        return found


def verified(message: Message, key: str = KEY) -> bool:
    """Whether a receiver accepts the signature: written from the Standard Webhooks specification."""
    secret = base64.b64decode(key.removeprefix("whsec_"))
    headers = message.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + message.body
    expected = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    given = [part.partition(",") for part in headers["webhook-signature"].split(" ")]
    return any(version == "v1" and hmac.compare_digest(value, expected) for version, _, value in given)
