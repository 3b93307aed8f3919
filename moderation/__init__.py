"""clip-moderation: moderate images in object storage with CLIP, Ray and Prefect.

>>> from moderation import ImageScorer, OpenClipEncoder, load_policy
>>> scorer = ImageScorer(OpenClipEncoder("demo"), load_policy("policy.yaml"))
>>> scorer.score(["a.jpg", "s3://bucket/b.jpg"]).decisions.to_pandas()

Names are imported when they are first used, so that `import moderation` stays fast and brings no torch along.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moderation.errors import (
        ErrorCode,
        ImageError,
        ModelError,
        ModerationError,
        OutputError,
        PolicyError,
        QuarantinedError,
        RunError,
        SettingsError,
        SourceError,
        StorageError,
        UserError,
    )
    from moderation.images.limits import ImageLimits
    from moderation.model.encoder import Encoder
    from moderation.model.open_clip_encoder import OpenClipEncoder
    from moderation.pipeline import Outcome, run
    from moderation.policy.schema import Policy, Rule
    from moderation.policy_files.loading import load_policy
    from moderation.records import ObjectRef, ScoredBatch
    from moderation.results.manifest import Manifest
    from moderation.scoring.image_scorer import ImageScorer
    from moderation.scoring.options import ScorerOptions
    from moderation.settings import RunSettings
    from moderation.storage import Store

_HOMES = {
    "moderation.errors": (
        "ErrorCode",
        "ImageError",
        "ModelError",
        "ModerationError",
        "OutputError",
        "PolicyError",
        "QuarantinedError",
        "RunError",
        "SettingsError",
        "SourceError",
        "StorageError",
        "UserError",
    ),
    "moderation.images.limits": ("ImageLimits",),
    "moderation.model.encoder": ("Encoder",),
    "moderation.model.open_clip_encoder": ("OpenClipEncoder",),
    "moderation.pipeline": ("Outcome", "run"),
    "moderation.policy_files.loading": ("load_policy",),
    "moderation.policy.schema": ("Policy", "Rule"),
    "moderation.records": ("ObjectRef", "ScoredBatch"),
    "moderation.results.manifest": ("Manifest",),
    "moderation.scoring.image_scorer": ("ImageScorer",),
    "moderation.scoring.options": ("ScorerOptions",),
    "moderation.settings": ("RunSettings",),
    "moderation.storage": ("Store",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Encoder",
    "ErrorCode",
    "ImageError",
    "ImageLimits",
    "ImageScorer",
    "Manifest",
    "ModelError",
    "ModerationError",
    "ObjectRef",
    "OpenClipEncoder",
    "Outcome",
    "OutputError",
    "Policy",
    "PolicyError",
    "QuarantinedError",
    "Rule",
    "RunError",
    "RunSettings",
    "ScoredBatch",
    "ScorerOptions",
    "SettingsError",
    "SourceError",
    "StorageError",
    "Store",
    "UserError",
    "load_policy",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
