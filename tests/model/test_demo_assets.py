"""What ships in moderation/demo: the model, the images with their labels, the policy, and how they were made."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from needs import needs_emoji_font, require
from PIL import Image, UnidentifiedImageError
from ruamel.yaml import YAML
from safetensors import safe_open

from moderation.demo import CONCEPTS_FILE, IMAGES_DIR, LABELS_FILE, MODEL_DIR, POLICY_FILE, picture
from moderation.demo.training import make_images
from moderation.demo.training.concepts import load_concepts
from moderation.demo.training.render import FontMissingError, draw_glyph, find_font, render, render_for_model, rng_for

COLUMNS = ["file", "concept", "glyph", "expect", "rules", "shadow_rules", "error_code"]
ERROR_CODES = {"empty", "too_large", "too_many_pixels", "unsupported_format", "corrupt"}
REQUIRED_NAMES = {
    "🔫": {"pistol", "gun", "handgun", "weapon"},
    "🔪": {"hocho", "kitchen knife", "knife", "weapon"},
    "🚬": {"cigarette", "smoking", "smoking symbol"},
    "🍺": {"beer mug", "beer", "alcohol"},
    "🥃": {"whisky", "whiskey", "tumbler glass"},
    "🎰": {"slot machine", "gambling"},
    "🎲": {"dice", "game die"},
    "💊": {"pill", "pills", "medication"},
    "🐶": {"dog face", "dog"},
    "🍕": {"pizza"},
}


def labels() -> list[dict[str, str]]:
    with LABELS_FILE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def font() -> Path:
    require(needs_emoji_font())
    return find_font()


@pytest.fixture(scope="module")
def policy() -> dict[str, list[dict[str, str]]]:
    content: dict[str, list[dict[str, str]]] = YAML(typ="safe").load(POLICY_FILE.read_text(encoding="utf-8"))
    return content


def test_sizes_stay_within_what_a_repository_should_carry() -> None:
    assert (MODEL_DIR / "open_clip_model.safetensors").stat().st_size <= 12_000_000
    files = [path for path in IMAGES_DIR.rglob("*") if path.is_file()]
    assert 280 <= len(files) <= 320
    assert sum(path.stat().st_size for path in files) <= 5_000_000


def test_weights_are_float16_and_finite() -> None:
    with safe_open(MODEL_DIR / "open_clip_model.safetensors", framework="numpy") as weights:
        for name in weights.keys():  # noqa: SIM118 (not a dict)
            tensor = weights.get_tensor(name)
            assert tensor.dtype in (np.float16, np.int64), name
            assert np.isfinite(tensor).all(), name


def test_every_file_has_one_label_and_every_label_a_file() -> None:
    rows = labels()
    assert list(rows[0]) == COLUMNS
    names = [row["file"] for row in rows]
    assert len(set(names)) == len(names)
    found = {path.relative_to(IMAGES_DIR).as_posix() for path in IMAGES_DIR.rglob("*") if path.is_file()}
    assert found == set(names)


def test_labels_of_demo_images_contradict_neither_themselves_nor_the_policy(policy: dict[str, list[dict[str, str]]]) -> None:
    modes = {rule["id"]: rule["mode"] for rule in policy["rules"]}
    for row in labels():
        assert row["expect"] in {"flagged", "clean", "error"}
        assert (row["expect"] == "flagged") == bool(row["rules"]), row
        assert (row["expect"] == "error") == bool(row["error_code"]), row
        assert all(modes[rule] == "live" for rule in row["rules"].split(";") if rule), row
        assert all(modes[rule] == "shadow" for rule in row["shadow_rules"].split(";") if rule), row
        assert row["error_code"] in ERROR_CODES | {""}, row
    share = sum(row["expect"] == "flagged" for row in labels()) / len(labels())
    assert 0.2 <= share <= 0.35


def test_the_policys_examples_exist(policy: dict[str, list[dict[str, str]]]) -> None:
    assert policy["examples"]
    for example in policy["examples"]:
        assert picture(example["image"]).is_file(), example


def decode(path: Path) -> set[tuple[str | None, str]]:
    with Image.open(path) as image:
        seen = set()
        for frame in range(getattr(image, "n_frames", 1)):
            image.seek(frame)
            image.load()
            seen.add((image.format, image.mode))
        return seen


def test_broken_files_are_broken_and_the_others_decode() -> None:
    seen: set[tuple[str | None, str]] = set()
    for row in labels():
        path = IMAGES_DIR / row["file"]
        if row["expect"] != "error":
            seen |= decode(path)
            continue
        if row["error_code"] == "empty":
            assert path.stat().st_size == 0
        with pytest.raises((OSError, UnidentifiedImageError, Image.DecompressionBombError)):
            decode(path)
    formats = {("JPEG", "RGB"), ("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "I;16")}
    assert formats | {("WEBP", "RGB"), ("GIF", "P")} <= seen


def test_concepts_name_what_the_policy_needs() -> None:
    concepts = {concept.glyph: concept for concept in load_concepts()}
    assert len(concepts) >= 600
    assert len(concepts) == len(json.loads(CONCEPTS_FILE.read_text(encoding="utf-8")))
    for glyph, names in REQUIRED_NAMES.items():
        assert names <= set(concepts[glyph].captions), glyph
    first = [concept.captions[0] for concept in concepts.values()]
    assert len(set(first)) == len(first)


def test_the_same_seed_draws_the_same_picture(font: Path) -> None:
    glyph = draw_glyph("🔪", font)
    assert glyph is not None
    one, same, other = (render(glyph, rng_for("demo", 9, seed), (200, 160)).tobytes() for seed in (1, 1, 2))
    assert one == same != other
    assert rng_for("train", 1).random() != rng_for("evaluate", 1).random()
    assert render_for_model(glyph, rng_for("train", 1), 64).shape == (64, 64, 3)


def test_a_missing_font_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FontMissingError, match=r"not found \(tried .*\): install"):
        find_font(tmp_path / "none.ttf")


def test_the_demo_images_can_be_made_again(font: Path) -> None:
    committed = {row["file"]: row for row in labels()}
    once, twice = (islice(make_images.draw_all(font), 60) for _ in range(2))
    for (label, content), (_, again) in zip(once, twice, strict=True):
        assert asdict(label) == committed[label.file]
        assert content == again, label.file
        if label.expect != "error":  # other versions of Pillow may encode the same picture in other bytes
            with Image.open(IMAGES_DIR / label.file) as kept, Image.open(BytesIO(content)) as made:
                difference = np.abs(np.asarray(kept.convert("RGB"), float) - np.asarray(made.convert("RGB"), float))
                assert difference.mean() < 4, label.file


def test_metrics_of_the_model_card_are_those_of_the_metrics_file() -> None:
    metrics = json.loads((MODEL_DIR / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["concepts"] == len(load_concepts())
    assert metrics["top1"] >= 0.85
    card = (MODEL_DIR / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"{metrics['top1']:.1%}" in card
    assert f"{metrics['top5']:.1%}" in card


def test_zero_shot_accuracy_on_pictures_it_has_not_seen(font: Path) -> None:
    from moderation.demo.training.evaluate import measure  # torch and open_clip take seconds to import

    metrics = measure(MODEL_DIR, load_concepts(), font, each=1)
    assert metrics["images"] >= 600
    assert metrics["top1"] >= 0.85
