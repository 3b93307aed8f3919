"""Policies: the language, scoring and decisions. Pure: text and arrays in, values out.

No ray, prefect, torch, obstore, boto3 or great_expectations may come in here.
"""

from moderation.policy.schema import Policy, Rule

__all__ = ["Policy", "Rule"]
