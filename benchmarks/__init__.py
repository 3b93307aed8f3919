"""Measurements. Each is a command of its own that prints what it found; `RESULTS.md` records them."""
