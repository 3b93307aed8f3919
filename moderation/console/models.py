"""What `moderate model compare` prints."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from moderation.common.safe_text import visible
from moderation.html.text import NONE, threshold
from moderation.policy.decision import ACTIONS
from moderation.policy.schema import Mode
from moderation.studies.model_comparison.comparison_result import Agreement, ModelComparison, RuleComparison, Transitions
from moderation.studies.model_comparison.comparison_text import notes

_OUT = Console(highlight=False)
_ERR = Console(stderr=True, highlight=False)
NARROWEST = 100
"""Characters of a line of a table, which a narrow terminal may wrap but never truncates."""


def show_comparison(found: ModelComparison) -> None:
    """What would change, in words, then in numbers."""
    for letter, side in (("A", found.a), ("B", found.b)):
        _line(f"{letter}  [bold]{_safe(side.name)}[/] ({side.fingerprint})")
    _line(f"policy {_safe(found.policy)}; {found.images:,} images, seed {found.seed}\n")
    for message in (*found.summary, *notes(found)):
        _line(_safe(message))
    _matrices(found)
    _table(_thresholds(found))
    _table(_rules(found.rules))
    _line("")
    for rule in found.rules:
        _line(f"[bold]{rule.rule}[/]: {_safe(rule.summary)}")


def show_line(text: str) -> None:
    """A progress line on stderr, apart from the output."""
    _ERR.print(visible(text), markup=False, soft_wrap=True)


def show_remark(text: str) -> None:
    """A remark about the labels for the person who made them."""
    _ERR.print(f"[yellow]labels[/] {_safe(text)}", soft_wrap=True)


def _matrices(found: ModelComparison) -> None:
    for title, actions in (("thresholds unchanged", found.actions), ("thresholds for B", found.actions_fitted)):
        _table(_matrix(f"Images, {title}", actions))


def _matrix(title: str, actions: Transitions) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    names = [action.value for action in ACTIONS]
    for name in names:
        table.add_column(f"B: {name}", justify="right")
    for before in names:
        cells = [f"{actions[before, after]:,}" for after in names]
        table.add_row(
            f"A: {before}", *(f"[dim]{cell}[/]" if before == after else cell for cell, after in zip(cells, names, strict=True))
        )
    return table


def _thresholds(found: ModelComparison) -> Table:
    kept = "as many flags are correct" if found.hold == "precision" else "as many images are flagged"
    table = Table(title=f"Thresholds for B with which {kept}", title_justify="left")
    for name in ("rule", "action"):
        table.add_column(name, overflow="fold")
    for name in ("now", "for B", "reached under A", "under B, as now", "with its own"):
        table.add_column(name, justify="right")
    table.add_column("read it with", overflow="fold")
    for rule in found.rules:
        for one in rule.thresholds:
            fitted = NONE if one.fitted is None else f"{one.reached_fitted:,}"
            table.add_row(
                _name(rule),
                one.kind,
                threshold(one.now),
                f"[bold]{threshold(one.fitted)}[/]",
                f"{one.reached_a:,}",
                f"{one.reached_b:,}",
                fitted,
                _safe(one.note),
            )
    return table


def _rules(rules: Sequence[RuleComparison]) -> Table:
    table = Table(title="Agreement by rule: with the thresholds as they are, and with thresholds for B", title_justify="left")
    table.add_column("rule", overflow="fold")
    for name in ("same action", "kappa", "Spearman", "flagged by A", "by B", "with its own", "by both"):
        table.add_column(name, justify="right")
    for rule in rules:
        table.add_row(
            _name(rule),
            f"{_share(rule.agreement)} {_share(rule.agreement_fitted)}",
            f"{_figure(rule.agreement.kappa)} {_figure(rule.agreement_fitted.kappa)}",
            _figure(rule.spearman),
            f"{rule.flagged_a:,}",
            f"{rule.flagged_b:,}",
            f"{rule.flagged_fitted:,}",
            f"{rule.both:,}",
        )
    return table


def _name(rule: RuleComparison) -> str:
    return f"{rule.rule} [dim]shadow[/]" if rule.mode is Mode.SHADOW else rule.rule


def _share(found: Agreement) -> str:
    return f"{100 * found.share:.1f}%"


def _figure(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _table(table: Table) -> None:
    Console(width=max(_OUT.width, NARROWEST), highlight=False).print(table)


def _line(text: str) -> None:
    _OUT.print(text, soft_wrap=True)


def _safe(text: str) -> str:
    """Text from a file, safe to print: no hidden characters, no markup."""
    return escape(visible(text))
