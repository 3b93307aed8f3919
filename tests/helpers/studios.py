"""A studio that runs in this process, over results that are made without a model, and a client that speaks plain HTTP to it."""

import http.client
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vector_results import Image, publish_vectors

from moderation.policy_files.loading import parse_policy
from moderation.storage import Store
from moderation.studio.server import Patience, listening, opened, server
from moderation.studio.studio import Studio

POLICY_TEXT = """# What sellers may not show.
policy: shop
version: "1"
model: {name: demo}
templates: ["{}"]
near: 0.05
unreadable: review
rules:
  - id: firearms   # with a comment
    severity: high
    prompts: [a handgun]
    score: similarity
    review: 0.50
    block: 0.75
  - {id: fireworks, mode: shadow, prompts: [fireworks], score: similarity, review: 0.5}
"""
POLICY = parse_policy(POLICY_TEXT)
RUN = "20261121T030000Z-abcdef"
PATIENT = Patience(headers=30.0, body=30.0)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Sends what it is told, and nothing else, so that every header can be a wrong one."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.origin = f"http://127.0.0.1:{port}"
        self.cookie = self.csrf = ""

    def let_in(self, token: str) -> "Client":
        """With the cookie and the key of writes, as a browser has them after the link."""
        self.cookie = self.get(f"/?token={token}", bare=True).headers["set-cookie"].partition(";")[0]
        found = re.search(r'<meta name="csrf" content="([^"]+)">', self.get("/").text)
        assert found
        self.csrf = found[1]
        return self

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(
                method, path, skip_host="host" in {name.lower() for name in headers}, skip_accept_encoding=True
            )
            for name, value in headers.items():
                connection.putheader(name, value)
            if body is not None and "Content-Length" not in headers:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, *, bare: bool = False, **headers: str) -> Answer:
        """`bare`: without the cookie."""
        own = {} if bare else {"Cookie": self.cookie}
        return self.ask("GET", path, {**own, "Accept": "text/html", **headers})

    def post(self, path: str, body: bytes | dict[str, Any] = b"", **headers: str | None) -> Answer:
        """As the studio's own pages send it; headers of None are left out."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        own: dict[str, str | None] = {"Cookie": self.cookie, "Origin": self.origin, "X-CSRF-Token": self.csrf}
        given = {**own, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.ask("POST", path, {name: value for name, value in given.items() if value is not None}, data)


@dataclass(frozen=True)
class Running:
    studio: Studio
    client: Client
    audit: Path

    @property
    def audited(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.audit.read_text().splitlines()]


@contextmanager
def running(
    results: Path | str, folder: Path, policies: Sequence[Path] = (), patience: Patience = PATIENT
) -> Iterator[Running]:
    """A studio that answers on a port of its own. `folder`: for its audit log."""
    audit = folder / "audit.jsonl"
    with listening(None) as listener, opened(str(results), policies, listener.getsockname()[1], audit) as studio:
        ready = threading.Event()
        serving = server(studio, ready.set, patience)
        thread = threading.Thread(target=serving.run, args=([listener],), daemon=True)
        thread.start()
        assert ready.wait(30)
        try:
            yield Running(studio, Client(studio.keys.port).let_in(studio.keys.token), audit)
        finally:
            serving.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def publish_pictures(output: Path, pictures: Path, names: Sequence[str], **others: Any) -> list[str]:
    """Publish a run over local files, whose cosines with the first prompt grow from 0 to 0.9. Returns their URIs."""
    found = {item.uri: item for page in Store(str(pictures)).list() for item in page}
    uris = sorted(uri for uri in found if uri.rpartition("/")[2] in set(names))
    step = 0.9 / max(1, len(uris) - 1)
    images = [Image(uri, ((round(step * at, 3), 0.1),), etag=found[uri].etag) for at, uri in enumerate(uris)]
    publish_vectors(Store(str(output)), images, POLICY, POLICY_TEXT, **others)
    return uris
