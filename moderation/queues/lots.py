"""Images chosen by lot, always the same: by a hash of their bytes, a seed, and what they are chosen for.

A lot is uniform and independent of everything in the image, so that an image is chosen with a known probability. Whoever does
not know the seed cannot make an image that is not chosen.
"""

import hashlib

_RANGE = 1 << 64


def lot(image: str, seed: int, purpose: str) -> float:
    """The lot of an image, in [0, 1): the same as SQL computes by `lot_sql`.

    Args:
        image: SHA-256 of its bytes, 64 hex digits.
        seed: another one gives other lots.
        purpose: what is drawn; lots for different purposes are independent.
    """
    digest = hashlib.md5(f"{seed} {purpose} {image}".encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[8:], "little") / _RANGE


def lot_sql(image: str, seed: int, purpose: str) -> str:
    """The lot in DuckDB's SQL. `image`: an SQL expression; `purpose`: a word."""
    return f"(md5_number_lower('{seed} {purpose} ' || {image}) / {_RANGE}.0)"
