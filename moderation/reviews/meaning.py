"""What a rule looks for, as a hash: whether a verdict about an earlier version of the rule still answers for it."""

import hashlib
import json
from collections.abc import Mapping

from moderation.errors import PolicyError
from moderation.policy.schema import Rule
from moderation.results.manifest import Manifest
from moderation.results.stored_policy import stored_policy

_WITHOUT_MEANING = frozenset(
    {"id", "category", "severity", "mode", "description", "review", "block", "review_by", "maps_to", "dsa"},
)
"""Keys of a rule that do not change what it looks for. Any other key does, also one that the language gains later."""


def rule_meaning(rule: Rule) -> str:
    """16 hex digits: the same while prompts, lookalikes and score kind are. Thresholds and texts for people do not count."""
    content = rule.model_dump(mode="json", exclude_defaults=True, exclude=set(_WITHOUT_MEANING))
    settled = {key: sorted(value, key=json.dumps) if isinstance(value, list) else value for key, value in content.items()}
    return hashlib.sha256(json.dumps(settled, sort_keys=True).encode()).hexdigest()[:16]


def meanings_of(manifest: Manifest) -> Mapping[str, str]:
    """By rule of a run's policy: what it looks for, as a hash. Empty if this version cannot read the policy."""
    if manifest.rule_meanings:
        return manifest.rule_meanings
    try:
        return {rule.id: rule_meaning(rule) for rule in stored_policy(manifest).rules}
    except PolicyError:
        return {}
