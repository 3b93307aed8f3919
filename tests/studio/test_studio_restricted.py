"""Nothing of an image that is on a restricted hash list is shown, whichever name it has."""

import hashlib
import shutil
from pathlib import Path

from scored_demo import objects_under, publish_scored

from moderation.demo import IMAGES_DIR
from moderation.storage import Store
from moderation.studio.catalogue import Catalogue
from moderation.studio.filters import Filter

POLICY = """
policy: listed
model: {name: demo}
contrast: [a house]
rules: [{id: tobacco, prompts: [a cigarette], review: 0.5}]
lists: [{id: secret, file: known.txt, hash: sha256, action: block, mode: shadow, restricted: true}]
"""


def test_a_restricted_image_is_not_in_the_catalogue(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    names = ("48000-fox.png", "49225-kitchen-knife.png")
    for name in names:
        shutil.copy(IMAGES_DIR / "listings" / name, tmp_path / "images" / name)
    shutil.copy(IMAGES_DIR / "listings" / names[0], tmp_path / "images" / "copy.png")
    (tmp_path / "known.txt").write_text(hashlib.sha256((tmp_path / "images" / names[0]).read_bytes()).hexdigest())
    (tmp_path / "p.yaml").write_text(POLICY)
    images = objects_under(tmp_path / "images")
    publish_scored(Store(str(tmp_path / "results")), images, tmp_path / "p.yaml")
    catalogue = Catalogue(str(tmp_path / "results"))
    shown = [row.uri.rpartition("/")[2] for row in catalogue.page(Filter()).rows]
    found = [catalogue.find(image.uri) is not None for image in images]
    catalogue.close()
    assert shown == ["49225-kitchen-knife.png"]
    assert found == [image.uri.endswith("knife.png") for image in images]
