"""What the quality checks find in rows and files: planted defects, each of which one check names."""

import io

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from quality_support import EXPECTED, LIMITS, PATHS, RULES, batch, objects, only, staged

from moderation.errors import ErrorCode, StorageError
from moderation.quality.catalogue import CATALOGUE
from moderation.quality.expectations import Sheet, validate
from moderation.quality.quality_limits import QualityLimits
from moderation.quality.row_checks import check_rows
from moderation.quality.shard_checks import check_shards
from moderation.quality.staged import GROUP_OBJECTS, StagedShard, groups, planned_shards
from moderation.quality.verdicts import Expectation, merge, verdicts
from moderation.results.shard_files import Receipt
from moderation.storage import Store

ITEMS = objects(200)
ROWS = batch(ITEMS, errors=10)
TWICE = pa.concat_tables([ROWS.decisions, ROWS.decisions.slice(5, 1)])
NAN = float("nan")
NOT_NULL = "expect_column_values_to_not_be_null"


def results(found):
    return {verdict.result.name: verdict.result for verdict in found}


def replaced(table, column, row, value):
    """The table with one value changed."""
    values = table[column].to_pylist()
    values[row] = value
    index = table.schema.get_field_index(column)
    field = table.schema.field(column).with_nullable(nullable=True)
    return table.set_column(index, field, pa.array(values, field.type))


def row_of(table, where, among):
    """The number of the first row with these values."""
    for name, value in where.items():
        among = pc.and_(among, pc.equal(table[name], value))
    row = pc.index(among, True).as_py()
    assert row >= 0, where
    return row


def without(table, row):
    return pa.concat_tables([table.slice(0, row), table.slice(row + 1)])


def test_the_rows_that_the_pipeline_writes_pass_every_check():
    found = results(check_rows(ROWS.decisions, ROWS.scores, EXPECTED, LIMITS))
    assert [r for r in found.values() if not r.passed] == []
    assert set(found) == {n for n, about in CATALOGUE.items() if about.level == "rows"} - {
        "shard_files_whole",
        "shard_objects_planned",
    }
    assert set(ROWS.decisions["action"].to_pylist()) == {"allow", "review", "block"}
    assert any(ROWS.decisions["shadow_flags"].to_pylist())
    assert (found["decision_uri_unique"].rows, found["score_present"].rows) == (200, 190 * 3)
    assert (found["score_present"].observed, found["score_present"].limit) == ("all 570 rows pass", "all rows pass")


def match(name, distance=0):
    return {
        "list": name, "entry": "aa" * 32, "label": None, "distance": distance, "frame": None, "turn": None, "entries": 1,
        "restricted": False,
    }  # fmt: skip


OF_A_REVIEW = {"rule": RULES[0], "action": "review"}
SCORED, ERROR, BLOCKED, ALLOWED = {"status": "scored"}, {"status": "error"}, {"action": "block"}, {"action": "allow"}
FAR, NEAR = ({"status": "scored", "near_threshold": near} for near in (False, True))
RULE_0, RULE_1, RULE_2 = ({"rule": rule} for rule in RULES)
DEFECTS = {
    "no ETag": ("decision_columns_present", "decisions", "etag", None, SCORED),
    "another run id": ("row_identity", "decisions", "run_id", "run-0", SCORED),
    "no run id": ("row_identity", "decisions", "run_id", None, SCORED),
    "another policy": ("row_identity", "decisions", "policy_hash", "0" * 16, SCORED),
    "another model": ("row_identity", "decisions", "model_fingerprint", "other", SCORED),
    "another run id in a score": ("row_identity", "scores", "run_id", "run-0", RULE_0),
    "an unknown action": ("decision_values_known", "decisions", "action", "delete", SCORED),
    "an unknown status": ("decision_values_known", "decisions", "status", "lost", SCORED),
    "an error without a code": ("decision_error_complete", "decisions", "error_code", None, ERROR),
    "an error with an unknown code": ("decision_error_complete", "decisions", "error_code", "oops", ERROR),
    "an error without a detail": ("decision_error_complete", "decisions", "error_detail", "", ERROR),
    "a final error marked retryable": ("decision_error_complete", "decisions", "retryable", True, ERROR),
    "a scored row with an error": ("decision_error_complete", "decisions", "error_code", "corrupt", SCORED),
    "a scored row without a digest": ("decision_scored_complete", "decisions", "sha256", None, SCORED),
    "an action weaker than its rule's": ("decision_action_matches", "decisions", "action", "allow", BLOCKED),
    "an action that no rule asks for": ("decision_action_matches", "decisions", "action", "block", ALLOWED),
    "an error that is allowed": ("decision_action_matches", "decisions", "action", "allow", ERROR),
    "a flag that is missing": ("decision_flags_match", "decisions", "flags", [], BLOCKED),
    "a flag too many": ("decision_flags_match", "decisions", "flags", [RULES[0]], ALLOWED),
    "a flag of no rule": ("decision_flags_match", "decisions", "flags", ["ghost"], ALLOWED),
    "a flag twice": ("decision_flags_match", "decisions", "flags", [RULES[0]] * 2, BLOCKED),
    "not flagged": ("decision_flags_match", "decisions", "flagged", False, BLOCKED),
    "a shadow flag as a flag": ("decision_flags_match", "decisions", "shadow_flags", [RULES[0]], ALLOWED),
    "another top rule": ("decision_top_rule_matches", "decisions", "top_rule", RULES[2], BLOCKED),
    "another top score": ("decision_top_rule_matches", "decisions", "top_score", 0.123, SCORED),
    "another top threshold": ("decision_top_rule_matches", "decisions", "top_threshold", 0.123, SCORED),
    "a top threshold of an error": ("decision_top_rule_matches", "decisions", "top_threshold", 0.5, ERROR),
    "a list that the policy does not have": ("decision_lists_known", "decisions", "list_matches", [match("ghost")], SCORED),
    "a match that is too far away": ("decision_lists_known", "decisions", "list_matches", [match("known", 1)], SCORED),
    "a list twice": ("decision_lists_known", "decisions", "list_matches", [match("known"), match("known")], SCORED),
    "a list that did not block": ("decision_action_matches", "decisions", "list_matches", [match("known")], ALLOWED),
    "a list that did not block an error": ("decision_action_matches", "decisions", "list_matches", [match("known")], ERROR),
    "a list that is no flag": ("decision_flags_match", "decisions", "list_matches", [match("known")], ALLOWED),
    "a list that is not the top rule": ("decision_top_rule_matches", "decisions", "list_matches", [match("known")], SCORED),
    "an overridden rule that no list overrides": ("decision_flags_match", "decisions", "overridden", [RULES[0]], BLOCKED),
    "near a threshold that is far": ("decision_near_matches", "decisions", "near_threshold", True, FAR),
    "far from a threshold that is near": ("decision_near_matches", "decisions", "near_threshold", False, NEAR),
    "an error near a threshold": ("decision_near_matches", "decisions", "near_threshold", True, ERROR),
    "a top rule of an error": ("decision_top_rule_matches", "decisions", "top_rule", RULES[0], ERROR),
    "a score of no rule": ("score_rows_complete", "scores", "rule", "ghost", RULE_0),
    "a NaN score": ("score_present", "scores", "score", NAN, RULE_1),
    "no score": ("score_present", "scores", "score", None, RULE_1),
    "no similarity": ("score_present", "scores", "similarity", NAN, RULE_1),
    "a score above 1": ("score_range", "scores", "score", 1.5, RULE_2),
    "an infinite score": ("score_range", "scores", "score", float("inf"), RULE_2),
    "a contrast score below 0": ("score_range", "scores", "score", -0.1, RULE_0),
    "a cosine below -1": ("similarity_range", "scores", "similarity", -1.1, RULE_0),
    "another threshold": ("score_thresholds_match", "scores", "review", 0.4, RULE_0),
    "a threshold too many": ("score_thresholds_match", "scores", "block", 0.9, RULE_1),
    "an action below its threshold": ("score_action_matches", "scores", "action", "block", OF_A_REVIEW),
    "an action above its threshold": ("score_action_matches", "scores", "action", "allow", OF_A_REVIEW),
}
STRUCTURAL = {
    "two decisions of one object": "decision_uri_unique",
    "two scores of one object and rule": "score_key_unique",
    "a score that is missing": "score_rows_complete",
    "scores of no decision": "score_rows_complete",
}


@pytest.fixture(scope="module")
def planted():
    """Every defect in an object of its own: its URI by defect, and what the checks say of all together."""
    tables = {"decisions": ROWS.decisions, "scores": ROWS.scores}
    sound = {"decisions": ROWS.decisions, "scores": ROWS.scores}
    uris = {}

    def free(table, where):
        taken = pa.array(list(uris.values()), pa.string())
        row = row_of(sound[table], where, pc.invert(pc.is_in(sound[table]["uri"], value_set=taken)))
        return row, sound[table]["uri"][row].as_py()

    for defect, (_, table, column, value, where) in DEFECTS.items():
        row, uris[defect] = free(table, where)
        tables[table] = replaced(tables[table], column, row, value)
    rows = {}
    for defect, table in zip(STRUCTURAL, ("decisions", "scores", "scores", "decisions"), strict=True):
        rows[defect], uris[defect] = free(table, SCORED if table == "decisions" else RULE_0)
    twice = {t: tables[t].slice(rows[d], 1) for t, d in (("decisions", DECISION_TWICE), ("scores", SCORE_TWICE))}
    left = {t: without(tables[t], rows[d]) for t, d in (("decisions", DECISION_GONE), ("scores", SCORE_GONE))}
    found = check_rows(*(pa.concat_tables([left[t], twice[t]]) for t in ("decisions", "scores")), EXPECTED, LIMITS)
    return uris, results(found)


DECISION_TWICE, SCORE_TWICE, SCORE_GONE, DECISION_GONE = STRUCTURAL


@pytest.mark.parametrize(("defect", "name"), [*((d, row[0]) for d, row in DEFECTS.items()), *STRUCTURAL.items()])
def test_a_planted_defect_fails_its_check_and_names_the_row(planted, defect, name):
    uris, found = planted
    result = found[name]
    assert not result.passed
    assert uris[defect] in result.examples
    assert len(result.examples) <= 20
    assert result.unexpected >= len(result.examples)
    assert result.hint
    assert str(result).endswith(result.hint)


def test_every_row_check_has_a_planted_defect(planted):
    _, found = planted
    assert {name for name, result in found.items() if result.passed} == set()
    assert set(found) == {row[0] for row in DEFECTS.values()} | set(STRUCTURAL.values())


def test_a_defect_in_every_row_names_twenty_of_them():
    table = ROWS.decisions.drop_columns("policy_hash").append_column("policy_hash", pa.array(["other"] * 200))
    found = results(check_rows(table, ROWS.scores, EXPECTED, only("row_identity")))["row_identity"]
    assert (len(found.examples), found.unexpected, found.rows) == (20, 200, 570)


def test_a_check_warns_or_is_left_out_as_configured():
    limits = QualityLimits.model_validate({"checks": {"decision_uri_unique": "warn", "score_range": "off"}})
    found = results(check_rows(TWICE, ROWS.scores, EXPECTED, limits))
    assert (found["decision_uri_unique"].severity, found["decision_uri_unique"].passed) == ("warn", False)
    assert "score_range" not in found


def test_a_shard_in_which_nothing_could_be_scored_passes():
    rows = batch(ITEMS[:5], errors=5)
    found = check_rows(rows.decisions, rows.scores, EXPECTED, LIMITS)
    assert [v.result for v in found if not v.result.passed] == []


def test_verdicts_of_many_shards_add_up_and_stay_small():
    bad = check_rows(TWICE, ROWS.scores, EXPECTED, only("decision_uri_unique"))
    good = check_rows(ROWS.decisions, ROWS.scores, EXPECTED, only("decision_uri_unique"))
    total = ()
    for _ in range(15):
        total = merge(merge(total, good), bad)
    assert len(total) == 1
    result = total[0].result
    assert (result.passed, result.rows, result.unexpected) == (False, 15 * 401, 30)
    assert result.observed == "30 of 6,015 rows fail"
    assert len(total[0].validations[0].examples) == 20


# --- Shards as they lie in storage --------------------------------------------------------------------------------------------


@pytest.fixture
def output(tmp_path):
    return Store(str(tmp_path / "out"))


def checked(output, receipts, limits=LIMITS):
    (group,) = groups(receipts, planned_shards(output, PATHS))
    return results(check_shards(group, PATHS, output, EXPECTED, limits))


def file_of(receipt, table):
    return PATHS.staged(receipt.attempt, next(e.path for e in receipt.files if e.table == table))


def rewritten(output, key, change):
    buffer = io.BytesIO()
    pq.write_table(change(pq.read_table(io.BytesIO(output.get(key)))), buffer)
    output.put(key, buffer.getvalue())


def test_staged_shards_pass_every_row_check_together(output):
    receipts = [staged(output, n, objects(30, f"folder-{n}")) for n in range(3)]
    found = checked(output, receipts)
    assert [r for r in found.values() if not r.passed] == []
    assert set(found) == {n for n, about in CATALOGUE.items() if about.level == "rows"}
    assert (found["decision_uri_unique"].rows, found["shard_files_whole"].rows) == (90, 9)


def test_files_that_are_not_whole_fail_and_are_named(output):
    receipts = [staged(output, n, objects(30, f"folder-{n}")) for n in range(4)]
    gone, cut, fewer, _ = receipts
    output.delete(file_of(gone, "decisions"))
    output.put(file_of(cut, "scores"), output.get(file_of(cut, "scores"))[:-200])
    rewritten(output, file_of(fewer, "embeddings"), lambda rows: rows.slice(3))
    found = checked(output, receipts)
    damaged = {"decisions": gone, "scores": cut, "embeddings": fewer}
    whole = found["shard_files_whole"]
    assert set(whole.examples) == {PATHS.published(table, receipt.shard) for table, receipt in damaged.items()}
    assert (whole.passed, whole.unexpected, whole.rows) == (False, 3, 12)
    assert not found["shard_objects_planned"].passed
    assert not found["score_rows_complete"].passed


def test_a_file_without_its_columns_is_not_whole(output):
    receipt = staged(output, 0, objects(30))
    rewritten(output, file_of(receipt, "scores"), lambda rows: rows.drop_columns("score"))
    assert not checked(output, [receipt], only("shard_files_whole"))["shard_files_whole"].passed


def test_a_storage_that_does_not_answer_is_no_verdict(output, monkeypatch):
    receipt = staged(output, 0, objects(30))

    def fail(*_):
        raise StorageError(ErrorCode.STORAGE_ERROR, "503")

    monkeypatch.setattr(Store, "open", fail)
    with pytest.raises(StorageError):
        checked(output, [receipt])


def test_rows_that_are_not_the_planned_objects_are_named(output):
    receipt = staged(output, 0, objects(30))
    rewritten(output, file_of(receipt, "decisions"), lambda rows: replaced(rows, "etag", 7, "another version"))
    found = checked(output, [receipt], only("shard_objects_planned"))["shard_objects_planned"]
    assert (found.passed, set(found.examples)) == (False, {"s3://shop/a/007.jpg"})
    rewritten(output, file_of(receipt, "decisions"), lambda rows: rows.slice(2))
    found = checked(output, [receipt], only("shard_objects_planned"))["shard_objects_planned"]
    assert {"s3://shop/a/000.jpg", "s3://shop/a/001.jpg"} <= set(found.examples)
    unplanned = check_shards([StagedShard(receipt, None)], PATHS, output, EXPECTED, only("shard_objects_planned"))
    assert not unplanned[0].result.passed


def test_the_same_object_in_two_shards_is_found(output):
    receipts = [staged(output, 0, objects(30)), staged(output, 1, objects(31)[29:])]
    found = checked(output, receipts, only("decision_uri_unique"))["decision_uri_unique"]
    assert set(found.examples) == {"s3://shop/a/029.jpg"}


def test_small_shards_are_checked_together():
    receipt = Receipt.model_validate(
        {"shard": "s", "attempt": "a", "files": (), "counts": {"scored": 1_000}, "seconds": {}, "aggregates": {}}
    )
    sizes = [len(group) for group in groups([receipt] * 45, {"s": "plan/000000-s.parquet"})]
    assert sizes == [20, 20, 5]
    large = receipt.model_copy(update={"counts": receipt.counts.__class__(scored=GROUP_OBJECTS * 3)})
    assert [len(group) for group in groups([large, receipt, large], {})] == [1, 1, 1]


def test_a_question_that_cannot_be_answered_fails_and_says_why():
    sheet = Sheet(pd.DataFrame({"uri": ["u"]}), "uri", (Expectation("score_present", NOT_NULL, {"column": "score"}, "m"),))
    (found,) = verdicts(validate([sheet]), LIMITS)
    assert not found.result.passed
    assert found.result.observed.startswith("could not be checked: ")
    assert "score" in found.result.observed
