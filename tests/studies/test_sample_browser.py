"""The page for labelling in a real browser: labels are given by keyboard, kept, and saved as the CSV that was written."""

import base64
import csv
import io
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from browsers import OVERFLOW, PAYLOADS, Browser, Recorder, a_thumbnail
from needs import needs_chromium
from report_pages import HOSTILE, a_policy

from moderation.studies.sampling.label_sheet import LabelledImage, LabelSheet, render
from moderation.studies.sampling.labels_file import header, unlabelled
from moderation.studies.sampling.sample_result import SampledImage

pytestmark = needs_chromium

KEYS = {"ArrowRight": 39, "ArrowLeft": 37, " ": 32, "Tab": 9}
URIS = [f"s3://bucket/uploads/{name}" for name in ("a.jpg", "b.jpg", "gone.jpg", *PAYLOADS.values())]
URIS = [uri for uri in URIS if uri.isascii() or "\udcff" not in uri]  # what is no UTF-8 cannot be in Parquet


@pytest.fixture
def browser(tmp_path: Path, recorder: Recorder) -> Iterator[Browser]:
    """A browser of its own for each test, since progress is kept in it."""
    with closing(Browser(tmp_path / "profile", recorder.port)) as browser:
        yield browser


def a_sheet(uris: list[str], identity: str = "0123456789abcdef", **others: Any) -> str:
    policy = a_policy()
    images = [
        LabelledImage(uri, 0, unlabelled("firearms", SampledImage(uri, "1", 0, "near", 12.5 + i, 0.1)))
        for i, uri in enumerate(uris)
    ]
    sheet = LabelSheet(policy, policy.rules[0], "demo", header(), images, identity, "firearms-labels.csv", 12_345)
    return render(sheet, {(uri, 0): a_thumbnail() for uri in uris if "gone" not in uri})


def press(browser: Browser, key: str, release: bool = True) -> None:
    text = key if len(key) == 1 else ""
    code = KEYS.get(key, ord(key[0].upper()))
    browser.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, text=text)
    if release:
        browser.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)


def saved(folder: Path) -> list[dict[str, str]]:
    """The rows of the CSV that the page has just saved."""
    deadline = time.monotonic() + 20
    while not (files := list(folder.glob("*.csv"))):
        assert time.monotonic() < deadline, list(folder.iterdir())
        time.sleep(0.05)
    newest = max(files, key=lambda file: file.stat().st_mtime_ns)
    return list(csv.DictReader(io.StringIO(newest.read_bytes().decode(), newline="")))


def opened(browser: Browser, folder: Path, html: str, width: int = 1280) -> Path:
    downloads = folder / "downloads"
    downloads.mkdir(exist_ok=True)
    page = folder / "sheet.html"
    page.write_text(html, encoding="utf-8")
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
    browser.open(page, width)
    return downloads


def place(browser: Browser) -> int:
    return int(browser.ask("document.getElementById('place').textContent").split()[1])


def test_labels_are_given_by_keyboard_and_saved(browser: Browser, tmp_path: Path) -> None:
    downloads = opened(browser, tmp_path, a_sheet(URIS))
    assert browser.complaints == []
    assert place(browser) == 1
    for key in "ynu":
        press(browser, key)
    assert place(browser) == 4
    press(browser, "k")
    press(browser, "ArrowLeft")
    assert place(browser) == 2
    press(browser, "n")  # once more: taken back
    assert place(browser) == 2
    press(browser, "y")
    press(browser, "j")
    press(browser, "ArrowRight")
    assert place(browser) == 5
    press(browser, "n")
    assert browser.ask("document.getElementById('done').textContent") == f"4 of {len(URIS)} labelled"
    press(browser, "s")
    rows = saved(downloads)
    assert [row["uri"] for row in rows] == URIS
    assert [row["label"] for row in rows] == ["true", "true", "unsure", "", "false", *[""] * (len(URIS) - 5)]
    assert [float(row["weight"]) for row in rows] == [12.5 + i for i in range(len(URIS))]
    assert {row["rule"] for row in rows} == {"firearms"}
    assert {row["score"] for row in rows} == {"0.1"}


def test_an_image_is_seen_while_a_key_is_held(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, a_sheet(URIS))
    assert "blur" in browser.blur("#picture")
    assert URIS[0] not in browser.ask("document.body.innerText"), "a name may give the answer away"
    browser.mouse("click", "#where summary")
    assert URIS[0] in browser.ask("document.body.innerText")
    press(browser, "j")
    press(browser, "k")
    assert URIS[0] not in browser.ask("document.body.innerText")
    assert browser.ask("document.getElementById('original').hasAttribute('href')") is False
    for key in ("v", " "):
        press(browser, key, release=False)
        assert browser.blur("#picture") == "none"
        browser.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=86 if key == "v" else 32)
        assert "blur" in browser.blur("#picture")
    browser.mouse("move", "#picture")
    assert "blur" in browser.blur("#picture")
    browser.mouse("click", "#always")
    assert browser.blur("#picture") == "none"
    press(browser, "y")
    assert place(browser) == 2
    press(browser, "n")
    assert browser.ask("document.getElementById('picture').hidden") is True
    assert "no preview" in browser.ask("document.querySelector('.frame').innerText")


def test_progress_is_kept_for_this_sample_only(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, a_sheet(URIS))
    press(browser, "y")
    press(browser, "n")
    browser.events.clear()
    browser.call("Page.reload")
    while not any(event.get("method") == "Page.javascriptDialogOpening" for event in browser.events):
        browser.events.append(browser._read())
    dialog = next(event for event in browser.events if event.get("method") == "Page.javascriptDialogOpening")
    assert dialog["params"]["type"] == "beforeunload"
    browser.call("Page.handleJavaScriptDialog", accept=True)
    while not any(event.get("method") == "Page.loadEventFired" for event in browser.events):
        browser.events.append(browser._read())
    assert browser.ask("document.getElementById('done').textContent") == f"2 of {len(URIS)} labelled"
    assert place(browser) == 3
    press(browser, "s")
    assert len(saved(tmp_path / "downloads")) == len(URIS)
    opened(browser, tmp_path, a_sheet(URIS, "fedcba9876543210"))  # nothing is unsaved, so nothing asks
    assert browser.ask("document.getElementById('done').textContent") == f"0 of {len(URIS)} labelled"


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_hostile_names_do_nothing(browser: Browser, recorder: Recorder, tmp_path: Path, width: int) -> None:
    recorder.asked.clear()
    opened(browser, tmp_path, a_sheet(URIS), width)
    for _ in URIS:
        assert browser.ask(OVERFLOW) <= 0
        press(browser, "j")
    assert browser.ask("document.title") == f"firearms – {len(URIS)} images to label"
    assert browser.ask("document.querySelectorAll('script').length") == 2
    assert browser.ask("document.querySelectorAll('iframe, img, a[href]').length") == 1
    assert browser.requested == set()
    assert browser.complaints == []
    assert not [asked for asked in recorder.asked if "example" in asked]


def test_buttons_do_what_keys_do(browser: Browser, tmp_path: Path) -> None:
    downloads = opened(browser, tmp_path, a_sheet(URIS[:3]), 390)
    for button in ("#yes", "#back", "#next", "#unsure", "#no", "#save"):
        browser.mouse("click", button)
    assert [row["label"] for row in saved(downloads)] == ["true", "unsure", "false"]
    assert "Saved" in browser.ask("document.getElementById('said').textContent")


def test_the_test_images_have_every_hostile_name() -> None:
    assert len(URIS) == 3 + len(HOSTILE) - 1 + len(PAYLOADS) - len(HOSTILE)
    assert base64.b64decode(a_thumbnail().partition(",")[2]).startswith(b"\xff\xd8")
