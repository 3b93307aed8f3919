"""The HTML report: hostile text is harmless, nothing is loaded, every number is there, the same run gives the same page."""

import json
import re
from itertools import chain
from pathlib import Path

import pytest
from report_pages import (
    COUNTS,
    HOSTILE,
    SOURCE,
    Page,
    a_manifest,
    a_page,
    a_page_full_of,
    a_policy,
    a_rule,
    a_run_of,
    an_earlier_run,
    words_of,
)

import moderation.html
from moderation.common.safe_text import visible
from moderation.errors import ErrorCode
from moderation.html import text
from moderation.records import Counts
from moderation.report import report_views
from moderation.report.changes import count_change, rate_change
from moderation.report.charts import histogram
from moderation.report.summary import summary
from moderation.results.aggregates import BINS
from moderation.results.check_results import CheckResult
from moderation.results.manifest import Timings


@pytest.fixture(scope="module")
def harmless() -> Page:
    return Page(a_page_full_of("k"))


@pytest.mark.parametrize("key", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_harmless(key: str, harmless: Page) -> None:
    html = a_page_full_of(key)
    html.encode()  # no lone surrogate is left
    assert not set("\u202e\u2028\u2066\x00\x7f") & set(html)
    page = Page(html)
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in harmless.elements]
    assert [sorted(attributes) for _, attributes in page.elements] == [
        sorted(attributes) for _, attributes in harmless.elements
    ]
    for tag, attributes in page.elements:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form", "video", "audio"}
        assert not [name for name in attributes if name.startswith("on")]
    assert visible(key) in page.text


def test_the_report_loads_nothing_from_the_network() -> None:
    tiny = "data:image/jpeg;base64,AAAA"
    parsed = Page(a_page(["a.jpg"], {(f"{SOURCE}/a.jpg", 0): tiny}, data_docs="data-docs/index.html"))
    assert [image["src"] for image in parsed.named("img")] == [tiny]
    for tag, attributes in parsed.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            value = attributes.get(name, "#")
            # Links beside the page are for people to follow.
            assert value.startswith(("#", "data:")) or (tag, value) in {("a", "summary.json"), ("a", "data-docs/index.html")}
        assert not re.search(r"url\((?!#)", attributes.get("style", ""))
    style = parsed.text
    assert "@import" not in style
    assert "url(" not in style
    policies = [m["content"] for m in parsed.named("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none';")
    assert "script" not in policies[0]


def test_ids_are_unique_and_links_lead_somewhere() -> None:
    parsed = Page(a_page(["a.jpg"]))
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in parsed.named("a"):
        assert attributes["href"][1:] in ids or attributes["href"] == "summary.json"
    for _, attributes in parsed.elements:
        for used in re.findall(r"url\(#([^)]+)\)", " ".join(attributes.values())):
            assert used in ids
        for name in ("for", "aria-labelledby"):
            assert attributes.get(name, ids[0]) in ids


def test_every_number_of_the_run_is_in_the_report() -> None:
    words = " ".join(Page(a_page(["a.jpg"])).text.split())
    for expected in (
        "11,000 listed = 10,000 unchanged + 990 scored + 10 errors",
        "0.30% of scored",
        "would have flagged 1,234",
        "flagged 20 2.0% of scored",
        "A score is not a probability",
        "21 November 2026, 14:21 UTC",
        "1 of 2 checks hold",
        "1,000 2.0 MB",
        "decisions/date=2026-11-21/run=x/*.parquet",
        "12.5 s",
        "clip-moderation 0.1.0",
    ):
        assert expected in words


@pytest.mark.parametrize(("low", "rule"), [(0.0, 0), (0.0, 1), (-1.0, 2)])
def test_a_histogram_holds_every_bin(low: float, rule: int) -> None:
    aggregate = a_rule([], low)
    parsed = Page(histogram(a_policy().rules[rule], aggregate))
    counts = re.findall(r"-?[\d.]+ to -?[\d.]+: ([\d,]+)", parsed.text)
    assert [int(count.replace(",", "")) for count in counts] == list(aggregate.histogram)
    label = parsed.named("svg")[0]["aria-label"]
    for threshold in a_policy().rules[rule].thresholds:
        assert f"{threshold:.2f}" in parsed.text
        assert f"{threshold:.2f}" in label


def test_a_single_image_is_a_bar_that_can_be_seen() -> None:
    few = a_rule([]).model_copy(update={"histogram": (1_000_000, *[0] * (BINS - 2), 1)})
    drawn = histogram(a_policy().rules[0], few)
    heights = [float(bar["height"]) for bar in Page(drawn).named("rect") if bar["class"] == "bin"]
    assert len(heights) == BINS
    assert heights[-1] > 2
    assert heights[0] > 60
    assert set(heights[1:-1]) == {0}


def test_the_same_run_gives_the_same_page() -> None:
    assert a_page(["b.jpg", "a.jpg"]) == a_page(["b.jpg", "a.jpg"])


def test_the_report_of_a_run_that_processed_nothing_says_so() -> None:
    words = a_run_of(Counts(), checks=())
    for expected in (
        "Nothing new All 10,000 listed images already had a decision",
        "No image was scored, so that there is none to draw",
        "This run processed no image",
        "No checks were made",
        "First. Second.",
    ):
        assert expected in words
    assert "Results by rule" not in words
    assert "Nothing was listed" in a_run_of(Counts(), listed=0, unchanged=0)


def test_the_report_of_a_run_in_which_everything_failed_says_so() -> None:
    words = a_run_of(Counts(errored={"corrupt": 7}))
    assert "Nothing was scored Not one of the 7 images" in words
    assert "7 100%" in words
    assert "Results by rule" not in words


def test_a_quarantined_run_says_why_and_what_to_do() -> None:
    check = CheckResult(
        name="flag_rate",
        description="flag rates are as ever",
        severity="fail",
        passed=False,
        unexpected=1,
        examples=("firearms",),
        observed="firearms 20%, before 2.0%",
        limit="a factor of 5",
        hint="look at the images it flagged",
    )
    words = words_of(a_page(["a.jpg"], state="quarantined", checks=(check,)))
    for expected in (
        "This run was not published",
        "flag rates are as ever : firearms 20%, before 2.0% (allowed: a factor of 5 ) look at the images it flagged",
        "moderate runs release 20261121T140312Z-9f3a1c --results OUTPUT --reason",
        "moderate runs discard 20261121T140312Z-9f3a1c --results OUTPUT",
        "_quarantine/20261121T140312Z-9f3a1c/ of the output",
    ):
        assert expected.replace(" ", "") in words.replace(" ", "")
    ordinary = words_of(a_page(["a.jpg"]))
    assert "not published" not in ordinary.partition("Checks")[0]
    assert "1 check warns" in ordinary


def test_the_report_shows_changes_since_the_last_run() -> None:
    empty = an_earlier_run(1, scored=0, listed=11_000, blocked=0, review=0, flagged={})
    last = an_earlier_run(2, run_id="20261119T140312Z-222222")
    words = words_of(a_page(["a.jpg"], earlier=(empty, last)))
    for expected in (
        "since the run 20261119T140312Z-222222 of 19 November 2026",
        "with the same policy and model",
        "Blocked 3 0.30% of scored = as many as before ▲ up from 0.15%",
        "Errors 10 1.0% of images processed; the policy says review ▲ 10 more ▲ up from 0%",
        "firearms uncategorized high live 0.60 0.90 20 2.0% ▲ 10 more ▲ up from 0.50%",
        "money uncategorized medium live 0.27 0.30 0 0% ▼ 1 fewer ▼ down from 0.050%",
    ):
        assert expected in words
    other = words_of(a_page(["a.jpg"], earlier=(an_earlier_run(policy_hash="other"),)))
    assert "with another version of the policy; rates" in other
    both = words_of(a_page(["a.jpg"], earlier=(an_earlier_run(policy_hash="other", model_fingerprint="other"),)))
    assert "with another version of the policy and another model; rates" in both
    assert "tobacco uncategorized critical shadow 0.50 – would be 1,234 124.6% –" in other  # it may be new
    assert "There is no earlier run of this policy" in words_of(a_page(["a.jpg"]))


def test_changes_of_counts_and_rates_are_put_in_words() -> None:
    assert [count_change(*pair).words for pair in ((1200, 0), (3, 5), (4, 4))] == ["1,200 more", "2 fewer", "as many as before"]
    assert rate_change((1, 10), (1, 0)) is None
    told = [rate_change((1, 10), before) for before in ((1, 100), (1, 2), (100, 1000))]
    assert [change and change.words for change in told] == ["up from 1.0%", "down from 50.0%", "same rate"]


def test_the_flag_rate_of_the_last_runs_is_a_line() -> None:
    runs = (an_earlier_run(1), an_earlier_run(2, scored=0), an_earlier_run(3, policy_hash="other"))
    page = Page(a_page([], earlier=runs))
    labels = [svg["aria-label"] for svg in page.named("svg")]
    assert "Share of images that the rule firearms flagged in the last 3 runs, oldest first: 0.50%, 0.50%, 2.0%" in labels
    assert "policy or model changed" in page.text
    assert "18 Nov 2026: 0.50%" in page.text
    assert not [label for label in labels if "tobacco flagged" in label and "last 3" in label]
    assert len(Page(a_page([])).named("svg")) == 3


def test_images_are_blurred_and_critical_ones_sealed() -> None:
    keys = ["sealed.jpg", "plain.jpg"]
    images = {(f"{SOURCE}/{kind}{key}", 0): "data:image/jpeg;base64,AAAA" for kind in ("", "near ", "clean ") for key in keys}
    page = Page(a_page(keys, images))
    shown = [label["class"] for label in page.named("label") if label["class"].startswith("picture")]
    assert shown.count("picture sealed") == 1
    assert len(shown) == len(page.named("img")) == 6
    assert page.text.count("and 2 like it") == 4
    assert page.text.count("0.012 below review 0.60") == 2
    assert "2 of the 970 images that no live rule flagged" in " ".join(page.text.split())


def test_the_json_summary_has_every_documented_number() -> None:
    policy, runs = a_policy(), (an_earlier_run(),)
    told = json.loads(summary(a_manifest(policy, COUNTS, sources=["s3://b/\udcff", "s3://c"]), policy, runs))
    assert told["counts"] == {
        "listed": 11_000, "unchanged": 10_000, "repeated": 0, "scored": 990, "errored": 10,
        "blocked": 3, "review": 17, "to_review": 27, "allowed": 970, "near_threshold": 5,
    }  # fmt: skip
    assert told["rates"]["flagged"] == 20 / 990
    assert told["rules"]["firearms"] | {"flagged": 20, "rate": 20 / 990, "mode": "live"} == told["rules"]["firearms"]
    assert set(told["rules"]) == {"firearms", "tobacco", "money"}
    assert told["errors"] == {"corrupt": 9, "storage_error": 1}
    assert told["previous"]["run_id"] == runs[0].run_id
    assert told["previous"]["flagged"] == {"firearms": 10, "tobacco": 0, "money": 1}
    assert [check["name"] for check in told["checks"]["warned"]] == ["flag_rate"]
    assert (told["bottleneck"], told["state"], told["report"]) == ("decode", "published", a_manifest(policy, COUNTS).report)
    documented = set(re.findall(r"`(\w+)`", summary.__doc__ or ""))
    for name in chain(told, told["counts"], told["rates"], told["rules"]["firearms"], told["previous"], told["timings"]):
        assert name in documented
    nothing = json.loads(summary(a_manifest(policy, Counts()), policy))
    assert nothing["previous"] is None
    assert nothing["rates"] == dict.fromkeys(told["rates"])


def test_colours_have_enough_contrast_in_light_and_dark() -> None:
    """WCAG AA: text has a contrast of at least 4.5 with what it stands on, in light and in dark."""
    css = (Path(moderation.html.__file__).parent / "pages" / "colours.css").read_text()
    light, dark = (
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{(.*?)\}", css, re.S)[:2]
    )
    plain = [(ink, ground) for ink in ("ink", "muted", "link", "block", "review", "pass") for ground in ("page", "card")]
    tinted = [("block", "block-tint"), ("review", "review-tint"), ("pass", "pass-tint"), ("muted", "sunk")]
    for colours in (light, dark):
        for ink, ground in [*plain, *tinted, ("ink", "block-tint"), ("ink", "review-tint"), ("ink", "sunk")]:
            assert _contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


def _contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        ("a\nb\t\x1b", "a␊b␉␛"),
        ("\x7f\x85\u2028", "␡‹U+0085›‹U+2028›"),
        ("\u202e\u2066\u200b\ufeff\xad", "‹U+202E›‹U+2066›‹U+200B›‹U+FEFF›‹U+00AD›"),
        ("\udcff", "‹U+DCFF›"),
        ("é 漢字 👩\u200d🚀 שלום", "é 漢字 👩\u200d🚀 שלום"),
        ("🏴\U000e0067\U000e0062\U000e007f", "🏴\U000e0067\U000e0062\U000e007f"),
    ],
)
def test_hidden_characters_are_made_visible(hidden: str, shown: str) -> None:
    assert visible(hidden) == shown


def test_numbers_are_rounded_and_grouped_for_people() -> None:
    assert [text.percent(n, 100_000) for n in (0, 1, 123, 1234, 99_999, 100_000)] == [
        "0%", "0.001%", "0.12%", "1.2%", "100.0%", "100%",
    ]  # fmt: skip
    assert text.percent(1, 10_000_000) == "<0.001%"
    assert text.percent(0, 0) == text.NONE
    assert [text.threshold(t) for t in (0.6, 0.605, None, -1.0)] == ["0.60", "0.605", text.NONE, "-1.00"]
    assert [text.duration(s) for s in (0.421, 12.34, 200.4, 7500)] == ["0.42 s", "12.3 s", "3 min 20 s", "2 h 5 min"]
    assert [text.milliseconds(s) for s in (1.5, 0.0123, 0.0012, 0.0000123)] == ["1,500 ms", "12 ms", "1.2 ms", "0.012 ms"]
    assert [text.size(n) for n in (0, 999, 1500, 144_000_000)] == ["0 bytes", "999 bytes", "1.5 kB", "144 MB"]


def test_keys_are_shown_without_their_common_prefix() -> None:
    assert text.key_of(["s3://b/in/"], "s3://b/in/x/y.jpg") == "x/y.jpg"
    assert text.key_of(["s3://b/in", "s3://c/more/"], "s3://c/more/x.jpg") == "more/x.jpg"
    assert text.key_of(["s3://b/list.csv"], "s3://c/x.jpg") == "s3://c/x.jpg"


def test_every_error_code_is_explained() -> None:
    assert set(report_views.MEANINGS) == set(ErrorCode)


def test_examples_say_how_many_there_are_and_rules_without_flags_are_folded() -> None:
    page = a_page(["a.jpg", "b.jpg"])
    assert re.search(r"Flagged: \d+ of 20, (spread over the range of scores, )?highest scores first", words_of(page))
    order = re.findall(r'<article class="card rule" id="rule-([^"]+)"', page)
    assert order == ["tobacco", "firearms", "money"], "critical first, then high; what flagged nothing last"
    assert re.findall(r'<summary id="quiet-([^"]+)">', page) == ["money"]


def test_the_longest_bar_is_the_bottleneck() -> None:
    """Ten decode threads are busier in sum than the one that runs the model, which everything waits for."""
    timings = Timings(
        wall_seconds=10.0,
        images_per_second=99.0,
        busy_seconds={"decode": 40.0, "encode": 9.0},
        bottleneck="encode",
        threads={"decode": 10, "encode": 1},
    )
    manifest = a_manifest(a_policy(), COUNTS, timings=timings)
    shown = {stage.name: (float(stage.share), stage.bottleneck) for stage in report_views.stages(manifest)}
    assert shown == {"decode": (pytest.approx(44.4), False), "encode": (100.0, True)}
