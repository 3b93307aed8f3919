"""The report's pictures: small, without metadata, made in other processes, as many as the page can bear."""

import base64
import io
import logging
from pathlib import Path

import pytest
from PIL import Image
from report_pages import Page, a_manifest, a_policy, a_rule

from moderation.html.thumbnails import thumbnails
from moderation.images.limits import ImageLimits
from moderation.records import Counts
from moderation.report.build import build_report
from moderation.report.report_page import render
from moderation.report.sheets import MOST, sheets, wanted
from moderation.report.summary import summary
from moderation.results.aggregates import Aggregates, CleanExample
from moderation.results.example_images import Example
from moderation.sources import ObjectReader
from moderation.storage import Store


def test_thumbnails_are_made_of_real_files(tmp_path: Path) -> None:
    Image.new("RGB", (1200, 600), "red").save(tmp_path / "wide.jpg", comment=b"secret")
    Image.new("RGBA", (10, 3000), (0, 0, 255, 128)).save(tmp_path / "tall.png")
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("white", "black", "lime")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "wide.jpg").read_bytes()[:300])
    (tmp_path / "changed.jpg").write_bytes((tmp_path / "wide.jpg").read_bytes())
    store = Store(str(tmp_path))
    found = {item.uri.rpartition("/")[2]: item for page in store.list() for item in page}
    named = [(item.uri, "other" if name == "changed.jpg" else item.etag, 0) for name, item in found.items()]
    gif = found["moving.gif"]
    named += [(gif.uri, gif.etag, 2), (gif.uri, gif.etag, 9), (f"{store.uri}/gone.jpg", "1", 0), ("s3://other/x.jpg", "1", 0)]

    made = thumbnails(ObjectReader(folders=(store,)), named, ImageLimits())

    assert set(made) == {(found[name].uri, 0) for name in ("wide.jpg", "tall.png", "moving.gif")} | {(gif.uri, 2)}
    pictures = {key: _opened(data) for key, data in made.items()}
    assert pictures[found["wide.jpg"].uri, 0].size == (160, 80)
    assert pictures[found["tall.png"].uri, 0].size == (1, 160)
    red, green, blue = pictures[gif.uri, 2].convert("RGB").getpixel((20, 20))
    assert green > 200 > red + blue
    assert b"secret" not in base64.b64decode(made[found["wide.jpg"].uri, 0].partition(",")[2])


def _opened(data: str) -> Image.Image:
    kind, _, content = data.partition(",")
    assert kind == "data:image/jpeg;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
    assert picture.format == "JPEG"
    return picture


def test_a_report_is_written_or_a_warning_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output = Store(str(tmp_path))
    reader = ObjectReader(folders=(output,))
    policy = a_policy()
    manifest = a_manifest(policy, Counts(scored=1))
    aggregates = Aggregates(rules={"firearms": a_rule([])})
    uri = build_report(manifest, policy, aggregates, reader, output, ImageLimits())
    assert uri == output.uri_of(manifest.report)
    assert output.get(manifest.report).decode() == render(manifest, policy, aggregates, {}, output=output.uri)
    assert output.get(manifest.report.replace("report.html", "summary.json")) == summary(manifest, policy)

    (tmp_path / "reports").rename(tmp_path / "moved")
    (tmp_path / "reports").write_text("a file has that name")
    with caplog.at_level(logging.WARNING):
        assert build_report(manifest, policy, aggregates, reader, output, ImageLimits()) is None
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
    manifest = a_manifest(policy, Counts(scored=3), sources=store.uri)
    build_report(manifest, policy, aggregates, ObjectReader(folders=(store,)), store, ImageLimits())
    page = Page(store.get(manifest.report).decode())
    assert len(page.named("img")) == 2
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.named("img"))
    assert page.text.count("no preview") == 1


def test_only_what_is_shown_is_wanted() -> None:
    def example(name: str, action: str = "allow") -> Example:
        return Example(name, "1", 0.5, action, "p", 0)

    plain = a_rule([])
    flagged = plain.model_copy(
        update={
            "spread": (example("a", "block"),),
            "examples": (example("a", "block"), example("b")),
            "near": (example("a", "block"), example("c")),
        }
    )
    assert [[e.uri for e in sheet] for sheet in sheets(flagged)] == [["a"], [], ["c"]]
    nothing = plain.model_copy(update={"examples": tuple(example(f"x{i}") for i in range(9))})
    assert [len(sheet) for sheet in sheets(nothing)] == [0, 6, 0]

    many = {
        f"r{i}": plain.model_copy(update={"spread": tuple(example(f"{i}/{j}", "review") for j in range(9))}) for i in range(100)
    }
    clean = tuple(CleanExample(f"{i:02}", f"clean {i}", "1", None, None, 0) for i in range(24))
    found = wanted(Aggregates(rules={"r": flagged, **many}, clean=clean))
    assert len(found) == len(set(found)) == MOST
    assert [uri for uri, _, _ in found[:27]] == [f"clean {i}" for i in range(24)] + ["a", "c", "0/0"]
