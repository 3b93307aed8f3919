"""Quality checks of a run: every shard's rows in tasks of their own, then the sums."""

from typing import Any

from moderation.cluster import tasks
from moderation.common.logs import about
from moderation.common.progress import Progress, tell
from moderation.quality.facts import ExpectedRows, RunFacts
from moderation.quality.staged import groups, planned_shards
from moderation.quality.verdicts import Verdict, merge
from moderation.results.check_results import CheckResult
from moderation.stages.scoring import Scored
from moderation.stages.session import Session, writing_to

MAX_CHECKING = 2
"""Groups of shards being checked at a time; each takes a process of its own."""


def check(running: Session, scored: Scored) -> tuple[CheckResult, ...]:
    """Quality checks: every shard's rows, then the sums of the run."""
    tell(Progress("checking"))
    about(running.paths.run_id, "checking")
    with writing_to(running.output, running.paths.run_id):
        return _check(running, scored)


def _check(running: Session, scored: Scored) -> tuple[CheckResult, ...]:
    inputs, paths, output = running.inputs, running.paths, running.output
    expected = ExpectedRows(paths.run_id, inputs.policy, running.model.fingerprint)
    shared = tasks.shared(expected)
    plans = planned_shards(output, paths)
    verdicts: tuple[Verdict, ...] = ()
    pending: list[Any] = []
    for group in groups(scored.receipts, plans):
        pending.append(tasks.start_checking(group, paths, output, shared, inputs.quality))
        done, pending = tasks.finished(pending, block=len(pending) >= MAX_CHECKING)
        for reference in done:
            verdicts = merge(verdicts, tasks.result(reference))
    for reference in pending:
        verdicts = merge(verdicts, tasks.result(reference))
    facts = RunFacts(
        expected=expected,
        listed=scored.listed,
        named=scored.named,
        unchanged=scored.unchanged,
        counts=scored.counts,
        aggregates=scored.aggregates,
        rows=scored.rows,
        planned_shards=frozenset(plans),
        staged_shards=frozenset(receipt.shard for receipt in scored.receipts),
        may_be_empty=running.settings.modified_since is not None,
    )
    verdicts = merge(verdicts, tasks.checked_run(facts, inputs.quality, output))
    tasks.written_data_docs(verdicts, paths, inputs.policy.policy, output)
    return tuple(verdict.result for verdict in verdicts)
