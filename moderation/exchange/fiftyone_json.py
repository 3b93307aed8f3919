"""The queue as samples for FiftyOne, with what the machine said as classifications; and what it writes. Pure.

The shape is that of `Dataset.write_json` and `Dataset.from_json`: an object with `samples`, each with its `filepath` and
fields, of which a classification is `{"_cls": "Classification", "label": …, "confidence": …}`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from moderation.common.safe_text import visible
from moderation.errors import SettingsError
from moderation.exchange.queue_item import QueueItem
from moderation.exchange.said import (
    ReviewFile,
    Said,
    Troubles,
    action_of,
    hash_of,
    moment_of,
    rule_of,
    selection_of,
    verdict_of,
    weight_of,
)
from moderation.reviews.review import Source

_KEPT = ("uri", "sha256", "rule", "category", "policy", "run_id", "queue", "selection", "weight", "appeal_id", "blind")
_SHOWN = ("suggestion", "appeal_text", "last_note")
_LOCAL = "file://"


def write_samples(items: Iterable[QueueItem], name: str) -> bytes:
    """A dataset of this name."""
    dataset = {"name": name, "media_type": "image", "samples": [_sample(item) for item in items]}
    return (json.dumps(dataset, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "surrogatepass")


def _sample(item: QueueItem) -> dict[str, Any]:
    facts = {key: value for key, value in asdict(item).items() if key in (*_KEPT, *_SHOWN) and value is not None}
    sample = {"filepath": item.uri.removeprefix(_LOCAL), "tags": [item.queue], **facts}
    if item.machine_action is not None:
        said = {"_cls": "Classification", "label": item.machine_action}
        sample["machine"] = said if item.score is None else {**said, "confidence": item.score}
    return sample


def read_samples(data: bytes, name: str) -> ReviewFile:
    """The reviews in a dataset: samples with the classification, or the text, `verdict`; and perhaps `action`.

    Raises:
        SettingsError: it is no such file.
    """
    try:
        dataset = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{visible(name)} is not JSON: {error}; write it with `dataset.write_json(…)`") from None
    samples = dataset.get("samples") if isinstance(dataset, dict) else None
    if not isinstance(samples, list):
        raise SettingsError(f"{visible(name)} is not a dataset of FiftyOne: it must be a JSON object with an array `samples`")
    troubles, said, unanswered = Troubles(), list[Said](), 0
    for number, sample in enumerate(samples, 1):
        try:
            found = _said(number, sample)
        except (ValueError, TypeError, AttributeError) as error:
            wording = str(error) if isinstance(error, ValueError) else "this is no sample of FiftyOne"
            troubles.add(wording, number)
            continue
        if found is None:
            unanswered += 1
        else:
            said.append(found)
    return ReviewFile(name, Source.FIFTYONE, "sample", len(samples), tuple(said), unanswered, troubles.remarks)


def _said(number: int, sample: Mapping[str, Any]) -> Said | None:
    action = action_of(_label(sample.get("action")))
    verdict = verdict_of(_label(sample.get("verdict")), action)
    if verdict is None:
        return None
    uri = _text(sample, "uri") or _text(sample, "filepath")
    if uri is None:
        raise ValueError("the sample has neither `uri` nor `filepath`")
    return Said(
        line=number,
        uri=f"{_LOCAL}{uri}" if uri.startswith("/") else uri,
        sha256=hash_of(_text(sample, "sha256") or ""),
        rule=rule_of(_text(sample, "rule") or ""),
        verdict=verdict,
        action=action,
        reason=_label(sample.get("reason")) or None,
        note=_text(sample, "note"),
        reviewer=_text(sample, "reviewer"),
        decided_at=moment_of(_text(sample, "decided_at") or ""),
        queue=_text(sample, "queue"),
        selection=selection_of(_text(sample, "selection") or ""),
        weight=weight_of(sample.get("weight")),
        run_id=_text(sample, "run_id"),
        appeal_id=_text(sample, "appeal_id"),
        blind=bool(sample.get("blind")),
    )


def _label(value: Any) -> str:
    """The label of a classification, or a text."""
    found = value.get("label") if isinstance(value, dict) else value
    return found if isinstance(found, str) else ""


def _text(sample: Mapping[str, Any], name: str) -> str | None:
    value = sample.get(name)
    return value if isinstance(value, str) and value else None
