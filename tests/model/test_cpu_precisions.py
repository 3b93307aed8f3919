"""bf16 and int8 on CPUs: near to fp32, the same in every batch, with fingerprints of their own, refused where they do harm."""

import tempfile
import threading
from importlib.metadata import version
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from needs import needs_compiler, needs_linux
from PIL import Image
from support import VIT, make_policy, save_model
from test_open_clip_encoder import RESNET, SIGLIP

from moderation import ImageScorer, ModelError, OpenClipEncoder, RunSettings, Store, pipeline
from moderation.model.bf16 import multiplies_in_bf16
from moderation.model.engines import ARITHMETICS, Abilities, Engine, chosen_engine
from moderation.policy.model_choice import ModelChoice
from moderation.scoring.flips import FlipCheck, compared
from moderation.studies.model_comparison.comparing import compare_models
from moderation.studies.replay.replaying import replay_run

CPU = Abilities(None, compiler=True, hardware="CPU with AVX2", bf16=False)
TASKS = Path("/proc/self/task")
FP32 = Engine("eager", "fp32", 16)
TEXTS = ["a cat", "a dog"]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    siglip = open_clip.CustomTextCLIP(**{k: v for k, v in SIGLIP.items() if k != "custom_text"}).state_dict()
    # Two heads: torch has a fused attention for even numbers of them.
    two_heads = {**VIT, "vision_cfg": {**VIT["vision_cfg"], "head_width": 32}}
    return {
        "clip": save_model(root / "clip", open_clip.CLIP(**two_heads).state_dict(), two_heads),
        "siglip": save_model(root / "siglip", siglip, SIGLIP, resize_mode="squash"),
        "resnet": save_model(root / "resnet", open_clip.CLIP(**RESNET).state_dict(), RESNET),
    }


@pytest.fixture(scope="module")
def int8(names):
    return OpenClipEncoder(names["clip"], device="cpu", precision="int8", threads=2)


def pictures(count, seed=0, size=64):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def same_in_every_batch(encoder, count):
    images = pictures(count)
    whole = encoder.encode_images(images)
    order = np.random.default_rng(1).permutation(count)
    assert encoder.encode_images(images[order]).tobytes() == whole[order].tobytes()
    for some in (1, 7):
        assert encoder.encode_images(images[-some:]).tobytes() == whole[-some:].tobytes()
    return whole


# --- bf16 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["clip", "resnet"])
def test_bf16_weights_give_nearly_the_embeddings_of_fp32_in_any_batch(names, kind):
    exact, half = (OpenClipEncoder(names[kind], device="cpu", precision=precision) for precision in ("fp32", "bf16"))
    vectors = same_in_every_batch(half, 17)
    cosines = (vectors * exact.encode_images(pictures(17))).sum(axis=1)
    assert 0.999 < cosines.min() < cosines.max() < 1 + 1e-6
    assert vectors.tobytes() != exact.encode_images(pictures(17)).tobytes()
    assert np.linalg.norm(vectors.astype(np.float64), axis=1) == pytest.approx(1, abs=1e-6)
    assert half.encode_texts(TEXTS).tobytes() == exact.encode_texts(TEXTS).tobytes()
    half.use(FP32)
    assert half.encode_images(pictures(3)).tobytes() == exact.encode_images(pictures(3)).tobytes()


@pytest.mark.slow
@needs_compiler
def test_bf16_weights_can_be_compiled(names):
    encoder = OpenClipEncoder(names["clip"], device="cpu", precision="bf16")
    before = encoder.encode_images(pictures(16))
    encoder.use(Engine("compiled", "bf16", 16))
    assert (encoder.encode_images(pictures(16)) * before).sum(axis=1).min() > 0.999


def test_bf16_on_a_cpu_without_it_runs_and_says_that_it_is_slow():
    slow = chosen_engine("auto", "bf16", CPU)
    assert slow.precision == "bf16"
    assert slow.warning.startswith("this CPU has no instructions for bf16 (CPU with AVX2), and without them it is many times")
    able = Abilities(None, compiler=True, hardware="CPU with AVX512 and bf16", bf16=True)
    assert chosen_engine("auto", "bf16", able).warning == chosen_engine("auto", "auto", CPU).warning == ""
    assert chosen_engine("auto", "auto", able).precision == "fp32", "a cluster of several CPUs has one fingerprint"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model name\t: some CPU\nflags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16\n", True),
        ("flags\t\t: fpu avx2 amx_tile amx_bf16 amx_int8\n", True),
        ("processor\t: 0\nFeatures\t: fp asimd i8mm bf16\n", True),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni\nmodel name\t: bf16\n", False),
        ("", False),
    ],
)
def test_what_a_cpu_has_is_read_and_never_measured(tmp_path, text, expected):
    (tmp_path / "cpuinfo").write_text(text)
    assert multiplies_in_bf16(tmp_path / "cpuinfo") is expected
    assert multiplies_in_bf16(tmp_path / "nothing") is False


# --- int8 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_int8_gives_nearly_the_embeddings_of_fp32_in_any_batch(names, kind, int8):
    encoder = int8 if kind == "clip" else OpenClipEncoder(names[kind], device="cpu", precision="int8")
    exact = OpenClipEncoder(names[kind], device="cpu")
    vectors = same_in_every_batch(encoder, 33)
    cosines = (vectors * exact.encode_images(pictures(33))).sum(axis=1)
    assert 0.999 < cosines.min() < 0.9999999
    assert encoder.encode_texts(TEXTS).tobytes() == exact.encode_texts(TEXTS).tobytes()
    assert str(encoder.engine) == "ONNX Runtime int8, 16 images per batch"
    assert encoder.engine.why.endswith(f"; int8 was requested; int8 runs in ONNX Runtime {version('onnxruntime')}")


@needs_linux
def test_int8_gives_the_same_bits_at_every_load_and_with_other_threads(names, int8):
    expected = int8.encode_images(pictures(20))
    threads, tasks, torch_threads = threading.active_count(), len(list(TASKS.iterdir())), torch.get_num_threads()
    try:
        other = OpenClipEncoder(names["clip"], device="cpu", precision="int8", threads=1)
        assert other.encode_images(pictures(20)).tobytes() == expected.tobytes()
        assert threading.active_count() <= threads + 1
        assert len(list(TASKS.iterdir())) <= tasks + 1, "ONNX Runtime has threads of its own"
    finally:
        torch.set_num_threads(torch_threads)
    assert other.fingerprint == int8.fingerprint


def test_int8_leaves_no_file(names, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    OpenClipEncoder(names["clip"], device="cpu", precision="int8")
    assert list(tmp_path.iterdir()) == []


def test_one_encoder_goes_from_fp32_to_int8_and_back(names, int8):
    encoder = OpenClipEncoder(names["clip"], device="cpu")
    exact, fingerprint = encoder.encode_images(pictures(3)), encoder.fingerprint
    encoder.use(int8.engine)
    assert encoder.encode_images(pictures(3)).tobytes() == int8.encode_images(pictures(3)).tobytes()
    assert encoder.fingerprint == int8.fingerprint
    encoder.use(FP32)
    assert (encoder.encode_images(pictures(3)).tobytes(), encoder.fingerprint) == (exact.tobytes(), fingerprint)


def test_a_tower_of_convolutions_is_refused():
    with pytest.raises(ModelError, match=r"int8 is for vision transformers, and this image tower is made of convolutions"):
        OpenClipEncoder("demo", device="cpu", precision="int8")


def test_what_cannot_run_is_refused_with_what_to_do():
    with pytest.raises(ModelError, match="leave `engine` at `auto`"):
        chosen_engine("compiled", "int8", CPU)
    with pytest.raises(ModelError, match=r"int8 is for CPUs, and this is a GPU: use `--device cpu`, or `--precision bf16`"):
        chosen_engine("auto", "int8", Abilities((9, 0), compiler=True))
    with pytest.raises(ModelError, match=r"not installed here: pip install 'clip-moderation\[cpu\]'"):
        chosen_engine("auto", "int8", Abilities(None, compiler=True))


# --- fingerprints ----------------------------------------------------------------------------------------------------------


def test_every_way_to_compute_has_a_fingerprint_of_its_own(names, int8):
    exact, half = (OpenClipEncoder(names["clip"], device="cpu", precision=precision) for precision in ("fp32", "bf16"))
    assert len({exact.fingerprint, half.fingerprint, int8.fingerprint, exact._fingerprint("bf16")}) == len(ARITHMETICS) == 4
    assert all(exact.made(one) for one in (exact.fingerprint, half.fingerprint, int8.fingerprint, exact._fingerprint("bf16")))
    assert not exact.made(OpenClipEncoder(names["siglip"], device="cpu").fingerprint)


# --- decisions -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    """Pictures so alike that their scores lie closer together than int8 is exact."""
    folder = tmp_path_factory.mktemp("alike")
    base = pictures(1)[0].astype(int)
    for number, noise in enumerate(np.random.default_rng(3).integers(-1, 2, (40, 64, 64, 3))):
        Image.fromarray(np.clip(base + noise, 0, 255).astype(np.uint8)).save(folder / f"{number:02}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG no more than this")
    return folder


@pytest.fixture(scope="module")
def middle(names, alike):
    """The score of which half of them have more."""
    policy = make_policy({"score": "similarity", "review": 0.5}, model={"name": names["clip"]})
    with ImageScorer(OpenClipEncoder(names["clip"], device="cpu"), policy) as scorer:
        scores = scorer.score(sorted(alike.glob("*.png"))).scores["score"].to_numpy()
    return float(np.median(scores))


def policy_file(folder, name, review):
    folder.mkdir(exist_ok=True)
    path = folder / "policy.yaml"
    rules = f"[{{id: one, prompts: [p0], score: similarity, review: {review!r}}}]"
    path.write_text(f"policy: test\nmodel: {{name: '{name}'}}\nrules: {rules}\n")
    return path


def settings(folder, alike, policy, **options):
    given = {"sources": str(alike), "policy": str(policy), "output": str(folder / "out"), "actors": 1, "device": "cpu"}
    return RunSettings(**{**given, **options})


def test_a_share_of_flips_is_accepted_and_no_more():
    for images, flips in ((0, 0), (1, 1), (10, 1), (128, 2), (1000, 20)):
        FlipCheck(images, flips, 0.99).accept()
    for images, flips in ((2, 2), (128, 3), (1000, 21)):
        with pytest.raises(ModelError, match=rf"int8 decides {flips} of the first {images} images differently from fp32"):
            FlipCheck(images, flips, 0.99).accept()


def test_what_is_compared_are_the_actions_of_the_same_images(names, int8, alike, middle):
    exact = OpenClipEncoder(names["clip"], device="cpu")
    files = sorted(alike.glob("*.png"))
    for review, flips in ((middle, True), (middle + 0.5, False)):
        policy = make_policy({"score": "similarity", "review": review}, model={"name": names["clip"]})
        rows = []
        for encoder in (exact, int8):
            with ImageScorer(encoder, policy) as scorer:
                rows.append(scorer.score(files))
        found = compared(*rows)
        assert found.images == 40
        assert (found.flips > 1) is flips
        assert 0.999 < found.cosine < 1
        assert compared(rows[0], rows[0]).flips == 0


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_refuses_int8_where_it_flips_decisions(tmp_path, names, alike, middle):
    policy = policy_file(tmp_path, names["clip"], middle)
    with pytest.raises(ModelError, match=r"int8 decides \d+ of the first 40 images differently from fp32, and the limit is 2%"):
        pipeline.run(settings(tmp_path, alike, policy, precision="int8"))
    assert not list(Path(tmp_path / "out").glob("runs/*.json"))


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_in_int8_is_replayed_and_decided_again(tmp_path, names, alike, middle):
    policy = policy_file(tmp_path, names["clip"], middle - 0.3)
    first = pipeline.run(settings(tmp_path, alike, policy, precision="int8")).manifest
    assert (first.scored, first.errored) == (40, 1)
    assert (first.engine.kind, first.engine.precision) == ("onnxruntime", "int8")
    assert (first.engine.compared, first.engine.flips) == (40, 0)
    assert 0.999 < first.engine.lowest_cosine < 1
    output = Store(str(tmp_path / "out"))
    assert replay_run(output, first.run_id).identical
    other = tmp_path / "other"
    later = policy_file(other, names["clip"], middle + 0.3)
    later.write_text(later.read_text().replace("p0", "a prompt that no run had"))
    found = pipeline.run(settings(tmp_path, alike, later, precision="int8")).manifest
    assert (found.redecided, found.engine.compared, found.model_fingerprint) == (40, None, first.model_fingerprint)


def test_the_same_model_in_two_precisions_is_compared(names, alike, middle):
    policy = make_policy({"score": "similarity", "review": middle}, model={"name": names["clip"]})
    choice = ModelChoice(name=names["clip"])
    found = compare_models(policy, choice, choice, [str(alike)], precisions=("fp32", "int8"))
    assert (found.a.name, found.b.name) == (f"{names['clip']} in fp32", f"{names['clip']} in int8")
    assert not found.same_model
    assert found.images == 40
    flips = sum(count for (before, after), count in found.actions.items() if before != after)
    assert flips > 1
    assert len(found.rules[0].disagreements) == min(flips, 12)
