"""The page of a backtest: its numbers, its pictures, and names that would do harm."""

import os
import re
from pathlib import Path

import pytest
from backtest_pages import a_backtest, a_changed, a_policy, some_days
from browsers import OVERFLOW, PAYLOADS, Browser, Recorder, a_thumbnail
from markdown_it import MarkdownIt
from needs import needs_chromium
from PIL import Image
from report_pages import HOSTILE, SOURCE, Page, words_of

from moderation.common.safe_text import visible
from moderation.errors import OutputError
from moderation.html.previews import GROUP, previews
from moderation.images.limits import ImageLimits
from moderation.sources import ObjectReader
from moderation.storage import Store
from moderation.studies.backtest import backtest_views
from moderation.studies.backtest.backtest_page import render, write_page
from moderation.studies.backtest.backtest_result import Actions, BeforeAfter, RuleChange
from moderation.studies.backtest.day_bars import MOST, day_bars, spans
from moderation.studies.backtest.markdown import markdown

RESULTS = "s3://moderation/results"
DIES = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x99IHDR"


def a_page(keys: list[str], **others: object) -> str:
    thumbnails = {(f"{SOURCE}/{kind}{key}", 0): a_thumbnail() for kind in ("", "near ") for key in keys}
    thumbnails[f"{SOURCE}/smoke.gif", 3] = a_thumbnail()
    found = a_backtest(keys, **others)
    return render(found, a_policy(), RESULTS, thumbnails, tried=backtest_views.wanted(found))


def test_the_page_says_what_changes() -> None:
    words = words_of(a_page(["gun.jpg"]))
    for said in (
        "marketplace 2026.12 (fedcba9876543210)",
        "compared with the published decisions",
        "Decided from stored embeddings",
        "Different decision 60 0.60% of 9,990 images",
        "Newly blocked 17 0.17% of images",
        "Less strict 3",
        "Blocked in total 233 → 247 2.3% → 2.5% of images",
        "To review in total 705 → 743",
        "Blocks per day 3.88 → 4.12 on average over 60 days",
        "Reviews per day 11.8 → 12.4",
        "9,990 images = 9,900 re-decided + 90 that could not be scored, in 1.50 s",
        "allow → 9,000 90.1% 40 0.40% 12 0.12% 9,052 90.6%",
        "in all 9,000 90.1% 743 7.4% 247 2.5% 9,990 100%",
        "firearms 0.60 0.90 700 → 745 52 7",
        "fireworks shadow: would flag 2",
        "knives no longer in the policy",
        "listings/ 10 1 10.0% 1 → 1 0 → 1",
        "2026-09-01 to 2026-10-30",
        "allow → block 12 images, 1 of them shown",
        "0.912 firearms: 0.012 above block 0.90 gun.jpg",
        "stays allow 0.588 firearms: 0.012 below review 0.60 near gun.jpg",
        "tobacco: at review 0.50 frame 3",
        "knives: not in the new policy",
        "fireworks would flag 2 images, the 1 highest scores shown",
        "0.700 fireworks: 0.300 above review 0.40 rocket.jpg",
        "could not be scored: `unreadable` decides",
        "could not be scored review → block could not be scored: `unreadable` decides",
        "names are below s3://bucket/uploads/",
        "ViT-L-14/openai 1111111111111111, 500 images in 1 run",
        "What 90 images show that could not be scored",
        "1,200 images for which the condition width > 500 is not met",
        "1 run that began too early, with 800 images",
    ):
        assert said in words, said
    assert "Over the budget" not in words
    assert "Nothing changes" not in words


def test_the_page_names_what_is_unusual_about_the_results() -> None:
    same = {("allow", "allow"): 5, ("block", "block"): 1}
    nothing = a_backtest([], transitions=same, scored=6, errors=0, left_out=(), examples=(), against="old.yaml", seconds=0.0)
    words = words_of(render(nothing, a_policy(), RESULTS, {}, "too much <b>"))
    assert "Nothing changes Every one of the 6 images keeps its action." in words
    assert "beside what marketplace 2026.11 (0123456789abcdef) would have decided" in words
    assert "over the budget" in words
    assert "too much <b>" in words
    assert "Images were not fetched." in words
    assert "No image gets a different decision." in words
    empty = a_backtest([], transitions={}, scored=0, errors=0, prefixes={}, days={}, rules={}, examples=(), first_day=None)
    assert "a day" not in words_of(render(empty, a_policy(), RESULTS, {}))
    assert "Newly blocked 0 – of images" in words_of(render(empty, a_policy(), RESULTS, {}))


def test_tiles_without_a_picture_say_why() -> None:
    found = a_backtest(["gun.jpg"])
    tried = backtest_views.wanted(found)
    assert len(tried) == 5
    page = Page(render(found, a_policy(), RESULTS, {}, tried=tried)).text
    assert (page.count("no longer readable"), page.count("not fetched"), page.count(" could not be scored\n")) == (5, 0, 1)
    page = Page(render(found, a_policy(), RESULTS, {}, tried=tried[:1])).text
    assert (page.count("no longer readable"), page.count("not fetched")) == (1, 4)


def test_a_page_has_a_bounded_number_of_pictures() -> None:
    def near(rule: str) -> RuleChange:
        return RuleChange(1, 1, 0, 0, tuple(a_changed(f"{rule} {i}", rule=rule) for i in range(12)))

    found = a_backtest([], rules={f"r{i}": near(f"r{i}") for i in range(100)})
    wanted = backtest_views.wanted(found)
    assert len(wanted) == backtest_views.MOST == len(set(wanted))
    assert {f"{SOURCE}/r{i} {rank}" for i in range(100) for rank in range(5)} <= {uri for uri, _, _ in wanted}


def test_critical_rules_and_unknown_ones_are_sealed() -> None:
    sheets = backtest_views.Sheets(a_backtest(["gun.jpg"]), a_policy(), {}, ())
    sealed = {image.caption.partition(":")[0]: image.sealed for sheet in sheets.changed() for image in sheet.images}
    assert sealed == {"firearms": False, "tobacco": True, "knives": True, "could not be scored": True}


def test_thresholds_are_shown_with_the_policys_digits() -> None:
    found = a_backtest([], examples=(a_changed("a.jpg", score=0.9000000357627869, threshold=0.8999999761581421),))
    (sheet, *_) = backtest_views.Sheets(found, a_policy(), {}, ()).changed()
    assert sheet.images[0].caption == "firearms: at block 0.90"


def test_old_scores_and_thresholds_stand_beside_the_new_ones() -> None:
    new, rules = a_policy(), a_policy().rules
    old = a_policy(version="2026.11", rules=[{**rules[0].model_dump(mode="json"), "review": 0.5, "block": None}])
    examples = (
        a_changed("a.jpg", score_before=0.3124),
        a_changed("b.jpg", "allow", "review", score=0.65, threshold=0.6, score_before=0.65),
        a_changed("c.jpg", "allow", "review", rule="tobacco", score=0.55, threshold=0.5),
    )
    found = a_backtest([], examples=examples)
    words = words_of(render(found, new, RESULTS, {}, before=old))
    assert "0.312 → 0.912 firearms: 0.012 above block 0.90 before: 0.312, review from 0.50 a.jpg" in words
    assert "0.650 firearms: 0.050 above review 0.60 before: 0.650, review from 0.50 b.jpg" in words
    assert "0.550 tobacco: 0.050 above review 0.50 before: not in the old policy c.jpg" in words
    assert "firearms 0.50 → 0.60 – → 0.90" in words
    assert "before → now where it differs; old thresholds are those of the newest run" in words
    assert "before: 0.312 a.jpg" in words_of(render(found, new, RESULTS, {}))


@pytest.mark.parametrize(
    ("uris", "folder"),
    [
        ([], ""),
        (["s3://b/x/1.jpg", "s3://b/x/2.jpg"], "s3://b/x/"),
        (["s3://b/x/1.jpg", "s3://b/xy/2.jpg"], "s3://b/"),
        (["s3://b/1.jpg", "s3://c/1.jpg"], ""),
        (["file:///a/1.jpg", "file:///b/1.jpg"], ""),
        (["file:///a/b/1.jpg", "file:///a/1.jpg"], "file:///a/"),
    ],
)
def test_the_folder_that_names_are_shown_below(uris: list[str], folder: str) -> None:
    assert backtest_views.common_folder(uris) == folder


@pytest.mark.parametrize(
    ("count", "unit", "number"), [(1, "day", 1), (45, "day", 45), (46, "week", 8), (400, "month", 15), (4000, "year", 12)]
)
def test_days_are_summed_to_what_can_be_drawn(count: int, unit: str, number: int) -> None:
    days = some_days(count)
    shown = spans(days)
    assert (shown.unit, shown.left_out) == (unit, 0)
    assert number - 1 <= len(shown.spans) <= min(number, MOST)  # the last days may have no image
    total = sum((span.found for span in shown.spans), BeforeAfter())
    assert total == sum(days.values(), BeforeAfter())
    drawn = day_bars(shown, "block", "Blocked")
    assert drawn.count("<g>") == len(shown.spans)
    assert f"{total.before.block:,} in all before, {total.after.block:,} after" in drawn


def test_images_of_another_century_are_said_to_be_left_out() -> None:
    one = BeforeAfter(Actions(1), Actions(1))
    shown = spans({"0001-01-01": one, "1970-01-01": one + one, "9999-12-31": one})
    assert (shown.unit, len(shown.spans), shown.left_out) == ("year", MOST, 3)
    assert spans({}).spans == ()
    assert "in all" in day_bars(spans({}), "review", "To review")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(name: str) -> None:
    key = HOSTILE[name]
    found = a_backtest([key], old=key, new=key, where=key)
    page = Page(render(found, a_policy(version=key[:90].replace("\udcff", "")), key, {}, key))
    plain = Page(render(a_backtest(["plain.jpg"]), a_policy(), RESULTS, {}, "too much"))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert not [tag for tag, attributes in page.elements if any(a.startswith("on") or a == "srcset" for a in attributes)]
    assert all(a.get("href", "#").startswith("#") or a["href"] == "data:," for a in (*page.named("a"), *page.named("link")))
    assert not re.search("[\u202e\x00\x7f\udcff]", page.text)


def test_the_page_shows_pictures_of_files_that_still_exist(tmp_path: Path) -> None:
    source = tmp_path / "images"
    source.mkdir()
    for name in ("there.jpg", "replaced.jpg", "gone.jpg"):
        Image.effect_noise((300, 200), 50).convert("RGB").save(source / name)
    (source / "broken.jpg").write_bytes((source / "there.jpg").read_bytes()[:100])
    items = {item.uri.rpartition("/")[2]: item for page in Store(str(source)).list() for item in page}
    (source / "gone.jpg").unlink()
    Image.new("RGB", (9, 9)).save(source / "replaced.jpg")
    found = a_backtest([], examples=tuple(a_changed(name, uri=i.uri, etag=i.etag) for name, i in items.items()), rules={})

    path = write_page(found, tmp_path / "out", policy=a_policy(), results=Store(str(tmp_path)).uri)

    assert path == tmp_path / "out" / "backtest.html"
    page = Page(path.read_text(encoding="utf-8"))
    (picture,) = page.named("img")
    assert picture["src"].startswith("data:image/jpeg;base64,")
    assert page.text.count("no longer readable") == 3

    # Results in a bucket cannot have files of this machine shown; and nothing is fetched where it was not asked for.
    path = write_page(found, tmp_path, policy=a_policy(), results=RESULTS)
    assert not Page(path.read_text(encoding="utf-8")).named("img")
    path = write_page(found, tmp_path, policy=a_policy(), results=Store(str(tmp_path)).uri, thumbnails=False)
    assert path.read_text(encoding="utf-8").count(">not fetched<") == 4

    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*file/backtest\.html"):
        write_page(found, tmp_path / "file", policy=a_policy(), results=RESULTS, thumbnails=False)


def test_an_image_that_kills_its_reader_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's process is made to die at one image, as a decoder with a hole would."""
    for number in range(5):
        Image.new("RGB", (40, 40), (50 * number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "dies.png").write_bytes(DIES)
    plugin = tmp_path / "site"
    plugin.mkdir()
    (plugin / "sitecustomize.py").write_text(
        "import os\nfrom PIL import PngImagePlugin as p\nread = p._accept\n"
        "def accept(prefix):\n    data = prefix[:16]\n"
        f"    return os._exit(9) if data == {DIES!r} else read(prefix)\n"
        "from PIL import Image\nImage.preinit()\nImage.OPEN['PNG'] = (Image.OPEN['PNG'][0], accept)\n"
        "print('decoders may print')\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(plugin), os.environ.get("PYTHONPATH", "")]))
    items = [item for page in Store(str(tmp_path)).list() for item in page if item.uri.endswith(".png")]
    made = previews(ObjectReader(manifests=True, local_files=True), [(i.uri, i.etag, 0) for i in items], ImageLimits())
    assert sorted(uri.rpartition("/")[2] for uri, _ in made) == [f"{number}.png" for number in range(5)]


def test_a_reader_that_hangs_is_ended(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    (item,) = [item for page in Store(str(tmp_path)).list() for item in page]
    assert previews(ObjectReader(manifests=True, local_files=True), [(item.uri, item.etag, 0)], timeout_s=0.01) == {}
    assert GROUP > 1


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390, 320], ids=["desktop", "phone", "small phone"])
def test_in_a_browser_nothing_runs_leaves_or_overflows(
    browser: Browser, recorder: Recorder, tmp_path: Path, width: int
) -> None:
    keys = list(PAYLOADS.values())
    pages = {name: a_page([key], new=key, old=key, against=key) for name, key in PAYLOADS.items()}
    pages["all"] = a_page(keys)
    pages["large"] = a_page(["a.jpg"], transitions=dict.fromkeys(a_backtest([]).transitions, 123_456_789), days=some_days(40))
    recorder.asked.clear()
    for name, html in pages.items():
        page = tmp_path / f"{name}.html"
        page.write_text(html)
        browser.open(page, width)
        browser.ask("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert browser.ask("document.title") == "marketplace – backtest", name
        assert browser.ask(OVERFLOW) <= 0, name
        assert browser.requested == set(), name
        assert browser.complaints == [], name
    assert not [asked for asked in recorder.asked if "example" in asked]


@needs_chromium
def test_in_a_browser_images_are_seen_on_purpose_only(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "backtest.html"
    page.write_text(a_page(["plain.jpg"]))
    browser.open(page, 1280)
    assert "blur" in browser.blur(".picture:not(.sealed) img")
    browser.mouse("move", ".picture.sealed")
    assert "blur" in browser.blur(".picture.sealed img")
    browser.mouse("click", ".picture.sealed")
    assert browser.blur(".picture.sealed img") == "none"
    browser.mouse("move", ".picture:not(.sealed)")
    assert browser.blur(".picture:not(.sealed) img") == "none"
    browser.mouse("click", ".switch")
    assert browser.ask("[...document.querySelectorAll('.picture')].filter(p => p.checkVisibility()).length") == 0


@pytest.mark.parametrize("name", [*HOSTILE, "link", "table", "url"])
def test_hostile_names_are_text_in_markdown(name: str) -> None:
    others = {
        "link": "[a](javascript:alert(1)) ![b](https://evil.example/x)",
        "table": "a | b\n|---|\n`c",
        "url": "www.evil.example",
    }
    key = {**HOSTILE, **others}[name]
    text = markdown(a_backtest([key], old=key, new=key), over_budget=key)
    tokens = [inner for token in MarkdownIt().enable("table").parse(text) for inner in (token, *(token.children or ()))]
    plain = [token.type for token in MarkdownIt().enable("table").parse(markdown(a_backtest(["plain"]), over_budget="x"))]
    assert [token.type for token in MarkdownIt().enable("table").parse(text)] == plain
    assert not {"html_inline", "html_block", "link_open", "image", "code_inline"} & {token.type for token in tokens}
    shown = "".join(token.content for token in tokens if token.type in ("text", "text_special"))
    assert visible(key)[:100] in shown
    assert "www." not in text
    assert not re.search("[\u202e\x00\x7f\udcff]", text)


def test_markdown_has_the_numbers() -> None:
    text = markdown(a_backtest(["a.jpg"]))
    assert "**60 get a different decision (0.60%), 17 of them newly blocked (0.17%).**" in text
    assert "| **allow** | 9,000 | **40** | **12** |" in text
    assert "Blocked per day: 3.88 → 4.12. To review per day: 11.8 → 12.4." in text
    assert "| firearms | 700 | 745 | 52 | 7 |" in text
    assert "Over the budget" not in text


def test_the_page_says_what_changed_in_the_policy() -> None:
    old, new = a_policy(), a_policy(unreadable="block")
    words = words_of(render(a_backtest([]), new, RESULTS, {}, before=old))
    assert "What changed in the policy Since the policy of the newest run." in words
    assert "the policy unreadable review block changes decisions" in words
    assert "No change in meaning." in words_of(render(a_backtest([]), old, RESULTS, {}, before=old))
    assert "What changed in the policy" not in words_of(render(a_backtest([]), old, RESULTS, {}))
