"""How severe the rules of published policies are, for queues that begin with the severest."""

from collections.abc import Iterable

import pyarrow as pa

from moderation.errors import PolicyError
from moderation.policy.schema import Severity
from moderation.results.manifest import Manifest
from moderation.results.stored_policy import policy_without_assets

_SCHEMA = pa.schema([("policy_hash", pa.string()), ("rule", pa.string()), ("severity", pa.int32())])


def severities(manifests: Iterable[Manifest]) -> pa.Table:
    """`policy_hash`, `rule` and `severity`, 0 for the mildest. Policies that this version cannot read are left out."""
    seen: set[str] = set()
    rows = []
    grades = list(Severity)
    for manifest in manifests:
        if manifest.policy_hash in seen:
            continue
        seen.add(manifest.policy_hash)
        try:
            policy = policy_without_assets(manifest)
        except PolicyError:
            continue
        rows += [(manifest.policy_hash, rule.id, grades.index(rule.severity)) for rule in policy.rules]
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA)
