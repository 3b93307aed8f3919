"""Prefect flows: the only code that knows Prefect. What they do is in `moderation.pipeline`."""

import os

# Prefect reads these when it is imported.
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
# Never Prefect's own temporary server: it opens the user's database to whoever asks. `flows.prefect_api` has a closed one.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_ENABLED", "false")
