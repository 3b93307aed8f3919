"""`moderate policy learn`, from results and labels to a head in the policy, and on to all that works with it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from tuned_results import uri, write_labels, write_scores
from typer.testing import CliRunner

from moderation import Store
from moderation.commands.learn import learn
from moderation.errors import OutputError, PolicyError, SettingsError
from moderation.labels.label_file import read_labels
from moderation.policy_files.loading import load_policy
from moderation.results.archive import open_archive
from moderation.scoring.prompt_embeddings import compiled_for
from moderation.studies.backtest.backtesting import backtest
from moderation.studies.tuning.tune import Target, tune

IMAGES = 300
POLICY = """\
# Kept by trust and safety.
policy: shop
version: "1"
model: {name: demo}
rules:
  - id: firearms   # real ones
    prompts: [a handgun]
    score: similarity
    review: 0.50   # agreed in May
    block: 0.90
  - {id: nudity, prompts: [a nude], score: similarity, review: 0.5, block: 0.95}
  - {id: beer, mode: "off", prompts: [a beer], score: similarity, review: 0.5}
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Results in which firearms show in two numbers of an embedding, and the prompt knows one of them; and the truth."""
    folder = tmp_path_factory.mktemp("learn") / "results"
    rng = np.random.default_rng(4)
    truth = rng.random(IMAGES) < 0.4
    shown = np.clip(rng.normal(0.3, 0.12, (IMAGES, 6)), -0.2, 0.55)
    shown[:, 0] += 0.08 * truth
    shown[:, 2] += 0.25 * truth
    write_scores(folder, (shown / np.maximum(1.0, 1.02 * np.linalg.norm(shown, axis=1, keepdims=True))).tolist())
    return folder, truth


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").write_text(POLICY)
    return tmp_path / "shop.yaml"


@pytest.fixture
def labels(tmp_path: Path, stored: tuple[Path, np.ndarray]) -> Path:
    return write_labels(tmp_path / "labels.csv", [(uri(i), "firearms", stored[1][i]) for i in range(200)])


def run(*arguments: object):
    app = typer.Typer()
    app.command()(learn)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], terminal_width=200)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_head_is_learned_written_and_used_by_all_that_follows(stored, policy, labels, tmp_path):
    folder, truth = stored
    result = run(policy, "--rule", "firearms", "--results", folder, "--labels", labels, "--write")
    assert result.exit_code == 0, result.output
    assert "the head is better than the rule is now: a true image scores above a false one in" in result.stdout
    (head,) = (tmp_path / "heads").glob("firearms-*.safetensors")
    evidence = json.loads(head.with_suffix(".json").read_text())
    assert evidence["true_labels"] + evidence["false_labels"] == 200
    assert evidence["comparison"]["verdict"] == "better"
    assert evidence["suggested"]["review"]["point"]["threshold"] > 0

    lines = policy.read_text().splitlines()
    assert [line for line in POLICY.splitlines() if line not in lines] == [
        "    score: similarity",
        "    review: 0.50   # agreed in May",
        "    block: 0.90",
    ]
    assert f"    head: heads/{head.name}" in lines
    assert lines[-5].endswith("# agreed in May")
    assert sum(line.endswith("[moderate policy learn]") for line in lines) == 3

    new = load_policy(policy)
    learned = new.assets.heads["firearms"].learned
    assert learned is not None
    assert (learned.positives, learned.negatives) == (truth[:200].sum(), 200 - truth[:200].sum())
    archive = open_archive(Store(str(folder)))
    compiled = compiled_for(new, archive)
    found = tune(
        archive, compiled, read_labels(labels), only="firearms", key="review", target=Target("recall", 0.9), prevalence=None
    )
    assert found.rules[0].chosen is not None
    changed = backtest(compiled, archive, tmp_path / "changed.parquet")
    assert changed.images == IMAGES

    again = run(policy, "--rule", "firearms", "--results", folder, "--labels", labels)
    assert "the rule is scored by a head already" in again.stdout


def test_the_same_input_gives_the_same_bytes(stored, policy, labels, tmp_path):
    files = []
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        shutil.copy(policy, tmp_path / place / "shop.yaml")
        run(tmp_path / place / "shop.yaml", "--rule", "firearms", "--results", stored[0], "--labels", labels)
        files.append({path.name: path.read_bytes() for path in (tmp_path / place / "heads").iterdir()})
    assert files[0] == files[1]
    assert len(files[0]) == 2


@pytest.mark.parametrize(
    ("true", "false", "missing"),
    [
        (3, 50, "7 more that are true"),
        (50, 9, "1 more that are false"),
        (0, 0, "10 more that are true and 10 more that are false"),
    ],
)
def test_too_few_labels_are_refused_with_what_is_missing(stored, policy, tmp_path, true, false, missing):
    truth = stored[1]
    chosen = [*np.flatnonzero(truth)[:true], *np.flatnonzero(~truth)[:false]]
    path = write_labels(tmp_path / "few.csv", [(uri(i), "firearms", truth[i]) for i in chosen] or [(uri(0), "nudity", True)])
    with pytest.raises(SettingsError, match=f"a head needs 10 of each, so label {missing}"):
        run(policy, "--rule", "firearms", "--results", stored[0], "--labels", path, "--write")
    assert not (tmp_path / "heads").exists()
    assert policy.read_text() == POLICY


def test_a_head_that_is_worse_is_not_written_into_the_policy(stored, policy, tmp_path):
    truth = np.random.default_rng(0).random(IMAGES) < 0.5
    shown = write_labels(tmp_path / "other.csv", [(uri(i), "nudity", truth[i]) for i in range(60)])
    result = run(policy, "--rule", "nudity", "--results", stored[0], "--labels", shown)
    assert result.exit_code == 0
    assert "these labels do not show that the head is better than the rule is now" in result.stdout


def test_weights_say_how_common_positives_are(stored, policy, tmp_path):
    truth = stored[1]
    rows = [(uri(i), "firearms", truth[i], 1.0 if truth[i] else 50.0) for i in range(200)]
    path = write_labels(tmp_path / "weighted.csv", rows, ("uri", "rule", "label", "weight"))
    result = run(policy, "--rule", "firearms", "--results", stored[0], "--labels", path, "--json")
    found = json.loads(result.stdout)
    positives, negatives = truth[:200].sum(), (~truth[:200]).sum()
    assert found["prevalence"]["basis"] == "weights"
    assert found["prevalence"]["value"] == pytest.approx(positives / (positives + 50 * negatives), rel=1e-4)
    with pytest.raises(SettingsError, match="has a weight"):
        run(policy, "--rule", "firearms", "--results", stored[0], "--labels", path, "--prevalence", 0.1)


@pytest.mark.parametrize(
    ("rule", "more", "error", "message"),
    [
        ("firearm", (), PolicyError, "did you mean `firearms`"),
        ("beer", (), PolicyError, "is off, so it has no scores"),
        ("firearms", ("--prevalence", 2), SettingsError, "give a share between 0 and 1"),
        ("firearms", ("--labels", "nowhere.csv"), SettingsError, "cannot read the labels"),
    ],
)
def test_wrong_options_are_refused(stored, policy, labels, rule, more, error, message):
    with pytest.raises(error, match=message):
        run(policy, "--rule", rule, "--results", stored[0], "--labels", labels, *more)


def test_a_policy_that_somebody_changes_meanwhile_is_not_written(stored, policy, labels, monkeypatch):
    from moderation.commands import learn as command

    write = command._write

    def changed_first(*arguments):
        policy.write_text(POLICY.replace("agreed in May", "agreed in June"))
        return write(*arguments)

    monkeypatch.setattr(command, "_write", changed_first)
    with pytest.raises(OutputError, match="was changed by somebody else meanwhile"):
        run(policy, "--rule", "firearms", "--results", stored[0], "--labels", labels, "--write")
    assert "agreed in June" in policy.read_text()
    assert "score: head" not in policy.read_text()
