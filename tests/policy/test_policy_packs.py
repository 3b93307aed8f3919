"""The packs in policies/, the guide in docs/policies.md, and the schema that editors use."""

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from places import ROOT
from pydantic import BaseModel
from ruamel.yaml import YAML

from moderation.policy.json_schema import schema
from moderation.policy.linting import lint
from moderation.policy.model_choice import ModelChoice, Preprocess
from moderation.policy.schema import Example, ListedImages, Mode, Override, PolicyFile, Rule
from moderation.policy_files.loading import load_policy

POLICIES = ROOT / "policies"
PACKS = ("base", "community", "marketplace", "advertising")
GUIDE = (ROOT / "docs" / "policies.md").read_text()
TODAY = date(2026, 11, 21)


def plain(path: Path) -> Any:
    return json.loads(json.dumps(YAML(typ="safe", pure=True).load(path), default=str))


@pytest.mark.parametrize("name", PACKS)
def test_a_pack_is_valid_sober_and_never_blocks_by_itself(name: str) -> None:
    text = (POLICIES / f"{name}.yaml").read_text()
    policy = load_policy(POLICIES / f"{name}.yaml")
    assert text.startswith("# yaml-language-server: $schema=./policy.schema.json\n")
    assert policy.policy == name
    assert 10 <= len(policy.rules) <= 15
    for rule in policy.rules:
        assert rule.block is None
        assert rule.review is not None
        assert rule.description, rule.id
        assert rule.contrast, rule.id
        assert rule.mode is not Mode.SHADOW or rule.review_by is not None
    assert sum(bool(rule.maps_to) for rule in policy.rules) >= 8
    assert "starting points" in text
    assert "not calibrated" in text.lower() or "nobody has calibrated" in text.lower()
    assert "OUT OF SCOPE" in text or "out of scope" in text
    assert lint(policy, TODAY) == []


@pytest.mark.parametrize("name", PACKS[1:])
def test_policy_packs_include_the_base_policy(name: str) -> None:
    own = {rule.id for rule in load_policy(POLICIES / "base.yaml").rules}
    assert own < {rule.id for rule in load_policy(POLICIES / f"{name}.yaml").rules}


def test_the_schema_file_is_the_one_that_is_generated() -> None:
    """`make schema` renews it."""
    assert json.loads((POLICIES / "policy.schema.json").read_text()) == schema()


@pytest.mark.parametrize(
    "path", [*(POLICIES / f"{name}.yaml" for name in PACKS), ROOT / "moderation" / "demo" / "policy.yaml"], ids=lambda p: p.name
)
def test_the_schema_accepts_what_the_loader_accepts(path: Path) -> None:
    jsonschema.validate(plain(path), schema())


@pytest.mark.parametrize(
    ("key", "value"), [("ruels", []), ("near", 2), ("unreadable", "perhaps"), ("rules", []), ("overrides", {"A b": {}})]
)
def test_the_policy_schema_refuses_planted_mistakes(key: str, value: object) -> None:
    good = plain(POLICIES / "base.yaml")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**good, key: value}, schema())


def test_every_policy_key_is_documented() -> None:
    section = GUIDE[GUIDE.index("## Every key\n") :]
    documented = set(re.findall(r"`([a-z_.\[\]<>]+)`", section))

    def keys(model: type[BaseModel], prefix: str) -> set[str]:
        return {prefix + name for name in model.model_fields}

    wanted = (
        keys(PolicyFile, "")
        | keys(ModelChoice, "model.")
        | keys(Preprocess, "model.preprocess.")
        | keys(Rule, "rules[].")
        | keys(Example, "examples[].")
        | keys(ListedImages, "lists[].")
    )
    wanted |= keys(Override, "overrides.<id>.")
    assert wanted - documented == set()


def test_yaml_examples_in_the_guide_load() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        YAML(typ="safe", pure=True).load(block)
