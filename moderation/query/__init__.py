"""Published results as tables for SQL: the views, their dictionary, and conditions that people write. No run is changed."""

from moderation.query.connection import connect

__all__ = ["connect"]
