"""How many images a change may block, or send to review, that were not: what stops a pull request. Pure."""

import re
from dataclasses import dataclass
from typing import Literal

from moderation.errors import SettingsError
from moderation.html.text import number, percent
from moderation.studies.backtest.backtest_result import Backtest

Kind = Literal["blocks", "reviews"]


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on the images that become blocked, or go to review, and did not before."""

    kind: Kind
    text: str
    """as it was given: `0.1%` or `500`"""
    value: float
    is_share: bool

    @classmethod
    def parse(cls, kind: Kind, text: str) -> "Budget":
        """Of `0.1%` (of all images of the backtest) or `500` images. Raises `SettingsError`."""
        found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)\s*(%?)", text.strip())
        if found is None or (not found[2] and "." in found[1]) or (found[2] and float(found[1]) > 100):
            raise SettingsError(
                f"--max-new-{kind}: {text!r} is not a limit: give a share of the images such as 0.1%, or a number"
            )
        return cls(kind, text.strip(), float(found[1]), bool(found[2]))

    def exceeded(self, found: Backtest) -> str | None:
        """By how much a backtest is over it, in one line; None if it is not."""
        count = found.new_blocks if self.kind == "blocks" else found.new_reviews
        allowed = int(found.images * self.value / 100 + 1e-9) if self.is_share else int(self.value)
        if count <= allowed:
            return None
        one = count == 1
        become = (
            f"become{'s' if one else ''} blocked that" if self.kind == "blocks" else f"go{'es' if one else ''} to review that"
        )
        what = f"{number(count)} image{'' if one else 's'} {become} {'was' if one else 'were'} not"
        return (
            f"{what}, {percent(count, found.images)} of {number(found.images)}: {number(count - allowed)} more than "
            f"the {number(allowed)} that --max-new-{self.kind} {self.text} allows"
        )
