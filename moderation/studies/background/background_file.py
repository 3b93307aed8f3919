"""The file of a background beside the policy, and the line of the policy that names it."""

import csv
import hashlib
import io
import re
from dataclasses import replace
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from moderation.errors import OutputError, PolicyError
from moderation.policy.exemplars import Exemplar
from moderation.policy.schema import ImagesFile, Policy
from moderation.policy_files.loading import read_policy
from moderation.studies.background.drawing_background import Drawn
from moderation.studies.tuning.policy_file import replace_policy

FOLDER = "background"
"""Beside the policy."""
_OWN = re.compile(rf"\{{\s*images:\s*{FOLDER}/[^\s{{}}\[\],#&*!\"']+\s*\}}\Z")
"""What this module wrote, and may replace."""


def policy_without_background(path: Path) -> Policy:
    """A policy that may not name a background yet. Raises `PolicyError` for all other mistakes."""
    read = read_policy(path, background=())
    if read.policy is None:
        raise PolicyError("\n".join(str(finding) for finding in read.findings))
    return read.policy


def background_csv(drawn: Drawn) -> bytes:
    """URI and SHA-256 of each image: with these, a policy that names the file need not read the images."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("uri", "sha256"))
    writer.writerows((image.uri, image.sha256) for image in drawn.images)
    return out.getvalue().encode()


def write_background(path: Path, policy: Policy, content: bytes) -> str:
    """Write the file beside the policy, under a name of its content. Returns what the policy calls it. Raises `OutputError`."""
    name = f"{FOLDER}/{policy.policy}-{hashlib.sha256(content).hexdigest()[:8]}.csv"
    target = path.resolve().parent / name
    try:
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content)
    except OSError as error:
        raise OutputError(f"cannot write {str(target)!r}: {(error.strerror or str(error)).lower()}") from None
    return name


def name_background(path: Path, policy: Policy, drawn: Drawn, name: str) -> None:
    """Put `background:` into a policy file, and change not a byte besides.

    Args:
        path: the policy's file.
        policy: as it was read without a background.
        drawn: the images.
        name: the file that lists them.

    Raises:
        PolicyError: it cannot be put there.
        OutputError: the file cannot be written, or was changed in the meantime.
    """
    target = path.resolve()
    try:
        before = target.read_bytes()
    except OSError as error:
        raise PolicyError(f"cannot read the policy {str(path)!r}: {(error.strerror or str(error)).lower()}") from None
    text = before.decode("utf-8")
    bom = "\ufeff" if text.startswith("\ufeff") else ""
    after = (bom + with_background(text.removeprefix(bom), name, str(path))).encode()
    images = tuple(Exemplar(image.uri, image.sha256) for image in drawn.images)
    expected = policy.model_copy(update={"background": (ImagesFile(images=name),)})
    expected = expected.with_assets(replace(policy.assets, background=images))
    replace_policy(target, before, after, expected, "the background comes from an included file: draw it for that one")


def with_background(text: str, name: str, policy: str) -> str:
    """The text of a policy with `background: {images: name}` at its top level, above the rules. Pure.

    Raises:
        PolicyError: the file names a background of its own, or its layout leaves no place for one.
    """
    line = f"background: {{images: {name}}}"
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except YAMLError as error:
        raise PolicyError(f"{policy} is not valid YAML: {' '.join(str(error).split())[:200]}") from None
    pairs: dict[str, tuple[Node, Node]] = {}
    if isinstance(root, MappingNode) and not root.flow_style:
        pairs = {str(key.value): (key, value) for key, value in root.value if isinstance(key, ScalarNode)}
    if not pairs:
        raise PolicyError(f"{policy} leaves no place for a new line: write `{line}` yourself; nothing was written")
    if "background" in pairs:
        _, value = pairs["background"]
        start, end = value.start_mark.index, value.end_mark.index
        if not _OWN.match(text[start:end]):
            raise PolicyError(
                f"{policy}, line {value.start_mark.line + 1}: the policy has a background of its own: replace it with "
                f"`{line}`, or add `- {{images: {name}}}` to its list; nothing was written"
            )
        return f"{text[:start]}{{images: {name}}}{text[end:]}"
    newline = "\r\n" if "\r\n" in text else "\n"
    if "rules" not in pairs:
        return f"{text}{'' if text.endswith(newline) else newline}{line}{newline}"
    at = _above_comments(text, pairs["rules"][0].start_mark.index)
    return f"{text[:at]}{line}{newline}{newline}{text[at:]}"


def _above_comments(text: str, at: int) -> int:
    """Where the comment above a line begins."""
    while at:
        before = text.rfind("\n", 0, at - 1) + 1
        if not text[before:at].startswith("#"):
            break
        at = before
    return at
