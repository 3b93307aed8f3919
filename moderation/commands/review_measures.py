"""`moderate reviews stats` and `moderate reviews agreement`: what reviews say about rules, and about reviewers."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

_Results = Annotated[str, typer.Option("--results", "-r", help="The output of runs: a folder or a URI.", show_default=False)]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def stats(
    results: _Results,
    queues: Annotated[
        Path | None, typer.Option("--queues", help="The file of queues; default: the built-in queues.", show_default=False)
    ] = None,
    by: Annotated[
        Literal["policy", "version", "day"],
        typer.Option("--by", help="Keep versions of a policy, or days of runs, apart."),
    ] = "policy",
    since: Annotated[
        str | None,
        typer.Option("--since", help="Only decisions and reviews since: 30d, 12w, 2026-11-21.", show_default=False),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Show the backlog of each queue, what people did, and how right policies and rules are.

    Precision is the share of flagged images that people find to violate. Recall is the share of violating images that is
    flagged, known from audits of allowed images. Both have 95 % intervals. Copies of an image count once.

    Example: `moderate reviews stats --results results --queues queues.yaml --by version`
    """
    from moderation.console.review_measures import Statistics, show_stats
    from moderation.measures.reviewers import golden_results, throughput
    from moderation.measures.rule_measures import measure
    from moderation.queues.backlog import backlog
    from moderation.queues.golden import answers_table
    from moderation.queues.opening import answers_known, opened_queues

    start = _day(since)
    now = datetime.now(UTC)
    with opened_queues(results, queues) as opened:
        backlogs = []
        for one in opened.file.queues:
            with opened.open(one.name) as ready:
                backlogs.append(backlog(ready, now))
        found = Statistics(
            backlogs=tuple(backlogs),
            left_out=opened.left_out(),
            measures=measure(opened.connection, by, start),
            throughput=throughput(opened.connection, start),
            golden=golden_results(opened.connection, answers_table(answers_known(opened)), start),
        )
    show_stats(found, as_json=as_json)


def agreement(
    results: _Results,
    since: Annotated[
        str | None, typer.Option("--since", help="Only reviews since: 30d, 12w, 2026-11-21.", show_default=False)
    ] = None,
    blind: Annotated[bool, typer.Option("--blind", help="Only reviews of people who could not see what others said.")] = False,
    as_json: _Json = False,
) -> None:
    """Show how well reviewers agree: Krippendorff's alpha for each rule, Cohen's kappa for each pair of people.

    Counts images that at least two people judged, with everybody's newest verdict. 1 is full agreement, 0 agreement by chance.

    Example: `moderate reviews agreement --results results --since 90d`
    """
    from moderation.console.review_measures import show_agreement
    from moderation.measures.reviewers import agreements
    from moderation.query import connect

    with connect(results) as connection:
        found = agreements(connection, _day(since), blind=blind)
    show_agreement(found, as_json=as_json)


def _day(since: str | None) -> date | None:
    from moderation.commands.stored_results import moment

    return None if since is None else moment(since, datetime.now(UTC)).astimezone(UTC).date()
