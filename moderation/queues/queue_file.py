"""Reading `queues.yaml`: YAML to checked queues, every mistake at once and each with its place."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from moderation.common.findings import Finding
from moderation.errors import SettingsError
from moderation.policy.yaml_models import FileKind, ReadFile, json_schema, parse_file, read_file
from moderation.policy.yaml_source import Location, Source
from moderation.query.condition import Condition
from moderation.queues.golden import read_golden
from moderation.queues.queue_schema import DEFAULT, Queue, QueueFile
from moderation.reviews.appeal import QUEUE as APPEALS_QUEUE


def read_queues(path: Path | None) -> ReadFile[QueueFile]:
    """Read and check a file of queues and the known answers that it names; None gives the default queues. Never raises."""
    return ReadFile(DEFAULT) if path is None else read_file(path, _KIND)


def parse_queues(text: str, name: str = "queues") -> ReadFile[QueueFile]:
    """Check the text of a file; `name` is what messages call it, and paths in it are relative to its folder."""
    return parse_file(text, name, _KIND)


def load_queues(path: Path | None) -> QueueFile:
    """The queues of a file; None gives the default queues. Raises `SettingsError` that lists every mistake."""
    read = read_queues(path)
    if read.content is None:
        raise SettingsError("\n".join(str(finding) for finding in read.findings))
    return read.content


def golden_path(file: Path | None, queue: Queue) -> Path:
    """Where the known answers of a queue are; `file`: the file that has the queue."""
    return (file.parent if file else Path()) / (queue.golden.path if queue.golden else "")


def queues_schema() -> dict[str, object]:
    """The JSON Schema (draft 2020-12) of a file of queues, for completion in editors."""
    found = json_schema(QueueFile, "clip-moderation queues")
    found["$defs"]["Queue"]["properties"]["golden"]["anyOf"].insert(0, {"type": "string"})
    return found


def _more(source: Source) -> list[Finding]:
    """Names that appear twice, conditions that DuckDB does not understand, known answers that cannot be read."""
    queues = source.content.get("queues")
    findings = []
    first: dict[object, int] = {}
    for at, queue in enumerate(queues if isinstance(queues, list) else []):
        if isinstance(queue, dict):
            findings += [source.finding(("queues", at, *place), *text) for place, *text in _of_queue(queue, source.name)]
            number = first.setdefault(str(queue.get("name")), at) + 1
            if number <= at and "name" in queue:
                message = f"the queue {queue['name']!r} appears twice, first as number {number}"
                findings.append(source.finding(("queues", at, "name"), message, "give it another name"))
    return findings


def _of_queue(queue: Mapping[str, Any], file: str) -> Iterator[tuple[Location, str, str]]:
    """Place, message and hint of what is wrong in a queue, whose values may be anything."""
    if queue.get("name") == APPEALS_QUEUE:
        yield ("name",), f"`{APPEALS_QUEUE}` is the queue of appeals", "use another name"
    if queue.get("reason_required") is True and not queue.get("reasons"):
        yield ("reason_required",), "a reason is required, and there are none to choose from", "add `reasons: [...]`"
    audit, golden = queue.get("audit"), queue.get("golden")
    for place, sql in ((("where",), queue.get("where")), (("audit", "where"), _inside(audit, "where"))):
        if isinstance(sql, str) and sql.strip() and (wrong := _wrong(sql)):
            yield place, wrong, ""
    place, path = (("golden",), golden) if isinstance(golden, str) else (("golden", "path"), _inside(golden, "path"))
    if isinstance(path, str) and path.strip():
        for mistake in read_golden(Path(file).parent / path).mistakes:
            yield place, mistake, ""


def _inside(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _wrong(sql: str) -> str | None:
    try:
        with Condition(sql, "`where`"):
            return None
    except SettingsError as error:
        return str(error)


_KIND = FileKind(
    model=QueueFile,
    name="queues",
    begin="start with `queues:`, and a line `- name: review` below it",
    missing={
        "queues": "add `queues:` with a line `- name: review` below it",
        "name": "add `name: a-short-name` to the queue",
        "path": "add `path: golden.csv`, a file of known answers",
    },
    more=_more,
)
