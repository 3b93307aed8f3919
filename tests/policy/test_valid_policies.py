"""Policies that are valid, written in ways of YAML that few people know: none of them is an error."""

# ruff: noqa: E501 - each policy is one line, so that the list can be read

import pytest

from moderation.errors import PolicyError
from moderation.policy_files.loading import parse_policy

HEAD = 'policy: p\nversion: "1"\ncontrast: [a photo]\nmodel: {name: demo}\n'
RULE = "rules:\n  - id: a\n    prompts: [a gun]\n    review: 0.5\n"
POLICIES = {
    "block literal with bullets": HEAD
    + "description: |\n  What we forbid:\n  * guns\n  – knives\n  • “beer”\n  key： value\n  [ “x” ]\n"
    + RULE,
    "folded": HEAD + "description: >-\n  One\n  * two\n\n  – three: four\n" + RULE,
    "literal with indent indicator": HEAD + "description: |2\n    indented\n  * two\n" + RULE,
    "literal with comment": HEAD + "description: | # a note: “x”\n  * two\n" + RULE,
    "multi-line double": HEAD + 'description: "first\n  * second\n  – third: four\n  • fifth # no comment"\n' + RULE,
    "multi-line single": HEAD + "description: 'first\n  * second it''s\n  – third: four\n\n  key： x'\n" + RULE,
    "multi-line plain": HEAD + "description: first\n  – second\n  — third\n  • fourth\n" + RULE,
    "plain dash in text": HEAD + "description: Guns – and knives — and “beer”\n" + RULE,
    "anchors": HEAD
    + "rules:\n  - id: a\n    prompts: &p [a gun, a rifle]\n    review: 0.5\n  - id: b\n    prompts: *p\n    review: 0.5\n",
    "anchor block list": HEAD
    + "rules:\n  - id: a\n    prompts: &p\n      - a gun\n      - a rifle\n    review: 0.5\n  - id: b\n    prompts: *p\n    review: 0.5\n",
    "alias item": HEAD
    + "rules:\n  - id: a\n    prompts:\n      - &g a gun\n      - a rifle\n    review: 0.5\n  - id: b\n    prompts:\n      - *g\n      - a knife\n    review: 0.5\n",
    "flow": '{policy: p, contrast: [a photo], version: "1", model: {name: demo}, rules: [{id: a, prompts: [a gun, "a knife"], review: 0.5}]}\n',
    "flow lines": HEAD
    + 'rules:\n  - {\n      id: a,\n      prompts: [\n        a gun,\n        "a knife",\n      ],\n      review: 0.5,\n    }\n',
    "comments": '# “quotes” * – • ： ［\npolicy: p\nversion: "1"\ncontrast: [a photo]\nmodel: {name: demo}\nrules: # “these”\n  - id: a # it\'s "odd\n    prompts: # – list\n      # * not an item\n      # – nor this\n      - a gun # “x”\n      - a knife   # \'y\n    review: 0.5 # May: 50%\n',
    "crlf": 'policy: p\r\nversion: "1"\r\ncontrast: [a photo]\r\nmodel: {name: demo}\r\nrules:\r\n  - id: a\r\n    prompts: [a gun]\r\n    review: 0.5\r\n',
    "crlf block": 'policy: p\r\nversion: "1"\r\ncontrast: [a photo]\r\nmodel: {name: demo}\r\ndescription: |\r\n  * one\r\n  – two\r\nrules:\r\n  - id: a\r\n    prompts: [a gun]\r\n    review: 0.5\r\n',
    "non-latin": HEAD + 'rules:\n  - id: a\n    prompts: [銃, пистолет, بندقية, 권총, "ปืน", 拳銃\u3000写真]\n    review: 0.5\n',
    "non-latin block": HEAD
    + "rules:\n  - id: a\n    prompts:\n      - 銃を持つ人、室内\n      - пистолет – на столе\n      - بندقية\n    review: 0.5\n",
    "apostrophe": HEAD + "rules:\n  - id: a\n    prompts: [a butcher's knife, a butcher’s knife, \"it's\"]\n    review: 0.5\n",
    "apostrophe block": HEAD
    + "rules:\n  - id: a\n    prompts:\n      - a butcher's knife\n      - a butcher’s knife\n      - \"a 'gun'\"\n    review: 0.5\n",
    "german": HEAD
    + "description: Ein Schild, auf dem „Verboten“ steht\nowner: „Team“ Köln\nrules:\n  - id: a\n    prompts: [a sign that says „Nein“ in red, ein Schild „Nein“ an der Wand]\n    review: 0.5\n",
    "german end": HEAD
    + "rules:\n  - id: a\n    prompts:\n      - ein Schild mit „Nein“\n      - a sign that says “no”\n      - “no” on a sign\n      - „Nein“ und „Ja“\n    review: 0.5\n",
    "quoted typographic": HEAD + "rules:\n  - id: a\n    prompts: [\"a “beer” bottle\", 'a „Bier“ bottle']\n    review: 0.5\n",
    "url": HEAD + "description: see https://example.com/a#b\n" + RULE,
    "times": HEAD + 'description: "at 12:30, ratio 1:2"\n' + RULE,
    "emoji": HEAD + "description: 👩\u200d👩\u200d👧 family – ok\n" + RULE,
    "doc start": '---\npolicy: p\nversion: "1"\ncontrast: [a photo]\nmodel: {name: demo}\n' + RULE,
    "doc end": '---\npolicy: p\nversion: "1"\ncontrast: [a photo]\nmodel: {name: demo}\nrules:\n  - id: a\n    prompts: [a gun]\n    review: 0.5\n...\n',
    "yaml directive": '%YAML 1.2\n---\npolicy: p\nversion: "1"\ncontrast: [a photo]\nmodel: {name: demo}\n' + RULE,
    "complex key quoting": '"contrast": ["a photo"]\n"policy": p\n\'version\': "1"\n"model": {"name": "demo"}\n"rules":\n  - "id": a\n    "prompts": ["a gun"]\n    "review": 0.5\n',
    "same indent list": HEAD + "rules:\n- id: a\n  prompts:\n  - a gun\n  - a knife\n  review: 0.5\n",
    "nested dash": HEAD + "rules:\n  -\n    id: a\n    prompts:\n      -\n        a gun\n    review: 0.5\n",
    "multi-line plain prompt": HEAD
    + "rules:\n  - id: a\n    prompts:\n      - a gun\n        on a table\n      - a knife\n        – in a kitchen\n    review: 0.5\n",
    "literal prompt": HEAD
    + "rules:\n  - id: a\n    prompts:\n      - |\n        a gun\n      - >-\n        a knife\n        * in a kitchen\n    review: 0.5\n",
    "fence in block": HEAD + "description: |\n  ```\n  code\n  ```\n  <<<<<<< not a conflict\n  =======\n  > quoted\n" + RULE,
    "tab in text": HEAD + "description: |\n  a\tb\n" + RULE,
    "trailing spaces": HEAD + "description: text   \nrules:   \n  - id: a  \n    prompts: [a gun]\t\n    review: 0.5\t# x\n",
    "escapes": HEAD + 'description: "\\u201cx\\u201d \\t \\\\ \\" * –"\n' + RULE,
    "description like rule": HEAD + "description: |\n  rules:\n    id: a\n  – id: b\n  * id: c\n" + RULE,
    "plain text with id": HEAD + "description: text\n  – id of the thing\n" + RULE,
    "quoted multi with id": HEAD + 'description: "text:\n  * id: x\n  – id: y"\n' + RULE,
    "blank in literal": HEAD + "description: |\n\n  * one\n\n  – two\n\n" + RULE,
    "rule description block": HEAD
    + "rules:\n  - id: a\n    description: |\n      * one\n      – two: x\n    prompts: [a gun]\n    review: 0.5\n",
    "tags": HEAD + "description: !!str 12\n" + RULE,
    "no newline at end": HEAD + "rules:\n  - id: a\n    prompts: [a gun]\n    review: 0.5",
    "star in prompt": HEAD + 'rules:\n  - id: a\n    prompts: ["*", a * b, "* star"]\n    review: 0.5\n',
    "nbsp in quotes": HEAD + 'description: "a\xa0b"\n' + RULE,
    "french": HEAD + "description: « Interdit » – les armes\xa0!\n" + RULE,
    "keep": HEAD + "description: |+\n  * x\n\n" + RULE,
    "multi-line flow quotes": HEAD
    + "rules:\n  - id: a\n    prompts: [\"a gun\n        – on a table\", 'a knife\n        * in it']\n    review: 0.5\n",
}
"""By what is unusual."""


@pytest.mark.parametrize("text", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_valid_policies_are_no_errors(text: str, line_end: str) -> None:
    policy = parse_policy(text.replace("\r\n", "\n").replace("\n", line_end))
    assert policy.rules[0].prompts


def test_text_in_quotes_stays_as_it_is_over_several_lines() -> None:
    text = HEAD + "description: 'first\n  * id: x\n  – second, it''s\n  key： x'\n" + RULE
    assert parse_policy(text).description == "first * id: x – second, it's key： x"
    prompts = "rules:\n  - id: a\n    prompts:\n      - a knife\n        – in a kitchen\n    review: 0.5\n"
    assert parse_policy(HEAD + prompts).rules[0].prompts == ("a knife – in a kitchen",)


@pytest.mark.parametrize(
    "text",
    [
        "rules:\n  – id: a\n    prompts: [a gun]\n    review: 0.5\n",
        "rules:\n  - id: a\n    prompts:\n      - a gun\n      – a knife\n      * a sword\n    review: 0.5\n",
        "description: guns, 'til dawn\nrules：\n  - id: a\n    prompts: [a gun]\n    review: 0.5\n",
        'description: "open\nrules：\n  - id: a\n    prompts: ["a gun"]\n    review: 0.5\n',
    ],
)
def test_mistakes_beside_valid_oddities_are_still_reported(text: str) -> None:
    with pytest.raises(PolicyError, match=r"is used where|not closed|never closed|quote"):
        parse_policy(HEAD + text)
