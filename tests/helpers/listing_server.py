"""A small S3 of the tests' own, over real HTTP: it lists in whatever order it is given, and fails pages on purpose."""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from faulty_proxy import Answer, FaultyProxy, s3_error

MODIFIED = datetime(2026, 11, 21, 3, 0, 0, tzinfo=UTC)
PAGE_FAULTS = ("slow_down", "reset", "half_body", "nothing")


@dataclass
class Bucket:
    """Objects by key, and how they are listed."""

    objects: dict[str, bytes]
    page: int = 100
    """keys of a page"""
    order: Callable[[list[str]], list[str]] = sorted
    """the order of a listing, asked for each time that one begins"""
    faults: Callable[[int], str | None] = lambda _: None
    """what to do instead of answering the n-th request for a page, from 0"""
    reads: Callable[[int], str | None] = lambda _: None
    """what to do instead of answering the n-th GET or HEAD, from 1; its objects that do not exist are asked for as well"""
    etag: Callable[[str], str | None] = lambda opaque: f'"{opaque}"'
    """the ETag as it is written"""
    change: Callable[[str], str] = lambda xml: xml
    """what becomes of a page on its way"""
    asked: Counter[str] = field(default_factory=Counter)
    """requests, by kind"""


class ListingServer:
    """Answers ListObjectsV2, GET and HEAD with one bucket. Use as a context manager; `endpoint` is its URL."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self._listings: list[list[str]] = []
        self._proxy = FaultyProxy("http://127.0.0.1:1", seed=1)  # which nothing is forwarded to
        self._proxy.rule = self._answer
        self.endpoint = self._proxy.endpoint

    def __enter__(self) -> Self:
        self._proxy.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._proxy.__exit__(*exc)

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        key = unquote(parts.path.lstrip("/").partition("/")[2])
        if "list-type" in query:
            return self._page(query)
        self.bucket.asked[method] += 1
        fault = self.bucket.reads(self.bucket.asked[method])
        if fault:
            return s3_error(503, "SlowDown", "no more") if fault == "slow_down" else Answer(fault=fault)
        if key not in self.bucket.objects:
            return s3_error(404, "NoSuchKey")
        content = self.bucket.objects[key]
        tag = self.bucket.etag(hashlib.md5(content).hexdigest())  # noqa: S324 - what S3 does
        wanted = headers.get("if-match")
        if wanted is not None and (tag is None or tag.startswith("W/") or wanted != tag):
            return s3_error(412, "PreconditionFailed")
        found = {"Last-Modified": f"{MODIFIED:%a, %d %b %Y %H:%M:%S} GMT", "Content-Length": str(len(content))}
        found |= {"ETag": tag} if tag else {}
        if "range" in headers and method == "GET":
            start, end = map(int, headers["range"].removeprefix("bytes=").split("-"))
            part = content[start : end + 1]
            where = {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(content)}"}
            return Answer(206, part, found | where | {"Content-Length": str(len(part))})
        return Answer(200, content, found)

    def _page(self, query: dict[str, str]) -> Answer:
        bucket = self.bucket
        fault = bucket.faults(bucket.asked["page"])
        bucket.asked["page"] += 1
        if fault == "slow_down":
            return s3_error(503, "SlowDown")
        if fault == "reset":
            return Answer(fault="reset")
        if "continuation-token" in query:
            number, _, start = query["continuation-token"].partition("-")
            keys, first = self._listings[int(number)], int(start)
        else:
            keys, first = bucket.order(sorted(bucket.objects)), 0
            if "start-after" in query:
                keys = [key for key in keys if key > query["start-after"]]
            keys = [key for key in keys if key.startswith(query.get("prefix", ""))]
            if "delimiter" in query:
                keys = _folded(keys, len(query.get("prefix", "")))
            self._listings.append(keys)
            number = str(len(self._listings) - 1)
        shown = keys[first : first + min(bucket.page, int(query.get("max-keys", 1000)))]
        end = first + len(shown)
        token = f"<NextContinuationToken>{number}-{end}</NextContinuationToken>" if end < len(keys) else ""
        entries = "".join(map(self._entry, shown))
        xml = bucket.change(
            f'<?xml version="1.0"?><ListBucketResult><KeyCount>{len(shown)}</KeyCount>{entries}{token}'
            f"<IsTruncated>{str(end < len(keys)).lower()}</IsTruncated><EncodingType>url</EncodingType></ListBucketResult>"
        ).encode()
        length = {"Content-Length": str(len(xml)), "Content-Type": "application/xml"}
        sent = {"half_body": xml[: len(xml) // 2], "nothing": b""}.get(fault or "", xml)
        if fault == "half_body":
            length["Connection"] = "close"
        return Answer(200, sent, length if fault != "nothing" else {"Content-Length": "0"})

    def _entry(self, key: str) -> str:
        if key not in self.bucket.objects:
            return f"<CommonPrefixes><Prefix>{quote(key)}</Prefix></CommonPrefixes>"
        content = self.bucket.objects[key]
        tag = self.bucket.etag(hashlib.md5(content).hexdigest())  # noqa: S324 - what S3 does
        shown = f"<ETag>{escape(tag)}</ETag>" if tag is not None else ""
        time = f"{MODIFIED:%Y-%m-%dT%H:%M:%S}.000Z"
        return (
            f"<Contents><Key>{quote(key)}</Key><LastModified>{time}</LastModified>{shown}<Size>{len(content)}</Size></Contents>"
        )


def _folded(keys: list[str], start: int) -> list[str]:
    """Each folder behind the first `start` characters once, in place of what is in it."""
    return list(dict.fromkeys(key[: end + 1] if (end := key.find("/", start)) >= 0 else key for key in keys))


def shuffled(seed: int, whole_pages: int = 0) -> Callable[[list[str]], list[str]]:
    """An order by a seed, another one for each listing. `whole_pages`: runs of so many keys stay in order."""
    dice = random.Random(seed)

    def order(keys: list[str]) -> list[str]:
        size = whole_pages or 1
        runs = [keys[start : start + size] for start in range(0, len(keys), size)]
        dice.shuffle(runs)
        return [key for run in runs for key in run]

    return order


def failing(pages: Sequence[int], kind: str) -> Callable[[int], str | None]:
    """The requests with these numbers fail."""
    return lambda number: kind if number in pages else None
