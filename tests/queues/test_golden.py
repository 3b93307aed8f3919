"""Known answers: a folder of images or a file of labels, and what is wrong with them."""

import csv
import hashlib
import json

import pytest
from queued import REVIEW, publish, uri
from typer.testing import CliRunner

from moderation.cli import app
from moderation.errors import SettingsError
from moderation.queues.golden import answers_table, read_golden


@pytest.fixture
def folder(tmp_path):
    for name in ("fine/a.jpg", "firearms/b.jpg", "firearms/more/c.jpg", ".cache/d.jpg"):
        path = tmp_path / "golden" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "golden"


def test_folders_say_the_answer(folder):
    golden = read_golden(folder)
    assert golden.mistakes == ()
    answers = {one.uri.rpartition("golden/")[2]: (one.rule, one.violates) for one in golden.answers}
    assert answers == {
        "fine/a.jpg": (None, False),
        "firearms/b.jpg": ("firearms", True),
        "firearms/more/c.jpg": ("firearms", True),
    }
    known = answers_table(golden.answers).to_pylist()
    assert {"image": hashlib.sha256(b"fine/a.jpg").hexdigest(), "rule": None, "violates": False} in known


def test_what_is_wrong_with_a_folder_is_said(folder, tmp_path):
    for i in range(5):
        (folder / f"loose{i}.jpg").write_text(str(i))
    (folder / "fine" / "copy.jpg").write_text("firearms/b.jpg")
    mistakes = read_golden(folder).mistakes
    assert sum("move it into a folder named like the rule" in mistake for mistake in mistakes) == 3
    assert any("and 2 more such files" in mistake for mistake in mistakes)
    assert any("the same image is in `fine` and in a rule's folder" in mistake for mistake in mistakes)
    (tmp_path / "empty").mkdir()
    assert "has no image" in read_golden(tmp_path / "empty").mistakes[0]
    assert "no such file" in read_golden(tmp_path / "gone").mistakes[0]


def test_a_file_of_labels_says_it_too(tmp_path):
    file = tmp_path / "golden.csv"
    file.write_text("uri,rule,label\ns3://a,any,no\ns3://b,firearms,yes\n")
    golden = read_golden(file)
    assert [(one.uri, one.sha256, one.rule, one.violates) for one in golden.answers] == [
        ("s3://a", None, None, False),
        ("s3://b", None, "firearms", True),
    ]
    assert golden.mistakes == ()
    assert answers_table(golden.answers).num_rows == 0  # nobody has looked up their bytes


def test_what_is_wrong_with_a_file_is_said_with_its_lines(tmp_path):
    file = tmp_path / "golden.csv"
    file.write_text("uri,rule,label\ns3://a,any,maybe\ns3://b,firearms,\ns3://c,beer,yes\ns3://c,beer,no\n")
    golden = read_golden(file)
    assert golden.answers == ()
    assert [f"{file}:2" in golden.mistakes[0], f"{file}:4, 5" in golden.mistakes[1], f"{file}:3" in golden.mistakes[2]] == [
        True
    ] * 3
    file.write_text("uri,rule,label\n")
    assert "has no answer" in read_golden(file).mistakes[0]
    file.write_text("uri;what\n")
    assert "there is no column" in read_golden(file).mistakes[0]


def test_an_exported_queue_comes_back_with_audits_and_known_answers(folder, tmp_path):
    """Through a spreadsheet: weights and reasons are kept, and a known answer measures the reviewer and decides nothing."""
    results = publish(tmp_path / "results", {"both": (0.5625, 0.59375, 0.0), **{f"r{i}": REVIEW for i in range(60)},
                                             **{f"a{i}": (0.0, 0.0, 0.0) for i in range(40)}})  # fmt: skip
    queues, file = tmp_path / "queues.yaml", tmp_path / "queue.csv"
    queues.write_text(f"queues: [{{name: a, audit: {{allowed: 25%}}, golden: {{path: {folder}, share: 20%}}}}]")
    run, named = CliRunner(), ["--results", results]
    command = ["reviews", "export", *named, "--queue", "a", "--output", str(file), "--reviewer", "ann"]
    with pytest.raises(SettingsError, match="--reviewer needs --queues"):
        run.invoke(app, command, catch_exceptions=False)
    assert run.invoke(app, [*command, "--queues", str(queues)]).exit_code == 0
    rows = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))
    assert sorted(row["rule"] for row in rows if row["uri"] == uri("both")) == ["firearms", "nudity"]
    known = [row for row in rows if row["selection"] == "golden"]
    audits = [row for row in rows if row["selection"] == "audit_allowed"]
    assert len(known) == 3
    assert {(row["rule"], row["weight"]) for row in audits} == {("", "4.0")}
    for row in rows:
        row["verdict"] = "violates" if row["rule"] == "firearms" else "fine"
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    imported = run.invoke(app, ["reviews", "import", str(file), *named, "--reviewer", "ann"])
    assert imported.exit_code == 0, imported.output
    stats = run.invoke(app, ["reviews", "stats", *named, "--queues", str(queues), "--json"])
    found = json.loads(stats.stdout)
    assert found["golden"] == [{"reviewer": "ann", "right": found["golden"][0]["right"]}]
    assert (found["golden"][0]["right"]["value"], found["golden"][0]["right"]["judged"]) == (1, 3)
    assert found["policies"][0]["judged"] == {"allow": len(audits), "review": 61}
    assert found["queues"][0]["images"] == 0
