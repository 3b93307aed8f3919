"""Measures in words. Pure."""

from collections.abc import Iterator

from moderation.measures.agreement import Agreement
from moderation.measures.judged_images import Part
from moderation.measures.rates import Rate
from moderation.measures.rule_measures import Measures, PolicyMeasure, RuleMeasure

_MOST = 0.95
"""Of the images in review, this share is nearly all."""


def rate(found: Rate) -> str:
    """0.912 (0.874 to 0.941)."""
    if found.value is None:
        return "unknown"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def coefficient(found: Agreement) -> str:
    """0.71 (0.62 to 0.80)."""
    if found.value != found.value:
        return "unknown: one answer only"
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def part(of: Part) -> str:
    """Shop 2 (0123456789abcdef)."""
    version = f" {of.version} ({of.hash})" if of.hash else ""
    return f"{of.policy}{version}{f', {of.day:%Y-%m-%d}' if of.day else ''}"


def overturned(rule: RuleMeasure) -> str:
    """17.5 %."""
    return f"{100 * rule.overturned / rule.judged:.1f} %" if rule.judged else "-"


def remarks(measures: Measures) -> Iterator[str]:
    """What a reader should know of how the figures came about."""
    for policy in measures.policies:
        name, images, judged = part(policy.part), policy.images, policy.judged
        waiting, seen = images.get("review", 0), judged.get("review", 0)
        if 0 < seen < _MOST * waiting:
            yield (
                f"{name}: {seen:,} of {waiting:,} images in review have a verdict; if the queue shows some kinds first, "
                "precision is that of these kinds"
            )
        for action, key in (("block", "blocked"), ("allow", "allowed")):
            if images.get(action) and not judged.get(action):
                lost = "recall cannot be known" if action == "allow" else "precision is that of the images in review"
                yield (
                    f"{name}: none of the {images[action]:,} {key} images was judged, so {lost}: set "
                    f"`audit: {{{key}: ...}}` in queues.yaml"
                )


def images(policy: PolicyMeasure, action: str) -> str:
    """1,200 of 3,400 judged."""
    return f"{policy.judged.get(action, 0):,} of {policy.images.get(action, 0):,}"
