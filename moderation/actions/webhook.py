"""Sends signed messages to a URL. The only file of this package that knows HTTP.

Certificates are verified, redirects are not followed, no more of an answer is read than a message needs, and one time limit
covers everything from connecting to the last byte.
"""

import asyncio
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import TracebackType
from typing import Self

import httpx

from moderation.actions.deliveries import Delivery, Result
from moderation.actions.dispatch import Answer
from moderation.actions.secret_values import SecretValues
from moderation.actions.signing import key_bytes, signature
from moderation.actions.targets import Webhook
from moderation.errors import SettingsError

MOST_BYTES = 64 * 1024
"""Read of an answer; the rest is not."""
SHOWN_CHARACTERS = 200
"""Of an answer's body in a reason."""
AGAIN = frozenset({408, 425, 429, *range(500, 600)})
"""Statuses after which another attempt may succeed."""


class WebhookSender:
    """Attempts to deliver, over connections that are kept while its context lasts, which can be entered several times.

    Raises `SettingsError` for a key that cannot sign, a URL or certificates that cannot be used.
    """

    def __init__(self, webhook: Webhook, secrets: SecretValues) -> None:
        self._webhook, self._timeout_s, self._secrets = webhook, webhook.timeout_s, secrets
        self._keys = tuple(key_bytes(key) for key in secrets.keys)
        try:
            self._url = httpx.URL(secrets.url)
            # Reading the authorities takes a while. Unencrypted, there are none to read.
            encrypted = self._url.scheme == "https"
            self._tls = httpx.create_ssl_context() if encrypted else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        except (httpx.InvalidURL, ValueError, OSError) as error:
            raise SettingsError(f"cannot use the webhook's URL or certificates: {secrets.hide(str(error))}") from None

    async def __aenter__(self) -> Self:
        most = self._webhook.connections
        self._client = httpx.AsyncClient(
            headers={"user-agent": "clip-moderation", "accept-encoding": "identity", **self._secrets.headers},
            timeout=self._timeout_s,
            limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
            follow_redirects=False,
            verify=self._tls,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def attempt(self, delivery: Delivery) -> Answer:
        """Send one message once."""
        body = delivery.payload.encode()
        timestamp = int(time.time())
        headers = {
            "content-type": "application/json",
            "idempotency-key": delivery.key,
            "webhook-id": delivery.key,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._keys, delivery.key, timestamp, body),
        }
        status, answered, text = 0, httpx.Headers(), b""
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._client.stream("POST", self._url, content=body, headers=headers) as response,
            ):
                status, answered = response.status_code, response.headers
                async for piece in response.aiter_raw():
                    text += piece[: MOST_BYTES - len(text)]
                    if len(text) >= MOST_BYTES:
                        break
        except (httpx.HTTPError, httpx.StreamError, TimeoutError, OSError, ValueError) as error:
            if not status:
                return Answer(Result.FAILED, self._secrets.hide(_in_words(error, self._timeout_s)))
        return self._judged(status, answered, text)

    def _judged(self, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
        if 200 <= status < 300:
            return Answer(Result.DELIVERED)
        phrase = HTTPStatus(status).phrase if status in list(HTTPStatus) else ""
        reason = f"HTTP {status} {phrase}".strip()
        if 300 <= status < 400:
            return Answer(Result.PARKED, f"{reason}: redirects are not followed: give the final URL")
        said = self._secrets.hide(body.decode(errors="replace"))[:SHOWN_CHARACTERS]
        reason = f"{reason}: {said}" if said else reason
        if status in AGAIN:
            return Answer(Result.FAILED, reason, _pause(headers.get("retry-after")))
        return Answer(Result.PARKED, reason)


def _pause(header: str | None) -> float | None:
    """Seconds that `Retry-After` asks for: a number, or a date. None where it cannot be read."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())


def _in_words(error: Exception, timeout_s: float) -> str:
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, httpx.RemoteProtocolError):
        return "the connection was closed before the answer was complete"
    return str(error) or type(error).__name__
