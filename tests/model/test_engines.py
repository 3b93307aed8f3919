"""Engines: eager, compiled, bf16. How one is chosen, that they agree, and batches that are under way side by side."""

import threading

import numpy as np
import pytest
import torch
from needs import needs_compiler
from support import save_tiny_clip

from moderation import ImageScorer, ModelError, OpenClipEncoder, load_policy
from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.model.compiling import equal_blocks, has_compiler
from moderation.model.device_buffers import Lanes
from moderation.model.engines import Abilities, Engine, chosen_engine, fitting_batch

EAGER, COMPILED, BF16 = Engine("eager", "fp32", 16), Engine("compiled", "fp32", 16), Engine("eager", "bf16", 16)
CPU = Abilities(None, compiler=True)


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    return save_tiny_clip(tmp_path_factory.mktemp("model"))


@pytest.fixture
def encoder(name):
    return OpenClipEncoder(name, device="cpu")


def pictures(count, seed=0, size=64):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


# --- the choice ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiler", [True, False])
@pytest.mark.parametrize(
    ("capability", "precision", "expected", "why"),
    [
        (None, "auto", "fp32", "auto is fp32 on CPUs"),
        (None, "bf16", "bf16", "bf16 was requested"),
        (None, "fp32", "fp32", "fp32 was requested"),
        ((7, 5), "auto", "fp32", "auto is fp32 on GPUs below compute capability 8.0"),
        ((7, 5), "bf16", "bf16", "bf16 was requested"),
        ((8, 0), "auto", "bf16", "auto is bf16 on GPUs from compute capability 8.0"),
        ((9, 0), "auto", "bf16", "auto is bf16 on GPUs from compute capability 8.0"),
        ((12, 0), "auto", "bf16", "auto is bf16 on GPUs from compute capability 8.0"),
        ((9, 0), "fp32", "fp32", "fp32 was requested"),
    ],
)
def test_the_engine_is_chosen_by_the_hardware_alone(capability, precision, expected, why, compiler):
    machine = Abilities(capability, compiler, "a device")
    engine = chosen_engine("auto", precision, machine, 16)
    assert engine == Engine("eager", expected, 16)
    assert engine.why == f"a device; {why}; auto is eager"


def test_the_choice_is_the_same_every_time_and_takes_no_time(name):
    """No stopwatch: nothing is encoded to find out what is fastest."""
    encoders = [OpenClipEncoder(name, device="cpu") for _ in range(2)]
    passes = []
    for encoder in encoders:
        encoder._model.visual.register_forward_hook(lambda *_: passes.append(1))
        assert encoder.fit(most=4, gpu_share=0.1) == EAGER
    assert passes == []
    assert encoders[0].fingerprint == encoders[1].fingerprint
    assert encoders[0].engine.why.startswith(f"CPU with {torch.backends.cpu.get_cpu_capability()}")


def test_an_engine_that_cannot_run_here_is_refused(encoder, monkeypatch, tmp_path, name):
    with pytest.raises(ModelError, match="needs a CUDA device"):
        chosen_engine("graphs", "auto", CPU)
    with pytest.raises(ModelError, match="needs a CUDA device"):
        encoder.use(Engine("graphs", "fp32", 16))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ModelError, match=r"needs a C\+\+ compiler"):
        OpenClipEncoder(name, device="cpu", engine="compiled")


@pytest.mark.parametrize(
    ("memory", "per_image", "most", "expected"),
    [
        (100e9, 50e6, 1024, 1024),
        (100e9, 50e6, 256, 256),
        (100e9, 50e6, 300, 256),
        (6.4e9, 50e6, 1024, 128),
        (6.39e9, 50e6, 1024, 64),
        (1e6, 50e6, 1024, 8),
        (-1e9, 50e6, 1024, 8),
        (100e9, 50e6, 1, 8),
        (100e9, 0, 1024, 1024),
    ],
)
def test_a_batch_is_a_power_of_two_that_fits(memory, per_image, most, expected):
    assert fitting_batch(memory, per_image, most) == expected


# --- engines agree ---------------------------------------------------------------------------------------------------------


@needs_compiler
def test_compiled_embeddings_are_those_of_eager(encoder):
    before, fingerprint = encoder.encode_images(pictures(20)), encoder.fingerprint
    encoder.use(COMPILED)
    assert [hasattr(block.forward, "_torchdynamo_orig_callable") for block in equal_blocks(encoder._model.visual)] == [True] * 2
    assert (encoder.encode_images(pictures(20)) * before).sum(axis=1).min() > 0.999999
    assert encoder.fingerprint == fingerprint
    encoder.use(EAGER)
    assert encoder.encode_images(pictures(20)).tobytes() == before.tobytes()


def test_one_encoder_goes_from_precision_to_precision(encoder, name):
    fingerprint = encoder.fingerprint
    encoder.use(BF16)
    half = OpenClipEncoder(name, device="cpu", precision="bf16")
    assert encoder.fingerprint == half.fingerprint != fingerprint
    assert encoder.encode_images(pictures(3)).tobytes() == half.encode_images(pictures(3)).tobytes()


def decisions(engine, step=1):
    """Of every `step`-th demo image."""
    encoder = OpenClipEncoder("demo", device="cpu")
    encoder.use(engine)
    images = sorted(path for path in IMAGES_DIR.rglob("*") if path.is_file())[::step]
    with ImageScorer(encoder, load_policy(POLICY_FILE)) as scorer:
        rows = scorer.score(images).decisions.to_pylist()
    return {row["uri"]: (row["action"], row["flags"], row["shadow_flags"], row["error_code"]) for row in rows}


def test_bf16_decides_on_demo_images_like_fp32():
    expected = decisions(EAGER, step=5)
    assert len({actions[0] for actions in expected.values()}) > 2
    assert decisions(BF16, step=5) == expected


@pytest.mark.slow
def test_every_engine_decides_on_all_demo_images_like_eager():
    expected = decisions(EAGER)
    assert len(expected) >= 300
    for engine in (BF16, COMPILED) if has_compiler() else (BF16,):
        assert decisions(engine) == expected


# --- batches under way -----------------------------------------------------------------------------------------------------


def test_start_and_encode_images_give_the_same_embeddings(encoder):
    images = pictures(33)
    expected = encoder.encode_images(images)
    waits = [encoder.start(list(images[i : i + 16])) for i in range(0, 33, 16)]
    assert [wait().shape for wait in waits] == [(16, 64), (16, 64), (1, 64)]
    assert np.concatenate([wait() for wait in waits]).tobytes() == expected.tobytes()


def test_each_thread_gets_the_embeddings_of_its_own_batch(encoder):
    images = pictures(24)
    expected = encoder.encode_images(images)
    found = {}

    def encode(number):
        found[number] = encoder.start([images[number]])()

    threads = [threading.Thread(target=encode, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.concatenate([found[number] for number in range(24)]).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "wrong",
    [[], list(pictures(17)), [pictures(1)[0][:, :, :1]], [pictures(1)[0].astype(np.float32)]],
    ids=["none", "too many", "shape", "type"],
)
def test_start_refuses_what_is_no_batch(encoder, wrong):
    with pytest.raises(ValueError, match=r"expected .*, got"):
        encoder.start(wrong)


class Slow:
    """A lane whose device is told when to finish; it answers with the first value of each picture."""

    def __init__(self):
        self.pixels = np.zeros((4, 1, 1, 3), np.uint8)
        self.done = threading.Event()
        self.launched = threading.Semaphore(0)

    def launch(self):
        self.done.clear()
        self.launched.release()

    def result(self):
        assert self.done.wait(30)
        return self.pixels[:, 0, 0, :1].astype(np.float32)


def pixel(value):
    return np.full((1, 1, 3), value, np.uint8)


def test_a_third_batch_waits_for_the_first_and_loses_nothing():
    one, two = Slow(), Slow()
    lanes = Lanes([one, two])
    first, second = lanes.start([pixel(1), pixel(2)]), lanes.start([pixel(3)])
    waits = []
    third = threading.Thread(target=lambda: waits.append(lanes.start([pixel(4)])))
    assert one.launched.acquire(timeout=30)
    third.start()
    third.join(0.1)
    assert third.is_alive(), "it must not overwrite what is being encoded"
    one.done.set()
    assert one.launched.acquire(timeout=30)
    third.join(30)
    assert first().tolist() == [[1], [2]]
    one.done.set()
    two.done.set()
    assert second().tolist() == [[3]]
    assert waits[0]().tolist() == [[4]]
    assert first().tolist() == [[1], [2]]
