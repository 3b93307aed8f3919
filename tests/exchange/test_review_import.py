"""What comes back from other tools: everything is counted, known, or reported with its lines, and nothing twice."""

from pathlib import Path

import pytest
from review_files import BOTH, HEAD, KNIFE, PARTY, imported, reported
from reviewed import sha

from moderation.errors import SettingsError
from moderation.exchange.formats import Format
from moderation.exchange.importing import format_of
from moderation.query import connect
from moderation.reviews.review import Verdict
from moderation.reviews.store import read
from moderation.storage import Store


def test_a_review_knows_what_the_machine_said_of_the_image_then(results: str) -> None:
    found = imported(results, HEAD + f"{KNIFE},firearms,fine,allow,a toy,plastic,ann\n")
    assert found.remarks == ()
    (row,) = read(Store(results)).to_pylist()
    expected = {
        "uri": KNIFE,
        "etag": "v1",
        "sha256": sha("listings/knife.jpg"),
        "rule": "firearms",
        "verdict": "fine",
        "action": "allow",
        "reason": "a toy",
        "note": "plastic",
        "reviewer": "ann",
        "source": "csv",
        "selection": "decision",
        "run_id": "20261122T030000Z-cccccc",
        "policy": "shop",
        "policy_version": "2",
        "machine_action": "review",
        "machine_rule": "firearms",
        "machine_score": 0.53125,
        "machine_threshold": 0.375,
    }
    assert {name: row[name] for name in expected} == expected


def test_the_score_of_a_rule_that_did_not_decide_is_looked_up(results: str) -> None:
    imported(results, HEAD + f"{BOTH},beer,fine,,,,ann\n")
    (row,) = read(Store(results)).to_pylist()
    assert (row["machine_rule"], row["machine_score"], row["machine_threshold"]) == ("nudity", 0.5, 0.5)
    assert row["action"] is None  # others flag it as well


def test_everything_that_cannot_be_used_is_reported_with_its_lines(results: str) -> None:
    text = HEAD + "".join(
        [
            f"{KNIFE},firearms,fine,allow,,,ann\n",  # 2
            "s3://shop/unknown.jpg,firearms,fine,allow,,,ann\n",
            f"{KNIFE},fire-arms,fine,allow,,,ann\n",
            f"{KNIFE},tobacco,fine,allow,,,ann\n",  # 5
            f"{KNIFE},firearms,perhaps,allow,,,ann\n",
            f"{KNIFE},firearms,fine,delete,,,ann\n",
            f"{PARTY},beer,fine,,,,ann\n",  # 8, against 9
            f"{PARTY},beer,violates,,,,ann\n",
            f"{KNIFE},firearms,fine,allow,,,ann\n",  # 10, as 2
            f"{KNIFE},,fine,block,,,ann\n",
            f"{KNIFE},firearms,fine,allow,,,\n",
            f"{KNIFE},firearms,,,,,ann\n",  # 13, open
            f"{KNIFE},firearms\n",
            ",firearms,fine,allow,,,ann\n",
            f"{PARTY},beer,violates,,,,bob\n",  # 16: another person
        ]
    )
    found = imported(results, text)
    assert reported(found) == [
        ("the verdict 'perhaps' is not known: write violates, fine, unsure, cannot_see, or true or false", (6,), "left out"),
        ("the action 'delete' is not known: write allow, review, block, escalate, or nothing", (7,), "left out"),
        ("2 values where 7 belong: a comma is missing", (14,), "left out"),
        ("`uri` is empty", (15,), "left out"),
        ("the image is not in the results: no published run has a decision about this `uri`", (3,), "left out"),
        ("the rule 'fire-arms' is in no policy of the results: is firearms meant?", (4,), "left out"),
        (
            "the rule 'tobacco' is in no policy of the results: the rules are beer, firearms, fireworks, nudity",
            (5,),
            "left out",
        ),
        ("the verdict about the whole image is fine, but the action is block: correct one of them", (11,), "left out"),
        ("nobody is named: fill in `reviewer`, or give --reviewer", (12,), "left out"),
        ("repeats an earlier row", (10,), "left out"),
        ("the same person says different things about the same image and rule", (8, 9), "left out"),
    ]
    assert (found.file.rows, found.file.open, found.left_out, len(found.judged.reviews)) == (15, 1, 12, 2)
    lines = {line for remark in found.remarks for line in remark.lines}
    assert len(lines) + found.file.open + len(found.judged.reviews) == found.file.rows
    assert read(Store(results)).num_rows == 2


IMPLIED = {
    "violates": (f"{KNIFE},firearms,violates,", "block"),
    "fine, and no other rule flags it": (f"{KNIFE},firearms,fine,", "allow"),
    "fine, and others flag it": (f"{BOTH},nudity,fine,", None),
    "fine as a whole": (f"{BOTH},,fine,", "allow"),
    "unsure": (f"{KNIFE},firearms,unsure,", "escalate"),
    "cannot see": (f"{KNIFE},firearms,cannot see,", "escalate"),
    "an action alone": (f"{KNIFE},firearms,,block", "block"),
}


@pytest.mark.parametrize(("row", "action"), IMPLIED.values(), ids=IMPLIED)
def test_a_verdict_without_an_action_implies_one(results: str, row: str, action: str | None) -> None:
    found = imported(results, f"uri,rule,verdict,action\n{row}\n", reviewer="ann")
    assert [one.action for one in found.judged.reviews] == [action]
    wording = "the image keeps its action, since other rules flag it as well: give an `action` to decide about it"
    assert reported(found) == ([] if action else [(wording, (2,), "counted")])


def test_importing_a_file_again_adds_nothing_and_a_change_of_mind_does(results: str) -> None:
    text = HEAD + f"{KNIFE},firearms,fine,allow,,,ann\n{PARTY},beer,violates,block,,,ann\n"
    assert len(imported(results, text).judged.reviews) == 2
    again = imported(results, text)
    assert (len(again.judged.reviews), again.judged.known, again.key) == (0, 2, None)
    changed = imported(results, text.replace("violates,block", "fine,allow"))
    assert (len(changed.judged.reviews), changed.judged.known) == (1, 1)
    with connect(results) as connection:
        found = connection.execute("SELECT action FROM effective_decisions WHERE uri = $1", [PARTY]).fetchall()
    assert found == [("allow",)]


def test_a_file_that_names_times_adds_nothing_even_when_the_reviewer_has_decided_again_since(results: str) -> None:
    head = "uri,rule,verdict,action,reviewer,decided_at\n"
    first = head + f"{KNIFE},firearms,fine,allow,ann,2026-11-23T09:00:00Z\n"
    second = head + f"{KNIFE},firearms,violates,block,ann,2026-11-24 10:00\n"
    for text in (first, second, first, second):
        imported(results, text)
    assert read(Store(results))["action"].to_pylist() == ["allow", "block"]


def test_a_review_from_the_future_is_reported(results: str) -> None:
    found = imported(results, f"uri,verdict,reviewer,decided_at\n{KNIFE},fine,ann,2999-01-01\n")
    assert reported(found) == [("`decided_at` is in the future: correct it, since the newest review counts", (2,), "left out")]


def test_a_dry_run_writes_nothing(results: str) -> None:
    found = imported(results, HEAD + f"{KNIFE},firearms,fine,allow,,,ann\n", trial=True)
    assert (len(found.judged.reviews), found.key) == (1, None)
    assert read(Store(results)).num_rows == 0


def test_label_files_are_reviews_that_decide_nothing(results: str) -> None:
    rows = (f"{KNIFE};firearms;a;12,5;0.5;falsch", f"{PARTY};any;b;1;;JA", f"{BOTH};beer;;;;")
    text = "\r\n".join(("uri;rule;stratum;weight;score;label", *rows, ""))
    found = imported(results, text, reviewer="ann")
    assert found.remarks == ()
    assert found.file.open == 1
    rows = read(Store(results)).to_pylist()
    said = {(row["uri"], row["rule"], row["verdict"], row["action"], row["weight"]) for row in rows}
    assert said == {(KNIFE, "firearms", "fine", None, 12.5), (PARTY, None, "violates", None, 1.0)}
    assert {(row["source"], row["selection"]) for row in rows} == {("label_sheet", "sample")}


def test_verdicts_only_changes_no_action(results: str) -> None:
    found = imported(results, HEAD + f"{KNIFE},firearms,fine,allow,,,ann\n", verdicts_only=True)
    assert [(one.verdict, one.action) for one in found.judged.reviews] == [(Verdict.FINE, None)]


def test_an_object_that_changed_since_keeps_the_review_with_its_earlier_bytes(results: str) -> None:
    text = f"uri,sha256,rule,verdict,reviewer\n{KNIFE},{sha('earlier')},firearms,violates,ann\n"
    found = imported(results, text)
    assert reported(found) == [
        ("the object has changed since: the review holds for the bytes that were reviewed", (2,), "counted")
    ]
    (row,) = read(Store(results)).to_pylist()
    assert (row["sha256"], row["pdq"], row["machine_action"]) == (sha("earlier"), None, None)
    with connect(results) as connection:
        assert connection.execute("SELECT action FROM effective_decisions WHERE uri = $1", [KNIFE]).fetchall() == [("review",)]


def test_an_image_is_found_by_its_bytes_where_its_key_is_unknown(results: str) -> None:
    text = f"uri,sha256,rule,verdict,reviewer\ns3://elsewhere/x.jpg,{sha('listings/knife.jpg').upper()},firearms,violates,ann\n"
    found = imported(results, text)
    assert [one.uri for one in found.judged.reviews] == [KNIFE]


BROKEN = {
    "no JSON": (b"{", Format.FIFTYONE, "is not JSON"),
    "no dataset": (b"[]", Format.FIFTYONE, "is not a dataset of FiftyOne"),
    "no export": (b"{}", Format.LABEL_STUDIO, "is not an export of Label Studio"),
    "deep": (b"[" * 100_000, Format.LABEL_STUDIO, "is not JSON"),
    "no verdict": (b"uri,rule\ns3://a,b\n", Format.CSV, "there is no column `verdict`, `label` or `action`"),
    "no uri": (b"rule,verdict\na,b\n", Format.CSV, "there is no column 'uri'"),
    "a workbook": (b"PK\x03\x04", Format.CSV, "is a workbook: save it as CSV in UTF-8"),
}


@pytest.mark.parametrize(("data", "file_format", "message"), BROKEN.values(), ids=BROKEN)
def test_a_file_of_another_kind_is_one_clear_error(results: str, data: bytes, file_format: Format, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        imported(results, data, file_format)


ODD = {
    "tasks": (b'[1, {"data": 2}, {"data": {"uri": "u"}, "annotations": [{"result": 5}, 7]}]', Format.LABEL_STUDIO, 3),
    "samples": (
        b'{"samples": [1, {"filepath": 3, "verdict": "fine"}, {"filepath": "/a", "verdict": {"label": "odd"}}]}',
        Format.FIFTYONE,
        3,
    ),
}


@pytest.mark.parametrize(("data", "file_format", "rows"), ODD.values(), ids=ODD)
def test_what_is_no_task_and_no_sample_is_reported(results: str, data: bytes, file_format: Format, rows: int) -> None:
    found = imported(results, data, file_format)
    assert {line for remark in found.remarks for line in remark.lines} == set(range(1, rows + 1))
    assert not found.judged.reviews


def test_the_format_of_a_file_is_seen_from_how_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data, expected in ((b" \n[", Format.LABEL_STUDIO), (b"\xef\xbb\xbf{", Format.FIFTYONE), (b"uri,verdict", Format.CSV)):
        path.write_bytes(data)
        assert format_of(path) is expected
