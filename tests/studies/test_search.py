"""`moderate search`: what lies nearest to a text or an image, among real images and among numbers with a known answer."""

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image as Pillow
from published import DIM
from scored_demo import objects_under, publish_scored
from typer.testing import CliRunner
from vector_results import Image, publish_vectors

from moderation import OpenClipEncoder, Store
from moderation.commands.search import search
from moderation.demo import IMAGES_DIR, LABELS_FILE
from moderation.errors import ModelError, OutputError, SettingsError, UserError
from moderation.policy.model_choice import ModelChoice
from moderation.policy_files.loading import parse_policy
from moderation.results.archive import Archive, open_archive
from moderation.scoring.prompt_embeddings import archive_encoder
from moderation.studies.search.nearest import Chosen, cosines, nearest
from moderation.studies.search.queries import image_query, text_query

POLICY_TEXT = """
policy: shop
model: {name: demo}
templates: ["{}"]
rules:
  - {id: firearms, prompts: [a handgun], score: similarity, review: 0.5, block: 0.75}
  - {id: beer, prompts: [a beer], score: similarity, review: 0.5}
"""
POLICY = parse_policy(POLICY_TEXT)
DEMO = ModelChoice(name="demo")
GUN, BEER = np.eye(DIM)[:1], np.eye(DIM)[1:2]
ALIKE = "0f" * 32, "0f" * 31 + "0e", "f0" * 32


def archive_of(images: list[Image], name: str, **others: object) -> Archive:
    store = Store(f"memory://search-{name}")
    publish_vectors(store, images, POLICY, POLICY_TEXT, **others)  # type: ignore[arg-type]
    return open_archive(store)


def some(count: int = 500, seed: int = 0) -> list[Image]:
    values = np.random.default_rng(seed).normal(0, 0.15, (count, 3)).clip(-0.5, 0.5)
    return [Image(f"s3://shop/{i:03}.jpg", [list(map(float, value))]) for i, value in enumerate(values)]


def test_the_nearest_are_those_of_all_cosines() -> None:
    images = some()
    expected = sorted(images, key=lambda image: -np.float16(image.frames[0][0]))[:20]
    for shards, threads in ((1, 1), (7, 3)):
        found = nearest(archive_of(images, f"all-{shards}", shards=shards), GUN, 20, threads=threads)
        assert [one.uri for one in found.found] == [image.uri for image in expected]
        assert found.images == 500
        assert [one.score for one in found.found] == pytest.approx([float(np.float16(i.frames[0][0])) for i in expected])


def test_cosines_are_float64_and_independent_of_the_batch() -> None:
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(1300, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    queries = rng.normal(size=(3, 64))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    found = cosines(vectors, queries)
    assert found.dtype == np.float64
    assert np.abs(found - (vectors.astype(np.float64) @ queries.T).max(axis=1)).max() < 1e-14
    for start, end in ((0, 1), (100, 612), (511, 1300)):
        assert np.array_equal(cosines(vectors[start:end], queries), found[start:end])
    assert len(cosines(vectors[:0], queries)) == 0


def test_an_image_counts_by_its_best_frame() -> None:
    images = [Image("s3://shop/a.gif", [[0.1], [0.6], [0.2]]), Image("s3://shop/b.gif", [[0.5], [0.3]])]
    found = nearest(archive_of(images, "frames"), GUN, 5).found
    assert [(one.uri[-5:], one.frame, round(one.score, 3)) for one in found] == [("a.gif", 1, 0.6), ("b.gif", 0, 0.5)]


def test_images_that_look_the_same_are_found_once() -> None:
    images = [
        *[Image(f"s3://shop/same-{i:02}.jpg", [[0.8]], "same bytes") for i in range(30)],
        *[Image(f"s3://shop/near-{i}.jpg", [[0.7 - i / 100]], pdq=ALIKE[i]) for i in range(3)],
        Image("s3://shop/other.jpg", [[0.1]]),
    ]
    for shards in (1, 4):
        found = nearest(archive_of(images, f"alike-{shards}", shards=shards), GUN, 10).found
        assert [(one.uri.rpartition("/")[2], one.alike) for one in found] == [
            ("same-00.jpg", 29),
            ("near-0.jpg", 1),
            ("near-2.jpg", 0),
            ("other.jpg", 0),
        ]


def test_the_newest_decision_is_shown() -> None:
    store = Store("memory://search-newest")
    publish_vectors(store, [Image("s3://shop/a.jpg", [[0.9]]), Image("s3://shop/b.jpg", [[0.8]])], POLICY, POLICY_TEXT)
    newer = [Image("s3://shop/a.jpg", [[0.6, 0.7]])]
    publish_vectors(store, newer, POLICY, POLICY_TEXT, run_id="20261123T030000Z-ffffff", shards=1)
    found = nearest(open_archive(store), GUN, 10)
    assert found.images == 2
    assert [(one.uri[-5:], one.action, one.flags) for one in found.found] == [
        ("b.jpg", "block", ("firearms",)),
        ("a.jpg", "review", ("firearms", "beer")),
    ]


def test_a_condition_narrows_the_search() -> None:
    archive = archive_of(some(50), "where")
    chosen = Chosen(["uri"], lambda table: np.array([uri.endswith("7.jpg") for uri in table["uri"].to_pylist()], bool))
    found = nearest(archive, GUN, 50, chosen)
    assert found.images == len(found.found) == 5
    assert {one.uri[-5:] for one in found.found} == {"7.jpg"}


def test_stored_prompts_need_no_model(tmp_path: Path) -> None:
    publish_vectors(Store(str(tmp_path)), some(20), POLICY, POLICY_TEXT)
    script = (
        "import sys, typer; from moderation.commands.search import search; app = typer.Typer(); app.command()(search);"
        "app(standalone_mode=False); print([n for n in ('torch', 'ray', 'open_clip') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "a handgun", "--results", str(tmp_path), "--csv", "--top", "3"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().endswith("[]")
    assert len(done.stdout.strip().splitlines()) == 1 + 3 + 1


def test_mistakes_are_reported_in_one_line() -> None:
    archive = archive_of(some(5), "mistakes")
    for top in (0, 1001):
        with pytest.raises(SettingsError, match=f"--top {top}: give 1 to 1,000"):
            nearest(archive, GUN, top)
    with pytest.raises(SettingsError, match="empty"):
        text_query(archive, DEMO, " \n")
    with pytest.raises(SettingsError, match="made by demo with the fingerprint 0123456789abcdef, but that model has"):
        text_query(archive, DEMO, "a text that no policy has")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sixth of the demo's images, all pistols among them, scored for real."""
    folder = tmp_path_factory.mktemp("demo-results")
    images = [one for i, one in enumerate(objects_under(IMAGES_DIR)) if i % 6 == 0 or key(one.uri) in PISTOLS]
    publish_scored(Store(str(folder)), images)
    return folder


def key(uri: str) -> str:
    return uri.partition(f"{IMAGES_DIR}/")[2]


with open(LABELS_FILE, encoding="utf-8", newline="") as _labels:
    PISTOLS = {row["file"] for row in csv.DictReader(_labels) if "pistol" in row["concept"]}


def command(*arguments: str, folder: Path) -> str:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(search)
    found = CliRunner().invoke(app, ["--results", str(folder), *arguments], env={"COLUMNS": "250"})
    if isinstance(found.exception, UserError):
        raise found.exception
    assert found.exit_code == 0, (found.output, found.exception)
    return found.stdout


def test_searching_by_a_word_finds_what_it_names(demo: Path) -> None:
    stored = sorted(path for path in (demo / "_prompts").rglob("*.parquet"))
    rows = json.loads(command("pistol", "--top", "12", "--json", folder=demo))
    assert len(PISTOLS) == 5
    assert {key(row["uri"]) for row in rows[:5]} == PISTOLS
    assert rows[4]["score"] - rows[5]["score"] > 0.05
    assert [row["rank"] for row in rows] == list(range(1, 13))
    assert {"weapons"} <= set(rows[0]["flags"])
    slides = next(row for row in rows if row["uri"].endswith("slideshow-1.gif"))
    assert slides["frame"] == 2
    assert sorted(path for path in (demo / "_prompts").rglob("*.parquet")) == stored, "a search leaves nothing behind"
    told = command("pistol", "--top", "3", "--where", "action = 'allow'", folder=demo)
    assert "block" not in told
    assert "the nearest 3 of" in told


def test_searching_by_an_image_finds_that_image_first(demo: Path, tmp_path: Path) -> None:
    stored = {one.uri for one in objects_under(IMAGES_DIR)}
    rows = json.loads(command("--image", str(IMAGES_DIR / sorted(PISTOLS)[0]), "--top", "4", "--json", folder=demo))
    assert key(rows[0]["uri"]) == sorted(PISTOLS)[0]
    assert rows[0]["uri"] in stored
    assert rows[0]["score"] == pytest.approx(1.0, abs=1e-3)
    assert rows[1]["score"] < 0.999
    with Pillow.open(IMAGES_DIR / sorted(PISTOLS)[0]) as picture:
        picture.convert("RGB").resize((picture.width * 4 // 5, picture.height * 4 // 5)).save(
            tmp_path / "small.jpg", quality=85
        )
    page = tmp_path / "found.html"
    table = list(
        csv.DictReader(
            io.StringIO(
                command("--image", str(tmp_path / "small.jpg"), "--csv", "--html", str(page), "--top", "5", folder=demo),
                newline="",
            )
        )
    )
    assert key(table[0]["uri"]) == sorted(PISTOLS)[0]
    html = page.read_text()
    assert html.count("data:image/jpeg;base64") == 6
    assert "<script" not in html


def test_a_query_text_has_a_length_limit(demo: Path) -> None:
    archive = open_archive(Store(str(demo)))
    with pytest.raises(ModelError, match=r"has \d+ tokens; demo reads \d+: shorten it"):
        text_query(archive, DEMO, "a very red car " * 40)
    assert text_query(archive, DEMO, "ein rotes Auto \u202e 🚗").shape == (1, archive_dim(archive))


def archive_dim(archive: Archive) -> int:
    return next(archive.each([], lambda images: images.vectors.shape[1]))


def test_pictures_are_resized_as_those_they_are_compared_with(demo: Path) -> None:
    archive = open_archive(Store(str(demo)))
    assert (archive.used.resize, archive_encoder(archive, DEMO).preprocessing.resize) == ("fast", "fast")
    exact = OpenClipEncoder("demo", device="cpu", resize="exact")
    earlier = replace(archive, used=replace(archive.used, fingerprint=exact.fingerprint, resize="exact"))
    assert archive_encoder(earlier, DEMO).preprocessing == exact.preprocessing
    with pytest.raises(SettingsError, match="other weights, architecture or preprocessing"):
        archive_encoder(replace(archive, used=replace(archive.used, resize="exact")), DEMO)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "empty"), (b"no image", "unsupported_format"), (b"\x89PNG\r\n\x1a\n" + bytes(50), "corrupt")],
    ids=["empty", "text", "broken"],
)
def test_a_query_file_that_is_not_an_image_is_refused(demo: Path, tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "query\x1b[31m.png"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=told) as error:
        image_query(open_archive(Store(str(demo))), DEMO, str(file))
    assert "\x1b" not in str(error.value)


def test_the_command_reports_mistakes_in_one_line(demo: Path, tmp_path: Path) -> None:
    for arguments, error, told in (
        ((), SettingsError, "give a text to search for"),
        (("a car", "--image", "x.jpg"), SettingsError, "either a text or an --image"),
        (("  ",), SettingsError, "empty"),
        (("car", "--json", "--csv"), SettingsError, "one of --csv and --json"),
        (("car", "--top", "0"), SettingsError, "--top 0"),
        (("car", "--where", "no_such = 1"), SettingsError, "no_such"),
        (("car", "--since", "1x"), SettingsError, "is not a time"),
        (("car", "--fingerprint", "0"), SettingsError, "no run .* used a model of fingerprint '0'"),
        (("--image", str(tmp_path / "none.jpg")), SettingsError, "cannot read the image"),
        (("--image", "bad\0name"), SettingsError, "cannot read the image"),
        (("knife", "--html", str(tmp_path / "no" / "x.html")), OutputError, "cannot write"),
    ):
        with pytest.raises(error, match=told):
            command(*arguments, folder=demo)
    with pytest.raises(SettingsError, match="no run is published"):
        command("car", folder=tmp_path)
