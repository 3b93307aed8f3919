"""Stores whose pages and odd keys this program asks for itself: obstore stops at keys it cannot express as a path.

obstore moves the bytes of all other keys.
"""

import re
import xml.etree.ElementTree as ET
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore

from moderation.errors import ErrorCode, StorageError
from moderation.storage.answers import one_line
from moderation.storage.backend import Census, StoredObject
from moderation.storage.cloud import ObstoreBackend, failure
from moderation.storage.cloud_answers import answered, untrusted
from moderation.storage.entity_tags import condition, entity_tag, is_same
from moderation.storage.http_client import Answer, HttpClient
from moderation.storage.retrying import TransientError, retried

if TYPE_CHECKING:
    from obstore import GetOptions

PAGE = 1000
"""objects that are handed on at a time"""

_OWN = re.compile(r"credential provider: (TransientError|StorageError): (\w+): (.*)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|&#(?:x0*(?P<hex>[0-9A-Fa-f]+)|0*(?P<decimal>\d+));")


class ListedPage(NamedTuple):
    """One page of a listing."""

    objects: list[StoredObject]
    named: int
    """how many objects it says that it names"""
    token: str
    """asks for the next page; empty: this is the last one"""


class OwnListingBackend(ObstoreBackend, ABC):
    """A bucket or container that is listed by requests of our own. A kind of store says how they look."""

    ordered: bool
    """whether the store promises keys in the order of their UTF-8 bytes"""

    def __init__(self, root: str, store: GCSStore | AzureStore, http: HttpClient) -> None:
        super().__init__(root, store)
        self._http = http

    @abstractmethod
    def _url(self, key: str) -> str:
        """The URL of an object, whatever its key is."""

    @abstractmethod
    def _page(self, prefix: str, after: str, token: str) -> ListedPage:
        """One page of the objects whose keys start with `prefix`, from `token` on. `after` may be used, or not."""

    @abstractmethod
    def _send(self, method: str, url: str, headers: Mapping[str, str]) -> Answer:
        """A request with credentials."""

    def probe(self, prefix: str) -> None:
        """Raise a `StorageError` that says what is wrong with the bucket, if anything is, and what to do."""
        service = self._http.service
        try:
            self._page(prefix, "", "")
        except StorageError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
            name = self.root.partition("://")[2]
            wording = f"the {service.container} {name!r} does not exist at {self._http.endpoint}: check its name and"
            raise StorageError(ErrorCode.NOT_FOUND, f"{wording} {self._http.setting}") from None

    def list(self, prefix: str, after: str = "", census: Census | None = None) -> Iterator[list[StoredObject]]:
        """Pages of objects, each asked for by its own token until it comes. "Folders" (empty, ending in /) are left out."""
        where, token, last = f"the listing of {self.root}/{prefix}", "", after
        tokens: set[int] = set()
        while True:
            page = retried(lambda: self._whole_page(prefix, after, token))  # noqa: B023 - called at once
            found: list[StoredObject] = []
            for item in page.objects:
                if not item.key.startswith(prefix):
                    raise _broken(f"{where} holds the key {item.key!r}, which does not start with that")
                if item.key <= after:
                    continue
                if self.ordered:
                    if item.key <= last:
                        wording = f"{where} has the key {item.key!r} after {last!r}, although the store lists keys in order"
                        raise _broken(f"{wording}: objects may be missing from it; name them in a manifest instead")
                    last = item.key
                if item.size or not item.key.endswith("/"):
                    found.append(item)
            if census is not None:
                census.objects += page.named - (len(page.objects) - len(found))
            yield from (found[at : at + PAGE] for at in range(0, len(found), PAGE))
            if not page.token:
                return
            token = page.token
            if hash(token) in tokens:
                raise _broken(f"{where} goes in circles: a token for the next page is repeated")
            tokens.add(hash(token))

    def _whole_page(self, prefix: str, after: str, token: str) -> ListedPage:
        try:
            return self._page(prefix, after, token)
        except (ValueError, TypeError, OverflowError):  # an object without its size or time
            raise self._no_page() from None

    def _no_page(self) -> TransientError:
        # What is no page reads as one without objects: the rest of the listing would be lost in silence.
        return TransientError(ErrorCode.STORAGE_ERROR, f"what {self._http.endpoint} answered is not a page of a listing")

    def get(self, key: str, if_match: str | None = None) -> bytes:
        """The whole object at the version listed."""
        return self._read(key, if_match, None)

    def get_range(self, key: str, start: int, length: int, if_match: str | None = None) -> bytes:
        """A part of the object."""
        return self._read(key, if_match, (start, start + length))

    def head(self, key: str) -> StoredObject:
        """One object as a listing would show it."""
        if is_plain(key):
            found = super().head(key)
            return found._replace(etag=entity_tag(found.etag))
        answer = self._send("HEAD", self._url(key), {})
        if answer.status != 200:
            raise self._failed(answer)
        modified = parsedate_to_datetime(answer.headers["last-modified"]).astimezone(UTC)
        return StoredObject(key, entity_tag(answer.headers.get("etag", "")), int(answer.headers["content-length"]), modified)

    def put(self, key: str, data: bytes | Path, create_only: bool = False) -> None:
        """Write an object."""
        if not is_plain(key):
            raise StorageError(ErrorCode.STORAGE_ERROR, f"will not write the key {key!r}")
        super().put(key, data, create_only)

    def delete(self, key: str) -> None:
        """Remove an object."""
        if is_plain(key):
            super().delete(key)
            return
        answer = self._send("DELETE", self._url(key), {})
        if answer.status not in (200, 202, 204, 404):
            raise self._failed(answer)

    def _read(self, key: str, if_match: str | None, part: tuple[int, int] | None) -> bytes:
        try:
            return self._read_version(key, if_match, part)
        except StorageError as error:
            if error.code is ErrorCode.CHANGED:
                self.head(key)  # some say of an object that is gone that it is another one
            raise

    def _read_version(self, key: str, if_match: str | None, part: tuple[int, int] | None) -> bytes:
        asked = condition(if_match)
        if is_plain(key):
            options: GetOptions = {}
            if asked:
                options["if_match"] = asked
            if part:
                options["range"] = part
            data, found = self._obstore_get(key, options)
        else:
            headers = {"if-match": asked} if asked else {}
            if part:
                headers["range"] = f"bytes={part[0]}-{part[1] - 1}"
            answer = self._send("GET", self._url(key), headers)
            if answer.status not in (200, 206):
                raise self._failed(answer)
            data, found = answer.body, entity_tag(answer.headers.get("etag", ""))
            if part and answer.status == 200:
                data = data[slice(*part)]
        if if_match and not is_same(found, if_match):  # not every store heeds the condition
            raise StorageError(ErrorCode.CHANGED, f"the object changed after listing: etag {if_match}, now {found}")
        return data

    def _obstore_get(self, key: str, options: "GetOptions") -> tuple[bytes, str]:
        try:
            got = obstore.get(self._store, key, options=options)
            return bytes(got.bytes()), entity_tag(got.meta["e_tag"] or "")
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._explained(error) from None

    def _explained(self, error: BaseException) -> StorageError:
        service, said = self._http.service, failure(error)
        if said.certificate:
            return untrusted(said.endpoint or self._http.endpoint, said.certificate)
        if own := _OWN.search(said.line):  # our own error, raised where a token was to be given
            kind = TransientError if own[1] == "TransientError" else StorageError
            return kind(ErrorCode(own[2]), own[3])
        kinds = {exceptions.NotFoundError: 404, FileNotFoundError: 404, exceptions.PreconditionError: 412}
        kinds |= {exceptions.PermissionDeniedError: 403, PermissionError: 403, exceptions.UnauthenticatedError: 401}
        status = said.status or next((number for kind, number in kinds.items() if isinstance(error, kind)), 0)
        return answered(service, status, said.code, said.message or ("" if said.code else said.line))

    def _failed(self, answer: Answer) -> StorageError:
        code, message = "", ""
        if answer.body:
            try:
                root = parsed(answer.body)
                code, message = (root.findtext("Code") or "").strip(), (root.findtext("Message") or "").partition("\n")[0]
            except ET.ParseError:
                message = ""  # a page of some proxy
        return answered(self._http.service, answer.status, code or answer.headers.get("x-ms-error-code", ""), one_line(message))

    def _listing(self, answer: Answer, root: str) -> ET.Element:
        """A page as XML. Raises `TransientError` if it is none: it is asked for again."""
        if answer.status != 200:
            raise self._failed(answer)
        try:
            page = parsed(answer.body)
        except ET.ParseError:
            page = ET.Element("")
        if page.tag != root:
            raise self._no_page()
        return page


def is_plain(key: str) -> bool:
    """Whether obstore can name this key."""
    return not _CONTROL.search(key) and all(part not in ("", ".", "..") for part in key.split("/"))


def parsed(body: bytes) -> ET.Element:
    """XML without namespaces. Characters that XML does not permit, as some stores write them, are kept. Raises `ParseError`."""
    try:
        root = ET.fromstring(body)  # noqa: S314 - expat limits what entities may grow to
        back: dict[int, str] = {}
    except ET.ParseError:
        text = body.decode("utf-8", "replace")
        base = next(base for base in range(0xF0000, 0xFFF00, 0x100) if not any(base <= ord(c) < base + 0x100 for c in text))
        back = {}

        def stand_in(found: re.Match[str]) -> str:
            number = int(found["hex"], 16) if found["hex"] else int(found["decimal"]) if found["decimal"] else ord(found[0])
            if found[0].startswith("&") and not _ILLEGAL.match(chr(number) if number < 0x110000 else ""):
                return found[0]
            code = base + (number & 0xFF)
            back[code] = chr(number)
            return chr(code)

        root = ET.fromstring(_ILLEGAL.sub(stand_in, text))  # noqa: S314
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        if back and element.text:
            element.text = element.text.translate(back)
    return root


def _broken(wording: str) -> StorageError:
    return StorageError(ErrorCode.STORAGE_ERROR, wording)
