"""`moderate model compare` with real models: the demo's own, itself with other weights, and one that knows nothing."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import make_policy, save_tiny_clip

from moderation import ImageScorer, ModelError, OpenClipEncoder, PolicyError, SettingsError, SourceError, Store, load_policy
from moderation.commands.models import model_app
from moderation.demo import IMAGES_DIR, MODEL_DIR, POLICY_FILE
from moderation.errors import ModerationError
from moderation.policy.model_choice import ModelChoice
from moderation.studies.model_comparison.choice import check_choice, model_choice, without_heads
from moderation.studies.model_comparison.comparing import Truth, compare_models

DEMO = ModelChoice(name="demo")
Compare = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the demo's images, animated ones among them, and a broken one."""
    folder = tmp_path_factory.mktemp("few")
    files = sorted(path for path in IMAGES_DIR.rglob("*") if path.is_file())
    for path in [*files[::6], *(path for path in files if path.suffix == ".gif")]:
        shutil.copy(path, folder / f"{path.parent.name}-{path.name}")
    (folder / "=broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more than this")
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The demo's model with some noise in its weights."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("model") / "noisy"
    shutil.copytree(MODEL_DIR, folder)
    file = folder / "open_clip_model.safetensors"
    state = load_file(file)
    rng = np.random.default_rng(0)
    for tensor in state.values():
        if tensor.ndim == 2 and tensor.is_floating_point():
            noise = rng.normal(0, 0.3 * float(tensor.float().std()), tuple(tensor.shape))
            tensor.add_(tensor.new_tensor(noise))
    save_file(state, file)
    return f"local-dir:{folder}"


@pytest.fixture
def compare(few: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Compare:
    def call(*arguments: str, code: int = 0) -> tuple[str, str]:
        monkeypatch.setenv("COLUMNS", "200")
        given = ["compare", *arguments, "--source", str(few), "--policy", str(POLICY_FILE)]
        monkeypatch.setattr(sys, "argv", ["model", *given])
        with pytest.raises(SystemExit) as left:
            model_app()
        assert (left.value.code or 0) == code
        found = capsys.readouterr()
        return found.out, found.err

    return call


@pytest.mark.slow
def test_the_same_model_twice_agrees_in_everything(compare: Compare) -> None:
    told, _ = compare("demo", "demo", "--sample", "30")
    assert "A and B are the same model" in told
    found = json.loads(compare("demo", "demo", "--sample", "30", "--json")[0])
    assert found["same_model"] is True
    assert found["a"]["fingerprint"] == found["b"]["fingerprint"]
    assert sum(one["images"] for one in found["actions"] if one["a"] != one["b"]) == 0
    assert found["images"] + sum(found["unreadable"].values()) == found["taken"] == 30
    for rule in found["rules"]:
        assert rule["agreement"]["share"] == rule["agreement_fitted"]["share"] == 1
        assert rule["agreement"]["kappa"] in (1, None)
        assert rule["spearman"] == pytest.approx(1)
        assert rule["disagreements"] == []
        assert rule["flagged_a"] == rule["flagged_b"] == rule["flagged_fitted"] == rule["both"]
        assert all(one["fitted"] in (one["now"], None) for one in rule["thresholds"])


@pytest.mark.slow
def test_other_weights_are_compared_and_thresholds_hold_the_flag_rate(compare: Compare, other: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    out, err = compare("demo", other, "--json", "--html", str(page))
    found = json.loads(out)
    assert found["same_model"] is False
    assert found["taken"] == found["listed"] < found["asked"] == 500
    assert found["unreadable"]["corrupt"] >= 1
    assert any("fewer images than the 500 asked for" in line for line in found["notes"])
    assert any("could not be scored and are skipped: " in line for line in found["notes"])
    assert found["images"] == found["taken"] - sum(found["unreadable"].values())
    assert sum(one["images"] for one in found["actions"]) == found["images"]
    fitted = [one for rule in found["rules"] for one in rule["thresholds"] if one["fitted"] is not None]
    assert len(fitted) >= 4
    assert all(one["reached_fitted"] == one["reached_a"] for one in fitted)
    assert any(one["reached_b"] != one["reached_a"] for one in fitted), "the noise does nothing"
    assert all(0.2 < rule["spearman"] < 0.9999 for rule in found["rules"])
    assert "written: " in err
    assert "scoring" in err
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") >= 1
    assert str(Store(str(MODEL_DIR)).uri) not in text
    told, _ = compare("demo", other)
    assert "Thresholds for B with which as many images are flagged" in told
    assert "With the thresholds as they are, B decides " in told


def test_scores_are_those_that_a_run_would_store(few: Path, other: str) -> None:
    policy = load_policy(POLICY_FILE)
    found = compare_models(policy, DEMO, model_choice(other), [str(few)], sample=70, seed=3)
    images = {one.uri: (rule.rule, one) for rule in found.rules for one in rule.disagreements}
    assert images
    for name, side in (("demo", "a"), (other, "b")):
        with ImageScorer(OpenClipEncoder(name), without_heads(policy)[0]) as scorer:
            rows = scorer.score(list(images)).scores.to_pylist()
        stored = {(row["uri"], row["rule"]): row for row in rows}
        for uri, (rule, one) in images.items():
            assert stored[uri, rule]["score"] == getattr(one, f"score_{side}")
            assert stored[uri, rule]["action"] == getattr(one, f"action_{side}")
    again = compare_models(policy, DEMO, model_choice(other), [str(few)], sample=70, seed=3)
    assert (again.rules, again.actions) == (found.rules, found.actions)


def test_a_checkpoint_that_knows_nothing_is_reported(few: Path, tmp_path: Path) -> None:
    name = save_tiny_clip(tmp_path / "tiny")
    found = compare_models(load_policy(POLICY_FILE), DEMO, model_choice(name), [str(few)], sample=60)
    assert found.b.name == name
    assert found.a.fingerprint != found.b.fingerprint
    assert found.b.dim == 64
    assert all(rule.spearman is None or rule.spearman < 0.8 for rule in found.rules)
    assert all(rule.both <= rule.flagged_a for rule in found.rules)


def test_precision_is_held_by_labels(compare: Compare, other: str, few: Path, tmp_path: Path) -> None:
    rule = load_policy(POLICY_FILE).active_rules[0]
    uris = [f"{Store(str(few)).uri}/{path.name}" for path in sorted(few.iterdir())]
    with ImageScorer(OpenClipEncoder("demo"), load_policy(POLICY_FILE)) as scorer:
        rows = scorer.score(uris).scores.to_pylist()
    lines = [f'"{row["uri"]}",{rule.id},{row["score"] > 0.6}' for row in rows if row["rule"] == rule.id]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["uri,rule,label", *lines, '"s3://x/y.jpg",nobodys,true', '"s3://x/z.jpg",any,true']) + "\n")
    out, err = compare("demo", other, "--sample", "10", "--hold", "precision", "--labels", str(labels), "--json")
    found = json.loads(out)
    assert found["hold"] == "precision"
    assert found["taken"] == 10
    assert found["labelled"] == len(lines)
    assert "1 labels name no rule that the policy scores" in err
    assert "without saying which rule" in err
    [compared] = [one for one in found["rules"] if one["rule"] == rule.id]
    assert compared["thresholds"][-1]["fitted"] is not None
    others = [one for one in found["rules"] if one["rule"] != rule.id]
    assert all("no labelled image reaches it" in one["note"] for rule in others for one in rule["thresholds"])


def refused(kind: type[ModerationError], match: str, **changes: Any) -> None:
    given = {"policy": load_policy(POLICY_FILE), "a": DEMO, "b": DEMO, "locations": [str(IMAGES_DIR)], **changes}
    with pytest.raises(kind, match=match) as error:
        compare_models(given.pop("policy"), given.pop("a"), given.pop("b"), given.pop("locations"), **given)
    assert "\n" not in str(error.value)


def test_sigmoid_rules_need_a_model_with_a_bias() -> None:
    policy = make_policy({"score": "sigmoid", "prompts": ["a gun"]}, contrast=["x"])
    with pytest.raises(PolicyError, match=r"rule 'r0': `sigmoid` needs a SigLIP-family model; demo has no bias"):
        check_choice(DEMO, policy)
    refused(PolicyError, "demo has no bias", policy=policy)


def test_models_that_cannot_be_compared_are_refused_in_one_line(tmp_path: Path) -> None:
    refused(ModelError, "unknown model 'ViT-B-33': did you mean", b=model_choice("ViT-B-33/openai"))
    refused(ModelError, "no pretrained tag 'nowhere'", a=model_choice("ViT-B-32/nowhere"))
    refused(ModelError, "differ in `quick_gelu`", a=model_choice("ViT-B-32/nowhere/weights.safetensors"))
    refused(ModelError, "does not exist: .*nowhere/weights", a=model_choice("RN50/nowhere/weights.safetensors"))
    refused(ModelError, "cannot load", b=model_choice(f"local-dir:{tmp_path}"))
    refused(SourceError, "cannot list the source", locations=[str(tmp_path / "nothing")])
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "text.jpg").write_text("this is no image")
    refused(
        SourceError,
        "none of the 1 sampled objects can be scored: unsupported_format 1",
        locations=[str(tmp_path / "images")],
    )
    truths = {"s3://elsewhere/a.jpg": {"weapons": Truth(applies=True)}}
    refused(SettingsError, "none of the 1 labelled images, such as 's3://elsewhere/a.jpg'", truths=truths, sample=1)


def test_labels_and_precision_come_together(compare: Compare, monkeypatch: pytest.MonkeyPatch, few: Path) -> None:
    for arguments in (["--hold", "precision"], ["--labels", "labels.csv"]):
        given = ["model", "compare", "demo", "demo", *arguments, "--source", str(few), "--policy", str(POLICY_FILE)]
        monkeypatch.setattr(sys, "argv", given)
        with pytest.raises(SettingsError, match="--hold precision"):
            model_app()


def test_nothing_heavy_is_imported_for_help() -> None:
    program = (
        "import sys, moderation.commands.models, moderation.commands.replay; "
        "assert not {'torch', 'open_clip', 'ray', 'prefect', 'scipy', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
