"""ICC profiles made of numbers: where primaries and a curve say what colours mean, as in PNG, AVIF and HEIF."""

import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x, y of white, red, green and blue"""
Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""from levels 0 to 1 to light 0 to 1"""

BT709: Chromaticities = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
"""sRGB's too"""
D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_STEPS = 4096


def to_xyz(chromaticities: Chromaticities) -> NDArray[np.float64] | None:
    """[3, 3]: from linear RGB to XYZ under D50, white adapted by Bradford's method. None if they span no colours.

    Formulas: http://www.brucelindbloom.com, "RGB/XYZ Matrices" and "Chromatic Adaptation".
    """
    pairs = np.array(chromaticities, float).reshape(4, 2)
    if (np.abs(pairs) > 10).any() or (np.abs(pairs[:, 1]) < 1e-4).any():
        return None
    columns = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in pairs]).T
    white, primaries = columns[:, 0], columns[:, 1:]
    if abs(np.linalg.det(primaries)) < 1e-6:
        return None
    cones = _BRADFORD @ white
    if (np.abs(cones) < 1e-4).any():
        return None
    adapted = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ D50) / cones) @ _BRADFORD
    matrix: NDArray[np.float64] = adapted @ primaries @ np.diag(np.linalg.solve(primaries, white))
    return matrix


def made_profile(chromaticities: Chromaticities, curve: Curve) -> bytes | None:
    """A profile of an RGB display; None if the primaries span no colours."""
    matrix = to_xyz(chromaticities)
    if matrix is None or (np.abs(matrix) > 100).any():
        return None
    light = np.nan_to_num(curve(np.linspace(0, 1, _STEPS))).clip(0, 1)
    tone = b"curv\0\0\0\0" + struct.pack(">I", _STEPS) + (light * 65535).round().astype(">u2").tobytes()
    tags = {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), matrix.T, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), tone)
    tags[b"wtpt"] = _xyz(np.array(D50))
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        if content is tone and tone in body:  # one curve serves all channels
            table += name + struct.pack(">II", start + body.index(tone), len(content))
            continue
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    white = struct.pack(">3i", 63190, 65536, 54061)
    head = bytes(8) + b"\2\0\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28) + white
    rest = head[4:].ljust(124, b"\0") + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(rest) + 4) + rest


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(value) * 65536) for value in values))
