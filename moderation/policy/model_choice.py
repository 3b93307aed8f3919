"""Which CLIP model scores the images: the part `model` of a policy."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, PrivateAttr, StringConstraints, Tag
from pydantic_core import PydanticCustomError

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]

LOCAL_DIR, HUB = "local-dir:", "hf-hub:"
"""How names of models begin that bring their own configuration and weights."""


class Strict(BaseModel):
    """A part of the policy language: unknown keys are mistakes, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


def _of_three(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) != 3:
        raise PydanticCustomError("three_numbers", "should be three numbers, for red, green and blue")
    return values


_THREE = AfterValidator(_of_three)
_SCHEMA = Field(json_schema_extra={"minItems": 3, "maxItems": 3})
_PIXEL = "between 0 and 1, for pixels between 0 and 1"


class Preprocess(Strict):
    """How pictures are prepared for a model. What is left out is what all pretrained tags of its architecture agree on."""

    mean: Annotated[tuple[Annotated[float, Field(ge=0, le=1, strict=True)], ...], _THREE, _SCHEMA] | None = Field(
        default=None, description=f"subtracted from red, green and blue: three numbers {_PIXEL}"
    )
    std: Annotated[tuple[Annotated[float, Field(gt=0, le=1, strict=True)], ...], _THREE, _SCHEMA] | None = Field(
        default=None, description=f"then divides red, green and blue: three numbers {_PIXEL}"
    )
    interpolation: Literal["bicubic", "bilinear"] | None = Field(default=None, description="bicubic | bilinear")
    resize_mode: Literal["shortest", "longest", "squash"] | None = Field(
        default=None,
        description="shortest (crop the center) | longest (pad the rest) | squash (distort the shape)",
    )


def _kind_of_preprocess(value: Any) -> str:
    return "<tag>" if isinstance(value, str) else "<values>"


class ModelChoice(Strict):
    """Which CLIP model scores the images. A relative path in it is relative to the policy's file."""

    name: Text = Field(description="`demo`, an open_clip architecture such as ViT-B-32, hf-hub:org/repo, or local-dir:folder")
    pretrained: Text | None = Field(
        default=None,
        description="an open_clip pretrained tag, or a checkpoint's path, relative to this file and containing a / or a .",
    )
    preprocess: (
        Annotated[
            Annotated[Text, Tag("<tag>")] | Annotated[Preprocess, Tag("<values>")],
            Discriminator(_kind_of_preprocess),
        ]
        | None
    ) = Field(
        default=None,
        description="for a checkpoint given by path: how pictures are prepared. The pretrained tag whose preparation it shares "
        "(openai, or ViT-B-16/openai), which also sets quick_gelu; or {mean, std, interpolation, resize_mode}",
    )
    quick_gelu: bool | None = Field(
        default=None,
        strict=True,
        description="for a checkpoint given by path: whether it was trained with the activation QuickGELU",
    )
    _folder: str = PrivateAttr(default="")

    def model_post_init(self, context: Any, /) -> None:
        """Note what relative paths are relative to: the folder that the validation context names, else the current one."""
        if self._names_a_path:
            self._folder = str((context or {}).get("folder") or _current_folder())

    @property
    def label(self) -> str:
        """The model as one text, e.g. `ViT-B-32/laion2b_s34b_b79k`."""
        return f"{self.name}/{self.pretrained}" if self.pretrained else self.name

    @property
    def described(self) -> str:
        """The label, with what the policy says of the checkpoint."""
        said = []
        if isinstance(self.preprocess, str):
            said.append(f"preprocess {self.preprocess}")
        elif self.preprocess is not None:
            values = self.preprocess.model_dump(mode="json", exclude_none=True).items()
            said += [f"{key} {value}" for key, value in values]
        if self.quick_gelu is not None:
            said.append(f"quick_gelu {str(self.quick_gelu).lower()}")
        return f"{self.label} ({', '.join(said)})" if said else self.label

    @property
    def brings_its_own(self) -> bool:
        """Whether the name means weights and a configuration: the demo, a folder, a repository of a hub."""
        return self.name == "demo" or ":" in self.name

    @property
    def checkpoint(self) -> Path | None:
        """The absolute path of the checkpoint, where it is given by one."""
        return self._absolute(self.pretrained) if self.pretrained and is_path(self.pretrained) else None

    @property
    def local_dir(self) -> Path | None:
        """The absolute path of the folder that `local-dir:` names."""
        return self._absolute(self.name.removeprefix(LOCAL_DIR)) if self.name.startswith(LOCAL_DIR) else None

    @property
    def folder(self) -> str | None:
        """What a relative path in it is relative to; None where it names no path."""
        return self._folder or None

    @property
    def _names_a_path(self) -> bool:
        return self.name.startswith(LOCAL_DIR) or (self.pretrained is not None and is_path(self.pretrained))

    def _absolute(self, path: str) -> Path:
        return Path(self._folder, os.path.expanduser(path))  # noqa: PTH111 - which raises nothing


def is_path(pretrained: str) -> bool:
    """Whether `pretrained` is the path of a checkpoint. Tags have neither a slash nor a dot."""
    return any(mark in pretrained for mark in "/\\.")


def moved(model: Any, folder: str) -> Any:
    """The plain values of `model` in an included file, with relative paths made relative to the file that includes it.

    Args:
        model: as it stands in the included file, right or wrong.
        folder: of the included file, relative to the one of the file that includes it.
    """
    if not isinstance(model, dict) or folder in ("", "."):
        return model
    changed = dict(model)
    name, pretrained = model.get("name"), model.get("pretrained")
    if isinstance(name, str) and name.strip().startswith(LOCAL_DIR):
        changed["name"] = LOCAL_DIR + _beside(name.strip().removeprefix(LOCAL_DIR), folder)
    if isinstance(pretrained, str) and is_path(pretrained):
        changed["pretrained"] = _beside(pretrained, folder)
    return changed


def _beside(path: str, folder: str) -> str:
    path = path.strip()
    return path if path.startswith(("/", "~")) or "://" in path else f"{folder}/{path}"


def _current_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return ""
