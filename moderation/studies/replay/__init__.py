"""Replaying runs: decisions and scores recomputed from what a run stored, and compared with what it stored, bit for bit.

Nothing here fetches an image, or needs the model where the run kept its prompt embeddings.
"""
