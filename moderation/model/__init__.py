"""CLIP models: the `Encoder` protocol, open_clip behind it, and preprocessing. The only place that imports torch."""

from moderation.model.encoder import Encoder
from moderation.model.preprocessing import Preprocessing

__all__ = ["Encoder", "Preprocessing"]
