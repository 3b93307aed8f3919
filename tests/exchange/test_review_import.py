"""What comes back from other tools: everything is counted, known, or reported with its lines, and nothing twice."""

import csv
import io
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reviewed import review, sha, write_results

from moderation import cli
from moderation.errors import SettingsError
from moderation.exchange.formats import Format
from moderation.exchange.importing import Imported, format_of, import_reviews
from moderation.exchange.review_csv import COLUMNS, read_csv
from moderation.query import connect
from moderation.reviews.review import ReviewAction, Selection, Source, Verdict
from moderation.reviews.store import append, read
from moderation.storage import Store

KNIFE, PARTY, BOTH = "s3://shop/listings/knife.jpg", "s3://shop/listings/party.jpg", "s3://shop/users/both.jpg"
HEAD = "uri,rule,verdict,action,reason,note,reviewer\n"


@pytest.fixture(scope="module")
def published_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    write_results(Store(str(folder)))
    return folder


@pytest.fixture
def results(published_once: Path, tmp_path: Path) -> str:
    return str(shutil.copytree(published_once, tmp_path / "results"))


def imported(results: str, text: str | bytes, file_format: Format = Format.CSV, **options: Any) -> Imported:
    path = Path(results).parent / "reviewed"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return import_reviews(results, path, file_format, **options)


def reported(found: Imported) -> list[tuple[str, tuple[int, ...], str]]:
    return [(remark.message, remark.lines, remark.outcome) for remark in found.remarks]


def run(*arguments: str) -> int:
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["moderate", "reviews", *arguments])
            cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


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


# -- what export writes


def exported(results: str, file_format: str, *options: str) -> Path:
    path = Path(results).parent / f"exported.{file_format}"
    assert run("export", "--results", results, "--output", str(path), "--format", file_format, *options) == 0
    return path


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_queue_goes_through_a_spreadsheet_and_back(results: str, encoding: str) -> None:
    path = exported(results, "csv")
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    assert [row["uri"].rpartition("/")[2] for row in rows] == [
        "broken.jpg",
        "knife.jpg",
        "party.jpg",
        "almost.jpg",
        "gone.jpg",
        "huge.png",
    ]
    assert tuple(rows[0]) == COLUMNS
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, delimiter=";")
    writer.writeheader()
    writer.writerows({**row, "verdict": "FALSE", "note": "'=café", "reviewer": "ann"} for row in rows)
    found = imported(results, out.getvalue().encode(encoding), Format.CSV)
    assert len(found.judged.reviews) == 6
    assert {one.note for one in found.judged.reviews} == {"=café"}
    (remark,) = found.remarks if encoding != "utf-8-sig" else [None]
    assert remark is None or (remark.outcome == "counted" and str(remark).startswith("not UTF-8: read as "))
    with connect(results) as connection:
        assert connection.execute("SELECT count(*) FROM review_queue").fetchall() == [(0,)]


def test_text_that_a_spreadsheet_would_run_is_defused_and_restored(results: str) -> None:
    append(Store(results), [review("listings/knife.jpg", "escalate", note="=HYPERLINK(1)")])
    path = exported(results, "csv")
    assert b'"\'=HYPERLINK(1)"' in path.read_bytes()
    said = read_csv(b"uri,verdict,note\ns3://a,fine,'=1+1\ns3://b,fine,'quoted'\n", "x").said
    assert [one.note for one in said] == ["=1+1", "'quoted'"]


def test_label_studio_gets_tasks_with_predictions_and_its_exports_are_read(results: str) -> None:
    """Shapes as the SDK's own converter writes them."""
    tasks = json.loads(exported(results, "label-studio").read_text(encoding="utf-8"))
    by_uri = {task["data"]["uri"]: task for task in tasks}
    knife = by_uri[KNIFE]
    assert knife["data"]["image"] == KNIFE
    assert knife["predictions"][0]["score"] == 0.53125
    assert knife["predictions"][0]["result"][0]["value"] == {"choices": ["violates"]}
    assert "predictions" not in by_uri["s3://shop/users/gone.jpg"]
    for number, task in enumerate(tasks, 1):
        task["id"] = number
        task["annotations"] = [_annotation("fine", "allow", "=ok", "2026-11-27T10:01:00.5Z")]
    tasks[0]["annotations"] = []
    tasks[1]["annotations"][0]["was_cancelled"] = True
    found = imported(results, json.dumps(tasks), Format.LABEL_STUDIO)
    assert reported(found) == [("skipped in Label Studio", (2,), "left out")]
    assert (found.file.open, len(found.judged.reviews)) == (1, 4)
    one = found.judged.reviews[0]
    assert (one.reviewer, one.note, one.source, one.action) == (
        "ann@example.org",
        "=ok",
        Source.LABEL_STUDIO,
        ReviewAction.ALLOW,
    )
    assert (one.decided_at - one.opened_at).total_seconds() == 12.5
    assert imported(results, json.dumps(tasks), Format.LABEL_STUDIO).judged.known == 4


def _annotation(verdict: str, action: str, note: str, updated: str) -> dict[str, Any]:
    return {
        "id": 101,
        "completed_by": {"id": 1, "email": "ann@example.org"},
        "result": [
            {"id": "r1", "from_name": "verdict", "to_name": "image", "type": "choices", "value": {"choices": [verdict]}},
            {"id": "r2", "from_name": "action", "to_name": "image", "type": "choices", "value": {"choices": [action]}},
            {"id": "r3", "from_name": "note", "to_name": "image", "type": "textarea", "value": {"text": [note]}},
        ],
        "was_cancelled": False,
        "created_at": "2026-11-27T10:00:00.123456Z",
        "updated_at": updated,
        "lead_time": 12.5,
    }


def test_the_short_exports_of_label_studio_are_read_as_well(results: str) -> None:
    task = {
        "image": KNIFE,
        "uri": KNIFE,
        "rule": "firearms",
        "weight": None,
        "blind": True,
        "id": 1,
        "verdict": "violates",
        "note": ["a", "b"],
        "annotator": 7,
        "updated_at": "2026-11-27T10:01:00Z",
        "lead_time": 3,
    }
    found = imported(results, json.dumps([task, {"image": PARTY, "id": 2}]), Format.LABEL_STUDIO)
    assert found.remarks == ()
    assert found.file.open == 1
    (one,) = found.judged.reviews
    assert (one.reviewer, one.note, one.verdict, one.action, one.blind) == ("label-studio-7", "a", "violates", "block", True)


def test_fiftyone_gets_samples_with_classifications_and_its_datasets_are_read(results: str) -> None:
    """Shapes as `fiftyone.Sample.to_dict` writes them."""
    dataset = json.loads(exported(results, "fiftyone").read_text(encoding="utf-8"))
    assert dataset["media_type"] == "image"
    samples = {sample["uri"]: sample for sample in dataset["samples"]}
    assert samples[KNIFE]["machine"] == {"_cls": "Classification", "label": "review", "confidence": 0.53125}
    assert samples[KNIFE]["filepath"] == KNIFE
    identity = {"_id": {"$oid": "6b0b26c8dc3fc2daf31415b7"}, "_cls": "Classification", "tags": []}
    for sample in dataset["samples"]:
        sample |= {"metadata": None, "verdict": {**identity, "label": "fine"}, "action": {**identity, "label": "allow"}}
    dataset["samples"][0] |= {"verdict": None, "action": None}
    found = imported(results, json.dumps(dataset), Format.FIFTYONE, reviewer="ann")
    assert found.remarks == ()
    assert (found.file.open, len(found.judged.reviews)) == (1, 5)
    assert {(one.source, one.verdict, one.action) for one in found.judged.reviews} == {(Source.FIFTYONE, "fine", "allow")}


def test_blind_files_do_not_say_what_the_machine_said_and_come_back_as_blind(results: str) -> None:
    rows = list(csv.DictReader(io.StringIO(exported(results, "csv", "--blind").read_text(encoding="utf-8-sig"))))
    assert {(row["machine_action"], row["score"], row["threshold"], row["blind"]) for row in rows} == {("", "", "", "true")}
    assert "predictions" not in exported(results, "label-studio", "--blind").read_text(encoding="utf-8")
    assert '"machine"' not in exported(results, "fiftyone", "--blind").read_text(encoding="utf-8")
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    writer.writerows({**row, "verdict": "fine", "reviewer": "ann"} for row in rows)
    assert {one.blind for one in imported(results, out.getvalue()).judged.reviews} == {True}


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


# -- commands


def test_the_commands_say_what_they_did(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(results).parent / "reviewed.csv"
    path.write_text(HEAD + f"{KNIFE},firearms,fine,allow,,=1,ann\ns3://shop/no.jpg,,fine,,,,ann\n")
    assert run("import", str(path), "--results", results) == 1
    shown = capsys.readouterr().out
    assert "2 lines: 1 new review\n1 left out\n" in shown
    assert "! the image is not in the results" in shown
    assert "(left out) [line 3]" in shown
    assert run("list", "--results", results) == 0
    assert "firearms" in capsys.readouterr().out
    assert run("list", "--results", results, "--reviewer", "bob", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run("list", "--results", results, "--image", KNIFE, "--json", "--history") == 0
    assert json.loads(capsys.readouterr().out)[0]["note"] == "=1"
    assert run("compact", "--results", results, "--keep-minutes", "0") == 0
    assert capsys.readouterr().out == "nothing to merge\n"
    assert run("export", "--results", results, "--queue", "appeals", "--output", os.devnull) == 2
    assert "no image awaits a person in the queue 'appeals'" in capsys.readouterr().err


def test_a_review_from_the_queue_of_appeals_closes_the_appeal(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(results).parent / "appeals.json"
    appeals = [
        {"uri": KNIFE, "text": "=it is a toy", "appellant": "seller 7", "reference": 4711, "filed_at": "2026-11-23T08:00:00Z"},
        {"uri": "s3://shop/unknown.jpg", "text": "?"},
        {"uri": KNIFE, "text": ["no text"]},
        {"uri": KNIFE, "text": " "},
    ]
    path.write_text(json.dumps(appeals))
    for known in (False, True):
        assert run("appeal", str(path), "--results", results) == 1
        shown = capsys.readouterr().out
        assert ("1 new appeal in" in shown) is not known
        assert ("1 known already" in shown) is known
        for item, wording in ((2, "not in the results"), (3, "`text` is no text"), (4, "`text` is empty")):
            assert f"[item {item}]" in next(line for line in shown.splitlines() if wording in line)
    (row,) = csv.DictReader(io.StringIO(exported(results, "csv", "--queue", "appeals").read_text(encoding="utf-8-sig")))
    assert (row["appeal_text"], row["selection"], row["queue"]) == ("'=it is a toy", "appeal", "appeals")
    filled = {**row, "verdict": "fine", "reviewer": "ann"}
    out = io.StringIO()
    writer = csv.DictWriter(out, [name for name in COLUMNS if name != "appeal_id"], extrasaction="ignore")
    writer.writeheader()
    writer.writerow(filled)
    found = imported(results, out.getvalue())
    assert [(one.selection, one.appeal_id) for one in found.judged.reviews] == [(Selection.APPEAL, row["appeal_id"])]
    with connect(results) as connection:
        assert connection.execute("SELECT state, outcome, reviewer FROM appeals").fetchall() == [
            ("closed", "overturned", "ann")
        ]
    wrong = imported(results, "uri,verdict,reviewer,appeal_id\n" + f"{KNIFE},fine,ann,none\n")
    assert [message for message, _, _ in reported(wrong)] == [
        "the appeal 'none' is not known: leave `appeal_id` as it was exported"
    ]


def test_appeals_come_as_csv_and_as_lines_of_json_too(results: str) -> None:
    folder = Path(results).parent
    (folder / "a.csv").write_text(f"uri,text\n{KNIFE},mine\n")
    (folder / "b.jsonl").write_text(
        json.dumps({"uri": PARTY, "text": "x"}) + "\n" + json.dumps({"uri": BOTH, "text": "y"}) + "\n"
    )
    assert run("appeal", str(folder / "a.csv"), "--results", results) == 0
    assert run("appeal", str(folder / "b.jsonl"), "--results", results) == 0
    with connect(results) as connection:
        found = connection.execute("SELECT uri, appealed_action, source FROM appeals ORDER BY uri").fetchall()
    assert found == [(KNIFE, "review", "csv"), (PARTY, "review", "webhook"), (BOTH, "block", "webhook")]


def test_a_later_import_supersedes_nothing_of_another_person(results: str) -> None:
    imported(results, HEAD + f"{KNIFE},firearms,fine,allow,,,ann\n")
    imported(results, HEAD + f"{KNIFE},firearms,violates,block,,,bob\n")
    with connect(results) as connection:
        found = connection.execute("SELECT reviewer, action FROM current_reviews ORDER BY 1").fetchall()
    assert found == [("ann", "allow"), ("bob", "block")]


def test_an_export_leaves_out_images_of_which_nothing_may_be_shown() -> None:
    from moderation.exchange import exporting
    from moderation.exchange.queue_item import QueueItem

    item = QueueItem(uri="s3://a/b", machine_action="block", policy="p", run_id="r", queue="q")
    shown = exporting.written([item, replace(item, uri="s3://a/c", restricted=True)], "q", Format.FIFTYONE)
    assert (shown.images, shown.restricted) == (1, 1)
    assert b"s3://a/c" not in shown.data
    assert exporting.written([replace(item, restricted=True)], "q", Format.CSV).images == 1
