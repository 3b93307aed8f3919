"""Limits of the quality checks as pydantic models. `policies/quality.yaml` holds the same defaults, with comments."""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from moderation.quality.catalogue import CATALOGUE
from moderation.results.check_results import Severity

Setting = Literal["warn", "fail", "off"]
Share = Annotated[float, Field(ge=0, le=1, strict=True, allow_inf_nan=False)]
Factor = Annotated[float, Field(ge=1, strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, strict=True)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CheckLimits(_Strict):
    """A check without a number: it passes or fails."""

    severity: Setting = Field(
        default="fail", description="fail: the run is not published; warn: it is published with a warning; off: not checked"
    )


class ErrorRate(CheckLimits):
    """Objects that could not be scored."""

    limit: Share = Field(default=0.05, description="share of the processed objects that may be errors")
    at_least: Count = Field(default=5, description="fewer errors than this never fail a run")


class EmptyRun(CheckLimits):
    """Runs that bring nothing."""

    at_least: Count = Field(default=5, description="a run that processes this many objects and scores none counts as empty")


class Flood(CheckLimits):
    """The circuit breaker: most new images are blocked."""

    limit: Share = Field(default=0.5, description="share of the scored images that may be blocked")
    at_least: Count = Field(default=100, description="minimum number of scored images")


class ReviewFlood(CheckLimits):
    """The same for people's work: nobody can review most of the new images."""

    limit: Share = Field(default=0.5, description="share of the scored images that may be sent to people")
    at_least: Count = Field(default=100, description="minimum number of scored images")


class ListFlood(CheckLimits):
    """One entry of a hash list that matches much of the run."""

    severity: Setting = Field(
        default="warn", description="fail: the run is not published; warn: it is published with a warning; off: not checked"
    )
    limit: Share = Field(default=0.01, description="share of the processed images that one entry may match")
    at_least: Count = Field(default=20, description="an entry that matches fewer images than this is never a flood")


class ConstantScores(CheckLimits):
    """Rules under which all images have one score."""

    at_least: Count = Field(default=20, description="minimum number of scored images")


class _History(CheckLimits):
    model_config = ConfigDict(validate_default=True)

    runs: Count = Field(default=10, description="how many of the last published runs to compare with")
    min_runs: Count = Field(default=1, description="minimum number of earlier runs")
    at_least: Count = Field(default=200, description="minimum number of scored images, in this run and in an earlier one")

    @field_validator("min_runs")
    @classmethod
    def _within_runs(cls, value: int, info: ValidationInfo) -> int:
        runs = info.data.get("runs")
        if runs is not None and value > runs:
            raise PydanticCustomError("min_runs", "min_runs is above runs", {"runs": runs, "min_runs": value})
        return value


class FlagRate(_History):
    """A rule's share of flagged images, against the median of the last runs of the same policy name."""

    low: Share = Field(default=0.2, description="lowest share, as a part of the median")
    high: Factor = Field(default=5, description="highest share, as a multiple of the median")
    floor: Share = Field(default=0.001, description="a median below this share counts as this share, for `high`")
    difference: Count = Field(default=20, description="differences of fewer flagged images than this are ignored")


class Drift(_History):
    """A rule's score distribution, against that of the last runs of the same policy and model."""

    severity: Setting = Field(
        default="warn", description="fail: the run is not published; warn: it is published with a warning; off: not checked"
    )
    method: Literal["psi", "ks"] = Field(
        default="psi", description="psi: population stability index; ks: Kolmogorov-Smirnov distance"
    )
    psi: Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)] = Field(
        default=0.25, description="highest population stability index; 0.1 is a small change, 0.25 a large one"
    )
    ks: Share = Field(default=0.2, description="highest Kolmogorov-Smirnov distance, in 0 to 1")
    min_runs: Count = Field(default=3, description="minimum number of earlier runs")
    at_least: Count = Field(default=500, description="minimum number of scored images, in this run and in an earlier one")


def _word(value: object) -> object:
    """`drift: off` is short for `drift: {severity: off}`."""
    return {"severity": value} if isinstance(value, str) else value


_Short = BeforeValidator(_word)
Plain = Annotated[CheckLimits, _Short]


class Checks(_Strict):
    """Every check, by name."""

    shard_files_whole: Plain = CheckLimits()
    shard_objects_planned: Plain = CheckLimits()
    decision_uri_unique: Plain = CheckLimits()
    decision_columns_present: Plain = CheckLimits()
    row_identity: Plain = CheckLimits()
    decision_values_known: Plain = CheckLimits()
    decision_error_complete: Plain = CheckLimits()
    decision_scored_complete: Plain = CheckLimits()
    decision_action_matches: Plain = CheckLimits()
    decision_flags_match: Plain = CheckLimits()
    decision_top_rule_matches: Plain = CheckLimits()
    decision_lists_known: Plain = CheckLimits()
    decision_near_matches: Plain = CheckLimits()
    score_key_unique: Plain = CheckLimits()
    score_rows_complete: Plain = CheckLimits()
    score_present: Plain = CheckLimits()
    score_range: Plain = CheckLimits()
    similarity_range: Plain = CheckLimits()
    score_thresholds_match: Plain = CheckLimits()
    score_action_matches: Plain = CheckLimits()
    accounting: Plain = CheckLimits()
    rows_counted: Plain = CheckLimits()
    shards_complete: Plain = CheckLimits()
    empty_run: Annotated[EmptyRun, _Short] = EmptyRun()
    error_rate: Annotated[ErrorRate, _Short] = ErrorRate()
    flood: Annotated[Flood, _Short] = Flood()
    review_flood: Annotated[ReviewFlood, _Short] = ReviewFlood()
    list_flood: Annotated[ListFlood, _Short] = ListFlood()
    constant_scores: Annotated[ConstantScores, _Short] = ConstantScores()
    flag_rate: Annotated[FlagRate, _Short] = FlagRate()
    drift: Annotated[Drift, _Short] = Drift()


class ReviewLimits(_Strict):
    """Precisions, by reviews of earlier runs, below which the report of a run warns about a rule. They stop no run."""

    flagged: Share = Field(default=0.2, description="precision of the images that a live rule flags, in 0 to 1; 0: no warning")
    blocked: Share = Field(default=0.8, description="precision of those of them that are blocked; 0: no warning")
    days: Count = Field(default=90, description="how far back to look for decisions and their reviews")


class QualityLimits(_Strict):
    """What a run must hold to be published, and what its report warns about. Without a file, the defaults."""

    checks: Checks = Field(default=Checks(), description="the checks, by name; those left out keep their defaults")
    reviews: ReviewLimits = Field(
        default=ReviewLimits(), description="what reviews of earlier runs should say; those left out keep their defaults"
    )

    def severity(self, name: str) -> Severity | None:
        """What happens when a check fails; None if it is off."""
        check: CheckLimits = getattr(self.checks, name)
        return None if check.severity == "off" else check.severity


def limits_schema() -> dict[str, object]:
    """The JSON Schema (draft 2020-12) of a file of limits, for completion in editors."""
    found = QualityLimits.model_json_schema(schema_generator=_Generator)
    for name, about in CATALOGUE.items():
        check = found["$defs"]["Checks"]["properties"][name]
        kind = {"$ref": check["$ref"]}
        found["$defs"]["Checks"]["properties"][name] = {
            "anyOf": [{"enum": list(get_args(Setting))}, kind],
            "description": about.description,
        }
    for key in found["properties"].values():
        key.pop("default")
    return {"$schema": GenerateJsonSchema.schema_dialect, **found, "title": "clip-moderation quality limits"}


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, without titles that repeat the keys."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002
        """Keys are their own titles."""
        return False
