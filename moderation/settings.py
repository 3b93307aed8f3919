"""Everything a run can be told. Prefect shows it as a form, the CLI as options; one description serves both."""

import os
from datetime import datetime
from typing import Annotated, Literal

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

from moderation.images.limits import ImageLimits
from moderation.model.encoder import Device, Precision
from moderation.model.engines import EngineChoice
from moderation.redacting import SCHEMA_PATTERN, without_secret
from moderation.storage import file_uri

RunId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


def _as_text(value: object) -> object:
    """A path that is not UTF-8 as a URI, for JSON and Parquet hold no other text."""
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
"""A place in storage. Holds no secret, since settings stand in manifests and in Prefect's database."""


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class RunSettings(BaseModel):
    """Settings of one run. Credentials are never among them: they come from the environment, as AWS tools take them."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @field_validator("from_embeddings")
    @classmethod
    def _one_origin(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("sources"):
            raise ValueError("takes up what the results hold: name no source with it")
        if not value and info.data.get("sources") == ():
            raise ValueError("nothing to moderate is named: give a source, or take up stored embeddings with this")
        return value

    sources: Annotated[tuple[Location, ...], BeforeValidator(_one_or_more)] = Field(
        default=(),
        description="what to moderate: folders or prefixes such as s3://bucket/prefix, or manifests: "
        "files (.csv, .jsonl, .parquet) with a column `uri`, or the manifest.json of an S3 Inventory",
    )
    policy: str = Field(min_length=1, description="path of the policy file")
    output: Location = Field(description="where results go: a folder, or s3://bucket/prefix")

    run_id: RunId | None = Field(default=None, description="name of the run; give the one of a broken-off run to go on with it")
    from_embeddings: bool = Field(
        default=False,
        validate_default=True,
        description="decide anew on everything that earlier runs under the policy's model embedded; no image is read",
    )
    full: bool = Field(default=False, description="take up every object, those already decided under this policy and model too")
    retry_errors: bool = Field(default=False, description="take up objects again whose last error may pass")
    include: tuple[str, ...] = Field(
        default=(), description="take up only keys that match one of these patterns, such as *.jpg; * matches / too"
    )
    exclude: tuple[str, ...] = Field(default=(), description="leave out keys that match one of these patterns")
    modified_since: datetime | None = Field(
        default=None,
        description="take up only objects modified at or after this time: 2026-11-21, or 2026-11-21T03:00Z",
    )
    limit: int | None = Field(default=None, gt=0, description="take up at most this many objects")

    quality: str | None = Field(
        default=None,
        description="path of a file with limits for the quality checks; default: those of policies/quality.yaml",
    )

    device: Device = Field(default="auto", description="auto: GPUs if the cluster has any, else CPUs")
    precision: Precision = Field(
        default="auto",
        description="auto: bf16 on GPUs that multiply in it (compute capability 8.0 or later); fp32 on others and on CPUs. "
        "int8 is for CPUs, and needs the extra clip-moderation[cpu]",
    )
    engine: EngineChoice = Field(
        default="auto",
        description="how the model runs: eager, compiled (torch.compile; needs a C++ compiler) or graphs (CUDA graphs); "
        "auto: eager",
    )
    jpeg_decoder: Literal["cpu", "gpu"] = Field(
        default="cpu",
        description="gpu: plain JPEGs are decoded on the GPU, which pays where it has an engine for that (A100, H100, H200)",
    )
    ray_address: str | None = Field(default=None, description="a running Ray cluster; without it Ray starts on this machine")
    actors: int | None = Field(default=None, gt=0, description="scoring actors; default: one per GPU, or one per 8 CPU cores")
    gpus_per_actor: float = Field(default=1.0, gt=0, le=1, description="share of a GPU for each actor")
    fetch_threads: int = Field(default=16, gt=0, le=512, description="concurrent reads of each actor")
    decode_threads: int | None = Field(
        default=None, gt=0, description="decoding threads of each actor; default: its CPU cores, or 64 if a GPU decodes"
    )
    shard_size: int | None = Field(
        default=None, gt=0, description="objects in a shard, the unit of commitment; default: 20,000 on GPUs, 1,000 on CPUs"
    )
    batch_size: int = Field(default=256, gt=0, le=10_000, description="objects sent to an actor at a time")
    batch_timeout_s: float = Field(default=600.0, gt=0, description="seconds after which a batch counts as hanging")
    limits: ImageLimits = Field(default=ImageLimits(), description="what is too much of an image")
