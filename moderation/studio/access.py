"""Who may speak to the studio. Pure: the keys of one start, and what is refused.

Anything on the machine can open a connection to a loopback port, and any web page can make a browser open one. So a request
must name this server as its host (DNS rebinding), carry the cookie that only the link with the token gives, and not come from
another site's page; a write also needs the number that only the studio's own pages know.
"""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie

SAFE_METHODS = frozenset({"GET", "HEAD"})
METHODS = SAFE_METHODS | {"POST"}


def _key() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class Keys:
    """The secrets of one start of the studio. 256 bits each."""

    port: int
    token: str = field(default_factory=_key, repr=False)
    """stands in the link"""
    session: str = field(default_factory=_key, repr=False)
    """stands in the cookie"""
    csrf: str = field(default_factory=_key, repr=False)
    """stands in the pages, and comes back with each write"""

    @property
    def cookie(self) -> str:
        """Name of the cookie: browsers send cookies of one port to all ports."""
        return f"studio-{self.port}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """What a browser may call this server."""
        return f"127.0.0.1:{self.port}", f"localhost:{self.port}"

    @property
    def link(self) -> str:
        """What lets a person in."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered. The reason is shown to whoever asked: it names no secret."""

    status: int
    reason: str


def same(given: str, key: str) -> bool:
    """Whether these are equal, in a time that does not tell how far they are."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), key.encode())


def stranger(keys: Keys, method: str, headers: Mapping[str, str]) -> Refusal | None:
    """What is wrong with a request before it is asked for its keys. `headers` by their names in lower case."""
    if method not in METHODS:
        return Refusal(405, "this method is not used here")
    host = headers.get("host", "")
    if host.lower() not in keys.hosts:
        return Refusal(421, "this server has another name: open the link that `moderate studio` printed")
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"http://{host.lower()}":
        return Refusal(403, "requests from other sites are refused")
    site = headers.get("sec-fetch-site", "none")
    if site not in ("none", "same-origin") and not _opens_a_page(method, headers):
        return Refusal(403, "requests from other sites are refused")
    return None


def refusal(keys: Keys, method: str, headers: Mapping[str, str]) -> Refusal | None:
    """Why a request without the token in its link is refused; None where it is not. Raises nothing."""
    found = stranger(keys, method, headers)
    if found is not None:
        return found
    if not same(_cookie(keys, headers), keys.session):
        return Refusal(401, "open the link that `moderate studio` printed: it has the token, and each start has a new one")
    if method not in SAFE_METHODS:
        if headers.get("origin") is None:
            return Refusal(403, "a write must say where it comes from")
        if not same(headers.get("x-csrf-token", ""), keys.csrf):
            return Refusal(403, "this page is of an earlier start of the studio: reload it")
    return None


def _opens_a_page(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a person follows a link from elsewhere: harmless, since no page of another site sees the answer."""
    return method == "GET" and headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _cookie(keys: Keys, headers: Mapping[str, str]) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(keys.cookie)
    except CookieError:
        return ""
    return found.value if found is not None else ""
