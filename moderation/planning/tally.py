"""The position of a run's listing."""

from dataclasses import dataclass

from moderation.planning.plan import Listed


@dataclass
class Tally:
    """The position of the listing. Grows while it runs."""

    listed: int = 0
    unchanged: int = 0
    repeated: int = 0
    planned: int = 0
    source: int = 0
    """number of the source being listed"""
    entries: int = 0
    """entries of that source looked at before the part being listed"""
    last_uri: str = ""
    named: int = 0
    """objects to process, as counted by stores and files themselves: the listing must reach the same number"""
    missing: int = 0
    """of these, how many the pages of folders that are behind should have given and did not"""
    seconds: float = 0.0
    complete: bool = False

    def listed_so_far(self) -> Listed:
        """As it is stored beside a shard."""
        return Listed(self.listed, self.unchanged, self.source, self.entries, self.last_uri, self.missing)

    def go_on_from(self, listed: Listed) -> None:
        """Start from the position that an earlier attempt stored."""
        self.listed, self.unchanged, self.missing = listed.listed, listed.unchanged, listed.missing
        self.named = self.listed + self.missing
        self.source, self.entries, self.last_uri = listed.source, listed.entries, listed.last_uri

    def begin_again(self, planned: int) -> None:
        """List everything from the start, since the order is unreliable; `planned` objects are already in shards."""
        self.listed = self.named = self.planned = planned
        self.unchanged = self.repeated = self.source = self.entries = self.missing = 0
        self.last_uri = ""
