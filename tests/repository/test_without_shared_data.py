"""Facts that other tests hold on shared data, on files that are made here: a clone without that data has these."""

import io
import random

import numpy as np
import pytest
from decoding_processes import in_a_process
from hostile_files import BOMBS, more_seeds, mutated
from needs import needs_linux
from PIL import Image
from support import make_policy

from moderation import OpenClipEncoder
from moderation.demo import IMAGES_DIR
from moderation.images.decoding import DecodedImage
from moderation.images.limits import ImageLimits
from moderation.images.pdq import distance, pdq
from moderation.model.gpu_jpeg.decoder import GpuJpegDecoder
from moderation.model.preprocessing import Preprocessing
from moderation.policy.compiled import CompiledPolicy, TextHead

MUTANTS = 150


@pytest.fixture(scope="module")
def encoder():
    return OpenClipEncoder("demo", device="cpu")


def photo(width, height, seed):
    """As rough as a photo: coloured noise whose contrast falls with its frequency, from the whole picture to single pixels."""
    rng, total, side = np.random.default_rng(seed), np.zeros((height, width, 3)), 2
    while side < max(width, height):
        noise = Image.fromarray(rng.integers(0, 256, (side * height // width + 1, side, 3), np.uint8))
        total += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), float) / side
        side *= 2
    total -= total.min()
    return Image.fromarray((total * 255 / total.max()).astype(np.uint8))


def jpeg(picture, orientation=1):
    """The file of a picture that is shown as it is given, though stored turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    ways = Image.Transpose
    back = {1: (), 3: (ways.ROTATE_180,), 6: (ways.ROTATE_90,), 8: (ways.ROTATE_270,)}[orientation]
    for way in back:
        picture = picture.transpose(way)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90, exif=exif.tobytes())
    return file.getvalue()


def by_pillow(data, prepare, target_size):
    image = DecodedImage(data, ImageLimits(), target_size)
    [(_, picture)] = image.frames()
    return picture, prepare(picture, image.reduction), image.orientation


def cosines(encoder, one, other):
    return (encoder.encode_images(np.stack(one)) * encoder.encode_images(np.stack(other))).sum(axis=1)


@needs_linux
def test_every_hostile_file_has_its_row_and_memory_stays_low(tmp_path):
    seeds = [path.read_bytes() for path in sorted(IMAGES_DIR.rglob("*.*"))[::9]] + more_seeds()
    for number in range(MUTANTS):
        (tmp_path / f"mutant-{number}").write_bytes(mutated(seeds[number % len(seeds)], random.Random(number)))
    for number, (make, _) in enumerate(BOMBS.values()):
        (tmp_path / f"bomb-{number}").write_bytes(make())
    taken, codes = in_a_process("measure_scoring", tmp_path, 8)
    assert len(codes) == MUTANTS + len(BOMBS)
    assert {"corrupt", "too_many_pixels", "unsupported_format"} >= {code for code in codes.values() if code}
    assert {None, "corrupt", "too_many_pixels", "unsupported_format"} == set(codes.values()), "these files meet every outcome"
    assert taken < 1000


@pytest.mark.parametrize("size", [(2400, 1800), (1600, 2100)])
def test_large_pictures_have_the_embedding_of_the_whole_picture_however_they_are_turned(encoder, size):
    shown = photo(*size, seed=1)
    prepare = encoder.preprocessing
    fast, slow = [], []
    for orientation in (1, 3, 6, 8):
        data = jpeg(shown, orientation)
        picture, pixels, _ = by_pillow(data, prepare, prepare.size)
        assert max(picture.size) <= max(size) / 2, "this takes the shortcut"
        fast.append(pixels)
        slow.append(by_pillow(data, prepare, None)[1])
    assert cosines(encoder, fast, slow).min() >= 0.999
    assert cosines(encoder, fast[1:], fast[:1] * 3).min() >= 0.999, "one picture, turned four ways"


@pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities:DeprecationWarning")
def test_the_decoder_for_gpus_gives_the_same_embeddings_and_nearly_the_same_hashes(encoder):
    decoder = GpuJpegDecoder(encoder.preprocessing, encoder, device="cpu")
    expected, found = [], []
    try:
        for number, orientation in enumerate((1, 3, 6, 8)):
            data = jpeg(photo(700 + 90 * number, 600, seed=number), orientation)
            picture, pixels, turned = by_pillow(data, encoder.preprocessing, encoder.preprocessing.size)
            ready = decoder.decode(data, turned)
            assert ready is not None
            assert distance(pdq(picture)[0], pdq(ready.small)[0]) <= 16
            expected.append(pixels)
            found.append(ready.pixels)
    finally:
        decoder.close()
    assert cosines(encoder, expected, found).min() >= 0.999


def test_contrast_over_all_classes_adds_up_to_one_and_the_nearest_wins():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((1000, 512)).astype(np.float32)
    names = [f"class {number}" for number in range(15)]
    head = TextHead({f"a {name}": vector for name, vector in zip(names, vectors, strict=False)}, 100.0, None)
    rules = [
        {"id": f"c{n}", "prompts": [name], "contrast": [other for other in names if other != name], "review": 0.2}
        for n, name in enumerate(names)
    ]
    images = vectors[:15] / np.linalg.norm(vectors[:15], axis=1, keepdims=True) + rng.standard_normal((15, 512)) * 0.1
    images = (images / np.linalg.norm(images, axis=1, keepdims=True)).astype(np.float16)
    both = [
        make_policy(*[{**rule, "score": kind} for rule in rules], contrast=[], templates=["a {}"])
        for kind in ("contrast", "similarity")
    ]
    contrast, similarity = (CompiledPolicy.build(policy, head).score(images).score for policy in both)
    assert contrast.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert contrast.argmax(axis=1).tolist() == similarity.argmax(axis=1).tolist() == list(range(15))
    cosine = images[3].astype(float) @ (vectors[3] / np.linalg.norm(vectors[3]))
    assert similarity[3, 3] == pytest.approx(cosine, abs=1e-3)


def test_preprocessing_is_the_published_formula():
    """Shorter side to 224 by bicubic, the middle cut out: as Pillow does it alone."""
    shown = photo(640, 480, seed=2)
    small = shown.resize((298, 224), Image.Resampling.BICUBIC)
    left = round((298 - 224) / 2)
    expected = np.asarray(small.crop((left, 0, left + 224, 224)))
    assert np.array_equal(Preprocessing(224, (0.5,) * 3, (0.5,) * 3)(shown), expected)
