"""Writing thresholds and heads into a policy file: the value and the evidence for it, and not a byte besides."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from moderation.errors import OutputError, PolicyError
from moderation.policy.comparison import compare
from moderation.policy.head import Head
from moderation.policy.schema import Policy
from moderation.policy.score_kind import ScoreKind
from moderation.policy.yaml_source import Location
from moderation.policy_files.loading import ReadPolicy, load_policy, read_draft, read_policy

MARK, LEARNED = "[moderate policy tune]", "[moderate policy learn]"
"""One of them ends each comment that this module writes, so that it knows its own again."""

_BREAK = re.compile(r"\r\n|\n|\r")
_PLAIN = re.compile(r"(?:[&!]\S*\s+)*(?P<value>\S*)\Z")


@dataclass(frozen=True, slots=True)
class NewThreshold:
    """A number, or a word, to be written."""

    rule: str
    key: str
    """review | block, with a number; score | head, with a word that needs no quotes"""
    value: float | str
    evidence: str = ""
    """one line: what speaks for it; empty: no comment is written, and one for an earlier number goes"""
    mark: str = MARK

    @property
    def written(self) -> str:
        """The value as it is put into the file."""
        return self.value if isinstance(self.value, str) else number(self.value)


def write_thresholds(
    path: Path, thresholds: Sequence[NewThreshold], heads: Mapping[str, Head] | None = None, read: bytes | None = None
) -> None:
    """Put thresholds into a policy file, each with its evidence as a comment in the line above; all or none.

    Comments and layout stay as they are, byte by byte. An evidence that was written before is replaced.

    Args:
        path: the file.
        thresholds: what is written.
        heads: by rule id, the heads that files hold which are written into it.
        read: what the file held when what is written was computed.

    Raises:
        PolicyError: the file cannot hold a number in a way that changes nothing else: the rule comes from an included file, its
            threshold is an alias, or review would lie above block.
        OutputError: the file cannot be written, or was changed in the meantime.
    """
    target = path.resolve()
    try:
        before = target.read_bytes()
    except OSError as error:
        raise PolicyError(f"cannot read the policy {str(path)!r}: {(error.strerror or str(error)).lower()}") from None
    if read is not None and read != before:
        raise OutputError(f"{str(path)!r} was changed by somebody else meanwhile: nothing was written, try again")
    old = load_policy(path)
    bom, text = _split_bom(before.decode("utf-8"))
    for one in thresholds:
        text = with_threshold(text, _place(read_policy(path), str(path), one), one, str(path))
    after = (bom + text).encode()
    if after != before:
        odd = "it has a threshold that cannot be changed alone: is it an anchor (&name) that others refer to?"
        replace_policy(target, before, after, _expected(old, thresholds, heads or {}), odd)


def draft_with_threshold(text: str, path: Path, new: NewThreshold) -> str:
    """The text of a policy file that is being edited, with a threshold; comments and layout stay as they are.

    Raises:
        PolicyError: the text has mistakes, or cannot hold the number in a way that changes nothing else.
    """
    read = read_draft(text, path)
    found = with_threshold(text, _place(read, str(path), new), new, str(path))
    policy = read_draft(found, path).policy
    if policy is None or read.policy is None or policy.hash != _expected(read.policy, [new], {}).hash:
        raise PolicyError(
            f"{path.name} has a threshold of {new.rule!r} that cannot be changed alone: is it an anchor (&name) that others "
            "refer to? Change it in the text"
        )
    return found


def number(value: float) -> str:
    """0.62: with a point and no exponent, as people write thresholds; the shortest that means this very number."""
    text = f"{value:.10f}".rstrip("0")
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.ljust(2, '0')}"


def with_threshold(text: str, place: Location, new: NewThreshold, name: str) -> str:
    """The text of a file with a threshold at `place`, the mapping of its rule. Pure.

    Raises:
        PolicyError: it cannot be put there.
    """
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except YAMLError as error:
        raise PolicyError(f"{name} is not valid YAML: {' '.join(str(error).split())[:200]}") from None
    mapping = _at(root, place)
    if not isinstance(mapping, MappingNode):
        raise PolicyError(f"{name}: there is no rule {new.rule!r} to write into")
    pairs: dict[str, tuple[Node, Node]] = {
        str(key.value): (key, value) for key, value in mapping.value if isinstance(key, ScalarNode)
    }
    written = new.written
    if new.key in pairs:
        start, end, written = _span(text, *pairs[new.key], written, new, name)
        at = pairs[new.key][0].start_mark.index
    else:
        start, written, at = _insertion(text, mapping, pairs, written, new, name)
        end = start
    text = text[:start] + written + text[end:]
    return _with_evidence(text, at if new.key in pairs else start + len(written) - 1, new)


def _place(read: ReadPolicy, path: str, new: NewThreshold) -> Location:
    """Where the file itself sets the rule's threshold."""
    policy = read.policy
    if policy is None:
        raise PolicyError("\n".join(str(finding) for finding in read.findings))
    index = next((i for i, rule in enumerate(policy.rules) if rule.id == new.rule), None)
    if index is None:
        raise PolicyError(f"{path}: there is no rule {new.rule!r}")
    location: Location = ("rules", index, new.key)
    for end in range(len(location), -1, -1):
        origin = read.merged.origins.get(location[:end])
        if origin is not None:
            source, place = origin
            whole = (*place, *location[end:])
            if source.name == path:
                return whole[:-1]
            span = source.values.get(whole) or source.values.get(whole[:-1])
            line = f", line {span.line + 1}" if span else ""
            if isinstance(new.value, str):
                raise PolicyError(
                    f"the rule {new.rule!r} comes from {source.name}{line}, which other policies may include too: name that "
                    "file in the command instead of this one; nothing was written"
                )
            advice = f"{{{new.rule}: {{{new.key}: {new.written}}}}}"
            raise PolicyError(
                f"the rule {new.rule!r} comes from {source.name}{line}, which other policies may include too: write "
                f"`overrides: {advice}` into {path}, or tune {source.name} itself; nothing was written"
            )
    raise LookupError(location)


def _at(root: Node | None, place: Location) -> Node | None:
    node = root
    for step in place:
        if isinstance(node, MappingNode) and isinstance(step, str):
            node = next((value for key, value in node.value if isinstance(key, ScalarNode) and key.value == step), None)
        elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
        else:
            return None
    return node


def _span(text: str, key: Node, value: Node, written: str, new: NewThreshold, name: str) -> tuple[int, int, str]:
    """What is replaced, and by what."""
    start, end = value.start_mark.index, value.end_mark.index
    between = text[key.end_mark.index : start]
    found = _PLAIN.match(text[start:end])
    if start < key.end_mark.index or not re.fullmatch(r"\s*:(?:\s.*|)", between, re.DOTALL) or found is None or "*" in between:
        line, what = key.start_mark.line + 1, "word" if isinstance(new.value, str) else "number"
        raise PolicyError(
            f"{name}, line {line}: `{new.key}` is not a plain {what} but an alias (*name) or in an unusual form: write the "
            f"{what} itself there, {written}; nothing was written"
        )
    if not found["value"]:  # `review:` with nothing behind it
        colon = text.index(":", key.end_mark.index) + 1
        return colon, colon, f" {written}"
    return start + found.start("value"), end, written


def _insertion(
    text: str, mapping: MappingNode, pairs: dict[str, tuple[Node, Node]], written: str, new: NewThreshold, name: str
) -> tuple[int, str, int]:
    """Where a threshold that is not there goes, with the text that says it: behind the other one."""
    beside = {"review": ("block",), "block": ("review",)}.get(new.key, ("score", "review", "block"))
    other = next((pairs[key] for key in (*beside, "mode", "severity") if key in pairs), None)
    line = mapping.start_mark.line + 1
    problem = (
        f"{name}, line {line}: the rule {new.rule!r} has no `{new.key}` yet, and its place cannot be determined: write "
        f"`{new.key}: {written}` there; nothing was written"
    )
    if other is None or not isinstance(other[1], ScalarNode):
        raise PolicyError(problem)
    key, value = other
    end = value.end_mark.index
    if value.start_mark.index < key.end_mark.index or "*" in text[key.end_mark.index : value.start_mark.index]:
        raise PolicyError(problem)
    if mapping.flow_style:
        return end, f", {new.key}: {written}", end
    indent = key.start_mark.column
    found = _BREAK.search(text, end)
    at = found.start() if found else len(text)
    newline = found.group() if found else _newline(text)
    return at, f"{newline}{' ' * indent}{new.key}: {written}", at


def _with_evidence(text: str, at: int, new: NewThreshold) -> str:
    """With the evidence in a line of its own above the one where `at` lies, instead of an earlier one for the same number."""
    start = _line_start(text, at)
    end = _BREAK.search(text, start)
    line = text[start : end.start() if end else len(text)]
    indent = line[: len(line) - len(line.lstrip(" "))]
    prefix = f"# {new.rule} {new.key} "
    comment = f"{indent}{prefix}{new.evidence} {new.mark}{_newline(text)}"
    above = start
    while above > 0:
        previous = _line_start(text, above - 1 - (text[above - 2 : above] == "\r\n"))
        said = text[previous:above].strip()
        if not said.startswith("#"):
            break
        if said.startswith(prefix) and said.endswith((MARK, LEARNED)):
            return text[:previous] + (comment if new.evidence else "") + text[above:]
        if not said.endswith((MARK, LEARNED)):
            break
        above = previous
    return text[:start] + comment + text[start:] if new.evidence else text


def _line_start(text: str, at: int) -> int:
    return max(text.rfind("\n", 0, at), text.rfind("\r", 0, at)) + 1


def _newline(text: str) -> str:
    found = _BREAK.search(text)
    return found.group() if found else "\n"


def _split_bom(text: str) -> tuple[str, str]:
    return ("\ufeff", text[1:]) if text.startswith("\ufeff") else ("", text)


def _expected(old: Policy, thresholds: Sequence[NewThreshold], heads: Mapping[str, Head]) -> Policy:
    """What the policy must mean afterwards."""
    new = {(one.rule, one.key): one.value for one in thresholds}
    rules = []
    for rule in old.rules:
        changes: dict[str, Any] = {key: value for (name, key), value in new.items() if name == rule.id}
        if "score" in changes:
            changes["score"] = ScoreKind(changes["score"])
        review, block = changes.get("review", rule.review), changes.get("block", rule.block)
        if review is not None and block is not None and review > block:
            raise PolicyError(
                f"the rule {rule.id!r} would review from {review:g} and block from {block:g}, which is lower: tune the other "
                "threshold first, or choose another target; nothing was written"
            )
        rules.append(rule.model_copy(update=changes))
    assets = old.assets
    # A rule that becomes a head has no exemplars any more; `like` and `unlike` would be mistakes.
    exemplars = {rule: one for rule, one in assets.exemplars.items() if rule not in heads}
    new_assets = replace(assets, heads={**assets.heads, **heads}, exemplars=exemplars)
    return old.model_copy(update={"rules": tuple(rules)}).with_assets(new_assets)


def replace_policy(target: Path, before: bytes, after: bytes, expected: Policy, odd: str) -> None:
    """Put the new bytes of a policy file into the place of the old ones, once it is seen that they mean what they should.

    Args:
        target: the file.
        before: what it contains.
        after: what it is to contain.
        expected: the policy that this must be.
        odd: what is said of the file where it is another one.

    Raises:
        PolicyError: the new bytes mean something else.
        OutputError: the file cannot be written, or was changed in the meantime.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".yaml", dir=target.parent)
    except OSError as error:
        raise OutputError(f"cannot write into {str(target.parent)!r}: {(error.strerror or str(error)).lower()}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(after)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(target, name)
        owner = target.stat()
        with contextlib.suppress(PermissionError):  # only root may give files away
            os.chown(name, owner.st_uid, owner.st_gid)
        found = read_policy(name).policy
        if found is None or compare(expected, found) or found.hash != expected.hash:
            raise PolicyError(f"{str(target)!r}: {odd}; nothing was written")
        if target.read_bytes() != before:
            raise OutputError(f"{str(target)!r} was changed by somebody else meanwhile: nothing was written, try again")
        os.replace(name, target)
    except OSError as error:
        raise OutputError(f"cannot write {str(target)!r}: {(error.strerror or str(error)).lower()}") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
