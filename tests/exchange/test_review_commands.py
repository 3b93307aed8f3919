"""`moderate reviews`, and appeals."""

import csv
import io
import json
import os
from pathlib import Path

import pytest
from review_files import BOTH, HEAD, KNIFE, PARTY, exported, imported, reported, run

from moderation.exchange.review_csv import COLUMNS
from moderation.query import connect
from moderation.reviews.review import Selection


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
