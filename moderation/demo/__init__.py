"""The bundled demo: a tiny CLIP model that knows emoji, labelled images, a policy for them, and how they were made.

Only the `training` subpackage may import torch or open_clip; this file holds paths and nothing heavy.
"""

import json
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent

MODEL_DIR = _HERE / "model"
IMAGES_DIR = _HERE / "images"
LABELS_FILE = _HERE / "labels.csv"
HEAD_LABELS_FILE = _HERE / "heads" / "drinks.csv"
"""Labels that the head of the demo's policy was learned from."""
POLICY_FILE = _HERE / "policy.yaml"
CONCEPTS_FILE = _HERE / "concepts.json"

SCHEME = "demo://"
"""`demo://listings/49225-kitchen-knife.png` names a bundled picture, wherever the policy that names it lies."""


def picture(location: str) -> Path:
    """The file of a bundled picture that is named by `demo://...`, or of a head that is named by `demo://heads/...`."""
    path = location.removeprefix(SCHEME)
    return _HERE / path if path.startswith("heads/") else IMAGES_DIR / path


@cache
def captions() -> tuple[str, ...]:
    """Everything that the demo model was taught to call a picture."""
    concepts = json.loads(CONCEPTS_FILE.read_text(encoding="utf-8"))
    return tuple({text for concept in concepts for text in (*concept["captions"], *concept["categories"])})
