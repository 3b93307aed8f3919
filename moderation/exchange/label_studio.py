"""The queue as tasks for Label Studio, with what the machine said as predictions; and its export. Pure.

Shapes: https://labelstud.io/guide/predictions for tasks, https://labelstud.io/guide/task_format for JSON exports, and
https://labelstud.io/guide/export for JSON_MIN.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
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
from moderation.reviews.review import ReviewAction, Source, Verdict

LABEL_CONFIG = f"""<View>
  <Header value="$title"/>
  <Text name="about" value="$about"/>
  <Image name="image" value="$image" zoom="true"/>
  <Choices name="verdict" toName="image" choice="single-radio" required="true">
    {" ".join(f'<Choice value="{verdict}"/>' for verdict in Verdict)}
  </Choices>
  <Choices name="action" toName="image" choice="single-radio">
    {" ".join(f'<Choice value="{action}"/>' for action in ReviewAction)}
  </Choices>
  <TextArea name="reason" toName="image" placeholder="reason" maxSubmissions="1"/>
  <TextArea name="note" toName="image" placeholder="note" maxSubmissions="1"/>
</View>
"""
"""The labeling interface of the project."""

_KEPT = ("sha256", "rule", "run_id", "queue", "selection", "weight", "appeal_id", "blind")


def write_tasks(items: Iterable[QueueItem]) -> bytes:
    """A JSON array of tasks."""
    return (json.dumps([_task(item) for item in items], ensure_ascii=False, indent=1) + "\n").encode("utf-8", "surrogatepass")


def _task(item: QueueItem) -> dict[str, Any]:
    about = (item.appeal_text and f"appeal: {item.appeal_text}", item.last_note, item.suggestion)
    task: dict[str, Any] = {
        "data": {
            "image": item.uri,
            "uri": item.uri,
            "title": item.rule or "the whole image",
            "about": "\n".join(filter(None, about)),
            **{name: value for name, value in asdict(item).items() if name in _KEPT},
        }
    }
    if item.machine_action is not None and item.rule is not None:
        verdict = Verdict.FINE if item.machine_action == ReviewAction.ALLOW else Verdict.VIOLATES
        value = {"choices": [verdict.value]}
        result = {"id": "machine", "from_name": "verdict", "to_name": "image", "type": "choices", "value": value}
        prediction = {"model_version": f"{item.policy} {item.run_id}", "result": [result]}
        task["predictions"] = [prediction if item.score is None else {**prediction, "score": item.score}]
    return task


def read_export(data: bytes, name: str) -> ReviewFile:
    """The reviews in an export of Label Studio, JSON or JSON_MIN. A skipped task is reported, one without annotations is open.

    Raises:
        SettingsError: it is no such file.
    """
    tasks = _tasks(data, name)
    troubles, said, unanswered = Troubles(), list[Said](), 0
    for number, task in enumerate(tasks, 1):
        answers = list(_answers(task)) if isinstance(task, dict) else []
        if not isinstance(task, dict) or not isinstance(task.get("data", task), dict):
            troubles.add("this is no task of Label Studio: it has no `data`", number)
            continue
        unanswered += not answers
        for answer in answers:
            try:
                found = _said(number, task.get("data", task), answer)
            except (ValueError, TypeError, AttributeError) as error:
                wording = str(error) if isinstance(error, ValueError) else "an annotation is not in the shape of Label Studio"
                troubles.add(wording, number)
                continue
            if found is None:
                unanswered += 1
            else:
                said.append(found)
    return ReviewFile(name, Source.LABEL_STUDIO, "task", len(tasks), tuple(said), unanswered, troubles.remarks)


def _tasks(data: bytes, name: str) -> list[Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{visible(name)} is not JSON: {error}; export from Label Studio as JSON or JSON-MIN") from None
    if not isinstance(found, list):
        raise SettingsError(f"{visible(name)} is not an export of Label Studio: it must be a JSON array of tasks")
    return found


def _answers(task: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The annotations of a task; a task of JSON_MIN is one annotation itself."""
    if "data" in task:
        yield from task.get("annotations") or ()
    elif "annotator" in task or "verdict" in task or "action" in task:
        yield task


def _said(number: int, data: Mapping[str, Any], answer: Mapping[str, Any]) -> Said | None:
    if answer.get("was_cancelled"):
        raise ValueError("skipped in Label Studio")
    answers = dict(_results(answer)) if "result" in answer else {name: _first(answer.get(name)) for name in _CONTROLS}
    action = action_of(answers.get("action", ""))
    verdict = verdict_of(answers.get("verdict", ""), action)
    if verdict is None:
        return None
    uri = data.get("uri") or data.get("image")
    if not isinstance(uri, str) or not uri:
        raise ValueError("`data` has neither `uri` nor `image`")
    decided = moment_of(str(answer.get("updated_at") or answer.get("created_at") or ""), "updated_at")
    return Said(
        line=number,
        uri=uri,
        sha256=hash_of(_text(data.get("sha256")) or ""),
        rule=rule_of(str(data.get("rule") or "")),
        verdict=verdict,
        action=action,
        reason=answers.get("reason") or None,
        note=answers.get("note") or None,
        reviewer=_reviewer(answer.get("completed_by", answer.get("annotator"))),
        opened_at=_opened(decided, answer.get("lead_time")),
        decided_at=decided,
        queue=_text(data.get("queue")),
        selection=selection_of(_text(data.get("selection")) or ""),
        weight=weight_of(data.get("weight")),
        run_id=_text(data.get("run_id")),
        appeal_id=_text(data.get("appeal_id")),
        blind=bool(data.get("blind")),
    )


_CONTROLS = ("verdict", "action", "reason", "note")


def _results(annotation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """By control: the first choice, or the text."""
    for result in annotation["result"] or ():
        value = result.get("value") or {}
        if result.get("from_name") in _CONTROLS:
            yield result["from_name"], _first(value.get("choices") or value.get("text"))


def _first(value: Any) -> str:
    """The first text of what a control holds: `"fine"`, `["fine"]` or `{"choices": ["fine"]}`."""
    if isinstance(value, dict):
        value = value.get("choices") or value.get("text")
    if isinstance(value, list):
        value = value[0] if value else ""
    return value if isinstance(value, str) else ""


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _reviewer(who: Any) -> str | None:
    """The email address of an annotator, or the number that Label Studio gives people."""
    if isinstance(who, dict):
        who = who.get("email") or who.get("id")
    return None if who is None or who == "" else who if isinstance(who, str) else f"label-studio-{who}"


def _opened(decided: datetime | None, lead_time: Any) -> datetime | None:
    if decided is None or not isinstance(lead_time, int | float) or not 0 <= lead_time < 1e7:
        return None
    return decided - timedelta(seconds=lead_time)
