"""A checkpoint by its path scores like the same weights by their tag, or the policy must say what nothing else does."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support import TEXT, VIT, save_model

from moderation import RunSettings, Store, run
from moderation.errors import ModelError
from moderation.model import networks, training_settings
from moderation.model.open_clip_encoder import OpenClipEncoder
from moderation.model.training_settings import TrainingSettings, settings_of_checkpoint, settings_of_tag
from moderation.policy.model_choice import ModelChoice
from moderation.results.stored_policy import stored_policy

OPENAI = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
WAYS = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "interpolation": "bilinear", "resize_mode": "squash"}
TAGGED = [(name, tag) for name in open_clip.list_models() for tag in open_clip.list_pretrained_tags_by_model(name)]


def choice(name, **keys):
    return ModelChoice(**{"name": name, "pretrained": "./weights.safetensors", **keys})


def as_open_clip_has_it(name, tag):
    """The tag's own facts, read from open_clip's table by nothing of ours."""
    said = open_clip.pretrained._PRETRAINED[name][tag]
    quick_gelu = said.get("quick_gelu", False) or open_clip.get_model_config(name).get("quick_gelu", False)
    values = [said[key] for key in ("mean", "std", "interpolation", "resize_mode")]
    return TrainingSettings(tuple(values[0]), tuple(values[1]), *values[2:], quick_gelu)


# --- every architecture and tag that open_clip knows -----------------------------------------------------------------------


def test_a_path_gets_what_all_tags_agree_on_or_the_choices_are_listed():
    assert len(open_clip.list_models()) >= 144
    assert len(TAGGED) >= 180
    settled, open_ones, without = set(), set(), set()
    for name in open_clip.list_models():
        tags = open_clip.list_pretrained_tags_by_model(name)
        settings = {as_open_clip_has_it(name, tag) for tag in tags}
        if len(settings) == 1:
            assert settings_of_checkpoint(choice(name)) in settings, name
            settled.add(name)
            continue
        with pytest.raises(ModelError) as caught:
            settings_of_checkpoint(choice(name))
        message = str(caught.value)
        assert caught.value.key == "pretrained"
        assert "\n" not in message
        assert len(message) < 1000
        if not tags:
            assert "no pretrained tag" in message
            without.add(name)
            continue
        for field in ("mean", "std", "interpolation", "resize_mode", "quick_gelu"):
            assert (f"`{field}`" in caught.value.message) == (len({getattr(one, field) for one in settings}) > 1), name
        named = [tag for tag in tags if f"`preprocess: {tag}`" in message]
        assert len(named) == len(settings), f"{name}: one tag for each of the ways its weights were trained"
        open_ones.add(name)
    assert {"MobileCLIP2-S0", "ViT-B-16-SigLIP", "ViT-B-32-quickgelu", "roberta-ViT-B-32"} <= settled
    assert {"ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14"} <= open_ones
    assert {"ViT-S-32", "coca_base"} <= without
    assert len(settled | open_ones | without) == len(open_clip.list_models())


def test_one_line_makes_a_path_like_any_tag():
    for name, tag in TAGGED:
        expected = as_open_clip_has_it(name, tag)
        assert settings_of_tag(name, tag) == expected
        assert settings_of_checkpoint(choice(name, preprocess=tag)) == expected
        assert settings_of_checkpoint(choice(name, preprocess=f"{name}/{tag}")) == expected


def test_a_path_is_never_taken_for_a_tag():
    """What tells them apart is a slash or a dot: no tag has one."""
    assert [tag for _, tag in TAGGED if "/" in tag or "." in tag or "\\" in tag] == []


def test_a_policy_may_set_only_what_the_weights_leave_open():
    squashed = settings_of_checkpoint(choice("ViT-H-14", preprocess={"resize_mode": "squash"}, quick_gelu=True))
    assert squashed == as_open_clip_has_it("ViT-H-14", "dfn5b")
    assert settings_of_checkpoint(choice("ViT-B-32", quick_gelu=False)) == as_open_clip_has_it("ViT-B-32", "laion2b_s34b_b79k")
    assert settings_of_checkpoint(choice("ViT-B-32", preprocess="openai", quick_gelu=False)).quick_gelu is False
    with pytest.raises(ModelError, match=r"differ in `quick_gelu`, and .* `quick_gelu: true \| false`"):
        settings_of_checkpoint(choice("ViT-B-32", preprocess={"resize_mode": "squash"}))
    with pytest.raises(ModelError, match=r"no pretrained tag of ViT-S-32, .* with: `std` and `quick_gelu`"):
        settings_of_checkpoint(choice("ViT-S-32", preprocess={key: WAYS[key] for key in WAYS if key != "std"}))
    assert settings_of_checkpoint(choice("ViT-S-32", preprocess="ViT-B-32/openai")).quick_gelu is True


@pytest.mark.parametrize(
    ("preprocess", "said"),
    [
        ("opnai", "no pretrained tag 'opnai' of ViT-B-32 to copy `preprocess` from: did you mean openai?"),
        ("ViT-B-23/openai", "unknown architecture 'ViT-B-23' in `preprocess`: did you mean ViT-B-32/openai?"),
        ("ViT-S-32/openai", "no pretrained tag 'openai' of ViT-S-32 to copy `preprocess` from: it has none: "),
    ],
)
def test_a_tag_to_copy_from_that_is_not_there_is_said_at_its_key(preprocess, said):
    with pytest.raises(ModelError) as caught:
        settings_of_checkpoint(choice("ViT-B-32", preprocess=preprocess))
    assert str(caught.value).startswith(said)
    assert caught.value.key == "preprocess"


# --- real weights, by path and by tag --------------------------------------------------------------------------------------

SIGLIP = {**VIT, "custom_text": True, "init_logit_bias": -10}
QUICK = {**VIT, "quick_gelu": True}


@pytest.fixture
def register(tmp_path, monkeypatch):
    """Makes open_clip know an architecture, and tags of it whose weights are a file."""
    for registry in ("_MODEL_CONFIGS", "_MODEL_CONFIG_PATHS"):
        monkeypatch.setattr(open_clip.factory, registry, getattr(open_clip.factory, registry).copy())

    def known(name, config, **tags):
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(tmp_path / f"{name}.json")
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, tags)
        return name

    return known


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The same weights in every format, by format; and those of a SigLIP."""
    root = tmp_path_factory.mktemp("weights")
    torch.manual_seed(3)
    state = open_clip.CLIP(**VIT).state_dict()
    torch.manual_seed(3)
    siglip = open_clip.CustomTextCLIP(**{k: v for k, v in SIGLIP.items() if k != "custom_text"}).state_dict()
    save_file(state, root / "plain.safetensors")
    save_file(siglip, root / "siglip.safetensors")
    torch.save(state, root / "plain.pt")
    torch.save(state, root / "old.pt", _use_new_zipfile_serialization=False)
    parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"epoch": 3, "name": "run", "state_dict": parallel}, root / "epoch_3.ckpt")
    save_file(parallel, root / "parallel.safetensors")
    save_file({name: tensor.half() for name, tensor in state.items()}, root / "half.safetensors")
    return root


def embeddings(encoder):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    return encoder.encode_images(pictures).tobytes() + encoder.encode_texts(["a cat", "a dog"]).tobytes()


def the_same(one, other):
    assert one.preprocessing == other.preprocessing
    assert one.fingerprint == other.fingerprint
    assert embeddings(one) == embeddings(other)


def test_the_same_weights_score_the_same_by_path_and_by_tag(register, weights):
    tag = {"file": str(weights / "plain.safetensors"), **WAYS, "quick_gelu": True}
    name = register("ViT-tiny-path", VIT, here=tag)
    by_tag = OpenClipEncoder(name, "here", device="cpu")
    expected = embeddings(by_tag)
    for file in ("plain.safetensors", "plain.pt", "old.pt", "epoch_3.ckpt", "parallel.safetensors"):
        by_path = OpenClipEncoder(name, str(weights / file), device="cpu")
        assert (by_path.preprocessing, by_path.fingerprint) == (by_tag.preprocessing, by_tag.fingerprint), file
        assert embeddings(by_path) == expected, file
    assert by_tag.preprocessing.mean == (0.0, 0.0, 0.0)
    # The trap is real: open_clip by itself prepares the file's pictures in OpenAI's way, and takes another activation.
    model = open_clip.create_model(name, pretrained=str(weights / "plain.safetensors"), require_pretrained=True)
    assert model.visual.preprocess_cfg["mean"] == OPENAI["mean"]
    other = OpenClipEncoder(name, str(weights / "plain.pt"), quick_gelu=False, device="cpu")
    assert embeddings(other) != expected
    assert other.fingerprint != by_tag.fingerprint


def test_half_weights_score_the_same_by_path_and_by_tag(register, weights):
    name = register("ViT-tiny-path", VIT, here={"file": str(weights / "half.safetensors"), **WAYS})
    the_same(
        OpenClipEncoder(name, str(weights / "half.safetensors"), device="cpu"), OpenClipEncoder(name, "here", device="cpu")
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [(VIT, True), (QUICK, True), (QUICK, None)],
    ids=["ViT-B-32/openai", "ViT-B-32-quickgelu/openai", "roberta-ViT-B-32"],
)
def test_the_activation_is_that_of_the_tag_whatever_the_architecture_has(register, weights, config, said):
    tag = {"file": str(weights / "plain.safetensors"), **WAYS, **({} if said is None else {"quick_gelu": said})}
    name = register("ViT-tiny-gelu", config, here=tag)
    file = str(weights / "plain.safetensors")
    by_tag = OpenClipEncoder(name, "here", device="cpu")
    the_same(OpenClipEncoder(name, file, device="cpu"), by_tag)
    off = OpenClipEncoder(name, file, quick_gelu=False, device="cpu")
    assert embeddings(off) != embeddings(by_tag)
    assert off.fingerprint != by_tag.fingerprint


def test_tags_that_differ_need_the_policy(register, weights):
    file = str(weights / "plain.safetensors")
    mobile = {"file": file, **WAYS}
    openai = {"file": file, **OPENAI, "interpolation": "bicubic", "resize_mode": "shortest", "quick_gelu": True}
    name = register("ViT-tiny-two", VIT, mobile=mobile, openai=openai)
    with pytest.raises(ModelError, match="differ in `mean`, `std`, `interpolation`, `resize_mode` and `quick_gelu`"):
        OpenClipEncoder(name, file, device="cpu")
    for tag, values in (("mobile", mobile), ("openai", openai)):
        by_tag = OpenClipEncoder(name, tag, device="cpu")
        the_same(OpenClipEncoder(name, file, preprocess=tag, device="cpu"), by_tag)
        said = {key: values[key] for key in WAYS}
        by_values = OpenClipEncoder(name, file, preprocess=said, quick_gelu=values.get("quick_gelu", False), device="cpu")
        the_same(by_values, by_tag)


def test_a_file_that_is_called_like_a_tag_is_the_file(register, weights, tmp_path, monkeypatch):
    name = register("ViT-tiny-path", VIT, laion2b={"file": str(weights / "plain.pt"), **WAYS})
    other = {
        key: tensor + 1 if key == "visual.proj" else tensor for key, tensor in load_file(weights / "plain.safetensors").items()
    }
    torch.save(other, tmp_path / "laion2b")
    monkeypatch.chdir(tmp_path)
    assert embeddings(OpenClipEncoder(name, "./laion2b", device="cpu")) != embeddings(
        OpenClipEncoder(name, "laion2b", device="cpu")
    )


# --- what open_clip bends until it fits ------------------------------------------------------------------------------------


def test_weights_for_larger_pictures_are_refused_and_not_bent(register, weights, tmp_path):
    larger = open_clip.CLIP(**{**VIT, "vision_cfg": {**VIT["vision_cfg"], "image_size": 96}}).state_dict()
    save_file(larger, tmp_path / "larger.safetensors")
    longer = open_clip.CLIP(**{**VIT, "text_cfg": {**TEXT, "context_length": 48}}).state_dict()
    save_file(longer, tmp_path / "longer.safetensors")
    name = register("ViT-tiny-path", VIT, here={"file": str(tmp_path / "larger.safetensors"), **WAYS})
    with pytest.raises(ModelError, match=r"trained for pictures of another size than ViT-tiny-path: .* has 37 places, not 17"):
        OpenClipEncoder(name, str(tmp_path / "larger.safetensors"), device="cpu")
    with pytest.raises(ModelError, match=r"trained for texts of another length than ViT-tiny-path: .* has 48 places, not 32"):
        OpenClipEncoder(name, str(tmp_path / "longer.safetensors"), device="cpu")


def test_weights_without_a_bias_get_none(register, weights, tmp_path):
    state = load_file(weights / "siglip.safetensors")
    del state["logit_bias"]
    save_file(state, tmp_path / "no-bias.safetensors")
    name = register("ViT-tiny-bias", SIGLIP, here={"file": str(weights / "siglip.safetensors"), **WAYS})
    the_same(
        OpenClipEncoder(name, str(weights / "siglip.safetensors"), device="cpu"), OpenClipEncoder(name, "here", device="cpu")
    )
    with pytest.raises(ModelError, match="has no logit_bias, which ViT-tiny-bias needs"):
        OpenClipEncoder(name, str(tmp_path / "no-bias.safetensors"), device="cpu")


# --- models that bring their configuration ---------------------------------------------------------------------------------


@pytest.fixture
def folder(weights, tmp_path):
    state = load_file(weights / "plain.safetensors")
    return Path(save_model(tmp_path / "model", state, VIT, **WAYS).removeprefix("local-dir:"))


def configure(folder, preprocess):
    config = json.loads((folder / "open_clip_config.json").read_text())
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config["model_cfg"], **preprocess}))


def test_a_folder_that_does_not_say_how_pictures_are_prepared_needs_the_policy(folder):
    name = f"local-dir:{folder}"
    whole = OpenClipEncoder(name, device="cpu")
    for lacking in ({}, {"preprocess_cfg": {}}, {"preprocess_cfg": {"mean": None, "std": None}}):
        configure(folder, lacking)
        with pytest.raises(ModelError, match="does not say how pictures are prepared: mean and std: add `preprocess:`"):
            OpenClipEncoder(name, device="cpu")
    the_same(OpenClipEncoder(name, preprocess=WAYS, device="cpu"), whole)
    copied = OpenClipEncoder(name, preprocess="MobileCLIP-S1/datacompdr", device="cpu").preprocessing
    assert (copied.mean, copied.interpolation, copied.resize_mode) == ((0.0, 0.0, 0.0), "bilinear", "shortest")
    with pytest.raises(ModelError, match="write architecture and tag"):
        OpenClipEncoder(name, preprocess="datacompdr", device="cpu")


def test_a_folder_of_an_older_version_keeps_the_defaults_of_its_format(folder):
    """Models of the hub from before 2024 state mean and std only; open_clip prepared all pictures alike then."""
    configure(folder, {"preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}})
    prepared = OpenClipEncoder(f"local-dir:{folder}", device="cpu").preprocessing
    assert (prepared.mean, prepared.interpolation, prepared.resize_mode) == ((0.5, 0.5, 0.5), "bicubic", "shortest")


@pytest.mark.parametrize("said", [{"preprocess": {"mean": [0.1, 0.1, 0.1]}}, {"quick_gelu": True}])
def test_a_policy_may_not_contradict_what_a_model_folder_says(folder, said):
    with pytest.raises(ModelError, match="already has a configuration that sets"):
        OpenClipEncoder(f"local-dir:{folder}", device="cpu", **said)


@pytest.mark.parametrize(("key", "value"), [("interpolation", "lanczos"), ("resize_mode", "crop")])
def test_a_way_of_resizing_that_is_unknown_is_refused_and_not_replaced(folder, key, value):
    configure(folder, {"preprocess_cfg": {**WAYS, key: value}})
    with pytest.raises(ModelError, match=f"has {key} '{value}': known: "):
        OpenClipEncoder(f"local-dir:{folder}", device="cpu")


def test_a_slash_in_the_architecture_changes_nothing():
    choices = [ModelChoice(name=name, pretrained="openai") for name in ("ViT-B/32", "ViT-B-32")]
    facts = [networks.ModelFacts("ViT-B-32", 77, False, None) for _ in choices]  # noqa: FBT003
    assert [networks.activation(one, fact) for one, fact in zip(choices, facts, strict=True)] == [True, True]
    assert training_settings.settings_of_checkpoint(choice("ViT-B/32", preprocess="openai")).quick_gelu is True


# --- a whole run -----------------------------------------------------------------------------------------------------------

POLICY = """\
policy: ours
model: {MODEL}
contrast: [a wall]
rules:
  - {id: knives, prompts: [a knife], review: 0.6}
"""


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_keeps_where_its_weights_are_and_says_where_the_policy_is_wrong(weights, tmp_path, monkeypatch):
    for folder in ("policies", "images"):
        (tmp_path / folder).mkdir()
    save_model(tmp_path / "policies" / "tiny", load_file(weights / "plain.safetensors"), VIT)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "images" / "black.png")
    policy = tmp_path / "policies" / "p.yaml"
    policy.write_text(POLICY.replace("{MODEL}", "{name: 'local-dir:tiny'}"))
    monkeypatch.chdir(tmp_path / "images")
    options = {"sources": str(tmp_path / "images"), "policy": "../policies/p.yaml", "output": str(tmp_path / "out")}
    manifest, output = run(RunSettings(**options)).manifest, Store(options["output"])
    assert manifest.model == "local-dir:tiny"
    assert manifest.policy_folder == str(tmp_path / "policies")
    monkeypatch.chdir(tmp_path)
    assert stored_policy(output, manifest).model.local_dir == tmp_path / "policies" / "tiny"
    older = manifest.model_copy(update={"policy_folder": None})  # its paths were relative to the current folder
    assert stored_policy(output, older).model.local_dir == tmp_path / "tiny"

    policy.write_text(POLICY.replace("{MODEL}", "{name: ViT-B-32, pretrained: ours.pt}"))
    with pytest.raises(ModelError) as caught:
        run(RunSettings(**{**options, "policy": str(policy)}))
    first, *rest = str(caught.value).splitlines()
    assert first.startswith(f"{policy}:2:37: the pretrained tags of ViT-B-32 differ in `quick_gelu`, ")
    assert "^^^^^^^" in rest[1]
    assert "`preprocess: openai`" in rest[2]
