"""`include:` and `overrides:`: what they make, and how their mistakes are told where they stand."""

import pickle
import re

import pytest

from moderation.errors import PolicyError
from moderation.policy_files.loading import load_policy, parse_policy, read_policy

BASE = """\
policy: base
model: {name: demo}
contrast: [a wall]
rules:
  - {id: knives, prompts: [a knife], review: 0.6, block: 0.9}
  - {id: beer, prompts: [a beer], review: 0.5, mode: shadow}
examples:
  - {image: pictures/knife.jpg, expect: {knives: block}}
"""
TOP = """\
policy: shop
include: base.yaml
templates: ["a close-up of {}"]
overrides:
  knives: {review: 0.7, block: null}
  beer: {mode: live}
rules:
  - {id: dice, prompts: [dice], review: 0.5}
examples:
  - {image: dice.jpg, expect: {dice: review}}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "shop.yaml").write_text(TOP)
    return tmp_path


def error_of(path):
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    return str(caught.value)


def test_own_keys_replace_rules_and_examples_are_added_and_overrides_apply(folder):
    policy = load_policy(folder / "shop.yaml")
    assert (policy.policy, policy.model.name, policy.contrast) == ("shop", "demo", ("a wall",))
    assert policy.templates == ("a close-up of {}",)
    assert [(r.id, r.review, r.block, r.mode) for r in policy.rules] == [
        ("knives", 0.7, None, "live"),
        ("beer", 0.5, None, "live"),
        ("dice", 0.5, None, "live"),
    ]
    assert [e.image for e in policy.examples] == ["pictures/knife.jpg", "dice.jpg"]


def test_the_hash_covers_included_rules_and_overrides(folder):
    before = load_policy(folder / "shop.yaml").hash
    (folder / "base.yaml").write_text("# a comment\n" + BASE)
    assert load_policy(folder / "shop.yaml").hash == before
    (folder / "base.yaml").write_text(BASE.replace("a knife", "a dagger"))
    assert load_policy(folder / "shop.yaml").hash != before
    (folder / "base.yaml").write_text(BASE)
    (folder / "shop.yaml").write_text(TOP.replace("0.7", "0.71"))
    assert load_policy(folder / "shop.yaml").hash != before


def test_all_files_are_named_with_their_text(folder):
    read = read_policy(folder / "shop.yaml")
    assert list(read.files.values()) == [TOP, BASE]


def test_examples_of_an_included_file_are_found_beside_it(folder):
    (folder / "packs").mkdir()
    (folder / "packs" / "base.yaml").write_text(BASE)
    (folder / "shop.yaml").write_text(TOP.replace("include: base.yaml", "include: packs/base.yaml"))
    assert [e.image for e in load_policy(folder / "shop.yaml").examples] == ["packs/pictures/knife.jpg", "dice.jpg"]


@pytest.mark.parametrize(
    ("old", "new", "place", "told"),
    [
        ("include: base.yaml", "include: bas.yaml", "shop.yaml:2:10", "cannot read the included file"),
        ("include: base.yaml", "include: ../base.yaml", "shop.yaml:2:10", "is outside the policy's folder"),
        ("include: base.yaml", "include: /etc/passwd", "shop.yaml:2:10", "is outside the policy's folder"),
        ("include: base.yaml", "include: shop.yaml", "shop.yaml:2:10", "includes itself"),
        ("knives: {review", "knive: {review", "shop.yaml:5:3", "did you mean `knives`?"),
        ("review: 0.7", "prompts: [x]", "shop.yaml:5:12", "cannot be overridden"),
        ("review: 0.7", "review: 7", "shop.yaml:5:20", "less than or equal to 1"),
        ("{review: 0.7, block: null}", "{review: 0.95}", "shop.yaml:5:20", "review (0.95) is above block (0.9)"),
        ("id: dice", "id: beer", "shop.yaml:8:10", "two rules have the id 'beer'"),
        ("prompts: [dice]", "prompts: [a wall]", "shop.yaml:8:26", "both a prompt and contrast"),
        ("overrides:", "override:", "shop.yaml:4:1", "did you mean `overrides`?"),
    ],
)
def test_mistakes_in_includes_are_reported_at_their_lines(folder, old, new, place, told):
    assert TOP.count(old) == 1
    (folder / "shop.yaml").write_text(TOP.replace(old, new))
    error = error_of(folder / "shop.yaml")
    assert re.match(re.escape(str(folder / place)) + ":? ", error), error
    assert told in error


def test_a_mistake_in_an_included_file_is_reported_in_that_file(folder):
    (folder / "base.yaml").write_text(BASE.replace("prompts: [a beer]", "prompt: [a beer]"))
    error = error_of(folder / "shop.yaml")
    assert "base.yaml:6:" in error
    assert "did you mean `prompts`?" in error


def test_circles_and_long_chains_are_refused(folder):
    (folder / "base.yaml").write_text("include: shop.yaml\n" + BASE)
    assert "includes itself" in error_of(folder / "shop.yaml")
    for i in range(12):
        (folder / f"{i}.yaml").write_text(f"policy: p{i}\ninclude: {i + 1}.yaml\n")
    (folder / "12.yaml").write_text(BASE)
    assert "more than 8 included files" in error_of(folder / "0.yaml")


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "secret.yaml"
    outside.write_text(BASE)
    (folder / "base.yaml").unlink()
    (folder / "base.yaml").symlink_to(outside)
    assert "is outside the policy's folder" in error_of(folder / "shop.yaml")


# --- the model's weights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ("{name: ViT-B-32, pretrained: weights/w.pt}", "shared/weights/w.pt"),
        ("{name: ViT-B-32, pretrained: w.pt}", "shared/w.pt"),
        ("{name: ViT-B-32, pretrained: ../w.pt}", "shared/../w.pt"),
        ("{name: ViT-B-32, pretrained: ' ../w.pt '}", "shared/../w.pt"),
        ("{name: ViT-B-32, pretrained: /abs/w.pt}", "/abs/w.pt"),
        ("{name: ViT-B-32, pretrained: openai}", None),
        ("{name: 'local-dir:tiny'}", "shared/tiny"),
        ("{name: 'local-dir:/abs/tiny'}", "/abs/tiny"),
    ],
)
def test_weights_are_beside_the_file_that_names_them(folder, tmp_path, monkeypatch, model, weights):
    """Wherever the user stands, and however the policy is named."""
    (folder / "shared" / "deep").mkdir(parents=True)
    (folder / "shared" / "deep" / "base.yaml").write_text(BASE.replace("{name: demo}", model.replace("weights", "../weights")))
    (folder / "shared" / "base.yaml").write_text(BASE.replace("{name: demo}", model))
    (folder / "shop.yaml").write_text(TOP.replace("base.yaml", "shared/base.yaml"))
    monkeypatch.chdir(folder / "shared" / "deep")
    found = [load_policy(path).model for path in (folder / "shop.yaml", "../../shop.yaml")]
    for one in found:
        place = one.checkpoint or one.local_dir
        expected = None if weights is None else (folder / weights).resolve()
        assert (None if place is None else place.resolve()) == expected
        assert place is None or place.is_absolute()
    assert found[0].label == found[1].label
    assert load_policy(folder / "shop.yaml").hash == load_policy("../../shop.yaml").hash


def test_the_policys_hash_does_not_say_where_it_lies(folder, tmp_path):
    text = BASE.replace("{name: demo}", "{name: ViT-B-32, pretrained: weights/w.pt, preprocess: openai}")
    policies = []
    for place in ("one", "two"):
        (folder / place).mkdir()
        (folder / place / "p.yaml").write_text(text)
        policies.append(load_policy(folder / place / "p.yaml"))
    assert policies[0].hash == policies[1].hash
    assert policies[0].model.label == policies[1].model.label == "ViT-B-32/weights/w.pt"
    assert policies[0].model.checkpoint == folder / "one" / "weights" / "w.pt"
    assert pickle.loads(pickle.dumps(policies[1])).model.checkpoint == folder / "two" / "weights" / "w.pt"  # noqa: S301


def test_what_the_policy_says_of_its_weights_is_part_of_its_hash(folder):
    def hash_of(extra):
        return parse_policy(BASE.replace("{name: demo}", f"{{name: ViT-B-32, pretrained: ./w.pt{extra}}}")).hash

    said = ["", ", preprocess: openai", ", quick_gelu: false", ", preprocess: {resize_mode: squash}"]
    assert len({hash_of(extra) for extra in said}) == len(said)
