"""Whether heads belong to the policy's model. Embeddings of another model are other numbers of the same form. Pure."""

from collections.abc import Callable

from moderation.common.findings import Finding
from moderation.errors import PolicyError
from moderation.policy.schema import Policy


def head_fingerprints(policy: Policy) -> frozenset[str]:
    """The models that the heads of a policy belong to, by fingerprint."""
    return frozenset(head.model for head in policy.assets.heads.values())


def check_heads(policy: Policy, made: Callable[[str], bool]) -> None:
    """Refuse heads that belong to another model than the policy's. Arguments as in `foreign_heads`.

    Raises:
        PolicyError: names every such head, at its place in the policy where that is known.
    """
    found = foreign_heads(policy, made)
    if found:
        raise PolicyError("\n".join(str(one) if one.file else f"{one.message}: {one.hint}" for one in found))


def foreign_heads(policy: Policy, made: Callable[[str], bool]) -> list[Finding]:
    """The heads that belong to another model.

    Args:
        policy: with its assets.
        made: whether a fingerprint is that of the policy's model, in some precision and with either way of resizing.

    Returns:
        Their places in the policy; without a file where these are not known.
    """
    known = {fingerprint: made(fingerprint) for fingerprint in sorted(head_fingerprints(policy))}
    return [
        head.refused(
            f"the head {head.name!r} belongs to another model, with the fingerprint {head.model}: this policy uses "
            f"{policy.model.label}",
            f"learn it again from results of this model: `moderate policy learn --rule {rule}`",
        )
        for rule, head in policy.assets.heads.items()
        if not known[head.model]
    ]
