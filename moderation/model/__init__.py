"""CLIP models: the `Encoder` protocol, open_clip behind it, and preprocessing. The only place that imports torch."""

import os

from moderation.model.encoder import Encoder
from moderation.model.preprocessing import Preprocessing

# The hub client reads these when open_clip imports it.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

__all__ = ["Encoder", "Preprocessing"]
