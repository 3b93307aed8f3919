"""The HTML report: one self-contained page per run, with histograms, contact sheets, errors, checks and timings.

No torch and no prefect may come in here; only `build.py` may reach Ray, through `moderation.scoring.tasks`.
"""
