"""`moderate policy backtest`: what another policy would have decided for all stored images."""

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moderation.errors import SettingsError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from moderation.policy.schema import Policy
    from moderation.query.condition import Condition

OVER_BUDGET = 3
"""Exit code if more images become blocked, or go to review, than a `--max-new-...` allows."""
_PUBLISHED = "published"


def backtest(
    new: Annotated[Path, typer.Argument(help="The policy file to try.", show_default=False)],
    results: Annotated[str, typer.Option("--results", "-r", help="The output of runs: a folder or a URI.", show_default=False)],
    against: Annotated[
        str, typer.Option("--against", help="What to compare with: the decisions as published, or another policy file.")
    ] = _PUBLISHED,
    since: Annotated[
        str | None,
        typer.Option("--since", help="Only runs that started since: 30d, 12h, 12w or 2026-11-01 (UTC).", show_default=False),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            "--where",
            metavar="SQL",
            help='Only images whose newest decision meets this condition over the columns of `decisions`, e.g. "width > 500".',
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            "-l",
            help="Estimate precision and recall before and after by this CSV of labels, or by `reviews`: people's verdicts.",
            show_default=False,
        ),
    ] = None,
    fingerprint: Annotated[
        str | None,
        typer.Option("--fingerprint", help="Which model's embeddings to use, if there are several.", show_default=False),
    ] = None,
    max_new_blocks: Annotated[
        str | None,
        typer.Option(
            "--max-new-blocks",
            metavar="LIMIT",
            help="Exit with code 3 if more images than this become blocked: a share of all images such as 0.1%, or a number.",
            show_default=False,
        ),
    ] = None,
    max_new_reviews: Annotated[
        str | None,
        typer.Option("--max-new-reviews", metavar="LIMIT", help="The same for images that go to review.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the page and the list of changed images, by default backtest-POLICY-HASH. Files from an earlier "
            "backtest are replaced.",
            show_default=False,
        ),
    ] = None,
    thumbnails: Annotated[
        bool, typer.Option(help="Fetch the images that the page shows, blurred. Nothing else fetches images.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show what the policy NEW would have decided for every published image.

    Works from stored embeddings: no image is scored again, and no GPU is needed. Every image counts once, with its newest
    decision. Each policy's `unreadable` decides images that could not be scored.

    Prints the changes by action, rule, folder and day. Writes `backtest.html`, which shows some of the changed images, blurred,
    and `changed.parquet`, which has a row for every changed image.

    Exit codes: 0; 1 and 2 for errors; 3 if a limit (`--max-new-blocks`, `--max-new-reviews`) is exceeded.

    Example: `moderate policy backtest policy.yaml --results results --since 90d --max-new-blocks 0.1%`
    """
    from moderation.commands.stored_results import opened
    from moderation.console import backtest as backtest_console
    from moderation.policy_files.loading import load_policy
    from moderation.results.stored_policy import newest_policy_if_readable
    from moderation.scoring.prompt_embeddings import compiled_for
    from moderation.studies.backtest.backtest_page import write_page
    from moderation.studies.backtest.backtesting import backtest as run_backtest
    from moderation.studies.backtest.change_budget import Budget
    from moderation.studies.backtest.changed_images import NAME
    from moderation.studies.tuning.review_labels import labels_of

    policy = load_policy(new)
    old = None if against == _PUBLISHED else load_policy(against)
    _check_models(policy, old)
    budgets = [Budget.parse("blocks", max_new_blocks)] if max_new_blocks is not None else []
    budgets += [Budget.parse("reviews", max_new_reviews)] if max_new_reviews is not None else []
    folder = output or Path(f"backtest-{policy.policy}-{policy.hash[:8]}")
    with backtest_console.interruptible(), _condition(where) as condition:
        archive = opened(results, _hours(since), fingerprint, policy.model.label)
        compiled = compiled_for(policy, archive)
        read = None if labels is None else labels_of(labels, archive, [one.id for one in policy.active_rules], policy.hash)
        compiled_old = compiled_for(old, archive) if old is not None else None
        replaced = (folder / NAME).exists()
        with backtest_console.progress_shown():
            found = run_backtest(
                compiled, archive, folder / NAME, old=compiled_old, against=against, condition=condition, labels=read
            )
        over = [text for budget in budgets if (text := budget.exceeded(found))]
        page = write_page(
            found,
            folder,
            policy=policy,
            results=archive.output.uri,
            over_budget="; ".join(over) or None,
            thumbnails=thumbnails,
            before=old or newest_policy_if_readable(archive),
        )
    if as_json:
        backtest_console.print_json(found, policy, folder / NAME, page, over)
    else:
        backtest_console.show(found, since)
    backtest_console.show_written((page, folder / NAME), replaced=replaced)
    if over:
        for line in over:
            typer.echo(f"error: {line}", err=True)
        sys.exit(OVER_BUDGET)


def _check_models(new: "Policy", old: "Policy | None") -> None:
    if old is not None and old.model != new.model:
        raise SettingsError(
            f"the policies name different models, {old.model.label} and {new.model.label}: embeddings of one model "
            "cannot be used with another; to see what other weights change, run `moderate model compare`"
        )


def _condition(where: str | None) -> "AbstractContextManager[Condition | None]":
    if where is None:
        from contextlib import nullcontext

        return nullcontext()
    from moderation.query.condition import Condition

    return Condition(where)


def _hours(since: str | None) -> str | None:
    """An age in hours as a moment; everything else unchanged."""
    found = re.fullmatch(r"\s*(\d{1,6})h\s*", since or "", re.IGNORECASE)
    return (datetime.now(UTC) - timedelta(hours=int(found[1]))).isoformat() if found else since
