"""HTTP/1.1 as uvicorn speaks it, with a time limit for headers, which uvicorn does not have."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0
"""Time in which a connection must have sent the headers of its first request, or all headers of a later one."""


class PromptProtocol(H11Protocol):
    """Closes connections that are slow to say what they want."""

    header_seconds = HEADER_SECONDS
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        super().connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        """It says something."""
        super().data_received(data)
        if self._in_request():
            self._no_longer()
        elif self._late is None:
            self._await_headers()

    def on_response_complete(self) -> None:
        """It has its answer."""
        super().on_response_complete()
        if self._in_request():  # the next one was sent at once
            self._no_longer()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._no_longer()
        super().connection_lost(exc)

    def _in_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_headers(self) -> None:
        self._late = self.loop.call_later(self.header_seconds, self._close)

    def _no_longer(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _close(self) -> None:
        self._late = None
        if not self._in_request() and self.conn.their_state is not h11.DONE and self.transport is not None:
            self.transport.close()
