"""Environment variables that say how to reach a store."""

import ipaddress
import os
from urllib.parse import urlsplit

from moderation.errors import ErrorCode, StorageError

_TRUE = frozenset({"1", "true", "yes", "on", "y"})


def setting(*names: str) -> str:
    """The first of these variables that is set and not empty; else ""."""
    return next((value for name in names if (value := os.environ.get(name, "").strip())), "")


def is_on(*names: str) -> bool:
    """Whether one of these switches is on."""
    return setting(*names).lower() in _TRUE


def checked_endpoint(name: str, url: str, switch: str) -> str:
    """The URL that the variable `name` gives, without a slash at its end.

    Raises:
        StorageError: it is no URL, or goes over plain http to another machine and `switch` is not on.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise StorageError(ErrorCode.STORAGE_ERROR, f"{name} is not an endpoint: give a URL such as https://host:port")
    if parts.username or parts.password:
        raise StorageError(ErrorCode.STORAGE_ERROR, f"{name} contains a user name or password: leave them out")
    if parts.scheme == "http" and not _is_loopback(host) and not is_on(switch):
        text = f"{name} goes to {host} over http, which others can read: use https, or set {switch}=true"
        raise StorageError(ErrorCode.STORAGE_ERROR, text)
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
