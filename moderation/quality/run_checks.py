"""All run-level checks: `sum_questions` and `rule_questions` ask, Great Expectations answers."""

from collections.abc import Callable, Mapping, Sequence

from moderation.quality import rule_questions, sum_questions
from moderation.quality.expectations import Sheet, validate
from moderation.quality.facts import RunFacts, RunHistory
from moderation.quality.quality_limits import QualityLimits
from moderation.quality.questions import Question
from moderation.quality.verdicts import Verdict, verdicts


def check_run(facts: RunFacts, limits: QualityLimits, history: Sequence[RunHistory] = ()) -> tuple[Verdict, ...]:
    """Check a run's sums, and its rules against earlier published runs. `history` in any order; what is of use is chosen."""
    questions = {name: ask(facts, limits, history) for name, ask in _CHECKS.items() if limits.severity(name) is not None}
    sheets = [Sheet(q.frame, q.key, q.expectations) for q in questions.values()]
    return verdicts(validate(sheets), limits, {name: q.words for name, q in questions.items()})


_CHECKS: Mapping[str, Callable[[RunFacts, QualityLimits, Sequence[RunHistory]], Question]] = {
    "accounting": sum_questions.accounting,
    "rows_counted": sum_questions.rows_counted,
    "shards_complete": sum_questions.shards_complete,
    "empty_run": sum_questions.empty_run,
    "error_rate": sum_questions.error_rate,
    "flood": sum_questions.flood,
    "review_flood": sum_questions.review_flood,
    "list_flood": sum_questions.list_flood,
    "constant_scores": rule_questions.constant_scores,
    "flag_rate": rule_questions.flag_rate,
    "drift": rule_questions.drift,
}
