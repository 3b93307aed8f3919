"""Queues go out to spreadsheets, Label Studio and FiftyOne, and come back."""

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from review_files import KNIFE, PARTY, exported, imported, reported
from reviewed import review

from moderation.exchange.formats import Format
from moderation.exchange.review_csv import COLUMNS, read_csv
from moderation.query import connect
from moderation.reviews.review import ReviewAction, Source
from moderation.reviews.store import append
from moderation.storage import Store


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


def test_an_export_leaves_out_images_of_which_nothing_may_be_shown() -> None:
    from moderation.exchange import exporting
    from moderation.exchange.queue_item import QueueItem

    item = QueueItem(uri="s3://a/b", machine_action="block", policy="p", run_id="r", queue="q")
    shown = exporting.written([item, replace(item, uri="s3://a/c", restricted=True)], "q", Format.FIFTYONE)
    assert (shown.images, shown.restricted) == (1, 1)
    assert b"s3://a/c" not in shown.data
    assert exporting.written([replace(item, restricted=True)], "q", Format.CSV).images == 1
