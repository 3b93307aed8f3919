"""`compare` tells what changed in meaning and what it can do; `identity` tells why the hash changed or did not."""

import pytest
from support import make_policy

from moderation.policy import Policy
from moderation.policy.comparison import EFFECTS, Effect, compare, identity
from moderation.policy.schema import Rule


def changed(policy: Policy, **keys: object) -> Policy:
    return Policy.model_validate({**policy.model_dump(mode="json"), **keys})


@pytest.fixture
def shop() -> Policy:
    knives = {"id": "knives", "prompts": ["a knife", "a blade"], "contrast": ["a fork"], "review": 0.5, "block": 0.9}
    return make_policy(knives, {"id": "beer", "mode": "shadow"}, {"id": "dice", "mode": "off"}, contrast=["a wall", "a room"])


def with_rule(policy: Policy, at: int, **keys: object) -> Policy:
    rules = policy.model_dump(mode="json")["rules"]
    rules[at] |= keys
    return changed(policy, rules=rules)


@pytest.mark.parametrize(
    ("at", "keys", "expected"),
    [
        (0, {"review": 0.6}, [("review", "changed", 0.5, 0.6, "decisions", "fewer images reach review")]),
        (0, {"block": None}, [("block", "changed", 0.9, None, "decisions", "fewer images reach block")]),
        (0, {"prompts": ["a blade", "a dagger"]}, [("prompts", "added", None, "a dagger", "scores", ""),
                                                  ("prompts", "removed", "a knife", None, "scores", "")]),
        (0, {"contrast": ["a fork", "a spoon"]}, [("contrast", "added", None, "a spoon", "scores", "")]),
        (0, {"mode": "shadow"}, [("mode", "changed", "live", "shadow", "decisions", "")]),
        (0, {"mode": "off", "review": 0.6}, [("mode", "changed", "live", "off", "scores", ""),
                                             ("review", "changed", 0.5, 0.6, "nothing", "")]),
        (0, {"severity": "high"}, [("severity", "changed", "medium", "high", "reports", "")]),
        (0, {"description": "New."}, [("description", "changed", "", "New.", "nothing", "changes no decision")]),
        (0, {"id": "blades", "block": 0.8}, [("id", "renamed", "knives", "blades", "reports", ""),
                                             ("block", "changed", 0.9, 0.8, "decisions", "more images reach block")]),
        (1, {"review": 0.6}, [("review", "changed", 0.5, 0.6, "reports", "changes no image's action")]),
        (2, {"review": 0.6}, [("review", "changed", 0.5, 0.6, "nothing", "")]),
        (2, {"prompts": ["a die"], "id": "die"}, [("id", "added", None, "die", "nothing", ""),
                                                  ("id", "removed", "dice", None, "nothing", "")]),
    ],
)  # fmt: skip
def test_changes_of_a_rule_are_described(shop: Policy, at: int, keys: dict, expected: list[tuple]) -> None:
    found = compare(shop, with_rule(shop, at, **keys))
    assert [(c.key, c.kind, c.old, c.new, c.effect.value) for c in found] == [change[:5] for change in expected]
    assert all(told in change.note for change, (*_, told) in zip(found, expected, strict=True))


def test_changes_of_the_policy_as_a_whole_are_described(shop: Policy) -> None:
    new = changed(
        shop,
        model={"name": "ViT-B-32", "pretrained": "openai"},
        templates=["{}"],
        contrast=["a room", "a door"],
        unreadable="block",
        near=0.1,
        owner="someone",
        examples=[{"image": "a.jpg", "expect": {"knives": "block"}}],
    )
    found = compare(shop, new)
    assert {c.key: c.effect for c in found} == {
        "owner": Effect.NOTHING,
        "model": Effect.EMBEDDINGS,
        "templates": Effect.SCORES,
        "contrast": Effect.SCORES,
        "unreadable": Effect.DECISIONS,
        "near": Effect.REPORTS,
        "examples": Effect.NOTHING,
    }
    assert "embeds and decides every image again" in identity(shop, new, found)


def test_order_is_no_change_of_meaning_and_the_identity_says_why(shop: Policy) -> None:
    rules = shop.model_dump(mode="json")["rules"]
    rules[0]["prompts"].reverse()
    turned = changed(shop, rules=rules[::-1])
    assert compare(shop, turned) == ()
    assert "the meaning did not" in identity(shop, turned, ())
    assert "The identity is the same" in identity(shop, changed(shop), ())
    texts = changed(shop, description="New.")
    assert "no decision will" in identity(shop, texts, compare(shop, texts))


def test_every_key_of_the_language_has_a_stated_effect() -> None:
    assert {*Policy.model_fields, *Rule.model_fields} - {"id", "rules"} == set(EFFECTS)
