"""Publishing, broken off after every single write: readers see all of a run or nothing, and the next attempt finishes it."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import dying_store
import pyarrow as pa
import pytest
from published import FIRST, JOBS, stage, write_results

from moderation import Store
from moderation.errors import OutputError, QuarantinedError, RunError
from moderation.query.connection import connect
from moderation.results.manifest import find_manifest
from moderation.results.publishing import alone, publish, quarantine
from moderation.results.read_run import read_decisions, read_scores

WRITES = 40
"""More than publishing takes."""


def rows(output: Store) -> list[pa.Table]:
    manifest = find_manifest(output, FIRST)
    assert manifest is not None
    return [read(output, manifest).sort_by("uri") for read in (read_decisions, read_scores)]


def test_a_process_that_dies_after_any_write_leaves_readers_all_or_nothing(tmp_path: Path) -> None:
    undisturbed = Store(str(tmp_path / "undisturbed"))
    write_results(undisturbed, JOBS[:1])
    expected = rows(undisturbed)
    command = [sys.executable, dying_store.__file__, str(tmp_path), "1", str(WRITES)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}  # a fork with threads is what this is about
    codes = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout.split()
    died = [int(code) for code in codes].index(0)
    assert codes == ["9"] * died + ["0"] * (WRITES - 1 - died)
    assert died > 8  # six files, the manifest, and what is cleared away
    visible = []
    for writes in range(1, died + 1):
        output = Store(str(tmp_path / str(writes)))
        there = find_manifest(output, FIRST) is not None
        visible.append(there)
        if there:
            seen = connect(str(tmp_path / str(writes))).execute("select count(*) from decisions").fetchall()
            assert seen == [(expected[0].num_rows,)]
        paths, manifest, receipts = stage(output, JOBS[0])
        if not there:
            publish(output, paths, manifest, receipts)
        for found, wanted in zip(rows(output), expected, strict=True):
            assert found.equals(wanted)
    assert visible == sorted(visible)
    assert visible.count(False) == 6


def test_the_slower_of_two_processes_under_one_run_id_says_that_the_other_published_it(tmp_path: Path) -> None:
    output = Store(str(tmp_path))
    paths, manifest, receipts = stage(output, JOBS[0])
    publish(output, paths, manifest, receipts)
    published = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    _, mine, later = stage(output, JOBS[0])  # what it goes on staging
    for change in (mine, mine.model_copy(update={"published_at": datetime.now(UTC)})):
        with (
            pytest.raises(RunError, match="was meanwhile published by another process with the same --run-id: file://"),
            alone(output, paths),
        ):
            publish(output, paths, change, later)
    with pytest.raises(RunError, match="meanwhile published"), alone(output, paths):  # its staged files went away
        raise OutputError("cannot read the staged files; nothing was published")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == published


def test_an_error_is_raised_as_itself_unless_another_process_ended_the_run(tmp_path: Path) -> None:
    output = Store(str(tmp_path))
    paths, manifest, receipts = stage(output, JOBS[0])
    with pytest.raises(OutputError, match="no space"), alone(output, paths):
        raise OutputError("no space")
    quarantine(output, paths, manifest, receipts)
    with pytest.raises(QuarantinedError, match="failed its quality checks in another process"), alone(output, paths):
        raise OutputError("cannot read the staged files")
    with pytest.raises(QuarantinedError, match="own reasons"), alone(output, paths):
        raise QuarantinedError("own reasons")
