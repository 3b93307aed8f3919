"""Labels from reviews: their weights stand for all images, and tuning and backtests take them."""

import hashlib
import json
from collections import Counter, defaultdict

import pytest
from queued import ALLOWED, BLOCK, POLICY, REVIEW, SECOND, answer, publish, review_of, sha256, uri
from typer.testing import CliRunner

from moderation.cli import app
from moderation.commands.stored_results import opened
from moderation.errors import SettingsError
from moderation.labels.label_file import ANY
from moderation.policy.assets import Assets
from moderation.policy_files.loading import parse_policy
from moderation.queues.opening import opened_queues
from moderation.reviews.meaning import rule_meaning
from moderation.reviews.review import Selection
from moderation.reviews.store import append
from moderation.storage import Store
from moderation.studies.tuning import review_labels as labels_module
from moderation.studies.tuning.review_labels import review_labels

RULES = ("firearms", "nudity")
COUNT = 200


def labels(results, policy_hash=""):
    return review_labels(opened(results, None, None), RULES, policy_hash)


def stands_for(file, rule):
    """Images that the labels of a rule stand for, by stratum."""
    found = defaultdict(float)
    for label in file.labels:
        if label.rule == rule:
            found[label.stratum] += label.weight
    return {stratum: round(weight, 6) for stratum, weight in found.items()}


def violates(item):
    """The higher the score, the likelier: a made-up truth."""
    return int(sha256(item.uri)[:8], 16) / 2**32 < item.top_score


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reviewed")
    scores = {f"{i}": (i % 32 / 32, 0.0, 0.0) for i in range(20 * 32)}
    results = publish(folder, scores)
    (folder / "queues.yaml").write_text("queues: [{name: a, audit: {allowed: 25%, blocked: 25%}}]")
    with opened_queues(results, folder / "queues.yaml") as queues, queues.open("a") as queue:
        answer(results, queue.page(size=10_000), violates)
    (folder / "shop.yaml").write_text(POLICY)
    (folder / "stricter.yaml").write_text(POLICY.replace("review: 0.5,", "review: 0.625,", 1))
    return folder


def test_weights_add_up_to_all_images(reviewed):
    file = labels(str(reviewed))
    assert file.remarks == ()
    assert stands_for(file, ANY) == {"review": 160, "allow, audited": 320, "block, audited": 160}
    assert stands_for(file, "firearms") == {"review, flagged": 160, "allow, audited": 320, "block, flagged, audited": 160}
    assert len({label.line for label in file.labels}) == file.rows == len(file.labels)


def test_a_rule_that_flagged_nothing_has_labels_of_images_that_are_fine(reviewed):
    of_nudity = [label for label in labels(str(reviewed)).labels if label.rule == "nudity"]
    assert of_nudity
    assert not any(label.truth for label in of_nudity)


def test_copies_are_labelled_once_and_stand_for_each_other(tmp_path):
    results = publish(tmp_path, {f"r{i}": REVIEW for i in range(10)}, content={f"r{i}": "x" for i in range(8)})
    append(Store(results), [review_of("r9"), review_of("r0", sha256=hashlib.sha256(b"x").hexdigest(), violates=True)])
    weights = {label.uri: label.weight for label in labels(results).labels if label.rule == ANY}
    assert weights[uri("r0")] == pytest.approx(8 * weights[uri("r9")])
    assert sum(weights.values()) == pytest.approx(10)


def test_images_that_nobody_looked_at_are_named(tmp_path):
    results = publish(tmp_path, {"r": REVIEW, **{f"a{i}": ALLOWED for i in range(9)}, "b": BLOCK})
    append(Store(results), [review_of("r", violates=True)])
    (allowed, blocked) = labels(results).remarks
    assert str(allowed).startswith("nobody reviewed a random sample of 9 allowed images, so no label stands for them")
    assert str(blocked).startswith("nobody reviewed a random sample of 1 blocked images")


def test_images_that_reach_people_in_other_ways_stand_for_themselves(tmp_path):
    results = publish(tmp_path, {f"b{i}": BLOCK for i in range(20)})
    appeals = [review_of(f"b{i}", selection=Selection.APPEAL) for i in range(2)]
    audits = [review_of(f"b{i}", violates=True, selection=Selection.AUDIT_BLOCKED, weight=4.0) for i in range(2, 6)]
    append(Store(results), [*appeals, *audits])
    assert stands_for(labels(results), ANY) == {"block": 2, "block, audited": 18}


def test_what_cannot_be_seen_and_what_measures_reviewers_is_no_label(tmp_path):
    results = publish(tmp_path, {f"r{i}": REVIEW for i in range(3)})
    append(Store(results), [review_of("r0", violates=None), review_of("r1", selection=Selection.GOLDEN, action=None)])
    with pytest.raises(SettingsError, match="there are no reviews of the images in"):
        labels(results)


def test_verdicts_about_another_meaning_are_no_labels_for_the_rule(tmp_path):
    results = publish(tmp_path, {"r": REVIEW})
    changed = POLICY.replace("[a handgun]", "[a pistol]")
    publish(tmp_path, {"r2": REVIEW}, run_id=SECOND, policy=changed)
    meaning = rule_meaning(parse_policy(POLICY).rules[0], Assets())
    append(Store(results), [review_of("r", violates=True, rule="firearms", rule_meaning=meaning)])
    assert {label.rule for label in labels(results, parse_policy(POLICY).hash).labels} == {"firearms", ANY}
    assert {label.rule for label in labels(results, parse_policy(changed).hash).labels} == {ANY}


def test_of_many_labels_some_stand_for_the_others(reviewed, monkeypatch):
    monkeypatch.setattr(labels_module, "MOST", 10)
    file = labels(str(reviewed))
    assert stands_for(file, ANY) == {"review": 160, "allow, audited": 320, "block, audited": 160}
    assert max(Counter((label.rule, label.stratum) for label in file.labels).values()) == 10


def test_tune_takes_them(reviewed):
    result = CliRunner().invoke(
        app,
        ["policy", "tune", str(reviewed / "shop.yaml"), "--results", str(reviewed), "--labels", "reviews", "--rule", "firearms",
         "--precision", "0.8", "--json"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    (rule,) = found["rules"]
    assert found["labels"]["file"] == "reviews"
    assert rule["basis"] == "weights"
    assert 0.5 < rule["chosen"]["threshold"] < 0.8
    low, high = rule["prevalence_interval"]
    assert low < 15.5 / 32 < high  # the mean of the scores


def test_backtest_takes_them(reviewed, tmp_path):
    command = ["policy", "backtest", str(reviewed / "stricter.yaml"), "--results", str(reviewed), "--labels", "reviews",
               "--output", str(tmp_path), "--no-thumbnails"]  # fmt: skip
    found = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)["labelled"]
    rules = {rule["rule"]: rule for rule in found["rules"]}
    assert set(rules) == {"firearms", ANY}
    before, after = rules["firearms"]["before"], rules["firearms"]["after"]
    assert after["precision"]["value"] > before["precision"]["value"]
    assert after["recall"]["value"] < before["recall"]["value"]
    assert before["precision"]["low"] < 23.5 / 32 < before["precision"]["high"]
    shown = CliRunner().invoke(app, command).stdout
    assert "By the labels in reviews" in shown
    assert "! nudity: all" in shown
    page = (tmp_path / "backtest.html").read_text()
    assert "By labels" in page
    assert f"{after['precision']['value']:.3f}" in page


def test_backtest_takes_a_file_of_labels(reviewed, tmp_path):
    (tmp_path / "labels.csv").write_text(
        "uri,rule,label\n"
        + "".join(f"{uri(str(i))},firearms,{i % 32 > 20}\n" for i in range(64))
        + "s3://gone/1.jpg,any,true\n"
    )
    command = ["policy", "backtest", str(reviewed / "stricter.yaml"), "--results", str(reviewed), "--labels",
               str(tmp_path / "labels.csv"), "--output", str(tmp_path), "--no-thumbnails", "--json"]  # fmt: skip
    found = json.loads(CliRunner().invoke(app, command).stdout)["labelled"]
    (rule,) = found["rules"]
    assert (rule["positives"], rule["negatives"]) == (22, 42)
    assert rule["before"]["precision"]["value"] == pytest.approx(22 / 32)
    assert any("1 labelled images are not among those of the backtest" in remark for remark in found["remarks"])
