"""Reading the file of a head: safetensors, never a pickle.

Tensors: `weight` [1, D] or [D] and `bias` [1]; with a hidden layer also `hidden.weight` [H, D] and `hidden.bias` [H];
`knots.logit` and `knots.probability` [K] where probabilities were calibrated in steps. Metadata: `model_fingerprint`.
"""

import hashlib
import json

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from moderation.policy.head import Head, Layer
from moderation.policy_files.places import AssetError

_TENSORS = {"weight", "bias", "hidden.weight", "hidden.bias", "knots.logit", "knots.probability"}
_MAX_HEADER = 1 << 20


def parse_head(data: bytes, name: str) -> Head:
    """The head that a file contains; `name` is what the policy calls it. Raises `AssetError`."""
    try:
        tensors = load(data)
        metadata = _metadata(data)
    except (SafetensorError, ValueError, KeyError, UnicodeDecodeError) as error:
        hint = "a head is a safetensors file with `weight` and `bias`: docs/policies.md says how to convert others"
        raise AssetError(f"{name!r} is no safetensors file: {' '.join(str(error).split())[:120]}", hint) from None
    unknown, missing = sorted(set(tensors) - _TENSORS), sorted({"weight", "bias"} - set(tensors))
    if unknown or missing:
        wrong = f"lacks {missing[0]!r}" if missing else f"holds {unknown[0]!r}"
        raise AssetError(f"{name!r} {wrong}", f"a head holds {', '.join(sorted(_TENSORS))}")
    hidden = [key for key in ("hidden.weight", "hidden.bias") if key in tensors]
    if len(hidden) == 1:
        raise AssetError(f"{name!r} holds {hidden[0]!r} alone", "a hidden layer has a weight and a bias")
    odd = sorted(key for key, value in tensors.items() if value.dtype.kind != "f" or not np.isfinite(value).all())
    if odd:
        raise AssetError(f"{odd[0]!r} in {name!r} holds what is no finite number", "write float32 tensors")
    layers = ([_layer(tensors, "hidden.", name)] if hidden else []) + [_layer(tensors, "", name)]
    if layers[-1][0].shape[0] != 1 or (hidden and layers[-1][0].shape[1] != layers[0][0].shape[0]):
        raise AssetError(f"the layers of {name!r} do not fit together, or have more than one output")
    digest, model = hashlib.sha256(data).hexdigest(), metadata.get("model_fingerprint", "")
    return Head(name, digest, tuple(layers), model, _knots(tensors, name), data)


def _layer(tensors: dict[str, NDArray[np.floating]], begin: str, name: str) -> Layer:
    weight, bias = (tensors[f"{begin}{key}"].astype(np.float32) for key in ("weight", "bias"))
    weight = weight.reshape(1, -1) if weight.ndim == 1 else weight
    if weight.ndim != 2 or bias.ravel().shape != weight.shape[:1]:
        raise AssetError(f"`{begin}weight` and `{begin}bias` of {name!r} do not fit together", "they are [out, in] and [out]")
    return weight, bias.ravel()


def _knots(tensors: dict[str, NDArray[np.floating]], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    found = [tensors[key].astype(np.float64) for key in ("knots.logit", "knots.probability") if key in tensors]
    if not found:
        return None
    if len(found) == 2 and found[0].shape == found[1].shape and found[0].ndim == 1 and len(found[0]) > 1:
        logits, probabilities = found
        if (
            (np.diff(logits) > 0).all()
            and (np.diff(probabilities) >= 0).all()
            and 0 <= probabilities[0] <= probabilities[-1] <= 1
        ):
            return logits, probabilities
    raise AssetError(f"the knots of {name!r} are no calibration", "logits increase, and their probabilities lie in 0 to 1")


def _metadata(data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    if size > _MAX_HEADER:
        raise ValueError("its header is too large")
    found = json.loads(data[8 : 8 + size]).get("__metadata__") or {}
    return {str(key): str(value) for key, value in found.items()}
