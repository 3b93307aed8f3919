"""Who is let in: decided from a request's headers alone."""

import pytest

from moderation.studio.access import Keys, refusal, same

KEYS = Keys(8765)
OWN = "http://127.0.0.1:8765"


def headers(**others: str | None) -> dict[str, str]:
    """Of a write by the studio's own page."""
    own: dict[str, str | None] = {
        "host": "127.0.0.1:8765",
        "cookie": f"studio-8765={KEYS.session}",
        "origin": OWN,
        "x-csrf-token": KEYS.csrf,
        "sec-fetch-site": "same-origin",
    }
    given = {**own, **{name.replace("_", "-"): value for name, value in others.items()}}
    return {name: value for name, value in given.items() if value is not None}


def test_the_studios_own_page_may_read_and_write() -> None:
    assert refusal(KEYS, "POST", headers()) is None
    assert refusal(KEYS, "GET", headers(origin=None, x_csrf_token=None)) is None


def test_localhost_is_this_machine_too() -> None:
    assert refusal(KEYS, "POST", headers(host="localhost:8765", origin="http://localhost:8765")) is None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:8766", "127.0.0.1:8765.evil.example", "[::1]:8765", ""],
)
def test_another_name_of_this_server_is_refused(host: str) -> None:
    found = refusal(KEYS, "GET", headers(host=host, origin=None))
    assert found is not None
    assert found.status == 421


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://127.0.0.1:8765",
        "http://127.0.0.1:9999",
        "http://localhost:8765",
        "null",
        "",
        f"{OWN}.evil.example",
    ],
)
def test_requests_of_other_sites_are_refused_even_with_all_keys(origin: str) -> None:
    for method in ("GET", "POST"):
        found = refusal(KEYS, method, headers(origin=origin))
        assert found is not None
        assert found.status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_may_link_to_the_studio_and_not_embed_it(site: str) -> None:
    link = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert refusal(KEYS, "GET", headers(origin=None, sec_fetch_site=site, **link)) is None
    for embedded in (
        {"sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"},
        {"sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"},
    ):
        assert refusal(KEYS, "GET", headers(origin=None, sec_fetch_site=site, **embedded)) is not None
    assert refusal(KEYS, "POST", headers(origin=None, sec_fetch_site=site, **link)) is not None


@pytest.mark.parametrize(
    "cookie",
    [None, "", "studio-8765=", "studio-8765=wrong", f"studio-8766={KEYS.session}", f"studio-8765={KEYS.token}",
     f"studio-8765={KEYS.csrf}", f"studio-8765={KEYS.session}x", "\x00=;;;=", "studio-8765=\u00e9"],
    ids=lambda value: "none" if value is None else str(len(value)),
)  # fmt: skip
def test_without_the_cookie_nothing_is_answered(cookie: str | None) -> None:
    found = refusal(KEYS, "GET", headers(cookie=cookie))
    assert found is not None
    assert found.status == 401
    assert KEYS.session not in found.reason
    assert KEYS.token not in found.reason


def test_other_cookies_do_no_harm() -> None:
    assert refusal(KEYS, "GET", headers(cookie=f"theme=dark; studio-8765={KEYS.session}; other=1")) is None


@pytest.mark.parametrize(
    "wrong", [{"x_csrf_token": None}, {"x_csrf_token": "wrong"}, {"x_csrf_token": KEYS.session}, {"origin": None}]
)
def test_a_write_needs_its_key_and_where_it_comes_from(wrong: dict[str, str | None]) -> None:
    found = refusal(KEYS, "POST", headers(**wrong))
    assert found is not None
    assert found.status == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT"])
def test_other_methods_are_not_used(method: str) -> None:
    found = refusal(KEYS, method, headers())
    assert found is not None
    assert found.status == 405


def test_each_start_has_other_keys_of_256_bits() -> None:
    keys = [key for one in (Keys(1), Keys(1)) for key in (one.token, one.session, one.csrf)]
    assert len(set(keys)) == 6
    assert min(map(len, keys)) >= 43
    assert KEYS.token not in repr(KEYS)


def test_keys_are_compared_whole() -> None:
    assert same("abc", "abc")
    assert not same("ab", "abc")
    assert not same("\udcff", "abc")
