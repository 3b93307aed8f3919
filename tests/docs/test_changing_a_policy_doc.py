"""docs/changing-a-policy.md says what is so: its example gives its numbers, its commands, links and settings exist.

The example workflow's steps are run on the same results.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from known_commands import unknown_words
from needs import needs_bash
from places import EXAMPLE_WORKFLOW, ROOT
from scored_demo import objects_under, publish_scored

from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.storage import Store

PAGE = (ROOT / "docs" / "changing-a-policy.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^moderate .*", PAGE.replace("\\\n", " "), re.MULTILINE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of the demo, and the policy as the example changes it."""
    folder = tmp_path_factory.mktemp("doc")
    publish_scored(Store(str(folder / "demo-output")), objects_under(IMAGES_DIR))
    before, rule, after = re.split(r"(?m)(^  - id: weapons\n(?:    .*\n)*)", POLICY_FILE.read_text(encoding="utf-8"))
    rule = rule.replace("review: 0.40", "review: 0.30").replace("block: 0.80", "block: 0.60")
    (folder / "policies").mkdir()
    (folder / "policies" / "try.yaml").write_text(before + rule + after, encoding="utf-8")
    return folder


def in_shell(script: str, place: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, **variables, "PATH": path, "COLUMNS": "200"}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]  # as GitHub runs steps
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=240)


@needs_bash
def test_the_example_gives_the_numbers_of_the_page(place: Path) -> None:
    done = in_shell("moderate policy backtest policies/try.yaml --results demo-output --max-new-blocks 0.1%", place)
    assert done.returncode == 3, done.stderr
    plain = re.sub(r"[ ┃│]+", " ", done.stdout)
    numbers = re.findall(r"^(?:before|allow|review|block) +│.*", PAGE, re.MULTILINE)
    assert len(numbers) == 4
    for line in numbers:
        assert re.sub(r"[ │]+", " ", line) in plain
    for told in re.findall(r"^(?:\d+ images get a different decision|error: ).*", PAGE, re.MULTILINE):
        assert told in done.stdout + done.stderr
    (folder,) = place.glob("backtest-demo-*")
    assert {file.name for file in folder.iterdir()} == {"backtest.html", "changed.parquet"}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_the_page_names_exist(command: str) -> None:
    assert not unknown_words(command)


def test_links_of_the_page_lead_somewhere() -> None:
    anchors = {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in re.findall("^#+ (.*)", PAGE, re.M)}
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        path, _, anchor = target.partition("#")
        assert not path or (ROOT / "docs" / path).is_file(), target
        assert path or anchor in anchors, target


def test_the_flow_example_of_the_page_runs() -> None:
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
    assert "BacktestSettings(" in code
    done = subprocess.run(
        [sys.executable, "-c", code.replace("\nbacktest(", "\nprint(")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "days=7" in done.stdout


@needs_bash
def test_the_steps_of_the_workflow_do_what_they_say(place: Path, tmp_path: Path) -> None:
    jobs = yaml.safe_load(EXAMPLE_WORKFLOW.read_text())["jobs"]
    steps = {step.get("name"): step.get("run") for job in jobs.values() for step in job["steps"]}
    (place / "before" / "policies").mkdir(parents=True)
    (place / "before" / "policies" / "try.yaml").write_text(POLICY_FILE.read_text(encoding="utf-8"), encoding="utf-8")
    variables = {
        "POLICY": "policies/try.yaml",
        "RESULTS": str(place / "demo-output"),
        "SINCE": "36500d",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
    }
    assert in_shell(steps["Mistakes, shown at their lines"], place, **variables).returncode == 0
    assert in_shell(steps["What changes in meaning"], place, **variables).returncode == 0
    assert "block: 0.8 → 0.6" in (tmp_path / "summary.md").read_text()
    over = in_shell(steps["What it would have done"], place, **variables, MAX_NEW_BLOCKS="0.1%")
    assert over.returncode == 3
    page = place / "backtest" / "backtest.html"
    assert "Over the budget" in page.read_text()
    assert "<img" not in page.read_text()
    assert in_shell(steps["What it would have done"], place, **variables, MAX_NEW_BLOCKS="1%").returncode == 0
