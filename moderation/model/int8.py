"""int8 on CPUs: the image tower in ONNX Runtime, with integer matrix products.

Weights are quantised once, each output channel with its own scale, to 7 bits: with 8, the CPUs that have AVX2 and no VNNI
would cut off sums of products, and their embeddings would be others. Activations are quantised as they come, by the range
of the whole tensor. So each picture runs by itself: in a batch its embedding would depend on the pictures beside it.
Nothing is calibrated, and so the fingerprint needs nothing but the weights.
"""

import contextlib
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from moderation.errors import ModelError
from moderation.model.catalog import quiet

PACKAGES = ("onnx", "onnxruntime")
_OPSET = 17
_LEAST = 0.5
"""Share of the tower's weights that must be those of matrix products."""
_LARGE = 1_500_000_000
"""Bytes of fp32 weights from which a model does not fit into one ONNX file, whose limit is 2 GB."""
_ERRORS_ONLY = 3


def onnxruntime_version() -> str:
    """The version of ONNX Runtime, empty unless the whole extra `cpu` is installed."""
    try:
        return [version(package) for package in PACKAGES][-1]
    except PackageNotFoundError:
        return ""


class Int8Tower:
    """An open_clip model's image tower. Thread-safe.

    Args:
        model: the whole model, fp32 on the CPU.
        size: S, height and width of its pictures.
        threads: pictures that run side by side, each on one core.

    Raises:
        ModelError: most of the tower's weights are not those of matrix products, or it cannot be exported.
    """

    def __init__(self, model: Any, size: int, threads: int) -> None:
        check_matrices(model.visual)
        self._session = _session(model, size)
        self._threads = ThreadPoolExecutor(threads, "int8")

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [N, 3, S, S], normalised, to features float32 [N, D], not of unit length."""
        pictures = images.numpy()
        features = self._threads.map(self._one, (pictures[n : n + 1] for n in range(len(pictures))))
        return torch.cat([torch.from_numpy(one) for one in features])

    def _one(self, picture: Any) -> Any:
        return self._session.run(None, {"images": picture})[0]


def check_matrices(tower: torch.nn.Module) -> None:
    """Refuse towers of convolutions, which int8 leaves as they are. Raises `ModelError`."""
    weights = list(tower.parameters())
    matrices = sum(weight.numel() for weight in weights if weight.ndim == 2)
    if matrices < _LEAST * sum(weight.numel() for weight in weights):
        raise ModelError(
            "precision int8 is for vision transformers, and this image tower is made of convolutions, which would stay fp32: "
            "use `--precision bf16` or `fp32`"
        )


class _Images(torch.nn.Module):
    """A model's image side alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.model.encode_image(images, normalize=False)
        return features


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Without torch's fused attention, for which ONNX has no operator."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _session(model: Any, size: int) -> Any:
    """Export and quantise in a folder that is gone afterwards, and load the result."""
    import onnxruntime  # noqa: PLC0415 - an extra
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    # One thread for a picture, so that there is no pool whose threads spin beside the decoders'.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    large = 4 * sum(weight.numel() for weight in model.visual.parameters()) > _LARGE
    with tempfile.TemporaryDirectory(prefix="int8-") as folder, quiet(), _plain_attention(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exact, quantised = Path(folder) / "exact.onnx", Path(folder) / "int8.onnx"
        try:
            torch.onnx.export(
                _Images(model).eval(),
                (torch.zeros(1, 3, size, size),),
                str(exact),
                input_names=["images"],
                opset_version=_OPSET,
                dynamo=False,
            )
            quantize_dynamic(
                exact,
                quantised,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                use_external_data_format=large,
            )
            exact.unlink()
            return onnxruntime.InferenceSession(str(quantised), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - torch, onnx and ONNX Runtime share no base class
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"the image tower cannot run in int8: {reason}: use `--precision fp32` or `bf16`") from None
