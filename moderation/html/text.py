"""Texts for people: numbers with their units, and names. Pure."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime

from moderation.common.safe_text import visible

NONE = "\u2013"
"""Shown in place of a missing number: an en dash."""


def key_of(sources: Sequence[str], uri: str) -> str:
    """The URI without the folder it was found in; of several folders, the last one's name stays."""
    for source in sources:
        folder = source.rstrip("/")
        if uri.startswith(f"{folder}/"):
            kept = folder if len(sources) == 1 else folder.rpartition("/")[0]
            return uri[len(kept) + 1 :]
    return uri


def command(*words: object) -> str:
    """A command that can be pasted into a shell, quoted as needed."""
    return shlex.join(visible(str(word)) for word in words)


def number(value: int) -> str:
    """12,345."""
    return f"{value:,}"


def percent(part: int, whole: int) -> str:
    """`part` of `whole` with as many digits as a small rate needs; an en dash if there is nothing to divide by."""
    if whole == 0:
        return NONE
    share = 100.0 * part / whole
    if part in (0, whole):
        return f"{share:.0f}%"
    if share < 0.001:
        return "<0.001%"
    return f"{share:.{1 if share >= 1 else 2 if share >= 0.1 else 3}f}%"


def score(value: float) -> str:
    """0.913, as scores are compared by people."""
    return f"{value:.3f}"


def threshold(value: float | None) -> str:
    """0.60: two digits, more only if the policy gives more."""
    if value is None:
        return NONE
    short = f"{value:.2f}"
    return short if float(short) == value else f"{value:g}"


def duration(seconds: float) -> str:
    """0.42 s, 12.3 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def milliseconds(seconds: float) -> str:
    """3.2 ms, 12 ms, 0.04 ms."""
    value = 1000 * seconds
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms" if value >= 1 else f"{value:.2g} ms"


def size(count: int) -> str:
    """1.2 MB, in powers of 1000."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"


def moment(when: datetime) -> str:
    """21 November 2026, 14:03 UTC."""
    utc = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    return f"{utc.day} {utc:%B %Y, %H:%M} UTC"


def day(when: datetime) -> str:
    """21 Nov 2026."""
    utc = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    return f"{utc.day} {utc:%b %Y}"
