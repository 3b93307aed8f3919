"""Statements of reasons: fields and values of the database, one for each block in effect, the same in every export."""

import csv
import io
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from published import POLICY_TEXT
from vector_results import RUN, Image, publish_vectors

from moderation import cli
from moderation.dsa.statements import FIELDS
from moderation.policy.dsa_keys import EEA, EU
from moderation.policy_files.loading import parse_policy
from moderation.reviews.review import Review, ReviewAction, Source, Verdict
from moderation.reviews.store import append
from moderation.storage import Store

FIREARMS = """
    dsa:
      category: STATEMENT_CATEGORY_UNSAFE_AND_PROHIBITED_PRODUCTS
      category_specification: [KEYWORD_PROHIBITED_PRODUCTS]
      decision_ground: DECISION_GROUND_ILLEGAL_CONTENT
      illegal_content_legal_ground: Weapons Act, section 2
      illegal_content_explanation: Offering firearms without a licence is prohibited.
      decision_visibility: [DECISION_VISIBILITY_CONTENT_DISABLED]
      content_type: [CONTENT_TYPE_IMAGE, CONTENT_TYPE_PRODUCT]
      territorial_scope: [EEA]
      decision_facts: The listing showed a firearm.
"""
NUDITY = """
    dsa:
      category: STATEMENT_CATEGORY_OTHER_VIOLATION_TC
      category_specification: [KEYWORD_NUDITY]
      decision_ground: DECISION_GROUND_INCOMPATIBLE_CONTENT
      decision_ground_reference_url: https://example.com/terms
      incompatible_content_ground: Terms, section 4
      incompatible_content_explanation: The terms do not allow nudity.
"""
OTHER = """
dsa:
  category: STATEMENT_CATEGORY_OTHER_VIOLATION_TC
  decision_ground: DECISION_GROUND_INCOMPATIBLE_CONTENT
  incompatible_content_ground: Terms, section 1
  incompatible_content_explanation: The terms do not allow it.
"""
RULES = """
policy: shop
version: "1"
model: {name: demo}
near: 0.05
rules:
  - id: firearms
    category: weapons
    prompts: [a handgun]
    score: similarity
    review: 0.5
    block: 0.75
  - id: nudity
    category: adult
    prompts: [a nude]
    score: similarity
    review: 0.5
    block: 0.75
"""
PLAIN = parse_policy(RULES)
STARTED = datetime(2026, 11, 21, 3, tzinfo=UTC)
GUN = Image("s3://shop/anna.meier@example.com/gun.jpg", [[0.875]])
KNIFE = Image("s3://shop/knife.jpg", [[0.53125]])
NUDE = Image("s3://shop/nude.jpg", [[0.0, 0.9375]])
FACE = Image("s3://shop/face.jpg", [[0.0]])
TOY = Image("s3://shop/toy.jpg", [[0.8125]])


class Answer(NamedTuple):
    code: int
    out: str
    err: str


def with_dsa(firearms: str = FIREARMS, nudity: str = NUDITY, other: str = OTHER) -> str:
    head, _, tail = RULES.partition("  - id: nudity")
    return f"{head.rstrip()}{firearms.rstrip()}\n  - id: nudity{tail.rstrip()}{nudity.rstrip()}\n{other}"


def decided(image: Image, action: ReviewAction, minutes: int = 60, rule: str | None = None) -> Review:
    return Review(
        uri=image.uri,
        etag="v1",
        sha256=image.sha256,
        rule=rule,
        verdict=Verdict.VIOLATES if action is ReviewAction.BLOCK else Verdict.FINE,
        action=action,
        reason="weapon",
        note="seller Anna Meier, known to us",
        reviewer="bob.smith",
        decided_at=STARTED + timedelta(minutes=minutes),
        source=Source.API,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Blocked by the machine: gun and nude; by a person: knife (flagged) and face (not flagged); overturned: toy."""
    output = Store(str(tmp_path_factory.mktemp("dsa") / "results"))
    publish_vectors(output, [GUN, KNIFE, NUDE, FACE, TOY], PLAIN, RULES)
    append(
        output,
        [
            decided(KNIFE, ReviewAction.BLOCK, rule="firearms"),
            decided(FACE, ReviewAction.BLOCK),
            decided(TOY, ReviewAction.ALLOW),
        ],
    )
    return output.uri


@pytest.fixture
def export(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.yaml").write_text(with_dsa())

    def exported(results: str, *arguments: str, since: str = "2026-01-01", policy: str = "policy.yaml") -> Answer:
        command = ["moderate", "export", "dsa", "--results", results, "--policy", policy, "--since", since, *arguments]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return Answer(int(ended.value.code or 0), shown.out, shown.err)

    return exported


def statements(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def by_facts(found: list[dict[str, Any]], words: str) -> dict[str, Any]:
    (one,) = [statement for statement in found if words in statement["decision_facts"]]
    return one


def test_each_block_in_effect_has_a_statement_in_the_words_of_the_database(results: str, export: Callable[..., Answer]) -> None:
    answer = export(results)
    assert answer.code == 0, answer.err
    found = statements(answer.out)
    assert len(found) == 4, "the toy is blocked no more"
    gun = by_facts(found, "0.88, and the threshold 0.75")
    assert gun == {
        "decision_visibility": ["DECISION_VISIBILITY_CONTENT_DISABLED"],
        "decision_ground": "DECISION_GROUND_ILLEGAL_CONTENT",
        "illegal_content_legal_ground": "Weapons Act, section 2",
        "illegal_content_explanation": "Offering firearms without a licence is prohibited.",
        "category": "STATEMENT_CATEGORY_UNSAFE_AND_PROHIBITED_PRODUCTS",
        "category_specification": ["KEYWORD_PROHIBITED_PRODUCTS"],
        "content_type": ["CONTENT_TYPE_IMAGE", "CONTENT_TYPE_PRODUCT"],
        "territorial_scope": list(EEA),
        "content_date": "2026-11-21",
        "application_date": "2026-11-21",
        "decision_facts": "The listing showed a firearm. "
        "An automated system examined the image under the policy shop, version 1. "
        "The rule firearms (weapons) asked to block it: its score was 0.88, and the threshold 0.75.",
        "source_type": "SOURCE_VOLUNTARY",
        "automated_detection": "Yes",
        "automated_decision": "AUTOMATED_DECISION_FULLY",
        "puid": gun["puid"],
    }
    nude = by_facts(found, "The rule nudity")
    assert nude["decision_visibility"] == ["DECISION_VISIBILITY_CONTENT_REMOVED"]
    assert nude["incompatible_content_ground"] == "Terms, section 4"
    assert nude["decision_ground_reference_url"] == "https://example.com/terms"
    assert nude["territorial_scope"] == list(EU)
    assert len(EU) == 27
    assert len(EEA) == 30


def test_who_decided_is_said_as_the_database_wants_it(results: str, export: Callable[..., Answer]) -> None:
    found = statements(export(results).out)
    knife = by_facts(found, "asked to have a person review it")
    assert (knife["automated_detection"], knife["automated_decision"]) == ("Yes", "AUTOMATED_DECISION_PARTIALLY")
    assert (
        "A person reviewed the image on 2026-11-21 and decided to block it, with the reason: weapon." in knife["decision_facts"]
    )
    face = by_facts(found, "did not flag it")
    assert (face["automated_detection"], face["automated_decision"]) == ("No", "AUTOMATED_DECISION_NOT_AUTOMATED")
    assert face["incompatible_content_ground"] == "Terms, section 1", "what the policy says for blocks that no rule explains"


def test_no_statement_holds_personal_data_and_all_fit_the_database(results: str, export: Callable[..., Answer]) -> None:
    out = export(results).out
    for personal in ("Anna", "anna.meier", "bob.smith", "s3://", "known to us"):
        assert personal not in out
    found = statements(out)
    assert len({statement["puid"] for statement in found}) == len(found)
    for statement in found:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,500}", statement["puid"])
        assert len(statement["decision_facts"]) <= 5000
        assert set(statement) <= set(FIELDS)


def test_csv_holds_the_same_with_lists_as_json(results: str, export: Callable[..., Answer], tmp_path: Path) -> None:
    lines = statements(export(results).out)
    assert export(results, "--format", "csv", "--output", "out.csv").code == 0
    text = (tmp_path / "out.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == FIELDS
    lists = {name for line in lines for name, value in line.items() if isinstance(value, list)}
    read = [{n: json.loads(v) if n in lists else v for n, v in row.items() if v} for row in rows]
    assert read == lines
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_a_block_is_the_same_statement_in_every_export_and_after_a_new_run(
    tmp_path: Path, export: Callable[..., Answer]
) -> None:
    output = Store(str(tmp_path / "results"))
    publish_vectors(output, [GUN], PLAIN, RULES)
    (first,) = statements(export(output.uri).out)
    publish_vectors(output, [GUN], parse_policy(RULES.replace('"1"', '"2"')), RULES, run_id="20261122T030000Z-bbbbbb")
    (again,) = statements(export(output.uri).out)
    assert (again["puid"], again["application_date"]) == (first["puid"], "2026-11-21")
    assert statements(export(output.uri, since="2026-11-22").out) == [], "it began before"

    append(output, [decided(GUN, ReviewAction.ALLOW, minutes=2000)])
    assert statements(export(output.uri).out) == []
    append(output, [decided(GUN, ReviewAction.BLOCK, minutes=3000)])
    assert len(statements(export(output.uri).out)) == 1


def test_a_block_after_another_decision_is_a_new_statement(tmp_path: Path, export: Callable[..., Answer]) -> None:
    output = Store(str(tmp_path / "results"))
    publish_vectors(output, [GUN], PLAIN, RULES)
    (first,) = statements(export(output.uri).out)
    mild = RULES.replace("block: 0.75", "block: 0.95")
    publish_vectors(output, [GUN], parse_policy(mild), mild, run_id="20261122T030000Z-bbbbbb")
    assert statements(export(output.uri).out) == []
    publish_vectors(output, [GUN], PLAIN, RULES, run_id="20261123T030000Z-cccccc")
    (second,) = statements(export(output.uri).out)
    assert second["puid"] != first["puid"]
    assert second["application_date"] == "2026-11-23"


def test_the_period_is_half_open(results: str, export: Callable[..., Answer]) -> None:
    assert len(statements(export(results, "--until", "2026-11-21", since="2026-11-01").out)) == 0
    assert len(statements(export(results, "--until", "2026-11-22", since="2026-11-21").out)) == 4
    assert len(statements(export(results, since="2026-11-22").out)) == 0


def test_what_the_policy_does_not_say_is_reported_before_anything_is_written(
    results: str, export: Callable[..., Answer], tmp_path: Path
) -> None:
    (tmp_path / "bare.yaml").write_text(RULES)
    answer = export(results, "--output", "out.jsonl", policy="bare.yaml")
    assert answer.code == 2
    assert "the policy does not say enough for statements of reasons: add `dsa:` (docs/dsa.md) for" in answer.err
    for line in (
        "  rule firearms: 2 blocks",
        "  rule nudity: 1 block",
        "  the policy itself, for blocks that no rule explains: 1 block",
    ):
        assert line in answer.err
    assert not (tmp_path / "out.jsonl").exists()
    gone = with_dsa().replace("id: nudity", "id: nakedness")
    (tmp_path / "gone.yaml").write_text(gone)
    assert (
        "rule nudity, which the policy no longer has: keep it with `mode: off`: 1 block"
        in export(results, policy="gone.yaml").err
    )


def test_totals_for_the_yearly_report(results: str, export: Callable[..., Answer], tmp_path: Path) -> None:
    answer = export(results, "--totals", "totals.json")
    totals = json.loads((tmp_path / "totals.json").read_text())
    assert totals["statements"] == 4
    assert totals["by_category"] == {
        "STATEMENT_CATEGORY_OTHER_VIOLATION_TC": 2,
        "STATEMENT_CATEGORY_UNSAFE_AND_PROHIBITED_PRODUCTS": 2,
    }
    assert totals["by_automated_decision"] == {
        "AUTOMATED_DECISION_FULLY": 2,
        "AUTOMATED_DECISION_NOT_AUTOMATED": 1,
        "AUTOMATED_DECISION_PARTIALLY": 1,
    }
    assert totals["by_automated_detection"] == {"No": 1, "Yes": 3}
    assert totals["by_rule"] == {"firearms": 2, "none": 1, "nudity": 1}
    keys = ("automated_blocks", "automated_blocks_reviewed", "automated_blocks_overturned", "appeals")
    assert [totals[key] for key in keys] == [3, 1, 1, 0]
    assert "4 statements of reasons" in answer.err
    assert "the machine blocked 3; people decided 1 of them, and overturned 1" in answer.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--until", "2025-01-01"), "--until: the period ends before it begins"),
        (("--until", "someday"), "--until: 'someday' is not a time"),
        (("--output", "no/such/folder/x"), "cannot write 'no/such/folder/x': no such file or directory"),
    ],
)
def test_mistakes_are_one_line(results: str, export: Callable[..., Answer], arguments: tuple[str, ...], message: str) -> None:
    answer = export(results, *arguments)
    assert answer.code == 2
    assert message in answer.err


def test_a_policy_of_another_name_is_an_error(results: str, export: Callable[..., Answer], tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(with_dsa().replace("policy: shop", "policy: shops"))
    assert "no run is published of the policy 'shops': did you mean shop?" in export(results, policy="other.yaml").err


def test_there_is_no_cap_on_rows(tmp_path: Path, export: Callable[..., Answer]) -> None:
    output = Store(str(tmp_path / "results"))
    publish_vectors(output, [Image(f"s3://shop/{n}.jpg", [[0.875]]) for n in range(2500)], PLAIN, RULES)
    found = statements(export(output.uri).out)
    assert len({statement["puid"] for statement in found}) == 2500


def test_legal_text_changes_no_decision_and_no_hash() -> None:
    assert parse_policy(with_dsa()).hash == PLAIN.hash
    assert PLAIN.hash == parse_policy(RULES).hash
    assert parse_policy(POLICY_TEXT).hash != PLAIN.hash
    assert RUN
