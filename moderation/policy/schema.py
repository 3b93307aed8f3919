"""The policy language as pydantic models. `docs/policies.md` explains it to the people who write policies."""

import hashlib
import json
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Discriminator, Field, PrivateAttr, StringConstraints, Tag, model_validator

from moderation.errors import ErrorCode
from moderation.lists.hash_list import HashKind
from moderation.lists.matching import MAX_DISTANCE
from moderation.lists.reading import MIN_QUALITY
from moderation.policy.assets import Assets
from moderation.policy.consistency import mistakes
from moderation.policy.dsa_keys import Dsa
from moderation.policy.model_choice import ModelChoice, Strict, Text
from moderation.policy.score_kind import ScoreKind

PolicyName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
RuleId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Threshold = Annotated[float, Field(ge=-1.0, le=1.0, allow_inf_nan=False, strict=True)]


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


class Labelled(Strict):
    """Images that a labels file names for the rule."""

    labels: Text = Field(description="a labels file: the images with the label that the key means, for this rule")


class ImagesFile(Strict):
    """Images that a CSV file lists."""

    images: Text = Field(description="a CSV file with the columns uri and, if known, sha256")


def _kind_of_images(value: Any) -> str:
    if isinstance(value, ImagesFile) or (isinstance(value, dict) and "images" in value):
        return "<images>"
    return "<labels>" if isinstance(value, dict | Labelled) else "<image>"


ImageSource = Annotated[
    Annotated[Text, Tag("<image>")] | Annotated[Labelled, Tag("<labels>")] | Annotated[ImagesFile, Tag("<images>")],
    Discriminator(_kind_of_images),
]
"""An image by its path beside the policy or its URI, either with `*` and `?`; or a file that names some."""


def _in_words(source: str | Labelled | ImagesFile) -> str:
    """A name or pattern, or the file that names the images."""
    if isinstance(source, str):
        return source
    return f"labelled in {source.labels}" if isinstance(source, Labelled) else f"listed in {source.images}"


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


ImageSources = Annotated[
    tuple[ImageSource, ...],
    BeforeValidator(_as_list, json_schema_input_type=tuple[ImageSource, ...] | Labelled | ImagesFile),
]
"""Several; a file alone needs no list."""
MAX_SOURCES = 1000


class DeclaredHead(Strict):
    """A head whose file does not say which model's embeddings it is for."""

    file: Text = Field(description="the head: a path relative to this file, or a URI")
    model: Fingerprint = Field(description="fingerprint of the model whose embeddings it was learned from")


def _kind_of_head(value: Any) -> str:
    return "<declared>" if isinstance(value, dict | DeclaredHead) else "<file>"


HeadSource = Annotated[
    Annotated[Text, Tag("<file>")] | Annotated[DeclaredHead, Tag("<declared>")], Discriminator(_kind_of_head)
]


class ListedImages(Strict):
    """A list of known images, by their hashes, and what becomes of an image that is on it."""

    id: RuleId = Field(description="short name, unique among the lists: a-z 0-9 - _")
    file: Text = Field(description="the list: a path relative to this file, or a URI")
    hash: HashKind = Field(description=" | ".join(HashKind))
    action: Action = Field(description="block | review | allow (overrides rules of its severity and below)")
    category: Text = Field(default="uncategorized", description="what analysts group lists by")
    severity: Severity = Field(default=Severity.MEDIUM, description="low | medium | high | critical")
    mode: Mode = Field(default=Mode.LIVE, description="live | shadow (matched and shown, never acts) | off")
    description: str = Field(default="", max_length=2000, description="what the list is, in words")
    distance: int = Field(
        default=31, ge=0, le=MAX_DISTANCE, strict=True, description="bits of a PDQ that may differ; other kinds match exactly"
    )
    min_quality: int = Field(
        default=MIN_QUALITY, ge=0, le=100, strict=True, description="images whose PDQ has a lower quality are not matched"
    )
    turned: bool = Field(default=False, strict=True, description="whether its PDQ entries match turned and mirrored as well")
    restricted: bool = Field(default=False, strict=True, description="whether nothing of a matching image may be shown")

    @property
    def reach(self) -> int:
        """Bits that may differ: 0 for the kinds that match exactly."""
        return self.distance if self.hash is HashKind.PDQ else 0


class Rule(Strict):
    """One thing the policy looks for."""

    id: RuleId = Field(description="short name, unique in the policy: a-z 0-9 - _")
    category: Text = Field(default="uncategorized", description="what analysts group rules by")
    severity: Severity = Field(default=Severity.MEDIUM, description="low | medium | high | critical")
    mode: Mode = Field(default=Mode.LIVE, description="live | shadow (scored and shown, never acts) | off")
    description: str = Field(default="", max_length=2000, description="what the rule means, in words")
    prompts: tuple[Text, ...] = Field(default=(), max_length=200, description="what the image would show")
    contrast: tuple[Text, ...] = Field(default=(), max_length=200, description="this rule's lookalikes")
    score: ScoreKind = Field(default=ScoreKind.CONTRAST, description=" | ".join(ScoreKind))
    like: ImageSources = Field(
        default=(), max_length=MAX_SOURCES, description="for `score: examples`: images of what is looked for"
    )
    unlike: ImageSources = Field(
        default=(), max_length=MAX_SOURCES, description="for `score: examples`: images that look alike and are not meant"
    )
    head: HeadSource | None = Field(
        default=None, description="for `score: head`: a file that `moderate policy learn` wrote, or {file: ..., model: ...}"
    )
    review: Threshold | None = Field(default=None, description="at or above: a person looks")
    block: Threshold | None = Field(default=None, description="at or above: blocked")
    review_by: date | None = Field(default=None, description="date by which somebody decides about a shadow rule: 2026-12-31")
    maps_to: tuple[Text, ...] = Field(default=(), max_length=50, description="names of this subject in other systems")
    dsa: Dsa | None = Field(default=None, description="what statements of reasons say about its blocks (`moderate export dsa`)")

    @property
    def head_file(self) -> str | None:
        """The file of its head, as the policy names it."""
        return self.head.file if isinstance(self.head, DeclaredHead) else self.head

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The thresholds that are set, lowest first."""
        return tuple(sorted(t for t in (self.review, self.block) if t is not None))

    @property
    def looks_for(self) -> tuple[str, ...]:
        """What it looks for, in words: its prompts, where its exemplars are, or its head."""
        return self.prompts or tuple(map(_in_words, self.like)) or ((self.head_file,) if self.head_file else ())

    @property
    def lookalikes(self) -> tuple[str, ...]:
        """What looks like it and is not meant, in words: texts, or where the images are."""
        return self.contrast or tuple(map(_in_words, self.unlike))


def _kind_of_expectation(value: Any) -> str:
    return "<rules>" if isinstance(value, dict) else "<action>"


Expectation = Annotated[
    Annotated[Action, Tag("<action>")] | Annotated[dict[RuleId, Action], Tag("<rules>")], Discriminator(_kind_of_expectation)
]


class Example(Strict):
    """A test that the policy carries: an image and what should become of it."""

    image: Text = Field(description="path relative to the policy file, or a URI")
    expect: Expectation = Field(description="the action for the image, or the action of each rule")


class Policy(Strict):
    """A whole policy file."""

    policy: PolicyName = Field(description="name: a-z 0-9 -")
    version: Annotated[str, StringConstraints(min_length=1, max_length=100)] = Field(
        default="0", description="shown to people; identity is the content hash"
    )
    owner: str = Field(default="", max_length=200, description="who is responsible for it")
    description: str = Field(default="", max_length=2000, description="what it is for")
    model: ModelChoice = Field(description="the CLIP model that scores")
    templates: tuple[Text, ...] = Field(
        default=("a photo of {}",),
        min_length=1,
        max_length=100,
        description="each prompt is put into each template; the embeddings are averaged",
    )
    contrast: tuple[Text, ...] = Field(default=(), max_length=500, description="what ordinary images show")
    unreadable: Action = Field(default=Action.REVIEW, description="what happens to an image that cannot be scored")
    unsupported: Action | None = Field(
        default=None, description="what happens to an image in an unsupported format; null: as for `unreadable`"
    )
    near: float = Field(
        default=0.05, ge=0, le=1, strict=True, description="a score this close to a threshold is near_threshold"
    )
    dsa: Dsa | None = Field(default=None, description="the same for blocks that no rule explains, such as those of a person")
    rules: tuple[Rule, ...] = Field(min_length=1, max_length=500, description="what to look for")
    background: ImageSources = Field(
        default=(),
        max_length=MAX_SOURCES,
        description="for rules with `score: examples`: ordinary images, that none of them looks for",
    )
    lists: tuple[ListedImages, ...] = Field(default=(), max_length=100, description="hash lists of known images")
    examples: tuple[Example, ...] = Field(default=(), max_length=10_000, description="the policy's own tests")
    _assets: Assets | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found = mistakes(self.model_dump())
        if found:
            raise ValueError("; ".join(m.message for m in found))
        return self

    def action_on_error(self, code: str | None) -> Action:
        """The action for an image without scores, by its error code."""
        return self.unsupported or self.unreadable if code == ErrorCode.UNSUPPORTED_FORMAT else self.unreadable

    def key_on_error(self, code: str | None) -> str:
        """The key that decides so: `unreadable` or `unsupported`."""
        return "unsupported" if self.unsupported is not None and code == ErrorCode.UNSUPPORTED_FORMAT else "unreadable"

    @property
    def active_rules(self) -> tuple[Rule, ...]:
        """Rules that are scored: live and shadow ones, in file order."""
        return tuple(rule for rule in self.rules if rule.mode is not Mode.OFF)

    @property
    def active_lists(self) -> tuple[ListedImages, ...]:
        """Lists that are matched: live and shadow ones, in file order."""
        return tuple(one for one in self.lists if one.mode is not Mode.OFF)

    @property
    def names_assets(self) -> bool:
        """Whether it names heads, exemplars or hash lists."""
        return bool(self.lists or self.background or any(rule.like or rule.unlike or rule.head for rule in self.rules))

    @property
    def assets(self) -> Assets:
        """What it names and does not contain. Raises `RuntimeError` if that was not read: `load_policy` reads it."""
        if self._assets is None:
            if self.names_assets:
                raise RuntimeError(f"the assets of the policy {self.policy!r} were not read")
            return Assets()
        return self._assets

    def with_assets(self, assets: Assets) -> Self:
        """The same policy with the content of what it names."""
        found = self.model_copy()
        found._assets = assets if self.names_assets else None  # equal to a policy that was never given any
        return found

    @property
    def hash(self) -> str:
        """Identity: 16 hex digits of the SHA-256 of the parsed content and of its assets'.

        Comments, layout and `dsa` do not count: they decide nothing.
        """
        decides_nothing: Any = {"dsa": True, "rules": {"__all__": {"dsa"}}}
        plain = self.model_dump(mode="json", exclude_defaults=True, exclude=decides_nothing)
        if digests := self.assets.digests:
            plain["assets"] = digests
        content = json.dumps(plain, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


class Override(Strict):
    """What a policy changes of a rule that it includes."""

    mode: Mode = Field(default=Mode.LIVE, description="live | shadow | off")
    review: Threshold | None = Field(default=None, description="null removes the threshold")
    block: Threshold | None = Field(default=None, description="null removes the threshold")
    severity: Severity = Field(default=Severity.MEDIUM, description="low | medium | high | critical")
    description: str = Field(default="", max_length=2000, description="what the rule means, in words")
    dsa: Dsa | None = Field(default=None, description="what statements of reasons say about its blocks")


class PolicyFile(Policy):
    """The language as it is written: a policy, and what it takes over from another file. For the JSON Schema."""

    include: Text | None = Field(
        default=None, description="another policy file in the same folder, whose content this one inherits"
    )
    overrides: dict[RuleId, Override] = Field(default={}, description="changes to included rules, by rule id")
