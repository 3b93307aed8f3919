"""What a comparison means, in sentences for people who answer for a policy. Pure."""

from dataclasses import replace

from moderation.policy.schema import Mode
from moderation.studies.model_comparison.comparison_result import ModelComparison, RuleComparison, Transitions, changed

MANY_TIMES = 2.0
"""From so many times as many flags on, a rule is named."""
CLOSE, APART = 0.85, 0.6
"""Shares of a rule's flagged images that both models flag, above and below which they see alike and differently."""
ENOUGH = 10
"""Flagged images from which on their overlap is judged."""


def about_rule(found: RuleComparison, images: int) -> RuleComparison:
    """The rule with a few sentences about it."""
    return replace(found, summary=_rule(found, images))


def _rule(found: RuleComparison, images: int) -> str:
    if not found.flagged_a and not found.flagged_b:
        return f"Neither model flags any of these {images:,} images, so they show little about this rule."
    now = f"A flags {found.flagged_a:,} of {images:,} images, B {found.flagged_b:,} with the same thresholds."
    if not found.flagged_a:
        return f"{now} Since A flags none, these images do not show which thresholds B needs."
    if not found.is_fitted and not found.flagged_fitted:
        return f"{now} These images do not show which thresholds B needs."
    fitted = f"With its own thresholds, B flags {found.flagged_fitted:,}, of which A flags {found.both:,} too."
    judged = min(found.flagged_a, found.flagged_fitted)
    if found.flagged_fitted == 0 or judged < ENOUGH:
        return f"{now} {fitted}"
    share = found.both / max(found.flagged_a, found.flagged_fitted)
    if share >= CLOSE:
        return f"{now} {fitted} Both models agree on this rule."
    if share < APART:
        return (
            f"{now} {fitted} The models disagree on this rule: look at the images and the prompts before you change thresholds."
        )
    return f"{now} {fitted}"


def about(found: ModelComparison) -> tuple[str, ...]:
    """What moving from A to B would change, the most important first."""
    if found.same_model:
        return ("A and B are the same model: weights, architecture, preprocessing and precision. Nothing would change.",)
    sentences = [
        f"With the thresholds as they are, {_different_decisions(found.actions, found.images)}",
        f"With thresholds for B, {_different_decisions(found.actions_fitted, found.images)}",
    ]
    live = [rule for rule in found.rules if rule.mode is Mode.LIVE]
    more = [rule.rule for rule in live if rule.flagged_b > MANY_TIMES * max(rule.flagged_a, 1)]
    fewer = [rule.rule for rule in live if rule.flagged_a > MANY_TIMES * max(rule.flagged_b, 1)]
    if more:
        sentences.append(f"Left as they are, these rules would flag more than twice as many images: {', '.join(more)}.")
    if fewer:
        sentences.append(f"Left as they are, these rules would flag less than half as many images: {', '.join(fewer)}.")
    unknown = [rule.rule for rule in live if not rule.is_fitted]
    if unknown:
        sentences.append(f"These images do not determine all thresholds for B of: {', '.join(unknown)}. A larger --sample may.")
    if not changed(found.actions):
        return (*sentences[:1], *sentences[2:])
    return tuple(sentences)


def _different_decisions(actions: Transitions, images: int) -> str:
    count = changed(actions)
    if not count:
        return f"B decides all {images:,} images as A does."
    parts = []
    for action, name in (("block", "blocked"), ("review", "sent to review")):
        before = sum(n for (old, _), n in actions.items() if old == action)
        after = sum(n for (_, new), n in actions.items() if new == action)
        parts.append(f"{before:,} {name} by A, {after:,} by B" if before != after else f"{before:,} {name} by each")
    return f"B decides {count:,} of {images:,} images differently ({100 * count / images:.1f}%): {'; '.join(parts)}."


def notes(found: ModelComparison) -> tuple[str, ...]:
    """What the images are, and what is missing among them."""
    sentences = []
    if found.taken < found.asked:
        sentences.append(f"There are fewer images than the requested {found.asked:,}: {found.taken:,}.")
    if found.unreadable:
        codes = ", ".join(f"{code} {count:,}" for code, count in found.unreadable.items())
        left = sum(found.unreadable.values())
        sentences.append(f"{left:,} of the {found.taken:,} sampled objects could not be scored and are skipped: {codes}.")
    if found.hold == "precision":
        sentences.append(f"{found.labelled:,} images have labels, which are used only to measure how often a flag is correct.")
    return tuple(sentences)
