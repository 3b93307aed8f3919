"""The manifest: one JSON file that makes a run visible. Written last, create-only, never overwritten."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from moderation.errors import OutputError
from moderation.records import Counts
from moderation.results.check_results import CheckResult
from moderation.results.human_work import Work, to_review
from moderation.results.rule_statistics import RuleStatistics
from moderation.results.shard_files import FileEntry
from moderation.storage import Store

VERSION = 1
_MINUTE_S = 60.0


class Timings(BaseModel):
    """Where the time of the attempt that published the run went. Earlier attempts at it are not counted."""

    model_config = ConfigDict(frozen=True)

    wall_seconds: float
    """from the first listed object to the last staged shard"""
    images_per_second: float
    images: int | None = None
    """objects that this attempt scored, or gave an error row; None in manifests of earlier versions"""
    busy_seconds: Mapping[str, float]
    """by stage, summed over threads and actors"""
    bottleneck: str
    """the stage that was busiest for the threads it had"""
    threads: Mapping[str, int] = {}
    """by stage, over all actors; stages that are not named have one. Empty in manifests of earlier versions"""


class EngineFacts(BaseModel):
    """How the model ran, on all actors alike."""

    model_config = ConfigDict(frozen=True)

    kind: str
    """eager, compiled, graphs or onnxruntime"""
    precision: str
    """fp32, bf16 or int8"""
    batch_size: int
    """images of a forward pass"""
    torch_threads: int
    """of each actor"""
    decode_threads: int
    """of each actor"""
    why: str = ""
    """what the hardware is, and what was chosen for it; empty in manifests of earlier versions"""
    compared: int | None = None
    """int8: images at the run's beginning that were also decided in fp32; None where nothing was compared"""
    flips: int | None = None
    """of them, those with another action in int8"""
    lowest_cosine: float | None = None
    """between the int8 and the fp32 embedding of a picture"""


class Release(BaseModel):
    """Why a run is published although its checks failed."""

    model_config = ConfigDict(frozen=True)

    by: str
    reason: str
    at: datetime


class Manifest(BaseModel):
    """What a published run is."""

    model_config = ConfigDict(frozen=True)

    manifest_version: int = VERSION
    run_id: str
    state: str = "published"
    release: Release | None = None
    started_at: datetime
    published_at: datetime
    sources: Annotated[tuple[str, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)] = Field(
        validation_alias=AliasChoices("sources", "source")
    )
    """folders, manifests or inventories"""
    policy: str
    policy_version: str
    policy_hash: str
    unreadable: str | None = None
    """what the policy says about images that cannot be scored; None in manifests of earlier versions"""
    unsupported: str | None = None
    """what it says about images of formats that are not read; None: the same"""
    rule_meanings: Mapping[str, str] = {}
    """by rule, a hash of what it looks for; empty in manifests of earlier versions"""
    policy_text: str
    """the file, word for word"""
    policy_includes: Mapping[str, str] = {}
    """the files it includes, word for word, by name"""
    policy_folder: str | None = None
    """what a relative path of weights in it is relative to; None where it names none, and in manifests of earlier versions"""
    model: str
    model_fingerprint: str
    prompts: str | None = None
    """prompt embeddings that the scores were computed with, relative to the output"""
    device: str
    engine: EngineFacts | None = None
    """None where no model ran, and in manifests of earlier versions"""
    settings: Mapping[str, Any]
    listed: int
    """objects that count, each once: unchanged + scored + errored"""
    unchanged: int
    repeated: int = 0
    """entries of manifests that name an object once more; not counted in `listed`"""
    linked_folders: int = 0
    """symbolic links to folders in local sources, which are not followed"""
    special_files: int = 0
    """pipes, sockets and devices in local sources, which are no objects"""
    redecided: int = Field(default=0, validation_alias=AliasChoices("redecided", "decided_anew"))
    """of the scored objects, those decided from embeddings that an earlier run stored"""
    counts: Counts
    timings: Timings
    checks: tuple[CheckResult, ...]
    statistics: Mapping[str, RuleStatistics] = {}
    """by rule: what the checks of later runs compare theirs with"""
    versions: Mapping[str, str]
    report: str
    files: tuple[FileEntry, ...]

    @property
    def scored(self) -> int:
        """Objects with scores."""
        return self.counts.scored

    @property
    def errored(self) -> int:
        """Objects with an error row."""
        return self.counts.errors

    @property
    def timed_images(self) -> int:
        """Objects that `timings` are about."""
        return self.scored + self.errored if self.timings.images is None else self.timings.images

    @property
    def speed(self) -> str:
        """Of the attempt that published the run, in words: `310 images/s in 12.5 s`, and what it does not count."""
        seconds = self.timings.wall_seconds
        took = f"{seconds:.1f} s" if seconds < _MINUTE_S else str(timedelta(seconds=round(seconds)))
        earlier = self.scored + self.errored - self.timed_images
        rest = f", without {earlier:,} images of an earlier attempt" if earlier else ""
        return f"{self.timings.images_per_second:,.0f} images/s in {took}{rest}"

    @property
    def to_review(self) -> Work:
        """Images that await a person."""
        return to_review(self.counts, self.unreadable, self.unsupported)

    def to_json(self) -> bytes:
        """As stored, with the sums a reader wants written out."""
        content = self.model_dump(mode="json")
        content["counts"]["errors"] = self.errored
        content["counts"]["listed"] = self.listed
        content["counts"]["unchanged"] = self.unchanged
        return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """Read a manifest. Raises `pydantic.ValidationError`."""
        return cls.model_validate_json(data)


def find_manifest(output: Store, run_id: str) -> Manifest | None:
    """The manifest of one run; None if it was not published."""
    key = f"runs/{run_id}.json"
    return Manifest.from_json(output.get(key)) if output.exists(key) else None


def published_manifests(output: Store) -> Iterator[Manifest]:
    """Every published run, by run id. Raises `OutputError` on a manifest that cannot be read."""
    return _manifests(output, "runs/")


def pruned_manifests(output: Store) -> Iterator[Manifest]:
    """Runs that are published no more and whose embeddings were kept, by run id. Raises `OutputError`."""
    return _manifests(output, "_pruned/")


def _manifests(output: Store, folder: str) -> Iterator[Manifest]:
    for item in sorted(item for page in output.list(folder) for item in page):  # stores exist that list in no order
        if item.uri.endswith(".json"):
            try:
                yield Manifest.from_json(output.read(item))
            except ValidationError as error:
                first = error.errors()[0]
                raise OutputError(f"{item.uri} is not a manifest of this program: {first['loc']}: {first['msg']}") from None
