"""Reading the file of a head: every way to be none is a mistake at its place, in bounded memory and time."""

import contextlib
import io
import json
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save
from safetensors.torch import save as save_torch

from moderation.policy.head import Head
from moderation.policy_files.head_files import MAX_BYTES, head_bytes, parse_head
from moderation.policy_files.loading import load_policy, read_policy
from moderation.policy_files.places import AssetError

MODEL = "0123456789abcdef"
META = {"model_fingerprint": MODEL}
WEIGHT, BIAS = np.array([[0.5, -1.0, 2.0]], np.float32), np.array([0.25], np.float32)
POLICY = "policy: shop\nmodel: {name: demo}\nrules:\n  - {id: learned, score: head, head: one.safetensors, review: 0.5}\n"


def raw(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def parts(**more: np.ndarray) -> dict[str, np.ndarray]:
    return {"weight": WEIGHT, "bias": BIAS, **more}


def tensor(dtype: str, shape: list[int], end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


def test_a_head_is_read_with_what_it_was_learned_from():
    said = {"prevalence": "0.01", "true_labels": "20", "false_labels": "30", "labels_sha256": "ab" * 32}
    head = parse_head(save(parts(), META | said), "heads/one.safetensors")
    assert (head.model, head.dim, head.name) == (MODEL, 3, "heads/one.safetensors")
    assert head.learned is not None
    assert head.about == "learned from 20 true and 30 false labels; a probability where 1 % of images are positive"
    vectors = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert head.scores(vectors) == pytest.approx(1 / (1 + np.exp([-0.75, -2.25])))
    assert head.direction == pytest.approx(WEIGHT[0] / np.linalg.norm(WEIGHT))
    assert parse_head(save(parts(), META), "x").about == "not learned here: its file does not say from what"


def test_a_hidden_layer_comes_before_the_last():
    hidden = np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0]], np.float32)
    tensors = {"hidden.weight": hidden, "hidden.bias": np.zeros(2, np.float32)}
    head = parse_head(save({**tensors, "weight": np.array([2.0, 3.0], np.float32), "bias": BIAS}, META), "x")
    assert head.direction is None
    assert head.logits(np.array([[0.5, 0.25, 0.0], [-0.5, -0.25, 0.0]])) == pytest.approx([1.25, 1.0])


def test_knots_are_interpolated_between():
    knots = {"knots.logit": np.array([-1.0, 1.0], np.float32), "knots.probability": np.array([0.25, 0.75], np.float32)}
    head = parse_head(save(parts(**knots), META), "x")
    assert head.scores(np.array([[0.0, 0.25, 0.0], [0.0, -1.0, 1.0]])) == pytest.approx([0.5, 0.75])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_any_kind_of_float_is_read_alike(kind):
    tensors = {"weight": torch.tensor(WEIGHT).to(kind), "bias": torch.tensor(BIAS).to(kind)}
    head = parse_head(save_torch(tensors, META), "x")
    assert head.layers[0][0].dtype == np.float32
    assert np.array_equal(head.layers[0][0], WEIGHT)


BAD = {
    "a pickle": (pickle.dumps({"weight": 1}), "a pickle, which is a program"),
    "an archive of torch": (b"PK\x03\x04" + b"\0" * 100, "a pickle, which is a program"),
    "empty": (b"", "no safetensors file"),
    "short": (b"\1\2", "no safetensors file"),
    "a header without end": (struct.pack("<Q", 1 << 60) + b"{}", "no safetensors file"),
    "a header that is no JSON": (raw(b"{nonsense"), "no safetensors file"),
    "a header that is a list": (raw([1, 2]), "no safetensors file"),
    "a header of brackets": (raw(b"[" * 200_000), "no safetensors file"),
    "tensors beyond the end": (raw({"weight": tensor("F32", [1 << 40], 1 << 42)}), "no safetensors file"),
    "a size that overflows": (raw({"weight": tensor("F32", [1 << 62, 1 << 62], 8)}, b"\0" * 8), "no safetensors file"),
    "metadata that is no text": (raw({"__metadata__": [1], "weight": tensor("F32", [0], 0)}), "no safetensors file"),
    "an unknown tensor": (save(parts(mean=WEIGHT), META), "holds 'mean'"),
    "no bias": (save({"weight": WEIGHT}, META), "lacks 'bias'"),
    "whole numbers": (save(parts(weight=np.array([[1, 2, 3]], np.int64)), META), "numbers of the kind I64"),
    "NaN": (save(parts(bias=np.array([np.nan], np.float32)), META), "'bias' in 'x' holds what is no finite number"),
    "more than float32 holds": (save(parts(weight=np.array([1e300])), META), "'weight' in 'x' holds what is no finite number"),
    "two outputs": (
        save({"weight": np.ones((2, 3), np.float32), "bias": np.ones(2, np.float32)}, META),
        "more than one output",
    ),
    "three dimensions": (save(parts(weight=np.ones((1, 1, 3), np.float32)), META), "do not fit together"),
    "nothing": (save(parts(weight=np.ones((1, 0), np.float32)), META), "do not fit together"),
    "a bias too many": (save(parts(bias=np.ones(2, np.float32)), META), "do not fit together"),
    "half a hidden layer": (save(parts(**{"hidden.weight": WEIGHT}), META), "holds 'hidden.weight' alone"),
    "a hidden layer of another size": (
        save(parts(**{"hidden.weight": WEIGHT, "hidden.bias": BIAS}), META),
        "do not fit together",
    ),
    "knots that fall": (
        save(parts(**{"knots.logit": np.array([0.0, 1.0]), "knots.probability": np.array([0.5, 0.4])}), META),
        "no calibration",
    ),
    "knots above 1": (
        save(parts(**{"knots.logit": np.array([0.0, 1.0]), "knots.probability": np.array([0.5, 1.5])}), META),
        "no calibration",
    ),
    "half of the knots": (save(parts(**{"knots.logit": np.array([0.0, 1.0])}), META), "no calibration"),
    "no model": (save(parts()), "does not say which model's embeddings it is for"),
    "an odd model": (save(parts(), {"model_fingerprint": "ViT-B-32"}), "'ViT-B-32' in 'x' is no fingerprint"),
    "too large": (b"\0" * (MAX_BYTES + 1), "more than 67,108,864"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_head_is_a_mistake_at_its_place(tmp_path, name):
    data, message = BAD[name]
    (tmp_path / "p.yaml").write_text(POLICY.replace("one.safetensors", "x"))
    (tmp_path / "x").write_bytes(data)
    (found,) = read_policy(tmp_path / "p.yaml").findings
    assert message in found.message
    assert (found.line, found.source[found.column - 1]) == (4, "x")


@pytest.mark.parametrize(
    "name", ["a header of brackets", "a header without end", "tensors beyond the end", "a size that overflows"]
)
def test_hostile_files_take_little_memory(name):
    tracemalloc.start()
    with pytest.raises(AssetError):
        parse_head(BAD[name][0], "x")
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert memory < 20 << 20


def test_a_large_file_is_not_read(tmp_path):
    (tmp_path / "p.yaml").write_text(POLICY)
    with open(tmp_path / "one.safetensors", "wb") as file:
        file.truncate(1 << 30)
    tracemalloc.start()
    (found,) = read_policy(tmp_path / "p.yaml").findings
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "1,073,741,824 bytes" in found.message
    assert memory < 20 << 20


@given(st.binary(max_size=200), st.integers(0, 300))
def test_no_damage_ends_in_anything_but_a_head_or_a_mistake(noise, place):
    data = bytearray(save(parts(), META))
    data[place : place + len(noise)] = noise
    found: Head | None = None
    with contextlib.suppress(AssetError):
        found = parse_head(bytes(data), "x")
    assert found is None or np.isfinite(found.scores(np.eye(found.dim)[:1])).all()


def test_the_same_head_is_written_as_the_same_bytes():
    metadata = {key: key for key in "abcdefghij"} | META
    written = {head_bytes(parts(), metadata) for _ in range(20)}
    assert len(written) == 1
    assert parse_head(written.pop(), "x").model == MODEL


def test_the_policy_declares_the_model_of_a_head_that_says_none(tmp_path):
    (tmp_path / "one.safetensors").write_bytes(save(parts()))
    (tmp_path / "p.yaml").write_text(POLICY.replace("one.safetensors", "{file: one.safetensors, model: 'fedcba9876543210'}"))
    policy = load_policy(tmp_path / "p.yaml")
    assert policy.assets.heads["learned"].model == "fedcba9876543210"
    assert policy.assets.heads["learned"].name == policy.rules[0].head_file == "one.safetensors"
    (tmp_path / "one.safetensors").write_bytes(save(parts(), META))
    (found,) = read_policy(tmp_path / "p.yaml").findings
    assert "the policy says 'fedcba9876543210'" in found.message
    assert found.hint == "leave out `model`: the file says it"


@pytest.mark.parametrize(
    ("written", "message", "hint"),
    [
        ("{file: one.safetensors}", "the key `model` is missing", ""),
        ("{file: one.safetensors, model: ViT-B-32}", "`model` is not a valid name", "16 digits"),
        ("{file: one.safetensors, model: '0123456789abcdef', prevalence: 1}", "unknown key `prevalence`", "file, model"),
        ("[one.safetensors]", "`head` should be text", ""),
    ],
)
def test_a_head_that_is_declared_wrongly_is_a_mistake_with_a_hint(tmp_path, written, message, hint):
    (tmp_path / "p.yaml").write_text(POLICY.replace("one.safetensors", written))
    (found,) = read_policy(tmp_path / "p.yaml").findings
    assert message in found.message
    assert hint in found.hint


def test_an_included_head_lies_beside_the_file_that_names_it(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "one.safetensors").write_bytes(save(parts()))
    text = POLICY.replace("one.safetensors", f"{{file: one.safetensors, model: '{MODEL}'}}")
    (tmp_path / "base" / "p.yaml").write_text(text)
    (tmp_path / "p.yaml").write_text("include: base/p.yaml\npolicy: ours\n")
    assert load_policy(tmp_path / "p.yaml").assets.heads["learned"].name == "base/one.safetensors"


def test_no_pickle_is_opened(tmp_path):
    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    buffer = io.BytesIO()
    torch.save({"weight": Harm()}, buffer)
    for data in (pickle.dumps(Harm()), buffer.getvalue()):
        with pytest.raises(AssetError, match="a pickle"):
            parse_head(data, "x")
    assert not (tmp_path / "harm").exists()
