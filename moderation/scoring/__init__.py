"""Scoring: `ImageScorer` (no Ray needed) and the pool of Ray actors that run it. The only place that imports ray."""

import os
import secrets
from pathlib import Path

# Ray reads these when it is imported. A Ray that this program starts is closed by a token, since it listens on all interfaces
# whatever address it is told. Unless the user has one already, the token is made here and known to this process and the workers
# it starts. A cluster that RAY_ADDRESS names is joined the way the environment says.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
if "RAY_ADDRESS" not in os.environ:
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if "RAY_AUTH_TOKEN_PATH" not in os.environ and not Path("~/.ray/auth_token").expanduser().exists():
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
