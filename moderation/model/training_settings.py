"""What weights were trained with and do not say themselves: how pictures are prepared, and which activation.

open_clip keeps this with its pretrained tags. For a checkpoint by its path it would take OpenAI's ways, whatever the model:
here it is what all tags of the architecture agree on, and the policy says the rest.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

import open_clip

from moderation.errors import ModelError
from moderation.policy.model_choice import ModelChoice, Preprocess

_LISTED = 3
"""Tags that a message names for each of the settings that they stand for."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """What weights were trained with. None: not known."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str | None = None
    resize_mode: str | None = None
    quick_gelu: bool | None = None

    @property
    def unknown(self) -> tuple[str, ...]:
        """The names of what is not known."""
        return tuple(key for key, value in asdict(self).items() if value is None)

    @property
    def preprocess(self) -> dict[str, Any]:
        """What open_clip's `force_preprocess_cfg` takes."""
        return {key: value for key, value in asdict(self).items() if key != "quick_gelu"}


def settings_of_tag(architecture: str, tag: str) -> TrainingSettings:
    """The settings that open_clip uses for a pretrained tag of an architecture."""
    said = open_clip.get_pretrained_cfg(architecture, tag)
    return TrainingSettings(
        mean=tuple(map(float, said.get("mean") or open_clip.OPENAI_DATASET_MEAN)),
        std=tuple(map(float, said.get("std") or open_clip.OPENAI_DATASET_STD)),
        interpolation=str(said.get("interpolation", "bicubic")),
        resize_mode=str(said.get("resize_mode", "shortest")),
        quick_gelu=bool(said.get("quick_gelu")) or _built_with_quick_gelu(architecture),
    )


def settings_of_checkpoint(choice: ModelChoice) -> TrainingSettings:
    """The settings of a checkpoint that is given by its path: what the policy says, else what all tags agree on.

    Raises:
        ModelError: they do not agree, or there are none, and the policy leaves it open; the text lists the choices.
    """
    architecture = choice.name.replace("/", "-")
    tags = {tag: settings_of_tag(architecture, tag) for tag in open_clip.list_pretrained_tags_by_model(architecture)}
    if isinstance(choice.preprocess, str):
        copied = settings_of_tag(*_tag_to_copy(choice.preprocess, architecture, tags))
        return copied if choice.quick_gelu is None else replace(copied, quick_gelu=choice.quick_gelu)
    found = _joined(_said(choice.preprocess, choice.quick_gelu), _agreed(tags.values()))
    if found.unknown:
        raise _open_choice(choice, tags, found.unknown)
    return found


def activation_mark(choice: ModelChoice, settings: TrainingSettings) -> bool | str:
    """What the model's fingerprint says of the activation beside the architecture's own configuration.

    The same as for the pretrained tag with these settings, so that the same weights have the same fingerprint either way.
    """
    architecture = choice.name.replace("/", "-")
    for tag in open_clip.list_pretrained_tags_by_model(architecture):
        if settings_of_tag(architecture, tag) == settings:
            return bool(open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu"))
    if _built_with_quick_gelu(architecture) and not settings.quick_gelu:
        return "off"
    return bool(settings.quick_gelu)


def _built_with_quick_gelu(architecture: str) -> bool:
    return bool((open_clip.get_model_config(architecture) or {}).get("quick_gelu"))


def _said(preprocess: Preprocess | None, quick_gelu: bool | None) -> TrainingSettings:
    return TrainingSettings(**(preprocess.model_dump() if preprocess else {}), quick_gelu=quick_gelu)


def _agreed(tags: Collection[TrainingSettings]) -> TrainingSettings:
    """What all tags have in common; nothing where there are none."""
    values = {field.name: {getattr(one, field.name) for one in tags} for field in fields(TrainingSettings)}
    return TrainingSettings(**{key: next(iter(there)) for key, there in values.items() if len(there) == 1})


def _joined(first: TrainingSettings, second: TrainingSettings) -> TrainingSettings:
    known = {key: getattr(second, key) for key in first.unknown}
    return replace(first, **known)


def _tag_to_copy(text: str, architecture: str, tags: Mapping[str, TrainingSettings]) -> tuple[str, str]:
    """Architecture and tag of `openai` or `ViT-B-16/openai`."""
    other, slash, tag = text.rpartition("/")
    other = other.replace("/", "-") if slash else architecture
    if other not in open_clip.list_models():
        close = get_close_matches(other, open_clip.list_models(), n=1)
        raise ModelError(
            f"unknown architecture {other!r} in `preprocess`",
            f"did you mean {close[0]}/{tag}?" if close else "write the tag of an open_clip model: openai, or ViT-B-16/openai",
            key="preprocess",
        )
    known = list(tags) if other == architecture else open_clip.list_pretrained_tags_by_model(other)
    if tag not in known:
        close = get_close_matches(tag, known, n=1)
        listed = f"known: {', '.join(known)}" if known else "it has none: name one of another architecture, ViT-B-16/openai"
        raise ModelError(
            f"no pretrained tag {tag!r} of {other} to copy `preprocess` from",
            f"did you mean {close[0]}?" if close else listed,
            key="preprocess",
        )
    return other, tag


def _open_choice(choice: ModelChoice, tags: Mapping[str, TrainingSettings], unknown: tuple[str, ...]) -> ModelError:
    *first, last = [f"`{key}`" for key in unknown]
    named = f"{', '.join(first)} and {last}" if first else last
    if not tags:
        return ModelError(
            f"open_clip has no pretrained tag of {choice.name}, so nothing says what this checkpoint was trained with: {named}",
            "add `preprocess:` with the architecture and tag whose preparation it shares, such as ViT-B-32/laion2b_s34b_b79k, "
            "which sets everything; or `preprocess: {mean: [..], std: [..], interpolation: bicubic | bilinear, "
            "resize_mode: shortest | longest | squash}` and `quick_gelu: true | false`",
            key="pretrained",
        )
    groups: dict[tuple[Any, ...], list[str]] = {}
    for tag, settings in tags.items():
        groups.setdefault(tuple(getattr(settings, key) for key in unknown), []).append(tag)
    choices = "; ".join(f"`preprocess: {those[0]}` ({', '.join(_facts(unknown, at, those))})" for at, those in groups.items())
    preprocessing = [key for key in unknown if key != "quick_gelu"]
    values = [f"`preprocess: {{{', '.join(f'{key}: ...' for key in preprocessing)}}}`"] if preprocessing else []
    values += ["`quick_gelu: true | false`"] if "quick_gelu" in unknown else []
    return ModelError(
        f"the pretrained tags of {choice.name} differ in {named}, and a checkpoint does not say which it was trained with",
        f"add the tag whose preparation it shares: {choices}; or {' and '.join(values)}",
        key="pretrained",
    )


def _facts(unknown: tuple[str, ...], values: tuple[Any, ...], tags: list[str]) -> Iterator[str]:
    for key, value in zip(unknown, values, strict=True):
        shown = [round(part, 3) for part in value] if isinstance(value, tuple) else str(value).lower()
        yield f"{key} {shown}"
    others = tags[1:]
    if others:
        more = f" and {len(others) - _LISTED} more" if len(others) > _LISTED else ""
        yield f"as {' '.join(others[:_LISTED])}{more}"
