"""Images as the pages show them: a picture, a number, and what was decided. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from moderation.html.text import key_of, score
from moderation.studies.search.nearest import Found
from moderation.studio.catalogue import Row
from moderation.studio.rendering import address


@dataclass(frozen=True, slots=True)
class Tile:
    """One image of a grid."""

    uri: str
    key: str
    link: str
    """its own page"""
    picture: str | None
    """where its picture is; None where it has none"""
    number: str
    """a score or a cosine"""
    action: str
    label: str
    """the action in words; empty where it says nothing"""
    caption: str
    sealed: bool = False
    """shown clearly on its own page only, not on pointing at it"""
    alike: int = 0
    """further images that look the same"""


def of_row(row: Row, sources: Sequence[str]) -> Tile:
    """An image of the gallery. `sources`: folders that names are shown without."""
    broken = row.status == "error"
    flags = ", ".join(row.flags) or ", ".join(f"{rule} (shadow)" for rule in row.shadow_flags)
    return Tile(
        uri=row.uri,
        key=key_of(sources, row.uri),
        link=address("/image", uri=row.uri),
        picture=None if broken else address("/pictures", uri=row.uri, frame=row.frame or None),
        number="" if row.score is None else score(row.score),
        action="failed" if broken else row.action,
        label=(row.error_code or "error") if broken else "" if row.action == "allow" else row.action,
        caption=f"policy says {row.action}" if broken else flags or (f"closest: {row.rule}" if row.rule else ""),
        sealed=row.action == "block",
    )


def of_found(found: Found, sources: Sequence[str]) -> Tile:
    """An image that a search found."""
    return Tile(
        uri=found.uri,
        key=key_of(sources, found.uri),
        link=address("/image", uri=found.uri),
        picture=address("/pictures", uri=found.uri, frame=found.frame or None),
        number=score(found.score),
        action=found.action,
        label="" if found.action == "allow" else found.action,
        caption=", ".join(found.flags),
        sealed=found.action == "block",
        alike=found.alike,
    )
