"""Thresholds written into policy files: not a byte changes besides the number and its evidence."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from needs import needs_root

from moderation.errors import PolicyError
from moderation.policy_files.loading import load_policy
from moderation.studies.tuning.policy_file import MARK, NewThreshold, number, write_thresholds

HEAD = "policy: shop\nmodel: {name: demo}\ncontrast: [x]\n"
NEW = NewThreshold("a", "review", 0.625, "tuned 2026-11-21: precision 0.95")


def written(folder: Path, text: str, *thresholds: NewThreshold) -> str:
    path = folder / "policy.yaml"
    path.write_bytes(text.encode())
    write_thresholds(path, thresholds or (NEW,))
    assert [entry.name for entry in folder.iterdir()] == ["policy.yaml"]  # no temporary file is left
    return path.read_bytes().decode()


def evidence(indent: str = "", newline: str = "\n", new: NewThreshold = NEW) -> str:
    return f"{indent}# {new.rule} {new.key} {new.evidence} {MARK}{newline}"


CASES = {
    "block style": ("rules:\n  - id: a   # c\n    prompts: [p]\n@@    review: |0.60|   # why\n    block: 0.9\n", "    "),
    "tab in the comment": ("rules:\n  - id: a\n    prompts: [p]\n@@    review: |0.60| #\twhy\t\n    block: 0.9\n", "    "),
    "first key": ('rules:\n@@- review: |6e-1|\n  id: a\n  prompts: ["é😀"]', ""),
    "flow style": ("rules:\n@@  - {id: a, prompts: [p], review: |0.6|, block: 0.9}  # c\n", "  "),
    "several lines of flow style": (
        "rules: [{id: a, prompts: [p],\n@@   review: |0.6|,\n block: 0.9}, {id: b, prompts: [q], review: .5}]\n",
        "   ",
    ),
    "two rules in one line": ("@@rules: [{id: b, prompts: [q], review: .5}, {id: a, prompts: [p], review: |.5|}]\n", ""),
    "behind folded text": (
        "rules:\n  - id: a\n    prompts: [p]\n    description: >\n      foo\n\n@@    review: |0.6|\n    \n",
        "    ",
    ),
    "in a line of its own": ("rules:\n  - id: a\n    prompts: [p]\n@@    review:\n      |0.1|\n", "    "),
    "anchor that nobody uses": ("rules:\n  - id: a\n    prompts: [p]\n@@    review: &r |0.6|\n", "    "),
    "tag": ("rules:\n  - id: a\n    prompts: [p]\n@@    review: !!float |0.6|\n", "    "),
    "quoted keys": ("rules:\n  - 'id': a\n    prompts: [p]\n@@    \"review\": |0.6|\n", "    "),
    "hash in text": ("rules:\n  - id: a\n    prompts: ['# no comment', 'review: 0.6']\n@@    review: |0.6|\n", "    "),
    "somebody's comment above": (
        "rules:\n  - id: a\n    prompts: [p]\n    # mine [moderate policy]\n@@    review: |0.6|\n",
        "    ",
    ),
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize(("text", "indent"), CASES.values(), ids=CASES)
def test_only_the_number_changes(tmp_path, text, indent, bom, newline):
    before, _, rest = (HEAD + text).partition("@@")
    start, _, end = rest.split("|")
    text = bom + (before + rest.replace("|", "")).replace("\n", newline)
    expected = (before + evidence(indent) + start + "0.625" + end).replace("\n", newline)
    assert written(tmp_path, text) == bom + expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "rules:\n  - id: a\n    prompts: [p]\n    block: 0.9 # hm",
            "rules:\n  - id: a\n    prompts: [p]\n    block: 0.9 # hm\n@    review: 0.625",
        ),
        (
            "rules:\n- block: 0.9\n  id: a\n  prompts: [p]\n",
            "rules:\n- block: 0.9\n@  review: 0.625\n  id: a\n  prompts: [p]\n",
        ),
        (
            "rules:\n  - {id: a, prompts: [p], block: 0.9}",
            "rules:\n@  - {id: a, prompts: [p], block: 0.9, review: 0.625}",
        ),
        (
            "rules:\n  - id: a\n    prompts: [p]\n    review:   # none\n    block: 0.9",
            "rules:\n  - id: a\n    prompts: [p]\n@    review: 0.625   # none\n    block: 0.9",
        ),
        (
            "rules:\n  - id: a\n    prompts: [p]\n    review: ~\n    block: 0.9",
            "rules:\n  - id: a\n    prompts: [p]\n@    review: 0.625\n    block: 0.9",
        ),
    ],
)
def test_a_threshold_that_was_not_there_is_put_beside_the_other(tmp_path, text, expected):
    after = written(tmp_path, HEAD + text)
    line = next(line for line in expected.splitlines() if line.startswith("@"))
    indent = line[1 : len(line) - len(line[1:].lstrip())]
    assert after == HEAD + expected.replace("@", evidence(indent))
    assert load_policy(tmp_path / "policy.yaml").rules[0].review == 0.625


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "rules:\n  - id: a\n    prompts: [p]\n    review: &r 0.6\n  - id: b\n    prompts: [q]\n    review: *r\n",
            "anchor (&name)",
        ),
        (
            "rules:\n  - id: b\n    prompts: [q]\n    review: &r 0.6\n  - id: a\n    prompts: [p]\n    review: *r\n",
            "line 10: `review` is not a plain number but an alias",
        ),
        ("rules:\n  - id: a\n    prompts: [p]\n    review: 0.1\n    block: 0.2\n", "block from 0.2, which is lower"),
        ("rules:\n  - id: b\n    prompts: [p]\n    review: 0.1\n", "there is no rule 'a'"),
        ("rules:\n  - id: a\n    prompts: [p]\n    review: '0.6'\n", "without quotes"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_happens(tmp_path, text, message):
    path = tmp_path / "policy.yaml"
    path.write_text(HEAD + text)
    with pytest.raises(PolicyError) as caught:
        write_thresholds(path, [NEW])
    assert message in str(caught.value)
    assert path.read_text() == HEAD + text
    assert len(list(tmp_path.iterdir())) == 1


def test_evidence_replaces_its_own_and_nobody_elses(tmp_path):
    text = "rules:\n  - id: a\n    prompts: [p]\n    # agreed with legal\n    review: 0.6\n    block: 0.9\n"
    once = written(tmp_path, HEAD + text, NEW, NewThreshold("a", "block", 0.95, "tuned 2026-11-21: x"))
    again = NewThreshold("a", "review", 0.7, "tuned 2026-12-01: precision 0.97")
    write_thresholds(tmp_path / "policy.yaml", [again])
    assert (tmp_path / "policy.yaml").read_text() == once.replace(evidence("    "), evidence("    ", new=again)).replace(
        "review: 0.625", "review: 0.7"
    ).replace("review: 0.7\n", "review: 0.70\n")
    assert once.count("# agreed with legal") == 1
    assert once.count(MARK) == 2


def test_writing_the_same_thresholds_again_changes_nothing(tmp_path):
    once = written(tmp_path, HEAD + "rules:\n  - {id: a, prompts: [p], review: 0.6, block: 0.9}\n")
    before = (tmp_path / "policy.yaml").stat()
    write_thresholds(tmp_path / "policy.yaml", [NEW])
    assert (tmp_path / "policy.yaml").read_text() == once
    assert (tmp_path / "policy.yaml").stat().st_ino == before.st_ino


def test_two_thresholds_of_one_line_keep_their_evidence_apart(tmp_path):
    block = NewThreshold("a", "block", 0.97, "tuned 2026-11-21: y")
    text = HEAD + "rules:\n  - {id: a, prompts: [p], review: 0.6, block: 0.9}\n"
    written(tmp_path, text, NEW, block)
    later = [NewThreshold("a", "review", 0.63, "tuned 2026-12-01: x"), NewThreshold("a", "block", 0.98, "tuned 2026-12-01: y")]
    write_thresholds(tmp_path / "policy.yaml", later)
    after = (tmp_path / "policy.yaml").read_text()
    assert after.count(MARK) == 2
    assert all(evidence("  ", new=new) in after for new in later)
    assert "{id: a, prompts: [p], review: 0.63, block: 0.98}" in after


def test_an_included_rule_is_refused_with_its_place_and_an_override_is_written(tmp_path):
    base = HEAD + "rules:\n  - id: a\n    prompts: [p]\n    review: 0.5\n"
    (tmp_path / "base.yaml").write_text(base)
    path = tmp_path / "shop.yaml"
    path.write_text("include: base.yaml\npolicy: mine\n")
    with pytest.raises(PolicyError) as caught:
        write_thresholds(path, [NEW])
    assert f"comes from {tmp_path}/base.yaml, line 7" in str(caught.value)
    assert "`overrides: {a: {review: 0.625}}`" in str(caught.value)
    path.write_text("include: base.yaml\npolicy: mine\noverrides:\n  a: {review: 0.55}   # ours\n")
    write_thresholds(path, [NEW])
    assert path.read_text().endswith(f"overrides:\n{evidence('  ')}  a: {{review: 0.625}}   # ours\n")
    assert (tmp_path / "base.yaml").read_text() == base
    assert load_policy(path).rules[0].review == 0.625


def test_own_rules_beside_included_ones_are_found(tmp_path):
    (tmp_path / "base.yaml").write_text(HEAD + "rules:\n  - {id: b, prompts: [p], review: 0.5}\n")
    path = tmp_path / "shop.yaml"
    path.write_text("include: base.yaml\nrules:\n  - {id: a, prompts: [q], review: 0.5}\n")
    write_thresholds(path, [NEW])
    assert path.read_text().endswith("{id: a, prompts: [q], review: 0.625}\n")


def test_file_mode_and_links_are_kept(tmp_path):
    real, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    real.write_text(HEAD + "rules:\n  - {id: a, prompts: [p], review: 0.6}\n")
    real.chmod(0o640)
    link.symlink_to(real)
    write_thresholds(link, [NEW])
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert "review: 0.625" in real.read_text()


@needs_root
def test_a_file_of_another_owner_can_be_written(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(HEAD + "rules:\n  - {id: a, prompts: [p], review: 0.6}\n")
    os.chown(path, 12345, 12345)
    write_thresholds(path, [NEW])
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12345)


@settings(deadline=None)
@given(st.floats(-1, 1, allow_nan=False).map(lambda value: round(value, 10)))
def test_numbers_are_written_as_people_write_them(value):
    text = number(value)
    assert float(text) == value
    assert "e" not in text
    assert len(text.partition(".")[2]) >= 2


COMMENTS = st.sampled_from(["", "  # why", " #\ttab\t", " # 0.6 é 😀", " # review: 0.5"])
LINES = st.sampled_from(["", "# a comment", "    # review: 0.1", "      ", "# [moderate policy tune]", "#\ttab"])


@st.composite
def policies(draw) -> tuple[str, str, str]:
    """A policy's text with rule `a` somewhere in it: what stands before its review threshold, the threshold, and the rest."""
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    indent = " " * draw(st.integers(0, 6))
    value = draw(st.sampled_from(["0.6", ".6", "0.60", "6e-1", "+0.6", "0.6_0", "0", "-0.0"]))
    keys = draw(st.permutations(["id", "prompts", "review", "block", "description"]))
    values = {
        "id": "a",
        "prompts": draw(st.sampled_from(["[p]", '["p: # x"]', "['p', \"q\"]"])),
        "review": f"\x00{value}\x00",
        "block": draw(st.sampled_from(["0.9", "1", "0.95"])),
        "description": draw(st.sampled_from(["plain text", '"quo # ted"', "'it''s'", "{}"]).filter(lambda text: text != "{}")),
    }
    other = {"id": "b", "prompts": "[q]", "review": "0.5"}
    rules = []
    for rule in draw(st.permutations([[(key, values[key]) for key in keys], list(other.items())])):
        if draw(st.booleans()):
            inside = ", ".join(f"{key}: {text}" for key, text in rule)
            rules.append(f"{indent}- {{{inside}}}{draw(COMMENTS)}")
        else:
            rules += [f"{indent}{'- ' if not i else '  '}{key}: {text}{draw(COMMENTS)}" for i, (key, text) in enumerate(rule)]
        rules.append(draw(LINES))
    end = draw(st.sampled_from(["", newline, newline + newline]))
    lines = [draw(LINES), "policy: shop", "model: {name: demo}", draw(LINES), "contrast: [x]", "rules:", draw(LINES), *rules]
    text = draw(st.sampled_from(["", "\ufeff"])) + newline.join(lines) + end
    before, found, rest = text.split("\x00")
    return before, found, rest


@settings(deadline=None, max_examples=60)
@given(policies())
def test_whatever_the_layout_only_the_number_changes(tmp_path_factory, policy):
    before, value, rest = policy
    folder = tmp_path_factory.mktemp("policy")
    text = before + value + rest
    after = written(folder, text)
    lines = after.splitlines(keepends=True)
    ours = [line for line in lines if line.strip().startswith("# a review tuned")]
    assert len(ours) == 1
    assert after.replace(ours[0], "", 1) == before + "0.625" + rest
    assert load_policy(folder / "policy.yaml").rules != ()
    again = written_again(folder)
    assert again.count("# a review tuned") == 1


def written_again(folder: Path) -> str:
    write_thresholds(folder / "policy.yaml", [NewThreshold("a", "review", 0.63, "tuned 2026-11-22: precision 0.95")])
    return (folder / "policy.yaml").read_bytes().decode()
