"""The kinds of scores, each with its own facts. How they are computed stands in `moderation.policy.compiled`, and nowhere else.

A new kind is a member here with its facts, and its formula there: mypy reports whichever is missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, assert_never


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFacts:
    """What checks, pages and tuning need to know of a kind of score."""

    low: float
    """no score lies below; no threshold can"""
    high: float
    """no score lies above"""
    shown: tuple[float, float]
    """the part of the range that a histogram covers; scores beyond it count in the outermost bins"""
    usual: Mapping[bool, tuple[float, float]] | None
    """where scores lie in practice if that is a small part of the range, of models without a bias (False) and with one"""
    uses_contrast: bool
    """whether lookalikes count: those of the rule and those of the whole policy"""
    needs_bias: bool
    """whether only models of the SigLIP family have it"""
    needs: Literal["prompts", "like", "head"]
    """the key of a rule that says what is looked for"""
    closest: str
    """what the closest thing that the rule looks for is called"""
    compared: str
    """what the closest thing that it compares with is called; empty where it compares with nothing"""
    synonyms: str
    """words that people write for it, separated by blanks"""


class ScoreKind(StrEnum):
    """How a rule's score is made of cosines; see `moderation.policy.compiled`."""

    CONTRAST = "contrast"
    SIMILARITY = "similarity"
    SIGMOID = "sigmoid"
    EXAMPLES = "examples"
    HEAD = "head"

    @property
    def facts(self) -> ScoreFacts:
        """What is known of it."""
        match self:
            case ScoreKind.CONTRAST:
                return _CONTRAST
            case ScoreKind.SIMILARITY:
                return _SIMILARITY
            case ScoreKind.SIGMOID:
                return _SIGMOID
            case ScoreKind.EXAMPLES:
                return _EXAMPLES
            case ScoreKind.HEAD:
                return _HEAD
            case _:
                assert_never(self)

    @classmethod
    def written(cls, value: object) -> "ScoreKind | None":
        """The kind that a file names; None if there is no such kind."""
        return next((kind for kind in cls if kind.value == value), None)


_CONTRAST = ScoreFacts(
    low=0.0,
    high=1.0,
    shown=(0.0, 1.0),
    usual=None,
    uses_contrast=True,
    needs_bias=False,
    needs="prompts",
    closest="closest prompt",
    compared="strongest lookalike",
    synonyms="softmax compare comparison probability",
)
_SIMILARITY = ScoreFacts(
    low=-1.0,
    high=1.0,
    shown=(-0.2, 0.6),
    usual={False: (0.10, 0.40), True: (-0.05, 0.30)},
    uses_contrast=False,
    needs_bias=False,
    needs="prompts",
    closest="closest prompt",
    compared="",
    synonyms="cosine cos distance",
)
_SIGMOID = ScoreFacts(
    low=0.0,
    high=1.0,
    shown=(0.0, 1.0),
    usual=None,
    uses_contrast=False,
    needs_bias=True,
    needs="prompts",
    closest="closest prompt",
    compared="",
    synonyms="siglip logistic",
)
_EXAMPLES = ScoreFacts(
    low=0.0,
    high=1.0,
    shown=(0.0, 1.0),
    usual=None,
    uses_contrast=False,
    needs_bias=False,
    needs="like",
    closest="nearest exemplar",
    compared="nearest other image",
    synonyms="exemplars example images image nearest knn",
)
_HEAD = ScoreFacts(
    low=0.0,
    high=1.0,
    shown=(0.0, 1.0),
    usual=None,
    uses_contrast=False,
    needs_bias=False,
    needs="head",
    closest="head",
    compared="",
    synonyms="learned classifier probe logistic trained",
)
