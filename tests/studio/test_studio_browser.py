"""The studio in a real browser: nothing that its Content-Security-Policy forbids, and every flow by mouse and keyboard."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from browsers import OVERFLOW, Browser, Recorder
from needs import needs_chromium
from published import write_debris
from studios import POLICY_TEXT, Running, publish_pictures, running

from moderation.demo import IMAGES_DIR
from moderation.results.runs import all_runs
from moderation.storage import Store

pytestmark = [needs_chromium, pytest.mark.slow]

QUARANTINED = "20261124T030000Z-eeeeee"
HOSTILE = '<img src=x onerror="document.title=1">.png'
KEYS = {"ArrowRight": 39, "ArrowLeft": 37, "ArrowDown": 40, "Enter": 13, "Tab": 9, "Escape": 27}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("browser")
    images = folder / "images"
    images.mkdir()
    names = sorted(path.name for path in (IMAGES_DIR / "listings").iterdir())[:90]
    for name in names:
        shutil.copy(IMAGES_DIR / "listings" / name, images / name)
    shutil.copy(images / "48000-fox.png", images / HOSTILE)
    publish_pictures(folder / "results", images, [*names, HOSTILE])
    write_debris(Store(str(folder / "results")))
    (folder / "shop.yaml").write_text(POLICY_TEXT)
    with running(folder / "results", folder, [folder / "shop.yaml"]) as found:
        yield found


@pytest.fixture(scope="module")
def browser(site: Running, recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    address = site.client.origin.partition("//")[2]
    with closing(Browser(tmp_path_factory.mktemp("profile"), recorder.port, address)) as found:
        found.visit(site.studio.keys.link, 1280)
        until(lambda: found.ask("location.search === '' && !!document.querySelector('nav')"))
        yield found


def until(holds: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def press(browser: Browser, key: str) -> None:
    text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
    code = KEYS.get(key, ord(key[0].upper()))
    browser.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, text=text)
    browser.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)


def opened(browser: Browser, site: Running, path: str, width: int = 1280) -> None:
    browser.visit(f"{site.client.origin}{path}", width)
    until(lambda: browser.ask("document.readyState === 'complete'"))


def text(browser: Browser, selector: str = "main") -> str:
    return str(browser.ask(f"document.querySelector({selector!r})?.innerText ?? ''"))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("path", ["/", "/gallery", "/policy", "/reports", "/search", "/none"])
def test_pages_fit_and_do_nothing_forbidden(browser: Browser, site: Running, path: str, width: int, theme: str) -> None:
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    opened(browser, site, path, width)
    if path == "/policy":
        until(lambda: "firearms" in text(browser, "#effect"))
    assert browser.ask(OVERFLOW) == 0
    assert [said for said in browser.complaints if "404" not in said] == []
    outside = {url for url in browser.requested if not url.startswith(site.client.origin)}
    assert outside == set()


def test_the_gallery_loads_on_while_somebody_scrolls(browser: Browser, site: Running) -> None:
    opened(browser, site, "/gallery")
    assert browser.ask("document.querySelectorAll('.shot').length") == 60
    browser.ask("window.scrollTo(0, document.body.scrollHeight)")
    until(lambda: browser.ask("document.querySelectorAll('.shot').length") == 91)
    until(
        lambda: browser.ask("[...document.querySelectorAll('.shot img')].filter(i => i.complete && i.naturalWidth).length") > 10
    )
    assert browser.ask("document.title").startswith("Gallery")  # the hostile name did nothing
    assert "onerror" in text(browser)


def test_filters_change_the_images_and_the_address(browser: Browser, site: Running) -> None:
    opened(browser, site, "/gallery")
    browser.ask("document.querySelector('[name=action]').value = 'block'")
    browser.ask("document.querySelector('[name=action]').dispatchEvent(new Event('change', {bubbles: true}))")
    until(lambda: "action=block" in browser.ask("location.search"))
    until(lambda: browser.ask("[...document.querySelectorAll('.shot .badge')].every(b => b.innerText === 'block')"))
    assert 0 < browser.ask("document.querySelectorAll('.shot').length") < 60


def test_images_are_reached_and_opened_by_keyboard(browser: Browser, site: Running) -> None:
    opened(browser, site, "/gallery?sort=highest")
    browser.ask("document.querySelector('.shot').focus()")
    press(browser, "ArrowRight")
    press(browser, "ArrowDown")
    columns = browser.ask("getComputedStyle(document.querySelector('.sheet')).gridTemplateColumns.split(' ').length")
    at = browser.ask("[...document.querySelectorAll('.shot')].indexOf(document.activeElement)")
    assert at == columns + 1
    press(browser, "Enter")
    until(lambda: browser.ask("location.pathname") == "/image")
    until(lambda: "firearms" in text(browser, ".bars"))
    browser.ask("window.scrollTo(0, document.body.scrollHeight)")
    until(lambda: browser.ask("document.querySelectorAll('.sheet .shot').length") == 24)
    assert browser.complaints == []


def test_pictures_are_blurred_until_somebody_wants_them_clear(browser: Browser, site: Running) -> None:
    opened(browser, site, "/gallery?sort=lowest")
    until(lambda: browser.ask("!!document.querySelector('.shot img')"))
    assert "blur" in browser.blur(".shot img")
    browser.ask("document.getElementById('clear').click()")
    assert browser.blur(".shot img") == "none"
    opened(browser, site, "/gallery?sort=lowest")
    assert browser.blur(".shot img") == "none"
    browser.ask("document.getElementById('clear').click()")


def test_a_policy_is_edited_dragged_and_saved(browser: Browser, site: Running) -> None:
    file = site.studio.documents[0].path
    opened(browser, site, "/policy")
    until(lambda: "firearms" in text(browser, "#effect"))
    change = (
        "(f, t) => { const v = studioEditor, i = v.state.doc.toString().indexOf(f);"
        " v.dispatch({changes: {from: i, to: i + f.length, insert: t}}); }"
    )
    browser.ask(f"({change})('severity: high', 'severty: high')")
    until(lambda: "did you mean `severity`?" in text(browser, "#problems"))
    browser.ask(f"({change})('severty: high', 'severity: high')")
    until(lambda: "unchanged" in text(browser, "#state"))
    until(lambda: not browser.ask("document.querySelector('.effect').classList.contains('stale')"))
    browser.ask("document.querySelector('[data-rule=firearms] .limit.review').focus()")
    for _ in range(20):
        press(browser, "ArrowLeft")
    until(lambda: "review: 0.48" in browser.ask("studioEditor.state.doc.toString()"))
    assert "# with a comment" in browser.ask("studioEditor.state.doc.toString()")
    until(lambda: text(browser, "[data-rule=firearms] [data-n=enters]") != "0")
    browser.ask("document.querySelector('[data-rule=firearms] [data-sheet]').click()")
    until(lambda: "Enters" in text(browser, "[data-rule=firearms] .images"))
    browser.ask("document.getElementById('save').click()")
    until(lambda: "+    review: 0.48" in text(browser, "#difference"))
    browser.ask("document.getElementById('confirm-save').click()")
    until(lambda: text(browser, "#state") == "saved")
    assert file.read_text() == POLICY_TEXT.replace("review: 0.50", "review: 0.48")
    # somebody else changes the file, and what is typed after that is not lost
    file.write_text(POLICY_TEXT)
    browser.ask(f"({change})('review: 0.48', 'review: 0.40')")
    until(lambda: not browser.ask("document.getElementById('save').disabled"))
    browser.ask("document.getElementById('save').click()")
    until(lambda: browser.ask("document.getElementById('review-save').open"))
    browser.ask("document.getElementById('confirm-save').click()")
    until(lambda: "changed by somebody else" in text(browser, "#save-problem"))
    assert file.read_text() == POLICY_TEXT
    assert "review: 0.40" in browser.ask("studioEditor.state.doc.toString()")
    browser.ask("window.onbeforeunload = null; document.getElementById('review-save').close()")
    browser.ask(f"({change})('review: 0.40', 'review: 0.48')")


def test_keys_are_completed_from_the_schema(browser: Browser, site: Running) -> None:
    opened(browser, site, "/policy")
    until(lambda: "firearms" in text(browser, "#effect"))
    browser.ask(
        "(() => { const v = studioEditor, i = v.state.doc.toString().indexOf('score: similarity'), l = v.state.doc.lineAt(i);"
        " v.dispatch({changes: {from: l.to, insert: '\\n    '}, selection: {anchor: l.to + 5}}); v.focus(); })()"
    )
    browser.call("Input.insertText", text="contr")
    shadow = "document.getElementById('editor').shadowRoot"
    until(lambda: "contrast" in (browser.ask(f"{shadow}.querySelector('.cm-tooltip-autocomplete')?.innerText") or ""))
    assert browser.complaints == []
    whole = "{from: 0, to: studioEditor.state.doc.length, insert: document.getElementById('text').value}"
    browser.ask(f"studioEditor.dispatch({{changes: {whole}}})")


def test_a_quarantined_run_is_released(browser: Browser, site: Running) -> None:
    opened(browser, site, "/")
    assert QUARANTINED in text(browser, ".quarantined")
    for name, value in (("by", "Ada Lovelace"), ("reason", "toys are on sale")):
        browser.ask(f"document.querySelector('.quarantined [name={name}]').value = {value!r}")
    browser.ask("document.querySelector('.quarantined button.main').click()")
    until(lambda: "released by" in text(browser))
    assert {run.run_id: run.state for run in all_runs(site.studio.output)}[QUARANTINED] == "published"
