"""Thresholds from labelled images: curves with bands, the threshold for a target, and the policy file it is written into.

Neither ray, prefect nor great_expectations come in here; torch only where a prompt is new.
"""
