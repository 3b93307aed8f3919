"""Where a page of the gallery ends and the next begins: a place in the order, not a count of rows. Pure."""

import base64
import binascii
import json
import math
from dataclasses import dataclass

from moderation.errors import SettingsError

LONGEST = 8192
"""Characters of a cursor."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page."""

    value: float
    """of what the page is sorted by"""
    uri: str

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(json.dumps([self.value, self.uri]).encode()).decode()

    @classmethod
    def read(cls, text: str) -> "Cursor":
        """What `str` gave. Raises `SettingsError`."""
        try:
            if len(text) > LONGEST:
                raise ValueError
            value, uri = json.loads(base64.b64decode(text.encode(), altchars=b"-_", validate=True))
            if (
                not isinstance(value, (int, float))
                or isinstance(value, bool)
                or not math.isfinite(value)
                or not isinstance(uri, str)
            ):
                raise ValueError
            uri.encode()
        except (ValueError, TypeError, binascii.Error, RecursionError, OverflowError):
            raise SettingsError(
                "this link to a page of the gallery is not one of this program: open the gallery again"
            ) from None
        return cls(value, uri)
