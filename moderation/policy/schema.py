"""The policy language as pydantic models. `docs/policies.md` explains it to the people who write policies."""

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, field_validator, model_validator

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
PolicyName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
RuleId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Threshold = Annotated[float, Field(ge=-1.0, le=1.0, allow_inf_nan=False, strict=True)]
Location = tuple[str | int, ...]
"""Keys and list indexes that lead to a place in a policy file."""


class MistakesError(ValueError):
    """What is wrong between the parts of a policy, each with its place."""

    def __init__(self, mistakes: list[tuple[Location, str]]) -> None:
        super().__init__("; ".join(message for _, message in mistakes))
        self.mistakes = mistakes


class Action(StrEnum):
    """What happens to an image, weakest first."""

    ALLOW = "allow"
    REVIEW = "review"
    BLOCK = "block"


class Severity(StrEnum):
    """How bad a rule's subject is, mildest first."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Mode(StrEnum):
    """Whether a rule acts (live), is scored and shown only (shadow), or rests (off)."""

    LIVE = "live"
    SHADOW = "shadow"
    OFF = "off"


class ScoreKind(StrEnum):
    """How a rule's score is made of cosines; see `moderation.policy.scoring`."""

    CONTRAST = "contrast"
    SIMILARITY = "similarity"
    SIGMOID = "sigmoid"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class ModelChoice(_Strict):
    """Which CLIP model scores the images."""

    name: Text = Field(description="`demo`, an open_clip architecture such as ViT-B-32, hf-hub:org/repo, or local-dir:folder")
    pretrained: Text | None = Field(default=None, description="an open_clip pretrained tag, or the path of a checkpoint")

    @property
    def label(self) -> str:
        """The model as one text, e.g. `ViT-B-32/laion2b_s34b_b79k`."""
        return f"{self.name}/{self.pretrained}" if self.pretrained else self.name


class Rule(_Strict):
    """One thing the policy looks for."""

    id: RuleId = Field(description="short name, unique in the policy: a-z 0-9 - _")
    category: Text = Field(default="uncategorized", description="what analysts group rules by")
    severity: Severity = Field(default=Severity.MEDIUM, description="low | medium | high | critical")
    mode: Mode = Field(default=Mode.LIVE, description="live | shadow (scored and shown, never acts) | off")
    description: str = Field(default="", max_length=2000, description="what the rule means, in words")
    prompts: tuple[Text, ...] = Field(min_length=1, max_length=200, description="what the image would show")
    contrast: tuple[Text, ...] = Field(default=(), max_length=200, description="this rule's lookalikes")
    score: ScoreKind = Field(default=ScoreKind.CONTRAST, description="contrast | similarity | sigmoid")
    review: Threshold | None = Field(default=None, description="at or above: a person looks")
    block: Threshold | None = Field(default=None, description="at or above: blocked")

    @field_validator("prompts", "contrast")
    @classmethod
    def _no_repeats(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        return _unique(prompts)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mode is not Mode.OFF and self.review is None and self.block is None:
            raise ValueError(f"rule {self.id!r} has no threshold: give `review`, `block` or both")
        if self.review is not None and self.block is not None and self.review > self.block:
            raise ValueError(f"rule {self.id!r}: review ({self.review}) must not be above block ({self.block})")
        if self.score is not ScoreKind.SIMILARITY and min(self.thresholds, default=0.0) < 0:
            raise ValueError(f"rule {self.id!r}: a {self.score.value} score lies in 0 to 1, its thresholds too")
        return self

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The thresholds that are set, lowest first."""
        return tuple(sorted(t for t in (self.review, self.block) if t is not None))


def _kind_of_expectation(value: Any) -> str:
    return "<rules>" if isinstance(value, dict) else "<action>"


Expectation = Annotated[
    Annotated[Action, Tag("<action>")] | Annotated[dict[RuleId, Action], Tag("<rules>")], Discriminator(_kind_of_expectation)
]


class Example(_Strict):
    """A test that the policy carries: an image and what should become of it."""

    image: Text = Field(description="path relative to the policy file, or a URI")
    expect: Expectation = Field(description="the action for the image, or the action of each rule")


class Policy(_Strict):
    """A whole policy file."""

    policy: PolicyName = Field(description="name: a-z 0-9 -")
    version: Annotated[str, StringConstraints(min_length=1, max_length=100)] = Field(
        default="0", description="shown to people; identity is the content hash"
    )
    owner: str = Field(default="", max_length=200, description="who answers for it")
    description: str = Field(default="", max_length=2000, description="what it is for")
    model: ModelChoice = Field(description="the CLIP model that scores")
    templates: tuple[Text, ...] = Field(
        default=("a photo of {}",), min_length=1, max_length=100, description="each prompt is put into each; averaged"
    )
    contrast: tuple[Text, ...] = Field(default=(), max_length=500, description="what ordinary images show")
    unreadable: Action = Field(default=Action.REVIEW, description="what happens to an image that cannot be scored")
    near: float = Field(
        default=0.05, ge=0, le=1, strict=True, description="a score this close to a threshold is near_threshold"
    )
    rules: tuple[Rule, ...] = Field(min_length=1, max_length=500, description="what is looked for")
    examples: tuple[Example, ...] = Field(default=(), max_length=10_000, description="the policy's own tests")

    @field_validator("templates")
    @classmethod
    def _one_placeholder(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if template.count("{}") != 1 or template.count("{") != 1 or template.count("}") != 1:
                raise ValueError(f"the template {template!r} must hold {{}} once, where the prompt goes")
        return _unique(templates)

    @field_validator("contrast")
    @classmethod
    def _no_repeats(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        return _unique(prompts)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        mistakes: list[tuple[Location, str]] = []
        ids: set[str] = set()
        for at, rule in enumerate(self.rules):
            if rule.id in ids:
                mistakes.append((("rules", at, "id"), f"two rules have the id {rule.id!r}"))
            ids.add(rule.id)
            if rule.score is ScoreKind.CONTRAST and not rule.contrast and not self.contrast:
                missing = f"rule {rule.id!r} is scored by contrast but has nothing to contrast with: add `contrast`"
                mistakes.append((("rules", at), missing))
            both = set(rule.prompts) & {*rule.contrast, *self.contrast}
            if both:
                mistakes.append((("rules", at, "prompts"), f"rule {rule.id!r}: {min(both)!r} is both a prompt and contrast"))
        if not self.active_rules:
            mistakes.append((("rules",), "every rule is off: there is nothing to score"))
        for at, example in enumerate(self.examples):
            unknown = set(example.expect) - ids if isinstance(example.expect, dict) else set()
            if unknown:
                place = ("examples", at, "expect")
                mistakes.append((place, f"the example {example.image!r} names the unknown rule {min(unknown)!r}"))
        if mistakes:
            raise MistakesError(mistakes)
        return self

    @property
    def active_rules(self) -> tuple[Rule, ...]:
        """Rules that are scored: live and shadow ones, in file order."""
        return tuple(rule for rule in self.rules if rule.mode is not Mode.OFF)

    @property
    def hash(self) -> str:
        """Identity: 16 hex digits of the SHA-256 of the parsed content. Comments and layout do not count."""
        content = json.dumps(self.model_dump(mode="json", exclude_defaults=True), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def _unique(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        if texts.count(text) > 1:
            raise ValueError(f"{text!r} stands there twice")
    return texts
