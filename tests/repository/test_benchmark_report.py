"""`make bench`: what becomes of figures, and of benchmarks that give none."""

import json
import re
import time
import tomllib
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.__main__ import BENCHMARKS, HERE, REASONS, main
from benchmarks.figures import Figure
from benchmarks.report import NAMES, Entry, completed, from_json, to_json, to_markdown
from benchmarks.running import Benchmark, run, with_missing

OF_THE_ISSUE = (
    "pipeline_over_limit",
    "vs_ray_data_500x375",
    "vs_plain_loop_500x375",
    "vs_ray_data_12mp",
    "decode_500x375_vs_pillow",
    "decode_12mp_vs_pillow",
    "get_vs_boto3",
    "redecide_images_per_s",
    "driver_memory_growth_mb",
    "driver_us_per_image",
    "driver_two_workers_over_one",
    "cpu_vit_b32_vs_fp32",
    "cpu_vit_b32_int8_vs_fp32",
    "list_match_1m_s",
    "list_match_us_per_image",
    "review_queue_page_s",
    "effective_decisions_count_s",
    "gpu_encode_over_bare",
    "gpu_end_to_end_over_bare",
)
FIGURES = ("name", "value", "unit", "target", "min", "max", "runs")
GOOD = Figure.of("vs_ray_data_12mp", [3.5, 3.1, 9.0], "times", 3)
SHORT = Figure.of("pipeline_over_limit", [0.71, 0.7123, 0.72], "", 0.85)
LOW = Figure.of("driver_us_per_image", [7.04], "µs", 8, lower_is_better=True)
MACHINE = ("2 cores of Abacus, 24 GB of memory, no GPU", "Linux, Python 3.11", "2026-11-21")


def entry(figure: Figure, module: str = "some") -> Entry:
    return Entry(figure, module, *MACHINE)


def rows(page: str) -> dict[str, list[str]]:
    """The cells of the tables' rows by the figure's name."""
    found = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        name = next((cell.strip("`") for cell in cells if cell.startswith("`")), None)
        if name:
            found[name] = cells
    return found


def test_the_promised_names_are_always_there_and_first() -> None:
    entries = completed([entry(Figure.of("zebra", [1], "s")), entry(LOW), entry(GOOD)])
    assert NAMES == OF_THE_ISSUE
    assert tuple(e.figure.name for e in entries) == (*OF_THE_ISSUE, "zebra")
    written = json.loads(to_json(entries))
    assert [row["name"] for row in written] == [*OF_THE_ISSUE, "zebra"]
    assert all(set(FIGURES) <= set(row) for row in written)
    missing = written[0]
    assert (missing["value"], missing["target"], missing["runs"], missing["note"]) == (None, 0.85, 0, report.NOT_RUN)


def test_the_target_is_the_promises_whatever_a_benchmark_says() -> None:
    for given in (Figure.of("driver_us_per_image", [24.0], "µs"), Figure("driver_us_per_image", None, "")):
        figure = completed([entry(given)])[NAMES.index("driver_us_per_image")].figure
        assert (figure.value, figure.unit, figure.target, figure.lower_is_better) == (given.value, "µs", 8, True)


def test_every_promise_has_one_benchmark_that_measures_it() -> None:
    owed = [name for benchmark in BENCHMARKS for name in benchmark.promised]
    assert sorted(owed) == sorted(OF_THE_ISSUE)


def test_benchmark_results_survive_writing_and_reading() -> None:
    entries = completed([entry(SHORT), entry(GOOD), entry(Figure("odd", None, "", note='a "quoted" note, µs'))])
    assert from_json(to_json(entries)) == entries
    assert to_json(entries).count("\n") == len(entries) + 2


def test_the_page_says_what_is_reached_what_is_not_and_what_was_not_measured() -> None:
    page = to_markdown(
        completed([entry(GOOD), entry(SHORT), entry(LOW)]), {"pipeline_over_limit": "threads wait for each other"}
    )
    cells = rows(page)
    assert cells["vs_ray_data_12mp"][2:] == ["3.5 times", "3.1 … 9", "3", "≥ 3 times", "yes"]
    assert cells["pipeline_over_limit"][2:] == ["0.712", "0.71 … 0.72", "3", "≥ 0.85", "**no**"]
    assert cells["driver_us_per_image"][2:] == ["7.04 µs", "7.04 … 7.04", "1", "≤ 8 µs", "yes"]
    assert cells["gpu_encode_over_bare"][2:] == ["not measured", "", "", "≥ 0.95", ""]
    assert "- `pipeline_over_limit`: falls short: threads wait for each other" in page
    assert f"- `gpu_encode_over_bare`: not measured: {report.NOT_RUN}" in page
    assert MACHINE[0] in page
    assert MACHINE[1] in page


def test_a_missed_target_without_a_reason_is_reported() -> None:
    assert "- `pipeline_over_limit`: falls short: no reason is written down" in to_markdown(completed([entry(SHORT)]), {})


def test_a_target_is_reached_on_its_own_side() -> None:
    low = Figure.of("low", [20.0, 21.0, 22.0], "µs", 20, lower_is_better=True)
    assert (GOOD.reached, SHORT.reached, LOW.reached, low.reached) == (True, False, True, False)
    assert (Figure("none", None, "", 1).reached, Figure.of("free", [1], "").reached) == (None, None)


def test_text_of_a_figure_cannot_break_the_page() -> None:
    hostile = Figure.of("odd|name", [1], "a|b", note="first\nsecond <script>alert(1)</script> | third & fourth")
    page = to_markdown(completed([entry(hostile, "a|b<i>")]), {})
    assert rows(page)["odd\\|name"] == ["`odd\\|name`", "1 a\\|b", "1 … 1", "1", "", ""]
    assert "first second &lt;script>" in page
    assert "<script>" not in page
    assert "<i>" not in page


def test_figures_of_several_machines_say_where_they_come_from() -> None:
    elsewhere = Entry(Figure.of("gpu_encode_over_bare", [0.97], "", 0.95), "gpu", "16 cores, 1 x H200", "Linux", "2026-11-22")
    page = to_markdown(completed([entry(GOOD, "against_peers"), elsewhere]), {})
    assert "- 2026-11-21, 2 cores of Abacus, 24 GB of memory, no GPU; Linux, Python 3.11: against_peers" in page
    assert "- 2026-11-22, 16 cores, 1 x H200; Linux: gpu" in page


def test_what_is_written_by_hand_is_kept(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    assert report.kept_by_hand(page) == ""
    page.write_text(to_markdown(completed([]), {}, "## Chaos\n\nIt | held."))
    again = to_markdown(completed([entry(GOOD)]), {}, report.kept_by_hand(page))
    assert again.endswith("## Chaos\n\nIt | held.\n")
    assert again.count(report.BY_HAND) == 1


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Benchmarks that do well and badly, as modules."""
    modules = {
        "good": "print('words')\nemit([Figure.of('get_vs_boto3', [9, 10, 11], 'times', 8), Figure.of('more', [1], 's')])",
        "failing": "emit([Figure.of('driver_us_per_image', [6.5], 'µs', 8)])\nraise SystemExit('no luck')",
        "silent": "",
        "odd": "print('{\"name\": 1}')",
        "slow": "import time\nemit([Figure.of('before', [1], 's')])\ntime.sleep(60)",
        "no_gpu": "emit([Figure('gpu_encode_over_bare', None, '', 0.95, note='no CUDA device here')])",
    }
    for name, code in modules.items():
        (tmp_path / f"bench_{name}.py").write_text(f"from benchmarks.figures import Figure, emit\n{code}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_a_benchmark_that_fails_loses_only_its_own_figures(written: Path, capfd: pytest.CaptureFixture[str]) -> None:
    benchmarks = [
        Benchmark("driver", "bench_failing", 30, ("driver_memory_growth_mb", "driver_us_per_image")),
        Benchmark("missing", "bench_that_is_not_there", 30),
        Benchmark("get", "bench_good", 30, ("get_vs_boto3",)),
        Benchmark("silent", "bench_silent", 30, ("pipeline_over_limit",)),
        Benchmark("odd", "bench_odd", 30, ("redecide_images_per_s",)),
        Benchmark("gpu", "bench_no_gpu", 30),
    ]
    assert main(["--output", str(written / "out")], benchmarks) == 1
    found = {e.figure.name: e for e in from_json((written / "out/results.json").read_text())}
    assert (found["get_vs_boto3"].figure.value, found["more"].figure.value) == (10, 1)
    assert found["driver_us_per_image"].figure.value == 6.5
    notes = {name: e.figure.note for name, e in found.items() if e.figure.value is None}
    assert notes["driver_memory_growth_mb"] == "bench_failing ended with exit code 1, its own words are on stderr"
    assert notes["missing"].startswith("bench_that_is_not_there ended with exit code 1")
    assert notes["pipeline_over_limit"] == "bench_silent did not report it"
    assert notes["redecide_images_per_s"] == "bench_odd printed a line that is no figure"
    assert notes["gpu_encode_over_bare"] == "no CUDA device here"
    assert tuple(found)[: len(OF_THE_ISSUE)] == OF_THE_ISSUE
    cells = rows((written / "out/RESULTS.md").read_text())
    assert (cells["driver_memory_growth_mb"][2], cells["get_vs_boto3"][2]) == ("not measured", "10 times")
    said = capfd.readouterr().err
    assert "no luck" in said
    assert "== failed: driver, missing, odd" in said


def test_running_some_benchmarks_keeps_the_figures_of_the_others(written: Path) -> None:
    benchmarks = [Benchmark("get", "bench_good", 30, ("get_vs_boto3",)), Benchmark("gpu", "bench_no_gpu", 30)]
    arguments = ["--output", str(written)]
    assert main(arguments, benchmarks) == 0
    (written / "RESULTS.md").write_text((written / "RESULTS.md").read_text() + f"\n{report.BY_HAND}\n\nBy hand.\n")
    (written / "bench_good.py").write_text(
        "from benchmarks.figures import *\nemit([Figure.of('get_vs_boto3', [12], 'times', 8)])\n"
    )
    assert main([*arguments, "--only", "get"], benchmarks) == 0
    found = {e.figure.name: e.figure for e in from_json((written / "results.json").read_text())}
    assert found["get_vs_boto3"].value == 12
    assert "more" not in found
    assert found["gpu_encode_over_bare"].note == "no CUDA device here"
    assert (written / "RESULTS.md").read_text().endswith("By hand.\n")


def test_a_benchmark_that_takes_too_long_is_stopped_and_keeps_its_figures(written: Path) -> None:
    slow = Benchmark("slow", "bench_slow", 30, ("pipeline_over_limit",))
    began = time.monotonic()
    measured = run(slow, 1.5)
    assert time.monotonic() - began < 15
    assert measured.failure == "bench_slow took more than 2 s"
    assert [figure.name for figure in measured.figures] == ["before"]
    assert [figure.name for figure in with_missing(slow, measured)] == ["before", "pipeline_over_limit"]
    assert run(slow, 0).failure == "there was no time left for it: give more with --minutes"


def test_a_wrong_name_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--only", "decode,gte", "--output", str(tmp_path)])
    assert stopped.value.code == 2
    assert "there is no benchmark gte: choose among decode, get," in capsys.readouterr().err


def test_the_committed_results_are_complete_and_name_no_machine_paths() -> None:
    entries = from_json((HERE / "results.json").read_text())
    page = (HERE / "RESULTS.md").read_text()
    assert tuple(e.figure.name for e in entries[: len(OF_THE_ISSUE)]) == OF_THE_ISSUE
    reasons = tomllib.loads(REASONS.read_text())
    assert set(reasons) <= {e.figure.name for e in entries}
    assert page == to_markdown(entries, reasons, report.kept_by_hand(HERE / "RESULTS.md"))
    for text in (page, to_json(entries)):
        assert not re.search(r"(?<![\w.])/(home|work|tmp|root|usr|var|opt)/|\b\d{1,3}(\.\d{1,3}){3}\b|https?://", text)


def test_numbers_have_three_digits_that_count() -> None:
    values = {"tiny": 1.5e-7, "part": 0.98765, "some": 12.345, "many": 307_111.13, "whole": 2.0}
    page = to_markdown(completed([entry(Figure.of(name, [value], "s")) for name, value in values.items()]), {})
    found = {name: cells[1] for name, cells in rows(page).items() if name in values}
    assert found == {"tiny": "1.5e-07 s", "part": "0.988 s", "some": "12.3 s", "many": "307,111 s", "whole": "2 s"}
