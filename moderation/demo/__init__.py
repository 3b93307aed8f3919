"""The bundled demo: a tiny CLIP model that knows emoji, labelled images, a policy for them, and how they were made.

Only the `training` subpackage may import torch or open_clip; this file holds paths and nothing heavy.
"""

import json
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent

MODEL_DIR = _HERE / "model"
IMAGES_DIR = _HERE / "images"
LISTS_DIR = _HERE / "lists"
LABELS_FILE = _HERE / "labels.csv"
HEAD_LABELS_FILE = _HERE / "heads" / "drinks.csv"
"""Labels that the head of the demo's policy was learned from."""
POLICY_FILE = _HERE / "policy.yaml"
CONCEPTS_FILE = _HERE / "concepts.json"

SCHEME = "demo://"
"""`demo://listings/49225-kitchen-knife.png` names a bundled picture, `demo://lists/known-pictures.csv` a bundled hash list,
and `demo://heads/...` a bundled head, wherever the policy that names them lies."""
_OTHERS = ("lists/", "heads/")
"""What is beside the images."""


def picture(location: str) -> Path:
    """The file of a bundled picture, hash list or head that is named by `demo://...`, `demo://lists/...`, `demo://heads/...`."""
    name = location.removeprefix(SCHEME)
    return _HERE / name if name.startswith(_OTHERS) else IMAGES_DIR / name


@cache
def captions() -> tuple[str, ...]:
    """Everything that the demo model was taught to call a picture."""
    concepts = json.loads(CONCEPTS_FILE.read_text(encoding="utf-8"))
    return tuple({text for concept in concepts for text in (*concept["captions"], *concept["categories"])})
