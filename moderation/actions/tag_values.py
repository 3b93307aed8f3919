"""The values of tags for one delivery. Pure."""

import json
import re
from collections.abc import Mapping

_NOT_ALLOWED = re.compile(r"[^\w .:/=+\-@]")
_LONGEST = 256
"""Characters of a tag's value in S3."""


def tag_values(tags: Mapping[str, str], payload: str) -> dict[str, str]:
    """Templates such as `{action}` filled in from a message; what S3 does not allow in a tag becomes `_`."""
    message = json.loads(payload)
    fields = {
        "action": message["action"],
        "rule": message["top_rule"],
        "category": message["top_category"],
        "policy": message["policy"]["name"],
        "policy_version": message["policy"]["version"],
        "run_id": message["run_id"],
        "decided_by": message["decided_by"],
    }
    allowed = {name: _NOT_ALLOWED.sub("_", str(value or "")) for name, value in fields.items()}
    return {name: template.format_map(allowed)[:_LONGEST] for name, template in tags.items()}
