"""The bundled demo: a tiny CLIP model that knows emoji, labelled images, a policy for them, and how they were made.

Only the `training` subpackage may import torch or open_clip; this file holds paths and nothing heavy.
"""

from pathlib import Path

_HERE = Path(__file__).parent

MODEL_DIR = _HERE / "model"
IMAGES_DIR = _HERE / "images"
LABELS_FILE = _HERE / "labels.csv"
POLICY_FILE = _HERE / "policy.yaml"
CONCEPTS_FILE = _HERE / "concepts.json"
