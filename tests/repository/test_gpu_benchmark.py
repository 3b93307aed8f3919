"""`python -m benchmarks.gpu`: its code runs on the CPU, and never passes a CPU's figures off as a GPU's."""

import json
import sys

import pytest
from needs import needs_no_cuda

from benchmarks import gpu
from benchmarks.figures import Figure
from benchmarks.gpu import Rates, figures, idle_share
from benchmarks.gpu_models import BareModel, random_model
from moderation import OpenClipEncoder

pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities:DeprecationWarning")

NOT_MEASURED = "not measured: no CUDA device here"


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpu", *arguments])
    gpu.main()
    found = [Figure(**json.loads(line)) for line in capsys.readouterr().out.splitlines()]
    return {figure.name: figure for figure in found}


@needs_no_cuda()
def test_without_a_gpu_the_two_promises_are_not_measured(monkeypatch, capsys):
    found = run(monkeypatch, capsys)
    assert {name: (figure.value, figure.target, figure.note) for name, figure in found.items()} == {
        "gpu_encode_over_bare": (None, 0.95, NOT_MEASURED),
        "gpu_end_to_end_over_bare": (None, 0.90, NOT_MEASURED),
    }


def test_the_gpu_benchmark_runs_on_the_cpu_under_other_names(monkeypatch, capsys):
    found = run(monkeypatch, capsys, "--device", "cpu", "--model", "demo", "--images", "16")
    promised = [found.pop(name) for name in ("gpu_encode_over_bare", "gpu_end_to_end_over_bare")]
    assert [(figure.value, figure.note) for figure in promised] == [(None, NOT_MEASURED)] * 2
    assert set(found) == {
        f"cpu_{name}_demo"
        for name in (
            "bare",
            "encode",
            "end_to_end",
            "decode_pillow",
            "decode_device",
            "encode_over_bare",
            "end_to_end_over_bare",
        )
    }
    assert all(figure.value > 0 and figure.runs == gpu.REPETITIONS for figure in found.values())


def rates(model, bare, encode, end_to_end, pillow=1.0, device=1.0):
    return Rates(model, [bare] * 3, [encode] * 3, [end_to_end] * 3, [pillow] * 3, [device] * 3, [0.25] * 3)


def test_promises_are_held_by_the_model_that_does_worst():
    small = rates("small", bare=1000, encode=990, end_to_end=300, device=400)  # decoding is the slower part
    large = rates("large", bare=100, encode=97, end_to_end=93, device=400)
    found = {figure.name: figure for figure in figures([small, large], "gpu")}
    assert (found["gpu_encode_over_bare"].value, found["gpu_encode_over_bare"].note) == (0.97, "large")
    assert (found["gpu_end_to_end_over_bare"].value, found["gpu_end_to_end_over_bare"].note) == (0.93, "large")
    assert found["gpu_end_to_end_over_bare_small"].value == 0.3
    assert "not hidden" in found["gpu_end_to_end_over_bare_small"].note
    assert found["gpu_idle_share_large"].value == 0.25
    [alone] = [figure for figure in figures([small], "gpu") if figure.name == "gpu_end_to_end_over_bare"]
    assert (alone.value, alone.note) == (None, "not measured: decoding is slower than every model here")


def test_idle_time_is_time_without_a_kernel():
    assert idle_share([(0, 10)]) == 0
    assert idle_share([(5, 10), (0, 4), (1, 3), (8, 20)]) == pytest.approx(1 / 20)
    assert idle_share([(100, 110), (190, 200), (190, 195)]) == pytest.approx(0.8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dim", "resize_mode", "mean"),
    [("ViT-B-32", 512, "shortest", 0.48145466), ("ViT-B-16-SigLIP2", 768, "squash", 0.5)],
)
def test_random_models_are_the_architectures_with_their_own_preprocessing(name, dim, resize_mode, mean, tmp_path):
    identifier = random_model(name, tmp_path / "model")
    encoder = OpenClipEncoder(identifier, device="cpu")
    assert (encoder.dim, encoder.preprocessing.size, encoder.preprocessing.resize_mode) == (dim, 224, resize_mode)
    assert encoder.preprocessing.mean[0] == pytest.approx(mean)
    BareModel(identifier, encoder).run(1)
