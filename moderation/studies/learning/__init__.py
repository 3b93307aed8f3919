"""Learning a head from labels: `moderate policy learn`. Works on stored embeddings; no image is fetched, no model is run.

`learn.py` is the procedure, top to bottom.
"""
