"""Files that hold no weights that can be loaded: one clear line each, and never torch's advice to run them."""

import gzip
import os
import pickle
import re
import warnings
import zipfile
from argparse import Namespace
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from places import DOCS
from safetensors.torch import save_file
from support import VIT

from moderation.errors import ModelError
from moderation.model.checkpoint_files import checkpoint_shapes
from moderation.model.open_clip_encoder import OpenClipEncoder

STATE = {"logit_scale": torch.ones([]), "visual.proj": torch.ones(64, 64)}


def torch_bytes(content, tmp_path, **options):
    torch.save(content, tmp_path / "made", **options)
    return (tmp_path / "made").read_bytes()


def torchscript(tmp_path):
    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.proj = torch.nn.Parameter(torch.ones(2, 3))
            self.register_buffer("context_length", torch.tensor(77))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against making more of them
        torch.jit.save(torch.jit.script(Small()), str(tmp_path / "made"))
    return (tmp_path / "made").read_bytes()


def archive(tmp_path, **members):
    with zipfile.ZipFile(tmp_path / "made", "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("_dot_", "."), content)
    return (tmp_path / "made").read_bytes()


def safe(tmp_path, state=None):
    save_file(STATE if state is None else state, tmp_path / "made")
    return (tmp_path / "made").read_bytes()


def arrays(tmp_path):
    np.savez(tmp_path / "made.npz", a=np.zeros(3))
    return (tmp_path / "made.npz").read_bytes()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 605143884\n"
REFUSED = {
    "TorchScript": ("w.pt", torchscript, "is a TorchScript archive: a program with its weights"),
    "code in torch's format": ("w.pt", lambda p: torch_bytes({"a": Namespace(x=1)}, p), "contains more than weights"),
    "code in torch's old format": (
        "w.pt",
        lambda p: torch_bytes({"a": Namespace(x=1)}, p, _use_new_zipfile_serialization=False),
        "contains more than weights",
    ),
    "a plain pickle": ("w.bin", lambda _: pickle.dumps(SimpleNamespace(x=1), protocol=2), "contains more than weights"),
    "truncated safetensors": ("w.safetensors", lambda p: safe(p)[:-100], "is damaged or cut off"),
    "safetensors with half a header": (
        "w.safetensors",
        lambda p: safe(p)[:40],
        "is not a safetensors file, or one that is cut",
    ),
    "safetensors without tensors": ("w.safetensors", lambda p: safe(p, {}), "contains no tensors"),
    "safetensors called .pt": ("w.pt", safe, "contains safetensors but has another extension: rename it"),
    "TorchScript called .safetensors": ("w.safetensors", torchscript, "is a TorchScript archive: a program with its weights"),
    "torch called .safetensors": ("w.safetensors", lambda p: torch_bytes(STATE, p), "is a zip archive with the extension"),
    "old torch called .safetensors": (
        "w.safetensors",
        lambda p: torch_bytes(STATE, p, _use_new_zipfile_serialization=False),
        "is a pickle with the extension",
    ),
    "truncated torch": ("w.pt", lambda p: torch_bytes(STATE, p)[:-200], "is damaged or cut off: its table of contents"),
    "truncated old torch": (
        "w.pt",
        lambda p: torch_bytes(STATE, p, _use_new_zipfile_serialization=False)[:-2000],
        "is damaged or cut off",
    ),
    "empty": ("w.pt", lambda _: b"", "is empty"),
    "empty safetensors": ("w.safetensors", lambda _: b"", "is empty"),
    "a page": (
        "w.pt",
        lambda _: b"\n<!DOCTYPE html><html><body>404</body></html>",
        "is a web page or a server's error message",
    ),
    "a page as safetensors": ("w.safetensors", lambda _: b"<html><head></head></html>" * 99, "is a web page or a server"),
    "an error of S3": (
        "w.pt",
        lambda _: b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        "is a web page or a",
    ),
    "Git LFS": ("w.pt", lambda _: LFS, "is a pointer of Git LFS, not the weights: fetch them with `git lfs pull`"),
    "Git LFS safetensors": ("w.safetensors", lambda _: LFS, "is a pointer of Git LFS"),
    "a text": ("w.pt", lambda _: b'{"message": "not found"}', "is a text file, not weights"),
    "a zip": ("w.pt", lambda p: archive(p, readme_dot_txt="x"), "is a zip archive, but not a torch checkpoint"),
    "an empty zip": ("w.pt", archive, "is "),
    "arrays": ("w.pt", arrays, "is an archive of NumPy arrays"),
    "gzip": ("w.pt", lambda p: gzip.compress(torch_bytes(STATE, p)), "is a gzip archive: unpack it first"),
    "tar": ("w.pt", lambda _: b"w.pt".ljust(257, b"\0") + b"ustar\x0000" + bytes(800), "is a tar archive"),
    "Keras": ("w.h5", lambda _: b"\x89HDF\r\n\x1a\n" + bytes(100), "is a file of HDF5"),
    "rubbish": ("w.pt", lambda _: bytes(range(200, 256)) * 9, "is not in a supported format"),
    "rubbish as safetensors": ("w.safetensors", lambda _: b"\xff" * 100, "is not a safetensors file"),
    "a tensor": ("w.pt", lambda p: torch_bytes(torch.ones(3), p), "holds a Tensor, not weights by name"),
    "a list": ("w.pt", lambda p: torch_bytes([1, 2], p), "holds a list"),
    "nothing": ("w.pt", lambda p: torch_bytes({}, p), "contains something other than weights by name (nothing)"),
    "weights under another key": ("w.pt", lambda p: torch_bytes({"model": STATE}, p), "are the weights under 'model'?"),
    "weights and more": (
        "w.pt",
        lambda p: torch_bytes({**STATE, "epoch": 3}, p),
        "other than weights by name (epoch)",
    ),
    "compiled": (
        "w.pt",
        lambda p: torch_bytes({f"_orig_mod.{name}": tensor for name, tensor in STATE.items()}, p),
        "contains the weights of a model that torch.compile wrapped",
    ),
}


def refusal(path, label="weights/w.pt"):
    with pytest.raises(ModelError) as caught:
        checkpoint_shapes(path, label)
    message = str(caught.value)
    assert message.startswith(f"the checkpoint {label} ")
    assert "\n" not in message
    assert len(message) < 500
    for advice in ("weights_only", "torch.load", "Traceback", "re-running", "docs.pytorch"):
        assert advice not in message
    assert caught.value.hint
    assert caught.value.key == "pretrained"
    return message


@pytest.mark.parametrize(("name", "make", "said"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_is_not_a_checkpoint_is_refused_in_one_line(name, make, said, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(make(tmp_path))
    assert said in refusal(tmp_path / "in" / name)


def test_a_path_that_is_not_a_file_is_refused_in_one_line(tmp_path, monkeypatch):
    assert "is a folder: name the file in it" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refusal(tmp_path / "pipe")
    assert "cannot be read (file name too long)" in refusal(tmp_path / ("x" * 400))
    (tmp_path / "file").write_bytes(b"x")
    assert "cannot be read (not a directory)" in refusal(tmp_path / "file" / "w.pt")
    (tmp_path / "round").symlink_to("round")
    assert "cannot be read (too many levels" in refusal(tmp_path / "round")
    assert f"does not exist: {tmp_path}/policies/weights/w.pt: a relative path is relative to the policy's file" in refusal(
        tmp_path / "policies" / "weights" / "w.pt"
    )
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.pt").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert refusal(tmp_path / "policies" / "weights" / "w.pt").endswith(": write ../weights/w.pt")
    for label, hint in (
        ("hf-hub:org/repo", "give this as the model's name, without `pretrained`: name: hf-hub:org/repo"),
        ("local-dir:a/b", "give this as the model's name, without `pretrained`: name: local-dir:a/b"),
        ("$HOME/w.pt", "variables are not expanded: write the full path, or one that starts with ~/"),
    ):
        with pytest.raises(ModelError) as caught:
            checkpoint_shapes(tmp_path / label, label)
        assert caught.value.hint == hint


def test_a_file_that_may_not_be_read_is_said_in_one_line(tmp_path):
    (tmp_path / "w.pt").write_bytes(torch_bytes(STATE, tmp_path))
    (tmp_path / "w.pt").chmod(0)
    user = os.geteuid()
    if user == 0:  # who may read everything
        os.seteuid(65534)
    try:
        message = refusal(tmp_path / "w.pt")
    finally:
        os.seteuid(user)
    assert message.endswith("cannot be read (permission denied): allow the user who runs this to read it")


def test_checkpoints_are_read_in_every_supported_format(tmp_path):
    expected = {"logit_scale": (), "visual.proj": (64, 64)}
    parallel = OrderedDict((f"module.{name}", tensor) for name, tensor in STATE.items())
    save_file(STATE, tmp_path / "a.safetensors")
    torch.save(STATE, tmp_path / "b.pt")
    torch.save({"state_dict": parallel, "epoch": 3, "optimizer": {"lr": [0.1]}}, tmp_path / "c.ckpt")
    torch.save(STATE, tmp_path / "d.bin", _use_new_zipfile_serialization=False)
    for name in ("a.safetensors", "b.pt", "c.ckpt", "d.bin"):
        assert checkpoint_shapes(tmp_path / name, name) == expected


def test_the_guides_way_to_convert_makes_weights_of_programs(tmp_path, monkeypatch):
    guide = (DOCS / "policies.md").read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "save_file" in block]
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for content in (
            torchscript(tmp_path),
            torch_bytes({"state_dict": {"proj": torch.ones(2, 3)}, "a": Namespace(x=1)}, tmp_path),
        ):
            (tmp_path / "model.pt").write_bytes(content)
            exec(code, {})  # noqa: S102 - the guide's own words
            assert checkpoint_shapes(tmp_path / "model.safetensors", "w") == {"proj": (2, 3)}


# --- files that hold weights, of something else ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def misfits(tmp_path_factory):
    """Weights that do not fit a ResNet-50, which needs no long text tower here: what loading says of each."""
    root = tmp_path_factory.mktemp("misfits")
    state = open_clip.CLIP(**VIT).state_dict()
    torch.save(state, root / "vit.pt")
    torch.save({**{name: state[name] for name in list(state)[:5]}, "head.weight": torch.ones(3)}, root / "part.pt")
    torch.save({**state, "visual.proj": torch.ones(64, 65)}, root / "shape.pt")
    return root


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vit.pt", r"its weights are not those of this architecture: .*is RN50-tiny-test what they were trained as\?"),
        ("part.pt", r"\d+ weights are missing, such as \S+; 1 weights are unknown, such as head.weight"),
        ("shape.pt", r"have another shape"),
    ],
)
def test_weights_of_another_architecture_are_said_in_one_line(misfits, name, said, tmp_path, monkeypatch):
    config = {**VIT, "vision_cfg": {**VIT["vision_cfg"], "width": 128}} if name != "part.pt" else VIT
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "RN50-tiny-test", config)
    with pytest.raises(ModelError) as caught:
        OpenClipEncoder("RN50-tiny-test", str(misfits / name), preprocess="RN50/openai", device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    assert message.startswith(f"cannot load the model 'RN50-tiny-test' ({misfits / name}): its weights are not those")
    assert caught.value.key == "pretrained"
    caught.match(said)
