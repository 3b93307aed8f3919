"""Scoring without Ray: from objects to embeddings, scores, decisions and their rows. Start with `image_scorer.py`."""
