"""Scoring: `ImageScorer` (no Ray needed) and the pool of Ray actors that run it. The only place that imports ray."""

from moderation.scoring.variables import check_variables

check_variables()  # before anything here imports Ray
