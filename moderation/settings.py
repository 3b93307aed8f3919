"""All settings of a run. Prefect shows them as a form, the CLI as options; both use the same descriptions."""

import os
from dataclasses import fields
from datetime import datetime
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from moderation.common.secrets import SCHEMA_PATTERN, without_secret
from moderation.images.limits import ImageLimits
from moderation.model.encoder import Device, Precision
from moderation.model.engines import EngineChoice
from moderation.model.preprocessing import Resize
from moderation.scoring.options import JpegDecoding, ScorerOptions
from moderation.storage import file_uri

RunId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


_SCORER = ScorerOptions()


def _as_text(value: object) -> object:
    """A path that is not UTF-8, as a URI: JSON and Parquet cannot store other text."""
    if isinstance(value, str) and any("\udc80" <= character <= "\udcff" for character in value) and "://" not in value:
        return file_uri(os.path.abspath(os.path.expanduser(value)))  # noqa: PTH100, PTH111 - Path's own raises for unknown users
    return value


Location = Annotated[
    str,
    BeforeValidator(_as_text),
    StringConstraints(min_length=1),
    AfterValidator(without_secret),
    Field(json_schema_extra={"pattern": SCHEMA_PATTERN}),  # Prefect refuses it before it is stored
]
"""A place in storage. Contains no secret, since manifests and Prefect's database store settings."""


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class RunSettings(BaseModel):
    """Settings of one run. They never include credentials, which come from the environment."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @field_validator("from_embeddings")
    @classmethod
    def _one_origin(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("sources"):
            raise ValueError("re-decides what the results hold: leave out the sources")
        if not value and info.data.get("sources") == ():
            raise ValueError("nothing to moderate: give a source, or re-decide from stored embeddings with this")
        return value

    sources: Annotated[tuple[Location, ...], BeforeValidator(_one_or_more)] = Field(
        default=(),
        description="what to moderate: folders or prefixes such as s3://bucket/prefix, or manifests: "
        "files (.csv, .jsonl, .parquet) with a column `uri`, or the manifest.json of an S3 Inventory",
    )
    policy: str = Field(min_length=1, description="path of the policy file")
    output: Location = Field(description="where to write the results: a folder, or s3://bucket/prefix")

    run_id: RunId | None = Field(default=None, description="name of the run; to resume an interrupted run, give its name")
    from_embeddings: bool = Field(
        default=False,
        validate_default=True,
        description="re-decide everything that earlier runs embedded with the policy's model; no image is read",
    )
    full: bool = Field(
        default=False, description="process every object, including those already decided under this policy and model"
    )
    retry_errors: bool = Field(default=False, description="also process objects again whose last error may be temporary")
    include: tuple[str, ...] = Field(
        default=(), description="process only keys that match one of these patterns, such as *.jpg; * also matches /"
    )
    exclude: tuple[str, ...] = Field(default=(), description="skip keys that match one of these patterns")
    modified_since: datetime | None = Field(
        default=None,
        description="process only objects modified at or after this time: 2026-11-21, or 2026-11-21T03:00Z",
    )
    limit: int | None = Field(default=None, gt=0, description="process at most this many objects")

    quality: str | None = Field(
        default=None,
        description="path of a file with limits for the quality checks; default: those in policies/quality.yaml",
    )

    device: Device = Field(default="auto", description="auto: GPUs if the cluster has any, else CPUs")
    precision: Precision = Field(
        default="auto",
        description="auto: bf16 on GPUs that support it (compute capability 8.0 or later); fp32 on other GPUs and on CPUs. "
        "int8 runs on CPUs only, and needs the extra clip-moderation[cpu]",
    )
    engine: EngineChoice = Field(
        default="auto",
        description="how the model runs: eager, compiled (torch.compile; needs a C++ compiler) or graphs (CUDA graphs); "
        "auto: eager",
    )
    jpeg_decoder: JpegDecoding = Field(
        default=_SCORER.jpeg_decoder,
        description="gpu: decode ordinary JPEGs on the GPU, which is faster on GPUs with a JPEG engine (A100, H100, H200)",
    )
    resize: Resize = Field(
        default="fast",
        description="fast: resize images with torch; exact: with Pillow, bit-identical to open_clip and some 2 ms slower per "
        "image. Part of the model's fingerprint; images scored before this setting existed are exact",
    )
    ray_address: str | None = Field(
        default=None, description="address of a running Ray cluster; default: start Ray on this machine"
    )
    actors: int | None = Field(default=None, gt=0, description="scoring actors; default: one per GPU, or one per 8 CPU cores")
    gpus_per_actor: float = Field(default=1.0, gt=0, le=1, description="share of a GPU for each actor")
    fetch_threads: int = Field(default=_SCORER.fetch_threads, gt=0, le=512, description="concurrent reads per actor")
    decode_threads: int | None = Field(
        default=_SCORER.decode_threads,
        gt=0,
        description="decoding threads per actor; default: its CPU cores, or 64 if a GPU decodes",
    )
    shard_size: int | None = Field(
        default=None,
        gt=0,
        description="objects per shard, the unit that is committed and resumed; default: 20,000 on GPUs, 1,000 on CPUs",
    )
    batch_size: int = Field(default=256, gt=0, le=10_000, description="objects sent to an actor at once")
    batch_timeout_s: float = Field(default=600.0, gt=0, description="seconds after which a batch is considered stuck")
    limits: ImageLimits = Field(default=_SCORER.limits, description="limits for a single image")

    @property
    def scorer_options(self) -> ScorerOptions:
        """The settings that a scorer uses."""
        return ScorerOptions(**{field.name: getattr(self, field.name) for field in fields(ScorerOptions)})
