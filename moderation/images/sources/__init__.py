"""What a run moderates: folders, manifests and S3 Inventories, behind one protocol."""

from moderation.images.sources.source import Source

__all__ = ["Source"]
