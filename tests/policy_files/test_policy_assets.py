"""What a policy names: read with it, part of its identity, kept with its runs."""

import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from moderation import Store
from moderation.demo import IMAGES_DIR
from moderation.errors import OutputError
from moderation.policy.assets import Assets
from moderation.policy.comparison import Effect, compare
from moderation.policy.schema import Policy
from moderation.policy_files.loading import load_policy, read_policy
from moderation.results.stored_assets import assets_keys, keep_assets, stored_assets

KNIFE = IMAGES_DIR / "listings" / "49225-kitchen-knife.png"
POLICY = """
policy: mixed
model: {name: demo}
contrast: [a house]
background: ["ordinary/*.jpg"]
rules:
  - {id: words, prompts: [a cigarette], review: 0.5}
  - {id: knives, score: examples, like: [knife.png], review: 0.5}
  - {id: learned, score: head, head: heads/one.safetensors, review: 0.5}
lists:
  - {id: known, file: known.txt, hash: sha256, action: block}
"""


def head(seed: int = 0) -> bytes:
    weight = np.random.default_rng(seed).normal(size=(1, 128)).astype(np.float32)
    return save({"weight": weight, "bias": np.zeros(1, np.float32)}, {"model_fingerprint": "0" * 16})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ordinary").mkdir()
    for name in ("48063-pig-nose.webp", "48007-flexed-biceps.webp"):
        shutil.copy(IMAGES_DIR / "listings" / name, tmp_path / "ordinary" / f"{name}.jpg")
    shutil.copy(KNIFE, tmp_path / "knife.png")
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "one.safetensors").write_bytes(head())
    (tmp_path / "known.txt").write_text(hashlib.sha256(b"bad").hexdigest() + "\n")
    (tmp_path / "p.yaml").write_text(POLICY)
    return tmp_path


def load(folder: Path) -> Policy:
    return load_policy(folder / "p.yaml")


def test_all_that_a_policy_names_is_read_with_it(folder: Path) -> None:
    assets = load(folder).assets
    assert [one.name for one in assets.background] == [
        "ordinary/48007-flexed-biceps.webp.jpg",
        "ordinary/48063-pig-nose.webp.jpg",
    ]
    assert assets.exemplars["knives"].like[0].sha256 == hashlib.sha256(KNIFE.read_bytes()).hexdigest()
    assert assets.heads["learned"].dim == 128
    assert len(assets.lists["known"]) == 1
    assert sorted(assets.digests) == ["exemplars", "head learned", "list known"]


def change_head(folder: Path) -> None:
    (folder / "heads" / "one.safetensors").write_bytes(head(1))


def change_list(folder: Path) -> None:
    (folder / "known.txt").write_text(hashlib.sha256(b"worse").hexdigest() + "\n")


def change_exemplar(folder: Path) -> None:
    shutil.copy(IMAGES_DIR / "listings" / "48000-fox.png", folder / "knife.png")


def change_background(folder: Path) -> None:
    shutil.copy(IMAGES_DIR / "listings" / "48000-fox.png", folder / "ordinary" / "fox.jpg")


@pytest.mark.parametrize(
    ("change", "key", "effect"),
    [
        (change_head, "head", Effect.SCORES),
        (change_list, "lists", Effect.DECISIONS),
        (change_exemplar, "exemplars", Effect.SCORES),
        (change_background, "exemplars", Effect.SCORES),
    ],
)
def test_their_content_is_part_of_the_identity(folder: Path, change: object, key: str, effect: Effect) -> None:
    before = load(folder)
    assert before.hash == load(folder).hash
    change(folder)  # type: ignore[operator]
    after = load(folder)
    assert after.hash != before.hash
    assert [(one.key, one.effect) for one in compare(before, after)] == [(key, effect)]


def test_comments_in_a_list_and_the_order_of_its_lines_are_not(folder: Path) -> None:
    first, second = (hashlib.sha256(text).hexdigest() for text in (b"a", b"b"))
    (folder / "known.txt").write_text(f"{first}\n{second}\n")
    before = load(folder).hash
    (folder / "known.txt").write_text(f"# since 2026\n{second.upper()}\n{first}\n")
    assert load(folder).hash == before


def test_a_policy_without_assets_keeps_its_identity(tmp_path: Path) -> None:
    text = "policy: p\nmodel: {name: demo}\ncontrast: [a]\nrules: [{id: r, prompts: [b], review: 0.5}]\n"
    (tmp_path / "p.yaml").write_text(text)
    assert load(tmp_path).hash == "2e6438592314e6ea"


def test_a_policy_travels_with_its_assets(folder: Path) -> None:
    policy = load(folder)
    again = pickle.loads(pickle.dumps(policy))  # noqa: S301
    assert again == policy
    assert again.hash == policy.hash


def test_an_identity_without_the_assets_is_refused(folder: Path) -> None:
    bare = Policy.model_validate(load(folder).model_dump())
    with pytest.raises(RuntimeError, match="assets"):
        _ = bare.hash


def test_rules_and_lists_that_are_off_need_no_files(folder: Path) -> None:
    text = POLICY.replace("review: 0.5}\nlists", "review: 0.5, mode: off}\nlists").replace(
        "action: block}", "action: block, mode: off}"
    )
    (folder / "p.yaml").write_text(text)
    (folder / "heads" / "one.safetensors").unlink()
    (folder / "known.txt").unlink()
    assert sorted(load(folder).assets.digests) == ["exemplars"]


def test_all_mistakes_are_told_at_once_each_at_its_place(folder: Path) -> None:
    (folder / "heads" / "one.safetensors").write_bytes(b"\x80\x04K\x01.")  # a pickle
    (folder / "known.txt").write_text("12\n")
    (folder / "knife.png").unlink()
    (folder / "p.yaml").write_text(POLICY.replace("ordinary/*.jpg", "nowhere/*.jpg"))
    read = read_policy(folder / "p.yaml")
    assert read.policy is None
    found = [(Path(one.file).name, one.line, one.message.split(":")[0]) for one in read.findings]
    assert found == [
        ("known.txt", 1, found[0][2]),
        ("p.yaml", 5, "no file matches 'nowhere/*.jpg'"),
        ("p.yaml", 8, "there is no file 'knife.png'"),
        ("p.yaml", 9, "'heads/one.safetensors' is no safetensors file"),
    ]


def test_paths_of_an_included_policy_are_relative_to_it(folder: Path) -> None:
    (folder / "base").mkdir()
    for name in ("p.yaml", "knife.png", "known.txt", "heads", "ordinary"):
        shutil.move(folder / name, folder / "base" / name)
    (folder / "p.yaml").write_text("include: base/p.yaml\npolicy: ours\n")
    assert load(folder).assets.exemplars["knives"].like[0].name == "base/knife.png"
    assert sorted(load(folder).assets.digests) == ["exemplars", "head learned", "list known"]


def test_they_are_stored_with_results_and_read_back_the_same(folder: Path, tmp_path: Path) -> None:
    policy, output = load(folder), Store(str(tmp_path / "results"))
    keep_assets(output, policy.assets)
    keep_assets(output, policy.assets)  # a second run
    found = stored_assets(output, {"learned": "heads/one.safetensors"}, assets_keys(policy.assets))
    assert policy.with_assets(found).hash == policy.hash
    assert found.heads["learned"].name == "heads/one.safetensors"
    assert found.lists["known"].labels.equals(policy.assets.lists["known"].labels)
    assert stored_assets(output, {}, {}) == Assets()


@pytest.mark.parametrize("kind", ["head", "list", "exemplars"])
@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_what_is_stored_and_damaged_is_an_error_that_names_it(folder: Path, tmp_path: Path, kind: str, damage: str) -> None:
    output = Store(str(tmp_path / "results"))
    keep_assets(output, load(folder).assets)
    keys = assets_keys(load(folder).assets)
    key = next(key for name, key in keys.items() if name.startswith(kind))
    path = tmp_path / "results" / key
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        for change in (change_head, change_list, change_exemplar):
            change(folder)
        others = assets_keys(load(folder).assets)
        keep_assets(output, load(folder).assets)
        shutil.copy(tmp_path / "results" / next(key for name, key in others.items() if name.startswith(kind)), path)
    with pytest.raises(OutputError, match=key):
        stored_assets(output, {}, keys)
