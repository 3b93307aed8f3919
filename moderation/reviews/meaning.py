"""What a rule looks for, as a hash: whether a verdict about an earlier version of the rule still answers for it."""

import hashlib
import json
from collections.abc import Mapping

from moderation.errors import PolicyError
from moderation.policy.assets import Assets
from moderation.policy.schema import Rule
from moderation.results.manifest import Manifest
from moderation.results.stored_policy import policy_without_assets

_WITHOUT_MEANING = frozenset(
    {"id", "category", "severity", "mode", "description", "review", "block", "review_by", "maps_to"},
)
"""Keys of a rule that do not change what it looks for. Any other key does, also one that the language gains later."""


def rule_meaning(rule: Rule, assets: Assets) -> str:
    """16 hex digits: the same while prompts, lookalikes, exemplars, head and score kind are.

    Thresholds and texts for people do not count. `assets` are the policy's.
    """
    content = rule.model_dump(mode="json", exclude_defaults=True, exclude=set(_WITHOUT_MEANING))
    if rule.id in assets.heads:
        content["head"] = assets.heads[rule.id].digest
    if rule.id in assets.exemplars:
        own = assets.exemplars[rule.id]
        content |= {"like": [one.sha256 for one in own.like], "unlike": [one.sha256 for one in own.unlike]}
    settled = {key: sorted(value, key=json.dumps) if isinstance(value, list) else value for key, value in content.items()}
    return hashlib.sha256(json.dumps(settled, sort_keys=True).encode()).hexdigest()[:16]


def meanings_of(manifest: Manifest) -> Mapping[str, str]:
    """By rule of a run's policy: what it looks for, as a hash. Empty if this version cannot read the policy."""
    if manifest.rule_meanings:
        return manifest.rule_meanings
    try:  # of versions whose policies named no assets
        return {rule.id: rule_meaning(rule, Assets()) for rule in policy_without_assets(manifest).rules}
    except PolicyError:
        return {}
