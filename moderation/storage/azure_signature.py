"""Shared Key: how requests to Azure Blob Storage are signed with the key of an account.

https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

_SIGNED = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)


class SharedKey(NamedTuple):
    """An account and its secret key."""

    account: str
    key: bytes

    def __repr__(self) -> str:
        return f"SharedKey({self.account!r})"

    def authorization(self, method: str, url: str, headers: Mapping[str, str]) -> str:
        """The header `Authorization` for a request without a body. `headers`: names in lower case."""
        parts = urlsplit(url)
        own = sorted((name, value) for name, value in headers.items() if name.startswith("x-ms-"))
        asked: dict[str, list[str]] = {}
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            asked.setdefault(name.lower(), []).append(value)
        lines = [
            method,
            *(headers.get(name, "") for name in _SIGNED),
            *(f"{name}:{value}" for name, value in own),
            f"/{self.account}{parts.path}",
            *(f"{name}:{','.join(sorted(values))}" for name, values in sorted(asked.items())),
        ]
        signature = hmac.new(self.key, "\n".join(lines).encode(), hashlib.sha256).digest()
        return f"SharedKey {self.account}:{base64.b64encode(signature).decode()}"
