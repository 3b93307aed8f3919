"""torch's own resize of bytes, straight to the part of a picture that is kept: three to six times as fast as Pillow's.

The kernel is SIMD code made after Pillow's filters. Its weights are whole numbers of 16 bits, so that levels differ from
Pillow's by one or two here and there; more where Pillow resizes the height first, and both cut off what is beyond black or
white on the way. All arithmetic is in whole numbers: every number of threads, and the code without SIMD, give the same bits.
"""

import contextlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from threadpoolctl import ThreadpoolController
from torch.utils.dlpack import from_dlpack

_SIMD = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
_openmp = ThreadpoolController()


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a picture that is resized, and the part of it that is kept."""

    low: float
    high: float
    """what becomes the resized axis, in pixels of the picture; one of its ends is an end of the picture"""
    resized: int
    """pixels after"""
    start: int
    kept: int
    """the part that is kept, in pixels after"""


def resized_part(picture: Image.Image, across: Axis, down: Axis, kind: Literal["bicubic", "bilinear"]) -> Image.Image:
    """The kept part of an RGB picture that is resized with antialiasing."""
    levels = _levels(picture)
    turned = [axis for axis, side in ((2, down), (3, across)) if side.low > 0]
    if turned:  # torch resizes from the first pixel on
        levels = levels.flip(turned)
    top, bottom, down_scale = _wanted(down, picture.height)
    left, right, across_scale = _wanted(across, picture.width)
    resize = torch.ops.aten._upsample_bicubic2d_aa if kind == "bicubic" else torch.ops.aten._upsample_bilinear2d_aa
    with _one_thread():
        found = resize(levels, [bottom, right], align_corners=False, scales_h=down_scale, scales_w=across_scale)
    found = found[:, :, top : top + down.kept, left : left + across.kept]
    if turned:
        found = found.flip(turned)
    pixels = np.ascontiguousarray(found[0].permute(1, 2, 0).numpy())
    return Image.frombytes("RGB", (across.kept, down.kept), pixels.data, "raw", "RGBX")


def _levels(picture: Image.Image) -> torch.Tensor:
    """[1, 4, H, W], the channels of a pixel side by side: Pillow's own memory, or a copy if that lies in several pieces."""
    try:
        flat = from_dlpack(pa.array(picture).flatten())
    except ValueError:
        flat = torch.frombuffer(bytearray(picture.tobytes("raw", "RGBX")), dtype=torch.uint8)
    # Seen this way, and not without the first dimension, torch's result has its channels side by side too.
    return flat.view(1, picture.height, picture.width, 4).permute(0, 3, 1, 2)


def _wanted(axis: Axis, length: int) -> tuple[int, int, float]:
    """Where the kept part starts, how many pixels are computed for it, and pixels after for each before."""
    start = axis.resized - axis.start - axis.kept if axis.low > 0 else axis.start
    end, scale = start + axis.kept, axis.resized / (axis.high - axis.low)
    if end == length and scale != 1:  # torch would leave the axis as it is
        end += 1
    return start, end, scale


def _one_thread() -> contextlib.AbstractContextManager[Any]:
    """Nothing where the kernel is SIMD code, which is one thread's; else keep OpenMP's threads out of decode threads."""
    if _SIMD:
        return contextlib.nullcontext()
    torch.get_num_threads()  # what torch sets at a thread's first call must be set before
    limit: contextlib.AbstractContextManager[Any] = _openmp.limit(limits=1, user_api="openmp")
    return limit
