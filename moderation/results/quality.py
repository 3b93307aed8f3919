"""Quality checks between a run and its readers, with Great Expectations. The only file that imports it.

Row level: on every shard. Run level: on the run's sums. A check that fails with severity `fail` keeps the run from being
published.
"""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")

import great_expectations as gx
import great_expectations.expectations as gxe
from great_expectations.data_context.types.base import ProgressBarsConfig

from moderation.errors import ErrorCode
from moderation.policy.decision import ACTIONS
from moderation.records import Counts
from moderation.results.checks import CheckResult, Severity

EXAMPLES = 20


@dataclass(frozen=True)
class _Check:
    name: str
    description: str
    expectation: Any
    severity: Severity = "fail"


def check_rows(decisions: pa.Table, scores: pa.Table) -> tuple[CheckResult, ...]:
    """Row-level checks of one shard."""
    return (
        *_validate(_decision_frame(decisions), _DECISION_CHECKS),
        *_validate(_score_frame(scores), _SCORE_CHECKS),
    )


def check_run(listed: int, unchanged: int, counts: Counts, rows: int) -> tuple[CheckResult, ...]:
    """Run-level checks of the sums. `rows`: decision rows in the files of this run."""
    taken_up = counts.scored + counts.errors
    frame = pd.DataFrame({"listed": [listed], "accounted": [unchanged + taken_up], "taken_up": [taken_up], "rows": [rows]})
    return _validate(frame, _RUN_CHECKS)


_DECISION_CHECKS = (
    _Check("decision_uri_unique", "one decision row per object", gxe.ExpectColumnValuesToBeUnique(column="uri")),
    *(
        _Check(f"decision_{c}_present", f"`{c}` is never null", gxe.ExpectColumnValuesToNotBeNull(column=c))
        for c in ("run_id", "uri", "etag", "status", "action", "policy_hash", "model_fingerprint", "scored_at")
    ),
    _Check(
        "decision_status_known",
        "`status` is scored or error",
        gxe.ExpectColumnValuesToBeInSet(column="status", value_set=["scored", "error"]),
    ),
    _Check(
        "decision_action_known",
        "`action` is allow, review or block",
        gxe.ExpectColumnValuesToBeInSet(column="action", value_set=[a.value for a in ACTIONS]),
    ),
    _Check(
        "decision_error_complete",
        "error rows have a known code and a detail, scored rows have neither",
        gxe.ExpectColumnValuesToBeInSet(column="error_complete", value_set=[True]),
    ),
    _Check(
        "decision_flags_match_action",
        "an image is flagged if and only if a live rule acts",
        gxe.ExpectColumnValuesToBeInSet(column="flags_match", value_set=[True]),
    ),
    _Check(
        "decision_top_score_range",
        "`top_score` lies in -1 to 1",
        gxe.ExpectColumnValuesToBeBetween(column="top_score", min_value=-1, max_value=1),
    ),
)

_SCORE_CHECKS = (
    _Check(
        "score_key_unique",
        "one score row per object and rule",
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["uri", "rule"]),
    ),
    _Check("score_present", "`score` is never null or NaN", gxe.ExpectColumnValuesToNotBeNull(column="score")),
    _Check(
        "score_range",
        "`score` lies in -1 to 1",
        gxe.ExpectColumnValuesToBeBetween(column="score", min_value=-1, max_value=1),
    ),
    _Check(
        "similarity_range",
        "`similarity` is a cosine",
        gxe.ExpectColumnValuesToBeBetween(column="similarity", min_value=-1, max_value=1),
    ),
    _Check(
        "score_matches_action",
        "`action` follows from score and thresholds",
        gxe.ExpectColumnValuesToBeInSet(column="action_matches", value_set=[True]),
    ),
)

_RUN_CHECKS = (
    _Check(
        "accounting",
        "listed = unchanged + scored + errored",
        gxe.ExpectColumnPairValuesToBeEqual(column_A="listed", column_B="accounted"),
    ),
    _Check(
        "rows_counted",
        "the files hold as many decision rows as objects were taken up",
        gxe.ExpectColumnPairValuesToBeEqual(column_A="rows", column_B="taken_up"),
    ),
)


def _decision_frame(decisions: pa.Table) -> pd.DataFrame:
    flags = decisions["flags"].combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
    frame: pd.DataFrame = decisions.drop_columns(["flags", "shadow_flags"]).to_pandas()
    error = frame["status"] == "error"
    known = frame["error_code"].isin([code.value for code in ErrorCode])
    complete = np.where(error, known & frame["error_detail"].notna(), frame["error_code"].isna() & frame["error_detail"].isna())
    frame["error_complete"] = complete
    acts = ~error & (frame["action"] != "allow")
    frame["flags_match"] = (frame["flagged"] == acts) & ((flags > 0) == acts)
    return frame


def _score_frame(scores: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = scores.select(["uri", "rule", "score", "similarity", "review", "block", "action"]).to_pandas()
    expected = np.where(
        frame["score"] >= frame["block"], "block", np.where(frame["score"] >= frame["review"], "review", "allow")
    )
    frame["action_matches"] = frame["action"] == expected
    return frame


def _validate(frame: pd.DataFrame, checks: tuple[_Check, ...]) -> tuple[CheckResult, ...]:
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    results = []
    for check in checks:
        found = batch.validate(
            check.expectation, result_format={"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES}
        )
        results.append(_result(check, frame, found.success, found.result))
    return tuple(results)


def _result(check: _Check, frame: pd.DataFrame, success: bool | None, result: dict[str, object]) -> CheckResult:
    rows = result.get("partial_unexpected_index_list")
    if "uri" in frame and isinstance(rows, list):
        examples = tuple(str(frame["uri"].iloc[i]) for i in rows[:EXAMPLES])
    else:
        listed = result.get("partial_unexpected_list")
        examples = tuple(str(value) for value in listed) if isinstance(listed, list) else ()
    count = result.get("unexpected_count")
    return CheckResult(
        name=check.name,
        description=check.description,
        severity=check.severity,
        passed=bool(success),
        unexpected=count if isinstance(count, int) else 0,
        examples=examples,
    )
