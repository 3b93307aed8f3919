"""`queues.yaml`: the language, its mistakes with their places, the JSON Schema, and the commands that read it."""

import json

import jsonschema
import pytest
from places import ROOT
from ruamel.yaml import YAML
from typer.testing import CliRunner

from moderation.cli import app
from moderation.errors import SettingsError
from moderation.queues.queue_file import load_queues, parse_queues, queues_schema, read_queues
from moderation.queues.queue_schema import DEFAULT, Order

EXAMPLE, SCHEMA = ROOT / "policies" / "queues.yaml", ROOT / "policies" / "queues.schema.json"


def found(text, name="queues.yaml"):
    return [str(finding) for finding in parse_queues(text, name).findings]


def test_a_queue_takes_every_key():
    (queue,) = parse_queues(
        """
queues:
  - name: weapons
    description: Real ones.
    where: action = 'review' AND width > 10
    order: oldest
    audit: {allowed: 0.5%, blocked: 0.02, where: policy = 'shop'}
    double_review: 5 %
    reasons: [threat, toy]
    reason_required: true
    sla_hours: 24
"""
    ).content.queues
    assert (queue.order, queue.audit.allowed, queue.audit.blocked, queue.double_review) == (Order.OLDEST, 0.005, 0.02, 0.05)
    assert (queue.reasons, queue.sla_hours, queue.golden) == (("threat", "toy"), 24, None)


def test_what_a_file_does_not_say_has_defaults():
    file = parse_queues("queues: [{name: a}]").content
    assert file.queues[0].where == "action = 'review'"
    assert file.queues[0].audit.allowed == 0
    assert file.validity.ask_again
    assert file.validity.near_duplicates == 31
    assert parse_queues("near_duplicates: off\nqueues: [{name: a}]").content.validity.near_duplicates is None


def test_there_are_queues_without_a_file():
    assert load_queues(None) is DEFAULT
    assert DEFAULT.queues[0].where == "action = 'review'"
    assert 0 < DEFAULT.queues[0].audit.allowed < DEFAULT.queues[0].audit.blocked < 0.05


def test_all_mistakes_are_reported_at_once_with_their_places():
    text = """seed: -1
queues:
  - name: Weapons
    wher: true
    where: heigth > 5
    order: severest
    audit: {allowed: 2, blocked: 5 percent}
  - name: b
    reason_required: true
    reasons: spam, toys
    golden: nowhere.csv
  - name: b
    where: width >
"""
    assert [line for finding in found(text) for line in finding.splitlines() if "queues.yaml:" in line] == [
        "queues.yaml:1:7: `seed` should be at least 0, not -1",
        "queues.yaml:3:11: `name` is not a valid name",
        "queues.yaml:4:5: unknown key `wher`",
        next(line for finding in found(text) for line in finding.splitlines() if ":5:12:" in line),
        "queues.yaml:6:12: `order` should be severity | oldest | nearest_to_threshold | most_uncertain, not 'severest'",
        "queues.yaml:7:22: `allowed` should be a share from 0% to 100%",
        "queues.yaml:7:34: `blocked` should be a share from 0% to 100%",
        "queues.yaml:10:14: `reasons` should be a list, not 'spam, toys'",
        "queues.yaml:11:13: cannot read the labels in 'nowhere.csv': no such file or directory",
        "queues.yaml:12:11: the queue 'b' appears twice, first as number 2",
        next(line for finding in found(text) for line in finding.splitlines() if ":13:12:" in line),
    ]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("queues: [{name: A b}]", "`name` is not a valid name", ": `a-b`"),
        ("queues: [{nam: a}]", "unknown key `nam`", "did you mean `name`?"),
        ("queues: [{where: a = 1}]", "the key `name` is missing", "add `name: a-short-name`"),
        ("seed: 1", "the key `queues` is missing", "add `queues:`"),
        ("queues: []", "should have at least one entry", ""),
        ("- name: a", "the queues are a mapping of keys", "start with `queues:`"),
        ("", "the file is empty", "start with `queues:`"),
        ("queues: [{name: a, where: heigth > 5}]", "no column 'heigth'", "did you mean 'height'?"),
        ("queues: [{name: a, where: width >}]", "Parser Error", "such as: uri LIKE"),
        ("queues: [{name: a, where: sum(width) > 1}]", "aggregates", ""),
        ("queues: [{name: a, audit: {where: x = 1}}]", "no column 'x'", ""),
        ("queues: [{name: a, audit: 1%}]", "`audit` should be a mapping, not '1%'", "write {key: value}"),
        ("queues: [{name: a, audit: {allowed: 3}}]", "should be a share", "write 3%"),
        ("queues: [{name: a, audit: {allowed: half}}]", "should be a share", "write a share such as 0.5%"),
        ("queues: [{name: a, double_review: -1%}]", "should be a share", ""),
        ("queues: [{name: a, order: most uncertain}]", "`order` should be", "did you mean `most_uncertain`?"),
        ("queues: [{name: a, sla_hours: '24'}]", "`sla_hours` should be a number, not '24'", "without quotes"),
        ("queues: [{name: a, sla_hours: 0}]", "`sla_hours` should be above 0, not 0", ""),
        ("queues: [{name: a, where: }]", "`where` has no value", "write one after the colon"),
        ("queues: [{name: a, reason_required: true}]", "a reason is required, and there are none", "add `reasons: [...]`"),
        ("queues: [{name: a, golden: {share: 3%}}]", "the key `path` is missing", "add `path: golden.csv`"),
        ("queues: [{name: a, golden: {path: nowhere, share: 90%}}]", "`share` should be at most 0.5", ""),
        ("queues: [{name: appeals}]", "`appeals` is the queue of appeals", "use another name"),
        ("near_duplicates: 200\nqueues: [{name: a}]", "`near_duplicates` should be at most 64, not 200", ""),
        ("queues:\n  - name: a\n    where: b = 1\n    name: c", "another list item starts here", "write `- name: c`"),
    ],
)
def test_a_mistake_says_what_to_write_instead(text, message, hint):
    findings = found(text)
    assert any(message in finding and hint in finding for finding in findings), "\n".join(findings)
    assert parse_queues(text).content is None


def test_a_finding_shows_the_line_with_a_caret():
    (finding,) = found("queues:\n  - name: a\n    order: newest\n")
    assert finding.splitlines()[1:3] == ["  3 |     order: newest", "    |            ^^^^^^"]


def test_a_condition_may_end_in_a_comment_and_cannot_break_out():
    assert found("queues: [{name: a, where: 'width > 1 -- wide ones'}]") == []
    assert "Parser Error" in found("queues: [{name: a, where: 'width > 1) OR (true'}]")[0]
    assert found("queues: [{name: a, where: '(SELECT count(*) FROM decisions) > 1'}]") != []


def test_a_file_that_is_none_is_reported(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01\x80")
    for name in ("missing.yaml", "binary.yaml"):
        read = read_queues(tmp_path / name)
        assert read.content is None
        assert len(read.findings) == 1
    with pytest.raises(SettingsError, match=r"missing\.yaml:1:1: cannot read the queues: no such file"):
        load_queues(tmp_path / "missing.yaml")


def test_the_schema_is_fresh_and_accepts_the_example():
    assert json.loads(SCHEMA.read_text()) == queues_schema(), "run: moderate queues schema > policies/queues.schema.json"
    assert found(EXAMPLE.read_text(), str(EXAMPLE)) == []
    validator = jsonschema.Draft202012Validator(queues_schema())
    content = YAML(typ="safe").load(EXAMPLE.read_text())
    assert [error.message for error in validator.iter_errors(content)] == []


@pytest.mark.parametrize(
    "queue",
    [{}, {"name": "A"}, {"name": "a", "audit": {"allowed": 2}}, {"name": "a", "double_review": "x"}, {"name": "a", "b": 1}],
)
def test_the_schema_rejects_what_the_language_rejects(queue):
    assert list(jsonschema.Draft202012Validator(queues_schema()).iter_errors({"queues": [queue]}))
    assert parse_queues(json.dumps({"queues": [queue]})).content is None


def test_every_key_has_a_description():
    schema = queues_schema()
    models = [schema, *(part for part in schema["$defs"].values() if part["type"] == "object")]
    assert all("description" in key for model in models for key in model["properties"].values())


def test_every_key_is_explained():
    page = (ROOT / "docs" / "queues.md").read_text()
    schema = queues_schema()
    models = [schema, *(part for part in schema["$defs"].values() if part["type"] == "object")]
    keys = {key for model in models for key in model["properties"]} - {"path", "share", "allowed", "blocked"}
    assert [key for key in sorted(keys) if f"| `{key}` |" not in page] == []
    assert all(f"`{order}`" in page for order in Order)


@pytest.mark.parametrize("form", ["text", "json", "github"])
def test_check_reports_in_the_form_that_is_asked_for(tmp_path, form):
    wrong, right = tmp_path / "wrong.yaml", tmp_path / "right.yaml"
    wrong.write_text("queues: [{name: a, order: newest}]")
    right.write_text("queues: [{name: a}]")
    result = CliRunner().invoke(app, ["queues", "check", str(wrong), "--format", form])
    assert result.exit_code == 1
    start = {"text": str(wrong), "json": "[", "github": "::error file="}[form]
    assert result.stdout.startswith(start)
    assert "order" in result.stdout
    assert CliRunner().invoke(app, ["queues", "check", str(right), "--format", form]).exit_code == 0


def test_show_lists_the_queues_of_a_file():
    shown = CliRunner().invoke(app, ["queues", "show", str(EXAMPLE)]).stdout
    assert all(word in shown for word in ("weapons", "severity", "5 %", "(required)", "24 h", "allowed 0.1"))
    listed = json.loads(CliRunner().invoke(app, ["queues", "show", "--json"]).stdout)
    assert [queue["name"] for queue in listed["queues"]] == ["review"]
    assert CliRunner().invoke(app, ["queues", "schema"]).stdout == SCHEMA.read_text()
