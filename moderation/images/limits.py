"""How much of an image the pipeline is willing to take in."""

from pydantic import BaseModel, ConfigDict, Field

from moderation.images.tool_formats import ToolFormat


class ImageLimits(BaseModel):
    """Limits that keep one hostile file from taking a worker down. An image over a limit becomes an error row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(default=64 << 20, gt=0, description="objects with more bytes are `too_large`")
    max_pixels: int = Field(
        default=89_478_485,
        gt=0,
        le=1 << 30,
        description="images that decode to more pixels are `too_many_pixels`; a large JPEG counts at the scale of its decoding",
    )
    max_frames: int = Field(default=8, ge=1, le=64, description="frames read from an animated or multi-page image")
    max_seconds: float = Field(
        default=30.0,
        gt=0,
        allow_inf_nan=False,
        description="images whose decoding takes more processor time are `worker_timeout`",
    )
    formats: tuple[ToolFormat, ...] = Field(
        default=(),
        max_length=len(ToolFormat),
        description="additional formats to read, which browsers do not show: jpeg2000, psd, tga, pnm, dds, pcx, qoi",
    )
