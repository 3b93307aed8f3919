"""An image that awaits a person, as files of other tools show it."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueItem:
    """A row of the queue. Texts are None where they are unknown."""

    uri: str
    etag: str = ""
    sha256: str | None = None
    rule: str | None = None
    """the rule that decided; None where none did, such as for unreadable images"""
    category: str | None = None
    machine_action: str | None
    score: float | None = None
    threshold: float | None = None
    policy: str
    run_id: str
    queue: str
    selection: str = "decision"
    weight: float | None = None
    suggestion: str | None = None
    """what was decided about a near-duplicate"""
    appeal_id: str | None = None
    appeal_text: str | None = None
    last_note: str | None = None
    """of the person who sent it on"""
    blind: bool = False
    """whether the reviewer is not to see what the machine said"""
    restricted: bool = False
    """whether nothing of the image may be shown: it is on a restricted hash list"""

    def blinded(self) -> "QueueItem":
        """Without what the machine and other people said."""
        return replace(self, machine_action=None, score=None, threshold=None, suggestion=None, last_note=None, blind=True)
