"""Mistakes in a policy's hash lists, each at its place, and what is odd though valid."""

from datetime import date
from pathlib import Path

import pytest

from moderation.policy.linting import lint
from moderation.policy_files.loading import read_policy

HEAD = """policy: shop
model: {name: demo}
contrast: [a wall]
rules:
  - {id: weapons, severity: high, prompts: [a gun], contrast: [a toy], review: 0.5}
lists:
"""
PDQ = "f8" * 30 + "0f0f"


def found(folder: Path, lists: str, **files: str) -> list[str]:
    (folder / "policy.yaml").write_text(HEAD + lists)
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return [
        f"{Path(one.file).name}:{one.line}:{one.column}: {one.message}" for one in read_policy(folder / "policy.yaml").findings
    ]


@pytest.mark.parametrize(
    ("lists", "messages"),
    [
        (
            "  - {id: weapons, file: good.txt, hash: pdq, action: block}\n",
            ["policy.yaml:7:10: a rule has the id 'weapons' as well: results could not tell them apart"],
        ),
        (
            "  - {id: a, file: good.txt, hash: pdq, action: block}\n  - {id: a, file: good.txt, hash: pdq, action: block}\n",
            ["policy.yaml:8:10: two lists have the id 'a'"],
        ),
        (
            "  - {id: a, file: good.txt, hash: sha256, action: block, distance: 12, turned: true}\n",
            [
                "policy.yaml:7:68: `distance` is for lists of PDQ hashes: sha256 matches the same bytes and nothing else",
                "policy.yaml:7:80: `turned` is for lists of PDQ hashes: sha256 matches the same bytes and nothing else",
            ],
        ),
        ("  - {id: a, file: none.txt, hash: pdq, action: block}\n", ["policy.yaml:7:19: cannot read the list 'none.txt'"]),
        (
            "  - {id: a, file: bad.txt, hash: pdq, action: block}\n",
            ["bad.txt:2:1: PDQ hashes have 64 hex digits; this has 2 characters"],
        ),
        ("  - {id: a, file: good.txt, hash: pdq, action: block, distance: 65}\n", ["policy.yaml:7:65: `distance`"]),
        ("  - {id: a, file: good.txt, hash: pdq, action: delete}\n", ["policy.yaml:7:48: `action`"]),
        ("  - {id: a, hash: pdq, action: block}\n", ["policy.yaml:7:5: the key `file` is missing"]),
    ],
    ids=["id of a rule", "id twice", "keys of PDQ", "no file", "bad file", "distance", "action", "no key"],
)
def test_mistakes_are_reported_at_their_places(tmp_path: Path, lists: str, messages: list[str]) -> None:
    reported = found(tmp_path, lists, good=f"{PDQ}\n", bad=f"{PDQ}\nzz\n")
    assert len(reported) == len(messages)
    assert all(one.startswith(message) for one, message in zip(reported, messages, strict=True)), reported


def test_the_content_of_a_list_is_part_of_the_policy(tmp_path: Path) -> None:
    lists = "  - {id: a, file: good.txt, hash: pdq, action: block}\n"
    assert found(tmp_path, lists, good=f"{PDQ}\n") == []
    hashes = []
    for text in (f"{PDQ}\n", f"# a comment\n{PDQ.upper()}\n", f"{PDQ}\n{'ab' * 32}\n"):
        (tmp_path / "good.txt").write_text(text)
        policy = read_policy(tmp_path / "policy.yaml").policy
        assert policy is not None
        hashes.append(policy.hash)
    assert hashes[0] == hashes[1] != hashes[2]


def test_what_is_odd_is_a_warning(tmp_path: Path) -> None:
    lists = """  - {id: far, file: good.txt, hash: pdq, action: block, distance: 50, min_quality: 10}
  - {id: old, file: md5.txt, hash: md5, action: allow, severity: critical}
  - {id: mild, file: good.txt, hash: pdq, action: allow, severity: low, restricted: true}
  - {id: resting, file: good.txt, hash: pdq, action: block, distance: 50, mode: off}
"""
    assert found(tmp_path, lists, good=f"{PDQ}\n", md5="ab" * 16 + "\n") == []
    policy = read_policy(tmp_path / "policy.yaml").policy
    assert policy is not None
    odd = [one.message for one in lint(policy, date(2026, 11, 28)) if one.location[0] == "lists"]
    assert odd == [
        "`distance: 50` of the list 'far': unrelated pictures begin to match",
        "`min_quality: 10` of the list 'far': pictures with little detail match unlike ones",
        "the list 'old' allows by MD5: two files with one MD5 can be made on purpose",
        "the list 'mild' allows images that nobody may see",
        "the list 'mild' overrides no rule: all are more severe than `low`",
    ]
