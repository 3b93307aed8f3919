"""Images with a different decision than in an earlier run over the same images."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from moderation.errors import StorageError
from moderation.results.manifest import Manifest, published_manifests
from moderation.storage import Store


@dataclass(frozen=True, slots=True)
class Difference:
    """An image with a different decision."""

    uri: str
    before: str
    """action of the earlier run"""
    after: str
    rule: str | None
    """the rule that decided: of the later run, or of the earlier one where the later flags nothing"""


def latest_run(output: Store) -> Manifest | None:
    """The run published last, if there is one."""
    try:
        return max(published_manifests(output), key=lambda manifest: manifest.published_at, default=None)
    except StorageError:  # no such folder yet
        return None


def differences(before: pa.Table, after: pa.Table) -> Iterator[Difference]:
    """Images in both decision tables whose action differs, in URI order."""
    earlier = {row["uri"]: row for row in before.select(["uri", "action", "top_rule"]).to_pylist()}
    for row in sorted(after.select(["uri", "action", "top_rule"]).to_pylist(), key=lambda row: str(row["uri"])):
        old = earlier.get(row["uri"])
        if old is not None and old["action"] != row["action"]:
            rule = row["top_rule"] if row["action"] != "allow" else old["top_rule"]
            yield Difference(row["uri"], old["action"], row["action"], rule)
