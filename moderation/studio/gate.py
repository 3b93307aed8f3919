"""What stands before every page: keys, limits of size and time, and the headers that browsers obey."""

import asyncio
import html
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moderation.studio.access import SAFE_METHODS, Keys, Refusal, refusal, same, stranger

MAX_BODY = 2 << 20
"""Bytes of a request's body."""
MAX_PICTURE = 32 << 20
"""Bytes of a picture to search by."""
PICTURE_PATH = "/search/picture"
BODY_SECONDS = 20.0
"""Time in which the whole body must arrive."""
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class Gate:
    """Lets through what may pass, to an app that then sees whole bodies only."""

    def __init__(self, app: ASGIApp, keys: Keys, body_seconds: float = BODY_SECONDS) -> None:
        self._app = app
        self._keys = keys
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # WebSockets
            await send({"type": "websocket.close", "code": 1008})
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._answer(scope)
        if answer is not None:
            await answer(scope, receive, guarded)
            return
        body = b""
        if scope["method"] not in SAFE_METHODS:
            read = await self._body(scope, receive)
            if isinstance(read, Refusal):
                await _refused(read)(scope, receive, guarded)
                return
            body = read
        await self._app(scope, _Whole(body, receive), guarded)

    def _answer(self, scope: Scope) -> Response | None:
        """What is answered without asking the app."""
        headers = {name.lower(): value for name, value in Headers(scope=scope).items()}
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        token = next((value for name, value in query if name == "token"), None)
        if token is not None and scope["method"] == "GET":
            found = stranger(self._keys, scope["method"], headers)
            if found is None and same(token, self._keys.token):
                return _welcome(self._keys, scope["path"], [(name, value) for name, value in query if name != "token"])
            return _refused(found or Refusal(401, "the token in this link is of an earlier start of the studio"))
        refused = refusal(self._keys, scope["method"], headers)
        return None if refused is None else _refused(refused)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | Refusal:
        most = MAX_PICTURE if scope["path"] == PICTURE_PATH else MAX_BODY
        too_large = Refusal(413, f"more than the {most:,} bytes that may be sent here")
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdecimal() or int(length) > most:
            return too_large
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return Refusal(400, "the request broke off")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        return too_large
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            return Refusal(408, f"the request took longer than {self._body_seconds:g} seconds to arrive")


class _Whole:
    """A body that has arrived, and then whatever the server says."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive()


def _refused(refused: Refusal) -> Response:
    # What was not read of the request cannot be told from the next one.
    return PlainTextResponse(f"{refused.reason}\n", refused.status, headers={"Connection": "close"})


def _welcome(keys: Keys, path: str, query: list[tuple[str, str]]) -> Response:
    """Gives the cookie, and goes on without the token.

    By a page and not by a redirect: a link in another page, such as a terminal in the browser, makes this a request from
    another site, and the redirected one would go without the cookie.
    """
    onward = html.escape(
        (path if path.startswith("/") and not path.startswith("//") else "/") + (f"?{urlencode(query)}" if query else "")
    )
    answer = HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Studio</title><link rel="icon" href="data:,">'
        f'<meta http-equiv="refresh" content="0; url={onward}"><p><a href="{onward}">Open the studio</a></p></html>'
    )
    answer.set_cookie(keys.cookie, keys.session, httponly=True, samesite="strict", path="/")
    return answer
