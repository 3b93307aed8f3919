"""From a model's name to its network with weights, in evaluation mode."""

import json
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import open_clip
from open_clip.pretrained import download_pretrained_from_hf

from moderation.errors import ModelError
from moderation.model.catalog import ModelFacts, quiet
from moderation.model.checkpoint_files import CONVERT, Shapes, checkpoint_shapes
from moderation.model.preprocessing import RESAMPLING, RESIZE_MODES, Preprocessing
from moderation.model.training_settings import activation_mark, settings_of_tag
from moderation.policy.model_choice import HUB, LOCAL_DIR, ModelChoice, Preprocess

_STATED = ("mean", "std")
"""What a model's own configuration must say of its pictures; the rest has a default of open_clip's format."""


def load(choice: ModelChoice, facts: ModelFacts) -> Any:
    """The network. Raises `ModelError`: it cannot be loaded."""
    options: dict[str, Any] = {"pretrained": choice.pretrained}
    if facts.settings is not None:
        options = {
            "pretrained": str(choice.checkpoint),
            "quick_gelu": facts.settings.quick_gelu,
            "force_preprocess_cfg": facts.settings.preprocess,
        }
    elif choice.brings_its_own:
        options["force_preprocess_cfg"] = _own_preprocess(choice, facts.identifier)
        _check_folder(facts.identifier, choice)
    else:
        options["force_quick_gelu"] = bool(activation(choice, facts))
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = open_clip.create_model(facts.identifier, require_pretrained=True, weights_only=True, **options)
    except Exception as error:  # noqa: BLE001 - open_clip, the hub client, safetensors and torch share no base class
        which = f"{choice.name!r}{f' ({choice.pretrained})' if choice.pretrained else ''}"
        key = "pretrained" if choice.pretrained else "name"
        raise ModelError(f"cannot load the model {which}: {_reason(error, choice)}", key=key) from None
    if facts.shapes:
        _check_fit(choice, model, facts.shapes)
    return model.eval().requires_grad_(requires_grad=False)


def activation(choice: ModelChoice, facts: ModelFacts) -> bool | str:
    """What the fingerprint says of the activation, beside the architecture's configuration."""
    if facts.settings is not None:
        return activation_mark(choice, facts.settings)
    # open_clip only warns when architecture and tag differ in it.
    return bool(choice.pretrained and open_clip.get_pretrained_cfg(facts.identifier, choice.pretrained).get("quick_gelu"))


def preprocessing_of(config: Mapping[str, Any]) -> Preprocessing:
    """How a network wants its pictures. Raises `ModelError` where that cannot be done here."""
    size = config["size"]
    if isinstance(size, list | tuple):
        if size[0] != size[1]:
            raise ModelError(f"the model takes pictures of {size[0]}x{size[1]}; only square ones are supported", key="name")
        size = size[0]
    for key, known in (("interpolation", RESAMPLING), ("resize_mode", RESIZE_MODES)):
        if config[key] not in known:
            raise ModelError(f"the model's configuration has {key} {config[key]!r}", f"known: {', '.join(known)}", key="name")
    return Preprocessing(
        size=int(size),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        resize_mode=config["resize_mode"],
        fill=int(config.get("fill_color") or 0),
    )


def _own_preprocess(choice: ModelChoice, identifier: str) -> dict[str, Any]:
    """What the policy adds to the model's own configuration, which must not say it itself. Raises `ModelError`."""
    stated = _configured(identifier)
    if choice.quick_gelu is not None:
        raise ModelError(
            f"{choice.name} already has a configuration that sets its activation", "leave it out", key="quick_gelu"
        )
    given: dict[str, Any] = {}
    if isinstance(choice.preprocess, Preprocess):
        given = choice.preprocess.model_dump(exclude_none=True)
        twice = [key for key in given if key in stated]
        if twice:
            raise ModelError(
                f"{choice.name} already has a configuration that sets its `{twice[0]}`", "leave it out", key="preprocess"
            )
    elif choice.preprocess is not None:
        other, _, tag = choice.preprocess.rpartition("/")
        if not open_clip.get_pretrained_cfg(other.replace("/", "-"), tag):
            raise ModelError(
                f"no pretrained tag {choice.preprocess!r} to copy `preprocess` from",
                "write architecture and tag, such as ViT-B-16/openai",
                key="preprocess",
            )
        copied = settings_of_tag(other.replace("/", "-"), tag).preprocess
        given = {key: value for key, value in copied.items() if key not in stated}
    missing = [key for key in _STATED if key not in stated and key not in given]
    if missing:
        raise ModelError(
            f"the configuration of {choice.name} does not say how pictures are prepared: {' and '.join(missing)}",
            "add `preprocess:` with the architecture and tag whose preparation it shares, such as ViT-B-16/openai, or "
            "with values",
            key="name",
        )
    return given


def _configured(identifier: str) -> Mapping[str, Any]:
    """What a model's own configuration says of its pictures. Raises `ModelError`."""
    try:
        if identifier.startswith(LOCAL_DIR):
            path = str(Path(identifier.removeprefix(LOCAL_DIR)) / "open_clip_config.json")
        elif identifier.startswith(HUB):
            with quiet():
                path = download_pretrained_from_hf(identifier.removeprefix(HUB), filename="open_clip_config.json")
        else:
            return {}
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except Exception as error:  # noqa: BLE001 - the hub client raises what it likes
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"cannot load the model {identifier!r}: {reason}", key="name") from None
    found = content.get("preprocess_cfg") if isinstance(content, dict) else None
    return {key: value for key, value in found.items() if value is not None} if isinstance(found, dict) else {}


def _check_folder(identifier: str, choice: ModelChoice) -> None:
    """Refuse a folder whose weights are none, or of which open_clip would pick some. Raises `ModelError`."""
    if not identifier.startswith(LOCAL_DIR):
        return
    folder = Path(identifier.removeprefix(LOCAL_DIR))
    with quiet():
        found = open_clip.factory._find_checkpoint_in_dir(folder)
    if found is not None:
        checkpoint_shapes(Path(found), f"{Path(found).name} of {choice.name}", key="name")


def _check_fit(choice: ModelChoice, model: Any, shapes: Shapes) -> None:
    """Refuse a checkpoint that open_clip bends until it fits, in silence. Raises `ModelError`."""
    label, state = f"{choice.pretrained}", model.state_dict()
    if "logit_bias" in state and "logit_bias" not in shapes:
        raise ModelError(
            f"the checkpoint {label} has no logit_bias, which {choice.name} needs",
            "name the architecture that it was trained as",
            key="pretrained",
        )
    for name, shape in shapes.items():
        wanted = tuple(state[name].shape) if name in state else shape
        if name.endswith("positional_embedding") and wanted != shape:
            what = "for pictures of another size" if name.startswith("visual.") else "for texts of another length"
            raise ModelError(
                f"the checkpoint {label} was trained {what} than {choice.name}: {name} has {shape[0]} places, not {wanted[0]}",
                "name the architecture that it was trained as, such as ViT-L-14-336 instead of ViT-L-14",
                key="pretrained",
            )


def _reason(error: Exception, choice: ModelChoice) -> str:
    """Why loading failed, in one line without advice that is not ours."""
    text = str(error)
    if "TorchScript" in text or "torch.jit" in text:
        return f"the checkpoint is a TorchScript archive: a program, which is never run here; {CONVERT}"
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in text:
        return f"the checkpoint contains more than weights, and its code is never run here; {CONVERT}"
    if "state_dict" in text:
        return _misfit(text, choice)
    if isinstance(error, KeyError):
        return f"the checkpoint has no {error}; is it one of {choice.name}?"
    return " ".join(text.split())[:300] or type(error).__name__


def _misfit(text: str, choice: ModelChoice) -> str:
    """What of a checkpoint does not fit the architecture, from the words of torch."""
    parts = []
    for what, pattern in (
        ("are missing", r"Missing key\(s\) in state_dict: (.*?)\.\s"),
        ("are unknown", r"Unexpected key\(s\) in state_dict: (.*?)\.\s"),
    ):
        names = [name for found in re.findall(pattern, text + "\n", re.DOTALL) for name in re.findall(r'"([^"]+)"', found)]
        if names:
            parts.append(f"{len(names)} weights {what}, such as {names[0]}")
    shapes = re.findall(r"size mismatch for (\S+): .*?torch\.Size\((.*?)\).*?torch\.Size\((.*?)\)", text)
    if shapes:
        name, there, wanted = cast("tuple[str, str, str]", shapes[0])
        parts.append(f"{len(shapes)} have another shape, such as {name}: {there}, not {wanted}")
    if not parts:
        return " ".join(text.split())[:300]
    return f"its weights are not those of this architecture: {'; '.join(parts)}; is {choice.name} what they were trained as?"
