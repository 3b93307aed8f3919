"""`moderate policy tune`, from a results folder and a file of labels to the numbers in the policy."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import typer
from report_pages import Page, words_of
from tuned_results import POLICY_TEXT, uri, write_labels, write_scores
from typer.testing import CliRunner

from moderation.commands.tune import tune
from moderation.errors import PolicyError, SettingsError, UserError
from moderation.policy_files.loading import load_policy
from moderation.studies.tuning.policy_file import MARK

IMAGES = 1200
BROKEN = "s3://shop/broken.jpg"


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> tuple[Path, np.ndarray, np.ndarray]:
    """A results folder: its place, the truth and the scores for firearms."""
    folder = tmp_path_factory.mktemp("tune") / "results"
    rng = np.random.default_rng(4)
    truth = rng.random(IMAGES) < 0.3
    scores = np.clip(rng.normal(0.35, 0.12, IMAGES) + 0.3 * truth, 0.0, 0.99)
    nudity = np.clip(rng.normal(0.2, 0.05, IMAGES), 0.0, 0.4)
    write_scores(folder, np.stack([scores, np.minimum(nudity, np.sqrt(0.999 - scores**2))], axis=1).tolist(), broken=(BROKEN,))
    return folder, truth, scores.astype(np.float16).astype(np.float32)


@pytest.fixture
def policy(tmp_path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(POLICY_TEXT)
    return path


@pytest.fixture
def labels(tmp_path, stored) -> Path:
    return write_labels(tmp_path / "labels.csv", [(uri(i), "firearms", stored[1][i]) for i in range(600)])


def run(*arguments: object):
    app = typer.Typer()
    app.command()(tune)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], terminal_width=200)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def as_json(*arguments: object, code: int = 0) -> dict:
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_the_threshold_is_the_lowest_with_that_precision(stored, policy, labels):
    folder, truth, scores = stored
    found = as_json(policy, "--results", folder, "--labels", labels, "--precision", 0.9)
    chosen = found["rules"][0]["chosen"]

    def precision(threshold: float) -> float:
        flagged = scores[:600] >= np.float32(threshold)
        return truth[:600][flagged].mean()

    at = chosen["threshold"]
    assert precision(at) >= 0.9
    lower = np.unique(scores[:600][scores[:600] < np.float32(at)])
    assert all(precision(threshold) < 0.9 for threshold in lower)
    assert chosen["precision"]["value"] == pytest.approx(precision(at))
    assert chosen["precision"]["low"] < precision(at) < chosen["precision"]["high"]
    assert chosen["recall"]["value"] == pytest.approx(
        (truth[:600] & (scores[:600] >= np.float32(at))).sum() / truth[:600].sum()
    )
    assert chosen["images_per_day"] == (scores >= np.float32(at)).sum()
    assert found["rules"][0]["found"]["low"] < at < found["rules"][0]["found"]["high"]
    assert found["unlabelled"] == ["nudity"]


def test_a_recall_target_can_be_met_by_the_estimate_or_with_confidence(stored, policy, labels):
    at = {
        name: as_json(policy, "--results", stored[0], "--labels", labels, *options)["rules"][0]["chosen"]
        for name, options in {
            "recall": ("--recall", 0.9),
            "sure recall": ("--recall", 0.9, "--confident"),
            "precision": ("--precision", 0.85),
            "sure precision": ("--precision", 0.85, "--confident"),
        }.items()
    }
    assert at["recall"]["recall"]["value"] >= 0.9
    assert at["sure recall"]["recall"]["low"] >= 0.9
    assert at["sure recall"]["threshold"] < at["recall"]["threshold"]
    assert at["sure precision"]["precision"]["low"] >= 0.85
    assert at["sure precision"]["threshold"] > at["precision"]["threshold"]


def test_reviews_per_day_are_counted_from_all_scores(stored, policy, labels):
    folder, _, scores = stored
    found = as_json(policy, "--results", folder, "--labels", labels, "--reviews-per-day", 100)
    at, blocked = found["rules"][0]["chosen"]["threshold"], (scores >= np.float32(0.9)).sum()
    assert (scores >= np.float32(at)).sum() - blocked <= 100
    assert (scores >= np.float32(at - 0.00001)).sum() - blocked > 100
    assert found["days"] == 1


def test_a_lower_prevalence_raises_the_threshold(stored, policy, labels):
    plain, rare = (
        as_json(policy, "--results", stored[0], "--labels", labels, "--precision", 0.7, *more)["rules"][0]
        for more in ((), ("--prevalence", 0.01))
    )
    assert rare["chosen"]["threshold"] > plain["chosen"]["threshold"]
    assert (plain["basis"], rare["basis"], rare["prevalence"]) == ("labels", "prevalence", pytest.approx(0.01))
    assert "does not fit production" in plain["remarks"][0]
    assert any("labelled negatives cannot show that" in doubt for doubt in rare["doubts"])


def test_labels_of_a_drawn_sample_count_with_their_weights(stored, policy, tmp_path):
    folder, truth, scores = stored
    strata = np.where(scores >= 0.5, "flagged", np.where(scores >= 0.45, "near", "random"))
    rng, rows = np.random.default_rng(0), []
    for name in ("flagged", "near", "random"):
        members = np.flatnonzero(strata == name)
        drawn = rng.choice(members, min(100, len(members)), replace=False)
        rows += [(uri(i), "firearms", name, len(members) / len(drawn), float(scores[i]), str(truth[i]).lower()) for i in drawn]
    rows.append((uri(0), "firearms", "random", 5.0, 0.1, ""))
    path = write_labels(tmp_path / "drawn.csv", rows, ("uri", "rule", "stratum", "weight", "score", "label"))
    found = as_json(policy, "--results", folder, "--labels", path, "--precision", 0.8)["rules"][0]
    assert found["basis"] == "weights"
    low, high = found["prevalence_interval"]
    assert low <= truth.mean() <= high
    at = np.float32(found["chosen"]["threshold"])
    assert found["chosen"]["precision"]["low"] <= truth[scores >= at].mean() <= found["chosen"]["precision"]["high"]
    assert found["chosen"]["recall"]["low"] <= (truth & (scores >= at)).sum() / truth.sum() <= found["chosen"]["recall"]["high"]
    with pytest.raises(SettingsError, match="has a weight"):
        run(policy, "--results", folder, "--labels", path, "--precision", 0.8, "--prevalence", 0.1)


def test_write_changes_the_number_and_nothing_else(stored, policy, labels):
    result = run(policy, "--results", stored[0], "--labels", labels, "--precision", 0.9, "--write")
    assert result.exit_code == 0, result.output
    lines = policy.read_text().splitlines(keepends=True)
    ours = [line for line in lines if line.rstrip().endswith(MARK)]
    assert len(ours) == 1
    assert ours[0].startswith("    # firearms review tuned 20")
    assert "precision 0.9" in ours[0]
    assert "labels" in ours[0]
    number = f"{load_policy(policy).rules[0].review:g}"
    assert policy.read_text().replace(ours[0], "").replace(f"review: {number}  ", "review: 0.50  ") == POLICY_TEXT
    again = run(policy, "--results", stored[0], "--labels", labels, "--recall", 0.9, "--write")
    assert again.exit_code == 0
    assert policy.read_text().count(MARK) == 1


def test_a_target_out_of_reach_writes_nothing(stored, policy, tmp_path):
    rng = np.random.default_rng(1)
    rows = [(uri(i), "firearms", bool(rng.random() < 0.5)) for i in range(300)]
    rows += [(uri(int(i)), "firearms", False) for i in 300 + np.argsort(-stored[2][300:])[:5]]
    path = write_labels(tmp_path / "noise.csv", rows)
    result = run(policy, "--results", stored[0], "--labels", path, "--precision", 0.999, "--confident", "--write")
    assert result.exit_code == 1
    assert "cannot be reached" in result.output
    assert "the policy was not changed" in result.stderr
    assert policy.read_text() == POLICY_TEXT


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([(uri(i), "firearms", "true") for i in range(50)], "all 50 labels are true"),
        ([(uri(i), "firearms", i < 2) for i in range(50)], "2 true and 48 false labels are too few"),
        ([(f"s3://else/{i}", "firearms", i < 20) for i in range(50)], "not in the results"),
        ([(uri(i), "guns", i < 20) for i in range(50)], "has no rule 'guns'"),
        ([], "no labels"),
    ],
)
def test_unusable_labels_are_reported_with_exit_code_1(stored, policy, tmp_path, rows, why):
    path = write_labels(tmp_path / "labels.csv", rows)
    result = run(policy, "--results", stored[0], "--labels", path, "--precision", 0.9, "--write")
    assert result.exit_code == 1
    assert why in result.stdout
    assert policy.read_text() == POLICY_TEXT


def test_oddities_in_labels_are_reported_with_their_lines(stored, policy, labels):
    rest = [(uri(0), "firearms", not stored[1][0]), (uri(1), "firearms", stored[1][1]), (BROKEN, "firearms", "yes")]
    rest += [("s3://shop/x.jpg", "firearms", "no"), (uri(3), "fierarms", "no"), (uri(4), "beer", "1"), (uri(5), "nudity", "?")]
    with open(labels, "a", newline="") as file:
        file.writelines(f"{','.join(map(str, row))}\r\n" for row in rest)
    result = run(policy, "--results", stored[0], "--labels", labels)
    assert result.exit_code == 0
    for told in (
        "labels.csv:2, 602: 1 image is labelled both true and false for one rule (left out)",
        "labels.csv:603: 1 row repeats an earlier one (left out)",
        "labels.csv:604: the image could not be scored: it ended in an error (left out)",
        "labels.csv:605: the image is not in the results (left out)",
        "labels.csv:606: the policy has no rule 'fierarms': did you mean `firearms`?",
        "labels.csv:607: the rule beer is off",
        "labels.csv:608: the label '?' is neither true nor false",
    ):
        assert told in result.stdout


def test_labels_for_any_are_about_the_whole_policy(stored, policy, labels):
    folder, truth, scores = stored
    with open(labels, "a", newline="") as file:
        file.writelines(f"{uri(i)},any,{truth[i]}\r\n" for i in range(600, 900))
    found = as_json(policy, "--results", folder, "--labels", labels, "--precision", 0.9)
    whole = found["whole_policy"]
    flagged = scores[600:900] >= np.float32(0.5)
    assert whole["now"]["precision"]["value"] == pytest.approx(truth[600:900][flagged].mean())
    assert whole["tuned"]["precision"]["value"] > whole["now"]["precision"]["value"]
    assert (whole["positives"], whole["negatives"]) == (truth[600:900].sum(), (~truth[600:900]).sum())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--precision", 0.9, "--recall", 0.9), "give one of"),
        (("--precision", 95), "--precision 95"),
        (("--recall", 0), "--recall 0"),
        (("--recall", "nan"), "--recall nan"),
        (("--reviews-per-day", -1), "--reviews-per-day -1"),
        (("--reviews-per-day", "inf"), "--reviews-per-day inf"),
        (("--reviews-per-day", 5, "--for", "block"), "leave out --for block"),
        (("--prevalence", 1.5), "--prevalence 1.5"),
        (("--confident",), "--confident needs"),
        (("--write",), "--write needs a target"),
        (("--rule", "guns"), "has no rule 'guns'"),
        (("--rule", "beer"), "is off"),
        (("--fingerprint", "feedfeedfeedfeed"), "no run"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(stored, policy, labels, options, message):
    with pytest.raises(UserError) as caught:
        run(policy, "--results", stored[0], "--labels", labels, *options)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_review_budget_is_for_one_rule(stored, policy, labels):
    with open(labels, "a", newline="") as file:
        file.writelines(f"{uri(i)},nudity,{i % 2}\r\n" for i in range(40))
    with pytest.raises(SettingsError, match="give --rule"):
        run(policy, "--results", stored[0], "--labels", labels, "--reviews-per-day", 10)
    assert run(policy, "--results", stored[0], "--labels", labels, "--reviews-per-day", 10, "--rule", "firearms").exit_code == 0


def test_a_review_threshold_above_block_is_refused(stored, policy, labels):
    policy.write_text(POLICY_TEXT.replace("0.50 ", "0.10 ").replace("0.90", "0.20"))
    with pytest.raises(PolicyError, match=r"block from 0\.2"):
        run(policy, "--results", stored[0], "--labels", labels, "--precision", 0.9, "--write")


def test_the_plots_are_always_the_same_and_run_nothing(stored, policy, labels, tmp_path):
    digests = []
    for name in ("one", "two"):
        options = ("--precision", 0.9, "--output", tmp_path / name)
        assert run(policy, "--results", stored[0], "--labels", labels, *options).exit_code == 0
        files = sorted((tmp_path / name).iterdir())
        assert [file.name for file in files] == ["tune-firearms.svg", "tune.html"]
        digests.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    assert digests[0] == digests[1]
    file = (tmp_path / "one" / "tune-firearms.svg").read_text()
    parsed = ElementTree.fromstring(file)  # noqa: S314
    assert parsed.findtext("{*}title").startswith("firearms: ")
    assert "review tuned" in parsed.findtext("{*}desc")
    page = Page((tmp_path / "one" / "tune.html").read_text())
    assert not page.named("img")
    drawn = page.named("svg")
    assert [image["role"] for image in drawn] == ["img"] * 3
    assert re.fullmatch(
        r"Precision and recall of firearms by threshold, .* band for the whole curve; review tuned 0\.\d+: "
        r"precision 0\.9\d+, recall 0\.\d+; review now 0\.50: .*; block now 0\.90: recall 0\.000",
        drawn[0]["aria-label"],
    )
    for content in (file, (tmp_path / "one" / "tune.html").read_text()):
        assert "<script" not in content
        assert len(re.findall(r'points="[0-9., ]+"', content)) == content.count("points=") == 6


def test_hostile_names_do_nothing_on_the_page_and_in_the_terminal(stored, policy, tmp_path):
    policy.write_text(POLICY_TEXT.replace('version: "1"', 'version: "<script>alert(1)</script>$x^2$"'))
    rows = [(uri(i), "firearms", stored[1][i]) for i in range(100)]
    rows += [("<img src=x onerror=alert(1)>\x1b[31m", "firearms", "true"), (uri(0), "<b>\x1b]0;x\x07", "<i>\u202e")]
    path = write_labels(tmp_path / "<script>&.csv", rows)
    result = run(policy, "--results", stored[0], "--labels", path, "--precision", 0.8, "--output", tmp_path / "out")
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    html = (tmp_path / "out" / "tune.html").read_text()
    page = Page(html)
    assert not page.named("script")
    assert not page.named("i")
    assert len(page.named("svg")) == 3
    assert not page.named("img")
    assert "<script>alert(1)</script>" in words_of(html)


def test_neither_torch_nor_ray_is_loaded(stored, policy, labels):
    code = (
        "import sys; from typer.testing import CliRunner; import typer; from moderation.commands.tune import tune\n"
        "app = typer.Typer(); app.command()(tune)\n"
        f"given = ['{policy}', '--results', '{stored[0]}', '--labels', '{labels}', '--recall', '0.9']\n"
        "result = CliRunner().invoke(app, given)\n"
        "assert result.exit_code == 0, result.output\n"
        "print(sorted({'torch', 'ray', 'prefect', 'great_expectations'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert found.stdout.strip() == "[]"


def test_the_headline_is_for_everybody_and_reviews_are_not_blocks(stored, policy, labels):
    found = run(policy, "--results", stored[0], "--labels", labels, "--precision", 0.9)
    assert re.search(r"^At 0\.\d+, about \d+ of 100 flagged images are right, and about \d+ of 100", found.stdout, re.MULTILINE)
    (rule,) = as_json(policy, "--results", stored[0], "--labels", labels)["rules"]
    now = rule["now"]
    blocked = now["block"]["images_per_day"]
    assert now["review"]["reviews_per_day"] == pytest.approx(now["review"]["images_per_day"] - blocked)
