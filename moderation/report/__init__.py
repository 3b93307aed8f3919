"""The report of one run: one self-contained HTML page with histograms, contact sheets, errors, checks and timings.

No torch and no prefect may come in here; only `build.py` may reach Ray, through `moderation.cluster.tasks`.
"""
