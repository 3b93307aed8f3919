"""What the quality checks find in the sums of a run and against earlier runs; the limits' language; the Data Docs."""

import ast
import html
import json
import pickle
import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT
from quality_support import EXPECTED, LIMITS, NOW, PATHS, POLICY, RULES, batch, objects, only
from support import make_policy

from moderation.quality.catalogue import CATALOGUE
from moderation.quality.data_docs import write_data_docs
from moderation.quality.distance import kolmogorov_smirnov, population_stability_index
from moderation.quality.facts import RunFacts, RunHistory, recent
from moderation.quality.limits_file import parse_limits, read_limits
from moderation.quality.quality_limits import CheckLimits, Checks, QualityLimits, limits_schema
from moderation.quality.row_checks import check_rows
from moderation.quality.run_checks import check_run
from moderation.quality.verdicts import merge
from moderation.records import Counts
from moderation.results.aggregates import Aggregates, ErrorExample, Example, RuleAggregate
from moderation.results.check_results import CheckResult
from moderation.results.rule_statistics import RuleStatistics, rule_statistics

LIMITS_FILE, SCHEMA_FILE, PAGE = (
    ROOT / "policies" / "quality.yaml",
    ROOT / "policies" / "quality.schema.json",
    ROOT / "docs" / "quality.md",
)
SCORED, SHARDS = 1_000, frozenset({"shard-1", "shard-2"})
USUAL = [500, 300, 150, 40, 10]


def of_rule(histogram=USUAL, minimum=0.01, maximum=0.9, action="block"):
    example = Example("s3://shop/<b>&.jpg", "e", maximum, action, "p", 0)
    return RuleAggregate(low=0, high=1, histogram=histogram, minimum=minimum, maximum=maximum, examples=(example,))


def facts(errors=10, flagged=20, aggregates=None, **changes):
    """A run of two shards in which all is well."""
    counts = Counts(
        scored=SCORED,
        blocked=5,
        errored={"corrupt": errors} if errors else {},
        flagged={RULES[0]: flagged},
        shadow={RULES[1]: 20},
    )
    sums = {
        "expected": EXPECTED,
        "listed": SCORED + errors + 7,
        "unchanged": 7,
        "counts": counts,
        "aggregates": aggregates
        or Aggregates(
            rules={rule: of_rule() for rule in RULES},
            errors={"corrupt": tuple(ErrorExample(f"s3://shop/{n}.jpg", "cut short") for n in range(12))},
        ),
        "rows": {"decisions": SCORED + errors, "scores": SCORED * 3, "embeddings": SCORED + 4},
        "planned_shards": SHARDS,
        "staged_shards": SHARDS,
    }
    return RunFacts(**{**sums, **changes})


def earlier(number, flagged=20, histogram=USUAL, scored=SCORED, **changes):
    """A published run, `number` days before this one."""
    rules = {
        rule: RuleStatistics(low=0, high=1, histogram=histogram, scored=scored, flagged=0 if rule == RULES[2] else flagged)
        for rule in RULES
    }
    run = RunHistory(f"earlier-{number}", NOW - timedelta(days=number), POLICY.policy, POLICY.hash, PATHS.fingerprint, rules)
    return replace(run, **changes)


def results(verdicts):
    return {verdict.result.name: verdict.result for verdict in verdicts}


def the_only(name, run, history=(), **limits):
    return results(check_run(run, only(name, **limits), history))[name]


# --- The sums -----------------------------------------------------------------------------------------------------------------


def test_a_sound_run_passes_every_check():
    found = results(check_run(facts(), LIMITS, [earlier(n) for n in range(1, 6)]))
    assert [r for r in found.values() if not r.passed] == []
    assert set(found) == {name for name, about in CATALOGUE.items() if about.level == "run"}
    assert all(r.observed and r.limit and r.hint and not r.examples for r in found.values())
    assert not any("not checked" in r.observed for r in found.values())


def flooded():
    run = facts()
    return replace(run, counts=replace(run.counts, blocked=SCORED * 6 // 10))


def all_to_people():
    run = facts()
    return replace(run, counts=replace(run.counts, review=SCORED * 9 // 10))


def nothing_scored():
    counts = Counts(errored={"access_denied": 9})
    return facts(listed=9, unchanged=0, counts=counts, rows={"decisions": 9})


def constant():
    rules = {RULES[0]: of_rule(minimum=0.4, maximum=0.4), RULES[1]: of_rule()}
    return facts(aggregates=Aggregates(rules=rules))


PLANTED = {
    "an object lost": (
        "accounting",
        lambda: facts(listed=1_018),
        "1,018 listed; 7 unchanged, 1,000 scored, 10 errored",
        (),
    ),
    "an object lost on the way from the store": (
        "accounting",
        lambda: facts(named=1_018),
        "1,017 listed; 7 unchanged, 1,000 scored, 10 errored; 1,018 by the sources' own count",
        (),
    ),
    "half a file": (
        "rows_counted",
        lambda: facts(rows={"decisions": 1_010, "scores": 2_900, "embeddings": 1_000}),
        "1,010 decisions, 2,900 scores, 1,000 embeddings",
        ("scores",),
    ),
    "fewer embeddings than images": (
        "rows_counted",
        lambda: facts(rows={"decisions": 1_010, "scores": 3_000, "embeddings": 999}),
        "1,010 decisions, 3,000 scores, 999 embeddings",
        ("embeddings",),
    ),
    "a shard that is missing": (
        "shards_complete",
        lambda: facts(staged_shards=frozenset({"shard-1"})),
        "1 of 2 planned shards are staged",
        ("shard-2",),
    ),
    "a shard that nobody planned": (
        "shards_complete",
        lambda: facts(staged_shards=SHARDS | {"shard-3"}),
        "2 of 2 planned shards are staged, and 1 that were not planned",
        ("shard-3",),
    ),
    "nothing listed": (
        "empty_run",
        lambda: facts(listed=0, unchanged=0, counts=Counts(), aggregates=Aggregates(), rows={}),
        "0 listed, 0 processed, 0 scored",
        (),
    ),
    "nothing scored": ("empty_run", nothing_scored, "9 listed, 9 processed, 0 scored", 12),
    "30 % errors": ("error_rate", lambda: facts(errors=429), "30 % (429 of 1,429 objects): corrupt 429", 12),
    "a flood": ("flood", flooded, "60 % (600 of 1,000 images); rules that flag most: r0 20", ("s3://shop/<b>&.jpg",)),
    "all images to people": (
        "review_flood",
        all_to_people,
        "90 % (900 of 1,000 images); rules that flag most: r0 20",
        (),
    ),
    "a constant score": ("constant_scores", constant, "one score for all images: r0 (always 0.4)", ("r0",)),
}


@pytest.mark.parametrize("defect", PLANTED)
@pytest.mark.parametrize("severity", ["fail", "warn"])
def test_a_planted_defect_fails_or_warns_and_says_what_to_do(defect, severity):
    name, plant, observed, examples = PLANTED[defect]
    found = the_only(name, plant(), severity=severity)
    assert (found.passed, found.severity, found.observed) == (False, severity, observed)
    assert len(found.examples) == examples if isinstance(examples, int) else found.examples == examples
    assert str(found).startswith(f"{name} ({CATALOGUE[name].description}): {observed} (allowed: ")
    assert str(found).endswith(f"; {CATALOGUE[name].hint}")


def test_small_numbers_are_not_judged():
    few = Counts(scored=10, blocked=9, errored={"corrupt": 4})
    same = Aggregates(rules={RULES[0]: of_rule([10, 0, 0, 0, 0], 0.1, 0.1)})
    run = facts(counts=few, listed=21, aggregates=same, rows={"decisions": 14, "scores": 30, "embeddings": 10})
    found = results(check_run(run, LIMITS, [earlier(1)]))
    assert [r for r in found.values() if not r.passed] == []
    assert found["flood"].observed == "not checked: 10 scored images, 100 needed"
    assert found["constant_scores"].observed == "not checked: 10 scored images, 20 needed"
    assert found["error_rate"].observed == "28.6 % (4 of 14 objects): corrupt 4"


def test_an_incremental_run_may_process_nothing():
    run = facts(listed=0, unchanged=0, counts=Counts(), aggregates=Aggregates(), rows={}, may_be_empty=True)
    assert all(r.passed for r in results(check_run(run, LIMITS)).values())
    unchanged = facts(listed=50, unchanged=50, counts=Counts(), aggregates=Aggregates(), rows={})
    assert the_only("empty_run", unchanged).passed


def test_scores_that_are_no_numbers_are_not_called_constant():
    nan = float("nan")
    assert the_only("constant_scores", facts(aggregates=Aggregates(rules={RULES[0]: of_rule(minimum=nan, maximum=nan)}))).passed
    saturated = of_rule(minimum=1.0e-7, maximum=1.1e-7)
    assert the_only("constant_scores", facts(aggregates=Aggregates(rules={RULES[0]: saturated}))).passed


# --- Against earlier runs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flagged", [200, 201, 999])
@pytest.mark.parametrize("runs", [1, 3, 10])
def test_a_tenfold_flag_rate_fails(flagged, runs):
    found = the_only("flag_rate", facts(flagged=flagged), [earlier(n) for n in range(1, runs + 1)])
    assert (found.passed, found.examples) == (False, (RULES[0],))
    assert found.observed == f"r0 {flagged / 10:g} % where 2 % is usual"
    assert found.limit == "0.2 to 5 times the median of the last 10 runs"


def test_a_flag_rate_that_collapses_fails():
    found = the_only("flag_rate", facts(flagged=1), [earlier(n, flagged=100) for n in range(1, 4)])
    assert found.examples == (RULES[0],)
    assert found.observed == "r0 0.1 % where 10 % is usual"


def test_the_median_is_what_counts_and_a_shadow_rule_counts_too():
    history = [earlier(1, flagged=800), *(earlier(n) for n in (2, 3))]
    assert the_only("flag_rate", facts(), history).passed
    run = facts()
    shadow = replace(run, counts=replace(run.counts, shadow={RULES[1]: 400}))
    assert the_only("flag_rate", shadow, history).examples == (RULES[1],)


def test_a_rule_that_never_flagged_may_flag_a_few_images():
    """Its usual rate is 0, which nothing can be a multiple of."""
    history = [earlier(n, flagged=0) for n in range(1, 4)]
    assert the_only("flag_rate", facts(flagged=20), history).passed
    found = the_only("flag_rate", facts(flagged=21), history)
    assert (found.passed, found.observed) == (False, "r0 2.1 % where 0 % is usual")
    many = [earlier(n, flagged=0, scored=100_000) for n in range(1, 4)]
    assert the_only("flag_rate", facts(flagged=20), many).passed


@pytest.mark.parametrize(
    ("history", "told"),
    [
        ([], "not checked: 0 earlier runs, 1 needed"),
        ([earlier(1, scored=199)], "not checked: 0 earlier runs, 1 needed"),
        ([earlier(1, policy="another")], "not checked: 0 earlier runs, 1 needed"),
        ([earlier(1, run_id=PATHS.run_id)], "not checked: 0 earlier runs, 1 needed"),
    ],
)
def test_without_a_run_to_compare_with_the_flag_rate_is_not_judged(history, told):
    found = the_only("flag_rate", facts(flagged=999), history)
    assert (found.passed, found.observed) == (True, told)


@pytest.mark.parametrize("change", [{"policy_hash": "older"}, {"model_fingerprint": "older"}])
def test_flag_rates_are_compared_across_versions_and_scores_are_not(change):
    history = [earlier(n, histogram=USUAL[::-1], **change) for n in range(1, 4)]
    assert not the_only("flag_rate", facts(flagged=200), history).passed
    assert the_only("drift", facts(), history).observed == "not checked: 0 earlier runs, 3 needed"


@pytest.mark.parametrize("method", ["psi", "ks"])
def test_scores_that_drift_are_a_warning(method):
    drifted = facts(aggregates=Aggregates(rules={RULES[0]: of_rule(USUAL[::-1]), RULES[1]: of_rule()}))
    history = [earlier(n) for n in range(1, 4)]
    limits = QualityLimits.model_validate({"checks": {"drift": {"method": method}}})
    found = results(check_run(drifted, limits, history))["drift"]
    assert (found.passed, found.severity, found.examples) == (False, "warn", (RULES[0],))
    assert re.fullmatch(r"r0 \d\.\d\d", found.observed)
    assert found.limit == {"psi": "psi 0.25", "ks": "ks 0.2"}[method]
    assert results(check_run(facts(), limits, history))["drift"].observed == "largest: r0 0.00"
    short = results(check_run(drifted, limits, history[:1]))["drift"]
    assert (short.passed, short.observed) == (True, "not checked: 1 earlier run, 3 needed")


def test_histograms_of_other_bins_are_not_compared():
    finer = [earlier(n, histogram=[1] * 1_000) for n in range(1, 4)]
    assert the_only("drift", facts(), finer).passed


def test_only_the_latest_runs_are_compared_with():
    history = [*(earlier(n, flagged=200) for n in range(11, 30)), *(earlier(n) for n in range(1, 11))]
    assert the_only("flag_rate", facts(), history).observed.startswith("largest change: ")
    assert not the_only("flag_rate", facts(flagged=200), history).passed


def test_of_the_earlier_runs_no_more_are_kept_than_needed():
    seen = []

    def runs():
        for number in range(1, 200):
            seen.append(number)
            yield earlier(number, policy_hash="older" if number % 3 else POLICY.hash)

    kept = recent(runs(), EXPECTED, LIMITS)
    assert len(seen) == 199
    assert {r.run_id for r in kept} >= {f"earlier-{n}" for n in range(1, 11)}
    assert {r.run_id for r in kept if r.policy_hash == POLICY.hash} == {f"earlier-{3 * n}" for n in range(1, 11)}
    assert len(kept) <= 20
    assert recent([earlier(1, scored=10), earlier(2, policy="another", policy_hash="x")], EXPECTED, LIMITS) == ()


def test_the_facts_and_verdicts_travel_between_processes():
    verdicts = check_run(facts(), only("accounting"), [earlier(1)])
    for value in (facts(), EXPECTED, LIMITS, earlier(1), verdicts):
        assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301


def test_the_statistics_of_a_run_survive_its_manifest():
    nan = float("nan")
    run = Aggregates(rules={"r0": of_rule(), "r1": of_rule(minimum=nan, maximum=nan)})
    found = rule_statistics(run, Counts(flagged={"r0": 3}, shadow={"r0": 4}))
    assert (found["r0"].scored, found["r0"].flagged, found["r0"].flag_rate) == (1_000, 7, 0.007)
    assert (found["r1"].minimum, found["r1"].flag_rate) == (None, 0)
    assert {k: RuleStatistics.model_validate_json(v.model_dump_json()) for k, v in found.items()} == found


def test_results_in_manifests_of_earlier_versions_can_still_be_read():
    old = {"name": "score_present", "description": "d", "severity": "fail", "passed": False, "unexpected": 3, "examples": ["u"]}
    assert str(CheckResult.model_validate(old)) == "score_present (d): 3 rows, e.g. u"


# --- Distances ----------------------------------------------------------------------------------------------------------------

counts = st.lists(st.integers(0, 10_000), min_size=5, max_size=5).filter(any)


@given(counts, counts)
def test_distances_are_symmetric_and_never_negative(a, b):
    for distance in (population_stability_index, kolmogorov_smirnov):
        assert distance(a, b) == pytest.approx(distance(b, a))
        assert distance(a, b) >= 0
    assert kolmogorov_smirnov(a, b) <= 1


@given(counts, st.integers(1, 50))
def test_histograms_of_one_shape_are_at_no_distance(a, times):
    assert population_stability_index(a, [n * times for n in a]) == pytest.approx(0, abs=1e-12)
    assert kolmogorov_smirnov(a, [n * times for n in a]) == pytest.approx(0, abs=1e-12)


def test_distances_are_those_of_the_textbook():
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.3, 0.3, 0.4])
    expected = (0.2 - 0.3) * np.log(0.2 / 0.3) + (0.5 - 0.4) * np.log(0.5 / 0.4)
    assert population_stability_index(p * 100, q * 1_000) == pytest.approx(expected)
    assert kolmogorov_smirnov(p * 100, q * 1_000) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="empty histogram"):
        population_stability_index([0, 0], [1, 2])


# --- Limits -------------------------------------------------------------------------------------------------------------------


def test_the_file_of_limits_says_every_default():
    read = read_limits(LIMITS_FILE)
    assert (read.limits, read.findings) == (QualityLimits(), ())
    text = LIMITS_FILE.read_text()
    for name, check in QualityLimits().checks:
        block = re.search(rf"^  {name}:(.*\n(?:    .*\n|\n)*)", text, re.M).group(1)
        for key, value in check:
            written = f"{value:g}" if isinstance(value, float) else value
            short = type(check) is CheckLimits and re.match(rf" {written}\b", block)
            assert short or re.search(rf"^    {key}: {written}\b", block, re.M), (name, key)


def test_without_a_file_the_defaults_hold():
    assert read_limits(None).limits == QualityLimits()
    assert QualityLimits().severity("drift") == "warn"
    assert QualityLimits.model_validate({"checks": {"drift": "off"}}).severity("drift") is None


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("", ["q.yaml:1:1: the file is empty\n  start with `checks:`"]),
        ("- a\n", ["q.yaml:1:1: quality limits are a mapping of keys\n  1 | - a\n    | ^\n  start with `checks:`"]),
        (
            "checks:\n",
            [
                "q.yaml:1:1: `checks` should be a mapping\n  1 | checks:\n    | ^^^^^^\n"
                "  write {key: value}, or a line for each key"
            ],
        ),
        (
            "chekcs: {}\n",
            [
                "q.yaml:1:1: unknown key `chekcs`\n  1 | chekcs: {}\n    | ^^^^^^\n  did you mean `checks`? "
                "known keys: checks, reviews"
            ],
        ),
        (
            "checks:\n  flod: off\n  flod: warn\n",
            [
                "q.yaml:2:3: unknown key `flod`\n  2 |   flod: off\n    |   ^^^^\n  did you mean `flood`?",
                "q.yaml:3:3: the key `flod` appears twice, first in line 2\n"
                "  3 |   flod: warn\n    |   ^^^^\n  remove one of them",
            ],
        ),
        (
            'checks:\n  error_rate: {limit: 5, at_least: 0.5}\n  flood: of\n  drift: {psi: "1", runs: 2}\n',
            [
                "q.yaml:2:23: `limit` should be at most 1, not 5\n  2 |   error_rate: {limit: 5, at_least: 0.5}\n"
                "    |                       ^\n  shares are written as 0.05 for 5 %",
                "q.yaml:2:36: `at_least` should be a whole number, not 0.5\n  2 |   error_rate: {limit: 5, at_least: 0.5}\n"
                "    |                                    ^^^\n  write 100, without a point and without quotes",
                "q.yaml:3:3: `flood` should be warn | fail | off, not 'of'\n  3 |   flood: of\n    |   ^^^^^\n"
                "  did you mean `off`?",
                """q.yaml:4:3: `min_runs` (3) is above `runs` (2): nothing would ever be checked\n"""
                """  4 |   drift: {psi: "1", runs: 2}\n    |   ^^^^^\n  set min_runs at or below runs""",
                """q.yaml:4:16: `psi` should be a number, not '1'\n  4 |   drift: {psi: "1", runs: 2}\n"""
                """    |                ^^^\n  write 0.05, with a point and without quotes""",
            ],
        ),
        (
            "checks: {flag_rate: {high: .inf, lwo: 1}}\n",
            [
                "q.yaml:1:28: `high` should be a finite number\n  1 | checks: {flag_rate: {high: .inf, lwo: 1}}\n"
                "    |                            ^^^^\n  write `off` to switch a check off",
                "q.yaml:1:34: unknown key `lwo`\n  1 | checks: {flag_rate: {high: .inf, lwo: 1}}\n"
                "    |                                  ^^^\n  did you mean `low`? known keys: "
                "severity, runs, min_runs, at_least, low, high, floor, difference",
            ],
        ),
        ("checks: !!python/object:os.system {}\n", None),
        ("checks: {flood: [off]}\n", None),
        ("checks: [\n", None),
        ("checks: {flood: {limit: true}}\n", None),
        ("checks:\n\tflood: off\n", None),
    ],
)
def test_every_mistake_in_a_limits_file_is_reported_at_its_place(text, messages):
    read = parse_limits(text, "q.yaml")
    assert read.limits is None
    assert messages is None or [str(finding) for finding in read.findings] == messages
    assert all(re.match(r"q\.yaml:1:\d+: |q\.yaml:[2-4]:\d+: ", str(finding)) for finding in read.findings)
    assert read.findings
    assert "policy" not in str(read.findings)


def test_a_limits_file_that_cannot_be_read_is_reported(tmp_path):
    (finding,) = read_limits(tmp_path / "none.yaml").findings
    assert finding.message == "cannot read the quality limits: no such file or directory"
    (tmp_path / "latin.yaml").write_bytes(b"checks: {}  # \xe4\n")
    assert read_limits(tmp_path / "latin.yaml").findings[0].message == "not UTF-8"
    (tmp_path / "large.yaml").write_bytes(b"#" * (1 << 21))
    assert read_limits(tmp_path / "large.yaml").findings[0].hint == "is this a file of quality limits?"


def test_the_schema_for_editors_is_the_one_in_the_repository_and_agrees_with_the_models():
    schema = json.loads(SCHEMA_FILE.read_text())
    assert schema == limits_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(QualityLimits().model_dump())
    validator.validate({"checks": {"drift": "off", "flood": {"limit": 0.7}}})
    for wrong in ({"cheks": {}}, {"checks": {"flod": "off"}}, {"checks": {"flood": {"limit": 7}}}, {"checks": {"flood": "of"}}):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(wrong)


# --- What is written about the checks -----------------------------------------------------------------------------------------


def test_every_check_has_limits_words_and_a_line_in_the_documentation():
    assert list(Checks.model_fields) == list(CATALOGUE)
    page = PAGE.read_text()
    told = re.findall(r"^### `(\w+)`$", page, re.M)
    assert told == list(CATALOGUE)
    for name, check in QualityLimits().checks:
        part = page.split(f"### `{name}`")[1].split("\n### ")[0].split("\n## ")[0]
        assert f"Default: **{check.severity}**" in part, name
        assert "**What to do.**" in part, name
        for key, value in check:
            assert key == "severity" or re.search(rf"`{key}: {value:g}`" if key != "method" else f"`{key}: {value}`", part), (
                name,
                key,
            )
    for example in re.findall(r"```yaml\n(.*?)```", page, re.S):
        assert parse_limits(example).findings == ()
    for about in CATALOGUE.values():
        assert about.hint[0].islower()
        assert "\n" not in about.hint + about.description
        assert not about.hint.endswith(".")


def test_great_expectations_is_imported_in_one_file():
    importing = []
    for path in (ROOT / "moderation" / "quality").rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        names = [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
        names += [n.module or "" for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
        if any(name.split(".")[0] == "great_expectations" for name in names):
            importing.append(path.name)
    assert importing == ["expectations.py"]


# --- Data Docs ----------------------------------------------------------------------------------------------------------------


def elements(page):
    """Every element of a page: its name and attributes."""
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.append((tag, {k: v or "" for k, v in attributes}))
    parser.feed(page)
    return found


def test_data_docs_show_every_check_load_nothing_and_run_nothing(tmp_path):
    evil = objects(3, "<img src=https://evil.example onerror=alert(1)>$x\u202e")
    rows = batch(evil, errors=1)
    by_row = check_rows(rows.decisions.slice(1), rows.scores, EXPECTED, LIMITS)
    verdicts = merge(by_row, check_run(facts(errors=429, flagged=200), LIMITS, [earlier(1)]))
    index = write_data_docs(verdicts, "run-1", "test 7", tmp_path / "docs")
    assert sorted(p.name for p in index.parent.iterdir()) == ["index.html", "rows.html", "run.html"]
    pages = {path.stem: path.read_text("utf-8") for path in index.parent.iterdir()}
    for page in pages.values():
        assert "default-src 'none'" in page
        assert "@import" not in page
        assert "url(" not in page
        for tag, attributes in elements(page):
            assert tag not in ("script", "img", "iframe", "object", "form", "input")
            assert not [name for name in attributes if name.startswith("on")]
            target = attributes.get("href", attributes.get("src", "#"))
            assert target.startswith("#") or target in ("data:,", "index.html", "rows.html", "run.html", "../report.html")
        assert '<a href="../report.html">Back to the report</a>' in page
        assert len(page) < 100_000
    index_page, rows_page, run_page = (html.unescape(pages[name]) for name in ("index", "rows", "run"))
    for verdict in verdicts:
        assert verdict.result.name in index_page
        assert verdict.result.name in (rows_page if CATALOGUE[verdict.result.name].level == "rows" else run_page)
    assert "&lt;img src=https://evil.example onerror=alert(1)&gt;$x‹U+202E›/" in pages["rows"]
    assert "30 % (429 of 1,429 objects): corrupt 429" in index_page
    assert CATALOGUE["error_rate"].hint in index_page
    assert CATALOGUE["drift"].hint not in index_page


def test_data_docs_of_a_run_without_rows_say_so(tmp_path):
    index = write_data_docs(check_run(facts(), only("accounting")), "run-1", "test", tmp_path)
    assert "there was nothing to check" in (index.parent / "rows.html").read_text()
    assert "No checks were made" in write_data_docs((), "run-1", "test", tmp_path / "none").read_text()


def test_a_policy_with_other_rules_expects_other_rows():
    rows = batch(objects(20))
    other = replace(EXPECTED, policy=make_policy({"review": 0.4}))
    failed = {v.result.name for v in check_rows(rows.decisions, rows.scores, other, LIMITS) if not v.result.passed}
    assert {"row_identity", "score_rows_complete", "score_thresholds_match"} <= failed
