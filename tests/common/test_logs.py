"""Logs for machines: JSON lines with run, stage and shard."""

import json
import logging
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from stub_run import stub_run

from moderation import RunSettings
from moderation.common.logs import FORMAT_VARIABLE, about, json_lines, log_format

POLICY = """
policy: shop
model: {name: none}
rules:
  - {id: one, prompts: [a thing], score: similarity, review: 0.3}
"""


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_logs_its_shards_and_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    for number in range(6):
        (tmp_path / f"images/{number}.jpg").write_text("x")
    (tmp_path / "policy.yaml").write_text(POLICY)
    settings = RunSettings(
        sources=(str(tmp_path / "images"),), policy=str(tmp_path / "policy.yaml"), output=str(tmp_path / "out"), shard_size=3
    )
    with json_lines():
        manifest = stub_run(settings)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert {line["run"] for line in lines} == {manifest.run_id}
    staged = [line for line in lines if line["message"] == "shard staged"]
    assert sum(line["objects"] for line in staged) == 6
    assert {line["stage"] for line in staged} == {"scoring"}
    assert len({line["shard"] for line in staged}) == 2
    (published,) = (line for line in lines if line["message"] == "published")
    assert (published["stage"], published["level"], published["listed"]) == ("publishing", "info", 6)
    assert all(datetime.fromisoformat(line["time"]).tzinfo is not None for line in lines)


def test_hostile_text_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    with json_lines():
        about("run", "scoring")
        try:
            raise ValueError('a "quoted"\nkey \u2028 \x1b[31m')
        except ValueError:
            logging.getLogger("moderation.test").exception("cannot read %s", "a\nb")
    (line,) = capsys.readouterr().err.split("\n")[:-1]
    content = json.loads(line)
    assert (content["message"], content["level"], content["run"]) == ("cannot read a\nb", "error", "run")
    assert "ValueError" in content["exception"]


def test_logging_settings_are_restored_after_a_run() -> None:
    logger = logging.getLogger("moderation")
    before = (logger.level, logger.propagate, list(logger.handlers))
    with json_lines():
        assert logger.handlers != before[2]
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


@pytest.mark.parametrize(("value", "expected"), [("json", "json"), (" JSON ", "json"), ("", "text"), ("xml", "text")])
def test_the_log_format_comes_from_the_environment_if_nothing_else_sets_it(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: str
) -> None:
    monkeypatch.setenv(FORMAT_VARIABLE, value)
    assert log_format() == expected
    assert log_format("text") == "text"


def test_an_unknown_log_format_is_refused() -> None:
    command = [sys.executable, "-m", "moderation.cli", "run", "x", "-p", "p", "-o", "o", "--log-format", "xml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "json" in done.stderr
