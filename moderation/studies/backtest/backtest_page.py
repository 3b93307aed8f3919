"""The page of a backtest: what would change, in tables, by day, and as blurred sheets of images with a different decision."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from jinja2 import Template

from moderation.errors import OutputError
from moderation.html import text
from moderation.html.previews import previews
from moderation.html.templates import template
from moderation.html.thumbnails import Wanted
from moderation.images.limits import ImageLimits
from moderation.policy.schema import Policy
from moderation.sources import ObjectReader
from moderation.storage import scheme_of
from moderation.studies.backtest import backtest_views
from moderation.studies.backtest.backtest_result import Backtest
from moderation.studies.backtest.day_bars import day_bars, spans
from moderation.studies.backtest.labelled import rows

NAME = "backtest.html"


def write_page(
    found: Backtest,
    folder: Path,
    *,
    policy: Policy,
    results: str,
    over_budget: str | None = None,
    thumbnails: bool = True,
    limits: ImageLimits | None = None,
    before: Policy | None = None,
) -> Path:
    """Write `backtest.html` into a folder.

    Args:
        found: what the backtest found.
        folder: where to; made if it does not exist.
        policy: the new policy: the order, thresholds and severities of its rules.
        results: the URI of the results. Local files are read for thumbnails only if the results are local too: whoever may
            write a bucket need not be one who may read this machine.
        over_budget: why the change is too much, in one line, if it is.
        thumbnails: whether the images shown are fetched, in a process of its own, to be shown blurred.
        limits: what is too much of an image.
        before: the old policy, or that of the newest run: the page says what changed from it. None if it is not known.

    Raises:
        OutputError: the page cannot be written.
    """
    wanted = backtest_views.wanted(found) if thumbnails else []
    reader = ObjectReader(manifests=True, local_files=scheme_of(results) == "file")
    page = render(found, policy, results, previews(reader, wanted, limits), over_budget, wanted, before)
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {(error.strerror or str(error)).lower()}") from None
    return path


def render(
    found: Backtest,
    policy: Policy,
    results: str,
    made: Mapping[tuple[str, int], str],
    over_budget: str | None = None,
    tried: Sequence[Wanted] = (),
    before: Policy | None = None,
) -> str:
    """One self-contained page. Everything from keys and policies is escaped, and what would hide is shown. Pure.

    The page loads nothing and runs nothing: its Content-Security-Policy allows inline styles and data URIs only.

    Args:
        found: what the backtest found.
        policy: the new policy.
        results: the URI of the results.
        made: thumbnails as data URIs, by URI and frame.
        over_budget: as in `write_page`.
        tried: the images of which it was tried to make thumbnails.
        before: as in `write_page`.
    """
    shown, sheets = spans(found.days), backtest_views.Sheets(found, policy, made, tried, before)
    rules = backtest_views.rule_rows(found, policy, before)
    return _template().render(
        found=found,
        policy=policy,
        results=results,
        over_budget=over_budget,
        fetched=bool(tried),
        tiles=backtest_views.tiles(found),
        matrix=backtest_views.matrix(found),
        total=found.total,
        rules=rules,
        labelled=tuple(rows(found.labelled)) if found.labelled else (),
        changes=None if before is None else backtest_views.policy_changes(before, policy),
        spans=shown,
        charts=[(name, day_bars(shown, action, name)) for action, name in (("block", "Blocked"), ("review", "To review"))],
        sheets=sheets,
        nearest=[(row, sheets.nearest(row.id)) for row in rules if row.found.nearest],
    )


@cache
def _template() -> Template:
    return template(
        "backtest.html.j2",
        {"duration": text.duration, "number": text.number, "percent": text.percent, "threshold": text.threshold},
    )
