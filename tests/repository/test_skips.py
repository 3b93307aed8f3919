"""Skips: counted with their reasons in the last line, forbidden in CI, and asked for in one way only."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import needs
import pytest
import skips
from places import TESTS

CI = TESTS.parent / ".ci" / "run"

KINDS = {
    "mark": "@pytest.mark.skip(reason='why')\ndef test_it(): pass",
    "condition": "@pytest.mark.skipif(True, reason='why')\ndef test_it(): pass",
    "call": "def test_it(): pytest.skip('why')",
    "fixture": "@pytest.fixture\ndef part(): pytest.skip('why')\n\ndef test_it(part): pass",
    "unittest": "import unittest\n\ndef test_it(): raise unittest.SkipTest('why')",
    "case": "@pytest.mark.parametrize('n', [pytest.param(1, marks=pytest.mark.skip(reason='why'))])\ndef test_it(n): pass",
    "no_cases": "@pytest.mark.parametrize('why', [])\ndef test_it(why): pass",
    "expected_failure": "@pytest.mark.xfail(reason='why')\ndef test_it(): assert False",
    "expected_failure_not_run": "@pytest.mark.xfail(run=False, reason='why')\ndef test_it(): pass",
    "import": "pytest.importorskip('no_such_library', reason='why')\n\ndef test_it(): pass",
    "file": "pytest.skip('why', allow_module_level=True)\n\ndef test_it(): pass",
    "file_mark": "pytestmark = pytest.mark.skip(reason='why')\n\ndef test_it(): pass",
    "later": "def test_it(subtests):\n    with subtests.test():\n        pytest.skip('why')",
}
"""Every way to leave out a test."""


def run(folder: Path, *arguments: str, forbid: str = "1") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FORBID_SKIPS": forbid, "PYTHONPATH": str(TESTS / "helpers")}
    words = ["-p", "skips", "-p", "no:cacheprovider", "--rootdir", str(folder), "-c", os.devnull, str(folder), *arguments]
    command = [sys.executable, "-m", "pytest", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False, timeout=240)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for each way, and one whose test runs."""
    folder = tmp_path_factory.mktemp("skipping")
    for name, code in KINDS.items():
        (folder / f"test_{name}.py").write_text(f"import pytest\n\n{code}\n")
    (folder / "test_runs.py").write_text("def test_it(): pass\n")
    return folder


@pytest.mark.parametrize("processes", [[], ["-p", "xdist", "-n", "2"]], ids=["one process", "two processes"])
def test_where_skips_are_forbidden_each_kind_fails(folder: Path, processes: list[str]) -> None:
    done = run(folder, *processes, "--continue-on-collection-errors")
    assert done.returncode == 1, done.stdout
    failed = set(re.findall(r"^(?:FAILED|ERROR|SUBFAILED\S*) (?:\S*/)?test_(\w+)\.py", done.stdout, re.MULTILINE))
    assert failed == set(KINDS), done.stdout
    assert done.stdout.count("FORBID_SKIPS=1 forbids") >= len(KINDS)
    assert done.stdout.splitlines()[-1] == "0 skipped"


def test_where_skips_are_allowed_the_last_line_counts_them_with_reasons(folder: Path) -> None:
    done = run(folder, "-p", "xdist", "-n", "2", forbid="0")
    assert done.returncode == 0, done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"{len(KINDS)} skipped: ")
    counted = dict(re.fullmatch(r"(\d+) (.*)", part).groups()[::-1] for part in last.partition(": ")[2].split("; "))
    assert counted.pop("why") == "10"
    assert {counted.pop(reason) for reason in list(counted) if reason.startswith("expected to fail: ")} == {"1"}
    assert sum(map(int, counted.values())) == 1


def test_a_listed_test_may_be_skipped_for_its_listed_reason_only() -> None:
    entry = skips.Allowed("needs root", ("test_a.py::test_it", "test_b.py::Group::test_it"), "because")
    assert entry.covers("tests/test_a.py::test_it", "needs root")
    assert entry.covers("tests/test_a.py::test_it[a/b::c]", "needs root")
    assert entry.covers("tests/test_b.py::Group::test_it", "needs root")
    assert not entry.covers("tests/test_a.py::test_other", "needs root")
    assert not entry.covers("tests/test_b.py::test_it", "needs root")
    assert not entry.covers("tests/test_a.py::test_it", "needs root and more")


def test_shared_data_may_be_absent_as_a_whole_only(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    reason = "needs ../shared/data"
    assert skips.Allowed(reason, ("*",), "because", str(tmp_path / "no")).covers("tests/test_a.py::test_it", reason)
    assert not skips.Allowed(reason, ("*",), "because", str(tmp_path / "shared")).covers("tests/test_a.py::test_it", reason)


def test_the_list_names_tests_that_there_are_and_says_why() -> None:
    for entry in skips.allowed():
        assert entry.reason.startswith("needs ")
        assert entry.why
        for test in entry.tests if entry.tests != ("*",) else ():
            file, _, function = test.partition("::")
            assert f"def {function.rpartition('::')[2]}(" in next(TESTS.rglob(file)).read_text(), test
        assert entry.tests != ("*",) or entry.where_absent


def test_a_need_names_what_it_is_and_how_to_get_it() -> None:
    missing = needs.needs_program("no-such-program", "apt-get install it")
    with pytest.raises(pytest.skip.Exception, match=r"^needs no-such-program: apt-get install it$"):
        needs.require(missing)
    needs.require(needs.needs_program("no-such-program", "", "sh"))
    assert Path(needs.find_program("sh")).is_file()
    assert needs.find_program("no-such-program") is None


def test_no_test_skips_itself_by_hand() -> None:
    by_hand = [
        f"{path.name}:{node.lineno}: say it with tests/helpers/needs.py"
        for path in sorted(TESTS.rglob("*.py"))
        if path.name not in ("needs.py", Path(__file__).name)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"skip", "skipif", "xfail", "importorskip", "SkipTest"}
    ]
    assert not by_hand


def test_ci_installs_what_tests_name() -> None:
    named = {
        package
        for path in TESTS.rglob("*.py")
        if path.name not in (Path(__file__).name, "test_benchmark_peers.py")
        for package in re.findall(r'"apt-get install ([\w+.-]+)"', path.read_text())
    }
    assert {"chromium", "nginx-light", "fonts-noto-color-emoji"} <= named
    not_in_make_test = {"postgresql", "bash", "python3"}  # e2e tests; what .ci/run itself runs in
    assert {
        name for name in named - not_in_make_test if not re.search(rf"[\s(]{re.escape(name)}[\s)]", CI.read_text())
    } == set()
    assert "FORBID_SKIPS=1 make test" in CI.read_text()
