"""Objects with the same bytes: scored once in a batch, and every one of them has its rows."""

import io
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import make_policy, save_tiny_clip

from moderation import ImageScorer, ObjectRef, OpenClipEncoder, Store
from moderation.images.pdq import SAME, distance
from moderation.scoring.options import ScorerOptions

POLICY = make_policy({"id": "one", "prompts": ["a cat"], "review": 0.4}, {"id": "two", "prompts": ["a dog"], "review": 0.4})


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> OpenClipEncoder:
    return OpenClipEncoder(save_tiny_clip(tmp_path_factory.mktemp("model")), device="cpu")


@pytest.fixture
def objects(tmp_path: Path) -> list[ObjectRef]:
    """Three pictures, one of them an animation; each twice more under other names; a broken file twice."""
    pages = []
    for seed in range(5):
        noise = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), np.uint8)
        pages.append(Image.fromarray(noise).resize((160, 120), Image.Resampling.BICUBIC))
    pages[0].save(tmp_path / "b.png")
    pages[1].save(tmp_path / "d.jpg")
    pages[2].save(tmp_path / "f.gif", save_all=True, append_images=pages[3:], duration=40)
    file = io.BytesIO()
    pages[4].save(file, "PNG")
    (tmp_path / "h.png").write_bytes(file.getvalue()[:300])
    for name, copies in {"b.png": ("a.png", "z.png"), "d.jpg": ("c", "y"), "f.gif": ("e", "x"), "h.png": ("g",)}.items():
        for copy in copies:
            shutil.copy(tmp_path / name, tmp_path / copy)
    return [item for page in Store(str(tmp_path)).list() for item in page]


def test_equal_bytes_are_embedded_once_and_have_equal_rows(
    encoder: OpenClipEncoder, objects: list[ObjectRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = 0
    start = encoder.start

    def counted(pixels: Sequence[np.ndarray]) -> Callable[[], np.ndarray]:
        nonlocal seen
        seen += len(pixels)
        return start(pixels)

    with ImageScorer(encoder, POLICY, ScorerOptions(decode_threads=3)) as scorer:
        apart = [scorer.score([item]) for item in objects]
        monkeypatch.setattr(encoder, "start", counted)
        together = scorer.score(objects)
    assert seen == 1 + 1 + 3
    assert together.summary.counts.scored == 9
    assert together.summary.counts.errored == {"corrupt": 2}
    for table in ("decisions", "scores", "embeddings"):
        rows = getattr(together, table).drop_columns(["scored_at"] if table == "decisions" else []).to_pylist()
        single = [row for one in apart for row in getattr(one, table).to_pylist()]
        for row in single:
            row.pop("scored_at", None)
        order = [name for name in ("uri", "rule", "frame") if name in single[0]]
        assert sorted(rows, key=lambda row: [str(row[n]) for n in order]) == sorted(
            single, key=lambda row: [str(row[n]) for n in order]
        )


def test_near_identical_pictures_have_near_hashes(encoder: OpenClipEncoder, objects: list[ObjectRef], tmp_path: Path) -> None:
    with Image.open(tmp_path / "b.png") as picture:
        picture.resize((140, 105)).save(tmp_path / "smaller.jpg", quality=85)
    with ImageScorer(encoder, POLICY) as scorer:
        found = scorer.score([*objects, str(tmp_path / "smaller.jpg")]).decisions.to_pylist()
    hashes = {row["uri"].rpartition("/")[2]: (row["pdq"], row["pdq_quality"]) for row in found}
    assert hashes["b.png"] == hashes["a.png"]
    assert (
        distance(hashes["smaller.jpg"][0], hashes["b.png"][0]) <= SAME < distance(hashes["smaller.jpg"][0], hashes["d.jpg"][0])
    )
    assert all(quality > 50 for name, (_, quality) in hashes.items() if name not in ("g", "h.png"))
    assert hashes["g"] == (None, None)
