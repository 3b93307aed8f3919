"""Entries of ThreatExchange's JSON: answers of `/threat_updates` and `/threat_descriptors`, arrays and JSON lines of the same.

Objects are read one by one, so that a file of any size needs the memory of its largest object.
"""

import io
import json
from collections.abc import Iterator
from typing import Any

from moderation.lists.entry_rows import Row
from moderation.lists.problems import Problems

MAX_OBJECT = 1 << 20
"""Characters of one entry with its descriptors; a longer one ends the reading."""
_PIECE = 1 << 20
_DECODER = json.JSONDecoder()
_GAPS = " \t\r\n,"


class _Text:
    """The text of a stream from a moving place on, with the number of the line there."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._reader = io.TextIOWrapper(stream, "utf-8-sig", newline="")
        self.buffer, self.at, self.line, self.start, self.ended = "", 0, 1, 0, False

    def leave(self) -> None:
        """Let go of the stream, which is its owner's to close."""
        self._reader.detach()

    def more(self) -> bool:
        piece = self._reader.read(_PIECE)
        self.buffer, self.at, self.start = self.buffer[self.at :] + piece, 0, self.start - self.at
        self.ended = not piece
        return bool(piece)

    def move(self, to: int) -> None:
        lines = self.buffer.count("\n", self.at, to)
        self.line += lines
        if lines:
            self.start = self.buffer.rindex("\n", self.at, to) + 1
        self.at = to

    def next(self, skipped: str) -> str:
        """The next character that is not skipped; empty at the end."""
        while True:
            to = self.at
            while to < len(self.buffer) and self.buffer[to] in skipped:
                to += 1
            self.move(to)
            if to < len(self.buffer):
                return self.buffer[to]
            if not self.more():
                return ""

    def value(self) -> tuple[Any, str]:
        """The JSON value that begins here, and its text.

        Raises:
            ValueError: there is none, or it is too long or too deep.
        """
        while True:
            try:
                found, end = _DECODER.raw_decode(self.buffer, self.at)
            except RecursionError:
                raise ValueError("nested too deeply") from None
            except ValueError:
                if len(self.buffer) - self.at > MAX_OBJECT:
                    raise ValueError(f"no end within {MAX_OBJECT:,} characters, or not JSON") from None
                if self.ended or not self.more():
                    raise
                continue
            text = self.buffer[self.at : end]
            return found, text


def json_rows(stream: io.BufferedReader, problems: Problems, withdrawn: dict[str, int]) -> Iterator[Row]:
    """Rows of a JSON file. `withdrawn` counts the entries that the exchange took back, by why: they are not given."""
    text = _Text(stream)
    try:
        while first := text.next(_GAPS):
            if first == "[":
                text.move(text.at + 1)
                yield from _array(text, problems, withdrawn)
            elif _is_answer(text):
                yield from _answer(text, problems, withdrawn)
            else:
                yield from _entry(text, problems, withdrawn)
    except UnicodeDecodeError as error:
        problems.error(text.line, 1, f"not UTF-8 text: {error.reason}", "save the file as UTF-8")
    except ValueError as error:
        source = text.buffer[text.start if text.start >= 0 else text.at : text.at + 200].split("\n")[0]
        reason = error.msg.lower() if isinstance(error, json.JSONDecodeError) else str(error)[:200]
        problems.error(
            text.line, max(1, text.at - text.start + 1), f"not JSON: {reason}", "export the list again", source=source
        )
    finally:
        text.leave()


def _is_answer(text: _Text) -> bool:
    """Whether an object with an array of entries begins here: its first keys say so."""
    while len(text.buffer) - text.at < 4096 and text.more():
        pass
    head = text.buffer[text.at : text.at + 4096]
    key = head[1:].lstrip()
    return key.startswith(('"data"', '"paging"'))


def _answer(text: _Text, problems: Problems, withdrawn: dict[str, int]) -> Iterator[Row]:
    text.move(text.at + 1)
    while (mark := text.next(_GAPS)) != "}":
        if not mark:
            raise ValueError("the object is not closed")
        key, raw = text.value()
        text.move(text.at + len(raw))
        if text.next(" \t\r\n") != ":":
            raise ValueError("expecting ':' behind a key")
        text.move(text.at + 1)
        if text.next(" \t\r\n") == "[" and key == "data":
            text.move(text.at + 1)
            yield from _array(text, problems, withdrawn)
        else:
            text.move(text.at + len(text.value()[1]))
    text.move(text.at + 1)


def _array(text: _Text, problems: Problems, withdrawn: dict[str, int]) -> Iterator[Row]:
    while (mark := text.next(_GAPS)) != "]":
        if not mark:
            raise ValueError("the array is not closed")
        yield from _entry(text, problems, withdrawn)
    text.move(text.at + 1)


def _entry(text: _Text, problems: Problems, withdrawn: dict[str, int]) -> Iterator[Row]:
    entry, raw = text.value()
    line, column = text.line, text.at - text.start + 1
    source = raw if "\n" not in raw else ""
    hint = 'an entry is {"indicator": "...", "type": "HASH_PDQ"}'
    text.move(text.at + len(raw))
    if not isinstance(entry, dict):
        problems.error(line, column, f"an entry is an object, not {raw[:40]}", hint)
        return
    found = next((entry[key] for key in ("indicator", "raw_indicator", "hash", "signal_value") if key in entry), None)
    kind = next((entry[key] for key in ("type", "indicator_type", "signal_type", "hash_type") if key in entry), "")
    why = _why_withdrawn(entry)
    if why:
        withdrawn[why] = withdrawn.get(why, 0) + 1
        return
    if isinstance(found, dict):  # a descriptor may hold the indicator as an object
        kind, found = found.get("type", kind), found.get("indicator")
    if not isinstance(found, str) or not isinstance(kind, str):
        problems.error(line, column, "an entry without an `indicator`, the hash as text", hint, source=raw[:200])
        return
    at = raw.find(found)
    line += raw.count("\n", 0, max(at, 0))
    quality = entry.get("quality", "")
    yield Row(line, kind, found, "" if quality is None else str(quality), _label(entry), source[:2000])


def _why_withdrawn(entry: dict[str, Any]) -> str:
    if entry.get("should_delete"):
        return "deleted"
    if "should_delete" in entry and "descriptors" not in entry:  # as the exchange's own client reads it
        return "deleted"
    states = [one.get("status") for one in [entry, *_descriptors(entry)] if isinstance(one.get("status"), str)]
    return "non-malicious" if states and all(state == "NON_MALICIOUS" for state in states) else ""


def _descriptors(entry: dict[str, Any]) -> list[dict[str, Any]]:
    held = entry.get("descriptors")
    data = held.get("data") if isinstance(held, dict) else held
    return [one for one in data if isinstance(one, dict)] if isinstance(data, list) else []


def _label(entry: dict[str, Any]) -> str:
    words: set[str] = set()
    for one in [entry, *_descriptors(entry)]:
        tags = one.get("tags")
        tags = tags.get("data") if isinstance(tags, dict) else tags
        for tag in tags if isinstance(tags, list) else []:
            word = tag.get("text") if isinstance(tag, dict) else tag
            if isinstance(word, str):
                words.add(word)
    label = entry.get("label") or entry.get("description")
    return " ".join(sorted(words)) or (label if isinstance(label, str) else "")
