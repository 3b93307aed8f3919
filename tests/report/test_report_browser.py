"""The report in a real browser: nothing runs, nothing overflows, no request leaves the page, images stay blurred."""

from pathlib import Path

import pytest
from browsers import OVERFLOW, PAYLOADS, Browser, Recorder, a_thumbnail
from needs import needs_chromium
from report_pages import SOURCE, a_page, a_page_full_of, an_earlier_run

from moderation.results.check_results import CheckResult

pytestmark = needs_chromium


def thumbnails_of(keys: list[str]) -> dict[tuple[str, int], str]:
    return {(f"{SOURCE}/{kind}{key}", 0): a_thumbnail() for kind in ("", "near ", "clean ") for key in keys}


def test_the_browser_checks_catch_a_bad_page(browser: Browser, recorder: Recorder, tmp_path: Path) -> None:
    """A page that does all that the report must not do is caught at each of it."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<!doctype html><title>fine</title><script>document.title='owned'</script>"
        "<img src='http://evil.example/x.png'><p style='width:3000px'>wide</p>"
    )
    browser.open(page, 390)
    assert browser.ask("document.title") == "owned"
    assert browser.ask(OVERFLOW) > 0
    assert browser.requested == {"http://evil.example/x.png"}
    assert any("evil.example" in asked for asked in recorder.asked)


@pytest.mark.parametrize("width", [1280, 390, 320], ids=["desktop", "phone", "small phone"])
def test_hostile_names_do_nothing(browser: Browser, recorder: Recorder, tmp_path: Path, width: int) -> None:
    pages = {name: a_page_full_of(key) for name, key in PAYLOADS.items()}
    keys = list(PAYLOADS.values())
    pages["all"] = a_page(keys, thumbnails_of(keys), (an_earlier_run(1), an_earlier_run(2)), "data-docs/index.html")
    recorder.asked.clear()
    for name, html in pages.items():
        page = tmp_path / f"{name}.html"
        page.write_text(html)
        browser.open(page, width)
        browser.ask("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert browser.ask("document.title").startswith("marketplace – moderation run"), name
        assert browser.ask(OVERFLOW) <= 0, name
        assert browser.requested == set(), name
        assert browser.complaints == [], name
        assert browser.ask("document.querySelectorAll('script, iframe, a[href^=javascript]').length") == 0, name
    assert not [asked for asked in recorder.asked if "example" in asked]


WORDS_BROKEN = """(() => {
  document.querySelectorAll("details").forEach(d => { d.open = true; });
  const broken = [];
  for (const table of document.querySelectorAll("table.checks")) {
    const walker = document.createTreeWalker(table, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      if (node.parentElement.closest(".key, code")) continue;
      for (const word of node.data.matchAll(/[\\w,.%]+/g)) {
        const range = document.createRange();
        range.setStart(node, word.index);
        range.setEnd(node, word.index + word[0].length);
        if (new Set([...range.getClientRects()].map(r => Math.round(r.top))).size > 1) broken.push(word[0]);
      }
    }
  }
  return broken.join(" ");
})()"""
"""The words of tables of checks that stand on two lines."""


def test_no_word_of_the_checks_is_broken(browser: Browser, tmp_path: Path) -> None:
    found = ("26.9 % (78 of 290 images); rules that flag most: weapons 29, alcohol 27", "unsupported_format 1,234,567,890")
    checks = tuple(
        CheckResult(
            name=f"decision_error_complete_{i}",
            description="error rows have a known code, a detail and the code's `retryable`; scored rows have none of these",
            severity="fail",
            passed=i != 1,
            observed=observed,
            limit="302 decisions, 1,450 scores, 290 or more embeddings",
        )
        for i, observed in enumerate(found)
    )
    page = tmp_path / "report.html"
    for width in (1280, 390):
        page.write_text(a_page(["a.jpg"], checks=checks))
        browser.open(page, width)
        assert browser.ask("document.querySelectorAll('table.checks tr').length") == 4
        assert browser.ask(WORDS_BROKEN) == "", width
    page.write_text(
        a_page(["a.jpg"], checks=checks).replace("</style>", ".checks td, .checks bdi { word-break: break-all; }</style>")
    )
    browser.open(page, 1280)
    assert browser.ask(WORDS_BROKEN) != "", "the measure works"


def test_images_are_seen_on_purpose_only(browser: Browser, tmp_path: Path) -> None:
    keys = ["plain.jpg", "sealed.jpg"]
    page = tmp_path / "report.html"
    page.write_text(a_page(keys, thumbnails_of(keys)))
    browser.open(page, 1280)
    assert "blur" in browser.blur(".picture:not(.sealed) img")
    browser.mouse("move", ".picture:not(.sealed)")
    assert browser.blur(".picture:not(.sealed) img") == "none"
    browser.mouse("move", ".picture.sealed")
    assert "blur" in browser.blur(".picture.sealed img")
    assert "blur" in browser.blur(".picture:not(.sealed) img")
    browser.mouse("click", ".picture.sealed")
    assert browser.blur(".picture.sealed img") == "none"

    browser.call("Emulation.setEmulatedMedia", media="print")
    assert "blur" in browser.blur(".picture:not(.sealed) img")
    assert browser.ask("getComputedStyle(document.querySelector('.picture.sealed img')).visibility") == "hidden"
    browser.call("Emulation.setEmulatedMedia", media="")

    shown = "[...document.querySelectorAll('.picture')].filter(p => p.checkVisibility()).length"
    assert browser.ask(shown) > 0
    browser.mouse("click", ".switch")
    assert browser.ask(shown) == 0


def test_the_report_can_be_used_with_the_keyboard_alone(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(a_page(["plain.jpg"], thumbnails_of(["plain.jpg"])))
    browser.open(page, 1280)

    def press(key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)

    press("Tab", 9)
    assert browser.ask("document.activeElement.id") == "hide-images"
    for _ in range(40):
        press("Tab", 9)
        if browser.ask("document.activeElement.matches('.picture input')"):
            break
    assert browser.ask("getComputedStyle(document.activeElement.nextElementSibling).filter") == "none"
