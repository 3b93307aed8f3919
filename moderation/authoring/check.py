"""Checking policy files: the language, the model they name, and what is odd in them."""

import contextlib
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from moderation.common.findings import Finding
from moderation.demo import SCHEME, captions, picture
from moderation.errors import ModelError, PolicyError
from moderation.model.catalog import ModelFacts, facts_of
from moderation.model.open_clip_encoder import OpenClipEncoder
from moderation.policy.exemplar_linting import lint_exemplars
from moderation.policy.head_models import foreign_heads
from moderation.policy.including import Merged
from moderation.policy.languages import reads_many_languages, words_of
from moderation.policy.linting import Oddity, lint, lint_language, lint_prompts, lint_similarity
from moderation.policy.model_choice import ModelChoice
from moderation.policy.schema import Policy
from moderation.policy.score_kind import ScoreKind
from moderation.policy.yaml_source import Location
from moderation.policy_files.loading import ReadPolicy, read_draft, read_policy
from moderation.scoring.exemplar_embeddings import embed_exemplars, embed_images


@dataclass(frozen=True, slots=True)
class Checked:
    """What checking a file found."""

    path: str
    policy: Policy | None
    """None where there are errors"""
    findings: tuple[Finding, ...]
    note: str = ""
    """what could not be checked, and why"""

    @property
    def ok(self) -> bool:
        """Whether the policy can be used; warnings do not count."""
        return all(finding.level == "warning" for finding in self.findings)


def check_policy(path: str | Path, *, compare_prompts: bool = True, today: date) -> Checked:
    """Check a policy file. Raises `PolicyError` only if the file cannot be read.

    Args:
        path: the file.
        compare_prompts: load the model's weights and look for prompts that it takes for the same.
        today: the day that `review_by` is compared with.
    """
    return _checked(read_policy(path), Path(path), compare_prompts, today)


def check_draft(text: str, path: Path, *, compare_prompts: bool, today: date) -> Checked:
    """Check a text that is to become the policy file at `path`. Other arguments as in `check_policy`."""
    return _checked(read_draft(text, path), path, compare_prompts, today)


def _checked(read: ReadPolicy, path: Path, compare_prompts: bool, today: date) -> Checked:
    errors = list(read.findings)
    facts: ModelFacts | None = None
    note = ""
    content = read.merged.content
    model = content.get("model") if isinstance(content, dict) else None
    choice = _choice(model, path.parent.resolve())
    if choice is not None:
        try:
            facts = facts_of(choice)
        except ModelError as error:
            if str(error).startswith("cannot read"):  # known, but its tokenizer is out of reach just now
                note = "the model was not checked: its configuration is not on this machine; --download fetches it"
            else:
                errors.append(_model_finding(read.merged, error))
    if facts is not None and isinstance(content, dict):
        errors += [read.merged.finding(*mistake) for mistake in _misfits(content, facts)]
    if isinstance(content, dict):
        errors += [read.merged.finding(*mistake) for mistake in _missing_examples(content, path.parent)]
    encoder = _encoder(read.policy) if compare_prompts and read.policy is not None and not errors else None
    if encoder is not None and read.policy is not None:
        errors += foreign_heads(read.policy, encoder.made)
    if errors or read.policy is None:
        return Checked(str(path), None, tuple(sorted(dict.fromkeys(errors))), note)
    odd = lint(read.policy, today)
    if facts is not None:
        odd += lint_similarity(read.policy, facts.has_bias)
        if not reads_many_languages(read.policy.model.name, read.policy.model.pretrained):
            odd += lint_language(read.policy, lambda text: facts.count_tokens(text) - 2, _vocabulary(read.policy))
        if compare_prompts:
            more, note = _compare(read.policy, encoder)
            odd += more
    warnings = [replace(read.merged.finding(o.location, o.message, o.hint), level="warning") for o in odd]
    warnings += read.merged.warnings
    return Checked(str(path), read.policy, tuple(sorted(dict.fromkeys(warnings))), note)


def _choice(model: object, folder: Path) -> ModelChoice | None:
    """The model that a file names, as far as it can be recognized; other mistakes are reported elsewhere."""
    if not isinstance(model, Mapping):
        return None
    for keys in (tuple(ModelChoice.model_fields), ("name", "pretrained")):
        with contextlib.suppress(ValidationError):
            return ModelChoice.model_validate({key: model.get(key) for key in keys}, context={"folder": folder})
    return None


def _model_finding(merged: Merged, error: ModelError) -> Finding:
    message, _, hint = (error.message, "", error.hint) if error.hint else str(error).partition(": ")
    return merged.finding(("model", error.key or "name"), message, hint)


def _misfits(content: Mapping[str, Any], facts: ModelFacts) -> Iterator[tuple[Location, str, str]]:
    """Prompts that the model would cut off, and sigmoid scores of a model that was not trained for them."""
    templates = [t for t in _list(content.get("templates")) or ["a photo of {}"] if isinstance(t, str)]
    places: list[tuple[Location, Any]] = [(("contrast", i), p) for i, p in enumerate(_list(content.get("contrast")))]
    for at, rule in enumerate(_list(content.get("rules"))):
        if not isinstance(rule, Mapping):
            continue
        for key in ("prompts", "contrast"):
            places += [(("rules", at, key, i), prompt) for i, prompt in enumerate(_list(rule.get(key)))]
        kind = ScoreKind.written(rule.get("score"))
        if kind is not None and kind.facts.needs_bias and not facts.has_bias:
            yield (
                ("rules", at, "score"),
                f"`{kind}` needs a model of the SigLIP family: this one has no bias",
                "use `score: contrast`, or another model",
            )
    for place, prompt in places:
        if isinstance(prompt, str):
            longest = max((facts.count_tokens(t.replace("{}", prompt)) for t in templates), default=0)
            if longest > facts.token_limit:
                message = f"the prompt has {longest} tokens in its longest template; the model reads {facts.token_limit}"
                yield place, message, "shorten it: the model ignores text beyond the limit"


def _missing_examples(content: Mapping[str, Any], folder: Path) -> Iterator[tuple[Location, str, str]]:
    """Example images that are not where the policy says. URIs are not checked."""
    for at, example in enumerate(_list(content.get("examples"))):
        image = example.get("image") if isinstance(example, Mapping) else None
        if not isinstance(image, str) or ("://" in image and not image.startswith(SCHEME)):
            continue
        try:
            path = picture(image) if image.startswith(SCHEME) else folder / Path(image).expanduser()
            if path.is_file():
                continue
            beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        except (OSError, ValueError, RuntimeError):
            beside = []
        close = difflib.get_close_matches(Path(image).name, beside, n=1, cutoff=0.6)
        if close:
            hint = f"did you mean {str(Path(image).parent / close[0])!r}?"
        elif image.startswith(SCHEME):
            hint = f"{SCHEME} names pictures included in the program"
        else:
            hint = "copy the image there: paths are relative to the policy's folder"
        yield ("examples", at, "image"), f"there is no image {image!r} next to the policy", hint


def _vocabulary(policy: Policy) -> frozenset[str] | None:
    """The words that the demo model knows; those of other models are not known."""
    if policy.model.name != "demo":
        return None
    return frozenset(word for text in (*captions(), *_TEMPLATES) for word in words_of(text))


_TEMPLATES = (
    "a photo of the",
    "an image of",
    "a picture of a",
    "a blurry close-up of",
    "an emoji",
    "a drawing",
    "and with in on",
)
"""What the demo model's captions stood in."""


def _encoder(policy: Policy) -> OpenClipEncoder | None:
    """The policy's model, where its weights are on this machine."""
    try:
        return OpenClipEncoder.of(policy.model, device="cpu")
    except ModelError:
        return None


def _compare(policy: Policy, encoder: OpenClipEncoder | None) -> tuple[list[Oddity], str]:
    prompts = list(dict.fromkeys(p for rule in policy.active_rules for p in rule.prompts))
    if encoder is None:
        what = "prompts were not compared, nor heads checked" if policy.assets.heads else "prompts were not compared"
        return [], f"{what}: the model's weights are not on this machine; --download fetches them"
    texts = [template.replace("{}", prompt) for prompt in prompts for template in policy.templates]
    vectors = encoder.encode_texts(texts).reshape(len(prompts), len(policy.templates), encoder.dim)
    vectors = vectors.astype(np.float64).mean(axis=1)
    found = lint_prompts(policy, prompts, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    own = {one.sha256: one for rule in policy.assets.exemplars.values() for one in (*rule.like, *rule.unlike)}
    if not own:
        return found, ""
    try:
        return found + lint_exemplars(policy, embed_exemplars(own, lambda files: embed_images(encoder, files))), ""
    except PolicyError as error:
        return found, f"exemplars were not compared: {error}"


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else []
