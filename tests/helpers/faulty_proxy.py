"""A faulty HTTP proxy to put in front of an S3 endpoint: what networks and busy stores do, on purpose and by a seed."""

import http.client
import random
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Self
from urllib.parse import urlsplit

FAULTS = ("slow_down", "reset", "lost_answer", "cut_body")
"""answer 503 | reset the connection | forward the request, then reset | announce the whole body, send half of it"""


class Answer(NamedTuple):
    """What the proxy says instead of the endpoint, or one of `FAULTS` to do."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}
    fault: str = ""


Rule = Callable[[str, str, Mapping[str, str], bytes], Answer | None]
"""method, path with query, headers (names in lower case), body -> what to do instead of forwarding"""


def s3_error(status: int, code: str, message: str = "no", headers: Mapping[str, str] | None = None, inner: str = "") -> Answer:
    """An error as S3 writes it; `inner` is XML that goes beside code and message."""
    body = f'<?xml version="1.0"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{inner}</Error>'
    return Answer(status, body.encode(), {"Content-Type": "application/xml", **(headers or {})})


class FaultyProxy:
    """Forwards to `target`, and for a share `rate` of the requests does one of `FAULTS` instead, drawn by `seed`.

    `rule` is asked first. `faults` counts what was done on purpose, by name (`rule` for its answers); `requests` all.
    With `tls`, the proxy itself speaks HTTPS.
    """

    def __init__(self, target: str, seed: int, rate: float = 0.0, tls: ssl.SSLContext | None = None) -> None:
        self.target = urlsplit(target)
        self._lock = threading.Lock()
        self.begin_again(seed, rate)
        self._server = _Server(self, tls)
        self.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.cut_all()

    def begin_again(self, seed: int, rate: float = 0.0) -> None:
        """As new: no rule, nothing counted."""
        self.rate = rate
        self.rule: Rule | None = None
        self.faults: Counter[str] = Counter()
        self.requests = 0
        self._random = random.Random(seed)

    def decide(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer | None:
        """What to do with a request; None: forward it."""
        answer = self.rule(method, path, headers, body) if self.rule else None
        with self._lock:
            self.requests += 1
            if answer is None and self._random.random() < self.rate:
                answer = Answer(fault=self._random.choice(FAULTS))
            if answer is not None:
                self.faults[answer.fault or "rule"] += 1
        if answer is not None and answer.fault == "slow_down":
            return s3_error(503, "SlowDown", "please reduce your request rate")
        return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, proxy: FaultyProxy, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy
        self._open: set[socket.socket] = set()
        if tls:  # the handshake waits for the connection's own thread
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def process_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:
        super().shutdown_request(request)
        self._open.discard(request)

    def handle_error(self, request: socket.socket, client_address: tuple[str, int]) -> None:
        """Clients that go away are no news."""

    def cut_all(self) -> None:
        """End connections that clients keep alive."""
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _handle(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        answer = self.server.proxy.decide(self.command, self.path, headers, body)
        if answer is None:
            self._send(*self._forward(body))
        elif not answer.fault:
            self._send(answer.status, dict(answer.headers), answer.body)
        elif answer.fault == "reset":
            self._reset()
        else:
            status, sent, content = self._forward(body)
            if answer.fault == "cut_body" and content:
                self._send(status, sent, content, len(content) // 2)
            self._reset() if answer.fault == "lost_answer" else self._end()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815 - names that http.server wants

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        target = self.server.proxy.target
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.putheader("Connection", "close")
            connection.endheaders(body)
            answer = connection.getresponse()
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in _OWN}
            if self.command == "HEAD":
                headers["Content-Length"] = answer.getheader("Content-Length", "0")
            return answer.status, headers, answer.read()
        finally:
            connection.close()

    def _send(self, status: int, headers: dict[str, str], body: bytes, length: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:length])

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end()

    def _end(self) -> None:
        self.close_connection = True
        self.rfile.close()
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server gives it
        """Quiet."""


_OWN = {"connection", "content-length", "transfer-encoding", "keep-alive"}


def once(does, method="", text=""):
    """A rule that holds for the first request that fits."""
    left = [1]

    def rule(asked, path, headers, body):
        return does if asked.startswith(method) and text in path and left and left.pop() else None

    return rule
