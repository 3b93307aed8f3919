"""Shortcuts on the way of an image change nothing that anybody would see: embeddings stay, and so do decisions."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from needs import DATA, needs_data
from PIL import Image

from moderation import OpenClipEncoder
from moderation.demo import IMAGES_DIR, LABELS_FILE, POLICY_FILE
from moderation.images.decoding import DecodedImage
from moderation.images.limits import ImageLimits
from moderation.model.preprocessing import Preprocessing
from moderation.policy.decision import decide
from moderation.policy_files.loading import read_policy
from moderation.scoring.image_scorer import compiled_by

LIMITS = ImageLimits()
CLIP = Preprocessing(224, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), resize="fast")
SEVEN = sorted((DATA / "clip-b32" / "photos").glob("*.jpg"))
TURNED = sorted((DATA / "hostile" / "exif-orientation").glob("*.jpg"))


@pytest.fixture(scope="module")
def demo():
    return OpenClipEncoder("demo", device="cpu")


def jpeg(picture, orientation=1):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=90, exif=exif.tobytes())
    return file.getvalue()


def enlarged(path, shorter):
    """A picture whose shorter side has so many pixels."""
    with Image.open(path) as picture:
        factor = shorter / min(picture.size)
        return picture.convert("RGB").resize((round(picture.width * factor), round(picture.height * factor)))


def both(data, prepare):
    """The model's input by all shortcuts and by the long way, and how many times smaller the picture was decoded."""
    image = DecodedImage(data, LIMITS, prepare.size)
    [(_, picture)] = image.frames()
    [(_, whole)] = DecodedImage(data, LIMITS).frames()
    exact = replace(prepare, resize="exact")
    return prepare(picture, image.reduction), exact(whole), round(max(whole.size) / max(picture.size))


def likeness(one, other):
    """The correlation of two arrays of pixels: stricter than any embedding's cosine."""
    return np.corrcoef(one.ravel().astype(float), other.ravel().astype(float))[0, 1]


def cosines(encoder, pairs):
    fast, slow = (encoder.encode_images(np.stack(column)) for column in zip(*pairs, strict=True))
    return (fast * slow).sum(axis=1)


def demo_images():
    with LABELS_FILE.open(encoding="utf-8", newline="") as file:
        return [IMAGES_DIR / row["file"] for row in csv.DictReader(file) if not row["error_code"]]


@needs_data
def test_photos_have_the_embedding_of_the_exact_way(demo):
    assert len(SEVEN) == 7
    assert demo.preprocessing.resize == "fast", "it is what a model does unless it is asked for the other"
    for prepare in (CLIP, demo.preprocessing):
        pairs = [both(path.read_bytes(), prepare) for path in SEVEN]
        assert {times for _, _, times in pairs} == {1}
        for fast, slow, _ in pairs:
            assert not np.array_equal(fast, slow)
            assert np.abs(fast.astype(int) - slow).mean() < 0.3
            assert likeness(fast, slow) >= 0.9999
    assert cosines(demo, [pair[:2] for pair in pairs]).min() >= 0.9999


def test_no_decision_of_the_demo_is_another_than_by_the_exact_way(demo):
    policy = read_policy(POLICY_FILE).policy
    compiled = compiled_by(demo, policy)
    pairs = []
    for path in demo_images():
        data = path.read_bytes()
        for prepare in (demo.preprocessing, replace(demo.preprocessing, resize="exact")):
            image = DecodedImage(data, LIMITS, prepare.size)
            pairs.append([prepare(frame, image.reduction, image.colours) for _, frame in image.frames()])
    counts = [len(frames) for frames in pairs[::2]]
    assert len(counts) > 280
    fast, slow = (demo.encode_images(np.concatenate(pairs[way::2])).astype(np.float16) for way in (0, 1))
    assert (fast.astype(np.float32) * slow.astype(np.float32)).sum(axis=1).min() >= 0.999
    starts = np.cumsum([0, *counts[:-1]])
    scores = [np.maximum.reduceat(compiled.score(vectors).score, starts) for vectors in (fast, slow)]
    decided = [decide(one, compiled.thresholds) for one in scores]
    assert np.array_equal(decided[0].action, decided[1].action)
    assert np.array_equal(decided[0].flagged, decided[1].flagged)
    assert set(decided[0].action) == {0, 1, 2}


@needs_data
def test_photos_of_every_orientation_have_the_embedding_of_the_whole_picture(demo):
    assert len(TURNED) == 18
    found = [both(path.read_bytes(), demo.preprocessing) for path in TURNED]
    assert {times for _, _, times in found} == {2}
    assert cosines(demo, [pair[:2] for pair in found]).min() >= 0.999


# The shorter side: the first that is reduced, and sides that leave a rest in the last block at each scale.
SCALES = [(896, 2), (1201, 2), (1433, 4), (2865, 8)]


@needs_data
@pytest.mark.parametrize(("shorter", "times"), SCALES)
def test_large_photos_have_the_embedding_of_the_whole_picture(demo, shorter, times):
    photos = [path for path in SEVEN if path.stem == "389_535"] + [path for path in TURNED if path.stem == "Portrait_1"]
    assert len(photos) == 2
    seen = []
    for orientation, path in zip((3, 6), photos, strict=True):
        data = jpeg(enlarged(path, shorter), orientation)
        fast, slow, found = both(data, CLIP)
        assert found == times
        assert likeness(fast, slow) >= 0.9995, path.stem
        seen.append(both(data, demo.preprocessing)[:2])
    assert cosines(demo, seen).min() >= 0.999


def test_decisions_of_the_demo_are_those_of_whole_pictures(demo):
    """The demo's pictures are small; enlarged, they take the shortcut."""
    policy = read_policy(POLICY_FILE).policy
    compiled = compiled_by(demo, policy)
    sound = demo_images()[::6]
    pairs = [both(jpeg(enlarged(path, 905 + n)), demo.preprocessing) for n, path in enumerate(sound)]
    assert len(pairs) > 40
    assert {times for _, _, times in pairs} == {2}
    fast, slow = (demo.encode_images(np.stack([pair[way] for pair in pairs])).astype(np.float16) for way in (0, 1))
    decided = [decide(compiled.score(vectors).score, compiled.thresholds) for vectors in (fast, slow)]
    assert np.array_equal(decided[0].action, decided[1].action)
    assert np.array_equal(decided[0].flagged, decided[1].flagged)
    assert set(decided[0].action) == {0, 1, 2}, "this test data meets every action"
    assert (fast.astype(np.float32) * slow.astype(np.float32)).sum(axis=1).min() >= 0.999


@pytest.mark.parametrize(
    ("size", "mode", "orientation"),
    [
        *(((1203, 917), "shortest", orientation) for orientation in range(1, 9)),
        *(((901, 1507), mode, orientation) for mode in ("shortest", "longest", "squash") for orientation in (1, 6)),
        ((2871, 2867), "shortest", 3),
    ],
)
def test_reduced_scale_decoding_shifts_no_pixel(size, mode, orientation):
    """On a ramp of grey every pixel tells its place: half a pixel off is seen."""
    across, down = np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1])
    ramps = np.stack([np.tile(across, (size[1], 1)), np.tile(down[:, None], (1, size[0])), np.full(size[::-1], 90.0)], -1)
    data = jpeg(Image.fromarray(ramps.round().astype(np.uint8)), orientation)
    fast, slow, times = both(data, replace(CLIP, resize_mode=mode, fill=128))
    assert times > 1
    assert np.abs(fast.astype(int) - slow).mean() < 0.6
    assert np.abs(fast.astype(int) - slow).max() <= 4
