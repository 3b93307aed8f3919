"""Which images a policy's exemplars are, by their content."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from moderation.policy.exemplars import Exemplar
from moderation.policy.schema import ImageSource
from moderation.policy_files.places import AssetError, content, is_pattern, located, matching

MAX_EXEMPLARS = 2000
"""of one key of a policy"""


def named_exemplars(sources: Sequence[ImageSource], folder: Path) -> Iterator[tuple[int, list[Exemplar] | AssetError]]:
    """The images that each entry of a key names, or why there are none; the entry's index with each."""
    seen: dict[str, str] = {}
    for at, source in enumerate(sources):
        try:
            found = [_exemplar(name, location) for name, location in _named(source, folder)]
            for one in found:
                if one.sha256 in seen:
                    raise AssetError(f"{one.name!r} is the same image as {seen[one.sha256]!r}", "remove one of them")
                seen[one.sha256] = one.name
            if len(seen) > MAX_EXEMPLARS:
                raise AssetError(f"more than {MAX_EXEMPLARS:,} images", "name fewer, or learn a head from them")
            yield at, found
        except AssetError as error:
            yield at, error


def _named(source: ImageSource, folder: Path) -> list[tuple[str, str]]:
    if not isinstance(source, str):
        raise AssetError("labels files are not read yet", "name the images")
    if not is_pattern(source):
        return [(source, located(source, folder))]
    found = matching(source, folder)
    if not found:
        raise AssetError(f"no file matches {source!r}", "" if "://" in source else "paths are relative to the policy's folder")
    return found


def _exemplar(name: str, location: str) -> Exemplar:
    return Exemplar(name, hashlib.sha256(content(name, location)).hexdigest(), location)
