"""A published run in a few rows, for the terminal and for Prefect's page."""

from moderation.policy.schema import Mode, Policy
from moderation.results.manifest import Manifest


def count_rows(manifest: Manifest) -> list[tuple[str, str]]:
    """What became of the listed objects: (what, how many)."""
    counts = manifest.counts
    return [
        ("listed", f"{manifest.listed:,}"),
        *([("named more than once", f"{manifest.repeated:,}")] if manifest.repeated else []),
        *([("linked folders, skipped", f"{manifest.linked_folders:,}")] if manifest.linked_folders else []),
        *([("pipes, sockets, devices, skipped", f"{manifest.special_files:,}")] if manifest.special_files else []),
        ("unchanged", f"{manifest.unchanged:,}"),
        ("scored", f"{counts.scored:,}"),
        *([("  from stored embeddings", f"{manifest.redecided:,}")] if manifest.redecided else []),
        ("errored", f"{counts.errors:,}"),
        *((f"  {code}", f"{number:,}") for code, number in counts.errored.items()),
        ("blocked", f"{counts.blocked:,}"),
        ("to review", f"{manifest.to_review.images:,}"),
        *([("  by rules", f"{counts.review:,}")] if manifest.to_review.unreadable else []),
        *([("  unreadable", f"{manifest.to_review.unreadable:,}")] if manifest.to_review.unreadable else []),
        ("near a threshold", f"{counts.near_threshold:,}"),
        *([("not matched with MD5 lists", f"{counts.without_md5:,}")] if counts.without_md5 else []),
        *((f"on the list {name}", f"{number:,}") for name, number in counts.matched.items()),
    ]


def rule_rows(manifest: Manifest, policy: Policy) -> list[dict[str, str | int | float | None]]:
    """A row per rule that was scored."""
    counts = manifest.counts
    return [
        {
            "rule": rule.id,
            "category": rule.category,
            "severity": rule.severity.value,
            "mode": rule.mode.value,
            "review": rule.review,
            "block": rule.block,
            "flagged": (counts.shadow if rule.mode is Mode.SHADOW else counts.flagged).get(rule.id, 0),
        }
        for rule in policy.active_rules
    ]
