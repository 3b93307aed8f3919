"""Reading and writing the file of a head: safetensors, never a pickle.

Tensors: `weight` [1, D] or [D] and `bias` [1]; with a hidden layer also `hidden.weight` [H, D] and `hidden.bias` [H];
`knots.logit` and `knots.probability` [K] where probabilities were calibrated in steps. Metadata: `model_fingerprint`, and of
those that were learned here `prevalence`, `true_labels`, `false_labels`, `labels_sha256`.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from moderation.common.findings import Finding
from moderation.policy.head import Head, Layer, Learned
from moderation.policy_files.places import AssetError

MAX_BYTES = 64 << 20
"""Of a head: a hidden layer of 4,096 on embeddings of 4,096 numbers has as many."""
_MAX_HEADER = 1 << 20
_DTYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
_TENSORS = {"weight", "bias", "hidden.weight", "hidden.bias", "knots.logit", "knots.probability"}
_FINGERPRINT = 16
"""Hex digits."""
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""As torch.save and pickle begin. A header of safetensors that begins so would be too large."""
_CONVERT = "docs/learning.md says how to convert it safely"
_NO_HEAD = "a head is a safetensors file with `weight` and `bias`: docs/learning.md says how to convert others"
Tensors = Mapping[str, NDArray[np.floating]]


def parse_head(data: bytes, name: str, model: str | None = None, place: Finding | None = None) -> Head:
    """The head that a file contains.

    Args:
        data: the file.
        name: what the policy calls it.
        model: the fingerprint that the policy declares for it, for a file that says none.
        place: where the policy names it.

    Raises:
        AssetError: it is no head.
    """
    metadata, tensors = _read(data, name)
    hidden = [key for key in ("hidden.weight", "hidden.bias") if key in tensors]
    if len(hidden) == 1:
        raise AssetError(f"{name!r} holds {hidden[0]!r} alone", "a hidden layer has a weight and a bias")
    layers = ([_layer(tensors, "hidden.", name)] if hidden else []) + [_layer(tensors, "", name)]
    if layers[-1][0].shape[0] != 1 or (hidden and layers[-1][0].shape[1] != layers[0][0].shape[0]):
        raise AssetError(f"the layers of {name!r} do not fit together, or have more than one output")
    return Head(
        name=name,
        digest=hashlib.sha256(data).hexdigest(),
        layers=tuple(layers),
        model=_model(metadata, model, name),
        knots=_knots(tensors, name),
        learned=_learned(metadata),
        data=data,
        place=place,
    )


def head_bytes(tensors: Mapping[str, NDArray[np.float32]], metadata: Mapping[str, str]) -> bytes:
    """The file of a head, the same bytes for the same content: the library writes metadata in any order."""
    data = save(dict(tensors), metadata=dict(metadata))
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _read(data: bytes, name: str) -> tuple[dict[str, str], Tensors]:
    """Metadata and tensors, all of them known and finite."""
    size = int.from_bytes(data[:8], "little")
    if data.startswith(_PICKLES):
        raise AssetError(f"{name!r} is no safetensors file: it is a pickle, which is a program", _CONVERT)
    try:
        if not 0 < size <= min(len(data) - 8, _MAX_HEADER):
            raise ValueError(f"its header would have {size:,} bytes")
        header = json.loads(data[8 : 8 + size])
        unknown = sorted(set(header) - _TENSORS - {"__metadata__"})
        if unknown:
            raise AssetError(f"{name!r} holds {unknown[0][:60]!r}", f"a head holds {', '.join(sorted(_TENSORS))}")
        tensors = {key: _tensor(key, part, name) for key, part in deserialize(data)}  # type: ignore[no-untyped-call]
        metadata = {str(key): str(value) for key, value in (header.get("__metadata__") or {}).items()}
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AssetError(f"{name!r} is no safetensors file: {' '.join(str(error).split())[:120]}", _NO_HEAD) from None
    missing = sorted({"weight", "bias"} - set(tensors))
    if missing:
        raise AssetError(f"{name!r} lacks {missing[0]!r}", f"a head holds {', '.join(sorted(_TENSORS))}")
    odd = sorted(key for key, value in tensors.items() if not np.isfinite(value).all())
    if odd:
        raise AssetError(f"{odd[0]!r} in {name!r} holds what is no finite number", "write float32 tensors")
    return metadata, tensors


def _tensor(key: str, part: Mapping[str, Any], name: str) -> NDArray[np.floating]:
    """A tensor in single precision; knots, which are few, in double."""
    kind, raw, shape = str(part["dtype"]), bytes(part["data"]), tuple(part["shape"])
    if kind == "BF16":
        found = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
    elif kind in _DTYPES:
        found = np.frombuffer(raw, _DTYPES[kind])
    else:
        raise AssetError(f"{key!r} in {name!r} holds numbers of the kind {kind}", "write float32 tensors")
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are reported
        return found.reshape(shape).astype(np.float64 if key.startswith("knots.") else np.float32)


def _layer(tensors: Tensors, begin: str, name: str) -> Layer:
    weight, bias = (tensors[f"{begin}{key}"].astype(np.float32, copy=False) for key in ("weight", "bias"))
    weight = weight.reshape(1, -1) if weight.ndim == 1 else weight
    if weight.ndim != 2 or not weight.size or bias.ravel().shape != weight.shape[:1]:
        raise AssetError(f"`{begin}weight` and `{begin}bias` of {name!r} do not fit together", "they are [out, in] and [out]")
    return weight, bias.ravel()


def _knots(tensors: Tensors, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
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


def _model(metadata: Mapping[str, str], declared: str | None, name: str) -> str:
    said = metadata.get("model_fingerprint", "")
    if said and declared and said != declared:
        raise AssetError(
            f"{name!r} says that it belongs to the model with the fingerprint {said[:40]!r}, the policy says {declared!r}",
            "leave out `model`: the file says it",
        )
    found = said or declared or ""
    if not found:
        raise AssetError(
            f"{name!r} does not say which model's embeddings it is for",
            f"declare it: head: {{file: {name}, model: <fingerprint>}}; it is in the column `model_fingerprint` of results",
        )
    if len(found) != _FINGERPRINT or set(found) - set("0123456789abcdef"):
        raise AssetError(f"{found[:40]!r} in {name!r} is no fingerprint of a model", "it has 16 digits 0-9 and a-f")
    return found


def _learned(metadata: Mapping[str, str]) -> Learned | None:
    """How it was learned, of a file that `moderate policy learn` wrote."""
    try:
        found = Learned(
            prevalence=float(metadata["prevalence"]),
            positives=int(metadata["true_labels"]),
            negatives=int(metadata["false_labels"]),
            labels=metadata["labels_sha256"],
        )
    except (KeyError, ValueError):
        return None
    return found if math.isfinite(found.prevalence) and 0 < found.prevalence < 1 else None
