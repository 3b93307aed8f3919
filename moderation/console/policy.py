"""What the `policy` commands show in the terminal: tables, and lines of text. Names from files are made visible and escaped."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from moderation.common.safe_text import visible
from moderation.html.text import NONE, threshold
from moderation.lists.hash_list import HashKind
from moderation.policy.comparison import Change, Effect
from moderation.policy.explanation import Explanation, RuleExplanation
from moderation.policy.list_explanation import ListExplanation
from moderation.policy.rule_examples import ExampleResult, RuleAccuracy
from moderation.policy.schema import Action, Mode, Policy, Rule

if TYPE_CHECKING:
    from moderation.authoring.check import Checked  # which imports torch

_OUT = Console(highlight=False)
_STYLE = {Action.ALLOW: "", Action.REVIEW: "yellow", Action.BLOCK: "red"}
_VERDICTS = {"pass": "[green]pass[/] ", "miss": "[red]MISS[/] ", "error": "[red]ERROR[/]"}
_SIGNS = {"added": "[green]+[/]", "removed": "[red]-[/]", "changed": "[yellow]~[/]", "renamed": "[yellow]~[/]"}


def show_policy(policy: Policy) -> None:
    """A policy as a table of its rules, below what applies to all of them."""
    _OUT.print(f"[bold]{policy.policy}[/] version {_safe(policy.version)}")
    if policy.description:
        _OUT.print(_safe(policy.description.strip()))
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("owner", _safe(policy.owner) or NONE)
    facts.add_row("model", _safe(policy.model.described))
    facts.add_row("hash", policy.hash)
    facts.add_row("templates", _list(policy.templates))
    facts.add_row("contrast", _list(policy.contrast) or NONE)
    if policy.assets.background:
        facts.add_row("background", f"{len(policy.assets.background):,} images")
    facts.add_row("unreadable", policy.unreadable.value)
    facts.add_row("unsupported", (policy.unsupported or policy.unreadable).value)
    facts.add_row("near", f"{policy.near:g}")
    facts.add_row("examples", str(len(policy.examples)))
    _OUT.print(facts)

    rules = Table(title="Rules", title_justify="left", show_lines=True)
    rules.add_column("rule", overflow="fold", min_width=14)
    rules.add_column("acts from", no_wrap=True)
    rules.add_column("looks for", overflow="fold")
    rules.add_column("lookalikes", overflow="fold")
    for rule in policy.rules:
        about = f"{rule.severity.value} · {_safe(rule.category)} · {_mode(rule.mode)}"
        description = f"\n{_safe(rule.description.strip())}" if rule.description.strip() else ""
        by = f" until {rule.review_by}" if rule.review_by is not None else ""
        elsewhere = f"\n[dim]elsewhere: {_list(rule.maps_to)}[/]" if rule.maps_to else ""
        first = f"[bold]{rule.id}[/]\n[dim]{about}{by}[/]{description}{elsewhere}"
        acts_from = f"{_thresholds(rule.review, rule.block)}\n[dim]{rule.score.value}[/]".lstrip()
        style = "dim" if rule.mode is Mode.OFF else ""
        rules.add_row(first, acts_from, _sought(policy, rule), _list(rule.lookalikes) or NONE, style=style)
    _OUT.print(rules)
    if policy.lists:
        _OUT.print(_lists(policy))


def _lists(policy: Policy) -> Table:
    """The hash lists of a policy: settings, and how many entries there are."""
    table = Table(title="Lists", title_justify="left", show_lines=True)
    table.add_column("list", overflow="fold", min_width=14)
    table.add_column("on a match", no_wrap=True)
    table.add_column("matches", overflow="fold")
    table.add_column("file", overflow="fold")
    for one in policy.lists:
        about = f"{one.severity.value} · {_safe(one.category)} · {_mode(one.mode)}"
        description = f"\n{_safe(one.description.strip())}" if one.description.strip() else ""
        matches = one.hash.shown
        if one.hash is HashKind.PDQ:
            matches += f" up to {one.distance} bits away, quality {one.min_quality} or more"
            matches += ", turned and mirrored too" if one.turned else ""
        content = policy.assets.lists.get(one.id)
        entries = "" if content is None else f"\n[dim]entries: {len(content):,}; content {content.digest[:16]}[/]"
        action = f"{one.action.value}\n[dim]restricted[/]" if one.restricted else one.action.value
        style = "dim" if one.mode is Mode.OFF else ""
        name = f"[bold]{one.id}[/]\n[dim]{about}[/]{description}"
        table.add_row(name, action, matches, f"{_safe(one.file)}{entries}", style=style)
    return table


def show_explanations(policy: Policy, named: Sequence[tuple[str, Explanation]]) -> None:
    """A table per image: its rules with score, thresholds, distance, prompt and lookalike."""
    for name, found in named:
        _OUT.print(_headline(name, found), soft_wrap=True)
        for one in found.lists:
            _OUT.print(_match(one), soft_wrap=True)
        if found.error_code is not None:
            continue
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
        table.add_column("rule", overflow="fold", min_width=8)
        table.add_column("score", justify="right", no_wrap=True)
        table.add_column("acts from", no_wrap=True)
        table.add_column("outcome", no_wrap=True)
        facts = [rule.kind.facts for rule in found.rules]
        table.add_column(" / ".join(dict.fromkeys(one.closest for one in facts)), overflow="fold")
        table.add_column(" / ".join(dict.fromkeys(filter(None, (one.compared for one in facts)))), overflow="fold")
        for rule in found.rules:
            table.add_row(*_cells(rule, found.frames), style="bold" if rule.rule == found.top_rule else "")
        _OUT.print(table)
        for rule in found.rules:
            if rule.head is not None:
                _OUT.print(f"[dim]{rule.rule}: {_safe(rule.head)}[/]", soft_wrap=True)
    off = [rule.id for rule in policy.rules if rule.mode is Mode.OFF]
    if off:
        _OUT.print(f"[dim]off, so not scored: {', '.join(off)}[/]")


def show_test(policy: Policy, results: Sequence[ExampleResult], accuracies: Sequence[RuleAccuracy]) -> None:
    """A line per example, then precision and recall by rule."""
    if not results:
        _OUT.print(f"the policy {policy.policy} has no examples, so there is nothing to test; add some, such as")
        _OUT.print("examples:\n  - {image: photo.jpg, expect: allow}", markup=False)
        return
    for result in results:
        line = f"{_VERDICTS[result.verdict]} {_safe(result.image)}: "
        if result.verdict == "pass":
            line += _safe(result.found)
        else:
            line += f"expected {_safe(result.expected)}; got {_safe(result.found)}"
            line += f" ({_safe(result.why)})" if result.why else ""
        _OUT.print(line, soft_wrap=True)
    table = Table(title="By rule", title_justify="left")
    table.add_column("rule", overflow="fold")
    for column in ("precision", "recall", "correctly flagged", "wrongly flagged", "missed", "correctly not flagged"):
        table.add_column(column, justify="right")
    for rule in accuracies:
        counts = (rule.true_positives, rule.false_positives, rule.false_negatives, rule.true_negatives)
        name = f"{rule.rule} (shadow)" if rule.mode is Mode.SHADOW else rule.rule
        table.add_row(name, _share(rule.precision), _share(rule.recall), *map(str, counts))
    _OUT.print(table)
    passed = sum(result.verdict == "pass" for result in results)
    _OUT.print(f"{passed} of {len(results)} examples passed")


def show_changes(old: Policy, new: Policy, changes: Sequence[Change], message: str) -> None:
    """What changed: the policy's own keys, then rule by rule; then the effect on its identity."""
    place: str | None = ""
    for change in changes:
        if change.rule != place:
            place = change.rule
            _OUT.print(f"[bold]{f'rule {place}' if place else f'policy {new.policy}'}[/]")
        line = f"  {_SIGNS[change.kind]} {_change(change)}"
        dim = "dim" if change.effect in (Effect.REPORTS, Effect.NOTHING) else "default"
        _OUT.print(f"{line}  [{dim}]({change.note})[/]", soft_wrap=True)
    if not changes:
        _OUT.print("no change in meaning")
    hashes = old.hash if old.hash == new.hash else f"{old.hash} → {new.hash}"
    _OUT.print(f"hash {hashes}", soft_wrap=True)
    _OUT.print(message, markup=False, soft_wrap=True)


def show_written(path: Path) -> None:
    """The path of a page; on stderr, so that `--json` stays JSON."""
    Console(stderr=True).print(f"written: {visible(str(path))}", markup=False, highlight=False, soft_wrap=True)


def show_cut(folders: Sequence[str]) -> None:
    """Folders of which only the first images are explained; on stderr, so that `--json` stays JSON."""
    for folder in folders:
        message = f"{visible(folder)}: only the folder's first images are explained; `moderate run` processes all of them"
        Console(stderr=True).print(message, markup=False, highlight=False, soft_wrap=True)


def _headline(name: str, found: Explanation) -> str:
    action = f"[bold {_STYLE[found.action]}]{found.action.value}[/]"
    if found.error_code is not None:
        why = f"cannot be read, decided by the policy's `{found.decided_by}: {found.action.value}`"
        if found.by_list:
            why = f"cannot be read, decided by the list {found.by_list.list}"
        return f"\n[bold]{_safe(name)}[/]: {action}: {why}\n{found.error_code}: {_safe(found.error_detail or '')}"
    top = found.top
    reasons = [f"{'' if top.acts else 'closest: '}{top.rule}, {top.distance}"] if top else []
    if found.by_list:
        reasons = [f"on the list {found.by_list.list}"]
    if found.near_threshold:
        reasons.append("[yellow]near a threshold[/]")
    if found.frames > 1:
        reasons.append(f"{found.frames} frames, counted from 0")
    message = f" ({'; '.join(reasons)})" if reasons else ""
    return f"\n[bold]{_safe(name)}[/]: {action}{message}"


def _match(one: ListExplanation) -> str:
    """On the list known-bad, PDQ 4 of at most 31 bits away: block, decides."""
    mode = " [dim](shadow)[/]" if one.mode is Mode.SHADOW else ""
    frame = f", frame {one.frame}" if one.frame else ""
    label = f" {_safe(one.label)}" if one.label else ""
    decides = ", decides" if one.decides else ""
    return f"  on the list [bold]{one.list}[/]{mode}, {one.how}{frame}: {one.verdict}{decides}\n  [dim]{one.entry}{label}[/]"


def _cells(rule: RuleExplanation, frames: int) -> list[str]:
    style = _STYLE[rule.action]
    action = f"[{style}]{rule.verdict}[/]" if style else rule.verdict
    mode = "\n[dim]shadow[/]" if rule.mode is Mode.SHADOW else ""
    frame = f"\n[dim]frame {rule.frame}[/]" if frames > 1 else ""
    lookalike = NONE if rule.lookalike is None else f"{_safe(rule.lookalike)}\n[dim]{rule.lookalike_cosine:.3f}[/]"
    return [
        f"{rule.rule}{mode}",
        f"{rule.score:.3f}",
        _thresholds(rule.review, rule.block),
        f"{action}\n{rule.distance}{frame}",
        _safe(rule.prompt) if rule.head is not None else f"{_safe(rule.prompt)}\n[dim]{rule.cosine:.3f}[/]",
        lookalike,
    ]


def _sought(policy: Policy, rule: Rule) -> str:
    head = policy.assets.heads.get(rule.id)
    if head is not None:
        return f"{_safe(head.name)}\n[dim]{_safe(head.about)}[/]"
    own = policy.assets.exemplars.get(rule.id)
    if own is None:
        return _list(rule.looks_for)
    unlike = f", {len(own.unlike):,} unlike" if own.unlike else ""
    return f"{_list(rule.looks_for)}\n[dim]{len(own.like):,} exemplar{'s' * (len(own.like) != 1)}{unlike}[/]"


def _change(change: Change) -> str:
    old, new = (NONE if value is None else _safe(_value(value)) for value in (change.old, change.new))
    if change.key == "id":
        return f"renamed from {old}" if change.kind == "renamed" else f"rule {change.kind}"
    key = "lookalikes" if change.key == "contrast" and change.rule else change.key
    if change.kind == "changed":
        return f"{key}: {old} → {new}"
    return f"{key}: {new if change.kind == 'added' else old}"


def _value(value: str | float) -> str:
    return (value or '""') if isinstance(value, str) else f"{value:g}"


def _thresholds(review: float | None, block: float | None) -> str:
    named = (("review", review), ("block ", block))
    return "\n".join(f"{name} {threshold(value)}" for name, value in named if value is not None)


def _mode(mode: Mode) -> str:
    return mode.value if mode is Mode.LIVE else f"[/][yellow]{mode.value}[/][dim]"


def _list(texts: Sequence[str]) -> str:
    return ", ".join(map(_safe, texts))


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _safe(text: str) -> str:
    """Text from a file, safe to print: no hidden characters, no markup."""
    return escape(visible(text))


def show_checked(checked: "Checked") -> None:
    """The findings of checking a file; one line if there are none."""
    for finding in checked.findings:
        _OUT.print(str(finding), markup=False, highlight=False, soft_wrap=True)
    if checked.policy is not None:
        rules, warnings = len(checked.policy.active_rules), len(checked.findings)
        message = f", {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
        note = f" ({checked.note})" if checked.note else ""
        _OUT.print(f"{checked.path}: ok, {rules} rules{message}{note}", markup=False, highlight=False, soft_wrap=True)
