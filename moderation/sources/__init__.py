"""What a run moderates: folders, manifests and S3 Inventories, behind one protocol, and how their objects are read."""

from moderation.sources.open_sources import open_sources, reader_of, skipped_in
from moderation.sources.reader import ObjectReader
from moderation.sources.source import Source

__all__ = ["ObjectReader", "Source", "open_sources", "reader_of", "skipped_in"]
