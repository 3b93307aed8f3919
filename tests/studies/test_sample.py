"""`moderate policy sample`: who is drawn, for how many each stands, and what a person is given to label."""

import base64
import csv
import io
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import typer
from PIL import Image as Picture
from published import HOSTILE, JOBS, NEW, compiled, write_results
from typer.testing import CliRunner
from vector_results import RUN, Image, publish_vectors

from moderation import Store
from moderation.commands.sample import sample
from moderation.errors import OutputError, PolicyError, SettingsError, UserError
from moderation.html.previews import previews
from moderation.html.thumbnails import LARGE
from moderation.policy.decision import Thresholds, decide
from moderation.policy_files.loading import load_policy, parse_policy
from moderation.results.archive import open_archive
from moderation.results.manifest import find_manifest
from moderation.results.stored_policy import stored_policy
from moderation.sources import ObjectReader
from moderation.studies.sampling.drawing import draw, rule_to_sample
from moderation.studies.sampling.label_sheet import address
from moderation.studies.sampling.labels_file import COLUMNS, labels_csv
from moderation.studies.sampling.lots import share
from moderation.studies.sampling.sample_result import Sample
from moderation.studies.tuning.labels import read_labels

POLICY_TEXT = """
policy: shop
model: {name: demo}
near: 0.0625
rules:
  - {id: firearms, prompts: [a handgun], score: similarity, review: 0.5, block: 0.75}
  - {id: beer, prompts: [a beer], score: similarity, mode: shadow, block: 0.9}
  - {id: tobacco, prompts: [a cigarette], score: similarity, review: 0.5, mode: off}
"""
POLICY = parse_policy(POLICY_TEXT)
FIREARMS = POLICY.rules[0]


def population(count: int = 400, seed: int = 1) -> list[Image]:
    """Images whose scores lie in 0 to 1, most of them low; every tenth is a copy of the one before."""
    scores = np.random.default_rng(seed).beta(1, 3, count)
    made: list[Image] = []
    for number, score in enumerate(scores):
        copied = made[-1] if number % 10 == 9 else None
        frames = copied.frames if copied else [[float(np.float16(score))]]
        made.append(Image(f"s3://shop/{number:04}.jpg", frames, copied.uri if copied else ""))
    return made


def results(images: list[Image], name: str, shards: int = 2, **others: object) -> Store:
    store = Store(f"memory://{name}")
    publish_vectors(store, images, POLICY, POLICY_TEXT, shards=shards, **others)  # type: ignore[arg-type]
    return store


def drawn_from(store: Store, count: int, seed: int = 0, threads: int | None = None) -> Sample:
    return draw(open_archive(store), compiled(POLICY), FIREARMS, count, seed, threads)


IMAGES = population()
SCORES = {image.uri: image.frames[0][0] for image in IMAGES}


@pytest.fixture(scope="module")
def store() -> Store:
    return results(IMAGES, "sampled")


def test_strata_follow_the_decisions(store: Store) -> None:
    found = drawn_from(store, 90)
    scores = np.array(list(SCORES.values()), np.float32)[:, None]
    decided = decide(scores, Thresholds.of((FIREARMS,), POLICY.near))
    below = ~decided.flagged[:, 0]
    sizes = {"flagged": int(decided.flagged.sum()), "near": int((decided.near & below).sum())}
    sizes["random"] = len(IMAGES) - sum(sizes.values())
    assert {stratum.name: stratum.images for stratum in found.strata} == sizes
    assert not found.nearest
    for image in found.images:
        score = SCORES[image.uri]
        assert image.score == pytest.approx(score)
        assert image.stratum == ("flagged" if score >= 0.5 else "near" if score >= 0.4375 else "random")


def test_weights_add_up_to_all_images(store: Store) -> None:
    for count in (3, 30, 90, 399, 400, 1000):
        found = drawn_from(store, count)
        weights = Counter[str]()
        for image in found.images:
            weights[image.stratum] += image.weight  # type: ignore[assignment]
        assert {s.name: pytest.approx(s.images) for s in found.strata} == dict(weights)
        assert sum(s.drawn for s in found.strata) == min(count, 400)
        assert sum(s.pictures for s in found.strata) == len(found.images) == len({i.uri for i in found.images})


def test_equal_pictures_are_labelled_once(store: Store) -> None:
    found = drawn_from(store, 400)
    assert len(found.images) == 360
    by_uri = {image.uri: image.weight for image in found.images}
    content = Counter(image.content or image.uri for image in IMAGES)
    kept = [image for image in IMAGES if image.uri in by_uri]
    assert {image.uri: by_uri[image.uri] for image in kept} == {
        image.uri: content[image.content or image.uri] for image in kept
    }


def test_a_sample_depends_on_nothing_but_its_seed(store: Store) -> None:
    found = drawn_from(store, 90, threads=1)
    for shards, threads in ((1, 1), (7, 4), (13, 2)):
        again = drawn_from(results(IMAGES, f"sampled-{shards}", shards), 90, threads=threads)
        assert again.images == found.images
        assert again.strata == found.strata
    assert drawn_from(store, 90, seed=1).images != found.images


def test_the_order_says_nothing_about_the_stratum(store: Store) -> None:
    """Were images in the order of their lots, those of the stratum from which few of many are drawn would come first."""
    images = population(3_000, 5)
    found = drawn_from(results(images, "order"), 90)
    place = {
        name: [at for at, image in enumerate(found.images) if image.stratum == name] for name in ("flagged", "near", "random")
    }
    middle = (len(found.images) - 1) / 2
    assert all(abs(np.mean(at) - middle) < 12 for at in place.values()), place  # 4 standard errors of a random order
    scores = [image.score for image in found.images]
    assert abs(np.corrcoef(range(len(scores)), scores)[0, 1]) < 0.35
    assert drawn_from(store, 90, seed=1).images != drawn_from(store, 90, seed=2).images


def test_a_larger_sample_holds_the_smaller_one(store: Store) -> None:
    small, large = ({image.uri for image in drawn_from(store, count).images} for count in (60, 120))
    assert len(small - large) <= 2  # another copy may stand for a picture


def test_estimates_are_unbiased() -> None:
    """Of the share of all images that are positive, with positives that the rule misses."""
    images = population(150, 3)
    scores = {image.uri: image.frames[0][0] for image in images}
    truth = {uri: score > 0.45 or int(uri[-8:-4]) % 20 in (8, 9) for uri, score in scores.items()}
    share_of_all = sum(truth.values()) / len(images)
    archive = open_archive(results(images, "unbiased", 1))
    ready = compiled(POLICY)
    estimates = []
    for seed in range(300):
        found = draw(archive, ready, FIREARMS, 24, seed, 1)
        estimates.append(sum(image.weight for image in found.images if truth[image.uri]) / len(images))
    error = np.std(estimates, ddof=1) / np.sqrt(len(estimates))
    assert 0.005 < error < 0.02
    assert abs(np.mean(estimates) - share_of_all) < 3.5 * error


def test_where_few_are_near_the_closest_below_are_drawn() -> None:
    scores = [*[0.8] * 5, 0.49, *np.linspace(0.4, 0.0, 60)]
    store = results([Image(f"s3://shop/{i:03}.jpg", [[float(s)]]) for i, s in enumerate(scores)], "few-near", 3)
    found = drawn_from(store, 30)
    assert found.nearest
    strata = {stratum.name: (stratum.images, stratum.drawn) for stratum in found.strata}
    assert strata == {"flagged": (5, 5), "near": (10, 10), "random": (51, 15)}
    near = sorted(image.uri for image in found.images if image.stratum == "near")
    assert near == [f"s3://shop/{i:03}.jpg" for i in range(5, 15)]
    assert {image.weight for image in found.images if image.stratum == "random"} == {51 / 15}
    assert sum(image.weight for image in found.images) == pytest.approx(66)


def test_a_rule_with_nothing_flagged_and_nothing_near_can_be_sampled() -> None:
    store = results([Image(f"s3://shop/{i}.jpg", [[0.0]]) for i in range(40)], "all-low")
    found = drawn_from(store, 12)
    assert {stratum.name: (stratum.images, stratum.drawn) for stratum in found.strata} == {
        "flagged": (0, 0),
        "near": (4, 4),
        "random": (36, 8),
    }


def test_the_frame_with_the_score_is_shown() -> None:
    images = [Image(f"s3://shop/{i}.gif", [[0.1], [0.8], [0.3]]) for i in range(4)]
    found = drawn_from(results(images, "frames"), 12)
    assert {(image.frame, image.stratum) for image in found.images} == {(1, "flagged")}


def test_every_image_counts_as_it_was_decided_last(tmp_path: Path) -> None:
    output = Store(str(tmp_path / "out"))
    write_results(output, JOBS[:2])
    archive = open_archive(output)
    found = draw(archive, compiled(NEW), NEW.rules[0], 100)
    assert found.population == 12
    scores = {image.uri: image.score for image in found.images}
    assert scores.get("s3://shop/listings/gun.jpg", 0.25) == 0.25
    assert found.errors == 3


def test_a_sample_is_divided_evenly_between_strata_of_any_size() -> None:
    assert share([100, 100, 100], 30) == [10, 10, 10]
    assert share([100, 100, 100], 32) == [10, 11, 11]
    assert share([2, 100, 100], 30) == [2, 14, 14]
    assert share([2, 3, 100], 30) == [2, 3, 25]
    assert share([0, 3, 4], 30) == [0, 3, 4]
    assert share([1, 1, 1], 3) == [1, 1, 1]
    assert share([0, 0, 0], 3) == [0, 0, 0]


def test_the_csv_comes_back_as_it_was(tmp_path: Path) -> None:
    names = [*HOSTILE, "a;=1+1.jpg", 'b",=cmd()\r\n=2', "\t=1", "-1", "@SUM(A1)", "x" * 3000, "\u202egpj"]
    images = [Image(f"s3://shop/{name}", [[0.8]]) for name in names]
    found = drawn_from(results(images, "hostile"), 30)
    text = labels_csv(found)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert {row["uri"] for row in rows} == {image.uri for image in images}
    assert {row["label"] for row in rows} == {""}
    assert {float(row["weight"]) for row in rows} == {1.0}
    for delimiter in ",;\t":  # a spreadsheet's idea of the separator depends on the country
        for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            assert not [cell for cell in line if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))], line
    file = tmp_path / "labels.csv"
    file.write_bytes(text.replace(",\r\n", ",true\r\n").encode())
    labels = read_labels(file)
    assert {label.uri for label in labels.labels} == {image.uri for image in images}
    assert labels.remarks == ()


def test_pictures_are_large_and_lead_to_the_original(tmp_path: Path) -> None:
    photo = tmp_path / "a photo #1.jpg"
    Picture.effect_noise((1500, 900), 60).convert("RGB").save(photo)
    uri = f"file://{photo}"
    shown = previews(
        ObjectReader(manifests=True, local_files=True), [(uri, Store(str(tmp_path)).head(photo.name).etag, 0)], size=LARGE
    )[uri, 0]
    assert Picture.open(io.BytesIO(base64.b64decode(shown.partition(",")[2]))).size == (512, 307)
    assert address(uri, local=True) == f"file://{quote(str(photo))}"
    for other in ("s3://shop/a.jpg", f"file://{tmp_path}/page.html", f"file://{tmp_path}/a.svg"):
        assert address(other, local=True) is None, "a browser would not show it as a picture"
    assert address(uri, local=False) is None


def test_a_uri_without_a_scheme_is_refused() -> None:
    with pytest.raises(OutputError, match="no scheme"):
        drawn_from(results([Image("=1+1", [[0.8]])], "no-scheme", 1), 3)


def test_mistakes_are_reported_in_one_line(store: Store) -> None:
    with pytest.raises(PolicyError, match=r"no rule 'firearm': did you mean `firearms`\? rules: firearms, beer, tobacco"):
        rule_to_sample(POLICY, "firearm")
    with pytest.raises(PolicyError, match="'tobacco' is off"):
        rule_to_sample(POLICY, "tobacco")
    for count in (-1, 0, 2, 5001):
        with pytest.raises(SettingsError, match="--n"):
            drawn_from(store, count)
    broken = results([], "only-broken", broken=["s3://shop/a", "s3://shop/b"])
    with pytest.raises(SettingsError, match="no image with scores under memory://only-broken: 2 could not be scored"):
        drawn_from(broken, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results under a folder, of images that are not there."""
    images = [replace(image, uri=image.uri.replace("s3://", f"file://{tmp_path}/")) for image in IMAGES[:50]]
    publish_vectors(Store(str(tmp_path / "results")), images, POLICY, POLICY_TEXT, broken=["s3://shop/broken"])
    return tmp_path


def command(*arguments: str, folder: Path) -> str:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(sample)
    found = CliRunner().invoke(
        app, ["--results", str(folder / "results"), "--output", str(folder / "labels"), *arguments], env={"COLUMNS": "200"}
    )
    if found.exception is not None and isinstance(found.exception, UserError):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


def test_the_command_writes_a_csv_and_a_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "my home" / "Downloads").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder / "my home"))
    images = [Image(f"file://{folder}/{name}", [[0.8]]) for name in ("gone.jpg", "<script>alert(1)</script>.jpg")]
    publish_vectors(Store(str(folder / "results")), images, POLICY, POLICY_TEXT, run_id="20261122T030000Z-ffffff")
    told = command("--rule", "firearms", "--n", "100", "--since", "2026-11-22", folder=folder)
    assert "only 2 images have scores, fewer than --n 100: all of them are drawn" in told
    rows = list(csv.DictReader(io.StringIO((folder / "labels" / "firearms.csv").read_text(), newline="")))
    assert {row["uri"] for row in rows} == {image.uri for image in images}
    home = folder / "my home"
    saved = shlex.quote(str(home / "Downloads" / "firearms-labels.csv"))
    assert f"--labels {saved}" in told  # what the page saves, and not the empty file
    page = (folder / "labels" / "firearms.html").read_text()
    assert "<script>alert" not in page
    assert "2 have no preview" in page
    with pytest.raises(OutputError, match="already exists and may contain labels"):
        command("--rule", "firearms", folder=folder)


def test_the_command_reports_mistakes_in_one_line(folder: Path) -> None:
    for arguments, error, told in (
        (("--rule", "firearm"), PolicyError, "did you mean `firearms`"),
        (("--rule", "firearms", "--n", "0"), SettingsError, "--n 0"),
        (("--rule", "firearms", "--since", "yesterday"), SettingsError, "--since: 'yesterday' is not a time"),
        (("--rule", "firearms", "--since", "2031-01-01"), SettingsError, "nothing|no run|not among"),
        (
            (
                "--rule",
                "../firearms",
            ),
            PolicyError,
            "no rule",
        ),
        (("--rule", "firearms", "--fingerprint", "x"), SettingsError, "fingerprint 'x'"),
        (("--rule", "firearms", "--policy", "no-such.yaml"), PolicyError, "cannot read the policy"),
    ):
        with pytest.raises(error, match=told):
            command(*arguments, folder=folder)
    assert not (folder / "labels").exists()
    publish_vectors(
        Store(str(folder / "results")), IMAGES[:5], POLICY, POLICY_TEXT, run_id="20261123T030000Z-ffffff", fingerprint="f" * 16
    )
    with pytest.raises(SettingsError, match="2 different models, which cannot be compared"):
        command("--rule", "firearms", folder=folder)


def test_a_policy_file_is_scored_from_embeddings_without_torch(folder: Path) -> None:
    policy = folder / "new.yaml"
    policy.write_text(POLICY_TEXT.replace("review: 0.5, block: 0.75", "block: 0.25"))
    script = (
        "import sys, typer; from moderation.commands.sample import sample; app = typer.Typer(); app.command()(sample);"
        "app(standalone_mode=False); print([n for n in ('torch', 'ray', 'open_clip') if n in sys.modules])"
    )
    arguments = ["--results", str(folder / "results"), "--rule", "firearms", "--policy", str(policy), "-o", str(folder / "l")]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip().endswith("[]")
    rows = list(csv.DictReader(io.StringIO((folder / "l" / "firearms.csv").read_text(), newline="")))
    assert {row["stratum"] for row in rows if float(row["score"]) >= 0.25} == {"flagged"}


def test_stored_policies_are_put_together_again(tmp_path: Path) -> None:
    output = Store(str(tmp_path / "results"))
    main = tmp_path / "policies" / "shop.yaml"
    (main.parent / "common").mkdir(parents=True)
    base = main.parent / "common" / "base.yaml"
    base.write_text(POLICY_TEXT)
    main.write_text("include: common/base.yaml\npolicy: mine\noverrides: {firearms: {review: 0.4}}\n")
    policy = load_policy(main)
    manifest = publish_vectors(output, IMAGES[:5], policy, main.read_text())
    whole = manifest.model_copy(update={"settings": {"policy": str(main)}, "policy_includes": {str(base): base.read_text()}})
    assert stored_policy(output, whole) == policy
    assert stored_policy(output, whole).hash == policy.hash
    for damaged, told in (
        (whole.model_copy(update={"policy_text": "policy: ["}), f"stored with run {RUN} can no longer be read"),
        (whole.model_copy(update={"policy_text": main.read_text().replace("0.4", "0.3")}), "was the manifest edited"),
        (whole.model_copy(update={"policy_includes": {f"{main.parent}/../x.yaml": ""}}), "is outside"),
        (whole.model_copy(update={"policy_includes": {"/etc/x.yaml": ""}}), "is not next to"),
    ):
        with pytest.raises(PolicyError, match=told):
            stored_policy(output, damaged)
    assert find_manifest(output, RUN) == manifest
