"""Run-level checks, all of them: `sums` and `rules` ask, Great Expectations answers."""

from collections.abc import Callable, Mapping, Sequence

from moderation.quality import rules, sums
from moderation.quality.expectations import Sheet, validate
from moderation.quality.facts import RunFacts, RunHistory
from moderation.quality.limits import QualityLimits
from moderation.quality.questions import Question
from moderation.quality.verdicts import Verdict, verdicts


def check_run(facts: RunFacts, limits: QualityLimits, history: Sequence[RunHistory] = ()) -> tuple[Verdict, ...]:
    """Check a run's sums, and its rules against earlier published runs. `history` in any order; what is of use is chosen."""
    questions = {name: ask(facts, limits, history) for name, ask in _CHECKS.items() if limits.severity(name) is not None}
    sheets = [Sheet(q.frame, q.key, q.expectations) for q in questions.values()]
    return verdicts(validate(sheets), limits, {name: q.words for name, q in questions.items()})


_CHECKS: Mapping[str, Callable[[RunFacts, QualityLimits, Sequence[RunHistory]], Question]] = {
    "accounting": sums.accounting,
    "rows_counted": sums.rows_counted,
    "shards_complete": sums.shards_complete,
    "empty_run": sums.empty_run,
    "error_rate": sums.error_rate,
    "flood": sums.flood,
    "review_flood": sums.review_flood,
    "constant_scores": rules.constant_scores,
    "flag_rate": rules.flag_rate,
    "drift": rules.drift,
}
