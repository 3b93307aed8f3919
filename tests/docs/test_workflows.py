"""The example workflow in docs/ci: valid for GitHub, free of what is known to be unsafe, and what it runs is what there is."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from known_commands import unknown_words
from needs import needs_bash
from places import EXAMPLE_WORKFLOW, ROOT

WORKFLOWS = sorted((ROOT / "docs" / "ci").glob("*.yml"))
SCRIPTS = [
    (path.name, step["name"], step["run"])
    for path in WORKFLOWS
    for job in yaml.safe_load(path.read_text())["jobs"].values()
    for step in job["steps"]
    if "run" in step
]


def against_schema(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def audited(path: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("zizmor", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert program is not None, "zizmor is not installed: make install"
    command = [program, "--offline", "--no-progress", "--persona", "pedantic", "--strict-collection", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_valid_and_safe(path: Path) -> None:
    valid = against_schema(path)
    assert valid.returncode == 0, valid.stdout + valid.stderr
    safe = audited(path)
    assert safe.returncode == 0, safe.stdout + safe.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "found"),
    [
        ("runs-on: ubuntu-24.04", "runs_on: ubuntu-24.04", "'runs_on' does not match|runs-on"),
        ("needs: check", "needs: {check: true}", "is not of type|is not valid"),
    ],
)
def test_the_workflow_schema_finds_planted_mistakes(tmp_path: Path, right: str, wrong: str, found: str) -> None:
    path = tmp_path / "workflow.yml"
    path.write_text(EXAMPLE_WORKFLOW.read_text().replace(right, wrong))
    result = against_schema(path)
    assert result.returncode == 1
    assert re.search(found, result.stdout + result.stderr)


@pytest.mark.parametrize(
    ("right", "wrong", "found"),
    [
        ('"before/$POLICY" "$POLICY"', '"before/$POLICY" "${{ github.head_ref }}"', "template-injection"),
        ("permissions: {}", "permissions: write-all", "excessive-permissions"),
        ("pull_request:\n", "pull_request_target:\n", "dangerous-triggers"),
        (re.search(r"actions/checkout@\w{40}", EXAMPLE_WORKFLOW.read_text())[0], "actions/checkout@main", "unpinned-uses"),
    ],
)
def test_the_audit_finds_planted_unsafe_steps(tmp_path: Path, right: str, wrong: str, found: str) -> None:
    path = tmp_path / "workflow.yml"
    path.write_text(EXAMPLE_WORKFLOW.read_text().replace(right, wrong))
    result = audited(path)
    assert result.returncode != 0
    assert found in result.stdout


@needs_bash
@pytest.mark.parametrize(("workflow", "step", "script"), SCRIPTS)
def test_every_workflow_step_runs_commands_and_options_that_exist(workflow: str, step: str, script: str) -> None:
    assert "${{" not in script, "values come through env, where a shell does not run them"
    parsed = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert parsed.returncode == 0, parsed.stderr
    for line in re.findall(r"^\s*(moderate [^|\n]*)", script.replace("\\\n", " "), re.MULTILINE):
        assert not unknown_words(line), f"{workflow}, {step}"


def test_the_example_runs_every_step_of_a_review() -> None:
    run = " ".join(script for _, _, script in SCRIPTS)
    for command in ("policy check --format github", "policy test", "policy diff", "policy backtest"):
        assert f"moderate {command}" in run
    assert "--max-new-blocks" in run
