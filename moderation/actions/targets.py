"""`actions.yaml` as pydantic models: targets, and which effective decisions go to them. `docs/actions.md` explains it."""

import re
from datetime import date
from enum import StrEnum
from string import Formatter
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from moderation.common.secrets import secret_in
from moderation.policy.schema import Action, PolicyName, RuleId

TargetName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,100}$")]

KINDS = ("webhook", "s3_tags", "jsonl")
MOST_TAGS = 10
"""Tags that S3 allows on an object."""
TAG_FIELDS = ("action", "rule", "category", "policy", "policy_version", "run_id", "decided_by")
"""What a tag's value may name in braces."""
_TAG_TEXT = re.compile(r"[\w .:/=+\-@]*")
_OWN_HEADERS = ("webhook-", "idempotency-key", "content-", "host", "transfer-encoding", "connection")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Secret(_Strict):
    """Where a secret is: never the secret itself."""

    env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = Field(
        default=None, description="the name of an environment variable that holds it"
    )
    prefect_block: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")] | None = Field(
        default=None, description="the name of a Secret block of Prefect that holds it"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.env is None) == (self.prefect_block is None):
            raise PydanticCustomError("one_place", "should name one place: `env` or `prefect_block`")
        return self

    def __str__(self) -> str:
        return f"environment variable {self.env}" if self.env is not None else f"Prefect Secret block {self.prefect_block}"


def _is_secret(value: Any) -> str:
    return "<secret>" if isinstance(value, dict | Secret) else "<text>"


Url = Annotated[Annotated[str, Tag("<text>")] | Annotated[Secret, Tag("<secret>")], Discriminator(_is_secret)]


class Webhook(_Strict):
    """An HTTP endpoint that receives a signed JSON message for each action."""

    url: Url = Field(description="https://..., or {env: NAME} where the URL itself is a secret")
    secret: Secret = Field(description="the key that signs messages, at least 24 bytes: {env: NAME} or {prefect_block: name}")
    previous_secret: Secret | None = Field(default=None, description="while keys change: a second key, which signs as well")
    headers: dict[HeaderName, Secret] = Field(default={}, description="further headers, such as Authorization: {env: NAME}")
    timeout_s: float = Field(default=10.0, gt=0, le=120, description="seconds for one request, from connecting to the answer")
    attempts: int = Field(
        default=5, ge=1, le=20, description="requests for one message in one run, before it waits for the next"
    )
    connections: int = Field(default=8, ge=1, le=64, description="requests at the same time")

    @field_validator("url")
    @classmethod
    def _usable(cls, url: str | Secret) -> str | Secret:
        if isinstance(url, Secret):
            return url
        problem = url_problem(url)
        if problem:
            raise PydanticCustomError("url", problem)
        return url

    @field_validator("headers")
    @classmethod
    def _not_ours(cls, headers: dict[str, Secret]) -> dict[str, Secret]:
        for name in headers:
            if name.lower().startswith(_OWN_HEADERS):
                raise PydanticCustomError("header", "cannot set {name}: it belongs to the message itself", {"name": name})
        return headers


class S3Tags(_Strict):
    """Tags on the object itself, which lifecycle rules and bucket policies can act on."""

    tags: dict[str, str] = Field(
        min_length=1,
        max_length=MOST_TAGS,
        description='names and values; a value may name {action}, {rule} and others: {moderation: "{action}"}',
    )
    connections: int = Field(default=16, ge=1, le=64, description="objects that are tagged at the same time")

    @field_validator("tags")
    @classmethod
    def _allowed(cls, tags: dict[str, str]) -> dict[str, str]:
        for name, value in tags.items():
            if not 1 <= len(name) <= 128 or not _TAG_TEXT.fullmatch(name) or name.startswith("aws:"):
                wording = "cannot name a tag {name}: S3 allows 128 letters, digits, spaces and + - = . _ : / @"
                raise PydanticCustomError("tag", wording, {"name": repr(name)[:60]})
            try:
                parts = list(Formatter().parse(value))
            except ValueError:
                raise PydanticCustomError("tag", "has a brace without its partner in {name}", {"name": repr(name)}) from None
            for text, field, spec, conversion in parts:
                if field is not None and (field not in TAG_FIELDS or spec or conversion):
                    wording = "has no field {field} to put in: there are {fields}"
                    context = {"field": f"{{{field}}}"[:60], "fields": ", ".join(TAG_FIELDS)}
                    raise PydanticCustomError("tag", wording, context)
                if not _TAG_TEXT.fullmatch(text):
                    wording = "has a character in {name} that S3 does not allow: letters, digits, spaces and + - = . _ : / @"
                    raise PydanticCustomError("tag", wording, {"name": repr(name)})
        return tags


class JsonLines(_Strict):
    """Files of JSON lines, one file per batch of actions, that another system picks up."""

    folder: Annotated[str, StringConstraints(min_length=1)] = Field(description="a folder, or s3://bucket/prefix")

    @field_validator("folder")
    @classmethod
    def _no_secret(cls, folder: str) -> str:
        found = secret_in(folder)
        if found:
            raise PydanticCustomError("url", "contains {found}: keys come from the environment", {"found": found})
        return folder


class NewPolicy(StrEnum):
    """What a new version of the policy means for an image whose action stays the same."""

    SEND = "send"
    SKIP = "skip"


class Target(_Strict):
    """One receiver of actions, and the effective decisions that it receives."""

    name: TargetName = Field(description="short name, unique in the file: a-z 0-9 -; it names the target's outbox")
    actions: tuple[Literal[Action.BLOCK, Action.REVIEW, Action.ALLOW], ...] = Field(
        min_length=1, description="effective actions that are sent: block, review, allow. What was sent is also taken back"
    )
    policy: PolicyName | None = Field(default=None, description="decisions of this policy; needed if the results have several")
    rules: tuple[RuleId, ...] = Field(default=(), max_length=500, description="only images that one of these rules flags")
    decided_by: Literal["anyone", "machine", "person"] = Field(default="anyone", description="anyone | machine | person")
    since: date | None = Field(default=None, description="only images decided on this day (UTC) or later: 2026-11-01")
    new_policy: NewPolicy = Field(
        default=NewPolicy.SEND, description="send | skip the same action again when the policy has changed"
    )
    webhook: Webhook | None = Field(default=None, description="sends a signed message to a URL")
    s3_tags: S3Tags | None = Field(default=None, description="puts tags on the object in S3")
    jsonl: JsonLines | None = Field(default=None, description="writes files of JSON lines")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            what = f"has {' and '.join(given)}" if given else "has none"
            raise PydanticCustomError("one_kind", "should have one of webhook, s3_tags and jsonl, and {what}", {"what": what})
        return self

    @property
    def kind(self) -> Literal["webhook", "s3_tags", "jsonl"]:
        """How it is reached."""
        return "webhook" if self.webhook is not None else "s3_tags" if self.s3_tags is not None else "jsonl"


class Actions(_Strict):
    """A whole file."""

    targets: tuple[Target, ...] = Field(min_length=1, max_length=50, description="who receives what")

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [target.name for target in self.targets]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise PydanticCustomError("names", "two targets are named {name}: each needs its own", {"name": twice})
        return self


def url_problem(url: str) -> str:
    """What is wrong with a webhook's URL; empty if nothing is. Does not repeat the URL."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("https", "http") or not host:
        return "should be a URL that begins with https://"
    if parts.username is not None or parts.password is not None:
        return "contains a user or a password: put it into `headers` as Authorization: {env: NAME}"
    if secret_in(url):
        return "contains a secret: give the whole URL as {env: NAME}"
    if parts.fragment or any(c.isspace() or not c.isprintable() for c in url):
        return "contains characters that a URL cannot have"
    return ""


def is_plain_http(url: str) -> bool:
    """Whether a URL sends messages unencrypted over a network."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1")
