"""Quality checks between a run and its readers. `great_expectations` is imported in `expectations.py` only.

Limits and verdicts are plain records; `rows`, `shards` and `run_checks` ask the questions, `data_docs` shows the answers.
"""
