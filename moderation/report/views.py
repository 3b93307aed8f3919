"""What the template shows, as plain records: sums, rates and texts are worked out here, not in the page. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from moderation.errors import ErrorCode
from moderation.policy.schema import Mode, Policy, Rule
from moderation.records import STAGES
from moderation.report.charts import histogram
from moderation.report.text import duration, number, percent, score
from moderation.results.aggregates import Aggregates, ErrorExample, Example
from moderation.results.manifest import Manifest

Thumbnails = Mapping[tuple[str, int], str]
"""JPEGs as data URIs, by URI and frame"""

MEANINGS: Mapping[str, str] = {
    ErrorCode.NOT_FOUND: "gone between listing and reading",
    ErrorCode.CHANGED: "replaced by another version between listing and reading",
    ErrorCode.ACCESS_DENIED: "storage refused to give it out",
    ErrorCode.STORAGE_ERROR: "storage failed, again and again",
    ErrorCode.EMPTY: "no bytes",
    ErrorCode.TOO_LARGE: "more bytes than the limit",
    ErrorCode.TOO_MANY_PIXELS: "more pixels than the limit",
    ErrorCode.UNSUPPORTED_FORMAT: "not an image format that is read",
    ErrorCode.CORRUPT: "an image file that is broken",
    ErrorCode.WORKER_KILLED: "the process that read it died",
    ErrorCode.WORKER_TIMEOUT: "not read within the time limit",
    ErrorCode.INTERNAL: "a fault of this program; please report it",
}
"""Error codes in words."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A number of the overview."""

    label: str
    value: str
    note: str
    tone: Literal["", "block", "review", "error"] = ""


@dataclass(frozen=True, slots=True)
class ImageView:
    """One image of a contact sheet."""

    key: str
    uri: str
    score: str
    action: str
    prompt: str
    frame: int
    thumbnail: str | None


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule with what it found."""

    rule: Rule
    flagged: int
    """images it flagged, or would have flagged if it is a shadow rule"""
    rate: str
    range: str
    chart: Markup | None
    images: tuple[ImageView, ...]

    @property
    def verb(self) -> str:
        """What the rule did to images at or above a threshold."""
        return "would have flagged" if self.rule.mode is Mode.SHADOW else "flagged"


@dataclass(frozen=True, slots=True)
class ErrorView:
    """An error code with examples: pairs of key and detail."""

    code: str
    meaning: str
    count: int
    rate: str
    retryable: bool
    examples: tuple[tuple[str, ErrorExample], ...]


@dataclass(frozen=True, slots=True)
class StageView:
    """Busy time of a stage; `share` of the longest one, in percent."""

    name: str
    seconds: str
    share: str
    bottleneck: bool


@dataclass(frozen=True, slots=True)
class FilesView:
    """The files of one table."""

    table: str
    pattern: str
    files: int
    rows: int
    bytes: int


def tiles(manifest: Manifest, policy: Policy) -> tuple[Tile, ...]:
    """The numbers of the overview. Rates of actions are of scored images, the error rate of images taken up."""
    counts, scored = manifest.counts, manifest.scored
    taken_up = scored + manifest.errored
    allowed = scored - counts.blocked - counts.review
    return (
        Tile("Listed", number(manifest.listed), "objects in the source"),
        Tile(
            "Unchanged",
            number(manifest.unchanged),
            f"{percent(manifest.unchanged, manifest.listed)} of listed, decided before",
        ),
        Tile("Scored", number(scored), f"{percent(scored, manifest.listed)} of listed"),
        Tile(
            "Errors",
            number(manifest.errored),
            f"{percent(manifest.errored, taken_up)} of images taken up; the policy says {policy.unreadable.value}",
            "error" if manifest.errored else "",
        ),
        Tile("Blocked", number(counts.blocked), f"{percent(counts.blocked, scored)} of scored", "block"),
        Tile("Review", number(counts.review), f"{percent(counts.review, scored)} of scored", "review"),
        Tile("Allowed", number(allowed), f"{percent(allowed, scored)} of scored"),
        Tile(
            "Near a threshold",
            number(counts.near_threshold),
            f"{percent(counts.near_threshold, scored)} of scored, within {policy.near:g}",
        ),
    )


def rules(manifest: Manifest, policy: Policy, aggregates: Aggregates, thumbnails: Thumbnails) -> tuple[RuleView, ...]:
    """Every rule of the policy, in file order; those that are off have found nothing."""
    return tuple(_rule(rule, manifest, aggregates, thumbnails) for rule in policy.rules)


def errors(manifest: Manifest, aggregates: Aggregates) -> tuple[ErrorView, ...]:
    """Error codes, the most frequent first."""
    taken_up = manifest.scored + manifest.errored
    found = sorted(manifest.counts.errored.items(), key=lambda item: (-item[1], item[0]))
    return tuple(
        ErrorView(
            code=code,
            meaning=MEANINGS.get(code, ""),
            count=count,
            rate=percent(count, taken_up),
            retryable=code in set(ErrorCode) and ErrorCode(code).retryable,
            examples=tuple((_key(manifest, e.uri), e) for e in aggregates.errors.get(code, ())),
        )
        for code, count in found
    )


def stages(manifest: Manifest) -> tuple[StageView, ...]:
    """Stages in the order of the pipeline."""
    busy = manifest.timings.busy_seconds
    names = [*(s for s in STAGES if s in busy), *sorted(set(busy) - set(STAGES))]
    longest = max(busy.values(), default=0.0) or 1.0
    return tuple(
        StageView(name, duration(busy[name]), f"{100 * busy[name] / longest:.1f}", name == manifest.timings.bottleneck)
        for name in names
    )


def files(manifest: Manifest) -> tuple[FilesView, ...]:
    """What the run wrote, by table."""
    tables: dict[str, FilesView] = {}
    for entry in manifest.files:
        folder = entry.path.rpartition("/")[0]
        known = tables.get(entry.table, FilesView(entry.table, f"{folder}/*.parquet", 0, 0, 0))
        tables[entry.table] = FilesView(
            known.table, known.pattern, known.files + 1, known.rows + entry.rows, known.bytes + entry.bytes
        )
    return tuple(tables.values())


def _rule(rule: Rule, manifest: Manifest, aggregates: Aggregates, thumbnails: Thumbnails) -> RuleView:
    counts = manifest.counts.shadow if rule.mode is Mode.SHADOW else manifest.counts.flagged
    flagged = counts.get(rule.id, 0)
    found = aggregates.rules.get(rule.id)
    return RuleView(
        rule=rule,
        flagged=flagged,
        rate=percent(flagged, manifest.scored),
        range=f"{score(found.minimum)} to {score(found.maximum)}" if found else "",
        chart=Markup(histogram(rule, found)) if found else None,  # noqa: S704  (made of numbers and the rule's id)
        images=tuple(_image(e, manifest, thumbnails) for e in found.examples) if found else (),
    )


def _image(example: Example, manifest: Manifest, thumbnails: Thumbnails) -> ImageView:
    return ImageView(
        key=_key(manifest, example.uri),
        uri=example.uri,
        score=score(example.score),
        action=example.action,
        prompt=example.top_prompt,
        frame=example.frame,
        thumbnail=thumbnails.get((example.uri, example.frame)),
    )


def _key(manifest: Manifest, uri: str) -> str:
    return uri.removeprefix(manifest.source.rstrip("/") + "/")
