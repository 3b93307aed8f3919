"""`moderate lists add`, `match` and `fetch`."""

import csv
import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from archived import FIRST, NEW, OTHER_MODEL, SECOND, Run, write_runs
from listed_archive import PDQ, listed_images, new_policy
from typer.testing import CliRunner

from moderation import SettingsError, Store
from moderation.authoring.fetching import fetch_list
from moderation.authoring.list_entries import add_entries, entry_of
from moderation.authoring.threat_updates import threat_updates
from moderation.cli import app
from moderation.demo import IMAGES_DIR
from moderation.lists.adding import NewEntry
from moderation.lists.hash_list import HashKind
from moderation.lists.reading import read_list

LIZARD = IMAGES_DIR / "listings" / "48091-lizard.jpg"
FIRST_HASH, SECOND_HASH = "ab" * 32, "cd" * 32


def entries(path: Path, kind: HashKind) -> dict[str, str]:
    with path.open("rb") as stream:
        content = read_list(stream, str(path), kind).content
    assert content is not None
    return {content.hex(n): content.labels[n].as_py() for n in range(len(content))}


# --- add --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (f"{FIRST_HASH}\n", f"{SECOND_HASH}  one, two\n"),
        (f"{FIRST_HASH}", f"\n{SECOND_HASH}  one, two\n"),
        (f"# ours\nsha256 {FIRST_HASH}\n", f"{SECOND_HASH}  one, two\n"),
        (f"hash,label\n{FIRST_HASH},x\n", f'{SECOND_HASH},"one, two"\n'),
        (f"type;note;hash;reason\nsha256;;{FIRST_HASH};x\n", f"sha256;;{SECOND_HASH};one, two\n"),
        ("hash\tlabel\n", f"{SECOND_HASH}\tone, two\n"),
        (f"{FIRST_HASH},87,photo.jpg\n", f'{SECOND_HASH},,"one, two"\n'),
    ],
    ids=["plain", "no last newline", "typed", "CSV", "semicolons", "header alone", "CSV without header"],
)
def test_an_entry_is_added_in_the_layout_of_the_file(tmp_path: Path, before: str, line: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(before)
    found = CliRunner().invoke(
        app, ["lists", "add", str(path), SECOND_HASH.upper(), "--hash", "sha256", "--label", "one,\n two"]
    )
    assert found.exit_code == 0, found.exception
    assert path.read_text() == before + line
    assert entries(path, HashKind.SHA256)[SECOND_HASH] == "one, two"


def test_a_new_list_is_made_of_images_and_matches_them(tmp_path: Path) -> None:
    for kind in HashKind:
        path = tmp_path / f"{kind}.csv"
        new = [entry_of(str(LIZARD), kind, "lizard", 50)]
        assert add_entries(path, kind, new, 50) == 1
        assert entries(path, kind) == {new[0].hash: "lizard"}
    assert entry_of(str(LIZARD), HashKind.SHA256, "", 50).hash == hashlib.sha256(LIZARD.read_bytes()).hexdigest()


def refused(path: Path, kind: HashKind, *new: NewEntry) -> str:
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(SettingsError) as caught:
        add_entries(path, kind, new, 50)
    assert (path.read_bytes() if path.exists() else None) == before
    assert [one.name for one in path.parent.iterdir()] == ([path.name] if before is not None else [])
    return str(caught.value)


def test_what_cannot_be_added_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"hash,label\n{FIRST_HASH},bag\n")
    assert "is in" in (said := refused(path, HashKind.SHA256, NewEntry(SECOND_HASH), NewEntry(FIRST_HASH)))
    assert "as 'bag': nothing was added" in said
    assert refused(path, HashKind.SHA256, NewEntry(SECOND_HASH), NewEntry(SECOND_HASH)) == f"{SECOND_HASH} is given twice"
    path.write_text(f"hash\n{FIRST_HASH}\n")
    assert "names no column for labels" in refused(path, HashKind.SHA256, NewEntry(SECOND_HASH, "x"))
    path.write_text("hash\nnonsense\n")
    assert "list.csv:2:1: SHA-256 hashes have 64 hex digits" in refused(path, HashKind.SHA256, NewEntry(SECOND_HASH))
    path.write_text('[{"indicator": "x"}]')
    assert "it is JSON of an exchange" in refused(path, HashKind.SHA256, NewEntry(SECOND_HASH))
    path.write_text("colour,size\n1,2\n")
    assert "no column is known to hold hashes" in refused(path, HashKind.SHA256, NewEntry(SECOND_HASH))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("ab" * 16, "has 32 hex digits; PDQ hashes have 64"),
        ("nowhere.jpg", "is no hash, and no image that can be read"),
        ("broken.jpg", "a list of SHA-256 takes any file"),
        ("plain.png", "it would match unlike pictures"),
    ],
)
def test_what_is_no_entry_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, said: str) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Path("broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    Image.new("RGB", (200, 200), "white").save("plain.png")
    with pytest.raises(SettingsError, match=said) as caught:
        entry_of(given, HashKind.PDQ, "", 50)
    assert "\n" not in str(caught.value)


# --- match ------------------------------------------------------------------------------------------------------------------


def test_matching_prints_every_image_once_at_its_newest_version(tmp_path: Path) -> None:
    images = listed_images(60, seed=9)
    policy = new_policy(NEW)
    write_runs(
        Store(str(tmp_path / "out")),
        Run(FIRST, policy, images),
        Run(SECOND, policy, images, fingerprint=OTHER_MODEL, model="other"),
    )
    (tmp_path / "known.csv").write_text("hash,label\n" + "".join(f"{one.tobytes().hex()},=p{n}\n" for n, one in enumerate(PDQ)))
    command = ["lists", "match", str(tmp_path / "known.csv"), "--hash", "pdq", "--results", str(tmp_path / "out")]
    as_csv = CliRunner().invoke(app, [*command, "--format", "csv"])
    assert as_csv.exit_code == 0, as_csv.exception
    rows = list(csv.DictReader(io.StringIO(as_csv.stdout)))
    assert len({row["uri"] for row in rows}) == len(rows) > 10
    assert all(row["label"].startswith("'=p") and 0 <= int(row["distance"]) <= 31 for row in rows)
    as_json = CliRunner().invoke(app, [*command, "--format", "jsonl"])
    assert len(as_json.stdout.splitlines()) == len(rows)
    assert {json.loads(line)["entry"] for line in as_json.stdout.splitlines()} == {row["entry"] for row in rows}
    nearer = CliRunner().invoke(app, [*command, "--distance", "0"])
    assert nearer.exit_code == 0
    assert "of 60 images match" not in nearer.stdout
    assert f"of {len(images) * 2:,} images match" in nearer.stderr


# --- fetch ------------------------------------------------------------------------------------------------------------------


Page = Callable[[dict[str, list[str]]], tuple[int, object]]


@pytest.fixture
def exchange() -> Iterator[tuple[str, list[dict[str, list[str]]], dict[str, Page]]]:
    """A server of ThreatExchange's API: its address, the questions it was asked, and what it answers by cursor."""
    asked: list[dict[str, list[str]]] = []
    pages: dict[str, Page] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query)
            asked.append({"path": [parts.path], **query})
            status, content = pages[query.get("after", ["first"])[0]](query)
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v19.0", asked, pages
    server.shutdown()
    thread.join()
    server.server_close()


def update(number: int, **more: object) -> dict[str, object]:
    descriptor = {"status": "MALICIOUS", "tags": {"data": [{"text": f"case-{number}"}]}}
    indicator = f"{number + 1:064x}"
    found = {"id": str(number), "indicator": indicator, "type": "HASH_PDQ", "should_delete": False}
    return {**found, "descriptors": {"data": [descriptor]}, **more}


def test_all_pages_are_fetched_and_what_was_withdrawn_is_left_out(
    exchange: tuple[str, list[dict[str, list[str]]], dict[str, Page]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked, pages = exchange
    pages["first"] = lambda _: (
        200,
        {
            "data": [update(0), update(1, should_delete=True)],
            "paging": {"next": f"{url}/77/threat_updates/?after=second&access_token=12%7Csecret"},
        },
    )
    pages["second"] = lambda _: (200, {"data": [update(2)]})
    monkeypatch.setenv("TX_ACCESS_TOKEN", "12|secret")
    path = tmp_path / "exchange.json"
    path.write_text("an earlier list")
    found = CliRunner().invoke(app, ["lists", "fetch", str(path), "--hash", "pdq", "--group", "77", "--url", url])
    assert found.exit_code == 0, found.output
    assert entries(path, HashKind.PDQ) == {f"{1:064x}": "case-0", f"{3:064x}": "case-2"}
    assert "secret" not in path.read_text() + found.output
    assert (asked[0]["path"], asked[0]["types"], asked[0]["access_token"]) == (
        ["/v19.0/77/threat_updates/"],
        ["HASH_PDQ"],
        ["12|secret"],
    )
    assert [one.name for one in tmp_path.iterdir()] == ["exchange.json"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            (400, {"error": {"message": "Error validating access token"}}),
            "answers 400: Error validating access token; check TX_",
        ),
        ((404, {"error": {"message": "no such group"}}), "answers 404: no such group"),
        ((403, b"no"), "answers 403: access denied; check TX_ACCESS_TOKEN"),
        ((200, b"<html>"), "not a JSON object"),
        ((200, {"data": "x"}), "there is no list `data`"),
        ((200, {"data": [], "paging": {"next": "http://elsewhere.example/x"}}), "names a next page on another server"),
        ((503, b""), "answers 503"),
    ],
    ids=["token", "group", "denied", "no JSON", "no list", "elsewhere", "down"],
)
def test_an_exchange_that_does_not_give_a_list_leaves_the_earlier_one(
    exchange: tuple[str, list[dict[str, list[str]]], dict[str, Page]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: tuple[int, object],
    said: str,
) -> None:
    url, _, pages = exchange
    pages["first"] = lambda _: answer
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setenv("TX_ACCESS_TOKEN", "12|secret")
    path = tmp_path / "exchange.json"
    path.write_text("an earlier list")
    with pytest.raises(SettingsError) as caught:
        list(threat_updates("77", HashKind.PDQ, "12|secret", url, sleep=lambda _: None))
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert path.read_text() == "an earlier list"


def test_a_server_that_is_busy_is_asked_again(exchange: tuple[str, list[dict[str, list[str]]], dict[str, Page]]) -> None:
    url, asked, pages = exchange
    pages["first"] = lambda _: (200, {"data": [update(0)]}) if len(asked) == 3 else (503, b"busy")
    waits: list[float] = []
    assert len(list(threat_updates("77", HashKind.PDQ, "t", url, sleep=waits.append))) == 1
    assert waits == [1.0, 2.0]


def test_what_was_fetched_and_is_no_list_is_not_kept(
    exchange: tuple[str, list[dict[str, list[str]]], dict[str, Page]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _, pages = exchange
    pages["first"] = lambda _: (200, {"data": [update(0, indicator="zz")]})
    monkeypatch.setenv("TX_ACCESS_TOKEN", "t")
    path = tmp_path / "exchange.json"
    found = fetch_list(path, HashKind.PDQ, "77", url)
    assert found.content is None
    assert "PDQ hashes have 64 hex digits" in str(found.errors[0])
    assert list(tmp_path.iterdir()) == []


def test_without_a_token_or_over_an_open_line_nothing_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TX_ACCESS_TOKEN", raising=False)
    with pytest.raises(SettingsError, match="set the environment variable TX_ACCESS_TOKEN"):
        fetch_list(tmp_path / "x.json", HashKind.PDQ, "77")
    with pytest.raises(SettingsError, match="would be sent in the clear"):
        list(threat_updates("77", HashKind.PDQ, "t", "http://exchange.example/v19.0"))
    monkeypatch.setenv("TX_ACCESS_TOKEN", "t")
    with pytest.raises(SettingsError, match="give the number of the privacy group"):
        fetch_list(tmp_path / "x.json", HashKind.PDQ, "../77")
