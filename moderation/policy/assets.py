"""What a policy names and does not contain: heads, exemplars and hash lists. Their content is part of its identity."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from moderation.lists.hash_list import HashList
from moderation.policy.exemplars import Exemplar, Exemplars
from moderation.policy.head import Head


@dataclass(frozen=True, eq=False)
class Assets:
    """The content of all that a policy names."""

    heads: Mapping[str, Head] = field(default_factory=dict)
    """by rule id"""
    exemplars: Mapping[str, Exemplars] = field(default_factory=dict)
    """by rule id"""
    background: tuple[Exemplar, ...] = ()
    """ordinary images"""
    lists: Mapping[str, HashList] = field(default_factory=dict)
    """by list id"""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Assets) and self.digests == other.digests

    def __hash__(self) -> int:
        return hash(tuple(self.digests.items()))

    @property
    def digests(self) -> dict[str, str]:
        """What the policy's identity is made of: the SHA-256 of each, by what it is and whose."""
        found = {f"head {rule}": head.digest for rule, head in self.heads.items()}
        found |= {f"list {name}": content.digest for name, content in self.lists.items()}
        if self.exemplars or self.background:
            found["exemplars"] = exemplars_digest(self)
        return dict(sorted(found.items()))

    @property
    def images(self) -> dict[str, Exemplar]:
        """Every exemplar once, by its SHA-256, in the order of these: what is stored with a run gives the same order."""
        own = (one for rule in self.exemplars.values() for one in (*rule.like, *rule.unlike))
        found = {one.sha256: one for one in (*self.background, *own)}
        return dict(sorted(found.items()))


def exemplars_json(assets: Assets) -> bytes:
    """All exemplars of a policy, as they are stored with a run."""
    rules = {rule: {"like": _plain(own.like), "unlike": _plain(own.unlike)} for rule, own in sorted(assets.exemplars.items())}
    plain = {"rules": rules, "background": _plain(assets.background)}
    return json.dumps(plain, indent=1, sort_keys=True).encode()


def exemplars_digest(assets: Assets) -> str:
    """SHA-256 of which images the exemplars are, as hex."""
    return hashlib.sha256(exemplars_json(assets)).hexdigest()


def _plain(exemplars: tuple[Exemplar, ...]) -> list[list[str]]:
    return [[one.name, one.sha256] for one in exemplars]
