"""What is odd in a policy though it is valid: warnings, each with its reason. Pure: embeddings and dates are given."""

import re
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import date
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from moderation.lists.hash_list import HashKind
from moderation.lists.reading import MIN_QUALITY
from moderation.policy.languages import why_not_english
from moderation.policy.schema import Action, ListedImages, Mode, Policy, Rule, Severity
from moderation.policy.score_kind import ScoreKind
from moderation.policy.yaml_source import Location

NEAR_DUPLICATE = 0.97
"""Two prompts whose text embeddings have this cosine or more are seen as one thing by the model."""

_WIDE = 40
"""Bits of a PDQ, from where on unrelated pictures match."""
_LOWEST = 0.02
"""Under contrast a picture of anything scores about this much by chance."""

_NEGATION = re.compile(r"\b(not|no|without|never|isn't|aren't|non)\b|n't\b", re.IGNORECASE)
_SIGN = re.compile(r"\bno[ -]\w+ (sign|symbol)\b", re.IGNORECASE)
"""A sign that says no is a thing to be seen."""


@dataclass(frozen=True, slots=True)
class Oddity:
    """Something odd, at a place in the policy."""

    location: Location
    message: str
    hint: str


def lint(policy: Policy, today: date) -> list[Oddity]:
    """Warnings that need only the policy."""
    found: list[Oddity] = []
    for at, rule in enumerate(policy.rules):
        place: Location = ("rules", at)
        if rule.mode is Mode.OFF:
            continue
        found.extend(_negations(rule, place))
        found.extend(_extremes(rule, place))
        if rule.score.facts.uses_contrast and not rule.contrast:
            message = f"the rule {rule.id!r} has no lookalikes of its own: images that resemble it will be flagged"
            found.append(Oddity(place, message, "add `contrast:` with things that are easily mistaken for it"))
        if rule.block is not None and not _has_example(policy, rule):
            message = f"the rule {rule.id!r} blocks, but no example shows that it blocks the right thing"
            found.append(Oddity((*place, "block"), message, "add an image to `examples` that names this rule"))
        if rule.mode is Mode.SHADOW and rule.review_by is not None and rule.review_by < today:
            message = f"the shadow rule {rule.id!r} was due for a decision by {rule.review_by}"
            found.append(Oddity((*place, "review_by"), message, "make it live, remove it, or set a new date"))
        if rule.mode is not Mode.SHADOW and rule.review_by is not None:
            message = f"`review_by` of the rule {rule.id!r} has no effect: it is not a shadow rule"
            found.append(Oddity((*place, "review_by"), message, "remove it"))
    for at, one in enumerate(policy.lists):
        if one.mode is not Mode.OFF:
            found.extend(_list_oddities(policy, one, ("lists", at)))
    return found


def lint_language(policy: Policy, tokens: Callable[[str], int], vocabulary: Set[str] | None) -> list[Oddity]:
    """Prompts in another language than the English of the model's captions.

    Args:
        policy: of a model that reads English only.
        tokens: how many tokens the model makes of a text.
        vocabulary: the words that the model was trained with; None where they are not known.
    """
    texts: list[tuple[Location, str, Set[str] | None]] = []
    texts += [(("templates", at), text, None) for at, text in enumerate(policy.templates)]
    texts += [(("contrast", at), text, None) for at, text in enumerate(policy.contrast)]
    for at, rule in enumerate(policy.rules):
        texts += [(("rules", at, "prompts", i), text, vocabulary) for i, text in enumerate(rule.prompts)]
        texts += [(("rules", at, "contrast", i), text, None) for i, text in enumerate(rule.contrast)]
    found = []
    for place, text, words in texts:
        why = why_not_english(text, words, tokens)
        if why:
            hint = "write it in English: the model learned from English captions, and can only guess at other languages"
            if why.startswith("the model never saw"):
                hint = "the demo's model knows the English names of emoji and no other words"
            found.append(Oddity(place, f"{text!r}: {why}", hint))
    return found


def lint_similarity(policy: Policy, has_bias: bool) -> list[Oddity]:
    """Thresholds of similarity rules that no picture ever reaches, or that every picture does."""
    found = []
    for at, rule in enumerate(policy.rules):
        usual = rule.score.facts.usual
        if usual is None or rule.mode is Mode.OFF:
            continue
        low, high = usual[has_bias]
        for key, value in (("review", rule.review), ("block", rule.block)):
            if value is not None and not low <= value <= high:
                never = "no picture reaches it" if value > high else "nearly every picture is above it"
                message = (
                    f"`{key}: {value}` of the rule {rule.id!r} is outside {low} to {high}, the range of this model's cosines"
                )
                found.append(Oddity(("rules", at, key), message, f"{never}: look at the scores of a run first"))
    return found


def lint_prompts(policy: Policy, prompts: Sequence[str], embeddings: NDArray[np.floating]) -> list[Oddity]:
    """Prompts of different rules that the model takes for the same. `embeddings`: unit rows [P, D] of `prompts`."""
    index = {prompt: i for i, prompt in enumerate(prompts)}
    cosines = embeddings.astype(np.float64) @ embeddings.astype(np.float64).T
    found = []
    live = [(at, rule) for at, rule in enumerate(policy.rules) if rule.mode is not Mode.OFF and not _is_learned(rule)]
    for (_, first), (at, second) in combinations(live, 2):
        for mine in first.prompts:
            for theirs_at, theirs in enumerate(second.prompts):
                cosine = float(cosines[index[mine], index[theirs]])
                if cosine >= NEAR_DUPLICATE:
                    message = (
                        f"{theirs!r} means the same to the model as {mine!r} of the rule {first.id!r} (cosine {cosine:.2f}): "
                        "both rules will flag the same pictures"
                    )
                    found.append(
                        Oddity(("rules", at, "prompts", theirs_at), message, "keep it in one of them, or be more specific")
                    )
    return found


def _list_oddities(policy: Policy, one: ListedImages, place: Location) -> Iterator[Oddity]:
    if one.hash is HashKind.PDQ and one.distance > _WIDE:
        message = f"`distance: {one.distance}` of the list {one.id!r}: unrelated pictures begin to match"
        yield Oddity((*place, "distance"), message, "31 is the usual distance")
    if one.hash is HashKind.PDQ and one.min_quality < MIN_QUALITY:
        message = f"`min_quality: {one.min_quality}` of the list {one.id!r}: pictures with little detail match unlike ones"
        yield Oddity((*place, "min_quality"), message, f"set {MIN_QUALITY} or more")
    if one.action is Action.ALLOW:
        if one.hash is HashKind.MD5:
            message = f"the list {one.id!r} allows by MD5: two files with one MD5 can be made on purpose"
            yield Oddity((*place, "hash"), message, "use a list of SHA-256")
        if one.restricted:
            message = f"the list {one.id!r} allows images that nobody may see"
            yield Oddity((*place, "restricted"), message, "is it meant to block?")
        severities = list(Severity)
        milder = [rule for rule in policy.active_rules if severities.index(rule.severity) <= severities.index(one.severity)]
        if not milder:
            message = f"the list {one.id!r} overrides no rule: all are more severe than `{one.severity}`"
            yield Oddity(place, message, "give it a higher `severity`")


def _is_learned(rule: Rule) -> bool:
    """Whether a head scores it: then its prompts are where learning began, and flag nothing."""
    return rule.score is ScoreKind.HEAD


def _extremes(rule: Rule, place: Location) -> Iterator[Oddity]:
    """Thresholds in [0, 1] that every image reaches, or none."""
    if rule.score.facts.usual is not None:  # `lint_similarity` knows better
        return
    for key, value in (("review", rule.review), ("block", rule.block)):
        if value is None:
            continue
        does = "goes to a person" if key == "review" else "is blocked"
        written = f"`{key}: {value:g}` of the rule {rule.id!r}"
        if value <= 0:
            yield Oddity((*place, key), f"{written}: every image {does}", "set a threshold above 0, such as 0.60")
        elif value < _LOWEST and not _is_learned(rule):  # of something rare, a low probability says much
            yield Oddity(
                (*place, key), f"{written}: nearly every image {does}", "look at the scores of a run first, or set 0.60"
            )
        elif value >= 1:
            yield Oddity((*place, key), f"{written}: almost no image {does}", "set a threshold below 1, such as 0.90")


def _negations(rule: Rule, place: Location) -> Iterator[Oddity]:
    for key, prompts in (("prompts", rule.prompts), ("contrast", rule.contrast)):
        for at, prompt in enumerate(prompts):
            match = _NEGATION.search(prompt)
            if match and not _SIGN.search(prompt):
                message = f"{prompt!r}: CLIP ignores {match[0]!r} and looks for the negated thing"
                yield Oddity((*place, key, at), message, "describe what the picture shows instead, or use `contrast`")


def _has_example(policy: Policy, rule: Rule) -> bool:
    return any(isinstance(e.expect, dict) and rule.id in e.expect for e in policy.examples)
