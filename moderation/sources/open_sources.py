"""From what a user names to sources."""

import os.path
from collections.abc import Sequence

from moderation.errors import SourceError
from moderation.sources.folder import FolderSource
from moderation.sources.manifest_file import open_listed
from moderation.sources.reader import ObjectReader
from moderation.sources.source import Source
from moderation.storage import Skipped, scheme_of


def open_source(location: str, connections: int) -> Source:
    """The source at a location: a manifest or S3 Inventory by its name, else a folder. Raises `SourceError`."""
    listed = open_listed(location)
    if listed is not None:
        return listed
    if "://" not in location and os.path.isfile(os.path.expanduser(location)):  # noqa: PTH111, PTH113 - Path's raise
        raise SourceError(
            f"the source {location!r} is a file: give the folder that contains the images, "
            "or a manifest: a .csv, .jsonl or .parquet file with a column `uri`, or the manifest.json of an S3 Inventory"
        )
    return FolderSource(location, connections)


def open_sources(locations: Sequence[str], connections: int) -> tuple[Source, ...]:
    """The sources at some locations, in their order; `connections` is how many reads of their objects there are at a time.

    Raises:
        SourceError: one cannot be listed, or what they name could overlap.
    """
    sources = tuple(open_source(location, connections) for location in locations)
    folders = [source for source in sources if not source.is_fixed]
    if folders and len(folders) < len(sources):
        raise SourceError("folders and manifests cannot be moderated in one run: give only one kind")
    for number, source in enumerate(folders):
        for other in (*folders[:number], *folders[number + 1 :]):
            if f"{source.uri}/".startswith(f"{other.uri}/"):
                raise SourceError(f"{source.uri} is inside {other.uri}: give only one of them")
    return sources


def reader_of(sources: Sequence[Source], connections: int) -> ObjectReader:
    """What reads the objects that these sources name."""
    fixed = [source for source in sources if source.is_fixed]
    return ObjectReader(
        folders=tuple(source.store for source in sources if isinstance(source, FolderSource)),
        manifests=bool(fixed),
        local_files=any(scheme_of(source.uri) == "file" for source in fixed),
        connections=connections,
    )


def skipped_in(sources: Sequence[Source]) -> Skipped:
    """What lies in the local folders among these sources and is not listed."""
    return sum((source.skipped() for source in sources if isinstance(source, FolderSource)), Skipped())
