"""Google Cloud Storage's XML API over HTTP, as far as this program and obstore speak it, with weaknesses on request.

Conditions, pages with their own tokens, escaped names, uploads in parts and access tokens behave as Google documents them:
https://cloud.google.com/storage/docs/xml-api/overview
"""

import hashlib
import json
import secrets
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape


class Stored(NamedTuple):
    """One object."""

    data: bytes
    etag: str
    modified: datetime


class Request(NamedTuple):
    """What was asked."""

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]

    @property
    def is_listing(self) -> bool:
        """Whether it asks for a page."""
        return self.method == "GET" and "list-type" in self.query


class GcsServer:
    """One server. `buckets` may be filled and looked at directly."""

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, Stored]] = {}
        self.page = 1000
        self.token = ""
        """the access token that requests must bear; empty: none"""
        self.sort: Callable[[list[str]], list[str]] = sorted
        self.heeds_conditions = True
        self.requests: list[Request] = []
        self.signed_in: Counter[str] = Counter()
        self._uploads: dict[str, dict[int, bytes]] = {}
        self.lock = threading.Lock()
        own = self

        class Handler(_Handler):
            server_state = own

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, name="gcs", daemon=True).start()

    def reset(self) -> None:
        """As at first, but for the objects."""
        self.page, self.token, self.sort, self.heeds_conditions = 1000, "", sorted, True
        self.requests.clear()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """An object with any key, as any client may write it."""
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        self.buckets[bucket][key] = Stored(data, digest, datetime.now(UTC).replace(microsecond=0))


class _Handler(BaseHTTPRequestHandler):
    server_state: GcsServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        """Any request."""
        self._do()

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815 - names of the standard library

    def _do(self) -> None:
        parts = urlsplit(self.path)
        bucket, _, key = parts.path[1:].partition("/")
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, unquote(bucket), unquote(key), query, headers)
        own = self.server_state
        if request.bucket == "token":
            own.signed_in[self.command] += 1
            return self._answer(
                200, json.dumps({"access_token": own.token, "expires_in": 3600, "token_type": "Bearer"}).encode()
            )
        with own.lock:
            own.requests.append(request)
        if own.token and headers.get("authorization") != f"Bearer {own.token}":
            return self._fail(401, "AuthenticationRequired")
        if request.bucket not in own.buckets:
            return self._fail(404, "NoSuchBucket")
        if request.is_listing:
            return self._list(request)
        with own.lock:
            return self._object(request, own.buckets[request.bucket], body)

    def _list(self, request: Request) -> None:
        own, query = self.server_state, request.query
        objects = own.buckets[request.bucket]
        names = [name for name in own.sort(list(objects)) if name.startswith(query.get("prefix", ""))]
        if "start-after" in query and "continuation-token" not in query:
            names = [name for name in names if name > query["start-after"]]
        start = int(query.get("continuation-token", "t0")[1:])
        size = min(own.page, int(query.get("max-keys", "1000")))
        page, more = names[start : start + size], start + size < len(names)
        url = query.get("encoding-type") == "url"
        rows = "".join(
            f"<Contents><Key>{quote(name, safe='/') if url else escape(name)}</Key><Generation>1</Generation>"
            f"<LastModified>{objects[name].modified:%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
            f'<ETag>"{objects[name].etag}"</ETag><Size>{len(objects[name].data)}</Size></Contents>'
            for name in page
        )
        more_text = f"<NextContinuationToken>t{start + size}</NextContinuationToken>" if more else ""
        self._answer(
            200,
            f"<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'>"
            f"<Name>{request.bucket}</Name><KeyCount>{len(page)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"{'<EncodingType>url</EncodingType>' if url else ''}{more_text}{rows}</ListBucketResult>".encode(),
        )

    def _object(self, request: Request, objects: dict[str, Stored], body: bytes) -> None:
        key, query, headers = request.key, request.query, request.headers
        found = objects.get(key)
        if request.method == "POST":
            return self._parts(request, objects, body)
        if request.method == "PUT":
            if "uploadId" in query:
                self.server_state._uploads[query["uploadId"]][int(query["partNumber"])] = body
                return self._answer(200, b"", ETag=f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"')
            if headers.get("x-goog-if-generation-match") == "0" and found is not None:
                return self._fail(412, "PreconditionFailed")
            if "x-goog-copy-source" in headers:
                bucket, _, source = headers["x-goog-copy-source"].lstrip("/").partition("/")
                copied = self.server_state.buckets[unquote(bucket)].get(unquote(source))
                if copied is None:
                    return self._fail(404, "NoSuchKey")
                self.server_state.put(request.bucket, key, copied.data)
                return self._answer(200, b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>")
            self.server_state.put(request.bucket, key, body)
            return self._answer(200, b"", ETag=f'"{objects[key].etag}"')
        if found is None:
            return self._fail(404, "NoSuchKey")
        if request.method == "DELETE":
            del objects[key]
            return self._answer(204, b"")
        if self.server_state.heeds_conditions and "if-match" in headers and headers["if-match"] != f'"{found.etag}"':
            return self._fail(412, "PreconditionFailed")
        about = {"ETag": f'"{found.etag}"', "Last-Modified": format_datetime(found.modified, usegmt=True)}
        if "range" in headers:
            first, _, last = headers["range"].removeprefix("bytes=").partition("-")
            part = found.data[int(first) : int(last) + 1]
            about["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(found.data)}"
            return self._answer(206, part, **about)
        return self._answer(200, found.data, **about)

    def _parts(self, request: Request, objects: dict[str, Stored], body: bytes) -> None:
        own, query = self.server_state, request.query
        if "uploads" in query:
            upload = secrets.token_hex(8)
            own._uploads[upload] = {}
            begun = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            self._answer(200, begun.encode())
            return
        parts = own._uploads.pop(query["uploadId"])
        own.put(request.bucket, request.key, b"".join(parts[number] for number in sorted(parts)))
        etag = f'"{objects[request.key].etag}"'
        self._answer(200, f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>".encode())

    def _fail(self, status: int, code: str) -> None:
        self._answer(
            status,
            f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>The store's own sentence.</Message></Error>".encode(),
        )

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
