"""Which of the objects that a source names are moderated."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import translate
from functools import cached_property

from moderation.records import ObjectRef


@dataclass(frozen=True)
class Selection:
    """Which objects of a source count. Patterns are those of the shell, on the key below the source; `*` matches `/` too."""

    include: Sequence[str] = ()
    """any of these must match; none given: all keys do"""
    exclude: Sequence[str] = ()
    """none of these may match"""
    modified_since: datetime | None = None
    """a time without a zone is UTC"""

    @property
    def by_key(self) -> bool:
        """Whether names matter."""
        return bool(self.include or self.exclude)

    @property
    def by_time(self) -> bool:
        """Whether ages matter."""
        return self.modified_since is not None

    def takes_key(self, key: str) -> bool:
        """Whether an object of this name counts."""
        if self._include and not self._include.fullmatch(key):
            return False
        return not (self._exclude and self._exclude.fullmatch(key))

    def takes_time(self, item: ObjectRef) -> bool:
        """Whether an object of this age counts. One that could not be looked up does, so that it gets its row."""
        return self._since is None or not item.etag or item.last_modified >= self._since

    @cached_property
    def _include(self) -> re.Pattern[str] | None:
        return _pattern(self.include)

    @cached_property
    def _exclude(self) -> re.Pattern[str] | None:
        return _pattern(self.exclude)

    @cached_property
    def _since(self) -> datetime | None:
        since = self.modified_since
        return since.replace(tzinfo=UTC) if since is not None and since.tzinfo is None else since


def _pattern(globs: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(f"(?:{translate(glob)})" for glob in globs)) if globs else None
