"""Row-level checks: what must hold in every row of every shard."""

import pyarrow as pa

from moderation.policy.decision import ACTIONS
from moderation.quality.catalogue import SIGNED_KINDS
from moderation.quality.expectations import Sheet, validate
from moderation.quality.facts import ExpectedRows
from moderation.quality.quality_limits import QualityLimits
from moderation.quality.row_frames import row_frames
from moderation.quality.verdicts import Argument, Expectation, Verdict, verdicts


def check_rows(decisions: pa.Table, scores: pa.Table, expected: ExpectedRows, limits: QualityLimits) -> tuple[Verdict, ...]:
    """Check the rows of one shard, or of several together, in the schemas of `moderation.results.schemas`."""
    return verdicts(validate(row_sheets(decisions, scores, expected, limits)), limits)


def row_sheets(decisions: pa.Table, scores: pa.Table, expected: ExpectedRows, limits: QualityLimits) -> tuple[Sheet, Sheet]:
    """Rows with the questions about them; those of checks that are off are left out."""
    frames = row_frames(decisions, scores, expected)
    return (
        Sheet(frames.decisions, "uri", _wanted(decision_expectations(expected), limits)),
        Sheet(frames.scores, "uri", _wanted(score_expectations(expected), limits)),
    )


def decision_expectations(expected: ExpectedRows) -> tuple[Expectation, ...]:
    """The questions about decision rows."""
    return (
        _unique("decision_uri_unique", "uri"),
        *(_present("decision_columns_present", column) for column in ("uri", "etag", "status", "action", "scored_at")),
        _among("row_identity", "run_id", [expected.run_id], "`run_id` is the run's own"),
        _among("row_identity", "policy_hash", [expected.policy.hash], "`policy_hash` is the policy's own"),
        _among("row_identity", "model_fingerprint", [expected.model_fingerprint], "`model_fingerprint` is the model's own"),
        _among("decision_values_known", "status", ["scored", "error"], "`status` is scored or error"),
        _among("decision_values_known", "action", [a.value for a in ACTIONS], "`action` is allow, review or block"),
        _true("decision_error_complete", "error_complete", "error rows have a known code, a detail and the code's `retryable`"),
        _true("decision_scored_complete", "scored_complete", "scored rows have format, width, height, frames and SHA-256"),
        _true("decision_action_matches", "action_matches", "`action` is the strongest of the live rules"),
        _true("decision_flags_match", "flags_match", "`flagged`, `flags` and `shadow_flags` name the rules that act"),
        _true(
            "decision_top_rule_matches", "top_rule_matches", "`top_rule` decided, `top_score` and `top_threshold` are its own"
        ),
        _true("decision_near_matches", "near_matches", "`near_threshold` says whether a live rule's score is near a threshold"),
        _true("score_rows_complete", "scores_complete", "a scored object has a score under every active rule"),
    )


def score_expectations(expected: ExpectedRows) -> tuple[Expectation, ...]:
    """The questions about score rows."""
    unique = {"column_list": ["uri", "rule"]}
    return (
        Expectation("score_key_unique", "expect_compound_columns_to_be_unique", unique, "one score row per object and rule"),
        _true("score_rows_complete", "expected", "the row belongs to a decision and to an active rule"),
        _present("score_present", "score"),
        _present("score_present", "similarity"),
        _between("score_range", "score", -1, "`score` is between -1 and 1"),
        _between("score_range", "bounded_score", 0, f"`score` of rules other than {SIGNED_KINDS} is between 0 and 1"),
        _between("similarity_range", "similarity", -1, "`similarity` is between -1 and 1"),
        _among("row_identity", "run_id", [expected.run_id], "`run_id` is the run's own"),
        _true("score_thresholds_match", "thresholds_match", "`review` and `block` are the policy's thresholds"),
        _true("score_action_matches", "action_matches", "`action` follows from score and thresholds"),
    )


def _wanted(expectations: tuple[Expectation, ...], limits: QualityLimits) -> tuple[Expectation, ...]:
    return tuple(e for e in expectations if limits.severity(e.check) is not None)


def _unique(check: str, column: str) -> Expectation:
    return Expectation(check, "expect_column_values_to_be_unique", {"column": column}, f"no two rows share one `{column}`")


def _present(check: str, column: str) -> Expectation:
    return Expectation(check, "expect_column_values_to_not_be_null", {"column": column}, f"`{column}` is never null")


def _among(check: str, column: str, values: list[str], meaning: str) -> Expectation:
    arguments: dict[str, Argument] = {"column": column, "value_set": values}
    return Expectation(check, "expect_column_values_to_be_in_set", arguments, meaning)


def _true(check: str, column: str, meaning: str) -> Expectation:
    return Expectation(check, "expect_column_values_to_be_in_set", {"column": column, "value_set": [True]}, meaning)


def _between(check: str, column: str, low: float, meaning: str) -> Expectation:
    arguments: dict[str, Argument] = {"column": column, "min_value": low, "max_value": 1}
    return Expectation(check, "expect_column_values_to_be_between", arguments, meaning)
