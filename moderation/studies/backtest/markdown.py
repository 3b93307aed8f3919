"""What a backtest found as Markdown: for Prefect's page, and for pull requests. Pure."""

import re

from moderation.common.safe_text import visible
from moderation.html.text import number, percent
from moderation.studies.backtest.backtest_result import Backtest
from moderation.studies.backtest.backtest_views import ACTIONS, rounded

FOLDERS = 10
"""Folders named."""
_LONGEST = 200
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def markdown(found: Backtest, over_budget: str = "") -> str:
    """Transitions, expected work, rules and the folders with most changes. `over_budget`: why it is too much, in one line."""
    total, days = found.total, found.days_covered
    verdict = f"**Over the budget:** {plain(over_budget)}\n\n" if over_budget else ""
    beside = "the published decisions" if found.against == "published" else "the other policy"
    lines = [
        f"## Backtest of {plain(found.new)}\n",
        f"{verdict}{number(found.images)} images, compared with {beside}: {plain(found.old)}. "
        f"**{number(total.changed)} get a different decision ({percent(total.changed, found.images)}), "
        f"{number(found.new_blocks)} of them newly blocked ({percent(found.new_blocks, found.images)}).**\n",
        *_table(("before ↓ after →", *ACTIONS), [(f"**{b}**", *(_cell(found, b, a) for a in ACTIONS)) for b in ACTIONS]),
    ]
    if days:
        over = "one day" if days == 1 else f"{number(days)} days"
        blocks, reviews = (
            f"{rounded(getattr(total.before, action) / days)} → {rounded(getattr(total.after, action) / days)}"
            for action in ("block", "review")
        )
        lines += [f"Images were last modified within {over}. Blocked per day: {blocks}. To review per day: {reviews}.\n"]
    lines += _table(
        ("rule", "flagged before", "flagged after", "newly", "no longer", "would flag (shadow)"),
        [(plain(name), *map(number, (r.before, r.after, r.gained, r.lost, r.would))) for name, r in found.rules.items()],
    )
    changed = sorted(((folder, both) for folder, both in found.prefixes.items() if both.changed), key=lambda f: -f[1].changed)
    if changed:
        rows = [
            (plain(folder), *map(number, (both.before.images, both.changed, both.before.block, both.after.block)))
            for folder, both in changed[:FOLDERS]
        ]
        lines += _table(("folder", "images", "different decision", "blocked before", "blocked after"), rows)
    return "\n".join(lines)


def plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line, with nothing hidden, and shortened if it is long."""
    shown = visible(text)
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
    return _PUNCTUATION.sub(r"\\\1", shown)


def _cell(found: Backtest, before: str, after: str) -> str:
    count = number(found.transitions.get((before, after), 0))
    return count if before == after or count == "0" else f"**{count}**"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [head, ("---", *["---:"] * (len(head) - 1)), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]
