"""The hashes of a ThreatExchange privacy group, page by page: `GET /{group}/threat_updates`.

https://developers.facebook.com/docs/threat-exchange/reference/apis/threat-updates. A Hasher-Matcher-Actioner server gives no
hashes out: its API looks single ones up and adds some, and its banks are filled from the same exchanges.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from moderation.common.loopback import HOSTS
from moderation.errors import SettingsError
from moderation.lists.hash_list import HashKind

URL = "https://graph.facebook.com/v19.0"
TOKEN = "TX_ACCESS_TOKEN"  # noqa: S105 - the variable's name
TYPES = {HashKind.PDQ: "HASH_PDQ", HashKind.SHA256: "HASH_SHA256", HashKind.MD5: "HASH_MD5"}
_FIELDS = "id,indicator,type,last_updated,should_delete,status,tags,descriptors{status,tags}"
_PAGE = 500
_MAX_ANSWER = 64 << 20
_TRIES = 5
_TIMEOUT_S = 60.0
_AGAIN = (429, 500, 502, 503, 504)


def threat_updates(
    group: str, kind: HashKind, token: str, url: str = URL, *, sleep: Callable[[float], None] = time.sleep
) -> Iterator[dict[str, Any]]:
    """The entries of a privacy group, as `moderation.lists.reading` reads them: one object each.

    Args:
        group: the privacy group's number.
        kind: which hashes.
        token: the app's access token; it appears in no message.
        url: where the API is.
        sleep: waits before another try, in seconds.

    Raises:
        SettingsError: the exchange does not answer, refuses, or answers something else.
    """
    start = urlsplit(url)
    if start.scheme != "https" and not (start.scheme == "http" and start.hostname in HOSTS):
        raise SettingsError(f"--url {url}: give an https:// address: the access token would be sent in the clear")
    query = {"access_token": token, "types": TYPES[kind], "fields": _FIELDS, "limit": _PAGE}
    page: str | None = f"{url.rstrip('/')}/{group}/threat_updates/?{urlencode(query)}"
    while page is not None:
        there = urlsplit(page)
        if (there.scheme, there.netloc) != (start.scheme, start.netloc):
            raise SettingsError(f"{start.netloc} names a next page on another server, {there.netloc}: nothing is sent there")
        answer = _answer(page, start.netloc, sleep)
        entries = answer.get("data")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise SettingsError(f"{start.netloc} does not answer as ThreatExchange does: there is no list `data`")
        yield from entries
        paging = answer.get("paging")
        following = paging.get("next") if isinstance(paging, dict) else None
        page = following if isinstance(following, str) else None


def _answer(page: str, server: str, sleep: Callable[[float], None]) -> dict[str, Any]:
    for attempt in range(1, _TRIES + 1):
        try:
            with urlopen(Request(page, headers={"Accept": "application/json"}), timeout=_TIMEOUT_S) as answer:  # noqa: S310 - checked above
                content = answer.read(_MAX_ANSWER + 1)
            break
        except HTTPError as error:
            if error.code not in _AGAIN or attempt == _TRIES:
                raise SettingsError(f"{server} answers {error.code}{_reason(error)}") from None
        except (URLError, OSError) as error:
            if attempt == _TRIES:
                reason = error.reason if isinstance(error, URLError) else error
                raise SettingsError(f"{server} does not answer: {' '.join(str(reason).split())[:200]}") from None
        sleep(2.0 ** (attempt - 1))
    if len(content) > _MAX_ANSWER:
        raise SettingsError(f"{server} answers more than {_MAX_ANSWER:,} bytes at a time")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise SettingsError(f"{server} does not answer as ThreatExchange does: not a JSON object")
    return found


def _reason(error: HTTPError) -> str:
    """What the exchange says of its refusal."""
    try:
        said = json.loads(error.read(1 << 16))["error"]["message"]
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        said = None
    if error.code in (401, 403) or (error.code == 400 and "token" in str(said).lower()):
        return f": {str(said or 'access denied')[:200]}; check {TOKEN}"
    return f": {said[:200]}" if isinstance(said, str) else ""
