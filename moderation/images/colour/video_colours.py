"""Colours by the code points of video (ITU-T H.273, "CICP"), as AVIF, HEIF and PNG keep them; HDR is tone-mapped."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from moderation.images.colour.colours import Conversion, by_function, by_profile
from moderation.images.colour.icc import BT709, Chromaticities, Curve, made_profile, to_xyz

_D65, _C = (0.3127, 0.329), (0.31, 0.316)
_PRIMARIES: dict[int, Chromaticities] = {
    1: BT709,
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06),
    6: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (*_D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    22: (*_D65, 0.63, 0.34, 0.295, 0.605, 0.155, 0.077),
}
PQ, HLG = 16, 18


def _srgb(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def _video(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a studio display (ITU-R BT.1886)."""
    light: NDArray[np.float64] = levels**2.4
    return light


def _smpte240(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(levels < 0.0913, levels / 4, ((levels + 0.1115) / 1.1115) ** (1 / 0.45))


CURVES: dict[int, Curve] = {
    1: _video,
    4: lambda levels: levels**2.2,
    5: lambda levels: levels**2.8,
    6: _video,
    7: _smpte240,
    8: lambda levels: levels,
    13: _srgb,
    14: _video,
    15: _video,
    11: _video,
    17: lambda levels: levels**2.6 * 52.37 / 48,
}
"""By the number of the transfer function."""


@dataclass(frozen=True, slots=True)
class Known:
    """Code points that mean something."""

    conversion: Conversion | None
    """None: sRGB"""


@lru_cache(maxsize=256)
def by_code_points(primaries: int, transfer: int) -> Known | None:
    """How colours of these code points become sRGB; None if they are unspecified or unknown, as browsers ignore them."""
    chromaticities = _PRIMARIES.get(primaries)
    if chromaticities is None:
        return None
    if transfer in (PQ, HLG):
        return Known(by_function(_tone_mapped(chromaticities, transfer)))
    curve = CURVES.get(transfer)
    if curve is None:
        return None
    profile = made_profile(chromaticities, curve)
    return Known(by_profile(profile, "RGB") if profile else None)


# --- HDR -------------------------------------------------------------------------------------------------------------------

_WHITE = 203.0
"""Candela per square metre of diffuse white (ITU-R BT.2408)."""


_STEPS = 1 << 13
"""Of linear light, in the table that encodes it: fine enough for the dark end."""
_LUMINANCE = np.array([0.2627, 0.678, 0.0593], np.float32)


def _light_of_pq(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084, in multiples of diffuse white."""
    power = levels ** (1 / 78.84375)
    part = (power - 0.8359375).clip(0) / (18.8515625 - 18.6875 * power)
    light: NDArray[np.float64] = 10_000 / _WHITE * part ** (1 / 0.1593017578125)
    return light


def _light_of_hlg(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """ARIB STD-B67, light of the scene."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    light: NDArray[np.float64] = np.where(levels <= 0.5, levels**2 / 3, (np.exp((levels - c) / a) + b) / 12)
    return light


def _tone_mapped(chromaticities: Chromaticities, transfer: int) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    source, target = to_xyz(chromaticities), to_xyz(BT709)
    assert source is not None  # noqa: S101 - the tables above
    assert target is not None  # noqa: S101
    matrix = (np.linalg.inv(target) @ source).T.astype(np.float32) * (_STEPS - 1)
    levels = np.arange(256) / 255
    light = (_light_of_pq(levels) if transfer == PQ else _light_of_hlg(levels)).astype(np.float32)
    steps = np.arange(_STEPS) / (_STEPS - 1)
    encoded = np.where(steps <= 0.0031308, steps * 12.92, 1.055 * steps ** (1 / 2.4) - 0.055)
    shown = (encoded * 255).round().astype(np.uint8)

    def convert(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        bright = light.take(pixels)
        if transfer == HLG:  # on a display of 1,000 cd/m²: a system gamma of 1.2 over luminance
            bright *= 1_000 / _WHITE * (bright @ _LUMINANCE)[:, None] ** np.float32(0.2)
        bright *= _compressed(bright.max(axis=1, keepdims=True))
        return shown.take((bright @ matrix).clip(0, _STEPS - 1).astype(np.int32))

    return convert


def _compressed(peak: NDArray[np.float32]) -> NDArray[np.float32]:
    """By how much light shrinks where the brightest channel is `peak` times diffuse white.

    As Chromium does: up to diffuse white by half, from there along a parabola to white at 1,000 cd/m².
    """
    most, bend, rise = 1_000 / _WHITE, 0.165, 0.648
    over = ((peak - 1) / (most - 1)).clip(0, 1)
    step = (np.sqrt(bend**2 + (1 - 2 * bend) * over) - bend) / (1 - 2 * bend)
    bright = 0.5 + 0.5 * (2 * step * (1 - step) * rise + step**2)
    factor: NDArray[np.float32] = np.where(peak <= 1, np.float32(0.5), bright / peak.clip(1)).astype(np.float32)
    return factor
