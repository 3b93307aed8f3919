"""Objects behind obstore: S3, Google Cloud Storage, Azure, and memory for tests. What is common to them."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from moderation.errors import ErrorCode, StorageError
from moderation.storage.answers import failed, no_credentials, one_line, untrusted
from moderation.storage.backend import StoredObject
from moderation.storage.entity_tags import condition, entity_tag, is_same
from moderation.storage.retrying import CONNECT_TIMEOUT, READ_TIMEOUT

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

# Few and short: what does not pass soon is tried again by `moderation.storage.retrying`, with waits.
RETRIES: "RetryConfig" = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=15),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}

_REQUEST = re.compile(r"Error performing (\w+) ([^\s?]+)\S* in .*? - (.*)", re.DOTALL)
_STATUS = re.compile(r"status code: (\d{3})")
_ELEMENT = re.compile(r"<(Code|Message)>([^<]*)</")
_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(\w+)")
_CAUSE = re.compile(r'(?:message|error): "([^"]*)"')


def client_options(connections: int) -> "ClientConfig":
    """What every HTTP client is given: time-outs, and a pool as large as the number of threads that use it."""
    return {
        "connect_timeout": f"{CONNECT_TIMEOUT}s",
        "read_timeout": f"{READ_TIMEOUT}s",
        "timeout": "120s",
        "pool_max_idle_per_host": str(connections),
    }


class ObstoreBackend:
    """One bucket or container through obstore."""

    def __init__(self, root: str, store: S3Store | GCSStore | AzureStore | MemoryStore) -> None:
        self.root = root
        self._store = store

    def list(self, prefix: str, after: str = "") -> Iterator[list[StoredObject]]:
        """Pages of up to 1,000 objects. obstore matches whole path segments; what is asked for here is text."""
        folder = prefix.rpartition("/")[0]
        try:
            for page in obstore.list(self._store, folder or None, offset=after or None, chunk_size=1000):
                found = [
                    StoredObject(meta["path"], meta["e_tag"] or "", meta["size"], meta["last_modified"])
                    for meta in page
                    if meta["path"].startswith(prefix) and meta["path"] > after
                ]
                if found:
                    yield sorted(found)
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._explained(error) from None

    def get(self, key: str, if_match: str | None = None) -> bytes:
        """The whole object; bodies cut short are fetched again by obstore."""
        return self._fetch(key, {"if_match": if_match} if if_match else {})

    def get_range(self, key: str, start: int, length: int, if_match: str | None = None) -> bytes:
        """A part of the object."""
        options: obstore.GetOptions = {"range": (start, start + length)}
        if if_match:
            options["if_match"] = if_match
        return self._fetch(key, options)

    def head(self, key: str) -> StoredObject:
        """One object as a listing would show it."""
        try:
            meta = obstore.head(self._store, key)
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._explained(error) from None
        return StoredObject(key, meta["e_tag"] or "", meta["size"], meta["last_modified"])

    def put(self, key: str, data: bytes | Path, create_only: bool = False) -> None:
        """Write an object; large ones in parts, which become visible together."""
        try:
            obstore.put(
                self._store,
                key,
                data,
                mode="create" if create_only else "overwrite",
                use_multipart=False if create_only else None,
            )
        except (exceptions.AlreadyExistsError, FileExistsError):
            raise FileExistsError(f"{self.root}/{key} already exists") from None
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._explained(error) from None

    def copy(self, source: str, target: str) -> None:
        """Copy within the bucket, without bringing the bytes here."""
        try:
            obstore.copy(self._store, source, target)
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._explained(error) from None

    def delete(self, key: str) -> None:
        """Remove an object."""
        try:
            obstore.delete(self._store, key)
        except (exceptions.NotFoundError, FileNotFoundError):
            return
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._explained(error) from None

    def _explained(self, error: BaseException) -> StorageError:
        return translated(error)

    def _fetch(self, key: str, options: "obstore.GetOptions") -> bytes:
        expected = options.get("if_match")
        weak = expected if expected and condition(expected) is None else None  # If-Match compares strongly
        if weak:
            options = cast("obstore.GetOptions", {name: value for name, value in options.items() if name != "if_match"})
        try:
            answer = obstore.get(self._store, key, options=options)
            data = bytes(answer.bytes())
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._explained(error) from None
        if weak and not is_same(entity_tag(answer.meta["e_tag"]), weak):
            raise failed(412, "", "")
        return data


class Failure(NamedTuple):
    """What obstore's exception says.

    Its own text runs over a page, and quotes the store's answer whole, in which S3 puts session tokens and signatures.
    """

    endpoint: str
    """scheme and host that were asked; empty: unknown"""
    status: int
    """HTTP status; 0: there was none"""
    code: str
    """the store's own code; empty: there was none"""
    message: str
    """the store's own sentence; empty: there was none"""
    certificate: str
    """why the certificate is not trusted; empty: it is"""
    line: str
    """all of it as one line"""


def failure(error: BaseException) -> Failure:
    """Obstore's exception in its parts."""
    text, _, debug = str(error).partition("\n\nDebug source:")
    request = _REQUEST.search(text)
    where, said = (f"{request[1]} {request[2]}: ", request[3]) if request else ("", text)
    endpoint = "/".join(request[2].split("/")[:3]) if request else ""
    certificate = _CERTIFICATE.search(debug)
    found = _STATUS.search(said)
    answer = dict(_ELEMENT.findall(said))
    code = answer.get("Code", "")
    causes = [answer.get("Message"), *_CAUSE.findall(debug)[:1], "timed out" if "TimedOut" in debug else "", code]
    line = one_line(where + ": ".join(filter(None, [said.partition("<")[0].rstrip(": "), *causes])))
    message = one_line(answer.get("Message", "").partition("\n")[0])
    return Failure(endpoint, int(found[1]) if found else 0, code, message, certificate[1] if certificate else "", line)


def translated(error: BaseException) -> StorageError:
    """Obstore's exception as one line with a code."""
    endpoint, status, code, message, certificate, line = failure(error)
    if certificate:
        return untrusted(endpoint or "the store", certificate)
    if isinstance(error, exceptions.UnauthenticatedError) and "credential provider: " in line and "RetrievalError" not in line:
        return no_credentials(line.partition("credential provider: ")[2])
    if status or code:
        return failed(status, code, line, message)
    if isinstance(error, exceptions.NotFoundError | FileNotFoundError):
        return StorageError(ErrorCode.NOT_FOUND, "no such object")
    if isinstance(error, exceptions.PreconditionError):
        return failed(412, code, line)
    if isinstance(error, exceptions.PermissionDeniedError | PermissionError):
        return StorageError(ErrorCode.ACCESS_DENIED, line)
    if isinstance(error, exceptions.GenericError | exceptions.UnauthenticatedError | exceptions.JoinError | OSError):
        return failed(0, code, line)
    return StorageError(ErrorCode.STORAGE_ERROR, line)
