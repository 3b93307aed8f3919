"""What to write instead: hints beside the mistakes that pydantic finds in a policy. Pure."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from moderation.policy.dsa_keys import Dsa
from moderation.policy.model_choice import ModelChoice, Preprocess
from moderation.policy.numbers import did_you_mean
from moderation.policy.schema import DeclaredHead, Example, Labelled, ListedImages, Override, Policy, PolicyFile, Rule
from moderation.policy.score_kind import ScoreKind
from moderation.policy.yaml_source import Location

MESSAGES = {
    "string_type": "should be text",
    "tuple_type": "should be a list",
    "model_type": "should be a mapping",
    "model_attributes_type": "should be a mapping",
    "dict_type": "should be a mapping",
    "float_type": "should be a number",
    "finite_number": "should be a finite number",
    "bool_type": "should be true or false",
    "too_short": "should have at least one entry",
    "string_too_short": "should not be empty",
    "string_pattern_mismatch": "is not a valid name",
    "date_from_datetime_parsing": "should be a date",
    "date_parsing": "should be a date",
    "date_type": "should be a date",
}
"""Pydantic's error types in the words of YAML."""

_HINTS = {
    "string_type": "put quotes around it",
    "tuple_type": "write [one thing, another thing], or a line with `- ` for each",
    "model_type": "write {key: value}, or a line for each key",
    "model_attributes_type": "write {key: value}, or a line for each key",
    "dict_type": "write {key: value}, or a line for each key",
    "float_type": "write a number from 0 to 1 such as 0.60, with a point and without quotes",
    "finite_number": "write a number from 0 to 1 such as 0.60",
    "three_numbers": "for example [0.48, 0.46, 0.41]",
    "less_than_equal": "write a number from 0 to 1 such as 0.60",
    "greater_than_equal": "write a number from 0 to 1 such as 0.60",
    "string_too_short": "write a text, or remove the line",
    "too_short": "add an entry, or remove the line",
    "string_pattern_mismatch": "use small letters a-z, 0-9 and -, and in rule ids _ too",
    "date_from_datetime_parsing": "write 2026-12-31",
    "date_parsing": "write 2026-12-31",
    "date_type": "write 2026-12-31",
}

MANY_VALUES = 6
"""More values than this are not listed in a message."""

MISSING = {
    "policy": "add a line `policy: my-policy`",
    "model": "add a line `model: {name: demo}`, or the model you use",
    "rules": "add `rules:` with a rule below it",
    "id": "add `id: a-short-name` to the rule",
    "labels": "write {labels: file.csv} or {images: file.csv}",
    "file": "name the list's file, relative to this file",
    "hash": "say what the list holds: pdq, sha256 or md5",
    "action": "say what happens to an image on the list: block, review or allow",
    "name": "name a model: demo, ViT-B-32, hf-hub:...",
    "image": "name the image, relative to this file",
    "category": "add `category: STATEMENT_CATEGORY_...`, the kind of violation (docs/dsa.md)",
    "decision_ground": "add `decision_ground:` with DECISION_GROUND_ILLEGAL_CONTENT or DECISION_GROUND_INCOMPATIBLE_CONTENT",
    "expect": "say what is expected: allow, review, block, or {rule: action}",
}


_MEANT = {
    "live": "on yes true active enabled enable an aktiv ja oui si 1 act acting production prod",
    "off": "no false disabled disable inactive aus nein non 0 none paused",
    "shadow": "test trial dry-run dryrun monitor observe silent log preview",
    "allow": "pass ok accept accepted approve approved allowed fine none ignore",
    "review": "human manual flag flagged check person people queue escalate",
    "block": "reject rejected deny denied remove delete ban blocked forbid hide",
    "critical": "urgent severe highest very-high kritisch",
    "high": "major hoch important",
    "medium": "mid moderate normal middle mittel average",
    "low": "minor small niedrig lowest",
    **{kind.value: kind.facts.synonyms for kind in ScoreKind},
}
"""Words that people write for a value."""


def key_hint(location: Location) -> str:
    """The key that was meant by an unknown one, and all that are known at its place."""
    given = str(location[-1])
    fields = list(_model_at(location[:-1]).model_fields)
    close = difflib.get_close_matches(_as_key(given), fields, n=1, cutoff=0.55)
    if given.strip().isdigit():
        return "is this the part of a number after a decimal comma? write it with a point, such as 0.60"
    if re.fullmatch(r"-+\w+", given):
        return f"put a space after the dash: `- {given.lstrip('-')}`"
    if " " in given.strip() and not close:
        return "a key is one word: remove this line, or put `#` before it"
    elsewhere = {_as_key(given)} & set(Rule.model_fields if len(location) == 1 else Policy.model_fields)
    if elsewhere and not close:
        where = (
            "a rule: indent it like the other keys of its rule" if len(location) == 1 else "the whole policy: do not indent it"
        )
        return f"`{elsewhere.pop()}` belongs to {where}"
    return (f"did you mean `{close[0]}`? " if close else "") + f"known keys: {', '.join(fields)}"


def misspelt(missing: str, present: Iterable[object], location: Location) -> bool:
    """Whether a key that is missing is there, with capitals or a slip: then the unknown key says it all."""
    known = _model_at(location).model_fields
    strange = [_as_key(str(key)) for key in present if str(key) not in known]
    return bool(difflib.get_close_matches(missing, strange, n=1, cutoff=0.55))


def value_hint(details: ErrorDetails, location: Location, content: Any) -> str:
    """What to write in the place of a wrong value."""
    given, kind = details["input"], details["type"]
    if kind in ("enum", "literal_error"):
        values = re.findall(r"'([^']+)'", str(details.get("ctx", {}).get("expected", "")))
        word = str(given).strip().lower()
        close = [v for v in values if word.replace(" ", "-") in _MEANT.get(v, "").split()]
        if len(values) > MANY_VALUES:
            return _near_values(word, values)
        close = close or difflib.get_close_matches(word, values, n=1, cutoff=0.5)
        return f"did you mean `{close[0]}`?" if close else f"write {' or '.join(f'`{v}`' for v in values)}"
    if kind == "less_than_equal" and "preprocess" in details["loc"]:
        return "pixels are between 0 and 1 here: divide by 255"
    if kind in ("float_type", "finite_number", "less_than_equal", "greater_than_equal"):
        meant = did_you_mean(given, _lowest(location, content))
        if meant and isinstance(given, str):
            meant += " write it without quotes" if re.fullmatch(r"-?\d*\.?\d+", given.strip()) else ""
            meant += " a comment needs a space before its `#`" if "#" in given else ""
        return meant or _HINTS[kind]
    if kind == "string_pattern_mismatch" and "head" in location:
        return "a fingerprint has 16 digits 0-9 and a-f: it is in the column `model_fingerprint` of results of that model"
    if kind == "string_pattern_mismatch" and isinstance(given, str):
        name = re.sub(r"[^a-z0-9_-]+", "-", given.strip().lower()).strip("-_")[:63]
        name = name.replace("_", "-") if location == ("policy",) else name
        return _HINTS[kind] + (f": `{name}`" if name else "")
    if kind == "string_type":
        return _text_hint(given)
    if kind == "tuple_type" and isinstance(given, str):
        parts = [part.strip(" -–•*") for part in re.split(r"[,;\n]| [-–•*] ", given)]
        return f"write [{', '.join(part for part in parts if part)[:80]}], or a line with `- ` for each"
    return _HINTS.get(kind, "")


def _near_values(word: str, values: list[str]) -> str:
    """Of many values in capitals, such as those of `dsa`, the nearest."""
    by_text = {value.lower(): value for value in values}
    near = [by_text[text] for text in difflib.get_close_matches(word.replace(" ", "_"), by_text, n=3, cutoff=0.4)]
    return f"did you mean {' or '.join(f'`{value}`' for value in near)}?" if near else "docs/dsa.md lists the values"


def _text_hint(given: object) -> str:
    if given is None:
        return "write a text after the dash, or remove the line"
    if isinstance(given, dict) and len(given) == 1:
        ((key, value),) = given.items()
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return f'`: ` turns it into a key and a value; put quotes around all of it: "{key}: {value}"'
    if isinstance(given, list):
        return "this is a list within a list: remove one dash or one pair of brackets"
    if isinstance(given, int | float) and not isinstance(given, bool):
        return f'put quotes around it: "{given}"'
    return "put quotes around it"


def _lowest(location: Location, content: Any) -> float:
    """-1 for thresholds of similarity rules, else 0."""
    if location[:1] == ("rules",) and len(location) > 1 and isinstance(location[1], int):
        rule = content["rules"][location[1]]
        return -1.0 if isinstance(rule, dict) and rule.get("score") == "similarity" else 0.0
    return 0.0


def _as_key(given: str) -> str:
    return re.sub(r"[ -]+", "_", given.strip().lower())


def _model_at(location: Location) -> type[BaseModel]:
    if location[:2] == ("model", "preprocess"):
        return Preprocess
    if "dsa" in location[:3]:
        return Dsa
    if location[:1] == ("background",) or location[2:3] in (("like",), ("unlike",)):
        return Labelled
    if location[:1] == ("rules",) and location[2:3] == ("head",):
        return DeclaredHead
    parts: dict[str, type[BaseModel]] = {
        "rules": Rule,
        "examples": Example,
        "model": ModelChoice,
        "overrides": Override,
        "lists": ListedImages,
    }
    return parts.get(str(location[0]), PolicyFile) if location else PolicyFile
