"""A real server on a real port, and clients that do what they should not."""

import socket
import time
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest
from published import write_debris, write_results
from studios import Running, running

from moderation.results.runs import all_runs
from moderation.storage import Store
from moderation.studio.server import Patience

QUARANTINED = "20261124T030000Z-eeeeee"
PATHS = [
    "/",
    "/gallery",
    "/gallery/more",
    "/policy",
    "/policy/schema.json",
    "/reports",
    "/search",
    "/static/studio.css",
    "/pictures?uri=x",
    "/none",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("security")
    output = Store(str(folder / "results"))
    write_results(output)
    write_debris(output)
    with running(folder / "results", folder, patience=Patience(headers=1.0, body=1.5)) as found:
        yield found


def raw(site: Running, sent: bytes, seconds: float = 20.0) -> bytes:
    """What the server answers to bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", site.client.port), timeout=seconds) as connection:
        connection.sendall(sent)
        found = b""
        while data := connection.recv(65536):
            found += data
        return found


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_shown(site: Running, path: str) -> None:
    answer = site.client.get(path, bare=True)
    assert answer.status == 401
    assert len(answer.body) < 200
    assert site.client.csrf not in answer.text
    assert "set-cookie" not in answer.headers


def test_the_link_gives_a_cookie_that_scripts_and_other_sites_do_not_see(site: Running) -> None:
    answer = site.client.get(f"/gallery?token={site.studio.keys.token}&action=block", bare=True)
    assert answer.status == 200
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert site.studio.keys.token not in cookie + answer.text
    assert 'url=/gallery?action=block"' in answer.text


@pytest.mark.parametrize("token", ["", "wrong", "x" * 5000, "%00", "é"])
def test_a_wrong_token_gives_nothing(site: Running, token: str) -> None:
    answer = site.client.get(f"/?token={quote(token)}", bare=True)
    assert answer.status == 401
    assert "set-cookie" not in answer.headers


def test_the_link_does_not_lead_to_other_sites(site: Running) -> None:
    answer = site.client.get(f"//evil.example/?token={site.studio.keys.token}", bare=True)
    assert "evil.example" not in answer.text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1:1", "localhost"])
def test_a_name_that_leads_here_by_dns_is_refused(site: Running, host: str) -> None:
    for path in ("/", f"/?token={site.studio.keys.token}"):
        answer = site.client.get(path, Host=host)
        assert answer.status == 421
        assert "set-cookie" not in answer.headers


def test_two_hosts_are_refused(site: Running) -> None:
    own = f"127.0.0.1:{site.client.port}"
    answer = raw(site, f"GET / HTTP/1.1\r\nHost: {own}\r\nHost: evil.example\r\nCookie: {site.client.cookie}\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 421"))


def test_a_page_of_another_site_can_neither_read_nor_write(site: Running) -> None:
    path = f"/runs/{QUARANTINED}/release"
    form = b"by=Mallory&reason=because"
    assert site.client.get("/", Origin="https://evil.example").status == 403
    cross = {"Content_Type": "application/x-www-form-urlencoded", "Sec_Fetch_Site": "cross-site", "X_CSRF_Token": None}
    assert site.client.post(path, form, Origin="https://evil.example", **cross).status == 403
    assert site.client.post(path, form, Origin="null", **cross).status == 403
    assert site.client.post(path, form, **cross).status == 403
    assert site.client.post(path, form, X_CSRF_Token=None).status == 403
    assert site.client.post(path, form, X_CSRF_Token="guessed").status == 403
    assert site.client.post(path, form, Origin=None).status == 403
    assert site.client.post(path, form, Cookie=None).status == 401
    states = {run.run_id: run.state for run in all_runs(site.studio.output)}
    assert states[QUARANTINED] == "quarantined"
    assert site.audited == []


def test_every_answer_has_the_headers_that_browsers_obey(site: Running) -> None:
    answers = [site.client.get(path) for path in PATHS] + [site.client.get("/", bare=True), site.client.ask("PUT", "/", {})]
    assert {answer.status for answer in answers} >= {200, 401, 404, 405}
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers


def test_no_page_has_a_script_or_a_style_in_it(site: Running) -> None:
    for path in ("/", "/gallery", "/policy", "/reports", "/search"):
        text = site.client.get(path).text
        assert "<style" not in text
        assert " style=" not in text
        assert text.count("<script") == text.count('<script src="/static/')
        assert "javascript:" not in text


def test_large_bodies_are_refused_before_they_are_read(site: Running) -> None:
    answer = site.client.post("/policy/0/draft", b"", Content_Length=str(50 << 20))  # and none of them is ever sent
    assert answer.status == 413


def test_a_large_body_in_pieces_is_refused_where_it_becomes_too_large(site: Running) -> None:
    head = (
        f"POST /policy/0/draft HTTP/1.1\r\nHost: 127.0.0.1:{site.client.port}\r\nCookie: {site.client.cookie}\r\n"
        f"Origin: {site.client.origin}\r\nX-CSRF-Token: {site.client.csrf}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", site.client.port), timeout=20) as connection:
        connection.sendall(head)
        try:
            while sent < 50 << 20:
                connection.sendall(piece)
                sent += 0x10000
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert sent < 20 << 20
    assert site.client.get("/reports").status == 200


def test_strangers_cannot_send_a_body_at_all(site: Running) -> None:
    assert site.client.post("/search/picture", b"x" * 100_000, Cookie=None).status == 401


def test_clients_that_say_nothing_are_closed_and_hold_up_nobody(site: Running) -> None:
    silent = [socket.create_connection(("127.0.0.1", site.client.port), timeout=20) for _ in range(30)]
    slow = socket.create_connection(("127.0.0.1", site.client.port), timeout=20)
    slow.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{site.client.port}\r\nX-Slow: ".encode())
    assert site.client.get("/reports").status == 200
    for connection in (*silent, slow):
        assert connection.recv(100) == b""  # closed by the server
        connection.close()


def test_a_second_request_on_a_connection_is_not_waited_for_either(site: Running) -> None:
    head = f"GET /reports HTTP/1.1\r\nHost: 127.0.0.1:{site.client.port}\r\nCookie: {site.client.cookie}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", site.client.port), timeout=20) as connection:
        connection.sendall(head)
        time.sleep(0.3)
        connection.sendall(head[:-6])
        found = b""
        while data := connection.recv(65536):
            found += data
    assert found.count(b"HTTP/1.1 200") == 1


def test_a_body_that_does_not_arrive_is_given_up(site: Running) -> None:
    head = (
        f"POST /policy/0/draft HTTP/1.1\r\nHost: 127.0.0.1:{site.client.port}\r\nCookie: {site.client.cookie}\r\n"
        f"Origin: {site.client.origin}\r\nX-CSRF-Token: {site.client.csrf}\r\nContent-Length: 100\r\n\r\n{{"
    ).encode()
    assert raw(site, head).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "uri",
    ["file:///etc/passwd", "/etc/passwd", "../../../etc/passwd", "s3://shop/listings/none.jpg", "s3://shop/listings/gun.jpg\x00",
     "http://169.254.169.254/", "' OR 1=1 --", "s3://other-bucket/x.jpg", ""],
)  # fmt: skip
def test_only_images_that_results_name_can_be_asked_for(site: Running, uri: str) -> None:
    assert site.client.get(f"/pictures?{urlencode({'uri': uri})}").status == 404
    assert site.client.get(f"/image?{urlencode({'uri': uri})}").status == 400
    assert site.client.get(f"/image/alike?{urlencode({'uri': uri})}").status == 404


@pytest.mark.parametrize(
    "path",
    ["/static/../server.py", "/static/%2e%2e/server.py", "/static/vendor/../../app.py", "/static//etc/passwd", "/static/",
     "/static/studio.js%00", "/reports/..", "/reports/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/reports/none",
     f"/reports/{QUARANTINED}/../x", "/../../etc/passwd", "/policy/0/../../etc/passwd"],
)  # fmt: skip
def test_no_path_of_a_client_is_opened(site: Running, path: str) -> None:
    answer = site.client.get(path)
    assert answer.status in (400, 404, 405)
    assert b"root:" not in answer.body
    assert b"import " not in answer.body


@pytest.mark.parametrize(
    "trick",
    [
        "' OR '1'='1",
        "'; DROP TABLE images; --",
        "x') UNION SELECT * FROM read_csv('/etc/passwd') --",
        "\\",
        "%",
        "rule\x00",
        "ש" * 500,
    ],
)
@pytest.mark.parametrize("name", ["rule", "prefix", "error"])
def test_sql_in_a_filter_is_only_a_text_that_no_image_has(site: Running, name: str, trick: str) -> None:
    answer = site.client.get(f"/gallery?{urlencode({name: trick})}")
    assert answer.status == 200
    assert "<b>0</b> of" in answer.text
    assert "<b>0</b> of" not in site.client.get("/gallery").text


@pytest.mark.parametrize(
    "query",
    ["sort=uri;DROP", "low=nan", "low=1e999", "high=x", "since=yesterday", "since=99999-01-01", "action=delete", "unknown=1",
     "prefix=" + "x" * 3000, "after=x", "after=WzEsMl0=", "after=WyJuYW4iLCAieCJd", "after=" + "A" * 9000],
)  # fmt: skip
def test_senseless_filters_are_mistakes_of_the_client(site: Running, query: str) -> None:
    answer = site.client.get(f"/gallery/more?{query}")
    assert answer.status == 400
    assert "Traceback" not in answer.text


def test_websockets_are_not_spoken(site: Running) -> None:
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    assert site.client.get("/", bare=True, **upgrade).status == 401


def test_text_that_is_no_form_or_json_is_a_mistake_of_the_client(site: Running) -> None:
    for body in (b"\xff\xfe", b"[" * 100_000, b"[]", b"null", b'{"text": 1}', b"{"):
        assert site.client.post("/policy/0/draft", body).status == 400
    for body in (b"\xff", b"by=%ff&reason=x", b"&".join(b"a=1" for _ in range(100))):
        assert site.client.post(f"/runs/{QUARANTINED}/release", body).status == 400
