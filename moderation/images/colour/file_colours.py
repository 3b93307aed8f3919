"""What the colours of an opened file mean, by whatever its format keeps: a profile, PNG's chunks, code points of video."""

from functools import lru_cache
from typing import cast

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin

from moderation.images.colour.colours import BrokenProfileError, Conversion, by_profile
from moderation.images.colour.icc import BT709, Chromaticities, made_profile
from moderation.images.colour.video_colours import by_code_points
from moderation.images.structure.survey import Survey

_BT709, _UNSPECIFIED, _SRGB = 1, 2, 13
_VIDEO = frozenset({1, 2, 6, 14, 15})
_PROFILE = b"ICC_PROFILE\0"
_UNMANAGED = frozenset({"GIF", "BMP"})
"""Formats in which browsers do not look for colours."""


def conversion_of(image: ImageFile.ImageFile, survey: Survey) -> Conversion | None:
    """How the pictures of a file become sRGB; None: they are.

    Raises:
        UnmanagedColourError: they are not, and how is beyond this program.
    """
    if image.format in _UNMANAGED or (image.format == "WEBP" and getattr(image, "is_animated", False)):
        return None
    mode = _space(image.mode)
    if image.format == "PNG" and len(survey.code_points) == 4:
        primaries, transfer, matrix, full = survey.code_points
        found = by_code_points(primaries, transfer) if full == 1 and not matrix else None
        if found is not None:
            return found.conversion
    profile = image.info.get("icc_profile") or _jpeg_profile(image)
    if profile:
        if image.format == "PNG" and profile[16:20] not in (b"RGB ", b"GRAY", b"CMYK"):  # browsers look at the tags
            profile = profile[:16] + b"RGB " + profile[20:]
        try:
            return by_profile(bytes(profile), mode)
        except BrokenProfileError:  # as if there were none
            pass
    if image.format == "PNG":
        return _png(image)
    if image.format in ("AVIF", "HEIF"):
        return _video(image, survey)
    return None


def _space(mode: str) -> str:
    if mode == "CMYK":
        return "CMYK"
    return "L" if mode in ("1", "L", "LA", "La", "I", "F") or mode.startswith("I;16") else "RGB"


def _jpeg_profile(image: ImageFile.ImageFile) -> bytes | None:
    """One whose parts are there several times, which Pillow leaves out: browsers take the first of each."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None
    parts: dict[int, bytes] = {}
    count = 0
    for name, content in image.applist:
        if name == "APP2" and content.startswith(_PROFILE) and len(content) > len(_PROFILE) + 2:
            number, count = content[len(_PROFILE)], count or content[len(_PROFILE) + 1]
            parts.setdefault(number, content[len(_PROFILE) + 2 :])
    wanted = range(1, count + 1)
    return b"".join(parts[number] for number in wanted) if parts and all(number in parts for number in wanted) else None


def _png(image: ImageFile.ImageFile) -> Conversion | None:
    """By gAMA and cHRM, unless the file says that it is sRGB. Browsers take cHRM for nothing without gAMA."""
    gamma = image.info.get("gamma")
    if not gamma or image.info.get("srgb") in (0, 1, 2, 3):
        return None
    chromaticities = image.info.get("chromaticity")
    return _by_gamma(float(gamma), cast("Chromaticities", chromaticities) if chromaticities else BT709)


@lru_cache(maxsize=256)
def _by_gamma(gamma: float, chromaticities: Chromaticities) -> Conversion | None:
    if abs(gamma - 0.45455) < 0.005 and chromaticities == BT709:
        return None
    profile = made_profile(chromaticities, lambda levels: np.power(levels, 1 / gamma))
    return by_profile(profile, "RGB") if profile else None


def _video(image: Image.Image, survey: Survey) -> Conversion | None:
    """By the colour box of AVIF or HEIF."""
    box = image.info.get("nclx_profile")
    points = (box["color_primaries"], box["transfer_characteristics"]) if box else tuple(survey.code_points[:2])
    if len(points) != 2:
        return None
    primaries, transfer = int(points[0]), int(points[1])
    # In these, browsers take the curves of SDR video for sRGB's, and what is unspecified too; in PNG they do not.
    primaries = _BT709 if primaries == _UNSPECIFIED else primaries
    found = by_code_points(primaries, _SRGB if transfer in _VIDEO else transfer) or by_code_points(primaries, _SRGB)
    return found.conversion if found else None
