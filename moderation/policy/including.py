"""`include:` and `overrides:`: a policy file and those it includes, as one tree of plain values, each with its place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from moderation.common.findings import Finding
from moderation.policy.consistency import known
from moderation.policy.model_choice import moved
from moderation.policy.yaml_source import MAX_BYTES, Location, Source, Span, parse

MAX_FILES = 8
"""Files that may include one another in a row."""
OVERRIDABLE = ("mode", "review", "block", "severity", "description", "dsa")
"""What `overrides` may change of an included rule."""
_JOINED = ("rules", "examples", "lists", "background")
"""Lists to which a file adds its own entries, behind those that it includes."""
_DOCUMENTS = {b"PK\x03\x04": "a document of Word or Excel", b"{\\rtf": "a document of a word processor", b"%PDF": "a PDF"}
"""How files start that contain text but are not text files."""


@dataclass
class Merged:
    """The content of a policy file with all that it includes."""

    content: Any
    files: dict[str, str] = field(default_factory=dict)
    """name and text of every file read, the policy's own first"""
    findings: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    """what can be read, and probably means something else than it says"""
    origins: dict[Location, tuple[Source, Location]] = field(default_factory=dict)

    def finding(self, location: Location, message: str, hint: str = "", *, at_key: bool = False) -> Finding:
        """A mistake at a place of the merged tree, reported where it is in the files."""
        for end in range(len(location), -1, -1):
            origin = self.origins.get(location[:end])
            if origin is not None:
                source, place = origin
                return source.finding((*place, *location[end:]), message, hint, at_key=at_key)
        raise LookupError(location)


def read_text(path: Path) -> tuple[str, Finding | None]:
    """The text of a file, or what is wrong with its bytes. Raises `OSError`, and `ValueError` on impossible names."""
    with open(path, "rb") as file:
        raw = file.read(MAX_BYTES + 1)
    for magic, what in _DOCUMENTS.items():
        if raw.startswith(magic):
            return "", Finding(
                str(path), 1, 1, f"{what}, not a text file", "copy the text into a plain text editor, and save it as UTF-8"
            )
    if len(raw) > MAX_BYTES:
        return "", Finding(str(path), 1, 1, f"larger than {MAX_BYTES:,} bytes", "is this a policy?")
    try:
        return raw.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        return "", Finding(str(path), line, column, "not UTF-8", "save the file as UTF-8 in your editor")


def merge(text: str, name: str, folder: Path | None) -> Merged:
    """Parse a policy and what it includes. `folder` None: text without a place, which cannot include anything."""
    merged = _merge(text, name, folder, folder, ())
    merged.findings.sort()
    return merged


def _merge(text: str, name: str, folder: Path | None, root: Path | None, above: tuple[Path, ...]) -> Merged:
    source = parse(text, name)
    own = source.content
    merged = Merged(own, {name: text}, list(source.findings), list(source.warnings), {(): (source, ())})
    if source.findings and own is None:
        return merged
    if not isinstance(own, dict):
        merged.content = None
        merged.findings.append(source.at(Span(0, 0, 1), "a policy is a mapping of keys", "begin with `policy: <name>`"))
        return merged
    base = _included(source, name, folder, root, above)
    content = {key: value for key, value in own.items() if key not in ("include", "overrides")}
    if base is None:
        if "overrides" in own and "include" not in own:
            message = "`overrides` changes included rules, but nothing is included"
            merged.findings.append(source.finding(("overrides",), message, "change the rules themselves", at_key=True))
        merged.content = content
        return merged
    merged.files |= base.files
    merged.findings += base.findings
    merged.warnings += base.warnings
    if not isinstance(base.content, dict):
        merged.content = None if base.findings else content
        return merged
    _join(merged, base, source, content)
    _override(merged, source, own.get("overrides"), len(_list(base.content.get("rules"))))
    return merged


def _included(source: Source, name: str, folder: Path | None, root: Path | None, above: tuple[Path, ...]) -> Merged | None:
    if "include" not in source.content:
        return None

    def refuse(message: str, hint: str = "") -> Merged:
        return Merged(None, {}, [source.finding(("include",), message, hint)])

    given = source.content["include"]
    if not isinstance(given, str) or not given.strip():
        return refuse("`include` should be the name of a file", "for example `include: base.yaml`")
    if folder is None or root is None:
        return refuse("a policy given as text cannot include files", "save it as a file")
    path = (folder / given).resolve()
    if PurePosixPath(given).is_absolute() or not path.is_relative_to(root.resolve()):
        return refuse(f"{given!r} is outside the policy's folder", "put the included file next to the policy")
    if path in above or path == Path(name).resolve():
        return refuse(f"{given!r} includes itself, directly or through others", "break the circle")
    if len(above) >= MAX_FILES:
        return refuse(f"more than {MAX_FILES} included files", "join some of them")
    try:
        text, finding = read_text(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return refuse(f"cannot read the included file {given!r}: {reason.lower()}", "the path is relative to this file")
    shown = str(Path(name).parent / given)
    if finding is not None:
        return Merged(None, {shown: text}, [finding])
    included = _merge(text, shown, path.parent, root, (*above, Path(name).resolve()))
    _move_paths(included.content, PurePosixPath(given).parent)
    return included


def _move_paths(content: Any, folder: PurePosixPath) -> None:
    """Images of included examples, and a model's weights, are next to the included file."""
    if not isinstance(content, dict):
        return
    if "model" in content:
        content["model"] = moved(content["model"], str(folder))
    for example in _list(content.get("examples")):
        _move(example, "image", folder)
    for listed in _list(content.get("lists")):
        _move(listed, "file", folder)
    for rule in _list(content.get("rules")):
        _move(rule, "head", folder)
        _move(rule.get("head") if isinstance(rule, dict) else None, "file", folder)
        for key in ("like", "unlike"):
            _move_images(rule, key, folder)
    _move_images(content, "background", folder)


def _move_images(part: Any, key: str, folder: PurePosixPath) -> None:
    images = part.get(key) if isinstance(part, dict) else None
    for at, image in enumerate(_list(images)):
        _move(images, at, folder)
        for file in ("labels", "images"):
            _move(image, file, folder)
    for file in ("labels", "images"):
        _move(images, file, folder)


def _move(part: Any, key: Any, folder: PurePosixPath) -> None:
    """Make the path at a key relative to the file that includes."""
    known = isinstance(part, dict) or (isinstance(part, list) and isinstance(key, int))
    path = (part.get(key) if isinstance(part, dict) else part[key]) if known else None
    if isinstance(path, str) and "://" not in path and not path.startswith("~"):
        part[key] = str(folder / path)


def _join(merged: Merged, base: Merged, source: Source, own: dict[str, Any]) -> None:
    """Own keys replace included ones; entries of `_JOINED` are added behind them."""
    content = {**base.content, **own}
    for key in base.content:
        if key not in own:
            merged.origins[key,] = base.origins.get((key,), (base.origins[()][0], (key,)))
    merged.origins |= {place: origin for place, origin in base.origins.items() if len(place) > 1 and place[0] in _JOINED}
    for key in _JOINED:
        before, added = _entries(base.content.get(key)), _entries(own.get(key))
        if isinstance(before, list) and (added is None or isinstance(added, list)):
            content[key] = [*before, *(added or [])]
            for i in range(len(before)):
                merged.origins.setdefault((key, i), (base.origins[()][0], (key, i)))
            for i in range(len(added or [])):
                merged.origins[key, len(before) + i] = (source, (key, i))
    merged.content = content


def _override(merged: Merged, source: Source, overrides: Any, included: int) -> None:
    if overrides is None:
        return
    if not isinstance(overrides, dict):
        merged.findings.append(
            source.finding(("overrides",), "`overrides` should be a mapping of rule ids", "{firearms: {review: 0.7}}")
        )
        return
    rules = _list(merged.content.get("rules"))
    index = {rule.get("id"): i for i, rule in enumerate(rules[:included]) if isinstance(rule, Mapping)}
    for rule_id, changes in overrides.items():
        place: Location = ("overrides", rule_id)
        if rule_id not in index:
            hint = known("included rules", rule_id, [str(i) for i in index])
            merged.findings.append(source.finding(place, f"no included rule has the id {rule_id!r}", hint, at_key=True))
            continue
        if not isinstance(changes, dict):
            merged.findings.append(
                source.finding(place, f"`{rule_id}` should be a mapping", "for example {mode: shadow, review: 0.7}")
            )
            continue
        at = index[rule_id]
        rules[at] = dict(rules[at])
        for key, value in changes.items():
            if key not in OVERRIDABLE:
                hint = known("overrides can change", key, list(OVERRIDABLE))
                message = f"`{key}` of an included rule cannot be overridden"
                merged.findings.append(source.finding((*place, key), message, hint, at_key=True))
                continue
            rules[at][key] = value
            merged.origins["rules", at, key] = (source, (*place, key))
    merged.content["rules"] = rules


def _entries(value: Any) -> Any:
    """A file of images alone, which needs no list, as a list."""
    return [value] if isinstance(value, dict) else value


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else []
