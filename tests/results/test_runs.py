"""`moderate runs`: states, release, discard, clean and prune, on real results."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from published import FIRST, JOBS, SECOND, THIRD, stage, write_debris, write_results

from moderation import OutputError, SettingsError, Store
from moderation.cli import main
from moderation.query.connection import connect
from moderation.results.publishing import publish
from moderation.results.retention import leftovers
from moderation.results.runs import all_runs, discard, find_run, release

BROKEN_OFF, QUARANTINED = "20261123T030000Z-dddddd", "20261124T030000Z-eeeeee"

Moderate = Callable[..., str]


@pytest.fixture
def results(tmp_path: Path) -> Store:
    output = Store(str(tmp_path / "results"))
    write_results(output)
    write_debris(output)
    note = {"source": ["s3://shop/a", "s3://shop/b"], "started_at": "2026-11-23T03:00:00+00:00"}
    output.put(f"_staging/{BROKEN_OFF}/run.json", json.dumps(note).encode())
    return output


@pytest.fixture
def moderate(results: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Moderate:
    def call(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["moderate", "runs", *arguments, "--results", results.uri.removeprefix("file://")])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as left:
            main()
        assert (left.value.code or 0) == code
        found = capsys.readouterr()
        return found.out + found.err

    return call


def files(output: Store, *folders: str) -> set[str]:
    return {output.key_of(item.uri) for folder in folders for page in output.list(folder) for item in page}


def readable(output: Store) -> dict[str, int]:
    """Decision rows by run, as readers find them."""
    rows = connect(output.uri.removeprefix("file://")).execute("select run_id, count(*) from decisions group by 1").fetchall()
    return dict(rows)


def test_runs_are_listed_with_their_states(moderate: Moderate) -> None:
    found = {run["run_id"]: run["state"] for run in json.loads(moderate("list", "--json"))}
    assert found == {
        FIRST: "published",
        SECOND: "published",
        THIRD: "published",
        BROKEN_OFF: "unfinished",
        QUARANTINED: "quarantined",
    }
    table = moderate("list")
    assert all(run_id in table for run_id in found)
    assert table.index(QUARANTINED) < table.index(BROKEN_OFF) < table.index(THIRD) < table.index(FIRST)


def test_a_run_is_shown_with_what_failed(moderate: Moderate) -> None:
    shown = moderate("show", THIRD)
    assert "flag_rate" in shown
    assert "1 of 2 passed" in shown
    assert "--run-id" in moderate("show", BROKEN_OFF)
    assert f"did you mean {THIRD}" in moderate("show", THIRD[:-1] + "x", code=2)


def test_a_quarantined_run_is_released_with_name_and_reason(results: Store, moderate: Moderate) -> None:
    assert QUARANTINED not in readable(results)
    assert "reason" in moderate("release", QUARANTINED, "--reason", " ", "--by", "ada", code=2)
    moderate("release", QUARANTINED, "--reason", "a sale, not a flood", "--by", "ada")
    assert readable(results)[QUARANTINED] == len(JOBS[0].scored)
    kept = find_run(results, QUARANTINED)
    assert kept.state == "published"
    assert kept.manifest is not None
    assert kept.manifest.release is not None
    assert (kept.manifest.release.by, kept.manifest.release.reason) == ("ada", "a sale, not a flood")
    assert files(results, "_quarantine/") == set()
    assert "a sale, not a flood" in moderate("show", QUARANTINED)
    for run_id in (QUARANTINED, BROKEN_OFF, FIRST):
        with pytest.raises(SettingsError, match="only a quarantined run"):
            release(results, find_run(results, run_id), "x", "y")


def test_a_run_that_was_never_published_is_discarded_after_asking(results: Store, moderate: Moderate) -> None:
    before = readable(results)
    assert "prune" in moderate("discard", FIRST, "--yes", code=2)
    for run_id in (QUARANTINED, BROKEN_OFF):
        moderate("discard", run_id, "--yes")
        assert run_id not in {run.run_id for run in all_runs(results)}
    assert files(results, "_quarantine/", "_staging/") == set()
    assert readable(results) == before


def test_clean_removes_what_no_run_names_and_nothing_else(results: Store, moderate: Moderate) -> None:
    everything, before = files(results, ""), readable(results)
    assert moderate("clean") == "nothing to remove\n"  # the run that broke off can still be gone on with
    discard(results, find_run(results, BROKEN_OFF))
    left = {key for key in everything if BROKEN_OFF in key and not key.startswith("_staging")}
    assert left
    assert set(leftovers(results).keys) == left
    results.put("_staging/long-gone/receipts/x.json", b"{}")
    results.put("reports/long-gone/report.html", b"")
    assert "long-gone" in moderate("clean", "--yes")
    assert files(results, "") == {key for key in everything if BROKEN_OFF not in key}
    assert readable(results) == before


@pytest.mark.parametrize("keep", [False, True])
def test_prune_says_what_would_go_and_then_removes_runs_whole(results: Store, moderate: Moderate, keep: bool) -> None:
    assert "not an age" in moderate("prune", "--older-than", "soon", code=2)
    paths, manifest, receipts = stage(results, replace(JOBS[0], run_id="20200101T000000Z-old"))
    publish(results, paths, manifest, receipts)
    before = files(results, "")
    arguments = ["prune", "--older-than", "3y", *(["--keep-embeddings"] if keep else [])]
    assert "1 runs" in moderate(*arguments)
    assert files(results, "") == before
    moderate(*arguments, "--yes")
    assert "20200101T000000Z-old" not in readable(results)
    assert set(readable(results)) == {FIRST, SECOND, THIRD}
    old = {key for key in files(results, "") if "20200101T000000Z-old" in key}
    assert {key.partition("/")[0] for key in old} == ({"embeddings", "decisions", "_pruned"} if keep else set())
    assert leftovers(results).keys == ()


def test_missing_results_are_reported(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot read the results"):
        all_runs(Store(str(tmp_path / "nothing")))


def test_a_page_links_to_every_report(moderate: Moderate, results: Store) -> None:
    assert "written: " in moderate("list", "--page")
    page = results.get("reports/index.html").decode()
    for run in (FIRST, SECOND, THIRD, QUARANTINED, BROKEN_OFF):
        assert run in page
    links = re.findall(r'<a href="([^"]+)">', page)
    reports = {run.manifest.report for run in all_runs(results) if run.manifest}
    assert {f"reports/{link}" for link in links} == reports
    assert [state in page for state in ("published", "quarantined", "unfinished")] == [True] * 3
    assert "<script" not in page
