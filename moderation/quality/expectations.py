"""Great Expectations: asking it, and having it draw its pages. The only file that imports it.

It takes seconds to import and hundreds of megabytes: Ray tasks do that, never the driver.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

os.environ["GX_ANALYTICS_ENABLED"] = "False"  # read on import; nothing of a run leaves for its makers

import great_expectations as gx
from great_expectations.core import ExpectationSuite, ExpectationSuiteValidationResult, ExpectationValidationResult
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView

from moderation.common.safe_text import visible
from moderation.quality.verdicts import Expectation, Unexpected, Validation
from moderation.results.check_results import EXAMPLES

_FORMAT = {"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES}


@dataclass(frozen=True)
class Sheet:
    """Rows, and what is expected of them."""

    frame: pd.DataFrame
    key: str
    """the column that names a row: uri, file, shard or rule"""
    expectations: tuple[Expectation, ...]


def validate(sheets: Sequence[Sheet]) -> tuple[Validation, ...]:
    """Ask every sheet's expectations, in one context. One answer each, in their order."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("rows")
    found: list[Validation] = []
    for number, sheet in enumerate(sheets):
        if sheet.frame.empty or not sheet.expectations:
            found += [Validation(**e._asdict(), passed=True, rows=0) for e in sheet.expectations]
            continue
        definition = source.add_dataframe_asset(f"sheet {number}").add_batch_definition_whole_dataframe("all")
        suite = ExpectationSuite(f"sheet {number}", expectations=[_asked(i, e) for i, e in enumerate(sheet.expectations)])
        batch = definition.get_batch({"dataframe": sheet.frame})
        answers = {a.expectation_config.meta["number"]: a for a in batch.validate(suite, result_format=_FORMAT).results}
        found += [_validation(sheet, e, answers[i]) for i, e in enumerate(sheet.expectations)]
    return tuple(found)


def _asked(number: int, expectation: Expectation) -> Any:
    kwargs = dict(expectation.arguments)
    return ExpectationConfiguration(type=expectation.kind, kwargs=kwargs, meta={"number": number}).to_domain_obj()


def _validation(sheet: Sheet, expectation: Expectation, answer: Any) -> Validation:
    result = answer.result
    problem = _problem(answer.exception_info)
    rows = result.get("partial_unexpected_index_list") or []
    values = result.get("partial_unexpected_list") or []
    keys = sheet.frame[sheet.key]
    return Validation(
        **expectation._asdict(),
        passed=bool(answer.success),
        rows=len(sheet.frame),
        unexpected=int(result.get("unexpected_count") or 0),
        examples=tuple(
            Unexpected(str(keys.iloc[row]), _shown(value)) for row, value in zip(rows[:EXAMPLES], values, strict=False)
        ),
        problem=problem,
    )


def _shown(value: object) -> str:
    """A value in words; a boolean says no more than that the row does not hold."""
    if isinstance(value, tuple | list):
        return " and ".join(_shown(part) for part in value)
    if isinstance(value, bool) or value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _problem(info: Any) -> str:
    """What was raised while an expectation was looked at. The information is one record, or one for each metric."""
    records = [info] if "raised_exception" in info else list(info.values())
    raised = next((r for r in records if r.get("raised_exception")), None)
    return " ".join(str(raised.get("exception_message") or "unknown").split())[:300] if raised else ""


def drawn(validations: Sequence[Validation], run_id: str) -> str:
    """The answers as Great Expectations' Data Docs show them: the sections of its page, as HTML without the page around.

    Its templates put values into the page as they are, so that everything from keys is escaped here.
    """
    results = [_result(v) for v in validations]
    document = ValidationResultsPageRenderer().render(
        ExpectationSuiteValidationResult(
            success=all(v.passed for v in validations),
            results=results,
            suite_name="moderation",
            statistics=_statistics(validations),
            meta={"run_id": {"run_name": escape(run_id)}},
        )
    )
    view = DefaultJinjaPageView()
    sections = {"sections": document.to_json_dict()["sections"][1:]}  # the first one links to files that there are not
    html: str = view.env.from_string(_SECTIONS).render(sections)
    return html


_SECTIONS = "{% for section in sections %}{% set section_loop = loop %}{% include 'section.j2' %}{% endfor %}"


def _result(validation: Validation) -> ExpectationValidationResult:
    rows, unexpected = validation.rows, validation.unexpected
    percent = 100 * unexpected / rows if rows else 0.0
    return ExpectationValidationResult(
        success=validation.passed,
        expectation_config=ExpectationConfiguration(
            type=validation.kind,
            kwargs=dict(validation.arguments),
            description=escape(f"{validation.check}: {validation.meaning}".replace("`", "")),
        ),
        result={
            "element_count": rows,
            "unexpected_count": unexpected,
            "unexpected_percent": percent,
            "unexpected_percent_total": percent,
            "unexpected_percent_nonmissing": percent,
            "missing_count": 0,
            "missing_percent": 0.0,
            "partial_unexpected_list": list(_samples(validation)),
        },
        exception_info={"raised_exception": False, "exception_message": None, "exception_traceback": None},
    )


def _samples(validation: Validation) -> Iterator[str]:
    if validation.problem:
        yield escape(validation.problem)
    for key, value in validation.examples:
        yield _isolated(key) + (f": {_isolated(value)}" if value else "")


def _isolated(text: str) -> str:
    return f"<bdi>{escape(visible(text))}</bdi>"


def _statistics(validations: Sequence[Validation]) -> dict[str, float]:
    passed = sum(v.passed for v in validations)
    return {
        "evaluated_expectations": len(validations),
        "successful_expectations": passed,
        "unsuccessful_expectations": len(validations) - passed,
        "success_percent": 100 * passed / max(len(validations), 1),
    }
