"""What must hold between the parts of a policy. Works on plain values, to tell what it can of a half-broken file too."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

from moderation.policy.model_choice import is_path
from moderation.policy.numbers import written
from moderation.policy.score_kind import ScoreKind
from moderation.policy.yaml_source import Location


class Mistake(NamedTuple):
    """A contradiction within a policy."""

    location: Location
    message: str
    hint: str = ""


_NEEDED = {
    "prompts": 'add `prompts: ["what the image would show"]`',
    "like": "add `like: [examples/one.jpg, examples/two.jpg]`",
    "head": "add `head: heads/file.safetensors`, as `moderate policy learn` writes it",
}


def mistakes(policy: Mapping[str, Any]) -> list[Mistake]:
    """Every contradiction in a policy given as plain values. Parts of a wrong type are passed over: others tell those."""
    found = [*_model(policy.get("model")), *_templates(policy), *_repeats(policy.get("contrast"), ("contrast",))]
    rules = [(i, rule) for i, rule in enumerate(_list(policy.get("rules"))) if isinstance(rule, Mapping)]
    shared = _texts(policy.get("contrast"))
    first: dict[str, int] = {}
    for at, rule in rules:
        rule_id = rule.get("id")
        if isinstance(rule_id, str):
            if rule_id in first:
                message = f"two rules have the id {rule_id!r}"
                found.append(Mistake(("rules", at, "id"), message, "give each rule its own id"))
            first.setdefault(rule_id, at)
        found.extend(_needs(rule, ("rules", at), background=bool(policy.get("background"))))
        found.extend(_prompts(rule, ("rules", at), shared))
        found.extend(_thresholds(rule, ("rules", at)))
    if rules and all(rule.get("mode") == "off" for _, rule in rules):
        found.append(Mistake(("rules",), "every rule is off: there is nothing to score", "set `mode: shadow` to try a rule"))
    found += _repeated_ids(policy.get("lists"), "lists")
    for at, one in enumerate(_list(policy.get("lists"))):
        if isinstance(one, Mapping):
            found.extend(_hash_list(one, ("lists", at), first))
    for at, example in enumerate(_list(policy.get("examples"))):
        expected = example.get("expect") if isinstance(example, Mapping) else None
        for rule_id in expected if isinstance(expected, Mapping) and first else ():
            if rule_id not in first and rule_id not in {re.sub(r"[^a-z0-9]+", "-", known_id.lower()) for known_id in first}:
                message = f"the example names the unknown rule {rule_id!r}"
                found.append(Mistake(("examples", at, "expect", str(rule_id)), message, known("rules", rule_id, first)))
    return found


def _repeated_ids(parts: Any, key: str) -> Iterator[Mistake]:
    seen: set[object] = set()
    for at, part in enumerate(_list(parts)):
        name = part.get("id") if isinstance(part, Mapping) else None
        if isinstance(name, str) and name in seen:
            yield Mistake((key, at, "id"), f"two {key} have the id {name!r}", "give each its own id")
        seen.add(name)


def _hash_list(one: Mapping[str, Any], place: Location, rules: Mapping[str, int]) -> Iterator[Mistake]:
    """An id that a rule has, and keys that are for another kind of hash. Results name rules and lists in the same columns."""
    name, kind = one.get("id"), one.get("hash")
    if isinstance(name, str) and name in rules:
        message = f"a rule has the id {name!r} as well: results could not tell them apart"
        yield Mistake((*place, "id"), message, "give the list another id")
    for key, usual in (("distance", 31), ("min_quality", 50), ("turned", False)):
        if kind in ("sha256", "md5") and key in one and one[key] != usual:
            message = f"`{key}` is for lists of PDQ hashes: {kind} matches the same bytes and nothing else"
            yield Mistake((*place, key), message, "remove it, or set `hash: pdq`")


def known(what: str, given: object, choices: Mapping[str, Any] | list[str]) -> str:
    """A hint that lists what there is and names the nearest."""
    names = list(choices)
    close = difflib.get_close_matches(str(given), names, n=1, cutoff=0.55)
    listed = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return (f"did you mean `{close[0]}`? " if close else "") + f"{what}: {listed or 'none'}"


def _model(model: Any) -> Iterator[Mistake]:
    if not isinstance(model, Mapping):
        return
    name, pretrained = model.get("name"), model.get("pretrained")
    if isinstance(pretrained, str) and "://" in pretrained:
        message = f"weights are read from a file of the machine that scores, not from {pretrained.partition('://')[0]}://"
        yield Mistake(("model", "pretrained"), message, "copy them to each of these machines, and give their path")
    says = f"the tag {pretrained!r}" if isinstance(pretrained, str) and not is_path(pretrained) else None
    if name == "demo":
        says = "the demo model"
    for key in ("preprocess", "quick_gelu"):
        if says and model.get(key) is not None:
            message = f"`{key}` is only for a checkpoint given by its path: {says} has its own"
            yield Mistake(("model", key), message, f"leave `{key}` out")


def _templates(policy: Mapping[str, Any]) -> Iterator[Mistake]:
    yield from _repeats(policy.get("templates"), ("templates",))
    for at, template in enumerate(_list(policy.get("templates"))):
        if isinstance(template, str) and not (template.count("{}") == template.count("{") == template.count("}") == 1):
            message = f"the template {template!r} must contain {{}} exactly once, where the prompt goes"
            yield Mistake(("templates", at), message, 'for example "a photo of {}"')


def _prompts(rule: Mapping[str, Any], place: Location, shared: list[str]) -> Iterator[Mistake]:
    yield from _repeats(rule.get("prompts"), (*place, "prompts"))
    yield from _repeats(rule.get("contrast"), (*place, "contrast"))
    own, lookalikes = _texts(rule.get("prompts")), _texts(rule.get("contrast"))
    for at, text in enumerate(_list(rule.get("prompts"))):
        prompt = text.strip() if isinstance(text, str) else text
        if prompt in lookalikes or prompt in shared:
            yield Mistake((*place, "prompts", at), f"{prompt!r} is both a prompt and contrast", "remove it from one of them")
    kind = _kind(rule)
    if kind is not None and kind.facts.uses_contrast and own and not lookalikes and not shared:
        message = f"the rule {rule.get('id')!r} is scored by {kind} but has nothing to contrast with"
        yield Mistake(place, message, "add `contrast:` with lookalikes, to the rule or to the whole policy")


def _needs(rule: Mapping[str, Any], place: Location, *, background: bool) -> Iterator[Mistake]:
    """The key that a rule's kind of score needs, and keys that are for other kinds."""
    kind = _kind(rule)
    if kind is None:
        return
    needed = kind.facts.needs
    if needed in rule and rule[needed] in ([], ()):
        yield Mistake((*place, needed), f"`{needed}` should have at least one entry", "add an entry, or remove the line")
    elif rule.get(needed) is None and not difflib.get_close_matches(
        needed, [k for k in map(_as_key, rule) if k != "unlike"], cutoff=0.55
    ):
        why = "" if needed == "prompts" else f": the rule has `score: {kind}`"
        yield Mistake(place, f"the key `{needed}` is missing{why}", _NEEDED[needed])
    for key, owner in (("like", ScoreKind.EXAMPLES), ("unlike", ScoreKind.EXAMPLES), ("head", ScoreKind.HEAD)):
        if rule.get(key) and kind is not owner:
            yield Mistake((*place, key), f"`{key}` is for rules with `score: {owner}`", f"add `score: {owner}`, or remove it")
    if needed == "like" and rule.get("prompts"):  # a head may have been learned from where they point
        message = f"`prompts` has no effect on a rule with `score: {kind}`"
        yield Mistake((*place, "prompts"), message, "remove it, or write a rule of its own for the words")
    if kind is ScoreKind.EXAMPLES and rule.get("like") and not rule.get("unlike") and not background:
        message = f"the rule {rule.get('id')!r} has nothing to compare its exemplars with"
        hint = "draw ordinary images with `moderate policy background`, or add `unlike:` to the rule"
        yield Mistake(place, message, hint)


def _thresholds(rule: Mapping[str, Any], place: Location) -> Iterator[Mistake]:
    review, block = rule.get("review"), rule.get("block")
    name = repr(rule.get("id"))
    if rule.get("mode", "live") != "off" and review is None and block is None:
        yield Mistake(place, f"the rule {name} has no threshold", "give `review: 0.6`, `block: 0.9` or both")
    if _number(review) and _number(block) and block < review <= 1:
        yield Mistake((*place, "review"), f"review ({review}) is above block ({block})", "set review at or below block")
    kind = _kind(rule)
    if kind is not None:
        low, high = kind.facts.low, kind.facts.high
        for key, value in (("review", review), ("block", block)):
            if _number(value) and -1 <= value < low:
                message = f"a {kind} score is between {low:g} and {high:g}, and so are its thresholds"
                others = " and ".join(f"`score: {other}`" for other in ScoreKind if other.facts.low < 0)
                hint = f"did you mean {written(-value)}? only {others} has thresholds below 0"
                yield Mistake((*place, key), message, hint)


def _kind(rule: Mapping[str, Any]) -> ScoreKind | None:
    """How the rule is scored; None where it names no kind that there is."""
    return ScoreKind.written(rule.get("score", ScoreKind.CONTRAST))


def _as_key(given: object) -> str:
    return re.sub(r"[ -]+", "_", str(given).strip().lower())


def _repeats(texts: Any, place: Location) -> Iterator[Mistake]:
    seen: set[str] = set()
    for at, text in enumerate(_list(texts)):
        if isinstance(text, str):
            if text.strip() in seen:
                yield Mistake((*place, at), f"{text!r} appears twice", "remove one of them")
            seen.add(text.strip())


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _texts(value: Any) -> list[str]:
    return [text.strip() for text in _list(value) if isinstance(text, str)]


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
