"""Identities of rows, which sort by time."""

import secrets
import threading
import time

_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """A UUID of version 7 (RFC 9562), later ones of this process sorting behind earlier ones.

    The 48 bits of milliseconds are followed by 12 bits of the fraction (method 3 of the RFC) and 62 random bits.
    """
    global _last  # noqa: PLW0603
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    with _lock:
        _last = max(_last + 1, milliseconds << 12 | (rest << 12) // 1_000_000)
        stamp = _last
    return as_uuid(stamp, secrets.randbits(62))


def as_uuid(stamp: int, rest: int) -> str:
    """60 bits of time and 62 others, with the version and variant of UUIDv7."""
    number = (stamp >> 12) << 80 | 7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62 | rest
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
