"""Searching the embeddings that runs stored, by a text or by an image."""
