"""Runs, reports and images on pages: what they show, what they change, and that hostile names harm nothing."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import boto3
import pytest
from published import GUN, HOSTILE, write_debris, write_results
from report_pages import Page
from studios import Running, running

from moderation.results.manifest import find_manifest
from moderation.results.runs import all_runs
from moderation.storage import Store

QUARANTINED = "20261124T030000Z-eeeeee"
THIRD = "20261122T030000Z-cccccc"
DECIDED = b"by=Ada+Lovelace&reason=the+sale+of+toys+%3Cb%3E"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "results"
    output = Store(str(folder))
    write_results(output)
    write_debris(output)
    output.put(f"reports/{THIRD}/report.html", b"<h1>The report</h1><script>alert(1)</script>")
    output.put(f"reports/{THIRD}/summary.json", b"{}")
    return folder


@pytest.fixture(scope="module")
def shared(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """For tests that change nothing."""
    with running(written, tmp_path_factory.mktemp("shared")) as found:
        yield found


@pytest.fixture
def site(written: Path, tmp_path: Path) -> Iterator[Running]:
    """For tests that change something."""
    shutil.copytree(written, tmp_path / "results")
    with running(tmp_path / "results", tmp_path) as found:
        yield found


def states(site: Running) -> dict[str, str]:
    return {run.run_id: run.state for run in all_runs(site.studio.output)}


def test_a_quarantined_run_is_released_with_a_name_and_a_reason(site: Running) -> None:
    assert QUARANTINED in site.client.get("/").text
    answer = site.client.post(f"/runs/{QUARANTINED}/release", DECIDED)
    assert answer.status == 200
    assert answer.headers["hx-redirect"] == "/"
    manifest = find_manifest(site.studio.output, QUARANTINED)
    assert manifest is not None
    assert manifest.release is not None
    assert (manifest.release.by, manifest.release.reason) == ("Ada Lovelace", "the sale of toys <b>")
    page = site.client.get("/").text
    assert "released by <bdi>Ada Lovelace</bdi>: <bdi>the sale of toys &lt;b&gt;</bdi>" in page
    (line,) = site.audited
    assert (line["what"], line["run"], line["by"]) == ("release", QUARANTINED, "Ada Lovelace")
    assert site.client.post(f"/runs/{QUARANTINED}/release", DECIDED).status == 400  # it is published by now


def test_a_quarantined_run_is_discarded_with_a_name_and_a_reason(site: Running) -> None:
    assert site.client.post(f"/runs/{QUARANTINED}/discard", DECIDED).status == 200
    assert QUARANTINED not in states(site)
    assert QUARANTINED not in site.client.get("/").text
    assert [line["what"] for line in site.audited] == ["discard"]


@pytest.mark.parametrize("fields", [b"", b"by=Ada", b"reason=x", b"by=+&reason=x", b"by=Ada&reason=" + b"x" * 3000])
def test_without_a_name_and_a_reason_nothing_happens(shared: Running, fields: bytes) -> None:
    before = states(shared)
    for what in ("release", "discard"):
        assert shared.client.post(f"/runs/{QUARANTINED}/{what}", fields).status == 400
    assert states(shared) == before
    assert shared.audited == []


def test_published_and_unknown_runs_cannot_be_discarded(shared: Running) -> None:
    before = states(shared)
    for run in (THIRD, "none", "..", "%2e%2e", "20261123T030000Z-dddddd"):
        assert shared.client.post(f"/runs/{run}/discard", DECIDED).status in (400, 404, 405)
    assert states(shared) == before


def test_without_its_line_in_the_audit_log_nothing_changes(site: Running) -> None:
    site.audit.unlink()
    site.audit.mkdir()
    answer = site.client.post(f"/runs/{QUARANTINED}/release", DECIDED)
    assert answer.status == 400
    assert "audit log" in answer.text
    assert states(site)[QUARANTINED] == "quarantined"


def test_reports_are_listed_and_shown_in_a_sandbox(shared: Running) -> None:
    assert f'href="/reports/{THIRD}"' in shared.client.get("/reports").text
    answer = shared.client.get(f"/reports/{THIRD}")
    assert "<h1>The report</h1>" in answer.text
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox;")
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert shared.client.get(f"/reports/{THIRD}/summary.json").json == {}


def test_a_report_that_is_gone_is_said_to_be(shared: Running) -> None:
    answer = shared.client.get("/reports/20261120T030000Z-aaaaaa")
    assert answer.status == 400
    assert "gone" in answer.text


def test_a_manifest_cannot_point_to_another_file(site: Running) -> None:
    key = f"runs/{THIRD}.json"
    text = site.studio.output.get(key).decode()
    site.studio.output.put(key, text.replace(f"reports/{THIRD}/report.html", f"runs/{THIRD}.json").encode())
    site.studio.runs(fresh=True)
    assert site.client.get(f"/reports/{THIRD}").status == 400


def test_new_runs_are_seen_without_a_restart(site: Running) -> None:
    before = site.studio.catalogue().result()
    site.client.post(f"/runs/{QUARANTINED}/release", DECIDED)
    after = site.studio.catalogue().result()
    assert QUARANTINED in after.runs - before.runs


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_and_do_nothing(shared: Running, name: str) -> None:
    uri = f"s3://shop/{name}"
    for path in (f"/image?{urlencode({'uri': uri})}", f"/gallery?{urlencode({'prefix': uri})}"):
        answer = shared.client.get(path)
        assert answer.status == 200
        page = Page(answer.text)
        assert {tag for tag, _ in page.elements} <= TAGS
        assert not any(attribute.startswith("on") for _, given in page.elements for attribute in given)
        shown = name.partition("/")[2].replace("\n", "\u240a").replace("\x1b", "\u241b")
        assert shown in page.text
        links = [given["href"] for given in page.named("a") if given["href"].startswith("/image?")]
        assert all(shared.client.get(link).status == 200 for link in links)


TAGS = {
    "html", "head", "meta", "link", "title", "script", "body", "a", "div", "nav", "form", "input", "label", "span", "main",
    "h1", "h2", "h3", "p", "bdi", "dl", "dt", "dd", "code", "ul", "li", "svg", "rect", "line", "table", "thead", "tbody", "tr",
    "th", "td", "br", "footer", "img", "b", "section", "select", "option", "noscript", "button",
}  # fmt: skip


def test_an_image_says_why_it_is_decided_so_and_what_earlier_runs_decided(shared: Running) -> None:
    uri = f"s3://shop/{GUN}"
    text = Page(shared.client.get(f"/image?{urlencode({'uri': uri})}").text).text
    assert "another version" in text  # the first run saw it before it was replaced
    assert text.count("20261120T030000Z-aaaaaa") == 1


def test_an_image_that_could_not_be_read_says_so(shared: Running) -> None:
    text = Page(shared.client.get(f"/image?{urlencode({'uri': 's3://shop/listings/broken.jpg'})}").text).text
    assert "it is corrupt" in text
    assert "decided by the policy: review" in text


def test_mistakes_are_pages_for_people_and_text_for_scripts(shared: Running) -> None:
    assert "<nav" in shared.client.get("/none").text
    answer = shared.client.ask("GET", "/none", {"Cookie": shared.client.cookie, "Accept": "*/*"})
    assert answer.text == "there is no such page\n"


def test_results_in_a_bucket_are_shown_and_released_too(s3_endpoint: str, tmp_path: Path) -> None:
    boto3.client("s3").create_bucket(Bucket="studio")
    output = Store("s3://studio/results")
    write_results(output)
    write_debris(output)
    with running("s3://studio/results", tmp_path) as site:
        assert QUARANTINED in site.client.get("/").text
        assert "<b>15</b> of 15 images" in site.client.get("/gallery").text
        assert site.client.get(f"/image?{urlencode({'uri': f's3://shop/{GUN}'})}").status == 200
        assert site.client.post(f"/runs/{QUARANTINED}/release", DECIDED).status == 200
    assert find_manifest(output, QUARANTINED) is not None


def test_a_fault_of_the_program_is_a_page_and_a_trace_where_it_was_started(
    site: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(site.studio, "runs", broken)
    answer = site.client.get("/reports")
    assert answer.status == 500
    assert "secret detail" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    deadline = time.monotonic() + 20  # the trace comes after the answer
    while "a secret detail" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "a secret detail" in caplog.text
    assert site.studio.keys.token not in caplog.text
