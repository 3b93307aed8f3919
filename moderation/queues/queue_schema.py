"""The language of `queues.yaml` as pydantic models. `docs/queues.md` explains it to the people who write it."""

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from moderation.policy.numbers import number_meant
from moderation.reviews.validity import Validity

QueueName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]

IN_REVIEW = "action = 'review'"
"""Which decisions enter a queue that does not say."""
SAME_PICTURE = 31
"""Bits in which the perceptual hashes of near-duplicates differ at most."""

_PERCENT = re.compile(r"\s*(\d{1,3}(?:\.\d{1,9})?)\s*%\s*")


def _share(value: Any) -> Any:
    """`0.5%` as 0.005; numbers from 0 to 1 as they are."""
    if isinstance(value, str) and (found := _PERCENT.fullmatch(value)) and float(found[1]) <= 100:
        return float(found[1]) / 100
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    meant = value / 100 if isinstance(value, int | float) and 1 < value <= 100 else number_meant(value)
    hint = f"write {100 * meant:g}%" if meant else "write a share such as 0.5%"
    raise PydanticCustomError("share", "should be a share from 0% to 100%", {"hint": hint})


Share = Annotated[
    float,
    BeforeValidator(_share),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1},
                {"type": "string", "pattern": r"^\s*\d{1,3}(\.\d{1,9})?\s*%\s*$"},
            ]
        }
    ),
]
"""0 to 1, written as `0.5%` or 0.005"""


def _distance(value: Any) -> Any:
    return None if value == "off" else value


Distance = Annotated[
    Annotated[int, Field(ge=0, le=64, strict=True)] | None,
    BeforeValidator(_distance),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 64}, {"const": "off"}]}),
]


class Strict(BaseModel):
    """A part of the file: unknown keys are mistakes, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Order(StrEnum):
    """Which images come first."""

    SEVERITY = "severity"
    """the severest rule, then the highest score"""
    OLDEST = "oldest"
    """the earliest decision"""
    NEAREST_TO_THRESHOLD = "nearest_to_threshold"
    """the score closest to the threshold of the rule that decided"""
    MOST_UNCERTAIN = "most_uncertain"
    """the score at which people disagree most with each other about the rule, as far as verdicts show"""


class Audit(Strict):
    """Images chosen at random from those that nobody would look at otherwise."""

    allowed: Share = Field(default=0.0, description="share of the allowed images, such as 0.5%")
    blocked: Share = Field(default=0.0, description="share of the blocked images, such as 2%")
    where: Text | None = Field(default=None, description="SQL condition: audit only these decisions; all by default")


class Golden(Strict):
    """Images whose answer is known, mixed in to measure reviewers."""

    path: Text = Field(description="a CSV file of labels, or a folder of images with a folder per rule; relative to this file")
    share: Annotated[Share, Field(gt=0, le=0.5)] = Field(
        default=0.02, description="share of the images that a reviewer sees, above 0 and up to 50%, such as 2%"
    )


def _golden(value: Any) -> Any:
    """`golden: labels.csv` is short for `golden: {path: labels.csv}`."""
    return {"path": value} if isinstance(value, str) else value


class Queue(Strict):
    """One queue: what enters it, in what order, and what reviewers are asked."""

    name: QueueName = Field(description="short name, unique in the file: a-z 0-9 - _")
    description: str = Field(default="", max_length=2000, description="what reviewers should know; shown above the queue")
    where: Text = Field(default=IN_REVIEW, description="SQL condition over the columns of `decisions`: these enter the queue")
    order: Order = Field(default=Order.SEVERITY, description=" | ".join(Order))
    audit: Audit = Field(default=Audit(), description="random audits of images that `where` does not choose")
    double_review: Share = Field(default=0.0, description="share of the images that two people review, such as 5%")
    golden: Annotated[Golden | None, BeforeValidator(_golden)] = Field(
        default=None, description="known answers that are mixed in: a path, or {path: ..., share: 2%}"
    )
    reasons: tuple[Text, ...] = Field(default=(), max_length=100, description="reasons to choose from")
    reason_required: bool = Field(default=False, strict=True, description="whether a reviewer must choose a reason")
    sla_hours: float | None = Field(
        default=None, gt=0, le=8760, strict=True, allow_inf_nan=False, description="hours within which an image is reviewed"
    )


class QueueFile(Strict):
    """A whole `queues.yaml`."""

    seed: int = Field(default=0, ge=0, lt=2**63, strict=True, description="another seed audits other images")
    ask_again_when_meaning_changes: bool = Field(
        default=True,
        strict=True,
        description="whether images are reviewed again when prompts or lookalikes of a rule change",
    )
    near_duplicates: Distance = Field(
        default=SAME_PICTURE,
        description="bits (PDQ) within which verdicts about similar pictures are suggested; off: never",
    )
    queues: tuple[Queue, ...] = Field(min_length=1, max_length=200, description="the queues, in the order they are shown")

    @property
    def validity(self) -> Validity:
        """How far a verdict reaches."""
        return Validity(near_duplicates=self.near_duplicates, ask_again=self.ask_again_when_meaning_changes)

    def queue(self, name: str) -> Queue | None:
        """The queue of that name; None if there is none."""
        return next((queue for queue in self.queues if queue.name == name), None)


DEFAULT = QueueFile(
    queues=(
        Queue(
            name="review",
            description="Everything that the policy sends to people, and a small audit.",
            audit=Audit(allowed=0.001, blocked=0.01),
        ),
    )
)
"""The queues without a file."""
