"""A bucket that can only be listed: a server of S3's pages, in a process of its own, which looks nothing up."""

import contextlib
import multiprocessing
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from urllib.parse import parse_qs, urlsplit

PAGE = 1_000


def key_of(number: int) -> str:
    """Keys as an upload service makes them, in order."""
    return f"uploads/2026/11/{number // 1000:06}/{number:09}.jpg"


@contextlib.contextmanager
def s3_pages(count: int) -> Iterator[str]:
    """The endpoint of a server whose buckets list `count` objects."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs, count), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(port: Connection, count: int) -> None:
    class Pages(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            first = int(query.get("continuation-token", ["0"])[0])
            body = _page(first, min(first + int(query.get("max-keys", [PAGE])[0]), count), count).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    port.send(server.server_address[1])
    server.serve_forever()


def _page(first: int, end: int, count: int) -> str:
    entries = "".join(
        f"<Contents><Key>{key_of(number)}</Key><LastModified>2026-11-21T03:00:00.000Z</LastModified>"
        f"<ETag>&quot;{number:032x}&quot;</ETag><Size>{number + 1}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for number in range(first, end)
    )
    more = f"<NextContinuationToken>{end}</NextContinuationToken>" if end < count else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>shop</Name><Prefix></Prefix><KeyCount>{end - first}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
        f"<EncodingType>url</EncodingType><IsTruncated>{str(end < count).lower()}</IsTruncated>{more}{entries}"
        "</ListBucketResult>"
    )
