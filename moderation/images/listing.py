"""From a source to a stream of objects, each once."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import translate
from functools import cached_property

from moderation.errors import SourceError, StorageError
from moderation.records import ObjectRef
from moderation.storage import Store


@dataclass(frozen=True)
class Selection:
    """Which objects of a source count. Patterns are those of the shell, on the key below the source; `*` matches `/` too."""

    include: Sequence[str] = ()
    """any of these must match; none given: all keys do"""
    exclude: Sequence[str] = ()
    """none of these may match"""
    modified_since: datetime | None = None
    """a time without a zone is UTC"""

    def takes(self, key: str, item: ObjectRef) -> bool:
        """Whether an object counts."""
        if self._include and not self._include.fullmatch(key):
            return False
        if self._exclude and self._exclude.fullmatch(key):
            return False
        return self._since is None or item.last_modified >= self._since

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


def list_objects(source: Store, selection: Selection, after: str = "") -> Iterator[list[ObjectRef]]:
    """Pages of the selected objects under `source` in key order, those behind the URI `after` only.

    Raises:
        SourceError: the listing broke off; what was listed so far stays valid.
    """
    try:
        for page in source.list(after=source.key_of(after) if after else ""):
            yield [item for item in page if selection.takes(source.key_of(item.uri), item)]
    except StorageError as error:
        raise SourceError(f"listing {source.uri} broke off: {error.detail}") from None


def _pattern(globs: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(f"(?:{translate(glob)})" for glob in globs)) if globs else None
