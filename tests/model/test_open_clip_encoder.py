"""open_clip models as encoders: real architectures with random weights, made and saved here."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from needs import needs_no_cuda, needs_no_library
from safetensors.torch import load_file, save_file
from support import TEXT, VIT, make_policy, save_model, save_tiny_clip

from moderation.errors import ModelError
from moderation.model.catalog import facts_of
from moderation.model.open_clip_encoder import OpenClipEncoder
from moderation.policy.compiled import CompiledPolicy, prompt_texts
from moderation.policy.model_choice import ModelChoice
from moderation.scoring.image_scorer import text_head

SIGLIP = {**VIT, "custom_text": True, "init_logit_bias": -10}
RESNET = {"embed_dim": 48, "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16}, "text_cfg": TEXT}
TEXTS = ["a photo of a cat", "a dog", "x" * 20, "", "😀 <b>", "a cat"]


def load(name, pretrained=None, **options):
    return OpenClipEncoder(name, pretrained, device="cpu", **options)


def pictures(count, seed=0, size=64):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def message(name, pretrained=None, **options):
    with pytest.raises(ModelError) as caught:
        OpenClipEncoder(name, pretrained, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 1000
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args  # noqa: S301 - our own bytes
    return text


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three kinds of models as open_clip's local-dir: a CLIP, a SigLIP with a bias, a ResNet."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    siglip = open_clip.CustomTextCLIP(**{k: v for k, v in SIGLIP.items() if k != "custom_text"}).state_dict()
    return {
        "clip": save_tiny_clip(root / "clip"),
        "siglip": save_model(root / "siglip", siglip, SIGLIP, resize_mode="squash", interpolation="bilinear"),
        "resnet": save_model(root / "resnet", open_clip.CLIP(**RESNET).state_dict(), RESNET, mean=[0.4, 0.5, 0.6]),
    }


@pytest.fixture(scope="module")
def encoders(folders):
    return {kind: load(name) for kind, name in folders.items()}


@pytest.fixture(params=["clip", "siglip", "resnet"])
def kind(request):
    return request.param


@pytest.fixture
def encoder(encoders, kind):
    return encoders[kind]


@pytest.fixture
def clip_folder(folders, tmp_path):
    """A copy of the tiny CLIP to break."""
    shutil.copytree(Path(folders["clip"].removeprefix("local-dir:")), tmp_path / "copy")
    return tmp_path / "copy"


# --- embeddings ------------------------------------------------------------------------------------------------------------


def test_embeddings_are_unit_float32(encoder):
    images, texts = encoder.encode_images(pictures(5)), encoder.encode_texts(TEXTS)
    assert images.dtype == texts.dtype == np.float32
    assert images.shape == (5, encoder.dim)
    assert texts.shape == (len(TEXTS), encoder.dim)
    for vectors in (images, texts):
        assert np.linalg.norm(vectors.astype(np.float64), axis=1) == pytest.approx(1.0, abs=1e-5)


def test_embeddings_are_those_of_open_clip(folders, encoder, kind):
    """Against open_clip's own model, transform and tokenizer, one image at a time."""
    from PIL import Image

    model, _, transform = open_clip.create_model_and_transforms(folders[kind])
    model.eval()
    with torch.inference_mode():
        expected = [model.encode_image(transform(Image.fromarray(p))[None], normalize=True)[0].numpy() for p in pictures(3)]
        texts = model.encode_text(open_clip.get_tokenizer(folders[kind])(TEXTS), normalize=True).numpy()
    prepared = np.stack([encoder.preprocessing(Image.fromarray(p)) for p in pictures(3)])
    assert np.abs(encoder.encode_images(prepared) - np.stack(expected)).max() < 2e-6
    assert np.abs(encoder.encode_texts(TEXTS) - texts).max() < 2e-6
    assert encoder.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))


def test_an_embedding_never_depends_on_its_batch(encoder):
    images = pictures(33)
    whole = encoder.encode_images(images)
    order = np.random.default_rng(1).permutation(33)
    assert encoder.encode_images(images[order]).tobytes() == whole[order].tobytes()
    for count in (1, 7, 16):
        assert encoder.encode_images(images[-count:]).tobytes() == whole[-count:].tobytes()


def test_an_empty_batch_gives_an_empty_array_of_embeddings(encoder):
    found = encoder.encode_images(pictures(0))
    assert (found.shape, found.dtype) == ((0, encoder.dim), np.float32)


def test_a_text_embedding_does_not_depend_on_other_texts(encoder):
    alone = np.concatenate([encoder.encode_texts([text]) for text in TEXTS])
    assert np.abs(encoder.encode_texts(TEXTS * 30) - np.tile(alone, (30, 1))).max() < 2e-6


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 64, 64, 3), np.float32),
        np.zeros((2, 64, 64, 4), np.uint8),
        np.zeros((2, 3, 64, 64), np.uint8),
        np.zeros((2, 32, 64, 3), np.uint8),
        np.zeros((64, 64, 3), np.uint8),
    ],
    ids=["float", "alpha", "channels first", "size", "no batch"],
)
def test_pixels_of_another_shape_or_type_are_refused(encoders, pixels):
    with pytest.raises(ValueError, match=r"expected uint8 \[N, 64, 64, 3\], got"):
        encoders["clip"].encode_images(pixels)


def test_an_encoder_reports_its_name_dimension_and_scale(encoders, folders):
    clip, siglip, resnet = encoders["clip"], encoders["siglip"], encoders["resnet"]
    assert [clip.name, siglip.name, resnet.name] == [folders["clip"], folders["siglip"], folders["resnet"]]
    assert [clip.dim, siglip.dim, resnet.dim] == [64, 64, 48]
    assert clip.logit_scale == pytest.approx(1 / 0.07)
    assert (clip.logit_bias, siglip.logit_bias, resnet.logit_bias) == (None, -10.0, None)
    assert (clip.preprocessing.resize_mode, clip.preprocessing.interpolation) == ("shortest", "bicubic")
    assert (siglip.preprocessing.resize_mode, siglip.preprocessing.interpolation) == ("squash", "bilinear")
    assert resnet.preprocessing.mean == (0.4, 0.5, 0.6)
    assert {len(e.fingerprint) for e in encoders.values()} == {16}


def test_zero_shot_scores_are_those_of_open_clip(folders, encoders):
    names, templates = ["cat", "dog", "red car"], ["a photo of a {}", "a drawing of the {}", "{}"]
    rules = [{"prompts": [n], "contrast": [m for m in names if m != n]} for n in names]
    policy = make_policy(*rules, contrast=[], templates=templates)
    encoder = encoders["clip"]
    vectors = encoder.encode_images(pictures(10)).astype(np.float16)
    found = CompiledPolicy.build(policy, text_head(encoder, prompt_texts(policy))).score(vectors).score
    model = open_clip.create_model(folders["clip"]).eval()
    classes = open_clip.build_zero_shot_classifier(model, open_clip.get_tokenizer(folders["clip"]), names, templates)
    with torch.inference_mode():
        expected = (model.logit_scale.exp() * torch.from_numpy(vectors).float() @ classes).softmax(dim=-1).numpy()
    assert np.abs(found - expected).max() < 1e-4
    assert found.std() > 1e-3, "all scores are the same: this compares nothing"


def test_sigmoid_scores_are_those_of_siglip(folders, encoders):
    policy = make_policy(
        {"prompts": ["a cat"], "score": "sigmoid"}, {"prompts": ["a dog", "a car"], "score": "sigmoid"}, templates=["{}"]
    )
    encoder = encoders["siglip"]
    vectors = encoder.encode_images(pictures(10)).astype(np.float16)
    found = CompiledPolicy.build(policy, text_head(encoder, prompt_texts(policy))).score(vectors).score
    model = open_clip.create_model(folders["siglip"]).eval()
    with torch.inference_mode():
        texts = model.encode_text(open_clip.get_tokenizer(folders["siglip"])(["a cat", "a dog", "a car"]), normalize=True)
        logits = model.logit_scale.exp() * torch.from_numpy(vectors).float() @ texts.T + model.logit_bias
    expected = torch.stack([logits[:, 0], logits[:, 1:].amax(dim=1)], dim=1).sigmoid().numpy()
    assert found == pytest.approx(expected, rel=1e-3)


# --- fingerprint -----------------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_the_same_at_every_load_and_everywhere(encoders, clip_folder):
    assert load(f"local-dir:{clip_folder}").fingerprint == encoders["clip"].fingerprint


def test_one_weight_changes_the_fingerprint(encoders, clip_folder):
    state = load_file(clip_folder / "open_clip_model.safetensors")
    state["visual.conv1.weight"][0, 0, 0, 0] += 1e-6
    save_file(state, clip_folder / "open_clip_model.safetensors")
    assert load(f"local-dir:{clip_folder}").fingerprint != encoders["clip"].fingerprint


@pytest.mark.parametrize(
    "how", [{"mean": [0.5, 0.5, 0.4]}, {"std": [1.0] * 3}, {"interpolation": "bilinear"}, {"resize_mode": "squash"}]
)
def test_preprocessing_changes_the_fingerprint(encoders, clip_folder, how):
    config = json.loads((clip_folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"].update(how)
    (clip_folder / "open_clip_config.json").write_text(json.dumps(config))
    assert load(f"local-dir:{clip_folder}").fingerprint != encoders["clip"].fingerprint


def test_resize_changes_the_fingerprint_and_exact_keeps_that_of_earlier_versions(encoders, folders):
    exact = load(folders["clip"], resize="exact")
    assert exact.preprocessing.resize == "exact"
    assert (encoders["clip"].preprocessing.resize, load(folders["clip"], resize="fast").fingerprint) == (
        "fast",
        encoders["clip"].fingerprint,
    )
    assert exact.fingerprint != encoders["clip"].fingerprint
    assert OpenClipEncoder("demo", device="cpu", resize="exact").fingerprint == "0e1c6e5d31d703d3", "as before this setting"


def test_architecture_changes_the_fingerprint_even_with_the_same_weights(encoders, clip_folder):
    config = json.loads((clip_folder / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = True
    (clip_folder / "open_clip_config.json").write_text(json.dumps(config))
    other = load(f"local-dir:{clip_folder}")
    assert other.fingerprint != encoders["clip"].fingerprint
    assert not np.array_equal(other.encode_images(pictures(1)), encoders["clip"].encode_images(pictures(1)))


def test_precision_changes_the_fingerprint_and_hardly_the_embeddings(encoders, folders):
    half = load(folders["clip"], precision="bf16")
    assert half.fingerprint != encoders["clip"].fingerprint
    full, approximate = encoders["clip"].encode_images(pictures(4)), half.encode_images(pictures(4))
    assert not np.array_equal(full, approximate)
    assert (full * approximate).sum(axis=1).min() > 0.999
    assert half.encode_images(pictures(4)[:1]).tobytes() == approximate[:1].tobytes()


# --- architectures by name, with a checkpoint ------------------------------------------------------------------------------


@pytest.fixture
def architecture(tmp_path, monkeypatch):
    """A small architecture that open_clip knows by name."""
    (tmp_path / "ViT-tiny-test.json").write_text(json.dumps(VIT))
    for registry in ("_MODEL_CONFIGS", "_MODEL_CONFIG_PATHS"):
        known = getattr(open_clip.factory, registry)
        monkeypatch.setattr(open_clip.factory, registry, known.copy())
    open_clip.add_model_config(tmp_path / "ViT-tiny-test.json")
    return "ViT-tiny-test"


def test_an_architecture_takes_a_checkpoint_in_either_format(architecture, folders, encoders, tmp_path):
    state = load_file(Path(folders["clip"].removeprefix("local-dir:")) / "open_clip_model.safetensors")
    save_file(state, tmp_path / "weights.safetensors")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "epoch_3.pt"
    )
    like = {"preprocess": "RN50/openai", "quick_gelu": False}
    loaded = [load(architecture, str(tmp_path / name), **like) for name in ("weights.safetensors", "epoch_3.pt")]
    assert loaded[0].fingerprint == loaded[1].fingerprint
    assert loaded[0].name == f"ViT-tiny-test/{tmp_path}/weights.safetensors"
    # Other mean and std than in the folder; the texts do not see them.
    assert np.abs(loaded[1].encode_texts(TEXTS) - encoders["clip"].encode_texts(TEXTS)).max() < 2e-6


def test_a_checkpoint_of_another_architecture_is_refused(architecture, folders, tmp_path):
    weights = Path(folders["resnet"].removeprefix("local-dir:")) / "open_clip_model.safetensors"
    said = message(architecture, str(weights), preprocess="RN50/openai")
    assert said.startswith(
        f"cannot load the model 'ViT-tiny-test' ({weights}): its weights are not those of this architecture: "
    )


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(architecture, clip_folder, tmp_path, how):
    state = load_file(clip_folder / "open_clip_model.safetensors")
    harm = {"state_dict": state, "harm": Harm(tmp_path / "harmed")}
    checkpoint = tmp_path / "model.pt"
    if how == "torch":
        torch.save(harm, checkpoint)
    else:
        checkpoint.write_bytes(pickle.dumps(harm, protocol=2))
    told = message(architecture, str(checkpoint), preprocess="RN50/openai")
    assert told.startswith(f"the checkpoint {checkpoint} contains more than weights, and its code is never run here: ")
    assert "convert it to safetensors" in told
    (clip_folder / "open_clip_model.safetensors").unlink()
    shutil.copy(checkpoint, clip_folder / "open_clip_pytorch_model.bin")
    assert "convert it to safetensors" in message(f"local-dir:{clip_folder}")
    assert not (tmp_path / "harmed").exists()
    with open(checkpoint, "rb") as file:  # the trap is real
        if how == "pickle":
            pickle.load(file)  # noqa: S301
        else:
            torch.load(file, weights_only=False)
    assert (tmp_path / "harmed").exists()


# --- mistakes --------------------------------------------------------------------------------------------------------------


def test_an_unknown_architecture_suggests_known_ones():
    assert message("ViT-B-23").startswith("unknown model 'ViT-B-23': did you mean ViT-B-32")
    assert "did you mean demo" in message("demmo")
    assert message("zzz").startswith("unknown model 'zzz': see")


def test_a_missing_tag_lists_those_there_are():
    told = message("RN50")
    assert told == "the model 'RN50' needs `pretrained`: one of openai, yfcc15m, cc12m, or the path of a checkpoint"


def test_an_unknown_tag_suggests_a_known_one():
    assert message("ViT-B-32", "laion2b_s34b_b79") == (
        "no pretrained tag 'laion2b_s34b_b79' for ViT-B-32: did you mean laion2b_s34b_b79k? "
        "(a path has a / in it: ./laion2b_s34b_b79)"
    )
    assert "known: openai, yfcc15m, cc12m" in message("RN50", "nothing")
    assert message("RN50", "/no/such/file.pt").startswith("the checkpoint /no/such/file.pt does not exist: ")


@pytest.mark.parametrize("name", ["demo", "local-dir:/some/where", "hf-hub:some/where"])
def test_a_model_that_brings_its_weights_takes_no_others(name):
    assert message(name, "openai") == f"the model {name!r} has its own weights: leave `pretrained` out"


def test_a_missing_folder_is_named(tmp_path):
    assert f"'{tmp_path}/nothing/open_clip_config.json'" in message(f"local-dir:{tmp_path}/nothing")
    (tmp_path / "empty").mkdir()
    assert f"'{tmp_path}/empty/open_clip_config.json'" in message(f"local-dir:{tmp_path}/empty")


def test_a_model_folder_without_weights_is_refused(clip_folder):
    (clip_folder / "open_clip_model.safetensors").unlink()
    assert "could not be loaded" in message(f"local-dir:{clip_folder}")


@pytest.mark.parametrize("content", [b"", b"not weights", b"\xff" * 100])
def test_broken_weights_are_refused(clip_folder, content):
    (clip_folder / "open_clip_model.safetensors").write_bytes(content)
    assert message(f"local-dir:{clip_folder}").startswith(
        f"the checkpoint open_clip_model.safetensors of local-dir:{clip_folder} is "
    )


def test_weights_that_are_cut_short_are_refused(clip_folder):
    path = clip_folder / "open_clip_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    assert "is damaged or cut off" in message(f"local-dir:{clip_folder}")


def test_a_missing_tensor_is_refused(clip_folder):
    state = load_file(clip_folder / "open_clip_model.safetensors")
    del state["visual.proj"]
    save_file(state, clip_folder / "open_clip_model.safetensors")
    assert "visual.proj" in message(f"local-dir:{clip_folder}")


def test_a_broken_configuration_is_refused(clip_folder):
    (clip_folder / "open_clip_config.json").write_text("{")
    assert "config" in message(f"local-dir:{clip_folder}")


def test_a_model_that_wants_oblong_pictures_is_refused(clip_folder):
    config = json.loads((clip_folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["image_size"] = [64, 32]
    config["preprocess_cfg"]["size"] = [64, 32]
    (clip_folder / "open_clip_config.json").write_text(json.dumps(config))
    assert message(f"local-dir:{clip_folder}") == "the model takes pictures of 64x32; only square ones are supported"


def test_a_prompt_over_the_limit_is_refused_and_not_cut(encoder):
    fits = " ".join(["cat"] * 30)  # and a token at either end
    encoder.encode_texts([fits])
    with pytest.raises(ModelError, match=r"the prompt 'cat .*' has 33 tokens; .* reads 32: shorten it"):
        encoder.encode_texts(["a dog", f"{fits} cat"])


@needs_no_cuda()
def test_cuda_without_cuda_is_refused():
    assert message("demo", device="cuda") == (
        "device `cuda` was requested, but torch sees no CUDA device here: use `--device cpu`, or a GPU node"
    )


def test_loading_says_nothing_on_the_terminal(folders, capfd):
    load(folders["clip"])
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@needs_no_library("transformers", "pip uninstall transformers")
def test_a_missing_extra_says_what_to_install():
    with pytest.raises(ModelError, match=r"pip install 'clip-moderation\[siglip\]'"):
        facts_of(ModelChoice(name="ViT-B-16-SigLIP", pretrained="webli"))
