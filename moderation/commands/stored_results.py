"""What commands on stored embeddings share: which results, and since when."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from moderation.errors import OutputError, SettingsError, StorageError

if TYPE_CHECKING:
    from moderation.results.archive import Archive

_DAYS = {"d": 1, "w": 7, "y": 365}


def opened(results: str, since: str | None, fingerprint: str | None, model: str | None = None) -> "Archive":
    """The embeddings under an output: of runs since then, of one model. Raises `SettingsError`, `OutputError`."""
    from moderation.results.archive import open_archive
    from moderation.storage import Store

    start = moment(since, datetime.now(UTC)) if since is not None else None
    try:
        output = Store(results)
    except StorageError as error:
        raise OutputError(f"cannot read the results at {results!r}: {error.detail}") from None
    return open_archive(output, model, fingerprint=fingerprint, since=start)


def moment(text: str, now: datetime, option: str = "--since") -> datetime:
    """The moment that `30d`, `12w`, `2y`, `2026-11-21` or `2026-11-21T03:00:00Z` means; UTC where no zone is given.

    Raises `SettingsError`.
    """
    given = text.strip()
    age = re.fullmatch(r"(\d{1,5})([dwy])", given.lower())
    try:
        if age is not None:
            return now - timedelta(days=int(age[1]) * _DAYS[age[2]])
        found = datetime.fromisoformat(given)
    except (ValueError, OverflowError):
        message = "give an age such as 30d, 12w or 2y, or a day such as 2026-11-21"
        raise SettingsError(f"{option}: {text!r} is not a time: {message}") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
