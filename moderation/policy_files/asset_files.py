"""Reading all that a policy names, with every mistake at its place."""

import io
from pathlib import Path
from typing import cast

from moderation.common.findings import Finding
from moderation.errors import StorageError
from moderation.lists.hash_list import HashList
from moderation.lists.reading import read_list
from moderation.policy.assets import Assets
from moderation.policy.exemplars import Exemplar
from moderation.policy.head import Head
from moderation.policy.including import Merged
from moderation.policy.schema import DeclaredHead, HeadSource, ListedImages, Mode, Policy
from moderation.policy.yaml_source import Location
from moderation.policy_files.exemplar_files import ExemplarReader
from moderation.policy_files.head_files import MAX_BYTES, parse_head
from moderation.policy_files.places import AssetError, content, located
from moderation.storage import Store


def read_assets(
    policy: Policy, folder: Path, merged: Merged, background: tuple[Exemplar, ...] | None = None
) -> tuple[Assets, list[Finding]]:
    """The content of what a policy names. Rules and lists that are off need none.

    Args:
        policy: whose file is in `folder`.
        folder: what its paths are relative to.
        merged: the places in its files, for mistakes.
        background: ordinary images to take instead of those that it names.
    """
    reader = _Reader(folder, merged)
    heads: dict[str, Head] = {}
    lists: dict[str, HashList] = {}
    for at, rule in enumerate(policy.rules):
        if rule.mode is Mode.OFF:
            continue
        if rule.head is not None and (head := reader.head(rule.head, ("rules", at, "head"))) is not None:
            heads[rule.id] = head
    images = ExemplarReader(folder, merged)
    exemplars, background = images.read(policy, background)
    for at, one in enumerate(policy.lists):
        if one.mode is not Mode.OFF and (found := reader.list(one, ("lists", at, "file"))) is not None:
            lists[one.id] = found
    return Assets(heads, exemplars, background, lists), [*reader.findings, *images.findings]


class _Reader:
    def __init__(self, folder: Path, merged: Merged) -> None:
        self.folder, self.merged = folder, merged
        self.findings: list[Finding] = []

    def head(self, source: HeadSource, place: Location) -> Head | None:
        name, model = (source.file, source.model) if isinstance(source, DeclaredHead) else (source, None)
        try:
            data = content(name, located(name, self.folder), MAX_BYTES)
            return parse_head(data, name, model, self.merged.finding(place, ""))
        except AssetError as error:
            self._add(place, error)
            return None

    def list(self, one: ListedImages, place: Location) -> HashList | None:
        location = located(one.file, self.folder)
        try:
            store, key = Store.locate(location)
            with store.open(key) as stream:
                read = read_list(cast("io.BufferedReader", stream), location, one.hash, one.min_quality)
        except StorageError as error:
            self._add(place, AssetError(f"cannot read the list {one.file!r}: {error.detail}"))
            return None
        if read.content is None:
            self.findings.extend(read.errors)
        return read.content

    def _add(self, place: Location, error: AssetError) -> None:
        self.findings.append(self.merged.finding(place, error.message, error.hint))
