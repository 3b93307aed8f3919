"""`dsa:` in policies: every mistake with its place, and what belongs together."""

import pytest

from moderation.errors import PolicyError
from moderation.policy_files.loading import load_policy, parse_policy

START = """policy: shop
model: {name: demo}
contrast: [x]
rules:
  - id: arms
    prompts: [a gun]
    block: 0.5
    dsa:
      category: STATEMENT_CATEGORY_VIOLENCE
"""
ILLEGAL = "      decision_ground: DECISION_GROUND_ILLEGAL_CONTENT\n"
TERMS = """      decision_ground: DECISION_GROUND_INCOMPATIBLE_CONTENT
      incompatible_content_ground: Terms, 4
      incompatible_content_explanation: not allowed
"""


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (START, ["policy:8:5: the key `decision_ground` is missing", "DECISION_GROUND_ILLEGAL_CONTENT"]),
        (
            START + ILLEGAL,
            ["policy:9:7: `dsa` needs `illegal_content_legal_ground` and `illegal_content_explanation`, since"],
        ),
        (
            START.replace("VIOLENCE", "VIOLENSE") + TERMS,
            ["policy:9:17: `category` is not one of the values", "did you mean `STATEMENT_CATEGORY_VIOLENCE`"],
        ),
        (START + TERMS + "      illegal_content_explanation: x\n", ["`dsa` has `illegal_content_explanation`, although"]),
        (
            START + TERMS + "      category_specification: [KEYWORD_NUDE]\n",
            ["policy:13:32: `category_specification` is not one of", "did you mean `KEYWORD_NUDITY`"],
        ),
        (
            START + TERMS + "      territorial_scope: [Germany]\n",
            ["policy:13:27: `territorial_scope` is not one of the values"],
        ),
        (
            START + TERMS + "      content_type: [CONTENT_TYPE_OTHER]\n",
            ["`dsa` needs `content_type_other`, since `content_type` has"],
        ),
        (START + TERMS + "      decision_visibility_other: x\n", ["`dsa` has `decision_visibility_other`, but no DECISION"]),
        (START + TERMS + "      category_specification_other: x\n", ["but no KEYWORD_OTHER in `category_specification`"]),
        (START + TERMS + "      decision_ground_reference_url: terms\n", ["does not begin with https://"]),
        (
            START + TERMS + "      catgory_addition: []\n",
            ["unknown key `catgory_addition`", "did you mean `category_addition`?"],
        ),
        (START + TERMS + f"      decision_facts: {'x' * 3001}\n", ["`decision_facts`"]),
    ],
)
def test_mistakes_have_their_place_and_a_hint(text: str, messages: list[str]) -> None:
    with pytest.raises(PolicyError) as wrong:
        parse_policy(text)
    for message in messages:
        assert message in str(wrong.value)


def test_a_policy_without_the_key_keeps_its_hash_and_one_with_it_has_the_same() -> None:
    plain = START.partition("    dsa:")[0]
    assert parse_policy(plain).hash == parse_policy(START + TERMS).hash == "893910c1f1cf12f8", "that of earlier versions"


def test_an_override_can_add_it_to_an_included_rule(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "base.yaml").write_text(START.partition("    dsa:")[0])
    keys = "\n".join(f"  {line}" for line in (START + TERMS).partition("    dsa:\n")[2].splitlines())
    (tmp_path / "own.yaml").write_text(f"policy: own\ninclude: base.yaml\noverrides:\n  arms:\n    dsa:\n{keys}\n")
    policy = load_policy(tmp_path / "own.yaml")
    assert policy.rules[0].dsa is not None
    assert policy.rules[0].dsa.incompatible_content_ground == "Terms, 4"
