"""What changed between two policies in meaning, not in text."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel

from moderation.policy.assets import Assets
from moderation.policy.schema import Mode, Policy, Rule

Kind = Literal["added", "removed", "renamed", "changed"]


class Effect(StrEnum):
    """What a change can do to a later run, strongest first."""

    EMBEDDINGS = "embeddings"
    """another model: every image is embedded again"""
    SCORES = "scores"
    """scores, and so decisions"""
    DECISIONS = "decisions"
    """decisions; scores stay"""
    REPORTS = "reports"
    """values stored with a decision; no image's action"""
    NOTHING = "nothing"
    """no decision: for people to read"""


EFFECTS: Mapping[str, Effect] = {
    "category": Effect.REPORTS,
    "severity": Effect.REPORTS,
    "mode": Effect.DECISIONS,
    "prompts": Effect.SCORES,
    "contrast": Effect.SCORES,
    "score": Effect.SCORES,
    "like": Effect.SCORES,
    "unlike": Effect.SCORES,
    "head": Effect.SCORES,
    "background": Effect.SCORES,
    "lists": Effect.DECISIONS,
    "review": Effect.DECISIONS,
    "block": Effect.DECISIONS,
    "model": Effect.EMBEDDINGS,
    "templates": Effect.SCORES,
    "unreadable": Effect.DECISIONS,
    "unsupported": Effect.DECISIONS,
    "near": Effect.REPORTS,
    "policy": Effect.REPORTS,
    "version": Effect.NOTHING,
    "owner": Effect.NOTHING,
    "description": Effect.NOTHING,
    "examples": Effect.NOTHING,
    "maps_to": Effect.NOTHING,
    "dsa": Effect.NOTHING,
    "review_by": Effect.NOTHING,
}
"""What changing a key can do. Every key of a policy and of its rules is here."""

_ORDER = list(Effect)
_SHOWN = 5
"""Exemplars named of those that one policy has and the other has not."""
_IDENTITY = {"id", "rules"}


@dataclass(frozen=True, slots=True)
class Change:
    """One change in meaning."""

    rule: str | None
    """id of the rule, the new one if it was renamed; None for the policy as a whole"""
    key: str
    """the key that changed; `id` for a rule that was added, removed or renamed"""
    kind: Kind
    old: str | float | None
    new: str | float | None
    effect: Effect

    @property
    def note(self) -> str:
        """What it means for images, in words; empty where `effect` says it all."""
        if self.key in ("review", "block") and self.effect is Effect.DECISIONS:
            old, new = (float("inf") if t is None else float(t) for t in (self.old, self.new))
            return f"more images reach {self.key}" if new < old else f"fewer images reach {self.key}"
        return _NOTES[self.effect]


_NOTES: Mapping[Effect, str] = {
    Effect.EMBEDDINGS: "every image is embedded again; scores cannot be compared with earlier ones",
    Effect.SCORES: "changes scores and decisions",
    Effect.DECISIONS: "changes decisions",
    Effect.REPORTS: "changes no image's action",
    Effect.NOTHING: "changes no decision",
}


def compare(old: Policy, new: Policy) -> tuple[Change, ...]:
    """Every change from `old` to `new`: the policy's own keys first, then rules, removed ones last.

    The order of rules, prompts, templates and examples means nothing and is no change. A rule that has another id and looks
    for the same prompts among the same lookalikes was renamed.
    """
    changes = [*_policy_changes(old, new), *_asset_changes(old, new)]
    before, after = {rule.id: rule for rule in old.rules}, {rule.id: rule for rule in new.rules}
    renamed = _renamed(before, after)
    for rule in new.rules:
        if rule.id in before:
            changes += _rule_changes(before[rule.id], rule)
        elif rule.id in renamed:
            was = before[renamed[rule.id]]
            changes.append(Change(rule.id, "id", "renamed", was.id, rule.id, Effect.REPORTS))
            changes += _rule_changes(was, rule)
        else:
            changes.append(Change(rule.id, "id", "added", None, rule.id, _weight(rule)))
    gone = before.keys() - after.keys() - set(renamed.values())
    changes += [Change(rule.id, "id", "removed", rule.id, None, _weight(rule)) for rule in old.rules if rule.id in gone]
    return tuple(changes)


def identity(old: Policy, new: Policy, changes: tuple[Change, ...]) -> str:
    """Whether the content hash changed, why or why not, and what the next run will do about it: one or two sentences."""
    if old.hash == new.hash:
        return "The identity is the same: it does not cover comments, layout and `dsa`. Nothing is re-decided."
    again = "The next run re-decides every image from its stored embedding."
    if not changes:
        return f"The identity changed but the meaning did not: rules, prompts or examples are in a different order. {again}"
    if any(change.effect is Effect.EMBEDDINGS for change in changes):
        return "The identity and the model changed: the next run embeds and decides every image again."
    if all(change.effect is Effect.NOTHING for change in changes):
        return f"The identity changed, since it also covers texts and examples; no decision will change. {again}"
    return f"The identity changed. {again}"


def _policy_changes(old: Policy, new: Policy) -> Iterator[Change]:
    contrasting = any(rule.score.facts.uses_contrast for rule in (*old.active_rules, *new.active_rules))
    for key in type(new).model_fields:
        if key in _IDENTITY:
            continue
        effect = Effect.NOTHING if key == "contrast" and not contrasting else EFFECTS[key]
        if key == "model":
            if old.model != new.model:
                yield Change(None, key, "changed", old.model.described, new.model.described, effect)
        elif key == "lists":
            yield from _mapping_changes(None, key, _lists(old), _lists(new), effect)
        elif key == "examples":
            yield from _mapping_changes(None, key, _expectations(old), _expectations(new), effect)
        else:
            yield from _value_changes(None, key, getattr(old, key), getattr(new, key), effect)


def _asset_changes(old: Policy, new: Policy) -> Iterator[Change]:
    """Files that both policies name and whose content changed."""
    before, after = old.assets.digests, new.assets.digests
    for name in sorted(before.keys() & after.keys()):
        if before[name] != after[name]:
            kind, _, whose = name.partition(" ")
            was, now = (f"{whose} with the content {digest[:8]}".strip() for digest in (before[name], after[name]))
            if kind == "exemplars":
                was, now = _images(old.assets, new.assets) or was, _images(new.assets, old.assets) or now
            rule, key, effect = whose if kind == "head" else None, kind, Effect.SCORES
            if kind == "list":
                key, effect = "lists", Effect.DECISIONS
            yield Change(rule, key, "changed", was, now, effect)


def _images(ours: Assets, theirs: Assets) -> str:
    """Exemplars of one side alone, by name and content."""
    alone = [f"{one.name} ({digest[:8]})" for digest, one in ours.images.items() if digest not in theirs.images]
    more = f" and {len(alone) - _SHOWN:,} more" if len(alone) > _SHOWN else ""
    return ", ".join(sorted(alone)[:_SHOWN]) + more


def _lists(policy: Policy) -> dict[str, str]:
    return {one.id: str(_plain(one.model_dump(mode="json", exclude_defaults=True, exclude={"id"}))) for one in policy.lists}


def _rule_changes(old: Rule, new: Rule) -> Iterator[Change]:
    for key in type(new).model_fields:
        if key not in _IDENTITY:
            yield from _value_changes(new.id, key, getattr(old, key), getattr(new, key), _effect(key, old, new))


def _value_changes(rule: str | None, key: str, old: Any, new: Any, effect: Effect) -> Iterator[Change]:
    """Of a key of any kind: lists of texts by what came and went, everything else by its value."""
    if isinstance(old, tuple) and isinstance(new, tuple):
        yield from (Change(rule, key, "added", None, text, effect) for text in map(_plain, new) if text not in map(_plain, old))
        yield from (
            Change(rule, key, "removed", text, None, effect) for text in map(_plain, old) if text not in map(_plain, new)
        )
    elif old != new:
        yield Change(rule, key, "changed", _plain(old), _plain(new), effect)


def _mapping_changes(
    rule: str | None, key: str, old: Mapping[str, str], new: Mapping[str, str], effect: Effect
) -> Iterator[Change]:
    for name in dict.fromkeys((*new, *old)):
        was, now = (f"{name}: {side[name]}" if name in side else None for side in (old, new))
        if was != now:
            yield Change(rule, key, "added" if was is None else "removed" if now is None else "changed", was, now, effect)


def _expectations(policy: Policy) -> dict[str, str]:
    """What is expected of each image, in a settled order."""
    found: dict[str, list[str]] = {}
    for example in policy.examples:
        expect = example.expect
        message = (
            expect.value if not isinstance(expect, dict) else ", ".join(f"{r} {a.value}" for r, a in sorted(expect.items()))
        )
        found.setdefault(example.image, []).append(message)
    return {image: "; ".join(sorted(expected)) for image, expected in found.items()}


def _plain(value: Any) -> str | float | None:
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, default=str, sort_keys=True, ensure_ascii=False)
    return str(value)


def _effect(key: str, old: Rule, new: Rule) -> Effect:
    """What changing a key of a rule can do: less than `EFFECTS` says if the rule acts in neither version."""
    effect = EFFECTS[key]
    if key == "mode":
        effect = Effect.SCORES if Mode.OFF in (old.mode, new.mode) else Effect.DECISIONS
    elif new.mode is Mode.OFF or (key == "contrast" and not any(rule.score.facts.uses_contrast for rule in (old, new))):
        return Effect.NOTHING
    elif old.mode is Mode.OFF and effect is Effect.DECISIONS:  # there are no scores yet whose decisions could change
        effect = Effect.SCORES
    most = min(_weight(old), _weight(new), key=_ORDER.index)
    return max(effect, most, key=_ORDER.index)


def _weight(rule: Rule) -> Effect:
    """What adding or removing a rule can do."""
    return {Mode.LIVE: Effect.SCORES, Mode.SHADOW: Effect.REPORTS, Mode.OFF: Effect.NOTHING}[rule.mode]


def _renamed(before: Mapping[str, Rule], after: Mapping[str, Rule]) -> dict[str, str]:
    """New id to old id, of rules that were removed and added with the same content, each reported once."""
    gone = {id_: _content(rule) for id_, rule in before.items() if id_ not in after}
    found: dict[str, str] = {}
    for id_, rule in after.items():
        if id_ not in before:
            was = next((old for old, content in gone.items() if content == _content(rule)), None)
            if was is not None:
                found[id_] = was
                del gone[was]
    return found


def _content(rule: Rule) -> tuple[object, ...]:
    """What a rule looks for, whatever it is called and in whatever order it is written."""
    images = (frozenset(map(_plain, found)) for found in (rule.like, rule.unlike))
    return rule.score, frozenset(rule.prompts), frozenset(rule.contrast), str(rule.head), *images
