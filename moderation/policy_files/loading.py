"""Reading a policy file: YAML to a checked `Policy`, every mistake at once and each with its place."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from moderation.common.findings import Finding
from moderation.errors import ModelError, PolicyError
from moderation.policy.assets import Assets
from moderation.policy.consistency import mistakes
from moderation.policy.exemplars import Exemplar
from moderation.policy.hints import MANY_VALUES, MESSAGES, MISSING, key_hint, misspelt, value_hint
from moderation.policy.including import Merged, merge, read_text
from moderation.policy.schema import Policy
from moderation.policy.yaml_source import MAX_BYTES
from moderation.policy_files.asset_files import read_assets

_NOT_IN_FILES = {"<action>", "<rules>", "<tag>", "<values>", "<image>", "<images>", "<labels>", "<file>", "<declared>", "[key]"}
"""What pydantic adds to places: the branch of a union that was chosen, and that a key is meant."""


@dataclass(frozen=True)
class ReadPolicy:
    """A policy file that was read. `policy` is None where it has mistakes."""

    policy: Policy | None
    files: Mapping[str, str]
    """name and text of every file that belongs to it, its own first"""
    findings: tuple[Finding, ...]
    merged: Merged
    """the places of the policy's parts, and what in the file is valid but probably means something else"""


def load_policy(path: str | Path, folder: str | None = None, assets: Assets | None = None) -> Policy:
    """Read and check a policy file. Raises `PolicyError` that lists every mistake found. Arguments as in `read_policy`."""
    return _required(read_policy(path, folder, assets))


def parse_policy(text: str, name: str = "policy", folder: str | None = None, assets: Assets | None = None) -> Policy:
    """Check the text of a policy; `name` is what messages call it. Raises `PolicyError`.

    Paths in it are relative to `folder`, by default the current one. `assets` as in `read_policy`.
    """
    return _required(_checked(merge(text, name, None), folder, assets))


def read_policy(
    path: str | Path,
    folder: str | None = None,
    assets: Assets | None = None,
    background: tuple[Exemplar, ...] | None = None,
) -> ReadPolicy:
    """Read and check a policy file, what it includes and what it names. Mistakes are in `findings`.

    Args:
        path: the file.
        folder: what paths in it are relative to, for a copy stored elsewhere; by default its own folder.
        assets: the content of what it names, where that is known; else it is read.
        background: ordinary images to take instead of those that it names: it need not name any.

    Raises `PolicyError` only if the file itself cannot be read.
    """
    path = Path(path)
    try:
        text, finding = read_text(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PolicyError(f"cannot read the policy {str(path)!r}: {reason.lower()}") from None
    if finding is not None:
        return ReadPolicy(None, {str(path): text}, (finding,), Merged(None))
    merged = merge(text, str(path), path.parent)
    if background is not None and isinstance(merged.content, dict):
        merged.content = {**merged.content, "background": {"images": "drawn"}}
    return _checked(merged, folder or str(path.parent.resolve()), assets, background)


def read_draft(text: str, path: Path) -> ReadPolicy:
    """Check a text that is to become the policy file at `path`: what it includes and names is read from there."""
    if len(text.encode()) > MAX_BYTES:
        finding = Finding(str(path), 1, 1, f"larger than {MAX_BYTES:,} bytes", "is this a policy?")
        return ReadPolicy(None, {str(path): text}, (finding,), Merged(None))
    return _checked(merge(text, str(path), path.parent), str(path.parent.resolve()), None)


def located(path: str | Path, error: ModelError) -> ModelError:
    """An error about the model that a policy file names, with the place in the file that is at fault."""
    if not error.key:
        return error
    try:
        merged = read_policy(path).merged
        return ModelError(str(merged.finding(("model", error.key), error.message, error.hint)))
    except (PolicyError, LookupError):  # the file is another by now
        return error


def _required(read: ReadPolicy) -> Policy:
    if read.policy is None:
        raise PolicyError("\n".join(str(finding) for finding in read.findings))
    return read.policy


def _checked(
    merged: Merged, folder: str | None, assets: Assets | None, background: tuple[Exemplar, ...] | None = None
) -> ReadPolicy:
    findings = list(merged.findings)
    policy = None
    if isinstance(merged.content, dict):
        try:
            policy = Policy.model_validate(merged.content, context={"folder": folder})
        except ValidationError as error:
            shown = [details for details in error.errors() if not _is_reported_elsewhere(details)]
            findings += [_finding(merged, details) for details in shown]
            findings += [merged.finding(m.location, m.message, m.hint) for m in mistakes(merged.content)]
    if policy is not None and not findings and policy.names_assets:
        if assets is None:
            assets, findings = read_assets(policy, Path(folder or "."), merged, background)
        policy = policy.with_assets(assets)
    findings = sorted(dict.fromkeys(findings))
    return ReadPolicy(None if findings else policy, merged.files, tuple(findings), merged)


def _is_reported_elsewhere(details: ErrorDetails) -> bool:
    # `mistakes` reports contradictions; a list is too short only because its items are wrong, which is reported already.
    if details["type"] == "missing" and isinstance(details["input"], dict):
        return misspelt(str(details["loc"][-1]), details["input"], details["loc"][:-1])
    return details["type"] == "value_error" or (details["type"] == "too_short" and bool(details["input"]))


def _finding(merged: Merged, details: ErrorDetails) -> Finding:
    location = tuple(part for part in details["loc"] if part not in _NOT_IN_FILES)
    message = MESSAGES.get(details["type"]) or details["msg"].removeprefix("Input ").removeprefix("String ")
    if details["type"] in ("enum", "literal_error") and message.count("'") > 2 * MANY_VALUES:
        message = "is not one of the values that it can have"
    key = f"`{location[-1]}`" if location else "the policy"
    if details["type"] == "extra_forbidden":
        return merged.finding(location, f"unknown key {key}", key_hint(location), at_key=True)
    if details["type"] == "missing":
        return merged.finding(location[:-1], f"the key {key} is missing", MISSING.get(str(location[-1]), ""), at_key=True)
    if isinstance(location[-1] if location else None, int):
        key = f"`{location[-2]}`"
    elif details["input"] is None:
        return merged.finding(location, f"{key} has no value", "write one after the colon, or remove the line", at_key=True)
    return merged.finding(location, f"{key} {message}", value_hint(details, location, merged.content))
