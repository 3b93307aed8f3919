"""Whole runs with a defect planted: held back or warned about, with what, where, and what to do; and published after all."""

import sys
from pathlib import Path

import pytest
from planted import Planted
from stub_run import stub_run

from moderation import QuarantinedError, RunSettings, Store
from moderation.cli import main
from moderation.query.connection import connect
from moderation.results.manifest import published_manifests

pytestmark = pytest.mark.usefixtures("ray_cluster")

POLICY = """
policy: planted
model: {name: none}
templates: ["{}"]
contrast: [a wall, a tree]
rules:
  - {id: firearms, prompts: [a handgun], review: 0.6, block: 0.9}
"""


class Runs:
    """Runs over folders of named objects, into one output."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.output = folder, folder / "out"
        (folder / "policy.yaml").write_text(POLICY)

    def __call__(self, quality: str = "", **names: int) -> str:
        """Moderate so many objects of each name. Returns the names of the checks that warn."""
        source = self.folder / f"images-{len(list(self.folder.iterdir()))}"
        source.mkdir()
        for name, count in names.items():
            for number in range(count):
                (source / f"{name}-{number:04}").write_bytes(f"{source} {name} {number}".encode())
        values = {"sources": str(source), "policy": str(self.folder / "policy.yaml"), "output": str(self.output)}
        if quality:
            (self.folder / "quality.yaml").write_text(quality)
            values["quality"] = str(self.folder / "quality.yaml")
        manifest = stub_run(RunSettings.model_validate(values), Planted())
        return " ".join(check.name for check in manifest.checks if not check.passed)

    @property
    def published(self) -> int:
        return len(list(published_manifests(Store(str(self.output)))))


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_a_run_with_defects_is_quarantined_and_says_what_to_do(runs: Runs) -> None:
    assert runs(plain=396, flag=4) == ""
    for names, words in (
        ({"plain": 280, "flag": 120}, ["flag_rate", "firearms", "30 % where 1 %"]),
        ({"plain": 70, "error": 30}, ["error_rate", "30", "error-00"]),
        ({"same": 60}, ["constant_scores", "firearms", "check its weights"]),
        ({"error": 40}, ["empty_run"]),
        ({"plain": 50, "flag": 150}, ["flood", "75"]),
    ):
        with pytest.raises(QuarantinedError) as held:
            runs(**names)
        assert [word for word in words if word not in str(held.value)] == [], str(held.value)
        assert "moderate runs release" in str(held.value)
    assert runs.published == 1
    pages = sorted((runs.output / "reports").glob("*/report.html"))
    assert ["was not published" in page.read_text() for page in pages] == [True] * 5
    assert connect(str(runs.output)).execute("select count(*) from decisions").fetchall() == [(400,)]


def test_a_run_with_warnings_only_is_published(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs("checks: {error_rate: warn}", plain=70, error=30) == "error_rate"
    with pytest.raises(QuarantinedError):
        runs("checks: {error_rate: {limit: 0.2}}", plain=70, error=30)
    assert runs.published == 1
    (manifest,) = (runs.output / "_quarantine").glob("*/runs/*.json")
    arguments = ["release", manifest.stem, "--results", str(runs.output), "--reason", "known to be messy", "--by", "ada"]
    monkeypatch.setattr(sys, "argv", ["moderate", "runs", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    assert runs.published == 2
    assert connect(str(runs.output)).execute("select count(*) from errors").fetchall() == [(60,)]
