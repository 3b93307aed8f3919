"""Whether heads belong to the policy's model. Embeddings of another model are other numbers of the same form. Pure."""

from collections.abc import Callable

from moderation.errors import PolicyError
from moderation.policy.schema import Policy


def head_fingerprints(policy: Policy) -> frozenset[str]:
    """The models that the heads of a policy belong to, by fingerprint."""
    return frozenset(head.model for head in policy.assets.heads.values())


def check_heads(policy: Policy, made: Callable[[str], bool]) -> None:
    """Refuse heads that belong to another model than the policy's.

    Args:
        policy: with its assets.
        made: whether a fingerprint is that of the policy's model, in some precision and with either way of resizing.

    Raises:
        PolicyError: names every such head, at its place in the policy where that is known.
    """
    found = []
    known = {fingerprint: made(fingerprint) for fingerprint in head_fingerprints(policy)}
    for rule, head in policy.assets.heads.items():
        if not known[head.model]:
            message = (
                f"the head {head.name!r} belongs to another model, with the fingerprint {head.model}: this policy uses "
                f"{policy.model.label}"
            )
            found.append(
                head.refused(message, f"learn it again from results of this model: `moderate policy learn --rule {rule}`")
            )
    if found:
        raise PolicyError("\n".join(found))
