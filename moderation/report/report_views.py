"""What the template shows, as plain records: sums, rates and texts are worked out here, not in the page. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

from moderation.errors import ErrorCode
from moderation.html.text import NONE, duration, key_of, milliseconds, number, percent
from moderation.policy.schema import Policy
from moderation.records import STAGES
from moderation.report.changes import Change, count_change, rate_change
from moderation.results.aggregates import Aggregates, ErrorExample
from moderation.results.history import EarlierRun
from moderation.results.human_work import Work
from moderation.results.manifest import Manifest

Tone = Literal["", "block", "review", "error"]
Sum = Callable[[EarlierRun], int]

MEANINGS: Mapping[str, str] = {
    ErrorCode.NOT_FOUND: "gone between listing and reading",
    ErrorCode.CHANGED: "replaced by another version between listing and reading",
    ErrorCode.ACCESS_DENIED: "storage denied access",
    ErrorCode.STORAGE_ERROR: "storage failed repeatedly",
    ErrorCode.ARCHIVED: "archived: it must be restored before it can be read",
    ErrorCode.EMPTY: "no bytes",
    ErrorCode.TOO_LARGE: "more bytes than the limit",
    ErrorCode.TOO_MANY_PIXELS: "more pixels than the limit",
    ErrorCode.UNSUPPORTED_FORMAT: "an unsupported image format",
    ErrorCode.CORRUPT: "a broken image file",
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
    changes: tuple[Change, ...] = ()
    """since the run before"""
    tone: Tone = ""


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
    """Busy time of a stage; `share`: per thread, of the longest one, in percent."""

    name: str
    seconds: str
    each: str
    """per image"""
    share: str
    bottleneck: bool
    threads: int = 0
    """that worked on it; 0 where it is not known"""


@dataclass(frozen=True, slots=True)
class FilesView:
    """The files of one table."""

    table: str
    pattern: str
    files: int
    rows: int
    bytes: int


def tiles(now: EarlierRun, before: EarlierRun | None, policy: Policy, redecided: int = 0) -> tuple[Tile, ...]:
    """The numbers of the overview, each compared with the run before, if there is one.

    Rates of actions are of scored images, the error rate is of processed images; `redecided` of these come from stored
    embeddings.
    """

    def tile(label: str, part: Sum, whole: Sum, note: str, tone: Tone = "") -> Tile:
        rate = percent(part(now), whole(now))
        return Tile(label, number(part(now)), f"{rate} {note}", _changes(now, before, part, whole), tone)

    listed, processed, scored = attrgetter("listed"), attrgetter("processed"), attrgetter("scored")
    work = Work(now.review, now.unreadable_review)
    unreadable = f"of images processed; the policy says {policy.unreadable.value}"
    if policy.unsupported is not None:
        unreadable += f", of formats that are not read {policy.unsupported.value}"
    return (
        Tile("Listed", number(now.listed), "objects in the sources", _changes(now, before, listed)),
        tile("Unchanged", attrgetter("unchanged"), listed, "of listed, already decided"),
        tile("Scored", scored, listed, f"of listed{f', {number(redecided)} from stored embeddings' if redecided else ''}"),
        tile("Errors", attrgetter("errored"), processed, unreadable, "error" if now.errored else ""),
        tile("Blocked", attrgetter("blocked"), scored, "of scored", "block"),
        tile("To review", attrgetter("to_review"), processed, f"of images processed: {work.parts}", "review"),
        tile("Allowed", attrgetter("allowed"), scored, "of scored"),
        tile("Near a threshold", attrgetter("near_threshold"), scored, f"of scored, within {policy.near:g}"),
    )


def _changes(now: EarlierRun, before: EarlierRun | None, part: Sum, whole: Sum | None = None) -> tuple[Change, ...]:
    """Of the count, and of the rate if there is one."""
    if before is None:
        return ()
    rate = rate_change((part(now), whole(now)), (part(before), whole(before))) if whole else None
    count = count_change(part(now), part(before))
    return (count, rate) if rate else (count,)


def errors(manifest: Manifest, aggregates: Aggregates) -> tuple[ErrorView, ...]:
    """Error codes, the most frequent first."""
    processed = manifest.scored + manifest.errored
    found = sorted(manifest.counts.errored.items(), key=lambda item: (-item[1], item[0]))
    return tuple(
        ErrorView(
            code=code,
            meaning=MEANINGS.get(code, ""),
            count=count,
            rate=percent(count, processed),
            retryable=code in set(ErrorCode) and ErrorCode(code).retryable,
            examples=tuple((key_of(manifest.sources, e.uri), e) for e in aggregates.errors.get(code, ())),
        )
        for code, count in found
    )


def stages(manifest: Manifest) -> tuple[StageView, ...]:
    """Stages in the order of the pipeline. Bars are of busy time per thread, so that the longest is the bottleneck."""
    busy, threads = manifest.timings.busy_seconds, manifest.timings.threads
    per_thread = {stage: seconds / max(1, threads.get(stage, 1)) for stage, seconds in busy.items()}
    names = [*(s for s in STAGES if s in busy), *sorted(set(busy) - set(STAGES))]
    longest = max(per_thread.values(), default=0.0) or 1.0
    images = manifest.timed_images
    return tuple(
        StageView(
            name=name,
            seconds=duration(busy[name]),
            each=milliseconds(busy[name] / images) if images else NONE,
            share=f"{100 * per_thread[name] / longest:.1f}",
            threads=threads.get(name, 1) if threads else 0,
            bottleneck=name == manifest.timings.bottleneck,
        )
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
