"""Which images a key of a policy names: by name, by a pattern, by a list of images or by labels."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from moderation.errors import SettingsError
from moderation.labels.label_file import ANY, Label, parse_labels
from moderation.labels.labels_table import Columns, Table
from moderation.policy.consistency import known
from moderation.policy.schema import ImagesFile, ImageSource, Labelled
from moderation.policy_files.places import AssetError, beside, content, is_pattern, located, matching

Key = Literal["like", "unlike", "background"]
COLUMNS = ("uri", "sha256")
"""Of a file of images; the second may be missing."""
MAX_EXEMPLARS = 2000
"""of one entry, and of one key of a rule"""
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Named:
    """An image that a policy names."""

    name: str
    location: str
    sha256: str = ""
    """of its bytes, where the file that names it says so"""
    place: str = ""
    """file and line that name it, where that is not the policy"""


@dataclass(frozen=True, slots=True)
class Source:
    """What one entry of a key stands for."""

    images: tuple[Named, ...]
    remarks: tuple[str, ...] = field(default=())
    """what is odd in the file that names them"""


def named_images(source: ImageSource, folder: Path, key: Key, rule: str) -> Source:
    """The images that an entry of a key names, at least one.

    Args:
        source: the entry.
        folder: what the policy's paths are relative to. Those in a file that it names are relative to that file.
        key: whose entry it is.
        rule: the rule's id; of the background that does not matter.

    Raises:
        AssetError: there are none, or too many, or the file that names them cannot be used.
    """
    try:
        if isinstance(source, Labelled):
            found = _labelled(source.labels, folder, key, rule)
        elif isinstance(source, ImagesFile):
            found = _listed(source.images, folder)
        else:
            found = Source(tuple(Named(name, location) for name, location in _by_name(source, folder)))
    except SettingsError as error:
        raise AssetError(str(error)) from None
    if len(found.images) > MAX_EXEMPLARS:
        raise too_many(len(found.images))
    return found


def too_many(count: int) -> AssetError:
    """What is said of more than `MAX_EXEMPLARS`."""
    return AssetError(f"{count:,} images; {MAX_EXEMPLARS:,} are the most", "name fewer, or learn a head from them")


def _by_name(name: str, folder: Path) -> list[tuple[str, str]]:
    if not is_pattern(name, folder):
        return [(name, located(name, folder))]
    found = matching(name, folder)
    if not found:
        raise AssetError(f"no file matches {name!r}", "" if "://" in name else "paths are relative to the policy's folder")
    return found


def _listed(file: str, folder: Path) -> Source:
    table = Table(content(file, located(file, folder)), file, Columns(COLUMNS, COLUMNS[:1]))
    images = []
    for line, cells in table:
        place = f"{file}:{line}"
        if isinstance(cells, str):
            raise AssetError(f"{place}: {cells}")
        uri, digest = cells["uri"].strip(), cells.get("sha256", "").strip().lower()
        if not uri:
            raise AssetError(f"{place}: `uri` is empty")
        if digest and not _SHA256.match(digest):
            raise AssetError(f"{place}: `sha256` is not 64 hexadecimal digits", "leave it empty if it is not known")
        name = beside(file, uri)
        images.append(Named(name, located(name, folder), digest, place))
    if not images:
        raise AssetError(f"{file!r} lists no image", "write a line with a URI for each")
    return Source(tuple(images))


def _labelled(file: str, folder: Path, key: Key, rule: str) -> Source:
    labels = parse_labels(content(file, located(file, folder)), file)
    truth = key == "like"
    wanted = ANY if key == "background" else rule
    said = [label for label in labels.labels if label.rule == wanted and label.truth is not None]
    chosen = [label for label in said if label.truth is truth]
    if not chosen:
        raise _none(file, labels.labels, said, wanted, truth=truth)
    names = [(beside(file, label.uri), label.line) for label in chosen]
    images = tuple(Named(name, located(name, folder), place=f"{file}:{line}") for name, line in names)
    return Source(images, tuple(f"{labels.place(remark.lines)}: {remark}" for remark in labels.remarks))


def _none(file: str, labels: Sequence[Label], said: Sequence[Label], rule: str, *, truth: bool) -> AssetError:
    if said:
        other = "true" if not truth else "false"
        message = f"{file!r} has no image that is labelled {str(truth).lower()} for {rule!r}"
        return AssetError(message, f"all {len(said):,} labels for it are {other}")
    rules = list(dict.fromkeys(label.rule for label in labels))
    return AssetError(f"{file!r} has no label for {rule!r}", known("rules in it", rule, rules))
