"""Scoring: `ImageScorer` (no Ray needed) and the pool of Ray actors that run it. The only place that imports ray."""
