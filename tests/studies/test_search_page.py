"""The page of a search: names do nothing, images stay blurred, and it fits a phone."""

from contextlib import closing
from pathlib import Path

from browsers import OVERFLOW, PAYLOADS, Browser, Recorder, a_thumbnail
from needs import needs_chromium
from report_pages import Page, words_of

from moderation.studies.search.search_page import Hit, SearchPage, render


def a_page(query: str, names: list[str], by_image: bool = False) -> str:
    hits = [
        Hit(f"s3://bucket/{name}", i % 2, 0.9 - i / 100, ("block", "review", "allow")[i % 3], ("firearms",) * (i % 3 < 2), i)
        for i, name in enumerate(names)
    ]
    page = SearchPage(query, by_image, f"s3://results/{query}", query, "0" * 16, 12_345, hits, query)
    return render(page, {(hit.uri, hit.frame): a_thumbnail() for hit in hits[1:]}, a_thumbnail() if by_image else None)


def test_the_page_describes_its_query_and_hits() -> None:
    words = words_of(a_page("a red car", ["a.jpg", "b.jpg", "c.jpg"]))
    for told in ("Images that show a red car", "3 of 12,345 images", "0.900 block", "and 1 like it", "no preview"):
        assert told in words
    assert "No matching image." in words_of(a_page("a red car", []))
    assert "Images that look like x.jpg" in words_of(a_page("x.jpg", ["a"], by_image=True))
    assert not Page(a_page("a red car", ["a.jpg"])).named("script")


@needs_chromium
def test_hostile_names_do_nothing(tmp_path: Path, recorder: Recorder) -> None:
    page = tmp_path / "page.html"
    with closing(Browser(tmp_path / "profile", recorder.port)) as browser:
        for width in (1280, 390, 320):
            for name, payload in PAYLOADS.items():
                page.write_bytes(a_page(payload, list(PAYLOADS.values()), by_image=True).encode("utf-8", "replace"))
                browser.open(page, width)
                assert browser.ask("document.title").startswith("Search"), name
                assert browser.ask(OVERFLOW) <= 0, (name, width)
                assert browser.requested == set(), name
                assert browser.complaints == [], name
        assert "blur" in browser.blur(".picture:not(.sealed) img")
        assert "blur" in browser.blur(".picture.sealed img")
    assert not [asked for asked in recorder.asked if "example" in asked]
