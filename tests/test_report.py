"""The HTML report: hostile text is harmless, nothing is loaded, every number is there, the same run gives the same page."""

import base64
import io
import logging
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from moderation.errors import ErrorCode
from moderation.images.limits import ImageLimits
from moderation.policy.schema import Policy
from moderation.records import Counts
from moderation.report import text, views
from moderation.report.build import build_report
from moderation.report.charts import histogram
from moderation.report.render import render
from moderation.report.thumbnails import thumbnails
from moderation.results.aggregates import BINS, Aggregates, ErrorExample, Example, RuleAggregate
from moderation.results.checks import CheckResult
from moderation.results.manifest import Manifest, Timings
from moderation.storage import Store

SOURCE = "s3://bucket/uploads"
HOSTILE = {
    "script": "<script>alert(1)</script>.jpg",
    "attribute": '" onmouseover="alert(1)" x=\'.jpg',
    "comment": "--><img src=https://evil.example/x onerror=alert(1)>",
    "style": "</style><style>@import url(https://evil.example/x.css)",
    "template": "{{ 7 * 7 }}{% raw %}",
    "override": "photo\u202egpj.exe",
    "newline": "line\nbreak\x00\x7f.jpg",
    "surrogate": "name\udcff.jpg",
    "long": "x" * 5000,
    "emoji": "שלום 👩\u200d🚀.jpg",
}


class Page(HTMLParser):
    """Elements with their attributes, and the text of the page, as a browser gets them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"an attribute stands twice in {tag}"
        self.text += " "
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def a_policy(description: str = "What sellers may not show.") -> Policy:
    return Policy.model_validate(
        {
            "policy": "marketplace",
            "version": "2026.11",
            "owner": "trust-and-safety",
            "description": description,
            "model": {"name": "demo"},
            "contrast": ["a photo of a room"],
            "rules": [
                {"id": "firearms", "severity": "high", "prompts": ["a handgun", "a rifle"], "review": 0.6, "block": 0.9},
                {"id": "tobacco", "mode": "shadow", "prompts": ["a cigarette"], "review": 0.5},
                {"id": "money", "score": "similarity", "prompts": ["a bank note"], "review": 0.27, "block": 0.3},
                {"id": "fireworks", "mode": "off", "prompts": ["fireworks"]},
            ],
        }
    )


def a_manifest(policy: Policy, counts: Counts, **others: object) -> Manifest:
    fields: dict[str, object] = {
        "run_id": "20261121T140312Z-9f3a1c",
        "started_at": datetime(2026, 11, 21, 14, 3, tzinfo=UTC),
        "published_at": datetime(2026, 11, 21, 14, 21, tzinfo=UTC),
        "source": SOURCE,
        "policy": policy.policy,
        "policy_version": policy.version,
        "policy_hash": policy.hash,
        "policy_text": "policy: marketplace\n# a comment\n",
        "model": "demo",
        "model_fingerprint": "2f9c1b7a4d3e8f60",
        "device": "cpu",
        "settings": {"batch_size": 256, "limits": {"max_bytes": 1}},
        "listed": 10_000 + counts.scored + counts.errors,
        "unchanged": 10_000,
        "counts": counts,
        "timings": Timings(
            wall_seconds=12.5, images_per_second=80.0, busy_seconds={"decode": 30.0, "list": 0.1}, bottleneck="decode"
        ),
        "checks": (
            CheckResult(name="accounting", description="`listed` adds up", severity="fail", passed=True),
            CheckResult(name="flag_rate", description="as ever", severity="warn", passed=False, unexpected=3),
        ),
        "versions": {"python": "3.11.7", "clip-moderation": "0.1.0"},
        "report": "reports/20261121T140312Z-9f3a1c/report.html",
        "files": (
            {"table": "decisions", "path": "decisions/date=2026-11-21/run=x/a.parquet", "rows": 700, "bytes": 1_500_000},
            {"table": "decisions", "path": "decisions/date=2026-11-21/run=x/b.parquet", "rows": 300, "bytes": 500_000},
        ),
    }
    return Manifest.model_validate(fields | others)


def a_rule(keys: list[str], low: float = 0.0, etag: str = '"1"') -> RuleAggregate:
    return RuleAggregate(
        low=low,
        high=1.0,
        histogram=tuple(10 ** (i % 5) if i % 3 else 0 for i in range(BINS)),
        minimum=low,
        maximum=0.97,
        examples=tuple(Example(f"{SOURCE}/{key}", etag, 0.97, "block", f"a prompt & {key}"[:80], 0) for key in keys),
    )


def a_page(keys: list[str], images: dict[tuple[str, int], str] | None = None, **others: object) -> str:
    policy = a_policy()
    counts = Counts(
        scored=990,
        blocked=3,
        review=17,
        near_threshold=5,
        errored={"corrupt": 9, "storage_error": 1},
        flagged={"firearms": 20},
        shadow={"tobacco": 1234},
    )
    aggregates = Aggregates(
        rules={"firearms": a_rule(keys), "tobacco": a_rule([]), "money": a_rule([], low=-1.0)},
        errors={"corrupt": tuple(ErrorExample(f"{SOURCE}/{key}", f"bad: {key}") for key in keys)},
    )
    return render(a_manifest(policy, counts, **others), policy, aggregates, images or {})


def a_page_full_of(key: str) -> Page:
    policy = a_policy()
    check = CheckResult(name="c", description=key, severity="fail", passed=False, unexpected=1, examples=(key,))
    manifest = a_manifest(
        policy,
        Counts(scored=9, errored={"corrupt": 1}),
        run_id=key[:100],
        source=f"s3://{key}",
        model=key,
        device=key,
        policy_text=f"# {key}\r\npolicy: x",
        checks=(check,),
        settings={key: key},
        versions={key: key},
    )
    error = ErrorExample(f"{SOURCE}/{key}", f"bad: {key}")
    aggregates = Aggregates(rules={"firearms": a_rule([key])}, errors={"corrupt": (error,)})
    page = render(manifest, policy, aggregates, {})
    page.encode()  # no lone surrogate is left
    assert not set("\u202e\u2028\u2066\x00\x7f") & set(page)
    return Page(page)


@pytest.fixture(scope="module")
def harmless() -> Page:
    return a_page_full_of("k")


@pytest.mark.parametrize("key", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_harmless(key: str, harmless: Page) -> None:
    page = a_page_full_of(key)
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in harmless.elements]
    assert [sorted(attributes) for _, attributes in page.elements] == [
        sorted(attributes) for _, attributes in harmless.elements
    ]
    for tag, attributes in page.elements:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form", "video", "audio"}
        assert not [name for name in attributes if name.startswith("on")]
    assert text.visible(key) in page.text


def test_nothing_is_loaded() -> None:
    tiny = "data:image/jpeg;base64,AAAA"
    parsed = Page(a_page(["a.jpg"], {(f"{SOURCE}/a.jpg", 0): tiny}))
    assert [image["src"] for image in parsed.named("img")] == [tiny]
    for tag, attributes in parsed.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:")), tag
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
        assert attributes["href"][1:] in ids
    for _, attributes in parsed.elements:
        for used in re.findall(r"url\(#([^)]+)\)", " ".join(attributes.values())):
            assert used in ids
        for name in ("for", "aria-labelledby"):
            assert attributes.get(name, ids[0]) in ids


def test_the_numbers_are_there() -> None:
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
    bars = re.findall(r'<g class="bin"><title>[^<]*</title><path d="([^"]*)"', drawn)
    tops = [[float(y) for _, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", bar)] for bar in bars]
    heights = [max(points) - min(points) for points in tops]
    assert heights[-1] > 2
    assert heights[0] > 60
    assert set(heights[1:-1]) == {0}


def test_the_same_run_gives_the_same_page() -> None:
    assert a_page(["b.jpg", "a.jpg"]) == a_page(["b.jpg", "a.jpg"])


def test_a_run_that_scored_nothing() -> None:
    policy = a_policy(description="First.\n\nSecond.")
    manifest = a_manifest(policy, Counts(), files=(), checks=(), versions={}, settings={},
                          timings=Timings(wall_seconds=0, images_per_second=0, busy_seconds={}, bottleneck="none"))  # fmt: skip
    words = Page(render(manifest, policy, Aggregates(), {})).text
    assert "No image was scored under this rule" in words
    assert "Every image that this run took up was scored" in words
    assert "No checks were made" in words
    assert "First." in words


def test_thumbnails_of_real_files(tmp_path: Path) -> None:
    Image.new("RGB", (1200, 600), "red").save(tmp_path / "wide.jpg", comment=b"secret")
    Image.new("RGBA", (10, 3000), (0, 0, 255, 128)).save(tmp_path / "tall.png")
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("white", "black", "lime")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "wide.jpg").read_bytes()[:300])
    (tmp_path / "changed.jpg").write_bytes((tmp_path / "wide.jpg").read_bytes())
    store = Store(str(tmp_path))
    found = {item.uri.rpartition("/")[2]: item for page in store.list() for item in page}
    wanted = [(item.uri, "other" if name == "changed.jpg" else item.etag, 0) for name, item in found.items()]
    gif = found["moving.gif"]
    wanted += [(gif.uri, gif.etag, 2), (gif.uri, gif.etag, 9), (f"{store.uri}/gone.jpg", "1", 0), ("s3://other/x.jpg", "1", 0)]

    made = thumbnails(store, wanted, ImageLimits())

    assert set(made) == {(found[name].uri, 0) for name in ("wide.jpg", "tall.png", "moving.gif")} | {(gif.uri, 2)}
    pictures = {key: _opened(data) for key, data in made.items()}
    assert pictures[found["wide.jpg"].uri, 0].size == (160, 80)
    assert pictures[found["tall.png"].uri, 0].size == (1, 160)
    red, green, blue = pictures[gif.uri, 2].convert("RGB").getpixel((20, 20))  # type: ignore[misc]
    assert green > 200 > red + blue
    assert b"secret" not in base64.b64decode(made[found["wide.jpg"].uri, 0].partition(",")[2])


def _opened(data: str) -> Image.Image:
    kind, _, content = data.partition(",")
    assert kind == "data:image/jpeg;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
    assert picture.format == "JPEG"
    return picture


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
    assert text.visible(hidden) == shown


def test_numbers_for_people() -> None:
    assert [text.percent(n, 100_000) for n in (0, 1, 123, 1234, 99_999, 100_000)] == [
        "0%", "0.001%", "0.12%", "1.2%", "100.0%", "100%",
    ]  # fmt: skip
    assert text.percent(1, 10_000_000) == "<0.001%"
    assert text.percent(0, 0) == text.NONE
    assert [text.threshold(t) for t in (0.6, 0.605, None, -1.0)] == ["0.60", "0.605", text.NONE, "-1.00"]
    assert [text.duration(s) for s in (0.421, 12.34, 200.4, 7500)] == ["0.42 s", "12.3 s", "3 min 20 s", "2 h 5 min"]
    assert [text.size(n) for n in (0, 999, 1500, 144_000_000)] == ["0 bytes", "999 bytes", "1.5 kB", "144 MB"]


def test_every_error_code_is_explained() -> None:
    assert set(views.MEANINGS) == set(ErrorCode)


def test_a_report_is_written_or_a_warning_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output = Store(str(tmp_path))
    policy = a_policy()
    manifest = a_manifest(policy, Counts(scored=1))
    aggregates = Aggregates(rules={"firearms": a_rule([])})
    uri = build_report(manifest, policy, aggregates, output, output, ImageLimits())
    assert uri == output.uri_of(manifest.report)
    assert output.get(manifest.report).decode() == render(manifest, policy, aggregates, {})

    (tmp_path / "reports").rename(tmp_path / "moved")
    (tmp_path / "reports").write_text("a file stands in the way")
    with caplog.at_level(logging.WARNING):
        assert build_report(manifest, policy, aggregates, output, output, ImageLimits()) is None
    assert len(caplog.messages) == 1
    assert "could not be written" in caplog.messages[0]


def test_thumbnails_are_made_in_ray_workers(ray_cluster: None, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png"):
        Image.new("RGB", (300, 200), "navy").save(tmp_path / name)
    (tmp_path / "c.jpg").write_bytes(b"\xff\xd8\xff")
    store = Store(str(tmp_path))
    examples = tuple(Example(o.uri, o.etag, 0.9, "block", "a handgun", 0) for page in store.list() for o in page)
    aggregates = Aggregates(rules={"firearms": a_rule([]).model_copy(update={"examples": examples})})
    policy = a_policy()
    manifest = a_manifest(policy, Counts(scored=3), source=store.uri)
    build_report(manifest, policy, aggregates, store, store, ImageLimits())
    page = Page(store.get(manifest.report).decode())
    assert len(page.named("img")) == 2
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.named("img"))
    assert page.text.count("no preview") == 1
