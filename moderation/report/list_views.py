"""What the page shows of hash lists, as plain records. No image is among them. Pure."""

from dataclasses import dataclass

from moderation.html.text import number, percent
from moderation.policy.schema import ListedImages, Policy
from moderation.results.aggregates import Aggregates
from moderation.results.manifest import Manifest

ENTRIES = 5
"""Entries shown of a list."""


@dataclass(frozen=True, slots=True)
class EntryView:
    """An entry with the images that match it."""

    hash: str
    label: str
    count: str


@dataclass(frozen=True, slots=True)
class ListView:
    """A list with what it matched."""

    settings: ListedImages
    size: str
    """entries"""
    matched: int
    rate: str
    """of the images processed"""
    entries: tuple[EntryView, ...]
    """those that most images match"""

    @property
    def verb(self) -> str:
        """What becomes of a match: `block`, or `would block` of a shadow list."""
        one = self.settings
        return one.action.value if one.mode == "live" else f"would {one.action.value}"


def list_views(manifest: Manifest, policy: Policy, found: Aggregates) -> tuple[ListView, ...]:
    """The lists that are matched, those that matched most first."""
    processed = manifest.scored + manifest.errored
    views = [_view(one, policy, manifest.counts.matched.get(one.id, 0), processed, found) for one in policy.active_lists]
    return tuple(sorted(views, key=lambda view: -view.matched))


def _view(one: ListedImages, policy: Policy, matched: int, processed: int, found: Aggregates) -> ListView:
    content = policy.assets.lists[one.id]
    most = sorted(found.entries.get(one.id, {}).items(), key=lambda item: (-item[1], item[0]))[:ENTRIES]
    entries = []
    for digest, count in most:
        at = content.index(bytes.fromhex(digest))
        label = "" if at is None else content.labels[at].as_py()
        entries.append(EntryView(digest, label, number(count)))
    return ListView(one, number(len(content)), matched, percent(matched, processed), tuple(entries))
