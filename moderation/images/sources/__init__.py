"""What a run moderates: folders, manifests and S3 Inventories, behind one protocol, and how their objects are read."""

from moderation.images.sources.opening import open_sources, reader_of, skipped_in
from moderation.images.sources.reader import ObjectReader
from moderation.images.sources.source import Source

__all__ = ["ObjectReader", "Source", "open_sources", "reader_of", "skipped_in"]
