"""Policies: the language, its loading, scoring and decisions. Pure: text and arrays in, values out.

No ray, prefect, torch, obstore, boto3 or great_expectations may come in here.
"""

from moderation.policy.loading import load_policy
from moderation.policy.schema import Policy, Rule

__all__ = ["Policy", "Rule", "load_policy"]
