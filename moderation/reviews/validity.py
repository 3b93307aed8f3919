"""How far a verdict reaches beyond the decision that was reviewed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Validity:
    """What people may set."""

    near_duplicates: int | None = 31
    """PDQ distance, 0 to 255 bits, up to which a review of one image is suggested for another; None: never"""
    ask_again: bool = True
    """whether an image is asked about again when the rule that was reviewed looks for something else by now"""


DEFAULT = Validity()
