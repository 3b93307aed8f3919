"""What hash lists have to do with the decision on an image, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from moderation.lists.hash_list import HashKind
from moderation.lists.turned import TURNS
from moderation.policy.known_images import Listed
from moderation.policy.schema import Action, Mode, Severity


@dataclass(frozen=True, slots=True)
class ListExplanation:
    """A list that the image is on."""

    list: str
    """the list's id"""
    category: str
    severity: Severity
    mode: Mode
    hash: HashKind
    action: Action
    """what the list asks for; a shadow list's is never carried out"""
    restricted: bool
    """whether nothing of the image may be shown"""
    entry: str
    """the nearest entry, hex digits"""
    label: str
    """what the list says of it; may be empty"""
    distance: int
    """bits that differ; 0 for an exact match"""
    limit: int
    """bits that may differ"""
    turn: str
    """how the entry was turned or mirrored to match; empty if it was not"""
    entries: int
    """how many entries match"""
    frame: int | None
    """the frame that matches, counted from 0; None for hashes of bytes"""
    decides: bool
    """whether the list decided about the image"""

    @property
    def verdict(self) -> str:
        """The action in words: `block`, or `would block` of a shadow list."""
        return f"would {self.action.value}" if self.mode is Mode.SHADOW else self.action.value

    @property
    def how(self) -> str:
        """`PDQ 12 of at most 31 bits away, turned by 180°`, or `same SHA-256`."""
        if self.hash is not HashKind.PDQ:
            return f"same {self.hash.shown}"
        turn = f", {self.turn}" if self.turn else ""
        return f"PDQ {self.distance} of at most {self.limit} bits away{turn}"


def explain_lists(listed: Listed | None, image: int = 0) -> tuple[ListExplanation, ...]:
    """The lists that one of the images is on, in file order."""
    if listed is None:
        return ()
    found = []
    for at, number, match in zip(listed.matches.image, listed.matches.list, listed.matches.found, strict=True):
        if at != image:
            continue
        one = listed.lists[number]
        found.append(
            ListExplanation(
                list=one.id,
                category=one.category,
                severity=one.severity,
                mode=one.mode,
                hash=one.hash,
                action=one.action,
                restricted=one.restricted,
                entry=match.entry,
                label=match.label,
                distance=match.distance,
                limit=one.reach,
                turn="" if match.turn == TURNS[0] else match.turn,
                entries=match.entries,
                frame=match.frame,
                decides=bool(listed.outcome.by_list[image] == number),
            )
        )
    return tuple(found)


def deciding(lists: Sequence[ListExplanation]) -> ListExplanation | None:
    """The list that decided."""
    return next((one for one in lists if one.decides), None)
